package dev.lanewise.core.cli;

import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.JsonFields;
import dev.lanewise.core.data.Dataset;
import dev.lanewise.core.data.Tokenizer;
import dev.lanewise.core.model.GptConfig;
import dev.lanewise.core.model.LoraConfig;
import dev.lanewise.core.train.DataStamp;
import dev.lanewise.core.train.LrSchedule;
import dev.lanewise.core.train.RunData;
import dev.lanewise.core.train.RunFolder;
import dev.lanewise.core.train.TrainConfig;
import java.math.BigDecimal;
import java.math.MathContext;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import picocli.CommandLine.Model.OptionSpec;
import picocli.CommandLine.ParseResult;

/**
 * What the command line of a run that is taken up says. How a run goes on may change: its length,
 * rate, schedule, intervals, clipping, prompt, memory and device. What it is may not: model, data,
 * batches and seed decide which run it is, and are refused by name unless they are what they were.
 */
final class Resumption {
  /** Options that may change a run that is taken up, or say which it is. */
  static final Set<String> CHANGING =
      Set.of(
          "--steps",
          "--lr",
          "--min-lr",
          "--warmup",
          "--schedule",
          "--weight-decay",
          "--beta2",
          "--clip",
          "--eval-every",
          "--eval-batches",
          "--eval-all",
          "--checkpoint-every",
          "--keep",
          "--keep-best",
          "--patience",
          "--prompt",
          "--memory",
          "--tensorboard",
          "--device",
          "--precision",
          "--threads",
          "--resume",
          "--out",
          "--debug",
          "--help",
          "--version");

  /** Options that decide which run it is. */
  static final Set<String> KEPT =
      Set.of(
          "--from",
          "--data",
          "--include",
          "--exclude",
          "--tokenizer",
          "--validation",
          "--model",
          "--dropout",
          "--batch",
          "--context",
          "--accumulate",
          "--gradient-sum",
          "--seed",
          "--lora",
          "--lora-alpha",
          "--lora-dropout",
          "--lora-targets",
          "--freeze",
          "--epochs",
          "--overfit",
          "--isolate-documents");

  /** Names of a configuration's values that options of other names set. */
  private static final Map<String, String> NAMES =
      Map.ofEntries(
          Map.entry("learningRate", "lr"),
          Map.entry("minLearningRate", "min-lr"),
          Map.entry("weightDecay", "weight-decay"),
          Map.entry("evalEvery", "eval-every"),
          Map.entry("evalBatches", "eval-batches"),
          Map.entry("evalAll", "eval-all"),
          Map.entry("checkpointEvery", "checkpoint-every"),
          Map.entry("keepCheckpoints", "keep"),
          Map.entry("keepBest", "keep-best"),
          Map.entry("recomputedBlocks", "blocks computed again"),
          Map.entry("headRows", "tokens whose logits are held"),
          Map.entry("accumulate", "passes"),
          Map.entry("batch", "sequences of a pass"));

  private final RunFolder.Description known;
  private final RunData source;
  private final DataOptions data;
  private final StepOptions step;
  private final PartOptions part;
  private final TrainOptions run;
  private final DeviceOptions device;

  Resumption(
      RunFolder.Description known,
      DataOptions data,
      StepOptions step,
      PartOptions part,
      TrainOptions run,
      DeviceOptions device) {
    this.known = known;
    this.source = known.source();
    this.data = data;
    this.step = step;
    this.part = part;
    this.run = run;
    this.device = device;
  }

