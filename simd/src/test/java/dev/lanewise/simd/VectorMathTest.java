package dev.lanewise.simd;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Locale;
import java.util.Random;
import java.util.function.DoubleUnaryOperator;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

class VectorMathTest {
  @SuppressWarnings("ImmutableEnumChecker")
  enum Function {
    EXP(Math::exp, 1.01),
    LOG(Math::log, 1.43),
    TANH(Math::tanh, 1.06),
    ERF(VectorMathTest::erf, 1.11);

    final DoubleUnaryOperator reference;
    final double tolerance;

    Function(DoubleUnaryOperator reference, double tolerance) {
      this.reference = reference;
      this.tolerance = tolerance;
    }

    void apply(MemorySegment x, long xOffset, MemorySegment y, long yOffset, long n) {
      switch (this) {
        case EXP -> VectorMath.exp(x, xOffset, y, yOffset, n);
        case LOG -> VectorMath.log(x, xOffset, y, yOffset, n);
        case TANH -> VectorMath.tanh(x, xOffset, y, yOffset, n);
        case ERF -> VectorMath.erf(x, xOffset, y, yOffset, n);
      }
    }
  }

  /** Error function: the power series for small arguments, else a continued fraction for erfc. */
  static double erf(double x) {
    double a = Math.abs(x);
    if (a > 7 || Double.isNaN(x)) {
      return Double.isNaN(x) ? x : Math.copySign(1, x);
    }
    if (a < 2.5) {
      double term = a;
      double sum = a;
      for (int k = 1; Math.abs(term) > 1e-19 * sum; k++) {
        term *= -a * a / k;
        sum += term / (2 * k + 1);
      }
      return Math.copySign(sum * 2 / Math.sqrt(Math.PI), x);
    }
    double fraction = 0;
    for (int k = 80; k > 0; k--) {
      fraction = k / 2.0 / (a + fraction);
    }
    return Math.copySign(1 - Math.exp(-a * a) / ((a + fraction) * Math.sqrt(Math.PI)), x);
  }

  /** Every {@code step}-th of all floats; the main method takes each of them. */
  private static double worst(Function function, int step, int phase) {
    int chunk = 1 << 16;
    double worst = 0;
    try (Arena arena = Arena.ofShared()) {
      MemorySegment x = Memory.ALIGNED.floats(arena, chunk);
      MemorySegment y = Memory.ALIGNED.floats(arena, chunk);
      for (long bits = phase; bits < 1L << 32; ) {
        int n = 0;
        for (; n < chunk && bits < 1L << 32; n++, bits += step) {
          Memory.set(x, n, Float.intBitsToFloat((int) bits));
        }
        function.apply(x, 0, y, 0, n);
        for (int i = 0; i < n; i++) {
          double expected = function.reference.applyAsDouble(Memory.get(x, i));
          double error = Memory.ulps(expected, Memory.get(y, i));
          if (error > worst) {
            worst = error;
          }
        }
      }
    }
    return worst;
  }

  /** Checks all floats, which takes minutes: run by hand. */
  public static void main(String[] args) {
    int step = args.length > 0 ? Integer.parseInt(args[0]) : 1;
    for (Function function : Function.values()) {
      System.out.printf(
          Locale.ROOT, "%s: largest error %.4f ulp%n", function, worst(function, step, 0));
    }
  }

  @ParameterizedTest
  @EnumSource
  void errorsAreSmallOverAllFloats(Function function) {
    double worst = worst(function, 4099, 17);
    assertTrue(worst <= function.tolerance, function + " is off by " + worst + " ulp");
  }

