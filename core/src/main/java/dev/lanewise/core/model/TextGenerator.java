package dev.lanewise.core.model;

import dev.lanewise.core.backend.Buffer;
import dev.lanewise.core.backend.DType;
import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.core.tensor.Tape;
import dev.lanewise.core.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.Locale;
import java.util.function.IntPredicate;

/**
 * Continues token sequences with a model, one token at a time, from a cache of keys and values.
 *
 * <p>A sequence may grow past what the model looks back at: when the cache is full, its newer half
 * is computed anew at the positions from 0 on, and generation goes on from there.
 */
public final class TextGenerator {
  private static final int PROMPT_CHUNK = 512;

  private final Gpt model;
  private final Tape tape;
  private final KvCache cache;
  private final int vocab;
  private final MemorySegment lastLogits;

  /** The last logits in float32 where the device keeps activations in another type, else null. */
  private final Tensor wideLogits;

  private final float[] logits;
  private final float[] weights;
  private final float[] spare;

  /**
   * How the next token is chosen.
   *
   * @param temperature what logits are divided by; 0 chooses the likeliest token
   * @param topK number of likeliest tokens to choose among; 0 for all
   * @param topP smallest set of likeliest tokens with this probability to choose among; 1 for all
   */
  public record Sampling(double temperature, int topK, double topP) {
    /** Always the likeliest token. */
    public static final Sampling GREEDY = new Sampling(0, 0, 1);

    /** Checks the numbers. */
    public Sampling {
      if (!(temperature >= 0) || topK < 0 || !(topP > 0 && topP <= 1)) {
        throw new IllegalArgumentException(
            String.format(
                Locale.ROOT,
                "sampling needs temperature ≥ 0, top-k ≥ 0 and 0 < top-p ≤ 1, not %s, %d, %s",
                temperature,
                topK,
                topP));
      }
    }
  }

  /**
   * A generator of one sequence at a time, which looks back as far as the model can.
   *
   * @param model a model; it is put in evaluation mode
   */
  public TextGenerator(Gpt model) {
    this(model, model.config().contextLength());
  }

  /**
   * A generator of one sequence at a time.
   *
   * @param model a model; it is put in evaluation mode
   * @param window tokens to look back at, at most the model's context length; the cache of keys and
   *     values has room for so many
   */
  public TextGenerator(Gpt model, int window) {
    this.model = model.eval();
    this.tape = model.tape();
    this.vocab = model.config().vocabSize();
    this.cache = new KvCache(tape, model.config(), 1, window);
    this.logits = new float[vocab];
    this.weights = new float[vocab];
    this.spare = new float[vocab];
    boolean wide = tape.backend().activationType() == DType.FLOAT32;
    this.wideLogits = wide ? null : tape.zeros(vocab);
    this.lastLogits = Arena.ofAuto().allocate((long) vocab * Float.BYTES, 64);
  }

  /**
   * Continues a prompt.
   *
   * @param prompt token ids, at least one
   * @param maxTokens most tokens to add
   * @param sampling how tokens are chosen
   * @param generator draws, unless sampling is greedy
   * @param onToken receives each new token and tells whether to go on
   * @return prompt and continuation
   */
  public int[] generate(
      int[] prompt,
      int maxTokens,
      Sampling sampling,
      TorchGenerator generator,
      IntPredicate onToken) {
    if (prompt.length == 0) {
      throw new IllegalArgumentException("a prompt has at least one token");
    }
    for (int id : prompt) {
      if (id < 0 || id >= vocab) {
        throw new IllegalArgumentException(
            "token " + id + " is outside the vocabulary of " + vocab);
      }
    }
    int context = cache.capacity();
    int[] ids = Arrays.copyOf(prompt, prompt.length + maxTokens);
    int length = prompt.length;
    boolean recording = tape.recording();
    tape.setRecording(false);
    try {
      cache.truncate(0);
      int from = Math.max(0, length - context);
      feed(ids, from, length);
      while (length < ids.length) {
        int next = choose(sampling, generator);
        ids[length++] = next;
        if (!onToken.test(next) || length == ids.length) {
          break;
        }
        if (cache.length() == context) {
          cache.truncate(0);
          feed(ids, length - Math.max(1, context / 2), length);
        } else {
          feed(ids, length - 1, length);
        }
      }
      return Arrays.copyOf(ids, length);
    } finally {
      tape.setRecording(recording);
    }
  }

  private void feed(int[] ids, int from, int to) {
    for (int at = from; at < to; ) {
      int part = Math.min(PROMPT_CHUNK, to - at);
      tape.reset();
      Tensor some = tape.stepIds(Arrays.copyOfRange(ids, at, at + part), 1, part);
      Buffer last = model.next(some, cache).data();
      at += part;
      if (at == to) {
        if (wideLogits != null) {
          tape.backend().copy(last, wideLogits.data());
          last = wideLogits.data();
        }
        tape.backend().download(last, lastLogits);
        MemorySegment.copy(lastLogits, ValueLayout.JAVA_FLOAT, 0, logits, 0, vocab);
      }
    }
  }

  private int choose(Sampling sampling, TorchGenerator generator) {
    if (sampling.temperature() == 0) {
      int best = 0;
      for (int i = 1; i < vocab; i++) {
        if (logits[i] > logits[best]) {
          best = i;
        }
      }
      return best;
    }
    float max = Float.NEGATIVE_INFINITY;
    for (float logit : logits) {
      max = Math.max(max, logit);
    }
    float least = kthLargest(sampling.topK());
    for (int i = 0; i < vocab; i++) {
      boolean stays = !(logits[i] < least);
      weights[i] = stays ? (float) Math.exp((logits[i] - max) / sampling.temperature()) : 0;
    }
    keepTopP(sampling.topP());
    return (int) generator.multinomial(weights, 1, true)[0];
  }

  /** The k-th largest logit, found in a heap of the k largest; all of them with 0. */
  private float kthLargest(int k) {
    if (k == 0 || k >= vocab) {
      return Float.NEGATIVE_INFINITY;
    }
    Arrays.fill(spare, 0, k, Float.NEGATIVE_INFINITY);
    for (float logit : logits) {
      if (logit > spare[0]) {
        int at = 0;
        for (int child = 1; child < k; child = 2 * at + 1) {
          if (child + 1 < k && spare[child + 1] < spare[child]) {
            child++;
          }
          if (logit <= spare[child]) {
            break;
          }
          spare[at] = spare[child];
          at = child;
        }
        spare[at] = logit;
      }
    }
    return spare[0];
  }

  /** Sets all weights to zero that the smallest set of this probability can do without. */
  private void keepTopP(double p) {
    if (p >= 1) {
      return;
    }
    double total = 0;
    for (float weight : weights) {
      total += weight;
    }
    // All weights below this together are less than what the set may leave out.
    double low = (1 - p) * total / vocab;
    int count = 0;
    for (float weight : weights) {
      if (weight >= low) {
        spare[count++] = weight;
      }
    }
    Arrays.sort(spare, 0, count);
    double sum = 0;
    int at = count;
    while (at > 0 && sum < p * total) {
      sum += spare[--at];
    }
    for (int i = 0; i < vocab; i++) {
      if (at < count && weights[i] < spare[at]) {
        weights[i] = 0;
      }
    }
  }
}
