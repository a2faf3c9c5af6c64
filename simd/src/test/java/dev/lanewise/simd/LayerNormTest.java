package dev.lanewise.simd;

import static dev.lanewise.simd.CrossEntropyTest.assertClose;
import static dev.lanewise.simd.VectorMathTest.refused;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

class LayerNormTest {
  private static final Fixtures FIXTURES = new Fixtures("layers");
  private static final float EPS = LayerNorm.DEFAULT_EPS;
  private static final int THREADS = Workers.threads();

  @AfterEach
  void restoreThreads() {
    Workers.setThreads(THREADS);
  }

  @ParameterizedTest
  @ValueSource(strings = {"ln48", "ln768", "ln_const"})
  void agreesWithPyTorch(String name) {
    int[] shape = FIXTURES.shape(name + ".x");
    int cols = shape[shape.length - 1];
    int rows = Arrays.stream(shape).reduce(1, (a, b) -> a * b) / cols;
    for (Memory memory : Memory.values()) {
      try (Arena arena = Arena.ofShared()) {
        Matrix x = new Matrix(memory.of(arena, FIXTURES.floats(name + ".x")), rows, cols);
        Matrix dy = new Matrix(memory.of(arena, FIXTURES.floats(name + ".dy")), rows, cols);
        MemorySegment w = memory.of(arena, FIXTURES.floats(name + ".w"));
        MemorySegment b = memory.of(arena, FIXTURES.floats(name + ".b"));
        MemorySegment dw = memory.floats(arena, cols);
        MemorySegment db = memory.floats(arena, cols);
        MemorySegment mean = memory.floats(arena, rows);
        MemorySegment rstd = memory.floats(arena, rows);
        Matrix y = new Matrix(memory.floats(arena, (long) rows * cols), rows, cols);
        LayerNorm.forward(x, w, b, y, mean, rstd, EPS);
        assertClose(FIXTURES.doubles(name + ".y"), Memory.toArray(y.segment()), 2e-6);
        LayerNorm.backward(dy, x, w, mean, rstd, y, false, dw, db);
        double tolerance = name.equals("ln_const") ? 1e-4 : 4e-6;
        assertClose(FIXTURES.doubles(name + ".d_x"), Memory.toArray(y.segment()), tolerance);
        assertClose(FIXTURES.doubles(name + ".d_w"), Memory.toArray(dw), 4e-6);
        assertClose(FIXTURES.doubles(name + ".d_b"), Memory.toArray(db), 4e-6);
      }
    }
  }

  /** Against double precision; some rows of each call are ordinary and keep their bits. */
  @ParameterizedTest
  @ValueSource(floats = {1e18f, 1e19f, 1e20f, 3e24f, 1e30f, 1e37f, 3e38f})
  void rowsWhoseSquaresOverflowAreNormalised(float size) {
    Random random = new Random(3);
    for (int cols : new int[] {1, 2, 7, 64, 300, 2500}) {
      int rows = 5;
      try (Arena arena = Arena.ofShared()) {
        Matrix x = new Matrix(random(Memory.ALIGNED, arena, rows * cols, random), rows, cols);
        Matrix plain = new Matrix(arena.allocate(4L * rows * cols), rows, cols);
        Matrix y = new Matrix(arena.allocate(4L * rows * cols), rows, cols);
        MemorySegment w = random(Memory.ALIGNED, arena, cols, random);
        MemorySegment b = random(Memory.ALIGNED, arena, cols, random);
        MemorySegment mean = arena.allocate(4L * rows);
        MemorySegment rstd = arena.allocate(4L * rows);
        LayerNorm.forward(x, w, b, plain, null, null, EPS);
        for (int row = 1; row < rows; row += 2) {
          for (int j = 0; j < cols; j++) {
            float v = Math.clamp(at(x, row, j) * size / 4, -size, size);
            Memory.set(x.segment(), (long) row * cols + j, v);
          }
        }
        MemorySegment before = arena.allocate(4L * rows * cols).copyFrom(x.segment());
        LayerNorm.forward(x, w, b, y, mean, rstd, EPS);
        LayerNorm.forward(x, w, b, x, null, null, EPS);
        assertEquals(-1, x.segment().mismatch(y.segment()), "in place");
        for (int row = 0; row < rows; row++) {
          double m = 0;
          for (int j = 0; j < cols; j++) {
            m += Memory.get(before, row * cols + j) / (double) cols;
          }
          double variance = 0;
          for (int j = 0; j < cols; j++) {
            double d = Memory.get(before, row * cols + j) - m;
            variance += d * d / cols;
          }
          for (int j = 0; j < cols; j++) {
            double h = (Memory.get(before, row * cols + j) - m) / Math.sqrt(variance + EPS);
            double expected = h * Memory.get(w, j) + Memory.get(b, j);
            assertEquals(expected, at(y, row, j), 2e-5, "row " + row);
            if (row % 2 == 0) {
              assertEquals(at(plain, row, j), at(y, row, j));
            }
          }
          assertEquals(m, Memory.get(mean, row), 1e-6 * (Math.abs(m) + Math.sqrt(variance)));
          double r = 1 / Math.sqrt(variance + EPS);
          assertEquals(r, Memory.get(rstd, row), 1e-5 * r);
        }
      }
    }
  }

