package dev.lanewise.core.format;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.Objects;

/**
 * A tensor as it lies in a file: row-major, without gaps, little-endian.
 *
 * @param type type of the elements
 * @param shape sizes, outermost first; empty for a single number
 * @param data exactly the bytes of the elements; may be a part of a mapped file and read-only
 */
public record StoredTensor(ElementType type, long[] shape, MemorySegment data) {
  private static final ValueLayout.OfFloat FLOAT =
      ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
  private static final ValueLayout.OfDouble DOUBLE =
      ValueLayout.JAVA_DOUBLE_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
  private static final ValueLayout.OfShort SHORT =
      ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
  private static final ValueLayout.OfInt INT =
      ValueLayout.JAVA_INT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
  private static final ValueLayout.OfLong LONG =
      ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  /**
   * Checks that shape and data fit each other.
   *
   * @throws IllegalArgumentException if a size is negative or the data is of another size
   */
  public StoredTensor {
    Objects.requireNonNull(type, "type");
    shape = shape.clone();
    long bytes = byteSize(type, shape);
    if (bytes != data.byteSize()) {
      throw new IllegalArgumentException(
          "A tensor "
              + type
              + Arrays.toString(shape)
              + " takes "
              + bytes
              + " bytes, but its data has "
              + data.byteSize()
              + ".");
    }
  }

  /** A float32 tensor over the given data. */
  public static StoredTensor float32(MemorySegment data, long... shape) {
    return new StoredTensor(ElementType.F32, shape, data);
  }

  /** The sizes, outermost first, as a fresh array. */
  @Override
  public long[] shape() {
    return shape.clone();
  }

  /** Number of elements. */
  public long elements() {
    return data.byteSize() / type.blockBytes() * type.blockElements();
  }

  /**
   * Copies the elements to float32, rounding doubles to nearest and widening quantised numbers.
   *
   * @param out as many float32 elements as the tensor has
   * @throws IllegalArgumentException if the sizes differ or the type is neither floating point of
   *     16 bits or more, nor quantised
   */
  public void copyToFloat32(MemorySegment out) {
    if (out.byteSize() / Float.BYTES != elements() || out.byteSize() % Float.BYTES != 0) {
      throw new IllegalArgumentException(
          "A tensor of "
              + elements()
              + " elements cannot be copied to "
              + out.byteSize()
              + " bytes of float32.");
    }
    copyToFloat32(0, out, elements());
  }

  /** Copies {@code count} elements from the given one on; whole blocks of quantised ones. */
  void copyToFloat32(long from, MemorySegment out, long count) {
    ValueLayout.OfFloat target = ValueLayout.JAVA_FLOAT_UNALIGNED;
    switch (type) {
      case F32 -> MemorySegment.copy(data, FLOAT, from * Float.BYTES, out, target, 0, count);
      case F16 -> {
        for (long i = 0; i < count; i++) {
          float value = Float.float16ToFloat(data.get(SHORT, (from + i) * 2));
          out.set(target, i * Float.BYTES, value);
        }
      }
      case BF16 -> {
        for (long i = 0; i < count; i++) {
          float value = Float.intBitsToFloat(data.get(SHORT, (from + i) * 2) << 16);
          out.set(target, i * Float.BYTES, value);
        }
      }
      case F64 -> {
        for (long i = 0; i < count; i++) {
          out.set(target, i * Float.BYTES, (float) data.get(DOUBLE, (from + i) * 8));
        }
      }
      case Q8_0, Q4_0 -> Quantised.widen(type, data, from, out, count);
      default -> throw notANumber("a floating point number");
    }
  }

  /**
   * This tensor with elements of another type, rounded to nearest.
   *
   * @param wanted {@code F32}, {@code F16} or {@code BF16}
   * @param arena owns the new elements; they are this tensor's own where the type is the same
   */
  StoredTensor as(ElementType wanted, Arena arena) {
    if (wanted == type) {
      return this;
    }
    MemorySegment out = arena.allocate(wanted.bytes(elements()), Long.BYTES);
    int step = 1 << 18;
    MemorySegment floats = arena.allocate(4L * Math.min(step, elements()), Long.BYTES);
    for (long at = 0; at < elements(); at += step) {
      int part = (int) Math.min(step, elements() - at);
      copyToFloat32(at, floats, part);
      Segments.narrow(floats, part, wanted);
      MemorySegment.copy(floats, 0, out, wanted.bytes(at), wanted.bytes(part));
    }
    return new StoredTensor(wanted, shape, out);
  }

