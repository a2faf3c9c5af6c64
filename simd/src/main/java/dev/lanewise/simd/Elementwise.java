package dev.lanewise.simd;

import static dev.lanewise.simd.Machine.F;
import static dev.lanewise.simd.Machine.LANES;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorOperators;

/**
 * Elementwise arithmetic over float segments: functions of one and of two arguments, their
 * gradients, scaling, filling and copying.
 *
 * <p>Every kernel takes segments with offsets and a length counted in floats, or {@link Matrix}
 * views. Outputs may be exactly an input of the same shape and may not overlap one otherwise. All
 * run on the {@link Workers} and allocate nothing.
 *
 * <p>A wrong shape, a segment that is too short, closed, confined to another thread or, where it is
 * written, read-only, and a forbidden overlap give an {@link IllegalArgumentException} before
 * anything is written.
 */
public final class Elementwise {
  /** Functions of one argument. */
  @SuppressWarnings("ImmutableEnumChecker") // The kernels have no state.
  public enum Unary {
    /** e to the x. */
    EXP(VectorMath::exp, Elementwise::expBackward),
    /** Natural logarithm. */
    LOG(VectorMath::log, Elementwise::logBackward),
    /** Hyperbolic tangent. */
    TANH(VectorMath::tanh, Elementwise::tanhBackward),
    /** {@code 1 / (1 + e^-x)}. */
    SIGMOID(Elementwise::sigmoid, Elementwise::sigmoidBackward),
    /** {@code max(0, x)}; NaN stays NaN, the gradient at 0 is 0. */
    RELU(Elementwise::relu, Elementwise::reluBackward),
    /** Square root. */
    SQRT(Elementwise::sqrt, Elementwise::sqrtBackward),
    /** {@code x * x}. */
    SQUARE(Elementwise::square, Elementwise::squareBackward),
    /** {@code -x}. */
    NEGATE(Elementwise::negate, Elementwise::negateBackward),
    /** {@code 1 / x}. */
    RECIPROCAL(Elementwise::reciprocal, Elementwise::reciprocalBackward);

    private final Call.Span forward;
    private final Call.Span backward;

    Unary(Call.Span forward, Call.Span backward) {
      this.forward = forward;
      this.backward = backward;
    }

    /** Whether the gradient is computed from the argument, or else from the result. */
    private boolean needsArgument() {
      return this == LOG || this == RELU || this == SQUARE;
    }
  }

  /** Functions of two arguments. */
  @SuppressWarnings("ImmutableEnumChecker") // The kernels have no state.
  public enum Binary {
    /** {@code a + b}. */
    ADD(Elementwise::add),
    /** {@code a - b}. */
    SUBTRACT(Elementwise::subtract),
    /** {@code a * b}. */
    MULTIPLY(Elementwise::multiply),
    /** {@code a / b}. */
    DIVIDE(Elementwise::divide);

    private final Call.Span kernel;

    Binary(Call.Span kernel) {
      this.kernel = kernel;
    }
  }

  private static final ByteOrder ORDER = ByteOrder.nativeOrder();
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;

  private Elementwise() {}

  /**
   * {@code y = f(x)}.
   *
   * @param f the function
   * @param x {@code n} floats from {@code xOffset}
   * @param xOffset first float of {@code x}
   * @param y {@code n} floats from {@code yOffset}; may be exactly {@code x}
   * @param yOffset first float of {@code y}
   * @param n number of elements
   */
  public static void apply(
      Unary f, MemorySegment x, long xOffset, MemorySegment y, long yOffset, long n) {
    Checks.present("f", f);
    VectorMath.map(x, xOffset, y, yOffset, n, f.forward);
  }

  /**
   * {@code y = f(x)} for each element.
   *
   * @param f the function
   * @param x {@code [rows, cols]}
   * @param y {@code [rows, cols]}; may be exactly {@code x}
   */
  public static void apply(Unary f, Matrix x, Matrix y) {
    Checks.present("f", f);
    VectorMath.map(x, y, f.forward);
  }

