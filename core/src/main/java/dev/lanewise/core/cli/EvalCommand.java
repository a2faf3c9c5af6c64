package dev.lanewise.core.cli;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.data.Dataset;
import dev.lanewise.core.data.TokenBatches;
import dev.lanewise.core.data.TokenSequence;
import dev.lanewise.core.data.Tokenizer;
import dev.lanewise.core.model.Gpt;
import dev.lanewise.core.tensor.Shape;
import dev.lanewise.core.tensor.Tape;
import dev.lanewise.core.train.Evaluation;
import dev.lanewise.core.train.RunData;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** Tells how well a trained model predicts a text. */
@Command(
    name = "eval",
    description = "Computes loss and perplexity of a trained model on a text.",
    footer = {"Example:", "  lanewise eval --from runs/notes --data other-notes.txt"})
final class EvalCommand implements Subcommand {
  @Option(
      names = "--from",
      required = true,
      paramLabel = "RUN",
      description = "Run folder, or one checkpoint of it.")
  private Path from;

  @Option(
      names = "--data",
      required = true,
      arity = "1..*",
      paramLabel = "PATH",
      description = "Text files, folders, archives, or one token file.")
  private List<Path> data;

  @Option(
      names = "--batch",
      paramLabel = "N",
      description = "Sequences of a forward pass. Default: ${DEFAULT-VALUE}.")
  private int batch = 8;

  @Mixin private DeviceOptions device = new DeviceOptions();

  @Spec private CommandSpec spec;

  @Override
  public Integer call() {
    if (batch < 1) {
      throw new InputException("--batch must be at least 1, not " + batch + ".");
    }
    TrainedModel trained =
        TrainedModel.find(from, warning -> spec.commandLine().getErr().println(warning));
    Tokenizer tokenizer = trained.tokenizer();
    RunData source = new RunData(data, null, tokenizer.name(), 0, false, false, 0);
    try (Dataset tokens = source.open(tokenizer, TrainCommand.cache(), Dataset.Progress.NONE);
        Backend backend = device.open();
        Tape tape = new Tape(backend, true)) {
      TokenSequence all = tokens.train();
      Gpt model = trained.load(tape);
      int context = trained.context();
      tape.setRecording(false);
      try (TokenBatches batches = TokenBatches.sequential(all, batch, context)) {
        Shape shape = Shape.of(batch, context);
        double loss = Evaluation.meanLoss(model, batches, tape.ids(shape), tape.ids(shape));
        spec.commandLine()
            .getOut()
            .printf(
                Locale.ROOT,
                "loss %.4f, perplexity %.2f, %,d tokens, context %d (%s)%n",
                loss,
                Math.exp(loss),
                all.length() - 1,
                context,
                trained.name());
      }
    }
    return 0;
  }
}
