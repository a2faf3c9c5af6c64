package dev.lanewise.core.backend;

import java.util.Objects;

/**
 * Elements of one type in one device's memory. A buffer made by {@link Backend#allocate} owns its
 * memory; its views share it and live as long.
 */
public abstract class Buffer {
  private final DType type;
  private final long length;

  /**
   * For backends.
   *
   * @param type element type
   * @param length number of elements
   */
  protected Buffer(DType type, long length) {
    this.type = Objects.requireNonNull(type);
    if (length < 0) {
      throw new IllegalArgumentException("negative buffer length " + length);
    }
    this.length = length;
  }

  /** Element type. */
  public final DType type() {
    return type;
  }

  /** Number of elements. */
  public final long length() {
    return length;
  }

  /** Size in bytes. */
  public final long byteSize() {
    return length * type.bytes;
  }

  /**
   * A part of this buffer, under any element type.
   *
   * @param as element type of the view
   * @param byteOffset first byte, a multiple of the element size
   * @param count number of elements
   * @return a view that shares this buffer's memory
   * @throws IllegalArgumentException if the view reaches past the buffer or is misaligned
   */
  public final Buffer view(DType as, long byteOffset, long count) {
    if (byteOffset < 0
        || count < 0
        || byteOffset % as.bytes != 0
        || count > (byteSize() - byteOffset) / as.bytes) {
      throw new IllegalArgumentException(
          count + " x " + as + " at byte " + byteOffset + " of a buffer of " + byteSize());
    }
    return newView(as, byteOffset, count);
  }

  /**
   * A run of elements.
   *
   * @param from first element
   * @param count number of elements
   * @return a view of the same type
   */
  public final Buffer slice(long from, long count) {
    return view(type, from * type.bytes, count);
  }

  /** Makes a view; the arguments have been checked. */
  protected abstract Buffer newView(DType as, long byteOffset, long count);
}
