package dev.lanewise.core.cli;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.backend.CpuBackend;
import dev.lanewise.core.model.Gpt;
import dev.lanewise.core.model.GptConfig;
import dev.lanewise.core.model.GptInit;
import dev.lanewise.core.nn.AdamW;
import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.core.tensor.Tape;
import dev.lanewise.core.tensor.Tensor;
import java.util.Arrays;
import java.util.Locale;

/** Whether a device trains as the CPU does: a few steps of a small model on both. */
final class DeviceCheck {
  private static final int STEPS = 4;
  private static final int BATCH = 2;
  private static final int CONTEXT = 80;
  private static final int VOCAB = 160;

  /** Losses near ln 160 = 5.08 in bfloat16 are a few thousandths apart. */
  private static final double TOLERANCE = 0.03;

  private DeviceCheck() {}

  /** What is wrong with a device, or null. */
  static String fault(Backend device) {
    double[] expected;
    try (Backend cpu = new CpuBackend()) {
      expected = losses(cpu);
    }
    double[] actual = losses(device);
    for (int i = 0; i < STEPS; i++) {
      if (!(Math.abs(actual[i] - expected[i]) <= TOLERANCE)) {
        return String.format(
            Locale.ROOT,
            "in step %d of a test its loss is %.4f where the CPU's is %.4f.",
            i + 1,
            actual[i],
            expected[i]);
      }
    }
    return null;
  }

  private static double[] losses(Backend device) {
    TorchGenerator generator = new TorchGenerator(1);
    try (Tape tape = new Tape(device)) {
      Gpt model = new Gpt(tape, GptConfig.gpt2(VOCAB, CONTEXT, 2, 2, 128), generator).train();
      GptInit.gpt2(model, generator);
      int[] tokens = new int[BATCH * CONTEXT + 1];
      generator.randint(tokens, 0, VOCAB);
      Tensor inputs = tape.ids(Arrays.copyOf(tokens, BATCH * CONTEXT), BATCH, CONTEXT);
      Tensor targets = tape.ids(Arrays.copyOfRange(tokens, 1, tokens.length), BATCH, CONTEXT);
      double[] losses = new double[STEPS];
      try (AdamW optimizer = new AdamW(tape, parameter -> true)) {
        for (int i = 0; i < STEPS; i++) {
          tape.reset();
          optimizer.zeroGrad();
          Tensor loss = model.loss(inputs, targets);
          loss.backward();
          losses[i] = loss.item();
          optimizer.gradientNorm(1);
          optimizer.step(1e-3);
        }
      }
      return losses;
    }
  }
}
