package dev.lanewise.simd;

import static dev.lanewise.simd.CrossEntropyTest.assertClose;
import static dev.lanewise.simd.VectorMathTest.refused;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

class SoftmaxTest {
  private static final Fixtures FIXTURES = new Fixtures("layers");
  private static final int THREADS = Workers.threads();

  @AfterEach
  void restoreThreads() {
    Workers.setThreads(THREADS);
  }

  private static void forward(boolean isLog, Matrix x, Matrix y) {
    if (isLog) {
      LogSoftmax.forward(x, y);
    } else {
      Softmax.forward(x, y);
    }
  }

  private static void backward(boolean isLog, Matrix y, Matrix dy, Matrix dx, boolean accumulate) {
    if (isLog) {
      LogSoftmax.backward(y, dy, dx, accumulate);
    } else {
      Softmax.backward(y, dy, dx, accumulate);
    }
  }

  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void agreesWithPyTorch(boolean isLog) {
    String name = isLog ? "log_softmax" : "softmax";
    int[] shape = FIXTURES.shape(name + ".x");
    for (Memory memory : Memory.values()) {
      try (Arena arena = Arena.ofShared()) {
        Matrix x = matrix(memory.of(arena, FIXTURES.floats(name + ".x")), shape);
        Matrix dy = matrix(memory.of(arena, FIXTURES.floats(name + ".dy")), shape);
        Matrix y = matrix(memory.floats(arena, (long) shape[0] * shape[1]), shape);
        Matrix dx = matrix(memory.floats(arena, (long) shape[0] * shape[1]), shape);
        forward(isLog, x, y);
        assertClose(FIXTURES.doubles(name + ".y"), Memory.toArray(y.segment()), 5e-7);
        backward(isLog, y, dy, dx, false);
        assertClose(FIXTURES.doubles(name + ".d_x"), Memory.toArray(dx.segment()), 1e-6);
        backward(isLog, y, dy, dx, true);
        double[] twice = FIXTURES.doubles(name + ".d_x");
        for (int i = 0; i < twice.length; i++) {
          twice[i] *= 2;
        }
        assertClose(twice, Memory.toArray(dx.segment()), 2e-6);
      }
    }
  }

  private static Matrix matrix(MemorySegment s, int[] shape) {
    return new Matrix(s, shape[0], shape[1]);
  }

  @ParameterizedTest
  @EnumSource
  void everySizeAndPlace(Memory memory) {
    Random random = new Random(6);
    for (int cols = 0; cols <= 4 * Machine.LANES + 3; cols++) {
      for (boolean isLog : new boolean[] {false, true}) {
        int rows = 1 + cols % 3;
        int stride = cols + cols % 4;
        try (Arena arena = Arena.ofShared()) {
          long n = (long) (rows - 1) * stride + cols;
          Matrix x = new Matrix(memory.floats(arena, n), rows, cols, stride);
          Matrix dy = new Matrix(memory.floats(arena, n), rows, cols, stride);
          fill(x, random);
          fill(dy, random);
          double[][] y = new double[rows][cols];
          double[][] dx = new double[rows][cols];
          reference(isLog, x, dy, y, dx);
          forward(isLog, x, x);
          check(x, y, 1e-6);
          backward(isLog, x, dy, dy, false);
          check(dy, dx, 4e-6);
        }
      }
    }
  }

  private static void fill(Matrix m, Random random) {
    for (int i = 0; i < m.segment().byteSize() / 4; i++) {
      Memory.set(m.segment(), i, (float) random.nextGaussian() * 3);
    }
  }

  private static float at(Matrix m, int row, int col) {
    return Memory.get(m.segment(), m.offset() + row * m.stride() + col);
  }

  private static void check(Matrix m, double[][] expected, double tolerance) {
    for (int row = 0; row < m.rows(); row++) {
      for (int j = 0; j < m.cols(); j++) {
        double e = expected[row][j];
        assertEquals(e, at(m, row, j), tolerance * Math.max(1, Math.abs(e)));
      }
    }
  }

  private static void reference(boolean isLog, Matrix x, Matrix dy, double[][] y, double[][] dx) {
    for (int row = 0; row < x.rows(); row++) {
      double sum = 0;
      for (int j = 0; j < x.cols(); j++) {
        sum += Math.exp(at(x, row, j));
      }
      double total = 0;
      for (int j = 0; j < x.cols(); j++) {
        double p = Math.exp(at(x, row, j)) / sum;
        y[row][j] = isLog ? at(x, row, j) - Math.log(sum) : p;
        total += isLog ? at(dy, row, j) : at(dy, row, j) * p;
      }
      for (int j = 0; j < x.cols(); j++) {
        double p = Math.exp(at(x, row, j)) / sum;
        dx[row][j] = isLog ? at(dy, row, j) - p * total : p * (at(dy, row, j) - total);
      }
    }
  }

