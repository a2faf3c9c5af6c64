package dev.lanewise.core.train;

import dev.lanewise.core.base.Failures;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.data.TokenBatches;
import dev.lanewise.core.data.TokenSequence;
import dev.lanewise.core.distributed.Communicator;
import dev.lanewise.core.model.Gpt;
import dev.lanewise.core.nn.AdamW;
import dev.lanewise.core.nn.Share;
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
 * threads, and when it was interrupted and resumed. What only looks at it, validations included,
 * neither changes nor ends it.
 */
public final class Trainer implements AutoCloseable {
  /**
   * Tokens of the last validation for each token trained on: with a forward pass at a third of a
   * step it takes at most a tenth of the time that training takes.
   */
  private static final double LAST_VALIDATION = 0.3;

  /**
   * Most tokens of the last validation: the mean of so many losses is known to a few thousandths.
   */
  private static final long MOST_VALIDATION_TOKENS = 1_000_000;

  private final Gpt model;
  private final TrainConfig config;
  private final LrSchedule schedule;
  private final Tape tape;
  private final AdamW optimizer;
  private final TorchGenerator generator;
  private final TokenBatches batches;
  private final TokenBatches ahead;
  private final TokenSequence validation;
  private final TrainListener listener;
  private final Checkpoints checkpoints;
  private final Checkpoints.Contents contents;
  private final Tensor ids;
  private final Tensor targets;

  /** Null unless documents are isolated. */
  private final Tensor positions;

  private final Team team;

  /** Null where passes are summed one after the other, or there is one alone. */
  private final DealtStep dealt;

  private long step;
  private long skippedInARow;
  private long skipped;
  private double seconds;
  private int sinceBest;
  private double bestValidation = Double.POSITIVE_INFINITY;
  private long validatedAt = -1;
  private boolean finished;
  private long savedAt = -1;
  private Path saved;
  private final TorchGenerator generatorBefore;
  private long batchBefore;
  private boolean inStep;
  private boolean updating;
  private boolean hopeless;
  private volatile boolean stopping;

  /**
   * A trainer at step 0.
   *
   * @param model the model, its parameters initialised
   * @param config the run
   * @param train tokens to train on; isolated if the run's documents are
   * @param validation tokens to validate on, likewise; may be null
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
    this(
        model,
        config,
        train,
        validation,
        generator,
        checkpoints,
        listener,
        new Team(Communicator.alone()));
  }

  /**
   * A trainer at step 0 that leads other processes, which wait for its commands.
   *
   * @param model the model, its parameters initialised
   * @param config the run
   * @param train tokens to train on; isolated if the run's documents are
   * @param validation tokens to validate on, likewise; may be null
   * @param generator draws dropout; the one that the model was made with
   * @param checkpoints where to save; null to save nothing
   * @param listener hears what happens
   * @param team all processes
   * @throws InputException if passes cannot be dealt to them
   */
  Trainer(
      Gpt model,
      TrainConfig config,
      TokenSequence train,
      TokenSequence validation,
      TorchGenerator generator,
      Checkpoints checkpoints,
      TrainListener listener,
      Team team) {
    requireDealt(config, team.size());
    this.team = team;
    if (train.isolates() != config.isolateDocuments()) {
      throw new IllegalArgumentException("the run and its data differ on isolating documents");
    }
    this.model = model;
    this.config = config;
    this.schedule = config.lrSchedule();
    this.tape = model.tape();
    MemoryPlan.apply(config, tape);
    this.validation = validation;
    this.generator = generator;
    generatorBefore = generator == null ? null : new TorchGenerator(0, generator.stream());
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
    batches = batches(train, config);
    // Where targets differ in number, a pass weighs as much as it has of the step's, which must be
    // known before the first.
    ahead = train.allCount() || config.accumulate() == 1 ? null : batches(train, config);
    optimizer = optimizer(tape, config, new Share(team.communicator().rank(), team.size()));
    Shape shape = Shape.of(config.batch(), config.context());
    ids = tape.ids(shape);
    targets = tape.ids(shape);
    positions = train.isolates() ? tape.ids(shape) : null;
    dealt =
        sumsInTree(config)
            ? new DealtStep(
                team.communicator(),
                model,
                config,
                optimizer,
                batches,
                ids,
                targets,
                positions,
                generator)
            : null;
    contents =
        new Checkpoints.Contents(
            model.adapters() == null ? model : model.adapters(),
            tape.backend(),
            optimizer,
            generator,
            team.isAlone() ? null : new DealtMoments(team, tape, optimizer));
  }

