package dev.lanewise.simd;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

class GemmTest {
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;
  private static final Arena GLOBAL = Arena.global();
  private final int threadsBefore = Workers.threads();

  @AfterEach
  void restoreThreads() {
    MicroKernel.useMachineCode(true);
    Workers.setThreads(threadsBefore);
  }

  /** A matrix of uniform numbers in [-1, 1) with gaps and a start that no vector is aligned to. */
  private static Matrix random(Random random, int rows, int cols, int gap, boolean isTransposed) {
    int storedRows = isTransposed ? cols : rows;
    int storedCols = isTransposed ? rows : cols;
    long stride = storedCols + gap;
    MemorySegment s = GLOBAL.allocate(4 * (storedRows * stride + 8), 4);
    fill(random, s);
    return new Matrix(s, 1, rows, cols, stride, isTransposed);
  }

  private static void fill(Random random, MemorySegment s) {
    for (long i = 0; i < s.byteSize() / 4; i++) {
      s.setAtIndex(FLOAT, i, 2 * random.nextFloat() - 1);
    }
  }

  private static float get(Matrix m, int i, int j) {
    long at = m.isTransposed() ? j * m.stride() + i : i * m.stride() + j;
    return m.segment().get(FLOAT, 4 * (m.offset() + at));
  }

  private static void set(Matrix m, int i, int j, float x) {
    long at = m.isTransposed() ? j * m.stride() + i : i * m.stride() + j;
    m.segment().set(FLOAT, 4 * (m.offset() + at), x);
  }

  private static float[] floats(Matrix m) {
    float[] all = new float[m.rows() * m.cols()];
    for (int i = 0; i < all.length; i++) {
      all[i] = get(m, i / m.cols(), i % m.cols());
    }
    return all;
  }

  private static double[][] product(Matrix a, Matrix b) {
    double[][] c = new double[a.rows()][b.cols()];
    for (int i = 0; i < a.rows(); i++) {
      for (int k = 0; k < a.cols(); k++) {
        double x = get(a, i, k);
        for (int j = 0; j < b.cols(); j++) {
          c[i][j] += x * get(b, k, j);
        }
      }
    }
    return c;
  }

  /** Bound on the rounding of a sum of {@code k} products of numbers below 1, as it grows. */
  private static double tolerance(int k) {
    return 1e-6 + 8e-8 * k;
  }

  private static void assertClose(double[][] expected, Matrix c, int k, String what) {
    for (int i = 0; i < c.rows(); i++) {
      for (int j = 0; j < c.cols(); j++) {
        float actual = get(c, i, j);
        if (!(Math.abs(expected[i][j] - actual) <= tolerance(k))) {
          assertEquals(expected[i][j], actual, tolerance(k), what + " at " + i + ", " + j);
        }
      }
    }
  }

  @ParameterizedTest
  @CsvSource({"false,false", "false,true", "true,false", "true,true"})
  void everySizeToPastTwoTiles(boolean transposeA, boolean transposeB) {
    int maxM = 2 * MicroKernel.ROWS + 3;
    int maxN = 2 * MicroKernel.COLS + 3;
    Random random = new Random(1);
    for (int k : new int[] {0, 1, 2, 3, 5, 16, 19}) {
      Matrix a = random(random, maxM, k, 3, transposeA);
      Matrix b = random(random, k, maxN, 1, transposeB);
      double[][] expected = product(a, b);
      Matrix whole = random(random, maxM, maxN, 2, false);
      for (int m = 1; m <= maxM; m++) {
        for (int n = 1; n <= maxN; n++) {
          Matrix c = whole.rows(0, m).cols(0, n);
          for (int i = 0; i < m; i++) {
            set(c, i, n - 1, Float.NaN);
          }
          float below = m < maxM ? get(whole, m, 0) : 0;
          float beside = n < maxN ? get(whole, 0, n) : 0;
          Gemm.multiply(a.rows(0, m), b.cols(0, n), c);
          assertClose(expected, c, k, m + " x " + n + " x " + k);
          assertEquals(below, m < maxM ? get(whole, m, 0) : 0);
          assertEquals(beside, n < maxN ? get(whole, 0, n) : 0);
        }
      }
    }
  }

