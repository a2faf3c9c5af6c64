package dev.lanewise.simd;

import java.lang.System.Logger.Level;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;

/**
 * Asks Linux for large pages, which spares the processor most address translations. Needs native
 * access for this module; without it, or elsewhere, memory stays as it is.
 */
final class LargePages {
  /** Size of a large page; memory is worth advising from here on. */
  static final long BYTES = 2 << 20;

  private static final int MADV_HUGEPAGE = 14;
  private static final MethodHandle MADVISE = find();

  private LargePages() {}

  @SuppressWarnings("restricted")
  private static MethodHandle find() {
    boolean isLinux = System.getProperty("os.name").equals("Linux");
    if (!isLinux || !LargePages.class.getModule().isNativeAccessEnabled()) {
      return null;
    }
    FunctionDescriptor type =
        FunctionDescriptor.of(
            ValueLayout.JAVA_INT, ValueLayout.ADDRESS, ValueLayout.JAVA_LONG, ValueLayout.JAVA_INT);
    Linker linker = Linker.nativeLinker();
    return linker
        .defaultLookup()
        .find("madvise")
        .map(address -> linker.downcallHandle(address, type))
        .orElse(null);
  }

  /** Advises memory that begins on a large page's boundary. */
  static void advise(MemorySegment segment) {
    if (MADVISE == null) {
      return;
    }
    try {
      int status = (int) MADVISE.invokeExact(segment, segment.byteSize(), MADV_HUGEPAGE);
      if (status != 0) {
        log("madvise refused large pages");
      }
    } catch (Throwable t) {
      log("madvise failed: " + t);
    }
  }

  private static void log(String what) {
    System.getLogger("dev.lanewise.simd").log(Level.DEBUG, what);
  }
}
