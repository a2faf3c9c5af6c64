package dev.lanewise.simd;

import static dev.lanewise.simd.Machine.F;
import static dev.lanewise.simd.Machine.LANES;

import java.lang.foreign.MemorySegment;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorOperators;

/**
 * Gaussian error linear unit and its gradient, in two forms.
 *
 * <p>{@link Form#TANH}, which GPT-2 uses: {@code y = x/2 (1 + tanh u)} with {@code u = sqrt(2/pi)
 * (x + 0.044715 x^3)}, computed as the equal {@code x / (1 + e^-2u)}. {@link Form#ERF}, exact:
 * {@code y = x P(x)} with the normal distribution function P, and {@code y' = P(x) + x p(x)};
 * P(-|x|) is computed as {@code e^(-x^2/2)} times a polynomial in {@code 1 / (1 + 0.3 |x|)}, so the
 * lower tail keeps its relative precision. Both forms give -0 from x = -10 downwards.
 *
 * <p>Infinities follow the formulas: -inf gives NaN in both forms, +inf gives +inf in the tanh form
 * and NaN in the exact one, as in PyTorch. Gradients of finite arguments are finite.
 *
 * <p>Segments take offsets in floats; outputs may be exactly an input and may not overlap one
 * otherwise. A wrong call gives an {@link IllegalArgumentException} before anything is written.
 */
public final class Gelu {
  /** Which formula. */
  @SuppressWarnings("ImmutableEnumChecker") // The kernels have no state.
  public enum Form {
    /** With the hyperbolic tangent, as GPT-2 has it. */
    TANH(Gelu::tanhForward, Gelu::tanhBackward),
    /** With the error function, PyTorch's default. */
    ERF(Gelu::erfForward, Gelu::erfBackward);

    private final Call.Span forward;
    private final Call.Span backward;

    Form(Call.Span forward, Call.Span backward) {
      this.forward = forward;
      this.backward = backward;
    }
  }

  // -2u / x, the same times log2(e), and 2u' as polynomials of x^2.
  static final float U1 = -1.5957691216f;
  static final float U3 = -1.5957691216f * 0.044715f;
  static final float W1 = (float) (-1.5957691216 * 1.4426950408889634);
  static final float W3 = (float) (-1.5957691216 * 0.044715 * 1.4426950408889634);
  static final float DU1 = 1.5957691216f;
  static final float DU3 = 1.5957691216f * 0.134145f;

  /** Arguments of e^-2u from here on give y = -0; x = -10 is the first. */
  static final float TANH_ZERO = 87.31f;

  /**
   * Beyond this argument the gradient of the tanh form is 0 or 1. Up to it, e^2u has an exponent.
   */
  static final float TANH_FAR = 10f;

  /** Half of the square of -10, from where on the normal distribution counts as 0. */
  static final float ERF_ZERO = -49.99999f;

  static final float DENSITY = 0.3989422804f;

  // P(-x) = e^(-x^2/2) (R1 t + ... + R8 t^8), t = 1 / (1 + 0.3 x).
  static final float R0 = 0.3f;
  static final float R1 = 0.119605042f;
  static final float R2 = 0.121111237f;
  static final float R3 = 0.0977559611f;
  static final float R4 = 0.135496631f;
  static final float R5 = -0.0665246174f;
  static final float R6 = 0.220085248f;
  static final float R7 = -0.165077507f;
  static final float R8 = 0.0375480317f;

  private static final ByteOrder ORDER = ByteOrder.nativeOrder();

  private Gelu() {}

  /**
   * {@code y = gelu(x)}.
   *
   * @param form which formula
   * @param x {@code n} floats from {@code xOffset}
   * @param xOffset first float of {@code x}
   * @param y {@code n} floats from {@code yOffset}; may be exactly {@code x}
   * @param yOffset first float of {@code y}
   * @param n number of elements
   */
  public static void forward(
      Form form, MemorySegment x, long xOffset, MemorySegment y, long yOffset, long n) {
    Checks.present("form", form);
    VectorMath.map(x, xOffset, y, yOffset, n, form.forward);
  }

  /** {@code y = gelu(x)} for each element; {@code y} may be exactly {@code x}. */
  public static void forward(Form form, Matrix x, Matrix y) {
    Checks.present("form", form);
    VectorMath.map(x, y, form.forward);
  }

