package dev.lanewise.simd;

import static dev.lanewise.simd.Machine.F;
import static dev.lanewise.simd.Machine.LANES;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;

/** The product of two rows, for matrices of so few rows that reading the other one is all. */
final class DotKernel {
  private static final long V = Machine.VECTOR_BYTES;
  private static final ByteOrder ORDER = ByteOrder.nativeOrder();
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;

  private DotKernel() {}

  /**
   * The sum of {@code n} products, in an order that depends on {@code n} alone.
   *
   * @param temp room for a vector
   */
  static float dot(
      MemorySegment x, long xAt, MemorySegment y, long yAt, int n, MemorySegment temp) {
    x = Native.known(x);
    y = Native.known(y);
    temp = Native.known(temp);
    FloatVector sum0 = FloatVector.zero(F);
    FloatVector sum1 = FloatVector.zero(F);
    FloatVector sum2 = FloatVector.zero(F);
    FloatVector sum3 = FloatVector.zero(F);
    int i = 0;
    for (; i <= n - 4 * LANES; i += 4 * LANES) {
      long a = xAt + 4L * i;
      long b = yAt + 4L * i;
      sum0 =
          FloatVector.fromMemorySegment(F, x, a, ORDER)
              .fma(FloatVector.fromMemorySegment(F, y, b, ORDER), sum0);
      sum1 =
          FloatVector.fromMemorySegment(F, x, a + V, ORDER)
              .fma(FloatVector.fromMemorySegment(F, y, b + V, ORDER), sum1);
      sum2 =
          FloatVector.fromMemorySegment(F, x, a + 2 * V, ORDER)
              .fma(FloatVector.fromMemorySegment(F, y, b + 2 * V, ORDER), sum2);
      sum3 =
          FloatVector.fromMemorySegment(F, x, a + 3 * V, ORDER)
              .fma(FloatVector.fromMemorySegment(F, y, b + 3 * V, ORDER), sum3);
    }
    for (; i <= n - LANES; i += LANES) {
      sum0 =
          FloatVector.fromMemorySegment(F, x, xAt + 4L * i, ORDER)
              .fma(FloatVector.fromMemorySegment(F, y, yAt + 4L * i, ORDER), sum0);
    }
    // Lanes are added one by one: the order of a reduction by the vector library is not defined.
    sum0.add(sum1).add(sum2.add(sum3)).intoMemorySegment(temp, 0, ORDER);
    float even = 0;
    float odd = 0;
    for (int lane = 0; lane < LANES; lane += 2) {
      even += temp.get(FLOAT, 4L * lane);
      odd += temp.get(FLOAT, 4L * lane + 4);
    }
    float sum = even + odd;
    for (; i < n; i++) {
      sum = Math.fma(x.get(FLOAT, xAt + 4L * i), y.get(FLOAT, yAt + 4L * i), sum);
    }
    return sum;
  }
}
