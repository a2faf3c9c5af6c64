package dev.lanewise.core.nn;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.backend.Buffer;
import dev.lanewise.core.backend.DType;
import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.core.tensor.Tape;
import dev.lanewise.core.tensor.Tensor;
import java.util.function.BiConsumer;

/**
 * A correction of low rank to a linear layer whose own weight stays as it is: {@code scale · up ·
 * down · dropout(x)} (Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021).
 *
 * @param down {@code [rank, inputs]}, PEFT's {@code lora_A.weight}
 * @param up {@code [outputs, rank]}, PEFT's {@code lora_B.weight}
 * @param scale factor of the correction, alpha / rank
 * @param dropout drops elements of what the correction reads
 */
public record LowRank(Tensor down, Tensor up, float scale, Dropout dropout) implements Module {

  /**
   * A correction whose parameters are zero.
   *
   * @param tape where its parameters live
   * @param inputs width of what comes in
   * @param outputs width of what goes out
   * @param rank width between the two matrices
   * @param alpha the correction is multiplied with alpha / rank
   * @param dropout drops elements of what the correction reads
   */
  public LowRank(Tape tape, int inputs, int outputs, int rank, double alpha, Dropout dropout) {
    this(
        tape.parameter(rank, inputs),
        tape.parameter(outputs, rank),
        (float) (alpha / rank),
        dropout);
  }

  /** Draws PEFT's first values: {@code down} as a linear layer's weight, {@code up} zero. */
  public void initialize(TorchGenerator generator) {
    int inputs = down.shape().cols();
    down.set(values -> Initializer.linearWeight(generator, values, inputs));
    up.set(values -> values.fill((byte) 0));
  }

  Tensor forward(Tensor x, Linear layer, Tensor residual) {
    return x.linear(layer.weight(), layer.bias(), residual, down, up, dropout.forward(x), scale);
  }

  void addTo(Tensor weight) {
    Backend backend = weight.tape().backend();
    int outputs = weight.shape().dim(0);
    int inputs = weight.shape().cols();
    int rank = down.shape().dim(0);
    Buffer scaled = backend.allocate(DType.FLOAT32, up.shape().count());
    try {
      backend.scale(up.data(), scale, scaled, false);
      backend.matmul(
          scaled, false, down.data(), false, false, weight.data(), true, 1, outputs, inputs, rank);
    } finally {
      backend.free(scaled);
    }
  }

  @Override
  public void visit(String prefix, BiConsumer<String, Tensor> visitor) {
    visitor.accept(prefix + "lora_A.weight", down);
    visitor.accept(prefix + "lora_B.weight", up);
  }
}
