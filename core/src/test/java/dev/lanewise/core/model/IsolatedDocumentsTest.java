package dev.lanewise.core.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.backend.CpuBackend;
import dev.lanewise.core.backend.ReferenceBackend;
import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.core.tensor.Recompute;
import dev.lanewise.core.tensor.Tape;
import dev.lanewise.core.tensor.Tensor;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import org.junit.jupiter.api.Test;

/** Documents that share rows give what each alone gives. */
class IsolatedDocumentsTest {
  private static final int TIME = 40;
  private static final int VOCAB = 13;
  private static final int[][] LENGTHS = {{5, 1, 20, 14}, {40}, {1, 1, 38}};
  private static final GptConfig CONFIG = new GptConfig(VOCAB, TIME, 2, 2, 24, 0, true, true);

  private record Result(double loss, Map<String, float[]> gradients) {}

  private final int[] ids = random(1);
  private final int[] targets = random(2);
  private final int[] positions = new int[ids.length];

  IsolatedDocumentsTest() {
    for (int row = 0; row < LENGTHS.length; row++) {
      int at = row * TIME;
      for (int length : LENGTHS[row]) {
        for (int i = 0; i < length; i++) {
          positions[at++] = i;
        }
        if (length > 1) {
          targets[at - 1] = -100;
        }
      }
    }
  }

  private static int[] random(int seed) {
    int[] values = new int[LENGTHS.length * TIME];
    TorchGenerator generator = new TorchGenerator(seed);
    for (int i = 0; i < values.length; i++) {
      values[i] = (int) generator.nextLong(0, VOCAB);
    }
    return values;
  }

  private static Gpt model(Tape tape) {
    TorchGenerator generator = new TorchGenerator(3);
    Gpt model = new Gpt(tape, CONFIG, generator);
    model
        .namedParameters()
        .forEach(
            (name, parameter) -> {
              float[] values = new float[Math.toIntExact(parameter.shape().count())];
              generator.normal(values, name.contains("ln") ? 1 : 0, 0.3);
              parameter.set(values);
            });
    return model;
  }

  private static Map<String, float[]> gradients(Gpt model) {
    Map<String, float[]> gradients = new LinkedHashMap<>();
    model.namedParameters().forEach((name, p) -> gradients.put(name, p.grad().toArray()));
    return gradients;
  }

  private Result together(Recompute recompute, boolean isolated) {
    try (Backend backend = new CpuBackend();
        Tape tape = new Tape(backend)) {
      tape.setRecompute(recompute);
      Gpt model = model(tape);
      Tensor in = tape.ids(ids, LENGTHS.length, TIME);
      Tensor out = tape.ids(targets, LENGTHS.length, TIME);
      Tensor places = isolated ? tape.ids(positions, LENGTHS.length, TIME) : null;
      double loss = 0;
      // The second pass follows the trace of the first.
      for (int pass = 0; pass < 2; pass++) {
        tape.reset();
        tape.zeroGrad();
        Tensor mean = model.loss(in, out, places);
        mean.backward();
        loss = mean.item();
      }
      return new Result(loss, gradients(model));
    }
  }

  /** Each document by itself, in double precision, weighed by its targets. */
  private Result alone() {
    try (Backend backend = new ReferenceBackend();
        Tape tape = new Tape(backend)) {
      Gpt model = model(tape);
      long counted = Arrays.stream(targets).filter(t -> t != -100).count();
      double loss = 0;
      tape.zeroGrad();
      for (int row = 0; row < LENGTHS.length; row++) {
        int from = row * TIME;
        for (int length : LENGTHS[row]) {
          int[] some = Arrays.copyOfRange(targets, from, from + length);
          float weight = Arrays.stream(some).filter(t -> t != -100).count() / (float) counted;
          tape.reset();
          tape.setLossScale(weight);
          Tensor in = tape.ids(Arrays.copyOfRange(ids, from, from + length), 1, length);
          Tensor mean = model.loss(in, tape.ids(some, 1, length));
          mean.backward();
          loss += (double) mean.item() * weight;
          from += length;
        }
      }
      return new Result(loss, gradients(model));
    }
  }

  @Test
  void lossAndGradientsAreThoseOfEachDocumentAlone() {
    Result expected = alone();
    Result actual = together(Recompute.NOTHING, true);
    assertEquals(expected.loss, actual.loss, 1e-6 * expected.loss);
    expected.gradients.forEach(
        (name, gradient) -> {
          float most = 0;
          for (float value : gradient) {
            most = Math.max(most, Math.abs(value));
          }
          assertArrayEquals(gradient, actual.gradients.get(name), 1e-5f * most, name);
        });
    assertNotEquals(expected.loss, together(Recompute.NOTHING, false).loss, 1e-3);
  }

  @Test
  void blocksThatAreComputedAgainGiveTheSameBits() {
    Result kept = together(Recompute.NOTHING, true);
    Result again = together(new Recompute(true, 2), true);
    assertEquals(kept.loss, again.loss);
    kept.gradients.forEach(
        (name, gradient) -> assertArrayEquals(gradient, again.gradients.get(name), name));
  }
}
