package dev.lanewise.simd;

import static dev.lanewise.simd.machinecode.Int8Layout.BIAS;
import static dev.lanewise.simd.machinecode.Int8Layout.BLOCK;
import static dev.lanewise.simd.machinecode.Int8Layout.B_BLOCK_BYTES;
import static dev.lanewise.simd.machinecode.Int8Layout.CHUNK_BLOCKS;
import static dev.lanewise.simd.machinecode.Int8Layout.CHUNK_BYTES;
import static dev.lanewise.simd.machinecode.Int8Layout.COLS;
import static dev.lanewise.simd.machinecode.Int8Layout.GROUP;
import static dev.lanewise.simd.machinecode.Int8Layout.GROUP_BYTES;
import static dev.lanewise.simd.machinecode.Int8Layout.SCALES;
import static dev.lanewise.simd.machinecode.Int8Layout.chunks;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Locale;

/**
 * A right-hand operand of {@link Int8Gemm}: integers of 8 bits, of which 32 neighbours of the depth
 * share a scale in float16, as in GGUF's type Q8_0. It takes 1.06 bytes an element, and serves any
 * number of products.
 *
 * <p>Of each 32 elements {@code x} the scale is the smallest float16 {@code s} with {@code 127 s >=
 * max |x|}, and the integers are {@code x / s}, rounded to the nearest, ties to even. So no element
 * is off by more than half of its scale, and what was read from blocks of Q8_0 is held exactly.
 * Elements of which the largest is below 2^-100 count as zeros; where one is not finite, or larger
 * than 127 of float16's largest, products of that column are NaN.
 *
 * <p>The object is for one shape and may be packed again, in place, whenever the matrix changes.
 * Packing must not run while a product reads the object.
 */
public final class Int8Matrix {
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;
  private static final ValueLayout.OfShort SHORT = ValueLayout.JAVA_SHORT_UNALIGNED;

  private static final int LARGEST = 127;
  private static final short NAN = Float.floatToFloat16(Float.NaN);

  /** A panel is packed as one task. */
  private static final class Job implements Workers.Task {
    private Int8Matrix target;
    private MemorySegment from;
    private long at;
    private long rowStep;
    private long colStep;
    private boolean isHalf;

    @Override
    public void run(int panel) {
      Int8Matrix t = target;
      int first = panel * COLS;
      t.segment.asSlice(t.panel(panel), t.panelBytes()).fill((byte) BIAS);
      for (int j = 0; j < COLS; j++) {
        for (int k = 0; k < chunks(t.rows) * CHUNK_BLOCKS; k++) {
          int elements = first + j < t.cols ? Math.clamp(t.rows - k * BLOCK, 0, BLOCK) : 0;
          long chunkAt = t.panel(panel) + (long) k / CHUNK_BLOCKS * CHUNK_BYTES;
          int half = k % CHUNK_BLOCKS;
          long scaleAt =
              chunkAt + SCALES + (long) half * COLS * Short.BYTES + (long) j * Short.BYTES;
          long elementsAt = chunkAt + (long) half * B_BLOCK_BYTES + (long) j * GROUP;
          pack(
              at + (first + j) * colStep + (long) k * BLOCK * rowStep,
              elements,
              elementsAt,
              scaleAt);
        }
      }
    }

    private void pack(long firstAt, int elements, long to, long scaleAt) {
      int largest = 0;
      for (int i = 0; i < elements; i++) {
        float x = Math.abs(element(firstAt + i * rowStep));
        largest = Math.max(largest, Float.floatToRawIntBits(x));
      }
      short scale = scale(Float.intBitsToFloat(largest));
      target.segment.set(SHORT, scaleAt, scale);
      float step = Float.float16ToFloat(scale);
      if (step > 0) {
        for (int i = 0; i < elements; i++) {
          long number = (long) Math.rint(element(firstAt + i * rowStep) / step);
          long byteAt = to + (long) i / GROUP * GROUP_BYTES + i % GROUP;
          target.segment.set(ValueLayout.JAVA_BYTE, byteAt, (byte) (number + BIAS));
        }
      }
    }

    private float element(long at) {
      return isHalf ? Bfloat16.toFloat(from.get(SHORT, at)) : from.get(FLOAT, at);
    }
  }

