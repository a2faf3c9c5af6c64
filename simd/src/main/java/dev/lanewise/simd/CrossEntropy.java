package dev.lanewise.simd;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;

/**
 * Cross-entropy of rows of logits against target indices, and its gradient.
 *
 * <p>For a row x of logits with target y: {@code lse = log sum_j e^x_j}, {@code loss = w_y (lse -
 * x_y)}, {@code dx = w_y (p - 1_y)} with {@code p = e^(x - lse)}. Label smoothing e makes the
 * target distribution {@code (1 - e) 1_y + e / cols}; a z-loss z adds {@code z lse^2}. {@link
 * Reduction#MEAN} divides by the sum of the weights of the rows that count. The gradient may
 * overwrite the logits: a row is then read from memory once and written once.
 *
 * <p>Special cases, where they could be disputed, are PyTorch's:
 *
 * <ul>
 *   <li>a row whose target is {@link Options#ignoreIndex()} has loss 0 and gradient 0, whatever its
 *       logits hold (PyTorch passes NaN on);
 *   <li>the mean over no rows is NaN, the sum 0, gradients 0;
 *   <li>-inf at another place than the target counts as probability 0; at the target the loss is
 *       +inf and the gradient finite;
 *   <li>a row with NaN or +inf, or nothing but -inf, has loss and gradient NaN;
 *   <li>weights that sum to 0 make the mean and its gradient NaN.
 * </ul>
 *
 * <p>The target's gradient is computed from its logit, so it does not cancel as p goes to 1.
 * Results are the same to the bit for any number of threads. A wrong call, a target outside {@code
 * [0, cols)} included, gives an {@link IllegalArgumentException} before anything is written.
 */
public final class CrossEntropy {
  /** How the losses of the rows become one. */
  public enum Reduction {
    /** Sum of weighted losses over the sum of weights, rows that are ignored left out. */
    MEAN,
    /** Sum of weighted losses. */
    SUM,
    /**
     * The weighted losses stay as they are, one for each row; there is no loss of all, and NaN is
     * returned in its place. Gradients are those of each row's loss, not divided by anything.
     */
    NONE
  }

  /**
   * What varies between losses.
   *
   * @param reduction how the losses of the rows become one
   * @param ignoreIndex target of rows that do not count
   * @param labelSmoothing share of the target distribution that is spread evenly, from 0 to 1
   * @param zLoss factor of the squared log-sum-exp, 0 for none
   * @param classWeights null, or a weight for each class, {@code cols} floats; not together with
   *     label smoothing
   */
  public record Options(
      Reduction reduction,
      long ignoreIndex,
      float labelSmoothing,
      float zLoss,
      MemorySegment classWeights) {
    /** Mean, -100 ignored, nothing else. */
    public static final Options DEFAULT = new Options(Reduction.MEAN, -100, 0, 0, null);

    /**
     * Checks the values.
     *
     * @throws IllegalArgumentException if there is no reduction, or label smoothing is outside
     *     {@code [0, 1]} or combined with class weights
     */
    public Options {
      if (reduction == null) {
        throw new IllegalArgumentException("reduction is null");
      }
      if (!(labelSmoothing >= 0 && labelSmoothing <= 1)) {
        throw new IllegalArgumentException(
            "label smoothing is " + labelSmoothing + "; it must be from 0 to 1");
      }
      if (labelSmoothing > 0 && classWeights != null) {
        throw new IllegalArgumentException("class weights cannot be combined with label smoothing");
      }
      if (classWeights != null) {
        Checks.arrayOfFloats("classWeights", classWeights);
      }
    }

    /** These options with another reduction. */
    public Options withReduction(Reduction value) {
      return new Options(value, ignoreIndex, labelSmoothing, zLoss, classWeights);
    }

    /** These options with another ignored target. */
    public Options withIgnoreIndex(long value) {
      return new Options(reduction, value, labelSmoothing, zLoss, classWeights);
    }

    /** These options with label smoothing. */
    public Options withLabelSmoothing(float value) {
      return new Options(reduction, ignoreIndex, value, zLoss, classWeights);
    }

    /** These options with a z-loss. */
    public Options withZLoss(float value) {
      return new Options(reduction, ignoreIndex, labelSmoothing, value, classWeights);
    }

    /** These options with class weights. */
    public Options withClassWeights(MemorySegment value) {
      return new Options(reduction, ignoreIndex, labelSmoothing, zLoss, value);
    }
  }