  @Test
  void rowsThatAreNotFiniteStayNaN() {
    try (Arena arena = Arena.ofShared()) {
      for (float bad : new float[] {Float.NaN, Float.POSITIVE_INFINITY, Float.NEGATIVE_INFINITY}) {
        Matrix x = new Matrix(Memory.ALIGNED.of(arena, 1, 2, bad, 3e38f, 5, 6, 7, 9), 2, 4);
        Matrix y = new Matrix(arena.allocate(32), 2, 4);
        MemorySegment w = Memory.ALIGNED.of(arena, 1, 1, 1, 1);
        LayerNorm.forward(x, w, arena.allocate(16), y, null, null, EPS);
        for (int j = 0; j < 4; j++) {
          assertTrue(Float.isNaN(at(y, 0, j)) && !Float.isNaN(at(y, 1, j)));
        }
      }
    }
  }

  @ParameterizedTest
  @EnumSource
  void everySizeAndPlace(Memory memory) {
    Random random = new Random(10);
    for (int cols = 1; cols <= 4 * Machine.LANES + 3; cols++) {
      int rows = 1 + cols % 37;
      int stride = cols + cols % 3;
      long n = (long) (rows - 1) * stride + cols;
      try (Arena arena = Arena.ofShared()) {
        Matrix x = new Matrix(random(memory, arena, n, random), rows, cols, stride);
        Matrix residual = new Matrix(random(memory, arena, n, random), rows, cols, stride);
        Matrix dy = new Matrix(random(memory, arena, n, random), rows, cols, stride);
        Matrix sum = new Matrix(memory.floats(arena, n), rows, cols, stride);
        Matrix y = new Matrix(memory.floats(arena, n), rows, cols, stride);
        Matrix dx = new Matrix(random(memory, arena, n, random), rows, cols, stride);
        MemorySegment w = random(memory, arena, cols, random);
        MemorySegment b = random(memory, arena, cols, random);
        MemorySegment dw = memory.floats(arena, cols);
        MemorySegment db = memory.floats(arena, cols);
        MemorySegment mean = memory.floats(arena, rows);
        MemorySegment rstd = memory.floats(arena, rows);
        LayerNorm.addForward(x, residual, sum, w, b, y, mean, rstd, EPS);

        double[] wantedDw = new double[cols];
        double[] wantedDb = new double[cols];
        double[][] wantedDx = new double[rows][cols];
        for (int i = 0; i < rows; i++) {
          double[] h = new double[cols];
          double m = 0;
          for (int j = 0; j < cols; j++) {
            assertEquals(at(x, i, j) + at(residual, i, j), at(sum, i, j));
            m += at(sum, i, j) / (double) cols;
          }
          double variance = 0;
          for (int j = 0; j < cols; j++) {
            h[j] = at(sum, i, j) - m;
            variance += h[j] * h[j] / cols;
          }
          double r = 1 / Math.sqrt(variance + EPS);
          double meanG = 0;
          double meanGh = 0;
          for (int j = 0; j < cols; j++) {
            h[j] *= r;
            double g = at(dy, i, j) * (double) Memory.get(w, j);
            meanG += g / cols;
            meanGh += g * h[j] / cols;
            wantedDw[j] += at(dy, i, j) * h[j];
            wantedDb[j] += at(dy, i, j);
            double expected = h[j] * Memory.get(w, j) + Memory.get(b, j);
            assertEquals(expected, at(y, i, j), 1e-5);
          }
          for (int j = 0; j < cols; j++) {
            double g = at(dy, i, j) * (double) Memory.get(w, j);
            wantedDx[i][j] = at(dx, i, j) + r * (g - meanG - h[j] * meanGh);
          }
          assertEquals(m, Memory.get(mean, i), 1e-6);
          assertEquals(r, Memory.get(rstd, i), 2e-6 * r);
        }
        LayerNorm.backward(dy, sum, w, mean, rstd, dx, true, dw, db);
        for (int j = 0; j < cols; j++) {
          assertEquals(wantedDw[j], Memory.get(dw, j), 3e-5);
          assertEquals(wantedDb[j], Memory.get(db, j), 3e-5);
          for (int i = 0; i < rows; i++) {
            double scale = Math.max(1, Memory.get(rstd, i));
            assertEquals(wantedDx[i][j], at(dx, i, j), 2e-5 * scale);
          }
        }
        LayerNorm.forward(sum, w, b, sum, null, null, EPS);
        for (int i = 0; i < rows; i++) {
          for (int j = 0; j < cols; j++) {
            assertEquals(at(y, i, j), at(sum, i, j), "fused and unfused differ");
          }
        }
      }
    }
  }

