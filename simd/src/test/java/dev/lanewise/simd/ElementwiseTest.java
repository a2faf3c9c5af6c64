package dev.lanewise.simd;

import static dev.lanewise.simd.VectorMathTest.refused;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.simd.Elementwise.Binary;
import dev.lanewise.simd.Elementwise.Unary;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

class ElementwiseTest {
  private static double forward(Unary f, double x) {
    return switch (f) {
      case EXP -> Math.exp(x);
      case LOG -> Math.log(x);
      case TANH -> Math.tanh(x);
      case SIGMOID -> 1 / (1 + Math.exp(-x));
      case RELU -> x > 0 ? x : x <= 0 ? 0 : x;
      case SQRT -> Math.sqrt(x);
      case SQUARE -> x * x;
      case NEGATE -> -x;
      case RECIPROCAL -> 1 / x;
    };
  }

  /** Derivative by the result y, which the kernels have in float. */
  private static double derivative(Unary f, double x, double y) {
    return switch (f) {
      case EXP -> y;
      case LOG -> 1 / x;
      case TANH -> 1 - y * y;
      case SIGMOID -> y * (1 - y);
      case RELU -> x <= 0 ? 0 : 1;
      case SQRT -> 0.5 / y;
      case SQUARE -> 2 * x;
      case NEGATE -> -1;
      case RECIPROCAL -> -y * y;
    };
  }

  private static double forward(Binary f, double a, double b) {
    return switch (f) {
      case ADD -> a + b;
      case SUBTRACT -> a - b;
      case MULTIPLY -> a * b;
      case DIVIDE -> a / b;
    };
  }

  @ParameterizedTest
  @EnumSource
  void functionsOfOneArgument(Unary f) {
    Random random = new Random(20);
    for (Memory memory : Memory.values()) {
      for (int n = 0; n <= 2 * Machine.LANES + 3; n++) {
        try (Arena arena = Arena.ofShared()) {
          MemorySegment x = memory.floats(arena, n);
          MemorySegment y = memory.floats(arena, n);
          MemorySegment dy = memory.floats(arena, n);
          MemorySegment dx = memory.floats(arena, n);
          for (int i = 0; i < n; i++) {
            Memory.set(x, i, Memory.wild(random));
            Memory.set(dy, i, (float) random.nextGaussian());
            Memory.set(dx, i, (float) random.nextGaussian());
          }
          float[] before = Memory.toArray(dx);
          Elementwise.apply(f, x, 0, y, 0, n);
          Elementwise.backward(f, x, 0, y, 0, dy, 0, dx, 0, n, true);
          Elementwise.backward(f, x, 0, y, 0, dy, 0, dy, 0, n, false);
          for (int i = 0; i < n; i++) {
            double v = Memory.get(x, i);
            double expected = forward(f, v);
            float actual = Memory.get(y, i);
            boolean isTiny = f == Unary.SIGMOID && expected < 1e-37 && actual < 1e-37;
            assertTrue(
                isTiny || Memory.ulps(expected, actual) <= 2, f + "(" + v + ") is " + actual);
            float g = Memory.get(dy, i);
            float sum = before[i] + g;
            assertTrue(Float.isNaN(sum) || sum == Memory.get(dx, i));
          }
        }
      }
    }
  }

  @ParameterizedTest
  @EnumSource
  void gradients(Unary f) {
    Random random = new Random(21);
    int rows = 7;
    int cols = Machine.LANES + 5;
    try (Arena arena = Arena.ofShared()) {
      Matrix x = random(arena, rows, cols, random);
      Matrix y = random(arena, rows, cols, random);
      Matrix dy = random(arena, rows, cols, random);
      Matrix dx = random(arena, rows, cols, random);
      if (f == Unary.LOG || f == Unary.SQRT) {
        Elementwise.apply(Unary.SQUARE, x, x);
      }
      Elementwise.apply(f, x, y);
      Elementwise.backward(f, x, y, dy, dx, false);
      for (int i = 0; i < rows; i++) {
        for (int j = 0; j < cols; j++) {
          double expected = at(dy, i, j) * derivative(f, at(x, i, j), at(y, i, j));
          assertEquals(expected, at(dx, i, j), 1e-6 * Math.max(0.01, Math.abs(expected)));
        }
      }
    }
  }

  private static Matrix random(Arena arena, int rows, int cols, Random random) {
    int stride = cols + 3;
    MemorySegment s = Memory.MISALIGNED.floats(arena, (long) rows * stride);
    for (int i = 0; i < rows * stride; i++) {
      Memory.set(s, i, (float) random.nextGaussian());
    }
    return new Matrix(s, rows, cols, stride);
  }

