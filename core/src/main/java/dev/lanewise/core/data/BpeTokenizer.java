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
import java.util.BitSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.function.Supplier;

/**
 * Byte-level byte-pair encoding: GPT-2's vocabulary, one learnt from a corpus, or one read from a
 * file of Hugging Face's or llama.cpp's.
 *
 * <p>Tokens that are found as they stand, as {@code <|endoftext|>}, are taken out first. The rest
 * is cut into words, by default as GPT-2 cuts it; inside a word pairs of neighbours are joined. In
 * GPT-2's vocabulary and in learnt ones, of all neighbours that together make a token, the leftmost
 * pair with the lowest id is joined until none is left, and the last id is {@code <|endoftext|>},
 * which ends a document.
 */
public final class BpeTokenizer implements Tokenizer {
  /** The kind of those that were read from a file. */
  static final String HUGGING_FACE = "huggingface";

  private static final String END_OF_TEXT = "<|endoftext|>";
  private final String name;
  private final byte[][] tokens;
  private final Supplier<BpeVocabulary> vocabulary;
  private final BytePairs pairs;
  private final PreTokenizer words;
  private final TextNormalizer normalizer;
  private final AddedTokens before;
  private final AddedTokens afterwards;
  private final OptionalInt endOfText;
  private final String beginOfText;
  private final String chatTemplate;
  private final EndOfText policy;
  // Encoders remember words, so those that are free are used again until memory is collected.
  private final Queue<WeakReference<BytePairs.Encoder>> idle = new ConcurrentLinkedQueue<>();

  /** A tokenizer of a vocabulary that was read from a file. */
  BpeTokenizer(
      BpeVocabulary vocabulary,
      BytePairs pairs,
      PreTokenizer words,
      TextNormalizer normalizer,
      TokenizerFiles.Beside beside) {
    this.name = HUGGING_FACE;
    this.tokens = vocabulary.tokens();
    this.vocabulary = () -> vocabulary;
    this.pairs = pairs;
    this.words = words;
    this.normalizer = normalizer;
    this.before =
        new AddedTokens(vocabulary.added().stream().filter(t -> !t.normalized()).toList());
    this.afterwards =
        new AddedTokens(
            vocabulary.added().stream()
                .filter(AddedToken::normalized)
                .map(token -> token.withContent(normalizer.apply(token.content())))
                .toList());
    this.endOfText = beside.endOfText();
    this.beginOfText = beside.beginOfText();
    this.chatTemplate = beside.chatTemplate();
    this.policy = EndOfText.ALLOW;
  }

  /** A tokenizer as GPT-2's: ids are ranks, and the end of text comes last. */
  private BpeTokenizer(String name, byte[][] learnt) {
    byte[][] all = Arrays.copyOf(learnt, learnt.length + 1);
    all[learnt.length] = END_OF_TEXT.getBytes(StandardCharsets.US_ASCII);
    BytePairs ranked = new BytePairs(learnt);
    List<AddedToken> added = List.of(AddedToken.special(learnt.length, END_OF_TEXT));
    this.name = name;
    this.tokens = all;
    this.vocabulary = () -> ranked(all, ranked, added);
    this.pairs = ranked;
    this.words = PreTokenizer.GPT2;
    this.normalizer = TextNormalizer.NONE;
    this.before = new AddedTokens(added);
    this.afterwards = new AddedTokens(List.of());
    this.endOfText = OptionalInt.of(learnt.length);
    this.beginOfText = null;
    this.chatTemplate = null;
    this.policy = EndOfText.ALLOW;
  }

  /** The same with another policy. */
  private BpeTokenizer(BpeTokenizer other, EndOfText policy) {
    this.name = other.name;
    this.tokens = other.tokens;
    this.vocabulary = other.vocabulary;
    this.pairs = other.pairs;
    this.words = other.words;
    this.normalizer = other.normalizer;
    this.before = other.before;
    this.afterwards = other.afterwards;
    this.endOfText = other.endOfText;
    this.beginOfText = other.beginOfText;
    this.chatTemplate = other.chatTemplate;
    this.policy = Objects.requireNonNull(policy);
  }

  private static BpeVocabulary ranked(byte[][] tokens, BytePairs pairs, List<AddedToken> added) {
    BitSet all = new BitSet(tokens.length);
    all.set(0, tokens.length);
    BitSet literal = new BitSet(tokens.length);
    literal.set(tokens.length - 1);
    return new BpeVocabulary(
        tokens, all, literal, pairs.lastMerges(), true, added, BpeVocabulary.gpt2Rest());
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
    return new BpeTokenizer("bpe", trainer.train(vocabSize - 1));
  }

  /**
   * A vocabulary whose ids are ranks, from the bytes of its tokens.
   *
   * @param tokens bytes by id, the end of the text last
   * @throws IllegalArgumentException if they are not such tokens
   */
  static BpeTokenizer ranked(List<byte[]> tokens) {
    byte[][] learnt = tokens.subList(0, tokens.size() - 1).toArray(byte[][]::new);
    if (!Arrays.equals(tokens.getLast(), END_OF_TEXT.getBytes(StandardCharsets.US_ASCII))) {
      throw new IllegalArgumentException("the last token is not " + END_OF_TEXT);
    }
    if (Arrays.deepEquals(learnt, Arrays.copyOf(Gpt2.TOKENIZER.tokens, learnt.length))
        && tokens.size() == Gpt2.TOKENIZER.vocabSize()) {
      return Gpt2.TOKENIZER;
    }
    for (int b = 0; b < 256; b++) {
      if (b >= learnt.length || learnt[b].length != 1 || (learnt[b][0] & 0xff) != b) {
        throw new IllegalArgumentException("the first tokens are not the bytes");
      }
    }
    BytePairs pairs = new BytePairs(learnt);
    try {
      pairs.lastMerges();
    } catch (InputException e) {
      throw new IllegalArgumentException(e);
    }
    return new BpeTokenizer("bpe", learnt);
  }

