package dev.lanewise.core.backend.cuda;

import dev.lanewise.core.backend.DType;
import dev.lanewise.core.backend.Precision;
import dev.lanewise.simd.Bfloat16;
import dev.lanewise.simd.Matrix;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.List;
import java.util.Locale;

/**
 * Products of matrices in host memory by a GPU's cuBLAS, in the place of {@link
 * dev.lanewise.simd.Gemm}: the same views, the same rules for shapes. Operands travel to the device
 * and the result back with every call, so this pays for large products only; a model that lives on
 * the device uses {@link CudaBackend}.
 *
 * <p>Sums are float32. {@link Precision#TF32} and {@link Precision#BF16} round the operands. Calls
 * return when the result is there. One thread at a time.
 */
public final class CudaGemm implements AutoCloseable {
  private final Driver driver;
  private final Cublas cublas;
  private final Precision precision;
  private final DType type;
  private final int device;
  private final long context;
  private final long stream;
  private final long handle;
  private final CudaMemory memory;
  private final Releases releases = new Releases();
  private boolean closed;

  private CudaGemm(Precision precision) {
    this.precision = precision;
    type = precision == Precision.BF16 ? DType.BFLOAT16 : DType.FLOAT32;
    driver = Driver.open();
    cublas = Cublas.open(driver.cudaMajor());
    if (driver.deviceCount() == 0) {
      throw new CudaUnavailableException(
          "The NVIDIA driver sees no GPU: check CUDA_VISIBLE_DEVICES.");
    }
    device = driver.device(0);
    try {
      context = driver.devicePrimaryCtxRetain(device);
      releases.add(() -> driver.devicePrimaryCtxRelease(device));
      driver.ctxSetCurrent(context);
      stream = driver.streamCreate();
      releases.add(() -> driver.streamDestroy(stream));
      memory = new CudaMemory(driver, stream, driver.deviceName(device));
      releases.add(memory::close);
      handle = cublas.create();
      releases.add(() -> cublas.destroy(handle));
      cublas.setStream(handle, stream);
      cublas.setMathMode(
          handle, precision == Precision.TF32 ? Cublas.MATH_TF32 : Cublas.MATH_DEFAULT);
    } catch (RuntimeException e) {
      throw releases.after(e);
    }
  }

  /**
   * Opens the first GPU.
   *
   * @param precision what products are computed in
   * @throws CudaUnavailableException if a library or a GPU is missing; the message is the mend
   */
  public static CudaGemm open(Precision precision) {
    return new CudaGemm(precision);
  }

  /**
   * {@code C = A · B}.
   *
   * @param a of shape {@code [m, k]}
   * @param b of shape {@code [k, n]}
   * @param c of shape {@code [m, n]}; may be a transposed view
   */
  public void multiply(Matrix a, Matrix b, Matrix c) {
    multiply(1, a, b, 0, c);
  }

  /**
   * {@code C = alpha · A · B + beta · C}. With {@code beta} 0, C is not read.
   *
   * @param a of shape {@code [m, k]}
   * @param b of shape {@code [k, n]}
   * @param c of shape {@code [m, n]}; may be a transposed view
   */
  public void multiply(float alpha, Matrix a, Matrix b, float beta, Matrix c) {
    batched(alpha, List.of(a), List.of(b), beta, List.of(c));
  }

  /**
   * {@code C[i] = alpha · A[i] · B[i] + beta · C[i]}, all of one shape and orientation.
   *
   * @param a each of shape {@code [m, k]}
   * @param b each of shape {@code [k, n]}, or one for all
   * @param c each of shape {@code [m, n]}; they must not share memory
   */
  public void batched(float alpha, List<Matrix> a, List<Matrix> b, float beta, List<Matrix> c) {
    int batch = c.size();
    if (batch == 0) {
      return;
    }
    if (a.size() != batch || (b.size() != batch && b.size() != 1)) {
      throw new IllegalArgumentException(
          "a batch of " + a.size() + " A, " + b.size() + " B and " + batch + " C");
    }
    for (int i = 0; i < batch; i++) {
      check(a.get(i), b.get(b.size() == 1 ? 0 : i), c.get(i), a, b, c);
    }
    if (c.getFirst().isTransposed()) {
      // Cᵀ = Bᵀ · Aᵀ, which is stored row by row.
      run(alpha, transposed(b), transposed(a), beta, transposed(c));
    } else {
      run(alpha, a, b, beta, c);
    }
  }

  private static List<Matrix> transposed(List<Matrix> matrices) {
    return matrices.stream().map(Matrix::transposed).toList();
  }

