package dev.lanewise.simd;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Products with weights of 8 bits, held to their definition and to float64. */
class Int8GemmTest {
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;
  private static final Arena GLOBAL = Arena.global();
  private static final int BLOCK = 32;
  private final int threadsBefore = Workers.threads();

  @AfterEach
  void restore() {
    Workers.setThreads(threadsBefore);
    Int8Kernel.useMachineCode(true);
  }

  private static Matrix matrix(int rows, int cols, int gap, boolean isTransposed, Random random) {
    long stride = (isTransposed ? rows : cols) + gap;
    MemorySegment s = GLOBAL.allocate(4 * ((isTransposed ? cols : rows) * stride + 8), 4);
    for (long i = 0; i < s.byteSize() / 4; i++) {
      s.setAtIndex(FLOAT, i, (float) random.nextGaussian());
    }
    return new Matrix(s, 1, rows, cols, stride, isTransposed);
  }

  private static long at(Matrix m, int i, int j) {
    return m.offset() + (m.isTransposed() ? j * m.stride() + i : i * m.stride() + j);
  }

  private static float get(Matrix m, int i, int j) {
    return m.segment().get(FLOAT, 4 * at(m, i, j));
  }

  private static void set(Matrix m, int i, int j, float x) {
    m.segment().set(FLOAT, 4 * at(m, i, j), x);
  }

  private static Matrix copy(Matrix m) {
    MemorySegment s = GLOBAL.allocate(m.segment().byteSize(), 4);
    s.copyFrom(m.segment());
    return new Matrix(s, m.offset(), m.rows(), m.cols(), m.stride(), m.isTransposed());
  }

  /** One element by the definition, block after block. */
  private static float defined(Matrix a, Matrix b, int row, int col) {
    float total = 0;
    for (int first = 0; first < a.cols(); first += BLOCK) {
      int end = Math.min(a.cols(), first + BLOCK);
      float ofA = 0;
      float ofB = 0;
      boolean isFinite = true;
      for (int k = first; k < end; k++) {
        ofA = Math.max(ofA, Math.abs(get(a, row, k)));
        ofB = Math.max(ofB, Math.abs(get(b, k, col)));
        isFinite &= Float.isFinite(get(a, row, k)) && Float.isFinite(get(b, k, col));
      }
      float scaleA = ofA < 0x1p-100f ? 0 : ofA / 127;
      float factor = ofA < 0x1p-100f ? 0 : 127 / ofA;
      short half = Float.floatToFloat16(ofB / 127);
      if (127 * Float.float16ToFloat(half) < ofB) {
        half++;
      }
      float scaleB = ofB < 0x1p-100f ? 0 : Float.float16ToFloat(half);
      if (!isFinite || scaleB == Float.POSITIVE_INFINITY) {
        return Float.NaN;
      }
      long sum = 0;
      for (int k = first; k < end; k++) {
        long x = (long) Math.rint(get(a, row, k) * factor);
        long y = scaleB == 0 ? 0 : (long) Math.rint((double) get(b, k, col) / scaleB);
        sum += x * y;
      }
      total = Math.fma(sum * scaleB, scaleA, total);
    }
    return total;
  }

  private static void check(Matrix a, Matrix b, float beta, Matrix before, Matrix after) {
    for (int i = 0; i < before.rows(); i++) {
      for (int j = 0; j < before.cols(); j++) {
        float product = defined(a, b, i, j);
        float expected = beta == 0 ? product : Math.fma(beta, get(before, i, j), product);
        // A zero's sign is not said.
        assertEquals(expected + 0f, get(after, i, j) + 0f, "row " + i + ", column " + j);
        set(after, i, j, get(before, i, j));
      }
    }
    assertEquals(-1, before.segment().mismatch(after.segment()), "gaps of C were written");
  }

  private static void gemm(Matrix a, Int8Matrix b, float beta, Matrix c, Epilogue epilogue) {
    Int8Gemm.gemm(
        a.rows(),
        a.segment(),
        a.offset(),
        a.stride(),
        b,
        beta,
        c.segment(),
        c.offset(),
        c.stride(),
        epilogue);
  }

