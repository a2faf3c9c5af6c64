package dev.lanewise.core.tensor;

import dev.lanewise.core.backend.Activation;
import dev.lanewise.core.backend.Binary;
import dev.lanewise.core.backend.Buffer;
import dev.lanewise.core.backend.DType;
import dev.lanewise.core.backend.Unary;
import dev.lanewise.core.random.TorchGenerator;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.function.Consumer;

/**
 * Numbers with a shape, on a device, that know how they were computed.
 *
 * <p>Dense and row-major. Operations run at once and are recorded on the tensor's {@link Tape}.
 * Where an operation speaks of rows and columns, the last axis is the columns and all others
 * together are the rows. What a step computes is overwritten by the next step; see {@link Tape}.
 */
public final class Tensor {
  private final Tape tape;
  private final Shape shape;
  private final Op op;
  private final Tensor viewed;
  private Buffer data;
  private boolean requiresGrad;
  private boolean retainsGrad;
  private Tensor gradientView;
  private long version;

  /** Where the gradient lies, null when there is none (yet). */
  Buffer gradient;

  /** Whether a parameter's gradient has memory of its own where others lie over activations. */
  boolean ownsGradient;

  /** Where a parameter lies; null for what is no parameter. */
  ParameterBlock block;

  /**
   * Whether the gradient holds something: in this backward pass, or for a parameter since its
   * gradient was last set to zero.
   */
  boolean gradientStarted;

  /** Whether the gradient's memory went on to an input's gradient. */
  boolean gradientPassedOn;

  Tensor(Tape tape, Shape shape, Buffer data, Op op) {
    this(tape, shape, data, op, null);
  }

  /** The elements of another tensor under another shape. */
  Tensor(Tape tape, Shape shape, Tensor viewed, Op op) {
    this(tape, shape, viewed.data, op, viewed.owner());
  }

  private Tensor(Tape tape, Shape shape, Buffer data, Op op, Tensor viewed) {
    if (data.length() != shape.count()) {
      throw new IllegalArgumentException("shape " + shape + " over " + data.length() + " elements");
    }
    this.tape = tape;
    this.shape = shape;
    this.data = data;
    this.op = op;
    this.viewed = viewed;
  }

  /** The tensor in whose memory the elements lie. */
  Tensor owner() {
    return viewed == null ? this : viewed;
  }

  /** How often the elements were overwritten by the program. */
  long version() {
    return version;
  }

  void move(Buffer place) {
    data = place;
  }

  Op op() {
    return op;
  }

  /** The tape that the tensor belongs to. */
  public Tape tape() {
    return tape;
  }

  void markComputedWithGradient() {
    requiresGrad = true;
  }

  boolean retainsGrad() {
    return retainsGrad;
  }

  /** Shape. */
  public Shape shape() {
    return shape;
  }

  /** Memory of the elements, which are computed again if they were not kept. */
  public Buffer data() {
    if (viewed != null) {
      return viewed.data();
    }
    if (op != null) {
      op.refresh();
    }
    return data;
  }

  /** Whether {@link #backward} computes a gradient of this tensor. */
  public boolean requiresGrad() {
    return requiresGrad;
  }

  /** Makes a tensor that was not computed a parameter: backward adds to its gradient. */
  public Tensor requireGrad() {
    if (op != null) {
      throw new IllegalStateException("a computed tensor gets its gradient from its operation");
    }
    if (data.type() == DType.INT32) {
      throw new IllegalStateException("integers have no gradient");
    }
    if (!requiresGrad) {
      tape.addParameter(this);
    }
    return this;
  }

  /**
   * Makes a parameter a constant: backward computes no gradient of it and an optimiser leaves it
   * out. To be called before gradients or an optimiser are made.
   *
   * @throws IllegalStateException if this is no parameter, or has a gradient already
   */
  public Tensor freeze() {
    if (block == null) {
      throw new IllegalStateException("only parameters can be frozen");
    }
    if (gradient != null) {
      throw new IllegalStateException("a parameter is frozen before its gradient is made");
    }
    requiresGrad = false;
    return this;
  }

