package dev.lanewise.core.data;

import dev.lanewise.core.format.ByteAlphabet;
import java.nio.charset.StandardCharsets;
import java.util.BitSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * What a byte-level BPE tokenizer is made from, for those who write it in another format.
 *
 * @param tokens bytes of each token by id, of added ones their text in UTF-8; null where no token
 *     has the id. Not copied.
 * @param inModel ids of the tokens that are part of the BPE vocabulary; the others are added tokens
 *     alone
 * @param literal ids of the tokens whose text does not stand for bytes, among them all added ones
 * @param merges ids of left and right of each pair that is joined, two numbers a pair, in order of
 *     joining. Not copied.
 * @param wholeWords whether a word that is a token as a whole stays whole, whatever the pairs say
 * @param added tokens that are found in text before it is cut into words
 * @param rest {@code normalizer}, {@code pre_tokenizer}, {@code post_processor} and {@code decoder}
 *     as in a {@code tokenizer.json}
 */
@SuppressWarnings("ArrayRecordComponent")
public record BpeVocabulary(
    byte[][] tokens,
    BitSet inModel,
    BitSet literal,
    int[] merges,
    boolean wholeWords,
    List<AddedToken> added,
    Map<String, Object> rest) {

  /** Ids run from 0 to one less. */
  public int size() {
    return tokens.length;
  }

  /**
   * A token as it is written in {@code vocab.json}, {@code tokenizer.json} and GGUF: bytes by their
   * printable characters, added tokens as they stand.
   *
   * @param id a token's id
   * @return the text; null if no token has the id
   */
  public String text(int id) {
    if (tokens[id] == null) {
      return null;
    }
    return literal.get(id)
        ? new String(tokens[id], StandardCharsets.UTF_8)
        : ByteAlphabet.text(tokens[id]);
  }

  /**
   * GGUF's name for the way to cut text ({@code tokenizer.ggml.pre}).
   *
   * @return the name, as {@code gpt-2} or {@code llama-bpe}; nothing if GGUF has none
   */
  public Optional<String> ggufName() {
    return Optional.ofNullable(GgufVocabulary.nameOf(rest));
  }

  /** GPT-2's way to cut and write text, as a {@code tokenizer.json} says it. */
  static Map<String, Object> gpt2Rest() {
    Map<String, Object> bytes = new LinkedHashMap<>();
    bytes.put("type", "ByteLevel");
    bytes.put("add_prefix_space", false);
    bytes.put("trim_offsets", true);
    bytes.put("use_regex", true);
    Map<String, Object> rest = new LinkedHashMap<>();
    rest.put("normalizer", null);
    rest.put("pre_tokenizer", bytes);
    rest.put("post_processor", bytes);
    rest.put("decoder", bytes);
    return rest;
  }
}
