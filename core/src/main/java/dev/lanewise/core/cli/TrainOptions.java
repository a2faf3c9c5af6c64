package dev.lanewise.core.cli;

import dev.lanewise.core.base.Failures;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.Json;
import dev.lanewise.core.base.JsonFields;
import dev.lanewise.core.base.UsageException;
import dev.lanewise.core.data.TokenFiles;
import dev.lanewise.core.model.GptConfig;
import dev.lanewise.core.model.GptPresets;
import dev.lanewise.core.train.DefaultJob;
import dev.lanewise.core.train.LrSchedule;
import dev.lanewise.core.train.RunData;
import dev.lanewise.core.train.TrainConfig;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/** Options that decide model, data and run; those not given have the default job's values. */
final class TrainOptions {
  @Option(
      names = "--data",
      arity = "1..*",
      paramLabel = "PATH",
      description = {
        "Text files, folders or zip archives, or one token file or folder of token files.",
        "Default: the sources of the JDK."
      })
  List<Path> data;

  @Option(
      names = "--include",
      paramLabel = "GLOB",
      description =
          "Which files of folders and archives to use, such as *.md. May be given several times.")
  List<String> include = List.of();

  @Option(
      names = "--exclude",
      paramLabel = "GLOB",
      description = "Which of these files to leave out. May be given several times.")
  List<String> exclude = List.of();

  @Option(
      names = "--tokenizer",
      paramLabel = "KIND",
      description =
          "bytes, chars, gpt2, or bpe:N, which learns N tokens from the text; or a tokenizer.json,"
              + " a folder with one or with vocab.json and merges.txt, or a .gguf file. Default:"
              + " bpe:1024, or gpt2 for token files.")
  String tokenizer;

  @Option(
      names = "--validation",
      paramLabel = "SHARE",
      description = "Share of the tokens to validate on. Default: ${DEFAULT-VALUE}.")
  double validation = 0.1;

  @Option(
      names = "--model",
      paramLabel = "NAME|FILE",
      description = "nano, small, gpt2, gpt2-medium, gpt2-large, gpt2-xl, or a JSON file.")
  String model;

  @Option(names = "--dropout", paramLabel = "P", description = "Dropout in training. Default: 0.")
  Double dropout;

  @Option(names = "--steps", paramLabel = "N", description = "Updates of the parameters.")
  Long steps;

  @Option(names = "--batch", paramLabel = "N", description = "Sequences of a forward pass.")
  Integer batch;

  @Option(
      names = "--context",
      paramLabel = "N",
      description = "Tokens of a sequence. Default: all that the model can look at.")
  Integer context;

  @Option(
      names = "--accumulate",
      paramLabel = "N",
      description = "Forward passes for one update. Default: 1.")
  Integer accumulate;

  @Option(names = "--lr", paramLabel = "RATE", description = "Peak learning rate.")
  Double learningRate;

  @Option(
      names = "--min-lr",
      paramLabel = "RATE",
      description = "Learning rate at the end. Default: a tenth of the peak.")
  Double minLearningRate;

  @Option(
      names = "--warmup",
      paramLabel = "N",
      description = "Steps until the peak. Default: a twentieth of all, at most 700.")
  Long warmup;

  @Option(
      names = "--schedule",
      paramLabel = "KIND",
      description = "cosine, linear, constant or decay. Default: cosine.")
  String schedule;

  @Option(
      names = "--weight-decay",
      paramLabel = "X",
      description = "Decay of weight matrices. Default: 0.1.")
  Double weightDecay;

  @Option(
      names = "--beta2",
      paramLabel = "X",
      description = "AdamW's second decay rate. Default: 0.95, or 0.99 for small batches.")
  Double beta2;

  @Option(
      names = "--clip",
      paramLabel = "NORM",
      description = "Largest gradient norm, 0 for any. Default: 1.")
  Double clip;

  @Option(
      names = "--seed",
      paramLabel = "N",
      description = "Seed of everything random. Default: ${DEFAULT-VALUE}.")
  long seed = 1337;

