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

  /** The share of the processors that others had since this was created, or NaN. */
  double share() {
    long[] after = ticks();
    if (before == null || after == null || after[0] == before[0]) {
      return Double.NaN;
    }
    double busy = (double) (after[1] - before[1]) / (after[0] - before[0]);
    double nanos = own.get().minus(ownBefore).toNanos();
    return Math.max(0, busy - nanos / CORES / (System.nanoTime() - start));
  }

  /** All processors' time and the part of it that was not idle, stolen time included. */
  private static long[] ticks() {
    try {
      String[] all = Files.readAllLines(SYSTEM).getFirst().trim().split("\\s+", -1);
      long total = 0;
      for (int i = 1; i <= 8; i++) {
        total += Long.parseLong(all[i]);
      }
      long idle = Long.parseLong(all[4]) + Long.parseLong(all[5]);
      return new long[] {total, total - idle};
    } catch (IOException | RuntimeException e) {
      return null;
    }
  }
}