  /**
   * Gradient of {@link #apply(Unary, MemorySegment, long, MemorySegment, long, long)}: {@code dx =
   * dy * f'(x)}.
   *
   * @param f the function
   * @param x {@code n} floats, its argument; read by LOG, RELU and SQUARE, else it may be null
   * @param xOffset first float of {@code x}
   * @param y {@code n} floats, its result; read by the other functions, else it may be null
   * @param yOffset first float of {@code y}
   * @param dy {@code n} floats, gradient of {@code y}
   * @param dyOffset first float of {@code dy}
   * @param dx {@code n} floats; may be exactly any of the others
   * @param dxOffset first float of {@code dx}
   * @param n number of elements
   * @param accumulate whether the gradient is added to {@code dx}, or else overwrites it
   */
  public static void backward(
      Unary f,
      MemorySegment x,
      long xOffset,
      MemorySegment y,
      long yOffset,
      MemorySegment dy,
      long dyOffset,
      MemorySegment dx,
      long dxOffset,
      long n,
      boolean accumulate) {
    Checks.present("f", f);
    try (Call call = Call.take()) {
      if (f == Unary.NEGATE) {
        call.input("dy", dy, dyOffset, n);
      } else if (f.needsArgument()) {
        call.input("x", x, xOffset, n);
      } else {
        call.input("y", y, yOffset, n);
      }
      call.input("dy", dy, dyOffset, n);
      call.output("dx", dx, dxOffset, n);
      call.mayBeSame(2, 0);
      call.mayBeSame(2, 1);
      call.flag = accumulate;
      call.spans(1, n, f.backward);
    }
  }

  /**
   * Gradient of {@link #apply(Unary, Matrix, Matrix)}; all shapes are equal.
   *
   * @param f the function
   * @param x its argument; read by LOG, RELU and SQUARE, else it may be null
   * @param y its result; read by the other functions, else it may be null
   * @param dy gradient of {@code y}
   * @param dx receives the gradient; may be exactly any of the others
   * @param accumulate whether the gradient is added to {@code dx}, or else overwrites it
   */
  public static void backward(
      Unary f, Matrix x, Matrix y, Matrix dy, Matrix dx, boolean accumulate) {
    Checks.present("f", f);
    Matrix read = f == Unary.NEGATE ? dy : f.needsArgument() ? x : y;
    String name = f.needsArgument() ? "x" : "y";
    Call.sameShape("dy", dy, name, read);
    Call.sameShape("dy", dy, "dx", dx);
    try (Call call = Call.take()) {
      call.input(name, read);
      call.input("dy", dy);
      call.output("dx", dx);
      call.mayBeSame(2, 0);
      call.mayBeSame(2, 1);
      call.flag = accumulate;
      call.spans(dy.rows(), dy.cols(), f.backward);
    }
  }

  /**
   * {@code y = f(a, b)}.
   *
   * @param f the function
   * @param a {@code n} floats from {@code aOffset}
   * @param aOffset first float of {@code a}
   * @param b {@code n} floats from {@code bOffset}
   * @param bOffset first float of {@code b}
   * @param y {@code n} floats from {@code yOffset}; may be exactly {@code a} or {@code b}
   * @param yOffset first float of {@code y}
   * @param n number of elements
   */
  public static void apply(
      Binary f,
      MemorySegment a,
      long aOffset,
      MemorySegment b,
      long bOffset,
      MemorySegment y,
      long yOffset,
      long n) {
    Checks.present("f", f);
    try (Call call = Call.take()) {
      call.input("a", a, aOffset, n);
      call.input("b", b, bOffset, n);
      call.output("y", y, yOffset, n);
      call.mayBeSame(2, 0);
      call.mayBeSame(2, 1);
      call.spans(1, n, f.kernel);
    }
  }

  /**
   * {@code y = f(a, b)} for each element, with {@code b} spread over the shape of {@code a}.
   *
   * @param f the function
   * @param a {@code [rows, cols]}
   * @param b {@code [rows, cols]}, or one row {@code [1, cols]}, one column {@code [rows, 1]} or
   *     one number {@code [1, 1]} that serves all
   * @param y {@code [rows, cols]}; may be exactly {@code a}, or {@code b} when that has its shape
   */
  public static void apply(Binary f, Matrix a, Matrix b, Matrix y) {
    Checks.present("f", f);
    Call.sameShape("a", a, "y", y);
    try (Call call = Call.take()) {
      call.input("a", a);
      call.input("b", b);
      call.broadcast(1, a.rows(), a.cols());
      call.output("y", y);
      call.mayBeSame(2, 0);
      call.mayBeSame(2, 1);
      call.spans(a.rows(), a.cols(), f.kernel);
    }
  }

