package dev.lanewise.simd;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.simd.Similarity.Metric;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.Comparator;
import java.util.Random;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

class SimilarityTest {
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;
  private static final int[] SIZES = {
    0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 33, 47, 63, 64, 65, 79, 96, 100, 127, 128, 129, 200,
    255, 257, 300, 384, 768, 1000, 1536, 4099
  };

  private final int threads = Workers.threads();

  @AfterEach
  void restore() {
    Workers.setThreads(threads);
  }

  /** In double precision. */
  private static double exact(Metric metric, float[] a, int aAt, float[] b, int bAt, int n) {
    double ab = 0;
    double aa = 0;
    double bb = 0;
    double distance = 0;
    for (int i = 0; i < n; i++) {
      double x = a[aAt + i];
      double y = b[bAt + i];
      ab += x * y;
      aa += x * x;
      bb += y * y;
      distance += (x - y) * (x - y);
    }
    return switch (metric) {
      case DOT -> ab;
      case COSINE -> aa == 0 || bb == 0 ? 0 : ab / Math.sqrt(aa) / Math.sqrt(bb);
      case SQUARED_DISTANCE -> distance;
    };
  }

  /** What float32 may be wrong by: some roundings of the sum of the absolute products. */
  private static double tolerance(Metric metric, float[] a, int aAt, float[] b, int bAt, int n) {
    double size = 0;
    for (int i = 0; i < n; i++) {
      double x = a[aAt + i];
      double y = b[bAt + i];
      size += metric == Metric.DOT ? Math.abs(x * y) : (x - y) * (x - y);
    }
    return metric == Metric.COSINE ? 2e-6 : size * 2e-6;
  }

  private static float pair(Metric metric, float[] a, int aAt, float[] b, int bAt, int n) {
    return switch (metric) {
      case DOT -> Similarity.dot(a, aAt, b, bAt, n);
      case COSINE -> Similarity.cosine(a, aAt, b, bAt, n);
      case SQUARED_DISTANCE -> Similarity.squaredDistance(a, aAt, b, bAt, n);
    };
  }

  private static float pair(
      Metric metric, MemorySegment a, long aAt, MemorySegment b, long bAt, int n) {
    return switch (metric) {
      case DOT -> Similarity.dot(a, aAt, b, bAt, n);
      case COSINE -> Similarity.cosine(a, aAt, b, bAt, n);
      case SQUARED_DISTANCE -> Similarity.squaredDistance(a, aAt, b, bAt, n);
    };
  }

  private static float[] random(int n, long seed) {
    Random random = new Random(seed);
    float[] x = new float[n];
    for (int i = 0; i < n; i++) {
      x[i] = (float) random.nextGaussian();
    }
    return x;
  }

  private static MemorySegment nativeCopy(Arena arena, float[] x) {
    return arena.allocate(4L * Math.max(1, x.length), 64).copyFrom(MemorySegment.ofArray(x));
  }

  @ParameterizedTest
  @EnumSource
  void pairsAgreeWithDoublesWhereverTheyLie(Metric metric) {
    Arena arena = Arena.ofAuto();
    for (int n : SIZES) {
      float[] a = random(n + 5, n);
      float[] b = random(n + 9, n + 1);
      float result = pair(metric, a, 3, b, 7, n);
      double exact = exact(metric, a, 3, b, 7, n);
      assertEquals(exact, result, tolerance(metric, a, 3, b, 7, n), "n = " + n);
      MemorySegment heapA = MemorySegment.ofArray(a);
      MemorySegment heapB = MemorySegment.ofArray(b);
      MemorySegment nativeA = nativeCopy(arena, a);
      MemorySegment nativeB = nativeCopy(arena, b);
      assertEquals(result, pair(metric, nativeA, 3, nativeB, 7, n), "native, n = " + n);
      assertEquals(result, pair(metric, heapA, 3, heapB, 7, n), "heap, n = " + n);
      assertEquals(result, pair(metric, heapA, 3, nativeB, 7, n), "both, n = " + n);
      assertEquals(result, pair(metric, heapA.asSlice(8).asReadOnly(), 1, heapB.asSlice(12), 4, n));
      byte[] bytes = new byte[4 * a.length + 1];
      MemorySegment odd = MemorySegment.ofArray(bytes).asSlice(1);
      odd.copyFrom(heapA);
      assertEquals(result, pair(metric, odd, 3, heapB, 7, n), "bytes, n = " + n);
      try (Arena confined = Arena.ofConfined()) {
        assertEquals(result, pair(metric, nativeCopy(confined, a), 3, heapB, 7, n));
      }
      float[] wholeA = Arrays.copyOfRange(a, 3, 3 + n);
      float[] wholeB = Arrays.copyOfRange(b, 7, 7 + n);
      float whole =
          switch (metric) {
            case DOT -> Similarity.dot(wholeA, wholeB);
            case COSINE -> Similarity.cosine(wholeA, wholeB);
            case SQUARED_DISTANCE -> Similarity.squaredDistance(wholeA, wholeB);
          };
      assertEquals(result, whole);
    }
  }

