package dev.lanewise.bench;

import dev.lanewise.bench.contest.Case;
import java.util.LinkedHashMap;
import java.util.Map;

/** Makes the cases of the benchmarks small enough for a test. */
final class Tiny {
  private static final Map<String, Integer> MOST =
      Map.ofEntries(
          Map.entry("m", 37),
          Map.entry("n", 41),
          Map.entry("k", 29),
          Map.entry("rows", 11),
          Map.entry("cols", 53),
          Map.entry("count", 1009),
          Map.entry("batch", 2),
          Map.entry("tokens", 13),
          Map.entry("heads", 2),
          Map.entry("head", 8),
          Map.entry("layers", 2),
          Map.entry("width", 16),
          Map.entry("vocabulary", 101),
          Map.entry("new", 3));

  private Tiny() {}

  static Case of(String text) {
    Case task = Case.parse(text);
    Map<String, String> params = new LinkedHashMap<>();
    task.params()
        .forEach(
            (key, value) -> {
              boolean isNumber = MOST.containsKey(key);
              params.put(
                  key,
                  isNumber
                      ? Integer.toString(Math.min(MOST.get(key), Integer.parseInt(value)))
                      : value);
            });
    return new Case(task.operation(), params);
  }
}
