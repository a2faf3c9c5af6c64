package dev.lanewise.core.backend;

import dev.lanewise.core.base.InputException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * Zeroed memory of the process. On Linux large pieces come straight from the kernel, in huge pages
 * where it gives them: a page fault costs microseconds and a model has hundreds of thousands of
 * small pages, and nothing has to be zeroed that is zero already.
 */
final class HostMemory {
  private static final long LARGE = 4L << 20;
  private static final long HUGE_PAGE = 2L << 20;
  private static final int READ_WRITE = 3;
  private static final int PRIVATE_ANONYMOUS = 0x22;
  private static final int MADV_HUGEPAGE = 14;

  private static final MethodHandle MMAP;
  private static final MethodHandle MUNMAP;
  private static final MethodHandle MADVISE;

  static {
    MethodHandle mmap = null;
    MethodHandle munmap = null;
    MethodHandle madvise = null;
    if (System.getProperty("os.name").equals("Linux")) {
      var long_ = ValueLayout.JAVA_LONG;
      var int_ = ValueLayout.JAVA_INT;
      mmap = find("mmap", FunctionDescriptor.of(long_, long_, long_, int_, int_, int_, long_));
      munmap = find("munmap", FunctionDescriptor.of(int_, long_, long_));
      madvise = find("madvise", FunctionDescriptor.of(int_, long_, long_, int_));
    }
    MMAP = mmap;
    MUNMAP = munmap;
    MADVISE = madvise;
  }

  private HostMemory() {}

  @SuppressWarnings("restricted")
  private static MethodHandle find(String name, FunctionDescriptor descriptor) {
    Linker linker = Linker.nativeLinker();
    return linker
        .defaultLookup()
        .find(name)
        .map(address -> linker.downcallHandle(address, descriptor))
        .orElse(null);
  }

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
      if (bytes >= LARGE && MMAP != null && MUNMAP != null && MADVISE != null) {
        return map(bytes, arena);
      }
      return arena.allocate(Math.max(bytes, 1), 64).asSlice(0, bytes);
    } catch (OutOfMemoryError e) {
      throw tooMuch(bytes, e);
    }
  }

  @SuppressWarnings("restricted")
  private static MemorySegment map(long bytes, Arena arena) {
    try {
      long size = bytes + HUGE_PAGE;
      long address = (long) MMAP.invokeExact(0L, size, READ_WRITE, PRIVATE_ANONYMOUS, -1, 0L);
      if (address == -1) {
        throw tooMuch(bytes, null);
      }
      long start = (address + HUGE_PAGE - 1) & -HUGE_PAGE;
      int ignored = (int) MADVISE.invokeExact(start, bytes, MADV_HUGEPAGE);
      return MemorySegment.ofAddress(start)
          .reinterpret(bytes, arena, segment -> unmap(address, size));
    } catch (RuntimeException | Error e) {
      throw e;
    } catch (Throwable e) {
      throw new AssertionError(e);
    }
  }

  private static void unmap(long address, long size) {
    try {
      int ignored = (int) MUNMAP.invokeExact(address, size);
    } catch (Throwable e) {
      throw new AssertionError(e);
    }
  }

  private static InputException tooMuch(long bytes, Throwable cause) {
    return new InputException(
        "There is no room for %.2f GiB more memory (%.2f GiB are free); choose a smaller --batch, --context or --model."
            .formatted(bytes / (double) (1 << 30), available() / (double) (1 << 30)),
        cause);
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
