package dev.lanewise.simd;

import static dev.lanewise.simd.Machine.F;
import static dev.lanewise.simd.Machine.LANES;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorOperators;

/**
 * Exponentials of a row and their sum, the common part of softmax and cross-entropy.
 *
 * <p>A row is cut in blocks that stay in the first-level cache. Each block is shifted by its own
 * largest element, so a row is read from memory once although its largest element is known only at
 * the end: the second pass over the exponentials carries the factor between the block's shift and
 * the row's. The last elements that do not fill a vector are worked on in a padded copy. What
 * passes from one step to the next lies in a piece of scratch memory:
 *
 * <pre>
 * byte 0    double  largest element of the row
 * byte 8    double  sum of e^(x - largest)
 * byte 64   vector  the padded tail
 * byte 128  vector  sums of the lanes
 * byte 192  floats  largest element of each block, the tail's last; or a short row, padded
 * </pre>
 *
 * Infinities and NaN need no branch: a row that holds NaN, +inf or only -inf gets a sum of NaN or
 * 0, and every later product with it is NaN.
 */
final class Exponentials {
  private static final int BLOCK = 4096;
  private static final int MAXIMUM = 0;
  private static final int SUM = 8;
  private static final int TAIL = 64;
  static final int LANE_SUMS = 128;
  private static final int SHIFTS = 192;

  /** Where a short row is padded. */
  private static final int ROW = SHIFTS;

  private static final int SHORT = 256;

  private static final ByteOrder ORDER = ByteOrder.nativeOrder();
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;
  private static final ValueLayout.OfDouble DOUBLE = ValueLayout.JAVA_DOUBLE_UNALIGNED;

  private Exponentials() {}

  /** Scratch memory for rows of {@code cols} elements. */
  static Scratch scratch(long cols) {
    long row = isPadded(cols) ? padded(cols) : cols / BLOCK + 2;
    return Scratch.take(SHIFTS + row * Float.BYTES);
  }

  /** Whether a row is copied as a whole, since its tail would take as long as the rest. */
  private static boolean isPadded(long cols) {
    return cols <= SHORT && cols % LANES != 0;
  }

  private static int padded(long cols) {
    return (int) (cols + LANES - 1) / LANES * LANES;
  }

  static double maximum(Scratch scratch) {
    return scratch.segment.get(DOUBLE, MAXIMUM);
  }

  static double sum(Scratch scratch) {
    return scratch.segment.get(DOUBLE, SUM);
  }

  /** First pass: {@code y = e^(x - shift of the block)}, with the row's maximum and sum. */
  static void exponentials(
      MemorySegment x, long xAt, MemorySegment y, long yAt, long cols, Scratch scratch) {
    MemorySegment s = scratch.segment;
    if (isPadded(cols)) {
      int n = padded(cols);
      pad(x, xAt, (int) cols, s, ROW, n);
      float shift = finite(maximum(s, ROW, n));
      s.set(DOUBLE, SUM, exponentials(s, ROW, s, ROW, n, shift, s));
      s.set(DOUBLE, MAXIMUM, shift);
      return;
    }
    int tail = (int) (cols % LANES);
    long whole = cols - tail;
    double maximum = Double.NEGATIVE_INFINITY;
    double sum = 0;
    long shiftAt = SHIFTS;
    for (long from = 0; from < cols; from += BLOCK) {
      int n = (int) Math.min(BLOCK, whole - from);
      if (n > 0) {
        long at = from * Float.BYTES;
        float shift = finite(maximum(x, xAt + at, n));
        double part = exponentials(x, xAt + at, y, yAt + at, n, shift, s);
        s.set(FLOAT, shiftAt, shift);
        shiftAt += Float.BYTES;
        if (shift > maximum) {
          sum = sum == 0 ? 0 : sum * Math.exp(maximum - shift);
          maximum = shift;
        }
        sum += part * exp(shift - maximum);
      }
    }
    if (tail > 0) {
      pad(x, xAt + whole * Float.BYTES, tail, s, TAIL, LANES);
      float shift = finite(maximum(s, TAIL, LANES));
      double part = exponentials(s, TAIL, s, TAIL, LANES, shift, s);
      s.set(FLOAT, shiftAt, shift);
      if (shift > maximum) {
        sum *= Math.exp(maximum - shift);
        maximum = shift;
      }
      sum += part * exp(shift - maximum);
    }
    s.set(DOUBLE, MAXIMUM, maximum);
    s.set(DOUBLE, SUM, sum);
  }

