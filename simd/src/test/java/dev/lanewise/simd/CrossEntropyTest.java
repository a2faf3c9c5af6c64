package dev.lanewise.simd;

import static dev.lanewise.simd.VectorMathTest.refused;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.simd.CrossEntropy.Options;
import dev.lanewise.simd.CrossEntropy.Reduction;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;

class CrossEntropyTest {
  private static final Fixtures FIXTURES = new Fixtures("cross_entropy");
  private static final int THREADS = Workers.threads();

  @AfterEach
  void restoreThreads() {
    Workers.setThreads(THREADS);
  }

  @ParameterizedTest
  @CsvSource({
    "n1_v2, -100, 0",
    "n8_v10, -100, 0",
    "n12_v8, -100, 0",
    "n5_v1, -100, 0",
    "n7_v97, -100, 0",
    "n3_v1000, -100, 0",
    "ignore_m100, -100, 0",
    "ignore_5, 5, 0",
    "ignore_all, -100, 0",
    "smooth_0.1, -100, 0.1",
    "smooth_0.5, -100, 0.5",
    "smooth_1.0, -100, 1.0",
    "smooth_0.1_ignore, -100, 0.1",
    "smooth_all_ignored, -100, 0.1",
    "extreme_finite_target, -100, 0",
    "extreme_bad_target, -100, 0",
    "nonfinite, -100, 0",
    "extreme_smooth, -100, 0.1"
  })
  void agreesWithPyTorch(String name, int ignoreIndex, float smoothing) {
    int[] shape = FIXTURES.shape(name + ".logits");
    int rows = shape[0];
    int cols = shape[1];
    Options sum =
        Options.DEFAULT
            .withIgnoreIndex(ignoreIndex)
            .withLabelSmoothing(smoothing)
            .withReduction(Reduction.SUM);
    Options mean = sum.withReduction(Reduction.MEAN);
    for (Memory memory : Memory.values()) {
      try (Arena arena = Arena.ofShared()) {
        MemorySegment logits = memory.of(arena, FIXTURES.floats(name + ".logits"));
        double[] wanted = FIXTURES.doubles(name + ".targets");
        Indices targets =
            Indices.ofInts(
                memory.ofInts(arena, Arrays.stream(wanted).mapToInt(t -> (int) t).toArray()), rows);
        MemorySegment losses = memory.floats(arena, rows);
        MemorySegment lse = memory.floats(arena, rows);
        Matrix x = new Matrix(logits, rows, cols);
        Matrix dx = new Matrix(memory.floats(arena, (long) rows * cols), rows, cols);

        float total = CrossEntropy.forward(x, targets, losses, lse, sum);
        assertClose(FIXTURES.doubles(name + ".loss_none"), Memory.toArray(losses), 2e-6);
        assertClose(FIXTURES.doubles(name + ".loss_sum"), new float[] {total}, 2e-6);
        float average = CrossEntropy.forward(x, targets, losses, null, mean);
        assertClose(FIXTURES.doubles(name + ".loss_mean"), new float[] {average}, 2e-6);

        float again = CrossEntropy.forwardBackward(x, targets, losses, null, dx, 1, sum);
        assertEquals(total, again);
        assertClose(FIXTURES.doubles(name + ".loss_none"), Memory.toArray(losses), 2e-6);
        assertClose(FIXTURES.doubles(name + ".dlogits_sum"), Memory.toArray(dx.segment()), 1e-6);
        CrossEntropy.forwardBackward(x, targets, losses, lse, x, 1, mean);
        assertClose(FIXTURES.doubles(name + ".dlogits_mean"), Memory.toArray(logits), 1e-6);
      }
    }
  }

  /** Equal to within {@code tolerance} times the larger of 1 and the magnitude. */
  static void assertClose(double[] expected, float[] actual, double tolerance) {
    assertEquals(expected.length, actual.length);
    for (int i = 0; i < expected.length; i++) {
      double error = Math.abs(expected[i] - actual[i]);
      boolean same =
          Double.isNaN(expected[i])
              ? Float.isNaN(actual[i])
              : (float) expected[i] == actual[i]
                  || error <= tolerance * Math.max(1, Math.abs(expected[i]));
      assertTrue(same, "element " + i + " is " + actual[i] + ", expected " + expected[i]);
    }
  }

