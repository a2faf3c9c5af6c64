package dev.lanewise.bench.report;

import dev.lanewise.bench.breakdown.Breakdown;
import dev.lanewise.bench.contest.Case;
import dev.lanewise.bench.contest.Memory;
import dev.lanewise.bench.contest.Workload.Cost;
import dev.lanewise.bench.contest.Workload.Pattern;
import dev.lanewise.core.machine.MachineLimits;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * What was measured of a case with a number of threads.
 *
 * @param suite which suite the case belongs to
 * @param task the case
 * @param threads threads of every contender
 * @param cost what an operation costs
 * @param nanos our time of an operation
 * @param limit our speed as a fraction of what the machine's arithmetic or memory gave by turns
 *     with us: 1 at the limit, above it when operands stay in the caches; null on another device,
 *     or where arithmetic was beaten, so that the machine's own loop cannot have run as it should
 * @param rivals the peers
 * @param surroundings what the machine was like meanwhile
 * @param warmUp our way to full speed: seconds since the JVM started, and nanoseconds of an
 *     operation then, by turns
 * @param failures why peers took no part that should have
 * @param breakdown where a step's time goes; null for a case of one operation
 * @param besides what Lanewise did by turns with the case, to compare it with
 * @param memory resident memory of Lanewise and the peers; empty where that says nothing
 * @param forks JVMs that measured the case
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
    Breakdown breakdown,
    List<Beside> besides,
    Map<String, Memory> memory,
    int forks) {

  /** Operations of so many flops to a byte are held up by arithmetic on any processor. */
  private static final double ARITHMETIC = 50;

  /** What timings by turns may be out by. */
  private static final double SLACK = 1.05;

  /** Keeps the lists unmodifiable, and no limit that cannot be one. */
  public Result {
    if (limit != null && limit.median() > SLACK && cost.flops() > ARITHMETIC * cost.bytes()) {
      limit = null;
    }
    rivals = List.copyOf(rivals);
    warmUp = List.copyOf(warmUp);
    failures = List.copyOf(failures);
    besides = List.copyOf(besides);
    memory = Collections.unmodifiableMap(new LinkedHashMap<>(memory));
  }

  /**
   * The relative difference that is never called one: what differs from one start of a JVM to the
   * next is in no interval of one JVM, and hardly in one of few.
   */
  public double floor() {
    return forks == 1 ? 0.05 : forks == 2 ? 0.03 : 0.02;
  }

  /** What was done beside the case under this name. */
  Optional<Beside> beside(String name) {
    return besides.stream().filter(b -> b.name().equals(name)).findFirst();
  }

  Result withFailures(List<String> other) {
    return new Result(
        suite,
        task,
        threads,
        cost,
        nanos,
        limit,
        rivals,
        surroundings,
        warmUp,
        other,
        breakdown,
        besides,
        memory,
        forks);
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
    json.put("forks", forks);
    if (!besides.isEmpty()) {
      json.put("besides", besides.stream().map(Beside::toJson).toList());
    }
    if (!memory.isEmpty()) {
      Map<String, Object> held = new LinkedHashMap<>();
      memory.forEach((name, each) -> held.put(name, each.toJson()));
      json.put("memory", held);
    }
    if (!failures.isEmpty()) {
      json.put("failures", failures);
    }
    if (breakdown != null) {
      json.put("step", breakdown.nanos());
      json.put("parts", breakdown.parts().stream().map(Result::part).toList());
    }
    return json;
  }

  static Result fromJson(Map<?, ?> json, int forks) {
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
    List<Beside> besides = new ArrayList<>();
    if (json.get("besides") instanceof List<?> list) {
      list.forEach(b -> besides.add(Beside.fromJson((Map<?, ?>) b)));
    }
    Map<String, Memory> memory = new LinkedHashMap<>();
    if (json.get("memory") instanceof Map<?, ?> map) {
      map.forEach((name, held) -> memory.put((String) name, Memory.fromJson(held)));
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
        breakdown(json),
        besides,
        memory,
        json.get("forks") instanceof Number own ? own.intValue() : forks);
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
