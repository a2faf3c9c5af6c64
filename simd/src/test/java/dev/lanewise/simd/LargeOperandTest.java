package dev.lanewise.simd;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assumptions.abort;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.function.BinaryOperator;
import org.junit.jupiter.api.Test;

/**
 * Operands whose elements have numbers beyond 2^31: rows that lie gigabytes apart in memory of
 * which only a few pages are touched.
 */
class LargeOperandTest {
  private static final int ROWS = 3;
  private static final int COLS = 37;
  private static final long STRIDE = 1_200_000_000L;
  private static final long LAST = (ROWS - 1) * STRIDE;

  @Test
  void rowsFarApartGiveWhatRowsSideBySideGive() {
    requireEqual(
        (x, y) -> {
          Softmax.forward(x, y);
          return y;
        });
    requireEqual(
        (x, y) -> {
          Elementwise.axpy(2, x, y);
          return y;
        });
    requireEqual(
        (x, y) -> {
          try (Arena arena = Arena.ofShared()) {
            MemorySegment weights = Memory.ALIGNED.floats(arena, COLS);
            Elementwise.fill(weights, 0, COLS, 0.5f);
            MemorySegment mean = Memory.ALIGNED.floats(arena, ROWS);
            MemorySegment rstd = Memory.ALIGNED.floats(arena, ROWS);
            LayerNorm.forward(x, weights, weights, y, mean, rstd, 1e-5f);
          }
          return y;
        });
    requireEqual(
        (x, y) -> {
          try (Arena arena = Arena.ofShared()) {
            Matrix square = new Matrix(Memory.ALIGNED.floats(arena, COLS * COLS), COLS, COLS);
            fill(square, 7);
            Gemm.multiply(x, square, y);
            Matrix products = new Matrix(Memory.ALIGNED.floats(arena, ROWS * ROWS), ROWS, ROWS);
            Gemm.multiply(x, y.transposed(), products);
            Gemm.multiply(1, products, x, 1, y);
          }
          return y;
        });
    requireEqual(
        (x, y) -> {
          try (Arena arena = Arena.ofShared()) {
            Indices ids = Indices.ofInts(Memory.ALIGNED.ofInts(arena, 2, 0, 2), ROWS);
            Embedding.forward(x, ids, y);
            Embedding.backward(ids, x, y, null, 0, 1);
          }
          return y;
        });
  }

  @Test
  void offsetsBeyondTwoThousandMillionElements() {
    try (Arena arena = Arena.ofShared()) {
      MemorySegment far = allocate(arena);
      Elementwise.fill(far, LAST, COLS, 3);
      assertEquals(9 * COLS, Reduce.sumOfSquares(far, LAST - 5, COLS + 5));
      assertEquals(3, Memory.get(far, LAST + COLS - 1));
      assertEquals(0, Memory.get(far, LAST - 1));
    }
  }

  private static MemorySegment allocate(Arena arena) {
    try {
      return NativeMemory.allocate((LAST + COLS) * Float.BYTES, arena);
    } catch (OutOfMemoryError e) {
      return abort("the system promises no memory beyond what it has");
    }
  }

  private static void requireEqual(BinaryOperator<Matrix> operation) {
    try (Arena arena = Arena.ofShared()) {
      Matrix x = new Matrix(allocate(arena), ROWS, COLS, STRIDE);
      Matrix y = new Matrix(allocate(arena), ROWS, COLS, STRIDE);
      Matrix nearX = new Matrix(Memory.ALIGNED.floats(arena, ROWS * COLS), ROWS, COLS);
      Matrix nearY = new Matrix(Memory.ALIGNED.floats(arena, ROWS * COLS), ROWS, COLS);
      fill(x, 1);
      fill(nearX, 1);
      fill(y, 2);
      fill(nearY, 2);
      float[] expected = values(operation.apply(nearX, nearY));
      assertArrayEquals(expected, values(operation.apply(x, y)));
    }
  }

  private static void fill(Matrix m, int seed) {
    for (int r = 0; r < m.rows(); r++) {
      for (int c = 0; c < m.cols(); c++) {
        Memory.set(m.segment(), m.offset() + r * m.stride() + c, (r * 31 + c * seed) % 11 - 5f);
      }
    }
  }

  private static float[] values(Matrix m) {
    float[] values = new float[m.rows() * m.cols()];
    for (int i = 0; i < values.length; i++) {
      long at = m.offset() + i / m.cols() * m.stride() + i % m.cols();
      values[i] = Memory.get(m.segment(), at);
    }
    return values;
  }
}
