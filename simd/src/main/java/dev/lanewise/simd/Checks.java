package dev.lanewise.simd;

import java.lang.foreign.MemorySegment;

/**
 * The checks of the public doors. Each throws {@link IllegalArgumentException} in words before
 * anything is written; kernels behind the doors check nothing.
 */
final class Checks {
  /**
   * A thread that never runs, to ask whether a segment is open to threads other than the caller.
   */
  private static final Thread OTHER = new Thread(() -> {}, "lanewise-never-started");

  static {
    // The first class that any door reaches.
    Requirements.check();
  }

  private Checks() {}

  /**
   * Refuses a segment unless every worker may read {@code count} elements from element {@code
   * offset}.
   *
   * @param name what the caller calls the segment
   * @param elementBytes bytes in an element
   */
  static void readable(
      String name, MemorySegment segment, long offset, long count, int elementBytes) {
    if (segment == null) {
      throw new IllegalArgumentException(name + " is null");
    }
    if (offset < 0 || count < 0) {
      throw new IllegalArgumentException(
          name + ": negative offset or length, " + count + " elements at " + offset);
    }
    long room = segment.byteSize() / elementBytes;
    if (count > room || offset > room - count) {
      throw new IllegalArgumentException(
          name
              + ": "
              + count
              + " elements at "
              + offset
              + " do not fit in a segment of "
              + room
              + " elements");
    }
    accessible(name, segment);
    arrayOf(name, segment, elementBytes);
  }

  /** As {@link #readable} for floats. */
  static void readable(String name, MemorySegment segment, long offset, long floats) {
    readable(name, segment, offset, floats, Float.BYTES);
    arrayOfFloats(name, segment);
  }

  /** As {@link #readable}, and the segment may be written. */
  static void writable(
      String name, MemorySegment segment, long offset, long count, int elementBytes) {
    readable(name, segment, offset, count, elementBytes);
    if (segment.isReadOnly()) {
      throw new IllegalArgumentException(name + " is written but its segment is read-only");
    }
  }

  /** As {@link #writable} for floats. */
  static void writable(String name, MemorySegment segment, long offset, long floats) {
    writable(name, segment, offset, floats, Float.BYTES);
    arrayOfFloats(name, segment);
  }

  /** Refuses a matrix that the workers may not read. Its bounds were checked when it was made. */
  static void readable(String name, MatrixView matrix) {
    if (matrix == null) {
      throw new IllegalArgumentException(name + " is null");
    }
    accessible(name, matrix.segment());
    if (matrix.type() == ElementType.FLOAT32) {
      arrayOfFloats(name, matrix.segment());
    } else {
      arrayOf(name, matrix.segment(), matrix.type().bytes());
    }
  }

  /** Refuses a matrix that the workers may not write. Its bounds were checked when it was made. */
  static void writable(String name, MatrixView matrix) {
    readable(name, matrix);
    if (matrix.segment().isReadOnly()) {
      throw new IllegalArgumentException(name + " is written but its segment is read-only");
    }
  }

  private static void accessible(String name, MemorySegment segment) {
    if (!segment.scope().isAlive()) {
      throw new IllegalArgumentException(name + ": its arena is closed");
    }
    if (isConfined(segment) && !segment.isAccessibleBy(Thread.currentThread())) {
      throw new IllegalArgumentException(
          name + ": its arena is confined to another thread than the one that calls");
    }
  }

  /** Whether one thread alone may touch a segment. */
  static boolean isConfined(MemorySegment segment) {
    return !segment.isAccessibleBy(OTHER);
  }

  /**
   * Refuses an array on the heap whose elements have another size, since its numbers would be
   * misread. Bytes may hold anything.
   */
  static void arrayOf(String name, MemorySegment segment, int elementBytes) {
    if (segment.isNative()) {
      return;
    }
    Object array = segment.heapBase().orElse(null);
    int bytes =
        switch (array) {
          case byte[] a -> 1;
          case short[] a -> 2;
          case char[] a -> 2;
          case int[] a -> 4;
          case float[] a -> 4;
          case long[] a -> 8;
          case double[] a -> 8;
          // A read-only segment does not show its array, only how far it is surely aligned.
          case null, default ->
              segment.maxByteAlignment() > elementBytes ? (int) segment.maxByteAlignment() : 1;
        };
    if (bytes != 1 && bytes != elementBytes) {
      String kind = array == null ? "an array of elements of " + bytes + " bytes" : array(array);
      throw new IllegalArgumentException(
          name + " is " + kind + " on the heap; elements of " + elementBytes + " bytes are needed");
    }
  }

