package dev.lanewise.simd;

import java.lang.foreign.MemorySegment;

/**
 * A view of indices, token ids or class targets, inside a segment.
 *
 * @param segment memory that holds them, at any alignment
 * @param offset first index, counted in indices
 * @param length number of indices
 * @param isLong whether each is an int64, or else an int32
 */
public record Indices(MemorySegment segment, long offset, long length, boolean isLong) {

  /**
   * Checks the view against its segment.
   *
   * @throws IllegalArgumentException if the indices do not fit in the segment
   */
  public Indices {
    if (segment == null) {
      throw new IllegalArgumentException("segment is null");
    }
    Checks.arrayOf("segment", segment, isLong ? Long.BYTES : Integer.BYTES);
    Object array = segment.heapBase().orElse(null);
    if (array instanceof float[] || array instanceof double[]) {
      throw new IllegalArgumentException(
          "segment is an array of type " + array.getClass().getSimpleName() + "; not of indices");
    }
    long room = segment.byteSize() / (isLong ? Long.BYTES : Integer.BYTES);
    if (offset < 0 || length < 0 || length > room || offset > room - length) {
      throw new IllegalArgumentException(
          length + " indices at " + offset + " do not fit in a segment of " + room);
    }
  }

  /** The first {@code length} int32 of a segment. */
  public static Indices ofInts(MemorySegment segment, long length) {
    return new Indices(segment, 0, length, false);
  }

  /** The first {@code length} int64 of a segment. */
  public static Indices ofLongs(MemorySegment segment, long length) {
    return new Indices(segment, 0, length, true);
  }

  /**
   * A run of the indices.
   *
   * @param from first
   * @param to one after the last
   */
  public Indices slice(long from, long to) {
    if (from < 0 || to < from || to > length) {
      throw new IllegalArgumentException("indices " + from + " to " + to + " of " + length);
    }
    return new Indices(segment, offset + from, to - from, isLong);
  }
}
