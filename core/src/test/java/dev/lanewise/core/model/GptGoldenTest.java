package dev.lanewise.core.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.lanewise.core.Fixtures;
import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.backend.CpuBackend;
import dev.lanewise.core.format.SafeTensors;
import dev.lanewise.core.nn.AdamW;
import dev.lanewise.core.tensor.Tape;
import dev.lanewise.core.tensor.Tensor;
import java.util.HashMap;
import java.util.Map;
import java.util.function.Supplier;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** The two tiny GPTs that PyTorch computed in float64: logits, gradients, training, generation. */
class GptGoldenTest {
  private static final int VOCAB = 97;
  private static final int CONTEXT = 16;
  private static final int CHANNELS = 48;

  /** Largest relative error of a float32 computation of this depth against float64. */
  private static final double TOLERANCE = 2e-5;

  static Supplier<Backend> backend = CpuBackend::new;

  private static final class Case implements AutoCloseable {
    final SafeTensors golden;
    final boolean tied;
    final Backend device = backend.get();
    final Tape tape = new Tape(device);
    final Gpt model;
    final Tensor ids;
    final Tensor targets;

    Case(String name) {
      golden = Fixtures.load(name);
      tied = name.equals("tiny_gpt2_tied");
      GptConfig config =
          tied
              ? GptConfig.gpt2(VOCAB, CONTEXT, 2, 3, CHANNELS)
              : GptConfig.tutorial(VOCAB, CONTEXT, 2, 3, CHANNELS, 0);
      model = new Gpt(tape, config, null);
      names().forEach((ours, theirs) -> model.namedParameters().get(ours).set(join("w.", theirs)));
      ids = tape.ids(ints("inputs"), 3, 16);
      targets = tape.ids(ints("targets"), 3, 16);
    }

    /** Our names against those of the fixture; queries, keys and values are three tensors there. */
    Map<String, String[]> names() {
      Map<String, String[]> names = new HashMap<>();
      names.put("wte.weight", new String[] {"tok_emb.weight"});
      names.put("wpe.weight", new String[] {"pos_emb.weight"});
      names.put("ln_f.weight", new String[] {"final_norm.scale"});
      names.put("ln_f.bias", new String[] {"final_norm.shift"});
      if (!tied) {
        names.put("lm_head.weight", new String[] {"out_head.weight"});
      }
      for (int i = 0; i < 2; i++) {
        String ours = "h." + i + ".";
        String theirs = "trf_blocks." + i + ".";
        String query = theirs + (tied ? "att.W_query." : "att.W_key.");
        String key = theirs + (tied ? "att.W_key." : "att.W_query.");
        String value = theirs + "att.W_value.";
        for (String kind : tied ? new String[] {"weight", "bias"} : new String[] {"weight"}) {
          names.put(
              ours + "attn.c_attn." + kind, new String[] {query + kind, key + kind, value + kind});
        }
        for (String kind : new String[] {"weight", "bias"}) {
          names.put(ours + "attn.c_proj." + kind, new String[] {theirs + "att.out_proj." + kind});
          names.put(ours + "mlp.c_fc." + kind, new String[] {theirs + "ff.layers.0." + kind});
          names.put(ours + "mlp.c_proj." + kind, new String[] {theirs + "ff.layers.2." + kind});
        }
        for (int n = 1; n <= 2; n++) {
          names.put(ours + "ln_" + n + ".weight", new String[] {theirs + "norm" + n + ".scale"});
          names.put(ours + "ln_" + n + ".bias", new String[] {theirs + "norm" + n + ".shift"});
        }
      }
      return names;
    }

    float[] join(String prefix, String[] parts) {
      float[] all = new float[0];
      for (String part : parts) {
        float[] values = golden.tensor(prefix + part).toFloats();
        int start = all.length;
        all = java.util.Arrays.copyOf(all, start + values.length);
        System.arraycopy(values, 0, all, start, values.length);
      }
      return all;
    }

    int[] ints(String name) {
      long[] values = golden.tensor(name).toLongs();
      return java.util.Arrays.stream(values).mapToInt(Math::toIntExact).toArray();
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

  private static double largest(double[] values) {
    double largest = 0;
    for (double value : values) {
      largest = Math.max(largest, Math.abs(value));
    }
    return largest;
  }

  @ParameterizedTest
  @ValueSource(strings = {"tiny_gpt_seed001", "tiny_gpt2_tied"})
  void logitsLossAndAllGradients(String name) {
    try (Case c = new Case(name)) {
      for (boolean fused : new boolean[] {false, true, false, true}) {
        c.tape.reset();
        c.tape.zeroGrad();
        Tensor loss;
        if (fused) {
          loss = c.model.loss(c.ids, c.targets);
        } else {
          Gpt.Output output = c.model.forward(c.ids, c.targets);
          assertClose(
              c.golden.tensor("logits").toDoubles(), output.logits().toArray(), 4, "logits");
          loss = output.loss();
        }
        assertEquals(c.golden.tensor("loss").toDoubles()[0], loss.item(), 4 * TOLERANCE);
        loss.backward();
        Map<String, Tensor> parameters = c.model.namedParameters();
        c.names()
            .forEach(
                (ours, theirs) -> {
                  double[] expected = doubles(c.join("g.", theirs));
                  assertClose(
                      expected,
                      parameters.get(ours).grad().toArray(),
                      Math.max(0.1, largest(expected)),
                      "gradient of " + ours);
                });
      }
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"tiny_gpt_seed001", "tiny_gpt2_tied"})
  void tenStepsOfTraining(String name) {
    try (Case c = new Case(name);
        AdamW optimizer = new AdamW(c.tape, parameter -> true).weightDecay(0.1)) {
      double[] rows = c.golden.tensor("train10").toDoubles();
      for (int step = 0; step < 10; step++) {
        c.tape.reset();
        optimizer.zeroGrad();
        Tensor loss = c.model.loss(c.ids, c.targets);
        loss.backward();
        assertEquals(rows[2 * step], loss.item(), 1e-4, "loss of step " + step);
        assertEquals(
            rows[2 * step + 1], optimizer.gradientNorm(1), 2e-4, "gradient norm of step " + step);
        optimizer.step(1e-3);
      }
      c.tape.reset();
      assertEquals(
          c.golden.tensor("loss_after10").toDoubles()[0],
          c.model.loss(c.ids, c.targets).item(),
          1e-4);
    }
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
        ids.set(java.util.Arrays.copyOfRange(c.ints("inputs"), 16 * part, 16 * part + 16));
        targets.set(java.util.Arrays.copyOfRange(c.ints("targets"), 16 * part, 16 * part + 16));
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
            int[] inputs = c.ints("inputs");
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
          });
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"tiny_gpt_seed001", "tiny_gpt2_tied"})
  void greedyContinuation(String name) {
    try (Case c = new Case(name)) {
      int[] expected = c.ints("greedy");
      int given = 24 - 12;
      int[] ids = java.util.Arrays.copyOf(expected, 24);
      for (int length = given; length < 24; length++) {
        int from = Math.max(0, length - CONTEXT);
        int[] window = java.util.Arrays.copyOfRange(expected, from, length);
        c.tape.reset();
        Tensor best = c.model.forward(c.tape.stepIds(window, 1, window.length)).argmax();
        ids[length] = best.toIntArray()[window.length - 1];
      }
      assertArrayEquals(expected, ids);
    }
  }
}