  void markParameter(ParameterBlock owner) {
    requiresGrad = true;
    gradientStarted = true;
    block = owner;
  }

  /** Keeps the gradient of a computed tensor after backward, as PyTorch's retain_grad does. */
  public Tensor retainGrad() {
    retainsGrad = true;
    return this;
  }

  /**
   * The gradient, as a tensor of the same shape.
   *
   * @throws IllegalStateException if there is none
   */
  public Tensor grad() {
    if (block != null) {
      block.settle();
    }
    if (gradient == null) {
      throw new IllegalStateException(
          "no gradient: call backward first, and requireGrad or retainGrad before it");
    }
    if (gradientView == null || gradientView.data != gradient) {
      gradientView = new Tensor(tape, shape, gradient, null);
    }
    return gradientView;
  }

  /**
   * Computes the gradients of everything that this number was computed from, and adds them to the
   * parameters' gradients.
   */
  public void backward() {
    tape.backward(this);
  }

  // Values
  // -----------------------------------------------------------------------------------------

  /** The only element; allocates nothing. */
  public float item() {
    if (shape.count() != 1) {
      throw new IllegalStateException("item() of a tensor of shape " + shape);
    }
    return tape.readScalar(data());
  }

  /** All elements, row by row. */
  public float[] toArray() {
    Buffer source = data();
    int count = Math.toIntExact(shape.count());
    float[] values = new float[count];
    try (Arena arena = Arena.ofShared()) {
      if (source.type() == DType.INT32) {
        int[] ids = toIntArray();
        for (int i = 0; i < count; i++) {
          values[i] = ids[i];
        }
        return values;
      }
      MemorySegment host = arena.allocate(Math.max(4, source.byteSize()), 64);
      tape.backend().download(source, host.asSlice(0, source.byteSize()));
      if (source.type() == DType.FLOAT32) {
        MemorySegment.copy(host, ValueLayout.JAVA_FLOAT, 0, values, 0, count);
      } else {
        for (int i = 0; i < count; i++) {
          values[i] = Float.intBitsToFloat(host.getAtIndex(ValueLayout.JAVA_SHORT, i) << 16);
        }
      }
    }
    return values;
  }

  /** All elements of an integer tensor. */
  public int[] toIntArray() {
    requireType(DType.INT32);
    int[] values = new int[Math.toIntExact(shape.count())];
    try (Arena arena = Arena.ofShared()) {
      MemorySegment host = arena.allocate(Math.max(4, data.byteSize()), 64);
      tape.backend().download(data(), host.asSlice(0, data.byteSize()));
      MemorySegment.copy(host, ValueLayout.JAVA_INT, 0, values, 0, values.length);
    }
    return values;
  }

  /** Overwrites the elements, row by row. */
  public Tensor set(float[] values) {
    requireType(DType.FLOAT32);
    requireCount(values.length);
    return set(
        host -> MemorySegment.copy(values, 0, host, ValueLayout.JAVA_FLOAT, 0, values.length));
  }

  /** Overwrites the elements of an integer tensor. */
  public Tensor set(int[] values) {
    requireType(DType.INT32);
    requireCount(values.length);
    return set(host -> MemorySegment.copy(values, 0, host, ValueLayout.JAVA_INT, 0, values.length));
  }

  /** Overwrites the elements with those of a host segment of the same size; allocates nothing. */
  public Tensor upload(MemorySegment values) {
    tape.backend().upload(values, data());
    version++;
    return this;
  }

  /**
   * Overwrites the elements with what a writer puts into host memory.
   *
   * @param writer receives memory of {@code data().byteSize()} bytes
   */
  public Tensor set(Consumer<MemorySegment> writer) {
    try (Arena arena = Arena.ofShared()) {
      MemorySegment host = arena.allocate(Math.max(4, data.byteSize()), 64);
      MemorySegment values = host.asSlice(0, data.byteSize());
      writer.accept(values);
      upload(values);
    }
    return this;
  }

  /** {@code this += alpha * other}, in place and unrecorded: an optimiser's step. */
  public Tensor addInPlace(float alpha, Tensor other) {
    requireSame(other);
    tape.backend().scale(other.data(), alpha, data(), true);
    version++;
    return this;
  }