  /** B transposed and so deep that the product is computed transposed. */
  @ParameterizedTest
  @ValueSource(ints = {1, 2, 3})
  void everySizeOfTurnedStrips(int threads) {
    Workers.setThreads(threads);
    int[] rows = {9, 16, 17, 31, 33, 64, 65, 127, 128, 130};
    int maxM = 130;
    int maxN = MicroKernel.COLS + 8 * MicroKernel.ROWS + 3;
    Random random = new Random(11);
    Matrix a = random(random, maxM, 2 * maxM, 3, false);
    Matrix b = random(random, 2 * maxM, maxN, 1, true);
    double[][] expected = product(a, b);
    Matrix whole = random(random, maxM + 1, maxN + 1, 2, false);
    for (int m : rows) {
      for (int n = MicroKernel.COLS; n <= maxN; n++) {
        assertTrue(Blocking.turns(m, n, a.cols()));
        Matrix c = whole.rows(0, m).cols(0, n);
        set(c, m - 1, n - 1, Float.NaN);
        float below = get(whole, m, 0);
        float beside = get(whole, 0, n);
        Gemm.multiply(a.rows(0, m), b.cols(0, n), c);
        assertClose(expected, c, a.cols(), m + " x " + n);
        assertEquals(below, get(whole, m, 0));
        assertEquals(beside, get(whole, 0, n));
      }
    }
  }

  @ParameterizedTest
  @CsvSource({
    "1,1,1",
    "1,300,70",
    "4,517,1030",
    "5,64,2100",
    "37,1,129",
    "129,67,1500",
    "64,64,3000",
    "131,257,513",
    "300,40,1025",
    "13,1000,31"
  })
  void depthInBlocksAndShapesOfAllKinds(int m, int n, int k) {
    Random random = new Random(m * 31 + n * 7 + k);
    for (int t = 0; t < 8; t++) {
      Matrix a = random(random, m, k, t, (t & 1) != 0);
      Matrix b = random(random, k, n, 5, (t & 2) != 0);
      Matrix c = random(random, m, n, 1, (t & 4) != 0);
      Gemm.multiply(a, b, c);
      assertClose(product(a, b), c, k, "transposes " + t);
      if ((t & 4) == 0) {
        Matrix again = random(random, m, n, 0, false);
        Gemm.multiply(a, PackedMatrix.of(GLOBAL, b), again);
        float difference = Math.min(m, n) <= SkinnyKernel.ROWS ? (float) tolerance(k) : 0;
        assertArrayEquals(floats(c), floats(again), difference, "packed, transposes " + t);
      }
    }
  }

  @ParameterizedTest
  @CsvSource({"1,0", "1,1", "-0.5,0", "2,0.25", "0,1", "0,0", "0,-3", "1,-1"})
  void alphaAndBeta(float alpha, float beta) {
    alphaAndBeta(alpha, beta, false);
    alphaAndBeta(alpha, beta, true);
  }

