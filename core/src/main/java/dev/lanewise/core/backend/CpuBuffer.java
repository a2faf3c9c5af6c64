package dev.lanewise.core.backend;

import dev.lanewise.simd.Indices;
import dev.lanewise.simd.Matrix;
import java.lang.foreign.MemorySegment;

/** A buffer in the process's own memory. */
public final class CpuBuffer extends Buffer {
  private final MemorySegment segment;
  private Matrix matrix;
  private Indices indices;

  /**
   * A buffer over all of a segment.
   *
   * @param type element type
   * @param segment native memory, aligned to the element size, whose size is a whole number of
   *     elements
   */
  public CpuBuffer(DType type, MemorySegment segment) {
    super(type, segment.byteSize() / type.bytes);
    this.segment = segment;
  }

  /** The memory, exactly as long as the buffer. */
  public MemorySegment segment() {
    return segment;
  }

  /** The first elements as a matrix; the view of the last call is kept and used again. */
  Matrix matrix(int rows, int cols) {
    Matrix view = matrix;
    if (view == null || view.rows() != rows || view.cols() != cols) {
      view = new Matrix(segment, rows, cols);
      matrix = view;
    }
    return view;
  }

  /** All elements as indices. */
  Indices indices() {
    if (indices == null) {
      indices = Indices.ofInts(segment, length());
    }
    return indices;
  }

  @Override
  protected Buffer newView(DType as, long byteOffset, long count) {
    return new CpuBuffer(as, segment.asSlice(byteOffset, count * as.bytes));
  }
}
