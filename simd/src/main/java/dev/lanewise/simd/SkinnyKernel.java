package dev.lanewise.simd;

import static dev.lanewise.simd.Machine.F;
import static dev.lanewise.simd.Machine.LANES;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorShuffle;

/**
 * Products of so few rows of A that reading B once is nearly all there is to do: of B's stored
 * rows, each an element of the product where B is transposed ({@link #dots}), or added to all
 * elements where it is not ({@link #addRows}).
 *
 * <p>What these loops must do is keep many reads from memory on their way. The processor fetches
 * ahead where one instruction reads at constant distances, and can hold back as many reads as fit
 * among the few hundred instructions that it looks at. So each loop walks through stored rows one
 * after the other (two side by side take a quarter longer) with few instructions: rows of A lie
 * interleaved, a vector of each in turn, and one pointer reaches them all. And each loop has an
 * unknown step: a step known to the compiler would make three loops of it, for the first, most and
 * last vectors, and the fetching would begin anew in every row, which costs up to half of the
 * speed; so would a loop over rows round it. Offsets and steps are in bytes.
 */
final class SkinnyKernel {
  /** The most rows of A. */
  static final int ROWS = 8;

  private static final long V = Machine.VECTOR_BYTES;
  private static final ByteOrder ORDER = ByteOrder.nativeOrder();
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;

  /** Distance of the products of two rows of A in working memory, a vector for each of B. */
  private static final long ROW = V * LANES;

  /** Where the sums begin in working memory, a vector for each row, after one for each product. */
  static final long SUMS = ROW * ROWS;

  /** Bytes of working memory that {@link #dots} needs. */
  static final long TEMP = SUMS + V * ROWS;

  /** Vectors that a turn of a loop takes of a row of B. */
  private static final int FEW = 2;

  private static final int MORE = 4;

  // Not final, so that they are no constants to the compiler.
  private static long few = FEW * V;
  private static long more = MORE * V;

  // A step of adding up lanes joins two vectors: lanes with a bit of their number set are the
  // second's.
  private static final VectorMask<Float> BIT_1 = bit(1);
  private static final VectorMask<Float> BIT_2 = bit(2);
  private static final VectorMask<Float> BIT_4 = bit(4);
  private static final VectorMask<Float> BIT_8 = bit(8);
  private static final VectorShuffle<Float> SWAP_1 = swap(1);
  private static final VectorShuffle<Float> SWAP_2 = swap(2);
  private static final VectorShuffle<Float> SWAP_4 = swap(4);
  private static final VectorShuffle<Float> SWAP_8 = swap(8);

  private SkinnyKernel() {}

  private static VectorMask<Float> bit(int bit) {
    boolean[] isSet = new boolean[LANES];
    for (int i = 0; i < LANES; i++) {
      isSet[i] = (i & bit) != 0;
    }
    return VectorMask.fromArray(F, isSet, 0);
  }

  private static VectorShuffle<Float> swap(int bit) {
    return VectorShuffle.fromOp(F, i -> (i ^ bit) % LANES);
  }

  /** Rows that {@link #interleave} makes of some rows of A; the last is repeated. */
  private static int stored(int rows) {
    return rows <= 2 ? rows : rows <= 4 ? 4 : 8;
  }

  /** Bytes of {@code rows} rows of A, of {@code n} elements each, as {@link #dots} takes them. */
  static long bytes(int rows, int n) {
    return V * stored(rows) * ((n + LANES - 1) / LANES);
  }

  /**
   * Copies rows of A as {@link #dots} takes them.
   *
   * @param aRow distance of its rows
   * @param aStep distance of a row's elements
   */
  static void interleave(
      MemorySegment a, long aAt, long aRow, long aStep, int rows, int n, MemorySegment x) {
    int stored = stored(rows);
    for (int i = 0; i < stored; i++) {
      long rowAt = aAt + Math.min(i, rows - 1) * aRow;
      if (aStep == Float.BYTES) {
        spread(a, rowAt, n, x, i * V, stored * V);
        continue;
      }
      for (int j = 0; j < n; j++) {
        long at = (long) (j / LANES * stored + i) * V + j % LANES * 4L;
        x.set(FLOAT, at, a.get(FLOAT, rowAt + j * aStep));
      }
      for (int j = n; j % LANES != 0; j++) {
        x.set(FLOAT, (long) (j / LANES * stored + i) * V + j % LANES * 4L, 0);
      }
    }
  }

