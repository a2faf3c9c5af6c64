package dev.lanewise.core.machine;

import java.util.Locale;

/**
 * What the machine can do at most, measured by {@link MachineProbe}: no kernel can be faster.
 *
 * <p>Rates of memory are counted in the bytes that the program names (copy reads 4 and writes 4
 * bytes a float), as STREAM does; a plain store also reads the line it fills, so that the bus moves
 * more than is counted.
 *
 * @param vectorBits width of the vectors that were used
 * @param threads number of threads of {@link #all}
 * @param one the rates of one thread alone
 * @param all the rates of all threads together
 */
public record MachineLimits(int vectorBits, int threads, Rates one, Rates all) {

  /**
   * The rates of a number of threads together.
   *
   * @param fma fused multiply-adds of 32-bit floats
   * @param read reading arrays much larger than the caches
   * @param copy copying between such arrays
   * @param triad {@code a = b + s * c} over such arrays
   * @param update {@code a = s * a + t} in place over such an array
   */
  public record Rates(Rate fma, Rate read, Rate copy, Rate triad, Rate update) {
    private Rates with(Rates other) {
      return new Rates(
          fma.with(other.fma),
          read.with(other.read),
          copy.with(other.copy),
          triad.with(other.triad),
          update.with(other.update));
    }
  }

  /**
   * A rate over several windows of time.
   *
   * @param best the fastest window: the limit
   * @param median the window in the middle: what the machine gave while it was measured; of several
   *     measurements the least, which tells how slow it got
   * @param unit {@code GFLOP/s} or {@code GB/s}, powers of ten
   */
  public record Rate(double best, double median, String unit) {
    private Rate with(Rate other) {
      return new Rate(Math.max(best, other.best), Math.min(median, other.median), unit);
    }

    @Override
    public String toString() {
      return String.format(Locale.ROOT, "%.1f %s (median %.1f)", best, unit, median);
    }
  }

  /**
   * These limits and those that another measurement of the same machine found: a machine with
   * neighbours is fast at one moment and slow at another.
   *
   * @param other limits of as many threads
   * @return the best of both, and the least of both medians
   */
  public MachineLimits with(MachineLimits other) {
    return new MachineLimits(vectorBits, threads, one.with(other.one), all.with(other.all));
  }

  /**
   * The same limits with a higher peak of all cores, if a later measurement found one.
   *
   * @param gflops arithmetic of all threads together
   * @return limits whose peak is not below it
   */
  public MachineLimits withPeak(double gflops) {
    if (gflops <= all.fma.best) {
      return this;
    }
    Rate fma = new Rate(gflops, all.fma.median, all.fma.unit);
    return new MachineLimits(
        vectorBits, threads, one, new Rates(fma, all.read, all.copy, all.triad, all.update));
  }

  /**
   * The rates for a number of threads.
   *
   * @param count 1, or any other number for those of all threads
   * @return {@link #one} or {@link #all}
   */
  public Rates of(int count) {
    return count == 1 ? one : all;
  }
}
