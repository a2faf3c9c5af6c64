package dev.lanewise.core.cli;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.backend.Precision;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.data.Dataset;
import dev.lanewise.core.data.Tokenizer;
import dev.lanewise.core.model.GptConfig;
import dev.lanewise.core.train.DataStamp;
import dev.lanewise.core.train.MemoryPlan;
import dev.lanewise.core.train.RunData;
import dev.lanewise.core.train.RunFolder;
import dev.lanewise.core.train.RunReports;
import dev.lanewise.core.train.Team;
import dev.lanewise.core.train.TrainConfig;
import dev.lanewise.core.train.TrainListener;
import dev.lanewise.core.train.TrainingRun;
import dev.lanewise.core.train.Validation;
import dev.lanewise.simd.Machine;
import dev.lanewise.simd.Workers;
import java.io.IOException;
import java.io.PrintWriter;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.LocalDateTime;
import java.time.ZoneId;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Locale;
import java.util.Map;
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
      "  lanewise train --from models/gpt2 --data notes/ --out runs/tuned",
      "  lanewise train --data train.bin --model gpt2 --batch 4 --context 256 --accumulate 8"
    })
final class TrainCommand implements Subcommand {
  private static final Pattern SIZE =
      Pattern.compile("(\\d+(?:\\.\\d+)?) ?([KMGT])(?:i?B)?", Pattern.CASE_INSENSITIVE);

  private static final Path RUNS = Path.of("runs");
  private static final ZoneId ZONE = ZoneId.systemDefault();
  private static final int SAMPLE_TOKENS = 160;
  private static final String REPORT = "Writing report.html";

  @Mixin private WeightsOptions weights;
  @Mixin private PartOptions partOptions;
  @Mixin private DataOptions dataOptions;
  @Mixin private StepOptions stepOptions;
  @Mixin private TrainOptions runOptions;
  @Mixin private DeviceOptions deviceOptions;

  @Option(
      names = "--out",
      paramLabel = "DIR",
      description = "Run folder. Default: a new one under runs/, or with --resume the newest.")
  private Path out;

  @Option(
      names = "--resume",
      description = {
        "Go on with the run from its newest checkpoint. Of the options above, those that decide how"
            + " it goes on may change it, such as --steps, --lr, --schedule, --clip, --eval-every,"
            + " --memory or --device; those that decide what it is are kept."
      })
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

  @Spec private CommandSpec spec;

  @Override
  public Integer call() {
    return resume ? resume() : begin();
  }

  private int begin() {
    RunFolder folder = out == null ? null : new RunFolder(out);
    if (folder != null) {
      folder.requireNone();
    }
    partOptions.corrections();
    weights.open(dataOptions, stepOptions, spec.commandLine().getErr()::println);
    RunData source = dataOptions.runData(weights.tokenizer());
    TrainConfig.Builder asked = TrainConfig.builder();
    deviceOptions.change(asked);
    ConsoleProgress progress = new ConsoleProgress();
    try (Dataset data = source.open(weights.tokenizer(), cache(), progress::preparing);
        Backend backend = deviceOptions.open(asked.build())) {
      progress.prepared();
      // What preparing a text left on the heap goes back to the system before tensors are made.
      System.gc();
      GptConfig model = weights.model(stepOptions, data.tokenizer());
      TrainConfig.Builder builder =
          runOptions.config(weights.config(stepOptions, model)).toBuilder().prompt(prompt);
      partOptions.change(builder, weights.from != null);
      deviceOptions.change(builder);
      boolean needsTree = !Team.current().isAlone() || stepOptions.gradientSum != null;
      if (!needsTree && (memory != null || !backend.name().equals("cpu"))) {
        builder.gradientSum(TrainConfig.GradientSumOrder.PLAIN);
      }
      TrainConfig config = builder.build();
      MemoryPlan.Fit fit = fitted(config, model, backend);
      Map<String, Object> stamped = source.toMap();
      DataStamp.of(data).addTo(stamped);
      RunFolder.Description description =
          new RunFolder.Description(model, fit.config(), stamped, weights.origin());
      Prompt begins = Prompt.of(description, data);
      RunFolder place = folder == null ? RunFolder.claim(RUNS, LocalDateTime.now(ZONE)) : folder;
      List<TrainListener> listeners = new ArrayList<>(List.of(progress));
      try (TrainingRun run =
          TrainingRun.begin(place, description, data, backend, listeners, weights.initial())) {
        introduce(run, data, backend, fit.slowdown(), begins);
        train(run, progress, listeners, begins);
      }
      return 0;
    }
  }