  private static void alphaAndBeta(float alpha, float beta, boolean isTransposed) {
    Random random = new Random(5);
    for (int[] s :
        new int[][] {{3, 5, 4}, {25, 70, 1100}, {64, 96, 64}, {2, 200, 40}, {30, 150, 90}}) {
      Matrix a = random(random, s[0], s[2], 0, false);
      Matrix b = random(random, s[2], s[1], 0, isTransposed);
      Matrix c = random(random, s[0], s[1], 3, false);
      double[][] expected = product(a, b);
      for (int i = 0; i < s[0]; i++) {
        for (int j = 0; j < s[1]; j++) {
          expected[i][j] = alpha * expected[i][j] + beta * get(c, i, j);
        }
      }
      if (beta == 0) {
        set(c, 0, 0, Float.NaN);
        set(c, s[0] - 1, s[1] - 1, Float.POSITIVE_INFINITY);
      }
      if (alpha == 0) {
        set(a, 0, 0, Float.NaN);
      }
      Gemm.multiply(alpha, a, b, beta, c);
      assertClose(expected, c, 4 * s[2], Arrays.toString(s));
    }
  }

  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void fewRowsOfEveryLength(boolean transposeA) {
    Random random = new Random(8);
    int lanes = Machine.LANES;
    for (int k : new int[] {4 * lanes - 1, 4 * lanes, 4 * lanes + 1, 11 * lanes + 3, 12 * lanes}) {
      for (int n : new int[] {1, lanes - 1, lanes, 2 * lanes + 3}) {
        for (int m = 1; m <= SkinnyKernel.ROWS + 1; m++) {
          Matrix a = random(random, m, k, 1, transposeA);
          Matrix b = random(random, k, n, 2, true);
          Matrix c = random(random, m, n, 1, false);
          double[][] expected = product(a, b);
          for (int i = 0; i < m; i++) {
            for (int j = 0; j < n; j++) {
              expected[i][j] = 0.5 * expected[i][j] - 2 * get(c, i, j);
            }
          }
          Gemm.multiply(0.5f, a, b, -2, c);
          assertClose(expected, c, k, m + " x " + n + " x " + k);
        }
      }
    }
  }

  /** B as it is, or few columns: with what else may follow, in blocks of the depth, by threads. */
  @ParameterizedTest
  @ValueSource(ints = {0, 1, 2, 3})
  void fewRowsOrColumnsOfEveryKind(int transposes) {
    Random random = new Random(12);
    int lanes = Machine.LANES;
    for (int few = 1; few <= SkinnyKernel.ROWS + 1; few++) {
      for (int many : new int[] {1, lanes, 3 * lanes + 5, 1100}) {
        for (int k : new int[] {1, 3, 17 * few, 131, 1029}) {
          for (boolean isTall : new boolean[] {false, true}) {
            int m = isTall ? many : few;
            int n = isTall ? few : many;
            Matrix a = random(random, m, k, 1, (transposes & 1) != 0);
            Matrix b = random(random, k, n, 2, (transposes & 2) != 0);
            Matrix c = random(random, m, n, 3, false);
            Matrix residual = random(random, m, n, 1, false);
            MemorySegment bias = GLOBAL.allocate(4L * n);
            fill(random, bias);
            double[][] expected = product(a, b);
            double[][] added = new double[m][n];
            for (int i = 0; i < m; i++) {
              for (int j = 0; j < n; j++) {
                added[i][j] = expected[i][j] + bias.get(FLOAT, 4L * j) + get(residual, i, j);
                expected[i][j] += 0.5 * get(c, i, j);
              }
            }
            String what = m + " x " + n + " x " + k;
            Gemm.multiply(1, a, b, 0.5f, c);
            assertClose(expected, c, k + 1, what);
            Epilogue epilogue = new Epilogue().bias(bias, 0).residual(residual);
            Workers.setThreads(1);
            Gemm.multiply(a, b, c, epilogue);
            assertClose(added, c, k + 2, what);
            float[] one = floats(c);
            Workers.setThreads(3);
            Gemm.multiply(a, b, c, epilogue);
            assertArrayEquals(one, floats(c), what);
          }
        }
      }
    }
  }

  /** Rows of B are added up in the order in which tiles add. */
  @Test
  void fewRowsOfAnUntransposedProductAreThoseOfMany() {
    Random random = new Random(13);
    Matrix a = random(random, 30, 1500, 1, false);
    Matrix b = random(random, 1500, 70, 2, false);
    Matrix all = random(random, 30, 70, 0, false);
    Gemm.multiply(a, b, all);
    for (int m = 1; m <= SkinnyKernel.ROWS; m++) {
      Matrix few = random(random, m, 70, 1, false);
      Gemm.multiply(a.rows(5, 5 + m), b, few);
      assertArrayEquals(floats(all.rows(5, 5 + m)), floats(few), m + " rows");
    }
  }

