package dev.lanewise.simd;

import java.lang.foreign.MemorySegment;

/** A view of a row-major matrix of floats or of bfloat16; offsets and strides count elements. */
public sealed interface MatrixView permits Matrix, Bfloat16Matrix {
  /**
   * How elements are stored.
   *
   * @return the type
   */
  ElementType type();

  /**
   * Memory that holds the elements.
   *
   * @return the segment
   */
  MemorySegment segment();

  /**
   * First element of the view.
   *
   * @return elements from the segment's start
   */
  long offset();

  /**
   * Number of rows of the view.
   *
   * @return rows
   */
  int rows();

  /**
   * Number of columns of the view.
   *
   * @return columns
   */
  int cols();

  /**
   * Distance between two stored rows.
   *
   * @return elements
   */
  long stride();

  /**
   * Whether the view is the transpose of what is stored.
   *
   * @return whether it is
   */
  boolean isTransposed();
}
