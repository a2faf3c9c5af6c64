package dev.lanewise.core.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.backend.CpuBackend;
import dev.lanewise.core.model.TextGenerator.Sampling;
import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.core.tensor.Tape;
import java.util.Arrays;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

class TextGeneratorTest {
  private static final int VOCAB = 61;
  private static final int CONTEXT = 24;
  private static final double TEMPERATURE = 10;
  private static final int[] PROMPT = {3, 1, 4, 1, 5};

  private final Backend device = new CpuBackend();
  private final Tape tape = new Tape(device);
  private final Gpt model = new Gpt(tape, GptConfig.gpt2(VOCAB, CONTEXT, 2, 2, 32), null);
  private final TextGenerator generator;

  TextGeneratorTest() {
    TorchGenerator random = new TorchGenerator(11);
    GptInit.gpt2(model, random);
    // Initial weights alone make all tokens about equally likely
    model.namedParameters().get("wte.weight").set(random::normal);
    generator = new TextGenerator(model);
  }

  @AfterEach
  void close() {
    tape.close();
    device.close();
  }

  private int[] generate(int tokens, Sampling sampling, int seed) {
    return generator.generate(PROMPT, tokens, sampling, new TorchGenerator(seed), token -> true);
  }

  /** Logits after a sequence, computed without a cache. */
  private float[] logitsAfter(int[] ids) {
    float[] logits = new float[VOCAB];
    tape.withoutGradient(
        () -> {
          tape.reset();
          float[] all = model.forward(tape.ids(ids, 1, ids.length)).toArray();
          System.arraycopy(all, (ids.length - 1) * VOCAB, logits, 0, VOCAB);
        });
    return logits;
  }

  private static int likeliest(float[] logits) {
    int best = 0;
    for (int i = 1; i < logits.length; i++) {
      best = logits[i] > logits[best] ? i : best;
    }
    return best;
  }

  @Test
  void greedyTakesTheLikeliest() {
    int[] ids = generate(CONTEXT - PROMPT.length, Sampling.GREEDY, 1);
    for (int length = PROMPT.length; length < ids.length; length++) {
      assertEquals(likeliest(logitsAfter(Arrays.copyOf(ids, length))), ids[length]);
    }
    assertEquals(PROMPT.length + 3 * CONTEXT, generate(3 * CONTEXT, Sampling.GREEDY, 1).length);
  }

  @Test
  void aWindowForgetsWhatIsOlder() {
    TextGenerator near = new TextGenerator(model, 8);
    int[] ids = Arrays.copyOf(PROMPT, 20);
    int[] whole = near.generate(ids, 1, Sampling.GREEDY, null, token -> true);
    int[] end = Arrays.copyOfRange(ids, 12, 20);
    assertEquals(likeliest(logitsAfter(end)), whole[20]);
    assertEquals(50, near.generate(PROMPT, 45, Sampling.GREEDY, null, token -> true).length);
  }

  @Test
  void oneCandidateIsGreedy() {
    int[] greedy = generate(12, Sampling.GREEDY, 1);
    assertArrayEquals(greedy, generate(12, new Sampling(1, 1, 1), 2));
    assertArrayEquals(greedy, generate(12, new Sampling(1, 0, 1e-9), 3));
  }

  @Test
  void candidatesAreTheLikeliest() {
    float[] logits = logitsAfter(PROMPT);
    float[] sorted = logits.clone();
    Arrays.sort(sorted);
    double total = 0;
    for (float logit : logits) {
      total += Math.exp((logit - sorted[VOCAB - 1]) / TEMPERATURE);
    }
    double sum = 0;
    int nucleus = 0;
    while (sum < 0.7 * total) {
      sum += Math.exp((sorted[VOCAB - 1 - nucleus++] - sorted[VOCAB - 1]) / TEMPERATURE);
    }
    assertCandidates(new Sampling(TEMPERATURE, 5, 1), logits, sorted, 5);
    assertCandidates(new Sampling(TEMPERATURE, 0, 0.7), logits, sorted, nucleus);
    assertCandidates(new Sampling(TEMPERATURE, VOCAB + 1, 1), logits, sorted, VOCAB);
  }

  private void assertCandidates(Sampling sampling, float[] logits, float[] sorted, int count) {
    boolean[] seen = new boolean[VOCAB];
    for (int seed = 0; seed < 400; seed++) {
      seen[generate(1, sampling, seed)[PROMPT.length]] = true;
    }
    int different = 0;
    for (int i = 0; i < VOCAB; i++) {
      assertTrue(!seen[i] || logits[i] >= sorted[VOCAB - count], sampling + " chose " + i);
      different += seen[i] ? 1 : 0;
    }
    assertTrue(different > Math.min(3, count - 1), sampling + " chose " + different);
  }
}