  /** {@code y = a + b}; see {@link #apply(Binary, Matrix, Matrix, Matrix)}. */
  public static void add(Matrix a, Matrix b, Matrix y) {
    apply(Binary.ADD, a, b, y);
  }

  /** {@code y = a - b}; see {@link #apply(Binary, Matrix, Matrix, Matrix)}. */
  public static void subtract(Matrix a, Matrix b, Matrix y) {
    apply(Binary.SUBTRACT, a, b, y);
  }

  /** {@code y = a * b}; see {@link #apply(Binary, Matrix, Matrix, Matrix)}. */
  public static void multiply(Matrix a, Matrix b, Matrix y) {
    apply(Binary.MULTIPLY, a, b, y);
  }

  /** {@code y = a / b}; see {@link #apply(Binary, Matrix, Matrix, Matrix)}. */
  public static void divide(Matrix a, Matrix b, Matrix y) {
    apply(Binary.DIVIDE, a, b, y);
  }

  /**
   * {@code y = alpha * x + beta}, rounded once.
   *
   * @param alpha factor
   * @param x {@code n} floats from {@code xOffset}
   * @param xOffset first float of {@code x}
   * @param beta summand
   * @param y {@code n} floats from {@code yOffset}; may be exactly {@code x}
   * @param yOffset first float of {@code y}
   * @param n number of elements
   */
  public static void affine(
      float alpha,
      MemorySegment x,
      long xOffset,
      float beta,
      MemorySegment y,
      long yOffset,
      long n) {
    scaled(alpha, beta, x, xOffset, y, yOffset, n, Elementwise::affine);
  }

  /**
   * {@code y = alpha * x}.
   *
   * @param alpha factor
   * @param x {@code n} floats from {@code xOffset}
   * @param xOffset first float of {@code x}
   * @param y {@code n} floats from {@code yOffset}; may be exactly {@code x}
   * @param yOffset first float of {@code y}
   * @param n number of elements
   */
  public static void scale(
      float alpha, MemorySegment x, long xOffset, MemorySegment y, long yOffset, long n) {
    scaled(alpha, 0, x, xOffset, y, yOffset, n, Elementwise::scale);
  }

  /** {@code y = alpha * x} for each element; {@code y} may be exactly {@code x}. */
  public static void scale(float alpha, Matrix x, Matrix y) {
    scaled(alpha, x, y, Elementwise::scale);
  }

  /**
   * {@code y += alpha * x}, rounded once.
   *
   * @param alpha factor
   * @param x {@code n} floats from {@code xOffset}
   * @param xOffset first float of {@code x}
   * @param y {@code n} floats from {@code yOffset}; may be exactly {@code x}
   * @param yOffset first float of {@code y}
   * @param n number of elements
   */
  public static void axpy(
      float alpha, MemorySegment x, long xOffset, MemorySegment y, long yOffset, long n) {
    scaled(alpha, 0, x, xOffset, y, yOffset, n, Elementwise::axpy);
  }

  /** {@code y += alpha * x} for each element; {@code y} may be exactly {@code x}. */
  public static void axpy(float alpha, Matrix x, Matrix y) {
    scaled(alpha, x, y, Elementwise::axpy);
  }

  private static void scaled(
      float alpha,
      float beta,
      MemorySegment x,
      long xOffset,
      MemorySegment y,
      long yOffset,
      long n,
      Call.Span kernel) {
    try (Call call = Call.take()) {
      call.input("x", x, xOffset, n);
      call.output("y", y, yOffset, n);
      call.mayBeSame(1, 0);
      call.scalar[0] = alpha;
      call.scalar[1] = beta;
      call.spans(1, n, kernel);
    }
  }

  private static void scaled(float alpha, Matrix x, Matrix y, Call.Span kernel) {
    Call.sameShape("x", x, "y", y);
    try (Call call = Call.take()) {
      call.input("x", x);
      call.output("y", y);
      call.mayBeSame(1, 0);
      call.scalar[0] = alpha;
      call.spans(x.rows(), x.cols(), kernel);
    }
  }

