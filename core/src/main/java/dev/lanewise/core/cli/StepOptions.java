package dev.lanewise.core.cli;

import dev.lanewise.core.base.Failures;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.Json;
import dev.lanewise.core.base.JsonFields;
import dev.lanewise.core.base.UsageException;
import dev.lanewise.core.model.GptConfig;
import dev.lanewise.core.model.GptPresets;
import dev.lanewise.core.train.DefaultJob;
import dev.lanewise.core.train.TrainConfig;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.Locale;
import picocli.CommandLine.Option;

/** Options that decide a single step: the model, its batches and its optimiser. */
final class StepOptions {
  @Option(
      names = "--model",
      paramLabel = "NAME|FILE",
      description = {
        "nano (4 layers of 128 channels, context 64), small (6 of 384, 256), gpt2 (12 of 768,"
            + " 1024), gpt2-medium (24 of 1024, 1024), gpt2-large (36 of 1280, 1024), gpt2-xl (48"
            + " of 1600, 1024), or a JSON file.",
        "Default: 4 layers of 256 channels, context 128."
      })
  String model;

  @Option(names = "--dropout", paramLabel = "P", description = "Dropout in training. Default: 0.")
  Double dropout;

  @Option(
      names = "--batch",
      paramLabel = "N",
      description =
          "Sequences of a forward pass. Default: 12, or 4 for models of more than 512 channels.")
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

  @Option(
      names = "--gradient-sum",
      paramLabel = "KIND",
      description = {
        "In which order gradients of passes are summed: tree, which gives the same bits for any"
            + " number of processes, or plain, one after the other, in the least memory.",
        "Default: tree, or plain with --memory and on a GPU."
      })
  String gradientSum;

  @Option(
      names = "--weight-decay",
      paramLabel = "X",
      description = "Decay of weight matrices. Default: 0.1.")
  Double weightDecay;

  @Option(
      names = "--beta2",
      paramLabel = "X",
      description =
          "AdamW's second decay rate. Default: 0.99, or 0.95 for models of more than 512"
              + " channels.")
  Double beta2;

  @Option(
      names = "--clip",
      paramLabel = "NORM",
      description = "Largest gradient norm, 0 for any. Default: 1.")
  Double clip;

  @Option(
      names = "--seed",
      paramLabel = "N",
      description = "Seed of everything random. Default: 1337.")
  Long seed;

  /**
   * The model.
   *
   * @param vocabSize the vocabulary of the data
   */
  GptConfig model(int vocabSize) {
    return model(vocabSize, context);
  }

  /**
   * The model.
   *
   * @param vocabSize the vocabulary of the data
   * @param wanted tokens that it must be able to look at; null for its own
   */
  GptConfig model(int vocabSize, Integer wanted) {
    GptConfig config = shape();
    if (wanted != null && wanted > config.contextLength()) {
      config = config.withContextLength(wanted);
    }
    return withDropout(config).withVocabSize(vocabSize);
  }

  /** A model with the dropout that these options say. */
  GptConfig withDropout(GptConfig config) {
    if (dropout != null) {
      if (!(dropout >= 0 && dropout < 1)) {
        throw new UsageException("--dropout must lie in [0, 1), not " + dropout + ".");
      }
      return config.withDropout(dropout);
    }
    return config;
  }

  private GptConfig shape() {
    if (model == null) {
      return DefaultJob.MODEL;
    }
    if (!model.endsWith(".json")) {
      return GptPresets.of(model);
    }
    try {
      String text = Files.readString(Path.of(model));
      return GptPresets.fromFields(new JsonFields(Json.parseObject(text, model), model));
    } catch (IOException e) {
      throw new InputException(
          String.format(
              Locale.ROOT, "The model %s cannot be read (%s).", model, Failures.describe(e)),
          e);
    } catch (InvalidPathException e) {
      throw new UsageException("--model names no file: " + e.getMessage() + ".");
    }
  }

  /** A run whose steps are as these options say, and whose rest suits the model. */
  TrainConfig config(GptConfig config) {
    TrainConfig base = DefaultJob.training(config);
    TrainConfig.Builder run =
        base.toBuilder()
            .batch(batch == null ? base.batch() : batch)
            .context(context == null ? config.contextLength() : context)
            .accumulate(accumulate == null ? 1 : accumulate)
            .gradientSum(gradientSum())
            .seed(seed == null ? base.seed() : seed);
    change(run);
    return run.build();
  }

  private TrainConfig.GradientSumOrder gradientSum() {
    if (gradientSum != null) {
      return TrainConfig.GradientSumOrder.of(gradientSum);
    }
    return accumulate == null || accumulate == 1
        ? TrainConfig.GradientSumOrder.PLAIN
        : TrainConfig.GradientSumOrder.TREE;
  }

  /** What a run may change between two steps. */
  void change(TrainConfig.Builder run) {
    if (weightDecay != null) {
      run.weightDecay(weightDecay);
    }
    if (beta2 != null) {
      run.beta2(beta2);
    }
    if (clip != null) {
      run.clip(clip);
    }
  }
}
