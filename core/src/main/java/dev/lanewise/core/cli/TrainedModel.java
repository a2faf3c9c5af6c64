package dev.lanewise.core.cli;

import dev.lanewise.core.base.InputException;
import dev.lanewise.core.model.Gpt;
import dev.lanewise.core.model.GptConfig;
import dev.lanewise.core.tensor.Tape;
import dev.lanewise.core.train.Checkpoints;
import dev.lanewise.core.train.RunFolder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Locale;
import java.util.function.Consumer;

/**
 * A model that a run has trained.
 *
 * @param run the run
 * @param checkpoint where its parameters are
 */
record TrainedModel(RunFolder run, Checkpoints.Checkpoint checkpoint) {

  /**
   * Finds a model.
   *
   * @param from a run folder, whose newest whole checkpoint is taken, or one checkpoint's folder
   * @param warnings hears of damaged checkpoints
   */
  static TrainedModel find(Path from, Consumer<String> warnings) {
    if (!Files.exists(from)) {
      throw new InputException(String.format(Locale.ROOT, "There is no folder %s.", from));
    }
    if (Files.exists(from.resolve("state.json"))) {
      Path run = from.toAbsolutePath().getParent().getParent();
      return new TrainedModel(new RunFolder(run), Checkpoints.open(from));
    }
    RunFolder run = new RunFolder(from);
    run.describe();
    return new TrainedModel(
        run,
        run.checkpoints()
            .newest(warnings)
            .orElseThrow(
                () ->
                    new InputException(
                        String.format(
                            Locale.ROOT, "The run %s has no whole checkpoint yet.", from))));
  }

  Gpt load(Tape tape) {
    GptConfig config = run.describe().model();
    Gpt model = new Gpt(tape, config.withDropout(0), null);
    checkpoint.restore(model);
    return model.eval();
  }
}
