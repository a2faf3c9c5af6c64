package dev.lanewise.core.model;

import java.util.Locale;

/**
 * Sizes and variants of a GPT.
 *
 * @param vocabSize number of tokens
 * @param contextLength most positions that the model can look at
 * @param layers number of transformer blocks
 * @param heads attention heads of each block
 * @param channels width of the residual stream, a multiple of heads
 * @param dropout probability of dropout after the embedding, in attention and on both residual
 *     branches, in training
 * @param qkvBias whether queries, keys and values have a bias
 * @param tiedHead whether the output head is the token embedding
 */
public record GptConfig(
    int vocabSize,
    int contextLength,
    int layers,
    int heads,
    int channels,
    double dropout,
    boolean qkvBias,
    boolean tiedHead) {

  /**
   * Checks the sizes.
   *
   * @throws IllegalArgumentException if one is not positive or the heads do not divide the channels
   */
  public GptConfig {
    if (vocabSize < 1 || contextLength < 1 || layers < 1 || heads < 1 || channels < 1) {
      throw new IllegalArgumentException(
          String.format(
              Locale.ROOT,
              "a model needs positive sizes, not vocabulary %d, context %d, %d layers, %d heads, %d"
                  + " channels",
              vocabSize,
              contextLength,
              layers,
              heads,
              channels));
    }
    if (channels % heads != 0) {
      throw new IllegalArgumentException(
          channels + " channels cannot be shared evenly by " + heads + " heads");
    }
    if (!(dropout >= 0 && dropout < 1)) {
      throw new IllegalArgumentException("dropout " + dropout + " is not in [0, 1)");
    }
  }

  /** GPT-2's architecture: tied head, biases everywhere, no dropout. */
  public static GptConfig gpt2(
      int vocabSize, int contextLength, int layers, int heads, int channels) {
    return new GptConfig(vocabSize, contextLength, layers, heads, channels, 0, true, true);
  }

  /** The tutorials' architecture: untied head, no bias in queries, keys and values. */
  public static GptConfig tutorial(
      int vocabSize, int contextLength, int layers, int heads, int channels, double dropout) {
    return new GptConfig(vocabSize, contextLength, layers, heads, channels, dropout, false, false);
  }

  /** The same model over another vocabulary. */
  public GptConfig withVocabSize(int size) {
    return new GptConfig(size, contextLength, layers, heads, channels, dropout, qkvBias, tiedHead);
  }

  /** The same model with another context length. */
  public GptConfig withContextLength(int length) {
    return new GptConfig(vocabSize, length, layers, heads, channels, dropout, qkvBias, tiedHead);
  }

  /** The same model with another dropout. */
  public GptConfig withDropout(double p) {
    return new GptConfig(vocabSize, contextLength, layers, heads, channels, p, qkvBias, tiedHead);
  }

  /** Width of one head. */
  public int headSize() {
    return channels / heads;
  }
}