  /**
   * A run of rows of a tensor that was not computed, sharing its memory; unrecorded.
   *
   * @param from first row, along the first axis
   * @param count number of rows
   */
  public Tensor rows(int from, int count) {
    int[] dims = shape.toArray();
    if (op != null || dims.length == 0 || from < 0 || count < 0 || from + count > dims[0]) {
      throw new IllegalArgumentException("rows " + from + " to " + (from + count) + " of " + shape);
    }
    long width = dims[0] == 0 ? 0 : shape.count() / dims[0];
    dims[0] = count;
    return new Tensor(tape, Shape.of(dims), data.slice(from * width, count * width), null);
  }

  private void requireType(DType type) {
    if (data.type() != type) {
      throw new IllegalStateException("this tensor holds " + data.type() + ", not " + type);
    }
  }

  private void requireCount(long count) {
    if (count != shape.count()) {
      throw new IllegalArgumentException(count + " values for a tensor of shape " + shape);
    }
  }

  private void requireSame(Tensor other) {
    if (!shape.equals(other.shape)) {
      throw new IllegalArgumentException("shapes " + shape + " and " + other.shape + " differ");
    }
  }

  // Elementwise
  // ------------------------------------------------------------------------------------

  /**
   * Sum with a tensor of the same shape, a row {@code [cols]}, a column {@code [..., 1]} or a
   * single number.
   */
  public Tensor add(Tensor other) {
    return binary(Binary.ADD, other);
  }

  /** Difference; shapes as in {@link #add(Tensor)}. */
  public Tensor sub(Tensor other) {
    return binary(Binary.SUBTRACT, other);
  }

  /** Product, element by element; shapes as in {@link #add(Tensor)}. */
  public Tensor mul(Tensor other) {
    return binary(Binary.MULTIPLY, other);
  }

  /** Quotient, element by element; shapes as in {@link #add(Tensor)}. */
  public Tensor div(Tensor other) {
    return binary(Binary.DIVIDE, other);
  }

  private Tensor binary(Binary function, Tensor other) {
    MathOps.BinaryOp op = tape.at(MathOps.BinaryOp.class, this, other);
    if (op == null || op.function != function) {
      op = tape.add(new MathOps.BinaryOp(tape, function, this, other));
    }
    return tape.run(op);
  }

  /** Every element plus a number. */
  public Tensor add(float number) {
    return affine(1, number);
  }

  /** Every element times a number. */
  public Tensor mul(float number) {
    return affine(number, 0);
  }

  /** Every element divided by a number. */
  public Tensor div(float number) {
    return affine(1 / number, 0);
  }

  /** Every element times -1. */
  public Tensor neg() {
    return affine(-1, 0);
  }

  private Tensor affine(float factor, float offset) {
    MathOps.Affine op = tape.at(MathOps.Affine.class, this);
    if (op == null) {
      op = tape.add(new MathOps.Affine(tape, this));
    }
    op.factor = factor;
    op.offset = offset;
    return tape.run(op);
  }

  /** Hyperbolic tangent. */
  public Tensor tanh() {
    return unary(Unary.TANH);
  }

  /** Exponential. */
  public Tensor exp() {
    return unary(Unary.EXP);
  }

  /** Natural logarithm. */
  public Tensor log() {
    return unary(Unary.LOG);
  }

  /** GELU in its tanh form, as GPT-2 has it. */
  public Tensor gelu() {
    return unary(Unary.GELU_TANH);
  }

  /** Any elementwise function. */
  public Tensor unary(Unary function) {
    MathOps.UnaryOp op = tape.at(MathOps.UnaryOp.class, this);
    if (op == null || op.function != function) {
      op = tape.add(new MathOps.UnaryOp(tape, function, this));
    }
    return tape.run(op);
  }

  // Matrices
  // ---------------------------------------------------------------------------------------

  /**
   * Matrix product {@code [..., m, k] · [k, n]}, or of two batches of matrices {@code [..., m, k] ·
   * [..., k, n]}.
   */
  public Tensor matmul(Tensor other) {
    MathOps.Matmul op = tape.at(MathOps.Matmul.class, this, other);
    if (op == null) {
      op = tape.add(new MathOps.Matmul(tape, this, other));
    }
    return tape.run(op);
  }

