package dev.lanewise.simd;

import static dev.lanewise.simd.Machine.F;
import static dev.lanewise.simd.Machine.LANES;

import java.lang.foreign.MemorySegment;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorOperators;

/**
 * Applies an {@link Epilogue} to a block of C that has just been computed. The formulas are those
 * of {@link Gelu}; each kernel is flat, since vectors do not survive a call.
 */
final class EpilogueKernel {
  private static final ByteOrder ORDER = ByteOrder.nativeOrder();

  private EpilogueKernel() {}

  /**
   * Applies to a block of C.
   *
   * @param padded room for five vectors
   */
  static void apply(
      Epilogue e,
      MemorySegment c,
      long cAt,
      long cStride,
      int row,
      int rows,
      int col,
      int cols,
      MemorySegment padded) {
    int whole = cols - cols % LANES;
    long at = cAt + row * cStride + 4L * col;
    if (whole > 0) {
      run(
          e,
          c,
          at,
          cStride,
          e.bias,
          biasAt(e, col),
          segment(e.preActivation),
          at(e.preActivation, row, col),
          stride(e.preActivation),
          segment(e.gradientOf),
          at(e.gradientOf, row, col),
          stride(e.gradientOf),
          segment(e.residual),
          at(e.residual, row, col),
          stride(e.residual),
          rows,
          whole);
    }
    if (whole < cols) {
      for (int i = 0; i < rows; i++) {
        tail(e, c, at + i * cStride + 4L * whole, row + i, col + whole, cols - whole, padded);
      }
    }
  }

  /** The elements of a row that do not fill a vector, worked on in padded copies. */
  private static void tail(
      Epilogue e, MemorySegment c, long at, int i, int col, int n, MemorySegment padded) {
    long v = Machine.VECTOR_BYTES;
    long bytes = 4L * n;
    MemorySegment.copy(c, at, padded, 0, bytes);
    if (e.bias != null) {
      MemorySegment.copy(e.bias, biasAt(e, col), padded, v, bytes);
    }
    if (e.gradientOf != null) {
      MemorySegment.copy(e.gradientOf.segment(), at(e.gradientOf, i, col), padded, 3 * v, bytes);
    }
    if (e.residual != null) {
      MemorySegment.copy(e.residual.segment(), at(e.residual, i, col), padded, 4 * v, bytes);
    }
    run(
        e,
        padded,
        0,
        0,
        e.bias == null ? null : padded,
        v,
        e.preActivation == null ? null : padded,
        2 * v,
        0,
        e.gradientOf == null ? null : padded,
        3 * v,
        0,
        e.residual == null ? null : padded,
        4 * v,
        0,
        1,
        LANES);
    if (e.preActivation != null) {
      MemorySegment.copy(
          padded, 2 * v, e.preActivation.segment(), at(e.preActivation, i, col), bytes);
    }
    MemorySegment.copy(padded, 0, c, at, bytes);
  }

  static long biasAt(Epilogue e, int col) {
    return 4 * (e.biasOffset + col);
  }

  static long at(Matrix m, int i, int j) {
    return m == null ? 0 : 4 * (m.offset() + i * m.stride() + j);
  }

  static long stride(Matrix m) {
    return m == null ? 0 : 4 * m.stride();
  }

  static MemorySegment segment(Matrix m) {
    return m == null ? null : m.segment();
  }