  @Option(
      names = "--eval-every",
      paramLabel = "N",
      description = "Steps between validations and samples. Default: a tenth of all.")
  Long evalEvery;

  @Option(
      names = "--eval-batches",
      paramLabel = "N",
      description = "Batches of a validation on the way. Default: ${DEFAULT-VALUE}.")
  int evalBatches = 20;

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

  @Option(
      names = "--keep",
      paramLabel = "N",
      description = "Checkpoints to keep. Default: ${DEFAULT-VALUE}.")
  int keep = 2;

  @Option(
      names = "--epochs",
      description = "Visit the text in shuffled epochs, instead of windows at random.")
  boolean epochs;

  @Option(
      names = "--overfit",
      description = "Use the first batch in every step: a check that the model can learn.")
  boolean overfit;

  @Mixin DeviceOptions device = new DeviceOptions();

  /** Where the tokens come from. */
  RunData runData() {
    if (data == null && include.isEmpty() && exclude.isEmpty() && tokenizer == null) {
      return DefaultJob.data(validation);
    }
    if (data == null) {
      RunData job = DefaultJob.data(validation);
      return new RunData(
          job.paths(),
          include.isEmpty() ? job.include() : include,
          exclude,
          tokenizer == null ? job.tokenizer() : tokenizer,
          validation,
          job.shuffle(),
          job.dropComments(),
          job.limit());
    }
    boolean tokenFiles = data.size() == 1 && !TokenFiles.of(data.getFirst()).isEmpty();
    String kind =
        tokenizer != null
            ? tokenizer
            : tokenFiles ? RunData.tokenizerFor(data.getFirst()) : "bpe:1024";
    return new RunData(data, include, exclude, kind, validation, false, false, 0);
  }

  /** The model, over the vocabulary of the data. */
  GptConfig model(int vocabSize) {
    GptConfig config;
    if (model == null) {
      config = DefaultJob.MODEL;
    } else if (model.endsWith(".json")) {
      try {
        config =
            GptPresets.fromFields(
                new JsonFields(Json.parseObject(Files.readString(Path.of(model)), model), model));
      } catch (IOException e) {
        throw new InputException(
            String.format(
                Locale.ROOT, "The model %s cannot be read (%s).", model, Failures.describe(e)),
            e);
      }
    } else {
      config = GptPresets.of(model);
    }
    if (context != null && context > config.contextLength()) {
      config = config.withContextLength(context);
    }
    if (dropout != null) {
      if (!(dropout >= 0 && dropout < 1)) {
        throw new UsageException("--dropout must lie in [0, 1), not " + dropout + ".");
      }
      config = config.withDropout(dropout);
    }
    return config.withVocabSize(vocabSize);
  }

  /** The run, for a model. */
  TrainConfig config(GptConfig config) {
    TrainConfig base = DefaultJob.training(config);
    long count = steps == null ? base.steps() : steps;
    double peak = learningRate == null ? base.learningRate() : learningRate;
    long every = evalEvery == null ? Math.max(1, count / 10) : evalEvery;
    int tokens = context == null ? config.contextLength() : context;
    return base.toBuilder()
        .steps(count)
        .batch(batch == null ? base.batch() : batch)
        .context(tokens)
        .accumulate(accumulate == null ? 1 : accumulate)
        .schedule(schedule == null ? LrSchedule.Kind.COSINE : LrSchedule.Kind.of(schedule))
        .learningRate(peak)
        .minLearningRate(minLearningRate == null ? peak / 10 : minLearningRate)
        .warmup(warmup == null ? Math.min(700, count / 20) : warmup)
        .weightDecay(weightDecay == null ? base.weightDecay() : weightDecay)
        .beta2(beta2 == null ? base.beta2() : beta2)
        .clip(clip == null ? base.clip() : clip)
        .seed(seed)
        .evalEvery(every)
        .evalBatches(evalBatches)
        .checkpointEvery(checkpointEvery == null ? every : checkpointEvery)
        .keepCheckpoints(keep)
        .epochs(epochs)
        .overfit(overfit)
        .evalAll(evalAll)
        .build();
  }
}