  /**
   * Refuses options that would make it another run.
   *
   * @param given the command line
   * @throws InputException that names them
   */
  void requireKept(ParseResult given) {
    List<String> refused = new ArrayList<>();
    TrainConfig config = known.training();
    Path from = given.matchedOptionValue("--from", null);
    keep(
        refused,
        "--from",
        from == null ? null : from.toAbsolutePath().normalize().toString(),
        known.from().getOrDefault("path", "random weights"));
    keep(refused, "--include", data.include.isEmpty() ? null : data.include, source.include());
    keep(refused, "--exclude", data.exclude.isEmpty() ? null : data.exclude, source.exclude());
    keep(refused, "--tokenizer", data.tokenizer, source.tokenizer());
    keep(refused, "--validation", data.validation, source.validation());
    keepModel(refused);
    keep(refused, "--dropout", step.dropout, known.model().dropout());
    keep(refused, "--context", step.context, config.context());
    keep(refused, "--batch", step.batch, config.batch() * config.memoryPasses());
    keep(refused, "--accumulate", step.accumulate, config.accumulate() / config.memoryPasses());
    keep(refused, "--gradient-sum", step.gradientSum, config.gradientSum().toString());
    keep(refused, "--seed", step.seed, config.seed());
    keepPart(refused);
    keep(refused, "--epochs", run.epochs ? true : null, config.epochs());
    keep(refused, "--overfit", run.overfit ? true : null, config.overfit());
    keep(
        refused,
        "--isolate-documents",
        run.isolateDocuments ? true : null,
        config.isolateDocuments());
    for (OptionSpec option : given.matchedOptions()) {
      if (!CHANGING.contains(option.longestName()) && !KEPT.contains(option.longestName())) {
        refused.add(option.longestName());
      }
    }
    if (!refused.isEmpty()) {
      throw new InputException(
          String.format(
              Locale.ROOT,
              "A run that is resumed stays what it is and cannot have another %s; leave %s out to"
                  + " go on with it, or begin a new run.",
              String.join(", ", refused),
              refused.size() == 1 ? "that" : "these"));
    }
  }

  private static void keep(List<String> refused, String option, Object given, Object before) {
    if (given != null && !given.equals(before)) {
      refused.add(
          before instanceof Boolean
              ? option
              : String.format(Locale.ROOT, "%s (%s, not %s)", option, before, given));
    }
  }

  private void keepPart(List<String> refused) {
    TrainConfig config = known.training();
    LoraConfig before = config.lora();
    keep(refused, "--freeze", part.freeze.isEmpty() ? null : part.freeze, config.freeze());
    if (before == null) {
      if (part.lora != null) {
        refused.add("--lora");
      }
      return;
    }
    keep(refused, "--lora", part.lora, before.rank());
    keep(refused, "--lora-alpha", part.loraAlpha, before.alpha());
    keep(refused, "--lora-dropout", part.loraDropout, before.dropout());
    keep(
        refused,
        "--lora-targets",
        part.loraTargets.isEmpty() ? null : Set.copyOf(part.loraTargets),
        before.targets());
  }

  private void keepModel(List<String> refused) {
    if (step.model == null) {
      return;
    }
    GptConfig before = known.model();
    GptConfig given = step.model(before.vocabSize(), known.training().context());
    if (step.dropout == null && given.dropout() == 0 || step.dropout != null) {
      given = given.withDropout(before.dropout());
    }
    if (!given.equals(before)) {
      refused.add("--model");
    }
  }

  /** The run as it goes on. */
  TrainConfig changed(String prompt) {
    TrainConfig.Builder builder = known.training().toBuilder();
    step.change(builder);
    run.change(builder, known.training());
    device.change(builder);
    if (prompt != null) {
      builder.prompt(prompt);
    }
    TrainConfig config = builder.build();
    if (!config.lrSchedule().equals(known.training().lrSchedule()) || run.minLearningRate != null) {
      run.check(config);
    }
    return config;
  }

  /** Opens the run's data, where they lie now. */
  Dataset open(Tokenizer tokenizer, Path cache, Dataset.Progress progress) {
    try {
      return place().open(tokenizer, cache, progress);
    } catch (InputException e) {
      throw new InputException(
          String.format(
              Locale.ROOT,
              "The run's data cannot be read again as they were: %s Restore them, or name their"
                  + " new place with --data.",
              e.getMessage()),
          e);
    }
  }

  private RunData place() {
    if (data.data == null) {
      return source;
    }
    return source.at(data.data);
  }

