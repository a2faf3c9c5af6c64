package dev.lanewise.simd;

import java.lang.foreign.MemorySegment;

/**
 * One product, cut into tasks. All operands are native and checked; offsets and strides are in
 * bytes.
 *
 * <p>Per block of the depth, the operand with fewer lines (rows of A or columns of B) is packed by
 * all threads together and shared; then each task packs a group of the other operand's tiles into
 * its own second-level cache and multiplies it with all of the shared ones. Whatever the cut, an
 * element of C is summed in the same order, so that results do not depend on it.
 */
final class GemmJob implements Workers.Task {
  /** Products of fewer multiplications run on the calling thread. */
  private static final long SMALL = 1 << 18;

  private enum Phase {
    PACK_A,
    PACK_B,
    SHARE_A,
    SHARE_B,
    BATCH
  }

  MemorySegment a;
  long aAt;
  long aStride;
  boolean aTransposed;
  MemorySegment b;
  long bAt;
  long bStride;
  boolean bTransposed;
  PackedMatrix packed;
  MemorySegment c;
  long cAt;
  long cStride;
  int m;
  int n;
  int k;
  float alpha;
  float beta;
  Epilogue epilogue;

  private long aBatch;
  private long bBatch;
  private long cBatch;

  private Phase phase;
  private int block;
  private int first;
  private int depth;
  private float blockBeta;
  private boolean isLast;
  private MemorySegment shared;
  private int sharedFrom;
  private int sharedTo;
  private int packedTogether;
  private int group;

  /** Forgets the operands, so that a spare job keeps no memory alive. */
  void clear() {
    a = null;
    b = null;
    c = null;
    packed = null;
    epilogue = null;
    shared = null;
  }

  void multiply() {
    boolean alone = (long) m * n * k < SMALL;
    multiply(alone ? 1 : Workers.threads());
  }

  private void multiply(int threads) {
    if (m == 0 || n == 0) {
      return;
    }
    if (alpha == 0) {
      k = 0;
    }
    int blocks = Math.max(1, Blocking.blocks(k));
    int blockDepth = Blocking.depth(k);
    boolean shareA = packed != null || n >= m;
    int tile = shareA ? MicroKernel.ROWS : MicroKernel.COLS;
    int lines = shareA ? m : n;
    packedTogether = tile * (shareA ? 8 : 3);
    int step = Math.min(Blocking.sharedLines(blockDepth, tile), (lines + tile - 1) / tile * tile);
    try (Scratch scratch = Scratch.take(4L * step * (blockDepth + Packing.SLACK) + 64)) {
      shared = scratch.segment;
      for (block = 0; block < blocks; block++) {
        first = block * blockDepth;
        depth = Math.min(blockDepth, k - first);
        blockBeta = block == 0 ? beta : 1;
        isLast = block == blocks - 1;
        for (sharedFrom = 0; sharedFrom < lines; sharedFrom = sharedTo) {
          sharedTo = Math.min(lines, sharedFrom + step);
          int packs = (sharedTo - sharedFrom + packedTogether - 1) / packedTogether;
          run(shareA ? Phase.PACK_A : Phase.PACK_B, packs, threads);
          int otherTiles =
              shareA ? Blocking.panels(n) : (m + MicroKernel.ROWS - 1) / MicroKernel.ROWS;
          int otherTile = shareA ? MicroKernel.COLS : MicroKernel.ROWS;
          group = Blocking.privateTiles(otherTiles, depth, otherTile, threads);
          run(shareA ? Phase.SHARE_A : Phase.SHARE_B, (otherTiles + group - 1) / group, threads);
        }
      }
    }
  }

  private void run(Phase next, int tasks, int threads) {
    phase = next;
    if (threads == 1) {
      for (int i = 0; i < tasks; i++) {
        run(i);
      }
    } else {
      Workers.parallel(tasks, this);
    }
  }

