package dev.lanewise.simd;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorSpecies;

/**
 * Copies blocks of a matrix into the order in which {@link MicroKernel} reads them. A panel of B
 * holds {@code width} columns as {@code depth} groups of {@code width} floats; packed A, whole
 * rows. Where the matrix has less than a full panel, the rest of a group is undefined; it only
 * meets elements of C that do not exist. Offsets and strides are in bytes.
 */
final class Packing {
  private static final VectorSpecies<Integer> I = Machine.I;
  private static final VectorSpecies<Float> F = Machine.F;
  private static final int LANES = Machine.LANES;
  private static final long V = Machine.VECTOR_BYTES;
  private static final ByteOrder ORDER = ByteOrder.nativeOrder();
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;
  private static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT_UNALIGNED;
  private static final int LINE = 64;

  // A step of a transpose exchanges blocks of so many lanes between two rows so many apart.
  private static final IntVector LOW_1 = low(1);
  private static final IntVector HIGH_1 = high(1);
  private static final IntVector LOW_2 = low(2);
  private static final IntVector HIGH_2 = high(2);
  private static final IntVector LOW_4 = low(4);
  private static final IntVector HIGH_4 = high(4);
  private static final IntVector LOW_8 = low(8);
  private static final IntVector HIGH_8 = high(8);

  /** Bytes of stored rows that are transposed at a time. */
  private static final long PART_BYTES = 64 << 10;

  /** Takes what {@link #touch} read, so that the reads are not optimised away. */
  @SuppressWarnings("UnusedVariable")
  private static int sink;

  private Packing() {}

  private static IntVector low(int distance) {
    int[] from = new int[LANES];
    for (int j = 0; j < LANES; j++) {
      from[j] = (j & distance) == 0 ? j : LANES + j - distance;
    }
    return IntVector.fromArray(I, from, 0);
  }

  private static IntVector high(int distance) {
    int[] from = new int[LANES];
    for (int j = 0; j < LANES; j++) {
      from[j] = (j & distance) == 0 ? (j + distance) % LANES : LANES + j;
    }
    return IntVector.fromArray(I, from, 0);
  }

  /**
   * Packs one panel where a group lies across stored rows: A as it is, or B transposed. With a
   * width that is no multiple of the lanes it writes up to a vector past the panel's end.
   *
   * @param lines stored rows there are, at most {@code width}
   */
  static void transpose(
      MemorySegment from,
      long at,
      long stride,
      int lines,
      int depth,
      MemorySegment to,
      long toAt,
      int width) {
    transpose(from, at, stride, lines, depth, to, toAt, width, (long) width * Float.BYTES);
  }

  /**
   * As {@link #transpose(MemorySegment, long, long, int, int, MemorySegment, long, int)} of many
   * stored rows, some at a time, so that a core's second-level cache holds what it reads twice.
   */
  static void transposeInParts(
      MemorySegment from,
      long at,
      long stride,
      int lines,
      int depth,
      MemorySegment to,
      long toAt,
      int width) {
    long toStride = (long) width * Float.BYTES;
    int part = (int) Math.max(1, PART_BYTES / (4L * Math.max(1, depth) * LANES)) * LANES;
    // Backwards, so that what the last part overruns is written over by the first.
    for (int line = (width - 1) / part * part; line >= 0; line -= part) {
      int some = Math.min(part, width - line);
      int there = Math.clamp(lines - line, 0, some);
      long partAt = at + line * stride;
      transpose(from, partAt, stride, there, depth, to, toAt + 4L * line, some, toStride);
    }
  }

