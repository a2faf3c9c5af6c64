package dev.lanewise.simd;

import static dev.lanewise.simd.AttentionTiles.LD;
import static dev.lanewise.simd.AttentionTiles.ROWS;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorShuffle;
import jdk.incubator.vector.VectorSpecies;

/**
 * The forward pass over a group of rows of one head. Scores are kept as powers of two: queries are
 * scaled by {@code scale * log2(e)} when they are copied, so that the softmax needs one subtraction
 * and a power of two for each score.
 */
final class AttentionForward {
  static final float LOG2_E = 1.442695040888963f;
  static final float LN_2 = 0.6931471805599453f;

  /** Adding this leaves the rounded number, plus the exponent's bias, in the lowest bits. */
  static final float ROUND = 12582912f + 127f;

  /** Below this, powers of two are taken as 0. */
  static final float LOWEST = -126f;

  /** Coefficients of f, f^2 ... of 2^f - 1 over [-1/2, 1/2], minimax, relative error 2e-9. */
  static final float E1 = 0.6931471824645996f;

  static final float E2 = 0.24022647738456726f;
  static final float E3 = 0.055503323674201965f;
  static final float E4 = 0.00961843691766262f;
  static final float E5 = 0.0013398873852565885f;
  static final float E6 = 0.00015353361959569156f;

  /** Keys in a block; its scores stay in the first cache. */
  private static final int KEY_BLOCK = 256;

  private static final VectorSpecies<Float> F = Machine.F;
  private static final int LANES = Machine.LANES;
  private static final int PANEL = 2 * LANES;
  private static final ByteOrder ORDER = ByteOrder.nativeOrder();
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;

  /** Rotations of the lanes by 8, 4, 2 and 1, to fold a vector in a fixed order. */
  private static final VectorShuffle<Float> BY_8 = rotation(8);

  private static final VectorShuffle<Float> BY_4 = rotation(4);
  private static final VectorShuffle<Float> BY_2 = rotation(2);
  private static final VectorShuffle<Float> BY_1 = rotation(1);

  private AttentionForward() {}

  private static VectorShuffle<Float> rotation(int by) {
    return VectorShuffle.iota(F, by % LANES, 1, true);
  }

  /** Floats of a row of values in scratch memory: whole panels. */
  static int padded(int headSize) {
    return (headSize + PANEL - 1) / PANEL * PANEL;
  }

  static void run(AttentionCall call, int task) {
    int group = task % call.groups;
    int head = task / call.groups % call.heads;
    int sequence = task / call.groups / call.heads;
    int from = call.groupStart(group, ROWS);
    int to = call.groupStart(group + 1, ROWS);
    if (from < to) {
      rows(call, sequence, head, from, to);
    }
  }

  private static void rows(AttentionCall call, int sequence, int head, int from, int to) {
    int headSize = call.headSize;
    int keys = call.visible(to);
    int padded = padded(headSize);
    long vStep = padded * 4L;
    long panelBytes = headSize * PANEL * 4L;
    long panels = (keys + PANEL - 1) / PANEL;

    long kAt = 0;
    long vAt = kAt + panels * panelBytes;
    long qAt = vAt + keys * vStep;
    long pAt = qAt + ROWS * LD;
    long oAt = pAt + ROWS * LD;
    long statsAt = oAt + ROWS * vStep;
    try (Scratch scratch = Scratch.take(statsAt + 3 * 64)) {
      MemorySegment s = scratch.segment;
      long kRow = call.k.at(sequence, head);
      packTransposed(call.k.segment, kRow, call.k.rowStep, keys, headSize, s, kAt);
      long vRow = call.v.at(sequence, head);
      for (int key = 0; key < keys; key++) {
        copyRow(call.v.segment, vRow + key * call.v.rowStep, s, vAt + key * vStep, headSize, 1);
      }
      float scale = call.scale * LOG2_E;
      for (int row = from; row < to; row += ROWS) {
        int tile = Math.min(ROWS, to - row);
        for (int r = 0; r < tile; r++) {
          long at = call.q.at(sequence, head) + (row + r) * call.q.rowStep;
          copyRow(call.q.segment, at, s, qAt + r * LD, headSize, scale);
        }
        clear(s, oAt, ROWS * padded);
        for (int r = 0; r < ROWS; r++) {
          s.set(FLOAT, statsAt + r * 4L, -Float.MAX_VALUE);
          s.set(FLOAT, statsAt + 64 + r * 4L, 0);
        }
        int end = Math.min(keys, call.visible(row + tile));
        for (int key = 0; key < end; key += KEY_BLOCK) {
          int depth = Math.min(KEY_BLOCK, end - key);
          long panel = kAt + key / PANEL * panelBytes;
          scores(s, qAt, panel, panelBytes, pAt, headSize, depth);
          int visible = call.visible(row + 1) - key;
          softmax(s, pAt, statsAt, oAt, padded, tile, visible, call.causal ? 1 : 0, depth, key > 0);
          if (call.keep != null) {
            for (int r = 0; r < tile; r++) {
              long bit = call.keepBit(sequence, head, row + r) + key;
              drop(call.keep, bit, s, pAt + r * LD, depth, call.keepScale);
            }
          }
          for (int d = 0; d < padded; d += PANEL) {
            long value = vAt + key * vStep + d * 4L;
            AttentionTiles.byRows(s, pAt, s, value, vStep, oAt + d * 4L, vStep, depth, true);
          }
        }
        for (int r = 0; r < tile; r++) {
          float sum = s.get(FLOAT, statsAt + 64 + r * 4L);
          long at = call.out.at(sequence, head) + (row + r) * call.out.rowStep;
          copyRow(s, oAt + r * vStep, call.out.segment, at, headSize, 1 / sum);
          if (call.lse != null) {
            float max = s.get(FLOAT, statsAt + r * 4L);
            float lse = (float) ((max + Math.log(sum) * (1 / Math.log(2))) * Math.log(2));
            call.lse.set(FLOAT, call.lseAt(sequence, head) + (row + r) * 4L, lse);
          }
        }
      }
    }
  }

