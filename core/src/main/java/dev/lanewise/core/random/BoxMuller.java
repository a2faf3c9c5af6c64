package dev.lanewise.core.random;

/**
 * The two ways in which PyTorch turns uniform numbers into normal ones, sixteen at a time.
 *
 * <p>A block holds sixteen uniform numbers; number j (0 to 7) and number j + 8 make a pair, which
 * is replaced by radius · cosine and radius · sine.
 */
final class BoxMuller {
  /** Numbers per block. */
  static final int BLOCK = 16;

  private static final int HALF = BLOCK / 2;

  private BoxMuller() {}

  /**
   * PyTorch's kernels without vector instructions: single precision steps around the C library's
   * logf, cosf and sinf.
   */
  static void scalar(float[] x, int length, float mean, float std) {
    standard(x, length);
    for (int i = 0; i < length; i++) {
      x[i] = x[i] * std + mean;
    }
  }

  /** {@link #scalar} with one rounding in the last step. */
  static void scalarFused(float[] x, int length, float mean, float std) {
    standard(x, length);
    for (int i = 0; i < length; i++) {
      x[i] = Math.fma(x[i], std, mean);
    }
  }

  private static void standard(float[] x, int length) {
    for (int block = 0; block < length; block += BLOCK) {
      for (int j = block; j < block + HALF; j++) {
        float radius = (float) Math.sqrt(-2f * CLibrary.log(1f - x[j]));
        float angle = (float) (2 * Math.PI * x[j + HALF]);
        long sinCos = CLibrary.sinCos(angle);
        float sin = Float.intBitsToFloat((int) (sinCos >> 32));
        float cos = Float.intBitsToFloat((int) sinCos);
        x[j] = radius * cos;
        x[j + HALF] = radius * sin;
      }
    }
  }

  /**
   * PyTorch's kernels for AVX2 and AVX-512: the polynomials of the Cephes library in single
   * precision, with the multiply-adds that its compiler fused.
   */
  static void vector(float[] x, int length, float mean, float std) {
    for (int block = 0; block < length; block += BLOCK) {
      for (int j = block; j < block + HALF; j++) {
        float radius = (float) Math.sqrt(-2f * cephesLog(1f - x[j]));
        float angle = 6.2831855f * x[j + HALF];
        int octant = ((int) (angle * 1.27323954473516f) + 1) & ~1;
        float y = octant;
        float r = Math.fma(y, -0.78515625f, angle);
        r = Math.fma(y, -2.4187564849853515625e-4f, r);
        r = Math.fma(y, -3.77489497744594108e-8f, r);
        float z = r * r;
        float a = Math.fma(2.443315711809948E-5f, z, -1.388731625493765E-3f);
        a = Math.fma(a, z, 4.166664568298827E-2f) * z;
        a = Math.fma(a, z, -(z * 0.5f)) + 1f;
        float b = Math.fma(-1.9515295891E-4f, z, 8.3321608736E-3f);
        b = Math.fma(b, z, -1.6666654611E-1f) * z;
        b = Math.fma(b, r, r);
        // The octant is even; bit 1 chooses the polynomial, bit 2 the signs.
        int swap = -(octant >> 1 & 1);
        long sinCos = CLibrary.select(b, a, swap, octant << 29, octant + 2 << 29);
        float sin = Float.intBitsToFloat((int) (sinCos >> 32));
        float cos = Float.intBitsToFloat((int) sinCos);
        x[j] = Math.fma(radius * cos, std, mean);
        x[j + HALF] = Math.fma(radius * sin, std, mean);
      }
    }
  }

  private static float cephesLog(float value) {
    int bits = Float.floatToRawIntBits(value);
    int mantissa = (bits & 0x007fffff) | 0x3f000000;
    int below = mantissa - Float.floatToRawIntBits(0.70710678f) >> 31;
    int e = (bits >>> 23) - 126 + below;
    float x = Float.intBitsToFloat(mantissa) - 1f + Float.intBitsToFloat(mantissa & below);
    float z = x * x;
    float y = 7.0376836292E-2f;
    y = Math.fma(y, x, -1.1514610310E-1f);
    y = Math.fma(y, x, 1.1676998740E-1f);
    y = Math.fma(y, x, -1.2420140846E-1f);
    y = Math.fma(y, x, 1.4249322787E-1f);
    y = Math.fma(y, x, -1.6668057665E-1f);
    y = Math.fma(y, x, 2.0000714765E-1f);
    y = Math.fma(y, x, -2.4999993993E-1f);
    y = Math.fma(y, x, 3.3333331174E-1f);
    y *= x;
    y = Math.fma(y, z, e * -2.12194440e-4f);
    y -= z * 0.5f;
    return (x + y) + e * 0.693359375f;
  }
}
