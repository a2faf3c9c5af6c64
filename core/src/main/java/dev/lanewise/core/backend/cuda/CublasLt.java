package dev.lanewise.core.backend.cuda;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.MemorySegment;
import java.lang.invoke.MethodHandle;

/** cuBLASLt: matrix products with chosen algorithms and fused epilogues. Column-major. */
final class CublasLt extends NativeLibrary {
  static final int TYPE_FLOAT32 = 0;
  static final int TYPE_BFLOAT16 = 14;

  static final int COMPUTE_32F = 68;
  static final int COMPUTE_32F_FAST_TF32 = 77;

  static final int MATMUL_TRANSPOSE_A = 3;
  static final int MATMUL_TRANSPOSE_B = 4;
  static final int MATMUL_EPILOGUE = 7;
  static final int MATMUL_BIAS_POINTER = 8;
  static final int MATMUL_AUX_POINTER = 11;
  static final int MATMUL_AUX_LD = 12;
  static final int MATMUL_AUX_DATA_TYPE = 22;
  static final int MATMUL_BIAS_DATA_TYPE = 26;

  static final int LAYOUT_BATCH_COUNT = 5;
  static final int LAYOUT_BATCH_STRIDE = 6;

  static final int PREFERENCE_MAX_WORKSPACE = 1;

  /** Least alignment of A in bytes; those of B, C and D are the next three. */
  static final int PREFERENCE_ALIGNMENT_A = 5;

  static final int EPILOGUE_NONE = 1;
  static final int EPILOGUE_BIAS = 4;
  static final int EPILOGUE_GELU = 32;
  static final int EPILOGUE_GELU_BIAS = 36;
  static final int EPILOGUE_GELU_AUX = 160;
  static final int EPILOGUE_GELU_AUX_BIAS = 164;
  static final int EPILOGUE_DGELU = 192;
  static final int EPILOGUE_BIAS_GRADIENT_B = 512;

  static final int STATUS_NOT_INITIALIZED = 1;
  static final int STATUS_INVALID_VALUE = 7;
  static final int STATUS_NOT_SUPPORTED = 15;

  /** Size of {@code cublasLtMatmulHeuristicResult_t}; the algorithm's 64 bytes come first. */
  static final int HEURISTIC_BYTES = 96;

  static final int HEURISTIC_WORKSPACE = 64;
  static final int HEURISTIC_STATE = 72;

  private final MethodHandle cublasLtGetStatusName =
      function("cublasLtGetStatusName", FunctionDescriptor.of(ADDRESS, JAVA_INT));
  private final MethodHandle cublasLtGetVersion =
      function("cublasLtGetVersion", FunctionDescriptor.of(JAVA_LONG));
  private final MethodHandle cublasLtCreate = status("cublasLtCreate", ADDRESS);
  private final MethodHandle cublasLtDestroy = status("cublasLtDestroy", JAVA_LONG);
  private final MethodHandle cublasLtMatmulDescCreate =
      status("cublasLtMatmulDescCreate", ADDRESS, JAVA_INT, JAVA_INT);
  private final MethodHandle cublasLtMatmulDescSetAttribute =
      status("cublasLtMatmulDescSetAttribute", JAVA_LONG, JAVA_INT, ADDRESS, JAVA_LONG);
  private final MethodHandle cublasLtMatmulDescGetAttribute =
      status("cublasLtMatmulDescGetAttribute", JAVA_LONG, JAVA_INT, ADDRESS, JAVA_LONG, ADDRESS);
  private final MethodHandle cublasLtMatmulDescDestroy =
      status("cublasLtMatmulDescDestroy", JAVA_LONG);
  private final MethodHandle cublasLtMatrixLayoutCreate =
      status("cublasLtMatrixLayoutCreate", ADDRESS, JAVA_INT, JAVA_LONG, JAVA_LONG, JAVA_LONG);
  private final MethodHandle cublasLtMatrixLayoutSetAttribute =
      status("cublasLtMatrixLayoutSetAttribute", JAVA_LONG, JAVA_INT, ADDRESS, JAVA_LONG);
  private final MethodHandle cublasLtMatrixLayoutDestroy =
      status("cublasLtMatrixLayoutDestroy", JAVA_LONG);
  private final MethodHandle cublasLtMatmulPreferenceCreate =
      status("cublasLtMatmulPreferenceCreate", ADDRESS);
  private final MethodHandle cublasLtMatmulPreferenceSetAttribute =
      status("cublasLtMatmulPreferenceSetAttribute", JAVA_LONG, JAVA_INT, ADDRESS, JAVA_LONG);
  private final MethodHandle cublasLtMatmulPreferenceDestroy =
      status("cublasLtMatmulPreferenceDestroy", JAVA_LONG);
  private final MethodHandle cublasLtMatmulAlgoGetHeuristic =
      status(
          "cublasLtMatmulAlgoGetHeuristic",
          JAVA_LONG,
          JAVA_LONG,
          JAVA_LONG,
          JAVA_LONG,
          JAVA_LONG,
          JAVA_LONG,
          JAVA_LONG,
          JAVA_INT,
          ADDRESS,
          ADDRESS);
  private final MethodHandle cublasLtMatmul =
      status(
          "cublasLtMatmul",
          JAVA_LONG,
          JAVA_LONG,
          ADDRESS,
          JAVA_LONG,
          JAVA_LONG,
          JAVA_LONG,
          JAVA_LONG,
          ADDRESS,
          JAVA_LONG,
          JAVA_LONG,
          JAVA_LONG,
          JAVA_LONG,
          ADDRESS,
          JAVA_LONG,
          JAVA_LONG,
          JAVA_LONG);

