package dev.lanewise.simd;

import static dev.lanewise.simd.Machine.F;
import static dev.lanewise.simd.Machine.LANES;

import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorShuffle;

/**
 * The loops of {@link Similarity} over arrays: a pair of vectors of a few hundred elements is done
 * before a copy of it would be, so these do not go through native memory as other kernels do.
 *
 * <p>{@link SimilarityRows} holds the same loops over native memory. Both add in the same order,
 * which depends on the length alone: four sums by turns of four vectors, then one of the vectors
 * that are left and one of the last elements, less than a vector.
 *
 * <p>What is left has a method of its own: written behind the loop of the turns, it makes that loop
 * a third slower for short vectors, even where nothing is left.
 */
final class SimilarityArrays {
  static final int TURN = 4 * LANES;

  /** Where {@link #sums} has its second and third sum. */
  static final int HALF = LANES / 2;

  static final int QUARTER = LANES / 4;

  // Not final, so that the compiler does not know the steps: of a known one it would make a loop
  // for
  // the first turns, one for most and one for the last, which does not pay for a few turns, and for
  // three sums makes a method of which the end is no longer inlined.
  private static int one = LANES;
  private static int turn = TURN;

  private static final VectorShuffle<Float> BY_8 = rotation(8);
  private static final VectorShuffle<Float> BY_4 = rotation(4);
  private static final VectorShuffle<Float> BY_2 = rotation(2);
  private static final VectorShuffle<Float> BY_1 = rotation(1);

  private static final VectorShuffle<Float> BY_HALF = rotation(HALF);
  private static final VectorShuffle<Float> BY_QUARTER = rotation(QUARTER);
  private static final VectorMask<Float> UPPER_HALF = bit(HALF);
  private static final VectorMask<Float> ODD_QUARTERS = bit(QUARTER);

  private SimilarityArrays() {}

  /** The lanes with a bit of their number set. */
  private static VectorMask<Float> bit(int bit) {
    boolean[] isSet = new boolean[LANES];
    for (int i = 0; i < LANES; i++) {
      isSet[i] = (i & bit) != 0;
    }
    return VectorMask.fromArray(F, isSet, 0);
  }

  private static VectorShuffle<Float> rotation(int by) {
    return VectorShuffle.iota(F, by % LANES, 1, true);
  }

  /** Sum of the lanes, in an order of its own, since that of the Vector API's may vary. */
  static float sum(FloatVector v) {
    if (LANES > 8) {
      v = v.add(v.rearrange(BY_8));
    }
    if (LANES > 4) {
      v = v.add(v.rearrange(BY_4));
    }
    v = v.add(v.rearrange(BY_2));
    return v.add(v.rearrange(BY_1)).lane(0);
  }

  /**
   * The sums of the lanes of three vectors, as {@link #sum(FloatVector)} has each of them, in the
   * lanes 0, {@link #HALF} and {@link #QUARTER}: in half as many steps.
   */
  static FloatVector sums(FloatVector a, FloatVector b, FloatVector c) {
    FloatVector ab = a.blend(b, UPPER_HALF).add(b.blend(a, UPPER_HALF).rearrange(BY_HALF));
    FloatVector cc = c.add(c.rearrange(BY_HALF));
    FloatVector v =
        ab.blend(cc, ODD_QUARTERS).add(cc.blend(ab, ODD_QUARTERS).rearrange(BY_QUARTER));
    if (LANES > 8) {
      v = v.add(v.rearrange(BY_2));
    }
    return LANES > 4 ? v.add(v.rearrange(BY_1)) : v;
  }

  /** Sum of the lanes of four vectors. */
  static float sum(FloatVector s0, FloatVector s1, FloatVector s2, FloatVector s3) {
    return sum(s0.add(s1).add(s2.add(s3)));
  }

  static float dot(float[] a, int aAt, float[] b, int bAt, int n) {
    int whole = n - n % TURN;
    if (whole == 0) {
      return dotRest(a, aAt, b, bAt, n);
    }
    float sum = dotTurns(a, aAt, b, bAt, whole);
    return whole == n ? sum : sum + dotRest(a, aAt + whole, b, bAt + whole, n - whole);
  }

  private static float dotTurns(float[] a, int aAt, float[] b, int bAt, int n) {
    FloatVector s0 = FloatVector.zero(F);
    FloatVector s1 = FloatVector.zero(F);
    FloatVector s2 = FloatVector.zero(F);
    FloatVector s3 = FloatVector.zero(F);
    for (int i = 0; i < n; i += TURN) {
      s0 = load(a, aAt + i).fma(load(b, bAt + i), s0);
      s1 = load(a, aAt + i + LANES).fma(load(b, bAt + i + LANES), s1);
      s2 = load(a, aAt + i + 2 * LANES).fma(load(b, bAt + i + 2 * LANES), s2);
      s3 = load(a, aAt + i + 3 * LANES).fma(load(b, bAt + i + 3 * LANES), s3);
    }
    return sum(s0, s1, s2, s3);
  }

