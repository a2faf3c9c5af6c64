package dev.lanewise.core.cli;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.data.TokenDecoder;
import dev.lanewise.core.data.Tokenizer;
import dev.lanewise.core.model.Gpt;
import dev.lanewise.core.model.TextGenerator;
import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.core.tensor.Tape;
import java.io.PrintWriter;
import java.nio.file.Path;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** Writes text with a trained model. */
@Command(
    name = "generate",
    description = "Continues a text with a trained model.",
    footer = {
      "Examples:",
      "  lanewise generate --from runs/notes --prompt \"Once upon a time\"",
      "  lanewise generate --from runs/notes --prompt \"# To do\" --max-tokens 500 --temperature"
          + " 0.7",
      "  lanewise generate --from runs/notes --prompt \"The\" --greedy"
    })
final class GenerateCommand implements Subcommand {
  @Option(
      names = "--from",
      required = true,
      paramLabel = "RUN",
      description = "Run folder, or one checkpoint of it.")
  private Path from;

  @Option(
      names = "--prompt",
      paramLabel = "TEXT",
      description = "How the text begins. Default: a line break.")
  private String prompt = "\n";

  @Option(
      names = "--max-tokens",
      paramLabel = "N",
      description = "Most tokens to write. Default: ${DEFAULT-VALUE}.")
  private int maxTokens = 200;

  @Option(
      names = "--temperature",
      paramLabel = "T",
      description = "What logits are divided by. Default: ${DEFAULT-VALUE}.")
  private double temperature = 0.8;

  @Option(
      names = "--top-k",
      paramLabel = "K",
      description = "Choose among the K likeliest tokens, 0 for all. Default: ${DEFAULT-VALUE}.")
  private int topK = 50;

  @Option(
      names = "--top-p",
      paramLabel = "P",
      description = "Choose among the likeliest tokens of this probability in all. Default: 1.")
  private double topP = 1;

  @Option(names = "--greedy", description = "Always choose the likeliest token.")
  private boolean greedy;

  @Option(names = "--seed", paramLabel = "N", description = "Seed. Default: ${DEFAULT-VALUE}.")
  private long seed = 1337;

  @Mixin private DeviceOptions device = new DeviceOptions();

  @Spec private CommandSpec spec;

  @Override
  public Integer call() {
    if (maxTokens < 1) {
      throw new InputException("--max-tokens must be at least 1, not " + maxTokens + ".");
    }
    TextGenerator.Sampling sampling;
    try {
      sampling =
          greedy
              ? TextGenerator.Sampling.GREEDY
              : new TextGenerator.Sampling(temperature, topK, topP);
    } catch (IllegalArgumentException e) {
      throw new InputException(
          "--temperature and --top-k cannot be negative, and --top-p lies in (0, 1].", e);
    }
    TrainedModel trained = TrainedModel.find(from, warning -> err().println(warning));
    Tokenizer tokenizer = trained.tokenizer();
    int[] ids = tokenizer.encode(prompt);
    if (ids.length == 0) {
      throw new InputException("The prompt is empty; give at least one character.");
    }
    PrintWriter out = spec.commandLine().getOut();
    try (Backend backend = device.open();
        Tape tape = new Tape(backend, true)) {
      Gpt model = trained.load(tape);
      TokenDecoder decoder = tokenizer.decoder();
      out.print(prompt);
      out.flush();
      new TextGenerator(model, trained.context(), tokenizer)
          .stream(
              ids,
              maxTokens,
              sampling,
              new TorchGenerator(seed),
              id -> {
                out.print(decoder.next(id));
                out.flush();
                return !out.checkError();
              });
      out.println(decoder.finish());
    }
    return 0;
  }

  private PrintWriter err() {
    return spec.commandLine().getErr();
  }
}