  /** Runs {@code batches} products of one shape whose operands lie some bytes apart. */
  void batched(int batches, long aApart, long bApart, long cApart) {
    int threads = Workers.threads();
    boolean alone = (long) m * n * k * batches < SMALL;
    aBatch = aApart;
    bBatch = bApart;
    cBatch = cApart;
    if (alone || batches >= threads) {
      run(Phase.BATCH, batches, alone ? 1 : threads);
      return;
    }
    long a0 = aAt;
    long b0 = bAt;
    long c0 = cAt;
    for (int i = 0; i < batches; i++) {
      aAt = a0 + i * aApart;
      bAt = b0 + i * bApart;
      cAt = c0 + i * cApart;
      multiply();
    }
  }

  @Override
  public void run(int task) {
    switch (phase) {
      case PACK_A -> packSharedA(task);
      case PACK_B -> packSharedB(task);
      case SHARE_A -> multiplyGroupOfB(task);
      case SHARE_B -> multiplyGroupOfA(task);
      case BATCH -> one(task);
    }
  }

  private void one(int batch) {
    GemmJob job = Gemm.JOBS.take();
    job.a = a;
    job.aAt = aAt + batch * aBatch;
    job.aStride = aStride;
    job.aTransposed = aTransposed;
    job.b = b;
    job.bAt = bAt + batch * bBatch;
    job.bStride = bStride;
    job.bTransposed = bTransposed;
    job.c = c;
    job.cAt = cAt + batch * cBatch;
    job.cStride = cStride;
    job.m = m;
    job.n = n;
    job.k = k;
    job.alpha = alpha;
    job.beta = beta;
    job.epilogue = null;
    job.packed = null;
    job.multiply(1);
    job.clear();
    Gemm.JOBS.give(job);
  }

  private void packSharedA(int task) {
    int from = sharedFrom + task * packedTogether;
    int to = (int) Math.min(sharedTo, (long) from + packedTogether);
    packA(from, to, shared, tileOffset(from - sharedFrom));
  }

  private void packSharedB(int task) {
    int from = sharedFrom + task * packedTogether;
    int to = (int) Math.min(sharedTo, (long) from + packedTogether);
    long at = 4L * (from - sharedFrom) * depth;
    packB(b, bAt, bStride, bTransposed, first, depth, from, to, shared, at);
  }

  /** Where the tile of A that starts so many rows on is packed. */
  private long tileOffset(int rows) {
    return (long) Float.BYTES * rows * (depth + Packing.SLACK);
  }

  /** Packs rows of A as tiles. */
  private void packA(int from, int to, MemorySegment target, long at) {
    int rest = (to - from) % MicroKernel.ROWS;
    int whole = Blocking.restTile(rest) == MicroKernel.ROWS ? to - from : to - from - rest;
    packTiles(from, whole, MicroKernel.ROWS, target, at);
    packTiles(
        from + whole, to - from - whole, MicroKernel.FEW_ROWS, target, at + tileOffset(whole));
    if (alpha != 1) {
      long floats = (long) Blocking.paddedRows(to - from) * (depth + Packing.SLACK);
      Packing.scale(target, at, floats, alpha);
    }
  }

  private void packTiles(int from, int rows, int width, MemorySegment target, long at) {
    if (aTransposed) {
      long fromAt = aAt + first * aStride + 4L * from;
      Packing.copy(a, fromAt, aStride, rows, m - from, depth, target, at, width, tileOffset(width));
      return;
    }
    for (int i = 0; i < rows; i += width) {
      long fromAt = aAt + (from + i) * aStride + 4L * first;
      int lines = Math.min(width, rows - i);
      Packing.transpose(a, fromAt, aStride, lines, depth, target, at + tileOffset(i), width);
    }
  }

