package dev.lanewise.core.nn;

import dev.lanewise.core.backend.Activation;
import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.core.tensor.Tape;
import dev.lanewise.core.tensor.Tensor;
import java.util.function.BiConsumer;

/**
 * {@code y = x · weightᵀ + bias}, perhaps with a correction of low rank.
 *
 * @param weight {@code [outputs, inputs]}
 * @param bias {@code [outputs]}, or null
 * @param adapter the correction, or null
 */
public record Linear(Tensor weight, Tensor bias, LowRank adapter) implements Module {

  /** A layer without a correction. */
  public Linear(Tensor weight, Tensor bias) {
    this(weight, bias, null);
  }

  /**
   * A layer whose parameters are zero; an {@code Initializer} fills them.
   *
   * @param tape where its parameters live
   * @param inputs width of what comes in
   * @param outputs width of what goes out
   * @param withBias whether there is a bias
   */
  public Linear(Tape tape, int inputs, int outputs, boolean withBias) {
    this(tape.parameter(outputs, inputs), withBias ? tape.parameter(outputs) : null);
  }

  /** A layer with PyTorch's default parameters: uniform within 1/√inputs. */
  public Linear(Tape tape, int inputs, int outputs, boolean withBias, TorchGenerator generator) {
    this(tape, inputs, outputs, withBias);
    initialize(generator);
  }

  /** Draws PyTorch's default parameters, the weight first. */
  public void initialize(TorchGenerator generator) {
    int inputs = weight.shape().cols();
    weight.set(values -> Initializer.linearWeight(generator, values, inputs));
    if (bias != null) {
      bias.set(values -> Initializer.linearBias(generator, values, inputs));
    }
  }

  /** {@code x · weightᵀ + bias}. */
  public Tensor forward(Tensor x) {
    return forward(x, (Tensor) null);
  }

  /** {@code x · weightᵀ + bias + residual}, in one pass. */
  public Tensor forward(Tensor x, Tensor residual) {
    return adapter == null
        ? x.linear(weight, bias, Activation.NONE, residual)
        : adapter.forward(x, this, residual);
  }

  /** {@code activation(x · weightᵀ + bias)}, in one pass. */
  public Tensor forward(Tensor x, Activation activation) {
    if (adapter == null) {
      return x.linear(weight, bias, activation, null);
    }
    Tensor sum = adapter.forward(x, this, null);
    return activation == Activation.NONE ? sum : sum.unary(activation.function());
  }

  /** This layer with a correction, whose parameters are not among those that are visited. */
  public Linear with(LowRank correction) {
    return new Linear(weight, bias, correction);
  }

  /** This layer with its correction added to the weight, which is overwritten. */
  public Linear merged() {
    if (adapter == null) {
      return this;
    }
    adapter.addTo(weight);
    return new Linear(weight, bias);
  }

  @Override
  public void visit(String prefix, BiConsumer<String, Tensor> visitor) {
    visitor.accept(prefix + "weight", weight);
    if (bias != null) {
      visitor.accept(prefix + "bias", bias);
    }
  }
}
