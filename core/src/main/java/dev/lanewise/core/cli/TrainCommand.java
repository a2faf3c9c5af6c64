package dev.lanewise.core.cli;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.JsonFields;
import dev.lanewise.core.data.Dataset;
import dev.lanewise.core.data.Tokenizer;
import dev.lanewise.core.model.GptConfig;
import dev.lanewise.core.train.DefaultJob;
import dev.lanewise.core.train.MemoryPlan;
import dev.lanewise.core.train.RunData;
import dev.lanewise.core.train.RunFolder;
import dev.lanewise.core.train.RunReports;
import dev.lanewise.core.train.TrainConfig;
import dev.lanewise.core.train.TrainListener;
import dev.lanewise.core.train.TrainingRun;
import dev.lanewise.core.train.Validation;
import java.io.IOException;
import java.io.PrintWriter;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.LocalDateTime;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** Trains a model. */
@Command(
    name = "train",
    description = {
      "Trains a GPT. Without options: a small one on the JDK's own sources, in about two minutes.",
      "Ctrl-C finishes the step, saves and ends; --resume goes on from there."
    },
    footer = {
      "Examples:",
      "  lanewise train",
      "  lanewise train --data shakespeare.txt --tokenizer chars --model nano --steps 2000",
      "  lanewise train --data notes/ --include '*.md' --model small --out runs/notes",
      "  lanewise train --resume --out runs/notes --steps 5000",
      "  lanewise train --data train.bin --model gpt2 --batch 4 --context 256 --accumulate 8"
    })
final class TrainCommand implements Subcommand {
  private static final Pattern SIZE =
      Pattern.compile("(\\d+(?:\\.\\d+)?) ?([KMGT])(?:i?B)?", Pattern.CASE_INSENSITIVE);

  private static final Path RUNS = Path.of("runs");
  private static final int SAMPLE_TOKENS = 160;
  private static final String REPORT = "Writing report.html";

  @Mixin private TrainOptions options;

  @Option(
      names = "--out",
      paramLabel = "DIR",
      description = "Run folder. Default: a new one under runs/, or with --resume the newest.")
  private Path out;

  @Option(names = "--resume", description = "Go on with the run from its newest checkpoint.")
  private boolean resume;

  @Option(
      names = "--prompt",
      paramLabel = "TEXT",
      description =
          "How samples begin. Default: a line break, or the start of a class for the default text.")
  private String prompt;

  @Option(
      names = "--memory",
      paramLabel = "SIZE",
      description =
          "Most memory to use, such as 6G or 900M. A run that needs more is computed in several"
              + " passes, computes activations again instead of keeping them, or holds fewer"
              + " logits, a little slower.")
  private String memory;

  @Option(
      names = "--tensorboard",
      description =
          "Also write numbers and samples for TensorBoard, into the run folder; a run that is"
              + " resumed goes on with it.")
  private boolean tensorboard;

  private double slowdown;

  @Spec private CommandSpec spec;

  @Override
  public Integer call() {
    PrintWriter console = spec.commandLine().getOut();
    RunFolder folder = new RunFolder(out != null ? out : resume ? newestRun() : newRun());
    RunFolder.Description known = resume ? folder.describe() : null;
    Tokenizer tokenizer = resume ? folder.tokenizer() : null;
    RunData runData =
        resume
            ? RunData.fromFields(new JsonFields(known.data(), folder.configFile() + ", data"))
            : options.runData();
    ConsoleProgress progress = new ConsoleProgress();
    try (Dataset data = runData.open(tokenizer, cache(), progress::preparing);
        Backend backend = options.device.open()) {
      progress.prepared();
      // What preparing a text left on the heap goes back to the system before tensors are made.
      System.gc();
      RunFolder.Description description = known;
      if (known == null) {
        GptConfig model = options.model(data.tokenizer().vocabSize());
        TrainConfig config = fitted(options.config(model), model, backend);
        description = new RunFolder.Description(model, config, runData.toMap());
      } else if (options.steps != null) {
        description =
            new RunFolder.Description(
                known.model(), known.training().withSteps(options.steps), known.data());
      }
      return train(console, progress, folder, description, data, backend);
    }
  }

  /** The run in a form that stays under --memory. */
  private TrainConfig fitted(TrainConfig config, GptConfig model, Backend backend) {
    if (memory == null) {
      return config;
    }
    MemoryPlan.Fit fit = MemoryPlan.fit(config, model, backend, bytes(memory.strip()));
    slowdown = fit.slowdown();
    return fit.config();
  }

  private static long bytes(String size) {
    Matcher matcher = SIZE.matcher(size);
    if (!matcher.matches()) {
      throw new InputException(
          String.format(Locale.ROOT, "--memory takes a size such as 6G or 900M, not '%s'.", size));
    }
    int power = "KMGT".indexOf(matcher.group(2).toUpperCase(Locale.ROOT)) + 1;
    return (long) (Double.parseDouble(matcher.group(1)) * Math.pow(1024, power));
  }