  /** Packs the panels of B from a column, where a panel starts, to another. */
  static void packB(
      MemorySegment b,
      long bAt,
      long bStride,
      boolean isTransposed,
      int first,
      int depth,
      int from,
      int to,
      MemorySegment target,
      long at) {
    int width = MicroKernel.COLS;
    long panelBytes = 4L * width * depth;
    if (!isTransposed) {
      long fromAt = bAt + first * bStride + 4L * from;
      Packing.copy(b, fromAt, bStride, to - from, to - from, depth, target, at, width, panelBytes);
      return;
    }
    for (int col = from; col < to; col += width) {
      long fromAt = bAt + col * bStride + 4L * first;
      int lines = Math.min(width, to - col);
      Packing.transpose(b, fromAt, bStride, lines, depth, target, at, width);
      at += panelBytes;
    }
  }

  private void multiplyGroupOfB(int task) {
    int from = task * group * MicroKernel.COLS;
    int to = (int) Math.min(n, (long) from + group * MicroKernel.COLS);
    long panelBytes = 4L * MicroKernel.COLS * depth;
    try (Scratch own = Scratch.take(packed == null ? group * panelBytes + TEMP : TEMP)) {
      MemorySegment panels = own.segment;
      long panelsAt = TEMP;
      if (packed == null) {
        packB(b, bAt, bStride, bTransposed, first, depth, from, to, panels, TEMP);
      } else {
        panels = packed.segment;
        panelsAt = packed.panel(block, from);
      }
      int tile;
      for (int i = sharedFrom; i < sharedTo; i += tile) {
        tile = Blocking.tileRows(i - sharedFrom, sharedTo - sharedFrom);
        long tileAt = tileOffset(i - sharedFrom);
        long panelAt = panelsAt;
        for (int col = from; col < to; col += MicroKernel.COLS) {
          tile(tile, shared, tileAt, panels, panelAt, i, sharedTo, col, own.segment);
          panelAt += panelBytes;
        }
        finish(i, Math.min(tile, sharedTo - i), from, to - from);
      }
    }
  }

  private void multiplyGroupOfA(int task) {
    int from = task * group * MicroKernel.ROWS;
    int to = (int) Math.min(m, (long) from + group * MicroKernel.ROWS);
    long panelBytes = 4L * MicroKernel.COLS * depth;
    try (Scratch own = Scratch.take(TEMP + tileOffset(group * MicroKernel.ROWS))) {
      packA(from, to, own.segment, TEMP);
      long panelAt = 0;
      for (int col = sharedFrom; col < sharedTo; col += MicroKernel.COLS) {
        int tile;
        for (int i = from; i < to; i += tile) {
          tile = Blocking.tileRows(i - from, to - from);
          long tileAt = TEMP + tileOffset(i - from);
          tile(tile, own.segment, tileAt, shared, panelAt, i, to, col, own.segment);
        }
        finish(from, to - from, col, Math.min(MicroKernel.COLS, sharedTo - col));
        panelAt += panelBytes;
      }
    }
  }

  /** Room for one tile, used where C ends inside it. */
  private static final long TEMP = 4L * MicroKernel.ROWS * MicroKernel.COLS;

  private void tile(
      int tile,
      MemorySegment tiles,
      long tileAt,
      MemorySegment panels,
      long panelAt,
      int i,
      int rowEnd,
      int col,
      MemorySegment temp) {
    long at = cAt + i * cStride + 4L * col;
    int rows = Math.min(tile, rowEnd - i);
    int cols = Math.min(MicroKernel.COLS, n - col);
    long groupBytes = 4L * MicroKernel.COLS;
    if (rows == tile && cols == MicroKernel.COLS) {
      MicroKernel.multiply(
          tile, tiles, tileAt, panels, panelAt, groupBytes, depth, c, at, cStride, blockBeta);
    } else {
      MicroKernel.multiply(
          tile, tiles, tileAt, panels, panelAt, groupBytes, depth, temp, 0, groupBytes, 0);
      Packing.merge(temp, groupBytes, c, at, cStride, rows, cols, blockBeta);
    }
  }

  private void finish(int i, int rows, int col, int cols) {
    if (isLast && epilogue != null) {
      EpilogueKernel.apply(epilogue, c, cAt, cStride, i, rows, col, cols);
    }
  }
}
