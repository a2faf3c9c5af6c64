package dev.lanewise.core.tensor;

import dev.lanewise.core.backend.Activation;
import dev.lanewise.core.backend.Buffer;
import dev.lanewise.core.backend.DType;
import dev.lanewise.core.random.TorchGenerator;

/** The layers that models are made of. */
final class LayerOps {
  private LayerOps() {}

  static final class Embedding extends Op {
    int firstPosition;
    private int batch;
    private int time;
    private int channels;

    Embedding(Tape tape, Tensor table, Tensor ids, Tensor positions) {
      super(tape, table, ids, positions);
      requireIntegers("ids", ids);
      if (table.shape().rank() != 2
          || positions != null
              && (positions.shape().rank() != 2
                  || positions.shape().cols() != table.shape().cols()
                  || ids.shape().rank() < 1
                  || ids.shape().cols() > positions.shape().dim(0))) {
        throw new IllegalArgumentException(
            "embedding of ids "
                + ids.shape()
                + " in a table "
                + table.shape()
                + (positions == null ? "" : " with positions " + positions.shape()));
      }
    }

    @Override
    void prepare() {
      Shape ids = inputs[1].shape();
      channels = inputs[0].shape().cols();
      time = inputs[2] == null ? Math.toIntExact(ids.count()) : ids.cols();
      batch = inputs[2] == null ? 1 : ids.rows();
      result(ids.append(channels));
    }

    @Override
    void forward() {
      backend.embedding(
          inputs[1].data(),
          inputs[0].data(),
          data(inputs[2]),
          firstPosition,
          out.data(),
          batch,
          time,
          channels);
    }

    @Override
    void backward() {
      Buffer dTable = zeroedGradient(inputs[0]);
      Buffer dPositions = zeroedGradient(inputs[2]);
      backend.embeddingBackward(
          inputs[1].data(), out.gradient, dTable, dPositions, firstPosition, batch, time, channels);
    }
  }

  static final class Linear extends Op {
    final Activation activation;
    private Buffer preactivation;
    private boolean gradientIsOfPreactivation;
    private final int rows;
    private final int ins;
    private final int outs;

    Linear(
        Tape tape, Tensor x, Tensor weight, Tensor bias, Activation activation, Tensor residual) {
      super(tape, x, weight, bias, residual);
      this.activation = activation;
      rows = x.shape().rows();
      ins = x.shape().cols();
      outs = weight.shape().rank() == 2 ? weight.shape().dim(0) : -1;
      Shape result = x.shape().rank() == 0 ? x.shape() : x.shape().withLast(Math.max(0, outs));
      if (outs < 0
          || weight.shape().cols() != ins
          || bias != null && bias.shape().count() != outs
          || residual != null && !residual.shape().equals(result)) {
        throw new IllegalArgumentException(
            "linear of "
                + x.shape()
                + " with weight "
                + weight.shape()
                + (bias == null ? "" : ", bias " + bias.shape())
                + (residual == null ? "" : ", residual " + residual.shape()));
      }
      if (residual != null && activation != Activation.NONE) {
        throw new IllegalArgumentException("a linear layer with both activation and residual");
      }
    }

    @Override
    boolean cheap() {
      return activation != Activation.NONE;
    }

    @Override
    boolean recomputesFromInputs() {
      return inBlock || activation == Activation.NONE || !wantsGradient();
    }

    @Override
    void prepare() {
      Tensor y = result(inputs[0].shape().withLast(outs));
      if (activation != Activation.NONE && wantsGradient()) {
        long count = y.shape().count();
        preactivation = inBlock ? takeResult(count) : take(count);
      }
    }

    @Override
    void forward() {
      gradientIsOfPreactivation = false;
      compute();
    }

    @Override
    void recompute() {
      if (preactivation != null && !inBlock) {
        backend.unary(activation.function(), preactivation, out.data());
      } else {
        compute();
      }
    }

    @Override
    void giveBackKept(Workspace workspace) {
      super.giveBackKept(workspace);
      if (preactivation != null && !inBlock) {
        workspace.giveBack(preactivation);
      }
    }

    private Buffer preactivation() {
      if (inBlock) {
        refresh();
      }
      return preactivation;
    }

    private void compute() {
      backend.linear(
          inputs[0].data(),
          inputs[1].data(),
          data(inputs[2]),
          activation,
          preactivation,
          data(inputs[3]),
          out.data(),
          rows,
          ins,
          outs);
    }

