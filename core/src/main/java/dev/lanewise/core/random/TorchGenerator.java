package dev.lanewise.core.random;

import dev.lanewise.simd.Workers;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.Objects;

/**
 * PyTorch's CPU generator: the same seed and the same sequence of calls give the same bits as
 * {@code torch.manual_seed} and PyTorch's functions.
 *
 * <p>The engine is the Mersenne Twister MT19937. Integers, uniform numbers in [0, 1), permutations,
 * and normal numbers in fewer than 16 places are the same in every build of PyTorch; for the rest,
 * PyTorch's result depends on the instructions that it uses, which {@link Stream} chooses.
 *
 * <p>Segments are filled from their first byte to their last with numbers in the machine's byte
 * order, of any alignment, on or off heap. A segment whose size is not a whole number of elements,
 * or that is read-only, is refused with {@link IllegalArgumentException} before a number is drawn.
 *
 * <p>Not safe for use by several threads at once.
 */
public final class TorchGenerator {
  /** The arithmetic of PyTorch that is followed where its builds differ. */
  public enum Stream {
    /**
     * PyTorch's kernels without vector instructions (environment variable {@code
     * ATEN_CPU_CAPABILITY=default}) with the GNU C library's logf, cosf and sinf. The default:
     * these are the numbers that the widely read tutorials print.
     */
    SCALAR(0),

    /**
     * PyTorch's kernels for AVX2 and AVX-512: what it computes by itself on today's x86 machines.
     */
    VECTOR(1),

    /**
     * {@link #SCALAR} as PyTorch 2.13 has it, where a normal number's deviation and mean are
     * applied with one rounding. Only numbers with a mean other than 0 differ, in the last bit.
     */
    SCALAR_FUSED(2);

    private final int code;

    Stream(int code) {
      this.code = code;
    }
  }

  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;
  private static final ValueLayout.OfDouble DOUBLE = ValueLayout.JAVA_DOUBLE_UNALIGNED;
  private static final ValueLayout.OfLong LONG = ValueLayout.JAVA_LONG_UNALIGNED;

  /** Elements made at a time; a multiple of the blocks of normal numbers that fits the L1 cache. */
  private static final int CHUNK = 4096;

  /** Fewer elements than this are not worth a second thread. */
  private static final long PARALLEL = 1L << 16;

  /** The largest uniform number below 1. */
  private static final float LARGEST = 0x1.fffffep-1f;

  private static final long WIDE_RANGE = 1L << 28;
  private static final int STATE_BYTES = 32 + 4 * MersenneTwister.BLOCK;
  private static final int STATE_MAGIC = 0x3154574c;

  /** Stands for every thread but the caller's when asking who may write to a segment. */
  private static final Thread ANOTHER = new Thread();

  private final Stream stream;
  private final MersenneTwister engine;
  private long seed;
  private boolean hasCachedNormal;
  private double cachedNormal;
  private final Fill fill;

  /**
   * Creates a generator of the {@link Stream#SCALAR} stream.
   *
   * @param seed the seed, of which the low 32 bits count
   */
  public TorchGenerator(long seed) {
    this(seed, Stream.SCALAR);
  }

  /**
   * Creates a generator.
   *
   * @param seed the seed, of which the low 32 bits count
   * @param stream the arithmetic to follow
   */
  public TorchGenerator(long seed, Stream stream) {
    this.stream = Objects.requireNonNull(stream, "stream");
    this.seed = seed;
    engine = new MersenneTwister((int) seed);
    fill = new Fill();
  }

  /** Starts again from a seed, as {@code torch.manual_seed}; drops the kept normal number. */
  public void manualSeed(long seed) {
    this.seed = seed;
    engine.seed((int) seed);
    hasCachedNormal = false;
  }

  /** The seed last given. */
  public long seed() {
    return seed;
  }

  /** The arithmetic that this generator follows. */
  public Stream stream() {
    return stream;
  }

  /** The next 32 bits of the engine. */
  public int nextInt() {
    return engine.next();
  }

  /** The next 64 bits: two outputs of the engine, the first one in the upper half. */
  public long nextLong() {
    long high = engine.next();
    return high << 32 | engine.next() & 0xffffffffL;
  }

