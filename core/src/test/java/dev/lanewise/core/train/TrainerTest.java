package dev.lanewise.core.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.sun.management.ThreadMXBean;
import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.backend.CpuBackend;
import dev.lanewise.core.backend.ReferenceBackend;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.Json;
import dev.lanewise.core.data.Dataset;
import dev.lanewise.core.model.Gpt;
import dev.lanewise.core.model.GptConfig;
import dev.lanewise.core.model.GptInit;
import dev.lanewise.core.model.GptPresets;
import dev.lanewise.core.model.KvCache;
import dev.lanewise.core.model.TextGenerator;
import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.core.tensor.ParameterBlock;
import dev.lanewise.core.tensor.Tape;
import dev.lanewise.simd.Workers;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Runs of a tiny model: the same bits however they are interrupted or spread over threads. */
class TrainerTest {
  @TempDir Path folder;
  private Path text;

  @BeforeEach
  void writeText() throws IOException {
    StringBuilder words = new StringBuilder();
    for (int i = 0; i < 600; i++) {
      words.append("the ").append(i * 7919 % 1000).append(" of spades\n");
    }
    text = folder.resolve("text.txt");
    Files.writeString(text, words);
  }

  private static TrainConfig config(long steps, double learningRate, boolean overfit) {
    return TrainConfig.builder()
        .steps(steps)
        .batch(3)
        .context(16)
        .accumulate(2)
        .learningRate(learningRate)
        .minLearningRate(learningRate / 10)
        .warmup(2)
        .seed(42)
        .evalEvery(4)
        .evalBatches(2)
        .checkpointEvery(4)
        .overfit(overfit)
        .maxSkipped(3)
        .build();
  }

  private static final class Losses implements TrainListener {
    final List<Double> losses = new ArrayList<>();
    final List<String> warnings = new ArrayList<>();
    double validation;

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
    public void warning(String sentence) {
      warnings.add(sentence);
    }
  }

  private Dataset data() {
    RunData source = RunData.of(List.of(text), "chars", 0.2);
    return source.open(null, folder.resolve("cache"), Dataset.Progress.NONE);
  }

  private Losses train(String name, TrainConfig config, boolean resume, long stopAt) {
    Losses losses = new Losses();
    try (Dataset data = data();
        CpuBackend backend = new CpuBackend()) {
      GptConfig model = GptConfig.gpt2(data.tokenizer().vocabSize(), 16, 2, 2, 32).withDropout(0.1);
      RunData source = RunData.of(List.of(text), "chars", 0.2);
      RunFolder run = new RunFolder(folder.resolve(name));
      RunFolder.Description description = new RunFolder.Description(model, config, source.toMap());
      List<TrainListener> listeners = new ArrayList<>(List.of(losses));
      try (TrainingRun training =
          resume
              ? TrainingRun.resume(run, description, data, backend, listeners)
              : TrainingRun.begin(run, description, data, backend, listeners)) {
        if (stopAt > 0) {
          listeners.add(
              new TrainListener() {
                @Override
                public void step(
                    long step, double l, double r, double n, double t, double s, boolean skip) {
                  if (step == stopAt) {
                    training.trainer().stop();
                  }
                }
              });
        }
        training.trainer().run();
      }
    }
    return losses;
  }

  @Test
  void resumedRunContinuesWithTheSameBits() throws IOException {
    Losses whole = train("whole", config(12, 3e-3, false), false, 0);
    assertEquals(12, whole.losses.size());
    train("halves", config(12, 3e-3, false), false, 7);
    Losses second = train("halves", config(12, 3e-3, false), true, 0);
    assertEquals(whole.losses.subList(7, 12), second.losses);
    assertEquals(whole.validation, second.validation);
    // What was lost with a killed process is computed again from the checkpoint before it.
    TinyRuns.deleteTree(folder.resolve("halves/checkpoints/step-00000012"));
    Losses third = train("halves", config(12, 3e-3, false), true, 0);
    assertEquals(whole.losses.subList(8, 12), third.losses);
    List<String> rows = Files.readAllLines(folder.resolve("halves/metrics.jsonl"));
    assertEquals(12, rows.stream().filter(row -> row.contains("\"lr\"")).count());
  }

