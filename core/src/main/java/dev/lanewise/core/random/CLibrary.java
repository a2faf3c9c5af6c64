package dev.lanewise.core.random;

/**
 * The single precision logarithm, cosine and sine of the GNU C library 2.28 to 2.36 on x86-64 with
 * FMA, to the bit.
 *
 * <p>PyTorch's kernels without vector instructions call these functions, and they are not correctly
 * rounded: about one argument in a hundred gives the second nearest value. The algorithms are those
 * of Arm's Optimized Routines (Szabolcs Nagy, Wilco Dijkstra; MIT licence): table and polynomial in
 * double precision, rounded once at the end; the constants are theirs.
 */
final class CLibrary {
  private static final double LN2 = 0x1.62e42fefa39efp-1;
  private static final double L0 = -0x1.00ea348b88334p-2;
  private static final double L1 = 0x1.5575b0be00b6ap-2;
  private static final double L2 = -0x1.ffffef20a4123p-2;

  /** 1/c for a point c near the centre of each sixteenth of [0.6992, 1.3984). */
  private static final double[] INVERSE = {
    0x1.661ec79f8f3bep+0,
    0x1.571ed4aaf883dp+0,
    0x1.49539f0f010bp+0,
    0x1.3c995b0b80385p+0,
    0x1.30d190c8864a5p+0,
    0x1.25e227b0b8eap+0,
    0x1.1bb4a4a1a343fp+0,
    0x1.12358f08ae5bap+0,
    0x1.0953f419900a7p+0,
    0x1p+0,
    0x1.e608cfd9a47acp-1,
    0x1.ca4b31f026aap-1,
    0x1.b2036576afce6p-1,
    0x1.9c2d163a1aa2dp-1,
    0x1.886e6037841edp-1,
    0x1.767dcf5534862p-1
  };

  /** The logarithm of c. */
  private static final double[] LOG = {
    -0x1.57bf7808caadep-2,
    -0x1.2bef0a7c06ddbp-2,
    -0x1.01eae7f513a67p-2,
    -0x1.b31d8a68224e9p-3,
    -0x1.6574f0ac07758p-3,
    -0x1.1aa2bc79c81p-3,
    -0x1.a4e76ce8c0e5ep-4,
    -0x1.1973c5a611cccp-4,
    -0x1.252f438e10c1ep-5,
    0x0p+0,
    0x1.aa5aa5df25984p-5,
    0x1.c5e53aa362eb4p-4,
    0x1.526e57720db08p-3,
    0x1.bc2860d22477p-3,
    0x1.1058bc8a07ee1p-2,
    0x1.4043057b6ee09p-2
  };

  private static final double QUADRANTS_SCALED = 0x1.45f306dc9c883p+23;
  private static final double HALF_PI = 0x1.921fb54442d18p0;
  private static final double C1 = -0x1.ffffffd0c621cp-2;
  private static final double C2 = 0x1.55553e1068f19p-5;
  private static final double C3 = -0x1.6c087e89a359dp-10;
  private static final double C4 = 0x1.99343027bf8c3p-16;
  private static final double S1 = -0x1.555545995a603p-3;
  private static final double S2 = 0x1.1107605230bc4p-7;
  private static final double S3 = -0x1.994eb3774cf24p-13;

  private CLibrary() {}

  /** Natural logarithm of a positive, finite, normal number. */
  static float log(float x) {
    int bits = Float.floatToRawIntBits(x);
    int offset = bits - 0x3f330000;
    int index = (offset >>> 19) & 15;
    int exponent = offset >> 23;
    double z = Float.intBitsToFloat(bits - (offset & 0xff800000));
    double r = Math.fma(z, INVERSE[index], -1.0);
    double y0 = Math.fma((double) exponent, LN2, LOG[index]);
    double r2 = r * r;
    double y = Math.fma(Math.fma(L0, r2, Math.fma(L1, r, L2)), r2, y0 + r);
    return (float) y;
  }

  /**
   * Cosine and sine of an angle in [0, 120).
   *
   * @return the bits of the sine in the upper half, those of the cosine in the lower
   */
  static long sinCos(float x) {
    int quadrant = ((int) ((double) x * QUADRANTS_SCALED) + 0x800000) >> 24;
    double r = Math.fma(-quadrant, HALF_PI, (double) x);
    double r2 = r * r;
    double r3 = r * r2;
    double r4 = r2 * r2;
    double s = Math.fma(r3 * r2, Math.fma(r2, S3, S2), Math.fma(r3, S1, r));
    double c = Math.fma(r4 * r2, Math.fma(r2, C4, C3), Math.fma(r4, C2, Math.fma(r2, C1, 1.0)));
    return select((float) s, (float) c, -(quadrant & 1), quadrant << 30, quadrant + 1 << 30);
  }

  /**
   * Sine and cosine from their values in the first octants, without a branch, which would be
   * mispredicted half of the time.
   *
   * @param swap -1 if sine and cosine change places, else 0
   * @param sinSign a number whose highest bit negates the sine
   * @param cosSign a number whose highest bit negates the cosine
   * @return the bits of the sine in the upper half, those of the cosine in the lower
   */
  static long select(float sin, float cos, int swap, int sinSign, int cosSign) {
    int sinBits = Float.floatToRawIntBits(sin);
    int cosBits = Float.floatToRawIntBits(cos);
    int both = (sinBits ^ cosBits) & swap;
    int sinOut = sinBits ^ both ^ (sinSign & Integer.MIN_VALUE);
    int cosOut = cosBits ^ both ^ (cosSign & Integer.MIN_VALUE);
    return (long) sinOut << 32 | cosOut & 0xffffffffL;
  }
}