  /** Refuses null. */
  static void present(String name, Object object) {
    if (object == null) {
      throw new IllegalArgumentException(name + " is null");
    }
  }

  /** Refuses null and arrays of anything but floats, where a door takes one operand as several. */
  static void floats(String name, MemorySegment segment) {
    present(name, segment);
    arrayOfFloats(name, segment);
  }

  /** As {@link #arrayOf} for floats, which no array of ints holds. */
  static void arrayOfFloats(String name, MemorySegment segment) {
    if (segment.isNative()) {
      return;
    }
    arrayOf(name, segment, Float.BYTES);
    if (segment.heapBase().orElse(null) instanceof int[] array) {
      throw new IllegalArgumentException(
          name + " is " + array(array) + " on the heap; floats are needed");
    }
  }

  private static String array(Object array) {
    return "an array of type " + array.getClass().getSimpleName();
  }

  /** Floats from the first to past the last element of a matrix, gaps between rows included. */
  static long extent(Matrix m) {
    return m.isTransposed()
        ? extent(m.cols(), m.rows(), m.stride())
        : extent(m.rows(), m.cols(), m.stride());
  }

  /** Floats from the first to past the last element of stored rows, gaps included. */
  static long extent(long rows, long cols, long stride) {
    if (rows == 0 || cols == 0) {
      return 0;
    }
    try {
      return Math.addExact(Math.multiplyExact(rows - 1, stride), cols);
    } catch (ArithmeticException e) {
      throw new IllegalArgumentException(
          rows + " rows of stride " + stride + " exceed any memory", e);
    }
  }

  /** As {@link #extent(long, long, long)}, and who is too large is said. */
  static long extent(String name, long rows, long cols, long stride) {
    try {
      return extent(rows, cols, stride);
    } catch (IllegalArgumentException e) {
      throw new IllegalArgumentException(name + ": " + e.getMessage(), e);
    }
  }

  /**
   * Refuses an output that shares memory with another operand. Offsets and counts are in elements
   * of their own size.
   */
  static void disjoint(
      String outName,
      MemorySegment out,
      long outOffset,
      long outCount,
      int outBytes,
      String name,
      MemorySegment other,
      long offset,
      long count,
      int bytes) {
    if (overlap(
        out, outOffset * outBytes, outCount * outBytes, other, offset * bytes, count * bytes)) {
      throw new IllegalArgumentException(outName + " is written but shares memory with " + name);
    }
  }

  /** As {@link #disjoint} for floats. */
  static void disjoint(
      String outName,
      MemorySegment out,
      long outOffset,
      long outFloats,
      String name,
      MemorySegment other,
      long offset,
      long floats) {
    disjoint(
        outName, out, outOffset, outFloats, Float.BYTES, name, other, offset, floats, Float.BYTES);
  }

  /**
   * Refuses an output that overlaps another region, unless both are exactly the same floats: for
   * kernels that may run in place.
   */
  static void disjointOrSame(
      String outName,
      MemorySegment out,
      long outOffset,
      long outFloats,
      String name,
      MemorySegment other,
      long offset,
      long floats) {
    if (outFloats == floats
        && out.isNative() == other.isNative()
        && out.address() + outOffset * Float.BYTES == other.address() + offset * Float.BYTES
        && (out.isNative() || out.heapBase().equals(other.heapBase()))) {
      return;
    }
    disjoint(outName, out, outOffset, outFloats, name, other, offset, floats);
  }