  @ParameterizedTest
  @CsvSource({
    "v50257_n4, 12345, 4, 0",
    "v50257_n4, 12345, 4, 0.1",
    "v50257_n6_flat, 777, 0.5, 0",
    "v50257_n6_flat, 777, 0.5, 0.1",
    "v50257_n2_wide, 99, 64, 0",
    "v50257_n2_wide, 99, 64, 0.1"
  })
  void agreesWithPyTorchOnTheVocabularyOfGpt2(
      String name, int seed, double scale, float smoothing) {
    Fixtures fixtures = new Fixtures("cross_entropy_50257");
    int rows = fixtures.shape(name + ".targets")[0];
    int cols = 50257;
    try (Arena arena = Arena.ofShared()) {
      MemorySegment logits = Memory.ALIGNED.floats(arena, (long) rows * cols);
      int state = seed;
      for (long k = 0; k < (long) rows * cols; k++) {
        state = 1664525 * state + 1013904223;
        Memory.set(logits, k, (float) (((state >>> 8) / 0x1p24 - 0.5) * 2 * scale));
      }
      int[] wanted =
          Arrays.stream(fixtures.doubles(name + ".targets")).mapToInt(t -> (int) t).toArray();
      Indices targets = Indices.ofInts(Memory.ALIGNED.ofInts(arena, wanted), rows);
      MemorySegment losses = Memory.ALIGNED.floats(arena, rows);
      Matrix x = new Matrix(logits, rows, cols);
      Options options = Options.DEFAULT.withLabelSmoothing(smoothing);
      float mean = CrossEntropy.forwardBackward(x, targets, losses, null, x, 1, options);
      String prefix = name + ".ls" + smoothing + ".";
      assertClose(fixtures.doubles(prefix + "loss_mean"), new float[] {mean}, 1e-6);
      assertClose(fixtures.doubles(prefix + "loss_none"), Memory.toArray(losses), 1e-6);
      double[] atTarget = fixtures.doubles(prefix + "dlogits_at_target");
      double[] samples = fixtures.doubles(prefix + "dlogits_every_997th");
      for (int row = 0; row < rows; row++) {
        float d = Memory.get(logits, (long) row * cols + wanted[row]);
        assertEquals(atTarget[row], d, 1e-6 * Math.abs(atTarget[row]) + 1e-12);
        int perRow = samples.length / rows;
        for (int i = 0; i < perRow; i++) {
          double expected = samples[row * perRow + i];
          float actual = Memory.get(logits, (long) row * cols + 997L * i);
          assertEquals(expected, actual, 2e-6 * Math.abs(expected) + 1e-12);
        }
      }
    }
  }

  @ParameterizedTest
  @EnumSource
  void everySizeAndPlace(Memory memory) {
    Random random = new Random(3);
    for (int cols = 1; cols <= 4 * Machine.LANES + 3; cols++) {
      int rows = 1 + cols % 3;
      int stride = cols + cols % 4;
      Options options =
          Options.DEFAULT
              .withLabelSmoothing(cols % 5 == 0 ? 0.2f : 0)
              .withZLoss(cols % 7 == 0 ? 1e-2f : 0);
      try (Arena arena = Arena.ofShared()) {
        MemorySegment logits = memory.floats(arena, (long) (rows - 1) * stride + cols);
        for (int i = 0; i < logits.byteSize() / 4; i++) {
          Memory.set(logits, i, (float) random.nextGaussian() * 3);
        }
        int[] wanted = random.ints(rows, 0, cols).toArray();
        Matrix x = new Matrix(logits, rows, cols, stride);
        Reference reference = new Reference(x, wanted, options, null);
        float[] before = Memory.toArray(logits);
        MemorySegment losses = memory.floats(arena, rows);
        float mean =
            CrossEntropy.forwardBackward(
                x, Indices.ofInts(memory.ofInts(arena, wanted), rows), losses, null, x, 2, options);
        assertEquals(reference.mean, mean, 2e-6 * Math.abs(reference.mean) + 1e-6);
        for (int i = 0; i < before.length; i++) {
          int row = i / stride;
          int col = i % stride;
          double expected = col < cols ? 2 * reference.gradient[row][col] : before[i];
          assertEquals(expected, Memory.get(logits, i), 1e-6);
        }
      }
    }
  }