  private CublasLt(CudaLibraries.Opened library) {
    super(library);
  }

  /** Opens the library, that of the driver's own major version of CUDA if there are several. */
  static CublasLt open(int cudaMajor) {
    return new CublasLt(CudaLibraries.cublasLt(cudaMajor));
  }

  private void check(String function, int status) {
    if (status != 0) {
      String detail =
          status == STATUS_NOT_INITIALIZED
              ? path() + " does not start; it may be newer than the driver"
              : "";
      throw new CudaException(function, status, statusName(status), detail);
    }
  }

  private String statusName(int status) {
    try {
      return string((MemorySegment) cublasLtGetStatusName.invokeExact(status));
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }

  /** Version as {@code 10000 * major + 100 * minor + patch}. */
  long version() {
    try {
      return (long) cublasLtGetVersion.invokeExact();
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }

  /** Makes a handle for the current context. */
  long create() {
    return handleOut("cublasLtCreate", out -> (int) cublasLtCreate.invokeExact(out));
  }

  void destroy(long handle) {
    try {
      check("cublasLtDestroy", (int) cublasLtDestroy.invokeExact(handle));
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }

  /** Makes a description of a product whose scalars are float32 in host memory. */
  long matmulDescCreate(int computeType) {
    return handleOut(
        "cublasLtMatmulDescCreate",
        out -> (int) cublasLtMatmulDescCreate.invokeExact(out, computeType, TYPE_FLOAT32));
  }

  void matmulDescSet(long description, int attribute, int value) {
    try (Arena arena = Arena.ofConfined()) {
      check(
          "cublasLtMatmulDescSetAttribute",
          (int)
              cublasLtMatmulDescSetAttribute.invokeExact(
                  description, attribute, arena.allocateFrom(JAVA_INT, value), 4L));
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }

  /**
   * Sets an attribute of 8 bytes.
   *
   * @param value native memory that holds it, kept by the caller because this is called for every
   *     product with an epilogue
   */
  void matmulDescSet(long description, int attribute, MemorySegment value) {
    try {
      check(
          "cublasLtMatmulDescSetAttribute",
          (int)
              cublasLtMatmulDescSetAttribute.invokeExact(
                  description, attribute, value, value.byteSize()));
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }

  /** Size in bytes that the library gives an attribute, or -1 if it knows no such attribute. */
  long matmulDescAttributeSize(long description, int attribute) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment written = arena.allocate(JAVA_LONG);
      int status =
          (int)
              cublasLtMatmulDescGetAttribute.invokeExact(
                  description, attribute, MemorySegment.NULL, 0L, written);
      return status == 0 ? written.get(JAVA_LONG, 0) : -1;
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }

  void matmulDescDestroy(long description) {
    try {
      check("cublasLtMatmulDescDestroy", (int) cublasLtMatmulDescDestroy.invokeExact(description));
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }

  /** Describes a column-major matrix. */
  long layoutCreate(int type, long rows, long cols, long leadingDimension) {
    return handleOut(
        "cublasLtMatrixLayoutCreate",
        out ->
            (int) cublasLtMatrixLayoutCreate.invokeExact(out, type, rows, cols, leadingDimension));
  }

  /** Makes a layout describe a batch, {@code stride} elements from matrix to matrix. */
  void layoutSetBatch(long layout, int count, long stride) {
    try (Arena arena = Arena.ofConfined()) {
      check(
          "cublasLtMatrixLayoutSetAttribute",
          (int)
              cublasLtMatrixLayoutSetAttribute.invokeExact(
                  layout, LAYOUT_BATCH_COUNT, arena.allocateFrom(JAVA_INT, count), 4L));
      check(
          "cublasLtMatrixLayoutSetAttribute",
          (int)
              cublasLtMatrixLayoutSetAttribute.invokeExact(
                  layout, LAYOUT_BATCH_STRIDE, arena.allocateFrom(JAVA_LONG, stride), 8L));
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }

  void layoutDestroy(long layout) {
    try {
      check("cublasLtMatrixLayoutDestroy", (int) cublasLtMatrixLayoutDestroy.invokeExact(layout));
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }

  /**
   * Asks for the best algorithm.
   *
   * @param alignments least alignment in bytes of A, B, C and D
   * @param fused whether the product has an epilogue; some that it lacks the library calls invalid
   * @param result {@link #HEURISTIC_BYTES}, filled if there is one
   * @return whether the library has an algorithm for this product
   */
  boolean heuristic(
      long handle,
      long description,
      long a,
      long b,
      long c,
      long d,
      long maxWorkspace,
      int[] alignments,
      boolean fused,
      MemorySegment result) {
    try (Arena arena = Arena.ofConfined()) {
      long preference =
          handleOut(
              "cublasLtMatmulPreferenceCreate",
              out -> (int) cublasLtMatmulPreferenceCreate.invokeExact(out));
      try {
        check(
            "cublasLtMatmulPreferenceSetAttribute",
            (int)
                cublasLtMatmulPreferenceSetAttribute.invokeExact(
                    preference,
                    PREFERENCE_MAX_WORKSPACE,
                    arena.allocateFrom(JAVA_LONG, maxWorkspace),
                    8L));
        for (int i = 0; i < alignments.length; i++) {
          check(
              "cublasLtMatmulPreferenceSetAttribute",
              (int)
                  cublasLtMatmulPreferenceSetAttribute.invokeExact(
                      preference,
                      PREFERENCE_ALIGNMENT_A + i,
                      arena.allocateFrom(JAVA_INT, alignments[i]),
                      4L));
        }
        MemorySegment found = arena.allocate(JAVA_INT);
        int status =
            (int)
                cublasLtMatmulAlgoGetHeuristic.invokeExact(
                    handle, description, a, b, c, d, preference, 1, result, found);
        if (status == STATUS_NOT_SUPPORTED || fused && status == STATUS_INVALID_VALUE) {
          return false;
        }
        check("cublasLtMatmulAlgoGetHeuristic", status);
        return found.get(JAVA_INT, 0) > 0 && result.get(JAVA_INT, HEURISTIC_STATE) == 0;
      } finally {
        int status = (int) cublasLtMatmulPreferenceDestroy.invokeExact(preference);
        check("cublasLtMatmulPreferenceDestroy", status);
      }
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }

  /** Queues {@code D = alpha * op(A) · op(B) + beta * C}; scalars lie in host memory. */
  void matmul(
      long handle,
      long description,
      MemorySegment alpha,
      long a,
      long aLayout,
      long b,
      long bLayout,
      MemorySegment beta,
      long c,
      long cLayout,
      long d,
      long dLayout,
      MemorySegment algorithm,
      long workspace,
      long workspaceBytes,
      long stream) {
    try {
      check(
          "cublasLtMatmul",
          (int)
              cublasLtMatmul.invokeExact(
                  handle,
                  description,
                  alpha,
                  a,
                  aLayout,
                  b,
                  bLayout,
                  beta,
                  c,
                  cLayout,
                  d,
                  dLayout,
                  algorithm,
                  workspace,
                  workspaceBytes,
                  stream));
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }

  @FunctionalInterface
  private interface OutCall {
    int call(MemorySegment out) throws Throwable;
  }

  private long handleOut(String function, OutCall call) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment out = arena.allocate(JAVA_LONG);
      check(function, call.call(out));
      return out.get(JAVA_LONG, 0);
    } catch (Throwable e) {
      throw rethrown(e);
    }
  }
}