  private static void transpose(
      MemorySegment from,
      long at,
      long stride,
      int lines,
      int depth,
      MemorySegment to,
      long toAt,
      int width,
      long toStride) {
    touch(from, at, stride, lines, depth);
    int whole = lines == 0 || depth < LANES ? 0 : depth;
    for (int next = 0; next < whole; next += LANES) {
      // The last square is moved back to end with the last column.
      int k = Math.min(next, depth - LANES);
      // Downwards, so that what one block overruns is written over by the next.
      for (int i = (width - 1) / LANES * LANES; i >= 0; i -= LANES) {
        long rowAt = at + Math.min(i, lines - 1) * stride + 4L * k;
        int last = Math.max(0, lines - 1 - i);
        long blockAt = toAt + k * toStride + 4L * i;
        block(from, rowAt, stride, last, to, blockAt, toStride);
      }
    }
    for (int k = whole; k < depth; k++) {
      long groupAt = toAt + k * toStride;
      for (int i = 0; i < lines; i++) {
        to.set(INT, groupAt + 4L * i, from.get(INT, at + i * stride + 4L * k));
      }
    }
  }

  /**
   * Reads a byte of every cache line row by row, in the order that the hardware fetches ahead; a
   * transpose by itself would wait for each block.
   */
  private static void touch(MemorySegment from, long at, long stride, int lines, int depth) {
    int sum = 0;
    for (int i = 0; i < lines; i++) {
      long rowAt = at + i * stride;
      for (int k = 0; k < depth; k += LINE / Float.BYTES) {
        sum += from.get(INT, rowAt + 4L * k);
      }
    }
    sink = sum;
  }

  /**
   * Packs one panel where a group lies within a stored row: B as it is.
   *
   * @param lines floats to pack of each stored row, at most {@code width}
   * @param width two vectors or four
   */
  static void copy(
      MemorySegment from,
      long at,
      long stride,
      int lines,
      int depth,
      MemorySegment to,
      long toAt,
      int width) {
    if (lines < width) {
      copyScalars(from, at, stride, lines, depth, to, toAt, width);
    } else if (width == 2 * LANES) {
      copyByTwo(from, at, stride, depth, to, toAt);
    } else {
      copyByFour(from, at, stride, depth, to, toAt);
    }
  }

  private static void copyByTwo(
      MemorySegment from, long at, long stride, int depth, MemorySegment to, long toAt) {
    from = Native.known(from);
    to = Native.known(to);
    for (int k = 0; k < depth; k++) {
      IntVector first = IntVector.fromMemorySegment(I, from, at, ORDER);
      IntVector second = IntVector.fromMemorySegment(I, from, at + V, ORDER);
      first.intoMemorySegment(to, toAt, ORDER);
      second.intoMemorySegment(to, toAt + V, ORDER);
      at += stride;
      toAt += 2 * V;
    }
  }

  private static void copyByFour(
      MemorySegment from, long at, long stride, int depth, MemorySegment to, long toAt) {
    from = Native.known(from);
    to = Native.known(to);
    for (int k = 0; k < depth; k++) {
      IntVector first = IntVector.fromMemorySegment(I, from, at, ORDER);
      IntVector second = IntVector.fromMemorySegment(I, from, at + V, ORDER);
      IntVector third = IntVector.fromMemorySegment(I, from, at + 2 * V, ORDER);
      IntVector fourth = IntVector.fromMemorySegment(I, from, at + 3 * V, ORDER);
      first.intoMemorySegment(to, toAt, ORDER);
      second.intoMemorySegment(to, toAt + V, ORDER);
      third.intoMemorySegment(to, toAt + 2 * V, ORDER);
      fourth.intoMemorySegment(to, toAt + 3 * V, ORDER);
      at += stride;
      toAt += 4 * V;
    }
  }

  private static void copyScalars(
      MemorySegment from,
      long at,
      long stride,
      int lines,
      int depth,
      MemorySegment to,
      long toAt,
      int width) {
    for (int k = 0; k < depth; k++) {
      long rowAt = at + k * stride;
      long groupAt = toAt + 4L * k * width;
      for (int i = 0; i < lines; i++) {
        to.set(INT, groupAt + 4L * i, from.get(INT, rowAt + 4L * i));
      }
    }
  }