  static AdamW optimizer(Tape tape, TrainConfig config, Share share) {
    return new AdamW(tape, parameter -> parameter.shape().rank() == 2, share)
        .betas(config.beta1(), config.beta2())
        .weightDecay(config.weightDecay());
  }

  /** Whether a step's passes are summed in a tree, which needs more than one. */
  static boolean sumsInTree(TrainConfig config) {
    return config.accumulate() > 1 && config.gradientSum() == TrainConfig.GradientSumOrder.TREE;
  }

  /**
   * Refuses a run whose passes cannot be dealt out equally.
   *
   * @param config the run
   * @param processes how many share its work
   * @throws InputException with what would do
   */
  static void requireDealt(TrainConfig config, int processes) {
    if (processes == 1) {
      return;
    }
    if (config.accumulate() % processes != 0) {
      throw new InputException(
          String.format(
              Locale.ROOT,
              "A step of %d %s cannot be dealt equally to %d processes; let --accumulate be a"
                  + " multiple of %d.",
              config.accumulate(),
              config.accumulate() == 1 ? "pass" : "passes",
              processes,
              processes));
    }
    if (!sumsInTree(config)) {
      throw new InputException(
          "The run sums the gradients of its passes one after the other (--gradient-sum plain),"
              + " which one process alone can do; start it without a launcher.");
    }
  }

  /**
   * Gives the others what the leader begins with, or was resumed from. To be called once, before
   * the first step.
   */
  void shareParameters() {
    if (!team.isAlone()) {
      team.command(Team.Command.PARAMETERS, optimizer.steps(), 0, 0);
      Follower.shareParameters(team, tape);
      team.done();
    }
  }

  /** Seconds that exchanges with other processes took, and waiting for them there. */
  public double exchangeSeconds() {
    return dealt == null ? 0 : dealt.exchangeSeconds();
  }

  /**
   * Trains until the last step, or until {@link #stop}, then saves and validates.
   *
   * <p>Whatever ends it early, the last whole step is saved if it can be.
   *
   * @throws InputException if loss or gradients are not finite for too many steps in a row, or the
   *     last checkpoint cannot be written
   */
  public void run() {
    try {
      if (step > 0 && validatedAt < step && due(config.evalEvery())) {
        // It was interrupted before the validation was over.
        validate(config.validationBatches());
      }
      while (step < config.steps() && !stopping && !outOfPatience()) {
        step();
        if (due(config.evalEvery())) {
          validate(config.validationBatches());
        }
        if (due(config.checkpointEvery())) {
          saveOnTheWay();
        }
      }
      save();
      if (step >= config.steps() && !finished && !stopping) {
        finish();
      }
    } catch (Throwable e) {
      rescue(e);
      throw e;
    }
  }

  private boolean due(long every) {
    return every > 0 && step % every == 0 && step < config.steps();
  }

  /** Makes {@link #run} end after the step or the validation batch at hand, from any thread. */
  public void stop() {
    stopping = true;
  }

  /** Whether {@link #stop} was called. */
  public boolean stopping() {
    return stopping;
  }

  /** Whether all steps and the validation after them are done. */
  public boolean finished() {
    return finished;
  }

  /** One update of the parameters. */
  public void step() {
    long start = System.nanoTime();
    rememberPlace();
    double learningRate = schedule.at(step);
    double loss = dealt == null ? computePlain() : computeDealt();
    double norm = dealt == null ? optimizer.gradientNorm((float) config.clip()) : dealt.norm();
    boolean finite = Double.isFinite(loss) && Double.isFinite(norm);
    updating = true;
    if (finite) {
      if (dealt == null) {
        optimizer.step(learningRate);
      } else {
        dealt.update(learningRate);
      }
      skippedInARow = 0;
    } else {
      skipped++;
      skippedInARow++;
    }
    tape.backend().synchronize();
    team.done();
    double took = (System.nanoTime() - start) * 1e-9;
    seconds += took;
    step++;
    updating = false;
    inStep = false;
    finished = false;
    listener.step(step, loss, learningRate, norm, config.tokensPerStep() / took, seconds, !finite);
    if (step == 1 && !config.pretrained()) {
      checkInitialLoss(loss);
    }
    if (skippedInARow >= config.maxSkipped()) {
      hopeless = true;
      throw new InputException(
          String.format(
              Locale.ROOT,
              "Loss or gradient were not finite for %d steps in a row, up to step %d; lower the"
                  + " learning rate%s.",
              skippedInARow,
              step,
              savedAt < 0
                  ? " and begin again, as nothing was saved yet"
                  : String.format(
                      Locale.ROOT,
                      " and resume from the last checkpoint, of step %d, which is kept",
                      savedAt)));
    }
  }