  private static void spread(
      MemorySegment from, long at, int n, MemorySegment to, long toAt, long step) {
    from = Native.known(from);
    to = Native.known(to);
    int i = 0;
    for (; i <= n - LANES; i += LANES) {
      FloatVector.fromMemorySegment(F, from, at + 4L * i, ORDER).intoMemorySegment(to, toAt, ORDER);
      toAt += step;
    }
    if (i < n) {
      VectorMask<Float> tail = F.indexInRange(i, n);
      FloatVector.fromMemorySegment(F, from, at + 4L * i, ORDER, tail)
          .intoMemorySegment(to, toAt, ORDER);
    }
  }

  /**
   * Multiplies rows of x with up to as many rows of y as a vector has lanes, each product a sum in
   * an order that depends on {@code n} and the number of rows of x alone.
   *
   * @param x what {@link #interleave} made, scratch memory, which is read without checks: they
   *     would be a third of the instructions
   * @param rows rows of x, at most {@link #ROWS}
   * @param cols rows of y
   * @param n length of a row
   * @param temp scratch memory, receives the products, times {@code alpha}, at {@link #SUMS}, a
   *     vector for a row
   */
  static void dots(
      MemorySegment x,
      int rows,
      MemorySegment y,
      long yAt,
      long yStep,
      int cols,
      int n,
      float alpha,
      MemorySegment temp) {
    int stored = stored(rows);
    int turn = (rows <= 2 ? MORE : FEW) * LANES;
    int whole = n - n % turn;
    long bytes = 4L * whole;
    for (int j = 0; j < cols; j++) {
      long colAt = yAt + j * yStep;
      switch (stored) {
        case 1 -> one(x, y, colAt, bytes, more, temp, j * V);
        case 2 -> two(x, y, colAt, bytes, more, temp, j * V);
        case 4 -> four(x, y, colAt, bytes, few, temp, j * V);
        default -> eight(x, y, colAt, bytes, few, temp, j * V);
      }
      if (whole < n) {
        for (int i = 0; i < rows; i++) {
          rest(x, i * V, stored * V, y, colAt, whole, n, temp, i * ROW + j * V);
        }
      }
    }
    for (int i = 0; i < rows; i++) {
      sums(temp, i * ROW, alpha, SUMS + i * V);
    }
  }

  /**
   * Adds rows of A times rows of a B that is not transposed to sums, in the order of the depth.
   *
   * <p>Four rows of B go by at once, so that sums are loaded and stored for every fourth row only;
   * they are taken from memory by the first pair of A's rows and from the cache by others.
   *
   * @param aRow distance of A's rows
   * @param aStep distance of a row's elements
   * @param rows rows of A, at most {@link #ROWS}
   * @param bRow distance of B's rows
   * @param depth rows of B
   * @param cols columns of B
   * @param sums scratch memory, a row of sums for each of A's
   * @param sumRow distance of the rows of sums
   */
  static void addRows(
      MemorySegment a,
      long aAt,
      long aRow,
      long aStep,
      int rows,
      MemorySegment b,
      long bAt,
      long bRow,
      int depth,
      int cols,
      MemorySegment sums,
      long sumRow) {
    int whole = cols - cols % LANES;
    int fours = depth - depth % 4;
    for (int k = 0; k < depth; k += k < fours ? 4 : 1) {
      long at = bAt + k * bRow;
      for (int i = 0; i < rows; i += 2) {
        long x = aAt + i * aRow + k * aStep;
        long y = x + aRow;
        long sumAt = i * sumRow;
        long otherAt = sumAt + sumRow;
        if (k < fours && i + 1 < rows) {
          twoOfFour(a, x, y, aStep, b, at, bRow, whole, sums, sumAt, otherAt);
        } else if (k < fours) {
          oneOfFour(a, x, aStep, b, at, bRow, whole, sums, sumAt);
        } else {
          addRow(a.get(FLOAT, x), b, at, whole, sums, sumAt);
          if (i + 1 < rows) {
            addRow(a.get(FLOAT, y), b, at, whole, sums, otherAt);
          }
        }
      }
      int end = k < fours ? k + 4 : k + 1;
      for (int i = 0; i < rows && whole < cols; i++) {
        for (int j = whole; j < cols; j++) {
          long sumAt = i * sumRow + 4L * j;
          float sum = sums.get(FLOAT, sumAt);
          for (int l = k; l < end; l++) {
            float factor = a.get(FLOAT, aAt + i * aRow + l * aStep);
            sum = Math.fma(factor, b.get(FLOAT, bAt + l * bRow + 4L * j), sum);
          }
          sums.set(FLOAT, sumAt, sum);
        }
      }
    }
  }

