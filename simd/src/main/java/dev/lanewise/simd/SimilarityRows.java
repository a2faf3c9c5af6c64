package dev.lanewise.simd;

import static dev.lanewise.simd.Machine.F;
import static dev.lanewise.simd.Machine.LANES;
import static dev.lanewise.simd.SimilarityArrays.TURN;
import static dev.lanewise.simd.SimilarityArrays.isSound;
import static dev.lanewise.simd.SimilarityArrays.sum;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;

/**
 * The loops of {@link Similarity} over native memory, which add in the order of {@link
 * SimilarityArrays}. Places are in bytes, lengths in floats.
 */
final class SimilarityRows {
  private static final long V = Machine.VECTOR_BYTES;
  private static final ByteOrder ORDER = ByteOrder.nativeOrder();
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;

  // Not final, for the reason that SimilarityArrays has.
  private static int one = LANES;
  private static long turn = 4 * V;

  private SimilarityRows() {}

  static float dot(MemorySegment a, long aAt, MemorySegment b, long bAt, int n) {
    int whole = n - n % TURN;
    if (whole == 0) {
      return dotRest(a, aAt, b, bAt, n);
    }
    float sum = dotTurns(a, aAt, b, bAt, whole);
    return whole == n ? sum : sum + dotRest(a, aAt + 4L * whole, b, bAt + 4L * whole, n - whole);
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
      s0 = load(a, aAt + i).fma(load(b, bAt + i), s0);
      s1 = load(a, aAt + i + V).fma(load(b, bAt + i + V), s1);
      s2 = load(a, aAt + i + 2 * V).fma(load(b, bAt + i + 2 * V), s2);
      s3 = load(a, aAt + i + 3 * V).fma(load(b, bAt + i + 3 * V), s3);
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
      s = load(a, aAt + 4L * i).fma(load(b, bAt + 4L * i), s);
    }
    float sum = 0;
    for (; i < n; i++) {
      sum = Math.fma(get(a, aAt, i), get(b, bAt, i), sum);
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
        : sum + distanceRest(a, aAt + 4L * whole, b, bAt + 4L * whole, n - whole);
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
      FloatVector d0 = load(a, aAt + i).sub(load(b, bAt + i));
      FloatVector d1 = load(a, aAt + i + V).sub(load(b, bAt + i + V));
      FloatVector d2 = load(a, aAt + i + 2 * V).sub(load(b, bAt + i + 2 * V));
      FloatVector d3 = load(a, aAt + i + 3 * V).sub(load(b, bAt + i + 3 * V));
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
      FloatVector d = load(a, aAt + 4L * i).sub(load(b, bAt + 4L * i));
      s = d.fma(d, s);
    }
    float sum = 0;
    for (; i < n; i++) {
      float d = get(a, aAt, i) - get(b, bAt, i);
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
    return whole == n ? sum : sum + squaresRest(a, aAt + 4L * whole, n - whole);
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
      FloatVector x0 = load(a, aAt + i);
      FloatVector x1 = load(a, aAt + i + V);
      FloatVector x2 = load(a, aAt + i + 2 * V);
      FloatVector x3 = load(a, aAt + i + 3 * V);
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
      FloatVector x = load(a, aAt + 4L * i);
      s = x.fma(x, s);
    }
    float sum = 0;
    for (; i < n; i++) {
      sum = Math.fma(get(a, aAt, i), get(a, aAt, i), sum);
    }
    return sum(s) + sum;
  }

  /** The cosine, of sums as of {@link #dot} and {@link #squares}. */
  static float cosine(MemorySegment a, long aAt, MemorySegment b, long bAt, int n) {
    return cosine(squares(a, aAt, n), a, aAt, b, bAt, n);
  }

  /** The cosine, where the squares of a are summed already. */
  static float cosine(float aa, MemorySegment a, long aAt, MemorySegment b, long bAt, int n) {
    float ab = dot(a, aAt, b, bAt, n);
    float bb = squares(b, bAt, n);
    return isSound(ab, aa, bb)
        ? SimilarityArrays.cosine(ab, aa, bb)
        : exactCosine(a, aAt, b, bAt, n);
  }

  static float norm(MemorySegment a, long aAt, int n) {
    float squares = squares(a, aAt, n);
    if (isSound(squares)) {
      return (float) Math.sqrt(squares);
    }
    double exact = 0;
    for (int i = 0; i < n; i++) {
      double x = get(a, aAt, i);
      exact = Math.fma(x, x, exact);
    }
    return (float) Math.sqrt(exact);
  }

  /** In doubles, in which squares of floats neither overflow nor vanish. */
  private static float exactCosine(MemorySegment a, long aAt, MemorySegment b, long bAt, int n) {
    double ab = 0;
    double aa = 0;
    double bb = 0;
    for (int i = 0; i < n; i++) {
      double x = get(a, aAt, i);
      double y = get(b, bAt, i);
      ab = Math.fma(x, y, ab);
      aa = Math.fma(x, x, aa);
      bb = Math.fma(y, y, bb);
    }
    return aa == 0 || bb == 0 ? 0 : SimilarityArrays.cosine(ab, aa, bb);
  }

  private static FloatVector load(MemorySegment a, long at) {
    return FloatVector.fromMemorySegment(F, a, at, ORDER);
  }

  private static float get(MemorySegment a, long at, int i) {
    return a.get(FLOAT, at + 4L * i);
  }
}
