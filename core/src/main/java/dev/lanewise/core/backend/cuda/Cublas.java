package dev.lanewise.core.backend.cuda;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;

/** Plain cuBLAS over device memory. Column-major, as the library has it. */
final class Cublas extends NativeLibrary {
  static final int MATH_DEFAULT = 0;
  static final int MATH_TF32 = 3;

  private static final int ALGORITHM_DEFAULT = -1;

  private final MethodHandle cublasGetStatusName =
      function("cublasGetStatusName", FunctionDescriptor.of(ADDRESS, JAVA_INT));
  private final MethodHandle cublasCreate = status("cublasCreate_v2", ADDRESS);
  private final MethodHandle cublasDestroy = status("cublasDestroy_v2", JAVA_LONG);
  private final MethodHandle cublasGetVersion = status("cublasGetVersion_v2", JAVA_LONG, ADDRESS);
  private final MethodHandle cublasSetStream = status("cublasSetStream_v2", JAVA_LONG, JAVA_LONG);
  private final MethodHandle cublasSetMathMode = status("cublasSetMathMode", JAVA_LONG, JAVA_INT);
  private final MethodHandle cublasSgemm =
      status(
          "cublasSgemm_v2",
          JAVA_LONG,
          JAVA_INT,
          JAVA_INT,
          JAVA_INT,
          JAVA_INT,
          JAVA_INT,
          ADDRESS,
          JAVA_LONG,
          JAVA_INT,
          JAVA_LONG,
          JAVA_INT,
          ADDRESS,
          JAVA_LONG,
          JAVA_INT);
  private final MethodHandle cublasGemmStridedBatchedEx =
      status(
          "cublasGemmStridedBatchedEx",
          JAVA_LONG,
          JAVA_INT,
          JAVA_INT,
          JAVA_INT,
          JAVA_INT,
          JAVA_INT,
          ADDRESS,
          JAVA_LONG,
          JAVA_INT,
          JAVA_INT,
          JAVA_LONG,
          JAVA_LONG,
          JAVA_INT,
          JAVA_INT,
          JAVA_LONG,
          ADDRESS,
          JAVA_LONG,
          JAVA_INT,
          JAVA_INT,
          JAVA_LONG,
          JAVA_INT,
          JAVA_INT,
          JAVA_INT);

  private Cublas(CudaLibraries.Opened library) {
    super(library);
  }

  /** Opens the library, that of the driver's own major version of CUDA if there are several. */
  static Cublas open(int cudaMajor) {
    return new Cublas(CudaLibraries.cublas(cudaMajor));
  }

  private void check(String function, int status) {
    if (status != 0) {
      throw new CudaException(function, status, statusName(status), "");
    }
  }

  private String statusName(int status) {
    try {
      return string((MemorySegment) cublasGetStatusName.invokeExact(status));
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }

  /** Makes a handle for the current context. */
  long create() {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment out = arena.allocate(JAVA_LONG);
      check("cublasCreate", (int) cublasCreate.invokeExact(out));
      return out.get(JAVA_LONG, 0);
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }

  void destroy(long handle) {
    try {
      check("cublasDestroy", (int) cublasDestroy.invokeExact(handle));
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }

  /** Version as {@code 10000 * major + 100 * minor + patch}. */
  int version(long handle) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment out = arena.allocate(JAVA_INT);
      check("cublasGetVersion", (int) cublasGetVersion.invokeExact(handle, out));
      return out.get(JAVA_INT, 0);
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }

  void setStream(long handle, long stream) {
    try {
      check("cublasSetStream", (int) cublasSetStream.invokeExact(handle, stream));
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }

  void setMathMode(long handle, int mode) {
    try {
      check("cublasSetMathMode", (int) cublasSetMathMode.invokeExact(handle, mode));
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }

  /**
   * Queues {@code C = alpha * op(A) · op(B) + beta * C} in float32, C of shape {@code [m, n]}.
   *
   * @param lda elements from column to column of A as stored; b and c likewise
   */
  void sgemm(
      long handle,
      boolean transposeA,
      boolean transposeB,
      int m,
      int n,
      int k,
      float alpha,
      long a,
      int lda,
      long b,
      int ldb,
      float beta,
      long c,
      int ldc) {
    try (Arena arena = Arena.ofConfined()) {
      check(
          "cublasSgemm",
          (int)
              cublasSgemm.invokeExact(
                  handle,
                  transposeA ? 1 : 0,
                  transposeB ? 1 : 0,
                  m,
                  n,
                  k,
                  arena.allocateFrom(ValueLayout.JAVA_FLOAT, alpha),
                  a,
                  lda,
                  b,
                  ldb,
                  arena.allocateFrom(ValueLayout.JAVA_FLOAT, beta),
                  c,
                  ldc));
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }

  /**
   * Queues a batch of products with float32 accumulation, over types that {@link CublasLt} numbers.
   *
   * @param strideA elements from matrix to matrix of A; b and c likewise
   * @param computeType {@link CublasLt#COMPUTE_32F} or {@link CublasLt#COMPUTE_32F_FAST_TF32}
   */
  void gemmStridedBatched(
      long handle,
      boolean transposeA,
      boolean transposeB,
      int m,
      int n,
      int k,
      float alpha,
      long a,
      int typeA,
      int lda,
      long strideA,
      long b,
      int typeB,
      int ldb,
      long strideB,
      float beta,
      long c,
      int typeC,
      int ldc,
      long strideC,
      int batch,
      int computeType) {
    try (Arena arena = Arena.ofConfined()) {
      check(
          "cublasGemmStridedBatchedEx",
          (int)
              cublasGemmStridedBatchedEx.invokeExact(
                  handle,
                  transposeA ? 1 : 0,
                  transposeB ? 1 : 0,
                  m,
                  n,
                  k,
                  arena.allocateFrom(ValueLayout.JAVA_FLOAT, alpha),
                  a,
                  typeA,
                  lda,
                  strideA,
                  b,
                  typeB,
                  ldb,
                  strideB,
                  arena.allocateFrom(ValueLayout.JAVA_FLOAT, beta),
                  c,
                  typeC,
                  ldc,
                  strideC,
                  batch,
                  computeType,
                  ALGORITHM_DEFAULT));
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }
}