  /** The definitions, in double precision, with a mean over the rows. */
  private static final class Reference {
    final double[][] gradient;
    double mean;

    Reference(Matrix x, int[] targets, Options options, float[] weights) {
      int rows = x.rows();
      int cols = x.cols();
      gradient = new double[rows][cols];
      double total = 0;
      double smoothing = options.labelSmoothing();
      for (int target : targets) {
        total += weights == null ? 1 : weights[target];
      }
      for (int row = 0; row < rows; row++) {
        double max = Double.NEGATIVE_INFINITY;
        for (int j = 0; j < cols; j++) {
          max = Math.max(max, at(x, row, j));
        }
        double sum = 0;
        double logits = 0;
        for (int j = 0; j < cols; j++) {
          sum += Math.exp(at(x, row, j) - max);
          logits += at(x, row, j);
        }
        double lse = max + Math.log(sum);
        double weight = (weights == null ? 1 : weights[targets[row]]) / total;
        double nll = lse - at(x, row, targets[row]);
        double z = options.zLoss();
        mean +=
            weight * ((1 - smoothing) * nll + smoothing * (lse - logits / cols) + z * lse * lse);
        for (int j = 0; j < cols; j++) {
          double p = Math.exp(at(x, row, j) - lse);
          double q = smoothing / cols + (j == targets[row] ? 1 - smoothing : 0);
          gradient[row][j] = weight * (p * (1 + 2 * z * lse) - q);
        }
      }
    }

    private static float at(Matrix x, int row, int col) {
      return Memory.get(x.segment(), x.offset() + row * x.stride() + col);
    }
  }

  @Test
  void classWeights() {
    Random random = new Random(4);
    int rows = 9;
    int cols = 37;
    try (Arena arena = Arena.ofShared()) {
      MemorySegment logits = Memory.ALIGNED.floats(arena, (long) rows * cols);
      for (int i = 0; i < rows * cols; i++) {
        Memory.set(logits, i, (float) random.nextGaussian());
      }
      float[] weights = new float[cols];
      for (int j = 0; j < cols; j++) {
        weights[j] = random.nextFloat();
      }
      int[] wanted = random.ints(rows, 0, cols).toArray();
      Matrix x = new Matrix(logits, rows, cols);
      MemorySegment w = Memory.ALIGNED.of(arena, weights);
      Options options = Options.DEFAULT.withClassWeights(w);
      Reference reference = new Reference(x, wanted, options, weights);
      Indices targets = Indices.ofInts(Memory.ALIGNED.ofInts(arena, wanted), rows);
      MemorySegment losses = Memory.ALIGNED.floats(arena, rows);
      float mean = CrossEntropy.forwardBackward(x, targets, losses, null, x, 1, options);
      assertEquals(reference.mean, mean, 1e-6);
      for (int i = 0; i < rows * cols; i++) {
        assertEquals(reference.gradient[i / cols][i % cols], Memory.get(logits, i), 1e-7);
      }
      w.fill((byte) 0);
      assertEquals(Float.NaN, CrossEntropy.forward(x, targets, losses, null, options));
      CrossEntropy.forwardBackward(x, targets, losses, null, x, 1, options);
      assertEquals(Float.NaN, Memory.get(logits, 5));
    }
  }