  /** The last two axes swapped; a copy. */
  public Tensor transpose() {
    MathOps.Transpose op = tape.at(MathOps.Transpose.class, this);
    if (op == null) {
      op = tape.add(new MathOps.Transpose(tape, this));
    }
    return tape.run(op);
  }

  /**
   * The same elements under another shape.
   *
   * @param dims extents; one may be -1 and is computed
   */
  public Tensor view(int... dims) {
    MathOps.View op = tape.at(MathOps.View.class, this);
    if (op == null || !op.out.shape.resolvesFrom(dims)) {
      op = tape.add(new MathOps.View(tape, this, Shape.resolve(shape.count(), dims)));
    }
    return tape.run(op);
  }

  /**
   * The last position of each sequence, {@code [batch, time, width]} to {@code [batch, 1, width]}.
   */
  public Tensor lastPosition() {
    MathOps.LastPosition op = tape.at(MathOps.LastPosition.class, this);
    return tape.run(op == null ? tape.add(new MathOps.LastPosition(tape, this)) : op);
  }

  // Reductions
  // -------------------------------------------------------------------------------------

  /** Sum of all elements, a scalar. */
  public Tensor sum() {
    return reduce(MathOps.Reduction.ALL);
  }

  /** Mean of all elements, a scalar. */
  public Tensor mean() {
    return reduce(MathOps.Reduction.MEAN);
  }

  /** Sum over the last axis, which stays with extent 1. */
  public Tensor sumLast() {
    return reduce(MathOps.Reduction.LAST);
  }

  private Tensor reduce(MathOps.Reduction reduction) {
    MathOps.Reduce op = tape.at(MathOps.Reduce.class, this);
    if (op == null || op.reduction != reduction) {
      op = tape.add(new MathOps.Reduce(tape, reduction, this));
    }
    return tape.run(op);
  }

  /** Softmax over the last axis. */
  public Tensor softmax() {
    return softmax(false);
  }

  /** Logarithm of the softmax over the last axis. */
  public Tensor logSoftmax() {
    return softmax(true);
  }

  private Tensor softmax(boolean logarithm) {
    MathOps.Softmax op = tape.at(MathOps.Softmax.class, this);
    if (op == null || op.logarithm != logarithm) {
      op = tape.add(new MathOps.Softmax(tape, logarithm, this));
    }
    return tape.run(op);
  }

  /** Index of the largest element along the last axis; integers of the shape without it. */
  public Tensor argmax() {
    MathOps.Argmax op = tape.at(MathOps.Argmax.class, this);
    if (op == null) {
      op = tape.add(new MathOps.Argmax(tape, this));
    }
    return tape.run(op);
  }

  /**
   * Picks one element of each row.
   *
   * @param index integers, one for each row: {@code this.shape()} without the last axis, or with 1
   *     there
   * @return a tensor of the index's shape
   */
  public Tensor gather(Tensor index) {
    MathOps.Gather op = tape.at(MathOps.Gather.class, this, index);
    if (op == null) {
      op = tape.add(new MathOps.Gather(tape, this, index));
    }
    return tape.run(op);
  }

  /**
   * Mean negative log-likelihood of these log-probabilities.
   *
   * @param targets integers, one for each row
   * @return a scalar
   */
  public Tensor nllLoss(Tensor targets) {
    return gather(targets).mean().neg();
  }

  /**
   * Whether every element is within {@code 1e-8 + 1e-5 · |expected|} of what is expected, as {@code
   * torch.allclose} decides it.
   *
   * @param expected one value for each element, row by row
   */
  public boolean allClose(float[] expected) {
    requireCount(expected.length);
    float[] values = toArray();
    for (int i = 0; i < values.length; i++) {
      if (!(Math.abs(values[i] - expected[i]) <= 1e-8 + 1e-5 * Math.abs(expected[i]))) {
        return false;
      }
    }
    return true;
  }

  // Layers
  // -----------------------------------------------------------------------------------------

