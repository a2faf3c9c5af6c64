package dev.lanewise.simd;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/** Applies an {@link Epilogue} to a block of C that has just been computed. */
final class EpilogueKernel {
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;
  private static final double ROOT = Math.sqrt(2 / Math.PI);

  private EpilogueKernel() {}

  /** Applies to rows {@code i} to {@code i + rows} and columns {@code j} to {@code j + cols}. */
  static void apply(
      Epilogue e, MemorySegment c, long cAt, long cStride, int i, int rows, int j, int cols) {
    for (int r = i; r < i + rows; r++) {
      for (int k = j; k < j + cols; k++) {
        long at = cAt + r * cStride + 4L * k;
        float v = c.get(FLOAT, at);
        if (e.bias != null) {
          v += e.bias.get(FLOAT, 4 * (e.biasOffset + k));
        }
        if (e.preActivation != null) {
          set(e.preActivation, r, k, v);
        }
        v = gelu(e.activation, v);
        if (e.gradientOf != null) {
          v *= gradient(e.gradientActivation, get(e.gradientOf, r, k));
        }
        if (e.residual != null) {
          v += get(e.residual, r, k);
        }
        c.set(FLOAT, at, v);
      }
    }
  }

  private static float get(Matrix m, int i, int j) {
    return m.segment().get(FLOAT, 4 * (m.offset() + i * m.stride() + j));
  }

  private static void set(Matrix m, int i, int j, float v) {
    m.segment().set(FLOAT, 4 * (m.offset() + i * m.stride() + j), v);
  }

  private static float gelu(Epilogue.Activation f, float x) {
    return switch (f) {
      case NONE -> x;
      case GELU_TANH ->
          (float) (0.5 * x * (1 + Math.tanh(ROOT * (x + 0.044715 * (double) x * x * x))));
      case GELU_ERF -> (float) (x * phi(x));
    };
  }

  private static float gradient(Epilogue.Activation f, float x) {
    return switch (f) {
      case NONE -> 1;
      case GELU_TANH -> {
        double t = Math.tanh(ROOT * (x + 0.044715 * (double) x * x * x));
        yield (float)
            (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * ROOT * (1 + 0.134145 * (double) x * x));
      }
      case GELU_ERF ->
          (float) (phi(x) + x * Math.exp(-0.5 * (double) x * x) / Math.sqrt(2 * Math.PI));
    };
  }

  /** The normal distribution function, by the series of its integral and its continued fraction. */
  private static double phi(double x) {
    double z = Math.abs(x);
    double tail;
    if (z < 3) {
      double term = z;
      double sum = z;
      for (int n = 1; term > 1e-17 * sum; n++) {
        term *= z * z / (2 * n + 1);
        sum += term;
      }
      tail = 0.5 - sum * Math.exp(-0.5 * z * z) / Math.sqrt(2 * Math.PI);
    } else {
      double f = z;
      for (int n = 60; n > 0; n--) {
        f = z + n / f;
      }
      tail = Math.exp(-0.5 * z * z) / (Math.sqrt(2 * Math.PI) * f);
    }
    return x < 0 ? tail : 1 - tail;
  }
}
