package dev.lanewise.simd;

import java.lang.foreign.MemorySegment;

/**
 * Tells the compiler that a segment is native memory.
 *
 * <p>Vector loads and stores are compiled for the kinds of memory that the JDK's own code has seen,
 * not only the kernel's. Once a {@code reinterpretAsInts} has run interpreted, which goes through
 * an array, every kernel compiled later allows for arrays and puts barriers round each access: a
 * copy is five times slower. A call on the segment in the kernel's own code, which only ever sees
 * native memory, lets the compiler know its class from there on. So each flat loop begins with it.
 */
final class Native {
  private Native() {}

  /** Returns {@code segment}, which must not lie on the Java heap. */
  static MemorySegment known(MemorySegment segment) {
    if (!segment.isNative()) {
      throw new IllegalStateException("a kernel met memory on the Java heap");
    }
    return segment;
  }

  /** Returns {@code segment}, which may be null but must not lie on the Java heap. */
  static MemorySegment knownOrNull(MemorySegment segment) {
    return segment == null ? null : known(segment);
  }
}