  /** Multiplies packed floats by a factor. */
  static void scale(MemorySegment panels, long at, long floats, float factor) {
    panels = Native.known(panels);
    long i = 0;
    for (; i <= floats - LANES; i += LANES) {
      FloatVector.fromMemorySegment(F, panels, at + 4 * i, ORDER)
          .mul(factor)
          .intoMemorySegment(panels, at + 4 * i, ORDER);
    }
    for (; i < floats; i++) {
      panels.set(FLOAT, at + 4 * i, factor * panels.get(FLOAT, at + 4 * i));
    }
  }

  /** Adds a tile of products to {@code beta} times a part of C, which is not read if that is 0. */
  static void merge(
      MemorySegment tile,
      long tileAt,
      long tileStride,
      MemorySegment c,
      long cAt,
      long cStride,
      int rows,
      int cols,
      float beta) {
    tile = Native.known(tile);
    c = Native.known(c);
    int whole = cols - cols % LANES;
    VectorMask<Float> tail = F.indexInRange(whole, cols);
    for (int i = 0; i < rows; i++) {
      for (int j = 0; j < whole; j += LANES) {
        long at = cAt + i * cStride + 4L * j;
        FloatVector product =
            FloatVector.fromMemorySegment(F, tile, tileAt + i * tileStride + 4L * j, ORDER);
        if (beta != 0) {
          product =
              FloatVector.fromMemorySegment(F, c, at, ORDER)
                  .fma(FloatVector.broadcast(F, beta), product);
        }
        product.intoMemorySegment(c, at, ORDER);
      }
      if (whole < cols) {
        long at = cAt + i * cStride + 4L * whole;
        FloatVector product =
            FloatVector.fromMemorySegment(
                F, tile, tileAt + i * tileStride + 4L * whole, ORDER, tail);
        if (beta != 0) {
          product =
              FloatVector.fromMemorySegment(F, c, at, ORDER, tail)
                  .fma(FloatVector.broadcast(F, beta), product);
        }
        product.intoMemorySegment(c, at, ORDER, tail);
      }
    }
  }

  /** Transposes a square of as many rows as a vector has lanes. */
  static void transposeSquare(
      MemorySegment from, long at, long stride, MemorySegment to, long toAt, long toStride) {
    block(from, at, stride, LANES - 1, to, toAt, toStride);
  }

  // Transposes of a square of so many lanes. Rows past the last that there is repeat it.

  private static void block(
      MemorySegment from,
      long at,
      long stride,
      int last,
      MemorySegment to,
      long toAt,
      long toStride) {
    switch (LANES) {
      case 16 -> block16(from, at, stride, last, to, toAt, toStride);
      case 8 -> block8(from, at, stride, last, to, toAt, toStride);
      default -> block4(from, at, stride, last, to, toAt, toStride);
    }
  }