  @Test
  void normsAgreeWithDoubles() {
    Arena arena = Arena.ofAuto();
    for (int n : SIZES) {
      for (double scale : new double[] {1, 1e-30, 1e30, 1e-42}) {
        float[] x = random(n + 2, n);
        for (int i = 0; i < x.length; i++) {
          x[i] = (float) (x[i] * scale);
        }
        double sum = 0;
        for (int i = 1; i <= n; i++) {
          sum += (double) x[i] * x[i];
        }
        float norm = Similarity.norm(x, 1, n);
        assertEquals(Math.sqrt(sum), norm, Math.max(1e-6 * Math.sqrt(sum), Float.MIN_VALUE));
        assertEquals(norm, Similarity.norm(nativeCopy(arena, x), 1, n));
        assertEquals(norm, Similarity.norm(MemorySegment.ofArray(x), 1, n));
        assertEquals(norm, Similarity.norm(Arrays.copyOfRange(x, 1, n + 1)));
      }
    }
  }

  @Test
  void cosinesDoNotDependOnTheScale() {
    Arena arena = Arena.ofAuto();
    for (int n : new int[] {1, 5, 17, 64, 100, 768}) {
      float[] a = random(n, 1);
      float[] b = random(n, 2);
      double exact = exact(Metric.COSINE, a, 0, b, 0, n);
      for (float scale : new float[] {1e-38f, 1e-25f, 1e-12f, 1e12f, 1e25f, 1e37f}) {
        float[] scaled = a.clone();
        for (int i = 0; i < n; i++) {
          scaled[i] *= scale;
        }
        double tolerance = scale < 1e-37f ? 1e-5 : 2e-6;
        assertEquals(exact, Similarity.cosine(scaled, b), tolerance, n + " at " + scale);
        MemorySegment there = nativeCopy(arena, scaled);
        float same = Similarity.cosine(there, 0, nativeCopy(arena, b), 0, n);
        assertEquals(Similarity.cosine(scaled, b), same);
      }
      assertEquals(0, Similarity.cosine(new float[n], b));
      assertEquals(0, Similarity.cosine(b, new float[n]));
      assertEquals(0, Similarity.cosine(new float[n], new float[n]));
    }
  }

  @ParameterizedTest
  @EnumSource
  void whatIsNotFiniteShows(Metric metric) {
    for (int n : new int[] {1, 3, 16, 17, 64, 70, 130}) {
      for (int place = 0; place < n; place++) {
        float[] a = random(n, 1);
        float[] b = random(n, 2);
        a[place] = Float.NaN;
        assertTrue(Float.isNaN(pair(metric, a, 0, b, 0, n)), n + ", " + place);
        assertTrue(Float.isNaN(pair(metric, b, 0, a, 0, n)), n + ", " + place);
        assertTrue(Float.isNaN(Similarity.norm(a)));
        a[place] = Float.POSITIVE_INFINITY;
        b[place] = 2;
        float expected = metric == Metric.COSINE ? Float.NaN : Float.POSITIVE_INFINITY;
        assertEquals(expected, pair(metric, a, 0, b, 0, n), n + ", " + place);
        assertEquals(Float.POSITIVE_INFINITY, Similarity.norm(a));
      }
    }
    // Neighbours of a part are not read into it.
    float[] a = new float[200];
    Arrays.fill(a, Float.NaN);
    for (int n : SIZES) {
      if (n < 180) {
        Arrays.fill(a, 9, 9 + n, 1);
        assertEquals(
            metric == Metric.DOT ? n : metric == Metric.COSINE && n > 0 ? 1 : 0,
            pair(metric, a, 9, a, 9, n),
            1e-6);
        Arrays.fill(a, 9, 9 + n, Float.NaN);
      }
    }
  }

