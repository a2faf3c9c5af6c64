package dev.lanewise.core.backend.cuda;

import dev.lanewise.core.backend.Activation;
import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.backend.Binary;
import dev.lanewise.core.backend.Broadcast;
import dev.lanewise.core.backend.Buffer;
import dev.lanewise.core.backend.DType;
import dev.lanewise.core.backend.Precision;
import dev.lanewise.core.backend.Unary;
import dev.lanewise.core.random.TorchGenerator;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/**
 * A GPU of NVIDIA's, compute capability 8.0 or later.
 *
 * <p>Matrix products are cuBLASLt's; everything else is a kernel of this package, compiled for the
 * GPU at hand when it is first used. In {@link Precision#BF16} a bfloat16 copy is kept beside each
 * allocation that a layer takes its weights from; {@link #adamW} refreshes it in the same pass, any
 * other operation that writes there marks it as out of date. Sums run in a fixed order and nothing
 * is added atomically, so the same calls give the same bits on the same GPU.
 *
 * <p>Work is queued on one stream. Any platform thread may call, one at a time.
 */
public final class CudaBackend implements Backend {
  /** Which GPU, where there are several; {@code CUDA_VISIBLE_DEVICES} works as well. */
  public static final String DEVICE_PROPERTY = "lanewise.cuda.device";

  /** {@code none}, {@code bias}, {@code gelu} or {@code all}: what is fused into products. */
  public static final String EPILOGUE_PROPERTY = "lanewise.cuda.epilogue";

  private static final int NORM_BLOCKS = 256;
  private static final int NORM_CHUNK = 16384;
  private static final int SUM_ROWS = 512;
  private static final int SORT_RUN = 16;
  private static final int LARGEST_PLAIN_HEAD = 256;

  /** How much cuBLASLt does after a product; each level includes those before. */
  private enum Fusion {
    NONE,
    BIAS,
    GELU,
    ALL;

    static Fusion chosen(int capability) {
      String property = System.getProperty(EPILOGUE_PROPERTY, "").toLowerCase(Locale.ROOT);
      if (property.isEmpty()) {
        // On Ampere the fused GELU is known to be slower than a kernel of its own.
        return capability >= 90 ? GELU : BIAS;
      }
      for (Fusion fusion : values()) {
        if (fusion.name().toLowerCase(Locale.ROOT).equals(property)) {
          return fusion;
        }
      }
      throw new IllegalArgumentException(
          EPILOGUE_PROPERTY + " is none, bias, gelu or all, not " + property);
    }
  }

  private final Driver driver;
  private final Releases releases = new Releases();
  private final Arena arena;
  private final int device;
  private final String deviceName;
  private final String description;
  private final long context;
  private final long stream;
  private final Precision precision;
  private final DType activationType;
  private final Fusion fusion;
  private final KernelCompiler compiler;
  private final CudaMemory memory;
  private final CudaProfile profile;
  private final CudaMatmul matmul;
  private final Launcher launcher;
  private final long chunkBytes;
  private final int l2Bytes;
  private final Map<String, CudaModule> modules = new HashMap<>();
  private final CudaModule elements;
  private final CudaModule optimizer;
  private final ByType layers = new ByType("layers");
  private final ByType loss = new ByType("loss");
  private final BySize norms = new BySize("norm", "CHANNELS");
  private final BySize attentions = new BySize("attention", "HEAD_SIZE");
  private final BySize droppedAttentions = new BySize("attention", "DROPOUT", "HEAD_SIZE");
  private final BySize plainAttentions = new BySize("attention_plain", "HEAD_SIZE");
  private boolean closed;

  /** A file compiled for one type of activations, made when first used. */
  private final class ByType {
    private final String file;
    private CudaModule forFloat32;
    private CudaModule forBfloat16;

    ByType(String file) {
      this.file = file;
    }

    CudaModule.Kernel kernel(DType type, String name) {
      CudaModule module = type == DType.BFLOAT16 ? forBfloat16 : forFloat32;
      if (module == null || type != DType.BFLOAT16 && type != DType.FLOAT32) {
        module = module(file, definitions(type));
        if (type == DType.BFLOAT16) {
          forBfloat16 = module;
        } else {
          forFloat32 = module;
        }
      }
      return module.kernel(name);
    }
  }

  /** A file compiled for one type and one size, the last of which is remembered. */
  private final class BySize {
    private final String file;
    private final String[] macros;
    private CudaModule last;
    private DType lastType;
    private int lastSize;

    BySize(String file, String... macros) {
      this.file = file;
      this.macros = macros;
    }

    /** A kernel for this size; 0 leaves the size out. */
    CudaModule.Kernel kernel(DType type, int size, String name) {
      if (last == null || lastType != type || lastSize != size) {
        List<String> definitions = definitions(type);
        for (int i = 0; i < macros.length && size != 0; i++) {
          definitions.add(i == macros.length - 1 ? macros[i] + "=" + size : macros[i]);
        }
        last = module(file, definitions);
        lastType = type;
        lastSize = size;
      }
      return last.kernel(name);
    }
  }

  private CudaBackend(Precision precision, int ordinal) {
    this.precision = precision;
    activationType = precision == Precision.BF16 ? DType.BFLOAT16 : DType.FLOAT32;
    // The libraries first, so that a missing one is named before anything is taken.
    driver = Driver.open();
    CublasLt cublasLt = CublasLt.open(driver.cudaMajor());
    Nvrtc nvrtc = Nvrtc.open(driver.cudaMajor());
    int count = driver.deviceCount();
    if (ordinal < 0 || ordinal >= count) {
      throw new CudaUnavailableException(
          count == 0
              ? "The NVIDIA driver sees no GPU: check CUDA_VISIBLE_DEVICES."
              : "There is no GPU " + ordinal + ": the driver sees " + count + ", from 0.");
    }
    device = driver.device(ordinal);
    deviceName = driver.deviceName(device);
    int major = driver.deviceAttribute(Driver.COMPUTE_CAPABILITY_MAJOR, device);
    int minor = driver.deviceAttribute(Driver.COMPUTE_CAPABILITY_MINOR, device);
    if (major < 8) {
      throw new CudaUnavailableException(
          String.format(
              Locale.ROOT,
              "The GPU (%s) has compute capability %d.%d, and 8.0 (Ampere) or later is needed.",
              deviceName,
              major,
              minor));
    }
    fusion = Fusion.chosen(major * 10 + minor);
    compiler = new KernelCompiler(nvrtc, major * 10 + minor);
    try {
      arena = Arena.ofShared();
      releases.add(arena::close);
      context = driver.devicePrimaryCtxRetain(device);
      releases.add(() -> driver.devicePrimaryCtxRelease(device));
      driver.ctxSetCurrent(context);
      stream = driver.streamCreate();
      releases.add(() -> driver.streamDestroy(stream));
      memory = new CudaMemory(driver, stream, deviceName);
      releases.add(memory::close);
      profile = new CudaProfile(driver, stream);
      releases.add(profile::close);
      launcher = new Launcher(driver, stream, profile, arena);
      matmul =
          new CudaMatmul(cublasLt, memory, profile, stream, arena, precision != Precision.FP32);
      releases.add(matmul::close);
      elements = module("elements", List.of());
      optimizer = module("optimizer", List.of());
    } catch (RuntimeException e) {
      throw releases.after(e);
    }
    long total = driver.deviceTotalMem(device);
    chunkBytes = Math.min(2L << 30, total / 32);
    l2Bytes = driver.deviceAttribute(Driver.L2_CACHE_BYTES, device);
    description =
        String.format(
            Locale.ROOT,
            "%s (GPU %d, sm_%d%d, %.1f GiB), %s, driver CUDA %d.%d, cuBLASLt %d.%d, NVRTC %s",
            deviceName,
            ordinal,
            major,
            minor,
            total / (double) (1L << 30),
            switch (precision) {
              case BF16 -> "bfloat16 with float32 master weights";
              case TF32 -> "float32 with tf32 products";
              case FP32 -> "float32";
            },
            driver.driverVersion() / 1000,
            driver.driverVersion() % 1000 / 10,
            cublasLt.version() / 10000,
            cublasLt.version() / 100 % 100,
            nvrtc.version());
  }