  @Test
  void emptyProducts() {
    Random random = new Random(2);
    Matrix c = random(random, 5, 7, 0, false);
    float[] before = floats(c);
    Gemm.multiply(1, random(random, 5, 0, 1, false), random(random, 0, 7, 0, false), 1, c);
    assertArrayEquals(before, floats(c));
    Gemm.multiply(random(random, 5, 0, 1, false), random(random, 0, 7, 0, false), c);
    assertArrayEquals(new float[35], floats(c));
    Gemm.multiply(random(random, 0, 3, 0, false), random(random, 3, 7, 0, false), c.rows(0, 0));
    Gemm.multiply(random(random, 5, 3, 0, false), random(random, 3, 0, 0, false), c.cols(0, 0));
    assertArrayEquals(new float[35], floats(c));
    Gemm.batched(
        0,
        false,
        false,
        1,
        1,
        1,
        1,
        c.segment(),
        0,
        1,
        1,
        c.segment(),
        0,
        1,
        1,
        0,
        GLOBAL.allocate(4),
        0,
        1,
        1);
  }

  @Test
  void notANumberAndInfinityPropagate() {
    Random random = new Random(3);
    for (int m : new int[] {1, 4, 13, 40}) {
      Matrix a = random(random, m, 50, 0, false);
      Matrix b = random(random, 50, 70, 0, true);
      Matrix c = random(random, m, 70, 0, false);
      set(a, m - 1, 7, Float.NaN);
      set(b, 3, 69, Float.POSITIVE_INFINITY);
      set(a, 0, 3, 0.5f);
      Gemm.multiply(a, b, c);
      for (int j = 0; j < 70; j++) {
        assertTrue(Float.isNaN(get(c, m - 1, j)));
      }
      if (m > 1) {
        assertEquals(Float.POSITIVE_INFINITY, get(c, 0, 69));
        assertTrue(Float.isFinite(get(c, 0, 68)));
      }
    }
  }

  @Test
  void memoryBeyondTheOperandsIsNotTouched() {
    assumeTrue(GuardedMemory.isAvailable());
    Random random = new Random(4);
    try (Arena arena = Arena.ofShared()) {
      for (int[] s :
          new int[][] {
            {1, 1, 1}, {1, 67, 33}, {4, 40, 7}, {13, 33, 17}, {7, 129, 50}, {29, 5, 3}, {19, 83, 41}
          }) {
        for (int t = 0; t < 4; t++) {
          for (boolean atEnd : new boolean[] {false, true}) {
            Matrix a = guarded(arena, random, s[0], s[2], (t & 1) != 0, atEnd);
            Matrix b = guarded(arena, random, s[2], s[1], (t & 2) != 0, atEnd);
            Matrix c = guarded(arena, random, s[0], s[1], false, atEnd);
            MemorySegment bias = GuardedMemory.endingAtGuard(arena, 4L * s[1]);
            Matrix p = guarded(arena, random, s[0], s[1], false, atEnd);
            Matrix r = guarded(arena, random, s[0], s[1], false, atEnd);
            for (boolean machineCode : new boolean[] {false, true}) {
              MicroKernel.useMachineCode(machineCode);
              Gemm.multiply(a, b, c);
              assertClose(product(a, b), c, s[2], Arrays.toString(s));
              Gemm.multiply(a, b, c, new Epilogue().bias(bias, 0).residual(r));
            }
            Gemm.multiply(
                1,
                a,
                b,
                0,
                c,
                new Epilogue()
                    .bias(bias, 0)
                    .activation(Epilogue.Activation.GELU_TANH)
                    .preActivation(p)
                    .residual(r));
            Gemm.multiply(a, b, c, new Epilogue().gradient(Epilogue.Activation.GELU_TANH, p));
          }
        }
      }
    }
  }