  private static void block16(
      MemorySegment from,
      long at,
      long stride,
      int last,
      MemorySegment to,
      long toAt,
      long toStride) {
    from = Native.known(from);
    to = Native.known(to);
    IntVector a0 = IntVector.fromMemorySegment(I, from, at, ORDER);
    IntVector a1 = IntVector.fromMemorySegment(I, from, at + Math.min(1, last) * stride, ORDER);
    IntVector a2 = IntVector.fromMemorySegment(I, from, at + Math.min(2, last) * stride, ORDER);
    IntVector a3 = IntVector.fromMemorySegment(I, from, at + Math.min(3, last) * stride, ORDER);
    IntVector a4 = IntVector.fromMemorySegment(I, from, at + Math.min(4, last) * stride, ORDER);
    IntVector a5 = IntVector.fromMemorySegment(I, from, at + Math.min(5, last) * stride, ORDER);
    IntVector a6 = IntVector.fromMemorySegment(I, from, at + Math.min(6, last) * stride, ORDER);
    IntVector a7 = IntVector.fromMemorySegment(I, from, at + Math.min(7, last) * stride, ORDER);
    IntVector a8 = IntVector.fromMemorySegment(I, from, at + Math.min(8, last) * stride, ORDER);
    IntVector a9 = IntVector.fromMemorySegment(I, from, at + Math.min(9, last) * stride, ORDER);
    IntVector a10 = IntVector.fromMemorySegment(I, from, at + Math.min(10, last) * stride, ORDER);
    IntVector a11 = IntVector.fromMemorySegment(I, from, at + Math.min(11, last) * stride, ORDER);
    IntVector a12 = IntVector.fromMemorySegment(I, from, at + Math.min(12, last) * stride, ORDER);
    IntVector a13 = IntVector.fromMemorySegment(I, from, at + Math.min(13, last) * stride, ORDER);
    IntVector a14 = IntVector.fromMemorySegment(I, from, at + Math.min(14, last) * stride, ORDER);
    IntVector a15 = IntVector.fromMemorySegment(I, from, at + Math.min(15, last) * stride, ORDER);
    IntVector b0 = LOW_1.selectFrom(a0, a1);
    IntVector b1 = HIGH_1.selectFrom(a0, a1);
    IntVector b2 = LOW_1.selectFrom(a2, a3);
    IntVector b3 = HIGH_1.selectFrom(a2, a3);
    IntVector b4 = LOW_1.selectFrom(a4, a5);
    IntVector b5 = HIGH_1.selectFrom(a4, a5);
    IntVector b6 = LOW_1.selectFrom(a6, a7);
    IntVector b7 = HIGH_1.selectFrom(a6, a7);
    IntVector b8 = LOW_1.selectFrom(a8, a9);
    IntVector b9 = HIGH_1.selectFrom(a8, a9);
    IntVector b10 = LOW_1.selectFrom(a10, a11);
    IntVector b11 = HIGH_1.selectFrom(a10, a11);
    IntVector b12 = LOW_1.selectFrom(a12, a13);
    IntVector b13 = HIGH_1.selectFrom(a12, a13);
    IntVector b14 = LOW_1.selectFrom(a14, a15);
    IntVector b15 = HIGH_1.selectFrom(a14, a15);
    IntVector c0 = LOW_2.selectFrom(b0, b2);
    IntVector c2 = HIGH_2.selectFrom(b0, b2);
    IntVector c1 = LOW_2.selectFrom(b1, b3);
    IntVector c3 = HIGH_2.selectFrom(b1, b3);
    IntVector c4 = LOW_2.selectFrom(b4, b6);
    IntVector c6 = HIGH_2.selectFrom(b4, b6);
    IntVector c5 = LOW_2.selectFrom(b5, b7);
    IntVector c7 = HIGH_2.selectFrom(b5, b7);
    IntVector c8 = LOW_2.selectFrom(b8, b10);
    IntVector c10 = HIGH_2.selectFrom(b8, b10);
    IntVector c9 = LOW_2.selectFrom(b9, b11);
    IntVector c11 = HIGH_2.selectFrom(b9, b11);
    IntVector c12 = LOW_2.selectFrom(b12, b14);
    IntVector c14 = HIGH_2.selectFrom(b12, b14);
    IntVector c13 = LOW_2.selectFrom(b13, b15);
    IntVector c15 = HIGH_2.selectFrom(b13, b15);
    IntVector d0 = LOW_4.selectFrom(c0, c4);
    IntVector d4 = HIGH_4.selectFrom(c0, c4);
    IntVector d1 = LOW_4.selectFrom(c1, c5);
    IntVector d5 = HIGH_4.selectFrom(c1, c5);
    IntVector d2 = LOW_4.selectFrom(c2, c6);
    IntVector d6 = HIGH_4.selectFrom(c2, c6);
    IntVector d3 = LOW_4.selectFrom(c3, c7);
    IntVector d7 = HIGH_4.selectFrom(c3, c7);
    IntVector d8 = LOW_4.selectFrom(c8, c12);
    IntVector d12 = HIGH_4.selectFrom(c8, c12);
    IntVector d9 = LOW_4.selectFrom(c9, c13);
    IntVector d13 = HIGH_4.selectFrom(c9, c13);
    IntVector d10 = LOW_4.selectFrom(c10, c14);
    IntVector d14 = HIGH_4.selectFrom(c10, c14);
    IntVector d11 = LOW_4.selectFrom(c11, c15);
    IntVector d15 = HIGH_4.selectFrom(c11, c15);
    IntVector e0 = LOW_8.selectFrom(d0, d8);
    IntVector e8 = HIGH_8.selectFrom(d0, d8);
    IntVector e1 = LOW_8.selectFrom(d1, d9);
    IntVector e9 = HIGH_8.selectFrom(d1, d9);
    IntVector e2 = LOW_8.selectFrom(d2, d10);
    IntVector e10 = HIGH_8.selectFrom(d2, d10);
    IntVector e3 = LOW_8.selectFrom(d3, d11);
    IntVector e11 = HIGH_8.selectFrom(d3, d11);
    IntVector e4 = LOW_8.selectFrom(d4, d12);
    IntVector e12 = HIGH_8.selectFrom(d4, d12);
    IntVector e5 = LOW_8.selectFrom(d5, d13);
    IntVector e13 = HIGH_8.selectFrom(d5, d13);
    IntVector e6 = LOW_8.selectFrom(d6, d14);
    IntVector e14 = HIGH_8.selectFrom(d6, d14);
    IntVector e7 = LOW_8.selectFrom(d7, d15);
    IntVector e15 = HIGH_8.selectFrom(d7, d15);
    e0.intoMemorySegment(to, toAt, ORDER);
    e1.intoMemorySegment(to, toAt + toStride, ORDER);
    e2.intoMemorySegment(to, toAt + 2 * toStride, ORDER);
    e3.intoMemorySegment(to, toAt + 3 * toStride, ORDER);
    e4.intoMemorySegment(to, toAt + 4 * toStride, ORDER);
    e5.intoMemorySegment(to, toAt + 5 * toStride, ORDER);
    e6.intoMemorySegment(to, toAt + 6 * toStride, ORDER);
    e7.intoMemorySegment(to, toAt + 7 * toStride, ORDER);
    e8.intoMemorySegment(to, toAt + 8 * toStride, ORDER);
    e9.intoMemorySegment(to, toAt + 9 * toStride, ORDER);
    e10.intoMemorySegment(to, toAt + 10 * toStride, ORDER);
    e11.intoMemorySegment(to, toAt + 11 * toStride, ORDER);
    e12.intoMemorySegment(to, toAt + 12 * toStride, ORDER);
    e13.intoMemorySegment(to, toAt + 13 * toStride, ORDER);
    e14.intoMemorySegment(to, toAt + 14 * toStride, ORDER);
    e15.intoMemorySegment(to, toAt + 15 * toStride, ORDER);
  }

