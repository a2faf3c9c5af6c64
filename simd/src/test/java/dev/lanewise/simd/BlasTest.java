package dev.lanewise.simd;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

class BlasTest {
  private static final int[][] SIZES = {
    {0, 0}, {0, 3}, {3, 0}, {1, 1}, {1, 40}, {40, 1}, {5, 17}, {64, 64}, {33, 129}, {300, 200}
  };

  private final int threads = Workers.threads();

  @AfterEach
  void restore() {
    Workers.setThreads(threads);
  }

  private static float[] random(int n, long seed) {
    Random random = new Random(seed);
    float[] x = new float[n];
    for (int i = 0; i < n; i++) {
      x[i] = (float) random.nextGaussian();
    }
    return x;
  }

  private static MemorySegment nativeCopy(float[] x) {
    return Arena.ofAuto().allocate(4L * x.length, 64).copyFrom(MemorySegment.ofArray(x));
  }

  @Test
  void sgemvAgreesWithDoubles() {
    for (int[] size : SIZES) {
      int m = size[0];
      int n = size[1];
      for (boolean trans : new boolean[] {false, true}) {
        for (float beta : new float[] {0, 1, -0.5f}) {
          int lda = n + 3;
          int inner = trans ? m : n;
          int outer = trans ? n : m;
          int incx = 1 + m % 3;
          int incy = 1 + n % 2;
          float[] a = random(2 + m * lda + 1, 1);
          float[] x = random(1 + inner * incx + 1, 2);
          float[] y = random(3 + outer * incy + 1, 3);
          if (beta == 0) {
            for (int i = 0; i < outer; i++) {
              y[3 + i * incy] = Float.NaN;
            }
          }
          double[] exact = new double[y.length];
          for (int i = 0; i < y.length; i++) {
            exact[i] = y[i];
          }
          for (int i = 0; i < outer; i++) {
            double sum = 0;
            for (int j = 0; j < inner; j++) {
              sum += (double) a[2 + (trans ? j * lda + i : i * lda + j)] * x[1 + j * incx];
            }
            double old = beta == 0 ? 0 : beta * (double) y[3 + i * incy];
            exact[3 + i * incy] = 1.25 * sum + old;
          }
          float[] first = null;
          for (int used = 1; used <= 3; used++) {
            Workers.setThreads(used);
            for (boolean isNative : new boolean[] {true, false}) {
              MemorySegment to = isNative ? nativeCopy(y) : MemorySegment.ofArray(y.clone());
              Blas.sgemv(
                  trans,
                  m,
                  n,
                  1.25f,
                  isNative ? nativeCopy(a) : MemorySegment.ofArray(a),
                  2,
                  lda,
                  isNative ? nativeCopy(x) : MemorySegment.ofArray(x),
                  1,
                  incx,
                  beta,
                  to,
                  3,
                  incy);
              float[] result = to.toArray(ValueLayout.JAVA_FLOAT_UNALIGNED);
              for (int i = 0; i < y.length; i++) {
                assertEquals(exact[i], result[i], 1e-5 * (1 + Math.sqrt(inner)), i + "");
              }
              first = first == null ? result : first;
              assertArrayEquals(first, result);
            }
          }
        }
      }
    }
  }

  @Test
  void sgerIsARoundedSum() {
    for (int[] size : SIZES) {
      int m = size[0];
      int n = size[1];
      int lda = n + 2;
      float[] a = random(1 + m * lda + 1, 1);
      float[] x = random(2 + 2 * m, 2);
      float[] y = random(1 + 3 * n, 3);
      float[] expected = a.clone();
      for (int i = 0; i < m; i++) {
        for (int j = 0; j < n; j++) {
          int at = 1 + i * lda + j;
          expected[at] = Math.fma(-1.5f * x[2 + 2 * i], y[1 + 3 * j], expected[at]);
        }
      }
      for (int used = 1; used <= 3; used++) {
        Workers.setThreads(used);
        MemorySegment there = nativeCopy(a);
        Blas.sger(m, n, -1.5f, nativeCopy(x), 2, 2, nativeCopy(y), 1, 3, there, 1, lda);
        assertArrayEquals(expected, there.toArray(ValueLayout.JAVA_FLOAT_UNALIGNED));
        float[] here = a.clone();
        Blas.sger(
            m,
            n,
            -1.5f,
            MemorySegment.ofArray(x),
            2,
            2,
            MemorySegment.ofArray(y),
            1,
            3,
            MemorySegment.ofArray(here),
            1,
            lda);
        assertArrayEquals(expected, here);
      }
    }
  }

