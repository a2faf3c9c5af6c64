package dev.lanewise.core.backend.cuda;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_BYTE;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;

/**
 * A shared library and its functions. Handles and device addresses travel as {@code long}, host
 * memory as {@link MemorySegment}; blocking calls are ordinary downcalls, never critical ones.
 */
@SuppressWarnings("restricted")
abstract class NativeLibrary {
  private static final Linker LINKER = Linker.nativeLinker();

  private final CudaLibraries.Opened library;

  NativeLibrary(CudaLibraries.Opened library) {
    this.library = library;
  }

  /** File or soname that the library was opened by. */
  final String path() {
    return library.path();
  }

  /** A function that returns a status. */
  final MethodHandle status(String name, MemoryLayout... arguments) {
    return function(name, FunctionDescriptor.of(ValueLayout.JAVA_INT, arguments));
  }

  final MethodHandle function(String name, FunctionDescriptor descriptor) {
    SymbolLookup symbols = library.symbols();
    return LINKER.downcallHandle(
        symbols
            .find(name)
            .orElseThrow(
                () ->
                    new CudaUnavailableException(
                        path()
                            + " lacks the function "
                            + name
                            + ": install a newer version (CUDA 12 or 13).")),
        descriptor);
  }

  /** Unwraps what a downcall threw; a handle's own signature admits any Throwable. */
  static RuntimeException rethrown(Throwable thrown) {
    return switch (thrown) {
      case RuntimeException e -> e;
      case Error e -> throw e;
      default -> new IllegalStateException(thrown);
    };
  }

  /** Reads a C string that the library owns. */
  static String string(MemorySegment address) {
    return address.address() == 0 ? "unknown" : address.reinterpret(Long.MAX_VALUE).getString(0);
  }

  /** Reads the C string whose address was written to {@code pointer}. */
  static String stringAt(MemorySegment pointer) {
    return string(pointer.get(ADDRESS, 0));
  }

  /** Copies text, zero-terminated. */
  static MemorySegment cString(Arena arena, String text) {
    return arena.allocateFrom(text);
  }

  /** Text of a fixed buffer up to its first zero. */
  static String fixedString(MemorySegment buffer) {
    int length = 0;
    while (length < buffer.byteSize() && buffer.get(JAVA_BYTE, length) != 0) {
      length++;
    }
    byte[] bytes = buffer.asSlice(0, length).toArray(JAVA_BYTE);
    return new String(bytes, java.nio.charset.StandardCharsets.UTF_8);
  }
}