  private static void check(
      Matrix a, Matrix b, Matrix c, List<Matrix> as, List<Matrix> bs, List<Matrix> cs) {
    if (a.cols() != b.rows() || a.rows() != c.rows() || b.cols() != c.cols()) {
      throw new IllegalArgumentException(
          String.format(
              Locale.ROOT,
              "%d x %d times %d x %d does not give %d x %d",
              a.rows(),
              a.cols(),
              b.rows(),
              b.cols(),
              c.rows(),
              c.cols()));
    }
    if (!alike(a, as.getFirst()) || !alike(b, bs.getFirst()) || !alike(c, cs.getFirst())) {
      throw new IllegalArgumentException("a batch of several shapes or orientations");
    }
    if (c.segment().isReadOnly()) {
      throw new IllegalArgumentException("c is read-only");
    }
  }

  private static boolean alike(Matrix x, Matrix y) {
    return x.rows() == y.rows() && x.cols() == y.cols() && x.isTransposed() == y.isTransposed();
  }

  /** All C row by row. */
  private void run(float alpha, List<Matrix> a, List<Matrix> b, float beta, List<Matrix> c) {
    if (closed) {
      throw new IllegalStateException("this CudaGemm has been closed");
    }
    driver.ctxSetCurrent(context);
    memory.resetScratch();
    int m = c.getFirst().rows();
    int n = c.getFirst().cols();
    int k = a.getFirst().cols();
    if (m == 0 || n == 0) {
      return;
    }
    long sizeA = (long) m * k;
    long sizeB = (long) k * n;
    long sizeC = (long) m * n;
    boolean read = k > 0 && alpha != 0;
    long left = memory.scratch(Math.max(1, sizeA * a.size()) * type.bytes);
    long right = memory.scratch(Math.max(1, sizeB * b.size()) * type.bytes);
    long result = memory.scratch(4 * sizeC * c.size());
    if (read) {
      upload(a, left, type);
      upload(b, right, type);
    }
    if (beta != 0) {
      upload(c, result, DType.FLOAT32);
    }
    // Row-major C = A · B is column-major Cᵀ = Bᵀ · Aᵀ, so B comes first.
    boolean transposeB = b.getFirst().isTransposed();
    boolean transposeA = a.getFirst().isTransposed();
    int ldb = Math.max(1, transposeB ? k : n);
    int lda = Math.max(1, transposeA ? m : k);
    if (c.size() == 1 && type == DType.FLOAT32) {
      cublas.sgemm(
          handle, transposeB, transposeA, n, m, k, alpha, right, ldb, left, lda, beta, result, n);
    } else {
      int operands = CudaMatmul.cudaType(type);
      cublas.gemmStridedBatched(
          handle,
          transposeB,
          transposeA,
          n,
          m,
          k,
          alpha,
          right,
          operands,
          ldb,
          b.size() == 1 ? 0 : sizeB,
          left,
          operands,
          lda,
          sizeA,
          beta,
          result,
          CublasLt.TYPE_FLOAT32,
          n,
          sizeC,
          c.size(),
          precision == Precision.TF32 ? CublasLt.COMPUTE_32F_FAST_TF32 : CublasLt.COMPUTE_32F);
    }
    download(result, c);
  }

  /** Rows as they are stored, one after the other. */
  private void upload(List<Matrix> matrices, long to, DType as) {
    long at = to;
    // Rounding is spread over worker threads, so the arena is shared.
    try (Arena arena = Arena.ofShared()) {
      MemorySegment dense = null;
      for (Matrix matrix : matrices) {
        long rows = matrix.isTransposed() ? matrix.cols() : matrix.rows();
        long cols = matrix.isTransposed() ? matrix.rows() : matrix.cols();
        if (rows == 0 || cols == 0) {
          continue;
        }
        MemorySegment source = matrix.segment();
        if (as == DType.FLOAT32 && (matrix.stride() == cols || rows == 1)) {
          memory.upload(source.asSlice(4 * matrix.offset(), 4 * rows * cols), at);
        } else {
          if (dense == null) {
            dense = arena.allocate(rows * cols * as.bytes, 64);
          }
          for (long row = 0; row < rows; row++) {
            long from = matrix.offset() + row * matrix.stride();
            if (as == DType.FLOAT32) {
              MemorySegment.copy(source, 4 * from, dense, 4 * row * cols, 4 * cols);
            } else {
              Bfloat16.fromFloat(source, from, dense, row * cols, cols);
            }
          }
          memory.upload(dense, at);
        }
        at += rows * cols * as.bytes;
      }
    }
  }

  private void download(long from, List<Matrix> matrices) {
    long at = from;
    for (Matrix matrix : matrices) {
      long rows = matrix.rows();
      long cols = matrix.cols();
      if (matrix.stride() == cols) {
        memory.download(at, matrix.segment().asSlice(4 * matrix.offset(), 4 * rows * cols));
      } else {
        for (long row = 0; row < rows; row++) {
          long to = matrix.offset() + row * matrix.stride();
          memory.download(at + 4 * row * cols, matrix.segment().asSlice(4 * to, 4 * cols));
        }
      }
      at += 4 * rows * cols;
    }
  }

  @Override
  public void close() {
    if (!closed) {
      closed = true;
      releases.add(() -> driver.ctxSetCurrent(context));
      releases.close();
    }
  }
}
