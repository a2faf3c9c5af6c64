package dev.lanewise.simd;

import static dev.lanewise.simd.Machine.F;
import static dev.lanewise.simd.Machine.LANES;

import java.lang.foreign.MemorySegment;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorMask;

/**
 * Products of so few rows of A with a transposed B that reading B once is nearly all there is to
 * do.
 *
 * <p>What these loops must do is keep many reads from memory on their way. The processor fetches
 * ahead where one instruction reads at constant distances, and can hold some hundred reads back
 * until their data come. So each loop walks through stored rows one after the other with few
 * instructions, and has an unknown step: a step known to the compiler would make three loops of it,
 * for the first, most and last vectors, and the fetching would begin anew in every row, which costs
 * two fifths of the speed. Offsets and steps are in bytes.
 */
final class SkinnyKernel {
  /** The most rows of A: two groups, of which the second finds B in cache. */
  static final int ROWS = 8;

  private static final int GROUP = 4;
  private static final long V = Machine.VECTOR_BYTES;
  private static final ByteOrder ORDER = ByteOrder.nativeOrder();

  /** Where the sums begin in working memory, a vector for each row, after one for each product. */
  static final long SUMS = V * LANES * GROUP;

  private static final long SQUARE = SUMS + V * ROWS;

  /** Bytes of working memory that {@link #dots} needs. */
  static final long TEMP = SQUARE + V * LANES;

  /** Four vectors; not final, so that it is no constant to the compiler. */
  private static long step = 4 * V;

  private SkinnyKernel() {}

  /**
   * Multiplies rows of x with up to as many rows of y as a vector has lanes, each product a sum in
   * an order that depends on {@code n} and the number of rows of x alone.
   *
   * @param x scratch memory, which is read without checks: they would be a third of the
   *     instructions
   * @param rows rows of x, at most {@link #ROWS}
   * @param cols rows of y
   * @param n length of a row
   * @param temp receives the products, times {@code alpha}, at {@link #SUMS}, a vector for a row
   */
  static void dots(
      MemorySegment x,
      long xAt,
      long xStep,
      int rows,
      MemorySegment y,
      long yAt,
      long yStep,
      int cols,
      int n,
      float alpha,
      MemorySegment temp) {
    int whole = n - n % (4 * LANES);
    for (int row = 0; row < rows; row += GROUP) {
      int used = Math.min(GROUP, rows - row);
      for (int j = 0; j < cols; j++) {
        long rowAt = xAt + row * xStep;
        long colAt = yAt + j * yStep;
        switch (used) {
          case 1 -> one(x, rowAt, y, colAt, 4L * whole, step, temp, j * V);
          case 2 -> two(x, rowAt, xStep, y, colAt, 4L * whole, step, temp, j * V);
          default -> four(x, rowAt, xStep, used - 1, y, colAt, 4L * whole, step, temp, j * V);
        }
        if (whole < n) {
          for (int i = 0; i < used; i++) {
            rest(x, rowAt + i * xStep, y, colAt, whole, n, temp, (i * LANES + j) * V);
          }
        }
      }
      for (int i = 0; i < used; i++) {
        Packing.transpose(temp, i * LANES * V, V, LANES, LANES, temp, SQUARE, LANES);
        sumOfVectors(temp, SQUARE, alpha, SUMS + (row + i) * V);
      }
    }
  }

  private static void one(
      MemorySegment x,
      long xAt,
      MemorySegment y,
      long yAt,
      long bytes,
      long step,
      MemorySegment sums,
      long at) {
    xAt = Native.start(x) + xAt & Native.ADDRESS;
    x = Native.reach(x);
    y = Native.known(y);
    sums = Native.known(sums);
    FloatVector sum0 = FloatVector.zero(F);
    FloatVector sum1 = sum0;
    FloatVector sum2 = sum0;
    FloatVector sum3 = sum0;
    for (long i = 0; i < bytes; i += step) {
      long j = i & Native.ADDRESS;
      FloatVector y0 = FloatVector.fromMemorySegment(F, y, yAt + i, ORDER);
      sum0 = FloatVector.fromMemorySegment(F, x, xAt + j, ORDER).fma(y0, sum0);
      FloatVector y1 = FloatVector.fromMemorySegment(F, y, yAt + i + V, ORDER);
      sum1 = FloatVector.fromMemorySegment(F, x, xAt + j + V, ORDER).fma(y1, sum1);
      FloatVector y2 = FloatVector.fromMemorySegment(F, y, yAt + i + 2 * V, ORDER);
      sum2 = FloatVector.fromMemorySegment(F, x, xAt + j + 2 * V, ORDER).fma(y2, sum2);
      FloatVector y3 = FloatVector.fromMemorySegment(F, y, yAt + i + 3 * V, ORDER);
      sum3 = FloatVector.fromMemorySegment(F, x, xAt + j + 3 * V, ORDER).fma(y3, sum3);
    }
    sum0.add(sum1).add(sum2.add(sum3)).intoMemorySegment(sums, at, ORDER);
  }

