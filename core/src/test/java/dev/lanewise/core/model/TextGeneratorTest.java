package dev.lanewise.core.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.backend.CpuBackend;
import dev.lanewise.core.backend.FrozenWeights;
import dev.lanewise.core.backend.Precision;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.data.TokenSink;
import dev.lanewise.core.data.Tokenizer;
import dev.lanewise.core.model.TextGenerator.Sampling;
import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.core.tensor.Tape;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.OptionalInt;
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

  /** Kept as bfloat16 or rounded on their way, weights give the same logits; and are let go. */
  @Test
  void frozenWeightsGiveTheSameBits() {
    try (CpuBackend rounding = new CpuBackend(Precision.BF16);
        Tape other = new Tape(rounding)) {
      Gpt same = new Gpt(other, model.config(), null);
      TorchGenerator random = new TorchGenerator(5);
      same.namedParameters().values().forEach(parameter -> parameter.set(random::normal));
      float[] free = logits(same, other);
      rounding.freezeWeights(FrozenWeights.EXACT);
      assertArrayEquals(free, logits(same, other));
      assertArrayEquals(free, logits(same, other));
      rounding.releaseWeights();
      same.namedParameters().get("h.0.mlp.c_fc.weight").set(random::normal);
      float[] changed = logits(same, other);
      assertFalse(Arrays.equals(free, changed));
      rounding.freezeWeights(FrozenWeights.EXACT);
      assertArrayEquals(changed, logits(same, other));
    }
  }

  /**
   * In 8 bits they are a little off, by no more than half a scale of what is multiplied explains.
   */
  @Test
  void weightsOfEightBitsGiveNearlyTheSameLogits() {
    try (CpuBackend backend = new CpuBackend();
        Tape other = new Tape(backend)) {
      Gpt same = new Gpt(other, model.config(), null);
      TorchGenerator random = new TorchGenerator(5);
      GptInit.gpt2(same, random);
      int[] ids = {3, 1, 4, 1, 5, 9, 2, 6};
      float[] exact = forward(same, other, ids);
      float loss = loss(same, other, ids);
      backend.freezeWeights(FrozenWeights.Q8_0);
      float[] near = forward(same, other, ids);
      double squares = 0;
      double apart = 0;
      for (int i = 0; i < exact.length; i++) {
        squares += exact[i] * exact[i];
        apart += Math.pow(exact[i] - near[i], 2);
      }
      double relative = Math.sqrt(apart / squares);
      assertTrue(relative > 1e-4 && relative < 0.02, "relative error " + relative);
      assertEquals(loss, loss(same, other, ids), 0.02 * loss);
      assertNotEquals(loss, loss(same, other, ids));
      // A token alone gets the logits that it gets among others.
      assertArrayEquals(near, forward(same, other, ids));
      backend.releaseWeights();
      assertArrayEquals(exact, forward(same, other, ids));
    }
  }

  private static float[] forward(Gpt model, Tape tape, int[] ids) {
    float[][] all = new float[1][];
    tape.withoutGradient(
        () -> {
          tape.reset();
          all[0] = model.forward(tape.ids(ids, 1, ids.length)).toArray();
        });
    return all[0];
  }

  private static float loss(Gpt model, Tape tape, int[] ids) {
    float[] loss = new float[1];
    int[] targets = ids.clone();
    targets[2] = -100;
    tape.withoutGradient(
        () -> {
          tape.reset();
          loss[0] =
              model.loss(tape.ids(ids, 1, ids.length), tape.ids(targets, 1, ids.length)).item();
        });
    return loss[0];
  }

  /** Logits of a sequence read at once, and of the next tokens, one by one with a cache. */
  private static float[] logits(Gpt model, Tape tape) {
    float[][] all = new float[1][];
    TextGenerator one = new TextGenerator(model);
    int[] written = one.generate(PROMPT, 9, Sampling.GREEDY, null, token -> true);
    tape.withoutGradient(
        () -> {
          tape.reset();
          all[0] = model.forward(tape.ids(written, 1, written.length)).toArray();
        });
    return all[0];
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

  /** A vocabulary of some size, whose last token ends a text if it is to. */
  private record Vocabulary(int vocabSize, boolean ends) implements Tokenizer {
    @Override
    public String name() {
      return "test";
    }

    @Override
    public void encode(byte[] utf8, int from, int to, TokenSink sink) {
      throw new UnsupportedOperationException();
    }

    @Override
    public byte[] bytes(int id) {
      throw new UnsupportedOperationException();
    }

    @Override
    public OptionalInt endOfText() {
      return ends ? OptionalInt.of(vocabSize - 1) : OptionalInt.empty();
    }

    @Override
    public String toJson() {
      throw new UnsupportedOperationException();
    }
  }

  @Test
  void aTextEndsWithItsEndOfText() {
    Sampling any = new Sampling(TEMPERATURE, 0, 1);
    TextGenerator until = new TextGenerator(model, CONTEXT, new Vocabulary(VOCAB, true));
    int[] endless = generate(2000, any, 5);
    int end = PROMPT.length;
    while (endless[end] != VOCAB - 1) {
      end++;
    }
    List<Integer> given = new ArrayList<>();
    int[] ids = until.generate(PROMPT, 2000, any, new TorchGenerator(5), given::add);
    assertArrayEquals(Arrays.copyOf(endless, end), ids);
    assertEquals(end - PROMPT.length, given.size());
  }

  @Test
  void tokensThatTheTokenizerLacksAreNeverChosen() {
    int few = 7;
    TextGenerator some = new TextGenerator(model, CONTEXT, new Vocabulary(few, false));
    boolean[] seen = new boolean[VOCAB];
    for (Sampling sampling :
        List.of(
            Sampling.GREEDY,
            new Sampling(TEMPERATURE, 0, 1),
            new Sampling(TEMPERATURE, 20, 1),
            new Sampling(TEMPERATURE, 0, 0.9))) {
      some.stream(
          PROMPT,
          200,
          sampling,
          new TorchGenerator(3),
          id -> {
            seen[id] = true;
            return true;
          });
    }
    for (int id = 0; id < VOCAB; id++) {
      assertTrue(id < few || !seen[id], "chose " + id);
    }
    assertTrue(seen[0] && seen[few - 1], Arrays.toString(seen));
  }

  @Test
  void aTextMayBeOfAnyLength() {
    int[] count = new int[1];
    for (long most : new long[] {Integer.MAX_VALUE, Long.MAX_VALUE}) {
      count[0] = 0;
      generator.stream(PROMPT, most, Sampling.GREEDY, null, id -> ++count[0] < 100);
      assertEquals(100, count[0]);
    }
    int[] whole = generator.generate(PROMPT, Integer.MAX_VALUE, Sampling.GREEDY, null, id -> false);
    assertEquals(PROMPT.length + 1, whole.length);
  }

  @Test
  void aModelInTrainingIsLeftAsItWas() {
    TorchGenerator random = new TorchGenerator(11);
    GptConfig config = model.config().withDropout(0.5);
    try (Tape other = new Tape(device)) {
      Gpt learning = new Gpt(other, config, random);
      learning
          .namedParameters()
          .forEach((name, parameter) -> parameter.set(model.namedParameters().get(name).toArray()));
      TextGenerator kept = new TextGenerator(learning);
      learning.train();
      byte[] before = random.state();
      int[] ids = kept.generate(PROMPT, 2 * CONTEXT, Sampling.GREEDY, null, id -> true);
      assertTrue(learning.training());
      assertArrayEquals(before, random.state());
      assertArrayEquals(generate(2 * CONTEXT, Sampling.GREEDY, 1), ids);
      learning.eval();
      kept.generate(PROMPT, 1, Sampling.GREEDY, null, id -> true);
      assertFalse(learning.training());
    }
  }

  @Test
  void aModelThatDivergedIsNamed() {
    model.namedParameters().get("ln_f.weight").set(memory -> memory.fill((byte) 0xFF));
    for (Sampling sampling : List.of(Sampling.GREEDY, new Sampling(1, 5, 0.9))) {
      assertTrue(
          assertThrows(InputException.class, () -> generate(1, sampling, 1))
              .getMessage()
              .contains("not finite"));
    }
  }
}