  /** Gradients of all passes, each added to those before. */
  private double computePlain() {
    model.train();
    optimizer.zeroGrad();
    tape.setLossScale(1f / config.accumulate());
    long counted = ahead == null ? 0 : countTargets();
    double loss = 0;
    for (int pass = 0; pass < config.accumulate(); pass++) {
      nextBatch(batches, pass);
      if (ahead != null) {
        tape.setLossScale(batches.tokens() / (float) counted);
      }
      ids.upload(batches.inputs());
      targets.upload(batches.targets());
      if (positions != null) {
        positions.upload(batches.positions());
      }
      tape.reset();
      Tensor passLoss = model.loss(ids, targets, positions);
      passLoss.backward();
      loss +=
          ahead == null
              ? passLoss.item() / config.accumulate()
              : (double) passLoss.item() * batches.tokens() / counted;
    }
    return loss;
  }

  /** Gradients of all passes, summed in a tree, with the others if there are any. */
  private double computeDealt() {
    long counted = ahead == null ? 0 : countTargets();
    long position = batches.position();
    if (!team.isAlone()) {
      team.command(Team.Command.STEP, step, position, counted);
    }
    dealt.compute(step, position, counted);
    return dealt.loss();
  }

  static TokenBatches batches(TokenSequence train, TrainConfig config) {
    return config.epochs()
        ? TokenBatches.shuffled(train, config.batch(), config.context(), config.seed())
        : TokenBatches.random(train, config.batch(), config.context(), config.seed());
  }

  private void nextBatch(TokenBatches of, int pass) {
    if (config.overfit()) {
      of.seek(pass);
    }
    of.next();
  }

  /** The targets of the step to come. */
  private long countTargets() {
    ahead.seek(batches.position());
    long counted = 0;
    for (int pass = 0; pass < config.accumulate(); pass++) {
      nextBatch(ahead, pass);
      counted += ahead.tokens();
    }
    return counted;
  }

  /** Notes where a step begins, so that one that fails half-way can be taken back. */
  private void rememberPlace() {
    inStep = true;
    batchBefore = batches.position();
    if (generator != null) {
      generatorBefore.copyFrom(generator);
    }
  }

