package dev.lanewise.core.backend.cuda;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.backend.CpuBackend;
import dev.lanewise.core.backend.Precision;
import dev.lanewise.core.data.Dataset;
import dev.lanewise.core.model.Gpt;
import dev.lanewise.core.model.GptConfig;
import dev.lanewise.core.model.GptInit;
import dev.lanewise.core.model.TextGenerator;
import dev.lanewise.core.nn.AdamW;
import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.core.tensor.Tape;
import dev.lanewise.core.tensor.Tensor;
import dev.lanewise.core.train.LrSchedule;
import dev.lanewise.core.train.RunData;
import dev.lanewise.core.train.RunFolder;
import dev.lanewise.core.train.TrainConfig;
import dev.lanewise.core.train.TrainListener;
import dev.lanewise.core.train.TrainingRun;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.Supplier;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Steps of training on the stand-in GPU: what moves, what is allocated, what comes out. */
class CudaTrainingTest {
  private static final int BATCH = 2;
  private static final int CONTEXT = 24;
  private static final int VOCAB = 97;

  @BeforeAll
  static void useStandIn() {
    StandIn.use();
    StandIn.reset();
  }

  @AfterAll
  static void forgetStandIn() {
    StandIn.forget();
  }

  /** A GPT with heads of 64, its optimiser and one batch. */
  private static final class Training implements AutoCloseable {
    final Tape tape;
    final Gpt model;
    final AdamW optimizer;
    final int[] tokens = new int[BATCH * CONTEXT];
    final Tensor ids;
    final Tensor targets;

    Training(Backend backend, double dropout) {
      TorchGenerator generator = new TorchGenerator(3);
      tape = new Tape(backend);
      GptConfig config = GptConfig.gpt2(VOCAB, CONTEXT, 2, 1, 64).withDropout(dropout);
      model = new Gpt(tape, config, generator).train();
      GptInit.gpt2(model, generator);
      optimizer = new AdamW(tape, parameter -> parameter.shape().rank() == 2);
      generator.randint(tokens, 0, VOCAB);
      ids = tape.ids(tokens, BATCH, CONTEXT);
      targets = tape.ids(tokens, BATCH, CONTEXT);
    }

    float step() {
      ids.set(tokens);
      targets.set(tokens);
      tape.reset();
      optimizer.zeroGrad();
      Tensor loss = model.loss(ids, targets);
      loss.backward();
      optimizer.gradientNorm(1);
      optimizer.step(1e-3);
      return loss.item();
    }

    float[] steps(int count) {
      float[] losses = new float[count];
      for (int i = 0; i < count; i++) {
        losses[i] = step();
      }
      return losses;
    }

    int[] generate() {
      return new TextGenerator(model)
          .generate(
              Arrays.copyOf(tokens, 4),
              6,
              new TextGenerator.Sampling(0.8, 50, 0.9),
              new TorchGenerator(5),
              token -> token >= 0 && token < VOCAB);
    }

    Map<String, float[]> weights() {
      Map<String, float[]> weights = new TreeMap<>();
      model.namedParameters().forEach((name, tensor) -> weights.put(name, tensor.toArray()));
      return weights;
    }

    @Override
    public void close() {
      optimizer.close();
      tape.close();
    }
  }

  /** Only token ids go in, and a loss and a norm come out; memory is taken in the first step. */
  @ParameterizedTest
  @EnumSource
  void aStepMovesTokensAndTwoNumbers(Precision precision) {
    try (CudaBackend backend = CudaBackend.open(precision);
        Training training = new Training(backend, 0.1)) {
      training.steps(2);
      Map<String, Long> before = counts();
      int steps = 2;
      training.steps(steps);
      Map<String, Long> after = counts();
      assertEquals(0, after.get("allocations") - before.get("allocations"), "allocations");
      assertEquals(0, after.get("blocks") - before.get("blocks"), "blocks");
      assertEquals(steps * 2 * 4 * BATCH * CONTEXT, after.get("uploaded") - before.get("uploaded"));
      assertEquals(steps * 2 * 4, after.get("downloaded") - before.get("downloaded"));
      assertEquals(steps * 2, after.get("waits") - before.get("waits"));
      backend.profile().start();
      training.step();
      // AdamW keeps the copy of the parameters fresh; new token ids change none.
      assertEquals(
          List.of(),
          backend.profile().stop().stream()
              .map(CudaProfile.Entry::name)
              .filter(name -> name.startsWith("elements.cast"))
              .toList());
    }
  }