  private static void two(
      MemorySegment x,
      long xAt,
      long xStep,
      MemorySegment y,
      long yAt,
      long bytes,
      long step,
      MemorySegment sums,
      long at) {
    xAt = Native.start(x) + xAt & Native.ADDRESS;
    x = Native.reach(x);
    y = Native.known(y);
    sums = Native.known(sums);
    long x1At = xAt + xStep & Native.ADDRESS;
    FloatVector sum00 = FloatVector.zero(F);
    FloatVector sum01 = sum00;
    FloatVector sum10 = sum00;
    FloatVector sum11 = sum00;
    for (long i = 0; i < bytes; i += step) {
      long j = i & Native.ADDRESS;
      FloatVector y0 = FloatVector.fromMemorySegment(F, y, yAt + i, ORDER);
      sum00 = FloatVector.fromMemorySegment(F, x, xAt + j, ORDER).fma(y0, sum00);
      sum10 = FloatVector.fromMemorySegment(F, x, x1At + j, ORDER).fma(y0, sum10);
      FloatVector y1 = FloatVector.fromMemorySegment(F, y, yAt + i + V, ORDER);
      sum01 = FloatVector.fromMemorySegment(F, x, xAt + j + V, ORDER).fma(y1, sum01);
      sum11 = FloatVector.fromMemorySegment(F, x, x1At + j + V, ORDER).fma(y1, sum11);
      FloatVector y2 = FloatVector.fromMemorySegment(F, y, yAt + i + 2 * V, ORDER);
      sum00 = FloatVector.fromMemorySegment(F, x, xAt + j + 2 * V, ORDER).fma(y2, sum00);
      sum10 = FloatVector.fromMemorySegment(F, x, x1At + j + 2 * V, ORDER).fma(y2, sum10);
      FloatVector y3 = FloatVector.fromMemorySegment(F, y, yAt + i + 3 * V, ORDER);
      sum01 = FloatVector.fromMemorySegment(F, x, xAt + j + 3 * V, ORDER).fma(y3, sum01);
      sum11 = FloatVector.fromMemorySegment(F, x, x1At + j + 3 * V, ORDER).fma(y3, sum11);
    }
    sum00.add(sum01).intoMemorySegment(sums, at, ORDER);
    sum10.add(sum11).intoMemorySegment(sums, at + LANES * V, ORDER);
  }

