package dev.lanewise.core.cli;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.base.AtomicFile;
import dev.lanewise.core.base.Failures;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.Json;
import dev.lanewise.core.base.UsageException;
import dev.lanewise.core.data.Dataset;
import dev.lanewise.core.data.TokenBatches;
import dev.lanewise.core.model.Gpt;
import dev.lanewise.core.model.GptConfig;
import dev.lanewise.core.model.GptInit;
import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.core.report.TerminalProgress;
import dev.lanewise.core.tensor.Tape;
import dev.lanewise.core.train.LrFinder;
import dev.lanewise.core.train.LrReport;
import dev.lanewise.core.train.MemoryPlan;
import dev.lanewise.core.train.TrainConfig;
import java.io.IOException;
import java.io.PrintWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** Looks for a good learning rate. */
@Command(
    name = "lr-find",
    description =
        "Trains one step at each of many learning rates, from small to large, draws the loss and"
            + " names the rate at which it falls fastest.",
    footer = {
      "Examples:",
      "  lanewise lr-find",
      "  lanewise lr-find --data shakespeare.txt --tokenizer chars --model nano --points 200",
      "  lanewise lr-find --from models/gpt2 --data notes/ --highest 1e-2"
    })
final class LrFindCommand implements Subcommand {
  private static final int MOST_POINTS = 100_000;

  @Mixin private WeightsOptions weights;
  @Mixin private DataOptions dataOptions;
  @Mixin private StepOptions stepOptions;
  @Mixin private DeviceOptions deviceOptions;

  @Option(
      names = "--lowest",
      paramLabel = "RATE",
      description = "Smallest rate. Default: ${DEFAULT-VALUE}.")
  private double lowest = 1e-5;

  @Option(
      names = "--highest",
      paramLabel = "RATE",
      description = "Largest rate. Default: ${DEFAULT-VALUE}.")
  private double highest = 1;

  @Option(
      names = "--points",
      paramLabel = "N",
      description = "Number of rates. Default: ${DEFAULT-VALUE}.")
  private int points = 100;

  @Option(
      names = "--out",
      paramLabel = "DIR",
      description = "Where to write lr-find.html and lr-find.json. Default: ${DEFAULT-VALUE}.")
  private Path out = Path.of("runs", "lr-find");

  @Spec private CommandSpec spec;

  @Override
  public Integer call() {
    if (!(lowest > 0 && highest > lowest) || points < 10 || points > MOST_POINTS) {
      throw new UsageException(
          String.format(
              Locale.ROOT,
              "lr-find needs 10 to %,d points and rates that rise from above 0, not %d from %s to"
                  + " %s.",
              MOST_POINTS,
              points,
              lowest,
              highest));
    }
    PrintWriter console = spec.commandLine().getOut();
    ConsoleProgress preparing = new ConsoleProgress();
    weights.open(dataOptions, stepOptions, spec.commandLine().getErr()::println);
    try (Dataset data =
            dataOptions
                .runData(weights.tokenizer())
                .open(weights.tokenizer(), TrainCommand.cache(), preparing::preparing);
        Backend backend = deviceOptions.open();
        Tape tape = new Tape(backend, true)) {
      preparing.prepared();
      TerminalProgress progress = TerminalProgress.on(System.out);
      GptConfig model = weights.model(stepOptions, data.tokenizer());
      TrainConfig config = weights.config(stepOptions, model);
      MemoryPlan.of(config, model, backend).requireFits(backend.availableMemory());
      TorchGenerator generator = new TorchGenerator(config.seed());
      Gpt gpt = new Gpt(tape, model, generator);
      if (weights.initial() == null) {
        GptInit.gpt2(gpt, generator);
      } else {
        weights.initial().accept(gpt);
      }
      makeFolder();
      progress.begin("testing rates", 0, points);
      LrFinder.Result result;
      try (TokenBatches batches =
          TokenBatches.random(data.train(), config.batch(), config.context(), config.seed())) {
        result =
            LrFinder.run(
                gpt,
                config,
                batches,
                lowest,
                highest,
                points,
                done -> progress.update(done, () -> ""));
      }
      progress.end();
      write(result);
      if (Double.isNaN(result.suggested())) {
        console.println("The loss did not fall anywhere; widen --lowest and --highest.");
      } else {
        console.printf(
            Locale.ROOT,
            "Suggested learning rate: %.2g (--lr %.2g)%n",
            result.suggested(),
            result.suggested());
      }
      console.printf(Locale.ROOT, "Report      %s%n", out.resolve("lr-find.html"));
    }
    return 0;
  }

  /** Before anything is computed: what was found must have a place. */
  private void makeFolder() {
    try {
      Files.createDirectories(out);
    } catch (IOException e) {
      throw new InputException(
          String.format(
              Locale.ROOT,
              "The folder %s cannot be made (%s); choose another --out.",
              out,
              Failures.describe(e)),
          e);
    }
  }

  private void write(LrFinder.Result result) {
    Map<String, Object> document = new LinkedHashMap<>();
    document.put("suggested", result.suggested());
    document.put("rates", result.rates());
    document.put("losses", result.losses());
    document.put("smoothed", result.smoothed());
    AtomicFile.writeText(out.resolve("lr-find.json"), Json.writePretty(document) + "\n");
    LrReport.write(result, out.resolve("lr-find.html"));
  }
}
