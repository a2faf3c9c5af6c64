package dev.lanewise.core.backend.cuda;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import dev.lanewise.core.backend.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;

/**
 * Row-major matrix products by cuBLASLt. Descriptors and the library's choice of algorithm are kept
 * for each shape, so a product that was seen before costs one call.
 *
 * <p>The library is column-major: {@code C = A · B} row-major is {@code Cᵀ = Bᵀ · Aᵀ} there, so the
 * library's first operand is B and its rows are our columns.
 */
final class CudaMatmul {
  /** Enough for the split algorithms on Hopper. */
  private static final long WORKSPACE_BYTES = 32L << 20;

  private static final int KEY_FIELDS = 20;

  /** What makes two products share a plan; a mutable one looks up without allocating. */
  private static final class Key {
    private final long[] fields = new long[KEY_FIELDS];

    @Override
    public int hashCode() {
      return Arrays.hashCode(fields);
    }

    @Override
    public boolean equals(Object other) {
      return other instanceof Key key && Arrays.equals(fields, key.fields);
    }

    Key copy() {
      Key copy = new Key();
      System.arraycopy(fields, 0, copy.fields, 0, KEY_FIELDS);
      return copy;
    }
  }

  /** Descriptors of one shape; {@code algorithm} is null if the library has none. */
  private record Plan(
      long description,
      long first,
      long second,
      long result,
      MemorySegment algorithm,
      String name) {}

  private final CublasLt library;
  private final CudaMemory memory;
  private final CudaProfile profile;
  private final Arena arena;
  private final long stream;
  private final long handle;
  private final long workspace;
  private final CudaMemory.Allocation workspaceMemory;
  private final int floatCompute;
  private final Map<Key, Plan> plans = new HashMap<>();
  private final Key lookup = new Key();
  private final MemorySegment alphaSlot;
  private final MemorySegment betaSlot;
  private final MemorySegment pointerSlot;

  // The product being described, in row-major terms.
  private long a;
  private long b;
  private long c;
  private long d;
  private boolean transposeA;
  private boolean transposeB;
  private DType type;
  private DType resultType;
  private int m;
  private int n;
  private int k;
  private long lda;
  private long ldb;
  private long ldc;
  private int batch;
  private long strideA;
  private long strideB;
  private long strideC;
  private float beta;
  private int epilogue;
  private long bias;
  private long aux;

  CudaMatmul(
      CublasLt library,
      CudaMemory memory,
      CudaProfile profile,
      long stream,
      Arena arena,
      boolean tf32) {
    this.library = library;
    this.memory = memory;
    this.profile = profile;
    this.arena = arena;
    this.stream = stream;
    this.floatCompute = tf32 ? CublasLt.COMPUTE_32F_FAST_TF32 : CublasLt.COMPUTE_32F;
    this.workspaceMemory = memory.allocate(WORKSPACE_BYTES);
    this.workspace = workspaceMemory.address();
    this.handle = library.create();
    alphaSlot = arena.allocate(JAVA_FLOAT);
    betaSlot = arena.allocate(JAVA_FLOAT);
    pointerSlot = arena.allocate(JAVA_LONG);
  }

  /**
   * Starts to describe {@code result[m, n] = op(a) · op(b)}, dense.
   *
   * @param type type of both operands
   */
  CudaMatmul product(
      long a,
      boolean transposeA,
      long b,
      boolean transposeB,
      DType type,
      long result,
      DType resultType,
      int m,
      int n,
      int k) {
    this.a = a;
    this.b = b;
    this.c = result;
    this.d = result;
    this.transposeA = transposeA;
    this.transposeB = transposeB;
    this.type = type;
    this.resultType = resultType;
    this.m = m;
    this.n = n;
    this.k = k;
    lda = transposeA ? m : k;
    ldb = transposeB ? k : n;
    ldc = n;
    batch = 1;
    strideA = 0;
    strideB = 0;
    strideC = 0;
    beta = 0;
    epilogue = CublasLt.EPILOGUE_NONE;
    bias = 0;
    aux = 0;
    return this;
  }

  /** Distance in elements between rows of a, where it is not dense. */
  CudaMatmul strideOfA(long elements) {
    lda = elements;
    return this;
  }

  /** Distance in elements between rows of the result, where it is not dense. */
  CudaMatmul strideOfResult(long elements) {
    ldc = elements;
    return this;
  }

  /** Adds the product to what the result holds. */
  CudaMatmul accumulate() {
    beta = 1;
    return this;
  }

  /** Adds the product to {@code addend}, laid out as the result, instead. */
  CudaMatmul add(long addend) {
    c = addend;
    beta = 1;
    return this;
  }

  CudaMatmul batch(int count, long elementsA, long elementsB, long elementsC) {
    batch = count;
    strideA = elementsA;
    strideB = elementsB;
    strideC = elementsC;
    return this;
  }

  /**
   * Asks for an epilogue.
   *
   * @param biasAddress vector of the result's type, or 0
   * @param auxAddress matrix laid out as the result, or 0
   */
  CudaMatmul epilogue(int which, long biasAddress, long auxAddress) {
    epilogue = which;
    bias = biasAddress;
    aux = auxAddress;
    return this;
  }

  /** Queues the product. */
  void run() {
    if (!tryRun()) {
      throw new CudaException(
          "cublasLtMatmulAlgoGetHeuristic",
          CublasLt.STATUS_NOT_SUPPORTED,
          "CUBLAS_STATUS_NOT_SUPPORTED",
          "no algorithm for " + name());
    }
  }

