package dev.lanewise.core.data;

import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.JsonFields;
import dev.lanewise.core.format.ByteAlphabet;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.BitSet;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalInt;

/**
 * Hugging Face's {@code tokenizer.json} of a byte-level BPE tokenizer, read and written. Others are
 * refused by name.
 */
final class HuggingFaceTokenizer {
  /** More ids than any vocabulary has; a larger one is a damaged file. */
  private static final int MOST_IDS = 1 << 22;

  private HuggingFaceTokenizer() {}

  /**
   * Makes a tokenizer.
   *
   * @param file the file's object
   * @param beside what other files say about it
   * @param source the file, for error messages
   * @throws InputException if the object is no tokenizer, damaged, or of a kind that is not read
   */
  static BpeTokenizer read(Map<String, Object> file, TokenizerFiles.Beside beside, String source) {
    JsonFields fields = new JsonFields(file, source);
    JsonFields model = fields.object("model");
    checkModel(model, source);
    if (!fields.has("pre_tokenizer")) {
      throw new InputException(
          source
              + " has no pre-tokenizer, as tokenizers that SentencePiece made; only tokenizers over"
              + " bytes can be read.");
    }
    PreTokenizer words = PreTokenizer.of(fields.object("pre_tokenizer"), source);
    TextNormalizer normalizer = TextNormalizer.of(file.get("normalizer"), source);
    Map<String, Integer> ids = new HashMap<>();
    List<AddedToken> added = new ArrayList<>();
    byte[][] tokens = tokens(model, file, ids, added, source);
    BitSet inModel = new BitSet(tokens.length);
    BitSet literal = new BitSet(tokens.length);
    byte[][] ofText = new byte[tokens.length][];
    model
        .object("vocab")
        .members()
        .forEach(
            (text, id) -> {
              int number = ((Long) id).intValue();
              inModel.set(number);
              ofText[number] = ByteAlphabet.bytes(text);
              literal.set(number, ofText[number] == null);
            });
    added.forEach(token -> literal.set(token.id()));
    int[] merges = merges(model, ids, ofText, source);
    boolean wholeWords = Boolean.TRUE.equals(model.members().get("ignore_merges"));
    BytePairs pairs;
    try {
      pairs = new BytePairs(ofText, merges, wholeWords);
    } catch (IllegalArgumentException e) {
      throw new InputException(source + " is damaged: of its merges, " + e.getMessage() + ".", e);
    }
    Map<String, Object> rest = new LinkedHashMap<>();
    for (String name :
        List.of("version", "normalizer", "pre_tokenizer", "post_processor", "decoder")) {
      rest.put(name, file.get(name));
    }
    BpeVocabulary vocabulary =
        new BpeVocabulary(tokens, inModel, literal, merges, wholeWords, List.copyOf(added), rest);
    return new BpeTokenizer(
        vocabulary,
        pairs,
        words,
        normalizer,
        beside.endOfText().stream()
                .anyMatch(id -> id >= 0 && id < tokens.length && tokens[id] != null)
            ? beside
            : beside.withEnd(usualEnd(added)));
  }

  private static void checkModel(JsonFields model, String source) {
    Object type = model.members().get("type");
    if (type == null && model.has("vocab") && model.has("merges")) {
      type = "BPE";
    }
    if (!"BPE".equals(type)) {
      throw new InputException(
          source
              + " holds a tokenizer of the kind "
              + type
              + "; only byte-level BPE can be read, as of GPT-2, Llama 3, Qwen and SmolLM.");
    }
    if (Boolean.TRUE.equals(model.members().get("byte_fallback"))) {
      throw new InputException(
          source
              + " holds a BPE tokenizer that SentencePiece made, over characters with bytes to fall"
              + " back on; only byte-level BPE can be read, as of GPT-2, Llama 3, Qwen and"
              + " SmolLM.");
    }
    for (String name : List.of("continuing_subword_prefix", "end_of_word_suffix")) {
      if (model.has(name) && !"".equals(model.members().get(name))) {
        throw new InputException(
            source + " marks parts of words by '" + name + "', which byte-level BPE does not.");
      }
    }
    if (model.members().get("dropout") instanceof Number dropout && dropout.doubleValue() > 0) {
      throw new InputException(
          source + " leaves out merges by chance ('dropout'), which is not supported.");
    }
  }

  /** Bytes of all tokens by id, null where there is none; fills ids by text and added tokens. */
  private static byte[][] tokens(
      JsonFields model,
      Map<String, Object> file,
      Map<String, Integer> ids,
      List<AddedToken> added,
      String source) {
    byte[][] tokens = new byte[1024][];
    for (Map.Entry<String, Object> entry : model.object("vocab").members().entrySet()) {
      int id = id(entry.getValue(), entry.getKey(), source);
      tokens = id < tokens.length ? tokens : Arrays.copyOf(tokens, 2 * id);
      if (tokens[id] != null) {
        throw new InputException(source + " has two tokens with the id " + id + ".");
      }
      byte[] bytes = ByteAlphabet.bytes(entry.getKey());
      tokens[id] = bytes != null ? bytes : entry.getKey().getBytes(StandardCharsets.UTF_8);
      ids.put(entry.getKey(), id);
    }
    Object list = file.get("added_tokens");
    if (list != null && !(list instanceof List<?>)) {
      throw new InputException(source + ": 'added_tokens' must be a list.");
    }
    for (Object item : list == null ? List.of() : (List<?>) list) {
      AddedToken token = added(item, ids, source);
      int id = token.id();
      tokens = id < tokens.length ? tokens : Arrays.copyOf(tokens, 2 * id);
      tokens[id] = token.content().getBytes(StandardCharsets.UTF_8);
      added.add(token);
    }
    int size = tokens.length;
    while (size > 0 && tokens[size - 1] == null) {
      size--;
    }
    if (size == 0) {
      throw new InputException(source + " has no tokens.");
    }
    return Arrays.copyOf(tokens, size);
  }