  /** Sets {@code n} floats from {@code yOffset} to {@code value}. */
  public static void fill(MemorySegment y, long yOffset, long n, float value) {
    try (Call call = Call.take()) {
      call.output("y", y, yOffset, n);
      call.scalar[0] = value;
      call.spans(1, n, Elementwise::fill);
    }
  }

  /** Sets every element to {@code value}. */
  public static void fill(Matrix y, float value) {
    try (Call call = Call.take()) {
      call.output("y", y);
      call.scalar[0] = value;
      call.spans(y.rows(), y.cols(), Elementwise::fill);
    }
  }

  /** Copies {@code n} floats; the two may be the same and may not overlap otherwise. */
  public static void copy(MemorySegment x, long xOffset, MemorySegment y, long yOffset, long n) {
    VectorMath.map(x, xOffset, y, yOffset, n, Elementwise::copy);
  }

  /** Copies every element. */
  public static void copy(Matrix x, Matrix y) {
    VectorMath.map(x, y, Elementwise::copy);
  }

  private static void add(Call call, long row, long col, int n) {
    MemorySegment a = Native.known(call.segment[0]);
    MemorySegment b = Native.known(call.segment[1]);
    MemorySegment y = Native.known(call.segment[2]);
    long aAt = call.at(0, row, col);
    long bAt = call.at(1, row, col);
    long yAt = call.at(2, row, col);
    if (call.isScalar(1)) {
      FloatVector w = FloatVector.broadcast(F, b.get(FLOAT, bAt));
      for (int i = 0; i < n; i += LANES) {
        long at = (long) i * Float.BYTES;
        FloatVector v = FloatVector.fromMemorySegment(F, a, aAt + at, ORDER);
        v.add(w).intoMemorySegment(y, yAt + at, ORDER);
      }
      return;
    }
    for (int i = 0; i < n; i += LANES) {
      long at = (long) i * Float.BYTES;
      FloatVector v = FloatVector.fromMemorySegment(F, a, aAt + at, ORDER);
      FloatVector w = FloatVector.fromMemorySegment(F, b, bAt + at, ORDER);
      v.add(w).intoMemorySegment(y, yAt + at, ORDER);
    }
  }

  private static void subtract(Call call, long row, long col, int n) {
    MemorySegment a = Native.known(call.segment[0]);
    MemorySegment b = Native.known(call.segment[1]);
    MemorySegment y = Native.known(call.segment[2]);
    long aAt = call.at(0, row, col);
    long bAt = call.at(1, row, col);
    long yAt = call.at(2, row, col);
    if (call.isScalar(1)) {
      FloatVector w = FloatVector.broadcast(F, b.get(FLOAT, bAt));
      for (int i = 0; i < n; i += LANES) {
        long at = (long) i * Float.BYTES;
        FloatVector v = FloatVector.fromMemorySegment(F, a, aAt + at, ORDER);
        v.sub(w).intoMemorySegment(y, yAt + at, ORDER);
      }
      return;
    }
    for (int i = 0; i < n; i += LANES) {
      long at = (long) i * Float.BYTES;
      FloatVector v = FloatVector.fromMemorySegment(F, a, aAt + at, ORDER);
      FloatVector w = FloatVector.fromMemorySegment(F, b, bAt + at, ORDER);
      v.sub(w).intoMemorySegment(y, yAt + at, ORDER);
    }
  }

  private static void multiply(Call call, long row, long col, int n) {
    MemorySegment a = Native.known(call.segment[0]);
    MemorySegment b = Native.known(call.segment[1]);
    MemorySegment y = Native.known(call.segment[2]);
    long aAt = call.at(0, row, col);
    long bAt = call.at(1, row, col);
    long yAt = call.at(2, row, col);
    if (call.isScalar(1)) {
      FloatVector w = FloatVector.broadcast(F, b.get(FLOAT, bAt));
      for (int i = 0; i < n; i += LANES) {
        long at = (long) i * Float.BYTES;
        FloatVector v = FloatVector.fromMemorySegment(F, a, aAt + at, ORDER);
        v.mul(w).intoMemorySegment(y, yAt + at, ORDER);
      }
      return;
    }
    for (int i = 0; i < n; i += LANES) {
      long at = (long) i * Float.BYTES;
      FloatVector v = FloatVector.fromMemorySegment(F, a, aAt + at, ORDER);
      FloatVector w = FloatVector.fromMemorySegment(F, b, bAt + at, ORDER);
      v.mul(w).intoMemorySegment(y, yAt + at, ORDER);
    }
  }

