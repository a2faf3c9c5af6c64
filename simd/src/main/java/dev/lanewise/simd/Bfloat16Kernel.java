package dev.lanewise.simd;

import dev.lanewise.simd.machinecode.MachineCode;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorSpecies;

/**
 * Tiles of {@link Bfloat16Gemm}, of the shape that {@link MicroKernel} has, whose elements are
 * pairs of bfloat16. They run as machine code where there is any and else in Java, with the same
 * bits.
 *
 * <p>The sum of an element follows the instruction VDPBF16PS: for each pair the product of the
 * later elements is added, then that of the earlier, each with one rounding to the nearest float.
 * An operand or a sum too small for a normal float counts as a zero of its sign; whether a sum is
 * too small is decided as if the exponent had no bounds, after rounding to 24 bits.
 *
 * <p>Java has no such rounding at a vector's speed, but seldom needs it. All numbers are multiples
 * of the smallest units of A and B, and so is every sum, rounded or not: if the product of those
 * units is a normal float, no sum but zero is smaller. {@link #isPlain} looks at the operands,
 * which is little work beside multiplying them, and then plain multiplication and addition do.
 */
final class Bfloat16Kernel {
  private static final VectorSpecies<Float> F = Machine.F;
  private static final VectorSpecies<Integer> I = Machine.I;
  private static final int LANES = Machine.LANES;
  private static final long V = Machine.VECTOR_BYTES;
  private static final ByteOrder ORDER = ByteOrder.nativeOrder();
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;
  private static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT_UNALIGNED;
  private static final int ROWS = MicroKernel.ROWS;
  private static final int UPPER = 0xffff0000;
  private static final int MAGNITUDE = 0x7fff0000;

  /** Of two exponents, biased by 127, whose units of 8 bits multiply to a normal float. */
  private static final int NORMAL = 2 * (127 + 7) - 126;

  /** What an operand without a number other than zero has for an exponent. */
  private static final int NO_EXPONENT = 1 << 10;

  /** Sums that round to the smallest normal float only because those below are further apart. */
  private static final double SMALLEST = 0x1p-126 - 0x1p-151;

  private static final boolean HAS_MACHINE_CODE =
      Machine.vectorBits() == 512 && MachineCode.hasBfloat16();

  /** Not final, so that tests can compare the two ways. */
  private static boolean usesMachineCode = HAS_MACHINE_CODE;

  private Bfloat16Kernel() {}

  /** Whether tiles run as machine code. */
  static boolean usesMachineCode() {
    return usesMachineCode;
  }

  /** Chooses the way, for tests; without machine code there is no choice. */
  static void useMachineCode(boolean wanted) {
    usesMachineCode = wanted && HAS_MACHINE_CODE;
  }

  /**
   * Computes a whole tile, {@code C = alpha A B + beta C}; with {@code beta} 0 C is not read.
   *
   * @param cols columns of the tile and of B's panel
   * @param aRow distance of A's rows, of {@code depth} pairs each
   * @param depth pairs
   * @param isPlain what {@link #isPlain} said, of no interest to machine code
   * @param temp room for a tile
   */
  static void multiply(
      int cols,
      MemorySegment a,
      long aAt,
      long aRow,
      MemorySegment b,
      long bAt,
      int depth,
      MemorySegment c,
      long cAt,
      long cStride,
      float alpha,
      float beta,
      boolean isPlain,
      MemorySegment temp) {
    if (usesMachineCode) {
      MachineCode.tiles(
          true,
          1,
          1,
          cols / LANES,
          a,
          aAt,
          aRow,
          b,
          bAt,
          depth,
          c,
          cAt,
          cStride,
          alpha,
          beta,
          null,
          0,
          null,
          0,
          0);
      return;
    }
    long row = 4L * cols;
    if (isPlain) {
      for (int j = 0; j < cols; j += 2 * LANES) {
        plain(a, aAt, aRow, b, bAt + 4L * j, row, depth, temp, 4L * j, row);
      }
    } else {
      exact(a, aAt, aRow, b, bAt, row, depth, temp, cols);
    }
    if (alpha != 1) {
      Packing.scale(temp, 0, (long) ROWS * cols, alpha);
    }
    Packing.merge(temp, 0, row, c, cAt, cStride, ROWS, cols, beta);
  }

