package dev.lanewise.core.cli;

import dev.lanewise.core.base.UsageException;
import dev.lanewise.core.data.Tokenizer;
import dev.lanewise.core.exchange.Pretrained;
import dev.lanewise.core.model.Gpt;
import dev.lanewise.core.model.GptConfig;
import dev.lanewise.core.train.TrainConfig;
import java.nio.file.Path;
import java.util.Locale;
import java.util.Map;
import java.util.function.Consumer;
import picocli.CommandLine.Option;

/** What weights training begins with: random ones, or those of a model that was trained before. */
final class WeightsOptions {
  /** Fine-tuning takes smaller steps: what a model knows is not to be overwritten. */
  private static final double SHARE_OF_RATE = 0.1;

  @Option(
      names = "--from",
      paramLabel = "MODEL",
      description = {
        "Weights to go on with, which bring sizes and tokenizer: " + TrainedModel.FROM,
        "Default: random ones."
      })
  Path from;

  private Pretrained model;

  /**
   * Opens the model, if one was named.
   *
   * @param warnings hears of damaged checkpoints
   * @throws UsageException if other options say what the model brings
   */
  void open(DataOptions data, StepOptions step, Consumer<String> warnings) {
    if (from == null) {
      return;
    }
    if (step.model != null) {
      throw new UsageException("--from brings a model of its own; leave --model out.");
    }
    if (data.tokenizer != null) {
      throw new UsageException("--from brings the model's tokenizer; leave --tokenizer out.");
    }
    model = Pretrained.open(from, warnings);
    int most = model.config().contextLength();
    if (step.context != null && step.context > most) {
      throw new UsageException(
          String.format(
              Locale.ROOT,
              "--context must be from 1 to %d, which is as far as %s looks back, not %d.",
              most,
              from,
              step.context));
    }
  }

  /** The tokenizer that comes with the weights; null for random ones. */
  Tokenizer tokenizer() {
    return model == null ? null : model.tokenizer();
  }

  /** The model that is trained. */
  GptConfig model(StepOptions step, Tokenizer tokenizer) {
    return model == null ? step.model(tokenizer.vocabSize()) : step.withDropout(model.config());
  }

  /** The run's steps, with what suits weights that were trained before. */
  TrainConfig config(StepOptions step, GptConfig config) {
    TrainConfig run = step.config(config);
    if (model == null) {
      return run;
    }
    double peak = run.learningRate() * SHARE_OF_RATE;
    return run.toBuilder()
        .pretrained(true)
        .context(step.context == null ? model.context() : step.context)
        .learningRate(peak)
        .minLearningRate(peak / 10)
        .build();
  }

  /** Puts the weights into a model; null for random ones. */
  Consumer<Gpt> initial() {
    return model == null ? null : model::copyTo;
  }

  /** Where the weights come from, for config.json; empty for random ones. */
  Map<String, Object> origin() {
    return model == null ? Map.of() : model.origin();
  }

  /**
   * Puts the weights into a model that a run began with.
   *
   * @param origin what {@link #origin} was when it began
   * @return null for random ones
   */
  static Consumer<Gpt> again(Map<String, Object> origin) {
    if (origin.isEmpty()) {
      return null;
    }
    return gpt -> Pretrained.again(origin).copyTo(gpt);
  }
}