  private static MemorySegment random(Memory memory, Arena arena, long n, Random random) {
    MemorySegment s = memory.floats(arena, n);
    for (int i = 0; i < n; i++) {
      Memory.set(s, i, (float) random.nextGaussian());
    }
    return s;
  }

  private static float at(Matrix m, int row, int col) {
    return Memory.get(m.segment(), m.offset() + row * m.stride() + col);
  }

  @Test
  void aConstantRowGivesTheBias() {
    try (Arena arena = Arena.ofShared()) {
      int cols = 771;
      Matrix x = new Matrix(Memory.ALIGNED.floats(arena, cols), 1, cols);
      MemorySegment w = Memory.ALIGNED.floats(arena, cols);
      MemorySegment b = random(Memory.ALIGNED, arena, cols, new Random(11));
      Elementwise.fill(w, 0, cols, 2);
      for (float constant : new float[] {0, 0.1f, -12345.678f, 1e6f}) {
        Elementwise.fill(x, constant);
        LayerNorm.forward(x, w, b, x, null, null, EPS);
        assertArrayEquals(Memory.toArray(b), Memory.toArray(x.segment()));
      }
    }
  }

  @Test
  void nanStaysInItsRow() {
    try (Arena arena = Arena.ofShared()) {
      Matrix x = new Matrix(random(Memory.ALIGNED, arena, 3 * 50, new Random(12)), 3, 50);
      MemorySegment w = Memory.ALIGNED.floats(arena, 50);
      Memory.set(x.segment(), 60, Float.NaN);
      Matrix y = new Matrix(Memory.ALIGNED.floats(arena, 150), 3, 50);
      LayerNorm.forward(x, w, w, y, null, null, EPS);
      for (int i = 0; i < 150; i++) {
        assertEquals(i / 50 == 1, Float.isNaN(Memory.get(y.segment(), i)));
      }
    }
  }

  @Test
  void anyNumberOfThreadsGivesTheSameBits() {
    float[] first = null;
    int rows = 333;
    int cols = 129;
    for (int threads : new int[] {1, 2, 3, 7}) {
      Workers.setThreads(threads);
      Random random = new Random(13);
      try (Arena arena = Arena.ofShared()) {
        Matrix x = new Matrix(random(Memory.ALIGNED, arena, rows * cols, random), rows, cols);
        Matrix dy = new Matrix(random(Memory.ALIGNED, arena, rows * cols, random), rows, cols);
        MemorySegment w = random(Memory.ALIGNED, arena, cols, random);
        MemorySegment mean = Memory.ALIGNED.floats(arena, rows);
        MemorySegment rstd = Memory.ALIGNED.floats(arena, rows);
        MemorySegment dw = Memory.ALIGNED.floats(arena, cols);
        MemorySegment db = Memory.ALIGNED.floats(arena, cols);
        Matrix y = new Matrix(Memory.ALIGNED.floats(arena, rows * cols), rows, cols);
        LayerNorm.forward(x, w, w, y, mean, rstd, EPS);
        LayerNorm.backward(dy, x, w, mean, rstd, y, true, dw, db);
        float[] result = Arrays.copyOf(Memory.toArray(dw), 2 * cols);
        System.arraycopy(Memory.toArray(db), 0, result, cols, cols);
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
      MemorySegment w = Memory.ALIGNED.floats(arena, 4);
      Matrix x = new Matrix(s, 3, 4);
      refused("bias: 4 elements", () -> LayerNorm.forward(x, w, w.asSlice(4), x, null, null, EPS));
      refused("shares memory", () -> LayerNorm.forward(x, w, w, x, w, null, EPS));
      refused("mean is null", () -> LayerNorm.backward(x, x, w, null, null, x, false, null, null));
      refused("weight is null", () -> LayerNorm.forward(x, null, w, x, null, null, EPS));
    }
  }
}