  @ParameterizedTest
  @CsvSource({
    "1, 1, 1",
    "1, 16, 32",
    "1, 17, 33",
    "2, 15, 64",
    "3, 33, 65",
    "4, 48, 96",
    "5, 64, 31",
    "6, 7, 100",
    "7, 16, 128",
    "8, 31, 160",
    "9, 5, 192",
    "10, 100, 40",
    "11, 32, 63",
    "12, 16, 256",
    "13, 50, 95",
    "25, 130, 70",
    "97, 200, 129",
    "3, 20, 0"
  })
  void everyShapeIsTheDefinitionToTheBit(int m, int n, int k) {
    Random random = new Random(m * 31 + n * 7 + k);
    for (boolean isTransposed : new boolean[] {false, true}) {
      Matrix a = matrix(m, k, 3, false, random);
      Matrix b = matrix(k, n, 2, isTransposed, random);
      Int8Matrix packed = Int8Matrix.of(GLOBAL, b);
      for (float beta : new float[] {0, 1, -0.5f}) {
        for (boolean machineCode : new boolean[] {true, false}) {
          for (int threads : new int[] {1, 3}) {
            Int8Kernel.useMachineCode(machineCode);
            Workers.setThreads(threads);
            Matrix c = matrix(m, n, 5, false, random);
            Matrix before = copy(c);
            gemm(a, packed, beta, c, null);
            check(a, b, beta, before, c);
          }
        }
      }
    }
  }

  @Test
  void manyRowsAreCutWithoutATrace() {
    Random random = new Random(5);
    Matrix a = matrix(500, 768, 0, false, random);
    Matrix b = matrix(768, 1000, 0, true, random);
    Int8Matrix packed = Int8Matrix.of(GLOBAL, b);
    Matrix first = matrix(500, 1000, 0, false, random);
    Matrix second = copy(first);
    Workers.setThreads(1);
    Int8Gemm.multiply(a, packed, first, null);
    Workers.setThreads(7);
    Int8Gemm.multiply(a, packed, second, null);
    assertEquals(-1, first.segment().mismatch(second.segment()));
    // A row alone has the bits that it has among others.
    Matrix one = new Matrix(a.segment(), a.offset() + 77 * 768, 1, 768, 768, false);
    Matrix alone = matrix(1, 1000, 0, false, random);
    Int8Gemm.multiply(one, packed, alone, null);
    for (int j = 0; j < 1000; j++) {
      assertEquals(get(first, 77, j), get(alone, 0, j));
    }
  }

  @Test
  void isNearTheExactProduct() {
    Random random = new Random(6);
    int k = 1024;
    Matrix a = matrix(9, k, 0, false, random);
    Matrix b = matrix(k, 40, 0, true, random);
    Matrix c = matrix(9, 40, 0, false, random);
    Int8Gemm.multiply(a, Int8Matrix.of(GLOBAL, b), c, null);
    double squares = 0;
    for (int i = 0; i < 9; i++) {
      for (int j = 0; j < 40; j++) {
        double exact = 0;
        for (int l = 0; l < k; l++) {
          exact += (double) get(a, i, l) * get(b, l, j);
        }
        squares += Math.pow(get(c, i, j) - exact, 2);
      }
    }
    double relative = Math.sqrt(squares / (9 * 40) / k);
    // Uniform errors of a half scale: max |x| of 32 normal numbers is about 2.1, its scale 0.0165,
    // so 0.0048 for each operand.
    assertTrue(relative > 0.003 && relative < 0.01, "relative error " + relative);
  }