  private static void divide(Call call, long row, long col, int n) {
    MemorySegment a = Native.known(call.segment[0]);
    MemorySegment b = Native.known(call.segment[1]);
    MemorySegment y = Native.known(call.segment[2]);
    long aAt = call.at(0, row, col);
    long bAt = call.at(1, row, col);
    long yAt = call.at(2, row, col);
    if (call.isScalar(1)) {
      FloatVector w = FloatVector.broadcast(F, b.get(FLOAT, bAt));
      for (int i = 0; i < n; i += LANES) {
        long at = (long) i * Float.BYTES;
        FloatVector v = FloatVector.fromMemorySegment(F, a, aAt + at, ORDER);
        v.div(w).intoMemorySegment(y, yAt + at, ORDER);
      }
      return;
    }
    for (int i = 0; i < n; i += LANES) {
      long at = (long) i * Float.BYTES;
      FloatVector v = FloatVector.fromMemorySegment(F, a, aAt + at, ORDER);
      FloatVector w = FloatVector.fromMemorySegment(F, b, bAt + at, ORDER);
      v.div(w).intoMemorySegment(y, yAt + at, ORDER);
    }
  }

  private static void sqrt(Call call, long row, long col, int n) {
    MemorySegment x = Native.known(call.segment[0]);
    MemorySegment y = Native.known(call.segment[1]);
    long xAt = call.at(0, row, col);
    long yAt = call.at(1, row, col);
    for (int i = 0; i < n; i += LANES) {
      long at = (long) i * Float.BYTES;
      FloatVector v = FloatVector.fromMemorySegment(F, x, xAt + at, ORDER);
      v.sqrt().intoMemorySegment(y, yAt + at, ORDER);
    }
  }

  private static void square(Call call, long row, long col, int n) {
    MemorySegment x = Native.known(call.segment[0]);
    MemorySegment y = Native.known(call.segment[1]);
    long xAt = call.at(0, row, col);
    long yAt = call.at(1, row, col);
    for (int i = 0; i < n; i += LANES) {
      long at = (long) i * Float.BYTES;
      FloatVector v = FloatVector.fromMemorySegment(F, x, xAt + at, ORDER);
      v.mul(v).intoMemorySegment(y, yAt + at, ORDER);
    }
  }

  private static void negate(Call call, long row, long col, int n) {
    MemorySegment x = Native.known(call.segment[0]);
    MemorySegment y = Native.known(call.segment[1]);
    long xAt = call.at(0, row, col);
    long yAt = call.at(1, row, col);
    for (int i = 0; i < n; i += LANES) {
      long at = (long) i * Float.BYTES;
      FloatVector v = FloatVector.fromMemorySegment(F, x, xAt + at, ORDER);
      v.neg().intoMemorySegment(y, yAt + at, ORDER);
    }
  }

  private static void reciprocal(Call call, long row, long col, int n) {
    MemorySegment x = Native.known(call.segment[0]);
    MemorySegment y = Native.known(call.segment[1]);
    long xAt = call.at(0, row, col);
    long yAt = call.at(1, row, col);
    for (int i = 0; i < n; i += LANES) {
      long at = (long) i * Float.BYTES;
      FloatVector v = FloatVector.fromMemorySegment(F, x, xAt + at, ORDER);
      FloatVector.broadcast(F, 1f).div(v).intoMemorySegment(y, yAt + at, ORDER);
    }
  }

  private static void relu(Call call, long row, long col, int n) {
    MemorySegment x = Native.known(call.segment[0]);
    MemorySegment y = Native.known(call.segment[1]);
    long xAt = call.at(0, row, col);
    long yAt = call.at(1, row, col);
    for (int i = 0; i < n; i += LANES) {
      long at = (long) i * Float.BYTES;
      FloatVector v = FloatVector.fromMemorySegment(F, x, xAt + at, ORDER);
      v.blend(0f, v.compare(VectorOperators.LE, 0f)).intoMemorySegment(y, yAt + at, ORDER);
    }
  }