  // Operands of a call.
  private static final int LOGITS = 0;
  private static final int TARGETS = 1;
  private static final int LOSSES = 2;
  private static final int LSE = 3;
  private static final int UPSTREAM = 4;
  private static final int WEIGHTS = 5;
  private static final int GRADIENT = 6;

  // Scalars of a call.
  private static final int SMOOTHING = 0;
  private static final int Z_LOSS = 1;
  private static final int SCALE = 2;

  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;

  private CrossEntropy() {}

  /**
   * Loss of rows of logits.
   *
   * @param logits {@code [rows, cols]}
   * @param targets {@code rows} indices
   * @param losses {@code rows} floats; receives each row's weighted loss
   * @param lse null, or {@code rows} floats; receives each row's log-sum-exp
   * @param options reduction, ignored target and so on
   * @return the reduced loss; NaN if there is no reduction
   */
  public static float forward(
      Matrix logits, Indices targets, MemorySegment losses, MemorySegment lse, Options options) {
    try (Call call = Call.take()) {
      operands(call, logits, targets, losses, lse, null, options);
      call.absent();
      return run(call, options, options.reduction(), CrossEntropy::forward);
    }
  }

  /**
   * Loss of rows of logits and its gradient in one pass over memory.
   *
   * @param logits {@code [rows, cols]}
   * @param targets {@code rows} indices
   * @param losses {@code rows} floats; receives each row's weighted loss
   * @param lse null, or {@code rows} floats; receives each row's log-sum-exp
   * @param gradient {@code [rows, cols]}; receives the gradient of {@code scale} times the reduced
   *     loss; may be exactly {@code logits}
   * @param scale gradient of the reduced loss
   * @param options reduction, ignored target and so on
   * @return the reduced loss; NaN if there is no reduction; not scaled
   */
  public static float forwardBackward(
      Matrix logits,
      Indices targets,
      MemorySegment losses,
      MemorySegment lse,
      Matrix gradient,
      float scale,
      Options options) {
    return forwardBackward(logits, targets, losses, lse, null, gradient, scale, options);
  }

  /**
   * As {@link #forwardBackward(Matrix, Indices, MemorySegment, MemorySegment, Matrix, float,
   * Options)}, with a gradient for the loss of each row, for losses that are not reduced.
   *
   * @param upstream null, or {@code rows} floats that multiply the gradients of the rows
   */
  public static float forwardBackward(
      Matrix logits,
      Indices targets,
      MemorySegment losses,
      MemorySegment lse,
      MemorySegment upstream,
      Matrix gradient,
      float scale,
      Options options) {
    Call.sameShape("logits", logits, "gradient", gradient);
    try (Call call = Call.take()) {
      operands(call, logits, targets, losses, lse, upstream, options);
      call.output("gradient", gradient);
      call.mayBeSame(GRADIENT, LOGITS);
      call.scalar[SCALE] = scale;
      return run(call, options, options.reduction(), CrossEntropy::forwardBackward);
    }
  }

  /**
   * As {@link #forwardBackward(Matrix, Indices, MemorySegment, MemorySegment, Matrix, float,
   * Options)} over raw memory, in place: the gradient overwrites the logits.
   *
   * @param logits {@code rows} rows of {@code cols} floats, {@code stride} floats apart
   * @param offset first float of the logits
   * @param stride floats from one row to the next
   * @param rows number of rows
   * @param cols number of classes
   * @param targets int32, {@code rows} of them
   * @param targetsOffset first target, counted in ints
   * @param losses receives {@code rows} weighted losses
   * @param lossesOffset first loss, counted in floats
   * @param scale gradient of the reduced loss
   * @param options reduction, ignored target and so on
   * @return the reduced loss; NaN if there is no reduction; not scaled
   */
  public static float forwardBackward(
      MemorySegment logits,
      long offset,
      long stride,
      int rows,
      int cols,
      MemorySegment targets,
      long targetsOffset,
      MemorySegment losses,
      long lossesOffset,
      float scale,
      Options options) {
    try (Call call = Call.take()) {
      call.input("logits", logits, offset, rows, cols, stride);
      call.typed("targets", targets, targetsOffset, rows, Integer.BYTES, false);
      results(call, rows, cols, losses, null, lossesOffset, null, options);
      call.output("gradient", logits, offset, rows, cols, stride);
      call.mayBeSame(GRADIENT, LOGITS);
      call.scalar[SCALE] = scale;
      return run(call, options, options.reduction(), CrossEntropy::forwardBackward);
    }
  }

