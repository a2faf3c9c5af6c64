package dev.lanewise.core.report;

import java.util.Arrays;

/** Arithmetic on the curves of a run; NaN and infinities count as missing. */
public final class Curves {
  private Curves() {}

  private static final int SHARE = 30;
  private static final int FEWEST = 10;
  private static final int MOST = 10_000;

  /**
   * How many values at most are averaged: a thirtieth of a curve, from ten up.
   *
   * @param length number of its values
   */
  static int widest(long length) {
    return Math.clamp(length / SHARE, FEWEST, MOST);
  }

  /** How many are averaged where a curve begins: a quarter of those so far. */
  static int opening(long index) {
    return (int) Math.min(1 + Math.max(0, index) / 4, MOST);
  }

  /**
   * The mean of each value and of those before it, a thirtieth of the curve in all. Where the curve
   * begins, and a loss falls steeply, there are fewer. The last mean is of as many values as any
   * other, and nothing that comes later changes it: it is the number to name beside the curve.
   *
   * @param values the curve
   * @return as many values; NaN where there is no number to average
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
    int widest = widest(n);
    double[] smooth = new double[n];
    for (int i = 0; i < n; i++) {
      int from = i + 1 - Math.min(widest, opening(i));
      int count = counts[i + 1] - counts[from];
      smooth[i] = count == 0 ? Double.NaN : (sums[i + 1] - sums[from]) / count;
    }
    return smooth;
  }

  /** As {@link #smooth}, of speeds: units of all the steps together over their time. */
  static double[] smoothSpeeds(double[] speeds) {
    double[] smooth = smooth(Arrays.stream(speeds).map(speed -> 1 / speed).toArray());
    return Arrays.stream(smooth).map(seconds -> 1 / seconds).toArray();
  }

  /** The last value of a curve; NaN if there is none. */
  static double last(double[] values) {
    return values.length == 0 ? Double.NaN : values[values.length - 1];
  }

  static boolean hasValues(double[] values) {
    return Arrays.stream(values).anyMatch(Double::isFinite);
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