  /** A uniform number in [0, 1) of 24 bits, as {@code torch.rand(1)}. */
  public float nextFloat() {
    return (engine.next() & 0xffffff) * 0x1p-24f;
  }

  /** A uniform number in [0, 1) of 53 bits, as {@code torch.rand(1, dtype=torch.float64)}. */
  public double nextDouble() {
    return (nextLong() & ((1L << 53) - 1)) * 0x1p-53;
  }

  /**
   * One standard normal number, as {@code torch.randn(1, dtype=torch.float64)}. Numbers are made in
   * pairs; the second is kept for the next call.
   */
  public double nextNormal() {
    if (hasCachedNormal) {
      hasCachedNormal = false;
      return cachedNormal;
    }
    double u1 = nextDouble();
    double u2 = nextDouble();
    double radius = Math.sqrt(-2 * StrictMath.log1p(-u2));
    double angle = 2 * Math.PI * u1;
    cachedNormal = radius * Math.sin(angle);
    hasCachedNormal = true;
    return radius * Math.cos(angle);
  }

  /**
   * One integer in [low, high), as {@code torch.randint(low, high, (1,))}. Ranges of 2<sup>28</sup>
   * and more take 64 bits, as PyTorch does since 2.7.
   *
   * @throws IllegalArgumentException if high is not above low
   */
  public long nextLong(long low, long high) {
    requireRange(low, high);
    long range = high - low;
    return low
        + (Long.compareUnsigned(range, WIDE_RANGE) < 0
            ? (engine.next() & 0xffffffffL) % range
            : Long.remainderUnsigned(nextLong(), range));
  }

  /** Fills {@code out} with integers in [low, high), as {@code torch.randint}. */
  public void randint(long[] out, long low, long high) {
    requireRange(low, high);
    for (int i = 0; i < out.length; i++) {
      out[i] = nextLong(low, high);
    }
  }

  /** Fills {@code out} with integers in [low, high), as {@code torch.randint}. */
  public void randint(int[] out, int low, int high) {
    requireRange(low, high);
    for (int i = 0; i < out.length; i++) {
      out[i] = (int) nextLong(low, high);
    }
  }

  /** Fills int64 elements of {@code out} with integers in [low, high), as {@code torch.randint}. */
  public void randint(MemorySegment out, long low, long high) {
    long count = elements(out, Long.BYTES);
    requireRange(low, high);
    for (long i = 0; i < count; i++) {
      out.set(LONG, i * Long.BYTES, nextLong(low, high));
    }
  }

  /**
   * A random order of 0 to n - 1, as {@code torch.randperm}.
   *
   * @throws IllegalArgumentException if n is negative
   */
  public int[] randperm(int n) {
    if (n < 0) {
      throw new IllegalArgumentException("A permutation cannot have " + n + " elements.");
    }
    int[] order = new int[n];
    randperm(order);
    return order;
  }

  /** Fills an array with a random order of its indices, as {@code torch.randperm}. */
  public void randperm(int[] order) {
    int n = order.length;
    for (int i = 0; i < n; i++) {
      order[i] = i;
    }
    for (int i = 0; i < n - 1; i++) {
      int z = i + Integer.remainderUnsigned(engine.next(), n - i);
      int kept = order[i];
      order[i] = order[z];
      order[z] = kept;
    }
  }

  /** Fills float32 elements with uniform numbers in [0, 1), as {@code torch.rand}. */
  public void uniform(MemorySegment out) {
    uniform(out, 0, 1);
  }

  /**
   * Fills {@code out} with uniform numbers in [low, high), as {@code tensor.uniform_(low, high)}.
   */
  public void uniform(float[] out, double low, double high) {
    uniform(MemorySegment.ofArray(out), low, high);
  }

