package dev.lanewise.bench.report;

import java.util.Arrays;
import java.util.List;

/**
 * The median of a sample and where the median of all that could be sampled lies.
 *
 * @param median the value in the middle
 * @param low lower end
 * @param high upper end
 * @param count size of the sample
 */
public record Interval(double median, double low, double high, int count) {

  /**
   * The median and its 95 % interval from order statistics, which asks nothing of the distribution.
   * Six values are the least that can give one; of fewer, the whole range is taken, which is less
   * certain.
   *
   * @param sample at least one value
   * @return the interval
   */
  public static Interval of(List<Double> sample) {
    double[] sorted = sample.stream().mapToDouble(Double::doubleValue).sorted().toArray();
    int n = sorted.length;
    if (n == 0) {
      throw new IllegalArgumentException("a sample without values has no median");
    }
    // The largest rank whose tail, P(Binomial(n, 1/2) <= rank - 1), is within 2.5 %
    int rank = 0;
    double term = Math.pow(0.5, n);
    double tail = term;
    while (tail <= 0.025 && rank + 1 < n) {
      rank++;
      term = term * (n - rank + 1) / rank;
      tail += term;
    }
    int low = Math.max(0, rank - 1);
    double median = n % 2 == 1 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
    return new Interval(median, sorted[low], sorted[n - 1 - low], n);
  }

  /** Half the width of the interval. */
  public double error() {
    return (high - low) / 2;
  }

  /**
   * The interval of {@code amount / value}: speeds from times.
   *
   * @param amount the numerator, positive
   * @return the interval of the quotient
   */
  public Interval invert(double amount) {
    return new Interval(amount / median, amount / high, amount / low, count);
  }

  /** The values as an array for JSON: median, low, high, count. */
  List<Object> toJson() {
    return List.of(median, low, high, count);
  }

  static Interval fromJson(Object json) {
    double[] v = ((List<?>) json).stream().mapToDouble(x -> ((Number) x).doubleValue()).toArray();
    if (v.length != 4) {
      throw new IllegalArgumentException("not an interval: " + Arrays.toString(v));
    }
    return new Interval(v[0], v[1], v[2], (int) v[3]);
  }
}
