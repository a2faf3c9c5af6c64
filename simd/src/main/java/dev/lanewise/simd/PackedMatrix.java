package dev.lanewise.simd;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * A right-hand operand of {@link Gemm} in the order in which the kernels read it, packed once to
 * serve many products. Products of more than eight rows and columns give the same bits as with the
 * matrix that it was packed from.
 *
 * <p>The object is for one shape and may be packed again, in place, whenever the matrix changes.
 * Packing must not run while a product reads the object.
 */
public final class PackedMatrix {
  /** A panel of a block is packed as one task. */
  private static final class Job implements Workers.Task {
    private PackedMatrix target;
    private MemorySegment from;
    private long at;
    private long stride;
    private boolean isTransposed;
    private boolean isHalf;

    @Override
    public void run(int task) {
      PackedMatrix t = target;
      int panels = Blocking.panels(t.cols);
      int block = task / panels;
      int first = block * t.blockDepth;
      int depth = Math.min(t.blockDepth, t.units - first);
      int col = task % panels * MicroKernel.COLS;
      int end = (int) Math.min(t.cols, (long) col + MicroKernel.COLS);
      long to = t.panel(block, col);
      if (t.type == ElementType.BFLOAT16) {
        int elements = Math.min(2 * depth, t.rows - 2 * first);
        GemmJob.packPairsOfB(
            from,
            at,
            stride,
            isTransposed,
            isHalf,
            2 * first,
            elements,
            col,
            end,
            t.cols,
            t.segment,
            to);
      } else {
        GemmJob.packB(
            from, at, stride, isTransposed, first, depth, col, end, t.cols, t.segment, to);
      }
    }
  }

  private static final Spares<Job> JOBS = new Spares<>(Job::new);

  final MemorySegment segment;
  final int rows;
  final int cols;
  final int blockDepth;
  final ElementType type;

  /** Rows that are packed, in pairs if there are pairs. */
  private final int units;

  /**
   * Memory for a matrix, not packed yet: products with it are undefined until {@link #pack}.
   *
   * @param arena where the memory comes from; not a confined one
   * @param rows rows of the operand, the depth of the product
   * @param cols columns of the operand and of the product
   */
  public PackedMatrix(Arena arena, int rows, int cols) {
    this(arena, rows, cols, ElementType.FLOAT32);
  }

  /**
   * Memory for a matrix, not packed yet: products with it are undefined until {@link #pack}.
   *
   * @param arena where the memory comes from; not a confined one
   * @param rows rows of the operand, the depth of the product
   * @param cols columns of the operand and of the product
   * @param type how it is packed: floats for {@link Gemm}, bfloat16 for {@link Bfloat16Gemm}
   */
  public PackedMatrix(Arena arena, int rows, int cols, ElementType type) {
    Checks.present("arena", arena);
    Checks.present("type", type);
    if (rows < 0 || cols < 0) {
      throw new IllegalArgumentException("negative shape: " + rows + " x " + cols);
    }
    this.rows = rows;
    this.cols = cols;
    this.type = type;
    this.units = type == ElementType.BFLOAT16 ? Bfloat16Packing.pairs(rows) : rows;
    this.blockDepth = Blocking.depth(units);
    this.segment = arena.allocate(Math.max(64, bytes(rows, cols, type)), 64);
    if (Checks.isConfined(segment)) {
      throw new IllegalArgumentException(
          "arena is confined to one thread, but all threads read a packed matrix; use a shared,"
              + " automatic or global arena");
    }
  }

  /**
   * Packs a matrix into new memory.
   *
   * @param arena where the memory comes from; not a confined one
   * @param matrix the operand; use {@link Matrix#transposed} for the transpose of what is stored
   * @return the packed operand
   */
  public static PackedMatrix of(Arena arena, Matrix matrix) {
    return of(arena, matrix, ElementType.FLOAT32);
  }

  /**
   * Packs a matrix into new memory.
   *
   * @param arena where the memory comes from; not a confined one
   * @param matrix the operand, of floats or bfloat16; floats only if it is packed as floats
   * @param type how it is packed: floats for {@link Gemm}, bfloat16 for {@link Bfloat16Gemm}
   * @return the packed operand
   */
  public static PackedMatrix of(Arena arena, MatrixView matrix, ElementType type) {
    Checks.readable("matrix", matrix);
    PackedMatrix packed = new PackedMatrix(arena, matrix.rows(), matrix.cols(), type);
    packed.pack(matrix);
    return packed;
  }