  /**
   * Fills float32 elements with uniform numbers in [low, high), as {@code tensor.uniform_(low,
   * high)}. The scalar streams round the product and the sum, the vector stream their fused form. A
   * number that rounding would carry up to {@code high} becomes {@code low}, as in PyTorch 2.13.
   *
   * @throws IllegalArgumentException if a bound is not finite in float32 or high is below low
   */
  public void uniform(MemorySegment out, double low, double high) {
    long count = elements(out, Float.BYTES);
    float from = (float) low;
    float range = (float) high - from;
    if (!(range >= 0) || Float.isInfinite(range)) {
      throw new IllegalArgumentException(
          "Uniform numbers need finite bounds, the lower first; got [" + low + ", " + high + ").");
    }
    fill.run(stream == Stream.VECTOR ? Kind.UNIFORM_FUSED : Kind.UNIFORM, out, count, low, high);
  }

  /** Fills float64 elements with uniform numbers in [0, 1), as {@code torch.rand} in float64. */
  public void uniform64(MemorySegment out) {
    long count = elements(out, Double.BYTES);
    for (long i = 0; i < count; i++) {
      out.set(DOUBLE, i * Double.BYTES, nextDouble());
    }
  }

  /** Fills float32 elements with standard normal numbers, as {@code torch.randn}. */
  public void normal(MemorySegment out) {
    normal(out, 0, 1);
  }

  /** Fills {@code out} with normal numbers, as {@code tensor.normal_(mean, std)}. */
  public void normal(float[] out, double mean, double std) {
    normal(MemorySegment.ofArray(out), mean, std);
  }

  /**
   * Fills float32 elements with normal numbers, as {@code tensor.normal_(mean, std)}.
   *
   * <p>Sixteen and more elements are transformed in blocks of sixteen; a rest draws the last
   * sixteen anew. Fewer elements come from {@link #nextNormal()}, one by one.
   *
   * <p>When the mean is not 0, {@link Stream#SCALAR} rounds the product with the deviation and the
   * sum with the mean, as PyTorch 1.13 to 2.7 do; the other streams fuse them.
   *
   * @throws IllegalArgumentException if std is negative or not a number
   */
  public void normal(MemorySegment out, double mean, double std) {
    long count = elements(out, Float.BYTES);
    requireDeviation(std);
    if (count < BoxMuller.BLOCK) {
      for (long i = 0; i < count; i++) {
        out.set(FLOAT, i * Float.BYTES, (float) nextNormal(mean, std));
      }
      return;
    }
    long rest = count % BoxMuller.BLOCK;
    Kind kind =
        switch (stream) {
          case SCALAR -> Kind.NORMAL_SCALAR;
          case SCALAR_FUSED -> Kind.NORMAL_SCALAR_FUSED;
          case VECTOR -> Kind.NORMAL_VECTOR;
        };
    fill.run(kind, out, count - rest, (float) mean, (float) std);
    if (rest != 0) {
      engine.skip(rest);
      MemorySegment last = out.asSlice((count - BoxMuller.BLOCK) * Float.BYTES);
      fill.run(kind, last, BoxMuller.BLOCK, (float) mean, (float) std);
    }
  }

  private double nextNormal(double mean, double std) {
    double normal = nextNormal();
    return stream == Stream.VECTOR ? Math.fma(normal, std, mean) : normal * std + mean;
  }

  /**
   * Fills float64 elements with normal numbers, as {@code tensor.normal_(mean, std)} in float64;
   * the last bit may differ from the C library's.
   *
   * @throws IllegalArgumentException if std is negative or not a number
   */
  public void normal64(MemorySegment out, double mean, double std) {
    long count = elements(out, Double.BYTES);
    requireDeviation(std);
    if (count < BoxMuller.BLOCK) {
      for (long i = 0; i < count; i++) {
        out.set(DOUBLE, i * Double.BYTES, nextNormal(mean, std));
      }
      return;
    }
    long rest = count % BoxMuller.BLOCK;
    for (long done = 0; done < count - rest; done += BoxMuller.BLOCK) {
      normalBlock64(out, done, mean, std);
    }
    if (rest != 0) {
      engine.skip(2 * rest);
      normalBlock64(out, count - BoxMuller.BLOCK, mean, std);
    }
  }

