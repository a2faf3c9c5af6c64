package dev.lanewise.simd;

import static dev.lanewise.simd.VectorMathTest.refused;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Embedding, gathering, transposing, dropout and bfloat16. */
class RowsTest {
  private static final ValueLayout.OfShort SHORT = ValueLayout.JAVA_SHORT_UNALIGNED;
  private static final int THREADS = Workers.threads();

  @AfterEach
  void restoreThreads() {
    Workers.setThreads(THREADS);
  }

  private static MemorySegment random(Memory memory, Arena arena, long n, Random random) {
    MemorySegment s = memory.floats(arena, n);
    for (long i = 0; i < n; i++) {
      Memory.set(s, i, (float) random.nextGaussian());
    }
    return s;
  }

  private static float at(Matrix m, int row, int col) {
    return Memory.get(m.segment(), m.offset() + row * m.stride() + col);
  }

  @Test
  void embeddingAgreesWithPyTorch() {
    Fixtures fixtures = new Fixtures("layers");
    try (Arena arena = Arena.ofShared()) {
      Matrix table = new Matrix(Memory.HEAP.of(arena, fixtures.floats("embedding.w")), 10, 6);
      long[] ids =
          Arrays.stream(fixtures.doubles("embedding.ids")).mapToLong(v -> (long) v).toArray();
      Indices indices = Indices.ofLongs(arena.allocateFrom(ValueLayout.JAVA_LONG, ids), 8);
      Matrix out = new Matrix(Memory.HEAP.floats(arena, 48), 8, 6);
      Embedding.forward(table, indices, out);
      assertArrayEquals(fixtures.floats("embedding.y"), Memory.toArray(out.segment()));
      Matrix dy = new Matrix(Memory.ALIGNED.of(arena, fixtures.floats("embedding.dy")), 8, 6);
      Matrix dw = new Matrix(Memory.ALIGNED.floats(arena, 60), 10, 6);
      Embedding.backward(indices, dy, dw, null, 0, 1);
      CrossEntropyTest.assertClose(
          fixtures.doubles("embedding.d_w"), Memory.toArray(dw.segment()), 1e-6);
    }
  }

  @ParameterizedTest
  @EnumSource
  void embeddingOfEverySizeAndPlace(Memory memory) {
    Random random = new Random(60);
    int vocab = 11;
    int batch = 3;
    int time = 5;
    int rows = batch * time;
    for (int cols = 0; cols <= 2 * Machine.LANES + 3; cols++) {
      try (Arena arena = Arena.ofShared()) {
        Matrix table = new Matrix(random(memory, arena, vocab * cols, random), vocab, cols);
        Matrix positions = new Matrix(random(memory, arena, 9 * cols, random), 9, cols);
        int stride = cols + 2;
        Matrix out = new Matrix(memory.floats(arena, rows * stride), rows, cols, stride);
        int[] ids = random.ints(rows, 0, vocab).toArray();
        Indices indices = Indices.ofInts(memory.ofInts(arena, ids), rows);
        Embedding.forward(table, indices, positions, 2, time, out);
        double[][] dTable = new double[vocab][cols];
        double[][] dPositions = new double[9][cols];
        for (int i = 0; i < rows; i++) {
          for (int j = 0; j < cols; j++) {
            assertEquals(at(table, ids[i], j) + at(positions, 2 + i % time, j), at(out, i, j));
            dTable[ids[i]][j] += at(out, i, j);
            dPositions[2 + i % time][j] += at(out, i, j);
          }
        }
        Matrix dt = new Matrix(memory.floats(arena, vocab * cols), vocab, cols);
        Matrix dp = new Matrix(memory.floats(arena, 9 * cols), 9, cols);
        Embedding.backward(indices, out, dt, dp, 2, time);
        Embedding.backward(indices, out, dt, null, 0, 1);
        for (int j = 0; j < cols; j++) {
          for (int i = 0; i < vocab; i++) {
            assertEquals(2 * dTable[i][j], at(dt, i, j), 1e-5);
          }
          for (int i = 0; i < 9; i++) {
            assertEquals(dPositions[i][j], at(dp, i, j), 1e-5);
          }
        }
      }
    }
  }

