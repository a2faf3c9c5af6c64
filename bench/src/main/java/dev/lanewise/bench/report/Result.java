package dev.lanewise.bench.report;

import dev.lanewise.bench.breakdown.Breakdown;
import dev.lanewise.bench.contest.Case;
import dev.lanewise.bench.contest.Workload.Cost;
import dev.lanewise.bench.contest.Workload.Pattern;
import dev.lanewise.core.machine.MachineLimits;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * What was measured of a case with a number of threads.
 *
 * @param suite which suite the case belongs to
 * @param task the case
 * @param threads threads of every contender
 * @param cost what an operation costs
 * @param nanos our time of an operation
 * @param limit our speed as a fraction of what the machine's arithmetic or memory gave by turns
 *     with us: 1 at the limit, above it when operands stay in the caches; null on another device
 * @param rivals the peers
 * @param surroundings what the machine was like meanwhile
 * @param warmUp our way to full speed: seconds since the JVM started, and nanoseconds of an
 *     operation then, by turns
 * @param failures why peers took no part that should have
 * @param breakdown where a step's time goes; null for a case of one operation
 */
public record Result(
    String suite,
    Case task,
    int threads,
    Cost cost,
    Interval nanos,
    Interval limit,
    List<Rival> rivals,
    Surroundings surroundings,
    List<Double> warmUp,
    List<String> failures,
    Breakdown breakdown) {

  /** Keeps the lists unmodifiable. */
  public Result {
    rivals = List.copyOf(rivals);
    warmUp = List.copyOf(warmUp);
    failures = List.copyOf(failures);
  }

  /** Our speed in the cost's unit. */
  public Interval speed() {
    return nanos.invert(cost.amount() * 1e9);
  }

  /** A name that tells cases apart. */
  public String name() {
    return task + " threads=" + threads;
  }

  /** Whether the figures are doubtful. */
  public boolean isDisturbed(MachineLimits limits) {
    return surroundings.isDisturbed(limits.all().fma().best());
  }

  Map<String, Object> toJson() {
    Map<String, Object> json = new LinkedHashMap<>();
    json.put("suite", suite);
    json.put("case", task.toString());
    json.put("threads", threads);
    json.put("unit", cost.unit());
    json.put("amount", cost.amount());
    json.put("flops", cost.flops());
    json.put("bytes", cost.bytes());
    json.put("pattern", cost.pattern().name());
    json.put("nanos", nanos.toJson());
    json.put("limit", limit == null ? null : limit.toJson());
    json.put("rivals", rivals.stream().map(Rival::toJson).toList());
    json.put("surroundings", surroundings.toJson());
    json.put("warmUp", warmUp);
    if (!failures.isEmpty()) {
      json.put("failures", failures);
    }
    if (breakdown != null) {
      json.put("step", breakdown.nanos());
      json.put("parts", breakdown.parts().stream().map(Result::part).toList());
    }
    return json;
  }

  static Result fromJson(Map<?, ?> json) {
    List<Rival> rivals = new ArrayList<>();
    for (Object rival : (List<?>) json.get("rivals")) {
      rivals.add(Rival.fromJson((Map<?, ?>) rival));
    }
    List<Double> warmUp = new ArrayList<>();
    for (Object value : (List<?>) json.get("warmUp")) {
      warmUp.add(((Number) value).doubleValue());
    }
    List<String> failures = new ArrayList<>();
    if (json.get("failures") instanceof List<?> list) {
      list.forEach(text -> failures.add((String) text));
    }
    return new Result(
        (String) json.get("suite"),
        Case.parse((String) json.get("case")),
        ((Number) json.get("threads")).intValue(),
        new Cost(
            (String) json.get("unit"),
            number(json, "amount"),
            number(json, "flops"),
            number(json, "bytes"),
            Pattern.valueOf((String) json.get("pattern"))),
        Interval.fromJson(json.get("nanos")),
        json.get("limit") == null ? null : Interval.fromJson(json.get("limit")),
        rivals,
        Surroundings.fromJson((Map<?, ?>) json.get("surroundings")),
        warmUp,
        failures,
        breakdown(json));
  }

  private static List<Object> part(Breakdown.Part part) {
    return List.of(part.label(), part.calls(), part.nanos(), part.flops(), part.bytes());
  }

  private static Breakdown breakdown(Map<?, ?> json) {
    if (!(json.get("parts") instanceof List<?> list)) {
      return null;
    }
    List<Breakdown.Part> parts = new ArrayList<>();
    for (Object element : list) {
      List<?> part = (List<?>) element;
      parts.add(
          new Breakdown.Part(
              (String) part.get(0),
              ((Number) part.get(1)).longValue(),
              ((Number) part.get(2)).doubleValue(),
              ((Number) part.get(3)).doubleValue(),
              ((Number) part.get(4)).doubleValue()));
    }
    return new Breakdown(number(json, "step"), parts);
  }

  private static double number(Map<?, ?> json, String key) {
    return ((Number) json.get(key)).doubleValue();
  }
}