  private void normalBlock64(MemorySegment out, long at, double mean, double std) {
    double[] block = new double[BoxMuller.BLOCK];
    for (int i = 0; i < block.length; i++) {
      block[i] = nextDouble();
    }
    int half = block.length / 2;
    for (int i = 0; i < half; i++) {
      double radius = Math.sqrt(-2 * Math.log(1 - block[i]));
      double angle = 2 * Math.PI * block[i + half];
      block[i] = radius * Math.cos(angle);
      block[i + half] = radius * Math.sin(angle);
    }
    for (int i = 0; i < block.length; i++) {
      block[i] = stream == Stream.SCALAR ? block[i] * std + mean : Math.fma(block[i], std, mean);
    }
    MemorySegment.copy(block, 0, out, DOUBLE, at * Double.BYTES, block.length);
  }

  /**
   * Fills float32 elements with 1 with probability p, else 0, as {@code tensor.bernoulli_(p)}.
   *
   * @throws IllegalArgumentException if p is not in [0, 1]
   */
  public void bernoulli(MemorySegment out, double p) {
    keep(out, p, 1f);
  }

  /**
   * Fills float32 elements with what dropout multiplies its input by: 0 with probability {@code
   * rate}, else 1/(1 - rate), as {@code torch.nn.functional.dropout}. The rates 0 and 1 draw no
   * numbers.
   *
   * @throws IllegalArgumentException if the rate is not in [0, 1]
   */
  public void dropout(MemorySegment out, double rate) {
    if (!(rate >= 0 && rate <= 1)) {
      throw new IllegalArgumentException("A dropout rate lies in [0, 1], not " + rate + ".");
    }
    if (rate == 0 || rate == 1) {
      long count = elements(out, Float.BYTES);
      for (long i = 0; i < count; i++) {
        out.set(FLOAT, i * Float.BYTES, rate == 0 ? 1f : 0f);
      }
      return;
    }
    keep(out, 1 - rate, 1f / (float) (1 - rate));
  }

  private void keep(MemorySegment out, double p, float kept) {
    long count = elements(out, Float.BYTES);
    requireProbability(p);
    fill.run(Kind.KEEP, out, count, p, kept);
  }

  /**
   * Draws bits that are 1 with probability p, with the numbers that {@link
   * #bernoulli(MemorySegment, double)} would take.
   *
   * @param out at least {@code ceil(count / 8)} bytes; bit {@code i % 8} of byte {@code i / 8} is
   *     the i-th, and the rest of the last byte is 0
   * @param count number of bits
   * @param p probability of a 1
   * @throws IllegalArgumentException if p is not in [0, 1], or the segment is too small or
   *     read-only
   */
  public void bits(MemorySegment out, long count, double p) {
    requireProbability(p);
    if (count < 0 || out.byteSize() < Math.ceilDiv(count, Byte.SIZE) || out.isReadOnly()) {
      throw new IllegalArgumentException(
          count + " bits cannot be written to this segment of " + out.byteSize() + " bytes.");
    }
    fill.run(Kind.BITS, out, count, p, 0);
  }

  /**
   * Fills float32 elements with 1 or 0 after the probability in the same place of {@code
   * probabilities}, as {@code torch.bernoulli(probabilities)}.
   *
   * @throws IllegalArgumentException if the sizes differ or a probability is not in [0, 1]
   */
  public void bernoulli(MemorySegment out, MemorySegment probabilities) {
    long count = elements(out, Float.BYTES);
    if (probabilities.byteSize() != out.byteSize()) {
      throw new IllegalArgumentException(
          "There are "
              + probabilities.byteSize() / 4
              + " probabilities for "
              + count
              + " elements.");
    }
    for (long i = 0; i < count; i++) {
      float p = probabilities.get(FLOAT, i * Float.BYTES);
      if (!(p >= 0 && p <= 1)) {
        throw new IllegalArgumentException("Probability " + i + " is " + p + ", not in [0, 1].");
      }
    }
    for (long i = 0; i < count; i++) {
      float p = probabilities.get(FLOAT, i * Float.BYTES);
      out.set(FLOAT, i * Float.BYTES, nextFloat() < p ? 1f : 0f);
    }
  }

