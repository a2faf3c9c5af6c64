package dev.lanewise.core.backend;

import dev.lanewise.core.base.InputException;
import dev.lanewise.simd.NativeMemory;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Locale;

/** Memory of the process, and how much of it there is. */
final class HostMemory {
  private HostMemory() {}

  /**
   * Allocates zeroed memory.
   *
   * @param bytes size
   * @param arena owner; the memory is freed when it is closed
   * @return memory aligned to 64 bytes
   * @throws InputException if there is not that much
   */
  static MemorySegment allocate(long bytes, Arena arena) {
    try {
      return NativeMemory.allocate(bytes, arena);
    } catch (OutOfMemoryError e) {
      throw new InputException(
          String.format(
              Locale.ROOT,
              "There is no room for %.2f GiB more memory (%.2f GiB are free); choose a smaller"
                  + " --batch, --context or --model.",
              bytes / (double) (1 << 30),
              available() / (double) (1 << 30)),
          e);
    }
  }

  /** Bytes that the machine can still give, as far as it tells; otherwise a very large number. */
  static long available() {
    try {
      long available = Long.MAX_VALUE;
      Path memInfo = Path.of("/proc/meminfo");
      if (Files.isReadable(memInfo)) {
        for (String line : Files.readAllLines(memInfo)) {
          if (line.startsWith("MemAvailable:")) {
            available = Long.parseLong(line.replaceAll("\\D+", "")) << 10;
          }
        }
      }
      return available;
    } catch (java.io.IOException | NumberFormatException e) {
      return Long.MAX_VALUE;
    }
  }
}