  /** Refuses an output matrix that shares an element with another matrix. */
  static void disjoint(String outName, Matrix out, String name, Matrix other) {
    disjoint(
        outName,
        out.segment(),
        out.offset(),
        storedRows(out),
        storedCols(out),
        out.stride(),
        name,
        other.segment(),
        other.offset(),
        storedRows(other),
        storedCols(other),
        other.stride());
  }

  /** Refuses an output matrix that shares an element with the first floats of a segment. */
  static void disjoint(String outName, Matrix out, String name, MemorySegment other, int floats) {
    disjoint(
        outName,
        out.segment(),
        out.offset(),
        storedRows(out),
        storedCols(out),
        out.stride(),
        name,
        other,
        0,
        1,
        floats,
        floats);
  }

  /** Refuses an output, the first floats of a segment, that shares one with a matrix. */
  static void disjoint(String outName, MemorySegment out, int floats, String name, Matrix other) {
    disjoint(
        outName,
        out,
        0,
        1,
        floats,
        floats,
        name,
        other.segment(),
        other.offset(),
        storedRows(other),
        storedCols(other),
        other.stride());
  }

  private static int storedRows(Matrix m) {
    return m.isTransposed() ? m.cols() : m.rows();
  }

  private static int storedCols(Matrix m) {
    return m.isTransposed() ? m.rows() : m.cols();
  }

  /**
   * Refuses stored rows that are written and share memory with others that are read. Two blocks of
   * columns of one wider matrix interleave without sharing an element, and pass.
   */
  static void disjoint(
      String outName,
      MemorySegment out,
      long outOffset,
      int outRows,
      int outCols,
      long outStride,
      String name,
      MemorySegment other,
      long offset,
      int rows,
      int cols,
      long stride) {
    long outStart = out.address() + outOffset * Float.BYTES;
    long start = other.address() + offset * Float.BYTES;
    if (overlap(
            out,
            outOffset * Float.BYTES,
            extent(outRows, outCols, outStride) * Float.BYTES,
            other,
            offset * Float.BYTES,
            extent(rows, cols, stride) * Float.BYTES)
        && !interleaved(outStart, outCols, outStride, start, cols, stride)) {
      throw new IllegalArgumentException(outName + " is written but shares memory with " + name);
    }
  }

  /** As {@link #disjoint} for matrices of any type; of two types, none may lie between others. */
  static void disjoint(
      String outName,
      MemorySegment out,
      long outOffset,
      int outRows,
      int outCols,
      long outStride,
      ElementType outType,
      String name,
      MemorySegment other,
      long offset,
      int rows,
      int cols,
      long stride,
      ElementType type) {
    if (outType == ElementType.FLOAT32 && type == ElementType.FLOAT32) {
      disjoint(
          outName, out, outOffset, outRows, outCols, outStride, name, other, offset, rows, cols,
          stride);
    } else {
      long outCount = extent(outRows, outCols, outStride);
      long count = extent(rows, cols, stride);
      disjoint(
          outName,
          out,
          outOffset,
          outCount,
          outType.bytes(),
          name,
          other,
          offset,
          count,
          type.bytes());
    }
  }

  /** Whether rows of the same stride occupy different columns of every stored row. */
  private static boolean interleaved(
      long aStart, int aCols, long aStride, long bStart, int bCols, long bStride) {
    long apart = bStart - aStart;
    if (aStride != bStride || aStride == 0 || apart % Float.BYTES != 0) {
      return false;
    }
    long gap = Math.floorMod(apart / Float.BYTES, aStride);
    return gap >= aCols && aStride - gap >= bCols;
  }

  static boolean overlap(
      MemorySegment a, long aFrom, long aBytes, MemorySegment b, long bFrom, long bBytes) {
    if (aBytes == 0 || bBytes == 0 || a.isNative() != b.isNative()) {
      return false;
    }
    // Read-only segments of the heap do not show their array, but know whether it is the same.
    if (!a.isNative() && a.asOverlappingSlice(b).isEmpty()) {
      return false;
    }
    long aStart = a.address() + aFrom;
    long bStart = b.address() + bFrom;
    return aStart < bStart + bBytes && bStart < aStart + aBytes;
  }
}
