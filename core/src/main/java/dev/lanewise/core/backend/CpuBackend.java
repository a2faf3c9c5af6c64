package dev.lanewise.core.backend;

import dev.lanewise.core.base.InputException;
import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.simd.AdamW;
import dev.lanewise.simd.Attention;
import dev.lanewise.simd.Bfloat16Gemm;
import dev.lanewise.simd.CrossEntropy;
import dev.lanewise.simd.Dropout;
import dev.lanewise.simd.ElementType;
import dev.lanewise.simd.Elementwise;
import dev.lanewise.simd.Embedding;
import dev.lanewise.simd.Epilogue;
import dev.lanewise.simd.Gelu;
import dev.lanewise.simd.Gemm;
import dev.lanewise.simd.Indices;
import dev.lanewise.simd.Int8Gemm;
import dev.lanewise.simd.Int8Matrix;
import dev.lanewise.simd.LayerNorm;
import dev.lanewise.simd.LinearCrossEntropy;
import dev.lanewise.simd.LogSoftmax;
import dev.lanewise.simd.Machine;
import dev.lanewise.simd.Matrix;
import dev.lanewise.simd.PackedMatrix;
import dev.lanewise.simd.Reduce;
import dev.lanewise.simd.Softmax;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Locale;

/** The processor: every operation is a kernel of the simd module over native memory. */
public final class CpuBackend implements Backend {
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT;
  private static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT;

  private final IdentityHashMap<Buffer, Arena> arenas = new IdentityHashMap<>();
  private final Epilogue epilogue = new Epilogue();
  private final boolean isBfloat16;
  private CrossEntropy.Options lossOptions = CrossEntropy.Options.DEFAULT;
  private CpuBuffer scratch;

  /** Weights that do not change, as products of bfloat16 read them; else null. */
  private IdentityHashMap<Buffer, PackedMatrix> frozen;

  /** Weights that do not change, in 8 bits; else null. */
  private IdentityHashMap<Buffer, Int8Matrix> integers;

  private Arena frozenMemory;

  /** A backend that computes in float32. */
  public CpuBackend() {
    this(Precision.FP32);
  }

  /**
   * A backend that uses the simd module's worker threads.
   *
   * @param precision what products of matrices are computed in, attention apart, which is float32:
   *     {@link Precision#BF16} or {@link Precision#FP32}
   */
  public CpuBackend(Precision precision) {
    if (precision == Precision.TF32) {
      throw new IllegalArgumentException("a CPU has no tf32");
    }
    isBfloat16 = precision == Precision.BF16;
  }

  /** What products of matrices are computed in. */
  public Precision precision() {
    return isBfloat16 ? Precision.BF16 : Precision.FP32;
  }

  @Override
  public String name() {
    return "cpu";
  }

  @Override
  public String description() {
    return (isBfloat16 ? "products in bf16, " : "fp32, ") + Machine.describe();
  }

  @Override
  public DType activationType() {
    return DType.FLOAT32;
  }

  @Override
  public long availableMemory() {
    return HostMemory.available();
  }

  @Override
  public void freezeWeights(FrozenWeights form) {
    releaseWeights();
    if (form == FrozenWeights.Q8_0) {
      integers = new IdentityHashMap<>();
    } else if (isBfloat16) {
      frozen = new IdentityHashMap<>();
    } else {
      // A few rows of floats read weights of floats fastest where they lie.
      return;
    }
    frozenMemory = Arena.ofShared();
  }

  @Override
  public void releaseWeights() {
    frozen = null;
    integers = null;
    if (frozenMemory != null) {
      frozenMemory.close();
      frozenMemory = null;
    }
  }

  private PackedMatrix frozen(Buffer weight, int inputs, int outputs) {
    PackedMatrix packed = frozen.get(weight);
    if (packed == null) {
      packed =
          PackedMatrix.of(
              frozenMemory, matrix(weight, outputs, inputs).transposed(), ElementType.BFLOAT16);
      frozen.put(weight, packed);
    }
    return packed;
  }

