package dev.lanewise.core.data;

import dev.lanewise.core.base.InputException;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.SequencedMap;

/** Tokenizers of every kind in the forms that other programs read, with the same ids. */
public final class TokenizerExport {
  private TokenizerExport() {}

  /**
   * The object of Hugging Face's {@code tokenizer.json}.
   *
   * @param tokenizer any of ours
   * @return the object
   */
  public static Map<String, Object> toHuggingFace(Tokenizer tokenizer) {
    return tokenizer instanceof BpeTokenizer bpe
        ? bpe.toHuggingFace()
        : PlainVocabulary.toHuggingFace(tokenizer);
  }

  /**
   * The metadata of a GGUF file. Nothing that can stand in a text becomes its end.
   *
   * @param tokenizer any of ours
   * @param rows rows of the model's token embedding; llama.cpp wants a token for each, so those
   *     beyond the vocabulary get one that is marked as unused
   * @return values by key
   * @throws InputException if GGUF cannot say how the tokenizer cuts text or what ends one
   */
  public static SequencedMap<String, Object> toGguf(Tokenizer tokenizer, int rows) {
    if (!(tokenizer instanceof BpeTokenizer bpe)) {
      return new LinkedHashMap<>(PlainVocabulary.toGguf(tokenizer, rows));
    }
    BpeVocabulary vocabulary = bpe.vocabulary();
    String way =
        vocabulary
            .ggufName()
            .orElseThrow(
                () ->
                    new InputException(
                        "GGUF has no name for the way in which this tokenizer cuts text into"
                            + " words, so llama.cpp would give other tokens; export to hf."));
    List<String> texts = new ArrayList<>();
    List<Integer> types = new ArrayList<>();
    for (int id = 0; id < rows; id++) {
      String text = id < vocabulary.size() ? vocabulary.text(id) : null;
      texts.add(text == null ? "[PAD" + id + "]" : text);
      types.add(text == null ? GgufVocabulary.UNUSED : GgufVocabulary.NORMAL);
    }
    OptionalInt end = tokenizer.endOfText();
    for (AddedToken token : vocabulary.added()) {
      boolean special = token.special();
      types.set(token.id(), special ? GgufVocabulary.CONTROL : GgufVocabulary.USER_DEFINED);
      if (special && end.isEmpty()) {
        end = OptionalInt.of(token.id());
      }
    }
    if (end.isEmpty()) {
      throw new InputException(
          "This tokenizer has no token that ends a text, and llama.cpp would take token 11 for it;"
              + " export to hf.");
    }
    types.set(end.getAsInt(), GgufVocabulary.CONTROL);
    List<String> merges = new ArrayList<>();
    int[] pairs = vocabulary.merges();
    for (int i = 0; i < pairs.length; i += 2) {
      merges.add(vocabulary.text(pairs[i]) + " " + vocabulary.text(pairs[i + 1]));
    }
    SequencedMap<String, Object> metadata = new LinkedHashMap<>();
    metadata.put("tokenizer.ggml.model", "gpt2");
    metadata.put("tokenizer.ggml.pre", way);
    metadata.put("tokenizer.ggml.tokens", texts);
    metadata.put("tokenizer.ggml.token_type", types);
    metadata.put("tokenizer.ggml.merges", merges);
    metadata.put("tokenizer.ggml.bos_token_id", (long) end.getAsInt());
    metadata.put("tokenizer.ggml.eos_token_id", (long) end.getAsInt());
    metadata.put("tokenizer.ggml.add_bos_token", false);
    metadata.put("tokenizer.ggml.add_space_prefix", false);
    bpe.chatTemplate().ifPresent(template -> metadata.put("tokenizer.chat_template", template));
    return metadata;
  }

  /**
   * The bytes of each token, which is all that llm.c knows of a vocabulary.
   *
   * @param tokenizer any of ours
   * @return bytes by id
   */
  public static List<byte[]> toBytes(Tokenizer tokenizer) {
    List<byte[]> tokens = new ArrayList<>();
    for (int id = 0; id < tokenizer.vocabSize(); id++) {
      tokens.add(tokenizer.bytes(id));
    }
    return tokens;
  }

  /**
   * The tokenizer whose tokens these are, where the bytes alone say how text becomes tokens.
   *
   * @param tokens bytes by id: the 256 bytes, or sorted characters, or tokens of which each is the
   *     merger of two before it, as GPT-2's, with the end of the text last
   * @param source where they come from, for the error message
   * @throws InputException if they are none of these
   */
  public static Tokenizer ofBytes(List<byte[]> tokens, String source) {
    Optional<Tokenizer> plain = PlainVocabulary.of(tokens);
    if (plain.isPresent()) {
      return plain.get();
    }
    try {
      return BpeTokenizer.ranked(tokens);
    } catch (IllegalArgumentException e) {
      throw new InputException(
          source
              + " does not say how text is cut into its tokens, and they are neither bytes nor"
              + " characters nor ranked as GPT-2's.",
          e);
    }
  }
}
