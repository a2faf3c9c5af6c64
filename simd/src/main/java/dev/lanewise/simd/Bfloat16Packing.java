package dev.lanewise.simd;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.ShortVector;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorSpecies;

/**
 * Copies blocks of a matrix, rounded if it holds floats, into pairs of bfloat16: two neighbours of
 * the depth in 32 bits, the earlier in the lower half. Pairs are then to {@link Packing} and {@link
 * GemmJob} what floats are, elements of four bytes. An odd depth ends with a zero. Offsets and
 * strides are in bytes.
 */
final class Bfloat16Packing {
  private static final VectorSpecies<Float> F = Machine.F;
  private static final VectorSpecies<Integer> I = Machine.I;
  private static final VectorSpecies<Short> S = Machine.S;
  private static final int LANES = Machine.LANES;
  private static final ByteOrder ORDER = ByteOrder.nativeOrder();
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;
  private static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT_UNALIGNED;
  private static final ValueLayout.OfShort SHORT = ValueLayout.JAVA_SHORT_UNALIGNED;

  /** What is added to round to the nearest; a tie goes up where the bit above is set. */
  private static final int HALF = 0x7fff;

  private static final int QUIET = 0x400000;
  private static final int UPPER = 0xffff0000;

  /** Columns of a transposed A that are paired at a time. */
  private static final int PART = 64;

  private Bfloat16Packing() {}

  /** Pairs that {@code depth} elements take. */
  static int pairs(int depth) {
    return depth / 2 + (depth & 1);
  }

  /** Packs elements that follow each other. */
  static void row(MemorySegment from, long at, boolean isHalf, int n, MemorySegment to, long toAt) {
    if (isHalf) {
      MemorySegment.copy(from, at, to, toAt, 2L * n);
    } else {
      int whole = n - n % LANES;
      round(from, at, whole, to, toAt);
      for (int i = whole; i < n; i++) {
        to.set(SHORT, toAt + 2L * i, Bfloat16.fromFloat(from.get(FLOAT, at + 4L * i)));
      }
    }
    if ((n & 1) != 0) {
      to.set(SHORT, toAt + 2L * n, (short) 0);
    }
  }

  private static void round(MemorySegment from, long at, int n, MemorySegment to, long toAt) {
    from = Native.known(from);
    to = Native.known(to);
    for (int i = 0; i < n; i += LANES) {
      FloatVector v = FloatVector.fromMemorySegment(F, from, at + 4L * i, ORDER);
      IntVector bits = v.reinterpretAsInts();
      IntVector top = bits.lanewise(VectorOperators.LSHR, 16);
      IntVector rounded = bits.add(HALF).add(top.and(1)).lanewise(VectorOperators.LSHR, 16);
      rounded = rounded.blend(top.or(QUIET >> 16), v.test(VectorOperators.IS_NAN).cast(I));
      rounded
          .convertShape(VectorOperators.I2S, S, 0)
          .reinterpretAsShorts()
          .intoMemorySegment(to, toAt + 2L * i, ORDER);
    }
  }

  /**
   * Packs neighbouring columns of stored rows that follow each other in the depth.
   *
   * @param n columns
   * @param depth stored rows
   * @param toStride distance of one pair of a column from the next
   */
  static void columns(
      MemorySegment from,
      long at,
      long stride,
      boolean isHalf,
      int n,
      int depth,
      MemorySegment to,
      long toAt,
      long toStride) {
    int whole = n - n % LANES;
    int even = depth - (depth & 1);
    if (whole > 0) {
      if (isHalf) {
        interleave(from, at, stride, whole, even, to, toAt, toStride);
      } else {
        roundAndInterleave(from, at, stride, whole, even, to, toAt, toStride);
      }
    }
    int bytes = isHalf ? Short.BYTES : Float.BYTES;
    for (int k = 0; k < depth; k += 2) {
      boolean isLast = k + 1 == depth;
      for (int j = isLast ? 0 : whole; j < n; j++) {
        long pairAt = toAt + k / 2 * toStride + 4L * j;
        long firstAt = at + k * stride + (long) bytes * j;
        int first = element(from, firstAt, isHalf);
        int second = isLast ? 0 : element(from, firstAt + stride, isHalf);
        to.set(INT, pairAt, second << 16 | first & 0xffff);
      }
    }
  }

  private static short element(MemorySegment from, long at, boolean isHalf) {
    return isHalf ? from.get(SHORT, at) : Bfloat16.fromFloat(from.get(FLOAT, at));
  }