  @ParameterizedTest
  @EnumSource
  void rowsGiveWhatPairsGive(Metric metric) {
    Arena arena = Arena.ofShared();
    for (int count : new int[] {0, 1, 2, 9, 400}) {
      for (int n : new int[] {0, 1, 17, 64, 100, 257, 768}) {
        int stride = n + 3;
        float[] rows = random(5 + count * stride + 1, 3);
        float[] query = random(n + 2, 4);
        float[] expected = new float[count];
        for (int i = 0; i < count; i++) {
          expected[i] = pair(metric, query, 2, rows, 5 + i * stride, n);
        }
        MemorySegment nativeRows = nativeCopy(arena, rows);
        for (int used = 1; used <= 4; used++) {
          Workers.setThreads(used);
          for (MemorySegment memory :
              new MemorySegment[] {
                nativeRows, MemorySegment.ofArray(rows), MemorySegment.ofArray(rows).asReadOnly()
              }) {
            Matrix matrix = new Matrix(memory, 5, count, n, stride, false);
            float[] out = new float[count + 2];
            Similarity.compare(
                metric, MemorySegment.ofArray(query), 2, matrix, MemorySegment.ofArray(out), 1);
            assertArrayEquals(expected, Arrays.copyOfRange(out, 1, count + 1));
            assertEquals(0, out[0]);
            assertEquals(0, out[count + 1]);
            MemorySegment there = arena.allocate(4L * count + 4);
            Similarity.compare(metric, nativeCopy(arena, query), 2, matrix, there, 1);
            assertArrayEquals(expected, there.asSlice(4).toArray(FLOAT));
          }
        }
      }
    }
  }

  @Test
  void normsOfRowsAreThoseOfVectors() {
    float[] rows = random(300 * 70, 5);
    float[] expected = new float[300];
    for (int i = 0; i < 300; i++) {
      expected[i] = Similarity.norm(rows, i * 70, 67);
    }
    for (MemorySegment memory :
        new MemorySegment[] {MemorySegment.ofArray(rows), nativeCopy(Arena.ofAuto(), rows)}) {
      float[] out = new float[300];
      Similarity.norms(new Matrix(memory, 300, 67, 70), MemorySegment.ofArray(out), 0);
      assertArrayEquals(expected, out);
    }
  }

  @ParameterizedTest
  @EnumSource
  void rowsOfBfloat16AreThoseOfTheirFloats(Metric metric) {
    for (int n : new int[] {0, 1, 8, 33, 100, 257, 768}) {
      int count = 21;
      int stride = n + 2;
      for (double scale : new double[] {1, 1e-30, 1e30}) {
        rowsOfBfloat16(metric, n, count, stride, scale);
      }
    }
  }

  private static void rowsOfBfloat16(Metric metric, int n, int count, int stride, double scale) {
    short[] half = new short[count * stride];
    float[] wide = new float[half.length];
    Random random = new Random(n);
    for (int i = 0; i < half.length; i++) {
      half[i] = Bfloat16.fromFloat((float) (scale * random.nextGaussian()));
      wide[i] = Bfloat16.toFloat(half[i]);
    }
    MemorySegment query = MemorySegment.ofArray(random(n, 8));
    float[] expected = new float[count];
    Similarity.compare(
        metric,
        query,
        0,
        new Matrix(MemorySegment.ofArray(wide), count, n, stride),
        MemorySegment.ofArray(expected),
        0);
    MemorySegment there = Arena.ofAuto().allocate(2L * half.length, 64);
    there.copyFrom(MemorySegment.ofArray(half));
    for (MemorySegment memory : new MemorySegment[] {MemorySegment.ofArray(half), there}) {
      Bfloat16Matrix rows = new Bfloat16Matrix(memory, count, n, stride);
      float[] out = new float[count];
      Similarity.compare(metric, query, 0, rows, MemorySegment.ofArray(out), 0);
      assertArrayEquals(expected, out);
      float[] norms = new float[count];
      Similarity.norms(rows, MemorySegment.ofArray(norms), 0);
      for (int i = 0; i < count; i++) {
        assertEquals(Similarity.norm(wide, i * stride, n), norms[i]);
      }
    }
  }