  /** Second pass: {@code y = e^(x - maximum) * factor + summand}. */
  static void rescale(
      MemorySegment y, long yAt, long cols, double factor, float summand, Scratch scratch) {
    MemorySegment s = scratch.segment;
    if (isPadded(cols)) {
      scale(s, ROW, padded(cols), (float) factor, summand);
      copy(s, ROW, y, yAt, (int) cols);
      return;
    }
    int tail = (int) (cols % LANES);
    long whole = cols - tail;
    double maximum = s.get(DOUBLE, MAXIMUM);
    long shiftAt = SHIFTS;
    for (long from = 0; from < whole; from += BLOCK) {
      int n = (int) Math.min(BLOCK, whole - from);
      double blockFactor = exp(s.get(FLOAT, shiftAt) - maximum) * factor;
      scale(y, yAt + from * Float.BYTES, n, (float) blockFactor, summand);
      shiftAt += Float.BYTES;
    }
    if (tail > 0) {
      double tailFactor = exp(s.get(FLOAT, shiftAt) - maximum) * factor;
      scale(s, TAIL, LANES, (float) tailFactor, summand);
      MemorySegment.copy(s, TAIL, y, yAt + whole * Float.BYTES, (long) tail * Float.BYTES);
    }
  }

  /** The row's maximum and sum alone. */
  static void statistics(MemorySegment x, long xAt, long cols, Scratch scratch) {
    MemorySegment s = scratch.segment;
    if (isPadded(cols)) {
      int n = padded(cols);
      pad(x, xAt, (int) cols, s, ROW, n);
      float shift = finite(maximum(s, ROW, n));
      s.set(DOUBLE, SUM, sumOfExponentials(s, ROW, n, shift, s));
      s.set(DOUBLE, MAXIMUM, shift);
      return;
    }
    int tail = (int) (cols % LANES);
    long whole = cols - tail;
    double maximum = Double.NEGATIVE_INFINITY;
    double sum = 0;
    for (long from = 0; from < cols; from += BLOCK) {
      int n = (int) Math.min(BLOCK, whole - from);
      if (n > 0) {
        long at = xAt + from * Float.BYTES;
        float shift = finite(maximum(x, at, n));
        double part = sumOfExponentials(x, at, n, shift, s);
        if (shift > maximum) {
          sum = sum == 0 ? 0 : sum * Math.exp(maximum - shift);
          maximum = shift;
        }
        sum += part * exp(shift - maximum);
      }
    }
    if (tail > 0) {
      pad(x, xAt + whole * Float.BYTES, tail, s, TAIL, LANES);
      float shift = finite(maximum(s, TAIL, LANES));
      double part = sumOfExponentials(s, TAIL, LANES, shift, s);
      if (shift > maximum) {
        sum *= Math.exp(maximum - shift);
        maximum = shift;
      }
      sum += part * exp(shift - maximum);
    }
    s.set(DOUBLE, MAXIMUM, maximum);
    s.set(DOUBLE, SUM, sum);
  }

  /** Copies some elements, and fills up with -inf. */
  private static void pad(MemorySegment x, long at, int n, MemorySegment s, int to, int padded) {
    FloatVector.broadcast(F, Float.NEGATIVE_INFINITY)
        .intoMemorySegment(Native.known(s), to + 4L * (padded - LANES), ORDER);
    copy(x, at, s, to, n);
  }

  private static void copy(MemorySegment from, long at, MemorySegment to, long toAt, int n) {
    from = Native.known(from);
    to = Native.known(to);
    int whole = n - n % LANES;
    for (int i = 0; i < whole; i += LANES) {
      FloatVector.fromMemorySegment(F, from, at + 4L * i, ORDER)
          .intoMemorySegment(to, toAt + 4L * i, ORDER);
    }
    if (whole < n) {
      VectorMask<Float> tail = F.indexInRange(whole, n);
      FloatVector.fromMemorySegment(F, from, at + 4L * whole, ORDER, tail)
          .intoMemorySegment(to, toAt + 4L * whole, ORDER, tail);
    }
  }

  /** {@code e^x}, most often of 0. */
  private static double exp(double x) {
    return x == 0 ? 1 : Math.exp(x);
  }

  /** A shift of -inf would turn -inf - (-inf) into NaN where 0 is right. */
  private static float finite(float maximum) {
    return maximum == Float.NEGATIVE_INFINITY ? -Float.MAX_VALUE : maximum;
  }

  // Flat loops over n elements, a multiple of the lanes ------------------------------------------

  /** Largest element that is not NaN, -inf where there is none. */
  static float maximum(MemorySegment x, long xAt, int n) {
    x = Native.known(x);
    FloatVector m0 = FloatVector.broadcast(F, Float.NEGATIVE_INFINITY);
    FloatVector m1 = m0;
    int i = 0;
    for (; i < n - LANES; i += 2 * LANES) {
      long at = xAt + (long) i * Float.BYTES;
      FloatVector v0 = FloatVector.fromMemorySegment(F, x, at, ORDER);
      FloatVector v1 = FloatVector.fromMemorySegment(F, x, at + Machine.VECTOR_BYTES, ORDER);
      m0 = m0.blend(v0, v0.compare(VectorOperators.GT, m0));
      m1 = m1.blend(v1, v1.compare(VectorOperators.GT, m1));
    }
    if (i < n) {
      FloatVector v0 = FloatVector.fromMemorySegment(F, x, xAt + (long) i * Float.BYTES, ORDER);
      m0 = m0.blend(v0, v0.compare(VectorOperators.GT, m0));
    }
    m0 = m0.blend(m1, m1.compare(VectorOperators.GT, m0));
    return m0.reduceLanes(VectorOperators.MAX);
  }