  /**
   * {@code dx = dy gelu'(x)}.
   *
   * @param form which formula
   * @param x {@code n} floats, the argument of the forward pass
   * @param xOffset first float of {@code x}
   * @param dy {@code n} floats, gradient of the result
   * @param dyOffset first float of {@code dy}
   * @param dx {@code n} floats; may be exactly {@code x} or {@code dy}
   * @param dxOffset first float of {@code dx}
   * @param n number of elements
   * @param accumulate whether the gradient is added to {@code dx}, or else overwrites it
   */
  public static void backward(
      Form form,
      MemorySegment x,
      long xOffset,
      MemorySegment dy,
      long dyOffset,
      MemorySegment dx,
      long dxOffset,
      long n,
      boolean accumulate) {
    Checks.present("form", form);
    try (Call call = Call.take()) {
      call.input("x", x, xOffset, n);
      call.input("dy", dy, dyOffset, n);
      call.output("dx", dx, dxOffset, n);
      backward(call, 1, n, form, accumulate);
    }
  }

  /**
   * {@code dx = dy gelu'(x)} for each element; {@code dx} may be exactly {@code x} or {@code dy}.
   */
  public static void backward(Form form, Matrix x, Matrix dy, Matrix dx, boolean accumulate) {
    Checks.present("form", form);
    Call.sameShape("x", x, "dy", dy);
    Call.sameShape("x", x, "dx", dx);
    try (Call call = Call.take()) {
      call.input("x", x);
      call.input("dy", dy);
      call.output("dx", dx);
      backward(call, x.rows(), x.cols(), form, accumulate);
    }
  }

  private static void backward(Call call, long rows, long cols, Form form, boolean accumulate) {
    call.mayBeSame(2, 0);
    call.mayBeSame(2, 1);
    call.flag = accumulate;
    call.spans(rows, cols, form.backward);
  }

  private static void tanhForward(Call call, long row, long col, int n) {
    MemorySegment x = Native.known(call.segment[0]);
    MemorySegment y = Native.known(call.segment[1]);
    long xAt = call.at(0, row, col);
    long yAt = call.at(1, row, col);
    FloatVector one = FloatVector.broadcast(F, 1f);
    FloatVector least = FloatVector.broadcast(F, VectorMath.EXP_ZERO);
    for (int i = 0; i < n; i += LANES) {
      long at = (long) i * Float.BYTES;
      FloatVector v = FloatVector.fromMemorySegment(F, x, xAt + at, ORDER);
      FloatVector z = v.mul(v);
      FloatVector w = z.fma(FloatVector.broadcast(F, U3), FloatVector.broadcast(F, U1)).mul(v);
      FloatVector c = w.blend(least, w.compare(VectorOperators.LT, least));
      FloatVector shifted =
          c.fma(
              FloatVector.broadcast(F, VectorMath.LOG2_E),
              FloatVector.broadcast(F, VectorMath.ROUND));
      FloatVector k = shifted.sub(VectorMath.ROUND);
      FloatVector r = k.fma(FloatVector.broadcast(F, -VectorMath.LN2), c);
      FloatVector p =
          r.fma(FloatVector.broadcast(F, VectorMath.E6), FloatVector.broadcast(F, VectorMath.E5));
      p = p.fma(r, FloatVector.broadcast(F, VectorMath.E4));
      p = p.fma(r, FloatVector.broadcast(F, VectorMath.E3));
      p = p.fma(r, FloatVector.broadcast(F, VectorMath.E2));
      p = p.fma(r.mul(r), r).add(1f);
      FloatVector e =
          p.mul(
              shifted
                  .reinterpretAsInts()
                  .lanewise(VectorOperators.LSHL, VectorMath.EXPONENT)
                  .reinterpretAsFloats());
      v.mul(one.div(e.add(one)).blend(0f, w.compare(VectorOperators.GE, TANH_ZERO)))
          .intoMemorySegment(y, yAt + at, ORDER);
    }
  }