  @ParameterizedTest
  @EnumSource
  void searchFindsWhatSortingFinds(Metric metric) {
    int count = 3000;
    int n = 24;
    float[] rows = random(count * n, 6);
    // Some rows are equal, some have no result.
    for (int i = 0; i < 40; i++) {
      System.arraycopy(rows, 7 * n, rows, (100 + 50 * i) * n, n);
    }
    rows[11 * n] = Float.NaN;
    rows[2999 * n + 3] = Float.NaN;
    MemorySegment query = MemorySegment.ofArray(Arrays.copyOfRange(rows, 7 * n, 8 * n));
    float[] all = new float[count];
    Matrix matrix = new Matrix(MemorySegment.ofArray(rows), count, n);
    Similarity.compare(metric, query, 0, matrix, MemorySegment.ofArray(all), 0);
    Comparator<Integer> order = Comparator.comparing(i -> Float.isNaN(all[i]) ? 1 : 0);
    order =
        order.thenComparing(
            metric == Metric.SQUARED_DISTANCE
                ? Comparator.comparing(i -> all[i])
                : Comparator.comparing(i -> -all[i]));
    int[] sorted =
        IntStream.range(0, count)
            .boxed()
            .sorted(order.thenComparing(i -> i))
            .mapToInt(i -> i)
            .toArray();
    for (int k : new int[] {0, 1, 2, 10, 41, 100, 3000}) {
      for (int used = 1; used <= 3; used++) {
        Workers.setThreads(used);
        int[] places = new int[k];
        float[] scores = new float[k];
        Similarity.search(
            metric,
            query,
            0,
            matrix,
            k,
            MemorySegment.ofArray(places),
            0,
            MemorySegment.ofArray(scores),
            0);
        assertArrayEquals(Arrays.copyOf(sorted, k), places);
        for (int i = 0; i < k; i++) {
          assertEquals(all[places[i]], scores[i]);
        }
      }
    }
  }

  @Test
  void wrongCallsAreNamed() {
    float[] three = new float[3];
    float[] four = new float[4];
    refused("a has 3 elements but b has 4", () -> Similarity.dot(three, four));
    refused("a is null", () -> Similarity.cosine(null, four));
    refused("b is null", () -> Similarity.squaredDistance(four, null));
    refused("b: 4 elements at 1", () -> Similarity.dot(four, 0, four, 1, 4));
    refused("a: 1 elements at 2147483647", () -> Similarity.norm(four, Integer.MAX_VALUE, 1));
    refused("a: 2147483647 elements", () -> Similarity.norm(four, 1, Integer.MAX_VALUE));
    refused("a: -1 elements", () -> Similarity.norm(four, 0, -1));
    MemorySegment memory = MemorySegment.ofArray(new float[64]);
    Matrix rows = new Matrix(memory, 4, 4);
    MemorySegment out = MemorySegment.ofArray(new float[4]);
    refused("rows is a transposed view", () -> Similarity.norms(rows.transposed(), out, 0));
    refused("out", () -> Similarity.norms(rows, out, 1));
    refused("out is written but shares memory", () -> Similarity.norms(rows, memory, 3));
    Similarity.norms(rows, memory, 16);
    refused("query", () -> Similarity.compare(Metric.DOT, out, 1, rows, memory, 30));
    refused(
        "shares memory with query",
        () -> Similarity.compare(Metric.DOT, memory, 20, rows, memory, 22));
    refused("k is 5", () -> Similarity.search(Metric.DOT, out, 0, rows, 5, memory, 20, memory, 30));
  }

  private static void refused(String words, Runnable call) {
    String message = assertThrows(IllegalArgumentException.class, call::run).getMessage();
    assertTrue(message.contains(words), message);
  }
}