  @Test
  void numbersOfAllKinds() {
    Random random = new Random(7);
    Matrix a = matrix(14, 96, 0, false, random);
    Matrix b = matrix(96, 37, 0, true, random);
    for (int k = 32; k < 64; k++) {
      set(a, 1, k, 0x1p-101f);
      set(a, 2, k, Float.MIN_VALUE);
      set(a, 3, k, -0f);
      set(b, k, 1, 0x1p-110f);
      set(b, k, 2, 3e-6f * random.nextFloat());
      set(b, k, 3, 1e-8f);
    }
    set(a, 4, 40, Float.NaN);
    set(a, 5, 95, Float.NEGATIVE_INFINITY);
    set(a, 6, 0, Float.MAX_VALUE);
    set(a, 7, 33, -1e30f);
    set(b, 0, 4, Float.NaN);
    set(b, 50, 5, Float.POSITIVE_INFINITY);
    set(b, 95, 6, 65504f * 127);
    set(b, 95, 7, 65504f * 128);
    set(b, 64, 36, 8e6f);
    Int8Matrix packed = Int8Matrix.of(GLOBAL, b);
    for (boolean machineCode : new boolean[] {true, false}) {
      Int8Kernel.useMachineCode(machineCode);
      Matrix c = matrix(14, 37, 0, false, random);
      Matrix before = copy(c);
      Int8Gemm.multiply(a, packed, c, null);
      check(a, b, 0, before, c);
    }
  }

  @Test
  void blocksOfEightBitsAreHeldExactly() {
    Random random = new Random(8);
    int k = 64;
    Matrix b = matrix(k, 16, 0, false, random);
    for (int j = 0; j < 16; j++) {
      for (int first = 0; first < k; first += BLOCK) {
        float scale = Float.float16ToFloat(Float.floatToFloat16(random.nextFloat() * 0.01f));
        for (int i = 0; i < BLOCK; i++) {
          set(b, first + i, j, scale * (i == 5 ? -127 : random.nextInt(255) - 127));
        }
      }
    }
    Matrix unit = matrix(k, k, 0, false, random);
    for (int i = 0; i < k; i++) {
      for (int j = 0; j < k; j++) {
        set(unit, i, j, i == j ? 127 : 0);
      }
    }
    Matrix c = matrix(k, 16, 0, false, random);
    Int8Gemm.multiply(unit, Int8Matrix.of(GLOBAL, b), c, null);
    for (int i = 0; i < k; i++) {
      for (int j = 0; j < 16; j++) {
        assertEquals(127 * get(b, i, j), get(c, i, j), 127 * Math.ulp(get(b, i, j)));
      }
    }
  }

  @Test
  void storedTypesAndHeapMemoryGiveTheSameBits() {
    Random random = new Random(9);
    Matrix a = matrix(5, 70, 0, false, random);
    Matrix b = matrix(70, 21, 0, true, random);
    MemorySegment halves = GLOBAL.allocate(2 * 70 * 21, 2);
    for (int j = 0; j < 21; j++) {
      for (int i = 0; i < 70; i++) {
        short half = Bfloat16.fromFloat(get(b, i, j));
        halves.setAtIndex(ValueLayout.JAVA_SHORT, j * 70L + i, half);
        set(b, i, j, Bfloat16.toFloat(half));
      }
    }
    Matrix c = matrix(5, 21, 0, false, random);
    Int8Gemm.multiply(a, Int8Matrix.of(GLOBAL, b), c, null);
    MemorySegment onHeap =
        MemorySegment.ofArray(a.segment().asSlice(4).toArray(ValueLayout.JAVA_FLOAT));
    float[] out = new float[5 * 21];
    Bfloat16Matrix stored = new Bfloat16Matrix(halves, 0, 70, 21, 70, true);
    Int8Gemm.gemm(
        5,
        onHeap,
        0,
        70,
        Int8Matrix.of(GLOBAL, stored),
        0,
        MemorySegment.ofArray(out),
        0,
        21,
        null);
    for (int i = 0; i < out.length; i++) {
      assertEquals(get(c, i / 21, i % 21), out[i]);
    }
  }