  private static void tanhBackward(Call call, long row, long col, int n) {
    MemorySegment x = Native.known(call.segment[0]);
    MemorySegment dy = Native.known(call.segment[1]);
    MemorySegment dx = Native.known(call.segment[2]);
    long xAt = call.at(0, row, col);
    long dyAt = call.at(1, row, col);
    long dxAt = call.at(2, row, col);
    boolean accumulate = call.flag;
    FloatVector one = FloatVector.broadcast(F, 1f);
    FloatVector far = FloatVector.broadcast(F, TANH_FAR);
    for (int i = 0; i < n; i += LANES) {
      long at = (long) i * Float.BYTES;
      FloatVector v = FloatVector.fromMemorySegment(F, x, xAt + at, ORDER);
      // The gradient is flat beyond the clamp, and the cube cannot overflow within it. x - x is 0
      // for a finite x and NaN for an infinite one.
      FloatVector infinite = v.sub(v);
      v = v.blend(far, v.compare(VectorOperators.GT, far));
      v = v.blend(far.neg(), v.compare(VectorOperators.LT, far.neg()));
      FloatVector z = v.mul(v);
      FloatVector w = z.fma(FloatVector.broadcast(F, W3), FloatVector.broadcast(F, W1)).mul(v);
      FloatVector slope =
          z.fma(FloatVector.broadcast(F, DU3), FloatVector.broadcast(F, DU1)).fma(v, infinite);
      FloatVector shifted = w.add(VectorMath.ROUND_ONLY);
      FloatVector r = w.sub(shifted.sub(VectorMath.ROUND_ONLY));
      FloatVector p =
          r.fma(FloatVector.broadcast(F, VectorMath.P6), FloatVector.broadcast(F, VectorMath.P5));
      p = p.fma(r, FloatVector.broadcast(F, VectorMath.P4));
      p = p.fma(r, FloatVector.broadcast(F, VectorMath.P3));
      p = p.fma(r, FloatVector.broadcast(F, VectorMath.P2));
      p = p.fma(r, FloatVector.broadcast(F, VectorMath.P1)).fma(r, one);
      FloatVector e =
          p.reinterpretAsInts()
              .add(shifted.reinterpretAsInts().lanewise(VectorOperators.LSHL, VectorMath.EXPONENT))
              .reinterpretAsFloats();
      // With s = 1 / (1 + e): y' = s + x s (1 - s) 2u', and 1 - s = e s.
      FloatVector s = one.div(e.add(one));
      FloatVector derivative = s.mul(e).fma(s.mul(slope), s);
      FloatVector g = derivative.mul(FloatVector.fromMemorySegment(F, dy, dyAt + at, ORDER));
      if (accumulate) {
        g = g.add(FloatVector.fromMemorySegment(F, dx, dxAt + at, ORDER));
      }
      g.intoMemorySegment(dx, dxAt + at, ORDER);
    }
  }

  private static void erfForward(Call call, long row, long col, int n) {
    MemorySegment x = Native.known(call.segment[0]);
    MemorySegment y = Native.known(call.segment[1]);
    long xAt = call.at(0, row, col);
    long yAt = call.at(1, row, col);
    FloatVector one = FloatVector.broadcast(F, 1f);
    for (int i = 0; i < n; i += LANES) {
      long at = (long) i * Float.BYTES;
      FloatVector v = FloatVector.fromMemorySegment(F, x, xAt + at, ORDER);
      FloatVector a = v.abs();
      FloatVector c = a.mul(a).mul(-0.5f);
      c = c.blend(VectorMath.EXP_ZERO, c.compare(VectorOperators.LT, ERF_ZERO));
      FloatVector shifted =
          c.fma(
              FloatVector.broadcast(F, VectorMath.LOG2_E),
              FloatVector.broadcast(F, VectorMath.ROUND));
      FloatVector k = shifted.sub(VectorMath.ROUND);
      FloatVector r = k.fma(FloatVector.broadcast(F, -VectorMath.LN2), c);
      FloatVector p =
          r.fma(FloatVector.broadcast(F, VectorMath.E6), FloatVector.broadcast(F, VectorMath.E5));
      p = p.fma(r, FloatVector.broadcast(F, VectorMath.E4));
      p = p.fma(r, FloatVector.broadcast(F, VectorMath.E3));
      p = p.fma(r, FloatVector.broadcast(F, VectorMath.E2));
      p = p.fma(r.mul(r), r).add(1f);
      FloatVector e =
          p.mul(
              shifted
                  .reinterpretAsInts()
                  .lanewise(VectorOperators.LSHL, VectorMath.EXPONENT)
                  .reinterpretAsFloats());
      FloatVector t = one.div(a.fma(FloatVector.broadcast(F, R0), one));
      FloatVector q = t.fma(FloatVector.broadcast(F, R8), FloatVector.broadcast(F, R7));
      q = q.fma(t, FloatVector.broadcast(F, R6));
      q = q.fma(t, FloatVector.broadcast(F, R5));
      q = q.fma(t, FloatVector.broadcast(F, R4));
      q = q.fma(t, FloatVector.broadcast(F, R3));
      q = q.fma(t, FloatVector.broadcast(F, R2));
      q = q.fma(t, FloatVector.broadcast(F, R1));
      q = q.mul(t).mul(e);
      q = q.blend(one.sub(q), v.compare(VectorOperators.GT, 0f));
      // x - x is 0 for a finite x and NaN for an infinite one.
      v.mul(q).sub(v.sub(v)).intoMemorySegment(y, yAt + at, ORDER);
    }
  }

