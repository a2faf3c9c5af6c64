package dev.lanewise.core.backend;

/** Element types of a {@link Buffer}. */
public enum DType {
  FLOAT32(4),
  BFLOAT16(2),
  INT32(4),
  UINT8(1);

  /** Size of one element in bytes. */
  public final int bytes;

  DType(int bytes) {
    this.bytes = bytes;
  }
}