  private static void twoOfFour(
      MemorySegment a,
      long x,
      long y,
      long aStep,
      MemorySegment b,
      long at,
      long bRow,
      int cols,
      MemorySegment sums,
      long sumAt,
      long otherAt) {
    b = Native.known(b);
    sums = Native.known(sums);
    FloatVector x0 = FloatVector.broadcast(F, a.get(FLOAT, x));
    FloatVector x1 = FloatVector.broadcast(F, a.get(FLOAT, x + aStep));
    FloatVector x2 = FloatVector.broadcast(F, a.get(FLOAT, x + 2 * aStep));
    FloatVector x3 = FloatVector.broadcast(F, a.get(FLOAT, x + 3 * aStep));
    FloatVector y0 = FloatVector.broadcast(F, a.get(FLOAT, y));
    FloatVector y1 = FloatVector.broadcast(F, a.get(FLOAT, y + aStep));
    FloatVector y2 = FloatVector.broadcast(F, a.get(FLOAT, y + 2 * aStep));
    FloatVector y3 = FloatVector.broadcast(F, a.get(FLOAT, y + 3 * aStep));
    long at1 = at + bRow;
    long at2 = at + 2 * bRow;
    long at3 = at + 3 * bRow;
    for (int j = 0; j < cols; j += LANES) {
      long step = 4L * j;
      FloatVector b0 = FloatVector.fromMemorySegment(F, b, at + step, ORDER);
      FloatVector b1 = FloatVector.fromMemorySegment(F, b, at1 + step, ORDER);
      FloatVector b2 = FloatVector.fromMemorySegment(F, b, at2 + step, ORDER);
      FloatVector b3 = FloatVector.fromMemorySegment(F, b, at3 + step, ORDER);
      FloatVector sum = FloatVector.fromMemorySegment(F, sums, sumAt + step, ORDER);
      FloatVector other = FloatVector.fromMemorySegment(F, sums, otherAt + step, ORDER);
      x3.fma(b3, x2.fma(b2, x1.fma(b1, x0.fma(b0, sum))))
          .intoMemorySegment(sums, sumAt + step, ORDER);
      y3.fma(b3, y2.fma(b2, y1.fma(b1, y0.fma(b0, other))))
          .intoMemorySegment(sums, otherAt + step, ORDER);
    }
  }

