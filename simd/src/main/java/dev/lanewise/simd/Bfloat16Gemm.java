package dev.lanewise.simd;

import java.lang.foreign.MemorySegment;

/**
 * Products of matrices in bfloat16, summed in floats: {@code C = alpha · op(A) · op(B) + beta · C},
 * where op is the identity or the transpose.
 *
 * <p>Operands hold bfloat16, or floats that are rounded to the nearest bfloat16, ties to even, on
 * their way; that gives the bits of operands rounded before by {@link Bfloat16#fromFloat}. C holds
 * floats, or bfloat16 to which the finished float is rounded. The operands of an epilogue are
 * floats. Shapes, strides, overlap, heap segments, {@code alpha} and {@code beta} are as with
 * {@link Gemm}; offsets and strides count elements of the operand's own type.
 *
 * <p>Results are the same to the bit for any number of threads, any vector width, any type in which
 * operands are stored, packed or not, and on any machine, whether it has instructions for bfloat16
 * or not ({@link Machine#describe} says what runs). For that, sums follow the instruction
 * VDPBF16PS:
 *
 * <ul>
 *   <li>The depth is cut into pairs of neighbours, an odd one filled up with {@code +0}. For each
 *       pair, in order, the product of the later elements is added to the sum, then that of the
 *       earlier, each by a fused multiply-add rounded to the nearest even.
 *   <li>Numbers of operands below the smallest normal float, and sums below it, count as zeros of
 *       their sign.
 *   <li>A depth above 2048 is cut into equal blocks of whole pairs whose sums begin at 0. A block's
 *       sum is multiplied by {@code alpha}; the first is added to {@code beta · C}, and each
 *       following one to what is there, as plain floats: {@code fma(beta, C, alpha · sum)}.
 *   <li>NaN and infinities propagate as in the plain formula; which NaN it is, is not said.
 * </ul>
 *
 * {@snippet :
 * // y[tokens, out] = x[tokens, in] · wᵀ, with w[out, in] stored as bfloat16
 * Bfloat16Gemm.multiply(x, w.transposed(), y);
 * // dw[out, in] += dyᵀ · x, all stored as floats
 * Bfloat16Gemm.multiply(1, dy.transposed(), x, 1, dw, null);
 * }
 */
public final class Bfloat16Gemm {
  private Bfloat16Gemm() {}

  /**
   * {@code C = A · B}.
   *
   * @param a of shape {@code [m, k]}
   * @param b of shape {@code [k, n]}
   * @param c of shape {@code [m, n]}; may be a transposed view
   */
  public static void multiply(MatrixView a, MatrixView b, MatrixView c) {
    multiply(1, a, b, 0, c, null);
  }

  /**
   * {@code C = A · B}, then the epilogue.
   *
   * @param a of shape {@code [m, k]}
   * @param b of shape {@code [k, n]}
   * @param c of shape {@code [m, n]}; not transposed
   * @param epilogue what follows; may be null
   */
  public static void multiply(MatrixView a, MatrixView b, MatrixView c, Epilogue epilogue) {
    multiply(1, a, b, 0, c, epilogue);
  }

  /**
   * {@code C = alpha · A · B + beta · C}, then the epilogue.
   *
   * @param alpha factor of the product
   * @param a of shape {@code [m, k]}
   * @param b of shape {@code [k, n]}
   * @param beta factor of what C holds
   * @param c of shape {@code [m, n]}; a transposed view only without an epilogue
   * @param epilogue what follows; may be null
   */
  public static void multiply(
      float alpha, MatrixView a, MatrixView b, float beta, MatrixView c, Epilogue epilogue) {
    Checks.readable("a", a);
    Checks.readable("b", b);
    Checks.writable("c", c);
    Gemm.checkShapes(a.rows(), a.cols(), b.rows(), b.cols(), c.rows(), c.cols());
    MatrixView first = a;
    MatrixView second = b;
    if (c.isTransposed()) {
      Gemm.refuseTransposed(epilogue);
      first = b;
      second = a;
    }
    boolean isTurned = c.isTransposed();
    gemm(
        first.isTransposed() != isTurned,
        second.isTransposed() != isTurned,
        isTurned ? c.cols() : c.rows(),
        isTurned ? c.rows() : c.cols(),
        a.cols(),
        alpha,
        first.type(),
        first.segment(),
        first.offset(),
        first.stride(),
        second.type(),
        second.segment(),
        second.offset(),
        second.stride(),
        beta,
        c.type(),
        c.segment(),
        c.offset(),
        c.stride(),
        epilogue);
  }