    @Override
    void backward() {
      Tensor x = inputs[0];
      Buffer dOut = out.gradient;
      if (activation != Activation.NONE && !gradientIsOfPreactivation) {
        Buffer before = preactivation();
        backend.unaryBackward(activation.function(), before, before, dOut, dOut, false);
      }
      boolean accumulate = started(inputs[1], inputs[2]);
      backend.linearBackwardWeight(
          dOut,
          x.data(),
          gradientOf(inputs[1]),
          gradientOf(inputs[2]),
          accumulate,
          rows,
          ins,
          outs);
      if (x.requiresGrad()) {
        boolean started = x.gradientStarted;
        Buffer dx = gradientOf(x);
        if (x.op() instanceof Linear source
            && source.activation != Activation.NONE
            && source.consumers == 1
            && !x.retainsGrad()
            && !started) {
          backend.linearBackwardInput(
              dOut,
              inputs[1].data(),
              source.activation,
              source.preactivation(),
              dx,
              false,
              rows,
              ins,
              outs);
          source.gradientIsOfPreactivation = true;
        } else {
          backend.linearBackwardInput(
              dOut, inputs[1].data(), Activation.NONE, null, dx, started, rows, ins, outs);
        }
      }
      passGradientTo(inputs[3]);
    }
  }

  /** A linear layer with a correction of low rank: Hu et al., "LoRA", 2021. */
  static final class LowRankLinear extends Op {
    static final int DOWN = 4;
    static final int UP = 5;
    static final int CORRECTED = 6;
    final float scale;
    private Buffer inner;
    private final int rows;
    private final int ins;
    private final int outs;
    private final int rank;

    LowRankLinear(
        Tape tape,
        Tensor x,
        Tensor weight,
        Tensor bias,
        Tensor residual,
        Tensor down,
        Tensor up,
        Tensor corrected,
        float scale) {
      super(tape, x, weight, bias, residual, down, up, corrected);
      this.scale = scale;
      rows = x.shape().rows();
      ins = x.shape().cols();
      outs = weight.shape().rank() == 2 ? weight.shape().dim(0) : -1;
      rank = down.shape().rank() == 2 ? down.shape().dim(0) : -1;
      Shape result = x.shape().rank() == 0 ? x.shape() : x.shape().withLast(Math.max(0, outs));
      if (outs < 0
          || rank < 1
          || weight.shape().cols() != ins
          || bias != null && bias.shape().count() != outs
          || residual != null && !residual.shape().equals(result)
          || down.shape().cols() != ins
          || !up.shape().equals(Shape.of(outs, rank))
          || !corrected.shape().equals(x.shape())) {
        throw new IllegalArgumentException(
            "linear of "
                + x.shape()
                + " with weight "
                + weight.shape()
                + (bias == null ? "" : ", bias " + bias.shape())
                + (residual == null ? "" : ", residual " + residual.shape())
                + " and a correction "
                + up.shape()
                + " * "
                + down.shape()
                + " of "
                + corrected.shape());
      }
    }

    @Override
    void prepare() {
      result(inputs[0].shape().withLast(outs));
      inner = takeResult((long) rows * rank);
    }

    @Override
    void forward() {
      Buffer y = out.data();
      backend.linear(
          inputs[0].data(),
          inputs[1].data(),
          data(inputs[2]),
          Activation.NONE,
          null,
          data(inputs[3]),
          y,
          rows,
          ins,
          outs);
      backend.linear(
          inputs[CORRECTED].data(),
          inputs[DOWN].data(),
          null,
          Activation.NONE,
          null,
          null,
          inner,
          rows,
          ins,
          rank);
      backend.scale(inner, scale, inner, false);
      backend.linear(inner, inputs[UP].data(), null, Activation.NONE, null, y, y, rows, rank, outs);
    }

