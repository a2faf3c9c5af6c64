package dev.lanewise.bench.report;

import dev.lanewise.bench.contest.Case;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * What Lanewise did by turns with a case, to compare the case with.
 *
 * @param name what it is, as {@code one-thread}
 * @param task what was performed
 * @param nanos time of an operation
 * @param ratio speed of the case divided by this one's, each in its own unit of work, in iterations
 *     that ran side by side
 */
public record Beside(String name, Case task, Interval nanos, Interval ratio) {

  Map<String, Object> toJson() {
    Map<String, Object> json = new LinkedHashMap<>();
    json.put("name", name);
    json.put("case", task.toString());
    json.put("nanos", nanos.toJson());
    json.put("ratio", ratio.toJson());
    return json;
  }

  static Beside fromJson(Map<?, ?> json) {
    return new Beside(
        (String) json.get("name"),
        Case.parse((String) json.get("case")),
        Interval.fromJson(json.get("nanos")),
        Interval.fromJson(json.get("ratio")));
  }
}