  private Int8Matrix integers(Buffer weight, int inputs, int outputs) {
    Int8Matrix packed = integers.get(weight);
    if (packed == null) {
      packed = Int8Matrix.of(frozenMemory, matrix(weight, outputs, inputs).transposed());
      integers.put(weight, packed);
    }
    return packed;
  }

  // Memory ---------------------------------------------------------------------------------------

  @Override
  public Buffer allocate(DType type, long length) {
    Arena arena = Arena.ofShared();
    try {
      long bytes = Math.multiplyExact(length, type.bytes);
      CpuBuffer buffer = new CpuBuffer(type, HostMemory.allocate(bytes, arena));
      arenas.put(buffer, arena);
      return buffer;
    } catch (RuntimeException e) {
      arena.close();
      throw e;
    }
  }

  @Override
  public void free(Buffer buffer) {
    Arena arena = arenas.remove(buffer);
    if (arena == null) {
      throw new IllegalArgumentException("this buffer was not allocated here, or is freed already");
    }
    arena.close();
  }

  @Override
  public void close() {
    releaseWeights();
    arenas.values().forEach(Arena::close);
    arenas.clear();
    scratch = null;
  }

  private static MemorySegment of(Buffer buffer) {
    return buffer == null ? null : ((CpuBuffer) buffer).segment();
  }

  private static Matrix matrix(Buffer buffer, int rows, int cols) {
    return ((CpuBuffer) buffer).matrix(rows, cols);
  }

  @Override
  public void upload(MemorySegment from, Buffer to) {
    requireSameSize(from.byteSize(), to.byteSize());
    MemorySegment.copy(from, 0, of(to), 0, to.byteSize());
  }

  @Override
  public void download(Buffer from, MemorySegment to) {
    requireSameSize(from.byteSize(), to.byteSize());
    MemorySegment.copy(of(from), 0, to, 0, from.byteSize());
  }

  private static void requireSameSize(long from, long to) {
    if (from != to) {
      throw new IllegalArgumentException("copy of " + from + " bytes to " + to);
    }
  }

  @Override
  public MemorySegment hostMemory(Buffer buffer) {
    return of(buffer);
  }

  @Override
  public void fill(Buffer buffer, float value) {
    Elementwise.fill(of(buffer), 0, buffer.length(), value);
  }

  @Override
  public void copy(Buffer from, Buffer to) {
    Elementwise.copy(of(from), 0, of(to), 0, from.length());
  }

  @Override
  public void synchronize() {}

  // Fused layers
  // -----------------------------------------------------------------------------------

  @Override
  public void embedding(
      Buffer ids,
      Buffer table,
      Buffer positions,
      int firstPosition,
      Buffer out,
      int batch,
      int time,
      int channels) {
    int rows = batch * time;
    if (positions == null) {
      Embedding.forward(table(table, channels), indices(ids), matrix(out, rows, channels));
    } else {
      Embedding.forward(
          table(table, channels),
          indices(ids),
          table(positions, channels),
          firstPosition,
          time,
          matrix(out, rows, channels));
    }
  }

  private static Matrix table(Buffer table, int channels) {
    return table == null
        ? null
        : matrix(table, Math.toIntExact(table.length() / channels), channels);
  }

  private static Indices indices(Buffer ids) {
    return ((CpuBuffer) ids).indices();
  }

  @Override
  public void embeddingBackward(
      Buffer ids,
      Buffer dOut,
      Buffer dTable,
      Buffer dPositions,
      int firstPosition,
      int batch,
      int time,
      int channels) {
    Embedding.backward(
        indices(ids),
        matrix(dOut, batch * time, channels),
        table(dTable, channels),
        table(dPositions, channels),
        firstPosition,
        time);
  }

  @Override
  public void layerNorm(
      Buffer x,
      Buffer weight,
      Buffer bias,
      Buffer out,
      Buffer mean,
      Buffer rstd,
      int rows,
      int channels) {
    LayerNorm.forward(
        matrix(x, rows, channels),
        of(weight),
        of(bias),
        matrix(out, rows, channels),
        of(mean),
        of(rstd),
        LayerNorm.DEFAULT_EPS);
  }

