package dev.lanewise.core.model;

import dev.lanewise.core.backend.Buffer;
import dev.lanewise.core.backend.DType;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.data.Tokenizer;
import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.core.tensor.Tape;
import dev.lanewise.core.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.Locale;
import java.util.function.IntPredicate;
import java.util.stream.IntStream;

/**
 * Continues token sequences with a model, one token at a time, from a cache of keys and values.
 *
 * <p>A sequence may grow past what the model looks back at: when the cache is full, its newer half
 * is computed anew at the positions from 0 on, and generation goes on from there. No more of a
 * sequence is held than what is looked back at.
 *
 * <p>A model that is being trained may be looked at: generating is done in evaluation mode, and
 * leaves the model's mode and its random numbers as they were.
 */
public final class TextGenerator {
  private static final int PROMPT_CHUNK = 512;

  private final Gpt model;
  private final Tape tape;
  private final KvCache cache;
  private final int vocab;

  /** Number of ids that may be chosen; a model may have more than its tokenizer. */
  private final int choices;

  /** The token that ends a text, or -1. */
  private final int endOfText;

  /** The newest tokens: those that the cache holds, and one more. */
  private final int[] recent;

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
   * @param model a model
   */
  public TextGenerator(Gpt model) {
    this(model, model.config().contextLength());
  }

  /**
   * A generator of one sequence at a time.
   *
   * @param model a model
   * @param window tokens to look back at, at most the model's context length; the cache of keys and
   *     values has room for so many
   */
  public TextGenerator(Gpt model, int window) {
    this(model, window, model.config().vocabSize(), -1);
  }

  /**
   * A generator of one text at a time, which ends with the tokenizer's end of text if it has one.
   *
   * @param model a model
   * @param window tokens to look back at, at most the model's context length
   * @param tokenizer the tokens to choose among; those that only the model has are never chosen
   */
  public TextGenerator(Gpt model, int window, Tokenizer tokenizer) {
    this(
        model,
        window,
        Math.min(model.config().vocabSize(), tokenizer.vocabSize()),
        tokenizer.endOfText().orElse(-1));
  }

  private TextGenerator(Gpt model, int window, int choices, int endOfText) {
    this.model = model;
    this.tape = model.tape();
    this.vocab = model.config().vocabSize();
    this.choices = choices;
    this.endOfText = endOfText;
    this.cache = new KvCache(tape, model.config(), 1, window);
    this.recent = new int[window];
    this.logits = new float[vocab];
    this.weights = new float[choices];
    this.spare = new float[choices];
    boolean wide = tape.backend().activationType() == DType.FLOAT32;
    this.wideLogits = wide ? null : tape.zeros(vocab);
    this.lastLogits = Arena.ofAuto().allocate((long) vocab * Float.BYTES, 64);
  }

  /**
   * Continues a prompt and gives the whole.
   *
   * @param prompt token ids, at least one
   * @param maxTokens most tokens to add
   * @param sampling how tokens are chosen
   * @param generator draws, unless sampling is greedy
   * @param onToken receives each new token and tells whether to go on
   * @return prompt and continuation, without the token that ends a text
   */
  public int[] generate(
      int[] prompt,
      int maxTokens,
      Sampling sampling,
      TorchGenerator generator,
      IntPredicate onToken) {
    IntStream.Builder ids = IntStream.builder();
    for (int id : prompt) {
      ids.add(id);
    }
    stream(
        prompt,
        maxTokens,
        sampling,
        generator,
        id -> {
          ids.add(id);
          return onToken.test(id);
        });
    return ids.build().toArray();
  }

  /**
   * Continues a prompt, holding nothing of what was given away, so that a text may be of any
   * length.
   *
   * @param prompt token ids, at least one
   * @param maxTokens most tokens to add
   * @param sampling how tokens are chosen
   * @param generator draws, unless sampling is greedy
   * @param onToken receives each new token, but for the one that ends a text, and tells whether to
   *     go on
   * @throws InputException if the model's logits are not finite
   */
  public void stream(
      int[] prompt,
      long maxTokens,
      Sampling sampling,
      TorchGenerator generator,
      IntPredicate onToken) {
    run(prompt, maxTokens, sampling, generator, onToken, false);
  }