  private static void scale(Call call, long row, long col, int n) {
    MemorySegment x = Native.known(call.segment[0]);
    MemorySegment y = Native.known(call.segment[1]);
    long xAt = call.at(0, row, col);
    long yAt = call.at(1, row, col);
    FloatVector alpha = FloatVector.broadcast(F, call.scalar[0]);
    for (int i = 0; i < n; i += LANES) {
      long at = (long) i * Float.BYTES;
      FloatVector v = FloatVector.fromMemorySegment(F, x, xAt + at, ORDER);
      v.mul(alpha).intoMemorySegment(y, yAt + at, ORDER);
    }
  }

  private static void affine(Call call, long row, long col, int n) {
    MemorySegment x = Native.known(call.segment[0]);
    MemorySegment y = Native.known(call.segment[1]);
    long xAt = call.at(0, row, col);
    long yAt = call.at(1, row, col);
    FloatVector alpha = FloatVector.broadcast(F, call.scalar[0]);
    FloatVector beta = FloatVector.broadcast(F, call.scalar[1]);
    for (int i = 0; i < n; i += LANES) {
      long at = (long) i * Float.BYTES;
      FloatVector v = FloatVector.fromMemorySegment(F, x, xAt + at, ORDER);
      v.fma(alpha, beta).intoMemorySegment(y, yAt + at, ORDER);
    }
  }

  private static void axpy(Call call, long row, long col, int n) {
    MemorySegment x = Native.known(call.segment[0]);
    MemorySegment y = Native.known(call.segment[1]);
    long xAt = call.at(0, row, col);
    long yAt = call.at(1, row, col);
    FloatVector alpha = FloatVector.broadcast(F, call.scalar[0]);
    for (int i = 0; i < n; i += LANES) {
      long at = (long) i * Float.BYTES;
      FloatVector v = FloatVector.fromMemorySegment(F, x, xAt + at, ORDER);
      v.fma(alpha, FloatVector.fromMemorySegment(F, y, yAt + at, ORDER))
          .intoMemorySegment(y, yAt + at, ORDER);
    }
  }

  private static void copy(Call call, long row, long col, int n) {
    MemorySegment x = Native.known(call.segment[0]);
    MemorySegment y = Native.known(call.segment[1]);
    long xAt = call.at(0, row, col);
    long yAt = call.at(1, row, col);
    for (int i = 0; i < n; i += LANES) {
      long at = (long) i * Float.BYTES;
      FloatVector v = FloatVector.fromMemorySegment(F, x, xAt + at, ORDER);
      v.intoMemorySegment(y, yAt + at, ORDER);
    }
  }

  private static void fill(Call call, long row, long col, int n) {
    MemorySegment y = Native.known(call.segment[0]);
    long yAt = call.at(0, row, col);
    FloatVector value = FloatVector.broadcast(F, call.scalar[0]);
    for (int i = 0; i < n; i += LANES) {
      value.intoMemorySegment(y, yAt + (long) i * Float.BYTES, ORDER);
    }
  }

  private static void sigmoid(Call call, long row, long col, int n) {
    MemorySegment x = Native.known(call.segment[0]);
    MemorySegment y = Native.known(call.segment[1]);
    long xAt = call.at(0, row, col);
    long yAt = call.at(1, row, col);
    FloatVector least = FloatVector.broadcast(F, VectorMath.EXP_ZERO);
    for (int i = 0; i < n; i += LANES) {
      long at = (long) i * Float.BYTES;
      FloatVector v = FloatVector.fromMemorySegment(F, x, xAt + at, ORDER).neg();
      v = v.blend(least, v.compare(VectorOperators.LT, least));
      FloatVector shifted =
          v.fma(
              FloatVector.broadcast(F, VectorMath.LOG2_E),
              FloatVector.broadcast(F, VectorMath.ROUND));
      FloatVector k = shifted.sub(VectorMath.ROUND);
      FloatVector r = k.fma(FloatVector.broadcast(F, -VectorMath.LN2), v);
      r = k.fma(FloatVector.broadcast(F, -VectorMath.LN2_LOW), r);
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
      FloatVector one = FloatVector.broadcast(F, 1f);
      one.div(p.fma(power, one))
          .blend(0f, v.compare(VectorOperators.GT, 88f))
          .intoMemorySegment(y, yAt + at, ORDER);
    }
  }