  /** Whether two operands multiply as other floats do, by what {@link #smallest} said of them. */
  static boolean isPlain(int aSmallest, int bSmallest) {
    return aSmallest > 0 && bSmallest > 0 && aSmallest + bSmallest >= NORMAL;
  }

  /** The smallest biased exponent of all pairs but zeros, 0 if there are denormal numbers. */
  static int smallest(MemorySegment s, long at, int lines, long stride, int pairs) {
    s = Native.known(s);
    int whole = pairs - pairs % LANES;
    // One less, unsigned, makes zeros the largest.
    IntVector least = IntVector.broadcast(I, -1);
    int leastOfRest = -1;
    for (int i = 0; i < lines; i++) {
      long rowAt = at + i * stride;
      for (int j = 0; j < whole; j += LANES) {
        IntVector v = IntVector.fromMemorySegment(I, s, rowAt + 4L * j, ORDER);
        IntVector upper = v.and(MAGNITUDE).sub(1);
        IntVector lower = v.lanewise(VectorOperators.LSHL, 16).and(MAGNITUDE).sub(1);
        least = upper.lanewise(VectorOperators.UMIN, lower).lanewise(VectorOperators.UMIN, least);
      }
      for (int j = whole; j < pairs; j++) {
        int pair = s.get(INT, rowAt + 4L * j);
        leastOfRest = unsignedMin(leastOfRest, (pair & MAGNITUDE) - 1);
        leastOfRest = unsignedMin(leastOfRest, (pair << 16 & MAGNITUDE) - 1);
      }
    }
    for (int lane = 0; lane < LANES; lane++) {
      leastOfRest = unsignedMin(leastOfRest, least.lane(lane));
    }
    return leastOfRest == -1 ? NO_EXPONENT : leastOfRest + 1 >>> 23;
  }

  private static int unsignedMin(int a, int b) {
    return Integer.compareUnsigned(a, b) < 0 ? a : b;
  }

  private static void exact(
      MemorySegment a,
      long aAt,
      long aRow,
      MemorySegment b,
      long bAt,
      long bStep,
      int depth,
      MemorySegment to,
      int cols) {
    for (int i = 0; i < ROWS; i++) {
      for (int j = 0; j < cols; j++) {
        float sum = 0;
        for (int k = 0; k < depth; k++) {
          int x = a.get(INT, aAt + i * aRow + 4L * k);
          int y = b.get(INT, bAt + k * bStep + 4L * j);
          sum = add(x & UPPER, y & UPPER, sum);
          sum = add(x << 16, y << 16, sum);
        }
        to.set(FLOAT, 4L * (i * cols + j), sum);
      }
    }
  }

  private static float add(int xBits, int yBits, float sum) {
    float x = normal(Float.intBitsToFloat(xBits));
    float y = normal(Float.intBitsToFloat(yBits));
    float next = Math.fma(x, y, sum);
    boolean isTiny =
        Math.abs(next) == Float.MIN_NORMAL && Math.abs((double) x * y + sum) < SMALLEST;
    return isTiny ? Math.copySign(0, next) : normal(next);
  }

  private static float normal(float x) {
    return Math.abs(x) < Float.MIN_NORMAL ? Math.copySign(0, x) : x;
  }