  /**
   * Losses of some of a batch's rows, whose logits lie side by side from the start of a segment,
   * and their gradient in place. Makes no objects.
   *
   * @param from first of the rows in targets, losses and lse
   */
  static void some(
      MemorySegment logits,
      int rows,
      int cols,
      Indices targets,
      MemorySegment losses,
      MemorySegment lse,
      long from,
      boolean hasGradient,
      float scale,
      Options options) {
    try (Call call = Call.take()) {
      call.input("logits", logits, 0, rows, cols, cols);
      int indexBytes = targets.isLong() ? Long.BYTES : Integer.BYTES;
      call.typed("targets", targets.segment(), targets.offset() + from, rows, indexBytes, false);
      results(call, rows, cols, losses, lse, from, null, options);
      if (hasGradient) {
        call.output("gradient", logits, 0, rows, cols, cols);
        call.mayBeSame(GRADIENT, LOGITS);
        call.scalar[SCALE] = scale;
        run(call, options, Reduction.SUM, CrossEntropy::forwardBackward);
      } else {
        call.absent();
        run(call, options, Reduction.SUM, CrossEntropy::forward);
      }
    }
  }

  private static void operands(
      Call call,
      Matrix logits,
      Indices targets,
      MemorySegment losses,
      MemorySegment lse,
      MemorySegment upstream,
      Options options) {
    call.input("logits", logits);
    int rows = logits.rows();
    call.indices("targets", targets, rows);
    results(call, rows, logits.cols(), losses, lse, 0, upstream, options);
  }

  /** The operands after logits and targets, up to the weights; {@code from} counts in rows. */
  private static void results(
      Call call,
      int rows,
      int cols,
      MemorySegment losses,
      MemorySegment lse,
      long from,
      MemorySegment upstream,
      Options options) {
    Checks.present("options", options);
    call.output("losses", losses, from, rows);
    if (lse == null) {
      call.absent();
    } else {
      call.output("lse", lse, from, rows);
    }
    if (upstream == null) {
      call.absent();
    } else {
      call.input("upstream", upstream, from, rows);
    }
    if (options.classWeights() == null) {
      call.absent();
    } else {
      call.input("classWeights", options.classWeights(), 0, cols);
    }
    call.rows = rows;
    call.cols = cols;
  }

  private static float run(Call call, Options options, Reduction reduction, Call.Body body) {
    long rows = call.rows;
    long cols = call.cols;
    call.ignore = options.ignoreIndex();
    call.scalar[SMOOTHING] = options.labelSmoothing();
    call.scalar[Z_LOSS] = options.zLoss();
    call.requireIndices(TARGETS, rows, cols, call.ignore, true);
    double weight = 0;
    for (long row = 0; row < rows; row++) {
      weight += weight(call, row);
    }
    boolean isMean = reduction == Reduction.MEAN;
    if (isMean) {
      call.scalar[SCALE] = (float) (call.scalar[SCALE] / weight);
    }
    call.byRows(body);
    float loss = sum(call, rows);
    return switch (reduction) {
      case MEAN -> (float) (loss / weight);
      case SUM -> loss;
      case NONE -> Float.NaN;
    };
  }

  /**
   * Sum of the rows' losses in float, with the rounding of PyTorch's: groups of at least 16 are
   * summed one by one, then groups of groups, over eight levels, and the first row by itself.
   */
  private static float sum(Call call, long rows) {
    int levels = call.partial.length;
    int power = Math.max(4, (64 - Long.numberOfLeadingZeros(Math.max(0, rows - 1))) / levels);
    long mask = (1L << power) - 1;
    float[] partial = call.partial;
    Arrays.fill(partial, 0);
    for (long row = 0; row < rows; row++) {
      partial[0] += call.getFloat(LOSSES, row);
      for (int level = 0; level + 1 < levels; level++) {
        if ((row & mask << (level * power)) != 0) {
          break;
        }
        partial[level + 1] += partial[level];
        partial[level] = 0;
      }
    }
    float sum = 0;
    for (int level = 0; level < levels; level++) {
      sum += partial[level];
    }
    return sum;
  }

  /** Weight of a row: that of its target's class, 0 when it is ignored. */
  private static double weight(Call call, long row) {
    long target = call.index(TARGETS, row);
    return target == call.ignore ? 0 : call.has(WEIGHTS) ? call.getFloat(WEIGHTS, target) : 1;
  }