  private static void oneOfFour(
      MemorySegment a,
      long x,
      long aStep,
      MemorySegment b,
      long at,
      long bRow,
      int cols,
      MemorySegment sums,
      long sumAt) {
    b = Native.known(b);
    sums = Native.known(sums);
    FloatVector x0 = FloatVector.broadcast(F, a.get(FLOAT, x));
    FloatVector x1 = FloatVector.broadcast(F, a.get(FLOAT, x + aStep));
    FloatVector x2 = FloatVector.broadcast(F, a.get(FLOAT, x + 2 * aStep));
    FloatVector x3 = FloatVector.broadcast(F, a.get(FLOAT, x + 3 * aStep));
    long at1 = at + bRow;
    long at2 = at + 2 * bRow;
    long at3 = at + 3 * bRow;
    for (int j = 0; j < cols; j += LANES) {
      long step = 4L * j;
      FloatVector b0 = FloatVector.fromMemorySegment(F, b, at + step, ORDER);
      FloatVector b1 = FloatVector.fromMemorySegment(F, b, at1 + step, ORDER);
      FloatVector b2 = FloatVector.fromMemorySegment(F, b, at2 + step, ORDER);
      FloatVector b3 = FloatVector.fromMemorySegment(F, b, at3 + step, ORDER);
      FloatVector sum = FloatVector.fromMemorySegment(F, sums, sumAt + step, ORDER);
      x3.fma(b3, x2.fma(b2, x1.fma(b1, x0.fma(b0, sum))))
          .intoMemorySegment(sums, sumAt + step, ORDER);
    }
  }

  private static void addRow(
      float factor, MemorySegment b, long at, int cols, MemorySegment sums, long sumAt) {
    b = Native.known(b);
    sums = Native.known(sums);
    FloatVector x = FloatVector.broadcast(F, factor);
    for (int j = 0; j < cols; j += LANES) {
      FloatVector row = FloatVector.fromMemorySegment(F, b, at + 4L * j, ORDER);
      FloatVector sum = FloatVector.fromMemorySegment(F, sums, sumAt + 4L * j, ORDER);
      x.fma(row, sum).intoMemorySegment(sums, sumAt + 4L * j, ORDER);
    }
  }

  private static void one(
      MemorySegment x,
      MemorySegment y,
      long yAt,
      long bytes,
      long step,
      MemorySegment sums,
      long at) {
    long xAt = Native.start(x);
    x = Native.reach(x);
    y = Native.known(y);
    at = Native.start(sums) + at & Native.ADDRESS;
    sums = Native.reach(sums);
    FloatVector sum0 = FloatVector.zero(F);
    FloatVector sum1 = sum0;
    FloatVector sum2 = sum0;
    FloatVector sum3 = sum0;
    for (long i = 0; i < bytes; i += step) {
      long j = xAt + i & Native.ADDRESS;
      FloatVector y0 = FloatVector.fromMemorySegment(F, y, yAt + i, ORDER);
      sum0 = FloatVector.fromMemorySegment(F, x, j, ORDER).fma(y0, sum0);
      FloatVector y1 = FloatVector.fromMemorySegment(F, y, yAt + i + V, ORDER);
      sum1 = FloatVector.fromMemorySegment(F, x, j + V, ORDER).fma(y1, sum1);
      FloatVector y2 = FloatVector.fromMemorySegment(F, y, yAt + i + 2 * V, ORDER);
      sum2 = FloatVector.fromMemorySegment(F, x, j + 2 * V, ORDER).fma(y2, sum2);
      FloatVector y3 = FloatVector.fromMemorySegment(F, y, yAt + i + 3 * V, ORDER);
      sum3 = FloatVector.fromMemorySegment(F, x, j + 3 * V, ORDER).fma(y3, sum3);
    }
    sum0.add(sum1).add(sum2.add(sum3)).intoMemorySegment(sums, at, ORDER);
  }

