package dev.lanewise.simd;

import static dev.lanewise.simd.Machine.F;
import static dev.lanewise.simd.Machine.LANES;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;

/**
 * Products of matrices and vectors by their names in BLAS, for row-major matrices. {@link Gemm} has
 * products of two matrices with views and with epilogues too.
 *
 * <p>A wrong call gives an {@link IllegalArgumentException} before anything is written.
 */
public final class Blas {
  private static final ByteOrder ORDER = ByteOrder.nativeOrder();
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;

  /** Elements of A in a task. */
  private static final int CHUNK = 1 << 15;

  private Blas() {}

  /**
   * {@code y = alpha * op(A) * x + beta * y}, where {@code op(A)} is A or its transpose.
   *
   * <p>A is row-major {@code [m, n]}: row i lies {@code i * lda} floats after the first. When beta
   * is 0, y is written without being read; when alpha is 0, A and x are not read.
   *
   * @param transA whether A is used transposed: y then has n elements and x has m
   * @param m rows of A as it is stored
   * @param n columns of A as it is stored
   * @param alpha factor of the product
   * @param a memory of A
   * @param aOffset first float of A
   * @param lda distance between rows of A, at least {@code n}
   * @param x memory of x
   * @param xOffset first float of x
   * @param incx distance between elements of x, at least 1
   * @param beta factor of y
   * @param y memory of y
   * @param yOffset first float of y
   * @param incy distance between elements of y, at least 1
   */
  public static void sgemv(
      boolean transA,
      int m,
      int n,
      float alpha,
      MemorySegment a,
      long aOffset,
      long lda,
      MemorySegment x,
      long xOffset,
      int incx,
      float beta,
      MemorySegment y,
      long yOffset,
      int incy) {
    sizes(m, n);
    int inner = transA ? m : n;
    int outer = transA ? n : m;
    matrix("a", a, aOffset, m, n, lda, false);
    vector("x", x, xOffset, inner, incx, false);
    vector("y", y, yOffset, outer, incy, true);
    Matrix stored = new Matrix(a, aOffset, m, n, Math.max(lda, n), false);
    Gemm.multiply(
        alpha,
        transA ? stored.transposed() : stored,
        new Matrix(x, xOffset, inner, 1, incx, false),
        beta,
        new Matrix(y, yOffset, outer, 1, incy, false));
  }

  /**
   * {@code A = alpha * x * y' + A}, the outer product of two vectors added to a matrix.
   *
   * <p>A is row-major {@code [m, n]}: row i lies {@code i * lda} floats after the first.
   *
   * @param m rows of A, elements of x
   * @param n columns of A, elements of y
   * @param alpha factor of the product
   * @param x memory of x
   * @param xOffset first float of x
   * @param incx distance between elements of x, at least 1
   * @param y memory of y
   * @param yOffset first float of y
   * @param incy distance between elements of y, at least 1
   * @param a memory of A
   * @param aOffset first float of A
   * @param lda distance between rows of A, at least {@code n}
   */
  public static void sger(
      int m,
      int n,
      float alpha,
      MemorySegment x,
      long xOffset,
      int incx,
      MemorySegment y,
      long yOffset,
      int incy,
      MemorySegment a,
      long aOffset,
      long lda) {
    sizes(m, n);
    matrix("a", a, aOffset, m, n, lda, true);
    vector("x", x, xOffset, m, incx, false);
    vector("y", y, yOffset, n, incy, false);
    try (Call call = Call.take();
        Scratch row = Scratch.take(Math.max(1, (long) n * Float.BYTES))) {
      call.output("a", a, aOffset, m, n, Math.max(lda, n));
      call.input("x", x, xOffset, m, 1, incx);
      call.input("y", y, yOffset, n, 1, incy);
      call.rows = m;
      call.cols = n;
      call.scalar[0] = alpha;
      call.scratch = row.segment;
      call.taskRows = Math.clamp(CHUNK / Math.max(1, n), 1, Math.max(1, m));
      if (m == 0 || n == 0 || alpha == 0) {
        call.run(0, Blas::gerTask);
      } else {
        call.run(1, Blas::gather, call.rowTasks(), Blas::gerTask);
      }
    }
  }

  /** Copies y next to each other. */
  private static void gather(Call call, int task) {
    for (int j = 0; j < call.cols; j++) {
      float value = call.segment[2].get(FLOAT, call.at(2, j, 0));
      call.scratch.set(FLOAT, (long) j * Float.BYTES, value);
    }
  }

  private static void gerTask(Call call, int task) {
    long end = call.endRow(task);
    for (long i = call.firstRow(task); i < end; i++) {
      float factor = call.scalar[0] * call.segment[1].get(FLOAT, call.at(1, i, 0));
      addScaled(factor, call.scratch, call.segment[0], call.at(0, i, 0), (int) call.cols);
    }
  }

