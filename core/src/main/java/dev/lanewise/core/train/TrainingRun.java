package dev.lanewise.core.train;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.base.Failures;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.UsageException;
import dev.lanewise.core.data.Dataset;
import dev.lanewise.core.data.TokenBatches;
import dev.lanewise.core.data.TokenSequence;
import dev.lanewise.core.data.Tokenizer;
import dev.lanewise.core.model.Gpt;
import dev.lanewise.core.model.GptInit;
import dev.lanewise.core.model.TextGenerator;
import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.core.report.RunReport;
import dev.lanewise.core.tensor.Tape;
import java.io.Closeable;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.Set;
import java.util.function.Consumer;

/** A run with all that belongs to it: model, data, trainer and folder. */
public final class TrainingRun implements AutoCloseable {
  private static final String METRICS = "Writing metrics.jsonl";
  private static final String SAMPLES = "Writing samples.txt";
  private static final String LISTENER = "Showing the run";

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
  private final Set<String> failures = new HashSet<>();
  private final List<TrainListener> listeners;
  private final Deque<AutoCloseable> owned = new ArrayDeque<>();
  private final Closeable lock;
  private final SampleLog sampleLog;
  private final Dispatcher dispatcher = new Dispatcher();
  private TextGenerator sampler;

  private TrainingRun(
      RunFolder folder,
      RunFolder.Description description,
      Dataset data,
      Backend backend,
      List<TrainListener> listeners,
      MemoryPlan plan,
      Consumer<Gpt> initial,
      boolean resumed) {
    this.folder = folder;
    this.description = description;
    this.data = data;
    this.device = backend.description();
    this.listeners = listeners;
    TrainConfig config = description.training();
    this.plan = plan;
    lock = folder.lock();
    try {
      folder.removeLeftovers();
      tape = owned(new Tape(backend, true));
      tape.reserveActivations(plan.activations());
      TorchGenerator generator = new TorchGenerator(config.seed());
      model = new Gpt(tape, description.model(), generator);
      // Checkpoints of corrections do not hold what they correct.
      if (!resumed || !folder.checkpoints().any() || config.lora() != null) {
        if (initial == null) {
          GptInit.gpt2(model, generator);
        } else {
          initial.accept(model);
        }
      }
      FineTuning.apply(config, model, generator);
      trainer =
          owned(
              new Trainer(
                  model,
                  config,
                  isolated(data.train(), data, config),
                  isolated(data.validation(), data, config),
                  generator,
                  folder.checkpoints(),
                  dispatcher,
                  Team.current()));
      if (resumed && folder.checkpoints().resume(trainer::resume, this::warn).isEmpty()) {
        warn(
            String.format(
                Locale.ROOT,
                "The run in %s has no checkpoint yet; it begins again at step 0.",
                folder.path()));
      }
      trainer.shareParameters();
      TrainState state = trainer.state();
      metrics = owned(new MetricsWriter(folder.metricsFile(), state, this::warn));
      sampleLog = owned(new SampleLog(folder.samplesFile(), state.step()));
      for (SampleLog.Entry entry : sampleLog.entries()) {
        samples.add(
            new RunReport.Sample(
                String.format(Locale.ROOT, "step %,d", entry.step()), "", entry.text()));
      }
    } catch (IOException e) {
      close();
      throw new InputException(
          String.format(
              Locale.ROOT,
              "The run folder %s cannot be written (%s); free some space or choose another --out.",
              folder.path(),
              Failures.describe(e)),
          e);
    } catch (RuntimeException | Error e) {
      close();
      throw e;
    }
  }

  /** Tokens whose documents are isolated, if the run's are. */
  static TokenSequence isolated(TokenSequence tokens, Dataset data, TrainConfig config) {
    return config.isolateDocuments() && tokens != null
        ? tokens.isolated(data.tokenizer().endOfText())
        : tokens;
  }

  private <T extends AutoCloseable> T owned(T resource) {
    owned.addFirst(resource);
    return resource;
  }

  /**
   * Begins a run with random weights.
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
    return begin(folder, description, data, backend, listeners, null);
  }

  /**
   * Begins a run.
   *
   * @param folder where it is kept; must not hold a run
   * @param description what it is made from
   * @param data tokens; closed by the caller
   * @param backend device; closed by the caller
   * @param listeners hear what happens
   * @param initial puts the weights into the model that it begins with; null for random ones
   */
  public static TrainingRun begin(
      RunFolder folder,
      RunFolder.Description description,
      Dataset data,
      Backend backend,
      List<TrainListener> listeners,
      Consumer<Gpt> initial) {
    MemoryPlan plan = requireUsable(description, data, backend);
    announce(description, data);
    folder.begin(description, data.tokenizer());
    return new TrainingRun(folder, description, data, backend, listeners, plan, initial, false);
  }

