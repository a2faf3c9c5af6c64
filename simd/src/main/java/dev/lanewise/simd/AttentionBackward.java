package dev.lanewise.simd;

import static dev.lanewise.simd.AttentionTiles.LD;
import static dev.lanewise.simd.AttentionTiles.ROWS;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorSpecies;

/**
 * The backward pass of one head: block after block of keys against all queries that see them.
 * Probabilities are computed again from lse. One thread owns the head, so that every sum has one
 * order.
 *
 * <p>With P the probabilities, D the row sums of dO * O: dV = Pᵀ dO, dS = P * (dO Vᵀ - D), dQ =
 * scale dS K, dK = scale dSᵀ Q.
 */
final class AttentionBackward {
  /** Keys in a block, a multiple of every tile's rows and columns. */
  private static final int KEY_BLOCK = 96;

  /** Queries in a block, a multiple of every tile's rows. */
  private static final int QUERY_BLOCK = 48;

  private static final VectorSpecies<Float> F = Machine.F;
  private static final int LANES = Machine.LANES;
  private static final int PANEL = 2 * LANES;
  private static final ByteOrder ORDER = ByteOrder.nativeOrder();
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;

  private AttentionBackward() {}

  static void run(AttentionCall call, int task) {
    int head = task % call.heads;
    int sequence = task / call.heads;
    int headSize = call.headSize;
    int queries = call.queries;
    int keys = call.keys;
    int padded = AttentionForward.padded(headSize);
    long step = padded * 4L;
    long panelBytes = (long) headSize * PANEL * 4L;
    long statBytes = (queries * 4L + 63) & -64;

    long queryAt = 0;
    long gradAt = queryAt + QUERY_BLOCK * LD;
    long pAt = gradAt + QUERY_BLOCK * LD;
    long dsAt = pAt + QUERY_BLOCK * LD;
    long kAt = dsAt + QUERY_BLOCK * LD;
    long kPanelsAt = kAt + KEY_BLOCK * step;
    long vPanelsAt = kPanelsAt + KEY_BLOCK * step;
    long dkAt = vPanelsAt + KEY_BLOCK * step;
    long dvAt = dkAt + KEY_BLOCK * step;
    long lseAt = dvAt + KEY_BLOCK * step;
    long dAt = lseAt + statBytes;
    long dqAt = dAt + statBytes;
    try (Scratch scratch = Scratch.take(dqAt + (queries + ROWS) * step)) {
      MemorySegment s = scratch.segment;
      statistics(call, sequence, head, s, lseAt, dAt);
      AttentionForward.clear(s, dqAt, queries * padded);
      float scale = call.scale * AttentionForward.LOG2_E;
      for (int key = 0; key < keys; key += KEY_BLOCK) {
        int width = Math.min(KEY_BLOCK, keys - key);
        long kRow = call.k.at(sequence, head) + key * call.k.rowStep;
        long vRow = call.v.at(sequence, head) + key * call.v.rowStep;
        AttentionForward.packTransposed(
            call.k.segment, kRow, call.k.rowStep, width, headSize, s, kPanelsAt);
        AttentionForward.packTransposed(
            call.v.segment, vRow, call.v.rowStep, width, headSize, s, vPanelsAt);
        for (int r = 0; r < width; r++) {
          AttentionForward.copyRow(
              call.k.segment, kRow + r * call.k.rowStep, s, kAt + r * step, headSize, 1);
        }
        AttentionForward.clear(s, dkAt, KEY_BLOCK * padded);
        AttentionForward.clear(s, dvAt, KEY_BLOCK * padded);

        int first = call.causal ? Math.max(0, key - (keys - queries)) / ROWS * ROWS : 0;
        for (int query = first; query < queries; query += QUERY_BLOCK) {
          int height = Math.min(QUERY_BLOCK, queries - query);
          for (int r = 0; r < height; r++) {
            long row = (long) query + r;
            long q = call.q.at(sequence, head) + row * call.q.rowStep;
            AttentionForward.copyRow(call.q.segment, q, s, queryAt + r * LD, headSize, scale);
            long g = call.dOut.at(sequence, head) + row * call.dOut.rowStep;
            AttentionForward.copyRow(call.dOut.segment, g, s, gradAt + r * LD, headSize, 1);
          }
          for (int r = 0; r < height; r += ROWS) {
            int tile = Math.min(ROWS, height - r);
            int depth = Math.min(width, call.visible(query + r + tile) - key);
            if (depth <= 0) {
              for (int i = r; i < r + tile; i++) {
                AttentionForward.clear(s, pAt + i * LD, KEY_BLOCK);
                AttentionForward.clear(s, dsAt + i * LD, KEY_BLOCK);
              }
              continue;
            }
            long p = pAt + r * LD;
            long ds = dsAt + r * LD;
            AttentionForward.scores(s, queryAt + r * LD, kPanelsAt, panelBytes, p, headSize, depth);
            AttentionForward.scores(s, gradAt + r * LD, vPanelsAt, panelBytes, ds, headSize, depth);
            long stats = (query + r) * 4L;
            int visible = call.visible(query + r + 1) - key;
            if (call.keep == null) {
              gradients(
                  s,
                  p,
                  ds,
                  lseAt + stats,
                  dAt + stats,
                  tile,
                  visible,
                  call.causal ? 1 : 0,
                  width,
                  depth);
            } else {
              for (int i = 0; i < tile; i++) {
                long bit = call.keepBit(sequence, head, query + r + i) + key;
                int length = call.causal ? Math.clamp(visible + i, 0, depth) : depth;
                AttentionForward.drop(call.keep, bit, s, ds + i * LD, length, call.keepScale);
              }
              gradients(
                  s,
                  p,
                  ds,
                  lseAt + stats,
                  dAt + stats,
                  tile,
                  visible,
                  call.causal ? 1 : 0,
                  width,
                  depth);
              for (int i = 0; i < tile; i++) {
                long bit = call.keepBit(sequence, head, query + r + i) + key;
                AttentionForward.drop(call.keep, bit, s, p + i * LD, depth, call.keepScale);
              }
            }
            for (int d = 0; d < padded; d += PANEL) {
              long c = dqAt + (query + r) * step + d * 4L;
              AttentionTiles.byRows(s, ds, s, kAt + d * 4L, step, c, step, depth, true);
            }
          }
          for (int r = 0; r < width; r += ROWS) {
            int skip = call.causal ? Math.max(0, key + r - (keys - queries) - query) : 0;
            if (skip >= height) {
              break;
            }
            for (int d = 0; d < padded; d += PANEL) {
              long a = skip * LD + r * 4L;
              long b = skip * LD + d * 4L;
              long c = r * step + d * 4L;
              AttentionTiles.byColumns(
                  s, pAt + a, LD, s, gradAt + b, LD, dvAt + c, step, height - skip, true);
              AttentionTiles.byColumns(
                  s, dsAt + a, LD, s, queryAt + b, LD, dkAt + c, step, height - skip, true);
            }
          }
        }
        for (int r = 0; r < width; r++) {
          long row = (long) key + r;
          long dk = call.dk.at(sequence, head) + row * call.dk.rowStep;
          AttentionForward.copyRow(
              s, dkAt + r * step, call.dk.segment, dk, headSize, AttentionForward.LN_2);
          long dv = call.dv.at(sequence, head) + row * call.dv.rowStep;
          AttentionForward.copyRow(s, dvAt + r * step, call.dv.segment, dv, headSize, 1);
        }
      }
      for (int row = 0; row < queries; row++) {
        long dq = call.dq.at(sequence, head) + row * call.dq.rowStep;
        AttentionForward.copyRow(s, dqAt + row * step, call.dq.segment, dq, headSize, call.scale);
      }
    }
  }