  private static float dotRest(float[] a, int aAt, float[] b, int bAt, int n) {
    FloatVector s = FloatVector.zero(F);
    int i = 0;
    int step = one;
    for (; i <= n - LANES; i += step) {
      s = load(a, aAt + i).fma(load(b, bAt + i), s);
    }
    float sum = 0;
    for (; i < n; i++) {
      sum = Math.fma(a[aAt + i], b[bAt + i], sum);
    }
    return sum(s) + sum;
  }

  static float squaredDistance(float[] a, int aAt, float[] b, int bAt, int n) {
    int whole = n - n % TURN;
    if (whole == 0) {
      return distanceRest(a, aAt, b, bAt, n);
    }
    float sum = distanceTurns(a, aAt, b, bAt, whole);
    return whole == n ? sum : sum + distanceRest(a, aAt + whole, b, bAt + whole, n - whole);
  }

  private static float distanceTurns(float[] a, int aAt, float[] b, int bAt, int n) {
    FloatVector s0 = FloatVector.zero(F);
    FloatVector s1 = FloatVector.zero(F);
    FloatVector s2 = FloatVector.zero(F);
    FloatVector s3 = FloatVector.zero(F);
    for (int i = 0; i < n; i += TURN) {
      FloatVector d0 = load(a, aAt + i).sub(load(b, bAt + i));
      FloatVector d1 = load(a, aAt + i + LANES).sub(load(b, bAt + i + LANES));
      FloatVector d2 = load(a, aAt + i + 2 * LANES).sub(load(b, bAt + i + 2 * LANES));
      FloatVector d3 = load(a, aAt + i + 3 * LANES).sub(load(b, bAt + i + 3 * LANES));
      s0 = d0.fma(d0, s0);
      s1 = d1.fma(d1, s1);
      s2 = d2.fma(d2, s2);
      s3 = d3.fma(d3, s3);
    }
    return sum(s0, s1, s2, s3);
  }

  private static float distanceRest(float[] a, int aAt, float[] b, int bAt, int n) {
    FloatVector s = FloatVector.zero(F);
    int i = 0;
    int step = one;
    for (; i <= n - LANES; i += step) {
      FloatVector d = load(a, aAt + i).sub(load(b, bAt + i));
      s = d.fma(d, s);
    }
    float sum = 0;
    for (; i < n; i++) {
      float d = a[aAt + i] - b[bAt + i];
      sum = Math.fma(d, d, sum);
    }
    return sum(s) + sum;
  }

  static float squares(float[] a, int aAt, int n) {
    int whole = n - n % TURN;
    if (whole == 0) {
      return squaresRest(a, aAt, n);
    }
    float sum = squaresTurns(a, aAt, whole);
    return whole == n ? sum : sum + squaresRest(a, aAt + whole, n - whole);
  }

  private static float squaresTurns(float[] a, int aAt, int n) {
    FloatVector s0 = FloatVector.zero(F);
    FloatVector s1 = FloatVector.zero(F);
    FloatVector s2 = FloatVector.zero(F);
    FloatVector s3 = FloatVector.zero(F);
    for (int i = 0; i < n; i += TURN) {
      FloatVector x0 = load(a, aAt + i);
      FloatVector x1 = load(a, aAt + i + LANES);
      FloatVector x2 = load(a, aAt + i + 2 * LANES);
      FloatVector x3 = load(a, aAt + i + 3 * LANES);
      s0 = x0.fma(x0, s0);
      s1 = x1.fma(x1, s1);
      s2 = x2.fma(x2, s2);
      s3 = x3.fma(x3, s3);
    }
    return sum(s0, s1, s2, s3);
  }

  private static float squaresRest(float[] a, int aAt, int n) {
    FloatVector s = FloatVector.zero(F);
    int i = 0;
    int step = one;
    for (; i <= n - LANES; i += step) {
      FloatVector x = load(a, aAt + i);
      s = x.fma(x, s);
    }
    float sum = 0;
    for (; i < n; i++) {
      sum = Math.fma(a[aAt + i], a[aAt + i], sum);
    }
    return sum(s) + sum;
  }

