package dev.lanewise.bench.report;

import java.util.LinkedHashMap;
import java.util.Map;

/**
 * A peer's time of a case, and Lanewise's speed as a multiple of its speed.
 *
 * @param peer name of the peer
 * @param nanos time of an operation
 * @param ratio our speed divided by the peer's, of iterations that ran side by side; above 1 is
 *     faster
 */
public record Rival(String peer, Interval nanos, Interval ratio) {

  /** What can be said about a ratio. */
  public enum Verdict {
    /** Ours is faster, by more than noise. */
    FASTER,
    /** No difference that noise could not make. */
    EVEN,
    /** Ours is slower, by more than noise. */
    SLOWER
  }

  /**
   * Judges the ratio.
   *
   * @param floor relative difference that is never called one, because what differs between two
   *     starts of a JVM is not in the interval
   * @return faster or slower only if the whole interval is beyond the floor
   */
  public Verdict verdict(double floor) {
    return verdict(ratio, floor);
  }

  static Verdict verdict(Interval ratio, double floor) {
    if (ratio.low() > 1 + floor) {
      return Verdict.FASTER;
    }
    return ratio.high() < 1 - floor ? Verdict.SLOWER : Verdict.EVEN;
  }

  Map<String, Object> toJson() {
    Map<String, Object> json = new LinkedHashMap<>();
    json.put("peer", peer);
    json.put("nanos", nanos.toJson());
    json.put("ratio", ratio.toJson());
    return json;
  }

  static Rival fromJson(Map<?, ?> json) {
    return new Rival(
        (String) json.get("peer"),
        Interval.fromJson(json.get("nanos")),
        Interval.fromJson(json.get("ratio")));
  }
}