  /** Copies lse as powers of two and computes the row sums of dO * O. */
  private static void statistics(
      AttentionCall call, int sequence, int head, MemorySegment s, long lseAt, long dAt) {
    int headSize = call.headSize;
    long lse = call.lseAt(sequence, head);
    long out = call.out.at(sequence, head);
    long grad = call.dOut.at(sequence, head);
    for (int row = 0; row < call.queries; row++) {
      float l = call.lse.get(FLOAT, lse + row * 4L);
      s.set(FLOAT, lseAt + row * 4L, l * AttentionForward.LOG2_E);
      FloatVector sum = FloatVector.zero(F);
      int i = 0;
      for (; i <= headSize - LANES; i += LANES) {
        FloatVector o = FloatVector.fromMemorySegment(F, call.out.segment, out + i * 4L, ORDER);
        FloatVector g = FloatVector.fromMemorySegment(F, call.dOut.segment, grad + i * 4L, ORDER);
        sum = o.fma(g, sum);
      }
      if (i < headSize) {
        VectorMask<Float> tail = F.indexInRange(i, headSize);
        FloatVector o =
            FloatVector.fromMemorySegment(F, call.out.segment, out + i * 4L, ORDER, tail);
        FloatVector g =
            FloatVector.fromMemorySegment(F, call.dOut.segment, grad + i * 4L, ORDER, tail);
        sum = o.fma(g, sum);
      }
      s.set(FLOAT, dAt + row * 4L, AttentionForward.fold(sum));
      out += call.out.rowStep;
      grad += call.dOut.rowStep;
    }
  }