  /**
   * As {@link #stream}, but of what was said before, only what differs from the prompt is computed:
   * in a conversation, a turn costs its own tokens. Last digits may differ from those of the whole
   * prompt at once.
   *
   * @param prompt token ids of the whole conversation, at least one
   * @param maxTokens most tokens to add
   * @param sampling how tokens are chosen
   * @param generator draws, unless sampling is greedy
   * @param onToken receives each new token, but for the one that ends a text, and tells whether to
   *     go on
   * @throws InputException if the model's logits are not finite
   */
  public void reply(
      int[] prompt,
      long maxTokens,
      Sampling sampling,
      TorchGenerator generator,
      IntPredicate onToken) {
    run(prompt, maxTokens, sampling, generator, onToken, true);
  }

  private void run(
      int[] prompt,
      long maxTokens,
      Sampling sampling,
      TorchGenerator generator,
      IntPredicate onToken,
      boolean goesOn) {
    if (prompt.length == 0) {
      throw new IllegalArgumentException("a prompt has at least one token");
    }
    for (int id : prompt) {
      if (id < 0 || id >= vocab) {
        throw new IllegalArgumentException(
            "token " + id + " is outside the vocabulary of " + vocab);
      }
    }
    model.evaluate(
        () -> {
          begin(prompt, goesOn);
          proceed(Math.min(prompt.length, recent.length), maxTokens, sampling, generator, onToken);
          return null;
        });
  }

  /** Has the end of a prompt in the cache, which holds the newest tokens. */
  private void begin(int[] prompt, boolean goesOn) {
    int length = Math.min(prompt.length, recent.length);
    int from = prompt.length - length;
    int same = 0;
    // One token at least is fed, for its logits.
    while (goesOn
        && same < Math.min(length - 1, cache.length())
        && recent[same] == prompt[from + same]) {
      same++;
    }
    System.arraycopy(prompt, from, recent, 0, length);
    cache.truncate(same);
    feed(recent, same, length);
  }

  private void proceed(
      int promptLength,
      long maxTokens,
      Sampling sampling,
      TorchGenerator generator,
      IntPredicate onToken) {
    int length = promptLength;
    for (long added = 1; added <= maxTokens; added++) {
      int next = choose(sampling, generator);
      if (next == endOfText || !onToken.test(next) || added == maxTokens) {
        break;
      }
      if (cache.length() == recent.length) {
        int kept = Math.max(1, recent.length / 2) - 1;
        System.arraycopy(recent, recent.length - kept, recent, 0, kept);
        length = kept;
        cache.truncate(0);
      }
      recent[length++] = next;
      feed(recent, cache.length(), length);
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
    float max = Float.NEGATIVE_INFINITY;
    for (int i = 0; i < choices; i++) {
      max = Math.max(max, logits[i]);
    }
    if (!Float.isFinite(max)) {
      throw new InputException(
          "The model's logits are not finite numbers: its training diverged, or its parameters are"
              + " damaged; take an older checkpoint.");
    }
    if (sampling.temperature() == 0) {
      int best = 0;
      while (logits[best] != max) {
        best++;
      }
      return best;
    }
    float least = kthLargest(sampling.topK());
    for (int i = 0; i < choices; i++) {
      boolean stays = !(logits[i] < least);
      weights[i] = stays ? (float) Math.exp((logits[i] - max) / sampling.temperature()) : 0;
    }
    keepTopP(sampling.topP());
    return (int) generator.multinomial(weights, 1, true)[0];
  }

  /** The k-th largest logit, found in a heap of the k largest; all of them with 0. */
  private float kthLargest(int k) {
    if (k == 0 || k >= choices) {
      return Float.NEGATIVE_INFINITY;
    }
    Arrays.fill(spare, 0, k, Float.NEGATIVE_INFINITY);
    for (int i = 0; i < choices; i++) {
      float logit = logits[i];
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
    double low = (1 - p) * total / choices;
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
    for (int i = 0; i < choices; i++) {
      if (at < count && weights[i] < spare[at]) {
        weights[i] = 0;
      }
    }
  }
}