  private static float at(Matrix m, int row, int col) {
    return Memory.get(m.segment(), m.offset() + row * m.stride() + col);
  }

  @ParameterizedTest
  @EnumSource
  void functionsOfTwoArguments(Binary f) {
    Random random = new Random(22);
    for (Memory memory : Memory.values()) {
      for (int n = 0; n <= 2 * Machine.LANES + 3; n++) {
        try (Arena arena = Arena.ofShared()) {
          MemorySegment a = memory.floats(arena, n);
          MemorySegment b = memory.floats(arena, n);
          MemorySegment y = memory.floats(arena, n);
          for (int i = 0; i < n; i++) {
            Memory.set(a, i, Memory.wild(random));
            Memory.set(b, i, Memory.wild(random));
          }
          Elementwise.apply(f, a, 0, b, 0, y, 0, n);
          for (int i = 0; i < n; i++) {
            double expected = forward(f, Memory.get(a, i), Memory.get(b, i));
            assertEquals((float) expected, Memory.get(y, i));
          }
        }
      }
    }
  }

  @ParameterizedTest
  @EnumSource
  void broadcasts(Binary f) {
    Random random = new Random(23);
    for (int cols : new int[] {1, 3, Machine.LANES, 2 * Machine.LANES + 1}) {
      for (int rows : new int[] {1, 5}) {
        try (Arena arena = Arena.ofShared()) {
          Matrix a = random(arena, rows, cols, random);
          Matrix y = random(arena, rows, cols, random);
          for (Matrix b :
              new Matrix[] {
                random(arena, rows, cols, random),
                random(arena, 1, cols, random),
                random(arena, rows, 1, random),
                random(arena, 1, 1, random)
              }) {
            Elementwise.apply(f, a, b, y);
            for (int i = 0; i < rows; i++) {
              for (int j = 0; j < cols; j++) {
                float v = at(b, b.rows() == 1 ? 0 : i, b.cols() == 1 ? 0 : j);
                assertEquals((float) forward(f, at(a, i, j), v), at(y, i, j));
              }
            }
          }
        }
      }
    }
  }

  @Test
  void scalingFillingAndCopying() {
    Random random = new Random(24);
    for (int n = 0; n <= 2 * Machine.LANES + 3; n++) {
      try (Arena arena = Arena.ofShared()) {
        MemorySegment x = Memory.BEFORE_GUARD.floats(arena, n);
        MemorySegment y = Memory.AFTER_GUARD.floats(arena, n);
        for (int i = 0; i < n; i++) {
          Memory.set(x, i, (float) random.nextGaussian());
        }
        Elementwise.scale(-2.5f, x, 0, y, 0, n);
        Elementwise.axpy(0.5f, x, 0, y, 0, n);
        for (int i = 0; i < n; i++) {
          assertEquals(
              Math.fma(0.5f, Memory.get(x, i), -2.5f * Memory.get(x, i)), Memory.get(y, i));
        }
        Elementwise.affine(3, x, 0, -1, y, 0, n);
        for (int i = 0; i < n; i++) {
          assertEquals(Math.fma(3f, Memory.get(x, i), -1f), Memory.get(y, i));
        }
        Elementwise.copy(x, 0, y, 0, n);
        for (int i = 0; i < n; i++) {
          assertEquals(Memory.get(x, i), Memory.get(y, i));
        }
        Elementwise.fill(y, 0, n, 7);
        for (int i = 0; i < n; i++) {
          assertEquals(7, Memory.get(y, i));
        }
      }
    }
  }

  @Test
  void largeOperandsAreCutInTasks() {
    int n = 1_000_003;
    try (Arena arena = Arena.ofShared()) {
      MemorySegment x = Memory.BEFORE_GUARD.floats(arena, n);
      for (int i = 0; i < n; i++) {
        Memory.set(x, i, i);
      }
      Elementwise.axpy(1, x, 0, x, 0, n);
      for (int i = 0; i < n; i++) {
        assertEquals(2f * i, Memory.get(x, i));
      }
    }
  }

  @Test
  void wrongCallsAreRefused() {
    try (Arena arena = Arena.ofShared()) {
      MemorySegment s = Memory.ALIGNED.floats(arena, 12);
      Matrix a = new Matrix(s, 3, 4);
      Matrix b = new Matrix(Memory.ALIGNED.floats(arena, 8), 2, 4);
      refused("b is 2 x 4, which does not spread over 3 x 4", () -> Elementwise.add(a, b, a));
      refused("a is 3 x 4 but y is 2 x 4", () -> Elementwise.add(a, a, b));
      refused("shares memory", () -> Elementwise.add(a, a.rows(0, 1), a));
      refused("read-only", () -> Elementwise.fill(s.asReadOnly(), 0, 1, 0));
    }
  }
}