  /**
   * Turns scores into probabilities and dP into dS, in place. Row r sees the first {@code visible +
   * r * more} of {@code width} keys; the rest up to {@code depth} and to a tile's end become 0.
   */
  private static void gradients(
      MemorySegment s,
      long p,
      long ds,
      long lse,
      long d,
      int rows,
      int visible,
      int more,
      int width,
      int depth) {
    FloatVector zero = FloatVector.zero(F);
    int end = (width + ROWS - 1) / ROWS * ROWS;
    for (int r = 0; r < rows; r++) {
      long pRow = p + r * LD;
      long dsRow = ds + r * LD;
      int length = Math.clamp(visible + (long) r * more, 0, depth);
      int whole = length & -LANES;
      VectorMask<Float> tail = F.indexInRange(whole, length);
      FloatVector top = FloatVector.broadcast(F, s.get(FLOAT, lse + r * 4L));
      FloatVector mean = FloatVector.broadcast(F, s.get(FLOAT, d + r * 4L));
      for (int i = 0; i < length; i += LANES) {
        FloatVector x = FloatVector.fromMemorySegment(F, s, pRow + i * 4L, ORDER).sub(top);
        x = x.blend(zero, x.compare(VectorOperators.GT, zero));
        FloatVector n = x.add(AttentionForward.ROUND);
        FloatVector f = x.sub(n.sub(AttentionForward.ROUND));
        FloatVector e =
            f.fma(
                FloatVector.broadcast(F, AttentionForward.E6),
                FloatVector.broadcast(F, AttentionForward.E5));
        e = e.fma(f, FloatVector.broadcast(F, AttentionForward.E4));
        e = e.fma(f, FloatVector.broadcast(F, AttentionForward.E3));
        e = e.fma(f, FloatVector.broadcast(F, AttentionForward.E2));
        e = e.fma(f, FloatVector.broadcast(F, AttentionForward.E1));
        e = e.fma(f, FloatVector.broadcast(F, 1f));
        FloatVector power =
            n.reinterpretAsInts().lanewise(VectorOperators.LSHL, 23).reinterpretAsFloats();
        e = e.mul(power).blend(zero, x.compare(VectorOperators.LT, AttentionForward.LOWEST));
        FloatVector g = FloatVector.fromMemorySegment(F, s, dsRow + i * 4L, ORDER).sub(mean);
        g = g.mul(e);
        if (i == whole) {
          e = zero.blend(e, tail);
          g = zero.blend(g, tail);
        }
        e.intoMemorySegment(s, pRow + i * 4L, ORDER);
        g.intoMemorySegment(s, dsRow + i * 4L, ORDER);
      }
      for (int i = (length + LANES - 1) & -LANES; i < end; i += LANES) {
        zero.intoMemorySegment(s, pRow + i * 4L, ORDER);
        zero.intoMemorySegment(s, dsRow + i * 4L, ORDER);
      }
    }
  }
}