  private static void plain(
      MemorySegment a,
      long aAt,
      long aRow,
      MemorySegment b,
      long bAt,
      long bStep,
      int depth,
      MemorySegment c,
      long cAt,
      long cStride) {
    a = Native.known(a);
    b = Native.known(b);
    c = Native.known(c);
    long a1At = aAt + 1 * aRow;
    long a2At = aAt + 2 * aRow;
    long a3At = aAt + 3 * aRow;
    long a4At = aAt + 4 * aRow;
    long a5At = aAt + 5 * aRow;
    FloatVector zero = FloatVector.zero(F);
    FloatVector c00 = zero;
    FloatVector c01 = zero;
    FloatVector c10 = zero;
    FloatVector c11 = zero;
    FloatVector c20 = zero;
    FloatVector c21 = zero;
    FloatVector c30 = zero;
    FloatVector c31 = zero;
    FloatVector c40 = zero;
    FloatVector c41 = zero;
    FloatVector c50 = zero;
    FloatVector c51 = zero;
    for (int k = 0; k < depth; k++) {
      long step = 4L * k;
      IntVector p0 = IntVector.fromMemorySegment(I, b, bAt, ORDER);
      IntVector p1 = IntVector.fromMemorySegment(I, b, bAt + V, ORDER);
      FloatVector u0 = p0.and(UPPER).reinterpretAsFloats();
      FloatVector u1 = p1.and(UPPER).reinterpretAsFloats();
      FloatVector l0 = p0.lanewise(VectorOperators.LSHL, 16).reinterpretAsFloats();
      FloatVector l1 = p1.lanewise(VectorOperators.LSHL, 16).reinterpretAsFloats();
      int e0 = a.get(INT, aAt + step);
      int e1 = a.get(INT, a1At + step);
      int e2 = a.get(INT, a2At + step);
      int e3 = a.get(INT, a3At + step);
      int e4 = a.get(INT, a4At + step);
      int e5 = a.get(INT, a5At + step);
      FloatVector x0 = FloatVector.broadcast(F, Float.intBitsToFloat(e0 & UPPER));
      FloatVector y0 = FloatVector.broadcast(F, Float.intBitsToFloat(e0 << 16));
      c00 = y0.fma(l0, x0.fma(u0, c00));
      c01 = y0.fma(l1, x0.fma(u1, c01));
      FloatVector x1 = FloatVector.broadcast(F, Float.intBitsToFloat(e1 & UPPER));
      FloatVector y1 = FloatVector.broadcast(F, Float.intBitsToFloat(e1 << 16));
      c10 = y1.fma(l0, x1.fma(u0, c10));
      c11 = y1.fma(l1, x1.fma(u1, c11));
      FloatVector x2 = FloatVector.broadcast(F, Float.intBitsToFloat(e2 & UPPER));
      FloatVector y2 = FloatVector.broadcast(F, Float.intBitsToFloat(e2 << 16));
      c20 = y2.fma(l0, x2.fma(u0, c20));
      c21 = y2.fma(l1, x2.fma(u1, c21));
      FloatVector x3 = FloatVector.broadcast(F, Float.intBitsToFloat(e3 & UPPER));
      FloatVector y3 = FloatVector.broadcast(F, Float.intBitsToFloat(e3 << 16));
      c30 = y3.fma(l0, x3.fma(u0, c30));
      c31 = y3.fma(l1, x3.fma(u1, c31));
      FloatVector x4 = FloatVector.broadcast(F, Float.intBitsToFloat(e4 & UPPER));
      FloatVector y4 = FloatVector.broadcast(F, Float.intBitsToFloat(e4 << 16));
      c40 = y4.fma(l0, x4.fma(u0, c40));
      c41 = y4.fma(l1, x4.fma(u1, c41));
      FloatVector x5 = FloatVector.broadcast(F, Float.intBitsToFloat(e5 & UPPER));
      FloatVector y5 = FloatVector.broadcast(F, Float.intBitsToFloat(e5 << 16));
      c50 = y5.fma(l0, x5.fma(u0, c50));
      c51 = y5.fma(l1, x5.fma(u1, c51));
      bAt += bStep;
    }
    c00.intoMemorySegment(c, cAt, ORDER);
    c01.intoMemorySegment(c, cAt + V, ORDER);
    cAt += cStride;
    c10.intoMemorySegment(c, cAt, ORDER);
    c11.intoMemorySegment(c, cAt + V, ORDER);
    cAt += cStride;
    c20.intoMemorySegment(c, cAt, ORDER);
    c21.intoMemorySegment(c, cAt + V, ORDER);
    cAt += cStride;
    c30.intoMemorySegment(c, cAt, ORDER);
    c31.intoMemorySegment(c, cAt + V, ORDER);
    cAt += cStride;
    c40.intoMemorySegment(c, cAt, ORDER);
    c41.intoMemorySegment(c, cAt + V, ORDER);
    cAt += cStride;
    c50.intoMemorySegment(c, cAt, ORDER);
    c51.intoMemorySegment(c, cAt + V, ORDER);
  }
}
