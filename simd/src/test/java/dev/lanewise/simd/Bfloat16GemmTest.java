package dev.lanewise.simd;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.Random;
import java.util.zip.CRC32;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class Bfloat16GemmTest {
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;
  private static final ValueLayout.OfShort SHORT = ValueLayout.JAVA_SHORT_UNALIGNED;
  private static final Arena GLOBAL = Arena.global();
  private final int threadsBefore = Workers.threads();

  @AfterEach
  void restore() {
    Workers.setThreads(threadsBefore);
    Bfloat16Kernel.useMachineCode(true);
  }

  private interface Numbers {
    float next();
  }

  /** A matrix with gaps and a start that no vector is aligned to. */
  private static MatrixView matrix(
      Numbers numbers, int rows, int cols, int gap, boolean isTransposed, boolean isHalf) {
    int storedRows = isTransposed ? cols : rows;
    int storedCols = isTransposed ? rows : cols;
    long stride = storedCols + gap;
    int bytes = isHalf ? 2 : 4;
    MemorySegment s = GLOBAL.allocate(bytes * (storedRows * stride + 8), bytes);
    for (long i = 0; i < s.byteSize() / bytes; i++) {
      if (isHalf) {
        s.setAtIndex(SHORT, i, Bfloat16.fromFloat(numbers.next()));
      } else {
        s.setAtIndex(FLOAT, i, numbers.next());
      }
    }
    return isHalf
        ? new Bfloat16Matrix(s, 1, rows, cols, stride, isTransposed)
        : new Matrix(s, 1, rows, cols, stride, isTransposed);
  }

  private static Numbers uniform(Random random) {
    return () -> 2 * random.nextFloat() - 1;
  }

  /** Numbers of all kinds, many of which have sums that are too small for a normal float. */
  private static Numbers hard(Random random) {
    float[] special = {
      0f,
      -0f,
      Float.POSITIVE_INFINITY,
      Float.NaN,
      Float.MIN_VALUE,
      -Float.MIN_NORMAL,
      0x1p-130f,
      Float.MAX_VALUE,
      1f,
      -1f,
      0x1.fep127f
    };
    return () -> {
      int kind = random.nextInt(40);
      if (kind == 0) {
        return special[random.nextInt(special.length)];
      }
      float x = 1 + random.nextInt(128) / 128f;
      return Math.scalb(random.nextBoolean() ? x : -x, -66 + random.nextInt(8));
    };
  }

  private static long at(MatrixView m, int i, int j) {
    return m.offset() + (m.isTransposed() ? j * m.stride() + i : i * m.stride() + j);
  }

  private static float get(MatrixView m, int i, int j) {
    return m.type() == ElementType.BFLOAT16
        ? Bfloat16.toFloat(m.segment().get(SHORT, 2 * at(m, i, j)))
        : m.segment().get(FLOAT, 4 * at(m, i, j));
  }

  private static void set(Matrix m, int i, int j, float x) {
    m.segment().set(FLOAT, 4 * at(m, i, j), x);
  }

  private static float rounded(MatrixView m, int i, int j) {
    return Bfloat16.toFloat(Bfloat16.fromFloat(get(m, i, j)));
  }

  private static float[] floats(MatrixView m) {
    float[] all = new float[m.rows() * m.cols()];
    for (int i = 0; i < all.length; i++) {
      all[i] = get(m, i / m.cols(), i % m.cols());
    }
    return all;
  }

  /** A copy of the whole segment, to see what is written. */
  private static Matrix copy(Matrix m) {
    MemorySegment s = GLOBAL.allocate(m.segment().byteSize(), 4);
    s.copyFrom(m.segment());
    return new Matrix(s, m.offset(), m.rows(), m.cols(), m.stride(), m.isTransposed());
  }

  /** Equal to the bit, but that any NaN equals any other. */
  private static void assertSame(float[] expected, float[] actual, String what) {
    for (int i = 0; i < expected.length; i++) {
      assertEquals(
          Float.floatToIntBits(expected[i]), Float.floatToIntBits(actual[i]), what + " at " + i);
    }
  }

  /** Exact but for the sum's rounding: products of bfloat16 are exact in double. */
  private static void assertClose(MatrixView a, MatrixView b, MatrixView c, String what) {
    int k = a.cols();
    for (int i = 0; i < c.rows(); i++) {
      for (int j = 0; j < c.cols(); j++) {
        double sum = 0;
        double size = 0;
        for (int p = 0; p < k; p++) {
          double product = (double) rounded(a, i, p) * rounded(b, p, j);
          sum += product;
          size += Math.abs(product);
        }
        double bound = (k + 1) * size * 0x1p-24;
        if (!(Math.abs(get(c, i, j) - sum) <= bound)) {
          assertEquals(sum, get(c, i, j), bound, what + " at " + i + ", " + j);
        }
      }
    }
  }

  @ParameterizedTest
  @CsvSource({
    "1,1,1",
    "1,300,70",
    "4,517,103",
    "5,64,210",
    "6,64,64",
    "37,1,129",
    "129,67,50",
    "12,70,4099",
    "131,257,33",
    "300,40,65",
    "13,200,1100",
    "70,65,31"
  })
  void shapesLayoutsAndTypes(int m, int n, int k) {
    Random random = new Random(m * 31 + n * 7 + k);
    Numbers numbers = uniform(random);
    for (int t = 0; t < 16; t++) {
      String what = m + " x " + n + " x " + k + ", case " + t;
      MatrixView a = matrix(numbers, m, k, t & 3, (t & 1) != 0, (t & 4) != 0);
      MatrixView b = matrix(numbers, k, n, 5, (t & 2) != 0, (t & 8) != 0);
      Matrix c = (Matrix) matrix(numbers, m, n, 1, t == 5 || t == 6, false);
      Matrix again = copy(c);
      Bfloat16Gemm.multiply(a, b, c);
      assertClose(a, b, c, what);
      Bfloat16Kernel.useMachineCode(false);
      Bfloat16Gemm.multiply(a, b, again);
      Bfloat16Kernel.useMachineCode(true);
      assertEquals(-1, c.segment().mismatch(again.segment()), what + ", in Java");
      if (!c.isTransposed()) {
        PackedMatrix packed = PackedMatrix.of(GLOBAL, b, ElementType.BFLOAT16);
        Matrix third = copy(c);
        third.segment().asSlice(4, 4).fill((byte) -1);
        Bfloat16Gemm.multiply(a, packed, third);
        assertEquals(-1, c.segment().mismatch(third.segment()), what + ", packed");
        Bfloat16Matrix half = (Bfloat16Matrix) matrix(numbers, m, n, 3, false, true);
        MemorySegment before = GLOBAL.allocate(half.segment().byteSize(), 2);
        before.copyFrom(half.segment());
        Bfloat16Gemm.multiply(a, b, half);
        for (int i = 0; i < m; i++) {
          for (int j = 0; j < n; j++) {
            assertEquals(rounded(c, i, j), get(half, i, j), what + ", as bfloat16");
          }
          for (int j = n; i < m - 1 && j < half.stride(); j++) {
            assertEquals(
                before.get(SHORT, 2 * at(half, i, j)),
                half.segment().get(SHORT, 2 * at(half, i, j)));
          }
        }
      }
    }
  }

  /** What the instruction does, by its description and in double precision. */
  private static float[] byDescription(MatrixView a, MatrixView b) {
    int k = a.cols();
    float[] c = new float[a.rows() * b.cols()];
    for (int i = 0; i < a.rows(); i++) {
      for (int j = 0; j < b.cols(); j++) {
        float sum = 0;
        for (int p = 0; p < k; p += 2) {
          boolean isOdd = p + 1 == k;
          sum = add(sum, isOdd ? 0 : rounded(a, i, p + 1), isOdd ? 0 : rounded(b, p + 1, j));
          sum = add(sum, rounded(a, i, p), rounded(b, p, j));
        }
        c[i * b.cols() + j] = sum;
      }
    }
    return c;
  }

  private static float add(float sum, float x, float y) {
    x = Math.abs(x) < Float.MIN_NORMAL ? 0 * x : x;
    y = Math.abs(y) < Float.MIN_NORMAL ? 0 * y : y;
    float result = Math.fma(x, y, sum);
    if (Float.isNaN(result) || Float.isInfinite(result) || Math.abs(result) > 0x1p-100f) {
      return result;
    }
    // Shifted to where nothing is too small, one operand at a time so that nothing is too large.
    float big = Math.abs(x) > Math.abs(y) ? x : y;
    float little = big == x ? y : x;
    float shifted = Math.fma(little * 0x1p100f, big, sum * 0x1p100f);
    return Math.abs(shifted) < 0x1p-26f ? Math.copySign(0, result) : shifted * 0x1p-100f;
  }

  @ParameterizedTest
  @ValueSource(booleans = {true, false})
  void numbersOfAllKinds(boolean useMachineCode) {
    Bfloat16Kernel.useMachineCode(useMachineCode);
    Random random = new Random(12);
    Numbers numbers = hard(random);
    for (int k : new int[] {1, 2, 3, 7, 30}) {
      for (int t = 0; t < 16; t++) {
        MatrixView a = matrix(numbers, 31, k, 0, (t & 1) != 0, (t & 4) != 0);
        MatrixView b = matrix(numbers, k, 70, 0, (t & 2) != 0, (t & 8) != 0);
        Matrix c = (Matrix) matrix(numbers, 31, 70, 0, false, false);
        Bfloat16Gemm.multiply(a, b, c);
        assertSame(byDescription(a, b), floats(c), "depth " + k + ", case " + t);
      }
    }
  }

  /** Sums at the border of normal floats; results of an AMD EPYC of Zen 5 and of an odd depth. */
  @ParameterizedTest
  @ValueSource(booleans = {true, false})
  void theBorderOfNormalFloats(boolean useMachineCode) {
    Bfloat16Kernel.useMachineCode(useMachineCode);
    float least = Float.MIN_NORMAL;
    float[][] cases = {
      // first sum, then what is added: factors x and y, and the result
      {least, -0x1p-75f, 0x1p-76f, least},
      {least, -0x1.4p-75f, 0x1p-76f, 0},
      {least, -0x1.8p-75f, 0x1p-76f, 0},
      {least, -0x1p-75f, 0x1p-75f, 0},
      {least, -0x1p-75f, 0x1p-74f, 0},
      {least, 0x1p-75f, 0x1p-76f, least},
      {-least, 0x1.4p-75f, 0x1p-76f, -0f},
      {-least, 0x1p-75f, 0x1p-76f, -least},
      {2 * least, -least, 1, least},
      {least, -least, 1, 0},
      {least, -0x1p-127f, 1, least},
    };
    for (float[] s : cases) {
      Matrix a = new Matrix(MemorySegment.ofArray(new float[] {s[1], s[0]}), 1, 2);
      Matrix b = new Matrix(MemorySegment.ofArray(new float[] {s[2], 1}), 2, 1);
      float[] c = {Float.NaN};
      Bfloat16Gemm.multiply(a, b, new Matrix(MemorySegment.ofArray(c), 1, 1));
      assertEquals(s[3], c[0], Arrays.toString(s));
    }
  }

  /** The same on every machine and at every width. */
  @ParameterizedTest
  @ValueSource(booleans = {true, false})
  void bitsOfEveryMachine(boolean useMachineCode) {
    Bfloat16Kernel.useMachineCode(useMachineCode);
    Random random = new Random(33);
    Numbers numbers = uniform(random);
    CRC32 crc = new CRC32();
    for (int t = 0; t < 4; t++) {
      MatrixView a = matrix(numbers, 45, 2301, 0, (t & 1) != 0, false);
      MatrixView b = matrix(numbers, 2301, 131, 0, (t & 2) != 0, false);
      Matrix c = (Matrix) matrix(numbers, 45, 131, 0, false, false);
      Bfloat16Gemm.multiply(0.3f, a, b, 0.7f, c, null);
      crc.update(c.segment().asByteBuffer());
    }
    assertEquals(1007691329L, crc.getValue());
  }

  @ParameterizedTest
  @CsvSource({"1,0", "1,1", "-0.5,0", "2,0.25", "0,1", "0,0", "0,-3", "1,-1"})
  void alphaAndBeta(float alpha, float beta) {
    Random random = new Random(5);
    Numbers numbers = uniform(random);
    for (int[] s : new int[][] {{3, 5, 4}, {25, 70, 1100}, {64, 96, 64}, {30, 150, 4100}}) {
      for (int t = 0; t < 4; t++) {
        MatrixView a = matrix(numbers, s[0], s[2], 0, (t & 1) != 0, t == 2);
        MatrixView b = matrix(numbers, s[2], s[1], 0, (t & 2) != 0, t == 1);
        Matrix product = (Matrix) matrix(numbers, s[0], s[1], 0, false, false);
        Bfloat16Gemm.multiply(a, b, product);
        Matrix c = (Matrix) matrix(numbers, s[0], s[1], 3, false, false);
        Bfloat16Matrix half = new Bfloat16Matrix(GLOBAL.allocate(2L * s[0] * s[1]), s[0], s[1]);
        Bfloat16.fromFloat(c, half);
        float[] before = floats(c);
        float[] halfBefore = floats(half);
        if (beta == 0) {
          set(c, 0, 0, Float.NaN);
        }
        Matrix again = copy(c);
        Bfloat16Gemm.multiply(alpha, a, b, beta, c, null);
        Bfloat16Gemm.multiply(alpha, a, b, beta, half, null);
        Bfloat16Kernel.useMachineCode(false);
        Bfloat16Gemm.multiply(alpha, a, b, beta, again, null);
        Bfloat16Kernel.useMachineCode(true);
        assertEquals(-1, c.segment().mismatch(again.segment()));
        float[] sums = floats(product);
        float[] actual = floats(c);
        float[] halves = floats(half);
        for (int i = 0; i < sums.length; i++) {
          float expected = Math.fma(before[i], beta, alpha * sums[i]);
          assertEquals(expected, actual[i], 4e-5 * Math.sqrt(s[2]), Arrays.toString(s));
          expected = Math.fma(halfBefore[i], beta, alpha * sums[i]);
          assertEquals(expected, halves[i], 1e-6 + Math.abs(expected) / 200, Arrays.toString(s));
        }
      }
    }
  }

  @Test
  void epiloguesAreThoseOfFloatProducts() {
    Random random = new Random(6);
    Numbers numbers = uniform(random);
    for (int[] s : new int[][] {{7, 40, 33}, {48, 192, 96}, {130, 70, 4200}}) {
      for (boolean isHalf : new boolean[] {false, true}) {
        MatrixView a = matrix(numbers, s[0], s[2], 0, false, isHalf);
        MatrixView b = matrix(numbers, s[2], s[1], 0, true, isHalf);
        Matrix residual = (Matrix) matrix(numbers, s[0], s[1], 2, false, false);
        Matrix kept = (Matrix) matrix(numbers, s[0], s[1], 1, false, false);
        Matrix expected = (Matrix) matrix(numbers, s[0], s[1], 0, false, false);
        Bfloat16Gemm.multiply(a, b, expected);
        Matrix keptExpected = copy(kept);
        Epilogue e =
            new Epilogue()
                .bias(residual.segment(), 2)
                .activation(Epilogue.Activation.GELU_TANH)
                .preActivation(keptExpected)
                .residual(residual);
        // The same epilogue after the same product, from Gemm: C = 0 * A B + 1 * C.
        Matrix zero = new Matrix(GLOBAL.allocate(4L * s[0]), s[0], 1);
        Gemm.multiply(1, zero, new Matrix(GLOBAL.allocate(4L * s[1]), 1, s[1]), 1, expected, e);
        Matrix c = (Matrix) matrix(numbers, s[0], s[1], 4, false, false);
        Bfloat16Gemm.multiply(a, b, c, e.preActivation(kept));
        assertArrayEquals(floats(expected), floats(c));
        assertArrayEquals(floats(keptExpected), floats(kept));
        Bfloat16Matrix half = (Bfloat16Matrix) matrix(numbers, s[0], s[1], 4, false, true);
        Bfloat16Gemm.multiply(a, b, half, e);
        for (int i = 0; i < s[0]; i++) {
          assertEquals(rounded(expected, i, s[1] - 1), get(half, i, s[1] - 1));
        }
      }
    }
  }

  @ParameterizedTest
  @ValueSource(ints = {1, 3})
  void batches(int threads) {
    Workers.setThreads(threads);
    Random random = new Random(9);
    Numbers numbers = uniform(random);
    int m = 37;
    int n = 50;
    int k = 65;
    for (int batches : new int[] {0, 1, 2, 5}) {
      for (int t = 0; t < 16; t++) {
        boolean transposeA = (t & 1) != 0;
        boolean transposeB = (t & 2) != 0;
        MatrixView a = matrix(numbers, 5, m * k, 3, false, (t & 4) != 0);
        MatrixView b = matrix(numbers, 5, n * k, 3, false, (t & 8) != 0);
        Matrix c = (Matrix) matrix(numbers, 5, m * n, 0, false, false);
        Matrix expected = copy(c);
        int lda = transposeA ? m : k;
        int ldb = transposeB ? k : n;
        for (int i = 0; i < batches; i++) {
          Bfloat16Gemm.gemm(
              transposeA,
              transposeB,
              m,
              n,
              k,
              0.5f,
              a.type(),
              a.segment(),
              at(a, i, 0),
              lda,
              b.type(),
              b.segment(),
              at(b, i, 0),
              ldb,
              2,
              ElementType.FLOAT32,
              expected.segment(),
              at(expected, i, 0),
              n,
              null);
        }
        Bfloat16Gemm.batched(
            batches,
            transposeA,
            transposeB,
            m,
            n,
            k,
            0.5f,
            a.type(),
            a.segment(),
            1,
            lda,
            a.stride(),
            b.type(),
            b.segment(),
            1,
            ldb,
            b.stride(),
            2,
            c.segment(),
            1,
            n,
            c.stride());
        assertEquals(-1, expected.segment().mismatch(c.segment()), batches + " of case " + t);
      }
    }
  }

  @Test
  void anyNumberOfThreadsGivesTheSameBits() {
    Numbers numbers = uniform(new Random(6));
    for (int[] s : new int[][] {{100, 300, 1500}, {300, 100, 301}, {1, 5000, 300}}) {
      for (int t = 0; t < 8; t++) {
        MatrixView a = matrix(numbers, s[0], s[2], 0, (t & 1) != 0, (t & 4) != 0);
        MatrixView b = matrix(numbers, s[2], s[1], 0, (t & 2) != 0, (t & 4) != 0);
        Matrix c = (Matrix) matrix(numbers, s[0], s[1], 0, false, false);
        Workers.setThreads(1);
        Bfloat16Gemm.multiply(a, b, c);
        float[] one = floats(c);
        for (int threads : new int[] {2, 3, 7}) {
          Workers.setThreads(threads);
          c.segment().fill((byte) 0);
          Bfloat16Gemm.multiply(a, b, c);
          assertArrayEquals(one, floats(c), threads + " threads");
        }
      }
    }
  }

  @Test
  void memoryBeyondTheOperandsIsNotTouched() {
    assumeTrue(GuardedMemory.isAvailable());
    Numbers numbers = uniform(new Random(4));
    try (Arena arena = Arena.ofShared()) {
      for (int[] s :
          new int[][] {
            {1, 1, 1}, {1, 67, 33}, {4, 40, 7}, {13, 33, 17}, {7, 129, 50}, {29, 5, 3}, {19, 83, 40}
          }) {
        for (int t = 0; t < 16; t++) {
          for (boolean atEnd : new boolean[] {false, true}) {
            MatrixView a = guarded(arena, numbers, s[0], s[2], (t & 1) != 0, (t & 4) != 0, atEnd);
            MatrixView b = guarded(arena, numbers, s[2], s[1], (t & 2) != 0, (t & 8) != 0, atEnd);
            for (boolean isHalf : new boolean[] {false, true}) {
              MatrixView c = guarded(arena, numbers, s[0], s[1], false, isHalf, atEnd);
              for (boolean machineCode : new boolean[] {false, true}) {
                Bfloat16Kernel.useMachineCode(machineCode);
                Bfloat16Gemm.multiply(a, b, c);
                if (!isHalf) {
                  assertClose(a, b, c, Arrays.toString(s));
                }
              }
            }
          }
        }
      }
    }
  }

  private static MatrixView guarded(
      Arena arena,
      Numbers numbers,
      int rows,
      int cols,
      boolean isTransposed,
      boolean isHalf,
      boolean atEnd) {
    int size = isHalf ? 2 : 4;
    long bytes = (long) size * rows * cols;
    MemorySegment s =
        atEnd
            ? GuardedMemory.endingAtGuard(arena, bytes)
            : GuardedMemory.startingAtGuard(arena, bytes);
    for (long i = 0; i < rows * cols; i++) {
      if (isHalf) {
        s.setAtIndex(SHORT, i, Bfloat16.fromFloat(numbers.next()));
      } else {
        s.setAtIndex(FLOAT, i, numbers.next());
      }
    }
    int stride = isTransposed ? rows : cols;
    return isHalf
        ? new Bfloat16Matrix(s, 0, rows, cols, stride, isTransposed)
        : new Matrix(s, 0, rows, cols, stride, isTransposed);
  }

  @Test
  void heapSegmentsWork() {
    Numbers numbers = uniform(new Random(7));
    for (boolean isHalf : new boolean[] {false, true}) {
      MatrixView a = matrix(numbers, 17, 41, 2, false, isHalf);
      MatrixView b = matrix(numbers, 41, 33, 0, true, isHalf);
      MatrixView c = matrix(numbers, 17, 33, 5, false, isHalf);
      MatrixView heapC = onHeap(c);
      Matrix r = (Matrix) matrix(numbers, 17, 33, 1, false, false);
      Bfloat16Gemm.multiply(2, a, b, 3, c, new Epilogue().residual(r));
      Epilogue e = new Epilogue().residual((Matrix) onHeap(r));
      Bfloat16Gemm.multiply(2, onHeap(a), onHeap(b), 3, heapC, e);
      assertEquals(-1, c.segment().mismatch(heapC.segment()));
      PackedMatrix packed = PackedMatrix.of(GLOBAL, onHeap(b), ElementType.BFLOAT16);
      Bfloat16Gemm.multiply(onHeap(a), packed, heapC);
      Bfloat16Gemm.multiply(a, b, c);
      assertEquals(-1, c.segment().mismatch(heapC.segment()));
    }
  }

  private static MatrixView onHeap(MatrixView m) {
    byte[] bytes = m.segment().toArray(ValueLayout.JAVA_BYTE);
    MemorySegment s = MemorySegment.ofArray(bytes);
    return m.type() == ElementType.BFLOAT16
        ? new Bfloat16Matrix(s, m.offset(), m.rows(), m.cols(), m.stride(), m.isTransposed())
        : new Matrix(s, m.offset(), m.rows(), m.cols(), m.stride(), m.isTransposed());
  }

  @Test
  void wrongCallsAreRefused() {
    Numbers numbers = uniform(new Random(1));
    MatrixView a = matrix(numbers, 4, 6, 0, false, true);
    MatrixView b = matrix(numbers, 6, 5, 0, false, true);
    MatrixView c = matrix(numbers, 4, 5, 0, false, false);
    MatrixView turned = new Matrix(c.segment(), 0, 4, 5, 4, true);
    Matrix floats = (Matrix) matrix(numbers, 6, 5, 0, false, false);
    refused("a's columns must be b's rows", () -> Bfloat16Gemm.multiply(b, a, c));
    refused("b is null", () -> Bfloat16Gemm.multiply(a, (MatrixView) null, c));
    refused(
        "b is packed as FLOAT32, not BFLOAT16",
        () -> Bfloat16Gemm.multiply(a, PackedMatrix.of(GLOBAL, floats), c));
    refused(
        "b is packed as BFLOAT16, not FLOAT32",
        () ->
            Gemm.multiply(
                (Matrix) turned,
                PackedMatrix.of(GLOBAL, floats.rows(0, 5), ElementType.BFLOAT16),
                floats));
    refused("which is not packed as floats", () -> PackedMatrix.of(GLOBAL, b, ElementType.FLOAT32));
    refused(
        "transposed", () -> Bfloat16Gemm.multiply(a, b, turned, new Epilogue().residual(floats)));
    refused(
        "c is written but shares memory with a",
        () -> Bfloat16Gemm.multiply(a, b, new Bfloat16Matrix(a.segment(), 0, 4, 5, 5, false)));
    refused(
        "c is written but shares memory with residual",
        () -> {
          MemorySegment s = GLOBAL.allocate(200);
          Epilogue e = new Epilogue().residual(new Matrix(s, 4, 5));
          Bfloat16Gemm.multiply(a, b, new Bfloat16Matrix(s, 10, 4, 5, 5, false), e);
        });
    refused("does not fit", () -> new Bfloat16Matrix(GLOBAL.allocate(38), 4, 5));
    refused(
        "read-only",
        () ->
            Bfloat16Gemm.multiply(
                a, b, new Bfloat16Matrix(GLOBAL.allocate(40).asReadOnly(), 4, 5)));
  }

  private static void refused(String words, Executable call) {
    String message = assertThrows(IllegalArgumentException.class, call).getMessage();
    assertTrue(message.contains(words), message);
  }

  /** An arena that is closed during a product ends it, or stays open, and the JVM lives. */
  @Test
  void memoryClosedMeanwhileIsNotTouched() throws InterruptedException {
    for (int round = 0; round < 20; round++) {
      Arena arena = Arena.ofShared();
      // Large enough to be unmapped when it is closed
      int size = 1500;
      Matrix a = new Matrix(arena.allocate(4L * size * size), size, size);
      Bfloat16Matrix half = new Bfloat16Matrix(a.segment(), size, size);
      Matrix c = new Matrix(arena.allocate(4L * size * 64), size, 64);
      Matrix b = new Matrix(GLOBAL.allocate(4L * size * 64), size, 64);
      Throwable[] end = new Throwable[1];
      Thread thread =
          Thread.ofPlatform()
              .start(
                  () -> {
                    try {
                      while (true) {
                        Bfloat16Gemm.multiply(half, b, c);
                      }
                    } catch (Throwable t) {
                      end[0] = t;
                    }
                  });
      Thread.sleep(round == 0 ? 200 : 5);
      boolean isClosed = false;
      while (!isClosed) {
        try {
          arena.close();
          isClosed = true;
        } catch (IllegalStateException inUse) {
          Thread.onSpinWait();
        }
      }
      thread.join();
      String message = end[0].getMessage();
      assertTrue(message.toLowerCase(java.util.Locale.ROOT).contains("closed"), message);
    }
  }

  @Test
  void theJavaWayIsThereForMachinesWithout() {
    Bfloat16Kernel.useMachineCode(false);
    assertFalse(Bfloat16Kernel.usesMachineCode());
    assertTrue(Machine.products().startsWith("products by "));
  }
}
