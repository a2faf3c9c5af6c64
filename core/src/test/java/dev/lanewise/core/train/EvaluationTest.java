package dev.lanewise.core.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.core.backend.CpuBackend;
import dev.lanewise.core.data.Dataset;
import dev.lanewise.core.data.TokenBatches;
import dev.lanewise.core.data.TokenSequence;
import dev.lanewise.core.model.Gpt;
import dev.lanewise.core.model.GptConfig;
import dev.lanewise.core.model.GptInit;
import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.core.tensor.Shape;
import dev.lanewise.core.tensor.Tape;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class EvaluationTest {
  @TempDir Path folder;

  /** Loss of a text's first tokens in batches, and the memory that it took. */
  private double[] evaluate(TokenSequence tokens, GptConfig config, int batch) {
    try (CpuBackend backend = new CpuBackend();
        Tape tape = new Tape(backend);
        TokenBatches batches = TokenBatches.sequential(tokens, batch, 16)) {
      Gpt model = new Gpt(tape, config, null);
      GptInit.gpt2(model, new TorchGenerator(3));
      Shape shape = Shape.of(batch, 16);
      double loss = Evaluation.meanLoss(model, batches, tape.ids(shape), tape.ids(shape));
      return new double[] {loss, tape.activationBytes()};
    }
  }

  /** Two rows of tokens in a batch of 64 cost what two rows cost. */
  @Test
  void emptyRowsOfTheLastBatchAreNotComputed() {
    TinyRuns runs = new TinyRuns(folder);
    try (Dataset data = runs.data()) {
      GptConfig config = runs.model(0);
      for (int length : new int[] {2, 17, 20, 33, 70}) {
        TokenSequence tokens = data.train().slice(0, length);
        double[] one = evaluate(tokens, config, 1);
        double[] many = evaluate(tokens, config, 64);
        assertEquals(one[0], many[0], 1e-6);
        assertTrue(many[1] <= 6 * one[1], many[1] + " bytes");
      }
    }
  }

  /** All tokens, a sample, and a sample that a run's length decides. */
  @Test
  void theLastValidationHasABudget() {
    TinyRuns runs = new TinyRuns(folder);
    List<Validation> heard = new ArrayList<>();
    TrainConfig config = TinyRuns.config(40, 0, 0, false);
    for (TrainConfig kind :
        List.of(
            config,
            config.toBuilder().steps(2).build(),
            config.toBuilder().evalAll(true).build())) {
      try (Dataset data = runs.data();
          CpuBackend backend = new CpuBackend();
          Tape tape = new Tape(backend, true)) {
        TorchGenerator generator = new TorchGenerator(1);
        Gpt model = new Gpt(tape, runs.model(0), generator);
        TrainListener listener =
            new TrainListener() {
              @Override
              public void validation(Validation validation) {
                heard.add(validation);
              }
            };
        try (Trainer trainer =
            new Trainer(model, kind, data.train(), data.validation(), generator, null, listener)) {
          trainer.run();
        }
      }
    }
    // 40 steps of 96 tokens, three tenths of them in whole batches of 48.
    assertEquals(24 * 48, heard.get(0).tokens());
    // At least as many as a validation on the way, of two batches.
    assertEquals(2 * 48, heard.get(1).tokens());
    assertTrue(heard.get(2).whole());
    assertTrue(heard.get(2).available() > 24 * 48, heard.get(2) + "");
  }
}