  @ParameterizedTest
  @EnumSource
  void specialValues(Function function) {
    float[] values = {
      0f,
      -0f,
      Float.NaN,
      Float.POSITIVE_INFINITY,
      Float.NEGATIVE_INFINITY,
      Float.MIN_VALUE,
      -Float.MIN_VALUE,
      Float.MAX_VALUE,
      -Float.MAX_VALUE,
      1f,
      -1f,
      88.72283f,
      88.72284f,
      -103.97f,
      -104f,
      Float.intBitsToFloat(0x7fc00001),
      Float.intBitsToFloat(0xffc12345)
    };
    try (Arena arena = Arena.ofShared()) {
      MemorySegment x = Memory.ALIGNED.of(arena, values);
      function.apply(x, 0, x, 0, values.length);
      for (int i = 0; i < values.length; i++) {
        double expected = function.reference.applyAsDouble(values[i]);
        float actual = Memory.get(x, i);
        assertTrue(
            Memory.ulps(expected, actual) <= function.tolerance,
            function + "(" + values[i] + ") is " + actual);
        if (expected == 0) {
          assertEquals((float) expected, actual, 0f);
          assertEquals(1 / expected, 1 / (double) actual);
        }
      }
    }
  }

  @ParameterizedTest
  @EnumSource
  void everySizeAndPlace(Function function) {
    Random random = new Random(1);
    for (Memory memory : Memory.values()) {
      for (int n = 0; n <= 2 * Machine.LANES + 3; n++) {
        try (Arena arena = Arena.ofShared()) {
          int gap = n % 3;
          MemorySegment x = memory.floats(arena, n + gap);
          MemorySegment y = memory.floats(arena, n);
          for (int i = 0; i < n + gap; i++) {
            Memory.set(x, i, Memory.wild(random));
          }
          function.apply(x, gap, y, 0, n);
          for (int i = 0; i < n; i++) {
            double expected = function.reference.applyAsDouble(Memory.get(x, i + gap));
            assertTrue(Memory.ulps(expected, Memory.get(y, i)) <= function.tolerance);
          }
        }
      }
    }
  }

  @Test
  void stridedViewsLeaveTheGapsAlone() {
    Random random = new Random(2);
    int rows = 5;
    int cols = Machine.LANES + 3;
    int stride = cols + 4;
    try (Arena arena = Arena.ofShared()) {
      MemorySegment x = Memory.ALIGNED.floats(arena, rows * stride);
      for (int i = 0; i < rows * stride; i++) {
        Memory.set(x, i, (float) random.nextGaussian());
      }
      float[] before = Memory.toArray(x);
      Matrix view = new Matrix(x, 2, rows, cols, stride, false);
      VectorMath.tanh(view, view);
      for (int i = 0; i < rows * stride; i++) {
        boolean inside = i >= 2 && (i - 2) % stride < cols && (i - 2) / stride < rows;
        double expected = inside ? Math.tanh(before[i]) : before[i];
        assertTrue(Memory.ulps(expected, Memory.get(x, i)) <= 1.06);
      }
    }
  }

  @Test
  void wrongCallsAreRefused() {
    try (Arena arena = Arena.ofShared()) {
      MemorySegment x = Memory.ALIGNED.floats(arena, 8);
      refused("x: 9 elements at 0 do not fit", () -> VectorMath.exp(x, 0, x, 0, 9));
      refused("y: 8 elements at 1", () -> VectorMath.exp(x, 0, x, 1, 8));
      refused("shares memory", () -> VectorMath.exp(x, 0, x, 1, 4));
      refused("read-only", () -> VectorMath.exp(x, 0, x.asReadOnly(), 0, 8));
      refused("negative", () -> VectorMath.exp(x, -1, x, 0, 8));
      refused("negative", () -> VectorMath.exp(x, 0, x, 0, -8));
      refused("null", () -> VectorMath.exp(null, 0, x, 0, 8));
      Arena closed = Arena.ofShared();
      MemorySegment gone = Memory.ALIGNED.floats(closed, 8);
      closed.close();
      refused("closed", () -> VectorMath.exp(x, 0, gone, 0, 8));
      Matrix a = new Matrix(x, 2, 4);
      Matrix b = new Matrix(x, 4, 2);
      refused("x is 2 x 4 but y is 4 x 2", () -> VectorMath.exp(a, b));
      refused("transposed", () -> VectorMath.exp(a.transposed(), b));
    }
  }

  static void refused(String part, Runnable call) {
    var e = assertThrows(IllegalArgumentException.class, call::run);
    assertTrue(e.getMessage().contains(part), e.getMessage());
  }
}