  /**
   * Takes up a run that began with random weights from its newest whole checkpoint, or from the
   * start if it has none at all.
   *
   * @param folder the run
   * @param description what it was made from, perhaps with more steps
   * @param data the same tokens
   * @param backend device, not necessarily of the same kind
   * @param listeners hear what happens
   * @throws InputException if there are checkpoints, but none is whole
   */
  public static TrainingRun resume(
      RunFolder folder,
      RunFolder.Description description,
      Dataset data,
      Backend backend,
      List<TrainListener> listeners) {
    return resume(folder, description, data, backend, listeners, null);
  }

  /**
   * Takes up a run from its newest whole checkpoint, or from the start if it has none at all.
   *
   * @param folder the run
   * @param description what it was made from, perhaps with more steps
   * @param data the same tokens
   * @param backend device, not necessarily of the same kind
   * @param listeners hear what happens
   * @param initial puts the weights into the model that it began with, if they are needed again;
   *     null for random ones
   * @throws InputException if there are checkpoints, but none is whole
   */
  public static TrainingRun resume(
      RunFolder folder,
      RunFolder.Description description,
      Dataset data,
      Backend backend,
      List<TrainListener> listeners,
      Consumer<Gpt> initial) {
    MemoryPlan plan = requireUsable(description, data, backend);
    announce(description, data);
    return new TrainingRun(folder, description, data, backend, listeners, plan, initial, true);
  }

  /** Tells the other processes, if there are any, what they are to help with. */
  private static void announce(RunFolder.Description description, Dataset data) {
    Team team = Team.current();
    if (!team.isAlone()) {
      team.announce(Announcement.of(description, data).toJson());
    }
  }

  /** Refuses what cannot be trained, before anything of it is in the run's folder. */
  private static MemoryPlan requireUsable(
      RunFolder.Description description, Dataset data, Backend backend) {
    if (data.tokenizer().vocabSize() > description.model().vocabSize()) {
      throw new InputException(
          String.format(
              Locale.ROOT,
              "The tokenizer has %d tokens, but the model only %d; let --model's vocabSize be as"
                  + " large.",
              data.tokenizer().vocabSize(),
              description.model().vocabSize()));
    }
    TrainConfig config = description.training();
    config.lrSchedule(); // refuses rates that make none
    int processes = Team.current().size();
    Trainer.requireDealt(config, processes);
    MemoryPlan plan = MemoryPlan.fitting(config, description.model(), backend, processes);
    if (config.isolateDocuments() && !backend.isolatesDocuments()) {
      throw new UsageException(
          String.format(
              Locale.ROOT,
              "--isolate-documents is not there for %s yet; choose --device cpu, or leave it out.",
              backend.name()));
    }
    TokenBatches.requireWindow(isolated(data.train(), data, config), config.context());
    return plan;
  }

  // What only looks
  // ---------------------------------------------------------------------------------------

  /**
   * Runs something that only looks at the run. A failure becomes a warning, said once.
   *
   * @param what its name, for the warning: "The sample"
   * @param body what is run
   */
  public void look(String what, Runnable body) {
    try {
      body.run();
    } catch (RuntimeException | OutOfMemoryError e) {
      failed(what, e);
    }
  }

  private void failed(String what, Throwable failure) {
    String reason = Failures.reason(failure);
    if (failures.add(what + reason)) {
      warn(
          String.format(
              Locale.ROOT,
              "%s failed at step %,d (%s); training is not affected.",
              what,
              trainer.steps(),
              reason));
    }
  }

  private void warn(String sentence) {
    warnings.add(sentence);
    for (TrainListener listener : listeners) {
      try {
        listener.warning(sentence);
      } catch (RuntimeException e) {
        // There is nowhere left to say so.
      }
    }
  }