  @Override
  public void layerNormBackward(
      Buffer dOut,
      Buffer x,
      Buffer weight,
      Buffer mean,
      Buffer rstd,
      Buffer dx,
      boolean accumulate,
      Buffer dWeight,
      Buffer dBias,
      int rows,
      int channels) {
    LayerNorm.backward(
        matrix(dOut, rows, channels),
        matrix(x, rows, channels),
        of(weight),
        of(mean),
        of(rstd),
        matrix(dx, rows, channels),
        accumulate,
        of(dWeight),
        of(dBias));
  }

  private static Epilogue.Activation epilogueOf(Activation activation) {
    return switch (activation) {
      case NONE -> Epilogue.Activation.NONE;
      case GELU_TANH -> Epilogue.Activation.GELU_TANH;
      case GELU_ERF -> Epilogue.Activation.GELU_ERF;
    };
  }

  @Override
  public void linear(
      Buffer x,
      Buffer weight,
      Buffer bias,
      Activation activation,
      Buffer preactivation,
      Buffer residual,
      Buffer out,
      int rows,
      int inputs,
      int outputs) {
    epilogue
        .bias(of(bias), 0)
        .activation(epilogueOf(activation))
        .preActivation(preactivation == null ? null : matrix(preactivation, rows, outputs))
        .gradient(Epilogue.Activation.NONE, null)
        .residual(residual == null || residual == out ? null : matrix(residual, rows, outputs));
    boolean adds = residual != null && residual == out;
    if (integers != null) {
      Int8Gemm.gemm(
          rows,
          of(x),
          0,
          inputs,
          integers(weight, inputs, outputs),
          adds ? 1 : 0,
          of(out),
          0,
          outputs,
          epilogue);
      return;
    }
    if (frozen != null) {
      Bfloat16Gemm.gemm(
          false,
          rows,
          1,
          ElementType.FLOAT32,
          of(x),
          0,
          inputs,
          frozen(weight, inputs, outputs),
          adds ? 1 : 0,
          ElementType.FLOAT32,
          of(out),
          0,
          outputs,
          epilogue);
      return;
    }
    multiply(false, true, rows, outputs, inputs, x, weight, adds, out, epilogue);
  }

  /** Dense products of any layout, {@code c = op(a) · op(b)} or {@code c += op(a) · op(b)}. */
  private void multiply(
      boolean transposeA,
      boolean transposeB,
      int m,
      int n,
      int k,
      Buffer a,
      Buffer b,
      boolean accumulate,
      Buffer c,
      Epilogue after) {
    int lda = transposeA ? m : k;
    int ldb = transposeB ? k : n;
    float beta = accumulate ? 1 : 0;
    if (isBfloat16) {
      Bfloat16Gemm.gemm(
          transposeA,
          transposeB,
          m,
          n,
          k,
          1,
          ElementType.FLOAT32,
          of(a),
          0,
          lda,
          ElementType.FLOAT32,
          of(b),
          0,
          ldb,
          beta,
          ElementType.FLOAT32,
          of(c),
          0,
          n,
          after);
    } else {
      Gemm.sgemm(
          transposeA,
          transposeB,
          m,
          n,
          k,
          1,
          of(a),
          0,
          lda,
          of(b),
          0,
          ldb,
          beta,
          of(c),
          0,
          n,
          after);
    }
  }

  @Override
  public void linearBackwardInput(
      Buffer dOut,
      Buffer weight,
      Activation activation,
      Buffer preactivation,
      Buffer dx,
      boolean accumulate,
      int rows,
      int inputs,
      int outputs) {
    Epilogue after = null;
    if (activation != Activation.NONE) {
      after =
          epilogue
              .bias(null, 0)
              .activation(Epilogue.Activation.NONE)
              .preActivation(null)
              .residual(null)
              .gradient(epilogueOf(activation), matrix(preactivation, rows, inputs));
    }
    multiply(false, false, rows, inputs, outputs, dOut, weight, accumulate, dx, after);
  }