  @Test
  void specialRows() {
    float inf = Float.POSITIVE_INFINITY;
    float[][] nan = {{-inf, -inf, -inf}, {inf, 0, 1}, {Float.NaN, 0, 1}, {0, 1, Float.NaN}};
    for (float[] row : nan) {
      for (boolean isLog : new boolean[] {false, true}) {
        for (float v : apply(isLog, row)) {
          assertTrue(Float.isNaN(v));
        }
      }
    }
    assertArrayEquals(new float[] {0, 1, 0}, apply(false, -inf, 0, -3e38f));
    assertArrayEquals(new float[] {-inf, 0, -3e38f}, apply(true, -inf, 0, -3e38f));
    assertArrayEquals(new float[] {0.5f, 0, 0.5f}, apply(false, 3e38f, -3e38f, 3e38f));
    assertArrayEquals(new float[] {0.5f, 0.5f}, apply(false, -3e38f, -3e38f));
    assertArrayEquals(new float[] {1}, apply(false, 7));
  }

  /** One row, followed by many rows long enough for several blocks. */
  private static float[] apply(boolean isLog, float... row) {
    try (Arena arena = Arena.ofShared()) {
      Matrix x = new Matrix(Memory.ALIGNED.of(arena, row), 1, row.length);
      forward(isLog, x, x);
      float[] result = Memory.toArray(x.segment());
      int cols = 10_000;
      Matrix wide = new Matrix(Memory.ALIGNED.floats(arena, cols), 1, cols);
      Elementwise.fill(wide, Float.NEGATIVE_INFINITY);
      int[] places = {5, 4999, 9999};
      for (int i = 0; i < row.length; i++) {
        Memory.set(wide.segment(), places[i], row[i]);
      }
      forward(isLog, wide, wide);
      for (int i = 0; i < row.length; i++) {
        assertEquals(result[i], Memory.get(wide.segment(), places[i]), 1e-7f);
      }
      return result;
    }
  }

  @Test
  void rowsOfSeveralBlocks() {
    Random random = new Random(8);
    int cols = 20_011;
    try (Arena arena = Arena.ofShared()) {
      Matrix x = new Matrix(Memory.BEFORE_GUARD.floats(arena, 2L * cols), 2, cols);
      Matrix dy = new Matrix(Memory.BEFORE_GUARD.floats(arena, 2L * cols), 2, cols);
      for (boolean isLog : new boolean[] {false, true}) {
        fill(x, random);
        fill(dy, random);
        double[][] y = new double[2][cols];
        double[][] dx = new double[2][cols];
        reference(isLog, x, dy, y, dx);
        forward(isLog, x, x);
        for (int row = 0; row < 2; row++) {
          for (int j = 0; j < cols; j++) {
            assertEquals(y[row][j], at(x, row, j), 2e-6 * Math.abs(y[row][j]));
          }
        }
        backward(isLog, x, dy, dy, false);
        check(dy, dx, 1e-5);
      }
    }
  }

  @Test
  void anyNumberOfThreadsGivesTheSameBits() {
    float[] first = null;
    for (int threads : new int[] {1, 2, 3, 7}) {
      Workers.setThreads(threads);
      try (Arena arena = Arena.ofShared()) {
        Matrix x = new Matrix(Memory.ALIGNED.floats(arena, 50 * 1001), 50, 1001);
        fill(x, new Random(9));
        Softmax.forward(x, x);
        float[] result = Memory.toArray(x.segment());
        if (first == null) {
          first = result;
        }
        assertArrayEquals(first, result);
      }
    }
  }

  @Test
  void wrongCallsAreRefused() {
    try (Arena arena = Arena.ofShared()) {
      MemorySegment s = Memory.ALIGNED.floats(arena, 12);
      Matrix a = new Matrix(s, 3, 4);
      Matrix b = new Matrix(s, 4, 3);
      refused("x is 3 x 4 but y is 4 x 3", () -> Softmax.forward(a, b));
      refused("transposed", () -> Softmax.forward(a, b.transposed()));
      refused("shares memory", () -> Softmax.forward(a.rows(0, 2), a.rows(1, 3)));
      refused("stride 3", () -> Softmax.forward(s, 0, 4, s, 0, 3, 3, 4));
      refused("y is 3 x 4 but dx is 4 x 3", () -> LogSoftmax.backward(a, a, b, false));
    }
  }
}