  /**
   * Looks up rows of this table, {@code table[ids]}.
   *
   * @param ids integers of any shape, each at least 0 and below this table's first extent
   * @return {@code ids.shape()} with the table's width as last axis
   */
  public Tensor rows(Tensor ids) {
    return embedding(ids, null, 0);
  }

  /**
   * Token embedding plus position embedding.
   *
   * @param ids integers {@code [batch, time]}
   * @param positions nullable; table {@code [maxTime, channels]}
   * @param firstPosition position of the first column of ids
   */
  public Tensor embedding(Tensor ids, Tensor positions, int firstPosition) {
    LayerOps.Embedding op = tape.at(LayerOps.Embedding.class, this, ids, positions);
    if (op == null) {
      op = tape.add(new LayerOps.Embedding(tape, this, ids, positions));
    }
    op.firstPosition = firstPosition;
    return tape.run(op);
  }

  /**
   * {@code this · weightᵀ + bias}, as {@code nn.Linear} computes it.
   *
   * @param weight {@code [outputs, inputs]}
   * @param bias nullable; {@code [outputs]}
   */
  public Tensor linear(Tensor weight, Tensor bias) {
    return linear(weight, bias, Activation.NONE, null);
  }

  /**
   * A linear layer with what usually follows it, in one pass.
   *
   * @param weight {@code [outputs, inputs]}
   * @param bias nullable; {@code [outputs]}
   * @param activation applied to the sum
   * @param residual nullable; added at the end; not together with an activation
   */
  public Tensor linear(Tensor weight, Tensor bias, Activation activation, Tensor residual) {
    LayerOps.Linear op = tape.at(LayerOps.Linear.class, this, weight, bias, residual);
    if (op == null || op.activation != activation) {
      op = tape.add(new LayerOps.Linear(tape, this, weight, bias, activation, residual));
    }
    return tape.run(op);
  }

  /**
   * A linear layer with a correction of low rank, {@code this · weightᵀ + bias + residual + scale ·
   * (corrected · downᵀ) · upᵀ}, as LoRA trains it.
   *
   * @param weight {@code [outputs, inputs]}
   * @param bias nullable; {@code [outputs]}
   * @param residual nullable; added at the end
   * @param down {@code [rank, inputs]}
   * @param up {@code [outputs, rank]}
   * @param corrected what the correction is computed from: this tensor, or this after dropout
   * @param scale factor of the correction
   */
  public Tensor linear(
      Tensor weight,
      Tensor bias,
      Tensor residual,
      Tensor down,
      Tensor up,
      Tensor corrected,
      float scale) {
    LayerOps.LowRankLinear op = tape.at(LayerOps.LowRankLinear.class, this, weight, bias, residual);
    if (op == null
        || op.inputs[LayerOps.LowRankLinear.DOWN] != down
        || op.inputs[LayerOps.LowRankLinear.UP] != up
        || op.inputs[LayerOps.LowRankLinear.CORRECTED] != corrected
        || op.scale != scale) {
      op =
          tape.add(
              new LayerOps.LowRankLinear(
                  tape, this, weight, bias, residual, down, up, corrected, scale));
    }
    return tape.run(op);
  }

  /** Layer normalisation over the last axis, eps 1e-5. */
  public Tensor layerNorm(Tensor weight, Tensor bias) {
    LayerOps.LayerNorm op = tape.at(LayerOps.LayerNorm.class, this, weight, bias);
    if (op == null) {
      op = tape.add(new LayerOps.LayerNorm(tape, this, weight, bias));
    }
    return tape.run(op);
  }

  /**
   * Causal multi-head attention.
   *
   * <p>This tensor holds queries, keys and values, {@code [batch, time, 3 * channels]}.
   *
   * @param heads number of heads; head h takes channels from {@code h * channels / heads}
   * @param dropout probability that an attention weight is dropped; 0 for none
   * @param generator draws what is dropped; may be null without dropout
   * @return {@code [batch, time, channels]}
   */
  public Tensor attention(int heads, double dropout, TorchGenerator generator) {
    return attention(heads, dropout, generator, null);
  }

