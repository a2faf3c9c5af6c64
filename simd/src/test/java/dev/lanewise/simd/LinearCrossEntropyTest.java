package dev.lanewise.simd;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class LinearCrossEntropyTest {
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;
  private static final Arena GLOBAL = Arena.global();
  private final int threadsBefore = Workers.threads();

  @AfterEach
  void restoreThreads() {
    Workers.setThreads(threadsBefore);
  }

  /** A problem with its operands, and the outputs of a run. */
  private static final class Problem {
    final int rows;
    final Matrix x;
    final Matrix w;
    final Matrix dx;
    final Matrix dw;
    final int[] targets;
    final MemorySegment losses;
    final MemorySegment lse;

    Problem(int rows, int width, int classes, int gap) {
      Random random = new Random(rows * 31L + classes);
      this.rows = rows;
      x = matrix(random, rows, width, gap);
      w = matrix(random, classes, width, 2 * gap);
      dx = matrix(random, rows, width, 3 * gap);
      dw = matrix(random, classes, width, gap);
      targets = random.ints(rows, 0, classes).toArray();
      losses = GLOBAL.allocate(4L * rows);
      lse = GLOBAL.allocate(4L * rows);
    }

    Indices aims() {
      return Indices.ofInts(MemorySegment.ofArray(targets), rows);
    }

    float run(boolean accumulate, float scale, CrossEntropy.Options options) {
      return LinearCrossEntropy.forwardBackward(
          x, w, aims(), losses, lse, dx, dw, accumulate, scale, options);
    }
  }

  private static Matrix matrix(Random random, int rows, int cols, int gap) {
    long stride = cols + gap;
    MemorySegment s = GLOBAL.allocate(4 * rows * stride + 4);
    for (long i = 0; i < s.byteSize() / 4; i++) {
      s.set(FLOAT, 4 * i, 2 * random.nextFloat() - 1);
    }
    return new Matrix(s, 0, rows, cols, stride, false);
  }

  private static float get(Matrix m, int i, int j) {
    return m.segment().get(FLOAT, 4 * (m.offset() + i * m.stride() + j));
  }

  private static float[] floats(Matrix m) {
    float[] all = new float[m.rows() * m.cols()];
    for (int i = 0; i < all.length; i++) {
      all[i] = get(m, i / m.cols(), i % m.cols());
    }
    return all;
  }

  @ParameterizedTest
  @CsvSource({
    "1,1,1,0,false",
    "5,7,3,1,true",
    "37,16,200,0,false",
    "64,33,97,3,true",
    "1100,4,17000,0,true"
  })
  void agreesWithDoublePrecision(int rows, int width, int classes, int gap, boolean accumulate) {
    Problem p = new Problem(rows, width, classes, gap);
    int ignored = rows > 4 ? 3 : -100;
    if (rows > 4) {
      p.targets[2] = ignored;
    }
    int counted = 0;
    for (int target : p.targets) {
      counted += target == ignored ? 0 : 1;
    }
    float scale = 1.5f;
    double[][] dw = new double[classes][width];
    for (int j = 0; j < classes; j++) {
      for (int k = 0; k < width; k++) {
        dw[j][k] = accumulate ? get(p.dw, j, k) : 0;
      }
    }
    double[][] dx = new double[rows][width];
    double[] losses = new double[rows];
    double[] lse = new double[rows];
    double sum = 0;
    double[] logits = new double[classes];
    for (int i = 0; i < rows; i++) {
      double all = 0;
      for (int j = 0; j < classes; j++) {
        double logit = 0;
        for (int k = 0; k < width; k++) {
          logit += (double) get(p.x, i, k) * get(p.w, j, k);
        }
        logits[j] = logit;
        all += Math.exp(logit);
      }
      lse[i] = Math.log(all);
      if (p.targets[i] == ignored) {
        continue;
      }
      losses[i] = lse[i] - logits[p.targets[i]];
      sum += losses[i];
      for (int j = 0; j < classes; j++) {
        double d = Math.exp(logits[j] - lse[i]) - (j == p.targets[i] ? 1 : 0);
        d *= scale / counted;
        for (int k = 0; k < width; k++) {
          dx[i][k] += d * get(p.w, j, k);
          dw[j][k] += d * get(p.x, i, k);
        }
      }
    }
    CrossEntropy.Options options = CrossEntropy.Options.DEFAULT.withIgnoreIndex(ignored);
    float loss = p.run(accumulate, scale, options);
    assertEquals(sum / counted, loss, 1e-7 + 2e-6 * Math.abs(loss));
    for (int i = 0; i < rows; i++) {
      assertEquals(losses[i], p.losses.get(FLOAT, 4L * i), 1e-5);
      assertEquals(lse[i], p.lse.get(FLOAT, 4L * i), 1e-5);
      for (int k = 0; k < width; k++) {
        assertEquals(dx[i][k], get(p.dx, i, k), 3e-6 * scale);
      }
    }
    for (int j = 0; j < classes; j++) {
      for (int k = 0; k < width; k++) {
        assertEquals(dw[j][k], get(p.dw, j, k), 3e-6 * scale);
      }
    }
    float alone = LinearCrossEntropy.forward(p.x, p.w, p.aims(), p.losses, null, options);
    assertEquals(loss, alone, 1e-7 + 1e-6 * Math.abs(loss));
  }

  @Test
  void inBfloat16ItIsTheProductsInBfloat16AndTheLossBetweenThem() {
    Problem p = new Problem(75, 40, 300, 1);
    CrossEntropy.Options options = CrossEntropy.Options.DEFAULT;
    Matrix logits = new Matrix(GLOBAL.allocate(4L * 75 * 300), 75, 300);
    Bfloat16Gemm.multiply(p.x, p.w.transposed(), logits);
    float expected =
        CrossEntropy.forwardBackward(logits, p.aims(), p.losses, null, logits, 1.5f, options);
    Bfloat16Gemm.multiply(logits, p.w, p.dx);
    Matrix before = p.dw;
    float[] dwBefore = floats(p.dw);
    Bfloat16Gemm.multiply(1, logits.transposed(), p.x, 1, p.dw, null);
    float[] dx = floats(p.dx);
    float[] dw = floats(p.dw);
    Matrix turned = new Matrix(GLOBAL.allocate(4L * 75 * 40), 40, 75);
    for (int threads : new int[] {1, 3}) {
      Workers.setThreads(threads);
      for (Matrix out : new Matrix[] {p.dx, turned.transposed()}) {
        for (int i = 0; i < dwBefore.length; i++) {
          long at = before.offset() + i / 40 * before.stride() + i % 40;
          before.segment().set(FLOAT, 4 * at, dwBefore[i]);
        }
        float loss =
            LinearCrossEntropy.forwardBackward(
                p.x,
                p.w,
                p.aims(),
                p.losses,
                null,
                out,
                p.dw,
                true,
                1.5f,
                options,
                ElementType.BFLOAT16,
                0,
                null);
        assertEquals(expected, loss);
        assertArrayEquals(dw, floats(p.dw));
        for (int i = 0; i < dx.length; i++) {
          assertEquals(
              dx[i], out.isTransposed() ? get(turned, i % 40, i / 40) : get(out, i / 40, i % 40));
        }
        assertEquals(
            expected,
            LinearCrossEntropy.forward(
                p.x, p.w, p.aims(), p.losses, null, options, ElementType.BFLOAT16, 0, null));
      }
    }
    assertFalse(Arrays.equals(dx, dxInFloats(p)), "bfloat16 is coarser");
  }

  private static float[] dxInFloats(Problem p) {
    p.run(false, 1.5f, CrossEntropy.Options.DEFAULT);
    return floats(p.dx);
  }

  @Test
  void anyNumberOfThreadsGivesTheSameBits() {
    Problem p = new Problem(75, 40, 300, 0);
    Workers.setThreads(1);
    float loss = p.run(false, 1, CrossEntropy.Options.DEFAULT);
    float[] dx = floats(p.dx);
    float[] dw = floats(p.dw);
    for (int threads : new int[] {2, 3, 7}) {
      Workers.setThreads(threads);
      assertEquals(loss, p.run(false, 1, CrossEntropy.Options.DEFAULT));
      assertArrayEquals(dx, floats(p.dx));
      assertArrayEquals(dw, floats(p.dw));
    }
  }

  @Test
  void fewRowsAtATimeChangeOnlyTheOrderOfOneSum() {
    Problem p = new Problem(100, 40, 300, 0);
    CrossEntropy.Options options = CrossEntropy.Options.DEFAULT;
    float loss = p.run(false, 1, options);
    byte[] losses = p.losses.toArray(ValueLayout.JAVA_BYTE);
    float[] dx = floats(p.dx);
    float[] dw = floats(p.dw);
    for (int most : new int[] {100, 99, 33, 10}) {
      float cut =
          LinearCrossEntropy.forwardBackward(
              p.x,
              p.w,
              p.aims(),
              p.losses,
              p.lse,
              p.dx,
              p.dw,
              false,
              1,
              options,
              ElementType.FLOAT32,
              most,
              null);
      assertEquals(loss, cut);
      assertArrayEquals(losses, p.losses.toArray(ValueLayout.JAVA_BYTE));
      assertArrayEquals(dx, floats(p.dx));
      assertArrayEquals(dw, floats(p.dw), 1e-7f);
      assertEquals(most == 100, Arrays.equals(dw, floats(p.dw)), "order of the sum");
      assertEquals(
          loss,
          LinearCrossEntropy.forward(
              p.x, p.w, p.aims(), p.losses, null, options, ElementType.FLOAT32, most, null));
    }
  }

  @Test
  void workingMemoryIsWhatTheRowsTake() {
    assertEquals(342, LinearCrossEntropy.chunkRows(1024, 50257, 0));
    assertEquals(4L * 342 * 50257, LinearCrossEntropy.workingBytes(1024, 50257, 0));
    assertEquals(342, LinearCrossEntropy.chunkRows(1024, 50257, 2000));
    assertEquals(94, LinearCrossEntropy.chunkRows(1024, 50257, 100));
    assertEquals(1, LinearCrossEntropy.chunkRows(1024, 50257, 1));
    assertEquals(1, LinearCrossEntropy.chunkRows(0, 0, 0));
    Problem p = new Problem(3, 4, 5, 0);
    assertThrows(
        IllegalArgumentException.class,
        () ->
            LinearCrossEntropy.forward(
                p.x,
                p.w,
                p.aims(),
                p.losses,
                null,
                CrossEntropy.Options.DEFAULT,
                ElementType.FLOAT32,
                -1,
                null));
  }

  @Test
  void memoryThatIsLentGivesTheSameBits() {
    Problem p = new Problem(100, 40, 300, 0);
    CrossEntropy.Options options = CrossEntropy.Options.DEFAULT;
    LinearCrossEntropy.forwardBackward(
        p.x,
        p.w,
        p.aims(),
        p.losses,
        p.lse,
        p.dx,
        p.dw,
        false,
        1,
        options,
        ElementType.FLOAT32,
        33,
        null);
    float[] dx = floats(p.dx);
    float[] dw = floats(p.dw);
    long bytes = LinearCrossEntropy.workingBytes(100, 300, 33);
    MemorySegment all = GLOBAL.allocate(bytes + 12);
    all.fill((byte) -1);
    MemorySegment working = all.asSlice(8, bytes);
    for (int i = 0; i < 2; i++) {
      LinearCrossEntropy.forwardBackward(
          p.x,
          p.w,
          p.aims(),
          p.losses,
          p.lse,
          p.dx,
          p.dw,
          false,
          1,
          options,
          ElementType.FLOAT32,
          33,
          working);
      assertArrayEquals(dx, floats(p.dx));
      assertArrayEquals(dw, floats(p.dw));
    }
    assertEquals(-1L, all.get(ValueLayout.JAVA_LONG_UNALIGNED, 0));
    assertEquals(-1, all.get(ValueLayout.JAVA_INT_UNALIGNED, bytes + 8));
    for (MemorySegment wrong :
        new MemorySegment[] {
          working.asSlice(0, bytes - 4),
          MemorySegment.ofArray(new float[(int) bytes / 4]),
          working.asReadOnly(),
        }) {
      refused(
          "working memory",
          () ->
              LinearCrossEntropy.forwardBackward(
                  p.x,
                  p.w,
                  p.aims(),
                  p.losses,
                  p.lse,
                  p.dx,
                  p.dw,
                  false,
                  1,
                  options,
                  ElementType.FLOAT32,
                  33,
                  wrong));
    }
    Matrix inside = new Matrix(working, 100, 40);
    refused(
        "working memory",
        () ->
            LinearCrossEntropy.forwardBackward(
                p.x,
                p.w,
                p.aims(),
                p.losses,
                p.lse,
                inside,
                p.dw,
                false,
                1,
                options,
                ElementType.FLOAT32,
                33,
                working));
    assertArrayEquals(dw, floats(p.dw));
  }

  @Test
  void agreesWithTheLossOverWholeLogits() {
    Problem p = new Problem(50, 24, 90, 1);
    MemorySegment weights = GLOBAL.allocate(4 * 90);
    for (int j = 0; j < 90; j++) {
      weights.set(FLOAT, 4L * j, 0.25f + j % 4);
    }
    for (CrossEntropy.Options options :
        new CrossEntropy.Options[] {
          CrossEntropy.Options.DEFAULT.withLabelSmoothing(0.1f).withZLoss(1e-3f),
          CrossEntropy.Options.DEFAULT.withReduction(CrossEntropy.Reduction.SUM),
          CrossEntropy.Options.DEFAULT.withClassWeights(weights)
        }) {
      float loss = p.run(false, 0.5f, options);
      Matrix logits = new Matrix(GLOBAL.allocate(4 * 50 * 90), 50, 90);
      Gemm.multiply(p.x, p.w.transposed(), logits);
      MemorySegment losses = GLOBAL.allocate(4 * 50);
      float whole =
          CrossEntropy.forwardBackward(logits, p.aims(), losses, null, logits, 0.5f, options);
      assertEquals(whole, loss, 1e-6 * Math.abs(whole));
      Matrix dw = new Matrix(GLOBAL.allocate(4 * 24 * 90), 90, 24);
      Gemm.multiply(logits.transposed(), p.x, dw);
      assertArrayEquals(floats(dw), floats(p.dw), 1e-6f * 25);
    }
  }

  @Test
  void noRowsAndOnlyIgnoredRows() {
    Problem p = new Problem(3, 4, 5, 0);
    Arrays.fill(p.targets, -100);
    assertTrue(Float.isNaN(p.run(false, 1, CrossEntropy.Options.DEFAULT)));
    assertArrayEquals(new float[20], floats(p.dw));
    assertArrayEquals(new float[12], floats(p.dx));
    Problem empty = new Problem(0, 4, 5, 0);
    assertTrue(Float.isNaN(empty.run(false, 1, CrossEntropy.Options.DEFAULT)));
    assertArrayEquals(new float[20], floats(empty.dw));
  }

  @Test
  void wrongCallsAreRefusedBeforeAnythingIsWritten() {
    Problem p = new Problem(6, 4, 5, 0);
    float[] dw = floats(p.dw);
    CrossEntropy.Options options = CrossEntropy.Options.DEFAULT;
    refused(
        "x is 6 x 4 but w is 4 x 5",
        () -> LinearCrossEntropy.forward(p.x, p.w.transposed(), p.aims(), p.losses, null, options));
    refused(
        "5 targets",
        () -> LinearCrossEntropy.forward(p.x, p.w, p.aims().slice(0, 5), p.losses, null, options));
    refused(
        "dw is 6 x 4",
        () ->
            LinearCrossEntropy.forwardBackward(
                p.x, p.w, p.aims(), p.losses, null, null, p.dx, false, 1, options));
    refused(
        "shares memory",
        () ->
            LinearCrossEntropy.forwardBackward(
                p.x, p.w, p.aims(), p.losses, null, p.x, p.dw, false, 1, options));
    p.targets[5] = 5;
    refused("target 5 of row 5", () -> p.run(false, 1, options));
    assertArrayEquals(dw, floats(p.dw));
  }

  private static void refused(String part, Executable call) {
    String message = assertThrows(IllegalArgumentException.class, call).getMessage();
    assertTrue(message.contains(part), message);
  }
}