  @Test
  void anIgnoredRowIsZeroWhateverItHolds() {
    try (Arena arena = Arena.ofShared()) {
      MemorySegment logits = Memory.ALIGNED.of(arena, Float.NaN, 1, 2, 0, 0, 0);
      Matrix x = new Matrix(logits, 2, 3);
      MemorySegment losses = Memory.ALIGNED.floats(arena, 2);
      Indices targets = Indices.ofInts(Memory.ALIGNED.ofInts(arena, -100, 1), 2);
      float mean = CrossEntropy.forwardBackward(x, targets, losses, null, x, 1, Options.DEFAULT);
      assertEquals((float) Math.log(3), mean, 1e-6f);
      assertEquals(0, Memory.get(losses, 0));
      for (int j = 0; j < 3; j++) {
        assertEquals(0f, Memory.get(logits, j));
      }
      Matrix none = new Matrix(logits, 0, 3);
      Indices noTargets = targets.slice(0, 0);
      assertEquals(Float.NaN, CrossEntropy.forward(none, noTargets, losses, null, Options.DEFAULT));
      Options sum = Options.DEFAULT.withReduction(Reduction.SUM);
      assertEquals(0f, CrossEntropy.forward(none, noTargets, losses, null, sum));
    }
  }

  @Test
  void theGradientAtTheTargetDoesNotCancel() {
    try (Arena arena = Arena.ofShared()) {
      MemorySegment logits = Memory.ALIGNED.of(arena, 30, 0);
      Matrix x = new Matrix(logits, 1, 2);
      MemorySegment losses = Memory.ALIGNED.floats(arena, 1);
      Indices targets = Indices.ofInts(Memory.ALIGNED.ofInts(arena, 0), 1);
      CrossEntropy.forwardBackward(x, targets, losses, null, x, 1, Options.DEFAULT);
      assertEquals(-Math.exp(-30), Memory.get(logits, 0), 3e-16);
      assertEquals(Math.exp(-30), Memory.get(logits, 1), 3e-16);
    }
  }

  @Test
  void anyNumberOfThreadsGivesTheSameBits() {
    int rows = 23;
    int cols = 9001;
    byte[][] results = new byte[4][];
    int[] threads = {1, 2, 3, 7};
    for (int k = 0; k < threads.length; k++) {
      Workers.setThreads(threads[k]);
      Random random = new Random(5);
      try (Arena arena = Arena.ofShared()) {
        MemorySegment logits = Memory.ALIGNED.floats(arena, (long) rows * cols);
        for (int i = 0; i < rows * cols; i++) {
          Memory.set(logits, i, (float) random.nextGaussian());
        }
        Matrix x = new Matrix(logits, rows, cols);
        MemorySegment losses = Memory.ALIGNED.floats(arena, rows);
        int[] wanted = random.ints(rows, 0, cols).toArray();
        Indices targets = Indices.ofInts(Memory.ALIGNED.ofInts(arena, wanted), rows);
        CrossEntropy.forwardBackward(x, targets, losses, null, x, 1, Options.DEFAULT);
        results[k] = logits.toArray(java.lang.foreign.ValueLayout.JAVA_BYTE);
        assertArrayEquals(results[0], results[k]);
      }
    }
  }

  @Test
  void longTargetsAndRawMemoryAgree() {
    try (Arena arena = Arena.ofShared()) {
      float[] values = {1, 2, 3, 4, 5, 6};
      MemorySegment a = Memory.ALIGNED.of(arena, values);
      MemorySegment b = Memory.ALIGNED.of(arena, values);
      MemorySegment longs = arena.allocateFrom(java.lang.foreign.ValueLayout.JAVA_LONG, 2, 0);
      MemorySegment losses = Memory.ALIGNED.floats(arena, 2);
      Matrix x = new Matrix(a, 2, 3);
      Indices targets = Indices.ofLongs(longs, 2);
      float first = CrossEntropy.forwardBackward(x, targets, losses, null, x, 1, Options.DEFAULT);
      float second =
          CrossEntropy.forwardBackward(
              b, 0, 3, 2, 3, Memory.ALIGNED.ofInts(arena, 2, 0), 0, losses, 0, 1, Options.DEFAULT);
      assertEquals(first, second);
      assertArrayEquals(Memory.toArray(a), Memory.toArray(b));
    }
  }