  private static void run(
      Epilogue e,
      MemorySegment c,
      long cAt,
      long cStride,
      MemorySegment bias,
      long biasAt,
      MemorySegment kept,
      long keptAt,
      long keptStride,
      MemorySegment x,
      long xAt,
      long xStride,
      MemorySegment residual,
      long residualAt,
      long residualStride,
      int rows,
      int cols) {
    boolean hasGradient = e.gradientActivation != Epilogue.Activation.NONE;
    MemorySegment added = hasGradient ? null : residual;
    if (!hasGradient || bias != null || kept != null || e.activation != Epilogue.Activation.NONE) {
      switch (e.activation) {
        case NONE ->
            linear(
                c,
                cAt,
                cStride,
                bias,
                biasAt,
                kept,
                keptAt,
                keptStride,
                added,
                residualAt,
                residualStride,
                rows,
                cols);
        case GELU_TANH ->
            geluTanh(
                c,
                cAt,
                cStride,
                bias,
                biasAt,
                kept,
                keptAt,
                keptStride,
                added,
                residualAt,
                residualStride,
                rows,
                cols);
        case GELU_ERF ->
            geluErf(
                c,
                cAt,
                cStride,
                bias,
                biasAt,
                kept,
                keptAt,
                keptStride,
                added,
                residualAt,
                residualStride,
                rows,
                cols);
      }
    }
    switch (e.gradientActivation) {
      case NONE -> {}
      case GELU_TANH ->
          gradientTanh(
              c, cAt, cStride, x, xAt, xStride, residual, residualAt, residualStride, rows, cols);
      case GELU_ERF ->
          gradientErf(
              c, cAt, cStride, x, xAt, xStride, residual, residualAt, residualStride, rows, cols);
    }
  }

  // In each kernel one loop runs over the vectors of all rows: a block has only some in each row,
  // and a loop that starts anew in each row takes longer to get going than to run.

  private static void linear(
      MemorySegment out,
      long cAt,
      long cStride,
      MemorySegment bias,
      long biasAt,
      MemorySegment kept,
      long keptAt,
      long keptStride,
      MemorySegment residual,
      long residualAt,
      long residualStride,
      int rows,
      int cols) {
    out = Native.known(out);
    bias = Native.knownOrNull(bias);
    kept = Native.knownOrNull(kept);
    residual = Native.knownOrNull(residual);
    int vectors = rows * (cols / LANES);
    int j = 0;
    for (int i = 0; i < vectors; i++) {
      long at = (long) j * Float.BYTES;
      FloatVector v = FloatVector.fromMemorySegment(F, out, cAt + at, ORDER);
      if (bias != null) {
        v = v.add(FloatVector.fromMemorySegment(F, bias, biasAt + at, ORDER));
      }
      if (kept != null) {
        v.intoMemorySegment(kept, keptAt + at, ORDER);
      }
      FloatVector y = v;
      if (residual != null) {
        y = y.add(FloatVector.fromMemorySegment(F, residual, residualAt + at, ORDER));
      }
      y.intoMemorySegment(out, cAt + at, ORDER);
      j += LANES;
      if (j == cols) {
        j = 0;
        cAt += cStride;
        keptAt += keptStride;
        residualAt += residualStride;
      }
    }
  }