  @Test
  void epiloguesFollow() {
    Random random = new Random(10);
    for (int m : new int[] {1, 14}) {
      Matrix a = matrix(m, 96, 0, false, random);
      Int8Matrix packed = Int8Matrix.of(GLOBAL, matrix(96, 53, 0, true, random));
      MemorySegment bias = matrix(1, 53, 0, false, random).segment();
      Matrix residual = matrix(m, 53, 4, false, random);
      Matrix plain = matrix(m, 53, 0, false, random);
      Int8Gemm.multiply(a, packed, plain, null);
      Matrix c = matrix(m, 53, 0, false, random);
      Int8Gemm.multiply(a, packed, c, new Epilogue().bias(bias, 2).residual(residual));
      for (int i = 0; i < m; i++) {
        for (int j = 0; j < 53; j++) {
          float expected = get(plain, i, j) + bias.get(FLOAT, 4L * (2 + j)) + get(residual, i, j);
          assertEquals(expected, get(c, i, j));
        }
      }
    }
  }

  @Test
  void packsAgainInPlace() {
    Random random = new Random(11);
    Matrix a = matrix(2, 40, 0, false, random);
    Matrix b = matrix(40, 18, 0, false, random);
    Int8Matrix packed = Int8Matrix.of(GLOBAL, matrix(40, 18, 0, false, random));
    packed.pack(b);
    Matrix c = matrix(2, 18, 0, false, random);
    Matrix before = copy(c);
    Int8Gemm.multiply(a, packed, c, null);
    check(a, b, 0, before, c);
  }

  @Test
  void takesLittleMoreThanAByteAnElement() {
    assertEquals(768L * 50272 * 17 / 16, Int8Matrix.bytes(768, 50257));
    assertEquals(0, Int8Matrix.bytes(0, 5));
  }

  @Test
  void whatCannotBeIsRefused() {
    Random random = new Random(12);
    Matrix a = matrix(2, 40, 0, false, random);
    Int8Matrix b = Int8Matrix.of(GLOBAL, matrix(40, 18, 0, false, random));
    Matrix c = matrix(2, 18, 0, false, random);
    assertRefused("a is null", () -> Int8Gemm.multiply(null, b, c, null));
    assertRefused("b is null", () -> Int8Gemm.multiply(a, null, c, null));
    assertRefused("40", () -> Int8Gemm.multiply(matrix(2, 41, 0, false, random), b, c, null));
    assertRefused(
        "a is transposed", () -> Int8Gemm.multiply(matrix(2, 40, 0, true, random), b, c, null));
    assertRefused(
        "shares memory", () -> gemm(a, b, 0, new Matrix(a.segment(), 1, 2, 18, 18, false), null));
    assertRefused("negative", () -> Int8Matrix.bytes(-1, 2));
    assertRefused("18", () -> b.pack(matrix(40, 19, 0, false, random)));
    assertRefused(
        "do not fit", () -> Int8Gemm.gemm(3, a.segment(), 0, 60, b, 0, c.segment(), 1, 18, null));
    try (Arena confined = Arena.ofConfined()) {
      assertRefused("confined", () -> new Int8Matrix(confined, 3, 4));
    }
    Arena closed = Arena.ofShared();
    Int8Matrix gone = new Int8Matrix(closed, 40, 18);
    closed.close();
    assertRefused("closed", () -> Int8Gemm.multiply(a, gone, c, null));
  }

  private static void assertRefused(String part, org.junit.jupiter.api.function.Executable call) {
    String message = assertThrows(IllegalArgumentException.class, call).getMessage();
    assertTrue(message.contains(part), message);
  }

  @Test
  void nothingIsAllocatedAfterTheFirstCalls() {
    Random random = new Random(13);
    Matrix a = matrix(3, 64, 0, false, random);
    Int8Matrix b = Int8Matrix.of(GLOBAL, matrix(64, 40, 0, false, random));
    Matrix c = matrix(3, 40, 0, false, random);
    float[] before = new float[1];
    for (int i = 0; i < 100; i++) {
      Int8Gemm.multiply(a, b, c, null);
    }
    long held = Scratch.heldBytes();
    before[0] = get(c, 0, 0);
    Int8Gemm.multiply(a, b, c, null);
    assertEquals(held, Scratch.heldBytes());
    assertArrayEquals(before, new float[] {get(c, 0, 0)});
  }
}
