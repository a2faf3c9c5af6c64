package dev.lanewise.core.backend.cuda;

import dev.lanewise.core.backend.Buffer;
import dev.lanewise.core.backend.DType;

/** A part of a {@link CudaMemory.Allocation}. */
final class CudaBuffer extends Buffer {
  final CudaMemory.Allocation allocation;
  final long byteOffset;

  CudaBuffer(CudaMemory.Allocation allocation, DType type, long byteOffset, long length) {
    super(type, length);
    this.allocation = allocation;
    this.byteOffset = byteOffset;
  }

  long address() {
    return allocation.address() + byteOffset;
  }

  @Override
  protected Buffer newView(DType as, long offset, long count) {
    return new CudaBuffer(allocation, as, byteOffset + offset, count);
  }
}