  private static void two(
      MemorySegment x,
      MemorySegment y,
      long yAt,
      long bytes,
      long step,
      MemorySegment sums,
      long at) {
    long xAt = Native.start(x);
    x = Native.reach(x);
    y = Native.known(y);
    at = Native.start(sums) + at & Native.ADDRESS;
    sums = Native.reach(sums);
    FloatVector sum00 = FloatVector.zero(F);
    FloatVector sum01 = sum00;
    FloatVector sum10 = sum00;
    FloatVector sum11 = sum00;
    for (long i = 0; i < bytes; i += step) {
      long j = xAt + i * 2 & Native.ADDRESS;
      FloatVector y0 = FloatVector.fromMemorySegment(F, y, yAt + i, ORDER);
      sum00 = FloatVector.fromMemorySegment(F, x, j, ORDER).fma(y0, sum00);
      sum10 = FloatVector.fromMemorySegment(F, x, j + V, ORDER).fma(y0, sum10);
      FloatVector y1 = FloatVector.fromMemorySegment(F, y, yAt + i + V, ORDER);
      sum01 = FloatVector.fromMemorySegment(F, x, j + 2 * V, ORDER).fma(y1, sum01);
      sum11 = FloatVector.fromMemorySegment(F, x, j + 3 * V, ORDER).fma(y1, sum11);
      FloatVector y2 = FloatVector.fromMemorySegment(F, y, yAt + i + 2 * V, ORDER);
      sum00 = FloatVector.fromMemorySegment(F, x, j + 4 * V, ORDER).fma(y2, sum00);
      sum10 = FloatVector.fromMemorySegment(F, x, j + 5 * V, ORDER).fma(y2, sum10);
      FloatVector y3 = FloatVector.fromMemorySegment(F, y, yAt + i + 3 * V, ORDER);
      sum01 = FloatVector.fromMemorySegment(F, x, j + 6 * V, ORDER).fma(y3, sum01);
      sum11 = FloatVector.fromMemorySegment(F, x, j + 7 * V, ORDER).fma(y3, sum11);
    }
    sum00.add(sum01).intoMemorySegment(sums, at, ORDER);
    sum10.add(sum11).intoMemorySegment(sums, at + ROW, ORDER);
  }

  private static void four(
      MemorySegment x,
      MemorySegment y,
      long yAt,
      long bytes,
      long step,
      MemorySegment sums,
      long at) {
    long xAt = Native.start(x);
    x = Native.reach(x);
    y = Native.known(y);
    at = Native.start(sums) + at & Native.ADDRESS;
    sums = Native.reach(sums);
    FloatVector sum00 = FloatVector.zero(F);
    FloatVector sum01 = sum00;
    FloatVector sum10 = sum00;
    FloatVector sum11 = sum00;
    FloatVector sum20 = sum00;
    FloatVector sum21 = sum00;
    FloatVector sum30 = sum00;
    FloatVector sum31 = sum00;
    for (long i = 0; i < bytes; i += step) {
      long j = xAt + i * 4 & Native.ADDRESS;
      FloatVector y0 = FloatVector.fromMemorySegment(F, y, yAt + i, ORDER);
      sum00 = FloatVector.fromMemorySegment(F, x, j, ORDER).fma(y0, sum00);
      sum10 = FloatVector.fromMemorySegment(F, x, j + V, ORDER).fma(y0, sum10);
      sum20 = FloatVector.fromMemorySegment(F, x, j + 2 * V, ORDER).fma(y0, sum20);
      sum30 = FloatVector.fromMemorySegment(F, x, j + 3 * V, ORDER).fma(y0, sum30);
      FloatVector y1 = FloatVector.fromMemorySegment(F, y, yAt + i + V, ORDER);
      sum01 = FloatVector.fromMemorySegment(F, x, j + 4 * V, ORDER).fma(y1, sum01);
      sum11 = FloatVector.fromMemorySegment(F, x, j + 5 * V, ORDER).fma(y1, sum11);
      sum21 = FloatVector.fromMemorySegment(F, x, j + 6 * V, ORDER).fma(y1, sum21);
      sum31 = FloatVector.fromMemorySegment(F, x, j + 7 * V, ORDER).fma(y1, sum31);
    }
    sum00.add(sum01).intoMemorySegment(sums, at, ORDER);
    sum10.add(sum11).intoMemorySegment(sums, at + ROW, ORDER);
    sum20.add(sum21).intoMemorySegment(sums, at + 2 * ROW, ORDER);
    sum30.add(sum31).intoMemorySegment(sums, at + 3 * ROW, ORDER);
  }