  @Test
  void anyNumberOfThreadsGivesTheSameGradient() {
    float[] first = null;
    for (int threads : new int[] {1, 2, 3, 7}) {
      Workers.setThreads(threads);
      Random random = new Random(61);
      try (Arena arena = Arena.ofShared()) {
        Matrix dOut = new Matrix(random(Memory.ALIGNED, arena, 500 * 200, random), 500, 200);
        Matrix dTable = new Matrix(Memory.ALIGNED.floats(arena, 7 * 200), 7, 200);
        int[] ids = random.ints(500, 0, 7).toArray();
        Embedding.backward(
            Indices.ofInts(Memory.ALIGNED.ofInts(arena, ids), 500), dOut, dTable, null, 0, 1);
        float[] result = Memory.toArray(dTable.segment());
        if (first == null) {
          first = result;
        }
        assertArrayEquals(first, result);
      }
    }
  }

  @Test
  void wrongEmbeddingsAreRefused() {
    try (Arena arena = Arena.ofShared()) {
      Matrix table = new Matrix(Memory.ALIGNED.floats(arena, 12), 3, 4);
      Matrix out = new Matrix(Memory.ALIGNED.floats(arena, 8), 2, 4);
      Indices bad = Indices.ofInts(Memory.ALIGNED.ofInts(arena, 2, -1), 2);
      Indices good = Indices.ofInts(Memory.ALIGNED.ofInts(arena, 2, 0), 2);
      refused("ids[1] is -1", () -> Embedding.forward(table, bad, out));
      refused("ids[1] is -1", () -> Embedding.backward(bad, out, table, null, 0, 1));
      refused("positions are 3 x 4", () -> Embedding.forward(table, good, table, 2, 2, out));
      refused("no whole number", () -> Embedding.forward(table, good, table, 0, 3, out));
      refused("4 columns", () -> Embedding.forward(table, good, out.cols(0, 3)));
      refused("out is null", () -> Embedding.forward(table, good.slice(0, 0), null));
      refused("[0] is 2", () -> Rearrange.gather(out.cols(0, 2), good, table.segment(), 0));
    }
  }

  @ParameterizedTest
  @EnumSource
  void gatheringAndTransposing(Memory memory) {
    Random random = new Random(62);
    for (int cols = 1; cols <= 70; cols += 3) {
      int rows = 71 - cols;
      try (Arena arena = Arena.ofShared()) {
        Matrix x = new Matrix(random(memory, arena, (long) rows * cols, random), rows, cols);
        Matrix y = new Matrix(memory.floats(arena, (long) rows * cols), cols, rows);
        Rearrange.transpose(x, y);
        for (int i = 0; i < rows; i++) {
          for (int j = 0; j < cols; j++) {
            assertEquals(at(x, i, j), at(y, j, i));
          }
        }
        int[] ids = random.ints(rows, 0, cols).toArray();
        Indices indices = Indices.ofInts(memory.ofInts(arena, ids), rows);
        MemorySegment picked = memory.floats(arena, rows);
        float[] before = Memory.toArray(x.segment());
        Rearrange.gather(x, indices, picked, 0);
        Rearrange.gatherBackward(indices, picked, 0, x);
        for (int i = 0; i < rows; i++) {
          assertEquals(before[i * cols + ids[i]], Memory.get(picked, i));
          for (int j = 0; j < cols; j++) {
            int factor = j == ids[i] ? 2 : 1;
            assertEquals(factor * before[i * cols + j], at(x, i, j));
          }
        }
      }
    }
  }

