package dev.lanewise.core.data;

import dev.lanewise.core.base.InputException;
import dev.lanewise.core.random.TorchGenerator;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Locale;

/**
 * Batches of windows: inputs are {@code context} tokens, targets the same window one token later.
 *
 * <p>Targets that do not count ({@link TokenSequence#counts}) are {@link #IGNORE}. Where there are
 * such, a window to train on that would have no other begins at the next place where one has. Where
 * documents are isolated ({@link TokenSequence#isolated}), {@link #positions} count from the start
 * of each.
 *
 * <p>Both are [batch, context] row-major 32-bit integers off heap, filled anew by {@link #next}
 * without allocating. Which windows a batch holds depends on nothing but the seed and the batch's
 * number, so {@link #seek} continues a run exactly.
 */
public final class TokenBatches implements AutoCloseable {
  /** The target of positions that count for nothing: PyTorch's default {@code ignore_index}. */
  public static final int IGNORE = -100;

  private final TokenSequence data;
  private final int batch;
  private final int context;
  private final Order order;
  private final long count;
  private final boolean slides;

  /** Targets at the start of each window but the first that count for nothing. */
  private final int history;

  private final Arena arena = Arena.ofShared();
  private final MemorySegment inputs;
  private final MemorySegment targets;

  /** Null unless documents are isolated. */
  private final MemorySegment positions;

  private long next;
  private long tokens;

  private TokenBatches(TokenSequence data, int batch, int context, Order order, long count) {
    this(data, batch, context, order, count, 0);
  }

  private TokenBatches(
      TokenSequence data, int batch, int context, Order order, long count, int history) {
    this.data = data;
    this.history = history;
    this.batch = batch;
    this.context = context;
    this.order = order;
    this.count = count;
    // Windows to train on must have something to learn; those of an evaluation cover all.
    slides = count == Long.MAX_VALUE && !data.allCount();
    if (slides && nextTarget(1) < 0) {
      throw new InputException("There is nothing to learn: no token of an answer is a target.");
    }
    long bytes = Integer.BYTES * (long) batch * context;
    inputs = arena.allocate(bytes, 64);
    targets = arena.allocate(bytes, 64);
    positions = data.isolates() ? arena.allocate(bytes, 64) : null;
  }

  /**
   * Windows at random places, with replacement, as nanoGPT draws them: the offsets of a batch are
   * {@code torch.randint(length - context, (batch,))} of a generator seeded once with the seed.
   *
   * @param data at least {@code context + 1} tokens
   * @param batch rows of a batch
   * @param context tokens of a row
   * @param seed fixes the windows
   * @return endless batches
   * @throws InputException if the data is shorter than one window
   */
  public static TokenBatches random(TokenSequence data, int batch, int context, long seed) {
    check(data, batch, context);
    Order order = new RandomOrder(seed, batch, data.length() - context);
    return new TokenBatches(data, batch, context, order, Long.MAX_VALUE);
  }

  /**
   * Windows in epochs without replacement: an epoch visits windows that lie end to end, each once,
   * in shuffled order; where the first begins is drawn anew for each epoch. A batch may hold the
   * last windows of one epoch and the first of the next.
   *
   * @param data at least {@code context + 1} tokens
   * @param batch rows of a batch
   * @param context tokens of a row
   * @param seed fixes the order
   * @return endless batches
   * @throws InputException if the data is shorter than one window
   */
  public static TokenBatches shuffled(TokenSequence data, int batch, int context, long seed) {
    check(data, batch, context);
    return new TokenBatches(
        data,
        batch,
        context,
        new ShuffledOrder(seed, batch, context, data.length()),
        Long.MAX_VALUE);
  }

  /**
   * Every token once as a target, but for the first, in order: for an exact evaluation. In the last
   * batch the positions past the end have input 0 and target {@link #IGNORE}.
   *
   * @param data at least two tokens
   * @param batch rows of a batch
   * @param context tokens of a row
   * @return as many batches as the data needs
   * @throws InputException if the data has fewer than two tokens
   */
  public static TokenBatches sequential(TokenSequence data, int batch, int context) {
    return strided(data, batch, context, context);
  }