  @SuppressWarnings("unchecked")
  private static AddedToken added(Object item, Map<String, Integer> ids, String source) {
    if (!(item instanceof Map<?, ?> map)) {
      throw new InputException(source + " has an added token that is not an object.");
    }
    JsonFields fields = new JsonFields((Map<String, Object>) map, source + ", added_tokens");
    String content = fields.text("content");
    // As in Hugging Face's tokenizers, an id in the vocabulary goes before the one given here.
    int id = ids.containsKey(content) ? ids.get(content) : id(map.get("id"), content, source);
    return new AddedToken(
        id,
        content,
        flag(map, "special", false),
        flag(map, "normalized", true),
        flag(map, "single_word", false),
        flag(map, "lstrip", false),
        flag(map, "rstrip", false));
  }

  private static boolean flag(Map<?, ?> map, String name, boolean byDefault) {
    return map.get(name) instanceof Boolean flag ? flag : byDefault;
  }

  private static int id(Object id, String text, String source) {
    if (id instanceof Long number && number >= 0 && number < MOST_IDS) {
      return number.intValue();
    }
    throw new InputException(
        source + " gives the token '" + text + "' the id " + id + ", which cannot be one.");
  }

  private static int[] merges(
      JsonFields model, Map<String, Integer> ids, byte[][] ofText, String source) {
    if (!(model.members().get("merges") instanceof List<?> list)) {
      throw new InputException(source + ": 'merges' must be a list.");
    }
    int[] merges = new int[2 * list.size()];
    for (int i = 0; i < list.size(); i++) {
      String left = null;
      String right = null;
      if (list.get(i) instanceof String text) {
        int space = text.indexOf(' ');
        if (space > 0 && space == text.lastIndexOf(' ')) {
          left = text.substring(0, space);
          right = text.substring(space + 1);
        }
      } else if (list.get(i) instanceof List<?> pair
          && pair.size() == 2
          && pair.get(0) instanceof String first
          && pair.get(1) instanceof String second) {
        left = first;
        right = second;
      }
      Integer leftId = ids.get(left);
      Integer rightId = ids.get(right);
      if (leftId == null || rightId == null || ofText[leftId] == null || ofText[rightId] == null) {
        throw new InputException(
            source
                + " is damaged: merge "
                + i
                + " is "
                + list.get(i)
                + ", not two tokens of the vocabulary.");
      }
      merges[2 * i] = leftId;
      merges[2 * i + 1] = rightId;
    }
    return merges;
  }

  /** The token that ends documents by its usual names. */
  private static OptionalInt usualEnd(List<AddedToken> added) {
    for (String name : List.of("<|endoftext|>", "<|end_of_text|>", "</s>")) {
      for (AddedToken token : added) {
        if (token.content().equals(name)) {
          return OptionalInt.of(token.id());
        }
      }
    }
    return OptionalInt.empty();
  }

  /**
   * The object of a {@code tokenizer.json} from which Hugging Face's tokenizers make a tokenizer
   * with the same ids.
   */
  static Map<String, Object> write(BpeVocabulary vocabulary) {
    Map<String, Object> file = new LinkedHashMap<>();
    file.put("version", "1.0");
    file.put("truncation", null);
    file.put("padding", null);
    List<Object> added = new ArrayList<>();
    for (AddedToken token : vocabulary.added()) {
      Map<String, Object> item = new LinkedHashMap<>();
      item.put("id", token.id());
      item.put("content", token.content());
      item.put("single_word", token.singleWord());
      item.put("lstrip", token.lstrip());
      item.put("rstrip", token.rstrip());
      item.put("normalized", token.normalized());
      item.put("special", token.special());
      added.add(item);
    }
    file.put("added_tokens", added);
    for (String name : List.of("normalizer", "pre_tokenizer", "post_processor", "decoder")) {
      file.put(name, vocabulary.rest().get(name));
    }
    Map<String, Object> model = new LinkedHashMap<>();
    model.put("type", "BPE");
    model.put("dropout", null);
    model.put("unk_token", null);
    model.put("continuing_subword_prefix", null);
    model.put("end_of_word_suffix", null);
    model.put("fuse_unk", false);
    model.put("byte_fallback", false);
    model.put("ignore_merges", vocabulary.wholeWords());
    Map<String, Object> vocab = new LinkedHashMap<>();
    for (int id = 0; id < vocabulary.size(); id++) {
      if (vocabulary.inModel().get(id)) {
        vocab.put(vocabulary.text(id), id);
      }
    }
    model.put("vocab", vocab);
    List<Object> merges = new ArrayList<>();
    int[] pairs = vocabulary.merges();
    for (int i = 0; i < pairs.length; i += 2) {
      merges.add(List.of(vocabulary.text(pairs[i]), vocabulary.text(pairs[i + 1])));
    }
    model.put("merges", merges);
    file.put("model", model);
    return file;
  }
}
