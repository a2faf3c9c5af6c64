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
import java.util.Locale;
import java.util.SplittableRandom;
import java.util.function.Consumer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class AttentionTest {
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;
  private static final Fixtures FIXTURES = new Fixtures("layers");
  private static final float GAP = 12345.5f;

  /** Where the floats of a case lie. */
  private enum Layout {
    PACKED,
    HEADS_FIRST,
    GAPS,
    GUARDED,
    HEAP
  }

  /** One problem with its operands, results and reference. */
  private static final class Case {
    final int batch;
    final int heads;
    final int queries;
    final int keys;
    final int headSize;
    final boolean causal;
    final float scale;
    final Layout layout;
    final Arena arena = Arena.ofAuto();
    Heads q;
    Heads k;
    Heads v;
    Heads out;
    Heads dOut;
    Heads dq;
    Heads dk;
    Heads dv;
    final MemorySegment lse;
    Attention.Dropout dropout;
    boolean[][][][] keep;

    Case(
        int batch,
        int heads,
        int queries,
        int keys,
        int headSize,
        boolean causal,
        Layout layout,
        double size) {
      this.batch = batch;
      this.heads = heads;
      this.queries = queries;
      this.keys = keys;
      this.headSize = headSize;
      this.causal = causal;
      this.layout = layout;
      this.scale = Attention.defaultScale(headSize);
      if (layout == Layout.PACKED) {
        int c = heads * headSize;
        MemorySegment qkv = memory((long) batch * keys * 3 * c);
        MemorySegment dQkv = memory((long) batch * keys * 3 * c);
        q = Heads.ofRows(qkv, 0, batch, queries, heads, headSize, 3L * c);
        k = Heads.ofRows(qkv, c, batch, keys, heads, headSize, 3L * c);
        v = Heads.ofRows(qkv, 2L * c, batch, keys, heads, headSize, 3L * c);
        dq = Heads.ofRows(dQkv, 0, batch, queries, heads, headSize, 3L * c);
        dk = Heads.ofRows(dQkv, c, batch, keys, heads, headSize, 3L * c);
        dv = Heads.ofRows(dQkv, 2L * c, batch, keys, heads, headSize, 3L * c);
        out = view(queries);
        dOut = view(queries);
      } else {
        q = view(queries);
        k = view(keys);
        v = view(keys);
        out = view(queries);
        dOut = view(queries);
        dq = view(queries);
        dk = view(keys);
        dv = view(keys);
      }
      lse = memory((long) batch * heads * queries);
      SplittableRandom random = new SplittableRandom(batch * 31L + queries * 7L + headSize);
      for (Heads x : new Heads[] {q, k, v, dOut}) {
        double range = x == q || x == k ? size : 1;
        each(x, at -> x.segment().set(FLOAT, at, (float) (random.nextGaussian() * range)));
      }
    }

    private MemorySegment memory(long floats) {
      MemorySegment s =
          switch (layout) {
            case HEAP -> MemorySegment.ofArray(new float[(int) floats]);
            case GUARDED -> GuardedMemory.endingAtGuard(arena, floats * 4);
            case GAPS -> arena.allocate(floats * 4 + 4).asSlice(1, floats * 4);
            default -> arena.allocate(floats * 4, 64);
          };
      for (long i = 0; i < floats; i++) {
        s.set(FLOAT, i * 4, GAP);
      }
      return s;
    }

    private Heads view(int rows) {
      if (layout != Layout.GAPS) {
        MemorySegment s = memory((long) batch * heads * rows * headSize);
        return Heads.ofHeads(s, 0, batch, rows, heads, headSize);
      }
      int head = headSize + 3;
      int row = heads * head + 5;
      int sequence = rows * row + 7;
      MemorySegment s = memory((long) batch * sequence + 11);
      return new Heads(s, 11, batch, rows, heads, headSize, sequence, row, head);
    }

    void dropOut(double probability) {
      long bits = (long) batch * heads * queries * keys;
      int first = 3;
      MemorySegment mask =
          layout == Layout.GUARDED
              ? GuardedMemory.endingAtGuard(arena, (first + bits + 7) / 8)
              : arena.allocate((first + bits + 7) / 8);
      keep = new boolean[batch][heads][queries][keys];
      SplittableRandom random = new SplittableRandom(5);
      long bit = first;
      for (boolean[][][] b : keep) {
        for (boolean[][] h : b) {
          for (boolean[] i : h) {
            for (int j = 0; j < keys; j++, bit++) {
              i[j] = random.nextDouble() >= probability;
              byte old = mask.get(ValueLayout.JAVA_BYTE, bit >> 3);
              int one = i[j] ? 1 << (bit & 7) : 0;
              mask.set(ValueLayout.JAVA_BYTE, bit >> 3, (byte) (old | one));
            }
          }
        }
      }
      dropout = new Attention.Dropout(mask, first, (float) (1 / (1 - probability)));
    }

    void forward() {
      Attention.forward(q, k, v, out, lse, 0, scale, causal, dropout);
    }

    void backward() {
      Attention.backward(q, k, v, out, lse, 0, dOut, dq, dk, dv, scale, causal, dropout);
    }

    AttentionReference reference() {
      double factor = dropout == null ? 1 : dropout.scale();
      var r = new AttentionReference(read(q), read(k), read(v), scale, causal, keep, factor);
      r.backward(read(dOut));
      return r;
    }
  }

  private static void each(Heads x, Consumer<Long> body) {
    for (int b = 0; b < x.batch(); b++) {
      for (int h = 0; h < x.heads(); h++) {
        for (int t = 0; t < x.rows(); t++) {
          for (int d = 0; d < x.headSize(); d++) {
            body.accept(at(x, b, h, t, d));
          }
        }
      }
    }
  }

  private static long at(Heads x, int b, int h, int t, int d) {
    return (x.offset() + b * x.batchStride() + t * x.rowStride() + h * x.headStride() + d) * 4;
  }

  private static double[][][][] read(Heads x) {
    double[][][][] all = new double[x.batch()][x.heads()][x.rows()][x.headSize()];
    for (int b = 0; b < x.batch(); b++) {
      for (int h = 0; h < x.heads(); h++) {
        for (int t = 0; t < x.rows(); t++) {
          for (int d = 0; d < x.headSize(); d++) {
            all[b][h][t][d] = x.segment().get(FLOAT, at(x, b, h, t, d));
          }
        }
      }
    }
    return all;
  }

  private static void assertClose(String name, double[][][][] expected, Heads actual, double tol) {
    double[][][][] found = read(actual);
    double largest = 1;
    for (double[][][] b : expected) {
      for (double[][] h : b) {
        for (double[] t : h) {
          for (double x : t) {
            largest = Math.max(largest, Math.abs(x));
          }
        }
      }
    }
    for (int b = 0; b < expected.length; b++) {
      for (int h = 0; h < expected[b].length; h++) {
        for (int t = 0; t < expected[b][h].length; t++) {
          for (int d = 0; d < expected[b][h][t].length; d++) {
            double want = expected[b][h][t][d];
            double got = found[b][h][t][d];
            if (!(Math.abs(want - got) <= tol * largest)) {
              throw new AssertionError(
                  String.format(
                      Locale.ROOT,
                      "%s[%d][%d][%d][%d] is %s, expected %s",
                      name,
                      b,
                      h,
                      t,
                      d,
                      got,
                      want));
            }
          }
        }
      }
    }
  }

  private static void check(Case c) {
    c.forward();
    c.backward();
    AttentionReference r = c.reference();
    assertClose("out", r.out, c.out, 2e-6);
    for (int b = 0; b < c.batch; b++) {
      for (int h = 0; h < c.heads; h++) {
        for (int t = 0; t < c.queries; t++) {
          double lse = c.lse.get(FLOAT, (((long) b * c.heads + h) * c.queries + t) * 4);
          assertEquals(r.lse[b][h][t], lse, 2e-6 * Math.max(1, Math.abs(lse)));
        }
      }
    }
    assertClose("dq", r.dq, c.dq, 5e-6);
    assertClose("dk", r.dk, c.dk, 5e-6);
    assertClose("dv", r.dv, c.dv, 5e-6);
  }

  @ParameterizedTest
  @ValueSource(strings = {"attention", "attention_sharp", "attention_t1"})
  void agreesWithPyTorch(String name) {
    int[] shape = FIXTURES.shape(name + ".q");
    Case c =
        new Case(shape[0], shape[1], shape[2], shape[2], shape[3], true, Layout.HEADS_FIRST, 1);
    fill(c.q, FIXTURES.floats(name + ".q"));
    fill(c.k, FIXTURES.floats(name + ".k"));
    fill(c.v, FIXTURES.floats(name + ".v"));
    if (FIXTURES.has(name + ".dy")) {
      fill(c.dOut, FIXTURES.floats(name + ".dy"));
    } else {
      each(c.dOut, at -> c.dOut.segment().set(FLOAT, at, 1f));
    }
    c.forward();
    c.backward();
    assertFixture(name + ".y", c.out);
    assertFixture(name + ".d_q", c.dq);
    assertFixture(name + ".d_k", c.dk);
    assertFixture(name + ".d_v", c.dv);
  }

  private static void fill(Heads dense, float[] values) {
    MemorySegment.copy(values, 0, dense.segment(), FLOAT, 0, values.length);
  }

  private static void assertFixture(String name, Heads dense) {
    double[] expected = FIXTURES.doubles(name);
    double largest = 1;
    for (double x : expected) {
      largest = Math.max(largest, Math.abs(x));
    }
    for (int i = 0; i < expected.length; i++) {
      assertEquals(expected[i], dense.segment().get(FLOAT, i * 4L), 5e-6 * largest, name + " " + i);
    }
  }

  @ParameterizedTest
  @ValueSource(ints = {1, 2, 7, 16, 31, 32, 33, 48, 64, 80, 128, 255, 256})
  void headSizesMatchReference(int headSize) {
    check(new Case(2, 3, 29, 29, headSize, true, Layout.PACKED, 1));
  }

  @Test
  void rowCountsMatchReference() {
    for (int rows = 1; rows <= 2 * AttentionTiles.ROWS + 3; rows++) {
      check(new Case(1, 2, rows, rows, 20, true, Layout.PACKED, 1));
    }
    for (int rows : new int[] {47, 48, 49, 95, 96, 97, 193, 255, 256, 257, 300, 521}) {
      check(new Case(1, 2, rows, rows, 20, true, Layout.PACKED, 1));
    }
  }

  @ParameterizedTest
  @CsvSource({"1, 1", "1, 40", "3, 300", "13, 40", "64, 300", "300, 300", "40, 13", "300, 5"})
  void queriesAndKeysMayDiffer(int queries, int keys) {
    check(new Case(2, 2, queries, keys, 24, false, Layout.HEADS_FIRST, 1));
    if (queries <= keys) {
      check(new Case(2, 2, queries, keys, 24, true, Layout.HEADS_FIRST, 1));
    }
  }

  @ParameterizedTest
  @ValueSource(ints = {5, 64, 37})
  void stridesAndMisalignedSegmentsLeaveGapsAlone(int headSize) {
    Case c = new Case(2, 3, 45, 45, headSize, true, Layout.GAPS, 1);
    check(c);
    for (Heads x : new Heads[] {c.out, c.dq, c.dk, c.dv}) {
      each(x, at -> x.segment().set(FLOAT, at, GAP));
      for (long i = 0; i < x.segment().byteSize() / 4; i++) {
        assertEquals(GAP, x.segment().get(FLOAT, i * 4));
      }
    }
  }

  @ParameterizedTest
  @CsvSource({"1, 1", "13, 7", "64, 64", "40, 33", "270, 16"})
  void nothingOutsideTheOperandsIsTouched(int rows, int headSize) {
    assumeTrue(GuardedMemory.isAvailable());
    Case c = new Case(2, 2, rows, rows, headSize, true, Layout.GUARDED, 1);
    check(c);
    c.dropOut(0.3);
    check(c);
  }

  @Test
  void heapSegmentsWork() {
    check(new Case(2, 2, 40, 40, 16, true, Layout.HEAP, 1));
  }

  @ParameterizedTest
  @CsvSource({"1, 8", "33, 16", "70, 64", "300, 32"})
  void dropoutMatchesReference(int rows, int headSize) {
    Case c = new Case(2, 2, rows, rows, headSize, true, Layout.PACKED, 1);
    c.dropOut(0.25);
    check(c);
    c = new Case(1, 2, rows, rows + 5, headSize, false, Layout.HEADS_FIRST, 1);
    c.dropOut(0.5);
    check(c);
  }

  @Test
  void gradientsMatchFiniteDifferences() {
    Case c = new Case(1, 2, 9, 9, 6, true, Layout.HEADS_FIRST, 1);
    c.forward();
    c.backward();
    double[][][][] g = read(c.dOut);
    Heads[] inputs = {c.q, c.k, c.v};
    Heads[] gradients = {c.dq, c.dk, c.dv};
    double h = 1e-5;
    for (int i = 0; i < 3; i++) {
      double[][][][][] x = {read(c.q), read(c.k), read(c.v)};
      double[][][][] found = read(gradients[i]);
      for (int head = 0; head < 2; head++) {
        for (int t = 0; t < inputs[i].rows(); t++) {
          for (int d = 0; d < 6; d++) {
            double saved = x[i][0][head][t][d];
            x[i][0][head][t][d] = saved + h;
            double up = loss(new AttentionReference(x[0], x[1], x[2], c.scale, true, null, 1), g);
            x[i][0][head][t][d] = saved - h;
            double down = loss(new AttentionReference(x[0], x[1], x[2], c.scale, true, null, 1), g);
            x[i][0][head][t][d] = saved;
            assertEquals((up - down) / (2 * h), found[0][head][t][d], 1e-5);
          }
        }
      }
    }
  }

  private static double loss(AttentionReference r, double[][][][] g) {
    double sum = 0;
    for (int b = 0; b < r.batch; b++) {
      for (int h = 0; h < r.heads; h++) {
        for (int t = 0; t < r.queries; t++) {
          for (int d = 0; d < r.headSize; d++) {
            sum += r.out[b][h][t][d] * g[b][h][t][d];
          }
        }
      }
    }
    return sum;
  }

  @ParameterizedTest
  @ValueSource(doubles = {30, 1e3, 1e8, 1e15})
  void largeLogitsStayFinite(double size) {
    Case c = new Case(1, 2, 300, 300, 16, true, Layout.HEADS_FIRST, size);
    c.forward();
    c.backward();
    for (Heads x : new Heads[] {c.out, c.dq, c.dk, c.dv}) {
      each(x, at -> assertTrue(Float.isFinite(x.segment().get(FLOAT, at))));
    }
    double largestValue = 6;
    each(c.out, at -> assertTrue(Math.abs(c.out.segment().get(FLOAT, at)) < largestValue));
  }

  @Test
  void rowsWithoutNanDoNotNotice() {
    Case clean = new Case(1, 2, 40, 40, 16, true, Layout.HEADS_FIRST, 1);
    clean.forward();
    Case c = new Case(1, 2, 40, 40, 16, true, Layout.HEADS_FIRST, 1);
    c.q.segment().set(FLOAT, at(c.q, 0, 0, 7, 3), Float.NaN);
    c.k.segment().set(FLOAT, at(c.k, 0, 1, 30, 3), Float.NaN);
    c.q.segment().set(FLOAT, at(c.q, 0, 1, 2, 0), Float.POSITIVE_INFINITY);
    c.forward();
    for (int h = 0; h < 2; h++) {
      for (int t = 0; t < 40; t++) {
        boolean isNan = h == 0 ? t == 7 : t >= 30 || t == 2;
        for (int d = 0; d < 16; d++) {
          float x = c.out.segment().get(FLOAT, at(c.out, 0, h, t, d));
          assertEquals(isNan, Float.isNaN(x), "head " + h + " row " + t);
          if (!isNan) {
            assertEquals(clean.out.segment().get(FLOAT, at(clean.out, 0, h, t, d)), x);
          }
        }
      }
    }
  }

  @Test
  void minusInfinityHidesAKey() {
    Case c = new Case(1, 1, 300, 300, 8, true, Layout.HEADS_FIRST, 1);
    for (int t = 0; t < 300; t++) {
      c.q.segment().set(FLOAT, at(c.q, 0, 0, t, 0), 1f);
    }
    for (int t = 1; t < 290; t++) {
      c.k.segment().set(FLOAT, at(c.k, 0, 0, t, 0), Float.NEGATIVE_INFINITY);
    }
    c.forward();
    for (int t = 0; t < 290; t++) {
      for (int d = 0; d < 8; d++) {
        float first = c.v.segment().get(FLOAT, at(c.v, 0, 0, 0, d));
        assertEquals(first, c.out.segment().get(FLOAT, at(c.out, 0, 0, t, d)), 1e-6f);
      }
    }
  }

  @Test
  void threadsDoNotChangeABit() {
    int before = Workers.threads();
    try {
      float[][] first = null;
      for (int threads : new int[] {1, 2, 3, 7}) {
        Workers.setThreads(threads);
        Case c = new Case(1, 3, 331, 331, 24, true, Layout.PACKED, 1);
        c.dropOut(0.1);
        c.forward();
        c.backward();
        float[][] now = {
          c.out.segment().toArray(FLOAT),
          c.lse.toArray(FLOAT),
          c.dq.segment().toArray(FLOAT),
          decodeLast(c, 2)
        };
        if (first == null) {
          first = now;
        }
        for (int i = 0; i < now.length; i++) {
          assertArrayEquals(first[i], now[i]);
        }
      }
    } finally {
      Workers.setThreads(before);
    }
  }

  /** Output of the last rows when keys and values of a packed case serve as the cache. */
  private static float[] decodeLast(Case c, int rows) {
    int width = c.heads * c.headSize;
    MemorySegment out = c.arena.allocate((long) c.batch * rows * width * 4);
    MemorySegment q = c.arena.allocate((long) c.batch * rows * width * 4);
    for (int b = 0; b < c.batch; b++) {
      for (int t = 0; t < rows; t++) {
        long from = at(c.q, b, 0, c.queries - rows + t, 0);
        long to = ((long) b * rows + t) * width * 4;
        MemorySegment.copy(c.q.segment(), from, q, to, width * 4L);
      }
    }
    Attention.decode(
        q,
        0,
        width,
        c.k.segment(),
        c.k.offset(),
        c.v.segment(),
        c.v.offset(),
        c.k.batchStride(),
        c.k.rowStride(),
        c.keys,
        out,
        0,
        width,
        c.batch,
        rows,
        c.heads,
        c.headSize,
        c.scale);
    return out.toArray(FLOAT);
  }

  @ParameterizedTest
  @CsvSource({"1, 8", "2, 64", "31, 20", "32, 64", "33, 64", "100, 64", "513, 17"})
  void decodingEqualsTheLastRows(int rows, int headSize) {
    Case c = new Case(2, 3, rows, rows, headSize, true, Layout.PACKED, 1);
    c.forward();
    for (int last : new int[] {1, 2, 3, 4, 5, 20, rows}) {
      if (last > rows) {
        continue;
      }
      float[] found = decodeLast(c, last);
      int width = c.heads * headSize;
      for (int b = 0; b < 2; b++) {
        for (int t = 0; t < last; t++) {
          for (int i = 0; i < width; i++) {
            float want =
                c.out
                    .segment()
                    .get(FLOAT, at(c.out, b, i / headSize, rows - last + t, i % headSize));
            assertEquals(want, found[(b * last + t) * width + i], 2e-6f);
          }
        }
      }
    }
  }

  @Test
  void packedFormEqualsViews() {
    Case c = new Case(2, 3, 50, 50, 32, true, Layout.PACKED, 1);
    c.dropOut(0.2);
    c.forward();
    c.backward();
    int width = 96;
    MemorySegment qkv = c.q.segment();
    MemorySegment out = c.arena.allocate(2L * 50 * width * 4);
    MemorySegment dOut = c.arena.allocate(2L * 50 * width * 4);
    MemorySegment lse = c.arena.allocate(2L * 50 * 3 * 4);
    MemorySegment dQkv = c.arena.allocate(qkv.byteSize());
    Heads rows = Heads.ofRows(dOut, 0, 2, 50, 3, 32, width);
    for (int b = 0; b < 2; b++) {
      for (int h = 0; h < 3; h++) {
        for (int t = 0; t < 50; t++) {
          long from = at(c.dOut, b, h, t, 0);
          MemorySegment.copy(c.dOut.segment(), from, dOut, at(rows, b, h, t, 0), 32 * 4);
        }
      }
    }
    MemorySegment keep = c.dropout.keep();
    float by = c.dropout.scale();
    float scale = c.scale;
    Attention.forwardPacked(qkv, 0, 288, out, 0, width, lse, 0, keep, 3, by, 2, 50, 3, 32, scale);
    Attention.backwardPacked(
        dOut, 0, width, qkv, 0, 288, out, 0, width, lse, 0, keep, 3, by, dQkv, 0, 288, 2, 50, 3, 32,
        scale);
    assertClose("out", read(c.out), Heads.ofRows(out, 0, 2, 50, 3, 32, width), 0);
    assertArrayEquals(c.lse.toArray(FLOAT), lse.toArray(FLOAT));
    assertArrayEquals(c.dq.segment().toArray(FLOAT), dQkv.toArray(FLOAT));
    assertTrue(Float.isFinite(dQkv.get(FLOAT, 0)));
  }

  @Test
  void emptyProblemsDoNothing() {
    MemorySegment none = Arena.ofAuto().allocate(16);
    Heads empty = Heads.ofRows(none, 0, 0, 4, 2, 8, 16);
    Attention.forward(empty, empty, empty, empty, null, 0, 1, true, null);
    Heads noRows = Heads.ofRows(none, 0, 1, 0, 2, 8, 16);
    Attention.forward(noRows, noRows, noRows, noRows, null, 0, 1, true, null);
  }

  @Test
  void wrongCallsAreRefusedBeforeAnythingIsWritten() {
    Case c = new Case(1, 2, 6, 6, 8, true, Layout.HEADS_FIRST, 1);
    float[] before = c.out.segment().toArray(FLOAT);
    Heads q = c.q;
    Heads k = c.k;
    Heads v = c.v;
    Heads out = c.out;
    MemorySegment lse = c.lse;
    Heads longer = Heads.ofHeads(c.arena.allocate(1000 * 4), 0, 1, 7, 2, 8);
    Heads wider = Heads.ofHeads(c.arena.allocate(10000 * 4), 0, 1, 6, 2, 257);
    refused(() -> Attention.forward(q, longer, v, out, lse, 0, 1, true, null));
    refused(() -> Attention.forward(longer, k, v, longer, lse, 0, 1, true, null));
    refused(() -> Attention.forward(q, k, v, longer, lse, 0, 1, true, null));
    refused(() -> Attention.forward(wider, wider, wider, wider, null, 0, 1, true, null));
    refused(() -> Attention.forward(null, k, v, out, lse, 0, 1, true, null));
    refused(() -> Attention.forward(q, k, v, q, lse, 0, 1, true, null));
    refused(() -> Attention.forward(q, k, v, v, lse, 0, 1, true, null));
    refused(() -> Attention.forward(q, k, v, out, lse, 1, 1, true, null));
    refused(() -> Attention.forward(q, k, v, out, out.segment(), 0, 1, true, null));
    refused(() -> Attention.forward(q, k, v, out, lse, 0, Float.NaN, true, null));
    var shortMask = new Attention.Dropout(c.arena.allocate(8), 0, 1);
    refused(() -> Attention.forward(q, k, v, out, lse, 0, 1, true, shortMask));
    Heads readOnly = Heads.ofHeads(out.segment().asReadOnly(), 0, 1, 6, 2, 8);
    refused(() -> Attention.forward(q, k, v, readOnly, lse, 0, 1, true, null));
    Heads shared = new Heads(out.segment(), 0, 1, 6, 2, 8, 0, 8, 0);
    refused(() -> Attention.forward(q, k, v, shared, lse, 0, 1, true, null));
    Arena arena = Arena.ofShared();
    Heads closed = Heads.ofHeads(arena.allocate(96 * 4), 0, 1, 6, 2, 8);
    arena.close();
    refused(() -> Attention.forward(q, closed, v, out, lse, 0, 1, true, null));
    refused(
        () -> Attention.backward(q, k, v, out, null, 0, c.dOut, c.dq, c.dk, c.dv, 1, true, null));
    refused(
        () -> Attention.backward(q, k, v, out, lse, 0, c.dOut, c.dq, c.dk, c.dk, 1, true, null));
    refused(() -> Attention.backward(q, k, v, out, lse, 0, c.dOut, c.dq, k, c.dv, 1, true, null));
    refused(() -> Heads.ofRows(lse, 0, 1, 6, 2, 8, 16));
    refused(() -> Heads.ofRows(lse, -1, 1, 1, 1, 1, 16));
    refused(() -> new Heads(lse, 0, 1, 2, 1, 1, 0, -1, 0));
    refused(() -> new Heads(lse, 0, 3, 3, 3, 1, Long.MAX_VALUE / 2, Long.MAX_VALUE / 2, 1));
    refused(
        () ->
            Attention.decode(
                q.segment(),
                0,
                16,
                k.segment(),
                0,
                v.segment(),
                0,
                96,
                16,
                2,
                out.segment(),
                0,
                16,
                1,
                3,
                2,
                8,
                1));
    assertArrayEquals(before, c.out.segment().toArray(FLOAT));
  }

  private static void refused(Runnable call) {
    var e = assertThrows(IllegalArgumentException.class, call::run);
    assertFalse(e.getMessage().isBlank());
  }

  @Test
  void sharedKeysAndValuesServeSeveralHeads() {
    Case c = new Case(1, 4, 40, 40, 16, true, Layout.HEADS_FIRST, 1);
    Heads k = new Heads(c.k.segment(), 0, 1, 40, 4, 16, 0, 16, 0);
    Heads v = new Heads(c.v.segment(), 0, 1, 40, 4, 16, 0, 16, 0);
    Attention.forward(c.q, k, v, c.out, null, 0, c.scale, true, null);
    var r = new AttentionReference(read(c.q), read(k), read(v), c.scale, true, null, 1);
    assertClose("out", r.out, c.out, 2e-6);
  }
}