  @Test
  void threadsDoNotMatter() {
    int before = Workers.threads();
    try {
      List<List<Double>> all = new ArrayList<>();
      for (int threads : new int[] {1, 2, 3, 96}) {
        Workers.setThreads(threads);
        all.add(train("threads" + threads, config(5, 3e-3, false), false, 0).losses);
      }
      all.forEach(losses -> assertEquals(all.getFirst(), losses));
    } finally {
      Workers.setThreads(before);
    }
  }

  @Test
  void overfitsOneBatch() {
    Losses losses = train("overfit", config(150, 1e-2, true), false, 0);
    assertTrue(losses.losses.getLast() < 0.5, losses.losses.getLast() + " after 150 steps");
  }

  @Test
  void damagedCheckpointIsNamedAndSkipped() throws IOException {
    train("damaged", config(8, 3e-3, false), false, 0);
    Path newest = folder.resolve("damaged/checkpoints/step-00000008/model.safetensors");
    try (RandomAccessFile file = new RandomAccessFile(newest.toFile(), "rw")) {
      file.seek(file.length() - 9);
      int old = file.read();
      file.seek(file.length() - 9);
      file.write(old ^ 1);
    }
    Losses resumed = train("damaged", config(8, 3e-3, false), true, 0);
    assertEquals(4, resumed.losses.size());
    assertTrue(resumed.warnings.getFirst().contains("step-00000008"), resumed.warnings.toString());
  }

  @Test
  void blowUpIsSkippedThenGivenUpWithTheCheckpointKept() {
    TrainConfig wild = config(40, 1e30, false);
    InputException e = assertThrows(InputException.class, () -> train("wild", wild, false, 0));
    assertTrue(e.getMessage().contains("not finite"), e.getMessage());
  }

  @Test
  void secondRunInTheSameFolderIsRefused() {
    train("twice", config(2, 3e-3, false), false, 0);
    assertThrows(InputException.class, () -> train("twice", config(2, 3e-3, false), false, 0));
  }

  @Test
  void stepsAllocateNothing() {
    int before = Workers.threads();
    Workers.setThreads(1);
    try (Dataset data = data();
        CpuBackend backend = new CpuBackend();
        Tape tape = new Tape(backend)) {
      GptConfig config = GptConfig.gpt2(data.tokenizer().vocabSize(), 16, 2, 2, 32);
      TorchGenerator generator = new TorchGenerator(1);
      Gpt model = new Gpt(tape, config, generator);
      GptInit.gpt2(model, generator);
      try (Trainer trainer =
          new Trainer(
              model,
              config(10_000, 1e-3, false),
              data.train(),
              null,
              generator,
              null,
              new TrainListener() {})) {
        ThreadMXBean threads = (ThreadMXBean) ManagementFactory.getThreadMXBean();
        long least = Long.MAX_VALUE;
        for (int round = 0; round < 200 && least > 0; round++) {
          long start = threads.getCurrentThreadAllocatedBytes();
          for (int i = 0; i < 50; i++) {
            trainer.step();
          }
          least = Math.min(least, (threads.getCurrentThreadAllocatedBytes() - start) / 50);
        }
        assertEquals(0, least, "bytes a step");
      }
    } finally {
      Workers.setThreads(before);
    }
  }

  @Test
  void planIsWhatTheRunTakes() {
    GptConfig model = GptConfig.gpt2(65, 16, 2, 2, 32);
    for (int blocks = 0; blocks <= 2; blocks++) {
      for (double dropout : new double[] {0, 0.1}) {
        TrainConfig config = config(3, 1e-3, false).withBatch(4, 1).withRecomputedBlocks(blocks);
        GptConfig dropping = model.withDropout(dropout);
        try (Dataset data = data();
            CpuBackend backend = new CpuBackend();
            Tape tape = new Tape(backend, true)) {
          MemoryPlan plan = MemoryPlan.of(config, dropping, backend);
          TorchGenerator generator = new TorchGenerator(1);
          Gpt gpt = new Gpt(tape, dropping, generator);
          try (Trainer trainer =
              new Trainer(
                  gpt,
                  config,
                  data.train(),
                  data.validation(),
                  generator,
                  null,
                  new TrainListener() {})) {
            trainer.run();
          }
          new TextGenerator(gpt, config.context())
              .generate(new int[16], 8, TextGenerator.Sampling.GREEDY, null, id -> true);
          assertEquals(plan.activations(), tape.activationBytes());
          long parameters = 0;
          for (ParameterBlock block : tape.parameters()) {
            parameters += block.data().byteSize();
          }
          assertEquals(plan.parameters(), parameters);
          assertEquals(plan.gradients(), tape.gradientBytes());
          assertTrue(plan.gradients() < parameters);
          assertEquals(plan.moments(), 2 * parameters);
          assertThrows(InputException.class, () -> plan.requireFits(plan.total() - 1));
          plan.requireFits(plan.total());
        }
      }
    }
  }

