package dev.lanewise.core.data;

import dev.lanewise.core.base.InputException;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.OptionalInt;

/**
 * The tokenizer in a GGUF file's metadata, as the object of a {@code tokenizer.json}.
 *
 * <p>GGUF says by a name how text is cut ({@code tokenizer.ggml.pre}); names of the same way stand
 * together here.
 */
final class GgufVocabulary {
  private static final String PREFIX = "tokenizer.ggml.";
  private static final String CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
  private static final String CASES =
      "[^\\r"
          + "\\n"
          + "\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+%1$s|[^\\r"
          + "\\n"
          + "\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*%1$s|\\p{N}%2$s|"
          + " ?[^\\s\\p{L}\\p{N}]+[\\r"
          + "\\n"
          + "/]*|\\s*[\\r"
          + "\\n"
          + "]+|\\s+(?!\\S)|\\s+";

  /** Kinds of tokens under {@code tokenizer.ggml.token_type}. */
  static final int NORMAL = 1;

  static final int CONTROL = 3;
  static final int USER_DEFINED = 4;
  static final int UNUSED = 5;

  private GgufVocabulary() {}

  /** A way to cut text, by the names that GGUF has for it, the one to write first. */
  private enum Way {
    GPT2("gpt-2 phi-2 mpt olmo jais trillion mellum gigachat"),
    LLAMA3(
        "llama-bpe llama3 llama-v3 falcon3 falcon-h1 smaug-bpe dbrx lfm2 pixtral chatglm-bpe glm4"),
    QWEN2("qwen2 deepseek-r1-qwen megrez"),
    STABLELM2("stablelm2 hunyuan solar-open grok-2"),
    QWEN35("qwen35"),
    SMOLLM("smollm starcoder refact command-r codeshell exaone minerva-7b"),
    GPT4O("gpt-4o llama4 kanana2"),
    TEKKEN("tekken");

    private final String names;

    Way(String names) {
      this.names = names;
    }

    private List<String> names() {
      return List.of(names.split(" ", -1));
    }

    /** The expression that text is cut by; null for GPT-2's, which ByteLevel brings. */
    private String pattern() {
      return switch (this) {
        case GPT2, SMOLLM -> null;
        case LLAMA3 -> digits("{1,3}");
        case QWEN2, STABLELM2 -> digits("");
        case QWEN35 ->
            CONTRACTIONS
                + "|[^\\r"
                + "\\n"
                + "\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r"
                + "\\n"
                + "]*|\\s*[\\r"
                + "\\n"
                + "]+|\\s+(?!\\S)|\\s+";
        case GPT4O -> String.format(Locale.ROOT, CASES, CONTRACTIONS + "?", "{1,3}");
        case TEKKEN -> String.format(Locale.ROOT, CASES, "", "");
      };
    }

    private static String digits(String count) {
      return CONTRACTIONS
          + "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}"
          + count
          + "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
    }

    private boolean composes() {
      return this == QWEN2 || this == QWEN35;
    }

    private boolean keepsWords() {
      return this == LLAMA3 || this == TEKKEN;
    }

    Map<String, Object> preTokenizer() {
      Map<String, Object> bytes = new LinkedHashMap<>();
      bytes.put("type", "ByteLevel");
      bytes.put("add_prefix_space", false);
      bytes.put("trim_offsets", true);
      bytes.put("use_regex", pattern() == null);
      if (this == GPT2) {
        return bytes;
      }
      Map<String, Object> first = new LinkedHashMap<>();
      if (this == SMOLLM) {
        first.put("type", "Digits");
        first.put("individual_digits", true);
      } else {
        first.put("type", "Split");
        first.put("pattern", Map.of("Regex", pattern()));
        first.put("behavior", "Isolated");
        first.put("invert", false);
      }
      Map<String, Object> sequence = new LinkedHashMap<>();
      sequence.put("type", "Sequence");
      sequence.put("pretokenizers", List.of(first, bytes));
      return sequence;
    }
  }

  private static Way way(Object name, String source) {
    for (Way way : Way.values()) {
      if (way.names().contains(String.valueOf(name))) {
        return way;
      }
    }
    throw new InputException(
        String.format(
            Locale.ROOT,
            "%s cuts text in the way '%s' ('%spre'), which is not known; known are, among others,"
                + " gpt-2, llama-bpe, qwen2 and smollm.",
            source,
            name,
            PREFIX));
  }

  /** All of a {@code tokenizer.json} but its tokens, for a way to cut text. */
  static Map<String, Object> rest(String name, String source) {
    return rest(way(name, source));
  }

  private static Map<String, Object> rest(Way way) {
    Map<String, Object> rest = BpeVocabulary.gpt2Rest();
    rest.put("normalizer", way.composes() ? Map.of("type", "NFC") : null);
    rest.put("pre_tokenizer", way.preTokenizer());
    return rest;
  }

  /** The name that GGUF has for a way to cut text, as a {@code tokenizer.json} has it, or null. */
  static String nameOf(Map<String, Object> rest) {
    String wanted = shape(rest.get("pre_tokenizer"));
    boolean composes = rest.get("normalizer") instanceof Map<?, ?> n && "NFC".equals(n.get("type"));
    for (Way way : Way.values()) {
      if (shape(way.preTokenizer()).equals(wanted) && (!composes || way.composes())) {
        return way.names().getFirst();
      }
    }
    return null;
  }