  /**
   * Opens the GPU that {@value #DEVICE_PROPERTY} names, else the first.
   *
   * @param precision what to compute in
   * @throws CudaUnavailableException if a library or a GPU is missing; the message is the mend
   */
  public static CudaBackend open(Precision precision) {
    String ordinal = System.getProperty(DEVICE_PROPERTY, "0");
    try {
      return new CudaBackend(precision, Integer.parseInt(ordinal.strip()));
    } catch (NumberFormatException e) {
      throw new CudaUnavailableException(
          DEVICE_PROPERTY + " is the number of a GPU, not \"" + ordinal + "\".", e);
    }
  }

  private static List<String> definitions(DType type) {
    List<String> definitions = new ArrayList<>();
    switch (type) {
      case BFLOAT16 -> definitions.add("BFLOAT16");
      case FLOAT32 -> {}
      default -> throw new IllegalArgumentException("activations can't be " + type);
    }
    return definitions;
  }

  private CudaModule module(String file, List<String> definitions) {
    String key = file + definitions;
    CudaModule module = modules.get(key);
    if (module == null) {
      byte[] cubin = compiler.compile(file, definitions);
      try {
        module = new CudaModule(driver, file, cubin);
      } catch (CudaException e) {
        // A damaged file on disk is made anew, once.
        compiler.forget(file, definitions);
        module = new CudaModule(driver, file, compiler.compile(file, definitions));
      }
      releases.add(module::unload);
      modules.put(key, module);
    }
    return module;
  }

  @Override
  public String name() {
    return "cuda";
  }

  @Override
  public String description() {
    return description;
  }

  @Override
  public DType activationType() {
    return activationType;
  }

  /** What computing is done in. */
  public Precision precision() {
    return precision;
  }

  /** Times of kernels, for measurements. */
  public CudaProfile profile() {
    return profile;
  }

  @Override
  public boolean keepsActivations() {
    return true;
  }

  @Override
  public long availableMemory() {
    enter();
    // What operations take for themselves beside logits: partial sums, cuBLASLt's workspace.
    long reserve = 256L << 20;
    return Math.max(0, driver.memGetInfo().free() - reserve);
  }

  // Doors ----------------------------------------------------------------------------------------

  /** Makes the context current for this thread; every call starts here. */
  private void enter() {
    if (closed) {
      throw new IllegalStateException("the backend has been closed");
    }
    if (Thread.currentThread().isVirtual()) {
      throw new IllegalStateException("a GPU is driven from a platform thread");
    }
    // Always, since whoever else uses CUDA in this thread may have made another one current.
    driver.ctxSetCurrent(context);
    memory.resetScratch();
  }

  /** An operand; null stays null. */
  private CudaBuffer buffer(String what, Buffer buffer, long length) {
    if (buffer == null) {
      return null;
    }
    if (!(buffer instanceof CudaBuffer own) || !own.allocation.belongsTo(memory)) {
      throw new IllegalArgumentException(what + " is not a buffer of this backend");
    }
    if (own.length() < length) {
      throw new IllegalArgumentException(
          what + " has " + own.length() + " elements and needs " + length);
    }
    return own;
  }

  private CudaBuffer required(String what, Buffer buffer, long length) {
    if (buffer == null) {
      throw new IllegalArgumentException(what + " is null");
    }
    return buffer(what, buffer, length);
  }

  private CudaBuffer typed(String what, Buffer buffer, long length, DType type) {
    CudaBuffer own = buffer(what, buffer, length);
    if (own != null && own.type() != type) {
      throw new IllegalArgumentException(what + " is " + own.type() + ", and must be " + type);
    }
    return own;
  }

  private CudaBuffer requiredTyped(String what, Buffer buffer, long length, DType type) {
    required(what, buffer, length);
    return typed(what, buffer, length, type);
  }

  private CudaBuffer real(String what, Buffer buffer, long length) {
    CudaBuffer own = required(what, buffer, length);
    if (own.type() != DType.FLOAT32 && own.type() != DType.BFLOAT16) {
      throw new IllegalArgumentException(what + " is " + own.type() + ", and must be real");
    }
    return own;
  }

  /** Says that an operation other than AdamW writes here. */
  private static CudaBuffer written(CudaBuffer buffer) {
    if (buffer != null) {
      buffer.allocation.copyFresh(false);
    }
    return buffer;
  }

  private static void requirePositive(String what, long... sizes) {
    for (long size : sizes) {
      if (size < 0) {
        throw new IllegalArgumentException(what + " has a negative size " + size);
      }
    }
  }

  // The numbers by which kernels know types and functions.

  private static int code(DType type) {
    return type == DType.FLOAT32 ? 0 : 1;
  }

  private static int code(Activation activation) {
    return switch (activation) {
      case NONE -> 0;
      case GELU_TANH -> 1;
      case GELU_ERF -> 2;
    };
  }

  private static int code(Unary function) {
    return switch (function) {
      case GELU_TANH -> 0;
      case GELU_ERF -> 1;
      case TANH -> 2;
      case RELU -> 3;
      case SIGMOID -> 4;
      case EXP -> 5;
      case LOG -> 6;
      case SQRT -> 7;
      case SQUARE -> 8;
      case NEGATE -> 9;
      case RECIPROCAL -> 10;
    };
  }

  private static int code(Binary function) {
    return switch (function) {
      case ADD -> 0;
      case SUBTRACT -> 1;
      case MULTIPLY -> 2;
      case DIVIDE -> 3;
    };
  }

  private static int code(Broadcast broadcast) {
    return switch (broadcast) {
      case NONE -> 0;
      case ROW -> 1;
      case COLUMN -> 2;
      case SCALAR -> 3;
    };
  }

  // Memory ---------------------------------------------------------------------------------------

  @Override
  public Buffer allocate(DType type, long length) {
    enter();
    requirePositive("a buffer", length);
    return new CudaBuffer(
        memory.allocate(Math.multiplyExact(length, (long) type.bytes)), type, 0, length);
  }

  @Override
  public void free(Buffer buffer) {
    enter();
    memory.free(required("buffer", buffer, 0).allocation);
  }

  @Override
  public void upload(MemorySegment from, Buffer to) {
    enter();
    CudaBuffer target = written(required("to", to, 0));
    requireSameSize(from.byteSize(), target.byteSize());
    memory.upload(from, target.address());
  }

  @Override
  public void download(Buffer from, MemorySegment to) {
    enter();
    CudaBuffer source = required("from", from, 0);
    requireSameSize(to.byteSize(), source.byteSize());
    if (to.isReadOnly()) {
      throw new IllegalArgumentException("the target segment is read-only");
    }
    memory.download(source.address(), to);
  }

