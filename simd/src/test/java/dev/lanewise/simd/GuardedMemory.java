package dev.lanewise.simd;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;

/**
 * Memory between two pages that nobody may touch: a kernel that reads or writes past either end of
 * its operands kills the test JVM.
 */
@SuppressWarnings("restricted")
final class GuardedMemory {
  private static final int PAGE = 4096;
  private static final int NONE = 0;
  private static final int READ_WRITE = 3;
  private static final int PRIVATE_ANONYMOUS = 0x22;
  private static final MethodHandle MMAP =
      handle(
          "mmap",
          FunctionDescriptor.of(
              ValueLayout.ADDRESS,
              ValueLayout.ADDRESS,
              ValueLayout.JAVA_LONG,
              ValueLayout.JAVA_INT,
              ValueLayout.JAVA_INT,
              ValueLayout.JAVA_INT,
              ValueLayout.JAVA_LONG));
  private static final MethodHandle MPROTECT =
      handle(
          "mprotect",
          FunctionDescriptor.of(
              ValueLayout.JAVA_INT,
              ValueLayout.ADDRESS,
              ValueLayout.JAVA_LONG,
              ValueLayout.JAVA_INT));
  private static final MethodHandle MUNMAP =
      handle(
          "munmap",
          FunctionDescriptor.of(ValueLayout.JAVA_INT, ValueLayout.ADDRESS, ValueLayout.JAVA_LONG));

  private GuardedMemory() {}

  /** Whether this system has what the guard needs. */
  static boolean isAvailable() {
    return System.getProperty("os.name").equals("Linux");
  }

  /** Memory whose last byte is the last before a forbidden page. */
  static MemorySegment endingAtGuard(Arena arena, long bytes) {
    MemorySegment pages = between(arena, bytes);
    return pages.asSlice(pages.byteSize() - bytes, bytes);
  }

  /** Memory whose first byte is the first after a forbidden page. */
  static MemorySegment startingAtGuard(Arena arena, long bytes) {
    return between(arena, bytes).asSlice(0, bytes);
  }

  private static MemorySegment between(Arena arena, long bytes) {
    long inner = Math.max(1, (bytes + PAGE - 1) / PAGE) * PAGE;
    long all = inner + 2 * PAGE;
    try {
      MemorySegment base =
          (MemorySegment)
              MMAP.invokeExact(MemorySegment.NULL, all, NONE, PRIVATE_ANONYMOUS, -1, 0L);
      if (base.address() == -1) {
        throw new OutOfMemoryError("mmap of " + all + " bytes");
      }
      MemorySegment body = MemorySegment.ofAddress(base.address() + PAGE);
      if ((int) MPROTECT.invokeExact(body, inner, READ_WRITE) != 0) {
        throw new IllegalStateException("mprotect failed");
      }
      return body.reinterpret(inner, arena, ignored -> unmap(base, all));
    } catch (RuntimeException | Error e) {
      throw e;
    } catch (Throwable t) {
      throw new AssertionError(t);
    }
  }

  private static void unmap(MemorySegment base, long bytes) {
    try {
      int ignored = (int) MUNMAP.invokeExact(base, bytes);
    } catch (Throwable t) {
      throw new AssertionError(t);
    }
  }

  private static MethodHandle handle(String name, FunctionDescriptor type) {
    Linker linker = Linker.nativeLinker();
    return linker.downcallHandle(linker.defaultLookup().findOrThrow(name), type);
  }
}
