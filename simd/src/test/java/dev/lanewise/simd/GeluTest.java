package dev.lanewise.simd;

import static dev.lanewise.simd.VectorMathTest.refused;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.simd.Gelu.Form;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

class GeluTest {
  private static double forward(Form form, double x) {
    return x * phi(form, x);
  }

  /** The factor of x in the result. */
  private static double phi(Form form, double x) {
    return switch (form) {
      case TANH -> 1 / (1 + Math.exp(-2 * Math.sqrt(2 / Math.PI) * (x + 0.044715 * x * x * x)));
      case ERF -> 0.5 * (1 + VectorMathTest.erf(x / Math.sqrt(2)));
    };
  }

  private static double derivative(Form form, double x) {
    double s = phi(form, x);
    return switch (form) {
      case TANH -> s + x * s * (1 - s) * 2 * Math.sqrt(2 / Math.PI) * (1 + 0.134145 * x * x);
      case ERF -> s + x * Math.exp(-x * x / 2) / Math.sqrt(2 * Math.PI);
    };
  }

  @ParameterizedTest
  @EnumSource
  void agreesWithPyTorch(Form form) {
    Fixtures fixtures = new Fixtures("elementwise");
    String name = form == Form.TANH ? "gelu_tanh" : "gelu_erf";
    float[] x = fixtures.floats("x");
    double[] y = fixtures.doubles(name + ".y");
    double[] dx = fixtures.doubles(name + ".dx");
    try (Arena arena = Arena.ofShared()) {
      MemorySegment in = Memory.ALIGNED.of(arena, x);
      MemorySegment out = Memory.ALIGNED.floats(arena, x.length);
      MemorySegment ones = Memory.ALIGNED.floats(arena, x.length);
      Elementwise.fill(ones, 0, x.length, 1);
      Gelu.forward(form, in, 0, out, 0, x.length);
      for (int i = 0; i < x.length; i++) {
        double expected = form == Form.ERF && x[i] == Float.POSITIVE_INFINITY ? Double.NaN : y[i];
        close(expected, Memory.get(out, i), x[i]);
      }
      Gelu.backward(form, in, 0, ones, 0, out, 0, x.length, false);
      for (int i = 0; i < x.length; i++) {
        close(dx[i], Memory.get(out, i), x[i]);
      }
    }
  }

  private static void close(double expected, float actual, float x) {
    boolean same =
        Double.isNaN(expected)
            ? Float.isNaN(actual)
            : (float) expected == actual
                || Math.abs(expected - actual) <= 5e-7 * Math.max(1, Math.abs(expected));
    assertTrue(same, "at " + x + ": " + actual + ", expected " + expected);
  }

  @ParameterizedTest
  @EnumSource
  void everySizeAndPlace(Form form) {
    Random random = new Random(30);
    for (Memory memory : Memory.values()) {
      for (int n = 0; n <= 2 * Machine.LANES + 3; n++) {
        try (Arena arena = Arena.ofShared()) {
          MemorySegment x = memory.floats(arena, n);
          MemorySegment dy = memory.floats(arena, n);
          MemorySegment dx = memory.floats(arena, n);
          MemorySegment y = memory.floats(arena, n);
          for (int i = 0; i < n; i++) {
            Memory.set(x, i, (float) random.nextGaussian() * 3);
            Memory.set(dy, i, (float) random.nextGaussian());
            Memory.set(dx, i, (float) random.nextGaussian());
          }
          float[] before = Memory.toArray(dx);
          Gelu.forward(form, x, 0, y, 0, n);
          Gelu.backward(form, x, 0, dy, 0, dx, 0, n, true);
          for (int i = 0; i < n; i++) {
            double v = Memory.get(x, i);
            close(forward(form, v), Memory.get(y, i), (float) v);
            double gradient = before[i] + Memory.get(dy, i) * derivative(form, v);
            assertEquals(gradient, Memory.get(dx, i), 2e-6);
          }
        }
      }
    }
  }

  /** The lower tail, where the usual formulas cancel. */
  @Test
  void theLowerTailKeepsItsPrecision() {
    try (Arena arena = Arena.ofShared()) {
      MemorySegment x = Memory.ALIGNED.of(arena, -3, -5, -7, -9, -9.9f);
      double[] tail = {
        -3 * 1.3498980316300945e-3,
        -5 * 2.8665157187919391e-7,
        -7 * 1.2798125438858350e-12,
        -9 * 1.1285884059538406e-19
      };
      Gelu.forward(Form.ERF, x, 0, x, 0, 5);
      for (int i = 0; i < tail.length; i++) {
        assertEquals(tail[i], Memory.get(x, i), -5e-6 * tail[i]);
      }
    }
  }

  @ParameterizedTest
  @EnumSource
  void minusTenAndBelowGivesMinusZero(Form form) {
    try (Arena arena = Arena.ofShared()) {
      float[] values = {-10, -10.5f, -1e4f, -3e38f};
      MemorySegment x = Memory.ALIGNED.of(arena, values);
      Gelu.forward(form, x, 0, x, 0, 4);
      for (int i = 0; i < 4; i++) {
        assertEquals(Float.floatToRawIntBits(-0f), Float.floatToRawIntBits(Memory.get(x, i)));
      }
    }
  }

  @Test
  void wrongCallsAreRefused() {
    try (Arena arena = Arena.ofShared()) {
      Matrix a = new Matrix(Memory.ALIGNED.floats(arena, 12), 3, 4);
      Matrix b = new Matrix(Memory.ALIGNED.floats(arena, 12), 4, 3);
      refused("x is 3 x 4 but dx is 4 x 3", () -> Gelu.backward(Form.TANH, a, a, b, false));
      refused("x is null", () -> Gelu.forward(Form.ERF, null, b));
    }
  }
}
