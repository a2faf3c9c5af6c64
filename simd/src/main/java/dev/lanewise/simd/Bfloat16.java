package dev.lanewise.simd;

import static dev.lanewise.simd.Machine.F;
import static dev.lanewise.simd.Machine.I;
import static dev.lanewise.simd.Machine.LANES;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.ShortVector;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorShape;
import jdk.incubator.vector.VectorSpecies;

/**
 * Conversion between float and bfloat16, the upper half of a float.
 *
 * <p>To bfloat16 rounds to the nearest, ties to even; too large becomes infinite and NaN stays NaN,
 * made quiet. A wrong call gives an {@link IllegalArgumentException} before anything is written.
 */
public final class Bfloat16 {
  /** As many shorts as a vector has floats. */
  private static final VectorSpecies<Short> HALF =
      VectorSpecies.of(short.class, VectorShape.forBitSize(Machine.VECTOR_BYTES * 4));

  private static final ByteOrder ORDER = ByteOrder.nativeOrder();
  private static final ValueLayout.OfShort BITS = ValueLayout.JAVA_SHORT_UNALIGNED;
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;

  private Bfloat16() {}

  /**
   * Rounds floats to bfloat16.
   *
   * @param x {@code n} floats from {@code xOffset}
   * @param xOffset first float of {@code x}
   * @param y {@code n} bfloat16 of two bytes from {@code yOffset}
   * @param yOffset first bfloat16 of {@code y}
   * @param n number of elements
   */
  public static void fromFloat(
      MemorySegment x, long xOffset, MemorySegment y, long yOffset, long n) {
    fromFloat(x, xOffset, n, y, yOffset, n, 1, n);
  }

  /**
   * Rounds a matrix of floats to one of bfloat16.
   *
   * @param x floats, not transposed
   * @param y bfloat16 of the same shape, not transposed
   */
  public static void fromFloat(Matrix x, Bfloat16Matrix y) {
    checkShapes(x, y);
    fromFloat(
        x.segment(),
        x.offset(),
        x.stride(),
        y.segment(),
        y.offset(),
        y.stride(),
        x.rows(),
        x.cols());
  }

  static void fromFloat(
      MemorySegment x,
      long xOffset,
      long xStride,
      MemorySegment y,
      long yOffset,
      long yStride,
      long rows,
      long cols) {
    try (Call call = Call.take()) {
      call.input("x", x, xOffset, rows, cols, xStride);
      call.typed("y", y, yOffset, rows, cols, yStride, Short.BYTES, true);
      call.spans(rows, cols, Bfloat16::round);
    }
  }

  private static void checkShapes(MatrixView x, MatrixView y) {
    Checks.readable("x", x);
    Checks.writable("y", y);
    if (x.rows() != y.rows() || x.cols() != y.cols() || x.isTransposed() || y.isTransposed()) {
      throw new IllegalArgumentException(
          "x is "
              + x.rows()
              + " x "
              + x.cols()
              + " and y "
              + y.rows()
              + " x "
              + y.cols()
              + ": they must be of one shape, neither transposed");
    }
  }

  /**
   * Widens bfloat16 to floats, exactly.
   *
   * @param x {@code n} bfloat16 of two bytes from {@code xOffset}
   * @param xOffset first bfloat16 of {@code x}
   * @param y {@code n} floats from {@code yOffset}
   * @param yOffset first float of {@code y}
   * @param n number of elements
   */
  public static void toFloat(MemorySegment x, long xOffset, MemorySegment y, long yOffset, long n) {
    toFloat(x, xOffset, n, y, yOffset, n, 1, n);
  }

  /**
   * Widens a matrix of bfloat16 to one of floats, exactly.
   *
   * @param x bfloat16, not transposed
   * @param y floats of the same shape, not transposed
   */
  public static void toFloat(Bfloat16Matrix x, Matrix y) {
    checkShapes(x, y);
    toFloat(
        x.segment(),
        x.offset(),
        x.stride(),
        y.segment(),
        y.offset(),
        y.stride(),
        x.rows(),
        x.cols());
  }

  static void toFloat(
      MemorySegment x,
      long xOffset,
      long xStride,
      MemorySegment y,
      long yOffset,
      long yStride,
      long rows,
      long cols) {
    try (Call call = Call.take()) {
      call.typed("x", x, xOffset, rows, cols, xStride, Short.BYTES, false);
      call.output("y", y, yOffset, rows, cols, yStride);
      call.spans(rows, cols, Bfloat16::widen);
    }
  }

  /**
   * Rounds one float to bfloat16.
   *
   * @param x a float
   * @return its nearest bfloat16
   */
  public static short fromFloat(float x) {
    int bits = Float.floatToRawIntBits(x);
    if (Float.isNaN(x)) {
      return (short) (bits >>> 16 | 0x40);
    }
    return (short) (bits + 0x7fff + (bits >>> 16 & 1) >>> 16);
  }

  /**
   * Widens one bfloat16.
   *
   * @param x a bfloat16
   * @return the same number as a float
   */
  public static float toFloat(short x) {
    return Float.intBitsToFloat(x << 16);
  }

  private static void round(Call call, long row, long col, int n) {
    MemorySegment x = Native.known(call.segment[0]);
    MemorySegment y = Native.known(call.segment[1]);
    long xAt = call.at(0, row, col);
    long yAt = call.at(1, row, col);
    for (int i = 0; i < n; i += LANES) {
      long at = (long) i * Float.BYTES;
      FloatVector v = FloatVector.fromMemorySegment(F, x, xAt + at, ORDER);
      IntVector bits = v.reinterpretAsInts();
      IntVector top = bits.lanewise(VectorOperators.LSHR, 16);
      IntVector rounded = bits.add(0x7fff).add(top.and(1)).lanewise(VectorOperators.LSHR, 16);
      rounded = rounded.blend(top.or(0x40), v.test(VectorOperators.IS_NAN).cast(I));
      rounded
          .convertShape(VectorOperators.I2S, HALF, 0)
          .reinterpretAsShorts()
          .intoMemorySegment(y, yAt + at / 2, ORDER);
    }
  }

  private static void widen(Call call, long row, long col, int n) {
    widenVectors(call.segment[0], call.at(0, row, col), call.segment[1], call.at(1, row, col), n);
  }

  /** Widens {@code n} bfloat16 of native memory; places are in bytes. */
  static void widen(MemorySegment x, long xAt, MemorySegment y, long yAt, int n) {
    int whole = n - n % LANES;
    widenVectors(x, xAt, y, yAt, whole);
    for (int i = whole; i < n; i++) {
      short bits = x.get(BITS, xAt + (long) i * Short.BYTES);
      y.set(FLOAT, yAt + (long) i * Float.BYTES, toFloat(bits));
    }
  }

  private static void widenVectors(MemorySegment x, long xAt, MemorySegment y, long yAt, int n) {
    x = Native.known(x);
    y = Native.known(y);
    for (int i = 0; i < n; i += LANES) {
      long at = (long) i * Float.BYTES;
      ((IntVector)
              ShortVector.fromMemorySegment(HALF, x, xAt + at / 2, ORDER)
                  .convertShape(VectorOperators.ZERO_EXTEND_S2I, I, 0))
          .lanewise(VectorOperators.LSHL, 16)
          .reinterpretAsFloats()
          .intoMemorySegment(y, yAt + at, ORDER);
    }
  }
}