  private static void erfBackward(Call call, long row, long col, int n) {
    MemorySegment x = Native.known(call.segment[0]);
    MemorySegment dy = Native.known(call.segment[1]);
    MemorySegment dx = Native.known(call.segment[2]);
    long xAt = call.at(0, row, col);
    long dyAt = call.at(1, row, col);
    long dxAt = call.at(2, row, col);
    boolean accumulate = call.flag;
    FloatVector one = FloatVector.broadcast(F, 1f);
    for (int i = 0; i < n; i += LANES) {
      long at = (long) i * Float.BYTES;
      FloatVector v = FloatVector.fromMemorySegment(F, x, xAt + at, ORDER);
      FloatVector a = v.abs();
      FloatVector c = a.mul(a).mul(-0.5f);
      c = c.blend(VectorMath.EXP_ZERO, c.compare(VectorOperators.LT, ERF_ZERO));
      FloatVector shifted =
          c.fma(
              FloatVector.broadcast(F, VectorMath.LOG2_E),
              FloatVector.broadcast(F, VectorMath.ROUND));
      FloatVector k = shifted.sub(VectorMath.ROUND);
      FloatVector r = k.fma(FloatVector.broadcast(F, -VectorMath.LN2), c);
      FloatVector p =
          r.fma(FloatVector.broadcast(F, VectorMath.E6), FloatVector.broadcast(F, VectorMath.E5));
      p = p.fma(r, FloatVector.broadcast(F, VectorMath.E4));
      p = p.fma(r, FloatVector.broadcast(F, VectorMath.E3));
      p = p.fma(r, FloatVector.broadcast(F, VectorMath.E2));
      p = p.fma(r.mul(r), r).add(1f);
      FloatVector e =
          p.mul(
              shifted
                  .reinterpretAsInts()
                  .lanewise(VectorOperators.LSHL, VectorMath.EXPONENT)
                  .reinterpretAsFloats());
      FloatVector t = one.div(a.fma(FloatVector.broadcast(F, R0), one));
      FloatVector q = t.fma(FloatVector.broadcast(F, R8), FloatVector.broadcast(F, R7));
      q = q.fma(t, FloatVector.broadcast(F, R6));
      q = q.fma(t, FloatVector.broadcast(F, R5));
      q = q.fma(t, FloatVector.broadcast(F, R4));
      q = q.fma(t, FloatVector.broadcast(F, R3));
      q = q.fma(t, FloatVector.broadcast(F, R2));
      q = q.fma(t, FloatVector.broadcast(F, R1));
      q = q.mul(t).mul(e);
      q = q.blend(one.sub(q), v.compare(VectorOperators.GT, 0f));
      FloatVector derivative = v.mul(DENSITY).fma(e, q);
      FloatVector g = derivative.mul(FloatVector.fromMemorySegment(F, dy, dyAt + at, ORDER));
      if (accumulate) {
        g = g.add(FloatVector.fromMemorySegment(F, dx, dxAt + at, ORDER));
      }
      g.intoMemorySegment(dx, dxAt + at, ORDER);
    }
  }
}