  @Test
  void planCountsLogitsAndTheSamplersCache() {
    GptConfig model = GptConfig.gpt2(50257, 1024, 12, 12, 768);
    TrainConfig config = DefaultJob.training(model).withBatch(1, 4);
    try (CpuBackend backend = new CpuBackend();
        Tape tape = new Tape(backend)) {
      // 342 rows of logits, or 256, are the peak of activations.
      long activations = MemoryPlan.of(config, model, backend).activations();
      long cut = MemoryPlan.of(config.withHeadRows(300), model, backend).activations();
      assertEquals(4L * (342 - 256) * 50257, activations - cut, 64);
      GptConfig small = GptConfig.gpt2(65, 256, 2, 2, 32);
      TrainConfig some = DefaultJob.training(small);
      GptConfig deep = GptConfig.gpt2(65, 256, 5, 2, 32);
      assertEquals(
          3L * 2 * 256 * 32 * 4,
          MemoryPlan.of(some, deep, backend).working()
              - MemoryPlan.of(some, small, backend).working());
      assertEquals(5L * 2 * 100 * 32 * 4, new KvCache(tape, deep, 1, 100).bytes());
    }
  }

  @Test
  void planCountsTheLogitsThatItsDeviceHolds() {
    GptConfig model = GptConfig.gpt2(101, 16, 1, 1, 8);
    TrainConfig config = DefaultJob.training(model).withBatch(3, 1);
    Backend reference = new ReferenceBackend();
    try (CpuBackend cpu = new CpuBackend()) {
      // The reference holds all rows in memory of its own; the other is lent activations'.
      TrainConfig some = config.withHeadRows(20);
      assertEquals(
          4L * 101 * 3 * 16,
          MemoryPlan.of(some, model, reference).working()
              - MemoryPlan.of(some, model, cpu).working());
    }
  }

  @Test
  void threadsDoNotDecideWhatIsChosen() {
    GptConfig model = GptConfig.gpt2(65, 256, 4, 2, 32);
    TrainConfig config = DefaultJob.training(model).withBatch(6, 2);
    int before = Workers.threads();
    try (CpuBackend backend = new CpuBackend()) {
      Workers.setThreads(1);
      MemoryPlan one = MemoryPlan.of(config, model, backend);
      long limit = one.total();
      assertEquals(config, MemoryPlan.fit(config, model, backend, limit).config());
      MemoryPlan.Fit cut = MemoryPlan.fit(config, model, backend, limit - 1);
      assertNotEquals(config, cut.config());
      Workers.setThreads(16);
      assertEquals(one, MemoryPlan.of(config, model, backend));
      assertEquals(cut, MemoryPlan.fit(config, model, backend, limit - 1));
      // More threads are in the plan, and refused rather than given another run.
      Workers.setThreads(19);
      long more = 3L * 2 << 20;
      assertEquals(limit + more, MemoryPlan.of(config, model, backend).total());
      String refusal =
          assertThrows(InputException.class, () -> MemoryPlan.fit(config, model, backend, limit))
              .getMessage();
      assertTrue(refusal.contains("19 threads") && refusal.contains("at most 16"), refusal);
      assertEquals(config, MemoryPlan.fit(config, model, backend, limit + more).config());
    } finally {
      Workers.setThreads(before);
    }
  }

