package dev.lanewise.core.format;

/**
 * Types of the elements of stored tensors, under the names of the safetensors format and in its
 * order (by alignment, smallest first).
 */
public enum ElementType {
  /** A byte that is 0 or 1. */
  BOOL(1),
  /** Unsigned 8 bit integer. */
  U8(1),
  /** Signed 8 bit integer. */
  I8(1),
  /** 8 bit floating point, 5 bits of exponent. */
  F8_E5M2(1),
  /** 8 bit floating point, 4 bits of exponent. */
  F8_E4M3(1),
  /** Signed 16 bit integer. */
  I16(2),
  /** Unsigned 16 bit integer. */
  U16(2),
  /** IEEE half precision. */
  F16(2),
  /** The upper half of a float32. */
  BF16(2),
  /** Signed 32 bit integer. */
  I32(4),
  /** Unsigned 32 bit integer. */
  U32(4),
  /** IEEE single precision. */
  F32(4),
  /** IEEE double precision. */
  F64(8),
  /** Signed 64 bit integer. */
  I64(8),
  /** Unsigned 64 bit integer. */
  U64(8);

  private final int bytes;

  ElementType(int bytes) {
    this.bytes = bytes;
  }

  /** Bytes per element. */
  public int bytes() {
    return bytes;
  }
}
