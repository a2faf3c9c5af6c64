package dev.lanewise.simd;

import static dev.lanewise.simd.Machine.F;
import static dev.lanewise.simd.Machine.I;
import static dev.lanewise.simd.Machine.LANES;
import static dev.lanewise.simd.SimilarityArrays.TURN;
import static dev.lanewise.simd.SimilarityArrays.sum;

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
 * The loops of {@link SimilarityRows} over rows of bfloat16, widened as they are read: the same
 * bits as for rows of the same floats, from half of the memory.
 */
final class SimilarityHalves {
  /** As many shorts as a vector has floats. */
  private static final VectorSpecies<Short> HALF =
      VectorSpecies.of(short.class, VectorShape.forBitSize(Machine.VECTOR_BYTES * 4));

  private static final long V = Machine.VECTOR_BYTES;
  private static final ByteOrder ORDER = ByteOrder.nativeOrder();
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;
  private static final ValueLayout.OfShort BITS = ValueLayout.JAVA_SHORT_UNALIGNED;

  // Not final, for the reason that SimilarityArrays has.
  private static int one = LANES;
  private static long turn = 4 * V;

  private SimilarityHalves() {}

  static float dot(MemorySegment a, long aAt, MemorySegment b, long bAt, int n) {
    int whole = n - n % TURN;
    if (whole == 0) {
      return dotRest(a, aAt, b, bAt, n);
    }
    float sum = dotTurns(a, aAt, b, bAt, whole);
    return whole == n ? sum : sum + dotRest(a, aAt + 4L * whole, b, bAt + 2L * whole, n - whole);
  }

  private static float dotTurns(MemorySegment a, long aAt, MemorySegment b, long bAt, int n) {
    a = Native.known(a);
    b = Native.known(b);
    FloatVector s0 = FloatVector.zero(F);
    FloatVector s1 = FloatVector.zero(F);
    FloatVector s2 = FloatVector.zero(F);
    FloatVector s3 = FloatVector.zero(F);
    long bytes = 4L * n;
    long step = turn;
    for (long i = 0; i < bytes; i += step) {
      s0 = load(a, aAt + i).fma(wide(b, bAt + i / 2), s0);
      s1 = load(a, aAt + i + V).fma(wide(b, bAt + (i + V) / 2), s1);
      s2 = load(a, aAt + i + 2 * V).fma(wide(b, bAt + (i + 2 * V) / 2), s2);
      s3 = load(a, aAt + i + 3 * V).fma(wide(b, bAt + (i + 3 * V) / 2), s3);
    }
    return sum(s0, s1, s2, s3);
  }

  private static float dotRest(MemorySegment a, long aAt, MemorySegment b, long bAt, int n) {
    a = Native.known(a);
    b = Native.known(b);
    FloatVector s = FloatVector.zero(F);
    int i = 0;
    int step = one;
    for (; i <= n - LANES; i += step) {
      s = load(a, aAt + 4L * i).fma(wide(b, bAt + 2L * i), s);
    }
    float sum = 0;
    for (; i < n; i++) {
      sum = Math.fma(get(a, aAt, i), half(b, bAt, i), sum);
    }
    return sum(s) + sum;
  }

  static float squaredDistance(MemorySegment a, long aAt, MemorySegment b, long bAt, int n) {
    int whole = n - n % TURN;
    if (whole == 0) {
      return distanceRest(a, aAt, b, bAt, n);
    }
    float sum = distanceTurns(a, aAt, b, bAt, whole);
    return whole == n
        ? sum
        : sum + distanceRest(a, aAt + 4L * whole, b, bAt + 2L * whole, n - whole);
  }

