package dev.lanewise.simd;

import static dev.lanewise.simd.Machine.F;
import static dev.lanewise.simd.Machine.LANES;

import java.lang.foreign.MemorySegment;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.VectorOperators;

/**
 * Exponential, logarithm, hyperbolic tangent and error function of float segments.
 *
 * <p>Largest errors over all float inputs, denormal arguments and results included, measured
 * against the correctly rounded result: exp 1.01 ulp, log 1.42 ulp, tanh 1.05 ulp, erf 1.10 ulp.
 * Special values are those of {@link Math}: NaN gives NaN, exp(-inf) is 0, log(0) is -inf, log of a
 * negative number NaN, tanh and erf of infinities are 1 with the sign, and of -0 are -0.
 *
 * <p>Each function takes segments with offsets counted in floats, or {@link Matrix} views of equal
 * shape. The output may be exactly the input, and may not overlap it otherwise. Polynomials are
 * minimax fits in float coefficients; arguments are reduced as is usual (Cody and Waite).
 */
public final class VectorMath {
  // e^r = 1 + r + r^2 (E2 + E3 r + ...) for |r| <= ln(2)/2.
  static final float E2 = 0.49999994f;
  static final float E3 = 0.166665167f;
  static final float E4 = 0.0416681021f;
  static final float E5 = 0.00836919248f;
  static final float E6 = 0.0013838812f;

  // 2^r = 1 + P1 r + P2 r^2 + ... for |r| <= 1/2.
  static final float P1 = 0.6931472f;
  static final float P2 = 0.24022648f;
  static final float P3 = 0.055503324f;
  static final float P4 = 0.009618437f;
  static final float P5 = 0.0013398875f;
  static final float P6 = 0.00015353362f;

  static final float LOG2_E = 1.44269504f;
  static final float LN2 = 0.693147182f;

  /** What {@link #LN2} lacks to the logarithm of 2. */
  static final float LN2_LOW = -1.90465421e-9f;

  /**
   * Adding this to a number rounds it to an integer n, and leaves n + 127, the exponent of 2^n, in
   * the low bits.
   */
  static final float ROUND = 0x1.8p23f + 127;

  /** Adding this to a number rounds it to an integer n, which it leaves in the low bits. */
  static final float ROUND_ONLY = 0x1.8p23f;

  /** As {@link #ROUND} with twice the bias, for a power of two that is made of two factors. */
  static final float ROUND_TWICE = 0x1.8p23f + 254;

  /** Position of a float's exponent. */
  static final int EXPONENT = 23;

  /** At and below this, {@link #ROUND} gives an exponent of 0, so 2^n becomes zero. */
  static final float EXP_ZERO = -88f;

  private static final ByteOrder ORDER = ByteOrder.nativeOrder();

  private VectorMath() {}

  /**
   * {@code y = e^x}.
   *
   * @param x {@code n} floats from {@code xOffset}
   * @param y {@code n} floats from {@code yOffset}; may be exactly {@code x}
   * @throws IllegalArgumentException if a segment is too short, closed, confined to another thread
   *     or, for {@code y}, read-only, or if the two overlap without being the same
   */
  public static void exp(MemorySegment x, long xOffset, MemorySegment y, long yOffset, long n) {
    map(x, xOffset, y, yOffset, n, VectorMath::exp);
  }

  /**
   * {@code y = e^x} for each element; see {@link #exp(MemorySegment, long, MemorySegment, long,
   * long)}.
   */
  public static void exp(Matrix x, Matrix y) {
    map(x, y, VectorMath::exp);
  }

  /** Natural logarithm; see {@link #exp(MemorySegment, long, MemorySegment, long, long)}. */
  public static void log(MemorySegment x, long xOffset, MemorySegment y, long yOffset, long n) {
    map(x, xOffset, y, yOffset, n, VectorMath::log);
  }

  /** Natural logarithm of each element. */
  public static void log(Matrix x, Matrix y) {
    map(x, y, VectorMath::log);
  }

