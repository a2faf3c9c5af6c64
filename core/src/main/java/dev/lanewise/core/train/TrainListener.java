package dev.lanewise.core.train;

import java.nio.file.Path;

/** Hears what a {@link Trainer} does. */
public interface TrainListener {
  /** Hears nothing. */
  TrainListener NONE = new TrainListener() {};

  /**
   * A step is over.
   *
   * @param step number of updates so far, this one included
   * @param loss mean cross-entropy of its tokens, before the update
   * @param learningRate its learning rate
   * @param gradientNorm norm of the gradient before clipping
   * @param tokensPerSecond speed of this step
   * @param seconds time spent in training so far
   * @param skipped whether the parameters were left alone since loss or gradient were not finite
   */
  default void step(
      long step,
      double loss,
      double learningRate,
      double gradientNorm,
      double tokensPerSecond,
      double seconds,
      boolean skipped) {}

  /**
   * A validation is over.
   *
   * @param step number of updates so far
   * @param loss mean cross-entropy of the validation tokens
   * @param whole whether all validation tokens were used, instead of a sample
   */
  default void validation(long step, double loss, boolean whole) {}

  /**
   * A checkpoint was written.
   *
   * @param step number of updates that it holds
   * @param folder where it is
   */
  default void checkpoint(long step, Path folder) {}

  /** Something a user should know, in one sentence. */
  default void warning(String sentence) {}
}
