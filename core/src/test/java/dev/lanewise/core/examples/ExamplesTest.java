package dev.lanewise.core.examples;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.core.Fixtures;
import dev.lanewise.core.backend.CpuBackend;
import dev.lanewise.core.format.SafeTensors;
import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.core.tensor.Tape;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.util.List;
import org.junit.jupiter.api.Test;

/** The small tutorials at full size; the large one is what the parity command is for. */
class ExamplesTest {
  @Test
  void crossEntropyFromScratch() {
    try (CpuBackend backend = new CpuBackend();
        Tape tape = new Tape(backend)) {
      CrossEntropyFromScratch.Result result =
          CrossEntropyFromScratch.run(
              tape, new int[] {15, 10}, new TorchGenerator(123, TorchGenerator.Stream.SCALAR));
      assertEquals(47.03350830078125, result.loss());
      assertEquals(47.03350830078125, result.fusedLoss());
      assertTrue(result.gradientsAgree());
      assertEquals(20, result.tokens().length);
    }
  }

  @Test
  void languageModelingLoss() {
    try (CpuBackend backend = new CpuBackend();
        Tape tape = new Tape(backend)) {
      LanguageModelingLoss.Result result =
          LanguageModelingLoss.run(tape, new TorchGenerator(538, TorchGenerator.Stream.SCALAR));
      assertEquals(2.3182, result.nll(), 5e-5);
      assertEquals(2.3182, result.nllByLoop(), 5e-5);
      assertEquals(2.8195, result.crossEntropy(), 5e-5);
      assertEquals(2.8195, result.nllOfLogSoftmax(), 5e-5);
      assertTrue(result.logSoftmaxIsLogOfSoftmax());
      assertEquals(12, result.predictions().size());
    }
  }

  @Test
  void makemoreFollowsPyTorch() throws IOException {
    SafeTensors golden = Fixtures.load("makemore_mlp");
    List<String> names;
    try (InputStream in = MakemoreMlp.class.getResourceAsStream("names.txt")) {
      names = new String(in.readAllBytes(), StandardCharsets.UTF_8).lines().toList();
    }
    try (CpuBackend backend = new CpuBackend();
        Tape tape = new Tape(backend)) {
      MakemoreMlp model =
          new MakemoreMlp(
              tape, names, new TorchGenerator(2147483647, TorchGenerator.Stream.VECTOR));
      assertEquals(1315, model.examples());
      double[] expected = golden.tensor("fullbatch_losses").toDoubles();
      double[] losses = model.descend(100, 0.1);
      for (int i = 0; i < 100; i++) {
        // Float32 steps drift from float64 ones, a little more with every step.
        assertEquals(expected[i], losses[i], 1e-5 * expected[i], "step " + i);
      }
      assertEquals(golden.tensor("loss_after100").toDoubles()[0], model.loss(), 1e-4);
    }
  }
}