  private static void expBackward(Call call, long row, long col, int n) {
    MemorySegment y = Native.known(call.segment[0]);
    MemorySegment dy = Native.known(call.segment[1]);
    MemorySegment dx = Native.known(call.segment[2]);
    long yAt = call.at(0, row, col);
    long dyAt = call.at(1, row, col);
    long dxAt = call.at(2, row, col);
    boolean accumulate = call.flag;
    for (int i = 0; i < n; i += LANES) {
      long at = (long) i * Float.BYTES;
      FloatVector v = FloatVector.fromMemorySegment(F, y, yAt + at, ORDER);
      FloatVector g = FloatVector.fromMemorySegment(F, dy, dyAt + at, ORDER);
      g = g.mul(v);
      if (accumulate) {
        g = g.add(FloatVector.fromMemorySegment(F, dx, dxAt + at, ORDER));
      }
      g.intoMemorySegment(dx, dxAt + at, ORDER);
    }
  }

  private static void logBackward(Call call, long row, long col, int n) {
    MemorySegment x = Native.known(call.segment[0]);
    MemorySegment dy = Native.known(call.segment[1]);
    MemorySegment dx = Native.known(call.segment[2]);
    long xAt = call.at(0, row, col);
    long dyAt = call.at(1, row, col);
    long dxAt = call.at(2, row, col);
    boolean accumulate = call.flag;
    for (int i = 0; i < n; i += LANES) {
      long at = (long) i * Float.BYTES;
      FloatVector v = FloatVector.fromMemorySegment(F, x, xAt + at, ORDER);
      FloatVector g = FloatVector.fromMemorySegment(F, dy, dyAt + at, ORDER);
      g = g.div(v);
      if (accumulate) {
        g = g.add(FloatVector.fromMemorySegment(F, dx, dxAt + at, ORDER));
      }
      g.intoMemorySegment(dx, dxAt + at, ORDER);
    }
  }

  private static void tanhBackward(Call call, long row, long col, int n) {
    MemorySegment y = Native.known(call.segment[0]);
    MemorySegment dy = Native.known(call.segment[1]);
    MemorySegment dx = Native.known(call.segment[2]);
    long yAt = call.at(0, row, col);
    long dyAt = call.at(1, row, col);
    long dxAt = call.at(2, row, col);
    boolean accumulate = call.flag;
    for (int i = 0; i < n; i += LANES) {
      long at = (long) i * Float.BYTES;
      FloatVector v = FloatVector.fromMemorySegment(F, y, yAt + at, ORDER);
      FloatVector g = FloatVector.fromMemorySegment(F, dy, dyAt + at, ORDER);
      g = g.mul(v.mul(v).neg().add(1f));
      if (accumulate) {
        g = g.add(FloatVector.fromMemorySegment(F, dx, dxAt + at, ORDER));
      }
      g.intoMemorySegment(dx, dxAt + at, ORDER);
    }
  }

  private static void sigmoidBackward(Call call, long row, long col, int n) {
    MemorySegment y = Native.known(call.segment[0]);
    MemorySegment dy = Native.known(call.segment[1]);
    MemorySegment dx = Native.known(call.segment[2]);
    long yAt = call.at(0, row, col);
    long dyAt = call.at(1, row, col);
    long dxAt = call.at(2, row, col);
    boolean accumulate = call.flag;
    for (int i = 0; i < n; i += LANES) {
      long at = (long) i * Float.BYTES;
      FloatVector v = FloatVector.fromMemorySegment(F, y, yAt + at, ORDER);
      FloatVector g = FloatVector.fromMemorySegment(F, dy, dyAt + at, ORDER);
      g = g.mul(v).mul(v.neg().add(1f));
      if (accumulate) {
        g = g.add(FloatVector.fromMemorySegment(F, dx, dxAt + at, ORDER));
      }
      g.intoMemorySegment(dx, dxAt + at, ORDER);
    }
  }