  private static Matrix guarded(
      Arena arena, Random random, int rows, int cols, boolean isTransposed, boolean atEnd) {
    long bytes = 4L * rows * cols;
    MemorySegment s =
        atEnd
            ? GuardedMemory.endingAtGuard(arena, bytes)
            : GuardedMemory.startingAtGuard(arena, bytes);
    fill(random, s);
    return new Matrix(s, 0, rows, cols, isTransposed ? rows : cols, isTransposed);
  }

  /** Of all ways through a product: by columns, by rows, turned, packed, in blocks, with rests. */
  @ParameterizedTest
  @CsvSource({
    "6,64,1",
    "1,64,30",
    "5,200,7",
    "12,128,64",
    "29,129,77",
    "30,96,40",
    "96,192,50",
    "131,257,33",
    "256,2304,48",
    "400,130,20",
    "61,320,1100",
    "20,700,512",
    "48,640,2100"
  })
  void machineCodeGivesTheSameBits(int m, int n, int k) {
    assumeTrue(MicroKernel.usesMachineCode());
    Random random = new Random(m * 31L + n * 7L + k);
    MemorySegment bias = GLOBAL.allocate(4L * n + 4);
    fill(random, bias);
    for (int t = 0; t < 4; t++) {
      Matrix a = random(random, m, k, t, (t & 1) != 0);
      Matrix b = random(random, k, n, 2, (t & 2) != 0);
      Matrix residual = random(random, m, n, 3, false);
      Matrix c = random(random, m, n, 1, false);
      set(a, m / 2, k / 2, Float.MIN_VALUE);
      set(b, k / 3, n / 2, Float.MIN_NORMAL / 2);
      float[] before = floats(c);
      PackedMatrix packed = PackedMatrix.of(GLOBAL, b);
      List<Runnable> calls =
          List.of(
              () -> Gemm.multiply(a, b, c),
              () -> Gemm.multiply(0.3f, a, b, -1.5f, c, null),
              () -> Gemm.multiply(a, b, c, new Epilogue().bias(bias, 1)),
              () -> Gemm.multiply(a, b, c, new Epilogue().bias(bias, 1).residual(residual)),
              () ->
                  Gemm.multiply(
                      a,
                      b,
                      c,
                      new Epilogue().bias(bias, 1).activation(Epilogue.Activation.GELU_ERF)),
              () -> Gemm.multiply(1, a, packed, 1, c, null),
              () -> Gemm.multiply(1, a, packed, 0, c, new Epilogue().bias(bias, 1)));
      for (int call = 0; call < calls.size(); call++) {
        float[][] results = new float[2][];
        for (int way = 0; way < 2; way++) {
          MicroKernel.useMachineCode(way == 1);
          Workers.setThreads(1 + 2 * way);
          for (int i = 0; i < before.length; i++) {
            set(c, i / n, i % n, before[i]);
          }
          calls.get(call).run();
          results[way] = floats(c);
        }
        assertArrayEquals(results[0], results[1], "transposes " + t + ", call " + call);
      }
    }
  }

  @Test
  void anyNumberOfThreadsGivesTheSameBits() {
    Random random = new Random(6);
    for (int[] s :
        new int[][] {
          {100, 300, 1500},
          {300, 100, 700},
          {500, 100, 700},
          {256, 400, 600},
          {1, 5000, 300},
          {4, 900, 64}
        }) {
      for (boolean isTransposed : new boolean[] {false, true}) {
        Matrix a = random(random, s[0], s[2], 0, isTransposed);
        Matrix b = random(random, s[2], s[1], 0, true);
        Matrix c = random(random, s[0], s[1], 0, false);
        Workers.setThreads(1);
        Gemm.multiply(a, b, c);
        float[] one = floats(c);
        for (int threads : new int[] {2, 3, 7}) {
          Workers.setThreads(threads);
          c.segment().fill((byte) 0);
          Gemm.multiply(a, b, c);
          assertArrayEquals(one, floats(c), threads + " threads");
        }
      }
    }
  }