  private static void geluTanh(
      MemorySegment out,
      long cAt,
      long cStride,
      MemorySegment bias,
      long biasAt,
      MemorySegment kept,
      long keptAt,
      long keptStride,
      MemorySegment residual,
      long residualAt,
      long residualStride,
      int rows,
      int cols) {
    out = Native.known(out);
    bias = Native.knownOrNull(bias);
    kept = Native.knownOrNull(kept);
    residual = Native.knownOrNull(residual);
    FloatVector one = FloatVector.broadcast(F, 1f);
    int vectors = rows * (cols / LANES);
    int j = 0;
    for (int i = 0; i < vectors; i++) {
      long at = (long) j * Float.BYTES;
      FloatVector v = FloatVector.fromMemorySegment(F, out, cAt + at, ORDER);
      if (bias != null) {
        v = v.add(FloatVector.fromMemorySegment(F, bias, biasAt + at, ORDER));
      }
      if (kept != null) {
        v.intoMemorySegment(kept, keptAt + at, ORDER);
      }
      FloatVector z = v.mul(v);
      FloatVector w =
          z.fma(FloatVector.broadcast(F, Gelu.U3), FloatVector.broadcast(F, Gelu.U1)).mul(v);
      FloatVector c =
          w.blend(VectorMath.EXP_ZERO, w.compare(VectorOperators.LT, VectorMath.EXP_ZERO));
      FloatVector shifted =
          c.fma(
              FloatVector.broadcast(F, VectorMath.LOG2_E),
              FloatVector.broadcast(F, VectorMath.ROUND));
      FloatVector k = shifted.sub(VectorMath.ROUND);
      FloatVector r = k.fma(FloatVector.broadcast(F, -VectorMath.LN2), c);
      FloatVector p =
          r.fma(FloatVector.broadcast(F, VectorMath.E6), FloatVector.broadcast(F, VectorMath.E5));
      p = p.fma(r, FloatVector.broadcast(F, VectorMath.E4));
      p = p.fma(r, FloatVector.broadcast(F, VectorMath.E3));
      p = p.fma(r, FloatVector.broadcast(F, VectorMath.E2));
      p = p.fma(r.mul(r), r).add(1f);
      FloatVector e =
          p.mul(
              shifted
                  .reinterpretAsInts()
                  .lanewise(VectorOperators.LSHL, VectorMath.EXPONENT)
                  .reinterpretAsFloats());
      FloatVector y =
          v.mul(one.div(e.add(one)).blend(0f, w.compare(VectorOperators.GE, Gelu.TANH_ZERO)));
      if (residual != null) {
        y = y.add(FloatVector.fromMemorySegment(F, residual, residualAt + at, ORDER));
      }
      y.intoMemorySegment(out, cAt + at, ORDER);
      j += LANES;
      if (j == cols) {
        j = 0;
        cAt += cStride;
        keptAt += keptStride;
        residualAt += residualStride;
      }
    }
  }

  private static void geluErf(
      MemorySegment out,
      long cAt,
      long cStride,
      MemorySegment bias,
      long biasAt,
      MemorySegment kept,
      long keptAt,
      long keptStride,
      MemorySegment residual,
      long residualAt,
      long residualStride,
      int rows,
      int cols) {
    out = Native.known(out);
    bias = Native.knownOrNull(bias);
    kept = Native.knownOrNull(kept);
    residual = Native.knownOrNull(residual);
    FloatVector one = FloatVector.broadcast(F, 1f);
    int vectors = rows * (cols / LANES);
    int j = 0;
    for (int i = 0; i < vectors; i++) {
      long at = (long) j * Float.BYTES;
      FloatVector v = FloatVector.fromMemorySegment(F, out, cAt + at, ORDER);
      if (bias != null) {
        v = v.add(FloatVector.fromMemorySegment(F, bias, biasAt + at, ORDER));
      }
      if (kept != null) {
        v.intoMemorySegment(kept, keptAt + at, ORDER);
      }
      FloatVector a = v.abs();
      FloatVector c = a.mul(a).mul(-0.5f);
      c = c.blend(VectorMath.EXP_ZERO, c.compare(VectorOperators.LT, Gelu.ERF_ZERO));
      FloatVector shifted =
          c.fma(
              FloatVector.broadcast(F, VectorMath.LOG2_E),
              FloatVector.broadcast(F, VectorMath.ROUND));
      FloatVector k = shifted.sub(VectorMath.ROUND);
      FloatVector r = k.fma(FloatVector.broadcast(F, -VectorMath.LN2), c);
      FloatVector p =
          r.fma(FloatVector.broadcast(F, VectorMath.E6), FloatVector.broadcast(F, VectorMath.E5));
      p = p.fma(r, FloatVector.broadcast(F, VectorMath.E4));
      p = p.fma(r, FloatVector.broadcast(F, VectorMath.E3));
      p = p.fma(r, FloatVector.broadcast(F, VectorMath.E2));
      p = p.fma(r.mul(r), r).add(1f);
      FloatVector e =
          p.mul(
              shifted
                  .reinterpretAsInts()
                  .lanewise(VectorOperators.LSHL, VectorMath.EXPONENT)
                  .reinterpretAsFloats());
      FloatVector t = one.div(a.fma(FloatVector.broadcast(F, Gelu.R0), one));
      FloatVector q = t.fma(FloatVector.broadcast(F, Gelu.R8), FloatVector.broadcast(F, Gelu.R7));
      q = q.fma(t, FloatVector.broadcast(F, Gelu.R6));
      q = q.fma(t, FloatVector.broadcast(F, Gelu.R5));
      q = q.fma(t, FloatVector.broadcast(F, Gelu.R4));
      q = q.fma(t, FloatVector.broadcast(F, Gelu.R3));
      q = q.fma(t, FloatVector.broadcast(F, Gelu.R2));
      q = q.fma(t, FloatVector.broadcast(F, Gelu.R1));
      q = q.mul(t).mul(e);
      q = q.blend(one.sub(q), v.compare(VectorOperators.GT, 0f));
      // x - x is 0 for a finite x and NaN for an infinite one.
      FloatVector y = v.mul(q).sub(v.sub(v));
      if (residual != null) {
        y = y.add(FloatVector.fromMemorySegment(F, residual, residualAt + at, ORDER));
      }
      y.intoMemorySegment(out, cAt + at, ORDER);
      j += LANES;
      if (j == cols) {
        j = 0;
        cAt += cStride;
        keptAt += keptStride;
        residualAt += residualStride;
      }
    }
  }