  private int resume() {
    RunFolder folder = new RunFolder(out != null ? out : newestRun());
    RunFolder.Description known = folder.describe();
    Tokenizer tokenizer = folder.tokenizer();
    Resumption resumption =
        new Resumption(known, dataOptions, stepOptions, partOptions, runOptions, deviceOptions);
    resumption.requireKept(spec.commandLine().getParseResult());
    TrainConfig asked = resumption.changed(prompt);
    ConsoleProgress progress = new ConsoleProgress();
    try (Dataset data = resumption.open(tokenizer, cache(), progress::preparing);
        Backend backend = deviceOptions.open(asked)) {
      progress.prepared();
      System.gc();
      Map<String, Object> source = resumption.sameData(data);
      MemoryPlan.Fit fit = refitted(asked, known.model(), backend);
      RunFolder.Description description =
          new RunFolder.Description(known.model(), fit.config(), source, known.from());
      Prompt begins = Prompt.of(description, data);
      List<TrainListener> listeners = new ArrayList<>(List.of(progress));
      try (TrainingRun run =
          TrainingRun.resume(
              folder, description, data, backend, listeners, WeightsOptions.again(known.from()))) {
        long step = run.trainer().steps();
        resumption.requireAhead(step);
        if (run.trainer().finished()) {
          sayFinished(run);
          return 0;
        }
        if (!description.equals(known)) {
          folder.store(description, tokenizer);
        }
        introduce(run, data, backend, fit.slowdown(), begins);
        PrintWriter console = spec.commandLine().getOut();
        console.printf(Locale.ROOT, "Resumed     at step %,d%n", step);
        for (String line : resumption.told(fit.config(), step)) {
          console.println(line);
        }
        console.flush();
        train(run, progress, listeners, begins);
      }
      return 0;
    }
  }

  private void sayFinished(TrainingRun run) {
    long steps = run.trainer().steps();
    PrintWriter console = spec.commandLine().getOut();
    console.printf(
        Locale.ROOT,
        "The run %s is finished, with all of its %,d steps, and is left as it is.%n"
            + "Go on        lanewise train --resume --out %s --steps %d%n"
            + "Try          lanewise generate --from %s --prompt \"...\"%n",
        run.folder().path(),
        steps,
        run.folder().path(),
        2 * steps,
        run.folder().path());
    console.flush();
  }

  /** A new run in a form that stays under --memory. */
  private MemoryPlan.Fit fitted(TrainConfig config, GptConfig model, Backend backend) {
    if (memory == null) {
      return new MemoryPlan.Fit(config, MemoryPlan.of(config, model, backend), 0);
    }
    MemoryPlan.Fit fit = MemoryPlan.fit(config, model, backend, bytes(memory.strip()));
    int passes = config.memoryPasses() * (fit.config().accumulate() / config.accumulate());
    TrainConfig cut = fit.config().toBuilder().memoryPasses(passes).build();
    return new MemoryPlan.Fit(cut, fit.plan(), fit.slowdown());
  }

