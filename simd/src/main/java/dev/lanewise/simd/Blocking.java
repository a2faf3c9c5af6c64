package dev.lanewise.simd;

/**
 * How {@link Gemm} cuts a product into pieces that fit the caches. Only {@link #depth} decides in
 * which order products are summed, and it depends on the problem alone.
 */
final class Blocking {
  /** The most columns of A that are multiplied before C is touched again. */
  private static final int MAX_DEPTH = 1024;

  /** Bytes of rows that a task keeps in its core's second-level cache. */
  private static final long ROWS_BYTES = 300 << 10;

  /**
   * Bytes of panels that a task keeps there: two of GPT-2's, so that an epilogue meets long rows.
   */
  private static final long PANELS_BYTES = 400 << 10;

  /** Bytes of packed panels that all tasks share, in the last-level cache. */
  private static final long SHARED_BYTES = 6 << 20;

  /** Bytes of a B that each core's second-level cache holds beside the rows it works on. */
  private static final long SMALL_BYTES = 300 << 10;

  /** Multiplications beside which it is nothing that threads wait for each other once more. */
  private static final double WORTH_WAITING = 1 << 25;

  /** How much longer it takes to turn an element of a product than to pack one of B. */
  private static final int TURN = 2;

  private static final int LANES = Machine.LANES;
  private static final int ROWS = MicroKernel.ROWS;
  private static final int COLS = MicroKernel.COLS;
  private static final int FEW_COLS = MicroKernel.FEW_COLS;

  private Blocking() {}

  /** Depth of a block of a product of depth {@code k}; blocks are about equally deep. */
  static int depth(int k) {
    int blocks = blocks(k);
    return blocks == 0 ? 0 : (k + blocks - 1) / blocks;
  }

  /** Number of blocks of a product of depth {@code k}. */
  static int blocks(int k) {
    return ceil(k, MAX_DEPTH);
  }

  /** Panels of B that hold {@code n} columns. */
  static int panels(int n) {
    return ceil(n, COLS);
  }

  /** Columns of the panel that starts at column {@code col} of {@code n}. */
  static int panelCols(int col, int n) {
    return n - col <= FEW_COLS ? FEW_COLS : COLS;
  }

  /** Columns of packed B for {@code n} columns. */
  static long packedCols(int n) {
    int rest = n % COLS;
    return (long) n - rest + (rest == 0 ? 0 : panelCols(0, rest));
  }

  /** How many columns of B are packed at once for all tasks, in whole panels. */
  static int sharedCols(int n, int depth) {
    return (int) Math.min(panelsIn(SHARED_BYTES, depth), panels(n)) * COLS;
  }

  /**
   * Columns of B's shared panels that a task multiplies with some rows before it takes the next
   * ones. C is then met in runs of neighbouring lines, which the processor fetches ahead.
   */
  static int groupCols(int depth) {
    return (int) panelsIn(PANELS_BYTES, depth) * COLS;
  }

  /** Whole panels that so many bytes hold, at least one. */
  private static long panelsIn(long bytes, int depth) {
    return Math.max(1, bytes / (4L * Math.max(1, depth) * COLS));
  }

  /** Into how many tasks the panels of B are cut. */
  static int columnTasks(int n, int depth, int threads) {
    return tasks(panels(n), panelsIn(PANELS_BYTES, depth), threads);
  }

  /** Into how many tasks C's columns are cut with few rows of A, in whole vectors. */
  static int skinnyTasks(int n, long mostCols, int threads) {
    return tasks(ceil(n, LANES), Math.max(1, mostCols / LANES), threads);
  }

  /** Into how many tasks the rows of A are cut, in whole tiles. */
  static int rowTasks(int m, int depth, int threads) {
    long most = Math.max(4, ROWS_BYTES / (4L * Math.max(1, depth) * ROWS));
    return tasks(ceil(m, ROWS), most, threads);
  }

  /** Cuts pieces into tasks of at most {@code most}, a multiple of the threads if it can be. */
  private static int tasks(int pieces, long most, int threads) {
    long tasks = (pieces + most - 1) / most;
    return (int) Math.min(pieces, (tasks + threads - 1) / threads * threads);
  }

  /**
   * Where a task begins, so that all have the same number of pieces but for one.
   *
   * @param lines rows or columns, cut into pieces of {@code piece} and a last one that may have
   *     less
   */
  static int start(int task, int tasks, int lines, int piece) {
    return (int) Math.min(lines, (long) ceil(lines, piece) * task / tasks * piece);
  }

  /** Whether tasks of whole panels keep the threads about as busy as tasks of rows would. */
  static boolean byColumns(int m, int n, int threads) {
    return busy(panels(n), threads) >= Math.min(0.8, busyByRows(m, threads));
  }

  /**
   * Whether tasks own rows though columns would do. B is small, and many rows meet it: a thread
   * then reads rows of A that it wrote itself in the layer before, and writes those that it will
   * read in the next, where tasks of columns read half of A from another core's cache. A step of a
   * model of width 128 takes 1.5 percent less.
   */
  static boolean keepsRows(int m, int n, int k, int threads) {
    return threads > 1
        && 4L * n * k <= SMALL_BYTES
        && (double) m * n * k >= WORTH_WAITING
        && busyByRows(m, threads) >= 0.9;
  }

  /**
   * Whether a transposed A is packed for all tasks, which then own columns. A must be the smaller,
   * and its packed rows whole vectors, since packing overruns others.
   */
  static boolean sharesRows(int m, int n, int k, int threads) {
    return m <= n
        && k % LANES == 0
        && depth(k) % LANES == 0
        && hasRoomForRows(m, k)
        && byColumns(m, n, threads);
  }

  /** Whether the last-level cache has room for a block of packed rows of A. */
  static boolean hasRoomForRows(int m, int k) {
    return 4L * m * depth(k) <= SHARED_BYTES;
  }

  /**
   * Whether a product with B transposed is computed transposed, so that A is packed in place of B.
   * Packing B costs by its elements, {@code n * k}; turning the product by its own, {@code m * n},
   * for every block.
   */
  static boolean turns(int m, int n, int k) {
    return n >= COLS && TURN * (long) m * blocks(k) <= k;
  }

  /**
   * Whether all panels can be dealt out equally, two or more to a task. Tasks of columns read all
   * rows of A; from memory, a single panel would not give them enough to do.
   */
  static boolean dealsPanels(int n, int depth, int threads) {
    int tasks = columnTasks(n, depth, threads);
    return n % COLS == 0 && panels(n) % tasks == 0 && panels(n) / tasks > 1 && tasks % threads == 0;
  }

  private static double busyByRows(int m, int threads) {
    return busy(ceil(m, 4 * ROWS), threads);
  }

  /** The part of their time that threads work which share a number of equal tasks. */
  private static double busy(int tasks, int threads) {
    return tasks / (double) ((long) ceil(tasks, threads) * threads);
  }

  private static int ceil(int a, int b) {
    return (int) (((long) a + b - 1) / b);
  }
}
