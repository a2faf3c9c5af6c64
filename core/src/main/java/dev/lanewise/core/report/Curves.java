package dev.lanewise.core.report;

import java.util.Arrays;

/** Arithmetic on the curves of a run; NaN and infinities count as missing. */
public final class Curves {
  private Curves() {}

  /**
   * The average of each value's neighbours on both sides, a thirtieth of the curve in all and fewer
   * near its ends, so that the average neither lags nor bends at the start, where a loss falls
   * steeply.
   *
   * @param values the curve
   * @return as many values; NaN where no neighbour is a number
   */
  public static double[] smooth(double[] values) {
    int n = values.length;
    double[] sums = new double[n + 1];
    int[] counts = new int[n + 1];
    for (int i = 0; i < n; i++) {
      boolean good = Double.isFinite(values[i]);
      sums[i + 1] = sums[i] + (good ? values[i] : 0);
      counts[i + 1] = counts[i] + (good ? 1 : 0);
    }
    double[] smooth = new double[n];
    for (int i = 0; i < n; i++) {
      int half = Math.min(n / 60, Math.min(i / 4, n - 1 - i));
      int count = counts[i + half + 1] - counts[i - half];
      smooth[i] = count == 0 ? Double.NaN : (sums[i + half + 1] - sums[i - half]) / count;
    }
    return smooth;
  }

  /** The average of the last thirtieth of a curve; NaN if there are no values. */
  static double last(double[] values) {
    int from = values.length - Math.max(1, values.length / 30);
    return Arrays.stream(values, Math.max(0, from), values.length)
        .filter(Double::isFinite)
        .average()
        .orElse(Double.NaN);
  }

  static boolean hasValues(double[] values) {
    return Arrays.stream(values).anyMatch(Double::isFinite);
  }

  static double median(double[] values) {
    double[] sorted = Arrays.stream(values).filter(Double::isFinite).sorted().toArray();
    return sorted.length == 0 ? Double.NaN : sorted[sorted.length / 2];
  }

  /** How many times the largest value is the smallest positive one. */
  static double spread(double[] values) {
    double[] sorted =
        Arrays.stream(values).filter(v -> Double.isFinite(v) && v > 0).sorted().toArray();
    return sorted.length == 0 ? 1 : sorted[sorted.length - 1] / sorted[0];
  }

  /** Whether a curve has most of its fall in its first twentieth, which a logarithm opens up. */
  static boolean fallsEarly(double[] steps, double[] values) {
    int n = values.length;
    if (n < 200 || steps[0] <= 0 || steps[n - 1] / steps[0] < 100) {
      return false;
    }
    double[] smooth = smooth(values);
    double all = smooth[0] - smooth[n - 1];
    double early = smooth[0] - smooth[n / 20];
    return early > 0.75 * all;
  }
}