  /** {@code y = e^(x - shift)} and the sum of it; 0 where the exponent is below -87.7. */
  private static double exponentials(
      MemorySegment x,
      long xAt,
      MemorySegment y,
      long yAt,
      int n,
      float shift,
      MemorySegment scratch) {
    x = Native.known(x);
    y = Native.known(y);
    scratch = Native.known(scratch);
    FloatVector least = FloatVector.broadcast(F, VectorMath.EXP_ZERO);
    FloatVector sum = FloatVector.zero(F);
    for (int i = 0; i < n; i += LANES) {
      long at = (long) i * Float.BYTES;
      FloatVector v = FloatVector.fromMemorySegment(F, x, xAt + at, ORDER).sub(shift);
      v = v.blend(least, v.compare(VectorOperators.LT, least));
      FloatVector shifted =
          v.fma(
              FloatVector.broadcast(F, VectorMath.LOG2_E),
              FloatVector.broadcast(F, VectorMath.ROUND));
      FloatVector k = shifted.sub(VectorMath.ROUND);
      FloatVector r = k.fma(FloatVector.broadcast(F, -VectorMath.LN2), v);
      FloatVector p =
          r.fma(FloatVector.broadcast(F, VectorMath.E6), FloatVector.broadcast(F, VectorMath.E5));
      p = p.fma(r, FloatVector.broadcast(F, VectorMath.E4));
      p = p.fma(r, FloatVector.broadcast(F, VectorMath.E3));
      p = p.fma(r, FloatVector.broadcast(F, VectorMath.E2));
      p = p.fma(r.mul(r), r).add(1f);
      p =
          p.mul(
              shifted
                  .reinterpretAsInts()
                  .lanewise(VectorOperators.LSHL, VectorMath.EXPONENT)
                  .reinterpretAsFloats());
      sum = p.add(sum);
      p.intoMemorySegment(y, yAt + at, ORDER);
    }
    sum.intoMemorySegment(scratch, LANE_SUMS, ORDER);
    return Lanes.sum(scratch, LANE_SUMS);
  }

  /** The same sum, without writing the exponentials. */
  private static double sumOfExponentials(
      MemorySegment x, long xAt, int n, float shift, MemorySegment scratch) {
    x = Native.known(x);
    scratch = Native.known(scratch);
    FloatVector least = FloatVector.broadcast(F, VectorMath.EXP_ZERO);
    FloatVector sum = FloatVector.zero(F);
    for (int i = 0; i < n; i += LANES) {
      long at = (long) i * Float.BYTES;
      FloatVector v = FloatVector.fromMemorySegment(F, x, xAt + at, ORDER).sub(shift);
      v = v.blend(least, v.compare(VectorOperators.LT, least));
      FloatVector shifted =
          v.fma(
              FloatVector.broadcast(F, VectorMath.LOG2_E),
              FloatVector.broadcast(F, VectorMath.ROUND));
      FloatVector k = shifted.sub(VectorMath.ROUND);
      FloatVector r = k.fma(FloatVector.broadcast(F, -VectorMath.LN2), v);
      FloatVector p =
          r.fma(FloatVector.broadcast(F, VectorMath.E6), FloatVector.broadcast(F, VectorMath.E5));
      p = p.fma(r, FloatVector.broadcast(F, VectorMath.E4));
      p = p.fma(r, FloatVector.broadcast(F, VectorMath.E3));
      p = p.fma(r, FloatVector.broadcast(F, VectorMath.E2));
      p = p.fma(r.mul(r), r).add(1f);
      FloatVector power =
          shifted
              .reinterpretAsInts()
              .lanewise(VectorOperators.LSHL, VectorMath.EXPONENT)
              .reinterpretAsFloats();
      sum = p.fma(power, sum);
    }
    sum.intoMemorySegment(scratch, LANE_SUMS, ORDER);
    return Lanes.sum(scratch, LANE_SUMS);
  }

  /** {@code y = y * factor + summand}. */
  private static void scale(MemorySegment y, long yAt, int n, float factor, float summand) {
    y = Native.known(y);
    FloatVector f = FloatVector.broadcast(F, factor);
    FloatVector s = FloatVector.broadcast(F, summand);
    for (int i = 0; i < n; i += LANES) {
      long at = yAt + (long) i * Float.BYTES;
      FloatVector.fromMemorySegment(F, y, at, ORDER).fma(f, s).intoMemorySegment(y, at, ORDER);
    }
  }
}