  /**
   * Fills float32 elements with exponentially distributed numbers, as {@code
   * tensor.exponential_(lambda)}.
   *
   * @throws IllegalArgumentException if lambda is not above 0
   */
  public void exponential(MemorySegment out, double lambda) {
    long count = elements(out, Float.BYTES);
    if (!(lambda > 0)) {
      throw new IllegalArgumentException("The rate lambda must be above 0, not " + lambda + ".");
    }
    for (long i = 0; i < count; i++) {
      out.set(FLOAT, i * Float.BYTES, nextExponential(lambda));
    }
  }

  private float nextExponential(double lambda) {
    return (float) (-1 / lambda * StrictMath.log1p(-nextDouble()));
  }

  /**
   * Draws indices with the given weights, as {@code torch.multinomial(weights, samples,
   * replacement)} for one row of float32 weights. One sample is drawn as without replacement, as in
   * PyTorch.
   *
   * @param weights weights, not negative, finite, with a sum above 0; they need not sum to 1
   * @param samples number of indices to draw
   * @param replacement whether an index may come again
   * @throws IllegalArgumentException if the weights are unfit or too few of them are above 0
   */
  public long[] multinomial(float[] weights, int samples, boolean replacement) {
    int positive = 0;
    double total = 0;
    for (int i = 0; i < weights.length; i++) {
      if (!(weights[i] >= 0 && weights[i] < Float.POSITIVE_INFINITY)) {
        throw new IllegalArgumentException(
            "Weight " + i + " is " + weights[i] + "; weights must be finite and not negative.");
      }
      positive += weights[i] > 0 ? 1 : 0;
      total += weights[i];
    }
    if (samples < 1) {
      throw new IllegalArgumentException("At least one sample must be drawn, not " + samples + ".");
    }
    if (!(total > 0)) {
      throw new IllegalArgumentException("All " + weights.length + " weights are 0.");
    }
    if (!replacement && samples > positive) {
      throw new IllegalArgumentException(
          samples
              + " samples without replacement need as many weights above 0; there are "
              + positive
              + ".");
    }
    return replacement && samples > 1
        ? withReplacement(weights, samples)
        : withoutReplacement(weights, samples);
  }

  private long[] withReplacement(float[] weights, int samples) {
    int n = weights.length;
    float[] cumulative = new float[n];
    float sum = 0;
    for (int i = 0; i < n; i++) {
      sum += weights[i];
      cumulative[i] = sum;
    }
    for (int i = 0; i < n; i++) {
      cumulative[i] /= sum;
    }
    cumulative[n - 1] = 1;
    long[] drawn = new long[samples];
    for (int s = 0; s < samples; s++) {
      double u = nextDouble();
      int left = 0;
      int right = n;
      while (left < right) {
        int middle = (left + right) >>> 1;
        if (cumulative[middle] < u) {
          left = middle + 1;
        } else {
          right = middle;
        }
      }
      drawn[s] = left;
    }
    return drawn;
  }

  private long[] withoutReplacement(float[] weights, int samples) {
    float[] keys = new float[weights.length];
    for (int i = 0; i < keys.length; i++) {
      keys[i] = weights[i] / nextExponential(1);
    }
    long[] drawn = new long[samples];
    for (int s = 0; s < samples; s++) {
      int best = 0;
      for (int i = 1; i < keys.length; i++) {
        best = keys[i] > keys[best] ? i : best;
      }
      drawn[s] = best;
      keys[best] = Float.NEGATIVE_INFINITY;
    }
    return drawn;
  }

  /** The whole state in 2528 bytes: seed, engine, and the kept normal number. */
  public byte[] state() {
    ByteBuffer buffer = ByteBuffer.allocate(STATE_BYTES).order(ByteOrder.LITTLE_ENDIAN);
    buffer.putInt(STATE_MAGIC).putInt(engine.position()).putLong(seed);
    buffer.putInt(stream.code).putInt(hasCachedNormal ? 1 : 0);
    buffer.putDouble(hasCachedNormal ? cachedNormal : 0);
    buffer.asIntBuffer().put(engine.words());
    return buffer.array();
  }

