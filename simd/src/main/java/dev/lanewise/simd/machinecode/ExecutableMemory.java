package dev.lanewise.simd.machinecode;

import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;

/**
 * Memory that holds code. It is written first and made executable then, and is never both writable
 * and executable. It is kept until the process ends.
 *
 * <p>For Linux. On Windows the same steps are VirtualAlloc, VirtualProtect and
 * FlushInstructionCache. macOS on Arm allows it only of memory mapped with MAP_JIT, whose switch
 * belongs to the thread and must be left to the JVM: there two mappings of one object would do.
 */
final class ExecutableMemory {
  private static final int READ_WRITE = 3;
  private static final int READ_EXECUTE = 5;
  private static final int PRIVATE_ANONYMOUS = 0x22;
  private static final ValueLayout.OfLong ADDRESS = ValueLayout.JAVA_LONG;
  private static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT;

  private ExecutableMemory() {}

  /**
   * Puts code where it can be run.
   *
   * @return its memory
   * @throws UnsupportedOperationException if the system does not allow it; the message says at
   *     which step
   */
  @SuppressWarnings("restricted")
  static MemorySegment of(byte[] code) {
    MethodHandle mmap =
        function("mmap", FunctionDescriptor.of(ADDRESS, ADDRESS, ADDRESS, INT, INT, INT, ADDRESS));
    MethodHandle mprotect = function("mprotect", FunctionDescriptor.of(INT, ADDRESS, ADDRESS, INT));
    try {
      long size = code.length;
      long at = (long) mmap.invokeExact(0L, size, READ_WRITE, PRIVATE_ANONYMOUS, -1, 0L);
      if (at == -1) {
        throw new UnsupportedOperationException("the system has no memory for machine code");
      }
      MemorySegment memory = MemorySegment.ofAddress(at).reinterpret(size);
      MemorySegment.copy(code, 0, memory, ValueLayout.JAVA_BYTE, 0, code.length);
      if ((int) mprotect.invokeExact(at, size, READ_EXECUTE) != 0) {
        throw new UnsupportedOperationException("the system does not let memory become executable");
      }
      return memory.asReadOnly();
    } catch (RuntimeException | Error e) {
      throw e;
    } catch (Throwable e) {
      throw new AssertionError(e);
    }
  }

  @SuppressWarnings("restricted")
  private static MethodHandle function(String name, FunctionDescriptor descriptor) {
    Linker linker = Linker.nativeLinker();
    return linker
        .defaultLookup()
        .find(name)
        .map(address -> linker.downcallHandle(address, descriptor))
        .orElseThrow(
            () -> new UnsupportedOperationException("the system's library has no " + name));
  }
}
