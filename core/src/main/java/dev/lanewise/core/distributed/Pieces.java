package dev.lanewise.core.distributed;

import java.lang.foreign.MemorySegment;

/** Checks of what collective operations are given. */
final class Pieces {
  private Pieces() {}

  /**
   * Refuses pieces that do not lie in native memory as floats.
   *
   * @throws IllegalArgumentException if they do not
   */
  static void check(String name, MemorySegment memory, int[] at, int[] counts, int size) {
    checkMemory(name, memory);
    if (at.length != size || counts.length != size) {
      throw new IllegalArgumentException(
          name + " has " + at.length + " and " + counts.length + " pieces for " + size);
    }
    long floats = memory.byteSize() / Float.BYTES;
    for (int i = 0; i < size; i++) {
      if (at[i] < 0 || counts[i] < 0 || (long) at[i] + counts[i] > floats) {
        throw new IllegalArgumentException(
            name + ": " + counts[i] + " floats at " + at[i] + " are not in " + floats);
      }
    }
  }

  /** Refuses memory that is not native or not of whole floats. */
  static void checkMemory(String name, MemorySegment memory) {
    if (!memory.isNative() || memory.byteSize() % Float.BYTES != 0) {
      throw new IllegalArgumentException(name + " is not native memory of whole floats");
    }
  }
}
