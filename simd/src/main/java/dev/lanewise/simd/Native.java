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
  /** The bits that an address, or an offset in scratch memory, can have. */
  static final long ADDRESS = (1L << 56) - 1;

  /** All memory; null without native access. */
  private static final MemorySegment ALL = all();

  private Native() {}

  @SuppressWarnings("restricted")
  private static MemorySegment all() {
    boolean mayReach = Native.class.getModule().isNativeAccessEnabled();
    return mayReach ? MemorySegment.NULL.reinterpret(Long.MAX_VALUE) : null;
  }

  /**
   * A segment through which a kernel reaches scratch memory, which nobody else can close, from
   * {@link #start} on. The compiler leaves out the check of an access whose offset is a sum of
   * {@code x & ADDRESS} and of what a counted loop adds in constant steps, since no such sum is out
   * of all memory's bounds. Checked, those accesses would be half of an inner loop's instructions,
   * and most of what the compiler spends its time on.
   */
  static MemorySegment reach(MemorySegment scratch) {
    return ALL == null ? known(scratch) : ALL;
  }

  /** Where a piece of scratch memory begins in {@link #reach}. */
  static long start(MemorySegment scratch) {
    return ALL == null ? 0 : scratch.address();
  }

  /**
   * A part of native memory under a name that no thread owns; null without native access. Nobody
   * may close the memory while it is in use.
   */
  static MemorySegment alias(MemorySegment segment, long offset, long bytes) {
    return ALL == null ? null : ALL.asSlice(segment.address() + offset, bytes);
  }

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