    @Override
    void backward() {
      Buffer dOut = out.gradient;
      if (inBlock) {
        refresh();
      }
      boolean accumulate = started(inputs[1], inputs[2]);
      backend.linearBackwardWeight(
          dOut,
          inputs[0].data(),
          gradientOf(inputs[1]),
          gradientOf(inputs[2]),
          accumulate,
          rows,
          ins,
          outs);
      weightGradient(dOut, inner, inputs[UP], rank, outs);
      Buffer dInner = tape.takeScratch((long) rows * rank);
      backend.linearBackwardInput(
          dOut, inputs[UP].data(), Activation.NONE, null, dInner, false, rows, rank, outs);
      backend.scale(dInner, scale, dInner, false);
      weightGradient(dInner, inputs[CORRECTED].data(), inputs[DOWN], ins, rank);
      inputGradient(dOut, inputs[1], inputs[0], outs);
      inputGradient(dInner, inputs[DOWN], inputs[CORRECTED], rank);
      tape.returnScratch(dInner);
      passGradientTo(inputs[3]);
    }

    private void weightGradient(Buffer dy, Buffer x, Tensor weight, int width, int height) {
      boolean accumulate = weight.requiresGrad() && weight.gradientStarted;
      backend.linearBackwardWeight(
          dy, x, gradientOf(weight), null, accumulate, rows, width, height);
    }

    private void inputGradient(Buffer dy, Tensor weight, Tensor x, int height) {
      if (x.requiresGrad()) {
        boolean started = x.gradientStarted;
        backend.linearBackwardInput(
            dy, weight.data(), Activation.NONE, null, gradientOf(x), started, rows, ins, height);
      }
    }
  }

  static final class LayerNorm extends Op {
    private Buffer mean;
    private Buffer rstd;
    private final int rows;
    private final int channels;

    LayerNorm(Tape tape, Tensor x, Tensor weight, Tensor bias) {
      super(tape, x, weight, bias);
      rows = x.shape().rows();
      channels = x.shape().cols();
      if (weight.shape().count() != channels || bias.shape().count() != channels) {
        throw new IllegalArgumentException(
            "layer norm of "
                + x.shape()
                + " with weight "
                + weight.shape()
                + " and bias "
                + bias.shape());
      }
    }

    @Override
    boolean cheap() {
      return true;
    }

    @Override
    void prepare() {
      result(inputs[0].shape());
      mean = take(DType.FLOAT32, rows);
      rstd = take(DType.FLOAT32, rows);
    }

    @Override
    void forward() {
      backend.layerNorm(
          inputs[0].data(),
          inputs[1].data(),
          inputs[2].data(),
          out.data(),
          mean,
          rstd,
          rows,
          channels);
    }

    @Override
    void backward() {
      Tensor x = inputs[0];
      boolean started = x.requiresGrad() && x.gradientStarted;
      Buffer dx = x.requiresGrad() ? gradientOf(x) : tape.takeScratch(out.shape().count());
      backend.layerNormBackward(
          out.gradient,
          x.data(),
          inputs[1].data(),
          mean,
          rstd,
          dx,
          started,
          zeroedGradient(inputs[1]),
          zeroedGradient(inputs[2]),
          rows,
          channels);
      if (!x.requiresGrad()) {
        tape.returnScratch(dx);
      }
    }
  }

  static final class Attention extends Op {
    final int heads;
    final double dropout;
    TorchGenerator generator;
    private Buffer lse;
    private Buffer mask;
    private final int batch;
    private final int time;
    private final int headSize;

    Attention(Tape tape, Tensor qkv, Tensor positions, int heads, double dropout) {
      super(tape, qkv, positions);
      this.heads = heads;
      this.dropout = dropout;
      Shape shape = qkv.shape();
      if (shape.rank() != 3 || heads < 1 || shape.cols() % (3 * heads) != 0) {
        throw new IllegalArgumentException(
            "attention of "
                + shape
                + " with "
                + heads
                + " heads; [batch, time, 3 * heads * headSize] is needed");
      }
      requireProbability(dropout);
      if (positions != null) {
        requireIntegers("positions", positions);
        if (!positions.shape().equals(Shape.of(shape.dim(0), shape.dim(1)))) {
          throw new IllegalArgumentException(
              "positions " + positions.shape() + " for attention of " + shape);
        }
      }
      batch = shape.dim(0);
      time = shape.dim(1);
      headSize = shape.cols() / (3 * heads);
    }

    @Override
    void prepare() {
      result(inputs[0].shape().withLast(heads * headSize));
      lse = take(DType.FLOAT32, (long) batch * heads * time);
      if (dropout > 0) {
        mask = take(DType.UINT8, (weights() + 7) / 8);
      }
    }