  /**
   * Continues from a saved state.
   *
   * @param state bytes from {@link #state()} of a generator of the same stream
   * @throws IllegalArgumentException if the bytes are no such state
   */
  public void restore(byte[] state) {
    ByteBuffer buffer = ByteBuffer.wrap(state).order(ByteOrder.LITTLE_ENDIAN);
    if (state.length != STATE_BYTES || buffer.getInt() != STATE_MAGIC) {
      throw new IllegalArgumentException(
          "These " + state.length + " bytes are no generator state.");
    }
    int position = buffer.getInt();
    long savedSeed = buffer.getLong();
    int savedStream = buffer.getInt();
    int cached = buffer.getInt();
    double normal = buffer.getDouble();
    if (position < 0 || position > MersenneTwister.BLOCK || (cached & ~1) != 0) {
      throw new IllegalArgumentException("The generator state is damaged.");
    }
    if (savedStream != stream.code) {
      throw new IllegalArgumentException(
          "The state is not of a generator of the stream " + stream + ".");
    }
    int[] words = new int[MersenneTwister.BLOCK];
    buffer.asIntBuffer().get(words);
    engine.restore(words, position);
    seed = savedSeed;
    hasCachedNormal = cached == 1;
    cachedNormal = normal;
  }

  /**
   * Continues from where another generator is, without allocating.
   *
   * @param other a generator of the same stream
   */
  public void copyFrom(TorchGenerator other) {
    if (other.stream != stream) {
      throw new IllegalArgumentException(
          "The other generator is of the stream " + other.stream + ", not " + stream + ".");
    }
    engine.copyFrom(other.engine);
    seed = other.seed;
    hasCachedNormal = other.hasCachedNormal;
    cachedNormal = other.cachedNormal;
  }

  private static long elements(MemorySegment out, int size) {
    if (out.isReadOnly()) {
      throw new IllegalArgumentException("The segment to fill is read-only.");
    }
    if (out.byteSize() % size != 0) {
      throw new IllegalArgumentException(
          "The segment's "
              + out.byteSize()
              + " bytes hold no whole number of "
              + size
              + "-byte elements.");
    }
    return out.byteSize() / size;
  }

  private static void requireRange(long low, long high) {
    if (high <= low) {
      throw new IllegalArgumentException(
          "Integers need a range that is not empty; got [" + low + ", " + high + ").");
    }
  }

  private static void requireProbability(double p) {
    if (!(p >= 0 && p <= 1)) {
      throw new IllegalArgumentException("A probability lies in [0, 1], not " + p + ".");
    }
  }

  private static void requireDeviation(double std) {
    if (!(std >= 0)) {
      throw new IllegalArgumentException(
          "The standard deviation cannot be " + std + "; it must be 0 or above.");
    }
  }

  /** What a bulk fill makes of the engine's outputs. */
  private enum Kind {
    UNIFORM(1),
    UNIFORM_FUSED(1),
    NORMAL_SCALAR(1),
    NORMAL_SCALAR_FUSED(1),
    NORMAL_VECTOR(1),
    KEEP(2),
    /** Eight elements to a byte. */
    BITS(2);

    /** Outputs of the engine that an element takes. */
    final int draws;

    Kind(int draws) {
      this.draws = draws;
    }
  }

  /** An engine and the buffers of one thread. */
  private static final class Lane {
    final MersenneTwister engine;
    final int[] bits = new int[2 * CHUNK];
    final float[] numbers = new float[CHUNK];
    final byte[] octets = new byte[CHUNK / Byte.SIZE];

    Lane(MersenneTwister engine) {
      this.engine = engine;
    }

    void make(Kind kind, int count, double a, double b) {
      engine.fill(bits, kind.draws * count);
      if (kind == Kind.KEEP) {
        keep(count, a, (float) b);
        return;
      }
      if (kind == Kind.BITS) {
        octets(count, a);
        return;
      }
      for (int i = 0; i < count; i++) {
        numbers[i] = (bits[i] & 0xffffff) * 0x1p-24f;
      }
      switch (kind) {
        case UNIFORM -> scale(count, (float) a, (float) b);
        case UNIFORM_FUSED -> scaleFused(count, (float) a, (float) b);
        case NORMAL_SCALAR -> BoxMuller.scalar(numbers, count, (float) a, (float) b);
        case NORMAL_SCALAR_FUSED -> BoxMuller.scalarFused(numbers, count, (float) a, (float) b);
        case NORMAL_VECTOR -> BoxMuller.vector(numbers, count, (float) a, (float) b);
        default -> throw new AssertionError(kind);
      }
    }