  /** A tile's scores against the first {@code depth} keys of a block, rounded up to vectors. */
  static void scores(
      MemorySegment s, long a, long panel, long panelBytes, long c, int headSize, int depth) {
    int key = 0;
    for (; depth - key > LANES; key += PANEL) {
      AttentionTiles.byRows(s, a, s, panel, PANEL * 4L, c + key * 4L, LD, headSize, false);
      panel += panelBytes;
    }
    if (key < depth) {
      AttentionTiles.byRowsHalf(s, a, s, panel, PANEL * 4L, c + key * 4L, LD, headSize, false);
    }
  }

  /**
   * Turns scores into unnormalised probabilities in place and brings the running maximum, sum and
   * output of each row up to date (Milakov and Gimelshein, "Online normalizer calculation for
   * softmax"). Row r sees the first {@code visible + r * more} keys of the block; the rest becomes
   * 0.
   */
  private static void softmax(
      MemorySegment s,
      long p,
      long stats,
      long o,
      int padded,
      int rows,
      int visible,
      int more,
      int depth,
      boolean rescale) {
    FloatVector zero = FloatVector.zero(F);
    for (int r = 0; r < rows; r++) {
      long row = p + r * LD;
      int length = Math.clamp(visible + (long) r * more, 0, depth);
      int whole = length & -LANES;
      VectorMask<Float> tail = F.indexInRange(whole, length);
      float before = s.get(FLOAT, stats + r * 4L);
      FloatVector top = FloatVector.broadcast(F, before);
      for (int i = 0; i < whole; i += LANES) {
        FloatVector x = FloatVector.fromMemorySegment(F, s, row + i * 4L, ORDER);
        top = top.blend(x, x.compare(VectorOperators.GT, top));
      }
      if (whole < length) {
        FloatVector x = FloatVector.fromMemorySegment(F, s, row + whole * 4L, ORDER);
        top = top.blend(x, x.compare(VectorOperators.GT, top).and(tail));
      }
      if (LANES > 8) {
        FloatVector x = top.rearrange(BY_8);
        top = top.blend(x, x.compare(VectorOperators.GT, top));
      }
      if (LANES > 4) {
        FloatVector x = top.rearrange(BY_4);
        top = top.blend(x, x.compare(VectorOperators.GT, top));
      }
      FloatVector y = top.rearrange(BY_2);
      top = top.blend(y, y.compare(VectorOperators.GT, top));
      y = top.rearrange(BY_1);
      top = top.blend(y, y.compare(VectorOperators.GT, top));

      FloatVector sum = zero;
      for (int i = 0; i < length; i += LANES) {
        FloatVector x = FloatVector.fromMemorySegment(F, s, row + i * 4L, ORDER).sub(top);
        FloatVector n = x.add(ROUND);
        FloatVector f = x.sub(n.sub(ROUND));
        FloatVector e = f.fma(FloatVector.broadcast(F, E6), FloatVector.broadcast(F, E5));
        e = e.fma(f, FloatVector.broadcast(F, E4));
        e = e.fma(f, FloatVector.broadcast(F, E3));
        e = e.fma(f, FloatVector.broadcast(F, E2));
        e = e.fma(f, FloatVector.broadcast(F, E1));
        e = e.fma(f, FloatVector.broadcast(F, 1f));
        FloatVector power =
            n.reinterpretAsInts().lanewise(VectorOperators.LSHL, 23).reinterpretAsFloats();
        e = e.mul(power).blend(zero, x.compare(VectorOperators.LT, LOWEST));
        if (i == whole) {
          e = zero.blend(e, tail);
        }
        e.intoMemorySegment(s, row + i * 4L, ORDER);
        sum = sum.add(e);
      }
      for (int i = (length + LANES - 1) & -LANES; i < depth; i += LANES) {
        zero.intoMemorySegment(s, row + i * 4L, ORDER);
      }
      if (LANES > 8) {
        sum = sum.add(sum.rearrange(BY_8));
      }
      if (LANES > 4) {
        sum = sum.add(sum.rearrange(BY_4));
      }
      sum = sum.add(sum.rearrange(BY_2));
      sum = sum.add(sum.rearrange(BY_1));
      float added = sum.lane(0);
      float now = top.lane(0);
      s.set(FLOAT, stats + r * 4L, now);
      if (rescale) {
        float by = (float) Math.exp((before - (double) now) * 0.6931471805599453);
        s.set(FLOAT, stats + 64 + r * 4L, s.get(FLOAT, stats + 64 + r * 4L) * by + added);
        if (by != 1) {
          for (int d = 0; d < padded; d += LANES) {
            long at = o + (r * (long) padded + d) * 4;
            FloatVector.fromMemorySegment(F, s, at, ORDER).mul(by).intoMemorySegment(s, at, ORDER);
          }
        }
      } else {
        s.set(FLOAT, stats + 64 + r * 4L, added);
      }
    }
  }

