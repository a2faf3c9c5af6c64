package dev.lanewise.simd;

import static dev.lanewise.simd.AttentionTiles.LD;
import static dev.lanewise.simd.AttentionTiles.PANEL;
import static dev.lanewise.simd.AttentionTiles.ROWS;

import java.lang.foreign.MemorySegment;

/**
 * The forward pass over a group of rows of one head. Keys are packed transposed and values copied
 * once; then a tile of rows meets block after block of keys, its scores never leaving the first
 * cache.
 */
final class AttentionForward {
  /** Keys in a block, at most what a row of scores holds. */
  private static final int KEY_BLOCK = 256;

  /** Queries that are copied at a time: the hardware fetches ahead only while it sees many rows. */
  private static final int QUERY_BLOCK = 20 * ROWS;

  private static final int LANES = Machine.LANES;

  private AttentionForward() {}

  /** Floats of a row of values in scratch memory: whole panels. */
  static int padded(int headSize) {
    return (headSize + PANEL - 1) / PANEL * PANEL;
  }

  static void run(AttentionCall call, int task) {
    int group = task % call.groups;
    int head = task / call.groups % call.heads;
    int sequence = task / call.groups / call.heads;
    int from = call.groupStart(group);
    int to = call.groupStart(group + 1);
    if (from < to) {
      rows(call, sequence, head, from, to);
    }
  }

  private static void rows(AttentionCall call, int sequence, int head, int from, int to) {
    int headSize = call.headSize;
    int keys = call.visible(to);
    int padded = padded(headSize);
    long oStep = padded * 4L;
    long panelBytes = headSize * PANEL * 4L;
    long panels = (keys + PANEL - 1) / PANEL;

    long kAt = 0;
    long vAt = kAt + panels * panelBytes;
    long qAt = vAt + keys * oStep;
    long pAt = qAt + QUERY_BLOCK * LD;
    long oAt = pAt + ROWS * LD;
    long stats = oAt + ROWS * oStep;
    try (Scratch scratch = Scratch.take(stats + AttentionRows.STATS_BYTES)) {
      MemorySegment s = scratch.segment;
      AttentionOperand k = call.k;
      pack(k.segment, k.at(sequence, head), k.rowStep, keys, headSize, s, kAt);
      AttentionOperand v = call.v;
      long vRow = v.at(sequence, head);
      AttentionRows.copy(
          v.segment, vRow, v.rowStep, s, vAt, 4L * PANEL, 4L * PANEL * keys, keys, headSize, 1);
      AttentionOperand q = call.q;
      float scale = call.scale * AttentionRows.LOG2_E;
      int copied = from;
      long tileAt = qAt;
      // A short tile comes first, where it sees the fewest keys.
      int tile;
      for (int row = from; row < to; row += tile) {
        tile = call.tileRows(row);
        if (row == copied) {
          copied = Math.min(to, row + tile + QUERY_BLOCK - ROWS);
          long query = q.at(sequence, head) + row * q.rowStep;
          tileAt = qAt;
          AttentionRows.copy(
              q.segment, query, q.rowStep, s, qAt, LD, copied - row, headSize, scale);
        }
        int end = call.visible(row + tile);
        for (int key = 0; key < end; key += KEY_BLOCK) {
          int depth = Math.min(KEY_BLOCK, end - key);
          scores(s, tileAt, kAt + key / PANEL * panelBytes, panelBytes, pAt, headSize, depth);
          int visible = call.visible(row + 1) - key;
          int more = call.causal ? 1 : 0;
          AttentionRows.softmax(s, pAt, tile, visible, more, depth, stats, oAt, oStep, key == 0);
          if (call.keep != null) {
            for (int r = 0; r < tile; r++) {
              long bit = call.keepBit(sequence, head, row + r) + key;
              AttentionRows.drop(call.keep, bit, s, pAt + r * LD, depth, call.keepScale);
            }
          }
          for (int d = 0; d < padded; d += PANEL) {
            long value = vAt + ((long) d * keys + (long) key * PANEL) * 4;
            AttentionTiles.byRows(s, pAt, value, oAt + d * 4L, oStep, depth, key > 0);
          }
        }
        AttentionOperand out = call.out;
        long at = out.at(sequence, head) + row * out.rowStep;
        AttentionRows.normalise(s, oAt, oStep, stats, out.segment, at, out.rowStep, tile, headSize);
        if (call.lse != null) {
          long lseAt = call.lseAt(sequence, head) + row * 4L;
          AttentionRows.logSumExp(s, stats, call.lse, lseAt, tile);
        }
        tileAt += tile * LD;
      }
    }
  }

  /** Packs rows transposed into panels, of which the last may be partly undefined. */
  static void pack(
      MemorySegment from, long at, long step, int rows, int headSize, MemorySegment s, long to) {
    for (int row = 0; row < rows; row += PANEL) {
      int lines = Math.min(PANEL, rows - row);
      long panel = to + row * (headSize * 4L);
      Packing.transpose(from, at + row * step, step, lines, headSize, s, panel, PANEL);
    }
  }

  /** A tile's scores against the first {@code depth} keys of a block, rounded up to vectors. */
  static void scores(
      MemorySegment s, long a, long panel, long panelBytes, long c, int headSize, int depth) {
    int key = 0;
    for (; depth - key > LANES; key += PANEL) {
      AttentionTiles.byRows(s, a, panel, c + key * 4L, LD, headSize, false);
      panel += panelBytes;
    }
    if (key < depth) {
      AttentionTiles.byRowsHalf(s, a, panel, c + key * 4L, LD, headSize);
    }
  }
}