  private static void interleave(
      MemorySegment from,
      long at,
      long stride,
      int n,
      int depth,
      MemorySegment to,
      long toAt,
      long toStride) {
    from = Native.known(from);
    to = Native.known(to);
    for (int k = 0; k < depth; k += 2) {
      for (int j = 0; j < n; j += LANES) {
        IntVector first =
            (IntVector)
                ShortVector.fromMemorySegment(S, from, at + 2L * j, ORDER)
                    .convertShape(VectorOperators.ZERO_EXTEND_S2I, I, 0);
        IntVector second =
            (IntVector)
                ShortVector.fromMemorySegment(S, from, at + stride + 2L * j, ORDER)
                    .convertShape(VectorOperators.ZERO_EXTEND_S2I, I, 0);
        second
            .lanewise(VectorOperators.LSHL, 16)
            .or(first)
            .intoMemorySegment(to, toAt + 4L * j, ORDER);
      }
      at += 2 * stride;
      toAt += toStride;
    }
  }

  private static void roundAndInterleave(
      MemorySegment from,
      long at,
      long stride,
      int n,
      int depth,
      MemorySegment to,
      long toAt,
      long toStride) {
    from = Native.known(from);
    to = Native.known(to);
    for (int k = 0; k < depth; k += 2) {
      for (int j = 0; j < n; j += LANES) {
        FloatVector v = FloatVector.fromMemorySegment(F, from, at + 4L * j, ORDER);
        FloatVector w = FloatVector.fromMemorySegment(F, from, at + stride + 4L * j, ORDER);
        IntVector first = v.reinterpretAsInts();
        IntVector second = w.reinterpretAsInts();
        IntVector firstTie = first.lanewise(VectorOperators.LSHR, 16).and(1);
        IntVector secondTie = second.lanewise(VectorOperators.LSHR, 16).and(1);
        IntVector lower =
            first
                .add(HALF)
                .add(firstTie)
                .blend(first.or(QUIET), v.test(VectorOperators.IS_NAN).cast(I));
        IntVector upper =
            second
                .add(HALF)
                .add(secondTie)
                .blend(second.or(QUIET), w.test(VectorOperators.IS_NAN).cast(I));
        upper
            .and(UPPER)
            .or(lower.lanewise(VectorOperators.LSHR, 16))
            .intoMemorySegment(to, toAt + 4L * j, ORDER);
      }
      at += 2 * stride;
      toAt += toStride;
    }
  }

  /**
   * Packs columns of stored rows as rows of pairs: a transposed A.
   *
   * @param n columns, rows of what is written
   * @param depth stored rows
   */
  static void turnedRows(
      MemorySegment from,
      long at,
      long stride,
      boolean isHalf,
      int n,
      int depth,
      MemorySegment to,
      long toAt) {
    int pairs = pairs(depth);
    int bytes = isHalf ? Short.BYTES : Float.BYTES;
    try (Scratch scratch = Scratch.take(4L * PART * pairs)) {
      MemorySegment part = scratch.segment;
      for (int j = 0; j < n; j += PART) {
        int some = Math.min(PART, n - j);
        columns(from, at + (long) bytes * j, stride, isHalf, some, depth, part, 0, 4L * PART);
        long rowsAt = toAt + 4L * pairs * j;
        Packing.transposeInParts(part, 0, 4L * PART, pairs, some, to, rowsAt, pairs);
      }
    }
  }

  /**
   * Packs stored rows as a panel, a group of one pair of each row after the other: a transposed B.
   *
   * @param lines stored rows there are, at most {@code width}
   * @param depth elements of a stored row
   * @param width pairs of a group
   */
  static void panelOfRows(
      MemorySegment from,
      long at,
      long stride,
      boolean isHalf,
      int lines,
      int depth,
      MemorySegment to,
      long toAt,
      int width) {
    int pairs = pairs(depth);
    if (isHalf && (depth & 1) == 0) {
      Packing.transpose(from, at, stride, lines, pairs, to, toAt, width);
      return;
    }
    long rowBytes = 4L * pairs;
    try (Scratch scratch = Scratch.take(rowBytes * lines)) {
      for (int i = 0; i < lines; i++) {
        row(from, at + i * stride, isHalf, depth, scratch.segment, i * rowBytes);
      }
      Packing.transpose(scratch.segment, 0, rowBytes, lines, pairs, to, toAt, width);
    }
  }
}
