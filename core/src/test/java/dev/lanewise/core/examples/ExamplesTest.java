package dev.lanewise.core.examples;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.core.backend.CpuBackend;
import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.core.report.Chart;
import dev.lanewise.core.tensor.Tape;
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

  /**
   * One seed draws weights, batches and dropout, and rounding is all that is left between the
   * curves. GPT-2's model amplifies it more: its first steps divide small gradients by their size.
   */
  @Test
  void lossCurvesOverlayPyTorchs() {
    try (CpuBackend backend = new CpuBackend()) {
      List<TrainingParity.Curves> all = TrainingParity.compare(backend);
      assertEquals(2, all.size());
      for (TrainingParity.Curves curves : all) {
        assertEquals(200, curves.ours().length);
        assertEquals(curves.torch()[0], curves.ours()[0], 1e-6);
        assertTrue(curves.rounding() < 2e-5, "PyTorch is exact to " + curves.rounding());
        assertArrayEquals(curves.torch(), curves.ours(), curves.allowed());
        assertTrue(curves.ours()[199] < 2.3, "the model learned nothing");
      }
      for (Chart chart :
          List.of(TrainingParity.picture(all), TrainingParity.pictureOfDistance(all))) {
        assertTrue(chart.standalone(880, 380).contains("Lanewise"));
      }
    }
  }
}