  @Test
  void heapSegmentsWork() {
    Random random = new Random(7);
    Matrix a = random(random, 17, 40, 2, false);
    Matrix b = random(random, 40, 33, 0, true);
    Matrix c = random(random, 17, 33, 5, false);
    Matrix p = random(random, 17, 33, 0, false);
    Matrix r = random(random, 17, 33, 1, false);
    Matrix heapA = onHeap(a);
    Matrix heapC = onHeap(c);
    Matrix heapP = onHeap(p);
    Epilogue e =
        new Epilogue()
            .activation(Epilogue.Activation.GELU_ERF)
            .bias(r.segment(), 3)
            .preActivation(p)
            .residual(r);
    Epilogue heapE =
        new Epilogue()
            .activation(Epilogue.Activation.GELU_ERF)
            .bias(onHeap(r).segment(), 3)
            .preActivation(heapP)
            .residual(onHeap(r));
    Gemm.multiply(2, a, b, 3, c, e);
    Gemm.multiply(2, heapA, b, 3, heapC, heapE);
    assertArrayEquals(floats(c), floats(heapC));
    assertArrayEquals(floats(p), floats(heapP));
    assertEquals(-1, c.segment().mismatch(heapC.segment()));
    PackedMatrix packed = PackedMatrix.of(GLOBAL, onHeap(b));
    Gemm.multiply(heapA, packed, heapC);
    Gemm.multiply(a, b, c);
    assertArrayEquals(floats(c), floats(heapC));
  }

  private static Matrix onHeap(Matrix m) {
    float[] array = m.segment().toArray(ValueLayout.JAVA_FLOAT);
    return new Matrix(
        MemorySegment.ofArray(array), m.offset(), m.rows(), m.cols(), m.stride(), m.isTransposed());
  }

  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void batchesOfAllOrientations(boolean few) {
    Random random = new Random(8);
    int batches = few ? 1 : 6;
    int m = few ? 70 : 33;
    int n = 45;
    int k = few ? 300 : 20;
    for (int t = 0; t < 4; t++) {
      MemorySegment a = GLOBAL.allocate(4L * batches * m * k);
      MemorySegment b = GLOBAL.allocate(4L * batches * n * k);
      MemorySegment c = GLOBAL.allocate(4L * batches * m * n);
      fill(random, a);
      fill(random, b);
      boolean ta = (t & 1) != 0;
      boolean tb = (t & 2) != 0;
      int lda = ta ? m : k;
      int ldb = tb ? k : n;
      // Products interleaved by rows, as the heads of attention are.
      long ldc = (long) batches * n;
      Gemm.batched(
          batches,
          ta,
          tb,
          m,
          n,
          k,
          1,
          a,
          0,
          lda,
          (long) m * k,
          b,
          0,
          ldb,
          (long) k * n,
          0,
          c,
          0,
          ldc,
          n);
      for (int i = 0; i < batches; i++) {
        Matrix ai = new Matrix(a, (long) i * m * k, m, k, lda, ta);
        Matrix bi = new Matrix(b, (long) i * n * k, k, n, ldb, tb);
        Matrix ci = new Matrix(c, (long) i * n, m, n, ldc, false);
        assertClose(product(ai, bi), ci, k, "batch " + i);
      }
    }
  }