  /** Tells everyone; what they throw is no reason to end a run. */
  private final class Dispatcher implements TrainListener {
    @Override
    public void step(
        long step,
        double loss,
        double learningRate,
        double gradientNorm,
        double tokensPerSecond,
        double seconds,
        boolean skipped) {
      // Written out, since a step is not to allocate.
      try {
        metrics.step(step, loss, learningRate, gradientNorm, tokensPerSecond, seconds, skipped);
      } catch (RuntimeException e) {
        failed(METRICS, e);
      }
      for (int i = 0; i < listeners.size(); i++) {
        try {
          listeners
              .get(i)
              .step(step, loss, learningRate, gradientNorm, tokensPerSecond, seconds, skipped);
        } catch (RuntimeException e) {
          failed(LISTENER, e);
        }
      }
    }

    @Override
    public void validation(Validation validation) {
      look(METRICS, () -> metrics.validation(validation));
      tell(listener -> listener.validation(validation));
    }

    @Override
    public void validating(long done, long tokens, long available) {
      tell(listener -> listener.validating(done, tokens, available));
    }

    @Override
    public void sample(long step, String text) {
      tell(listener -> listener.sample(step, text));
    }

    @Override
    public void saving(long step) {
      look("Making the run's folder anew", TrainingRun.this::restoreFolder);
      look(METRICS, metrics::force);
      look(SAMPLES, TrainingRun.this::forceSamples);
      tell(listener -> listener.saving(step));
    }

    @Override
    public void checkpoint(long step, Path path) {
      tell(listener -> listener.checkpoint(step, path));
    }

    @Override
    public void warning(String sentence) {
      warn(sentence);
    }

    private void tell(Consumer<TrainListener> what) {
      for (TrainListener listener : List.copyOf(listeners)) {
        look(LISTENER, () -> what.accept(listener));
      }
    }
  }

  /** A checkpoint is of no use without what the run is made from. */
  private void restoreFolder() {
    if (!folder.exists()) {
      folder.store(description, data.tokenizer());
      warn(
          String.format(
              Locale.ROOT,
              "The run's folder %s was removed while it was trained; it is there again, with what"
                  + " is written from now on.",
              folder.path()));
    }
  }

  private void forceSamples() {
    try {
      sampleLog.force();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /**
   * Also writes what happens from now on for TensorBoard, into {@link RunFolder#eventsFolder}. To
   * be called before the first step.
   *
   * @throws InputException if the folder cannot be written
   */
  public void writeEvents() {
    try {
      listeners.add(owned(new TensorBoardWriter(folder.eventsFolder(), trainer.state())));
    } catch (IOException e) {
      throw new InputException(
          String.format(
              Locale.ROOT,
              "%s cannot be written (%s); free some space, or remove what is in its place.",
              folder.eventsFolder(),
              Failures.describe(e)),
          e);
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
   * trained to. A failure is a warning.
   *
   * @param prompt how the text begins
   * @param tokens number of tokens to add
   * @return prompt and continuation; nothing if that failed, or the run was asked to stop meanwhile
   */
  public Optional<String> sample(String prompt, int tokens) {
    List<String> written = new ArrayList<>();
    look("The sample", () -> write(prompt, tokens).ifPresent(written::add));
    return written.stream().findFirst();
  }

  private Optional<String> write(String prompt, int tokens) {
    if (sampler == null) {
      sampler = new TextGenerator(model, description.training().context(), data.tokenizer());
    }
    Tokenizer tokenizer = data.tokenizer();
    long seed = description.training().seed() + trainer.steps();
    boolean stopped = trainer.stopping();
    int[] ids =
        sampler.generate(
            tokenizer.encode(prompt),
            tokens,
            new TextGenerator.Sampling(0.8, 40, 1),
            new TorchGenerator(seed),
            id -> stopped || !trainer.stopping());
    if (!stopped && trainer.stopping()) {
      return Optional.empty();
    }
    String text = tokenizer.decode(ids);
    samples.add(
        new RunReport.Sample(
            String.format(
                Locale.ROOT, "step %,d, temperature 0.8, top-k 40, seed %d", trainer.steps(), seed),
            prompt,
            text.startsWith(prompt) ? text.substring(prompt.length()) : text));
    try {
      sampleLog.add(trainer.steps(), text);
    } catch (IOException e) {
      failed(SAMPLES, e);
    }
    dispatcher.sample(trainer.steps(), text);
    return Optional.of(text);
  }

  @Override
  public void close() {
    for (AutoCloseable resource : owned) {
      try {
        resource.close();
      } catch (Exception e) {
        warn(String.format(Locale.ROOT, "Closing the run failed (%s).", Failures.reason(e)));
      }
    }
    try {
      lock.close();
    } catch (IOException e) {
      // The end of the process ends it.
    }
  }
}