  @Override
  public void linearBackwardWeight(
      Buffer dOut,
      Buffer x,
      Buffer dWeight,
      Buffer dBias,
      boolean accumulate,
      int rows,
      int inputs,
      int outputs) {
    if (dWeight != null) {
      multiply(true, false, outputs, inputs, rows, dOut, x, accumulate, dWeight, null);
    }
    if (dBias != null) {
      Reduce.columnSums(matrix(dOut, rows, outputs), of(dBias), 0, accumulate);
    }
  }

  @Override
  public void attention(
      Buffer qkv,
      Buffer dropoutMask,
      float keepScale,
      Buffer out,
      Buffer lse,
      int batch,
      int time,
      int heads,
      int headSize) {
    long width = (long) heads * headSize;
    Attention.forwardPacked(
        of(qkv),
        0,
        3 * width,
        of(out),
        0,
        width,
        of(lse),
        0,
        of(dropoutMask),
        0,
        keepScale,
        batch,
        time,
        heads,
        headSize,
        Attention.defaultScale(headSize));
  }

  @Override
  public void attentionBackward(
      Buffer dOut,
      Buffer qkv,
      Buffer out,
      Buffer lse,
      Buffer dropoutMask,
      float keepScale,
      Buffer dQkv,
      int batch,
      int time,
      int heads,
      int headSize) {
    long width = (long) heads * headSize;
    Attention.backwardPacked(
        of(dOut),
        0,
        width,
        of(qkv),
        0,
        3 * width,
        of(out),
        0,
        width,
        of(lse),
        0,
        of(dropoutMask),
        0,
        keepScale,
        of(dQkv),
        0,
        3 * width,
        batch,
        time,
        heads,
        headSize,
        Attention.defaultScale(headSize));
  }

  @Override
  public boolean isolatesDocuments() {
    return true;
  }

  @Override
  public void attentionWithin(
      Buffer positions,
      Buffer qkv,
      Buffer dropoutMask,
      float keepScale,
      Buffer out,
      Buffer lse,
      int batch,
      int time,
      int heads,
      int headSize) {
    long width = (long) heads * headSize;
    for (int b = 0; b < batch; b++) {
      long firstBit = (long) b * heads * time * time;
      for (int from = 0, to; from < time; from = to) {
        to = documentEnd(positions, b, from, time);
        int length = to - from;
        long row = (long) b * time + from;
        Attention.forwardPacked(
            of(qkv),
            row * 3 * width,
            3 * width,
            of(out),
            row * width,
            width,
            of(lse),
            row * heads,
            of(dropoutMask),
            firstBit,
            keepScale,
            1,
            length,
            heads,
            headSize,
            Attention.defaultScale(headSize));
        firstBit += (long) heads * length * length;
      }
    }
  }

  @Override
  public void attentionWithinBackward(
      Buffer positions,
      Buffer dOut,
      Buffer qkv,
      Buffer out,
      Buffer lse,
      Buffer dropoutMask,
      float keepScale,
      Buffer dQkv,
      int batch,
      int time,
      int heads,
      int headSize) {
    long width = (long) heads * headSize;
    for (int b = 0; b < batch; b++) {
      long firstBit = (long) b * heads * time * time;
      for (int from = 0, to; from < time; from = to) {
        to = documentEnd(positions, b, from, time);
        int length = to - from;
        long row = (long) b * time + from;
        Attention.backwardPacked(
            of(dOut),
            row * width,
            width,
            of(qkv),
            row * 3 * width,
            3 * width,
            of(out),
            row * width,
            width,
            of(lse),
            row * heads,
            of(dropoutMask),
            firstBit,
            keepScale,
            of(dQkv),
            row * 3 * width,
            3 * width,
            1,
            length,
            heads,
            headSize,
            Attention.defaultScale(headSize));
        firstBit += (long) heads * length * length;
      }
    }
  }

  private static int documentEnd(Buffer positions, int batch, int from, int time) {
    MemorySegment segment = of(positions);
    int to = from + 1;
    while (to < time && segment.getAtIndex(INT, (long) batch * time + to) != 0) {
      to++;
    }
    return to;
  }

