package dev.lanewise.simd;

import static dev.lanewise.simd.AttentionTiles.LD;
import static dev.lanewise.simd.AttentionTiles.PANEL;
import static dev.lanewise.simd.AttentionTiles.ROWS;

import java.lang.foreign.MemorySegment;

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
    long gradAt = queryAt + (queries + ROWS) * LD;
    long pAt = gradAt + (queries + ROWS) * LD;
    long dsAt = pAt + (QUERY_BLOCK + ROWS) * LD;
    long kAt = dsAt + (QUERY_BLOCK + ROWS) * LD;
    long kPanelsAt = kAt + KEY_BLOCK * step;
    long vPanelsAt = kPanelsAt + KEY_BLOCK * step;
    long dkAt = vPanelsAt + KEY_BLOCK * step;
    long dvAt = dkAt + KEY_BLOCK * step;
    long lseAt = dvAt + KEY_BLOCK * step;
    long dAt = lseAt + statBytes;
    long dqAt = dAt + statBytes;
    try (Scratch scratch = Scratch.take(dqAt + (queries + ROWS) * step)) {
      MemorySegment s = scratch.segment;
      AttentionRows.statistics(call, sequence, head, s, lseAt, dAt);
      AttentionOperand q = call.q;
      AttentionOperand k = call.k;
      AttentionOperand v = call.v;
      AttentionOperand dOut = call.dOut;
      float scale = call.scale * AttentionRows.LOG2_E;
      AttentionRows.copy(
          q.segment, q.at(sequence, head), q.rowStep, s, queryAt, LD, queries, headSize, scale);
      AttentionRows.copy(
          dOut.segment, dOut.at(sequence, head), dOut.rowStep, s, gradAt, LD, queries, headSize, 1);
      int more = call.causal ? 1 : 0;
      for (int key = 0; key < keys; key += KEY_BLOCK) {
        int width = Math.min(KEY_BLOCK, keys - key);
        long kRow = k.at(sequence, head) + key * k.rowStep;
        long vRow = v.at(sequence, head) + key * v.rowStep;
        AttentionRows.copy(
            k.segment,
            kRow,
            k.rowStep,
            s,
            kAt,
            4L * PANEL,
            4L * PANEL * KEY_BLOCK,
            width,
            headSize,
            1);
        AttentionForward.pack(k.segment, kRow, k.rowStep, width, headSize, s, kPanelsAt);
        AttentionForward.pack(v.segment, vRow, v.rowStep, width, headSize, s, vPanelsAt);
        if (queries == 0) {
          AttentionRows.clear(s, dkAt, KEY_BLOCK * padded);
          AttentionRows.clear(s, dvAt, KEY_BLOCK * padded);
        }
        int first = call.causal ? call.tileStart(Math.max(0, key - (keys - queries))) : 0;
        int height;
        for (int query = first; query < queries; query += height) {
          height = (queries - query) % QUERY_BLOCK;
          height = height == 0 ? QUERY_BLOCK : height;
          int tile;
          for (int r = 0; r < height; r += tile) {
            tile = call.tileRows(query + r);
            int depth = Math.min(width, call.visible(query + r + tile) - key);
            if (depth <= 0) {
              continue;
            }
            long p = pAt + r * LD;
            long ds = dsAt + r * LD;
            AttentionForward.scores(
                s, queryAt + (query + r) * LD, kPanelsAt, panelBytes, p, headSize, depth);
            AttentionForward.scores(
                s, gradAt + (query + r) * LD, vPanelsAt, panelBytes, ds, headSize, depth);
            long stats = (query + r) * 4L;
            int visible = call.visible(query + r + 1) - key;
            long bit = call.keep == null ? 0 : call.keepBit(sequence, head, query + r) + key;
            if (call.keep != null) {
              drop(call, bit, s, ds, tile, depth);
            }
            AttentionRows.gradients(
                s, p, ds, tile, visible, more, depth, end(width), lseAt + stats, dAt + stats);
            if (call.keep != null) {
              drop(call, bit, s, p, tile, depth);
            }
            for (int i = tile; i < ROWS; i++) {
              // The product adds to the next tile's rows.
              AttentionRows.clear(s, ds + i * LD, depth);
            }
            for (int d = 0; d < padded; d += PANEL) {
              long c = dqAt + (query + r) * step + d * 4L;
              long b = kAt + 4L * d * KEY_BLOCK;
              AttentionTiles.byRows(s, ds, b, c, step, depth, key > 0);
            }
          }
          for (int r = 0; r < width; r += ROWS) {
            // The first query that sees the tile's first key, in rows of this block.
            int seen = call.causal ? key + r - (keys - queries) - query : 0;
            int skip = Math.max(0, seen);
            boolean add = query > first && (!call.causal || seen < 0);
            int depth = height - skip;
            if (depth <= 0) {
              break;
            }
            for (int d = 0; d < padded; d += PANEL) {
              long a = skip * LD + r * 4L;
              long b = (query + skip) * LD + d * 4L;
              long c = r * step + d * 4L;
              AttentionTiles.byColumns(s, pAt + a, gradAt + b, dvAt + c, step, depth, add);
              AttentionTiles.byColumns(s, dsAt + a, queryAt + b, dkAt + c, step, depth, add);
            }
          }
        }
        AttentionOperand dk = call.dk;
        long dkRow = dk.at(sequence, head) + key * dk.rowStep;
        // Queries were scaled by log2(e) too.
        AttentionRows.copy(
            s, dkAt, step, dk.segment, dkRow, dk.rowStep, width, headSize, AttentionRows.LN_2);
        AttentionOperand dv = call.dv;
        long dvRow = dv.at(sequence, head) + key * dv.rowStep;
        AttentionRows.copy(s, dvAt, step, dv.segment, dvRow, dv.rowStep, width, headSize, 1);
      }
      AttentionOperand dq = call.dq;
      long dqRow = dq.at(sequence, head);
      AttentionRows.copy(
          s, dqAt, step, dq.segment, dqRow, dq.rowStep, queries, headSize, call.scale);
    }
  }

  /** Columns of a block that a tile of keys may read. */
  private static int end(int width) {
    return (width + ROWS - 1) / ROWS * ROWS;
  }

  private static void drop(
      AttentionCall call, long bit, MemorySegment s, long row, int rows, int depth) {
    for (int r = 0; r < rows; r++) {
      AttentionRows.drop(
          call.keep, bit + (long) r * call.keys, s, row + r * LD, depth, call.keepScale);
    }
  }
}
