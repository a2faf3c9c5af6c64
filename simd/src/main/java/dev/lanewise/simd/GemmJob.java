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
    int step = Math.min(Blocking.sharedLines(blockDepth, tile), (lines + tile - 1) / tile * tile);
    try (Scratch scratch = Scratch.take(4L * step * blockDepth + 64)) {
      shared = scratch.segment;
      for (block = 0; block < blocks; block++) {
        first = block * blockDepth;
        depth = Math.min(blockDepth, k - first);
        blockBeta = block == 0 ? beta : 1;
        isLast = block == blocks - 1;
        for (sharedFrom = 0; sharedFrom < lines; sharedFrom = sharedTo) {
          sharedTo = Math.min(lines, sharedFrom + step);
          int sharedTiles = (sharedTo - sharedFrom + tile - 1) / tile;
          run(shareA ? Phase.PACK_A : Phase.PACK_B, sharedTiles, threads);
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
      case PACK_B -> {
        int col = sharedFrom + task * MicroKernel.COLS;
        packB(
            b,
            bAt,
            bStride,
            bTransposed,
            first,
            depth,
            col,
            sharedTo,
            shared,
            4L * (col - sharedFrom) * depth);
      }
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
    int from = sharedFrom + task * MicroKernel.ROWS;
    int to = Math.min(sharedTo, from + MicroKernel.ROWS);
    packA(from, to, shared, 4L * (from - sharedFrom) * depth);
  }

  /** Packs rows of A as tiles; a tile that starts {@code r} rows on starts {@code r * depth} on. */
  private void packA(int from, int to, MemorySegment target, long at) {
    int tile;
    for (int i = from; i < to; i += tile) {
      tile = Blocking.tileRows(i - from, to - from);
      int rows = Math.min(tile, to - i);
      if (aTransposed) {
        Packing.copy(
            a, aAt + first * aStride + 4L * i, aStride, rows, depth, alpha, target, at, tile);
      } else {
        Packing.transpose(
            a, aAt + i * aStride + 4L * first, aStride, rows, depth, alpha, target, at, tile);
      }
      at += 4L * tile * depth;
    }
  }

  /** Packs the panel of B that starts at a column, of a matrix with {@code cols} columns. */
  static void packB(
      MemorySegment b,
      long bAt,
      long bStride,
      boolean isTransposed,
      int first,
      int depth,
      int col,
      int cols,
      MemorySegment target,
      long at) {
    int lines = Math.min(MicroKernel.COLS, cols - col);
    if (isTransposed) {
      Packing.transpose(
          b,
          bAt + col * bStride + 4L * first,
          bStride,
          lines,
          depth,
          1,
          target,
          at,
          MicroKernel.COLS);
    } else {
      Packing.copy(
          b,
          bAt + first * bStride + 4L * col,
          bStride,
          lines,
          depth,
          1,
          target,
          at,
          MicroKernel.COLS);
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
        for (int col = from; col < to; col += MicroKernel.COLS) {
          packB(
              b,
              bAt,
              bStride,
              bTransposed,
              first,
              depth,
              col,
              n,
              panels,
              TEMP + (col - from) / MicroKernel.COLS * panelBytes);
        }
      } else {
        panels = packed.segment;
        panelsAt = packed.panel(block, from);
      }
      int tile;
      for (int i = sharedFrom; i < sharedTo; i += tile) {
        tile = tileAt(i, sharedFrom, sharedTo);
        long panelAt = panelsAt;
        for (int col = from; col < to; col += MicroKernel.COLS) {
          tile(
              tile,
              shared,
              4L * (i - sharedFrom) * depth,
              panels,
              panelAt,
              i,
              sharedTo,
              col,
              own.segment);
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
    try (Scratch own = Scratch.take(TEMP + 4L * group * MicroKernel.ROWS * depth)) {
      packA(from, to, own.segment, TEMP);
      for (int col = sharedFrom; col < sharedTo; col += MicroKernel.COLS) {
        long panelAt = (col - sharedFrom) / MicroKernel.COLS * panelBytes;
        int tile;
        for (int i = from; i < to; i += tile) {
          tile = tileAt(i, from, to);
          tile(
              tile,
              own.segment,
              TEMP + 4L * (i - from) * depth,
              shared,
              panelAt,
              i,
              to,
              col,
              own.segment);
        }
        finish(from, to - from, col, Math.min(MicroKernel.COLS, sharedTo - col));
      }
    }
  }

  private static int tileAt(int i, int from, int to) {
    return Blocking.tileRows(i - from, to - from);
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
    long bytesPerRow = 4L * MicroKernel.COLS;
    if (rows == tile && cols == MicroKernel.COLS) {
      MicroKernel.multiply(
          tile, tiles, tileAt, panels, panelAt, bytesPerRow, depth, c, at, cStride, blockBeta);
    } else {
      MicroKernel.multiply(
          tile, tiles, tileAt, panels, panelAt, bytesPerRow, depth, temp, 0, bytesPerRow, 0);
      Packing.merge(temp, bytesPerRow, c, at, cStride, rows, cols, blockBeta);
    }
  }

  private void finish(int i, int rows, int col, int cols) {
    if (isLast && epilogue != null) {
      EpilogueKernel.apply(epilogue, c, cAt, cStride, i, rows, col, cols);
    }
  }
}
