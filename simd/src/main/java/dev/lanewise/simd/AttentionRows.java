package dev.lanewise.simd;

import static dev.lanewise.simd.AttentionTiles.LD;
import static dev.lanewise.simd.AttentionTiles.PANEL;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorShuffle;
import jdk.incubator.vector.VectorSpecies;

/**
 * What {@link Attention} does to rows between its products. Scores are powers of two: queries are
 * scaled by {@code scale * log2(e)} when they are copied, so that softmax needs one subtraction and
 * a power of two for each. All offsets and steps are in bytes.
 *
 * <p>Loops step through offsets by amounts that the compiler does not know as constants: it would
 * turn counted loops into three, with a check of every operand before each, which costs more than
 * these short loops themselves.
 */
final class AttentionRows {
  static final float LOG2_E = 1.442695040888963f;
  static final float LN_2 = 0.6931471805599453f;

  /** Where a tile's maxima lie in its statistics: one float a row, in powers of two. */
  static final long MAXIMA = 0;

  /** Where a tile's sums lie in its statistics. */
  static final long SUMS = 64;

  /** Where the last block's sums lie. */
  private static final long ADDED = 128;

  /** Where the maxima before the last block lie. */
  private static final long BEFORE = 192;

  static final long STATS_BYTES = 256;

  /** Adding this leaves the rounded number plus the exponent's bias in the lowest bits. */
  private static final float ROUND = 12582912f + 127f;

  /** Powers of two below this are taken as 0. */
  private static final float LOWEST = -126f;

  // 2^f = 1 + f E1 + f^2 E2 ... over [-1/2, 1/2]: minimax, relative error 9e-8.
  private static final float E1 = 0.6931470036506653f;
  private static final float E2 = 0.24022242426872253f;
  private static final float E3 = 0.05550733581185341f;
  private static final float E4 = 0.009671512991189957f;
  private static final float E5 = 0.001326472731307149f;

  private static final VectorSpecies<Float> F = Machine.F;
  private static final VectorSpecies<Integer> I = Machine.I;
  private static final int LANES = Machine.LANES;
  private static final long V = Machine.VECTOR_BYTES;
  private static final ByteOrder ORDER = ByteOrder.nativeOrder();
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;
  private static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT_UNALIGNED;

  // Rotations of the lanes, to fold a vector in an order that compiled and interpreted code share.
  private static final VectorShuffle<Float> BY_8 = rotation(F, 8);
  private static final VectorShuffle<Float> BY_4 = rotation(F, 4);
  private static final VectorShuffle<Float> BY_2 = rotation(F, 2);
  private static final VectorShuffle<Float> BY_1 = rotation(F, 1);
  private static final VectorShuffle<Integer> INT_BY_8 = rotation(I, 8);
  private static final VectorShuffle<Integer> INT_BY_4 = rotation(I, 4);
  private static final VectorShuffle<Integer> INT_BY_2 = rotation(I, 2);
  private static final VectorShuffle<Integer> INT_BY_1 = rotation(I, 1);

  private AttentionRows() {}

  private static <E> VectorShuffle<E> rotation(VectorSpecies<E> species, int by) {
    return VectorShuffle.iota(species, by % LANES, 1, true);
  }

  /** Copies rows of floats, multiplied by a factor; what follows a row stays untouched. */
  static void copy(
      MemorySegment from,
      long at,
      long step,
      MemorySegment to,
      long target,
      long targetStep,
      int rows,
      int length,
      float factor) {
    copy(from, at, step, to, target, targetStep, 4L * PANEL, rows, length, factor);
  }