  /** Four rows of x, or three, of which the last is then taken twice. */
  private static void four(
      MemorySegment x,
      long xAt,
      long xStep,
      int last,
      MemorySegment y,
      long yAt,
      long bytes,
      long step,
      MemorySegment sums,
      long at) {
    xAt = Native.start(x) + xAt & Native.ADDRESS;
    x = Native.reach(x);
    y = Native.known(y);
    sums = Native.known(sums);
    long x1At = xAt + xStep & Native.ADDRESS;
    long x2At = x1At + xStep & Native.ADDRESS;
    long x3At = xAt + last * xStep & Native.ADDRESS;
    FloatVector sum0 = FloatVector.zero(F);
    FloatVector sum1 = sum0;
    FloatVector sum2 = sum0;
    FloatVector sum3 = sum0;
    for (long i = 0; i < bytes; i += step) {
      long j = i & Native.ADDRESS;
      FloatVector y0 = FloatVector.fromMemorySegment(F, y, yAt + i, ORDER);
      sum0 = FloatVector.fromMemorySegment(F, x, xAt + j, ORDER).fma(y0, sum0);
      sum1 = FloatVector.fromMemorySegment(F, x, x1At + j, ORDER).fma(y0, sum1);
      sum2 = FloatVector.fromMemorySegment(F, x, x2At + j, ORDER).fma(y0, sum2);
      sum3 = FloatVector.fromMemorySegment(F, x, x3At + j, ORDER).fma(y0, sum3);
      FloatVector y1 = FloatVector.fromMemorySegment(F, y, yAt + i + V, ORDER);
      sum0 = FloatVector.fromMemorySegment(F, x, xAt + j + V, ORDER).fma(y1, sum0);
      sum1 = FloatVector.fromMemorySegment(F, x, x1At + j + V, ORDER).fma(y1, sum1);
      sum2 = FloatVector.fromMemorySegment(F, x, x2At + j + V, ORDER).fma(y1, sum2);
      sum3 = FloatVector.fromMemorySegment(F, x, x3At + j + V, ORDER).fma(y1, sum3);
      FloatVector y2 = FloatVector.fromMemorySegment(F, y, yAt + i + 2 * V, ORDER);
      sum0 = FloatVector.fromMemorySegment(F, x, xAt + j + 2 * V, ORDER).fma(y2, sum0);
      sum1 = FloatVector.fromMemorySegment(F, x, x1At + j + 2 * V, ORDER).fma(y2, sum1);
      sum2 = FloatVector.fromMemorySegment(F, x, x2At + j + 2 * V, ORDER).fma(y2, sum2);
      sum3 = FloatVector.fromMemorySegment(F, x, x3At + j + 2 * V, ORDER).fma(y2, sum3);
      FloatVector y3 = FloatVector.fromMemorySegment(F, y, yAt + i + 3 * V, ORDER);
      sum0 = FloatVector.fromMemorySegment(F, x, xAt + j + 3 * V, ORDER).fma(y3, sum0);
      sum1 = FloatVector.fromMemorySegment(F, x, x1At + j + 3 * V, ORDER).fma(y3, sum1);
      sum2 = FloatVector.fromMemorySegment(F, x, x2At + j + 3 * V, ORDER).fma(y3, sum2);
      sum3 = FloatVector.fromMemorySegment(F, x, x3At + j + 3 * V, ORDER).fma(y3, sum3);
    }
    sum0.intoMemorySegment(sums, at, ORDER);
    sum1.intoMemorySegment(sums, at + LANES * V, ORDER);
    sum2.intoMemorySegment(sums, at + 2 * LANES * V, ORDER);
    sum3.intoMemorySegment(sums, at + 3 * LANES * V, ORDER);
  }

  /** Adds the products of the elements from one on to the sum at a place, lane by lane. */
  private static void rest(
      MemorySegment x,
      long xAt,
      MemorySegment y,
      long yAt,
      int from,
      int n,
      MemorySegment sums,
      long at) {
    x = Native.known(x);
    y = Native.known(y);
    sums = Native.known(sums);
    FloatVector sum = FloatVector.fromMemorySegment(F, sums, at, ORDER);
    int i = from;
    for (; i <= n - LANES; i += LANES) {
      FloatVector v = FloatVector.fromMemorySegment(F, y, yAt + 4L * i, ORDER);
      sum = FloatVector.fromMemorySegment(F, x, xAt + 4L * i, ORDER).fma(v, sum);
    }
    if (i < n) {
      VectorMask<Float> tail = F.indexInRange(i, n);
      FloatVector v = FloatVector.fromMemorySegment(F, y, yAt + 4L * i, ORDER, tail);
      sum = FloatVector.fromMemorySegment(F, x, xAt + 4L * i, ORDER, tail).fma(v, sum);
    }
    sum.intoMemorySegment(sums, at, ORDER);
  }

  /** Adds as many vectors as they have lanes, in a fixed order. */
  private static void sumOfVectors(MemorySegment s, long at, float alpha, long target) {
    s = Native.known(s);
    FloatVector even = FloatVector.zero(F);
    FloatVector odd = even;
    for (int i = 0; i < LANES; i += 2) {
      even = FloatVector.fromMemorySegment(F, s, at + i * V, ORDER).add(even);
      odd = FloatVector.fromMemorySegment(F, s, at + (i + 1) * V, ORDER).add(odd);
    }
    even.add(odd).mul(alpha).intoMemorySegment(s, target, ORDER);
  }
}
