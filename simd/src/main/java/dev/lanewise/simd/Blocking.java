package dev.lanewise.simd;

/**
 * How {@link Gemm} cuts a product into pieces that fit the caches. Only {@link #depth} decides in
 * which order products are summed, and it depends on the problem alone.
 */
final class Blocking {
  /** The most columns of A that are multiplied before C is touched again. */
  private static final int MAX_DEPTH = 1024;

  /** Bytes of packed panels that a task keeps in its core's second-level cache. */
  private static final long PRIVATE_BYTES = 400 << 10;

  /** Bytes of packed panels that all tasks share, in the last-level cache. */
  private static final long SHARED_BYTES = 6 << 20;

  private Blocking() {}

  /** Depth of a block of a product of depth {@code k}; blocks are about equally deep. */
  static int depth(int k) {
    int blocks = blocks(k);
    return blocks == 0 ? 0 : (k + blocks - 1) / blocks;
  }

  /** Number of blocks of a product of depth {@code k}. */
  static int blocks(int k) {
    return (int) (((long) k + MAX_DEPTH - 1) / MAX_DEPTH);
  }

  /** Panels of B that hold {@code n} columns. */
  static int panels(int n) {
    return (int) (((long) n + MicroKernel.COLS - 1) / MicroKernel.COLS);
  }

  /** Rows of A as packed: the last tile is a full one, or as few small ones as hold the rest. */
  static int paddedRows(int m) {
    int rest = m % MicroKernel.ROWS;
    int tile = restTile(rest);
    return m - rest + (rest + tile - 1) / tile * tile;
  }

  /** Height of the tiles that hold a rest of rows: full ones if small ones would not be fewer. */
  static int restTile(int rest) {
    int few = MicroKernel.FEW_ROWS;
    return (rest + few - 1) / few * few >= MicroKernel.ROWS ? MicroKernel.ROWS : few;
  }

  /** Height of the tile that starts at row {@code i} of {@code m} packed together. */
  static int tileRows(int i, int m) {
    return i < m - m % MicroKernel.ROWS ? MicroKernel.ROWS : restTile(m % MicroKernel.ROWS);
  }

  /** How many rows or columns of the shared operand are packed at once, in whole tiles. */
  static int sharedLines(int depth, int tile) {
    long lines = SHARED_BYTES / (4L * Math.max(1, depth));
    return (int) Math.min(1 << 24, Math.max(1, lines / tile)) * tile;
  }

  /** How many tiles of the private operand a task takes, so that all threads have work. */
  static int privateTiles(int tiles, int depth, int tile, int threads) {
    long most = Math.max(1, PRIVATE_BYTES / (4L * Math.max(1, depth) * tile));
    long tasks = (tiles + most - 1) / most;
    tasks = (tasks + threads - 1) / threads * threads;
    return (int) Math.max(1, (tiles + tasks - 1) / tasks);
  }
}