  /** Copies rows of floats, of which each {@link AttentionTiles#PANEL} go to a place of its own. */
  static void copy(
      MemorySegment from,
      long at,
      long step,
      MemorySegment to,
      long target,
      long targetStep,
      long panelStep,
      int rows,
      int length,
      float factor) {
    from = Native.known(from);
    to = Native.known(to);
    // Down the rows first: the hardware recognises the distance of the rows and fetches ahead.
    int i = 0;
    for (; i <= length - 2 * PANEL; i += 2 * PANEL) {
      long a = at + i * 4L;
      long b = target;
      long c = target + panelStep;
      for (int row = 0; row < rows; row++) {
        FloatVector x0 = FloatVector.fromMemorySegment(F, from, a, ORDER);
        FloatVector x1 = FloatVector.fromMemorySegment(F, from, a + V, ORDER);
        FloatVector x2 = FloatVector.fromMemorySegment(F, from, a + 2 * V, ORDER);
        FloatVector x3 = FloatVector.fromMemorySegment(F, from, a + 3 * V, ORDER);
        x0.mul(factor).intoMemorySegment(to, b, ORDER);
        x1.mul(factor).intoMemorySegment(to, b + V, ORDER);
        x2.mul(factor).intoMemorySegment(to, c, ORDER);
        x3.mul(factor).intoMemorySegment(to, c + V, ORDER);
        a += step;
        b += targetStep;
        c += targetStep;
      }
      target += 2 * panelStep;
    }
    // Heads of 32 floats are too common to be copied under a mask, which takes several times
    // longer.
    if (i <= length - PANEL) {
      long a = at + i * 4L;
      long b = target;
      for (int row = 0; row < rows; row++) {
        FloatVector x0 = FloatVector.fromMemorySegment(F, from, a, ORDER);
        FloatVector x1 = FloatVector.fromMemorySegment(F, from, a + V, ORDER);
        x0.mul(factor).intoMemorySegment(to, b, ORDER);
        x1.mul(factor).intoMemorySegment(to, b + V, ORDER);
        a += step;
        b += targetStep;
      }
      target += panelStep;
      i += PANEL;
    }
    for (; i < length; i += LANES) {
      VectorMask<Float> rest = F.indexInRange(i, length);
      long a = at + i * 4L;
      long b = target;
      for (int row = 0; row < rows; row++) {
        FloatVector x = FloatVector.fromMemorySegment(F, from, a, ORDER, rest);
        x.mul(factor).intoMemorySegment(to, b, ORDER, rest);
        a += step;
        b += targetStep;
      }
      target += i % PANEL == 0 ? V : panelStep - V;
    }
  }

  /** Sets floats to 0, in whole vectors. */
  static void clear(MemorySegment s, long at, long floats) {
    s = Native.known(s);
    FloatVector zero = FloatVector.zero(F);
    long end = at + floats * 4;
    for (; at < end; at += V) {
      zero.intoMemorySegment(s, at, ORDER);
    }
  }

  /** Sum of the lanes, in the same order in compiled and interpreted code. */
  static float fold(FloatVector x) {
    if (LANES > 8) {
      x = x.add(x.rearrange(BY_8));
    }
    if (LANES > 4) {
      x = x.add(x.rearrange(BY_4));
    }
    x = x.add(x.rearrange(BY_2));
    return x.add(x.rearrange(BY_1)).lane(0);
  }

  /**
   * Turns a tile's scores into unnormalised probabilities in place and brings each row's running
   * maximum, sum and output up to date (Milakov and Gimelshein, "Online normalizer calculation for
   * softmax"). Row r sees the first {@code visible + r * more} of the block's {@code depth} keys;
   * the rest becomes 0.
   *
   * @param stats {@link #STATS_BYTES}, see {@link #MAXIMA} and {@link #SUMS}
   * @param o rows of output, {@code oStep} bytes each, all of it
   * @param isFirst whether there was no block before, so that statistics and output hold nothing
   */
  static void softmax(
      MemorySegment s,
      long p,
      int rows,
      int visible,
      int more,
      int depth,
      long stats,
      long o,
      long oStep,
      boolean isFirst) {
    maxima(s, p, rows, visible, more, depth, stats, isFirst);
    exponentials(s, p, rows, visible, more, depth, stats, isFirst ? SUMS : ADDED);
    if (!isFirst) {
      rescale(s, rows, stats, o, oStep);
    }
  }

