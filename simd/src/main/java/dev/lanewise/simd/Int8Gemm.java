package dev.lanewise.simd;

import java.lang.foreign.MemorySegment;

/**
 * Products of floats with weights of 8 bits, {@code C = A · B + beta · C}: what a model is used
 * with after it was trained. Reading B takes a quarter of the time that floats take, which is what
 * few rows of A wait for; of many rows, the processor multiplies four times as many elements an
 * instruction where it has AVX512_VNNI ({@link Machine#describe} says what runs). Without it,
 * products of many rows are slower than {@link Gemm}'s.
 *
 * <p>Rows of A are made integers too: of each 32 elements {@code x} of a row, the scale is {@code
 * max |x| / 127} in float32, the integers {@code x · (127 / max |x|)}, rounded to the nearest, ties
 * to even; zeros if the largest is below 2^-100. The products of 32 elements are summed exactly, as
 * integers; that sum, as a float, is multiplied by B's scale and, in a fused multiply-add to the
 * sum of the blocks before, by A's. So results are the same to the bit for any number of threads,
 * any vector width and any machine, and a row's do not depend on the rows beside it. What is
 * rounded is at most half a scale for each element of A and B: for numbers spread evenly about
 * zero, some 0.5 % of a product's standard deviation.
 *
 * <p>A row with a number that is not finite gives NaN in all of its products.
 *
 * {@snippet :
 * // y[tokens, out] = x[tokens, in] · wᵀ, with w[out, in]
 * Int8Matrix weights = Int8Matrix.of(arena, w.transposed());
 * Int8Gemm.multiply(x, weights, y, null);
 * }
 */
public final class Int8Gemm {
  private Int8Gemm() {}

  /**
   * {@code C = A · B}, then the epilogue.
   *
   * @param a of shape {@code [m, k]}; not transposed
   * @param b of shape {@code [k, n]}
   * @param c of shape {@code [m, n]}; not transposed
   * @param epilogue what follows; may be null
   */
  public static void multiply(Matrix a, Int8Matrix b, Matrix c, Epilogue epilogue) {
    Checks.readable("a", a);
    Checks.present("b", b);
    Checks.writable("c", c);
    Gemm.checkShapes(a.rows(), a.cols(), b.rows, b.cols, c.rows(), c.cols());
    if (a.isTransposed() || c.isTransposed()) {
      throw new IllegalArgumentException(
          (a.isTransposed() ? "a" : "c") + " is transposed, which weights of 8 bits do not allow");
    }
    gemm(
        c.rows(),
        a.segment(),
        a.offset(),
        a.stride(),
        b,
        0,
        c.segment(),
        c.offset(),
        c.stride(),
        epilogue);
  }

  /**
   * {@code C = A · B + beta · C}, then the epilogue; B is of shape {@code [k, n]}.
   *
   * @param m rows of A and C
   * @param a memory of A
   * @param aOffset first element of A
   * @param lda floats between rows of A
   * @param b the weights
   * @param beta factor of what C holds
   * @param c memory of C
   * @param cOffset first element of C
   * @param ldc floats between rows of C
   * @param epilogue what follows; may be null
   */
  public static void gemm(
      int m,
      MemorySegment a,
      long aOffset,
      long lda,
      Int8Matrix b,
      float beta,
      MemorySegment c,
      long cOffset,
      long ldc,
      Epilogue epilogue) {
    Checks.present("b", b);
    int n = b.cols;
    int k = b.rows;
    Gemm.checkOperand("a", a, aOffset, lda, m, k, false);
    Gemm.checkOperand("c", c, cOffset, ldc, m, n, false);
    long aExtent = Gemm.extent(m, k, lda, false);
    long cExtent = Gemm.extent(m, n, ldc, false);
    Checks.writable("c", c, cOffset, cExtent);
    Checks.readable("b", b.segment, 0, 0);
    ElementType floats = ElementType.FLOAT32;
    Checks.disjoint("c", c, cOffset, m, n, ldc, floats, "a", a, aOffset, m, k, lda, floats);
    Checks.disjoint("c", c, cOffset, cExtent, 4, "b", b.segment, 0, b.segment.byteSize(), 1);
    Epilogue after = Gemm.checkedEpilogue(epilogue, m, n, c, cOffset, ldc);
    if (Staging.needed(a, c) || (after != null && after.needsStaging())) {
      try (var staging = new Staging()) {
        Int8Job.run(
            m,
            staging.input(a, aOffset * 4, aExtent * 4),
            0,
            lda,
            b,
            beta,
            staging.output(c, cOffset * 4, m, n * 4L, ldc * 4),
            0,
            ldc,
            after == null ? null : after.staged(staging, n));
        staging.finish();
      }
    } else {
      Int8Job.run(m, a, aOffset, lda, b, beta, c, cOffset, ldc, after);
    }
  }
}
