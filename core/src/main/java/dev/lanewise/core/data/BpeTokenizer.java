package dev.lanewise.core.data;

import com.knuddels.jtokkit.Encodings;
import com.knuddels.jtokkit.api.Encoding;
import com.knuddels.jtokkit.api.EncodingType;
import com.knuddels.jtokkit.api.IntArrayList;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.Json;
import java.lang.ref.WeakReference;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.OptionalInt;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;

/**
 * Byte-level byte-pair encoding: GPT-2's vocabulary, or one learnt from a corpus.
 *
 * <p>Text is cut into words as GPT-2 cuts it; inside a word, of all neighbours that together make a
 * token, the leftmost pair with the lowest id is joined until none is left. The last id is {@code
 * <|endoftext|>}, which ends a document.
 */
public final class BpeTokenizer implements Tokenizer {
  private static final String END_OF_TEXT = "<|endoftext|>";
  private static final byte[] END_OF_TEXT_BYTES = END_OF_TEXT.getBytes(StandardCharsets.US_ASCII);

  private final String name;
  private final byte[][] tokens;
  private final BytePairs pairs;
  private final EndOfText policy;
  // Encoders remember words, so those that are free are used again until memory is collected.
  private final Queue<WeakReference<BytePairs.Encoder>> idle = new ConcurrentLinkedQueue<>();

  private BpeTokenizer(String name, byte[][] tokens, BytePairs pairs, EndOfText policy) {
    this.name = name;
    this.tokens = tokens;
    this.pairs = pairs;
    this.policy = Objects.requireNonNull(policy);
  }

  /**
   * GPT-2's vocabulary (r50k_base): 50257 tokens, of which 50256 is {@code <|endoftext|>}.
   *
   * @param policy what to make of the characters {@code <|endoftext|>} in a text
   * @return the tokenizer
   */
  public static BpeTokenizer gpt2(EndOfText policy) {
    return Gpt2.TOKENIZER.withEndOfText(policy);
  }

  /**
   * Learns a vocabulary from a text.
   *
   * @param text the text to learn from; a few megabytes suffice
   * @param vocabSize number of tokens, at least 257: the 256 bytes, the merges, and {@code
   *     <|endoftext|>} last; a text with too few frequent pairs gives a smaller vocabulary
   * @return the tokenizer, which allows {@code <|endoftext|>}
   */
  public static BpeTokenizer train(String text, int vocabSize) {
    checkSize(vocabSize);
    BpeTrainer trainer = new BpeTrainer();
    byte[] utf8 = Utf8.encode(text);
    trainer.add(utf8, 0, utf8.length);
    return train(trainer, vocabSize);
  }

  static void checkSize(int vocabSize) {
    if (vocabSize < 257 || vocabSize > 65536) {
      throw new InputException(
          "A bpe vocabulary of "
              + vocabSize
              + " tokens is not possible; choose 257 (the bytes and the end of text) to 65536.");
    }
  }

  static BpeTokenizer train(BpeTrainer trainer, int vocabSize) {
    return ofMerges(trainer.train(vocabSize - 1));
  }

  private static BpeTokenizer ofMerges(byte[][] tokens) {
    return new BpeTokenizer("bpe", tokens, new BytePairs(tokens), EndOfText.ALLOW);
  }

  /**
   * The same vocabulary with another treatment of {@code <|endoftext|>}.
   *
   * @param newPolicy what to make of its characters in a text
   * @return the tokenizer
   */
  public BpeTokenizer withEndOfText(EndOfText newPolicy) {
    return newPolicy == policy ? this : new BpeTokenizer(name, tokens, pairs, newPolicy);
  }

  @Override
  public String name() {
    return name;
  }

  @Override
  public int vocabSize() {
    return tokens.length + 1;
  }

  @Override
  public OptionalInt endOfText() {
    return OptionalInt.of(tokens.length);
  }