  /**
   * Brings the rows' maxima up to date.
   *
   * <p>In this class no method is called on a vector that a loop carries: the compiler knows the
   * class of such a variable only as declared, and may then give up and make objects.
   *
   * <p>Maxima are taken of integers that order like the floats: one instruction, where a maximum of
   * floats takes five to treat NaN and -0 as Java does.
   */
  private static void maxima(
      MemorySegment s,
      long p,
      int rows,
      int visible,
      int more,
      int depth,
      long stats,
      boolean isFirst) {
    s = Native.known(s);
    IntVector lowest = IntVector.broadcast(I, ordered(Float.floatToRawIntBits(-Float.MAX_VALUE)));
    for (int r = 0; r < rows; r++) {
      long at = p + r * LD;
      int length = Math.clamp(visible + (long) r * more, 0, depth);
      long end = at + length * 4L;
      if ((length & LANES - 1) != 0) {
        hide(s, at, length);
      }
      IntVector top = lowest;
      for (; at < end; at += V) {
        IntVector x = IntVector.fromMemorySegment(I, s, at, ORDER);
        top =
            x.lanewise(VectorOperators.ASHR, 31)
                .and(Integer.MAX_VALUE)
                .lanewise(VectorOperators.XOR, x)
                .max(top);
      }
      top = lowest.max(top);
      if (LANES > 8) {
        top = top.max(top.rearrange(INT_BY_8));
      }
      if (LANES > 4) {
        top = top.max(top.rearrange(INT_BY_4));
      }
      top = top.max(top.rearrange(INT_BY_2));
      top = top.max(top.rearrange(INT_BY_1));
      int now = top.lane(0);
      if (!isFirst) {
        int before = s.get(INT, stats + MAXIMA + r * 4L);
        s.set(INT, stats + BEFORE + r * 4L, before);
        now = Math.max(now, ordered(before));
      }
      s.set(INT, stats + MAXIMA + r * 4L, ordered(now));
    }
  }

  /**
   * Gives the keys of a row's last vector that the row does not see the score -infinity, so that
   * all vectors are treated alike from there on: they do not raise a maximum and become 0.
   */
  private static void hide(MemorySegment s, long row, int length) {
    s = Native.known(s);
    long at = row + (length & -LANES) * 4L;
    VectorMask<Float> seen = F.indexInRange(length & -LANES, length);
    FloatVector.broadcast(F, Float.NEGATIVE_INFINITY)
        .blend(FloatVector.fromMemorySegment(F, s, at, ORDER), seen)
        .intoMemorySegment(s, at, ORDER);
  }

  /** A float's bits as an integer that orders alike, and back. */
  private static int ordered(int bits) {
    return bits >> 31 & Integer.MAX_VALUE ^ bits;
  }

  private static void exponentials(
      MemorySegment s, long p, int rows, int visible, int more, int depth, long stats, long sums) {
    s = Native.known(s);
    FloatVector zero = FloatVector.zero(F);
    for (int r = 0; r < rows; r++) {
      long at = p + r * LD;
      int length = Math.clamp(visible + (long) r * more, 0, depth);
      long end = at + length * 4L;
      long stop = at + depth * 4L;
      FloatVector top = FloatVector.broadcast(F, s.get(FLOAT, stats + MAXIMA + r * 4L));
      FloatVector sum = zero;
      for (; at < end; at += V) {
        FloatVector x = FloatVector.fromMemorySegment(F, s, at, ORDER).sub(top);
        FloatVector n = x.add(ROUND);
        FloatVector f = x.sub(n.sub(ROUND));
        FloatVector e = f.fma(FloatVector.broadcast(F, E5), FloatVector.broadcast(F, E4));
        e = e.fma(f, FloatVector.broadcast(F, E3));
        e = e.fma(f, FloatVector.broadcast(F, E2));
        e = e.fma(f, FloatVector.broadcast(F, E1));
        e = e.fma(f, FloatVector.broadcast(F, 1f));
        IntVector power = n.reinterpretAsInts().lanewise(VectorOperators.LSHL, 23);
        e = e.mul(power.reinterpretAsFloats());
        e = e.blend(zero, x.compare(VectorOperators.LT, LOWEST));
        e.intoMemorySegment(s, at, ORDER);
        sum = e.add(sum);
      }
      for (; at < stop; at += V) {
        zero.intoMemorySegment(s, at, ORDER);
      }
      sum = zero.add(sum);
      if (LANES > 8) {
        sum = sum.add(sum.rearrange(BY_8));
      }
      if (LANES > 4) {
        sum = sum.add(sum.rearrange(BY_4));
      }
      sum = sum.add(sum.rearrange(BY_2));
      sum = sum.add(sum.rearrange(BY_1));
      s.set(FLOAT, stats + sums + r * 4L, sum.lane(0));
    }
  }