  private static float distanceTurns(MemorySegment a, long aAt, MemorySegment b, long bAt, int n) {
    a = Native.known(a);
    b = Native.known(b);
    FloatVector s0 = FloatVector.zero(F);
    FloatVector s1 = FloatVector.zero(F);
    FloatVector s2 = FloatVector.zero(F);
    FloatVector s3 = FloatVector.zero(F);
    long bytes = 4L * n;
    long step = turn;
    for (long i = 0; i < bytes; i += step) {
      FloatVector d0 = load(a, aAt + i).sub(wide(b, bAt + i / 2));
      FloatVector d1 = load(a, aAt + i + V).sub(wide(b, bAt + (i + V) / 2));
      FloatVector d2 = load(a, aAt + i + 2 * V).sub(wide(b, bAt + (i + 2 * V) / 2));
      FloatVector d3 = load(a, aAt + i + 3 * V).sub(wide(b, bAt + (i + 3 * V) / 2));
      s0 = d0.fma(d0, s0);
      s1 = d1.fma(d1, s1);
      s2 = d2.fma(d2, s2);
      s3 = d3.fma(d3, s3);
    }
    return sum(s0, s1, s2, s3);
  }

  private static float distanceRest(MemorySegment a, long aAt, MemorySegment b, long bAt, int n) {
    a = Native.known(a);
    b = Native.known(b);
    FloatVector s = FloatVector.zero(F);
    int i = 0;
    int step = one;
    for (; i <= n - LANES; i += step) {
      FloatVector d = load(a, aAt + 4L * i).sub(wide(b, bAt + 2L * i));
      s = d.fma(d, s);
    }
    float sum = 0;
    for (; i < n; i++) {
      float d = get(a, aAt, i) - half(b, bAt, i);
      sum = Math.fma(d, d, sum);
    }
    return sum(s) + sum;
  }

  static float squares(MemorySegment a, long aAt, int n) {
    int whole = n - n % TURN;
    if (whole == 0) {
      return squaresRest(a, aAt, n);
    }
    float sum = squaresTurns(a, aAt, whole);
    return whole == n ? sum : sum + squaresRest(a, aAt + 2L * whole, n - whole);
  }

  private static float squaresTurns(MemorySegment a, long aAt, int n) {
    a = Native.known(a);
    FloatVector s0 = FloatVector.zero(F);
    FloatVector s1 = FloatVector.zero(F);
    FloatVector s2 = FloatVector.zero(F);
    FloatVector s3 = FloatVector.zero(F);
    long bytes = 4L * n;
    long step = turn;
    for (long i = 0; i < bytes; i += step) {
      FloatVector x0 = wide(a, aAt + i / 2);
      FloatVector x1 = wide(a, aAt + (i + V) / 2);
      FloatVector x2 = wide(a, aAt + (i + 2 * V) / 2);
      FloatVector x3 = wide(a, aAt + (i + 3 * V) / 2);
      s0 = x0.fma(x0, s0);
      s1 = x1.fma(x1, s1);
      s2 = x2.fma(x2, s2);
      s3 = x3.fma(x3, s3);
    }
    return sum(s0, s1, s2, s3);
  }

  private static float squaresRest(MemorySegment a, long aAt, int n) {
    a = Native.known(a);
    FloatVector s = FloatVector.zero(F);
    int i = 0;
    int step = one;
    for (; i <= n - LANES; i += step) {
      FloatVector x = wide(a, aAt + 2L * i);
      s = x.fma(x, s);
    }
    float sum = 0;
    for (; i < n; i++) {
      sum = Math.fma(half(a, aAt, i), half(a, aAt, i), sum);
    }
    return sum(s) + sum;
  }

  private static FloatVector load(MemorySegment a, long at) {
    return FloatVector.fromMemorySegment(F, a, at, ORDER);
  }

  private static FloatVector wide(MemorySegment b, long at) {
    return ((IntVector)
            ShortVector.fromMemorySegment(HALF, b, at, ORDER)
                .convertShape(VectorOperators.ZERO_EXTEND_S2I, I, 0))
        .lanewise(VectorOperators.LSHL, 16)
        .reinterpretAsFloats();
  }

  private static float get(MemorySegment a, long at, int i) {
    return a.get(FLOAT, at + 4L * i);
  }

  private static float half(MemorySegment b, long at, int i) {
    return Bfloat16.toFloat(b.get(BITS, at + 2L * i));
  }
}