  private static Map<String, Long> counts() {
    Map<String, Long> counts = new TreeMap<>();
    for (String what : List.of("blocks", "allocations", "uploaded", "downloaded", "waits")) {
      counts.put(what, StandIn.get(what));
    }
    return counts;
  }

  @ParameterizedTest
  @EnumSource
  void trainingFollowsTheCpuAndRepeatsItself(Precision precision) {
    float[] expected;
    try (Backend cpu = new CpuBackend();
        Training training = new Training(cpu, 0)) {
      expected = training.steps(10);
    }
    float[] first;
    int[] text;
    Map<String, float[]> weights;
    try (CudaBackend backend = CudaBackend.open(precision);
        Training training = new Training(backend, 0)) {
      first = training.steps(10);
      weights = training.weights();
      text = training.generate();
    }
    assertArrayEquals(expected, first, precision == Precision.BF16 ? 0.03f : 5e-4f);
    assertTrue(first[9] < first[0] - 0.5, "nothing was learned");
    assertEquals(10, text.length);
    try (CudaBackend backend = CudaBackend.open(precision);
        Training training = new Training(backend, 0)) {
      assertArrayEquals(first, training.steps(10));
      training.weights().forEach((name, values) -> assertArrayEquals(weights.get(name), values));
      assertArrayEquals(text, training.generate());
    }
  }

  /** Checkpoints are float32 on every device, so a run may go on elsewhere. */
  @ParameterizedTest
  @EnumSource
  void aRunMovesBetweenDevices(Precision precision, @TempDir Path folder) throws IOException {
    Path text = folder.resolve("text.txt");
    Files.writeString(text, "the quick brown fox jumps over the lazy dog\n".repeat(40));
    Supplier<Backend> cuda = () -> CudaBackend.open(precision);
    Run run = new Run(folder, text);
    List<Double> whole = run.go("cpu", CpuBackend::new, 8, false);
    List<Double> moved = new ArrayList<>(run.go("there", cuda, 4, false));
    moved.addAll(run.go("there", CpuBackend::new, 8, true));
    List<Double> back = new ArrayList<>(run.go("back", CpuBackend::new, 4, false));
    back.addAll(run.go("back", cuda, 8, true));
    double tolerance = precision == Precision.BF16 ? 0.05 : 1e-3;
    assertEquals(8, whole.size());
    for (int i = 0; i < 8; i++) {
      assertEquals(whole.get(i), moved.get(i), tolerance, "from the GPU to the CPU, step " + i);
      assertEquals(whole.get(i), back.get(i), tolerance, "from the CPU to the GPU, step " + i);
    }
  }

  private record Run(Path folder, Path text) {
    List<Double> go(String name, Supplier<Backend> device, long steps, boolean resume) {
      TrainConfig config =
          TrainConfig.builder()
              .steps(steps)
              .batch(3)
              .context(16)
              .schedule(LrSchedule.Kind.CONSTANT)
              .learningRate(1e-2)
              .warmup(0)
              .seed(42)
              .evalBatches(2)
              .checkpointEvery(4)
              .maxSkipped(3)
              .build();
      RunData source = RunData.of(List.of(text), "chars", 0.2);
      List<Double> losses = new ArrayList<>();
      TrainListener listener =
          new TrainListener() {
            @Override
            public void step(
                long step, double loss, double r, double n, double t, double s, boolean skip) {
              losses.add(loss);
            }
          };
      RunFolder run = new RunFolder(folder.resolve(name));
      try (Dataset data = source.open(null, folder.resolve("cache"), Dataset.Progress.NONE);
          Backend backend = device.get()) {
        GptConfig model = GptConfig.gpt2(data.tokenizer().vocabSize(), 16, 1, 1, 64);
        RunFolder.Description description =
            new RunFolder.Description(model, config, source.toMap());
        try (TrainingRun training =
            resume
                ? TrainingRun.resume(run, description, data, backend, List.of(listener))
                : TrainingRun.begin(run, description, data, backend, List.of(listener))) {
          training.trainer().run();
        }
      }
      return losses;
    }
  }
}