  private static void eight(
      MemorySegment x,
      MemorySegment y,
      long yAt,
      long bytes,
      long step,
      MemorySegment sums,
      long at) {
    long xAt = Native.start(x);
    x = Native.reach(x);
    y = Native.known(y);
    at = Native.start(sums) + at & Native.ADDRESS;
    sums = Native.reach(sums);
    FloatVector sum0 = FloatVector.zero(F);
    FloatVector sum1 = sum0;
    FloatVector sum2 = sum0;
    FloatVector sum3 = sum0;
    FloatVector sum4 = sum0;
    FloatVector sum5 = sum0;
    FloatVector sum6 = sum0;
    FloatVector sum7 = sum0;
    for (long i = 0; i < bytes; i += step) {
      long j = xAt + i * 8 & Native.ADDRESS;
      FloatVector y0 = FloatVector.fromMemorySegment(F, y, yAt + i, ORDER);
      sum0 = FloatVector.fromMemorySegment(F, x, j, ORDER).fma(y0, sum0);
      sum1 = FloatVector.fromMemorySegment(F, x, j + V, ORDER).fma(y0, sum1);
      sum2 = FloatVector.fromMemorySegment(F, x, j + 2 * V, ORDER).fma(y0, sum2);
      sum3 = FloatVector.fromMemorySegment(F, x, j + 3 * V, ORDER).fma(y0, sum3);
      sum4 = FloatVector.fromMemorySegment(F, x, j + 4 * V, ORDER).fma(y0, sum4);
      sum5 = FloatVector.fromMemorySegment(F, x, j + 5 * V, ORDER).fma(y0, sum5);
      sum6 = FloatVector.fromMemorySegment(F, x, j + 6 * V, ORDER).fma(y0, sum6);
      sum7 = FloatVector.fromMemorySegment(F, x, j + 7 * V, ORDER).fma(y0, sum7);
      FloatVector y1 = FloatVector.fromMemorySegment(F, y, yAt + i + V, ORDER);
      sum0 = FloatVector.fromMemorySegment(F, x, j + 8 * V, ORDER).fma(y1, sum0);
      sum1 = FloatVector.fromMemorySegment(F, x, j + 9 * V, ORDER).fma(y1, sum1);
      sum2 = FloatVector.fromMemorySegment(F, x, j + 10 * V, ORDER).fma(y1, sum2);
      sum3 = FloatVector.fromMemorySegment(F, x, j + 11 * V, ORDER).fma(y1, sum3);
      sum4 = FloatVector.fromMemorySegment(F, x, j + 12 * V, ORDER).fma(y1, sum4);
      sum5 = FloatVector.fromMemorySegment(F, x, j + 13 * V, ORDER).fma(y1, sum5);
      sum6 = FloatVector.fromMemorySegment(F, x, j + 14 * V, ORDER).fma(y1, sum6);
      sum7 = FloatVector.fromMemorySegment(F, x, j + 15 * V, ORDER).fma(y1, sum7);
    }
    sum0.intoMemorySegment(sums, at, ORDER);
    sum1.intoMemorySegment(sums, at + ROW, ORDER);
    sum2.intoMemorySegment(sums, at + 2 * ROW, ORDER);
    sum3.intoMemorySegment(sums, at + 3 * ROW, ORDER);
    sum4.intoMemorySegment(sums, at + 4 * ROW, ORDER);
    sum5.intoMemorySegment(sums, at + 5 * ROW, ORDER);
    sum6.intoMemorySegment(sums, at + 6 * ROW, ORDER);
    sum7.intoMemorySegment(sums, at + 7 * ROW, ORDER);
  }