  private static final Spares<Job> JOBS = new Spares<>(Job::new);

  final MemorySegment segment;
  final int rows;
  final int cols;

  /**
   * Memory for a matrix, not packed yet: products with it are undefined until {@link #pack}.
   *
   * @param arena where the memory comes from; not a confined one
   * @param rows rows of the operand, the depth of the product
   * @param cols columns of the operand and of the product
   */
  public Int8Matrix(Arena arena, int rows, int cols) {
    this.rows = rows;
    this.cols = cols;
    this.segment = NativeMemory.allocate(Math.max(64, bytes(rows, cols)), arena);
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
   * @param matrix the operand, of floats or bfloat16; use {@link Matrix#transposed} for the
   *     transpose of what is stored
   * @return the packed operand
   */
  public static Int8Matrix of(Arena arena, MatrixView matrix) {
    Checks.readable("matrix", matrix);
    Int8Matrix packed = new Int8Matrix(arena, matrix.rows(), matrix.cols());
    packed.pack(matrix);
    return packed;
  }

  /**
   * Bytes that a packed matrix takes.
   *
   * @param rows rows of the operand
   * @param cols columns of the operand
   * @return bytes, 17 for 16 elements, with rows in whole 64s and columns in whole 16s
   */
  public static long bytes(int rows, int cols) {
    if (rows < 0 || cols < 0) {
      throw new IllegalArgumentException("negative shape: " + rows + " x " + cols);
    }
    return (long) panels(cols) * chunks(rows) * CHUNK_BYTES;
  }

  /**
   * Packs a matrix in place of what was packed before.
   *
   * @param matrix the operand, of this object's shape
   * @throws IllegalArgumentException if the shape differs or a segment cannot be used
   */
  public void pack(MatrixView matrix) {
    Checks.readable("matrix", matrix);
    if (matrix.rows() != rows || matrix.cols() != cols) {
      throw new IllegalArgumentException(
          String.format(
              Locale.ROOT,
              "matrix is %d x %d but the packed one is %d x %d",
              matrix.rows(),
              matrix.cols(),
              rows,
              cols));
    }
    int bytes = matrix.type().bytes();
    long extent = Gemm.extent(rows, cols, matrix.stride(), matrix.isTransposed());
    Checks.writable("packed matrix", segment, 0, 0);
    Checks.disjoint(
        "packed matrix",
        segment,
        0,
        segment.byteSize(),
        1,
        "matrix",
        matrix.segment(),
        matrix.offset(),
        extent,
        bytes);
    if (Staging.needed(matrix.segment())) {
      try (var staging = new Staging()) {
        run(matrix, staging.input(matrix.segment(), matrix.offset() * bytes, extent * bytes), 0);
      }
    } else {
      run(matrix, matrix.segment(), matrix.offset() * bytes);
    }
  }

  private void run(MatrixView matrix, MemorySegment from, long at) {
    int bytes = matrix.type().bytes();
    long stride = matrix.stride() * bytes;
    Job job = JOBS.take();
    job.target = this;
    job.from = from;
    job.at = at;
    job.rowStep = matrix.isTransposed() ? bytes : stride;
    job.colStep = matrix.isTransposed() ? stride : bytes;
    job.isHalf = matrix.type() == ElementType.BFLOAT16;
    try {
      Workers.parallel(panels(cols), job);
    } finally {
      job.target = null;
      job.from = null;
      JOBS.give(job);
    }
  }

  /** The scale of elements whose largest magnitude is given; it may be infinite or NaN. */
  private static short scale(float largest) {
    if (largest < Int8Kernel.LEAST) {
      return 0;
    }
    short scale = Float.floatToFloat16(largest / LARGEST);
    if (Float.float16ToFloat(scale) * LARGEST < largest) {
      // The next larger one, of numbers that are not negative.
      scale++;
    }
    return Float.isFinite(Float.float16ToFloat(scale)) ? scale : NAN;
  }

  /** Panels of some columns. */
  static int panels(int cols) {
    return cols / COLS + (cols % COLS == 0 ? 0 : 1);
  }

  /** Byte offset of a panel. */
  long panel(int panel) {
    return panel * panelBytes();
  }

  private long panelBytes() {
    return (long) chunks(rows) * CHUNK_BYTES;
  }
}