  /** Hyperbolic tangent; see {@link #exp(MemorySegment, long, MemorySegment, long, long)}. */
  public static void tanh(MemorySegment x, long xOffset, MemorySegment y, long yOffset, long n) {
    map(x, xOffset, y, yOffset, n, VectorMath::tanh);
  }

  /** Hyperbolic tangent of each element. */
  public static void tanh(Matrix x, Matrix y) {
    map(x, y, VectorMath::tanh);
  }

  /** Error function; see {@link #exp(MemorySegment, long, MemorySegment, long, long)}. */
  public static void erf(MemorySegment x, long xOffset, MemorySegment y, long yOffset, long n) {
    map(x, xOffset, y, yOffset, n, VectorMath::erf);
  }

  /** Error function of each element. */
  public static void erf(Matrix x, Matrix y) {
    map(x, y, VectorMath::erf);
  }

  static void map(
      MemorySegment x, long xOffset, MemorySegment y, long yOffset, long n, Call.Span kernel) {
    try (Call call = Call.take()) {
      call.input("x", x, xOffset, n);
      call.output("y", y, yOffset, n);
      call.mayBeSame(1, 0);
      call.spans(1, n, kernel);
    }
  }

  static void map(Matrix x, Matrix y, Call.Span kernel) {
    Call.sameShape("x", x, "y", y);
    try (Call call = Call.take()) {
      call.input("x", x);
      call.output("y", y);
      call.mayBeSame(1, 0);
      call.spans(x.rows(), x.cols(), kernel);
    }
  }

  // The loops are written out flat: a helper that takes or returns a vector may be left out of line
  // by the compiler, and then each vector is boxed.

  static void exp(Call call, long row, long col, int n) {
    MemorySegment x = Native.known(call.segment[0]);
    MemorySegment y = Native.known(call.segment[1]);
    long xAt = call.at(0, row, col);
    long yAt = call.at(1, row, col);
    FloatVector least = FloatVector.broadcast(F, -104.5f);
    FloatVector most = FloatVector.broadcast(F, 89f);
    for (int i = 0; i < n; i += LANES) {
      long at = (long) i * Float.BYTES;
      FloatVector v = FloatVector.fromMemorySegment(F, x, xAt + at, ORDER);
      v = v.blend(least, v.compare(VectorOperators.LT, least));
      v = v.blend(most, v.compare(VectorOperators.GT, most));
      FloatVector shifted =
          v.fma(FloatVector.broadcast(F, LOG2_E), FloatVector.broadcast(F, ROUND_TWICE));
      FloatVector k = shifted.sub(ROUND_TWICE);
      FloatVector r = k.fma(FloatVector.broadcast(F, -LN2), v);
      r = k.fma(FloatVector.broadcast(F, -LN2_LOW), r);
      FloatVector p = r.fma(FloatVector.broadcast(F, E6), FloatVector.broadcast(F, E5));
      p = p.fma(r, FloatVector.broadcast(F, E4));
      p = p.fma(r, FloatVector.broadcast(F, E3));
      p = p.fma(r, FloatVector.broadcast(F, E2));
      p = p.fma(r.mul(r), r).add(1f);
      // The power of two in two factors, so that denormal results and the largest are right.
      IntVector bits = shifted.reinterpretAsInts();
      IntVector half =
          bits.lanewise(VectorOperators.ASHR, 1).lanewise(VectorOperators.LSHL, EXPONENT);
      IntVector rest = bits.lanewise(VectorOperators.LSHL, EXPONENT).sub(half);
      p.mul(half.reinterpretAsFloats())
          .mul(rest.reinterpretAsFloats())
          .intoMemorySegment(y, yAt + at, ORDER);
    }
  }