  /**
   * Causal multi-head attention that does not look across documents.
   *
   * <p>This tensor holds queries, keys and values, {@code [batch, time, 3 * channels]}.
   *
   * @param heads number of heads; head h takes channels from {@code h * channels / heads}
   * @param dropout probability that an attention weight is dropped; 0 for none
   * @param generator draws what is dropped; may be null without dropout
   * @param positions nullable; integers {@code [batch, time]}, 0 where a document begins
   * @return {@code [batch, time, channels]}
   * @throws UnsupportedOperationException with positions, if the device cannot do it
   */
  public Tensor attention(int heads, double dropout, TorchGenerator generator, Tensor positions) {
    LayerOps.Attention op = tape.at(LayerOps.Attention.class, this, positions);
    if (op == null || op.heads != heads || op.dropout != dropout) {
      op = tape.add(new LayerOps.Attention(tape, this, positions, heads, dropout));
    }
    op.generator = generator;
    return tape.run(op);
  }

  /**
   * Causal attention of new positions to those before them in a cache; unrecorded.
   *
   * @param keys cache {@code [batch, maxTime, channels]}; the new keys are stored in it
   * @param values cache, likewise
   * @param position number of positions that the cache holds before this call
   */
  public Tensor attentionCached(int heads, Tensor keys, Tensor values, int position) {
    LayerOps.CachedAttention op = tape.at(LayerOps.CachedAttention.class, this, keys, values);
    if (op == null || op.heads != heads) {
      op = tape.add(new LayerOps.CachedAttention(tape, this, keys, values, heads));
    }
    op.position = position;
    return tape.run(op);
  }

  /**
   * Sets elements to zero with a probability and scales the others by 1 / (1 - p).
   *
   * @param p probability
   * @param generator draws, as PyTorch's dropout does
   */
  public Tensor dropout(double p, TorchGenerator generator) {
    LayerOps.Dropout op = tape.at(LayerOps.Dropout.class, this);
    if (op == null || op.p != p) {
      op = tape.add(new LayerOps.Dropout(tape, this, p));
    }
    op.generator = generator;
    return tape.run(op);
  }

  /** Mean cross-entropy of these logits; targets of -100 are ignored. */
  public Tensor crossEntropy(Tensor targets) {
    return crossEntropy(targets, -100, 0);
  }

  /**
   * Mean cross-entropy of these logits.
   *
   * @param targets integers, one for each row
   * @param ignoreIndex target of rows that do not count
   * @param labelSmoothing share of the target's probability that is spread over all classes
   * @return a scalar
   */
  public Tensor crossEntropy(Tensor targets, int ignoreIndex, float labelSmoothing) {
    LayerOps.CrossEntropy op = tape.at(LayerOps.CrossEntropy.class, this, targets);
    if (op == null || op.ignoreIndex != ignoreIndex || op.labelSmoothing != labelSmoothing) {
      op = tape.add(new LayerOps.CrossEntropy(tape, this, targets, ignoreIndex, labelSmoothing));
    }
    return tape.run(op);
  }

  /**
   * Output head and mean cross-entropy in one, without logits in memory. The gradient is made in
   * the forward pass, so {@link Tape#setLossScale} counts then, and weight gradients are added even
   * if backward is never called.
   *
   * @param weight {@code [vocab, channels]}
   * @param targets integers, one for each row
   * @param ignoreIndex target of rows that do not count
   * @return a scalar
   */
  public Tensor linearCrossEntropy(Tensor weight, Tensor targets, int ignoreIndex) {
    LayerOps.LinearCrossEntropy op =
        tape.at(LayerOps.LinearCrossEntropy.class, this, weight, targets);
    if (op == null || op.ignoreIndex != ignoreIndex) {
      op = tape.add(new LayerOps.LinearCrossEntropy(tape, this, weight, targets, ignoreIndex));
    }
    return tape.run(op);
  }

  @Override
  public String toString() {
    StringBuilder text = new StringBuilder("Tensor").append(shape);
    if (shape.count() <= 16) {
      text.append(' ').append(Arrays.toString(toArray()));
    }
    return text.toString();
  }
}