  /** Whether this gives GPT-2's ids and bytes, whatever file it was read from. */
  boolean isGpt2() {
    return name.equals("gpt2")
        || chatTemplate == null
            && tokens.length == Gpt2.TOKENIZER.tokens.length
            && endOfText.equals(Gpt2.TOKENIZER.endOfText)
            && Arrays.deepEquals(tokens, Gpt2.TOKENIZER.tokens)
            && vocabulary.get().rest().get("normalizer") == null
            && vocabulary.get().ggufName().filter("gpt-2"::equals).isPresent()
            && vocabulary.get().added().stream().allMatch(t -> t.id() == tokens.length - 1);
  }

  /**
   * The same vocabulary with another treatment of {@code <|endoftext|>} and other special tokens.
   *
   * @param newPolicy what to make of their characters in a text
   * @return the tokenizer
   */
  public BpeTokenizer withEndOfText(EndOfText newPolicy) {
    return newPolicy == policy ? this : new BpeTokenizer(this, newPolicy);
  }

  @Override
  public String name() {
    return name;
  }

  @Override
  public int vocabSize() {
    return tokens.length;
  }

  @Override
  public OptionalInt endOfText() {
    return endOfText;
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
      BytePairs.Encoder free = encoder;
      before.split(
          utf8,
          from,
          to,
          policy,
          (b, start, end) -> normalizer.apply(b, start, end, encodeNormal(free, sink)),
          sink);
    } finally {
      idle.add(reference);
    }
  }

  private AddedTokens.Gap encodeNormal(BytePairs.Encoder encoder, TokenSink sink) {
    return (b, from, to) ->
        afterwards.split(
            b,
            from,
            to,
            policy,
            (text, start, end) -> words.encode(encoder, text, start, end, sink),
            sink);
  }

  @Override
  public byte[] bytes(int id) {
    if (id < 0 || id >= tokens.length) {
      throw badId(id);
    }
    return tokens[id] == null ? new byte[0] : tokens[id].clone();
  }

  /**
   * What this tokenizer is made from, for those who write it in another format.
   *
   * @return the vocabulary; of learnt ones and GPT-2's, each token longer than a byte is the merger
   *     of two before it
   */
  public BpeVocabulary vocabulary() {
    return vocabulary.get();
  }

  /**
   * The token that begins a text, where the files beside the tokenizer named one. {@link #encode}
   * does not add it.
   *
   * @return its characters
   */
  public Optional<String> beginOfText() {
    return Optional.ofNullable(beginOfText);
  }

  /**
   * How conversations are written for models of this tokenizer.
   *
   * @return a template in Jinja's language, where the file had one
   */
  public Optional<String> chatTemplate() {
    return Optional.ofNullable(chatTemplate);
  }

  /**
   * This tokenizer as the object of Hugging Face's {@code tokenizer.json}.
   *
   * @return the object, from which Hugging Face's tokenizers make a tokenizer with the same ids
   */
  public Map<String, Object> toHuggingFace() {
    return HuggingFaceTokenizer.write(vocabulary());
  }

  @Override
  public String toJson() {
    Map<String, Object> json = new LinkedHashMap<>();
    json.put("kind", name);
    if (name.equals(HUGGING_FACE)) {
      endOfText.ifPresent(id -> json.put("endOfText", id));
      if (beginOfText != null) {
        json.put("beginOfText", beginOfText);
      }
      if (chatTemplate != null) {
        json.put("chatTemplate", chatTemplate);
      }
      json.put("tokenizer", toHuggingFace());
    } else if (!name.equals("gpt2")) {
      List<String> merges = new ArrayList<>();
      for (int id = 256; id < tokens.length - 1; id++) {
        merges.add(Base64.getEncoder().encodeToString(tokens[id]));
      }
      json.put("tokensAfterBytes", merges);
    }
    return Json.write(json);
  }

  /** Reads back what {@link #toJson} wrote for a vocabulary that was read from a file. */
  @SuppressWarnings("unchecked")
  static BpeTokenizer fromHuggingFaceJson(Map<String, Object> json, String source) {
    if (!(json.get("tokenizer") instanceof Map<?, ?> tokenizer)) {
      throw new InputException(
          source + " describes a huggingface tokenizer without its tokenizer.");
    }
    return HuggingFaceTokenizer.read(
        (Map<String, Object>) tokenizer,
        new TokenizerFiles.Beside(
            json.get("endOfText") instanceof Long id && id == id.intValue()
                ? OptionalInt.of(id.intValue())
                : OptionalInt.empty(),
            json.get("beginOfText") instanceof String begin ? begin : null,
            json.get("chatTemplate") instanceof String template ? template : null),
        source);
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
    return new BpeTokenizer("bpe", tokens);
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
      return new BpeTokenizer("gpt2", tokens);
    }
  }
}