  private static void reluBackward(Call call, long row, long col, int n) {
    MemorySegment x = Native.known(call.segment[0]);
    MemorySegment dy = Native.known(call.segment[1]);
    MemorySegment dx = Native.known(call.segment[2]);
    long xAt = call.at(0, row, col);
    long dyAt = call.at(1, row, col);
    long dxAt = call.at(2, row, col);
    boolean accumulate = call.flag;
    for (int i = 0; i < n; i += LANES) {
      long at = (long) i * Float.BYTES;
      FloatVector v = FloatVector.fromMemorySegment(F, x, xAt + at, ORDER);
      FloatVector g = FloatVector.fromMemorySegment(F, dy, dyAt + at, ORDER);
      g = g.blend(0f, v.compare(VectorOperators.LE, 0f));
      if (accumulate) {
        g = g.add(FloatVector.fromMemorySegment(F, dx, dxAt + at, ORDER));
      }
      g.intoMemorySegment(dx, dxAt + at, ORDER);
    }
  }

  private static void sqrtBackward(Call call, long row, long col, int n) {
    MemorySegment y = Native.known(call.segment[0]);
    MemorySegment dy = Native.known(call.segment[1]);
    MemorySegment dx = Native.known(call.segment[2]);
    long yAt = call.at(0, row, col);
    long dyAt = call.at(1, row, col);
    long dxAt = call.at(2, row, col);
    boolean accumulate = call.flag;
    for (int i = 0; i < n; i += LANES) {
      long at = (long) i * Float.BYTES;
      FloatVector v = FloatVector.fromMemorySegment(F, y, yAt + at, ORDER);
      FloatVector g = FloatVector.fromMemorySegment(F, dy, dyAt + at, ORDER);
      g = g.div(v.add(v));
      if (accumulate) {
        g = g.add(FloatVector.fromMemorySegment(F, dx, dxAt + at, ORDER));
      }
      g.intoMemorySegment(dx, dxAt + at, ORDER);
    }
  }

  private static void squareBackward(Call call, long row, long col, int n) {
    MemorySegment x = Native.known(call.segment[0]);
    MemorySegment dy = Native.known(call.segment[1]);
    MemorySegment dx = Native.known(call.segment[2]);
    long xAt = call.at(0, row, col);
    long dyAt = call.at(1, row, col);
    long dxAt = call.at(2, row, col);
    boolean accumulate = call.flag;
    for (int i = 0; i < n; i += LANES) {
      long at = (long) i * Float.BYTES;
      FloatVector v = FloatVector.fromMemorySegment(F, x, xAt + at, ORDER);
      FloatVector g = FloatVector.fromMemorySegment(F, dy, dyAt + at, ORDER);
      g = g.mul(v.add(v));
      if (accumulate) {
        g = g.add(FloatVector.fromMemorySegment(F, dx, dxAt + at, ORDER));
      }
      g.intoMemorySegment(dx, dxAt + at, ORDER);
    }
  }

  private static void reciprocalBackward(Call call, long row, long col, int n) {
    MemorySegment y = Native.known(call.segment[0]);
    MemorySegment dy = Native.known(call.segment[1]);
    MemorySegment dx = Native.known(call.segment[2]);
    long yAt = call.at(0, row, col);
    long dyAt = call.at(1, row, col);
    long dxAt = call.at(2, row, col);
    boolean accumulate = call.flag;
    for (int i = 0; i < n; i += LANES) {
      long at = (long) i * Float.BYTES;
      FloatVector v = FloatVector.fromMemorySegment(F, y, yAt + at, ORDER);
      FloatVector g = FloatVector.fromMemorySegment(F, dy, dyAt + at, ORDER);
      g = g.neg().mul(v.mul(v));
      if (accumulate) {
        g = g.add(FloatVector.fromMemorySegment(F, dx, dxAt + at, ORDER));
      }
      g.intoMemorySegment(dx, dxAt + at, ORDER);
    }
  }

  private static void negateBackward(Call call, long row, long col, int n) {
    MemorySegment dy = Native.known(call.segment[1]);
    MemorySegment dx = Native.known(call.segment[2]);
    long dyAt = call.at(1, row, col);
    long dxAt = call.at(2, row, col);
    boolean accumulate = call.flag;
    for (int i = 0; i < n; i += LANES) {
      long at = (long) i * Float.BYTES;
      FloatVector g = FloatVector.fromMemorySegment(F, dy, dyAt + at, ORDER);
      g = g.neg();
      if (accumulate) {
        g = g.add(FloatVector.fromMemorySegment(F, dx, dxAt + at, ORDER));
      }
      g.intoMemorySegment(dx, dxAt + at, ORDER);
    }
  }
}
