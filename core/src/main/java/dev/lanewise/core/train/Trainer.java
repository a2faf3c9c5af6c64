package dev.lanewise.core.train;

import dev.lanewise.core.base.InputException;
import dev.lanewise.core.data.TokenBatches;
import dev.lanewise.core.data.TokenSequence;
import dev.lanewise.core.model.Gpt;
import dev.lanewise.core.nn.AdamW;
import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.core.tensor.Shape;
import dev.lanewise.core.tensor.Tape;
import dev.lanewise.core.tensor.Tensor;
import java.nio.file.Path;
import java.util.Locale;

/**
 * The training loop: batches through the model, gradients into AdamW, validation and checkpoints on
 * the way. The same on every device.
 *
 * <p>A run is decided by its configuration, seed and data: it gives the same bits for any number of
 * threads, and when it was interrupted and resumed.
 */
public final class Trainer implements AutoCloseable {
  private final Gpt model;
  private final TrainConfig config;
  private final LrSchedule schedule;
  private final Tape tape;
  private final AdamW optimizer;
  private final TorchGenerator generator;
  private final TokenBatches batches;
  private final TokenSequence validation;
  private final TrainListener listener;
  private final Checkpoints checkpoints;
  private final Tensor ids;
  private final Tensor targets;
  private long step;
  private long skippedInARow;
  private long skipped;
  private double seconds;
  private double bestValidation = Double.POSITIVE_INFINITY;
  private volatile boolean stopping;

  /**
   * A trainer at step 0.
   *
   * @param model the model, its parameters initialised
   * @param config the run
   * @param train tokens to train on
   * @param validation tokens to validate on; may be null
   * @param generator draws dropout; the one that the model was made with
   * @param checkpoints where to save; null to save nothing
   * @param listener hears what happens
   */
  public Trainer(
      Gpt model,
      TrainConfig config,
      TokenSequence train,
      TokenSequence validation,
      TorchGenerator generator,
      Checkpoints checkpoints,
      TrainListener listener) {
    this.model = model;
    this.config = config;
    this.schedule = config.lrSchedule();
    this.tape = model.tape();
    MemoryPlan.apply(config, tape);
    this.validation = validation;
    this.generator = generator;
    this.listener = listener;
    this.checkpoints = checkpoints;
    if (config.context() > model.config().contextLength()) {
      throw new InputException(
          String.format(
              Locale.ROOT,
              "A context of %d tokens does not fit a model that looks at %d; choose a shorter"
                  + " --context.",
              config.context(),
              model.config().contextLength()));
    }
    batches =
        config.epochs()
            ? TokenBatches.shuffled(train, config.batch(), config.context(), config.seed())
            : TokenBatches.random(train, config.batch(), config.context(), config.seed());
    optimizer =
        new AdamW(tape, parameter -> parameter.shape().rank() == 2)
            .betas(config.beta1(), config.beta2())
            .weightDecay(config.weightDecay());
    Shape shape = Shape.of(config.batch(), config.context());
    ids = tape.ids(shape);
    targets = tape.ids(shape);
  }

  /**
   * Trains until the last step, or until {@link #stop}, then validates and saves.
   *
   * @throws InputException if loss or gradients are not finite for too many steps in a row
   */
  public void run() {
    while (step < config.steps() && !stopping) {
      step();
      if (due(config.evalEvery())) {
        validate(config.evalBatches());
      }
      if (due(config.checkpointEvery())) {
        save();
      }
    }
    if (step == config.steps()) {
      validate(Integer.MAX_VALUE);
    }
    save();
  }

  private boolean due(long every) {
    return every > 0 && step % every == 0 && step < config.steps();
  }

  /** Makes {@link #run} end after the step at hand; any thread may call it. */
  public void stop() {
    stopping = true;
  }

  /** One update of the parameters. */
  public void step() {
    long start = System.nanoTime();
    model.train();
    optimizer.zeroGrad();
    tape.setLossScale(1f / config.accumulate());
    double loss = 0;
    for (int pass = 0; pass < config.accumulate(); pass++) {
      if (config.overfit()) {
        batches.seek(pass);
      }
      batches.next();
      ids.upload(batches.inputs());
      targets.upload(batches.targets());
      tape.reset();
      Tensor passLoss = model.loss(ids, targets);
      passLoss.backward();
      loss += passLoss.item() / config.accumulate();
    }
    double learningRate = schedule.at(step);
    double norm = optimizer.gradientNorm((float) config.clip());
    boolean finite = Double.isFinite(loss) && Double.isFinite(norm);
    if (finite) {
      optimizer.step(learningRate);
      skippedInARow = 0;
    } else {
      skipped++;
      skippedInARow++;
    }
    tape.backend().synchronize();
    double took = (System.nanoTime() - start) * 1e-9;
    seconds += took;
    step++;
    listener.step(step, loss, learningRate, norm, config.tokensPerStep() / took, seconds, !finite);
    if (step == 1) {
      checkInitialLoss(loss);
    }
    if (skippedInARow >= config.maxSkipped()) {
      throw new InputException(
          String.format(
              Locale.ROOT,
              "Loss or gradient were not finite for %d steps in a row, up to step %d; lower the"
                  + " learning rate and resume from the last checkpoint, which is kept.",
              skippedInARow,
              step));
    }
  }

  private void checkInitialLoss(double loss) {
    double uniform = Math.log(model.config().vocabSize());
    if (Math.abs(loss - uniform) > Math.max(0.5, 0.1 * uniform)) {
      listener.warning(
          String.format(
              Locale.ROOT,
              "The first loss is %.3f, but a model that knows nothing has ln(%d) = %.3f; check"
                  + " initialisation and data.",
              loss,
              model.config().vocabSize(),
              uniform));
    }
  }

  /**
   * Mean cross-entropy of the validation tokens.
   *
   * @param most most batches to use, spread evenly; all tokens are used if that is enough
   * @return the loss, or NaN without validation tokens
   */
  public double validate(int most) {
    if (validation == null || validation.length() <= config.context()) {
      return Double.NaN;
    }
    try (TokenBatches evaluation =
        TokenBatches.evenly(validation, config.batch(), config.context(), most)) {
      double loss = Evaluation.meanLoss(model, evaluation, ids, targets);
      boolean whole = evaluation.count() < most;
      bestValidation = Math.min(bestValidation, loss);
      listener.validation(step, loss, whole);
      return loss;
    }
  }

  private void save() {
    if (checkpoints != null) {
      Path folder =
          checkpoints.save(model, optimizer, generator, state(), config.keepCheckpoints());
      listener.checkpoint(step, folder);
    }
  }

  private TrainState state() {
    return new TrainState(
        step, optimizer.steps(), batches.position(), skipped, seconds, bestValidation);
  }

  /**
   * Takes up a run where a checkpoint left it.
   *
   * @param checkpoint a checkpoint of a run with this configuration
   */
  public void resume(Checkpoints.Checkpoint checkpoint) {
    TrainState state = checkpoint.restore(model, optimizer, generator);
    step = state.step();
    optimizer.restoreSteps(state.optimizerSteps());
    batches.seek(state.batchPosition());
    skipped = state.skipped();
    seconds = state.seconds();
    bestValidation = state.bestValidation();
  }

  /** Number of steps so far. */
  public long steps() {
    return step;
  }

  /** Steps whose update was left out since loss or gradient were not finite. */
  public long skipped() {
    return skipped;
  }

  /** The optimiser. */
  public AdamW optimizer() {
    return optimizer;
  }

  @Override
  public void close() {
    optimizer.close();
    batches.close();
  }
}
