package dev.lanewise.core.train;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.backend.DType;
import dev.lanewise.core.backend.PlanningBackend;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.model.Gpt;
import dev.lanewise.core.model.GptConfig;
import dev.lanewise.core.nn.AdamW;
import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.core.tensor.ParameterBlock;
import dev.lanewise.core.tensor.Shape;
import dev.lanewise.core.tensor.Tape;
import dev.lanewise.core.tensor.Tensor;

/**
 * Memory that a training step takes, found by running one on a device that only counts.
 *
 * @param parameters bytes of parameters, and of the bfloat16 copy that a device in mixed precision
 *     keeps of them
 * @param gradients bytes of their gradients
 * @param moments bytes of the optimiser's moments
 * @param activations bytes of activations and their gradients, at their peak
 */
public record MemoryPlan(long parameters, long gradients, long moments, long activations) {

  /** Bytes in all. */
  public long total() {
    return parameters + gradients + moments + activations;
  }

  /**
   * The plan of a model's training step.
   *
   * @param config the model
   * @param batch sequences of a forward pass
   * @param context tokens of a sequence
   * @param activationType type of the device's activations
   */
  public static MemoryPlan of(GptConfig config, int batch, int context, DType activationType) {
    try (Backend backend = new PlanningBackend(activationType).backend();
        Tape tape = new Tape(backend, true)) {
      Gpt model = new Gpt(tape, config, new TorchGenerator(0)).train();
      long parameters = 0;
      for (ParameterBlock block : tape.parameters()) {
        parameters += block.data().byteSize();
      }
      try (AdamW optimizer = new AdamW(tape, parameter -> true)) {
        Tensor ids = tape.ids(Shape.of(batch, context));
        Tensor targets = tape.ids(Shape.of(batch, context));
        model.loss(ids, targets).backward();
        tape.setRecording(false);
        model.eval().loss(ids, targets);
        optimizer.zeroGrad();
        long copy = activationType == DType.BFLOAT16 ? parameters / 2 : 0;
        return new MemoryPlan(
            parameters + copy, parameters, 2 * parameters, tape.activationBytes());
      }
    }
  }

  /**
   * Refuses a plan that does not fit.
   *
   * @param available bytes that the device has
   * @throws InputException with the figures, if it does not fit
   */
  public void requireFits(long available) {
    if (total() > available) {
      throw new InputException(
          "This model needs %s (%s parameters and gradients, %s optimiser, %s activations), but only %s are free; choose a smaller --batch, --context or --model."
              .formatted(
                  gib(total()),
                  gib(parameters + gradients),
                  gib(moments),
                  gib(activations),
                  gib(available)));
    }
  }

  /** One line for people. */
  @Override
  public String toString() {
    return "%s: %s parameters, %s gradients, %s optimiser, %s activations"
        .formatted(gib(total()), gib(parameters), gib(gradients), gib(moments), gib(activations));
  }

  private static String gib(long bytes) {
    return bytes < 1L << 30
        ? "%.0f MiB".formatted(bytes / (double) (1 << 20))
        : "%.2f GiB".formatted(bytes / (double) (1 << 30));
  }
}