    private void scale(int count, float low, float high) {
      float range = high - low;
      for (int i = 0; i < count; i++) {
        numbers[i] = numbers[i] * range + low;
      }
      if (LARGEST * range + low == high) {
        stayBelow(count, low, high);
      }
    }

    private void scaleFused(int count, float low, float high) {
      float range = high - low;
      for (int i = 0; i < count; i++) {
        numbers[i] = Math.fma(numbers[i], range, low);
      }
      if (Math.fma(LARGEST, range, low) == high) {
        stayBelow(count, low, high);
      }
    }

    private void stayBelow(int count, float low, float high) {
      for (int i = 0; i < count; i++) {
        numbers[i] = numbers[i] == high ? low : numbers[i];
      }
    }

    private void keep(int count, double p, float kept) {
      long below = below(p);
      int keptBits = Float.floatToRawIntBits(kept);
      for (int i = 0; i < count; i++) {
        numbers[i] = Float.intBitsToFloat(keptBits & (int) (u53(i) - below >> 63));
      }
    }

    private void octets(int count, double p) {
      long below = below(p);
      for (int i = 0; i < count; i += Byte.SIZE) {
        int octet = 0;
        for (int j = 0; j < Math.min(Byte.SIZE, count - i); j++) {
          octet |= (int) (u53(i + j) - below >>> 63) << j;
        }
        octets[i / Byte.SIZE] = (byte) octet;
      }
    }

    /** The i-th number of {@link TorchGenerator#nextDouble} before it is scaled by 2^-53. */
    private long u53(int i) {
      return (long) (bits[2 * i] & 0x1fffff) << 32 | bits[2 * i + 1] & 0xffffffffL;
    }

    /** Whole numbers below this one are, scaled by 2^-53, below p. */
    private static long below(double p) {
      return (long) Math.ceil(p * 0x1p53);
    }
  }

  /**
   * A bulk fill. Each thread takes one range of the elements and a copy of the engine, which it
   * moves to the range's first output, so the numbers do not depend on the number of threads.
   */
  private final class Fill implements Workers.Task {
    private Lane[] lanes = {new Lane(engine)};
    private Kind kind;
    private MemorySegment out;
    private long count;
    private long share;
    private double a;
    private double b;

    void run(Kind kind, MemorySegment out, long count, double a, double b) {
      int threads = count < PARALLEL || !out.isAccessibleBy(ANOTHER) ? 1 : Workers.threads();
      for (int i = lanes.length; i < threads; i++) {
        lanes = Arrays.copyOf(lanes, i + 1);
        lanes[i] = new Lane(new MersenneTwister(0));
      }
      for (int i = 1; i < threads; i++) {
        lanes[i].engine.copyFrom(engine);
      }
      this.kind = kind;
      this.out = out;
      this.count = count;
      this.a = a;
      this.b = b;
      // Whole chunks keep blocks of normal numbers together.
      share = Math.ceilDiv(count, (long) threads * CHUNK) * CHUNK;
      try {
        Workers.parallel(threads, this);
      } finally {
        this.out = null;
      }
      if (threads > 1) {
        engine.copyFrom(lanes[threads - 1].engine);
      }
    }

    @Override
    public void run(int task) {
      Lane lane = lanes[task];
      long from = Math.min(count, task * share);
      long to = Math.min(count, from + share);
      lane.engine.skip(from * kind.draws);
      for (long at = from; at < to; at += CHUNK) {
        int part = (int) Math.min(CHUNK, to - at);
        lane.make(kind, part, a, b);
        if (kind == Kind.BITS) {
          int bytes = Math.ceilDiv(part, Byte.SIZE);
          MemorySegment.copy(lane.octets, 0, out, ValueLayout.JAVA_BYTE, at / Byte.SIZE, bytes);
        } else {
          MemorySegment.copy(lane.numbers, 0, out, FLOAT, at * Float.BYTES, part);
        }
      }
    }
  }
}
