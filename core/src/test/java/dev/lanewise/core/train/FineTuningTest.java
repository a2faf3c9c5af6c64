package dev.lanewise.core.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.core.backend.CpuBackend;
import dev.lanewise.core.data.Dataset;
import dev.lanewise.core.model.GptConfig;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Runs whose loss is on answers alone. */
class FineTuningTest {
  @TempDir Path folder;
  private Path examples;

  @BeforeEach
  void writeExamples() throws IOException {
    StringBuilder lines = new StringBuilder();
    for (int i = 0; i < 200; i++) {
      // Answers of very different length, so that batches have very different numbers of targets.
      lines.append(
          "{\"prompt\":\"say "
              + "na ".repeat(i % 5)
              + i
              + ": \",\"completion\":\""
              + "yes ".repeat(i % 7 * 3)
              + "\"}\n");
    }
    examples = Files.writeString(folder.resolve("examples.jsonl"), lines);
  }

  private record Step(double loss, double norm) {}

  private static final class Steps implements TrainListener {
    final List<Step> steps = new ArrayList<>();
    double validation;
    Runnable afterStep = () -> {};

    @Override
    public void step(
        long step, double loss, double rate, double norm, double speed, double s, boolean skip) {
      steps.add(new Step(loss, norm));
      afterStep.run();
    }

    @Override
    public void validation(Validation last) {
      validation = last.loss();
    }
  }

  private static TrainConfig config(int batch, int passes) {
    return TrainConfig.builder()
        .steps(8)
        .batch(batch)
        .context(16)
        .accumulate(passes)
        .learningRate(3e-3)
        .minLearningRate(3e-4)
        .warmup(2)
        .seed(42)
        .evalEvery(4)
        .evalBatches(2)
        .checkpointEvery(4)
        .evalAll(true)
        .build();
  }

  private Steps train(String name, TrainConfig config, boolean resume, int stopAt) {
    Steps steps = new Steps();
    RunData source = RunData.of(List.of(examples), "bytes", 0.2);
    try (Dataset data = source.open(null, folder.resolve("cache"), Dataset.Progress.NONE);
        CpuBackend backend = new CpuBackend()) {
      GptConfig model = GptConfig.gpt2(256, 16, 1, 2, 32);
      RunFolder run = new RunFolder(folder.resolve(name));
      RunFolder.Description description = new RunFolder.Description(model, config, source.toMap());
      try (TrainingRun training =
          resume
              ? TrainingRun.resume(run, description, data, backend, List.of(steps))
              : TrainingRun.begin(run, description, data, backend, List.of(steps))) {
        steps.afterStep =
            () -> {
              if (steps.steps.size() == stopAt) {
                training.trainer().stop();
              }
            };
        training.trainer().run();
      }
    }
    return steps;
  }

  @Test
  void passesWeighAsMuchAsTheyHaveTargets() {
    Steps one = train("one", config(6, 1), false, 0);
    Steps three = train("three", config(2, 3), false, 0);
    assertEquals(8, one.steps.size());
    for (int i = 0; i < 8; i++) {
      assertEquals(one.steps.get(i).loss, three.steps.get(i).loss, 2e-5, "loss of step " + i);
      assertEquals(one.steps.get(i).norm, three.steps.get(i).norm, 2e-4, "norm of step " + i);
    }
    assertTrue(one.steps.getLast().loss < one.steps.getFirst().loss);
    assertEquals(one.validation, three.validation, 2e-5);
  }

  @Test
  void resumedRunContinuesWithTheSameBits() {
    Steps whole = train("whole", config(2, 3), false, 0);
    Steps first = train("halves", config(2, 3), false, 5);
    Steps second = train("halves", config(2, 3), true, 0);
    List<Step> both = new ArrayList<>(first.steps);
    both.addAll(second.steps);
    assertEquals(whole.steps, both);
    assertEquals(whole.validation, second.validation);
  }
}