  @Override
  public void attentionCached(
      Buffer qkv,
      Buffer keys,
      Buffer values,
      int position,
      int maxTime,
      Buffer out,
      int batch,
      int time,
      int heads,
      int headSize) {
    long width = (long) heads * headSize;
    long row = width * Float.BYTES;
    for (int b = 0; b < batch; b++) {
      for (int t = 0; t < time; t++) {
        long from = ((long) b * time + t) * 3 * row;
        long to = ((long) b * maxTime + position + t) * row;
        MemorySegment.copy(of(qkv), from + row, of(keys), to, row);
        MemorySegment.copy(of(qkv), from + 2 * row, of(values), to, row);
      }
    }
    Attention.decode(
        of(qkv),
        0,
        3 * width,
        of(keys),
        0,
        of(values),
        0,
        maxTime * width,
        width,
        position + time,
        of(out),
        0,
        width,
        batch,
        time,
        heads,
        headSize,
        Attention.defaultScale(headSize));
  }

  private CrossEntropy.Options options(
      CrossEntropy.Reduction reduction, int ignoreIndex, float labelSmoothing) {
    if (lossOptions.reduction() != reduction
        || lossOptions.ignoreIndex() != ignoreIndex
        || lossOptions.labelSmoothing() != labelSmoothing) {
      lossOptions = new CrossEntropy.Options(reduction, ignoreIndex, labelSmoothing, 0, null);
    }
    return lossOptions;
  }

  @Override
  public void crossEntropy(
      Buffer logits,
      Buffer targets,
      int ignoreIndex,
      float labelSmoothing,
      Buffer loss,
      Buffer dLogits,
      float gradientScale,
      int rows,
      int vocab) {
    CpuBuffer losses = scratch(rows);
    CrossEntropy.Options options =
        options(CrossEntropy.Reduction.MEAN, ignoreIndex, labelSmoothing);
    float mean =
        dLogits == null
            ? CrossEntropy.forward(
                matrix(logits, rows, vocab), indices(targets), losses.segment(), null, options)
            : CrossEntropy.forwardBackward(
                matrix(logits, rows, vocab),
                indices(targets),
                losses.segment(),
                null,
                matrix(dLogits, rows, vocab),
                gradientScale,
                options);
    of(loss).set(FLOAT, 0, mean);
  }

  /** Memory for the length of one call. */
  private CpuBuffer scratch(long floats) {
    if (scratch == null || scratch.length() < floats) {
      if (scratch != null) {
        free(scratch);
      }
      scratch = (CpuBuffer) allocate(DType.FLOAT32, floats);
    }
    return scratch;
  }

  @Override
  public int headRows(int rows, int vocab, int mostRows) {
    return LinearCrossEntropy.chunkRows(rows, vocab, mostRows);
  }

  @Override
  public long ownLogitBytes(int rows, int vocab, int mostRows) {
    return 0;
  }

  @Override
  public long lentLogitBytes(int rows, int vocab, int mostRows) {
    return LinearCrossEntropy.workingBytes(rows, vocab, mostRows);
  }

  @Override
  public void linearCrossEntropy(
      Buffer x,
      Buffer weight,
      Buffer targets,
      int ignoreIndex,
      Buffer loss,
      Buffer dx,
      Buffer dWeight,
      boolean accumulate,
      float gradientScale,
      int rows,
      int channels,
      int vocab,
      int mostRows,
      Buffer logits) {
    if (integers != null && dx == null && dWeight == null) {
      of(loss).set(FLOAT, 0, loss(x, weight, targets, ignoreIndex, rows, channels, vocab));
      return;
    }
    CrossEntropy.Options options = options(CrossEntropy.Reduction.MEAN, ignoreIndex, 0);
    MemorySegment losses = scratch(rows).segment();
    MemorySegment working = logits == null ? null : of(logits);
    ElementType products = isBfloat16 ? ElementType.BFLOAT16 : ElementType.FLOAT32;
    float mean =
        dx == null && dWeight == null
            ? LinearCrossEntropy.forward(
                matrix(x, rows, channels),
                matrix(weight, vocab, channels),
                indices(targets),
                losses,
                null,
                options,
                products,
                mostRows,
                working)
            : LinearCrossEntropy.forwardBackward(
                matrix(x, rows, channels),
                matrix(weight, vocab, channels),
                indices(targets),
                losses,
                null,
                dx == null ? null : matrix(dx, rows, channels),
                dWeight == null ? null : matrix(dWeight, vocab, channels),
                accumulate,
                gradientScale,
                options,
                products,
                mostRows,
                working);
    of(loss).set(FLOAT, 0, mean);
  }