  private static void requireSameSize(long host, long deviceSize) {
    if (host != deviceSize) {
      throw new IllegalArgumentException(
          "a segment of " + host + " bytes for a buffer of " + deviceSize);
    }
  }

  @Override
  public void fill(Buffer buffer, float value) {
    enter();
    CudaBuffer target = written(real("buffer", buffer, 0));
    if (Float.floatToRawIntBits(value) == 0) {
      driver.memsetD8Async(target.address(), (byte) 0, target.byteSize(), stream);
    } else {
      launcher
          .of(elements.kernel("fillElements"))
          .arg(target)
          .arg(code(target.type()))
          .arg(value)
          .arg(target.length())
          .runElements(target.length());
    }
  }

  @Override
  public void copy(Buffer from, Buffer to) {
    enter();
    CudaBuffer target = required("to", to, 0);
    CudaBuffer source = required("from", from, target.length());
    if (source.length() != target.length()) {
      throw new IllegalArgumentException(
          source.length() + " elements copied to " + target.length());
    }
    written(target);
    if (source.type() == target.type()) {
      driver.memcpyDtoDAsync(target.address(), source.address(), target.byteSize(), stream);
    } else {
      real("from", from, 0);
      real("to", to, 0);
      cast(source.address(), source.type(), target.address(), target.type(), target.length());
    }
  }

  private void cast(long from, DType fromType, long to, DType toType, long count) {
    if (fromType == DType.FLOAT32 && toType == DType.BFLOAT16 && ((from | to) & 15) == 0) {
      launcher
          .of(elements.kernel("castToBf16"))
          .arg(from)
          .arg(to)
          .arg(count)
          .runElements((count + 7) / 8);
    } else {
      launcher
          .of(elements.kernel("castElements"))
          .arg(from)
          .arg(code(fromType))
          .arg(to)
          .arg(code(toType))
          .arg(count)
          .runElements(count);
    }
  }

  @Override
  public void synchronize() {
    enter();
    driver.streamSynchronize(stream);
  }

  /** Address of a parameter in the type of the operand it meets. */
  private long parameter(CudaBuffer weight, DType type) {
    if (weight.type() == type) {
      return weight.address();
    }
    if (weight.type() != DType.FLOAT32 || type != DType.BFLOAT16) {
      throw new IllegalArgumentException(weight.type() + " parameters for " + type + " operands");
    }
    CudaMemory.Allocation allocation = weight.allocation;
    if (allocation.copy() == 0) {
      allocation.makeCopy();
    }
    if (!allocation.copyFresh()) {
      cast(
          allocation.address(),
          DType.FLOAT32,
          allocation.copy(),
          DType.BFLOAT16,
          allocation.bytes() / 4);
      allocation.copyFresh(true);
    }
    return allocation.copy() + weight.byteOffset / 2;
  }

