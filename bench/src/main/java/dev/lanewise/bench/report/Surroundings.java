package dev.lanewise.bench.report;

import java.util.LinkedHashMap;
import java.util.Map;

/**
 * What the machine was like while a case was measured.
 *
 * @param others share of the processors' time that others had: other programs and the hypervisor's
 *     other guests; NaN where the system does not tell
 * @param stolen the part of it that those guests had; NaN likewise
 * @param peak the least arithmetic that all cores gave just before or after, in GFLOP/s: lower
 *     frequencies and neighbours that the counters do not show
 */
public record Surroundings(double others, double stolen, double peak) {
  /** Below this part of its best arithmetic the machine is held to be disturbed from outside. */
  private static final double SLOWED = 0.9;

  /** Above this share of the processors' time others disturb. */
  private static final double DISTURBED = 0.05;

  /**
   * Whether figures are doubtful, because others had much of the machine or because it was slower
   * than at its best, as virtual machines are when their neighbours are busy.
   */
  boolean isDisturbed(double bestPeak) {
    return isCrowded() || peak < SLOWED * bestPeak;
  }

  /** Whether others had much of the machine. */
  boolean isCrowded() {
    return others > DISTURBED;
  }

  /** The arithmetic that was left for the case, to tell the quieter of two. */
  public double left() {
    return peak * (1 - (others > 0 ? others : 0));
  }

  Map<String, Object> toJson() {
    Map<String, Object> json = new LinkedHashMap<>();
    json.put("others", others);
    json.put("stolen", stolen);
    json.put("peak", peak);
    return json;
  }

  static Surroundings fromJson(Map<?, ?> json) {
    return new Surroundings(
        share(json.get("others")),
        share(json.get("stolen")),
        ((Number) json.get("peak")).doubleValue());
  }

  private static double share(Object json) {
    return json == null ? Double.NaN : ((Number) json).doubleValue();
  }
}