  static void log(Call call, long row, long col, int n) {
    MemorySegment x = Native.known(call.segment[0]);
    MemorySegment y = Native.known(call.segment[1]);
    long xAt = call.at(0, row, col);
    long yAt = call.at(1, row, col);
    FloatVector normal = FloatVector.broadcast(F, Float.MIN_NORMAL);
    FloatVector infinity = FloatVector.broadcast(F, Float.POSITIVE_INFINITY);
    for (int i = 0; i < n; i += LANES) {
      long at = (long) i * Float.BYTES;
      FloatVector v = FloatVector.fromMemorySegment(F, x, xAt + at, ORDER);
      var small = v.compare(VectorOperators.LT, normal);
      // x = m 2^e with m in [2/3, 4/3): the exponent is taken off relative to the bits of 2/3.
      IntVector bits = v.blend(v.mul(0x1p23f), small).reinterpretAsInts();
      IntVector exponent = bits.sub(0x3f2aaaab).and(0xff800000);
      FloatVector f = bits.sub(exponent).reinterpretAsFloats().sub(1f);
      FloatVector e = ((FloatVector) exponent.convert(VectorOperators.I2F, 0)).mul(0x1p-23f);
      e = e.blend(e.sub(23f), small);
      FloatVector p =
          f.fma(FloatVector.broadcast(F, -0.124367222f), FloatVector.broadcast(F, 0.140416592f));
      p = p.fma(f, FloatVector.broadcast(F, -0.122726157f));
      p = p.fma(f, FloatVector.broadcast(F, 0.139895558f));
      p = p.fma(f, FloatVector.broadcast(F, -0.166744515f));
      p = p.fma(f, FloatVector.broadcast(F, 0.20011434f));
      p = p.fma(f, FloatVector.broadcast(F, -0.249999195f));
      p = p.fma(f, FloatVector.broadcast(F, 0.333331972f));
      p = p.fma(f, FloatVector.broadcast(F, -0.5f));
      p = p.fma(f.mul(f), f);
      FloatVector result = e.fma(FloatVector.broadcast(F, LN2), p);
      FloatVector zero = FloatVector.zero(F);
      // NaN for negative arguments; infinity and NaN are their own logarithms.
      result = result.blend(Float.NEGATIVE_INFINITY, v.compare(VectorOperators.EQ, zero));
      result = result.blend(Float.NaN, v.compare(VectorOperators.LT, zero));
      result = result.blend(v, v.compare(VectorOperators.LT, infinity).not());
      result.intoMemorySegment(y, yAt + at, ORDER);
    }
  }

  static void tanh(Call call, long row, long col, int n) {
    MemorySegment x = Native.known(call.segment[0]);
    MemorySegment y = Native.known(call.segment[1]);
    long xAt = call.at(0, row, col);
    long yAt = call.at(1, row, col);
    FloatVector most = FloatVector.broadcast(F, 9.1f);
    for (int i = 0; i < n; i += LANES) {
      long at = (long) i * Float.BYTES;
      FloatVector v = FloatVector.fromMemorySegment(F, x, xAt + at, ORDER);
      FloatVector a = v.abs();
      // Near zero an odd polynomial.
      FloatVector z = a.mul(a);
      FloatVector s =
          z.fma(
              FloatVector.broadcast(F, 0.00158703804f), FloatVector.broadcast(F, -0.00741416961f));
      s = s.fma(z, FloatVector.broadcast(F, 0.0213065259f));
      s = s.fma(z, FloatVector.broadcast(F, -0.0538535975f));
      s = s.fma(z, FloatVector.broadcast(F, 0.133322418f));
      s = s.fma(z, FloatVector.broadcast(F, -0.333332986f));
      FloatVector near = s.mul(z).fma(a, a);
      // Elsewhere 1 - 2 / (e^2x + 1).
      FloatVector c = a.blend(most, a.compare(VectorOperators.GT, most));
      FloatVector shifted =
          c.fma(FloatVector.broadcast(F, 2 * LOG2_E), FloatVector.broadcast(F, ROUND));
      FloatVector k = shifted.sub(ROUND);
      FloatVector r = k.fma(FloatVector.broadcast(F, -LN2), c.add(c));
      FloatVector p = r.fma(FloatVector.broadcast(F, E6), FloatVector.broadcast(F, E5));
      p = p.fma(r, FloatVector.broadcast(F, E4));
      p = p.fma(r, FloatVector.broadcast(F, E3));
      p = p.fma(r, FloatVector.broadcast(F, E2));
      p = p.fma(r.mul(r), r).add(1f);
      FloatVector power =
          shifted
              .reinterpretAsInts()
              .lanewise(VectorOperators.LSHL, EXPONENT)
              .reinterpretAsFloats();
      FloatVector one = FloatVector.broadcast(F, 1f);
      FloatVector far = one.sub(FloatVector.broadcast(F, 2f).div(p.fma(power, one)));
      FloatVector result = far.blend(near, a.compare(VectorOperators.LT, 0.8f));
      IntVector sign = v.reinterpretAsInts().and(0x80000000);
      result
          .reinterpretAsInts()
          .or(sign)
          .reinterpretAsFloats()
          .intoMemorySegment(y, yAt + at, ORDER);
    }
  }