  /**
   * {@code C = A · B} with a packed B.
   *
   * @param a of shape {@code [m, k]}
   * @param b of shape {@code [k, n]}, packed as bfloat16
   * @param c of shape {@code [m, n]}; not transposed
   */
  public static void multiply(MatrixView a, PackedMatrix b, MatrixView c) {
    multiply(1, a, b, 0, c, null);
  }

  /**
   * {@code C = alpha · A · B + beta · C} with a packed B, then the epilogue.
   *
   * @param alpha factor of the product
   * @param a of shape {@code [m, k]}
   * @param b of shape {@code [k, n]}, packed as bfloat16
   * @param beta factor of what C holds
   * @param c of shape {@code [m, n]}; not transposed
   * @param epilogue what follows; may be null
   */
  public static void multiply(
      float alpha, MatrixView a, PackedMatrix b, float beta, MatrixView c, Epilogue epilogue) {
    Checks.readable("a", a);
    Gemm.checkPacked(b, ElementType.BFLOAT16);
    Checks.writable("c", c);
    Gemm.checkShapes(a.rows(), a.cols(), b.rows, b.cols, c.rows(), c.cols());
    if (c.isTransposed()) {
      throw new IllegalArgumentException("c is transposed, which a packed b does not allow");
    }
    gemm(
        a.isTransposed(),
        c.rows(),
        alpha,
        a.type(),
        a.segment(),
        a.offset(),
        a.stride(),
        b,
        beta,
        c.type(),
        c.segment(),
        c.offset(),
        c.stride(),
        epilogue);
  }

  /**
   * {@code C = alpha · op(A) · op(B) + beta · C} in the manner of BLAS, then the epilogue.
   *
   * @param transposeA whether A is stored as {@code [k, m]} rather than {@code [m, k]}
   * @param transposeB whether B is stored as {@code [n, k]} rather than {@code [k, n]}
   * @param m rows of op(A) and C
   * @param n columns of op(B) and C
   * @param k columns of op(A), rows of op(B)
   * @param alpha factor of the product
   * @param aType how A is stored
   * @param a memory of A
   * @param aOffset first element of A
   * @param lda elements between stored rows of A
   * @param bType how B is stored
   * @param b memory of B
   * @param bOffset first element of B
   * @param ldb elements between stored rows of B
   * @param beta factor of what C holds
   * @param cType how C is stored
   * @param c memory of C
   * @param cOffset first element of C
   * @param ldc elements between rows of C
   * @param epilogue what follows; may be null
   */
  public static void gemm(
      boolean transposeA,
      boolean transposeB,
      int m,
      int n,
      int k,
      float alpha,
      ElementType aType,
      MemorySegment a,
      long aOffset,
      long lda,
      ElementType bType,
      MemorySegment b,
      long bOffset,
      long ldb,
      float beta,
      ElementType cType,
      MemorySegment c,
      long cOffset,
      long ldc,
      Epilogue epilogue) {
    Gemm.checkOperand("b", b, bOffset, ldb, k, n, transposeB, bType);
    int bRows = transposeB ? n : k;
    int bCols = transposeB ? k : n;
    checkA(transposeA, m, n, k, aType, a, aOffset, lda, cType, c, cOffset, ldc);
    Checks.disjoint("c", c, cOffset, m, n, ldc, cType, "b", b, bOffset, bRows, bCols, ldb, bType);
    Epilogue after = checked(epilogue, m, n, cType, c, cOffset, ldc);
    GemmJob job = Gemm.JOBS.take();
    try {
      fill(job, transposeA, m, n, k, alpha, aType, a, aOffset, lda, beta, c, cOffset, ldc, after);
      job.b = b;
      job.bAt = bOffset * bType.bytes();
      job.bStride = ldb * bType.bytes();
      job.bTransposed = transposeB;
      job.bHalf = bType == ElementType.BFLOAT16;
      multiply(job, cType, Gemm.extent(k, n, ldb, transposeB) * bType.bytes());
    } finally {
      job.release();
    }
  }

