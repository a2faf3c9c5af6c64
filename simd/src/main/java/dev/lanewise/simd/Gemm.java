package dev.lanewise.simd;

import java.lang.foreign.MemorySegment;

/**
 * Products of float matrices, {@code C = alpha · op(A) · op(B) + beta · C}, where op is the
 * identity or the transpose.
 *
 * <p>There are two levels: views ({@link Matrix}) that know their shape and orientation, and the
 * raw form over segments, offsets and strides that BLAS users know. Matrices are row-major, offsets
 * and strides count floats, and offsets are from the segment's start.
 *
 * <p>All forms follow the same rules:
 *
 * <ul>
 *   <li>With {@code beta} 0, C is not read, so that NaN in it does not matter. With {@code alpha} 0
 *       or a depth of 0, A and B are not read.
 *   <li>C must not share memory with A, B or an epilogue's operands, and must be writable. A and B
 *       may overlap.
 *   <li>Segments may be native or on the Java heap (those are copied first, which costs time), at
 *       any alignment; of a confined arena, if the caller is its thread.
 *   <li>What is wrong with the arguments is thrown as {@link IllegalArgumentException} before
 *       anything is written.
 *   <li>Sums run over the depth in an order that depends on the shape and orientation alone, with
 *       fused multiply-add: results are the same to the bit for any number of threads. NaN and
 *       infinities propagate as in the plain formula.
 *   <li>Packing B changes no bit of products of more than eight rows.
 *   <li>Work is {@code 2·m·n·k} operations; memory beyond the operands is a few MB per process,
 *       kept between calls. Nothing is allocated after the first calls.
 * </ul>
 *
 * {@snippet :
 * // y[tokens, out] = x[tokens, in] · wᵀ, with w[out, in]
 * Gemm.multiply(x, w.transposed(), y);
 * // dw[out, in] += dyᵀ · x
 * Gemm.multiply(1, dy.transposed(), x, 1, dw);
 * }
 */
public final class Gemm {
  static final Spares<GemmJob> JOBS = new Spares<>(GemmJob::new);

  private Gemm() {}