    private long weights() {
      return (long) batch * heads * time * time;
    }

    private float keepScale() {
      return dropout > 0 ? (float) (1 / (1 - dropout)) : 1;
    }

    @Override
    void forward() {
      if (mask != null) {
        backend.dropoutMask(generator, dropout, mask, weights());
      }
      recompute();
    }

    @Override
    void recompute() {
      if (inputs[1] != null) {
        backend.attentionWithin(
            inputs[1].data(),
            inputs[0].data(),
            mask,
            keepScale(),
            out.data(),
            lse,
            batch,
            time,
            heads,
            headSize);
        return;
      }
      backend.attention(
          inputs[0].data(), mask, keepScale(), out.data(), lse, batch, time, heads, headSize);
    }

    @Override
    void backward() {
      Tensor qkv = inputs[0];
      boolean started = qkv.gradientStarted;
      Buffer target = gradientOf(qkv);
      Buffer dQkv = started ? tape.takeScratch(qkv.shape().count()) : target;
      if (inputs[1] != null) {
        backend.attentionWithinBackward(
            inputs[1].data(),
            out.gradient,
            qkv.data(),
            out.data(),
            lse,
            mask,
            keepScale(),
            dQkv,
            batch,
            time,
            heads,
            headSize);
      } else {
        backend.attentionBackward(
            out.gradient,
            qkv.data(),
            out.data(),
            lse,
            mask,
            keepScale(),
            dQkv,
            batch,
            time,
            heads,
            headSize);
      }
      if (started) {
        backend.scale(dQkv, 1, target, true);
        tape.returnScratch(dQkv);
      }
    }
  }

  static final class CachedAttention extends Op {
    final int heads;
    int position;
    private final int batch;
    private final int time;
    private final int headSize;

    CachedAttention(Tape tape, Tensor qkv, Tensor keys, Tensor values, int heads) {
      super(tape, qkv, keys, values);
      this.heads = heads;
      Shape shape = qkv.shape();
      if (shape.rank() != 3
          || heads < 1
          || shape.cols() % (3 * heads) != 0
          || keys.shape().rank() != 3
          || keys.shape().dim(0) != shape.dim(0)
          || keys.shape().cols() * 3 != shape.cols()
          || !keys.shape().equals(values.shape())) {
        throw new IllegalArgumentException(
            "cached attention of "
                + shape
                + " with "
                + heads
                + " heads and caches "
                + keys.shape()
                + ", "
                + values.shape());
      }
      batch = shape.dim(0);
      time = shape.dim(1);
      headSize = shape.cols() / (3 * heads);
    }

    @Override
    boolean recomputable() {
      return false;
    }

    @Override
    void prepare() {
      if (wantsGradient()) {
        throw new IllegalStateException("cached attention has no gradient; use withoutGradient");
      }
      result(inputs[0].shape().withLast(heads * headSize));
    }

    @Override
    void forward() {
      int maxTime = inputs[1].shape().dim(1);
      if (position < 0 || position + time > maxTime) {
        throw new IllegalArgumentException(
            "positions " + position + " to " + (position + time) + " of a cache of " + maxTime);
      }
      backend.attentionCached(
          inputs[0].data(),
          inputs[1].data(),
          inputs[2].data(),
          position,
          maxTime,
          out.data(),
          batch,
          time,
          heads,
          headSize);
    }

    @Override
    void backward() {
      throw new AssertionError();
    }
  }

  static final class Dropout extends Op {
    final double p;
    TorchGenerator generator;
    private Buffer mask;

    Dropout(Tape tape, Tensor x, double p) {
      super(tape, x);
      this.p = p;
      requireProbability(p);
    }

    @Override
    void prepare() {
      result(inputs[0].shape());
      mask = take(DType.UINT8, (out.shape().count() + 7) / 8);
    }

    private float keepScale() {
      return p == 1 ? 0 : (float) (1 / (1 - p));
    }

    @Override
    void forward() {
      backend.dropoutMask(generator, p, mask, out.shape().count());
      recompute();
    }

    @Override
    void recompute() {
      backend.applyMask(inputs[0].data(), mask, keepScale(), out.data(), false);
    }

    @Override
    void backward() {
      Tensor x = inputs[0];
      boolean started = x.gradientStarted;
      backend.applyMask(out.gradient, mask, keepScale(), gradientOf(x), started);
    }
  }