  private void takeBack() {
    batches.seek(batchBefore);
    if (generator != null) {
      generator.copyFrom(generatorBefore);
    }
    inStep = false;
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

  // Validation
  // -------------------------------------------------------------------------------------

  /**
   * Mean cross-entropy of the validation tokens. A failure is a warning: it only looks.
   *
   * @param most most batches to use, spread evenly; all tokens are used if that is enough
   * @return the loss, or NaN without validation tokens, after {@link #stop}, or where it failed
   */
  public double validate(int most) {
    if (!hasValidation()) {
      return Double.NaN;
    }
    try (TokenBatches evaluation = evaluation(validation, config, most)) {
      long available = validation.length() - 1;
      long tokens =
          Math.min(available, evaluation.count() * (long) config.batch() * config.context());
      Evaluation.Progress progress =
          (done, count) -> {
            listener.validating(done * tokens / count, tokens, available);
            return !stopping;
          };
      double loss;
      if (team.isAlone()) {
        loss = Evaluation.meanLoss(model, evaluation, ids, targets, positions, progress);
      } else {
        team.command(Team.Command.VALIDATE, most, 0, 0);
        loss =
            Evaluation.dealt(
                team.communicator(), model, evaluation, ids, targets, positions, progress);
        team.done();
      }
      if (!Double.isNaN(loss) || !stopping) {
        validatedAt = step;
        listener.validation(new Validation(step, loss, tokens, available));
        noteBest(loss);
      }
      return loss;
    } catch (RuntimeException | OutOfMemoryError e) {
      listener.warning(
          String.format(
              Locale.ROOT, "The validation at step %d failed (%s).", step, Failures.reason(e)));
      return Double.NaN;
    }
  }

  private void noteBest(double loss) {
    if (!(loss < bestValidation)) {
      sinceBest++;
      return;
    }
    bestValidation = loss;
    sinceBest = 0;
    if (config.keepBest() && checkpoints != null) {
      try {
        checkpoints.saveBest(contents, state());
      } catch (InputException e) {
        listener.warning(e.getMessage());
      }
    }
  }

  /** Whether so many validations in a row were no better that training ends. */
  public boolean outOfPatience() {
    return config.patience() > 0 && sinceBest >= config.patience();
  }

  /** Smallest validation loss so far; infinite before the first. */
  public double bestValidation() {
    return bestValidation;
  }

  private boolean hasValidation() {
    return validation != null && validation.length() > 1;
  }

  static TokenBatches evaluation(TokenSequence validation, TrainConfig config, int most) {
    return validation.length() > config.context()
        ? TokenBatches.evenly(validation, config.batch(), config.context(), most)
        : TokenBatches.sequential(validation, config.batch(), config.context());
  }

  /** The validation after the last step, for which the run is safe already. */
  private void finish() {
    validate(config.evalAll() ? Integer.MAX_VALUE : lastValidationBatches());
    if (stopping) {
      return;
    }
    finished = validatedAt == step || !hasValidation();
    if (saved != null) {
      try {
        listener.saving(step);
        checkpoints.rewriteState(saved, state());
      } catch (InputException e) {
        listener.warning(e.getMessage());
      }
    }
  }

  private int lastValidationBatches() {
    double trained = (double) config.steps() * config.tokensPerStep();
    double tokens = Math.min(MOST_VALIDATION_TOKENS, LAST_VALIDATION * trained);
    double batches = Math.ceil(tokens / ((double) config.batch() * config.context()));
    return Math.max(config.validationBatches(), (int) Math.min(batches, Integer.MAX_VALUE));
  }

  // Checkpoints
  // ------------------------------------------------------------------------------------

  private void save() {
    if (checkpoints == null || savedAt == step) {
      return;
    }
    listener.saving(step);
    saved = checkpoints.save(contents, state());
    savedAt = step;
    listener.checkpoint(step, saved);
    try {
      checkpoints.keep(config.keepCheckpoints());
    } catch (InputException e) {
      listener.warning(e.getMessage());
    }
  }

  /** A checkpoint that cannot be written now may be written later. */
  private void saveOnTheWay() {
    try {
      save();
    } catch (InputException e) {
      long next = Math.min(config.steps(), step + config.checkpointEvery());
      listener.warning(
          String.format(
              Locale.ROOT,
              "%s The run goes on and saves again at step %d; free some space until then. %s",
              e.getMessage(),
              next,
              newestSaved()));
    }
  }

  private String newestSaved() {
    return savedAt < 0
        ? "Nothing is saved so far."
        : String.format(Locale.ROOT, "The newest checkpoint is of step %d.", savedAt);
  }

  /** Saves the last whole step after a failure, and tells what is saved. */
  private void rescue(Throwable failure) {
    if (checkpoints == null || hopeless || team.busy()) {
      return; // others wait in the midst of something, and none of it can be saved
    }
    String outcome = newestSaved();
    try {
      if (!updating && step > 0) {
        if (inStep) {
          takeBack();
        }
        save();
        outcome =
            String.format(
                Locale.ROOT, "The run is saved at step %d; --resume goes on from there.", step);
      }
    } catch (RuntimeException | Error e) {
      failure.addSuppressed(e);
    }
    try {
      listener.warning("Training ended early. " + outcome);
    } catch (RuntimeException | Error e) {
      failure.addSuppressed(e);
    }
  }

  /** Where the run stands. */
  TrainState state() {
    return new TrainState(
        step,
        optimizer.steps(),
        batches.position(),
        config.batch(),
        skipped,
        skippedInARow,
        seconds,
        bestValidation,
        validatedAt,
        sinceBest,
        finished);
  }

  /**
   * Takes up a run where a checkpoint left it.
   *
   * @param checkpoint a checkpoint of a run with this configuration
   * @throws InputException if it is not one; nothing has changed then
   */
  public void resume(Checkpoints.Checkpoint checkpoint) {
    TrainState state = checkpoint.state();
    if (!state.fits(config)) {
      throw new InputException(
          String.format(
              Locale.ROOT,
              "The checkpoint %s is of another run: after %d steps it cannot stand at batch %d.",
              checkpoint.path(),
              state.step(),
              state.batchPosition()));
    }
    checkpoint.restore(contents);
    step = state.step();
    optimizer.restoreSteps(state.optimizerSteps());
    // Batches may be cut otherwise now, but a step reads the same sequences.
    batches.seek(config.overfit() ? state.batchPosition() : step * config.accumulate());
    skipped = state.skipped();
    skippedInARow = state.skippedInARow();
    seconds = state.seconds();
    bestValidation = state.bestValidation();
    validatedAt = state.validatedAt();
    sinceBest = state.sinceBest();
    // Runs of the first format were saved after their last validation.
    boolean whole = state.finished() || state.batch() == 0;
    finished = step >= config.steps() && whole;
    savedAt = step;
    saved = checkpoint.path();
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
    if (dealt != null) {
      dealt.close();
    }
    optimizer.close();
    batches.close();
    if (ahead != null) {
      ahead.close();
    }
  }
}