  /**
   * {@code C = A · B}.
   *
   * @param a of shape {@code [m, k]}
   * @param b of shape {@code [k, n]}
   * @param c of shape {@code [m, n]}; may be a transposed view
   */
  public static void multiply(Matrix a, Matrix b, Matrix c) {
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
  public static void multiply(Matrix a, Matrix b, Matrix c, Epilogue epilogue) {
    multiply(1, a, b, 0, c, epilogue);
  }

  /**
   * {@code C = alpha · A · B + beta · C}.
   *
   * @param alpha factor of the product
   * @param a of shape {@code [m, k]}
   * @param b of shape {@code [k, n]}
   * @param beta factor of what C holds
   * @param c of shape {@code [m, n]}; may be a transposed view
   */
  public static void multiply(float alpha, Matrix a, Matrix b, float beta, Matrix c) {
    multiply(alpha, a, b, beta, c, null);
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
      float alpha, Matrix a, Matrix b, float beta, Matrix c, Epilogue epilogue) {
    Checks.readable("a", a);
    Checks.readable("b", b);
    Checks.writable("c", c);
    checkShapes(a.rows(), a.cols(), b.rows(), b.cols(), c.rows(), c.cols());
    if (c.isTransposed()) {
      refuseTransposed(epilogue);
      sgemm(
          !b.isTransposed(),
          !a.isTransposed(),
          c.cols(),
          c.rows(),
          a.cols(),
          alpha,
          b.segment(),
          b.offset(),
          b.stride(),
          a.segment(),
          a.offset(),
          a.stride(),
          beta,
          c.segment(),
          c.offset(),
          c.stride());
      return;
    }
    sgemm(
        a.isTransposed(),
        b.isTransposed(),
        c.rows(),
        c.cols(),
        a.cols(),
        alpha,
        a.segment(),
        a.offset(),
        a.stride(),
        b.segment(),
        b.offset(),
        b.stride(),
        beta,
        c.segment(),
        c.offset(),
        c.stride(),
        epilogue);
  }

  /**
   * {@code C = A · B} with a packed B.
   *
   * @param a of shape {@code [m, k]}
   * @param b of shape {@code [k, n]}
   * @param c of shape {@code [m, n]}; not transposed
   */
  public static void multiply(Matrix a, PackedMatrix b, Matrix c) {
    multiply(1, a, b, 0, c, null);
  }

  /**
   * {@code C = alpha · A · B + beta · C} with a packed B, then the epilogue.
   *
   * @param alpha factor of the product
   * @param a of shape {@code [m, k]}
   * @param b of shape {@code [k, n]}
   * @param beta factor of what C holds
   * @param c of shape {@code [m, n]}; not transposed
   * @param epilogue what follows; may be null
   */
  public static void multiply(
      float alpha, Matrix a, PackedMatrix b, float beta, Matrix c, Epilogue epilogue) {
    Checks.readable("a", a);
    checkPacked(b, ElementType.FLOAT32);
    Checks.writable("c", c);
    checkShapes(a.rows(), a.cols(), b.rows, b.cols, c.rows(), c.cols());
    if (c.isTransposed()) {
      throw new IllegalArgumentException("c is transposed, which a packed b does not allow");
    }
    sgemm(
        a.isTransposed(),
        c.rows(),
        alpha,
        a.segment(),
        a.offset(),
        a.stride(),
        b,
        beta,
        c.segment(),
        c.offset(),
        c.stride(),
        epilogue);
  }

  static void checkPacked(PackedMatrix b, ElementType type) {
    if (b == null) {
      throw new IllegalArgumentException("b is null");
    }
    if (b.type != type) {
      throw new IllegalArgumentException("b is packed as " + b.type + ", not " + type);
    }
  }

  static void checkShapes(int m, int k, int bRows, int n, int cRows, int cCols) {
    if (k != bRows || m != cRows || n != cCols) {
      throw new IllegalArgumentException(
          "a is "
              + m
              + " x "
              + k
              + ", b is "
              + bRows
              + " x "
              + n
              + ", c is "
              + cRows
              + " x "
              + cCols
              + ": a's columns must be b's rows, and c must be "
              + m
              + " x "
              + n);
    }
  }

  static void refuseTransposed(Epilogue epilogue) {
    if (epilogue != null && !epilogue.isEmpty()) {
      throw new IllegalArgumentException("c is transposed, which an epilogue does not allow");
    }
  }

  /**
   * {@code C = alpha · op(A) · op(B) + beta · C} in the manner of BLAS.
   *
   * @param transposeA whether A is stored as {@code [k, m]} rather than {@code [m, k]}
   * @param transposeB whether B is stored as {@code [n, k]} rather than {@code [k, n]}
   * @param m rows of op(A) and C
   * @param n columns of op(B) and C
   * @param k columns of op(A), rows of op(B)
   * @param alpha factor of the product
   * @param a memory of A
   * @param aOffset first element of A
   * @param lda floats between stored rows of A
   * @param b memory of B
   * @param bOffset first element of B
   * @param ldb floats between stored rows of B
   * @param beta factor of what C holds
   * @param c memory of C
   * @param cOffset first element of C
   * @param ldc floats between rows of C
   */
  public static void sgemm(
      boolean transposeA,
      boolean transposeB,
      int m,
      int n,
      int k,
      float alpha,
      MemorySegment a,
      long aOffset,
      long lda,
      MemorySegment b,
      long bOffset,
      long ldb,
      float beta,
      MemorySegment c,
      long cOffset,
      long ldc) {
    sgemm(
        transposeA,
        transposeB,
        m,
        n,
        k,
        alpha,
        a,
        aOffset,
        lda,
        b,
        bOffset,
        ldb,
        beta,
        c,
        cOffset,
        ldc,
        null);
  }

  /**
   * {@code C = alpha · op(A) · op(B) + beta · C}, then the epilogue.
   *
   * @param transposeA whether A is stored as {@code [k, m]} rather than {@code [m, k]}
   * @param transposeB whether B is stored as {@code [n, k]} rather than {@code [k, n]}
   * @param m rows of op(A) and C
   * @param n columns of op(B) and C
   * @param k columns of op(A), rows of op(B)
   * @param alpha factor of the product
   * @param a memory of A
   * @param aOffset first element of A
   * @param lda floats between stored rows of A
   * @param b memory of B
   * @param bOffset first element of B
   * @param ldb floats between stored rows of B
   * @param beta factor of what C holds
   * @param c memory of C
   * @param cOffset first element of C
   * @param ldc floats between rows of C
   * @param epilogue what follows; may be null
   */
  public static void sgemm(
      boolean transposeA,
      boolean transposeB,
      int m,
      int n,
      int k,
      float alpha,
      MemorySegment a,
      long aOffset,
      long lda,
      MemorySegment b,
      long bOffset,
      long ldb,
      float beta,
      MemorySegment c,
      long cOffset,
      long ldc,
      Epilogue epilogue) {
    checkOperand("a", a, aOffset, lda, m, k, transposeA);
    checkOperand("b", b, bOffset, ldb, k, n, transposeB);
    long aExtent = extent(m, k, lda, transposeA);
    long bExtent = extent(k, n, ldb, transposeB);
    checkOutput(c, cOffset, ldc, m, n);
    disjoint(c, cOffset, ldc, m, n, "a", a, aOffset, lda, m, k, transposeA);
    disjoint(c, cOffset, ldc, m, n, "b", b, bOffset, ldb, k, n, transposeB);
    Epilogue after = checkedEpilogue(epilogue, m, n, c, cOffset, ldc);
    if (Staging.needed(a, b, c) || (after != null && after.needsStaging())) {
      try (var staging = new Staging()) {
        MemorySegment nativeC = staging.output(c, cOffset * 4, m, n * 4L, ldc * 4);
        run(
            transposeA,
            transposeB,
            m,
            n,
            k,
            alpha,
            staging.input(a, aOffset * 4, aExtent * 4),
            0,
            lda,
            staging.input(b, bOffset * 4, bExtent * 4),
            0,
            ldb,
            null,
            beta,
            nativeC,
            0,
            ldc,
            after == null ? null : after.staged(staging, n));
        staging.finish();
      }
      return;
    }
    run(
        transposeA,
        transposeB,
        m,
        n,
        k,
        alpha,
        a,
        aOffset,
        lda,
        b,
        bOffset,
        ldb,
        null,
        beta,
        c,
        cOffset,
        ldc,
        after);
  }

  /**
   * {@code C = alpha · op(A) · B + beta · C} with a packed B of shape {@code [k, n]}, then the
   * epilogue.
   *
   * @param transposeA whether A is stored as {@code [k, m]} rather than {@code [m, k]}
   * @param m rows of op(A) and C
   * @param alpha factor of the product
   * @param a memory of A
   * @param aOffset first element of A
   * @param lda floats between stored rows of A
   * @param b the packed operand
   * @param beta factor of what C holds
   * @param c memory of C
   * @param cOffset first element of C
   * @param ldc floats between rows of C
   * @param epilogue what follows; may be null
   */
  public static void sgemm(
      boolean transposeA,
      int m,
      float alpha,
      MemorySegment a,
      long aOffset,
      long lda,
      PackedMatrix b,
      float beta,
      MemorySegment c,
      long cOffset,
      long ldc,
      Epilogue epilogue) {
    checkPacked(b, ElementType.FLOAT32);
    int n = b.cols;
    int k = b.rows;
    checkOperand("a", a, aOffset, lda, m, k, transposeA);
    Checks.readable("b", b.segment, 0, 0);
    long aExtent = extent(m, k, lda, transposeA);
    long cExtent = checkOutput(c, cOffset, ldc, m, n);
    disjoint(c, cOffset, ldc, m, n, "a", a, aOffset, lda, m, k, transposeA);
    long bFloats = b.segment.byteSize() / Float.BYTES;
    Checks.disjoint("c", c, cOffset, cExtent, "b", b.segment, 0, bFloats);
    Epilogue after = checkedEpilogue(epilogue, m, n, c, cOffset, ldc);
    if (Staging.needed(a, c) || (after != null && after.needsStaging())) {
      try (var staging = new Staging()) {
        MemorySegment nativeC = staging.output(c, cOffset * 4, m, n * 4L, ldc * 4);
        MemorySegment nativeA = staging.input(a, aOffset * 4, aExtent * 4);
        Epilogue staged = after == null ? null : after.staged(staging, n);
        run(
            transposeA,
            false,
            m,
            n,
            k,
            alpha,
            nativeA,
            0,
            lda,
            null,
            0,
            0,
            b,
            beta,
            nativeC,
            0,
            ldc,
            staged);
        staging.finish();
      }
      return;
    }
    run(
        transposeA,
        false,
        m,
        n,
        k,
        alpha,
        a,
        aOffset,
        lda,
        null,
        0,
        0,
        b,
        beta,
        c,
        cOffset,
        ldc,
        after);
  }

  /**
   * Products of one shape with operands at fixed distances, {@code C[i] = alpha · op(A[i]) ·
   * op(B[i]) + beta · C[i]}. A distance of 0 uses the same A or B every time.
   *
   * @param batches number of products
   * @param transposeA whether A is stored as {@code [k, m]} rather than {@code [m, k]}
   * @param transposeB whether B is stored as {@code [n, k]} rather than {@code [k, n]}
   * @param m rows of op(A) and C
   * @param n columns of op(B) and C
   * @param k columns of op(A), rows of op(B)
   * @param alpha factor of the products
   * @param a memory of all A
   * @param aOffset first element of the first A
   * @param lda floats between stored rows of A
   * @param aApart floats from one A to the next
   * @param b memory of all B
   * @param bOffset first element of the first B
   * @param ldb floats between stored rows of B
   * @param bApart floats from one B to the next
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
      MemorySegment a,
      long aOffset,
      long lda,
      long aApart,
      MemorySegment b,
      long bOffset,
      long ldb,
      long bApart,
      float beta,
      MemorySegment c,
      long cOffset,
      long ldc,
      long cApart) {
    checkOperand("a", a, aOffset, lda, m, k, transposeA);
    checkOperand("b", b, bOffset, ldb, k, n, transposeB);
    checkBatches(batches, aApart, bApart, m, n, c, cOffset, ldc, cApart);
    if (batches == 0) {
      return;
    }
    long aExtent = spread(batches, aApart, extent(m, k, lda, transposeA));
    long bExtent = spread(batches, bApart, extent(k, n, ldb, transposeB));
    long cExtent = spread(batches, cApart, extent(m, n, ldc, false));
    Checks.readable("a", a, aOffset, aExtent);
    Checks.readable("b", b, bOffset, bExtent);
    Checks.disjoint("c", c, cOffset, cExtent, "a", a, aOffset, aExtent);
    Checks.disjoint("c", c, cOffset, cExtent, "b", b, bOffset, bExtent);
    if (Staging.needed(a, b, c)) {
      try (var staging = new Staging()) {
        runBatched(
            batches,
            transposeA,
            transposeB,
            m,
            n,
            k,
            alpha,
            staging.input(a, aOffset * 4, aExtent * 4),
            0,
            lda,
            aApart,
            staging.input(b, bOffset * 4, bExtent * 4),
            0,
            ldb,
            bApart,
            beta,
            staging.output(c, cOffset * 4, cExtent * 4),
            0,
            ldc,
            cApart);
        staging.finish();
      }
      return;
    }
    runBatched(
        batches,
        transposeA,
        transposeB,
        m,
        n,
        k,
        alpha,
        a,
        aOffset,
        lda,
        aApart,
        b,
        bOffset,
        ldb,
        bApart,
        beta,
        c,
        cOffset,
        ldc,
        cApart);
  }

  /** Checks the distances of products and C's memory, a whole for all of them. */
  static void checkBatches(
      int batches,
      long aApart,
      long bApart,
      int m,
      int n,
      MemorySegment c,
      long cOffset,
      long ldc,
      long cApart) {
    if (batches < 0 || aApart < 0 || bApart < 0 || cApart < 0) {
      throw new IllegalArgumentException(
          batches + " products " + aApart + ", " + bApart + ", " + cApart + " elements apart");
    }
    checkOutput(c, cOffset, ldc, m, n);
    if (batches == 0) {
      return;
    }
    long extent = extent(m, n, ldc, false);
    Checks.writable("c", c, cOffset, spread(batches, cApart, extent));
    boolean apart = cApart >= extent;
    boolean interleaved = cApart >= n && (batches - 1L) <= (ldc - n) / Math.max(1, cApart);
    if (batches > 1 && m > 0 && n > 0 && !apart && !interleaved) {
      throw new IllegalArgumentException(
          "c's products overlap: "
              + m
              + " x "
              + n
              + " of stride "
              + ldc
              + ", "
              + cApart
              + " apart");
    }
  }

  static long spread(int batches, long apart, long extent) {
    if (extent == 0) {
      return 0;
    }
    try {
      return Math.addExact(Math.multiplyExact(batches - 1L, apart), extent);
    } catch (ArithmeticException e) {
      throw new IllegalArgumentException(
          batches + " products " + apart + " elements apart exceed any memory", e);
    }
  }

  private static void runBatched(
      int batches,
      boolean transposeA,
      boolean transposeB,
      int m,
      int n,
      int k,
      float alpha,
      MemorySegment a,
      long aOffset,
      long lda,
      long aApart,
      MemorySegment b,
      long bOffset,
      long ldb,
      long bApart,
      float beta,
      MemorySegment c,
      long cOffset,
      long ldc,
      long cApart) {
    GemmJob job =
        job(
            transposeA,
            transposeB,
            m,
            n,
            k,
            alpha,
            a,
            aOffset,
            lda,
            b,
            bOffset,
            ldb,
            null,
            beta,
            c,
            cOffset,
            ldc,
            null);
    try {
      job.batched(batches, aApart * Float.BYTES, bApart * Float.BYTES, cApart * Float.BYTES);
    } finally {
      job.release();
    }
  }

  private static void run(
      boolean transposeA,
      boolean transposeB,
      int m,
      int n,
      int k,
      float alpha,
      MemorySegment a,
      long aOffset,
      long lda,
      MemorySegment b,
      long bOffset,
      long ldb,
      PackedMatrix packed,
      float beta,
      MemorySegment c,
      long cOffset,
      long ldc,
      Epilogue epilogue) {
    GemmJob job =
        job(
            transposeA,
            transposeB,
            m,
            n,
            k,
            alpha,
            a,
            aOffset,
            lda,
            b,
            bOffset,
            ldb,
            packed,
            beta,
            c,
            cOffset,
            ldc,
            epilogue);
    try {
      job.multiply();
    } finally {
      job.release();
    }
  }

  private static GemmJob job(
      boolean transposeA,
      boolean transposeB,
      int m,
      int n,
      int k,
      float alpha,
      MemorySegment a,
      long aOffset,
      long lda,
      MemorySegment b,
      long bOffset,
      long ldb,
      PackedMatrix packed,
      float beta,
      MemorySegment c,
      long cOffset,
      long ldc,
      Epilogue epilogue) {
    GemmJob job = JOBS.take();
    job.a = a;
    job.aAt = aOffset * Float.BYTES;
    job.aStride = lda * Float.BYTES;
    job.aTransposed = transposeA;
    job.b = b;
    job.bAt = bOffset * Float.BYTES;
    job.bStride = ldb * Float.BYTES;
    job.bTransposed = transposeB;
    job.packed = packed;
    job.c = c;
    job.cAt = cOffset * Float.BYTES;
    job.cStride = ldc * Float.BYTES;
    job.m = m;
    job.n = n;
    job.k = k;
    job.alpha = alpha;
    job.beta = beta;
    job.epilogue = epilogue;
    job.isPaired = false;
    job.aHalf = false;
    job.bHalf = false;
    return job;
  }

  /** Checks that a matrix of {@code rows} by {@code cols}, or its transpose, is there to read. */
  static void checkOperand(
      String name,
      MemorySegment segment,
      long offset,
      long stride,
      int rows,
      int cols,
      boolean isTransposed) {
    checkOperand(name, segment, offset, stride, rows, cols, isTransposed, ElementType.FLOAT32);
  }

  static void checkOperand(
      String name,
      MemorySegment segment,
      long offset,
      long stride,
      int rows,
      int cols,
      boolean isTransposed,
      ElementType type) {
    Checks.present(name + "Type", type);
    if (rows < 0 || cols < 0) {
      throw new IllegalArgumentException(name + " has a negative shape: " + rows + " x " + cols);
    }
    int storedCols = isTransposed ? rows : cols;
    if (stride < storedCols) {
      throw new IllegalArgumentException(
          name + ": stride " + stride + " is shorter than a stored row of " + storedCols);
    }
    long extent = Checks.extent(name, isTransposed ? cols : rows, storedCols, stride);
    Checks.readable(name, segment, offset, extent, type.bytes());
    if (type == ElementType.FLOAT32) {
      Checks.arrayOfFloats(name, segment);
    }
  }

  private static long checkOutput(MemorySegment c, long offset, long ldc, int m, int n) {
    checkOperand("c", c, offset, ldc, m, n, false);
    long extent = extent(m, n, ldc, false);
    Checks.writable("c", c, offset, extent);
    return extent;
  }

  static Epilogue checkedEpilogue(
      Epilogue epilogue, int m, int n, MemorySegment c, long cOffset, long ldc) {
    if (epilogue == null || epilogue.isEmpty()) {
      return null;
    }
    epilogue.check(m, n, c, cOffset, ldc);
    return epilogue;
  }

  /** Floats from the first to past the last element of an operand, gaps included. */
  static long extent(int rows, int cols, long stride, boolean isTransposed) {
    return isTransposed ? Checks.extent(cols, rows, stride) : Checks.extent(rows, cols, stride);
  }

  private static void disjoint(
      MemorySegment c,
      long cOffset,
      long ldc,
      int m,
      int n,
      String name,
      MemorySegment other,
      long offset,
      long stride,
      int rows,
      int cols,
      boolean isTransposed) {
    Checks.disjoint(
        "c",
        c,
        cOffset,
        m,
        n,
        ldc,
        name,
        other,
        offset,
        isTransposed ? cols : rows,
        isTransposed ? rows : cols,
        stride);
  }
}