  /** What of a pre-tokenizer decides how text is cut. */
  private static String shape(Object preTokenizer) {
    if (!(preTokenizer instanceof Map<?, ?> map)) {
      return String.valueOf(preTokenizer);
    }
    return switch (String.valueOf(map.get("type"))) {
      case "Sequence" ->
          map.get("pretokenizers") instanceof List<?> parts
              ? String.join("", parts.stream().map(GgufVocabulary::shape).toList())
              : "?";
      case "ByteLevel" ->
          (Boolean.FALSE.equals(map.get("use_regex")) ? "" : PreTokenizer.GPT2_PATTERN)
              + (Boolean.FALSE.equals(map.get("add_prefix_space")) ? ";" : "prefix;");
      case "Digits" -> "digits " + map.get("individual_digits") + ";";
      case "Split" -> {
        boolean isolated =
            "Isolated".equals(map.get("behavior")) && !Boolean.TRUE.equals(map.get("invert"));
        boolean kept =
            "Removed".equals(map.get("behavior")) && Boolean.TRUE.equals(map.get("invert"));
        Object regex = map.get("pattern") instanceof Map<?, ?> pattern ? pattern.get("Regex") : "";
        yield isolated || kept ? String.valueOf(regex) : "?" + map;
      }
      default -> map.toString();
    };
  }

  /**
   * Makes the tokenizer.
   *
   * @param metadata the file's metadata
   * @param source the file, for error messages
   * @throws InputException if there is no tokenizer, it is damaged, or of a kind that is not read
   */
  static Tokenizer read(Map<String, Object> metadata, String source) {
    Object model = metadata.get(PREFIX + "model");
    List<?> types = metadata.get(PREFIX + "token_type") instanceof List<?> list ? list : List.of();
    if ("rwkv".equals(model)) {
      return PlainVocabulary.ofGguf(strings(metadata, "tokens", source), types, source);
    }
    if (!"gpt2".equals(model)) {
      throw new InputException(source + " " + describe(model));
    }
    Way way = way(metadata.get(PREFIX + "pre"), source);
    List<String> texts = strings(metadata, "tokens", source);
    Map<String, Object> vocab = new LinkedHashMap<>();
    List<Object> added = new ArrayList<>();
    for (int id = 0; id < texts.size(); id++) {
      int type = id < types.size() && types.get(id) instanceof Number n ? n.intValue() : 1;
      String text = texts.get(id);
      if (type == CONTROL || type == USER_DEFINED) {
        added.add(added(id, text, type == CONTROL));
      }
      if (type != UNUSED && vocab.putIfAbsent(text, (long) id) != null) {
        throw new InputException(source + " has the token '" + text + "' twice.");
      }
    }
    Map<String, Object> bpe = new LinkedHashMap<>();
    bpe.put("type", "BPE");
    bpe.put("ignore_merges", way.keepsWords());
    bpe.put("vocab", vocab);
    bpe.put("merges", strings(metadata, "merges", source));
    Map<String, Object> file = rest(way);
    file.put("added_tokens", added);
    file.put("model", bpe);
    OptionalInt begin = id(metadata, "bos_token_id", texts.size());
    return HuggingFaceTokenizer.read(
        file,
        new TokenizerFiles.Beside(
            id(metadata, "eos_token_id", texts.size()),
            begin.isPresent() ? texts.get(begin.getAsInt()) : null,
            metadata.get("tokenizer.chat_template") instanceof String template ? template : null),
        source);
  }

  private static OptionalInt id(Map<String, Object> metadata, String name, int size) {
    return metadata.get(PREFIX + name) instanceof Number id
            && id.longValue() >= 0
            && id.longValue() < size
        ? OptionalInt.of(id.intValue())
        : OptionalInt.empty();
  }

  private static Map<String, Object> added(int id, String text, boolean special) {
    Map<String, Object> token = new LinkedHashMap<>();
    token.put("id", (long) id);
    token.put("content", text);
    token.put("special", special);
    token.put("normalized", false);
    return token;
  }

  private static String describe(Object model) {
    String kind =
        switch (String.valueOf(model)) {
          case "null" -> null;
          case "llama" -> "SentencePiece BPE, as of Llama 2";
          case "t5" -> "SentencePiece Unigram, as of T5";
          case "bert" -> "WordPiece, as of BERT";
          default -> "the kind '" + model + "'";
        };
    return kind == null
        ? "has no tokenizer ('" + PREFIX + "model')."
        : "holds a tokenizer of "
            + kind
            + "; only byte-level BPE can be read, as of GPT-2, Llama 3, Qwen and SmolLM.";
  }

  private static List<String> strings(Map<String, Object> metadata, String key, String source) {
    if (metadata.get(PREFIX + key) instanceof List<?> list
        && list.stream().allMatch(String.class::isInstance)) {
      return list.stream().map(String.class::cast).toList();
    }
    throw new InputException(source + " has no list of texts under '" + PREFIX + key + "'.");
  }
}
