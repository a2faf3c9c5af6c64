package dev.lanewise.core.cli;

import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.UsageException;
import dev.lanewise.core.data.Tokenizer;
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
 * A model that can be used, with the tokenizer that it was trained with.
 *
 * @param name what it is, for people: where it comes from and how far it was trained
 * @param config its sizes, without dropout
 * @param context tokens that it was trained to look back at, at most the context length
 * @param batch sequences of a forward pass in its training
 * @param tokenizer its tokenizer
 * @param parameters puts its parameters into a model of these sizes
 */
record TrainedModel(
    String name,
    GptConfig config,
    int context,
    int batch,
    Tokenizer tokenizer,
    Consumer<Gpt> parameters) {

  /**
   * Finds a model.
   *
   * @param from a run folder, whose newest whole checkpoint is taken, or one checkpoint's folder
   * @param warnings hears of damaged checkpoints
   */
  static TrainedModel find(Path from, Consumer<String> warnings) {
    if (!Files.isDirectory(from)) {
      throw new InputException(
          String.format(
              Locale.ROOT,
              Files.exists(from)
                  ? "%s is a file; name the folder of a run, or of one of its checkpoints."
                  : "There is no folder %s.",
              from));
    }
    if (!Files.exists(from.resolve("state.json"))) {
      RunFolder run = new RunFolder(from);
      run.describe();
      Checkpoints.Checkpoint newest =
          run.checkpoints()
              .newest(warnings)
              .orElseThrow(
                  () ->
                      new InputException(
                          String.format(
                              Locale.ROOT, "The run %s has no whole checkpoint yet.", from)));
      return of(run, newest);
    }
    Path checkpoints = from.toAbsolutePath().normalize().getParent();
    Path run = checkpoints == null ? null : checkpoints.getParent();
    if (run == null || !new RunFolder(run).exists()) {
      throw new InputException(
          String.format(
              Locale.ROOT,
              "The checkpoint %s lies outside its run, whose config.json and tokenizer.json are"
                  + " needed to use it; leave it in the run's folder checkpoints.",
              from));
    }
    return of(new RunFolder(run), Checkpoints.open(from));
  }

  private static TrainedModel of(RunFolder run, Checkpoints.Checkpoint checkpoint) {
    RunFolder.Description description = run.describe();
    GptConfig config = description.model().withDropout(0);
    Tokenizer tokenizer = run.tokenizer();
    if (tokenizer.vocabSize() > config.vocabSize()) {
      throw new InputException(
          String.format(
              Locale.ROOT,
              "%s: the tokenizer has %,d tokens, but the model only %,d, so they do not belong"
                  + " together; restore the run's tokenizer.json and config.json.",
              run.path(),
              tokenizer.vocabSize(),
              config.vocabSize()));
    }
    return new TrainedModel(
        String.format(Locale.ROOT, "%s, step %,d", run.path(), checkpoint.step()),
        config,
        Math.min(description.training().context(), config.contextLength()),
        description.training().batch(),
        tokenizer,
        checkpoint::restore);
  }

  /**
   * Loads the model.
   *
   * @param tape where it is to live
   * @return the model, in evaluation mode
   */
  Gpt load(Tape tape) {
    Gpt model = new Gpt(tape, config, null);
    parameters.accept(model);
    return model.eval();
  }

  /**
   * The context to use, for a command that was given one or not.
   *
   * @param asked what {@code --context} says, or null
   * @param warnings hears if the model was never trained at so many positions
   */
  int context(Integer asked, Consumer<String> warnings) {
    if (asked == null) {
      return context;
    }
    if (asked < 1 || asked > config.contextLength()) {
      throw new UsageException(
          String.format(
              Locale.ROOT,
              "--context must be from 1 to %d, which is as far as this model looks back, not %d.",
              config.contextLength(),
              asked));
    }
    if (asked > context) {
      warnings.accept(
          String.format(
              Locale.ROOT,
              "The model was trained with a context of %d; its positions beyond know nothing.",
              context));
    }
    return asked;
  }
}