  /**
   * Requires that the data are those that the run began with.
   *
   * @return what describes them, where they lie now
   * @throws InputException if they are not
   */
  Map<String, Object> sameData(Dataset now) {
    DataStamp stamp = DataStamp.of(now);
    Optional<DataStamp> before =
        DataStamp.find(new JsonFields(known.data(), "The run's config.json, data"));
    if (before.isPresent() ? !before.get().equals(stamp) : moved()) {
      throw new InputException(
          String.format(
              Locale.ROOT,
              "A run that is resumed cannot have other --data, and %s are not what it began with:"
                  + " %s; restore them to go on with it, or begin a new run.",
              place().pathNames(),
              before.isPresent()
                  ? before.get().difference(stamp)
                  : "it was begun by an older version, which only noted " + source.pathNames()));
    }
    Map<String, Object> map = new LinkedHashMap<>(known.data());
    if (moved()) {
      map.put("paths", place().toMap().get("paths"));
    }
    stamp.addTo(map);
    return map;
  }

  private boolean moved() {
    return !place().toMap().get("paths").equals(known.data().get("paths"));
  }

  /**
   * Requires that the run has not gone further than it is to go.
   *
   * @param at steps so far
   */
  void requireAhead(long at) {
    if (run.steps != null && run.steps < at) {
      throw new InputException(
          String.format(
              Locale.ROOT,
              "The run is at step %,d already, and --steps counts from its start; give more than"
                  + " %d, or leave it out.",
              at,
              at));
    }
  }

  /**
   * Lines about what has changed.
   *
   * @param config the run as it goes on
   * @param at steps so far
   */
  List<String> told(TrainConfig config, long at) {
    List<String> lines = new ArrayList<>();
    TrainConfig before = known.training();
    Map<String, Object> now = config.toMap();
    Map<String, Object> then = before.toMap();
    List<String> changes = new ArrayList<>();
    now.forEach(
        (name, value) -> {
          if (!value.equals(then.get(name)) && !name.equals("memoryPasses")) {
            changes.add(change(NAMES.getOrDefault(name, name), then.get(name), value));
          }
        });
    if (moved()) {
      changes.add("the place of the data, which are the same");
    }
    if (!changes.isEmpty()) {
      lines.add("Changed     " + String.join(", ", changes));
    }
    if (config.batch() != before.batch() || config.headRows() != before.headRows()) {
      lines.add(
          "            sums are made in another order from here on: last digits differ from a run"
              + " without this --memory");
    }
    LrSchedule schedule = config.lrSchedule();
    if (at > 0 && at < config.steps() && !schedule.equals(before.lrSchedule())) {
      lines.add(rate(before.lrSchedule().at(at - 1), schedule, at));
    }
    return lines;
  }

  private static String change(String name, Object before, Object now) {
    return before == null
        ? String.format(Locale.ROOT, "%s %s", name, quoted(now))
        : String.format(Locale.ROOT, "%s %s to %s", name, quoted(before), quoted(now));
  }

  private static String quoted(Object value) {
    return switch (value) {
      case Double number -> plain(BigDecimal.valueOf(number));
      case String text when text.chars().anyMatch(c -> c <= ' ') ->
          "\"" + text.replace("\n", "\\n") + "\"";
      default -> value.toString();
    };
  }

  private static String plain(BigDecimal number) {
    return number.stripTrailingZeros().toPlainString();
  }

  /** A rate as one would give it to --lr, to three digits. */
  private static String rate(double value) {
    return plain(new BigDecimal(value).round(new MathContext(3)));
  }

  /** How the rate goes on, where it does not go on as it was to. */
  private static String rate(double last, LrSchedule schedule, long at) {
    double next = schedule.at(at);
    String line =
        String.format(
            Locale.ROOT,
            "Rate        %s in step %,d, %s in step %,d, %s in step %,d (%s over all steps)",
            rate(last),
            at,
            rate(next),
            at + 1,
            rate(schedule.at(schedule.steps() - 1)),
            schedule.steps(),
            schedule.kind());
    return next > 1.05 * last
            && schedule.kind() != LrSchedule.Kind.CONSTANT
            && at >= schedule.warmup()
        ? line
            + String.format(
                Locale.ROOT, "; --schedule constant --lr %s would stay where it was", rate(last))
        : line;
  }
}