  /** The mean loss with weights of 8 bits, by chunks of rows. */
  private float loss(
      Buffer x, Buffer weight, Buffer targets, int ignoreIndex, int rows, int channels, int vocab) {
    int most = LinearCrossEntropy.chunkRows(rows, vocab, 0);
    MemorySegment memory = scratch((long) most * vocab + most).segment();
    MemorySegment losses = memory.asSlice(4L * most * vocab, 4L * most);
    CrossEntropy.Options options = options(CrossEntropy.Reduction.SUM, ignoreIndex, 0);
    Int8Matrix head = integers(weight, channels, vocab);
    double sum = 0;
    long counted = 0;
    for (int from = 0; from < rows; from += most) {
      int some = Math.min(most, rows - from);
      Int8Gemm.gemm(some, of(x), (long) from * channels, channels, head, 0, memory, 0, vocab, null);
      Indices of = new Indices(of(targets), from, some, false);
      sum += CrossEntropy.forward(new Matrix(memory, some, vocab), of, losses, null, options);
      for (int i = from; i < from + some; i++) {
        counted += of(targets).getAtIndex(INT, i) == ignoreIndex ? 0 : 1;
      }
    }
    return (float) (sum / counted);
  }

  // Matrices and elements
  // ----------------------------------------------------------------------------

  @Override
  public void matmul(
      Buffer a,
      boolean transposeA,
      Buffer b,
      boolean transposeB,
      boolean sharedB,
      Buffer c,
      boolean accumulate,
      int batch,
      int m,
      int n,
      int k) {
    int lda = transposeA ? m : k;
    int ldb = transposeB ? k : n;
    long aApart = (long) m * k;
    long bApart = sharedB ? 0 : (long) n * k;
    long cApart = (long) m * n;
    float beta = accumulate ? 1 : 0;
    if (isBfloat16) {
      ElementType stored = ElementType.FLOAT32;
      Bfloat16Gemm.batched(
          batch,
          transposeA,
          transposeB,
          m,
          n,
          k,
          1,
          stored,
          of(a),
          0,
          lda,
          aApart,
          stored,
          of(b),
          0,
          ldb,
          bApart,
          beta,
          of(c),
          0,
          n,
          cApart);
    } else {
      Gemm.batched(
          batch,
          transposeA,
          transposeB,
          m,
          n,
          k,
          1,
          of(a),
          0,
          lda,
          aApart,
          of(b),
          0,
          ldb,
          bApart,
          beta,
          of(c),
          0,
          n,
          cApart);
    }
  }

  private static Elementwise.Unary elementwise(Unary function) {
    return switch (function) {
      case TANH -> Elementwise.Unary.TANH;
      case RELU -> Elementwise.Unary.RELU;
      case SIGMOID -> Elementwise.Unary.SIGMOID;
      case EXP -> Elementwise.Unary.EXP;
      case LOG -> Elementwise.Unary.LOG;
      case SQRT -> Elementwise.Unary.SQRT;
      case SQUARE -> Elementwise.Unary.SQUARE;
      case NEGATE -> Elementwise.Unary.NEGATE;
      case RECIPROCAL -> Elementwise.Unary.RECIPROCAL;
      case GELU_TANH, GELU_ERF -> throw new AssertionError(function);
    };
  }

  private static Gelu.Form geluForm(Unary function) {
    return switch (function) {
      case GELU_TANH -> Gelu.Form.TANH;
      case GELU_ERF -> Gelu.Form.ERF;
      default -> null;
    };
  }

  @Override
  public void unary(Unary function, Buffer x, Buffer y) {
    Gelu.Form gelu = geluForm(function);
    if (gelu != null) {
      Gelu.forward(gelu, of(x), 0, of(y), 0, x.length());
    } else {
      Elementwise.apply(elementwise(function), of(x), 0, of(y), 0, x.length());
    }
  }

