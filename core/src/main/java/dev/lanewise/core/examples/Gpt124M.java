package dev.lanewise.core.examples;

import dev.lanewise.core.data.BpeTokenizer;
import dev.lanewise.core.data.EndOfText;
import dev.lanewise.core.data.Tokenizer;
import dev.lanewise.core.model.Gpt;
import dev.lanewise.core.model.GptConfig;
import dev.lanewise.core.model.GptInit;
import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.core.tensor.Shape;
import dev.lanewise.core.tensor.Tape;
import dev.lanewise.core.tensor.Tensor;
import java.util.Arrays;

/** The untrained 124M-parameter GPT of the notebooks: text generation, and the loss by hand. */
public final class Gpt124M {
  /** The notebook's configuration. */
  public static final GptConfig CONFIG = GptConfig.tutorial(50257, 256, 12, 12, 768, 0.1);

  private final Tape tape;
  private final Gpt model;
  private final Tokenizer tokenizer = BpeTokenizer.gpt2(EndOfText.ALLOW);

  /**
   * A model with the notebook's weights.
   *
   * @param tape where it runs
   * @param generator seeded with 123
   * @param swapQueryAndKey whether queries come from the projection called key and keys from the
   *     one called query, as the notebook has it
   */
  public Gpt124M(Tape tape, TorchGenerator generator, boolean swapQueryAndKey) {
    this.tape = tape;
    model = new Gpt(tape, CONFIG, generator);
    GptInit.torchDefaults(model, generator, swapQueryAndKey);
    model.eval();
  }

  /** Number of parameters. */
  public long parameterCount() {
    return model.parameterCount();
  }

  /** The tokenizer. */
  public Tokenizer tokenizer() {
    return tokenizer;
  }

  /**
   * Adds the likeliest token again and again.
   *
   * @param ids token ids
   * @param newTokens number of tokens to add
   * @return ids and continuation
   */
  public int[] generate(int[] ids, int newTokens) {
    for (int i = 0; i < newTokens; i++) {
      int[] seen = Arrays.copyOfRange(ids, Math.max(0, ids.length - 256), ids.length);
      tape.reset();
      Tensor logits = model.forward(tape.stepIds(seen, 1, seen.length));
      int next = logits.argmax().toIntArray()[seen.length - 1];
      ids = Arrays.copyOf(ids, ids.length + 1);
      ids[ids.length - 1] = next;
    }
    return ids;
  }

  /**
   * What the model makes of two batches of three tokens.
   *
   * @param shape of the probabilities
   * @param likeliest token that it would choose at each position
   * @param targetProbabilities probability of each target
   * @param logProbabilities their logarithms
   * @param meanLogProbability their mean
   * @param loss cross-entropy
   * @param perplexity exponential of the negative mean log-probability
   */
  public record Judgement(
      Shape shape,
      int[] likeliest,
      float[] targetProbabilities,
      float[] logProbabilities,
      float meanLogProbability,
      float loss,
      float perplexity) {}

  /**
   * Judges how well the model predicts.
   *
   * @param inputs two rows of three ids
   * @param targets the ids that follow
   */
  public Judgement judge(int[] inputs, int[] targets) {
    tape.reset();
    Tensor ids = tape.stepIds(inputs, 2, 3);
    Tensor next = tape.stepIds(targets, 2, 3);
    Gpt.Output output = model.forward(ids, next);
    Tensor probabilities = output.logits().softmax();
    Tensor chosen = probabilities.gather(next);
    Tensor logs = chosen.log();
    float mean = logs.mean().item();
    return new Judgement(
        probabilities.shape(),
        probabilities.argmax().toIntArray(),
        chosen.toArray(),
        logs.toArray(),
        mean,
        output.loss().item(),
        (float) Math.exp(-mean));
  }
}