  /** A run that goes on with the same bits if it can under --memory, else as a new one. */
  private MemoryPlan.Fit refitted(TrainConfig config, GptConfig model, Backend backend) {
    return memory == null
        ? fitted(config, model, backend)
        : MemoryPlan.fitBlocks(config, model, backend, bytes(memory.strip()))
            .orElseGet(() -> fitted(config, model, backend));
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

  /** Says what is about to be trained. */
  private void introduce(
      TrainingRun run, Dataset data, Backend backend, double slowdown, Prompt begins) {
    PrintWriter console = spec.commandLine().getOut();
    RunFolder.Description description = run.description();
    TrainConfig config = description.training();
    Path events = run.folder().eventsFolder();
    boolean writesEvents = tensorboard || Files.isDirectory(events);
    if (writesEvents) {
      run.writeEvents();
    }
    console.printf(Locale.ROOT, "Device      %s%n", backend.description());
    Team team = Team.current();
    if (!team.isAlone()) {
      console.printf(
          Locale.ROOT,
          "Processes   %d by %s, %d %s each, %d of %d passes a step%n",
          team.size(),
          team.communicator().description(),
          Workers.threads(),
          Workers.threads() == 1 ? "thread" : "threads",
          config.accumulate() / team.size(),
          config.accumulate());
    }
    if (backend.name().equals("cpu")
        && config.precision().equals(Precision.AUTO)
        && Machine.bfloat16Operations(1) > 0) {
      console.println("            --precision bf16 trains faster on this processor");
    }
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
    if (description.from().get("name") instanceof String name) {
      console.printf(Locale.ROOT, "Weights     %s%n", name);
    }
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
        run.folder().path(),
        config.steps(),
        config.tokensPerStep(),
        config.accumulate() == 1
            ? ""
            : String.format(
                Locale.ROOT, " in %d passes of %d sequences", config.accumulate(), config.batch()));
    if (writesEvents) {
      console.printf(Locale.ROOT, "TensorBoard tensorboard --logdir %s%n", events);
    }
    if (begins.replaced()) {
      console.printf(
          Locale.ROOT,
          "Samples     begin with \"%s\", since the text has no line break%n",
          begins.text());
    }
    console.flush();
  }

  private void train(
      TrainingRun run, ConsoleProgress progress, List<TrainListener> listeners, Prompt begins) {
    PrintWriter console = spec.commandLine().getOut();
    progress.begin(run.description().training().steps(), run.trainer().steps());
    listeners.add(new Sampler(run, progress, begins.text()));
    try (Interrupts interrupts = new Interrupts(run.trainer()::stop)) {
      try {
        run.trainer().run();
      } finally {
        progress.end();
        run.look(REPORT, () -> RunReports.write(run));
      }
      if (!interrupts.happened()) {
        conclude(console, run, begins.text());
      } else {
        console.printf(
            Locale.ROOT,
            "Stopped at step %,d; go on with: lanewise train --resume --out %s%n",
            run.trainer().steps(),
            run.folder().path());
        console.flush();
      }
    }
  }

  private static void conclude(PrintWriter console, TrainingRun run, String prompt) {
    if (run.trainer().skipped() > 0) {
      console.printf(
          Locale.ROOT,
          "Skipped     %,d steps whose loss or gradient was not finite%n",
          run.trainer().skipped());
    }
    if (run.trainer().outOfPatience()) {
      TrainConfig config = run.description().training();
      console.printf(
          Locale.ROOT,
          "Ended       at step %,d of %,d: no smaller loss in %,d validations than %.4f%s; to go"
              + " on: lanewise train --resume --out %s --patience 0%n",
          run.trainer().steps(),
          config.steps(),
          config.patience(),
          run.trainer().bestValidation(),
          config.keepBest() ? ", whose checkpoint is kept as checkpoints/best-…" : "",
          run.folder().path());
    }
    run.sample(prompt, SAMPLE_TOKENS)
        .ifPresent(text -> console.printf(Locale.ROOT, "Sample%n%s%n", indent(text)));
    run.look(REPORT, () -> RunReports.write(run));
    run.look(REPORT, () -> console.printf(Locale.ROOT, "Time        %s%n", RunReports.times(run)));
    double exchange = run.trainer().exchangeSeconds();
    if (!Team.current().isAlone()) {
      console.printf(
          Locale.ROOT,
          "Exchange    %.1f s of it with other processes, waiting for them too%n",
          exchange);
    }
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