  /** Scales sums and outputs by 2^(maximum before - maximum now). */
  private static void rescale(MemorySegment s, int rows, long stats, long o, long oStep) {
    s = Native.known(s);
    for (long i = stats; i < stats + rows * 4L; i += V) {
      FloatVector x =
          FloatVector.fromMemorySegment(F, s, i + BEFORE, ORDER)
              .sub(FloatVector.fromMemorySegment(F, s, i + MAXIMA, ORDER));
      FloatVector n = x.add(ROUND);
      FloatVector f = x.sub(n.sub(ROUND));
      FloatVector e = f.fma(FloatVector.broadcast(F, E5), FloatVector.broadcast(F, E4));
      e = e.fma(f, FloatVector.broadcast(F, E3));
      e = e.fma(f, FloatVector.broadcast(F, E2));
      e = e.fma(f, FloatVector.broadcast(F, E1));
      e = e.fma(f, FloatVector.broadcast(F, 1f));
      IntVector power = n.reinterpretAsInts().lanewise(VectorOperators.LSHL, 23);
      e = e.mul(power.reinterpretAsFloats());
      e = e.blend(FloatVector.zero(F), x.compare(VectorOperators.LT, LOWEST));
      e.intoMemorySegment(s, i + BEFORE, ORDER);
      FloatVector sum = FloatVector.fromMemorySegment(F, s, i + SUMS, ORDER);
      sum.fma(e, FloatVector.fromMemorySegment(F, s, i + ADDED, ORDER))
          .intoMemorySegment(s, i + SUMS, ORDER);
    }
    for (int r = 0; r < rows; r++) {
      float by = s.get(FLOAT, stats + BEFORE + r * 4L);
      if (by != 1) {
        long stop = o + (r + 1) * oStep;
        for (long i = o + r * oStep; i < stop; i += V) {
          FloatVector.fromMemorySegment(F, s, i, ORDER).mul(by).intoMemorySegment(s, i, ORDER);
        }
      }
    }
  }

  /** Divides rows by their sums on the way to the output. */
  static void normalise(
      MemorySegment s,
      long o,
      long oStep,
      long stats,
      MemorySegment out,
      long at,
      long step,
      int rows,
      int length) {
    s = Native.known(s);
    out = Native.known(out);
    VectorMask<Float> tail = F.indexInRange(length & -LANES, length);
    for (int r = 0; r < rows; r++) {
      float by = 1 / s.get(FLOAT, stats + SUMS + r * 4L);
      long from = o + r * oStep;
      long to = at + r * step;
      long whole = to + (length & -LANES) * 4L;
      for (; to < whole; to += V) {
        FloatVector.fromMemorySegment(F, s, from, ORDER).mul(by).intoMemorySegment(out, to, ORDER);
        from += V;
      }
      if ((length & LANES - 1) != 0) {
        FloatVector x = FloatVector.fromMemorySegment(F, s, from, ORDER);
        x.mul(by).intoMemorySegment(out, to, ORDER, tail);
      }
    }
  }