  private static void gradientTanh(
      MemorySegment out,
      long cAt,
      long cStride,
      MemorySegment x,
      long xAt,
      long xStride,
      MemorySegment residual,
      long residualAt,
      long residualStride,
      int rows,
      int cols) {
    out = Native.known(out);
    x = Native.known(x);
    residual = Native.knownOrNull(residual);
    FloatVector one = FloatVector.broadcast(F, 1f);
    FloatVector far = FloatVector.broadcast(F, Gelu.TANH_FAR);
    int vectors = rows * (cols / LANES);
    int j = 0;
    for (int i = 0; i < vectors; i++) {
      long at = (long) j * Float.BYTES;
      FloatVector v = FloatVector.fromMemorySegment(F, x, xAt + at, ORDER);
      // The gradient is flat beyond the clamp, and the cube cannot overflow within it. x - x is 0
      // for a finite x and NaN for an infinite one.
      FloatVector infinite = v.sub(v);
      v = v.blend(far, v.compare(VectorOperators.GT, far));
      v = v.blend(far.neg(), v.compare(VectorOperators.LT, far.neg()));
      FloatVector z = v.mul(v);
      FloatVector w =
          z.fma(FloatVector.broadcast(F, Gelu.W3), FloatVector.broadcast(F, Gelu.W1)).mul(v);
      FloatVector slope =
          z.fma(FloatVector.broadcast(F, Gelu.DU3), FloatVector.broadcast(F, Gelu.DU1))
              .fma(v, infinite);
      FloatVector shifted = w.add(VectorMath.ROUND_ONLY);
      FloatVector r = w.sub(shifted.sub(VectorMath.ROUND_ONLY));
      FloatVector p =
          r.fma(FloatVector.broadcast(F, VectorMath.P6), FloatVector.broadcast(F, VectorMath.P5));
      p = p.fma(r, FloatVector.broadcast(F, VectorMath.P4));
      p = p.fma(r, FloatVector.broadcast(F, VectorMath.P3));
      p = p.fma(r, FloatVector.broadcast(F, VectorMath.P2));
      p = p.fma(r, FloatVector.broadcast(F, VectorMath.P1)).fma(r, one);
      FloatVector e =
          p.reinterpretAsInts()
              .add(shifted.reinterpretAsInts().lanewise(VectorOperators.LSHL, VectorMath.EXPONENT))
              .reinterpretAsFloats();
      // With s = 1 / (1 + e): y' = s + x s (1 - s) 2u', and 1 - s = e s.
      FloatVector s = one.div(e.add(one));
      FloatVector d = s.mul(e).fma(s.mul(slope), s);
      FloatVector y = d.mul(FloatVector.fromMemorySegment(F, out, cAt + at, ORDER));
      if (residual != null) {
        y = y.add(FloatVector.fromMemorySegment(F, residual, residualAt + at, ORDER));
      }
      y.intoMemorySegment(out, cAt + at, ORDER);
      j += LANES;
      if (j == cols) {
        j = 0;
        cAt += cStride;
        xAt += xStride;
        residualAt += residualStride;
      }
    }
  }

