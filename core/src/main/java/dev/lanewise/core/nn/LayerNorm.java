package dev.lanewise.core.nn;

import dev.lanewise.core.tensor.Tape;
import dev.lanewise.core.tensor.Tensor;
import java.util.Arrays;
import java.util.function.BiConsumer;

/**
 * Layer normalisation over the last axis: biased variance, eps 1e-5.
 *
 * @param weight {@code [channels]}
 * @param bias {@code [channels]}
 */
public record LayerNorm(Tensor weight, Tensor bias) implements Module {

  /** A layer that normalises only: weight 1, bias 0. */
  public LayerNorm(Tape tape, int channels) {
    this(tape.parameter(channels), tape.parameter(channels));
    float[] ones = new float[channels];
    Arrays.fill(ones, 1);
    weight.set(ones);
  }

  /** The normalised rows, scaled and shifted. */
  public Tensor forward(Tensor x) {
    return x.layerNorm(weight, bias);
  }

  @Override
  public void visit(String prefix, BiConsumer<String, Tensor> visitor) {
    visitor.accept(prefix + "weight", weight);
    visitor.accept(prefix + "bias", bias);
  }
}
