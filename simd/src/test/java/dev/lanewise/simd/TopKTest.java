package dev.lanewise.simd;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.Comparator;
import java.util.Random;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

class TopKTest {
  private final int threads = Workers.threads();

  @AfterEach
  void restore() {
    Workers.setThreads(threads);
  }

  /** By sorting all, as PyTorch orders: NaN above every number; then by place. */
  private static int[] sorted(float[] x, boolean isLargest) {
    // Adding 0 makes one zero of both; Float.compare has NaN last.
    Comparator<Integer> order = (i, j) -> Float.compare(x[i] + 0f, x[j] + 0f);
    return IntStream.range(0, x.length)
        .boxed()
        .sorted((isLargest ? order.reversed() : order).thenComparing(i -> i))
        .mapToInt(i -> i)
        .toArray();
  }

  private static float[] row(int n, int kind, Random random) {
    float[] x = new float[n];
    for (int i = 0; i < n; i++) {
      x[i] =
          switch (kind) {
            case 0 -> (float) random.nextGaussian();
            case 1 -> random.nextInt(5) - 2;
            case 2 -> i;
            case 3 -> -i;
            case 4 -> random.nextInt(3) == 0 ? Float.NaN : random.nextInt(4) * 0.5f;
            case 5 -> random.nextBoolean() ? 0f : -0f;
            default ->
                new float[] {
                      Float.NEGATIVE_INFINITY,
                      Float.POSITIVE_INFINITY,
                      Float.NaN,
                      Float.MIN_VALUE,
                      -Float.MIN_VALUE,
                      -Float.MAX_VALUE,
                      Float.intBitsToFloat(0xffc00001)
                    }
                    [random.nextInt(7)];
          };
    }
    return x;
  }

  @Test
  void agreesWithSorting() {
    Random random = new Random(1);
    Arena arena = Arena.ofShared();
    for (int cols : new int[] {1, 2, 5, 16, 17, 65, 1000}) {
      int rows = 7;
      int stride = cols + 3;
      float[] x = new float[rows * stride];
      for (int r = 0; r < rows; r++) {
        System.arraycopy(row(cols, r, random), 0, x, r * stride, cols);
      }
      MemorySegment there = arena.allocate(4L * x.length, 64).copyFrom(MemorySegment.ofArray(x));
      for (int k : new int[] {0, 1, 2, 3, 10, cols - 1, cols}) {
        if (k < 0 || k > cols) {
          continue;
        }
        for (boolean isLargest : new boolean[] {true, false}) {
          for (MemorySegment memory : new MemorySegment[] {there, MemorySegment.ofArray(x)}) {
            check(new Matrix(memory, rows, cols, stride), k, isLargest);
          }
        }
      }
    }
  }

  /** Rows of several parts, with equals on both sides of where they are cut. */
  @Test
  void longRowsGiveTheSameForAnyThreads() {
    Random random = new Random(2);
    int cols = 200_003;
    for (int kind = 0; kind < 7; kind++) {
      MemorySegment x = MemorySegment.ofArray(row(cols, kind, random));
      for (int used = 1; used <= 4; used++) {
        Workers.setThreads(used);
        check(new Matrix(x, 1, cols), 100, used % 2 == 0);
      }
    }
  }

  private static void check(Matrix x, int k, boolean isLargest) {
    int rows = x.rows();
    float[] values = new float[rows * (k + 1)];
    int[] places = new int[rows * k + 1];
    Matrix to = new Matrix(MemorySegment.ofArray(values), rows, k, k + 1);
    if (isLargest) {
      TopK.largest(x, k, to, MemorySegment.ofArray(places), 1);
    } else {
      TopK.smallest(x, k, to, MemorySegment.ofArray(places), 1);
    }
    for (int r = 0; r < rows; r++) {
      float[] row =
          x.segment()
              .asSlice(4 * r * x.stride(), 4L * x.cols())
              .toArray(ValueLayout.JAVA_FLOAT_UNALIGNED);
      int[] expected = Arrays.copyOf(sorted(row, isLargest), k);
      assertArrayEquals(expected, Arrays.copyOfRange(places, 1 + r * k, 1 + (r + 1) * k));
      for (int i = 0; i < k; i++) {
        assertEquals(
            Float.floatToRawIntBits(row[expected[i]]),
            Float.floatToRawIntBits(values[r * (k + 1) + i]));
      }
      assertEquals(0, values[r * (k + 1) + k]);
    }
  }

  @Test
  void wrongCallsAreNamed() {
    MemorySegment memory = MemorySegment.ofArray(new float[64]);
    Matrix x = new Matrix(memory, 3, 4);
    Matrix values = new Matrix(memory, 30, 3, 2, 2, false);
    MemorySegment places = MemorySegment.ofArray(new int[6]);
    TopK.largest(x, 2, values, places, 0);
    refused("k is 5", () -> TopK.largest(x, 5, values, places, 0));
    refused("k is -1", () -> TopK.smallest(x, -1, values, places, 0));
    refused("values is 3 x 2", () -> TopK.largest(x, 3, values, places, 0));
    refused("places", () -> TopK.largest(x, 2, values, places, 1));
    refused("x is a transposed view", () -> TopK.largest(x.transposed(), 2, values, places, 0));
    Matrix over = new Matrix(memory, 11, 3, 2, 2, false);
    refused("values is written but shares", () -> TopK.largest(x, 2, over, places, 0));
  }

  private static void refused(String words, Runnable call) {
    String message = assertThrows(IllegalArgumentException.class, call::run).getMessage();
    assertTrue(message.contains(words), message);
  }
}