  /** The cosine, of sums as of {@link #dot} and {@link #squares}, all taken in one loop. */
  static float cosine(float[] a, int aAt, float[] b, int bAt, int n) {
    int whole = n - n % TURN;
    if (whole == 0) {
      return cosineRest(0, 0, 0, a, aAt, b, bAt, 0, n);
    }
    FloatVector s0 = FloatVector.zero(F);
    FloatVector s1 = FloatVector.zero(F);
    FloatVector s2 = FloatVector.zero(F);
    FloatVector s3 = FloatVector.zero(F);
    FloatVector p0 = FloatVector.zero(F);
    FloatVector p1 = FloatVector.zero(F);
    FloatVector p2 = FloatVector.zero(F);
    FloatVector p3 = FloatVector.zero(F);
    FloatVector q0 = FloatVector.zero(F);
    FloatVector q1 = FloatVector.zero(F);
    FloatVector q2 = FloatVector.zero(F);
    FloatVector q3 = FloatVector.zero(F);
    int step = turn;
    for (int i = 0; i < whole; i += step) {
      FloatVector x0 = load(a, aAt + i);
      FloatVector y0 = load(b, bAt + i);
      s0 = x0.fma(y0, s0);
      p0 = x0.fma(x0, p0);
      q0 = y0.fma(y0, q0);
      FloatVector x1 = load(a, aAt + i + LANES);
      FloatVector y1 = load(b, bAt + i + LANES);
      s1 = x1.fma(y1, s1);
      p1 = x1.fma(x1, p1);
      q1 = y1.fma(y1, q1);
      FloatVector x2 = load(a, aAt + i + 2 * LANES);
      FloatVector y2 = load(b, bAt + i + 2 * LANES);
      s2 = x2.fma(y2, s2);
      p2 = x2.fma(x2, p2);
      q2 = y2.fma(y2, q2);
      FloatVector x3 = load(a, aAt + i + 3 * LANES);
      FloatVector y3 = load(b, bAt + i + 3 * LANES);
      s3 = x3.fma(y3, s3);
      p3 = x3.fma(x3, p3);
      q3 = y3.fma(y3, q3);
    }
    FloatVector sums =
        sums(s0.add(s1).add(s2.add(s3)), p0.add(p1).add(p2.add(p3)), q0.add(q1).add(q2.add(q3)));
    return cosineEnd(sums.lane(0), sums.lane(HALF), sums.lane(QUARTER), a, aAt, b, bAt, whole, n);
  }

  private static float cosineEnd(
      float ab, float aa, float bb, float[] a, int aAt, float[] b, int bAt, int from, int n) {
    if (from < n) {
      return cosineRest(ab, aa, bb, a, aAt, b, bAt, from, n);
    }
    return isSound(ab, aa, bb) ? cosine(ab, aa, bb) : exactCosine(a, aAt, b, bAt, n);
  }

  private static float cosineRest(
      float ab, float aa, float bb, float[] a, int aAt, float[] b, int bAt, int from, int n) {
    FloatVector s = FloatVector.zero(F);
    FloatVector p = FloatVector.zero(F);
    FloatVector q = FloatVector.zero(F);
    int i = from;
    int step = one;
    for (; i <= n - LANES; i += step) {
      FloatVector x = load(a, aAt + i);
      FloatVector y = load(b, bAt + i);
      s = x.fma(y, s);
      p = x.fma(x, p);
      q = y.fma(y, q);
    }
    float xy = 0;
    float xx = 0;
    float yy = 0;
    for (; i < n; i++) {
      float x = a[aAt + i];
      float y = b[bAt + i];
      xy = Math.fma(x, y, xy);
      xx = Math.fma(x, x, xx);
      yy = Math.fma(y, y, yy);
    }
    FloatVector sums = sums(s, p, q);
    ab += sums.lane(0) + xy;
    aa += sums.lane(HALF) + xx;
    bb += sums.lane(QUARTER) + yy;
    return isSound(ab, aa, bb) ? cosine(ab, aa, bb) : exactCosine(a, aAt, b, bAt, n);
  }

  static float norm(float[] a, int aAt, int n) {
    float squares = squares(a, aAt, n);
    if (isSound(squares)) {
      return (float) Math.sqrt(squares);
    }
    double exact = 0;
    for (int i = 0; i < n; i++) {
      double x = a[aAt + i];
      exact = Math.fma(x, x, exact);
    }
    return (float) Math.sqrt(exact);
  }

  static boolean isSound(float ab, float aa, float bb) {
    return isSound(aa) && isSound(bb) && Math.abs(ab) <= Float.MAX_VALUE;
  }

  /** Whether no square in a sum can have been too large or too small for a float and mattered. */
  static boolean isSound(float squares) {
    return squares >= 1e-30f && squares <= Float.MAX_VALUE;
  }

  /** The cosine of sums of products of floats: doubles have room for products of two such sums. */
  static float cosine(double ab, double aa, double bb) {
    return (float) (ab / Math.sqrt(aa * bb));
  }

  /** In doubles, in which squares of floats neither overflow nor vanish. */
  private static float exactCosine(float[] a, int aAt, float[] b, int bAt, int n) {
    double ab = 0;
    double aa = 0;
    double bb = 0;
    for (int i = 0; i < n; i++) {
      double x = a[aAt + i];
      double y = b[bAt + i];
      ab = Math.fma(x, y, ab);
      aa = Math.fma(x, x, aa);
      bb = Math.fma(y, y, bb);
    }
    return aa == 0 || bb == 0 ? 0 : cosine(ab, aa, bb);
  }

  private static FloatVector load(float[] a, int at) {
    return FloatVector.fromArray(F, a, at);
  }
}