  /**
   * Computes {@code (max + log2(sum)) ln 2} for up to so many rows as a tile has. The logarithm is
   * that of Cephes (Moshier), over [sqrt(1/2), sqrt(2)).
   */
  static void logSumExp(MemorySegment s, long stats, MemorySegment lse, long at, int rows) {
    s = Native.known(s);
    lse = Native.known(lse);
    for (int r = 0; r < rows; r += LANES) {
      VectorMask<Float> here = F.indexInRange(r, rows);
      FloatVector x = FloatVector.fromMemorySegment(F, s, stats + SUMS + r * 4L, ORDER);
      IntVector bits = x.reinterpretAsInts();
      IntVector exponent = bits.sub(0x3f3504f3).lanewise(VectorOperators.ASHR, 23);
      FloatVector m =
          bits.sub(exponent.lanewise(VectorOperators.LSHL, 23)).reinterpretAsFloats().sub(1f);
      FloatVector y = FloatVector.broadcast(F, 7.0376836292e-2f);
      y = y.fma(m, FloatVector.broadcast(F, -1.1514610310e-1f));
      y = y.fma(m, FloatVector.broadcast(F, 1.1676998740e-1f));
      y = y.fma(m, FloatVector.broadcast(F, -1.2420140846e-1f));
      y = y.fma(m, FloatVector.broadcast(F, 1.4249322787e-1f));
      y = y.fma(m, FloatVector.broadcast(F, -1.6668057665e-1f));
      y = y.fma(m, FloatVector.broadcast(F, 2.0000714765e-1f));
      y = y.fma(m, FloatVector.broadcast(F, -2.4999993993e-1f));
      y = y.fma(m, FloatVector.broadcast(F, 3.3333331174e-1f));
      FloatVector square = m.mul(m);
      y = y.fma(m, FloatVector.broadcast(F, -0.5f)).fma(square, m);
      FloatVector e = (FloatVector) exponent.convert(VectorOperators.I2F, 0);
      FloatVector max = FloatVector.fromMemorySegment(F, s, stats + MAXIMA + r * 4L, ORDER);
      FloatVector result = e.add(max).fma(FloatVector.broadcast(F, LN_2), y);
      result = result.blend(Float.NEGATIVE_INFINITY, x.compare(VectorOperators.EQ, 0f));
      // Adds nothing to a number and makes a NaN of what is none.
      result = result.add(x.sub(x));
      result.intoMemorySegment(lse, at + r * 4L, ORDER, here);
    }
  }

  /**
   * Turns a tile's scores into probabilities and dP into dS, in place. Row r sees the first {@code
   * visible + r * more} of {@code depth} keys; the rest up to {@code width} becomes 0.
   *
   * @param lse one float a row, as a power of two
   * @param d one float a row, the sum of dO * O
   */
  static void gradients(
      MemorySegment s,
      long p,
      long ds,
      int rows,
      int visible,
      int more,
      int depth,
      int width,
      long lse,
      long d) {
    s = Native.known(s);
    FloatVector zero = FloatVector.zero(F);
    for (int r = 0; r < rows; r++) {
      long row = p + r * LD;
      long apart = ds - p;
      int length = Math.clamp(visible + (long) r * more, 0, depth);
      long whole = row + (length & -LANES) * 4L;
      long end = row + length * 4L;
      VectorMask<Float> tail = F.indexInRange(length & -LANES, length);
      FloatVector top = FloatVector.broadcast(F, s.get(FLOAT, lse + r * 4L));
      FloatVector mean = FloatVector.broadcast(F, s.get(FLOAT, d + r * 4L));
      long at = row;
      for (; at < end; at += V) {
        FloatVector x = FloatVector.fromMemorySegment(F, s, at, ORDER).sub(top);
        // A probability is at most 1 even where lse has lost the bits to say so.
        x = x.blend(zero, x.compare(VectorOperators.GT, zero));
        FloatVector n = x.add(ROUND);
        FloatVector f = x.sub(n.sub(ROUND));
        FloatVector e = f.fma(FloatVector.broadcast(F, E5), FloatVector.broadcast(F, E4));
        e = e.fma(f, FloatVector.broadcast(F, E3));
        e = e.fma(f, FloatVector.broadcast(F, E2));
        e = e.fma(f, FloatVector.broadcast(F, E1));
        e = e.fma(f, FloatVector.broadcast(F, 1f));
        IntVector power = n.reinterpretAsInts().lanewise(VectorOperators.LSHL, 23);
        e = e.mul(power.reinterpretAsFloats());
        e = e.blend(zero, x.compare(VectorOperators.LT, LOWEST));
        FloatVector g = FloatVector.fromMemorySegment(F, s, at + apart, ORDER).sub(mean).mul(e);
        if (at == whole) {
          e = zero.blend(e, tail);
          g = zero.blend(g, tail);
        }
        e.intoMemorySegment(s, at, ORDER);
        g.intoMemorySegment(s, at + apart, ORDER);
      }
      for (long stop = row + width * 4L; at < stop; at += V) {
        zero.intoMemorySegment(s, at, ORDER);
        zero.intoMemorySegment(s, at + apart, ORDER);
      }
    }
  }

