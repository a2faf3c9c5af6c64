package dev.lanewise.core.train;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.data.Dataset;
import dev.lanewise.core.data.Tokenizer;
import dev.lanewise.core.model.Gpt;
import dev.lanewise.core.model.GptInit;
import dev.lanewise.core.model.TextGenerator;
import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.core.report.RunReport;
import dev.lanewise.core.tensor.Tape;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/** A run with all that belongs to it: model, data, trainer and folder. */
public final class TrainingRun implements AutoCloseable {
  private final RunFolder folder;
  private final RunFolder.Description description;
  private final Dataset data;
  private final Tape tape;
  private final Gpt model;
  private final Trainer trainer;
  private final MetricsWriter metrics;
  private final MemoryPlan plan;
  private final String device;
  private final List<RunReport.Sample> samples = new ArrayList<>();
  private final List<String> warnings = new ArrayList<>();
  private TextGenerator sampler;

  private TrainingRun(
      RunFolder folder,
      RunFolder.Description description,
      Dataset data,
      Backend backend,
      List<TrainListener> listeners,
      Checkpoints.Checkpoint checkpoint) {
    this.folder = folder;
    this.description = description;
    this.data = data;
    this.device = backend.description();
    TrainConfig config = description.training();
    plan = MemoryPlan.of(config, description.model(), backend);
    plan.requireFits(backend.availableMemory());
    tape = new Tape(backend, true);
    tape.reserveActivations(plan.activations());
    TorchGenerator generator = new TorchGenerator(config.seed());
    model = new Gpt(tape, description.model(), generator);
    if (checkpoint == null) {
      GptInit.gpt2(model, generator);
    }
    metrics = new MetricsWriter(folder, checkpoint == null ? 0 : checkpoint.step());
    Listeners all = new Listeners(metrics, warnings, listeners);
    trainer =
        new Trainer(
            model, config, data.train(), data.validation(), generator, folder.checkpoints(), all);
    if (checkpoint != null) {
      trainer.resume(checkpoint);
    }
  }

  /**
   * Begins a run.
   *
   * @param folder where it is kept; must not hold a run
   * @param description what it is made from
   * @param data tokens; closed by the caller
   * @param backend device; closed by the caller
   * @param listeners hear what happens
   */
  public static TrainingRun begin(
      RunFolder folder,
      RunFolder.Description description,
      Dataset data,
      Backend backend,
      List<TrainListener> listeners) {
    requireVocabulary(description, data);
    folder.begin(description, data.tokenizer());
    return new TrainingRun(folder, description, data, backend, listeners, null);
  }

  /**
   * Takes up a run from its newest whole checkpoint, or from the start if it has none.
   *
   * @param folder the run
   * @param description what it was made from, perhaps with more steps
   * @param data the same tokens
   * @param backend device, not necessarily of the same kind
   * @param listeners hear what happens
   */
  public static TrainingRun resume(
      RunFolder folder,
      RunFolder.Description description,
      Dataset data,
      Backend backend,
      List<TrainListener> listeners) {
    requireVocabulary(description, data);
    Checkpoints.Checkpoint checkpoint =
        folder
            .checkpoints()
            .newest(sentence -> listeners.forEach(listener -> listener.warning(sentence)))
            .orElse(null);
    return new TrainingRun(folder, description, data, backend, listeners, checkpoint);
  }

  private static void requireVocabulary(RunFolder.Description description, Dataset data) {
    if (data.tokenizer().vocabSize() > description.model().vocabSize()) {
      throw new InputException(
          String.format(
              Locale.ROOT,
              "The tokenizer has %d tokens, but the model only %d; let --model's vocabSize be as"
                  + " large.",
              data.tokenizer().vocabSize(),
              description.model().vocabSize()));
    }
  }

  private record Listeners(MetricsWriter metrics, List<String> warnings, List<TrainListener> others)
      implements TrainListener {
    @Override
    public void step(
        long step,
        double loss,
        double learningRate,
        double gradientNorm,
        double tokensPerSecond,
        double seconds,
        boolean skipped) {
      metrics.step(step, loss, learningRate, gradientNorm, tokensPerSecond, seconds, skipped);
      for (int i = 0; i < others.size(); i++) {
        others
            .get(i)
            .step(step, loss, learningRate, gradientNorm, tokensPerSecond, seconds, skipped);
      }
    }

    @Override
    public void validation(long step, double loss, boolean whole) {
      metrics.validation(step, loss, whole);
      others.forEach(listener -> listener.validation(step, loss, whole));
    }

    @Override
    public void checkpoint(long step, Path path) {
      metrics.flush();
      others.forEach(listener -> listener.checkpoint(step, path));
    }

    @Override
    public void warning(String sentence) {
      warnings.add(sentence);
      others.forEach(listener -> listener.warning(sentence));
    }
  }

  /** The trainer. */
  public Trainer trainer() {
    return trainer;
  }

  /** The model. */
  public Gpt model() {
    return model;
  }

  /** The folder. */
  public RunFolder folder() {
    return folder;
  }

  /** What the run is made from. */
  public RunFolder.Description description() {
    return description;
  }

  /** Memory that the run takes. */
  public MemoryPlan plan() {
    return plan;
  }

  /** What the run computes on. */
  String device() {
    return device;
  }

  /** What the model wrote so far, since this life of the run began. */
  List<RunReport.Sample> samples() {
    return samples;
  }

  /** What a user should know about the run. */
  List<String> warnings() {
    return warnings;
  }

  void flushMetrics() {
    metrics.flush();
  }

  /**
   * Lets the model write, and keeps what it wrote in the run folder. It looks back as far as it is
   * trained to.
   *
   * @param prompt how the text begins
   * @param tokens number of tokens to add
   * @return prompt and continuation
   */
  public String sample(String prompt, int tokens) {
    if (sampler == null) {
      sampler = new TextGenerator(model, description.training().context(), data.tokenizer());
    }
    Tokenizer tokenizer = data.tokenizer();
    int[] ids =
        sampler.generate(
            tokenizer.encode(prompt),
            tokens,
            new TextGenerator.Sampling(0.8, 40, 1),
            new TorchGenerator(description.training().seed() + trainer.steps()),
            id -> true);
    String text = tokenizer.decode(ids);
    folder.addSample(trainer.steps(), text);
    samples.add(
        new RunReport.Sample(
            String.format(Locale.ROOT, "step %,d, temperature 0.8, top-k 40", trainer.steps()),
            prompt,
            text.startsWith(prompt) ? text.substring(prompt.length()) : text));
    return text;
  }

  @Override
  public void close() {
    metrics.close();
    trainer.close();
    tape.close();
  }
}
