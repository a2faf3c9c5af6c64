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
import dev.lanewise.simd.LinearCrossEntropy;

/**
 * Memory that a training step takes, found by running one on a device that only counts.
 *
 * @param parameters bytes of parameters, and of the bfloat16 copy that a device in mixed precision
 *     keeps of them
 * @param gradients bytes of their gradients
 * @param moments bytes of the optimiser's moments
 * @param activations bytes of activations and their gradients, at their peak
 * @param working bytes of working memory: of kernels, of Java itself
 */
public record MemoryPlan(
    long parameters, long gradients, long moments, long activations, long working) {
  /** What a Java process with a small heap takes when its code is compiled. */
  private static final long JAVA = 192L << 20;

  /** Bytes in all. */
  public long total() {
    return parameters + gradients + moments + activations + working;
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
        long working = JAVA + LinearCrossEntropy.workingBytes(batch * context, config.vocabSize());
        return new MemoryPlan(
            parameters + copy, parameters, 2 * parameters, tape.activationBytes(), working);
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
          "This model needs %s, but only %s are free; choose a smaller --batch, --context or --model, or give --memory."
              .formatted(this, gib(available)));
    }
  }

  /** One line for people. */
  @Override
  public String toString() {
    return "%s: %s parameters, %s gradients, %s optimiser, %s activations, %s working memory"
        .formatted(
            gib(total()),
            gib(parameters),
            gib(gradients),
            gib(moments),
            gib(activations),
            gib(working));
  }

  /**
   * The same training in less memory: the batch is cut into passes whose gradients are summed
   * before the update, as few as stay under a limit. A pass of fewer tokens computes a little
   * slower, since weights are read once for each.
   *
   * @param config a run
   * @param model its model
   * @param activationType type of the device's activations
   * @param limit bytes that may be used
   * @return the run with smaller batches and more of them for an update; itself if it fits
   * @throws InputException if not even one sequence at a time stays under the limit
   */
  public static TrainConfig cut(
      TrainConfig config, GptConfig model, DType activationType, long limit) {
    for (int batch = config.batch(); ; batch--) {
      if (config.batch() % batch != 0) {
        continue;
      }
      MemoryPlan plan = of(model, batch, config.context(), activationType);
      if (plan.total() <= limit) {
        return config.withBatch(batch, config.accumulate() * (config.batch() / batch));
      }
      if (batch == 1) {
        throw new InputException(
            "Even one sequence at a time needs %s, which is more than --memory allows (%s); choose a shorter --context or a smaller --model."
                .formatted(plan, gib(limit)));
      }
    }
  }

  private static String gib(long bytes) {
    return bytes < 1L << 30
        ? "%.0f MiB".formatted(bytes / (double) (1 << 20))
        : "%.2f GiB".formatted(bytes / (double) (1 << 30));
  }
}
