package dev.lanewise.core.cli;

import dev.lanewise.core.base.UsageException;
import dev.lanewise.core.train.LrSchedule;
import dev.lanewise.core.train.TrainConfig;
import java.util.Locale;
import picocli.CommandLine.Option;

/** Options that decide how a run goes, step after step. */
final class TrainOptions {
  @Option(
      names = "--steps",
      paramLabel = "N",
      description =
          "Updates of the parameters in all. Default: 800, or 200 for models of more than 512"
              + " channels.")
  Long steps;

  @Option(
      names = "--lr",
      paramLabel = "RATE",
      description =
          "Peak learning rate. Default: 1e-3, or 6e-4 for models of more than 512 channels.")
  Double learningRate;

  @Option(
      names = "--min-lr",
      paramLabel = "RATE",
      description = "Learning rate of the last step. Default: a tenth of the peak.")
  Double minLearningRate;

  @Option(
      names = "--warmup",
      paramLabel = "N",
      description = "Steps until the peak. Default: a twentieth of all, at most 700.")
  Long warmup;

  @Option(
      names = "--schedule",
      paramLabel = "KIND",
      description =
          "cosine or linear from the peak to the end, constant, or decay, which falls to the end's"
              + " rate after four fifths. Default: cosine.")
  String schedule;

  @Option(
      names = "--eval-every",
      paramLabel = "N",
      description = "Steps between validations and samples. Default: a tenth of all.")
  Long evalEvery;

  @Option(
      names = "--eval-batches",
      paramLabel = "N",
      description = "Batches of a validation on the way. Default: 20.")
  Integer evalBatches;

  @Option(
      names = "--eval-all",
      description =
          "Validate on all validation tokens after the last step. Default: on so many that it"
              + " takes at most about a tenth of the time of training, and at most a million.")
  boolean evalAll;

  @Option(
      names = "--checkpoint-every",
      paramLabel = "N",
      description = "Steps between checkpoints. Default: as often as validations.")
  Long checkpointEvery;

  @Option(names = "--keep", paramLabel = "N", description = "Checkpoints to keep. Default: 2.")
  Integer keep;

  @Option(
      names = "--keep-best",
      description = {
        "Keep the checkpoint of the smallest validation loss, checkpoints/best-N, beside the"
            + " newest.",
        "Default: with --patience."
      })
  boolean keepBest;

  @Option(
      names = "--patience",
      paramLabel = "N",
      description =
          "End after N validations in a row without a smaller loss; 0 for never. Default: 0.")
  Integer patience;

  @Option(
      names = "--epochs",
      description = "Visit the text in shuffled epochs, instead of windows at random.")
  boolean epochs;

  @Option(
      names = "--overfit",
      description = "Use the first batch in every step: a check that the model can learn.")
  boolean overfit;

  @Option(
      names = "--isolate-documents",
      description = {
        "Keep documents and examples apart that are packed into one row: attention does not look"
            + " across their ends, positions count from the start of each, and the first token of"
            + " none is learnt. Not with a GPU.",
        "Default: a row is one text."
      })
  boolean isolateDocuments;

  /**
   * A new run.
   *
   * @param base its steps as {@link StepOptions} have them, and defaults that suit its model
   */
  TrainConfig config(TrainConfig base) {
    long count = steps == null ? base.steps() : steps;
    TrainConfig.Builder run =
        base.toBuilder()
            .warmup(Math.min(700, count / 20))
            .evalEvery(Math.max(1, count / 10))
            .checkpointEvery(evalEvery == null ? Math.max(1, count / 10) : evalEvery)
            .epochs(epochs)
            .overfit(overfit)
            .isolateDocuments(isolateDocuments);
    change(run, base);
    TrainConfig config = run.build();
    check(config);
    return config;
  }

  /**
   * What a run may change on its way.
   *
   * @param run is changed
   * @param before how it went so far
   */
  void change(TrainConfig.Builder run, TrainConfig before) {
    if (steps != null) {
      run.steps(steps);
    }
    if (schedule != null) {
      run.schedule(LrSchedule.Kind.of(schedule));
    }
    if (learningRate != null) {
      run.learningRate(learningRate);
      if (before.minLearningRate() == before.learningRate() / 10) {
        // Nobody chose it, so it goes with the peak.
        run.minLearningRate(learningRate / 10);
      }
    }
    if (minLearningRate != null) {
      run.minLearningRate(minLearningRate);
    }
    if (warmup != null) {
      run.warmup(warmup);
    }
    if (evalEvery != null) {
      run.evalEvery(evalEvery);
    }
    if (evalBatches != null) {
      run.evalBatches(evalBatches);
    }
    if (evalAll) {
      run.evalAll(true);
    }
    if (checkpointEvery != null) {
      run.checkpointEvery(checkpointEvery);
    }
    if (keep != null) {
      run.keepCheckpoints(keep);
    }
    if (patience != null) {
      run.patience(patience);
    }
    if (keepBest || patience != null && patience > 0) {
      run.keepBest(true);
    }
  }

  /**
   * Refuses what would have no effect, and schedules that do not come to their end.
   *
   * @param config a run with these options
   */
  void check(TrainConfig config) {
    config.lrSchedule();
    if (config.schedule() == LrSchedule.Kind.CONSTANT
        && minLearningRate != null
        && minLearningRate != config.learningRate()) {
      throw new UsageException(
          "--min-lr has no meaning with --schedule constant, which stays at --lr; leave one of them"
              + " out.");
    }
    if (config.warmup() > 0 && config.warmup() >= config.steps()) {
      throw new UsageException(
          String.format(
              Locale.ROOT,
              "A warm-up of %,d steps leaves none of a run of %,d for the rest; choose a smaller"
                  + " --warmup or more --steps.",
              config.warmup(),
              config.steps()));
    }
  }
}
