package dev.lanewise.simd;

import static dev.lanewise.simd.Machine.LANES;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import jdk.incubator.vector.DoubleVector;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorShape;
import jdk.incubator.vector.VectorShuffle;
import jdk.incubator.vector.VectorSpecies;

/**
 * Sums across the lanes of a stored vector, always in the same order. The Vector API's own
 * reduction adds in an order of its choice, which differs between interpreted and compiled code, so
 * a run's bits would depend on when the compiler came.
 */
final class Lanes {
  private static final VectorSpecies<Double> D =
      VectorSpecies.of(double.class, VectorShape.forBitSize(Machine.VECTOR_BYTES * 8));

  /** As many floats as {@link #D} has doubles. */
  private static final VectorSpecies<Float> HALF =
      VectorSpecies.of(float.class, VectorShape.forBitSize(Machine.VECTOR_BYTES * 4));

  private static final long HALF_BYTES = Machine.VECTOR_BYTES / 2;
  private static final VectorShuffle<Double> BY_4 = rotation(4);
  private static final VectorShuffle<Double> BY_2 = rotation(2);
  private static final VectorShuffle<Double> BY_1 = rotation(1);
  private static final ByteOrder ORDER = ByteOrder.nativeOrder();
  private static final ValueLayout.OfDouble DOUBLE = ValueLayout.JAVA_DOUBLE_UNALIGNED;

  private Lanes() {}

  private static VectorShuffle<Double> rotation(int by) {
    return VectorShuffle.iota(D, by % (LANES / 2), 1, true);
  }

  /** Sum of the floats of the vector at byte {@code at}. */
  static double sum(MemorySegment s, long at) {
    s = Native.known(s);
    FloatVector low = FloatVector.fromMemorySegment(HALF, s, at, ORDER);
    FloatVector high = FloatVector.fromMemorySegment(HALF, s, at + HALF_BYTES, ORDER);
    DoubleVector first = (DoubleVector) low.convertShape(VectorOperators.F2D, D, 0);
    DoubleVector sum = ((DoubleVector) high.convertShape(VectorOperators.F2D, D, 0)).add(first);
    if (LANES > 8) {
      sum = sum.add(sum.rearrange(BY_4));
    }
    if (LANES > 4) {
      sum = sum.add(sum.rearrange(BY_2));
    }
    return sum.add(sum.rearrange(BY_1)).lane(0);
  }

  /** Sum of the doubles of the vector at byte {@code at}. */
  static double sumDoubles(MemorySegment s, long at) {
    s = Native.known(s);
    double a = 0;
    double b = 0;
    for (int i = 0; i < LANES / 2; i += 2) {
      long lane = at + (long) i * Double.BYTES;
      a += s.get(DOUBLE, lane);
      b += s.get(DOUBLE, lane + 8);
    }
    return a + b;
  }
}