  /** The elements as float32, in the same order; see {@link #copyToFloat32}. */
  public float[] toFloats() {
    float[] out = new float[length()];
    copyToFloat32(MemorySegment.ofArray(out));
    return out;
  }

  /**
   * The elements as doubles, in the same order.
   *
   * @throws IllegalArgumentException if the type is 8 bit floating point or quantised
   */
  public double[] toDoubles() {
    double[] out = new double[length()];
    for (int i = 0; i < out.length; i++) {
      out[i] = asDouble(i);
    }
    return out;
  }

  /**
   * The elements as integers, in the same order.
   *
   * @throws IllegalArgumentException if the type is not an integer or BOOL, or an unsigned number
   *     of 64 bits is larger than a long holds; {@link #toDoubles} gives it, rounded
   */
  public long[] toLongs() {
    long[] out = new long[length()];
    for (int i = 0; i < out.length; i++) {
      out[i] = asLong(i);
    }
    return out;
  }

  private double asDouble(long i) {
    return switch (type) {
      case F32 -> data.get(FLOAT, i * 4);
      case F64 -> data.get(DOUBLE, i * 8);
      case F16 -> Float.float16ToFloat(data.get(SHORT, i * 2));
      case BF16 -> Float.intBitsToFloat(data.get(SHORT, i * 2) << 16);
      case F8_E4M3, F8_E5M2, Q8_0, Q4_0 -> throw notANumber("a number that Lanewise computes with");
      case U64 -> unsigned(data.get(LONG, i * 8));
      default -> asLong(i);
    };
  }

  /**
   * An unsigned number, rounded to nearest: halved it fits, with what is lost kept as a last bit.
   */
  private static double unsigned(long bits) {
    return bits >= 0 ? bits : (double) (bits >>> 1 | bits & 1) * 2;
  }

  private long asUnsigned(long i) {
    long bits = data.get(LONG, i * 8);
    if (bits < 0) {
      throw new IllegalArgumentException(
          "Element "
              + i
              + ", "
              + Long.toUnsignedString(bits)
              + ", is larger than a long holds; use toDoubles.");
    }
    return bits;
  }

  private long asLong(long i) {
    return switch (type) {
      case I64 -> data.get(LONG, i * 8);
      case U64 -> asUnsigned(i);
      case I32 -> data.get(INT, i * 4);
      case U32 -> data.get(INT, i * 4) & 0xffffffffL;
      case I16 -> data.get(SHORT, i * 2);
      case U16 -> data.get(SHORT, i * 2) & 0xffffL;
      case I8 -> data.get(ValueLayout.JAVA_BYTE, i);
      case U8, BOOL -> data.get(ValueLayout.JAVA_BYTE, i) & 0xffL;
      default -> throw notANumber("an integer");
    };
  }

  private int length() {
    if (elements() > Integer.MAX_VALUE - 8) {
      throw new IllegalArgumentException(
          elements() + " elements do not fit a Java array; use copyToFloat32.");
    }
    return (int) elements();
  }

  private IllegalArgumentException notANumber(String wanted) {
    return new IllegalArgumentException("The element type " + type + " is not " + wanted + ".");
  }

  /**
   * Bytes of a tensor; throws IllegalArgumentException for a negative size, beyond 2^63, or rows
   * that are not whole blocks.
   */
  static long byteSize(ElementType type, long[] shape) {
    if (type.quantised()
        && (shape.length == 0 || shape[shape.length - 1] % type.blockElements() != 0)) {
      throw new IllegalArgumentException(
          "Rows of " + Arrays.toString(shape) + " are not whole blocks of " + type + ".");
    }
    try {
      long elements = 1;
      for (long size : shape) {
        if (size < 0) {
          throw new IllegalArgumentException(
              "A size in " + Arrays.toString(shape) + " is negative.");
        }
        elements = Math.multiplyExact(elements, size);
      }
      return type.bytes(elements);
    } catch (ArithmeticException e) {
      throw new IllegalArgumentException(
          "A tensor " + Arrays.toString(shape) + " has more than 2^63 bytes.", e);
    }
  }

  @Override
  public boolean equals(Object other) {
    return other instanceof StoredTensor that
        && type == that.type
        && Arrays.equals(shape, that.shape)
        && data.mismatch(that.data) == -1;
  }

  @Override
  public int hashCode() {
    return 31 * type.hashCode() + Arrays.hashCode(shape);
  }

  @Override
  public String toString() {
    return type + Arrays.toString(shape);
  }
}