  @ParameterizedTest
  @EnumSource
  void dropout(Memory memory) {
    Random random = new Random(63);
    for (int n = 0; n < 200; n += n < 140 ? 1 : 13) {
      try (Arena arena = Arena.ofShared()) {
        MemorySegment x = random(memory, arena, n, random);
        MemorySegment y = random(memory, arena, n, random);
        MemorySegment bytes = memory.allocate(arena, n);
        MemorySegment bits = memory.allocate(arena, (n + 7) / 8);
        for (int i = 0; i < n; i++) {
          boolean keep = random.nextInt(3) > 0;
          bytes.set(ValueLayout.JAVA_BYTE, i, (byte) (keep ? 1 + random.nextInt(255) : 0));
          int old = bits.get(ValueLayout.JAVA_BYTE, i / 8);
          bits.set(ValueLayout.JAVA_BYTE, i / 8, (byte) (old | (keep ? 1 << i % 8 : 0)));
          if (!keep && random.nextInt(4) == 0) {
            Memory.set(x, i, Float.NaN);
          }
        }
        float[] before = Memory.toArray(y);
        Dropout.applyBits(x, 0, bits, 0, 1.5f, y, 0, n, true);
        Dropout.applyBytes(x, 0, bytes, 0, 1.5f, x, 0, n, false);
        for (int i = 0; i < n; i++) {
          boolean keep = bytes.get(ValueLayout.JAVA_BYTE, i) != 0;
          float v = Memory.get(x, i);
          assertEquals(keep, v != 0);
          assertEquals(before[i] + v, Memory.get(y, i));
        }
      }
    }
  }

  @Test
  void largeDropout() {
    int n = 100_001;
    try (Arena arena = Arena.ofShared()) {
      MemorySegment x = Memory.BEFORE_GUARD.floats(arena, n);
      MemorySegment bits = Memory.BEFORE_GUARD.allocate(arena, (n + 7) / 8);
      Elementwise.fill(x, 0, n, 2);
      bits.fill((byte) 0b1010_0110);
      Dropout.applyBits(x, 0, bits, 0, 2, x, 0, n, false);
      for (int i = 0; i < n; i++) {
        assertEquals((0b1010_0110 >> i % 8 & 1) * 4, Memory.get(x, i));
      }
      refused(
          "mask: 12501 elements",
          () -> Dropout.applyBits(x, 0, bits.asSlice(1), 0, 2, x, 0, n, false));
    }
  }

  @ParameterizedTest
  @EnumSource
  void bfloat16(Memory memory) {
    Random random = new Random(64);
    for (int n = 0; n <= 2 * Machine.LANES + 3; n++) {
      try (Arena arena = Arena.ofShared()) {
        MemorySegment x = memory.floats(arena, n);
        MemorySegment half = memory.allocate(arena, 2L * n);
        MemorySegment back = memory.floats(arena, n);
        for (int i = 0; i < n; i++) {
          Memory.set(x, i, Float.intBitsToFloat(random.nextInt()));
        }
        Bfloat16.fromFloat(x, 0, half, 0, n);
        Bfloat16.toFloat(half, 0, back, 0, n);
        for (int i = 0; i < n; i++) {
          checkRounding(Memory.get(x, i), half.get(SHORT, 2L * i));
          assertEquals(Bfloat16.toFloat(half.get(SHORT, 2L * i)), Memory.get(back, i));
        }
      }
    }
  }

  @Test
  void bfloat16Ties() {
    checkRounding(Float.intBitsToFloat(0x3f808000), (short) 0x3f80);
    checkRounding(Float.intBitsToFloat(0x3f818000), (short) 0x3f82);
    checkRounding(Float.intBitsToFloat(0x3f808001), (short) 0x3f81);
    checkRounding(Float.MAX_VALUE, (short) 0x7f80);
    checkRounding(Float.intBitsToFloat(0x7f800001), (short) 0x7fc0);
    checkRounding(Float.intBitsToFloat(0xffffffff), (short) 0xffff);
    checkRounding(-0f, (short) 0x8000);
  }

  private static void checkRounding(float x, short actual) {
    assertEquals(Bfloat16.fromFloat(x), actual);
    float back = Bfloat16.toFloat(actual);
    if (Float.isNaN(x)) {
      assertEquals(Float.NaN, back);
      return;
    }
    // No bfloat16 is nearer, and of two that are as near this one is even.
    double error = Math.abs((double) back - x);
    for (int step = -1; step <= 1; step += 2) {
      float other = Bfloat16.toFloat((short) (actual + step));
      if (Float.isFinite(back) && Float.isFinite(other)) {
        double otherError = Math.abs((double) other - x);
        assertEquals(true, error < otherError || (error == otherError && (actual & 1) == 0));
      }
    }
  }
}
