package dev.lanewise.simd;

import static dev.lanewise.simd.VectorMathTest.refused;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

class ReduceTest {
  private static final int THREADS = Workers.threads();

  @AfterEach
  void restoreThreads() {
    Workers.setThreads(THREADS);
  }

  @ParameterizedTest
  @EnumSource
  void wholeSegments(Memory memory) {
    Random random = new Random(50);
    for (int n : sizes()) {
      try (Arena arena = Arena.ofShared()) {
        MemorySegment x = memory.floats(arena, n);
        double sum = 0;
        double squares = 0;
        float max = Float.NEGATIVE_INFINITY;
        for (int i = 0; i < n; i++) {
          float v = (float) random.nextGaussian();
          Memory.set(x, i, v);
          sum += v;
          squares += (double) v * v;
          max = Math.max(max, v);
        }
        assertEquals(sum, Reduce.sum(x, 0, n), 1e-9);
        assertEquals(squares, Reduce.sumOfSquares(x, 0, n), 1e-9 * Math.max(1, squares));
        if (n > 0) {
          assertEquals(max, Reduce.max(x, 0, n));
          Memory.set(x, random.nextInt(n), Float.NaN);
          assertEquals(Float.NaN, Reduce.max(x, 0, n));
          assertEquals(Double.NaN, Reduce.sum(x, 0, n));
          Memory.set(x, random.nextInt(n), Float.POSITIVE_INFINITY);
        }
      }
    }
  }

  private static int[] sizes() {
    int[] sizes = new int[2 * Machine.LANES + 6];
    for (int i = 0; i < sizes.length; i++) {
      sizes[i] = i;
    }
    sizes[sizes.length - 1] = 100_003;
    return sizes;
  }

  @Test
  void squaresOfLargeFloatsDoNotOverflow() {
    try (Arena arena = Arena.ofShared()) {
      MemorySegment x = Memory.ALIGNED.floats(arena, 100);
      Elementwise.fill(x, 0, 100, 3e38f);
      assertEquals(100 * (double) 3e38f * 3e38f, Reduce.sumOfSquares(x, 0, 100), 1e66);
    }
  }

  @ParameterizedTest
  @EnumSource
  void rowsAndColumns(Memory memory) {
    Random random = new Random(51);
    for (int cols : sizes()) {
      int rows = cols > 1000 ? 2 : 1 + 3 * cols;
      int stride = cols + cols % 2;
      try (Arena arena = Arena.ofShared()) {
        long n = (long) (rows - 1) * stride + cols;
        Matrix x = new Matrix(memory.floats(arena, n), rows, cols, stride);
        for (long i = 0; i < n; i++) {
          Memory.set(x.segment(), i, (float) random.nextGaussian());
        }
        MemorySegment rowSums = memory.floats(arena, rows);
        MemorySegment columnSums = memory.floats(arena, cols);
        Reduce.rowSums(x, rowSums, 0, false);
        Reduce.rowSums(x, rowSums, 0, true);
        Reduce.columnSums(x, columnSums, 0, false);
        Reduce.columnSums(x, columnSums, 0, true);
        double[] columns = new double[cols];
        for (int i = 0; i < rows; i++) {
          double sum = 0;
          for (int j = 0; j < cols; j++) {
            float v = Memory.get(x.segment(), (long) i * stride + j);
            sum += v;
            columns[j] += v;
          }
          assertEquals(2 * sum, Memory.get(rowSums, i), 1e-6 * Math.max(1, Math.abs(2 * sum)));
        }
        for (int j = 0; j < cols; j++) {
          assertEquals(2 * columns[j], Memory.get(columnSums, j), 2e-5);
        }
      }
    }
  }

  @ParameterizedTest
  @EnumSource
  void argmax(Memory memory) {
    Random random = new Random(52);
    for (int cols = 1; cols <= 2 * Machine.LANES + 3; cols++) {
      int rows = 6;
      try (Arena arena = Arena.ofShared()) {
        Matrix x = new Matrix(memory.floats(arena, (long) rows * cols), rows, cols);
        MemorySegment places = memory.allocate(arena, 4L * (rows + 1));
        for (int i = 0; i < rows * cols; i++) {
          boolean isNan = i / cols == 5 && random.nextInt(4) == 0;
          Memory.set(x.segment(), i, isNan ? Float.NaN : random.nextInt(5));
        }
        Reduce.argmax(x, places, 1);
        for (int row = 0; row < rows; row++) {
          int best = 0;
          for (int j = 1; j < cols; j++) {
            float v = Memory.get(x.segment(), (long) row * cols + j);
            float b = Memory.get(x.segment(), (long) row * cols + best);
            if (v > b || (Float.isNaN(v) && !Float.isNaN(b))) {
              best = j;
            }
          }
          assertEquals(best, Memory.getInt(places, row + 1));
        }
      }
    }
  }

  @Test
  void anyNumberOfThreadsGivesTheSameBits() {
    Random random = new Random(53);
    int n = 300_001;
    try (Arena arena = Arena.ofShared()) {
      MemorySegment x = Memory.ALIGNED.floats(arena, n);
      for (int i = 0; i < n; i++) {
        Memory.set(x, i, (float) random.nextGaussian());
      }
      Matrix m = new Matrix(x, 1000, 300);
      MemorySegment columns = Memory.ALIGNED.floats(arena, 300);
      double[][] results = new double[4][];
      int[] threads = {1, 2, 3, 7};
      for (int k = 0; k < 4; k++) {
        Workers.setThreads(threads[k]);
        Reduce.columnSums(m, columns, 0, false);
        results[k] = new double[302];
        for (int j = 0; j < 300; j++) {
          results[k][j] = Memory.get(columns, j);
        }
        results[k][300] = Reduce.sum(x, 0, n);
        results[k][301] = Reduce.sumOfSquares(x, 0, n);
        assertArrayEquals(results[0], results[k]);
      }
    }
  }

  @Test
  void wrongCallsAreRefused() {
    try (Arena arena = Arena.ofShared()) {
      MemorySegment s = Memory.ALIGNED.floats(arena, 12);
      Matrix x = new Matrix(s, 3, 4);
      refused("largest of 0", () -> Reduce.max(s, 0, 0));
      refused("x: 13 elements", () -> Reduce.sum(s, 0, 13));
      refused("out: 4 elements", () -> Reduce.columnSums(x, s.asSlice(40), 0, true));
      refused("shares memory", () -> Reduce.columnSums(x, s, 4, true));
    }
  }
}
