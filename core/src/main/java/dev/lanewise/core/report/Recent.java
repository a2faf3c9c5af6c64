package dev.lanewise.core.report;

/**
 * The mean of the newest values of a series: of so many as {@link Curves#smooth} takes, so that
 * what a console shows in the end is what the page about the run shows. Values that are not finite
 * count as missing.
 */
public final class Recent {
  private final double[] values;
  private long count;

  /**
   * For a series of a known length.
   *
   * @param length number of values that are to come, or a guess
   */
  public Recent(long length) {
    values = new double[Curves.widest(length)];
  }

  /** Adds the next value. */
  public void add(double value) {
    values[(int) (count % values.length)] = value;
    count++;
  }

  /** The mean; NaN if there are no values. */
  public double mean() {
    long from = count - Math.min(values.length, Curves.opening(count - 1));
    double sum = 0;
    int n = 0;
    for (long i = Math.max(0, from); i < count; i++) {
      double value = values[(int) (i % values.length)];
      if (Double.isFinite(value)) {
        sum += value;
        n++;
      }
    }
    return n == 0 ? Double.NaN : sum / n;
  }
}