  /**
   * {@code C = alpha · op(A) · B + beta · C} with a packed B of shape {@code [k, n]}, then the
   * epilogue.
   *
   * @param transposeA whether A is stored as {@code [k, m]} rather than {@code [m, k]}
   * @param m rows of op(A) and C
   * @param alpha factor of the product
   * @param aType how A is stored
   * @param a memory of A
   * @param aOffset first element of A
   * @param lda elements between stored rows of A
   * @param b the operand, packed as bfloat16
   * @param beta factor of what C holds
   * @param cType how C is stored
   * @param c memory of C
   * @param cOffset first element of C
   * @param ldc elements between rows of C
   * @param epilogue what follows; may be null
   */
  public static void gemm(
      boolean transposeA,
      int m,
      float alpha,
      ElementType aType,
      MemorySegment a,
      long aOffset,
      long lda,
      PackedMatrix b,
      float beta,
      ElementType cType,
      MemorySegment c,
      long cOffset,
      long ldc,
      Epilogue epilogue) {
    Gemm.checkPacked(b, ElementType.BFLOAT16);
    int n = b.cols;
    int k = b.rows;
    checkA(transposeA, m, n, k, aType, a, aOffset, lda, cType, c, cOffset, ldc);
    Checks.readable("b", b.segment, 0, 0);
    int cBytes = cType.bytes();
    long cExtent = Gemm.extent(m, n, ldc, false);
    long bBytes = b.segment.byteSize();
    Checks.disjoint("c", c, cOffset, cExtent, cBytes, "b", b.segment, 0, bBytes, 1);
    Epilogue after = checked(epilogue, m, n, cType, c, cOffset, ldc);
    GemmJob job = Gemm.JOBS.take();
    try {
      fill(job, transposeA, m, n, k, alpha, aType, a, aOffset, lda, beta, c, cOffset, ldc, after);
      job.packed = b;
      job.bTransposed = false;
      multiply(job, cType, 0);
    } finally {
      job.release();
    }
  }

  /**
   * Products of one shape with operands at fixed distances, {@code C[i] = alpha · op(A[i]) ·
   * op(B[i]) + beta · C[i]}, with C in floats. A distance of 0 uses the same A or B every time.
   *
   * @param batches number of products
   * @param transposeA whether A is stored as {@code [k, m]} rather than {@code [m, k]}
   * @param transposeB whether B is stored as {@code [n, k]} rather than {@code [k, n]}
   * @param m rows of op(A) and C
   * @param n columns of op(B) and C
   * @param k columns of op(A), rows of op(B)
   * @param alpha factor of the products
   * @param aType how A is stored
   * @param a memory of all A
   * @param aOffset first element of the first A
   * @param lda elements between stored rows of A
   * @param aApart elements from one A to the next
   * @param bType how B is stored
   * @param b memory of all B
   * @param bOffset first element of the first B
   * @param ldb elements between stored rows of B
   * @param bApart elements from one B to the next
   * @param beta factor of what C holds
   * @param c memory of all C
   * @param cOffset first element of the first C
   * @param ldc floats between rows of C
   * @param cApart floats from one C to the next; the products' elements must not overlap, but rows
   *     of one may lie between rows of another
   */
  public static void batched(
      int batches,
      boolean transposeA,
      boolean transposeB,
      int m,
      int n,
      int k,
      float alpha,
      ElementType aType,
      MemorySegment a,
      long aOffset,
      long lda,
      long aApart,
      ElementType bType,
      MemorySegment b,
      long bOffset,
      long ldb,
      long bApart,
      float beta,
      MemorySegment c,
      long cOffset,
      long ldc,
      long cApart) {
    Gemm.checkOperand("a", a, aOffset, lda, m, k, transposeA, aType);
    Gemm.checkOperand("b", b, bOffset, ldb, k, n, transposeB, bType);
    Gemm.checkBatches(batches, aApart, bApart, m, n, c, cOffset, ldc, cApart);
    if (batches == 0) {
      return;
    }
    int aBytes = aType.bytes();
    int bBytes = bType.bytes();
    long aExtent = Gemm.spread(batches, aApart, Gemm.extent(m, k, lda, transposeA));
    long bExtent = Gemm.spread(batches, bApart, Gemm.extent(k, n, ldb, transposeB));
    long cExtent = Gemm.spread(batches, cApart, Gemm.extent(m, n, ldc, false));
    Checks.readable("a", a, aOffset, aExtent, aBytes);
    Checks.readable("b", b, bOffset, bExtent, bBytes);
    Checks.disjoint("c", c, cOffset, cExtent, 4, "a", a, aOffset, aExtent, aBytes);
    Checks.disjoint("c", c, cOffset, cExtent, 4, "b", b, bOffset, bExtent, bBytes);
    GemmJob job = Gemm.JOBS.take();
    try {
      fill(job, transposeA, m, n, k, alpha, aType, a, aOffset, lda, beta, c, cOffset, ldc, null);
      job.b = b;
      job.bAt = bOffset * bBytes;
      job.bStride = ldb * bBytes;
      job.bTransposed = transposeB;
      job.bHalf = bType == ElementType.BFLOAT16;
      long aStep = aApart * aBytes;
      long bStep = bApart * bBytes;
      if (Staging.needed(a, b, c)) {
        try (var staging = new Staging()) {
          job.a = staging.input(a, job.aAt, aExtent * aBytes);
          job.aAt = 0;
          job.b = staging.input(b, job.bAt, bExtent * bBytes);
          job.bAt = 0;
          job.c = staging.output(c, job.cAt, cExtent * 4);
          job.cAt = 0;
          job.batched(batches, aStep, bStep, cApart * 4);
          staging.finish();
        }
      } else {
        job.batched(batches, aStep, bStep, cApart * 4);
      }
    } finally {
      job.release();
    }
  }