  static final class CrossEntropy extends Op {
    final int ignoreIndex;
    final float labelSmoothing;
    private final int rows;
    private final int vocab;

    CrossEntropy(Tape tape, Tensor logits, Tensor targets, int ignoreIndex, float labelSmoothing) {
      super(tape, logits, targets);
      this.ignoreIndex = ignoreIndex;
      this.labelSmoothing = labelSmoothing;
      rows = logits.shape().rows();
      vocab = logits.shape().cols();
      requireTargets(targets, rows);
    }

    @Override
    boolean recomputable() {
      return false;
    }

    @Override
    void prepare() {
      lossResult();
    }

    @Override
    void forward() {
      cross(null, 0);
    }

    private void cross(Buffer dLogits, float scale) {
      backend.crossEntropy(
          inputs[0].data(),
          inputs[1].data(),
          ignoreIndex,
          labelSmoothing,
          out.data(),
          dLogits,
          scale,
          rows,
          vocab);
    }

    @Override
    void backward() {
      Tensor logits = inputs[0];
      boolean started = logits.gradientStarted;
      Buffer target = gradientOf(logits);
      float upstream = tape.gradientOfScalar(out);
      if (started) {
        Buffer own = tape.takeScratch(logits.shape().count());
        cross(own, upstream);
        backend.scale(own, 1, target, true);
        tape.returnScratch(own);
      } else {
        cross(target, upstream);
      }
    }
  }

  static final class LinearCrossEntropy extends Op {
    final int ignoreIndex;
    private Buffer dx;
    private Buffer logits;
    private float scale;
    private final int rows;
    private final int channels;
    private final int vocab;

    LinearCrossEntropy(Tape tape, Tensor x, Tensor weight, Tensor targets, int ignoreIndex) {
      super(tape, x, weight, targets);
      this.ignoreIndex = ignoreIndex;
      rows = x.shape().rows();
      channels = x.shape().cols();
      vocab = weight.shape().rank() == 2 ? weight.shape().dim(0) : -1;
      if (weight.shape().cols() != channels || vocab < 0) {
        throw new IllegalArgumentException(
            "head " + weight.shape() + " over activations " + x.shape());
      }
      requireTargets(targets, rows);
      if (weight.op() != null) {
        throw new IllegalArgumentException("the head's weight must be a parameter");
      }
    }

    @Override
    boolean recomputable() {
      return false;
    }

    @Override
    void prepare() {
      lossResult();
      if (wantsGradient()) {
        dx = take(inputs[0].shape().count());
      }
      long bytes = backend.lentLogitBytes(rows, vocab, tape.headRows());
      logits = bytes == 0 ? null : tape.workspace().takeForNow(bytes);
    }

    @Override
    void forward() {
      scale = tape.lossScale();
      boolean accumulate = inputs[1].gradientStarted;
      backend.linearCrossEntropy(
          inputs[0].data(),
          inputs[1].data(),
          inputs[2].data(),
          ignoreIndex,
          out.data(),
          dx,
          dx == null ? null : gradientOf(inputs[1]),
          accumulate,
          scale,
          rows,
          channels,
          vocab,
          tape.headRows(),
          logits);
    }

    @Override
    void backward() {
      float upstream = tape.gradientOfScalar(out);
      if (upstream != scale) {
        throw new IllegalStateException(
            "the fused loss made its gradient for a factor of "
                + scale
                + ", but backward brings "
                + upstream
                + "; set the factor with setLossScale before the forward pass");
      }
      Tensor x = inputs[0];
      if (x.requiresGrad()) {
        boolean started = x.gradientStarted;
        backend.scale(dx, 1, gradientOf(x), started);
      }
    }
  }

  static void requireIntegers(String name, Tensor tensor) {
    if (tensor.data().type() != DType.INT32) {
      throw new IllegalArgumentException(name + " must be integers");
    }
  }

  private static void requireTargets(Tensor targets, int rows) {
    requireIntegers("targets", targets);
    if (targets.shape().count() != rows) {
      throw new IllegalArgumentException(
          "targets " + targets.shape() + " for logits of " + rows + " rows");
    }
  }

  private static void requireProbability(double p) {
    if (!(p >= 0 && p <= 1)) {
      throw new IllegalArgumentException("dropout probability " + p + " is not in [0, 1]");
    }
  }
}