  /** Writes lse as powers of two and the row sums of dO * O. */
  static void statistics(
      AttentionCall call, int sequence, int head, MemorySegment s, long lseAt, long dAt) {
    s = Native.known(s);
    int length = call.headSize;
    VectorMask<Float> tail = F.indexInRange(length & -LANES, length);
    long lse = call.lseAt(sequence, head);
    long o = call.out.at(sequence, head);
    long g = call.dOut.at(sequence, head);
    MemorySegment out = call.out.segment;
    MemorySegment dOut = call.dOut.segment;
    for (int row = 0; row < call.queries; row++) {
      s.set(FLOAT, lseAt + row * 4L, call.lse.get(FLOAT, lse + row * 4L) * LOG2_E);
      FloatVector sum = FloatVector.zero(F);
      long i = 0;
      for (long whole = (length & -LANES) * 4L; i < whole; i += V) {
        FloatVector x = FloatVector.fromMemorySegment(F, out, o + i, ORDER);
        sum = x.fma(FloatVector.fromMemorySegment(F, dOut, g + i, ORDER), sum);
      }
      if ((length & LANES - 1) != 0) {
        FloatVector x = FloatVector.fromMemorySegment(F, out, o + i, ORDER, tail);
        sum = x.fma(FloatVector.fromMemorySegment(F, dOut, g + i, ORDER, tail), sum);
      }
      sum = FloatVector.zero(F).add(sum);
      if (LANES > 8) {
        sum = sum.add(sum.rearrange(BY_8));
      }
      if (LANES > 4) {
        sum = sum.add(sum.rearrange(BY_4));
      }
      sum = sum.add(sum.rearrange(BY_2));
      sum = sum.add(sum.rearrange(BY_1));
      s.set(FLOAT, dAt + row * 4L, sum.lane(0));
      o += call.out.rowStep;
      g += call.dOut.rowStep;
    }
  }

  /** Applies keep bits from {@code bit} on to a row: kept floats are scaled, others become 0. */
  static void drop(
      MemorySegment keep, long bit, MemorySegment s, long row, int length, float scale) {
    keep = Native.known(keep);
    s = Native.known(s);
    FloatVector zero = FloatVector.zero(F);
    for (int i = 0; i < length; i += LANES) {
      long mask = bits(keep, bit + i, Math.min(LANES, length - i));
      FloatVector x = FloatVector.fromMemorySegment(F, s, row + i * 4L, ORDER).mul(scale);
      zero.blend(x, VectorMask.fromLong(F, mask)).intoMemorySegment(s, row + i * 4L, ORDER);
    }
  }

  /** Up to 16 bits of a mask, reading no byte that holds none of them. */
  private static long bits(MemorySegment keep, long bit, int count) {
    long first = bit >> 3;
    long last = (bit + count - 1) >> 3;
    long found = 0;
    for (long at = last; at >= first; at--) {
      found = found << 8 | keep.get(ValueLayout.JAVA_BYTE, at) & 0xff;
    }
    return found >> (bit & 7) & (1L << count) - 1;
  }
}
