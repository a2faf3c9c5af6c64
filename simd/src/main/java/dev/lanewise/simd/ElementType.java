package dev.lanewise.simd;

/** How the elements of a matrix are stored. */
public enum ElementType {
  /** IEEE 754 binary32. */
  FLOAT32(Float.BYTES),
  /** The upper half of a binary32. */
  BFLOAT16(Short.BYTES);

  private final int bytes;

  ElementType(int bytes) {
    this.bytes = bytes;
  }

  /**
   * The size of an element.
   *
   * @return bytes
   */
  public int bytes() {
    return bytes;
  }
}
