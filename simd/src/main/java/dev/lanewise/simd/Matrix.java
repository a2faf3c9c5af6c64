package dev.lanewise.simd;

import java.lang.foreign.MemorySegment;

/**
 * A view of a row-major float matrix inside a segment.
 *
 * <p>Element {@code (i, j)} lies at element {@code offset + i * stride + j} of the segment, or,
 * when {@code isTransposed}, at {@code offset + j * stride + i}. A view owns nothing and is cheap;
 * keep it and use it again.
 *
 * @param segment memory that holds the elements; native or a float array, at any alignment
 * @param offset first element of the view, counted in floats from the segment's start
 * @param rows number of rows of the view
 * @param cols number of columns of the view
 * @param stride distance in floats between two stored rows (BLAS calls it leading dimension)
 * @param isTransposed whether the view is the transpose of what is stored
 */
public record Matrix(
    MemorySegment segment, long offset, int rows, int cols, long stride, boolean isTransposed)
    implements MatrixView {

  /**
   * Checks the view against its segment.
   *
   * @throws IllegalArgumentException if a dimension is negative, the stride is shorter than a
   *     stored row, or the view reaches past the segment
   */
  public Matrix {
    check(segment, offset, rows, cols, stride, isTransposed, ElementType.FLOAT32);
  }

  static void check(
      MemorySegment segment,
      long offset,
      int rows,
      int cols,
      long stride,
      boolean isTransposed,
      ElementType type) {
    if (segment == null) {
      throw new IllegalArgumentException("segment is null");
    }
    int storedRows = isTransposed ? cols : rows;
    int storedCols = isTransposed ? rows : cols;
    if (rows < 0 || cols < 0 || offset < 0) {
      throw new IllegalArgumentException(
          "negative shape or offset: " + rows + " x " + cols + " at " + offset);
    }
    if (stride < storedCols) {
      throw new IllegalArgumentException(
          "stride " + stride + " is shorter than a stored row of " + storedCols);
    }
    Checks.arrayOf("segment", segment, type.bytes());
    if (type == ElementType.FLOAT32) {
      Checks.arrayOfFloats("segment", segment);
    }
    if (storedRows > 0 && storedCols > 0) {
      long room = segment.byteSize() / type.bytes() - offset - storedCols;
      if (room < 0 || (stride > 0 && room / stride < storedRows - 1)) {
        throw new IllegalArgumentException(
            rows
                + " x "
                + cols
                + " matrix of stride "
                + stride
                + " at element "
                + offset
                + " does not fit in a segment of "
                + segment.byteSize() / type.bytes()
                + (type == ElementType.FLOAT32 ? " floats" : " bfloat16"));
      }
    }
  }

  @Override
  public ElementType type() {
    return ElementType.FLOAT32;
  }

  /**
   * A matrix whose rows lie stride floats apart from the start of a segment.
   *
   * @param segment memory of at least {@code (rows - 1) * stride + cols} floats
   * @param rows number of rows
   * @param cols number of columns
   * @param stride distance in floats between rows
   */
  public Matrix(MemorySegment segment, int rows, int cols, long stride) {
    this(segment, 0, rows, cols, stride, false);
  }

  /**
   * A dense matrix at the start of a segment.
   *
   * @param segment memory of at least {@code rows * cols} floats
   * @param rows number of rows
   * @param cols number of columns
   */
  public Matrix(MemorySegment segment, int rows, int cols) {
    this(segment, 0, rows, cols, cols, false);
  }

  /**
   * The transpose, without moving anything.
   *
   * @return a view of shape {@code [cols, rows]}
   */
  public Matrix transposed() {
    return new Matrix(segment, offset, cols, rows, stride, !isTransposed);
  }

  /**
   * A block of rows.
   *
   * @param from first row
   * @param to row after the last
   * @return a view of shape {@code [to - from, cols]}
   */
  public Matrix rows(int from, int to) {
    if (from < 0 || to < from || to > rows) {
      throw new IllegalArgumentException("rows " + from + " to " + to + " of " + rows);
    }
    return new Matrix(
        segment,
        offset + (isTransposed ? from : from * stride),
        to - from,
        cols,
        stride,
        isTransposed);
  }

  /**
   * A block of columns.
   *
   * @param from first column
   * @param to column after the last
   * @return a view of shape {@code [rows, to - from]}
   */
  public Matrix cols(int from, int to) {
    if (from < 0 || to < from || to > cols) {
      throw new IllegalArgumentException("columns " + from + " to " + to + " of " + cols);
    }
    return new Matrix(
        segment,
        offset + (isTransposed ? from * stride : from),
        rows,
        to - from,
        stride,
        isTransposed);
  }
}