  private int train(
      PrintWriter console,
      ConsoleProgress progress,
      RunFolder folder,
      RunFolder.Description description,
      Dataset data,
      Backend backend) {
    List<TrainListener> listeners = new ArrayList<>();
    listeners.add(progress);
    TrainConfig config = description.training();
    try (TrainingRun run =
        resume
            ? TrainingRun.resume(folder, description, data, backend, listeners)
            : TrainingRun.begin(folder, description, data, backend, listeners)) {
      boolean writesEvents = tensorboard || Files.isDirectory(folder.eventsFolder());
      if (writesEvents) {
        run.writeEvents();
      }
      console.printf(Locale.ROOT, "Device      %s%n", backend.description());
      console.printf(
          Locale.ROOT,
          "Data        %s, %,d tokens to train on, %,d to validate on (%s, vocabulary %,d)%n",
          description.source().pathNames(),
          data.train().length(),
          data.validation() == null ? 0 : data.validation().length(),
          data.tokenizer().name(),
          data.tokenizer().vocabSize());
      data.notes(config.context()).forEach(note -> console.println("            " + note));
      console.printf(
          Locale.ROOT,
          "Model       %d layers, %d heads, %d channels, context %d: %,d parameters%n",
          description.model().layers(),
          description.model().heads(),
          description.model().channels(),
          description.model().contextLength(),
          run.model().parameterCount());
      console.printf(Locale.ROOT, "Memory      %s%n", run.plan());
      if (config.recomputedBlocks() > 0 || config.headRows() > 0 || slowdown > 0) {
        console.printf(
            Locale.ROOT,
            "            %s, %d of %d blocks computed again in backward%s%s%n",
            config.accumulate() == 1 ? "one pass" : config.accumulate() + " passes",
            config.recomputedBlocks(),
            description.model().layers(),
            config.headRows() > 0
                ? String.format(Locale.ROOT, ", logits of %d tokens at a time", config.headRows())
                : "",
            slowdown > 0
                ? String.format(
                    Locale.ROOT, "; steps take about %.0f %% longer for it", 100 * slowdown)
                : "");
      }
      console.printf(
          Locale.ROOT,
          "Run         %s, %,d steps of %,d tokens%s%n",
          folder.path(),
          config.steps(),
          config.tokensPerStep(),
          config.accumulate() == 1
              ? ""
              : String.format(
                  Locale.ROOT,
                  " in %d passes of %d sequences",
                  config.accumulate(),
                  config.batch()));
      if (run.trainer().steps() > 0) {
        console.printf(Locale.ROOT, "Resumed     at step %,d%n", run.trainer().steps());
      }
      if (writesEvents) {
        console.printf(Locale.ROOT, "TensorBoard tensorboard --logdir %s%n", folder.eventsFolder());
      }
      console.flush();
      progress.begin(config.steps(), run.trainer().steps());
      String begin = prompt != null ? prompt : DefaultJob.promptFor(description.source());
      listeners.add(new Sampler(run, progress, begin));
      try (Interrupts interrupts = new Interrupts(run.trainer()::stop)) {
        try {
          run.trainer().run();
        } finally {
          progress.end();
          run.look(REPORT, () -> RunReports.write(run));
        }
        if (!interrupts.happened()) {
          conclude(console, run, begin);
        } else {
          console.printf(
              Locale.ROOT,
              "Stopped at step %,d; go on with: lanewise train --resume --out %s%n",
              run.trainer().steps(),
              folder.path());
          console.flush();
        }
      }
      return 0;
    }
  }

  private static void conclude(PrintWriter console, TrainingRun run, String prompt) {
    if (run.trainer().skipped() > 0) {
      console.printf(
          Locale.ROOT,
          "Skipped     %,d steps whose loss or gradient was not finite%n",
          run.trainer().skipped());
    }
    run.sample(prompt, SAMPLE_TOKENS)
        .ifPresent(text -> console.printf(Locale.ROOT, "Sample%n%s%n", indent(text)));
    run.look(REPORT, () -> RunReports.write(run));
    run.look(REPORT, () -> console.printf(Locale.ROOT, "Time        %s%n", RunReports.times(run)));
    console.printf(Locale.ROOT, "Report      %s%n", run.folder().reportFile());
    console.printf(
        Locale.ROOT,
        "Try         lanewise generate --from %s --prompt \"...\"%n",
        run.folder().path());
  }

  private static String indent(String text) {
    return text.strip().indent(4);
  }

  /** Lets the model write after every validation on the way. */
  private record Sampler(TrainingRun run, ConsoleProgress progress, String prompt)
      implements TrainListener {
    @Override
    public void validation(Validation validation) {
      if (validation.step() < run.description().training().steps()) {
        run.sample(prompt, 48).ifPresent(progress::sample);
        run.look(REPORT, () -> RunReports.write(run));
      }
    }
  }

  static Path cache() {
    String home = System.getenv("XDG_CACHE_HOME");
    return home != null && !home.isEmpty()
        ? Path.of(home, "lanewise", "tokens")
        : Path.of(System.getProperty("user.home"), ".cache", "lanewise", "tokens");
  }

  private static Path newRun() {
    String time =
        LocalDateTime.now(java.time.ZoneId.systemDefault())
            .format(DateTimeFormatter.ofPattern("yyyyMMdd-HHmmss", Locale.ROOT));
    return RUNS.resolve(time);
  }

  private static Path newestRun() {
    if (Files.isDirectory(RUNS)) {
      try (var folders = Files.list(RUNS)) {
        Optional<Path> newest =
            folders
                .filter(folder -> new RunFolder(folder).exists())
                .max(
                    Comparator.comparingLong(
                        folder -> folder.resolve("config.json").toFile().lastModified()));
        if (newest.isPresent()) {
          return newest.get();
        }
      } catch (IOException e) {
        throw new UncheckedIOException(e);
      }
    }
    throw new InputException("There is no run under runs/ to resume; name one with --out.");
  }
}
