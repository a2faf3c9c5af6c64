package dev.lanewise.simd;

import java.lang.foreign.MemorySegment;

/**
 * A view of a row-major matrix of bfloat16 inside a segment.
 *
 * <p>Element {@code (i, j)} lies at element {@code offset + i * stride + j} of the segment, two
 * bytes each, or, when {@code isTransposed}, at {@code offset + j * stride + i}. A view owns
 * nothing and is cheap; keep it and use it again.
 *
 * @param segment memory that holds the elements; native or an array, at any alignment
 * @param offset first element of the view, counted in elements from the segment's start
 * @param rows number of rows of the view
 * @param cols number of columns of the view
 * @param stride distance in elements between two stored rows
 * @param isTransposed whether the view is the transpose of what is stored
 */
public record Bfloat16Matrix(
    MemorySegment segment, long offset, int rows, int cols, long stride, boolean isTransposed)
    implements MatrixView {

  /**
   * Checks the view against its segment.
   *
   * @throws IllegalArgumentException if a dimension is negative, the stride is shorter than a
   *     stored row, or the view reaches past the segment
   */
  public Bfloat16Matrix {
    Matrix.check(segment, offset, rows, cols, stride, isTransposed, ElementType.BFLOAT16);
  }

  /**
   * A matrix whose rows lie stride elements apart from the start of a segment.
   *
   * @param segment memory of at least {@code (rows - 1) * stride + cols} elements
   * @param rows number of rows
   * @param cols number of columns
   * @param stride distance in elements between rows
   */
  public Bfloat16Matrix(MemorySegment segment, int rows, int cols, long stride) {
    this(segment, 0, rows, cols, stride, false);
  }

  /**
   * A dense matrix at the start of a segment.
   *
   * @param segment memory of at least {@code rows * cols} elements
   * @param rows number of rows
   * @param cols number of columns
   */
  public Bfloat16Matrix(MemorySegment segment, int rows, int cols) {
    this(segment, 0, rows, cols, cols, false);
  }

  @Override
  public ElementType type() {
    return ElementType.BFLOAT16;
  }

  /**
   * The transpose, without moving anything.
   *
   * @return a view of shape {@code [cols, rows]}
   */
  public Bfloat16Matrix transposed() {
    return new Bfloat16Matrix(segment, offset, cols, rows, stride, !isTransposed);
  }
}