  @Override
  public void unaryBackward(
      Unary function, Buffer x, Buffer y, Buffer dy, Buffer dx, boolean accumulate) {
    Gelu.Form gelu = geluForm(function);
    if (gelu != null) {
      Gelu.backward(gelu, of(x), 0, of(dy), 0, of(dx), 0, x.length(), accumulate);
    } else {
      Elementwise.backward(
          elementwise(function), of(x), 0, of(y), 0, of(dy), 0, of(dx), 0, x.length(), accumulate);
    }
  }

  @Override
  public void binary(
      Binary function, Buffer a, Buffer b, Broadcast broadcast, Buffer out, int rows, int cols) {
    Elementwise.Binary f =
        switch (function) {
          case ADD -> Elementwise.Binary.ADD;
          case SUBTRACT -> Elementwise.Binary.SUBTRACT;
          case MULTIPLY -> Elementwise.Binary.MULTIPLY;
          case DIVIDE -> Elementwise.Binary.DIVIDE;
        };
    long count = (long) rows * cols;
    switch (broadcast) {
      case NONE -> Elementwise.apply(f, of(a), 0, of(b), 0, of(out), 0, count);
      case ROW -> {
        for (long at = 0; at < count; at += cols) {
          Elementwise.apply(f, of(a), at, of(b), 0, of(out), at, cols);
        }
      }
      case COLUMN -> {
        for (int r = 0; r < rows; r++) {
          withNumber(function, a, of(b).getAtIndex(FLOAT, r), out, (long) r * cols, cols);
        }
      }
      case SCALAR -> withNumber(function, a, of(b).getAtIndex(FLOAT, 0), out, 0, count);
    }
  }

  private static void withNumber(
      Binary function, Buffer a, float number, Buffer out, long at, long count) {
    switch (function) {
      case ADD -> Elementwise.affine(1, of(a), at, number, of(out), at, count);
      case SUBTRACT -> Elementwise.affine(1, of(a), at, -number, of(out), at, count);
      case MULTIPLY -> Elementwise.scale(number, of(a), at, of(out), at, count);
      case DIVIDE -> {
        // A product with the reciprocal would round twice.
        for (long i = at; i < at + count; i++) {
          of(out).setAtIndex(FLOAT, i, of(a).getAtIndex(FLOAT, i) / number);
        }
      }
    }
  }

  @Override
  public void scale(Buffer x, float alpha, Buffer y, boolean accumulate) {
    if (accumulate) {
      if (x == y) {
        Elementwise.scale(1 + alpha, of(x), 0, of(y), 0, x.length());
      } else {
        Elementwise.axpy(alpha, of(x), 0, of(y), 0, x.length());
      }
    } else {
      Elementwise.scale(alpha, of(x), 0, of(y), 0, x.length());
    }
  }

  @Override
  public void addScalar(Buffer x, float alpha, Buffer y) {
    Elementwise.affine(1, of(x), 0, alpha, of(y), 0, x.length());
  }

  @Override
  public void sumRows(Buffer x, Buffer out, boolean accumulate, int rows, int cols) {
    Reduce.columnSums(matrix(x, rows, cols), of(out), 0, accumulate);
  }

  @Override
  public void sumColumns(Buffer x, Buffer out, boolean accumulate, int rows, int cols) {
    Reduce.rowSums(matrix(x, rows, cols), of(out), 0, accumulate);
  }

  @Override
  public void softmax(Buffer x, Buffer y, int rows, int cols) {
    Softmax.forward(matrix(x, rows, cols), matrix(y, rows, cols));
  }

  @Override
  public void softmaxBackward(
      Buffer y, Buffer dy, Buffer dx, boolean accumulate, int rows, int cols) {
    Softmax.backward(
        matrix(y, rows, cols), matrix(dy, rows, cols), matrix(dx, rows, cols), accumulate);
  }

  @Override
  public void logSoftmax(Buffer x, Buffer y, int rows, int cols) {
    LogSoftmax.forward(matrix(x, rows, cols), matrix(y, rows, cols));
  }

