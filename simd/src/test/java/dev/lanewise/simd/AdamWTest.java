package dev.lanewise.simd;

import static dev.lanewise.simd.CrossEntropyTest.assertClose;
import static dev.lanewise.simd.VectorMathTest.refused;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;

class AdamWTest {
  private static final Fixtures FIXTURES = new Fixtures("optim");

  @ParameterizedTest
  @CsvSource({
    "adamw, 1e-2, 0.9, 0.95, 0.1",
    "adamw_default, 1e-3, 0.9, 0.999, 0.01",
    "adamw_nowd, 3e-4, 0.9, 0.999, 0"
  })
  void agreesWithPyTorch(String name, double lr, double beta1, double beta2, double decay) {
    for (String parameter : new String[] {"p", "q"}) {
      try (Arena arena = Arena.ofShared()) {
        MemorySegment p = Memory.ALIGNED.of(arena, FIXTURES.floats(parameter + "0"));
        int n = (int) (p.byteSize() / 4);
        MemorySegment m = Memory.ALIGNED.floats(arena, n);
        MemorySegment v = Memory.ALIGNED.floats(arena, n);
        for (int step = 1; step <= 5; step++) {
          MemorySegment g = Memory.ALIGNED.of(arena, FIXTURES.floats("g" + parameter + step));
          AdamW.step(p, 0, g, 0, m, 0, v, 0, n, lr, beta1, beta2, 1e-8, decay, step, 1);
          assertClose(FIXTURES.doubles(name + "." + parameter + step), Memory.toArray(p), 4e-7);
        }
      }
    }
  }

  @Test
  void theFirstStepByHand() {
    try (Arena arena = Arena.ofShared()) {
      MemorySegment p = Memory.ALIGNED.of(arena, 1);
      MemorySegment g = Memory.ALIGNED.of(arena, 1);
      MemorySegment m = Memory.ALIGNED.of(arena, 0);
      MemorySegment v = Memory.ALIGNED.of(arena, 0);
      AdamW.step(p, 0, g, 0, m, 0, v, 0, 1, 0.1, 0.9, 0.999, 1e-8, 0.1, 1, 0.5f);
      assertEquals(0.89, Memory.get(p, 0), 1e-7);
      assertEquals(0.05, Memory.get(m, 0), 1e-8);
      assertEquals(0.00025, Memory.get(v, 0), 1e-10);
    }
  }

  @ParameterizedTest
  @EnumSource
  void everySizeAndPlace(Memory memory) {
    Random random = new Random(40);
    for (int n = 0; n <= 2 * Machine.LANES + 3; n++) {
      try (Arena arena = Arena.ofShared()) {
        MemorySegment p = memory.floats(arena, n);
        MemorySegment g = memory.floats(arena, n);
        MemorySegment m = memory.floats(arena, n);
        MemorySegment v = memory.floats(arena, n);
        double[] expected = new double[n];
        for (int i = 0; i < n; i++) {
          Memory.set(p, i, (float) random.nextGaussian());
          Memory.set(g, i, (float) random.nextGaussian());
          Memory.set(m, i, (float) random.nextGaussian());
          Memory.set(v, i, random.nextFloat());
          double scaled = 0.25 * Memory.get(g, i);
          double m1 = 0.9 * Memory.get(m, i) + 0.1 * scaled;
          double v1 = 0.95 * Memory.get(v, i) + 0.05 * scaled * scaled;
          double mHat = m1 / (1 - Math.pow(0.9, 3));
          double vHat = v1 / (1 - Math.pow(0.95, 3));
          expected[i] =
              Memory.get(p, i) * (1 - 1e-3 * 0.1) - 1e-3 * mHat / (Math.sqrt(vHat) + 1e-8);
        }
        AdamW.step(p, 0, g, 0, m, 0, v, 0, n, 1e-3, 0.9, 0.95, 1e-8, 0.1, 3, 0.25f);
        assertClose(expected, Memory.toArray(p), 3e-7);
      }
    }
  }

  /** A square that overflows times a small factor may be in range: PyTorch's order keeps it. */
  @Test
  void hugeGradientsOverflowWhereTheyDoInPyTorch() {
    float[] gradients = {1e19f, 1.9e19f, -3e19f, 5e20f, 6e20f, 1e30f, Float.POSITIVE_INFINITY, 2};
    try (Arena arena = Arena.ofShared()) {
      for (int n : new int[] {gradients.length, 4 * Machine.LANES + 5}) {
        MemorySegment p = Memory.ALIGNED.floats(arena, n);
        MemorySegment g = Memory.ALIGNED.floats(arena, n);
        MemorySegment m = Memory.ALIGNED.floats(arena, n);
        MemorySegment v = Memory.ALIGNED.floats(arena, n);
        for (int i = 0; i < n; i++) {
          Memory.set(g, i, gradients[i % gradients.length]);
        }
        AdamW.step(p, 0, g, 0, m, 0, v, 0, n, 0.1, 0.9, 0.999, 1e-8, 0, 1, 1);
        for (int i = 0; i < n; i++) {
          double exact = (float) (1 - 0.999) * (double) Memory.get(g, i) * Memory.get(g, i);
          assertTrue(Memory.ulps(exact, Memory.get(v, i)) <= 1.5, i + ": " + Memory.get(v, i));
        }
      }
    }
  }

  @Test
  void ratesThatAreNoNumbersAreRefused() {
    try (Arena arena = Arena.ofShared()) {
      MemorySegment s = Memory.ALIGNED.floats(arena, 16);
      double[] good = {1e-3, 0.9, 0.999, 1e-8, 0.1};
      String[] names = {"learningRate", "beta1", "beta2", "epsilon", "weightDecay"};
      for (int i = 0; i < good.length; i++) {
        for (double bad : new double[] {Double.NaN, Double.POSITIVE_INFINITY}) {
          double[] r = good.clone();
          r[i] = bad;
          refused(
              names[i],
              () -> AdamW.step(s, 0, s, 4, s, 8, s, 12, 4, r[0], r[1], r[2], r[3], r[4], 1, 1));
        }
      }
      refused("beta2", () -> AdamW.step(s, 0, s, 4, s, 8, s, 12, 4, 1, 0.9, 1, 0, 0, 1, 1));
    }
  }

  @Test
  void wrongCallsAreRefused() {
    try (Arena arena = Arena.ofShared()) {
      MemorySegment s = Memory.ALIGNED.floats(arena, 8);
      MemorySegment t = Memory.ALIGNED.floats(arena, 8);
      refused(
          "firstMoment is written but shares memory with secondMoment",
          () -> AdamW.step(s, 0, s, 4, t, 0, t, 2, 4, 1, 0.9, 0.9, 1, 0, 1, 1));
      refused("step 0", () -> AdamW.step(s, 0, s, 4, t, 0, t, 4, 4, 1, 0.9, 0.9, 1, 0, 0, 1));
    }
  }
}
