package dev.lanewise.core.model;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.backend.CpuBackend;
import dev.lanewise.core.golden.Golden;
import dev.lanewise.core.golden.TinyGpt;
import dev.lanewise.core.tensor.Tape;
import dev.lanewise.core.tensor.Tensor;
import java.util.HashMap;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Two ways of computing the same: gradients in parts, and logits with a cache. */
class GptTest {
  /** Largest relative error of a float32 computation of this depth against float64. */
  private static final double TOLERANCE = 2e-5;

  private static final int VOCAB = TinyGpt.VOCAB;
  private static final int CONTEXT = TinyGpt.CONTEXT;

  private static final class Case implements AutoCloseable {
    final Golden golden;
    final Backend device = new CpuBackend();
    final Tape tape = new Tape(device);
    final Gpt model;
    final Tensor ids;
    final Tensor targets;

    Case(String name) {
      golden = new Golden(name);
      model = new TinyGpt(tape, golden, name.equals("tiny_gpt2_tied")).model;
      ids = tape.ids(golden.ints("inputs"), 3, 16);
      targets = tape.ids(golden.ints("targets"), 3, 16);
    }

    @Override
    public void close() {
      tape.close();
      device.close();
    }
  }

  private static void assertClose(double[] expected, float[] actual, double scale, String what) {
    assertEquals(expected.length, actual.length, what);
    for (int i = 0; i < expected.length; i++) {
      assertEquals(expected[i], actual[i], TOLERANCE * scale, what + " at " + i);
    }
  }

  private static double[] doubles(float[] values) {
    double[] wide = new double[values.length];
    for (int i = 0; i < wide.length; i++) {
      wide[i] = values[i];
    }
    return wide;
  }

  @ParameterizedTest
  @ValueSource(strings = {"tiny_gpt_seed001", "tiny_gpt2_tied"})
  void accumulatedGradientsEqualThoseOfTheWholeBatch(String name) {
    try (Case c = new Case(name)) {
      c.model.loss(c.ids, c.targets).backward();
      Map<String, float[]> whole = new HashMap<>();
      c.model.namedParameters().forEach((n, p) -> whole.put(n, p.grad().toArray()));
      c.tape.zeroGrad();
      c.tape.setLossScale(1f / 3);
      Tensor ids = c.tape.ids(new int[16], 1, 16);
      Tensor targets = c.tape.ids(new int[16], 1, 16);
      for (int part = 0; part < 3; part++) {
        ids.set(java.util.Arrays.copyOfRange(c.golden.ints("inputs"), 16 * part, 16 * part + 16));
        targets.set(
            java.util.Arrays.copyOfRange(c.golden.ints("targets"), 16 * part, 16 * part + 16));
        c.tape.reset();
        c.model.loss(ids, targets).backward();
      }
      c.model
          .namedParameters()
          .forEach((n, p) -> assertClose(doubles(whole.get(n)), p.grad().toArray(), 0.5, n));
    }
  }

  @Test
  void shorterInputsAndACacheGiveTheSameLogits() {
    try (Case c = new Case("tiny_gpt2_tied")) {
      c.tape.withoutGradient(
          () -> {
            float[] whole = c.model.forward(c.ids).toArray();
            KvCache cache = new KvCache(c.tape, c.model.config(), 3, CONTEXT);
            int[] inputs = c.golden.ints("inputs");
            int done = 0;
            for (int part : new int[] {5, 1, 1, 9}) {
              int[] some = new int[3 * part];
              for (int row = 0; row < 3; row++) {
                System.arraycopy(inputs, 16 * row + done, some, part * row, part);
              }
              float[] logits = c.model.forward(c.tape.stepIds(some, 3, part), cache).toArray();
              for (int row = 0; row < 3; row++) {
                for (int t = 0; t < part; t++) {
                  int from = (16 * row + done + t) * VOCAB;
                  int at = (part * row + t) * VOCAB;
                  assertClose(
                      doubles(java.util.Arrays.copyOfRange(whole, from, from + VOCAB)),
                      java.util.Arrays.copyOfRange(logits, at, at + VOCAB),
                      1,
                      "logits of row " + row + ", position " + (done + t));
                }
              }
              done += part;
            }
            cache.truncate(0);
            float[] last = c.model.next(c.ids, cache).toArray();
            for (int row = 0; row < 3; row++) {
              int from = (16 * row + 15) * VOCAB;
              assertClose(
                  doubles(java.util.Arrays.copyOfRange(whole, from, from + VOCAB)),
                  java.util.Arrays.copyOfRange(last, row * VOCAB, (row + 1) * VOCAB),
                  1,
                  "next logits of row " + row);
            }
          });
    }
  }
}
