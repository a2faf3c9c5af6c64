package dev.lanewise.core.train;

import dev.lanewise.core.data.TokenBatches;
import dev.lanewise.core.distributed.Communicator;
import dev.lanewise.core.model.Gpt;
import dev.lanewise.core.nn.AdamW;
import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.core.tensor.Tape;
import dev.lanewise.core.tensor.Tensor;

/**
 * A step whose passes are dealt to processes: each computes some in a row, gets its share of the
 * gradients of all, updates its share of the parameters, and gives those to the others. It is
 * defined by the number of passes, not by that of processes, one of which may do it all.
 *
 * <p>A pass draws its dropout from the seed, the step and its own number, so it does not matter who
 * computed the one before.
 */
final class DealtStep implements AutoCloseable {
  private final Gpt model;
  private final TrainConfig config;
  private final Tape tape;
  private final AdamW optimizer;
  private final TokenBatches batches;
  private final Tensor ids;
  private final Tensor targets;

  /** Null unless documents are isolated. */
  private final Tensor positions;

  /** Null if there is nothing to draw. */
  private final TorchGenerator generator;

  private final GradientSum sum;

  DealtStep(
      Communicator communicator,
      Gpt model,
      TrainConfig config,
      AdamW optimizer,
      TokenBatches batches,
      Tensor ids,
      Tensor targets,
      Tensor positions,
      TorchGenerator generator) {
    this.model = model;
    this.config = config;
    this.tape = model.tape();
    this.optimizer = optimizer;
    this.batches = batches;
    this.ids = ids;
    this.targets = targets;
    this.positions = positions;
    boolean draws =
        model.config().dropout() > 0 || config.lora() != null && config.lora().dropout() > 0;
    this.generator = draws ? generator : null;
    sum = new GradientSum(communicator, tape, config.accumulate());
  }

  /**
   * Computes this process's passes and its share of the gradients of all.
   *
   * @param step number of the step
   * @param position number of its first batch
   * @param counted how many targets of the step count; 0 if passes have equally many
   */
  void compute(long step, long position, long counted) {
    model.train();
    int passes = config.accumulate();
    tape.setLossScale(1f / passes);
    for (int i = 0; i < sum.passCount(); i++) {
      int pass = sum.firstPass() + i;
      batches.seek(config.overfit() ? pass : position + pass);
      batches.next();
      if (counted > 0) {
        tape.setLossScale(batches.tokens() / (float) counted);
      }
      if (generator != null) {
        generator.manualSeed(seed(step * passes + pass));
      }
      ids.upload(batches.inputs());
      targets.upload(batches.targets());
      if (positions != null) {
        positions.upload(batches.positions());
      }
      optimizer.zeroGrad();
      tape.reset();
      Tensor loss = model.loss(ids, targets, positions);
      loss.backward();
      tape.settleGradients();
      double value = loss.item();
      sum.add(pass, counted > 0 ? value * batches.tokens() / counted : value / passes);
    }
    batches.seek(config.overfit() ? passes : position + passes);
    sum.exchange();
    optimizer.clip(sum.norm(), (float) config.clip());
  }

  /** The finalizer of SplitMix64, which makes unlike seeds of like numbers. */
  private long seed(long number) {
    long z = config.seed() + (number + 1) * 0x9e3779b97f4a7c15L;
    z = (z ^ z >>> 30) * 0xbf58476d1ce4e5b9L;
    z = (z ^ z >>> 27) * 0x94d049bb133111ebL;
    return z ^ z >>> 31;
  }

  /** The step's loss, the same in all processes. */
  double loss() {
    return sum.loss();
  }

  /** The gradients' norm before clipping, the same in all processes. */
  double norm() {
    return sum.norm();
  }

  /** Whether there is something to learn from the step; else it is left out, everywhere. */
  boolean isFinite() {
    return Double.isFinite(loss()) && Double.isFinite(norm());
  }

  /** Updates this process's share of the parameters, and gets those of the others. */
  void update(double learningRate) {
    optimizer.step(learningRate);
    sum.gatherParameters();
  }

  /** Seconds that went into exchanges, and into waiting for others there. */
  double exchangeSeconds() {
    return sum.exchangeSeconds();
  }

  @Override
  public void close() {
    sum.close();
  }
}
