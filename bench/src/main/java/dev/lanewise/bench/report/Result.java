package dev.lanewise.bench.report;

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
 * @param rivals the peers
 * @param disturbance share of the processors' time that others had while this was measured: the
 *     hypervisor's other guests and other programs; NaN where the system does not tell
 * @param peak the least arithmetic that all cores gave just before or after, in GFLOP/s
 * @param warmUp our way to full speed: seconds since the JVM started, and nanoseconds of an
 *     operation then, by turns
 */
public record Result(
    String suite,
    Case task,
    int threads,
    Cost cost,
    Interval nanos,
    List<Rival> rivals,
    double disturbance,
    double peak,
    List<Double> warmUp) {

  /** Below this part of its best arithmetic the machine is held to be disturbed from outside. */
  public static final double SLOWED = 0.9;

  /** Above this share of stolen time a result is marked. */
  public static final double DISTURBED = 0.05;

  /** Keeps the lists unmodifiable. */
  public Result {
    rivals = List.copyOf(rivals);
    warmUp = List.copyOf(warmUp);
  }

  /** Our speed in the cost's unit. */
  public Interval speed() {
    return nanos.invert(cost.amount() * 1e9);
  }

  /**
   * Our speed as a fraction of what the machine allows.
   *
   * @param limits the machine's limits
   * @return 1 at the limit; above it when operands stay in the caches
   */
  public double fractionOfLimit(MachineLimits limits) {
    return cost.limitNanos(limits.of(threads)) / nanos.median();
  }

  /** A name that tells cases apart. */
  public String name() {
    return task + " threads=" + threads;
  }

  /**
   * Whether the figures are doubtful, because others had much of the machine or because it was
   * slower than at its best, as virtual machines are when their neighbours are busy.
   */
  public boolean isDisturbed(MachineLimits limits) {
    return disturbance > DISTURBED || peak < SLOWED * limits.all().fma().best();
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
    json.put("rivals", rivals.stream().map(Rival::toJson).toList());
    json.put("disturbance", disturbance);
    json.put("peak", peak);
    json.put("warmUp", warmUp);
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
    Object disturbance = json.get("disturbance");
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
        rivals,
        disturbance == null ? Double.NaN : ((Number) disturbance).doubleValue(),
        number(json, "peak"),
        warmUp);
  }

  private static double number(Map<?, ?> json, String key) {
    return ((Number) json.get(key)).doubleValue();
  }
}