  @Override
  public void logSoftmaxBackward(
      Buffer y, Buffer dy, Buffer dx, boolean accumulate, int rows, int cols) {
    LogSoftmax.backward(
        matrix(y, rows, cols), matrix(dy, rows, cols), matrix(dx, rows, cols), accumulate);
  }

  @Override
  public void gather(Buffer x, Buffer ids, Buffer out, int rows, int cols) {
    for (int r = 0; r < rows; r++) {
      of(out).setAtIndex(FLOAT, r, of(x).getAtIndex(FLOAT, place(ids, r, cols)));
    }
  }

  @Override
  public void gatherBackward(Buffer ids, Buffer dy, Buffer dx, int rows, int cols) {
    for (int r = 0; r < rows; r++) {
      long at = place(ids, r, cols);
      float sum = of(dx).getAtIndex(FLOAT, at) + of(dy).getAtIndex(FLOAT, r);
      of(dx).setAtIndex(FLOAT, at, sum);
    }
  }

  private static long place(Buffer ids, int row, int cols) {
    int id = of(ids).getAtIndex(INT, row);
    if (id < 0 || id >= cols) {
      throw new InputException(
          String.format(Locale.ROOT, "Index %d of row %d is outside a row of %d.", id, row, cols));
    }
    return (long) row * cols + id;
  }

  @Override
  public void transpose(Buffer x, Buffer y, int batch, int rows, int cols) {
    int tile = 32;
    for (int b = 0; b < batch; b++) {
      long from = (long) b * rows * cols;
      for (int r0 = 0; r0 < rows; r0 += tile) {
        for (int c0 = 0; c0 < cols; c0 += tile) {
          for (int r = r0; r < Math.min(rows, r0 + tile); r++) {
            for (int c = c0; c < Math.min(cols, c0 + tile); c++) {
              float value = of(x).getAtIndex(FLOAT, from + (long) r * cols + c);
              of(y).setAtIndex(FLOAT, from + (long) c * rows + r, value);
            }
          }
        }
      }
    }
  }

  @Override
  public void argmax(Buffer x, Buffer out, int rows, int cols) {
    Reduce.argmax(matrix(x, rows, cols), of(out), 0);
  }

  @Override
  public void dropoutMask(TorchGenerator generator, double p, Buffer mask, long count) {
    generator.bits(of(mask), count, 1 - p);
  }

  @Override
  public void applyMask(Buffer x, Buffer mask, float keepScale, Buffer y, boolean accumulate) {
    Dropout.applyBits(of(x), 0, of(mask), 0, keepScale, of(y), 0, x.length(), accumulate);
  }

  // Optimiser
  // ----------------------------------------------------------------------------------------

  @Override
  public void gradientNorm(List<Buffer> gradients, float maxNorm, Buffer result) {
    double sum = 0;
    for (int i = 0; i < gradients.size(); i++) {
      Buffer gradient = gradients.get(i);
      sum += Reduce.sumOfSquares(of(gradient), 0, gradient.length());
    }
    double norm = Math.sqrt(sum);
    double factor = maxNorm == 0 ? 1 : Math.min(1, maxNorm / (norm + 1e-6));
    of(result).setAtIndex(FLOAT, 0, (float) norm);
    of(result).setAtIndex(FLOAT, 1, Double.isFinite(norm) ? (float) factor : 0);
  }

  @Override
  public void adamW(
      Buffer parameter,
      Buffer gradient,
      Buffer firstMoment,
      Buffer secondMoment,
      float learningRate,
      float beta1,
      float beta2,
      float epsilon,
      float weightDecay,
      long step,
      Buffer clip) {
    float factor = clip == null ? 1 : of(clip).getAtIndex(FLOAT, 1);
    if (factor == 0) {
      return;
    }
    AdamW.step(
        of(parameter),
        0,
        of(gradient),
        0,
        of(firstMoment),
        0,
        of(secondMoment),
        0,
        parameter.length(),
        learningRate,
        beta1,
        beta2,
        epsilon,
        weightDecay,
        step,
        factor);
  }
}