  @ParameterizedTest
  @EnumSource(Epilogue.Activation.class)
  void epiloguesFollowTheFormula(Epilogue.Activation activation) {
    Random random = new Random(9);
    for (int[] s :
        new int[][] {
          {1, 1, 3}, {3, 37, 40}, {30, 75, 1100}, {130, 70, 20}, {400, 130, 20}, {1400, 130, 190}
        }) {
      int m = s[0];
      int n = s[1];
      Matrix a = random(random, m, s[2], 0, false);
      Matrix b = random(random, s[2], n, 0, true);
      Matrix c = random(random, m, n, 1, false);
      MemorySegment bias = GLOBAL.allocate(4L * n + 4);
      fill(random, bias);
      Matrix kept = random(random, m, n, 2, false);
      Matrix residual = random(random, m, n, 3, false);
      Matrix before = random(random, m, n, 0, false);
      double[][] pre = product(a, b);
      double[][] out = new double[m][n];
      double[][] back = new double[m][n];
      for (int i = 0; i < m; i++) {
        for (int j = 0; j < n; j++) {
          set(before, i, j, 4 * get(before, i, j));
          back[i][j] = pre[i][j] * derivative(activation, get(before, i, j));
          pre[i][j] += bias.get(FLOAT, 4 * (j + 1)) + 0.5 * get(c, i, j);
          out[i][j] = apply(activation, pre[i][j]) + get(residual, i, j);
        }
      }
      Epilogue forward =
          new Epilogue()
              .bias(bias, 1)
              .activation(activation)
              .preActivation(kept)
              .residual(residual);
      Gemm.multiply(1, a, b, 0.5f, c, forward);
      assertClose(pre, kept, 2 * s[2], "pre-activation");
      assertClose(out, c, 2 * s[2], "output");
      Epilogue backward = new Epilogue().gradient(activation, before);
      Gemm.multiply(a, b, c, backward);
      assertClose(back, c, 4 * s[2], "gradient");
      Matrix packed = random(random, m, n, 0, false);
      Gemm.multiply(1, a, PackedMatrix.of(GLOBAL, b), 0, packed, backward);
      float difference = Math.min(m, n) <= SkinnyKernel.ROWS ? (float) tolerance(4 * s[2]) : 0;
      assertArrayEquals(floats(c), floats(packed), difference);
    }
  }

  @ParameterizedTest
  @CsvSource({"1,1,3", "6,64,5", "13,150,40", "131,257,30", "400,130,20", "20,128,1100"})
  void biasAndResidualAreAddedAfterTheProduct(int m, int n, int k) {
    Random random = new Random(m * 31 + n * 7 + k);
    MemorySegment bias = GLOBAL.allocate(4L * n + 4);
    fill(random, bias);
    for (int t = 0; t < 4; t++) {
      Matrix a = random(random, m, k, t, (t & 1) != 0);
      Matrix b = random(random, k, n, 2, (t & 2) != 0);
      Matrix residual = random(random, m, n, 3, false);
      Matrix plain = random(random, m, n, 0, false);
      Matrix c = random(random, m, n, 1, false);
      Gemm.multiply(a, b, plain);
      float[] biased = new float[m * n];
      float[] added = new float[m * n];
      for (int i = 0; i < m * n; i++) {
        biased[i] = get(plain, i / n, i % n) + bias.get(FLOAT, 4 * (i % n + 1L));
        added[i] = biased[i] + get(residual, i / n, i % n);
      }
      Gemm.multiply(a, b, c, new Epilogue().bias(bias, 1));
      assertArrayEquals(biased, floats(c), "bias, transposes " + t);
      Gemm.multiply(a, b, c, new Epilogue().bias(bias, 1).residual(residual));
      assertArrayEquals(added, floats(c), "residual, transposes " + t);
    }
  }

  private static double apply(Epilogue.Activation activation, double x) {
    return switch (activation) {
      case NONE -> x;
      case GELU_TANH -> x / (1 + Math.exp(-2 * Math.sqrt(2 / Math.PI) * inner(x)));
      case GELU_ERF -> x * normal(x);
    };
  }

  private static double inner(double x) {
    return x + 0.044715 * x * x * x;
  }

  private static double derivative(Epilogue.Activation activation, double x) {
    double h = 1e-5;
    return (apply(activation, x + h) - apply(activation, x - h)) / (2 * h);
  }

  /** The normal distribution function by Simpson's rule from 0. */
  private static double normal(double x) {
    int steps = 200;
    double h = x / steps;
    double sum = 0;
    for (int i = 0; i <= steps; i++) {
      double w = i == 0 || i == steps ? 1 : i % 2 == 1 ? 4 : 2;
      sum += w * Math.exp(-0.5 * (i * h) * (i * h));
    }
    return 0.5 + sum * h / 3 / Math.sqrt(2 * Math.PI);
  }

