package dev.lanewise.core.train;

import java.nio.file.Path;

/**
 * Hears what a {@link Trainer} does. It only looks: an exception that it throws becomes a warning,
 * and training goes on.
 */
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
   * @param validation what it found
   */
  default void validation(Validation validation) {}

  /**
   * A validation goes on.
   *
   * @param done tokens predicted so far
   * @param tokens tokens to predict
   * @param available validation tokens in all
   */
  default void validating(long done, long tokens, long available) {}

  /**
   * The model wrote a text.
   *
   * @param step number of updates so far
   * @param text prompt and continuation
   */
  default void sample(long step, String text) {}

  /**
   * A checkpoint is about to be written: what a run that is taken up there relies on must be on
   * disk when this returns.
   *
   * @param step number of updates that it will hold
   */
  default void saving(long step) {}

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