  private static void checkA(
      boolean transposeA,
      int m,
      int n,
      int k,
      ElementType aType,
      MemorySegment a,
      long aOffset,
      long lda,
      ElementType cType,
      MemorySegment c,
      long cOffset,
      long ldc) {
    Gemm.checkOperand("a", a, aOffset, lda, m, k, transposeA, aType);
    Gemm.checkOperand("c", c, cOffset, ldc, m, n, false, cType);
    Checks.writable("c", c, cOffset, Gemm.extent(m, n, ldc, false), cType.bytes());
    int rows = transposeA ? k : m;
    int cols = transposeA ? m : k;
    Checks.disjoint("c", c, cOffset, m, n, ldc, cType, "a", a, aOffset, rows, cols, lda, aType);
  }

  private static Epilogue checked(
      Epilogue epilogue, int m, int n, ElementType cType, MemorySegment c, long cOffset, long ldc) {
    if (epilogue == null || epilogue.isEmpty()) {
      return null;
    }
    epilogue.check(m, n, cType, c, cOffset, ldc);
    return epilogue;
  }

  /** Fills in all but B; C's place and distances are those of its own type. */
  private static void fill(
      GemmJob job,
      boolean transposeA,
      int m,
      int n,
      int k,
      float alpha,
      ElementType aType,
      MemorySegment a,
      long aOffset,
      long lda,
      float beta,
      MemorySegment c,
      long cOffset,
      long ldc,
      Epilogue epilogue) {
    job.isPaired = true;
    job.a = a;
    job.aAt = aOffset * aType.bytes();
    job.aStride = lda * aType.bytes();
    job.aTransposed = transposeA;
    job.aHalf = aType == ElementType.BFLOAT16;
    job.packed = null;
    job.c = c;
    job.cAt = cOffset * Float.BYTES;
    job.cStride = ldc * Float.BYTES;
    job.m = m;
    job.n = n;
    job.k = k;
    job.alpha = alpha;
    job.beta = beta;
    job.epilogue = epilogue;
  }

  /** Runs a job whose operands may lie on the Java heap. */
  private static void multiply(GemmJob job, ElementType cType, long bBytes) {
    Epilogue after = job.epilogue;
    boolean staysNative = !Staging.needed(job.a, job.b, job.c);
    if (staysNative && (after == null || !after.needsStaging())) {
      multiplyNative(job, cType);
      return;
    }
    long aBytes = job.aHalf ? Short.BYTES : Float.BYTES;
    long aExtent = Gemm.extent(job.m, job.k, job.aStride / aBytes, job.aTransposed) * aBytes;
    long cBytes = cType.bytes();
    long ldc = job.cStride / Float.BYTES;
    try (var staging = new Staging()) {
      job.a = staging.input(job.a, job.aAt, aExtent);
      job.aAt = 0;
      job.b = staging.input(job.b, job.bAt, bBytes);
      job.bAt = 0;
      long cAt = job.cAt / Float.BYTES * cBytes;
      job.c = staging.output(job.c, cAt, job.m, job.n * cBytes, ldc * cBytes);
      job.cAt = 0;
      job.epilogue = after == null ? null : after.staged(staging, job.n);
      multiplyNative(job, cType);
      staging.finish();
    }
  }

  /** A result in bfloat16 is made in floats, since blocks of the depth add to it, and rounded. */
  private static void multiplyNative(GemmJob job, ElementType cType) {
    if (cType == ElementType.FLOAT32 || job.m == 0 || job.n == 0) {
      job.multiply();
      return;
    }
    MemorySegment c = job.c;
    long offset = job.cAt / Float.BYTES;
    long stride = job.cStride / Float.BYTES;
    int m = job.m;
    int n = job.n;
    try (Scratch scratch = Scratch.take(4L * m * n)) {
      if (job.beta != 0) {
        Bfloat16.toFloat(c, offset, stride, scratch.segment, 0, n, m, n);
      }
      job.c = scratch.segment;
      job.cAt = 0;
      job.cStride = 4L * n;
      job.multiply();
      Bfloat16.fromFloat(scratch.segment, 0, n, c, offset, stride, m, n);
    }
  }
}