  /**
   * Applies the keep bits from {@code bit} on to a row: kept floats are scaled, others become 0.
   */
  static void drop(
      MemorySegment keep, long bit, MemorySegment s, long row, int length, float scale) {
    FloatVector zero = FloatVector.zero(F);
    for (int i = 0; i < length; i += LANES) {
      long mask = bits(keep, bit + i, Math.min(LANES, length - i));
      FloatVector x = FloatVector.fromMemorySegment(F, s, row + i * 4L, ORDER).mul(scale);
      zero.blend(x, VectorMask.fromLong(F, mask)).intoMemorySegment(s, row + i * 4L, ORDER);
    }
  }

  /** Up to 16 bits of a mask, reading no byte that holds none of them. */
  static long bits(MemorySegment keep, long bit, int count) {
    long first = bit >> 3;
    long last = (bit + count - 1) >> 3;
    long found = 0;
    for (long at = last; at >= first; at--) {
      found = found << 8 | keep.get(ValueLayout.JAVA_BYTE, at) & 0xff;
    }
    return found >> (bit & 7) & (1L << count) - 1;
  }

  /** Copies keys into panels of {@link #PANEL} keys, each panel transposed. */
  static void packTransposed(
      MemorySegment from, long at, long step, int rows, int headSize, MemorySegment s, long to) {
    for (int row = 0; row < rows; row++) {
      long target = to + (row / PANEL * (long) headSize * PANEL + row % PANEL) * 4;
      for (int d = 0; d < headSize; d++) {
        s.set(FLOAT, target + d * PANEL * 4L, from.get(FLOAT, at + row * step + d * 4L));
      }
    }
  }

  /** Sum of the lanes, in the same order in compiled and interpreted code. */
  static float fold(FloatVector x) {
    if (LANES > 8) {
      x = x.add(x.rearrange(BY_8));
    }
    if (LANES > 4) {
      x = x.add(x.rearrange(BY_4));
    }
    x = x.add(x.rearrange(BY_2));
    return x.add(x.rearrange(BY_1)).lane(0);
  }

  static void clear(MemorySegment s, long at, int floats) {
    FloatVector zero = FloatVector.zero(F);
    for (int i = 0; i < floats; i += LANES) {
      zero.intoMemorySegment(s, at + i * 4L, ORDER);
    }
  }

  static void copyRow(
      MemorySegment from, long at, MemorySegment to, long target, int length, float scale) {
    int i = 0;
    for (; i <= length - LANES; i += LANES) {
      FloatVector x = FloatVector.fromMemorySegment(F, from, at + i * 4L, ORDER);
      x.mul(scale).intoMemorySegment(to, target + i * 4L, ORDER);
    }
    if (i < length) {
      VectorMask<Float> tail = F.indexInRange(i, length);
      FloatVector x = FloatVector.fromMemorySegment(F, from, at + i * 4L, ORDER, tail);
      x.mul(scale).intoMemorySegment(to, target + i * 4L, ORDER, tail);
    }
  }
}