  @Test
  void upstreamGradientsMultiplyTheirRows() {
    try (Arena arena = Arena.ofShared()) {
      float[] values = {1, 2, 3, 1, 2, 3};
      Matrix x = new Matrix(Memory.ALIGNED.of(arena, values), 2, 3);
      MemorySegment losses = Memory.ALIGNED.floats(arena, 2);
      Indices targets = Indices.ofInts(Memory.ALIGNED.ofInts(arena, 2, 2), 2);
      MemorySegment upstream = Memory.ALIGNED.of(arena, 1, -3);
      Options sum = Options.DEFAULT.withReduction(Reduction.SUM);
      CrossEntropy.forwardBackward(x, targets, losses, null, upstream, x, 1, sum);
      for (int j = 0; j < 3; j++) {
        assertEquals(-3 * Memory.get(x.segment(), j), Memory.get(x.segment(), 3 + j), 1e-6f);
      }
    }
  }

  /** PyTorch's reduction "none" gives the rows' losses, and each its own gradient. */
  @Test
  void withoutReductionRowsStayAlone() {
    try (Arena arena = Arena.ofShared()) {
      Random random = new Random(8);
      Matrix x = new Matrix(arena.allocate(4L * 5 * 11), 5, 11);
      for (int i = 0; i < 55; i++) {
        Memory.set(x.segment(), i, (float) random.nextGaussian());
      }
      Indices targets = Indices.ofInts(Memory.ALIGNED.ofInts(arena, 3, 0, -100, 10, 7), 5);
      MemorySegment losses = arena.allocate(20);
      MemorySegment upstream = Memory.ALIGNED.of(arena, 1, 2, 3, -1, 0.5f);
      Matrix dx = new Matrix(arena.allocate(4L * 5 * 11), 5, 11);
      Options none = Options.DEFAULT.withReduction(Reduction.NONE);
      float loss = CrossEntropy.forwardBackward(x, targets, losses, null, upstream, dx, 1, none);
      assertTrue(Float.isNaN(loss));
      assertTrue(Float.isNaN(CrossEntropy.forward(x, targets, losses, null, none)));
      for (int row = 0; row < 5; row++) {
        int target = new int[] {3, 0, -100, 10, 7}[row];
        double sum = 0;
        for (int j = 0; j < 11; j++) {
          sum += Math.exp(Memory.get(x.segment(), row * 11 + j));
        }
        boolean counts = target >= 0;
        double expected = counts ? Math.log(sum) - Memory.get(x.segment(), row * 11 + target) : 0;
        assertEquals(expected, Memory.get(losses, row), 1e-6);
        for (int j = 0; j < 11; j++) {
          double p = Math.exp(Memory.get(x.segment(), row * 11 + j)) / sum;
          double d = counts ? Memory.get(upstream, row) * (p - (j == target ? 1 : 0)) : 0;
          assertEquals(d, Memory.get(dx.segment(), row * 11 + j), 1e-6);
        }
      }
    }
  }

  @Test
  void wrongCallsAreRefusedBeforeAnythingIsWritten() {
    try (Arena arena = Arena.ofShared()) {
      MemorySegment logits = Memory.ALIGNED.of(arena, 1, 2, 3, 4, 5, 6);
      Matrix x = new Matrix(logits, 2, 3);
      MemorySegment losses = Memory.ALIGNED.floats(arena, 2);
      Indices bad = Indices.ofInts(Memory.ALIGNED.ofInts(arena, 0, 3), 2);
      Options options = Options.DEFAULT;
      refused(
          "targets[1] is 3; it must be from 0 to 2",
          () -> CrossEntropy.forwardBackward(x, bad, losses, null, x, 1, options));
      Indices few = bad.slice(0, 1);
      refused("2 are needed", () -> CrossEntropy.forward(x, few, losses, null, options));
      Indices good = Indices.ofInts(Memory.ALIGNED.ofInts(arena, 0, 2), 2);
      refused("shares memory", () -> CrossEntropy.forward(x, good, logits, null, options));
      refused(
          "losses: 2 elements",
          () -> CrossEntropy.forward(x, good, losses.asSlice(4), null, options));
      refused("label smoothing", () -> options.withLabelSmoothing(1.5f));
      assertArrayEquals(new float[] {1, 2, 3, 4, 5, 6}, Memory.toArray(logits));
    }
  }
}