  static void erf(Call call, long row, long col, int n) {
    MemorySegment x = Native.known(call.segment[0]);
    MemorySegment y = Native.known(call.segment[1]);
    long xAt = call.at(0, row, col);
    long yAt = call.at(1, row, col);
    FloatVector most = FloatVector.broadcast(F, 4f);
    for (int i = 0; i < n; i += LANES) {
      long at = (long) i * Float.BYTES;
      FloatVector v = FloatVector.fromMemorySegment(F, x, xAt + at, ORDER);
      FloatVector a = v.abs();
      // Near zero an odd polynomial.
      FloatVector z = a.mul(a);
      FloatVector s =
          z.fma(
              FloatVector.broadcast(F, -0.000602079846f), FloatVector.broadcast(F, 0.00499895914f));
      s = s.fma(z, FloatVector.broadcast(F, -0.026770493f));
      s = s.fma(z, FloatVector.broadcast(F, 0.112819217f));
      s = s.fma(z, FloatVector.broadcast(F, -0.376125038f));
      s = s.fma(z, FloatVector.broadcast(F, 0.128379151f));
      FloatVector near = s.fma(a, a);
      // Elsewhere 1 - e^h with a polynomial h, the logarithm of erfc.
      FloatVector c = a.blend(most, a.compare(VectorOperators.GT, most));
      FloatVector h =
          c.fma(
              FloatVector.broadcast(F, 0.000198219874f), FloatVector.broadcast(F, -0.00306549389f));
      h = h.fma(c, FloatVector.broadcast(F, 0.0223152284f));
      h = h.fma(c, FloatVector.broadcast(F, -0.104113705f));
      h = h.fma(c, FloatVector.broadcast(F, -0.636976063f));
      h = h.fma(c, FloatVector.broadcast(F, -1.12779725f));
      h = h.fma(c, FloatVector.broadcast(F, -0.000166449798f));
      FloatVector shifted =
          h.fma(FloatVector.broadcast(F, LOG2_E), FloatVector.broadcast(F, ROUND));
      FloatVector k = shifted.sub(ROUND);
      FloatVector r = k.fma(FloatVector.broadcast(F, -LN2), h);
      FloatVector p = r.fma(FloatVector.broadcast(F, E6), FloatVector.broadcast(F, E5));
      p = p.fma(r, FloatVector.broadcast(F, E4));
      p = p.fma(r, FloatVector.broadcast(F, E3));
      p = p.fma(r, FloatVector.broadcast(F, E2));
      p = p.fma(r.mul(r), r).add(1f);
      FloatVector power =
          shifted
              .reinterpretAsInts()
              .lanewise(VectorOperators.LSHL, EXPONENT)
              .reinterpretAsFloats();
      FloatVector one = FloatVector.broadcast(F, 1f);
      FloatVector far = one.sub(p.mul(power));
      FloatVector result = far.blend(near, a.compare(VectorOperators.LT, 0.9f));
      IntVector sign = v.reinterpretAsInts().and(0x80000000);
      result
          .reinterpretAsInts()
          .or(sign)
          .reinterpretAsFloats()
          .intoMemorySegment(y, yAt + at, ORDER);
    }
  }
}
