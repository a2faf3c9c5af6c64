package dev.lanewise.core.train;

import dev.lanewise.core.backend.CpuBackend;
import dev.lanewise.core.backend.Precision;
import dev.lanewise.core.data.Dataset;
import dev.lanewise.core.model.GptConfig;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;

/** Runs of a model so small that a whole one takes some milliseconds, over a text of their own. */
final class TinyRuns {
  static final String PROMPT = "the ";
  static final int SAMPLE = 20;

  private final Path text;
  private final Path cache;

  /** What a run said. */
  static final class Heard implements TrainListener {
    final List<Double> losses = new ArrayList<>();
    final List<String> warnings = new ArrayList<>();
    final List<Long> checkpoints = new ArrayList<>();
    double validation = Double.NaN;

    @Override
    public void step(
        long step, double loss, double rate, double norm, double speed, double s, boolean skip) {
      losses.add(loss);
    }

    @Override
    public void validation(Validation last) {
      validation = last.loss();
    }

    @Override
    public void checkpoint(long step, Path path) {
      checkpoints.add(step);
    }

    @Override
    public void warning(String sentence) {
      warnings.add(sentence);
    }
  }

  /**
   * Writes the text.
   *
   * @param folder where text and tokens lie
   */
  TinyRuns(Path folder) {
    text = folder.resolve("text.txt");
    cache = folder.resolve("cache");
    StringBuilder words = new StringBuilder();
    for (int i = 0; i < 600; i++) {
      words.append("the ").append(i * 7919 % 1000).append(" of spades\n");
    }
    try {
      Files.writeString(text, words);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  RunData source() {
    return RunData.of(List.of(text), "chars", 0.2);
  }

  Dataset data() {
    return source().open(null, cache, Dataset.Progress.NONE);
  }

  /** Two layers of 32 channels over the text's characters. */
  GptConfig model(double dropout) {
    try (Dataset data = data()) {
      return GptConfig.gpt2(data.tokenizer().vocabSize(), 16, 2, 2, 32).withDropout(dropout);
    }
  }

  /** Validates every 2 steps and saves every 4, or as often as wanted. */
  static TrainConfig config(long steps, long evalEvery, long checkpointEvery, boolean epochs) {
    return TrainConfig.builder()
        .steps(steps)
        .batch(3)
        .context(16)
        .accumulate(2)
        .learningRate(3e-3)
        .minLearningRate(3e-4)
        .warmup(2)
        .seed(42)
        .evalEvery(evalEvery)
        .evalBatches(2)
        .checkpointEvery(checkpointEvery)
        .epochs(epochs)
        .maxSkipped(3)
        .build();
  }

  /**
   * Begins a run, or takes it up where it was left, lets it write after each validation, and ends
   * it.
   *
   * @param stopAt step after which it is asked to stop, as by Ctrl-C; 0 for never
   */
  Heard train(Path folder, GptConfig model, TrainConfig config, long stopAt) {
    Heard heard = new Heard();
    RunFolder run = new RunFolder(folder);
    try (Dataset data = data();
        CpuBackend backend = open(config)) {
      RunFolder.Description description =
          new RunFolder.Description(model, config, source().toMap());
      List<TrainListener> listeners = new ArrayList<>(List.of(heard));
      try (TrainingRun training =
          run.exists()
              ? TrainingRun.resume(run, description, data, backend, listeners)
              : TrainingRun.begin(run, description, data, backend, listeners)) {
        listeners.add(
            new TrainListener() {
              @Override
              public void step(
                  long step, double l, double r, double n, double t, double s, boolean skip) {
                if (step == stopAt) {
                  training.trainer().stop();
                }
              }

              @Override
              public void validation(Validation validation) {
                training.sample(PROMPT, SAMPLE);
              }
            });
        training.trainer().run();
      }
    }
    return heard;
  }

  static CpuBackend open(TrainConfig config) {
    Precision precision = Precision.of(config.precision());
    return precision == null ? new CpuBackend() : new CpuBackend(precision);
  }

  Heard train(Path folder, GptConfig model, TrainConfig config) {
    return train(folder, model, config, 0);
  }

  /** A run's rows without what a clock decides. */
  static List<String> metrics(Path run) throws IOException {
    return Files.readAllLines(run.resolve("metrics.jsonl")).stream()
        .map(
            row ->
                row.replaceAll(",\"(tokensPerSecond|seconds|compiling|started|time)\":[^,}]*", ""))
        .toList();
  }

  static void deleteTree(Path path) throws IOException {
    try (var files = Files.walk(path)) {
      for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
        Files.delete(file);
      }
    }
  }
}
