package dev.lanewise.core.format;

/**
 * Types of the elements of stored tensors. Plain ones have the names of the safetensors format and
 * its order (by alignment, smallest first); blocks of quantised numbers follow, as GGUF has them.
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
  U64(8),
  /** 32 numbers as a half precision scale and signed bytes, {@code scale * byte}. */
  Q8_0(32, 34),
  /**
   * 32 numbers as a half precision scale and 4 bits each, {@code scale * (bits - 8)}: the low bits
   * of 16 bytes are the first half, the high bits the second.
   */
  Q4_0(32, 18);

  private final int blockElements;
  private final int blockBytes;

  ElementType(int bytes) {
    this(1, bytes);
  }

  ElementType(int blockElements, int blockBytes) {
    this.blockElements = blockElements;
    this.blockBytes = blockBytes;
  }

  /** Whether elements come in blocks of several that share something. */
  public boolean quantised() {
    return blockElements > 1;
  }

  /** Elements that are stored together: 1 but for blocks, of which a row must be a multiple. */
  public int blockElements() {
    return blockElements;
  }

  /** Bytes of elements that are stored together. */
  public int blockBytes() {
    return blockBytes;
  }

  /**
   * Bytes per element.
   *
   * @throws IllegalStateException if elements come in blocks
   */
  public int bytes() {
    if (quantised()) {
      throw new IllegalStateException(this + " has no whole bytes per element.");
    }
    return blockBytes;
  }

  /**
   * Bytes of that many elements.
   *
   * @param elements a multiple of {@link #blockElements}
   * @throws ArithmeticException beyond 2^63 bytes
   */
  public long bytes(long elements) {
    return Math.multiplyExact(elements / blockElements, (long) blockBytes);
  }
}