  /**
   * Every token once as a target, but for the first, in windows that overlap: each begins a stride
   * after the one before, and of its targets those count that no window before had. So all tokens
   * but those of the first window are predicted from at least {@code context - stride + 1} tokens.
   *
   * @param data at least two tokens
   * @param batch rows of a batch
   * @param context tokens of a row
   * @param stride from 1 to context; the whole context gives windows that lie end to end
   * @return as many batches as the data needs
   * @throws InputException if the data has fewer than two tokens
   */
  public static TokenBatches strided(TokenSequence data, int batch, int context, int stride) {
    checkPositive(batch, context);
    if (stride < 1 || stride > context) {
      throw new IllegalArgumentException(
          "a stride lies between 1 and the context " + context + ", it is not " + stride);
    }
    if (data.length() < 2) {
      throw new InputException(
          "The data holds "
              + data.length()
              + (data.length() == 1 ? " token" : " tokens")
              + ", and an evaluation needs at least two; give more text.");
    }
    long more = Math.max(0, data.length() - 1 - context);
    long windows = 1 + (more + stride - 1) / stride;
    return new TokenBatches(
        data,
        batch,
        context,
        (step, row) -> (step * batch + row) * stride,
        (windows + batch - 1) / batch,
        context - stride);
  }

  /**
   * A fixed sample for validation while training: windows spread evenly over the data, the same at
   * every evaluation.
   *
   * @param data at least {@code context + 1} tokens
   * @param batch rows of a batch
   * @param context tokens of a row
   * @param batches how many batches to spread; if that is more than the data needs, all of it is
   *     used, as by {@link #sequential}
   * @return the batches
   * @throws InputException if the data is shorter than one window
   */
  public static TokenBatches evenly(TokenSequence data, int batch, int context, int batches) {
    check(data, batch, context);
    if (batches < 1) {
      throw new IllegalArgumentException("batches must be at least 1, not " + batches);
    }
    long windows = (long) batches * batch;
    if (windows > (data.length() - 1) / context) {
      return sequential(data, batch, context);
    }
    long last = data.length() - context - 1;
    return new TokenBatches(
        data,
        batch,
        context,
        (step, row) -> windows == 1 ? 0 : (step * batch + row) * last / (windows - 1),
        batches);
  }

  private static void check(TokenSequence data, int batch, int context) {
    checkPositive(batch, context);
    requireWindow(data, context);
  }

  /**
   * Refuses data that is shorter than a window.
   *
   * @param data tokens
   * @param context tokens of a row
   * @throws InputException if there are fewer than {@code context + 1} tokens
   */
  public static void requireWindow(TokenSequence data, int context) {
    if (data.length() <= context) {
      throw new InputException(
          String.format(
              Locale.ROOT,
              "The data holds %d tokens, and a context of %d needs at least %d; choose a shorter"
                  + " context or give more text.",
              data.length(),
              context,
              context + 1L));
    }
  }

  private static void checkPositive(int batch, int context) {
    if (batch < 1 || context < 1) {
      throw new IllegalArgumentException(
          "batch and context must be at least 1, not " + batch + " and " + context);
    }
  }

  /** Fills {@link #inputs} and {@link #targets} with the next batch. */
  public void next() {
    if (next >= count) {
      throw new IllegalStateException("all " + count + " batches have been read");
    }
    tokens = 0;
    for (int row = 0; row < batch; row++) {
      long from = order.offset(next, row);
      if (slides) {
        from = withTarget(from);
      }
      long to = (long) row * context;
      int rows = Math.clamp(data.length() - 1 - from, 0, context);
      data.copy(rows > 0 ? from : 0, rows, inputs, to);
      data.copy(rows > 0 ? from + 1 : 0, rows, targets, to);
      for (int i = rows; i < context; i++) {
        inputs.setAtIndex(ValueLayout.JAVA_INT, to + i, 0);
        targets.setAtIndex(ValueLayout.JAVA_INT, to + i, IGNORE);
      }
      int ignored = from == 0 ? 0 : Math.min(rows, history);
      for (int i = 0; i < ignored; i++) {
        targets.setAtIndex(ValueLayout.JAVA_INT, to + i, IGNORE);
      }
      if (!data.allCount()) {
        ignored += ignoreUncounted(from + 1 + ignored, rows - ignored, to + ignored);
      }
      tokens += rows - ignored;
      if (positions != null) {
        countPositions(from, rows, to);
      }
    }
    next++;
  }

  /** Counts from the start of each document, and of the row. */
  private void countPositions(long from, int rows, long to) {
    int position = 0;
    for (int i = 0; i < context; i++) {
      if (i < rows && data.starts(from + i)) {
        position = 0;
      }
      positions.setAtIndex(ValueLayout.JAVA_INT, to + i, position++);
    }
  }

  /** Takes targets out that do not count, and tells how many. */
  private int ignoreUncounted(long from, int count, long to) {
    int ignored = 0;
    for (int i = 0; i < count; i++) {
      if (!data.counts(from + i)) {
        targets.setAtIndex(ValueLayout.JAVA_INT, to + i, IGNORE);
        ignored++;
      }
    }
    return ignored;
  }

