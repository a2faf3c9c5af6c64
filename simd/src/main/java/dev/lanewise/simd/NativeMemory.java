package dev.lanewise.simd;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;

/**
 * Zeroed native memory in large pages. On Linux a piece of megabytes comes straight from the kernel
 * and is marked for large pages before it is first touched: that spares the processor most address
 * translations, and page faults, of which a model in small pages has hundreds of thousands. Marked
 * later, as memory of an {@link Arena} would be, which is zeroed at once, it would stay in small
 * pages.
 *
 * <p>Needs native access for this module; without it, or elsewhere, the memory is the arena's own.
 */
public final class NativeMemory {
  /** Alignment of all memory that is given out, in bytes: a cache line. */
  public static final long ALIGNMENT = 64;

  private static final long LARGE_PAGE = 2L << 20;
  private static final int READ_WRITE = 3;
  private static final int PRIVATE_ANONYMOUS = 0x22;
  private static final int MADV_HUGEPAGE = 14;

  private static final MethodHandle MMAP;
  private static final MethodHandle MUNMAP;
  private static final MethodHandle MADVISE;

  static {
    boolean isLinux = System.getProperty("os.name").equals("Linux");
    if (isLinux && NativeMemory.class.getModule().isNativeAccessEnabled()) {
      var address = ValueLayout.JAVA_LONG;
      var number = ValueLayout.JAVA_INT;
      MMAP =
          find(
              "mmap",
              FunctionDescriptor.of(address, address, address, number, number, number, address));
      MUNMAP = find("munmap", FunctionDescriptor.of(number, address, address));
      MADVISE = find("madvise", FunctionDescriptor.of(number, address, address, number));
    } else {
      MMAP = null;
      MUNMAP = null;
      MADVISE = null;
    }
  }

  private NativeMemory() {}

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
   * Allocates zeroed memory, aligned to {@link #ALIGNMENT}. Pages that are never touched take no
   * memory of the machine.
   *
   * @param bytes size, at least 0
   * @param arena owner; the memory is freed when it is closed
   * @return {@code bytes} bytes
   * @throws IllegalArgumentException if {@code bytes} is negative, or the arena null
   * @throws OutOfMemoryError if there is not that much
   */
  public static MemorySegment allocate(long bytes, Arena arena) {
    Checks.present("arena", arena);
    if (bytes < 0) {
      throw new IllegalArgumentException("memory of " + bytes + " bytes");
    }
    if (bytes > Long.MAX_VALUE - LARGE_PAGE) {
      throw new OutOfMemoryError("no system has room for " + bytes + " bytes");
    }
    if (bytes >= LARGE_PAGE && MMAP != null && MUNMAP != null && MADVISE != null) {
      return map(bytes, arena);
    }
    return arena.allocate(bytes, ALIGNMENT);
  }

  @SuppressWarnings("restricted")
  private static MemorySegment map(long bytes, Arena arena) {
    long size = bytes + LARGE_PAGE;
    try {
      long address = (long) MMAP.invokeExact(0L, size, READ_WRITE, PRIVATE_ANONYMOUS, -1, 0L);
      if (address == -1) {
        throw new OutOfMemoryError("the system has no room for " + bytes + " bytes");
      }
      long start = (address + LARGE_PAGE - 1) & -LARGE_PAGE;
      // Only advice: memory without large pages is as good, and slower.
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
}