  @Test
  void wrongCallsAreRefusedBeforeAnythingIsWritten() {
    Random random = new Random(10);
    Matrix a = random(random, 4, 5, 0, false);
    Matrix b = random(random, 5, 6, 0, false);
    Matrix c = random(random, 4, 6, 0, false);
    float[] before = floats(c);
    refused("4 x 5", () -> Gemm.multiply(a, b.transposed(), c));
    refused("c must be 4 x 6", () -> Gemm.multiply(a, b, c.transposed()));
    refused("null", () -> Gemm.multiply(null, b, c));
    refused("null", () -> Gemm.multiply(a, (PackedMatrix) null, c));
    Matrix square = random(random, 4, 4, 0, false);
    refused("shares memory", () -> Gemm.multiply(square, square, square));
    Matrix readOnly = new Matrix(c.segment().asReadOnly(), 4, 6);
    refused("read-only", () -> Gemm.multiply(a, b, readOnly));
    try (Arena arena = Arena.ofConfined()) {
      refused("confined", () -> PackedMatrix.of(arena, b));
    }
    Arena closing = Arena.ofShared();
    Matrix closed = new Matrix(closing.allocate(4 * 20), 4, 5);
    closing.close();
    refused("closed", () -> Gemm.multiply(closed, b, c));
    Epilogue wrong = new Epilogue().residual(random(random, 4, 7, 0, false));
    refused("residual is 4 x 7", () -> Gemm.multiply(a, b, c, wrong));
    refused("bias", () -> Gemm.multiply(a, b, c, new Epilogue().bias(GLOBAL.allocate(20), 0)));
    refused("shares memory", () -> Gemm.multiply(a, b, c, new Epilogue().residual(c)));
    MemorySegment s = GLOBAL.allocate(400);
    refused(
        "stride",
        () -> Gemm.sgemm(false, false, 4, 6, 5, 1, s, 0, 4, s, 0, 6, 0, c.segment(), 0, 6));
    refused(
        "do not fit",
        () -> Gemm.sgemm(false, false, 4, 6, 5, 1, s, 90, 5, s, 0, 6, 0, c.segment(), 0, 6));
    refused(
        "negative",
        () -> Gemm.sgemm(false, false, -4, 6, 5, 1, s, 0, 5, s, 0, 6, 0, c.segment(), 0, 6));
    refused(
        "overlap",
        () ->
            Gemm.batched(
                2, false, false, 4, 6, 5, 1, s, 0, 5, 0, s, 0, 6, 0, 0, c.segment(), 0, 6, 3));
    refused("5 x 6", () -> PackedMatrix.of(GLOBAL, b).pack(a));
    assertArrayEquals(before, floats(c));
  }

  private static void refused(String part, Executable call) {
    String message = assertThrows(IllegalArgumentException.class, call).getMessage();
    assertTrue(message.contains(part), message);
  }

  @Test
  void operandsBeyondTwoGibibytes() {
    assumeTrue(GuardedMemory.isAvailable());
    // Untouched pages of a mapping cost nothing, so that rows may lie far apart.
    try (Arena arena = Arena.ofShared()) {
      long stride = 400_000_000;
      int n = 3;
      MemorySegment far = GuardedMemory.endingAtGuard(arena, 4 * (2 * stride + n));
      Matrix b = new Matrix(far, n, n, stride);
      for (int i = 0; i < n; i++) {
        for (int j = 0; j < n; j++) {
          set(b, i, j, 1 + i * 3 + j);
        }
      }
      Matrix c = new Matrix(GLOBAL.allocate(36), n, n);
      Gemm.multiply(b, b.transposed(), c);
      assertArrayEquals(new float[] {14, 32, 50, 32, 77, 122, 50, 122, 194}, floats(c));
      Gemm.multiply(c, c, b);
      assertEquals(14 * 14 + 32 * 32 + 50 * 50, get(b, 0, 0));
      assertEquals(50 * 50 + 122 * 122 + 194 * 194, get(b, 2, 2));
    }
  }
}