  @Test
  void productsAreGemms() {
    MemorySegment a = nativeCopy(random(3 * 40, 1));
    MemorySegment b = nativeCopy(random(3 * 50, 2));
    float[] expected = new float[3 * 30];
    float[] c = new float[3 * 30];
    for (int i = 0; i < 3; i++) {
      Gemm.sgemm(
          true,
          false,
          5,
          6,
          7,
          2,
          a,
          40L * i,
          5,
          b,
          50L * i,
          7,
          0,
          MemorySegment.ofArray(expected),
          30L * i,
          6);
      Blas.sgemm(
          true,
          false,
          5,
          6,
          7,
          2,
          a,
          40L * i,
          5,
          b,
          50L * i,
          7,
          0,
          MemorySegment.ofArray(c),
          30L * i,
          6);
    }
    assertArrayEquals(expected, c);
    MemorySegment batches = Arena.ofAuto().allocate(4L * c.length);
    Blas.sgemmStridedBatched(
        true, false, 5, 6, 7, 2, a, 0, 5, 40, b, 0, 7, 50, 0, batches, 0, 6, 30, 3);
    float[] result = batches.toArray(ValueLayout.JAVA_FLOAT_UNALIGNED);
    for (int i = 0; i < c.length; i++) {
      assertEquals(expected[i], result[i], 1e-5 * (1 + Math.abs(expected[i])));
    }
  }

  @Test
  void alphaZeroReadsNothing() {
    float[] nan = new float[16];
    Arrays.fill(nan, Float.NaN);
    MemorySegment a = MemorySegment.ofArray(nan);
    float[] y = {1, 2, 3, 4};
    Blas.sgemv(false, 4, 4, 0, a, 0, 4, a, 0, 1, 2, MemorySegment.ofArray(y), 0, 1);
    assertArrayEquals(new float[] {2, 4, 6, 8}, y);
    float[] kept = {1, 2, 3, 4};
    Blas.sger(2, 2, 0, a, 0, 1, a, 0, 1, MemorySegment.ofArray(kept), 0, 2);
    assertArrayEquals(new float[] {1, 2, 3, 4}, kept);
  }

  @Test
  void wrongCallsAreNamed() {
    MemorySegment s = MemorySegment.ofArray(new float[100]);
    refused("lda is 2", () -> Blas.sgemv(false, 3, 4, 1, s, 0, 2, s, 0, 1, 0, s, 50, 1));
    refused("incx is 0", () -> Blas.sgemv(false, 3, 4, 1, s, 0, 4, s, 0, 0, 0, s, 50, 1));
    refused("incy is -1", () -> Blas.sger(3, 4, 1, s, 0, 1, s, 0, -1, s, 50, 4));
    refused("m is -3", () -> Blas.sger(-3, 4, 1, s, 0, 1, s, 0, 1, s, 50, 4));
    refused(
        "x: 4 elements at 98", () -> Blas.sgemv(false, 3, 4, 1, s, 0, 4, s, 98, 1, 0, s, 50, 1));
    refused("shares memory", () -> Blas.sgemv(false, 3, 4, 1, s, 0, 4, s, 20, 1, 0, s, 11, 1));
    refused("a is written but shares", () -> Blas.sger(3, 4, 1, s, 0, 1, s, 60, 1, s, 2, 4));
  }

  private static void refused(String words, Runnable call) {
    String message = assertThrows(IllegalArgumentException.class, call::run).getMessage();
    assertTrue(message.contains(words), message);
  }
}