  private static void block8(
      MemorySegment from,
      long at,
      long stride,
      int last,
      MemorySegment to,
      long toAt,
      long toStride) {
    from = Native.known(from);
    to = Native.known(to);
    IntVector a0 = IntVector.fromMemorySegment(I, from, at, ORDER);
    IntVector a1 = IntVector.fromMemorySegment(I, from, at + Math.min(1, last) * stride, ORDER);
    IntVector a2 = IntVector.fromMemorySegment(I, from, at + Math.min(2, last) * stride, ORDER);
    IntVector a3 = IntVector.fromMemorySegment(I, from, at + Math.min(3, last) * stride, ORDER);
    IntVector a4 = IntVector.fromMemorySegment(I, from, at + Math.min(4, last) * stride, ORDER);
    IntVector a5 = IntVector.fromMemorySegment(I, from, at + Math.min(5, last) * stride, ORDER);
    IntVector a6 = IntVector.fromMemorySegment(I, from, at + Math.min(6, last) * stride, ORDER);
    IntVector a7 = IntVector.fromMemorySegment(I, from, at + Math.min(7, last) * stride, ORDER);
    IntVector b0 = LOW_1.selectFrom(a0, a1);
    IntVector b1 = HIGH_1.selectFrom(a0, a1);
    IntVector b2 = LOW_1.selectFrom(a2, a3);
    IntVector b3 = HIGH_1.selectFrom(a2, a3);
    IntVector b4 = LOW_1.selectFrom(a4, a5);
    IntVector b5 = HIGH_1.selectFrom(a4, a5);
    IntVector b6 = LOW_1.selectFrom(a6, a7);
    IntVector b7 = HIGH_1.selectFrom(a6, a7);
    IntVector c0 = LOW_2.selectFrom(b0, b2);
    IntVector c2 = HIGH_2.selectFrom(b0, b2);
    IntVector c1 = LOW_2.selectFrom(b1, b3);
    IntVector c3 = HIGH_2.selectFrom(b1, b3);
    IntVector c4 = LOW_2.selectFrom(b4, b6);
    IntVector c6 = HIGH_2.selectFrom(b4, b6);
    IntVector c5 = LOW_2.selectFrom(b5, b7);
    IntVector c7 = HIGH_2.selectFrom(b5, b7);
    IntVector d0 = LOW_4.selectFrom(c0, c4);
    IntVector d4 = HIGH_4.selectFrom(c0, c4);
    IntVector d1 = LOW_4.selectFrom(c1, c5);
    IntVector d5 = HIGH_4.selectFrom(c1, c5);
    IntVector d2 = LOW_4.selectFrom(c2, c6);
    IntVector d6 = HIGH_4.selectFrom(c2, c6);
    IntVector d3 = LOW_4.selectFrom(c3, c7);
    IntVector d7 = HIGH_4.selectFrom(c3, c7);
    d0.intoMemorySegment(to, toAt, ORDER);
    d1.intoMemorySegment(to, toAt + toStride, ORDER);
    d2.intoMemorySegment(to, toAt + 2 * toStride, ORDER);
    d3.intoMemorySegment(to, toAt + 3 * toStride, ORDER);
    d4.intoMemorySegment(to, toAt + 4 * toStride, ORDER);
    d5.intoMemorySegment(to, toAt + 5 * toStride, ORDER);
    d6.intoMemorySegment(to, toAt + 6 * toStride, ORDER);
    d7.intoMemorySegment(to, toAt + 7 * toStride, ORDER);
  }