  /** Queues the product if the library has an algorithm for it; else does nothing. */
  boolean tryRun() {
    if (m == 0 || n == 0 || batch == 0) {
      return true;
    }
    fillKey();
    Plan plan = plans.get(lookup);
    if (plan == null) {
      plan = makePlan();
      plans.put(lookup.copy(), plan);
    }
    if (plan.algorithm == null) {
      return false;
    }
    setPointers(plan.description);
    alphaSlot.set(JAVA_FLOAT, 0, 1f);
    betaSlot.set(JAVA_FLOAT, 0, beta);
    int mark = profile.begin(plan.name);
    library.matmul(
        handle,
        plan.description,
        alphaSlot,
        b,
        plan.first,
        a,
        plan.second,
        betaSlot,
        c,
        plan.result,
        d,
        plan.result,
        plan.algorithm,
        workspace,
        WORKSPACE_BYTES,
        stream);
    profile.end(mark);
    return true;
  }

  private void fillKey() {
    long[] f = lookup.fields;
    f[0] = (transposeA ? 1 : 0) | (transposeB ? 2 : 0) | (beta != 0 ? 4 : 0);
    f[1] = cudaType(type);
    f[2] = cudaType(resultType);
    f[3] = m;
    f[4] = n;
    f[5] = k;
    f[6] = lda;
    f[7] = ldb;
    f[8] = ldc;
    f[9] = batch;
    f[10] = strideA;
    f[11] = strideB;
    f[12] = strideC;
    f[13] = epilogue;
    f[14] = alignment(a);
    f[15] = alignment(b);
    f[16] = alignment(c);
    f[17] = alignment(d);
    f[18] = alignment(bias);
    f[19] = alignment(aux);
  }

  private static int alignment(long address) {
    return address == 0 ? 256 : (int) Math.min(256, Long.lowestOneBit(address));
  }

  private void setPointers(long description) {
    if (bias != 0) {
      pointerSlot.set(JAVA_LONG, 0, bias);
      library.matmulDescSet(description, CublasLt.MATMUL_BIAS_POINTER, pointerSlot);
    }
    if (aux != 0) {
      pointerSlot.set(JAVA_LONG, 0, aux);
      library.matmulDescSet(description, CublasLt.MATMUL_AUX_POINTER, pointerSlot);
    }
  }

  private Plan makePlan() {
    int operands = cudaType(type);
    int results = cudaType(resultType);
    int compute = type == DType.FLOAT32 ? floatCompute : CublasLt.COMPUTE_32F;
    long description = library.matmulDescCreate(compute);
    library.matmulDescSet(description, CublasLt.MATMUL_TRANSPOSE_A, transposeB ? 1 : 0);
    library.matmulDescSet(description, CublasLt.MATMUL_TRANSPOSE_B, transposeA ? 1 : 0);
    if (epilogue != CublasLt.EPILOGUE_NONE) {
      library.matmulDescSet(description, CublasLt.MATMUL_EPILOGUE, epilogue);
      setPointers(description);
      if (bias != 0) {
        library.matmulDescSet(description, CublasLt.MATMUL_BIAS_DATA_TYPE, results);
      }
      if (aux != 0) {
        pointerSlot.set(JAVA_LONG, 0, ldc);
        library.matmulDescSet(description, CublasLt.MATMUL_AUX_LD, pointerSlot);
        library.matmulDescSet(description, CublasLt.MATMUL_AUX_DATA_TYPE, results);
      }
    }
    long first = library.layoutCreate(operands, transposeB ? k : n, transposeB ? n : k, ldb);
    long second = library.layoutCreate(operands, transposeA ? m : k, transposeA ? k : m, lda);
    long result = library.layoutCreate(results, n, m, ldc);
    if (batch > 1) {
      library.layoutSetBatch(first, batch, strideB);
      library.layoutSetBatch(second, batch, strideA);
      library.layoutSetBatch(result, batch, strideC);
    }
    MemorySegment found = arena.allocate(CublasLt.HEURISTIC_BYTES, 8);
    int[] alignments = {alignment(b), alignment(a), alignment(c), alignment(d)};
    boolean there =
        library.heuristic(
            handle,
            description,
            first,
            second,
            result,
            result,
            WORKSPACE_BYTES,
            alignments,
            epilogue != CublasLt.EPILOGUE_NONE,
            found);
    return new Plan(description, first, second, result, there ? found : null, name());
  }

  private String name() {
    return "matmul "
        + m
        + "x"
        + n
        + "x"
        + k
        + (transposeA ? " Aᵀ" : "")
        + (transposeB ? " Bᵀ" : "")
        + " "
        + type
        + (resultType == type ? "" : "->" + resultType)
        + (batch > 1 ? " batch " + batch : "")
        + (epilogue == CublasLt.EPILOGUE_NONE ? "" : " epilogue " + epilogue);
  }

  static int cudaType(DType type) {
    return switch (type) {
      case FLOAT32 -> CublasLt.TYPE_FLOAT32;
      case BFLOAT16 -> CublasLt.TYPE_BFLOAT16;
      default -> throw new IllegalArgumentException("no matrix products over " + type);
    };
  }

  void close() {
    for (Plan plan : plans.values()) {
      library.matmulDescDestroy(plan.description);
      library.layoutDestroy(plan.first);
      library.layoutDestroy(plan.second);
      library.layoutDestroy(plan.result);
    }
    plans.clear();
    library.destroy(handle);
    memory.free(workspaceMemory);
  }
}