  private static void forward(Call call, int task) {
    MemorySegment x = call.segment[LOGITS];
    long cols = call.cols;
    try (Scratch scratch = Exponentials.scratch(cols)) {
      long end = call.endRow(task);
      for (long row = call.firstRow(task); row < end; row++) {
        long xAt = call.at(LOGITS, row, 0);
        long target = call.index(TARGETS, row);
        boolean isIgnored = target == call.ignore;
        if (!isIgnored || call.has(LSE)) {
          Exponentials.statistics(x, xAt, cols, scratch);
        }
        double targetLogit = isIgnored ? 0 : x.get(FLOAT, xAt + target * Float.BYTES);
        double rowSum = call.scalar[SMOOTHING] > 0 ? rowSum(x, xAt, cols, scratch) : 0;
        finishRow(call, row, scratch, targetLogit, rowSum);
      }
    }
  }

  private static void forwardBackward(Call call, int task) {
    MemorySegment x = call.segment[LOGITS];
    MemorySegment dx = call.segment[GRADIENT];
    long cols = call.cols;
    double smoothing = call.scalar[SMOOTHING];
    double z = call.scalar[Z_LOSS];
    try (Scratch scratch = Exponentials.scratch(cols)) {
      long end = call.endRow(task);
      for (long row = call.firstRow(task); row < end; row++) {
        long xAt = call.at(LOGITS, row, 0);
        long dxAt = call.at(GRADIENT, row, 0);
        long target = call.index(TARGETS, row);
        if (target == call.ignore) {
          if (call.has(LSE)) {
            Exponentials.statistics(x, xAt, cols, scratch);
          }
          finishRow(call, row, scratch, 0, 0);
          Reduce.clear(dx, dxAt, (int) cols);
          continue;
        }
        double targetLogit = x.get(FLOAT, xAt + target * Float.BYTES);
        double rowSum = smoothing > 0 ? rowSum(x, xAt, cols, scratch) : 0;
        Exponentials.exponentials(x, xAt, dx, dxAt, cols, scratch);
        double nll = finishRow(call, row, scratch, targetLogit, rowSum);

        double scale = weight(call, row) * call.scalar[SCALE];
        if (call.has(UPSTREAM)) {
          scale *= call.getFloat(UPSTREAM, row);
        }
        double sum = Exponentials.sum(scratch);
        double lse = Exponentials.maximum(scratch) + Math.log(sum);
        double grow = 1 + 2 * z * lse;
        double spread = smoothing / cols;
        Exponentials.rescale(
            dx, dxAt, cols, grow * scale / sum, (float) (-spread * scale), scratch);
        double atTarget = Math.expm1(-nll) + 2 * z * lse * Math.exp(-nll) - spread + smoothing;
        dx.set(FLOAT, dxAt + target * Float.BYTES, (float) (atTarget * scale));
      }
    }
  }

  private static double rowSum(MemorySegment x, long xAt, long cols, Scratch scratch) {
    return Reduce.sum(x, xAt, cols, scratch.segment, Exponentials.LANE_SUMS);
  }

  /** Writes the loss and lse of a row, and returns the negative log-likelihood of its target. */
  private static double finishRow(
      Call call, long row, Scratch scratch, double targetLogit, double rowSum) {
    double maximum = Exponentials.maximum(scratch);
    double logSum = Math.log(Exponentials.sum(scratch));
    double lse = maximum + logSum;
    if (call.has(LSE)) {
      call.setFloat(LSE, row, (float) lse);
    }
    if (call.index(TARGETS, row) == call.ignore) {
      call.setFloat(LOSSES, row, 0);
      return 0;
    }
    double smoothing = call.scalar[SMOOTHING];
    double nll = (maximum - targetLogit) + logSum;
    // Rounded as PyTorch's log-softmax is, so that losses agree to the last digit.
    double loss = (float) logSum - (float) (targetLogit - maximum);
    if (smoothing > 0) {
      double spread = smoothing * ((maximum - rowSum / call.cols) + logSum);
      loss = smoothing < 1 ? (1 - smoothing) * nll + spread : spread;
    }
    double z = call.scalar[Z_LOSS];
    loss += z == 0 ? 0 : z * lse * lse;
    call.setFloat(LOSSES, row, (float) (weight(call, row) * loss));
    return nll;
  }
}