  @Test
  void fewRowsOfTheHeadAreChosenAndKept() throws IOException {
    GptConfig model = GptConfig.gpt2(50257, 1024, 12, 12, 768);
    TrainConfig config = DefaultJob.training(model).withBatch(1, 4);
    try (CpuBackend backend = new CpuBackend()) {
      long all = MemoryPlan.of(config, model, backend).total();
      MemoryPlan.Fit fit = MemoryPlan.fit(config, model, backend, all - (20 << 20));
      assertEquals(config.withHeadRows(171), fit.config());
      String stored = Json.writePretty(fit.config().toMap());
      assertEquals(fit.config(), TrainConfig.fromMap(Json.parseObject(stored, "config"), "config"));
      // Three further parts of the head, as measured: 3 % of a step.
      assertEquals(0.03, fit.slowdown(), 0.01);
    }
    List<Double> whole = train("head", config(3, 3e-3, false), false, 0).losses;
    List<Double> parts = train("parts", config(3, 3e-3, false).withHeadRows(12), false, 0).losses;
    assertEquals(whole.getFirst(), parts.getFirst());
    assertEquals(whole.getLast(), parts.getLast(), 1e-5);
    String file = "checkpoints/step-00000003/model.safetensors";
    long first = Files.mismatch(folder.resolve("head", file), folder.resolve("parts", file));
    assertNotEquals(-1, first, "the order of the head's sums");
  }

  @Test
  void aLimitIsKeptAtTheLeastCost() {
    // Activations outweigh what is read once more for each further pass.
    GptConfig model = GptConfig.gpt2(65, 256, 4, 2, 32);
    TrainConfig config = DefaultJob.training(model).withBatch(6, 2);
    try (CpuBackend backend = new CpuBackend()) {
      long all = MemoryPlan.of(config, model, backend).total();
      MemoryPlan.Fit whole = MemoryPlan.fit(config, model, backend, all);
      assertEquals(config, whole.config());
      assertEquals(0, whole.slowdown());
      TrainConfig least = config.withBatch(1, 12).withRecomputedBlocks(4);
      long smallest = MemoryPlan.of(least, model, backend).total();
      assertEquals(least, MemoryPlan.fit(config, model, backend, smallest).config());
      double slowdown = 0;
      for (long limit = all - 1; limit >= smallest; limit -= (all - smallest) / 9) {
        MemoryPlan.Fit fit = MemoryPlan.fit(config, model, backend, limit);
        assertTrue(fit.plan().total() <= limit);
        assertEquals(fit.plan(), MemoryPlan.of(fit.config(), model, backend));
        assertEquals(config.tokensPerStep(), fit.config().tokensPerStep());
        assertTrue(fit.slowdown() >= slowdown && fit.slowdown() > 0);
        slowdown = fit.slowdown();
      }
      String refusal =
          assertThrows(
                  InputException.class, () -> MemoryPlan.fit(config, model, backend, smallest - 1))
              .getMessage();
      assertTrue(refusal.contains("--memory") && refusal.contains("MiB"), refusal);
    }
  }

  /** What a refusal advises is tried: it fits, and what it calls impossible does not. */
  @Test
  void aRefusalSaysWhatWouldFit() {
    TrainConfig config = config(10, 1e-3, false).toBuilder().batch(8).context(1024).build();
    GptConfig xl = GptPresets.of("gpt2-xl");
    try (CpuBackend backend = new CpuBackend()) {
      long available = 20L << 30;
      String refusal =
          assertThrows(
                  InputException.class, () -> MemoryPlan.fitting(config, xl, backend, available))
              .getMessage();
      assertTrue(refusal.contains(" at least, however it is cut, but only 20.00 GiB"), refusal);
      assertTrue(refusal.contains("with --memory 20G: --model gpt2-large"), refusal);
      assertThrows(InputException.class, () -> MemoryPlan.fit(config, xl, backend, available));
      GptConfig large = GptPresets.of("gpt2-large");
      assertTrue(MemoryPlan.fit(config, large, backend, available).plan().total() <= available);

      GptConfig small = GptPresets.of("gpt2");
      long tight = 4L << 30;
      String limited =
          assertThrows(
                  InputException.class, () -> MemoryPlan.fitting(config, small, backend, tight))
              .getMessage();
      assertTrue(limited.contains("with --memory 4096M it takes"), limited);
      assertTrue(MemoryPlan.fit(config, small, backend, tight).plan().total() <= tight);

      long hopeless = 250L << 20;
      String nothing =
          assertThrows(
                  InputException.class, () -> MemoryPlan.fitting(config, small, backend, hopeless))
              .getMessage();
      assertTrue(nothing.contains("not even a smaller model"), nothing);
    }
  }
}
