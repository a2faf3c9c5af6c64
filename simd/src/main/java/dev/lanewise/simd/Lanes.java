package dev.lanewise.simd;

import static dev.lanewise.simd.Machine.LANES;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/**
 * Sums across the lanes of a stored vector, always in the same order. The Vector API's own
 * reduction adds in an order of its choice, which differs between interpreted and compiled code, so
 * a run's bits would depend on when the compiler came.
 */
final class Lanes {
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;
  private static final ValueLayout.OfDouble DOUBLE = ValueLayout.JAVA_DOUBLE_UNALIGNED;

  private Lanes() {}

  /** Sum of the floats of the vector at byte {@code at}. */
  static double sum(MemorySegment s, long at) {
    s = Native.known(s);
    double a = 0;
    double b = 0;
    double c = 0;
    double d = 0;
    for (int i = 0; i < LANES; i += 4) {
      long lane = at + (long) i * Float.BYTES;
      a += s.get(FLOAT, lane);
      b += s.get(FLOAT, lane + 4);
      c += s.get(FLOAT, lane + 8);
      d += s.get(FLOAT, lane + 12);
    }
    return (a + b) + (c + d);
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
