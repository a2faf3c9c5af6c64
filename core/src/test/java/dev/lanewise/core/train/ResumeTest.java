package dev.lanewise.core.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.core.backend.CpuBackend;
import dev.lanewise.core.backend.Precision;
import dev.lanewise.core.data.CharTokenizer;
import dev.lanewise.core.model.Gpt;
import dev.lanewise.core.model.GptConfig;
import dev.lanewise.core.model.TextGenerator;
import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.core.tensor.Tape;
import dev.lanewise.simd.Workers;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * Runs that validate and write samples on the way, interrupted or not, and with all that changes
 * how a step is computed.
 */
class ResumeTest {
  private static final long STEPS = 12;

  @TempDir Path folder;
  private TinyRuns runs;
  private int threads;

  /**
   * One kind of run.
   *
   * @param name what is special about it
   */
  record Kind(
      String name,
      double dropout,
      boolean tied,
      int accumulate,
      boolean epochs,
      int recomputedBlocks,
      int headRows,
      Precision precision) {
    TrainConfig config(long evalEvery) {
      return TinyRuns.config(STEPS, evalEvery, 4, epochs)
          .withBatch(3, accumulate)
          .withRecomputedBlocks(recomputedBlocks)
          .withHeadRows(headRows)
          .toBuilder()
          .precision(precision.toString())
          .build();
    }

    GptConfig model(TinyRuns runs) {
      GptConfig gpt2 = runs.model(dropout);
      return new GptConfig(
          gpt2.vocabSize(),
          gpt2.contextLength(),
          gpt2.layers(),
          gpt2.heads(),
          gpt2.channels(),
          dropout,
          gpt2.qkvBias(),
          tied);
    }

    @Override
    public String toString() {
      return name;
    }
  }

  static Stream<Kind> kinds() {
    return Stream.of(
        new Kind("plain", 0, true, 1, false, 0, 0, Precision.FP32),
        new Kind("dropout", 0.1, true, 1, false, 0, 0, Precision.FP32),
        new Kind("dropout, passes", 0.2, true, 3, false, 0, 0, Precision.FP32),
        new Kind("dropout, epochs", 0.2, true, 2, true, 0, 0, Precision.FP32),
        new Kind("dropout, blocks computed again", 0.1, true, 1, false, 2, 0, Precision.FP32),
        new Kind("dropout, few rows of the head", 0.1, true, 2, false, 1, 12, Precision.FP32),
        new Kind("dropout, head of its own", 0.1, false, 1, true, 0, 0, Precision.FP32),
        new Kind("dropout, products in bfloat16", 0.1, true, 2, false, 1, 12, Precision.BF16));
  }

  @BeforeEach
  void begin() {
    runs = new TinyRuns(folder);
    threads = Workers.threads();
  }

  @AfterEach
  void restoreThreads() {
    Workers.setThreads(threads);
  }

  private byte[] bytes(String run, String file) throws IOException {
    return Files.readAllBytes(folder.resolve(run, "checkpoints", "step-00000012", file));
  }

  private void assertSameEnd(String expected, String actual) throws IOException {
    for (String file : new String[] {"model.safetensors", "optimizer.safetensors"}) {
      assertArrayEquals(bytes(expected, file), bytes(actual, file), file);
    }
  }

  @Test
  void bfloat16LearnsWhatFloatsLearnAndIsAnotherRun() throws IOException {
    GptConfig model = runs.model(0);
    TrainConfig config = TinyRuns.config(60, 0, 60, false);
    TinyRuns.Heard floats = runs.train(folder.resolve("fp32"), model, config);
    TrainConfig rounded = config.toBuilder().precision(Precision.BF16.toString()).build();
    TinyRuns.Heard halves = runs.train(folder.resolve("bf16"), model, rounded);
    assertEquals(floats.losses.getLast(), halves.losses.getLast(), 0.01 * floats.losses.getLast());
    assertNotEquals(floats.losses, halves.losses);
    assertTrue(floats.losses.getLast() < 0.8 * floats.losses.getFirst());
  }

  @ParameterizedTest
  @MethodSource("kinds")
  void lookingChangesNothing(Kind kind) throws IOException {
    GptConfig model = kind.model(runs);
    TinyRuns.Heard seeing = runs.train(folder.resolve("seeing"), model, kind.config(2));
    TinyRuns.Heard blind = runs.train(folder.resolve("blind"), model, kind.config(0));
    assertEquals(blind.losses, seeing.losses);
    assertSameEnd("blind", "seeing");
  }

  @ParameterizedTest
  @MethodSource("kinds")
  void interruptionsChangeNothing(Kind kind) throws IOException {
    GptConfig model = kind.model(runs);
    TinyRuns.Heard whole = runs.train(folder.resolve("whole"), model, kind.config(2));
    int done = 0;
    for (int stopAt : new int[] {1, 4, 7, 8, 10, 0}) {
      Workers.setThreads(1 + stopAt % 3);
      TinyRuns.Heard part = runs.train(folder.resolve("parts"), model, kind.config(2), stopAt);
      int end = stopAt == 0 ? (int) STEPS : stopAt;
      assertEquals(whole.losses.subList(done, end), part.losses);
      done = end;
    }
    assertSameEnd("whole", "parts");
    assertEquals(
        TinyRuns.metrics(folder.resolve("whole")), TinyRuns.metrics(folder.resolve("parts")));
    assertEquals(
        Files.readString(folder.resolve("whole/samples.txt")),
        Files.readString(folder.resolve("parts/samples.txt")));
  }

  /** Samples are what a generator makes of the checkpoint alone, with their seed and context. */
  @ParameterizedTest
  @MethodSource("kinds")
  void samplesAreWhatTheCheckpointWrites(Kind kind) throws IOException {
    TrainConfig config = kind.config(2);
    Path path = folder.resolve("run");
    runs.train(path, kind.model(runs), config);
    RunFolder run = new RunFolder(path);
    Checkpoints.Checkpoint checkpoint = run.checkpoints().newest(warning -> {}).orElseThrow();
    try (CpuBackend backend = TinyRuns.open(config);
        Tape tape = new Tape(backend)) {
      Gpt model = new Gpt(tape, run.describe().model().withDropout(0), null);
      checkpoint.restore(model);
      CharTokenizer tokenizer = (CharTokenizer) run.tokenizer();
      String text =
          tokenizer.decode(
              new TextGenerator(model, config.context())
                  .generate(
                      tokenizer.encode(TinyRuns.PROMPT),
                      TinyRuns.SAMPLE,
                      new TextGenerator.Sampling(0.8, 40, 1),
                      new TorchGenerator(config.seed() + STEPS),
                      id -> true));
      String samples = Files.readString(run.samplesFile());
      assertEquals(text, samples.substring(samples.lastIndexOf("──\n") + 3, samples.length() - 2));
    }
  }
}