  private static void block4(
      MemorySegment from,
      long at,
      long stride,
      int last,
      MemorySegment to,
      long toAt,
      long toStride) {
    from = Native.known(from);
    to = Native.known(to);
    IntVector a0 = IntVector.fromMemorySegment(I, from, at, ORDER);
    IntVector a1 = IntVector.fromMemorySegment(I, from, at + Math.min(1, last) * stride, ORDER);
    IntVector a2 = IntVector.fromMemorySegment(I, from, at + Math.min(2, last) * stride, ORDER);
    IntVector a3 = IntVector.fromMemorySegment(I, from, at + Math.min(3, last) * stride, ORDER);
    IntVector b0 = LOW_1.selectFrom(a0, a1);
    IntVector b1 = HIGH_1.selectFrom(a0, a1);
    IntVector b2 = LOW_1.selectFrom(a2, a3);
    IntVector b3 = HIGH_1.selectFrom(a2, a3);
    IntVector c0 = LOW_2.selectFrom(b0, b2);
    IntVector c2 = HIGH_2.selectFrom(b0, b2);
    IntVector c1 = LOW_2.selectFrom(b1, b3);
    IntVector c3 = HIGH_2.selectFrom(b1, b3);
    c0.intoMemorySegment(to, toAt, ORDER);
    c1.intoMemorySegment(to, toAt + toStride, ORDER);
    c2.intoMemorySegment(to, toAt + 2 * toStride, ORDER);
    c3.intoMemorySegment(to, toAt + 3 * toStride, ORDER);
  }
}
