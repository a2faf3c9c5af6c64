package dev.lanewise.bench.contest;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.function.Supplier;

/**
 * Watches how much of the processors others had: other guests of the hypervisor (steal) and other
 * programs. Reads Linux's counters and knows nothing elsewhere.
 */
final class Disturbance {
  private static final Path SYSTEM = Path.of("/proc/stat");

  private static final int CORES = Runtime.getRuntime().availableProcessors();

  private final Supplier<Duration> own;
  private final long[] before = ticks();
  private final Duration ownBefore;
  private final long start = System.nanoTime();

  /**
   * Starts to watch.
   *
   * @param own processor time of this process and those that belong to it
   */
  Disturbance(Supplier<Duration> own) {
    this.own = own;
    ownBefore = own.get();
  }

  /**
   * Shares of the processors' time; NaN where the system does not tell.
   *
   * @param others what others had, other guests included
   * @param stolen what the hypervisor's other guests had
   */
  record Shares(double others, double stolen) {}

  /** What others had since this was created. */
  Shares shares() {
    long[] after = ticks();
    if (before == null || after == null || after[0] == before[0]) {
      return new Shares(Double.NaN, Double.NaN);
    }
    double all = after[0] - before[0];
    double busy = (after[1] - before[1]) / all;
    double nanos = own.get().minus(ownBefore).toNanos();
    return new Shares(
        Math.max(0, busy - nanos / CORES / (System.nanoTime() - start)),
        (after[2] - before[2]) / all);
  }

  /** All processors' time, the part of it that was not idle, and the stolen part of that. */
  private static long[] ticks() {
    try {
      String[] all = Files.readAllLines(SYSTEM).getFirst().trim().split("\\s+", -1);
      long total = 0;
      for (int i = 1; i <= 8; i++) {
        total += Long.parseLong(all[i]);
      }
      long idle = Long.parseLong(all[4]) + Long.parseLong(all[5]);
      return new long[] {total, total - idle, Long.parseLong(all[8])};
    } catch (IOException | RuntimeException e) {
      return null;
    }
  }
}