  /**
   * Bytes that a packed matrix takes.
   *
   * @param rows rows of the operand
   * @param cols columns of the operand
   * @return bytes, a little more than {@code 4 * rows * cols}
   */
  public static long bytes(int rows, int cols) {
    return bytes(rows, cols, ElementType.FLOAT32);
  }

  /**
   * Bytes that a packed matrix takes.
   *
   * @param rows rows of the operand
   * @param cols columns of the operand
   * @param type how it is packed
   * @return bytes, a little more than its elements take
   */
  public static long bytes(int rows, int cols, ElementType type) {
    Checks.present("type", type);
    if (rows < 0 || cols < 0) {
      throw new IllegalArgumentException("negative shape: " + rows + " x " + cols);
    }
    long units = type == ElementType.BFLOAT16 ? Bfloat16Packing.pairs(rows) : rows;
    try {
      return Math.multiplyExact(units * Float.BYTES, Blocking.packedCols(cols));
    } catch (ArithmeticException e) {
      throw new IllegalArgumentException(
          "a packed matrix of " + rows + " x " + cols + " exceeds any memory", e);
    }
  }

  /**
   * Packs a matrix in place of what was packed before.
   *
   * @param matrix the operand, of this object's shape
   * @throws IllegalArgumentException if the shape differs, a segment cannot be used, or bfloat16
   *     were to be packed as floats
   */
  public void pack(MatrixView matrix) {
    Checks.readable("matrix", matrix);
    if (matrix.rows() != rows || matrix.cols() != cols) {
      throw new IllegalArgumentException(
          "matrix is "
              + matrix.rows()
              + " x "
              + matrix.cols()
              + " but the packed one is "
              + rows
              + " x "
              + cols);
    }
    pack(matrix.type(), matrix.segment(), matrix.offset(), matrix.stride(), matrix.isTransposed());
  }

  /**
   * The raw form of {@link #pack(MatrixView)} for floats.
   *
   * @param from memory of the matrix
   * @param offset first element, counted in floats
   * @param stride floats between stored rows
   * @param isTransposed whether the transpose of what is stored is packed: stored rows are then
   *     columns of the operand
   */
  public void pack(MemorySegment from, long offset, long stride, boolean isTransposed) {
    pack(ElementType.FLOAT32, from, offset, stride, isTransposed);
  }

  /**
   * The raw form of {@link #pack(MatrixView)}.
   *
   * @param stored how the matrix is stored
   * @param from memory of the matrix
   * @param offset first element
   * @param stride elements between stored rows
   * @param isTransposed whether the transpose of what is stored is packed: stored rows are then
   *     columns of the operand
   */
  public void pack(
      ElementType stored, MemorySegment from, long offset, long stride, boolean isTransposed) {
    if (stored == ElementType.BFLOAT16 && type == ElementType.FLOAT32) {
      throw new IllegalArgumentException("matrix is bfloat16, which is not packed as floats");
    }
    int bytes = stored.bytes();
    Gemm.checkOperand("matrix", from, offset, stride, rows, cols, isTransposed, stored);
    Checks.writable("packed matrix", segment, 0, 0);
    long extent = Gemm.extent(rows, cols, stride, isTransposed);
    Checks.disjoint(
        "packed matrix", segment, 0, segment.byteSize(), 1, "matrix", from, offset, extent, bytes);
    if (Staging.needed(from)) {
      try (var staging = new Staging()) {
        run(stored, staging.input(from, offset * bytes, extent * bytes), 0, stride, isTransposed);
      }
    } else {
      run(stored, from, offset, stride, isTransposed);
    }
  }

  private void run(
      ElementType stored, MemorySegment from, long offset, long stride, boolean isTransposed) {
    Job job = JOBS.take();
    job.target = this;
    job.from = from;
    job.at = offset * stored.bytes();
    job.stride = stride * stored.bytes();
    job.isTransposed = isTransposed;
    job.isHalf = stored == ElementType.BFLOAT16;
    try {
      Workers.parallel(Blocking.blocks(units) * Blocking.panels(cols), job);
    } finally {
      job.target = null;
      job.from = null;
      JOBS.give(job);
    }
  }

  /** Byte offset of the panel that starts at a column, in a block of rows. */
  long panel(int block, int col) {
    int first = block * blockDepth;
    int depth = Math.min(blockDepth, units - first);
    return Float.BYTES * (first * Blocking.packedCols(cols) + (long) col * depth);
  }
}