  // Fused layers ---------------------------------------------------------------------------------

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
    enter();
    long tokens = (long) batch * time;
    CudaBuffer to = written(real("out", out, tokens * channels));
    CudaBuffer ids0 = requiredTyped("ids", ids, tokens, DType.INT32);
    CudaBuffer table0 = requiredTyped("table", table, channels, DType.FLOAT32);
    CudaBuffer positions0 =
        typed("positions", positions, (long) (firstPosition + time) * channels, DType.FLOAT32);
    launcher
        .of(layers.kernel(to.type(), "embedding"))
        .arg(ids0)
        .arg(table0)
        .arg(positions0)
        .arg(firstPosition)
        .arg(to)
        .arg(time)
        .arg(channels)
        .arg(table0.length() / channels)
        .run(tokens, Math.min(256, (channels + 31) / 32 * 32));
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
    enter();
    long tokens = (long) batch * time;
    CudaBuffer from = real("dOut", dOut, tokens * channels);
    CudaBuffer ids0 = requiredTyped("ids", ids, tokens, DType.INT32);
    CudaBuffer table0 = written(typed("dTable", dTable, channels, DType.FLOAT32));
    CudaBuffer positions0 =
        written(
            typed(
                "dPositions", dPositions, (long) (firstPosition + time) * channels, DType.FLOAT32));
    if (positions0 != null) {
      launcher
          .of(layers.kernel(from.type(), "embeddingPositions"))
          .arg(from)
          .arg(positions0)
          .arg(firstPosition)
          .arg(batch)
          .arg(time)
          .arg(channels)
          .runElements((long) time * channels);
    }
    if (table0 != null && tokens > 0) {
      int n = Math.toIntExact(tokens);
      long sorted = sortById(ids0, n, Math.toIntExact(table0.length() / channels), from.type());
      boolean vectors = vectors(from.type(), channels, from, table0);
      int width = 128 * (vectors ? vectorSize(from.type()) : 1);
      launcher
          .of(layers.kernel(from.type(), "embeddingTable"))
          .arg(ids0)
          .arg(sorted)
          .arg(from)
          .arg(table0)
          .arg(n)
          .arg(channels)
          .arg(table0.length() / channels)
          .arg(vectors)
          .run(n, (channels + width - 1) / width, 1, 128, 0);
    }
  }

  /** Positions of tokens ordered by id, those of equal ids in order. */
  private long sortById(CudaBuffer ids, int n, int vocab, DType type) {
    int threads = (n + SORT_RUN - 1) / SORT_RUN;
    long counts = memory.scratch(16L * threads * 4);
    long[] orders = {memory.scratch(4L * n), memory.scratch(4L * n)};
    long order = 0;
    int bits = Math.max(1, 32 - Integer.numberOfLeadingZeros(Math.max(1, vocab - 1)));
    for (int shift = 0, pass = 0; shift < bits; shift += 4, pass++) {
      launcher
          .of(layers.kernel(type, "sortCount"))
          .arg(ids)
          .arg(order)
          .arg(shift)
          .arg(counts)
          .arg(n)
          .arg(threads)
          .runElements(threads);
      launcher.of(layers.kernel(type, "sortScan")).arg(counts).arg(16 * threads).run(1, 1024);
      launcher
          .of(layers.kernel(type, "sortScatter"))
          .arg(ids)
          .arg(order)
          .arg(shift)
          .arg(counts)
          .arg(orders[pass & 1])
          .arg(n)
          .arg(threads)
          .runElements(threads);
      order = orders[pass & 1];
    }
    return order;
  }

  /** The channels that a norm kernel is made for, or 0 for the kernel of any number. */
  private static int normChannels(DType type, int channels, CudaBuffer... buffers) {
    int step = 32 * 16 / type.bytes;
    boolean fits = channels % step == 0 && channels / step <= 6 && channels > 0;
    for (CudaBuffer buffer : buffers) {
      fits &= buffer == null || buffer.address() % 16 == 0;
    }
    return fits ? channels : 0;
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
    enter();
    long count = (long) rows * channels;
    CudaBuffer from = real("x", x, count);
    CudaBuffer weight0 = requiredTyped("weight", weight, channels, DType.FLOAT32);
    CudaBuffer bias0 = requiredTyped("bias", bias, channels, DType.FLOAT32);
    CudaBuffer to = written(requiredTyped("out", out, count, from.type()));
    CudaBuffer mean0 = written(requiredTyped("mean", mean, rows, DType.FLOAT32));
    CudaBuffer rstd0 = written(requiredTyped("rstd", rstd, rows, DType.FLOAT32));
    int size = normChannels(from.type(), channels, from, weight0, bias0, to);
    launcher
        .of(norms.kernel(from.type(), size, "layerNorm"))
        .arg(from)
        .arg(weight0)
        .arg(bias0)
        .arg(to)
        .arg(mean0)
        .arg(rstd0)
        .arg(rows)
        .arg(channels)
        .run((rows + 7L) / 8, 256);
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
    enter();
    long count = (long) rows * channels;
    CudaBuffer gradient = real("dOut", dOut, count);
    DType type = gradient.type();
    CudaBuffer from = requiredTyped("x", x, count, type);
    CudaBuffer weight0 = requiredTyped("weight", weight, channels, DType.FLOAT32);
    CudaBuffer mean0 = requiredTyped("mean", mean, rows, DType.FLOAT32);
    CudaBuffer rstd0 = requiredTyped("rstd", rstd, rows, DType.FLOAT32);
    CudaBuffer to = written(requiredTyped("dx", dx, count, type));
    CudaBuffer dWeight0 = written(typed("dWeight", dWeight, channels, DType.FLOAT32));
    CudaBuffer dBias0 = written(typed("dBias", dBias, channels, DType.FLOAT32));
    boolean sums = dWeight0 != null || dBias0 != null;
    int blocks = (int) Math.min(NORM_BLOCKS, (rows + 7L) / 8);
    long partial = sums ? memory.scratch(8L * blocks * channels) : 0;
    int size = normChannels(type, channels, gradient, from, weight0, to);
    launcher
        .of(norms.kernel(type, size, "layerNormBackward"))
        .arg(gradient)
        .arg(from)
        .arg(weight0)
        .arg(mean0)
        .arg(rstd0)
        .arg(to)
        .arg(accumulate)
        .arg(partial)
        .arg(rows)
        .arg(channels)
        .run(blocks, 1, 1, 256, size == 0 ? 0 : 8 * channels);
    if (sums) {
      launcher
          .of(norms.kernel(type, size, "layerNormReduce"))
          .arg(partial)
          .arg(blocks)
          .arg(dWeight0)
          .arg(dBias0)
          .arg(channels)
          .runElements(2L * channels);
    }
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
    enter();
    long count = (long) rows * outputs;
    CudaBuffer from = real("x", x, (long) rows * inputs);
    DType type = from.type();
    CudaBuffer weight0 = real("weight", weight, (long) outputs * inputs);
    CudaBuffer bias0 = typed("bias", bias, outputs, DType.FLOAT32);
    CudaBuffer pre = written(typed("preactivation", preactivation, count, type));
    CudaBuffer residual0 = typed("residual", residual, count, type);
    CudaBuffer to = written(requiredTyped("out", out, count, type));
    if (activation != Activation.NONE && residual != null) {
      throw new IllegalArgumentException("a linear operation with activation and residual");
    }
    long w = parameter(weight0, type);
    matmul.product(from.address(), false, w, true, type, to.address(), type, rows, outputs, inputs);
    if (residual0 != null) {
      matmul.add(residual0.address());
    }
    boolean fuseBias = bias0 != null && fusion != Fusion.NONE;
    long biasAddress = fuseBias ? parameter(bias0, type) : 0;
    boolean fuseGelu = fusesGelu(activation, type, outputs) && (bias0 == null || fuseBias);
    if (fuseGelu && pre != null) {
      int epilogue = fuseBias ? CublasLt.EPILOGUE_GELU_AUX_BIAS : CublasLt.EPILOGUE_GELU_AUX;
      if (matmul.epilogue(epilogue, biasAddress, pre.address()).tryRun()) {
        return;
      }
    } else if (fuseGelu) {
      int epilogue = fuseBias ? CublasLt.EPILOGUE_GELU_BIAS : CublasLt.EPILOGUE_GELU;
      if (matmul.epilogue(epilogue, biasAddress, 0).tryRun()) {
        return;
      }
    }
    boolean biasDone = fuseBias && matmul.epilogue(CublasLt.EPILOGUE_BIAS, biasAddress, 0).tryRun();
    if (!biasDone) {
      matmul.epilogue(CublasLt.EPILOGUE_NONE, 0, 0).run();
    }
    if ((bias0 != null && !biasDone) || activation != Activation.NONE) {
      boolean vectors = vectors(type, outputs, to, pre, biasDone ? null : bias0);
      launcher
          .of(layers.kernel(type, "biasActivation"))
          .arg(to)
          .arg(biasDone ? null : bias0)
          .arg(pre)
          .arg(code(activation))
          .arg(count)
          .arg(outputs)
          .arg(vectors)
          .runElements(vectors ? count / vectorSize(type) : count);
    }
  }

  /**
   * Whether to ask the library for GELU or its derivative. How exactly it computes them it doesn't
   * say, so that is left to our kernels where more than bfloat16 is wanted.
   */
  private boolean fusesGelu(Activation activation, DType type, int cols) {
    return activation == Activation.GELU_TANH
        && type == DType.BFLOAT16
        && fusion.compareTo(Fusion.GELU) >= 0
        && cols % 8 == 0;
  }

  /** Elements that a kernel reads or writes at a time where it can. */
  private static int vectorSize(DType type) {
    return 16 / type.bytes;
  }

  /** Whether 16-byte accesses fit these buffers and rows. */
  private static boolean vectors(DType type, long cols, CudaBuffer... buffers) {
    boolean fits = cols * type.bytes % 16 == 0;
    for (CudaBuffer buffer : buffers) {
      fits &= buffer == null || buffer.address() % 16 == 0;
    }
    return fits;
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
    enter();
    long count = (long) rows * inputs;
    CudaBuffer gradient = real("dOut", dOut, (long) rows * outputs);
    DType type = gradient.type();
    CudaBuffer weight0 = real("weight", weight, (long) outputs * inputs);
    CudaBuffer pre = typed("preactivation", preactivation, count, type);
    CudaBuffer to = written(requiredTyped("dx", dx, count, type));
    boolean activated = activation != Activation.NONE;
    if (activated && (pre == null || accumulate)) {
      throw new IllegalArgumentException(
          "the gradient through an activation needs its preactivation, and is not accumulated");
    }
    long w = parameter(weight0, type);
    matmul.product(
        gradient.address(), false, w, false, type, to.address(), type, rows, inputs, outputs);
    if (accumulate) {
      matmul.accumulate();
    }
    if (fusesGelu(activation, type, inputs)
        && matmul.epilogue(CublasLt.EPILOGUE_DGELU, 0, pre.address()).tryRun()) {
      return;
    }
    matmul.epilogue(CublasLt.EPILOGUE_NONE, 0, 0).run();
    if (activated) {
      launcher
          .of(layers.kernel(type, "activationGradient"))
          .arg(to)
          .arg(pre)
          .arg(code(activation))
          .arg(count)
          .arg(vectors(type, 8, to, pre))
          .runElements((count + vectorSize(type) - 1) / vectorSize(type));
    }
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
    enter();
    CudaBuffer gradient = real("dOut", dOut, (long) rows * outputs);
    DType type = gradient.type();
    CudaBuffer from = requiredTyped("x", x, (long) rows * inputs, type);
    CudaBuffer dWeight0 =
        written(typed("dWeight", dWeight, (long) outputs * inputs, DType.FLOAT32));
    CudaBuffer dBias0 = written(typed("dBias", dBias, outputs, DType.FLOAT32));
    boolean biasDone = false;
    if (dWeight0 != null && rows == 0 && !accumulate) {
      fill(dWeight0, 0);
    }
    if (dWeight0 != null && rows > 0) {
      matmul.product(
          gradient.address(),
          true,
          from.address(),
          false,
          type,
          dWeight0.address(),
          DType.FLOAT32,
          outputs,
          inputs,
          rows);
      if (accumulate) {
        matmul.accumulate();
      }
      if (dBias0 != null && fusion == Fusion.ALL) {
        long sums = memory.scratch(4L * outputs);
        biasDone = matmul.epilogue(CublasLt.EPILOGUE_BIAS_GRADIENT_B, sums, 0).tryRun();
        if (biasDone) {
          launcher
              .of(elements.kernel("affine"))
              .arg(sums)
              .arg(0)
              .arg(1f)
              .arg(0f)
              .arg(dBias0)
              .arg(0)
              .arg(accumulate)
              .arg((long) outputs)
              .runElements(outputs);
        }
      }
      if (!biasDone) {
        matmul.epilogue(CublasLt.EPILOGUE_NONE, 0, 0).run();
      }
    }
    if (dBias0 != null && !biasDone) {
      columnSums(gradient, dBias0, accumulate, rows, outputs);
    }
  }

  private void columnSums(CudaBuffer x, CudaBuffer out, boolean accumulate, int rows, int cols) {
    int chunks = (rows + SUM_ROWS - 1) / SUM_ROWS;
    long partial = memory.scratch(4L * Math.max(1, chunks) * cols);
    int width = 32 * 16 / x.type().bytes;
    launcher
        .of(layers.kernel(x.type(), "columnSums"))
        .arg(x)
        .arg(partial)
        .arg(rows)
        .arg(cols)
        .arg(vectors(x.type(), cols, x))
        .run((cols + width - 1) / width, chunks, 1, 256, 0);
    launcher
        .of(layers.kernel(x.type(), "columnSumsReduce"))
        .arg(partial)
        .arg(chunks)
        .arg(out)
        .arg(out.type() == DType.FLOAT32)
        .arg(accumulate)
        .arg(cols)
        .runElements(cols);
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
    enter();
    long width = (long) heads * headSize;
    long tokens = (long) batch * time;
    CudaBuffer from = real("qkv", qkv, 3 * tokens * width);
    CudaBuffer mask = mask(dropoutMask, (long) batch * heads * time * time);
    CudaBuffer to = written(requiredTyped("out", out, tokens * width, from.type()));
    CudaBuffer lse0 = written(requiredTyped("lse", lse, tokens * heads, DType.FLOAT32));
    float scale = (float) (1 / Math.sqrt(headSize));
    boolean fast = tensorCores(headSize, from, to);
    CudaModule.Kernel kernel =
        attentionModule(fast, mask != null, headSize)
            .kernel(from.type(), headSize, "attentionForward");
    launcher
        .of(kernel)
        .arg(from)
        .arg(mask)
        .arg(keepScale)
        .arg(to)
        .arg(lse0)
        .arg(time)
        .arg(heads)
        .arg(scale);
    if (fast) {
      int rows = ownRows(headSize, mask);
      launcher
          .arg(headGroup(time, headSize))
          .run((time + rows - 1L) / rows * batch * heads, 1, 1, 128, 4 * 64 * headSize * 2);
    } else {
      int shared = plainShared(headSize, 1);
      launcher.run((time + 7) / 8, (long) batch * heads, 1, 256, shared);
    }
  }

  private CudaBuffer mask(Buffer mask, long count) {
    return typed("dropout mask", mask, (count + 7) / 8, DType.UINT8);
  }

  private BySize attentionModule(boolean fast, boolean dropped, int headSize) {
    if (fast) {
      return dropped ? droppedAttentions : attentions;
    }
    if (headSize > LARGEST_PLAIN_HEAD) {
      throw new IllegalArgumentException(
          "attention on a GPU takes heads of at most "
              + LARGEST_PLAIN_HEAD
              + " channels, not "
              + headSize);
    }
    return plainAttentions;
  }

  private static boolean tensorCores(int headSize, CudaBuffer... buffers) {
    boolean fits = headSize == 64 || headSize == 128;
    for (CudaBuffer buffer : buffers) {
      fits &= buffer.type() == DType.BFLOAT16 && buffer.address() % 16 == 0;
    }
    return fits;
  }

  /** Rows that a block of the fast kernels owns. */
  private static int ownRows(int headSize, CudaBuffer mask) {
    return headSize == 64 && mask == null ? 128 : 64;
  }

  /** Heads whose keys and values take a third of the L2 cache. */
  private int headGroup(int time, int headSize) {
    return (int) Math.max(1, l2Bytes / 3 / (4L * time * headSize));
  }

  /** Two tiles of 32 padded rows, and each warp's own rows. */
  private static int plainShared(int headSize, int ownRows) {
    return 4 * (2 * 32 * (headSize + 1) + 8 * ownRows * headSize);
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
    enter();
    long width = (long) heads * headSize;
    long tokens = (long) batch * time;
    CudaBuffer from = real("qkv", qkv, 3 * tokens * width);
    DType type = from.type();
    CudaBuffer gradient = requiredTyped("dOut", dOut, tokens * width, type);
    CudaBuffer out0 = requiredTyped("out", out, tokens * width, type);
    CudaBuffer lse0 = requiredTyped("lse", lse, tokens * heads, DType.FLOAT32);
    CudaBuffer mask = mask(dropoutMask, (long) batch * heads * time * time);
    CudaBuffer to = written(requiredTyped("dQkv", dQkv, 3 * tokens * width, type));
    float scale = (float) (1 / Math.sqrt(headSize));
    boolean fast = tensorCores(headSize, from, gradient, out0, to);
    BySize module = attentionModule(fast, mask != null, headSize);
    long rows = tokens * heads;
    long delta = memory.scratch(4 * rows);
    int rowsPerBlock = fast ? 256 / (headSize / 8) : 8;
    launcher
        .of(module.kernel(type, headSize, "attentionDelta"))
        .arg(gradient)
        .arg(out0)
        .arg(delta)
        .arg(time)
        .arg(heads)
        .arg(rows)
        .run((rows + rowsPerBlock - 1) / rowsPerBlock, 256);
    for (String kernel : BACKWARD_KERNELS) {
      launcher
          .of(module.kernel(type, headSize, kernel))
          .arg(gradient)
          .arg(from)
          .arg(lse0)
          .arg(delta)
          .arg(mask)
          .arg(keepScale)
          .arg(to)
          .arg(time)
          .arg(heads)
          .arg(scale);
      if (fast) {
        int own = ownRows(headSize, mask);
        int shared = (2 * own + 4 * 64) * headSize * 2 + 4 * 4 * 64;
        launcher
            .arg(headGroup(time, headSize))
            .run((time + own - 1L) / own * batch * heads, 1, 1, 128, shared);
      } else {
        launcher.run((time + 7) / 8, (long) batch * heads, 1, 256, plainShared(headSize, 2));
      }
    }
  }

  private static final String[] BACKWARD_KERNELS = {"attentionKeys", "attentionQueries"};

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
    enter();
    long width = (long) heads * headSize;
    long tokens = (long) batch * time;
    CudaBuffer from = real("qkv", qkv, 3 * tokens * width);
    CudaBuffer keys0 = written(requiredTyped("keys", keys, batch * maxTime * width, from.type()));
    CudaBuffer values0 =
        written(requiredTyped("values", values, batch * maxTime * width, from.type()));
    CudaBuffer to = written(requiredTyped("out", out, tokens * width, from.type()));
    if (position < 0 || position + time > maxTime) {
      throw new IllegalArgumentException(
          time + " positions from " + position + " in a cache of " + maxTime);
    }
    BySize module = attentionModule(false, false, headSize);
    launcher
        .of(module.kernel(from.type(), headSize, "cacheStore"))
        .arg(from)
        .arg(keys0)
        .arg(values0)
        .arg(position)
        .arg(maxTime)
        .arg(time)
        .arg(heads)
        .arg(tokens * width)
        .runElements(tokens * width);
    launcher
        .of(module.kernel(from.type(), headSize, "attentionCached"))
        .arg(from)
        .arg(keys0)
        .arg(values0)
        .arg(position)
        .arg(maxTime)
        .arg(to)
        .arg(time)
        .arg(heads)
        .arg((float) (1 / Math.sqrt(headSize)))
        .run(tokens, heads, 1, 256, 0);
  }

  @Override
  public void crossEntropy(
      Buffer logits,
      Buffer targets,
      int ignoreIndex,
      float labelSmoothing,
      Buffer lossBuffer,
      Buffer dLogits,
      float gradientScale,
      int rows,
      int vocab) {
    enter();
    CudaBuffer from = real("logits", logits, (long) rows * vocab);
    CudaBuffer targets0 = requiredTyped("targets", targets, rows, DType.INT32);
    CudaBuffer loss0 = written(requiredTyped("loss", lossBuffer, 1, DType.FLOAT32));
    CudaBuffer to = written(typed("dLogits", dLogits, (long) rows * vocab, from.type()));
    long counted = countTargets(targets0, ignoreIndex, rows, from.type());
    long losses = memory.scratch(4L * Math.max(1, rows));
    crossEntropyRows(
        from.type(),
        from.address(),
        vocab,
        targets0.address(),
        ignoreIndex,
        labelSmoothing,
        losses,
        to == null ? 0 : to.address(),
        gradientScale,
        counted,
        rows,
        vocab);
    meanLoss(losses, rows, counted, loss0, from.type());
  }

  private long countTargets(CudaBuffer targets, int ignoreIndex, int rows, DType type) {
    long counted = memory.scratch(4);
    launcher
        .of(loss.kernel(type, "countTargets"))
        .arg(targets)
        .arg(ignoreIndex)
        .arg(rows)
        .arg(counted)
        .run(1, 1024);
    return counted;
  }

  private void crossEntropyRows(
      DType type,
      long logits,
      long stride,
      long targets,
      int ignoreIndex,
      float labelSmoothing,
      long losses,
      long dLogits,
      float gradientScale,
      long counted,
      int rows,
      int vocab) {
    launcher
        .of(loss.kernel(type, "crossEntropy"))
        .arg(logits)
        .arg(stride)
        .arg(targets)
        .arg(ignoreIndex)
        .arg(labelSmoothing)
        .arg(losses)
        .arg(dLogits)
        .arg(gradientScale)
        .arg(counted)
        .arg(vocab)
        .run(rows, vocab >= 8192 ? 1024 : vocab >= 1024 ? 256 : 64);
  }

  private void meanLoss(long losses, int rows, long counted, CudaBuffer to, DType type) {
    launcher
        .of(loss.kernel(type, "meanLoss"))
        .arg(losses)
        .arg(rows)
        .arg(counted)
        .arg(to)
        .run(1, 1024);
  }

  @Override
  public void linearCrossEntropy(
      Buffer x,
      Buffer weight,
      Buffer targets,
      int ignoreIndex,
      Buffer lossBuffer,
      Buffer dx,
      Buffer dWeight,
      boolean accumulate,
      float gradientScale,
      int rows,
      int channels,
      int vocab,
      int mostRows,
      Buffer lent) {
    enter();
    CudaBuffer from = real("x", x, (long) rows * channels);
    DType type = from.type();
    CudaBuffer weight0 = real("weight", weight, (long) vocab * channels);
    CudaBuffer targets0 = requiredTyped("targets", targets, rows, DType.INT32);
    CudaBuffer loss0 = written(requiredTyped("loss", lossBuffer, 1, DType.FLOAT32));
    CudaBuffer dx0 = written(typed("dx", dx, (long) rows * channels, type));
    CudaBuffer dWeight0 =
        written(typed("dWeight", dWeight, (long) vocab * channels, DType.FLOAT32));
    boolean gradients = dx0 != null || dWeight0 != null;
    long w = parameter(weight0, type);
    long counted = countTargets(targets0, ignoreIndex, rows, type);
    long losses = memory.scratch(4L * Math.max(1, rows));
    long stride = logitStride(vocab);
    int chunk = chunkRows(stride * type.bytes, rows, mostRows);
    if (dWeight0 != null && rows == 0 && !accumulate) {
      fill(dWeight0, 0);
    }
    long logits = memory.scratch(chunk * stride * type.bytes);
    for (int first = 0; first < rows; first += chunk) {
      int count = Math.min(chunk, rows - first);
      long xs = from.address() + (long) first * channels * type.bytes;
      matmul
          .product(xs, false, w, true, type, logits, type, count, vocab, channels)
          .strideOfResult(stride)
          .run();
      crossEntropyRows(
          type,
          logits,
          stride,
          targets0.address() + 4L * first,
          ignoreIndex,
          0,
          losses + 4L * first,
          gradients ? logits : 0,
          gradientScale,
          counted,
          count,
          vocab);
      if (dx0 != null) {
        long to = dx0.address() + (long) first * channels * type.bytes;
        matmul
            .product(logits, false, w, false, type, to, type, count, channels, vocab)
            .strideOfA(stride)
            .run();
      }
      if (dWeight0 != null) {
        matmul
            .product(
                logits,
                true,
                xs,
                false,
                type,
                dWeight0.address(),
                DType.FLOAT32,
                vocab,
                channels,
                count)
            .strideOfA(stride);
        if (accumulate || first > 0) {
          matmul.accumulate();
        }
        matmul.run();
      }
    }
    meanLoss(losses, rows, counted, loss0, type);
  }

  /** Rows of logits start at a multiple of 128 bytes, which an odd vocabulary would not give. */
  private static long logitStride(int vocab) {
    return (vocab + 63L) / 64 * 64;
  }

  @Override
  public int headRows(int rows, int vocab, int mostRows) {
    return chunkRows(logitStride(vocab) * activationType.bytes, rows, mostRows);
  }

  @Override
  public long ownLogitBytes(int rows, int vocab, int mostRows) {
    return headRows(rows, vocab, mostRows) * logitStride(vocab) * activationType.bytes;
  }

  /** Rows of logits that are held at a time: a power of two, or all. */
  private int chunkRows(long rowBytes, int rows, int mostRows) {
    long most = Math.max(1, chunkBytes / Math.max(1, rowBytes));
    if (mostRows > 0) {
      most = Math.min(most, mostRows);
    }
    return rows <= most ? Math.max(1, rows) : (int) Math.max(1, Long.highestOneBit(most));
  }

  // Matrices and elements ------------------------------------------------------------------------

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
    enter();
    long sizeA = (long) m * k;
    long sizeB = (long) k * n;
    long sizeC = (long) m * n;
    CudaBuffer a0 = real("a", a, batch * sizeA);
    CudaBuffer b0 = real("b", b, sharedB ? sizeB : batch * sizeB);
    CudaBuffer c0 = written(real("c", c, batch * sizeC));
    DType type =
        a0.type() == b0.type() && a0.type() == DType.FLOAT32 ? DType.FLOAT32 : DType.BFLOAT16;
    if (k == 0) {
      if (!accumulate) {
        driver.memsetD8Async(c0.address(), (byte) 0, c0.type().bytes * batch * sizeC, stream);
      }
      return;
    }
    long left = inType(a0, batch * sizeA, type);
    long right = inType(b0, sharedB ? sizeB : batch * sizeB, type);
    // bfloat16 results of float32 operands are not among what the library has.
    boolean widen = type == DType.FLOAT32 && c0.type() == DType.BFLOAT16;
    DType resultType = widen ? DType.FLOAT32 : c0.type();
    long result = c0.address();
    if (widen) {
      result = memory.scratch(4 * batch * sizeC);
      if (accumulate) {
        cast(c0.address(), DType.BFLOAT16, result, DType.FLOAT32, batch * sizeC);
      }
    }
    boolean folds = sharedB && !transposeA;
    matmul.product(
        left,
        transposeA,
        right,
        transposeB,
        type,
        result,
        resultType,
        folds ? Math.multiplyExact(batch, m) : m,
        n,
        k);
    if (!folds) {
      matmul.batch(batch, sizeA, sharedB ? 0 : sizeB, sizeC);
    }
    if (accumulate) {
      matmul.accumulate();
    }
    matmul.run();
    if (widen) {
      cast(result, DType.FLOAT32, c0.address(), DType.BFLOAT16, batch * sizeC);
    }
  }

  private long inType(CudaBuffer buffer, long count, DType type) {
    if (buffer.type() == type) {
      return buffer.address();
    }
    long copy = memory.scratch(count * type.bytes);
    cast(buffer.address(), buffer.type(), copy, type, count);
    return copy;
  }

  @Override
  public void unary(Unary function, Buffer x, Buffer y) {
    enter();
    CudaBuffer from = real("x", x, 0);
    CudaBuffer to = written(requiredTyped("y", y, from.length(), from.type()));
    launcher
        .of(elements.kernel("unary"))
        .arg(code(function))
        .arg(from)
        .arg(to)
        .arg(code(from.type()))
        .arg(from.length())
        .runElements(from.length());
  }

  @Override
  public void unaryBackward(
      Unary function, Buffer x, Buffer y, Buffer dy, Buffer dx, boolean accumulate) {
    enter();
    CudaBuffer gradient = real("dy", dy, 0);
    DType type = gradient.type();
    long count = gradient.length();
    CudaBuffer x0 = typed("x", x, count, type);
    CudaBuffer y0 = typed("y", y, count, type);
    CudaBuffer to = written(requiredTyped("dx", dx, count, type));
    launcher
        .of(elements.kernel("unaryBackward"))
        .arg(code(function))
        .arg(x0)
        .arg(y0)
        .arg(gradient)
        .arg(to)
        .arg(code(type))
        .arg(accumulate)
        .arg(count)
        .runElements(count);
  }

  @Override
  public void binary(
      Binary function, Buffer a, Buffer b, Broadcast broadcast, Buffer out, int rows, int cols) {
    enter();
    long count = (long) rows * cols;
    CudaBuffer a0 = real("a", a, count);
    long needed =
        switch (broadcast) {
          case NONE -> count;
          case ROW -> cols;
          case COLUMN -> rows;
          case SCALAR -> 1;
        };
    CudaBuffer b0 = real("b", b, needed);
    CudaBuffer to = written(real("out", out, count));
    launcher
        .of(elements.kernel("binary"))
        .arg(code(function))
        .arg(a0)
        .arg(code(a0.type()))
        .arg(b0)
        .arg(code(b0.type()))
        .arg(code(broadcast))
        .arg(to)
        .arg(code(to.type()))
        .arg(count)
        .arg(cols)
        .runElements(count);
  }

  @Override
  public void scale(Buffer x, float alpha, Buffer y, boolean accumulate) {
    enter();
    if (alpha == 1 && !accumulate && x != null && y != null && x.length() == y.length()) {
      copy(x, y);
    } else {
      affine(x, alpha, 0, y, accumulate);
    }
  }

  @Override
  public void addScalar(Buffer x, float alpha, Buffer y) {
    enter();
    affine(x, 1, alpha, y, false);
  }

  private void affine(Buffer x, float alpha, float beta, Buffer y, boolean accumulate) {
    CudaBuffer from = real("x", x, 0);
    CudaBuffer to = written(real("y", y, from.length()));
    launcher
        .of(elements.kernel("affine"))
        .arg(from)
        .arg(code(from.type()))
        .arg(alpha)
        .arg(beta)
        .arg(to)
        .arg(code(to.type()))
        .arg(accumulate)
        .arg(from.length())
        .runElements(from.length());
  }

  @Override
  public void sumRows(Buffer x, Buffer out, boolean accumulate, int rows, int cols) {
    enter();
    CudaBuffer from = real("x", x, (long) rows * cols);
    CudaBuffer to = written(real("out", out, cols));
    if (to.type() != DType.FLOAT32 && to.type() != from.type()) {
      throw new IllegalArgumentException("sums of " + from.type() + " can't be " + to.type());
    }
    columnSums(from, to, accumulate, rows, cols);
  }

  @Override
  public void sumColumns(Buffer x, Buffer out, boolean accumulate, int rows, int cols) {
    enter();
    CudaBuffer from = real("x", x, (long) rows * cols);
    CudaBuffer to = written(real("out", out, rows));
    launcher
        .of(elements.kernel("rowSums"))
        .arg(from)
        .arg(code(from.type()))
        .arg(to)
        .arg(code(to.type()))
        .arg(accumulate)
        .arg(cols)
        .run(rows, blockFor(cols));
  }

  private static int blockFor(int cols) {
    return cols >= 4096 ? 512 : cols >= 256 ? 128 : 32;
  }

  @Override
  public void softmax(Buffer x, Buffer y, int rows, int cols) {
    softmax(x, y, rows, cols, false);
  }

  @Override
  public void logSoftmax(Buffer x, Buffer y, int rows, int cols) {
    softmax(x, y, rows, cols, true);
  }

  private void softmax(Buffer x, Buffer y, int rows, int cols, boolean logarithm) {
    enter();
    CudaBuffer from = real("x", x, (long) rows * cols);
    CudaBuffer to = written(requiredTyped("y", y, (long) rows * cols, from.type()));
    launcher
        .of(loss.kernel(from.type(), "softmax"))
        .arg(from)
        .arg(to)
        .arg(cols)
        .arg(logarithm)
        .run(rows, blockFor(cols));
  }

  @Override
  public void softmaxBackward(
      Buffer y, Buffer dy, Buffer dx, boolean accumulate, int rows, int cols) {
    softmaxBackward(y, dy, dx, accumulate, rows, cols, false);
  }

  @Override
  public void logSoftmaxBackward(
      Buffer y, Buffer dy, Buffer dx, boolean accumulate, int rows, int cols) {
    softmaxBackward(y, dy, dx, accumulate, rows, cols, true);
  }

  private void softmaxBackward(
      Buffer y, Buffer dy, Buffer dx, boolean accumulate, int rows, int cols, boolean logarithm) {
    enter();
    long count = (long) rows * cols;
    CudaBuffer y0 = real("y", y, count);
    CudaBuffer gradient = requiredTyped("dy", dy, count, y0.type());
    CudaBuffer to = written(requiredTyped("dx", dx, count, y0.type()));
    launcher
        .of(loss.kernel(y0.type(), "softmaxBackward"))
        .arg(y0)
        .arg(gradient)
        .arg(to)
        .arg(accumulate)
        .arg(cols)
        .arg(logarithm)
        .run(rows, blockFor(cols));
  }

  @Override
  public void gather(Buffer x, Buffer ids, Buffer out, int rows, int cols) {
    enter();
    CudaBuffer from = real("x", x, (long) rows * cols);
    CudaBuffer ids0 = requiredTyped("ids", ids, rows, DType.INT32);
    CudaBuffer to = written(real("out", out, rows));
    launcher
        .of(elements.kernel("gather"))
        .arg(from)
        .arg(code(from.type()))
        .arg(ids0)
        .arg(to)
        .arg(code(to.type()))
        .arg(rows)
        .arg(cols)
        .runElements(rows);
  }

  @Override
  public void gatherBackward(Buffer ids, Buffer dy, Buffer dx, int rows, int cols) {
    enter();
    CudaBuffer ids0 = requiredTyped("ids", ids, rows, DType.INT32);
    CudaBuffer from = real("dy", dy, rows);
    CudaBuffer to = written(real("dx", dx, (long) rows * cols));
    launcher
        .of(elements.kernel("gatherBackward"))
        .arg(ids0)
        .arg(from)
        .arg(code(from.type()))
        .arg(to)
        .arg(code(to.type()))
        .arg(rows)
        .arg(cols)
        .runElements(rows);
  }

  @Override
  public void transpose(Buffer x, Buffer y, int batch, int rows, int cols) {
    enter();
    long count = (long) batch * rows * cols;
    CudaBuffer from = real("x", x, count);
    CudaBuffer to = written(requiredTyped("y", y, count, from.type()));
    launcher
        .of(elements.kernel("transposeElements"))
        .arg(from)
        .arg(to)
        .arg(code(from.type()))
        .arg(rows)
        .arg(cols)
        .run((cols + 31) / 32, (rows + 31) / 32, batch, 256, 0);
  }

  @Override
  public void argmax(Buffer x, Buffer out, int rows, int cols) {
    enter();
    CudaBuffer from = real("x", x, (long) rows * cols);
    CudaBuffer to = written(requiredTyped("out", out, rows, DType.INT32));
    launcher
        .of(elements.kernel("argmax"))
        .arg(from)
        .arg(code(from.type()))
        .arg(to)
        .arg(cols)
        .run(rows, blockFor(cols));
  }

  /**
   * {@inheritDoc}
   *
   * <p>The bits come from Philox 4x32-10 under a key of 64 bits that the generator gives: the same
   * generator state gives the same mask on any GPU, but not the CPU's.
   */
  @Override
  public void dropoutMask(TorchGenerator generator, double p, Buffer mask, long count) {
    enter();
    CudaBuffer to = written(requiredTyped("mask", mask, (count + 7) / 8, DType.UINT8));
    if (!(p >= 0 && p <= 1)) {
      throw new IllegalArgumentException("a dropout probability of " + p);
    }
    long threshold = Math.min(0xffffffffL, Math.round(p * 0x1p32));
    launcher
        .of(elements.kernel("dropoutMask"))
        .arg(to)
        .arg(generator.nextLong())
        .arg((int) threshold)
        .arg(p == 1)
        .arg(count)
        .runElements((count + 7) / 8);
  }

  @Override
  public void applyMask(Buffer x, Buffer mask, float keepScale, Buffer y, boolean accumulate) {
    enter();
    CudaBuffer from = real("x", x, 0);
    CudaBuffer mask0 = requiredTyped("mask", mask, (from.length() + 7) / 8, DType.UINT8);
    CudaBuffer to = written(real("y", y, from.length()));
    launcher
        .of(elements.kernel("applyMask"))
        .arg(from)
        .arg(code(from.type()))
        .arg(mask0)
        .arg(keepScale)
        .arg(to)
        .arg(code(to.type()))
        .arg(accumulate)
        .arg(from.length())
        .runElements(from.length());
  }

  // Optimiser ------------------------------------------------------------------------------------

  @Override
  public void gradientNorm(List<Buffer> gradients, float maxNorm, Buffer result) {
    enter();
    CudaBuffer to = written(requiredTyped("result", result, 2, DType.FLOAT32));
    long blocks = 0;
    for (int i = 0; i < gradients.size(); i++) {
      blocks += normBlocks(requiredTyped("gradient", gradients.get(i), 0, DType.FLOAT32));
    }
    long partial = memory.scratch(8 * Math.max(1, blocks));
    long done = 0;
    for (int i = 0; i < gradients.size(); i++) {
      CudaBuffer gradient = requiredTyped("gradient", gradients.get(i), 0, DType.FLOAT32);
      launcher
          .of(optimizer.kernel("sumSquares"))
          .arg(gradient)
          .arg(gradient.length())
          .arg(partial + 8 * done)
          .run(normBlocks(gradient), 256);
      done += normBlocks(gradient);
    }
    launcher
        .of(optimizer.kernel("normResult"))
        .arg(partial)
        .arg(Math.toIntExact(blocks))
        .arg(maxNorm)
        .arg(to)
        .run(1, 1024);
  }

  private static long normBlocks(CudaBuffer gradient) {
    return (gradient.length() + NORM_CHUNK - 1) / NORM_CHUNK;
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
    enter();
    CudaBuffer p = requiredTyped("parameter", parameter, 0, DType.FLOAT32);
    long count = p.length();
    CudaBuffer g = requiredTyped("gradient", gradient, count, DType.FLOAT32);
    CudaBuffer m = written(requiredTyped("firstMoment", firstMoment, count, DType.FLOAT32));
    CudaBuffer v = written(requiredTyped("secondMoment", secondMoment, count, DType.FLOAT32));
    CudaBuffer clip0 = typed("clip", clip, 2, DType.FLOAT32);
    CudaMemory.Allocation allocation = p.allocation;
    long copy = allocation.copyFresh() ? allocation.copy() + p.byteOffset / 2 : 0;
    boolean aligned =
        ((p.address() | g.address() | m.address() | v.address()) & 15) == 0 && (copy & 7) == 0;
    launcher
        .of(optimizer.kernel(aligned ? "adamW" : "adamWUnaligned"))
        .arg(p)
        .arg(g)
        .arg(m)
        .arg(v)
        .arg(copy)
        .arg(count)
        .arg(learningRate)
        .arg(beta1)
        .arg(beta2)
        .arg(epsilon)
        .arg((float) (1 - (double) learningRate * weightDecay))
        .arg((float) (1 - Math.pow(beta1, step)))
        .arg((float) Math.sqrt(1 - Math.pow(beta2, step)))
        .arg(clip0)
        .runElements(aligned ? (count + 3) / 4 : count);
  }

  @Override
  public void close() {
    if (closed) {
      return;
    }
    closed = true;
    releases.add(() -> driver.streamSynchronize(stream));
    releases.add(() -> driver.ctxSetCurrent(context));
    releases.close();
  }
}