  /** {@code y += factor * x}, the product rounded with the sum. */
  private static void addScaled(float factor, MemorySegment x, MemorySegment y, long yAt, int n) {
    x = Native.known(x);
    y = Native.known(y);
    FloatVector scale = FloatVector.broadcast(F, factor);
    int i = 0;
    for (; i <= n - LANES; i += LANES) {
      long at = (long) i * Float.BYTES;
      FloatVector v = FloatVector.fromMemorySegment(F, x, at, ORDER);
      scale
          .fma(v, FloatVector.fromMemorySegment(F, y, yAt + at, ORDER))
          .intoMemorySegment(y, yAt + at, ORDER);
    }
    for (; i < n; i++) {
      long at = (long) i * Float.BYTES;
      y.set(FLOAT, yAt + at, Math.fma(factor, x.get(FLOAT, at), y.get(FLOAT, yAt + at)));
    }
  }

  /**
   * {@code C = alpha * op(A) * op(B) + beta * C}, as {@link Gemm#sgemm}.
   *
   * @param transA whether A is stored as {@code [k, m]} rather than {@code [m, k]}
   * @param transB whether B is stored as {@code [n, k]} rather than {@code [k, n]}
   * @param m rows of op(A) and C
   * @param n columns of op(B) and C
   * @param k columns of op(A), rows of op(B)
   * @param alpha factor of the product
   * @param a memory of A
   * @param aOffset first float of A
   * @param lda distance between stored rows of A
   * @param b memory of B
   * @param bOffset first float of B
   * @param ldb distance between stored rows of B
   * @param beta factor of C
   * @param c memory of C
   * @param cOffset first float of C
   * @param ldc distance between rows of C
   */
  public static void sgemm(
      boolean transA,
      boolean transB,
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
    Gemm.sgemm(
        transA, transB, m, n, k, alpha, a, aOffset, lda, b, bOffset, ldb, beta, c, cOffset, ldc);
  }

  /**
   * Products of one shape with operands at fixed distances, {@code C[i] = alpha * op(A[i]) *
   * op(B[i]) + beta * C[i]}. A distance of 0 uses the same A or B every time.
   *
   * @param transA whether each A is stored as {@code [k, m]} rather than {@code [m, k]}
   * @param transB whether each B is stored as {@code [n, k]} rather than {@code [k, n]}
   * @param m rows of op(A) and C
   * @param n columns of op(B) and C
   * @param k columns of op(A), rows of op(B)
   * @param alpha factor of the products
   * @param a memory of all A
   * @param aOffset first float of the first A
   * @param lda distance between stored rows of A
   * @param strideA floats from one A to the next
   * @param b memory of all B
   * @param bOffset first float of the first B
   * @param ldb distance between stored rows of B
   * @param strideB floats from one B to the next
   * @param beta factor of each C
   * @param c memory of all C
   * @param cOffset first float of the first C
   * @param ldc distance between rows of C
   * @param strideC floats from one C to the next; the products' elements must not overlap
   * @param batchCount number of products
   */
  public static void sgemmStridedBatched(
      boolean transA,
      boolean transB,
      int m,
      int n,
      int k,
      float alpha,
      MemorySegment a,
      long aOffset,
      long lda,
      long strideA,
      MemorySegment b,
      long bOffset,
      long ldb,
      long strideB,
      float beta,
      MemorySegment c,
      long cOffset,
      long ldc,
      long strideC,
      int batchCount) {
    Gemm.batched(
        batchCount,
        transA,
        transB,
        m,
        n,
        k,
        alpha,
        a,
        aOffset,
        lda,
        strideA,
        b,
        bOffset,
        ldb,
        strideB,
        beta,
        c,
        cOffset,
        ldc,
        strideC);
  }

  private static void sizes(int m, int n) {
    if (m < 0 || n < 0) {
      throw new IllegalArgumentException("negative sizes: m is " + m + ", n is " + n);
    }
  }

  private static void matrix(
      String name, MemorySegment s, long offset, int rows, int cols, long ld, boolean isOutput) {
    if (ld < Math.max(1, cols)) {
      throw new IllegalArgumentException(
          "ld" + name + " is " + ld + "; it must be at least " + Math.max(1, cols));
    }
    check(name, s, offset, Checks.extent(name, rows, cols, ld), isOutput);
  }

  private static void vector(
      String name, MemorySegment s, long offset, int n, int inc, boolean isOutput) {
    if (inc < 1) {
      throw new IllegalArgumentException("inc" + name + " is " + inc + "; it must be at least 1");
    }
    check(name, s, offset, Checks.extent(name, n, 1, inc), isOutput);
  }

  private static void check(
      String name, MemorySegment s, long offset, long extent, boolean isOutput) {
    if (isOutput) {
      Checks.writable(name, s, offset, extent);
    } else {
      Checks.readable(name, s, offset, extent);
    }
  }
}