  private static void gradientErf(
      MemorySegment out,
      long cAt,
      long cStride,
      MemorySegment x,
      long xAt,
      long xStride,
      MemorySegment residual,
      long residualAt,
      long residualStride,
      int rows,
      int cols) {
    out = Native.known(out);
    x = Native.known(x);
    residual = Native.knownOrNull(residual);
    FloatVector one = FloatVector.broadcast(F, 1f);
    int vectors = rows * (cols / LANES);
    int j = 0;
    for (int i = 0; i < vectors; i++) {
      long at = (long) j * Float.BYTES;
      FloatVector v = FloatVector.fromMemorySegment(F, x, xAt + at, ORDER);
      FloatVector a = v.abs();
      FloatVector c = a.mul(a).mul(-0.5f);
      c = c.blend(VectorMath.EXP_ZERO, c.compare(VectorOperators.LT, Gelu.ERF_ZERO));
      FloatVector shifted =
          c.fma(
              FloatVector.broadcast(F, VectorMath.LOG2_E),
              FloatVector.broadcast(F, VectorMath.ROUND));
      FloatVector k = shifted.sub(VectorMath.ROUND);
      FloatVector r = k.fma(FloatVector.broadcast(F, -VectorMath.LN2), c);
      FloatVector p =
          r.fma(FloatVector.broadcast(F, VectorMath.E6), FloatVector.broadcast(F, VectorMath.E5));
      p = p.fma(r, FloatVector.broadcast(F, VectorMath.E4));
      p = p.fma(r, FloatVector.broadcast(F, VectorMath.E3));
      p = p.fma(r, FloatVector.broadcast(F, VectorMath.E2));
      p = p.fma(r.mul(r), r).add(1f);
      FloatVector e =
          p.mul(
              shifted
                  .reinterpretAsInts()
                  .lanewise(VectorOperators.LSHL, VectorMath.EXPONENT)
                  .reinterpretAsFloats());
      FloatVector t = one.div(a.fma(FloatVector.broadcast(F, Gelu.R0), one));
      FloatVector q = t.fma(FloatVector.broadcast(F, Gelu.R8), FloatVector.broadcast(F, Gelu.R7));
      q = q.fma(t, FloatVector.broadcast(F, Gelu.R6));
      q = q.fma(t, FloatVector.broadcast(F, Gelu.R5));
      q = q.fma(t, FloatVector.broadcast(F, Gelu.R4));
      q = q.fma(t, FloatVector.broadcast(F, Gelu.R3));
      q = q.fma(t, FloatVector.broadcast(F, Gelu.R2));
      q = q.fma(t, FloatVector.broadcast(F, Gelu.R1));
      q = q.mul(t).mul(e);
      q = q.blend(one.sub(q), v.compare(VectorOperators.GT, 0f));
      FloatVector d = v.mul(Gelu.DENSITY).fma(e, q);
      FloatVector y = d.mul(FloatVector.fromMemorySegment(F, out, cAt + at, ORDER));
      if (residual != null) {
        y = y.add(FloatVector.fromMemorySegment(F, residual, residualAt + at, ORDER));
      }
      y.intoMemorySegment(out, cAt + at, ORDER);
      j += LANES;
      if (j == cols) {
        j = 0;
        cAt += cStride;
        xAt += xStride;
        residualAt += residualStride;
      }
    }
  }
}