  /** Where a window begins that has a target that counts: here, or at the next that does. */
  private long withTarget(long from) {
    long last = data.length() - 1;
    for (long i = from + 1; i <= from + context; i++) {
      if (data.counts(i)) {
        return from;
      }
    }
    long target = nextTarget(from + context + 1);
    target = target < 0 ? nextTarget(1) : target;
    return Math.clamp(target - 1 - context / 2, 0, last - context);
  }

  private long nextTarget(long from) {
    for (long i = from; i < data.length(); i++) {
      if (data.counts(i)) {
        return i;
      }
    }
    return -1;
  }

  /**
   * Whether {@link #next} may be called; always true for endless batches.
   *
   * @return whether a batch is left
   */
  public boolean hasNext() {
    return next < count;
  }

  /**
   * The number of batches in all.
   *
   * @return the count; Long.MAX_VALUE if they never end
   */
  public long count() {
    return count;
  }

  /**
   * The number of the batch that {@link #next} will fill, from 0. With the seed this is all that
   * has to be kept to continue a run.
   *
   * @return the number
   */
  public long position() {
    return next;
  }

  /**
   * Goes to a batch.
   *
   * @param position number of the batch that the next call of {@link #next} is to fill
   */
  public void seek(long position) {
    if (position < 0 || position > count) {
      throw new IllegalArgumentException(
          "there is no batch " + position + " among " + count + " batches");
    }
    next = position;
  }

  /**
   * The current batch's inputs.
   *
   * @return [batch, context] 32-bit integers, aligned to 64 bytes; always the same memory
   */
  public MemorySegment inputs() {
    return inputs;
  }

  /**
   * The current batch's targets.
   *
   * @return [batch, context] 32-bit integers, aligned to 64 bytes; always the same memory
   */
  public MemorySegment targets() {
    return targets;
  }

  /**
   * Where the current batch's inputs stand in their documents.
   *
   * @return [batch, context] 32-bit integers that begin with 0 at the start of each row and of each
   *     document in it, aligned to 64 bytes; always the same memory; null unless the data's
   *     documents are isolated
   */
  public MemorySegment positions() {
    return positions;
  }

  /**
   * The number of targets in the current batch that are not {@link #IGNORE}.
   *
   * @return at most batch · context
   */
  public long tokens() {
    return tokens;
  }

  /**
   * Rows of a batch.
   *
   * @return the batch size
   */
  public int batch() {
    return batch;
  }

  /**
   * Tokens of a row.
   *
   * @return the context length
   */
  public int context() {
    return context;
  }

  /** Frees the batch memory. */
  @Override
  public void close() {
    arena.close();
  }

  /** Where each window begins. */
  private interface Order {
    long offset(long step, int row);
  }

  private static final class RandomOrder implements Order {
    private final TorchGenerator generator;
    private final int batch;
    private final long bound;
    private long drawn;

    RandomOrder(long seed, int batch, long bound) {
      generator = new TorchGenerator(seed);
      this.batch = batch;
      this.bound = bound;
    }

    @Override
    public long offset(long step, int row) {
      long index = step * batch + row;
      if (index < drawn) {
        generator.manualSeed(generator.seed());
        drawn = 0;
      }
      for (; drawn < index; drawn++) {
        generator.nextLong(0, bound);
      }
      drawn++;
      return generator.nextLong(0, bound);
    }
  }

  private static final class ShuffledOrder implements Order {
    private final TorchGenerator generator;
    private final long seed;
    private final int batch;
    private final int context;
    private final int phases;
    private final int[] permutation;
    private long epoch = -1;
    private long phase;

    ShuffledOrder(long seed, int batch, int context, long length) {
      generator = new TorchGenerator(seed);
      this.seed = seed;
      this.batch = batch;
      this.context = context;
      // Every phase leaves room for the same number of windows; a short text has a single phase.
      phases = length >= 2L * context ? context : 1;
      permutation = new int[Math.toIntExact((length - phases) / context)];
    }

    @Override
    public long offset(long step, int row) {
      long window = step * batch + row;
      long wanted = window / permutation.length;
      if (wanted != epoch) {
        generator.manualSeed(mix(mix(seed) + wanted));
        phase = generator.nextLong(0, phases);
        generator.randperm(permutation);
        epoch = wanted;
      }
      return phase + (long) permutation[(int) (window % permutation.length)] * context;
    }

    /**
     * SplitMix64's output function (Steele, Lea and Flood 2014), so that epochs of near seeds
     * differ.
     */
    private static long mix(long z) {
      z += 0x9E3779B97F4A7C15L;
      z = (z ^ z >>> 30) * 0xBF58476D1CE4E5B9L;
      z = (z ^ z >>> 27) * 0x94D049BB133111EBL;
      return z ^ z >>> 31;
    }
  }
}
