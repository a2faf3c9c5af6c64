package dev.lanewise.core.backend;

import java.lang.foreign.MemorySegment;

/** A buffer in the process's own memory. */
public final class CpuBuffer extends Buffer {
  private final MemorySegment segment;

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

  @Override
  protected Buffer newView(DType as, long byteOffset, long count) {
    return new CpuBuffer(as, segment.asSlice(byteOffset, count * as.bytes));
  }
}