  /** Adds the products of the elements from one on to the sum at a place, lane by lane. */
  private static void rest(
      MemorySegment x,
      long xAt,
      long xStep,
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
    xAt += from / LANES * xStep;
    int i = from;
    for (; i <= n - LANES; i += LANES) {
      FloatVector v = FloatVector.fromMemorySegment(F, y, yAt + 4L * i, ORDER);
      sum = FloatVector.fromMemorySegment(F, x, xAt, ORDER).fma(v, sum);
      xAt += xStep;
    }
    if (i < n) {
      VectorMask<Float> tail = F.indexInRange(i, n);
      FloatVector v = FloatVector.fromMemorySegment(F, y, yAt + 4L * i, ORDER, tail);
      sum = FloatVector.fromMemorySegment(F, x, xAt, ORDER).fma(v, sum);
    }
    sum.intoMemorySegment(sums, at, ORDER);
  }

  /** Adds up the lanes of as many vectors as they have lanes, each into a lane of one vector. */
  private static void sums(MemorySegment s, long at, float alpha, long target) {
    switch (LANES) {
      case 16 -> sums16(s, at, alpha, target);
      case 8 -> sums8(s, at, alpha, target);
      default -> sums4(s, at, alpha, target);
    }
  }

  private static void sums16(MemorySegment s, long at, float alpha, long target) {
    s = Native.known(s);
    FloatVector a0 = FloatVector.fromMemorySegment(F, s, at, ORDER);
    FloatVector a1 = FloatVector.fromMemorySegment(F, s, at + V, ORDER);
    FloatVector a2 = FloatVector.fromMemorySegment(F, s, at + 2 * V, ORDER);
    FloatVector a3 = FloatVector.fromMemorySegment(F, s, at + 3 * V, ORDER);
    FloatVector a4 = FloatVector.fromMemorySegment(F, s, at + 4 * V, ORDER);
    FloatVector a5 = FloatVector.fromMemorySegment(F, s, at + 5 * V, ORDER);
    FloatVector a6 = FloatVector.fromMemorySegment(F, s, at + 6 * V, ORDER);
    FloatVector a7 = FloatVector.fromMemorySegment(F, s, at + 7 * V, ORDER);
    FloatVector a8 = FloatVector.fromMemorySegment(F, s, at + 8 * V, ORDER);
    FloatVector a9 = FloatVector.fromMemorySegment(F, s, at + 9 * V, ORDER);
    FloatVector a10 = FloatVector.fromMemorySegment(F, s, at + 10 * V, ORDER);
    FloatVector a11 = FloatVector.fromMemorySegment(F, s, at + 11 * V, ORDER);
    FloatVector a12 = FloatVector.fromMemorySegment(F, s, at + 12 * V, ORDER);
    FloatVector a13 = FloatVector.fromMemorySegment(F, s, at + 13 * V, ORDER);
    FloatVector a14 = FloatVector.fromMemorySegment(F, s, at + 14 * V, ORDER);
    FloatVector a15 = FloatVector.fromMemorySegment(F, s, at + 15 * V, ORDER);
    FloatVector b0 = a0.blend(a8, BIT_8).add(a8.blend(a0, BIT_8).rearrange(SWAP_8));
    FloatVector b1 = a1.blend(a9, BIT_8).add(a9.blend(a1, BIT_8).rearrange(SWAP_8));
    FloatVector b2 = a2.blend(a10, BIT_8).add(a10.blend(a2, BIT_8).rearrange(SWAP_8));
    FloatVector b3 = a3.blend(a11, BIT_8).add(a11.blend(a3, BIT_8).rearrange(SWAP_8));
    FloatVector b4 = a4.blend(a12, BIT_8).add(a12.blend(a4, BIT_8).rearrange(SWAP_8));
    FloatVector b5 = a5.blend(a13, BIT_8).add(a13.blend(a5, BIT_8).rearrange(SWAP_8));
    FloatVector b6 = a6.blend(a14, BIT_8).add(a14.blend(a6, BIT_8).rearrange(SWAP_8));
    FloatVector b7 = a7.blend(a15, BIT_8).add(a15.blend(a7, BIT_8).rearrange(SWAP_8));
    FloatVector c0 = b0.blend(b4, BIT_4).add(b4.blend(b0, BIT_4).rearrange(SWAP_4));
    FloatVector c1 = b1.blend(b5, BIT_4).add(b5.blend(b1, BIT_4).rearrange(SWAP_4));
    FloatVector c2 = b2.blend(b6, BIT_4).add(b6.blend(b2, BIT_4).rearrange(SWAP_4));
    FloatVector c3 = b3.blend(b7, BIT_4).add(b7.blend(b3, BIT_4).rearrange(SWAP_4));
    FloatVector d0 = c0.blend(c2, BIT_2).add(c2.blend(c0, BIT_2).rearrange(SWAP_2));
    FloatVector d1 = c1.blend(c3, BIT_2).add(c3.blend(c1, BIT_2).rearrange(SWAP_2));
    FloatVector e0 = d0.blend(d1, BIT_1).add(d1.blend(d0, BIT_1).rearrange(SWAP_1));
    e0.mul(alpha).intoMemorySegment(s, target, ORDER);
  }