  @Override
  public void encode(byte[] utf8, int from, int to, TokenSink sink) {
    Objects.checkFromToIndex(from, to, utf8.length);
    WeakReference<BytePairs.Encoder> reference = idle.poll();
    BytePairs.Encoder encoder = null;
    while (reference != null && (encoder = reference.get()) == null) {
      reference = idle.poll();
    }
    if (encoder == null) {
      encoder = pairs.encoder();
      reference = new WeakReference<>(encoder);
    }
    try {
      int start = from;
      while (policy != EndOfText.AS_TEXT) {
        int end = indexOfEndOfText(utf8, start, to);
        if (end < 0) {
          break;
        }
        if (policy == EndOfText.REFUSE) {
          throw new InputException(
              "The text holds "
                  + END_OF_TEXT
                  + " at byte "
                  + (end - from)
                  + ", which is refused here; remove it, or allow it as the end of a document.");
        }
        encodeWords(encoder, utf8, start, end, sink);
        sink.accept(tokens.length);
        start = end + END_OF_TEXT_BYTES.length;
      }
      encodeWords(encoder, utf8, start, to, sink);
    } finally {
      idle.add(reference);
    }
  }

  private static void encodeWords(
      BytePairs.Encoder encoder, byte[] utf8, int from, int to, TokenSink sink) {
    for (int i = from; i < to; ) {
      int end = Words.end(utf8, i, to);
      encoder.encode(utf8, i, end, sink);
      i = end;
    }
  }

  private static int indexOfEndOfText(byte[] b, int from, int to) {
    int length = END_OF_TEXT_BYTES.length;
    for (int i = from; i <= to - length; i++) {
      if (b[i] == '<' && Arrays.equals(b, i, i + length, END_OF_TEXT_BYTES, 0, length)) {
        return i;
      }
    }
    return -1;
  }

  @Override
  public byte[] bytes(int id) {
    if (id < 0 || id > tokens.length) {
      throw badId(id);
    }
    return (id == tokens.length ? END_OF_TEXT_BYTES : tokens[id]).clone();
  }

  @Override
  public String toJson() {
    Map<String, Object> json = new LinkedHashMap<>();
    json.put("kind", name);
    if (!name.equals("gpt2")) {
      List<String> merges = new ArrayList<>();
      for (int id = 256; id < tokens.length; id++) {
        merges.add(Base64.getEncoder().encodeToString(tokens[id]));
      }
      json.put("tokensAfterBytes", merges);
    }
    return Json.write(json);
  }

  /** Reads back what {@link #toJson} wrote for a learnt vocabulary. */
  static BpeTokenizer fromJson(Map<String, Object> json, String source) {
    if (!(json.get("tokensAfterBytes") instanceof List<?> merges)) {
      throw new InputException(source + " describes a bpe tokenizer without its tokensAfterBytes.");
    }
    byte[][] tokens = new byte[256 + merges.size()][];
    for (int b = 0; b < 256; b++) {
      tokens[b] = new byte[] {(byte) b};
    }
    for (int i = 0; i < merges.size(); i++) {
      try {
        tokens[256 + i] = Base64.getDecoder().decode((String) merges.get(i));
      } catch (IllegalArgumentException | ClassCastException | NullPointerException e) {
        throw new InputException(source + " holds a damaged token " + (256 + i) + ".", e);
      }
    }
    return ofMerges(tokens);
  }

  private static final class Gpt2 {
    static final BpeTokenizer TOKENIZER = load();

    private static BpeTokenizer load() {
      Encoding encoding = Encodings.newLazyEncodingRegistry().getEncoding(EncodingType.R50K_BASE);
      byte[][] tokens = new byte[50256][];
      IntArrayList one = new IntArrayList(1);
      one.add(0);
      for (int id = 0; id < tokens.length; id++) {
        one.set(0, id);
        tokens[id] = encoding.decodeBytes(one);
      }
      return new BpeTokenizer("gpt2", tokens, new BytePairs(tokens), EndOfText.ALLOW);
    }
  }
}