  private static void sums8(MemorySegment s, long at, float alpha, long target) {
    s = Native.known(s);
    FloatVector a0 = FloatVector.fromMemorySegment(F, s, at, ORDER);
    FloatVector a1 = FloatVector.fromMemorySegment(F, s, at + V, ORDER);
    FloatVector a2 = FloatVector.fromMemorySegment(F, s, at + 2 * V, ORDER);
    FloatVector a3 = FloatVector.fromMemorySegment(F, s, at + 3 * V, ORDER);
    FloatVector a4 = FloatVector.fromMemorySegment(F, s, at + 4 * V, ORDER);
    FloatVector a5 = FloatVector.fromMemorySegment(F, s, at + 5 * V, ORDER);
    FloatVector a6 = FloatVector.fromMemorySegment(F, s, at + 6 * V, ORDER);
    FloatVector a7 = FloatVector.fromMemorySegment(F, s, at + 7 * V, ORDER);
    FloatVector b0 = a0.blend(a4, BIT_4).add(a4.blend(a0, BIT_4).rearrange(SWAP_4));
    FloatVector b1 = a1.blend(a5, BIT_4).add(a5.blend(a1, BIT_4).rearrange(SWAP_4));
    FloatVector b2 = a2.blend(a6, BIT_4).add(a6.blend(a2, BIT_4).rearrange(SWAP_4));
    FloatVector b3 = a3.blend(a7, BIT_4).add(a7.blend(a3, BIT_4).rearrange(SWAP_4));
    FloatVector c0 = b0.blend(b2, BIT_2).add(b2.blend(b0, BIT_2).rearrange(SWAP_2));
    FloatVector c1 = b1.blend(b3, BIT_2).add(b3.blend(b1, BIT_2).rearrange(SWAP_2));
    FloatVector d0 = c0.blend(c1, BIT_1).add(c1.blend(c0, BIT_1).rearrange(SWAP_1));
    d0.mul(alpha).intoMemorySegment(s, target, ORDER);
  }

  private static void sums4(MemorySegment s, long at, float alpha, long target) {
    s = Native.known(s);
    FloatVector a0 = FloatVector.fromMemorySegment(F, s, at, ORDER);
    FloatVector a1 = FloatVector.fromMemorySegment(F, s, at + V, ORDER);
    FloatVector a2 = FloatVector.fromMemorySegment(F, s, at + 2 * V, ORDER);
    FloatVector a3 = FloatVector.fromMemorySegment(F, s, at + 3 * V, ORDER);
    FloatVector b0 = a0.blend(a2, BIT_2).add(a2.blend(a0, BIT_2).rearrange(SWAP_2));
    FloatVector b1 = a1.blend(a3, BIT_2).add(a3.blend(a1, BIT_2).rearrange(SWAP_2));
    FloatVector c0 = b0.blend(b1, BIT_1).add(b1.blend(b0, BIT_1).rearrange(SWAP_1));
    c0.mul(alpha).intoMemorySegment(s, target, ORDER);
  }
}
