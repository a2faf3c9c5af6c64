package dev.lanewise.core.data;

import dev.lanewise.core.base.Failures;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.Json;
import dev.lanewise.core.format.Gguf;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.charset.CharacterCodingException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalInt;

/** Finds out what a file or folder holds for a tokenizer, and reads it. */
final class TokenizerFiles {
  private static final String TOKENIZER = "tokenizer.json";
  private static final String VOCAB = "vocab.json";
  private static final String MERGES = "merges.txt";

  private TokenizerFiles() {}

  /**
   * What other files say about a tokenizer.
   *
   * @param endOfText the id that ends a document
   * @param beginOfText the characters of the token that begins a text; may be null
   * @param chatTemplate how conversations are written; may be null
   */
  record Beside(OptionalInt endOfText, String beginOfText, String chatTemplate) {
    Beside withEnd(OptionalInt end) {
      return new Beside(end, beginOfText, chatTemplate);
    }
  }

  static Tokenizer open(Path path) {
    if (Files.isDirectory(path)) {
      return openFolder(path);
    }
    if (!Files.exists(path)) {
      throw new InputException("There is no tokenizer " + path + ".");
    }
    String name = path.getFileName().toString().toLowerCase(Locale.ROOT);
    if (name.endsWith(".gguf")) {
      return openGguf(path);
    }
    if (name.endsWith(VOCAB) || name.endsWith(MERGES)) {
      return openPair(path.resolveSibling(VOCAB), path.resolveSibling(MERGES));
    }
    if (name.endsWith(".model")) {
      throw sentencePiece(path);
    }
    if (name.endsWith(".tiktoken")) {
      throw new InputException(
          path
              + " is a vocabulary of tiktoken's, which does not say how text is cut; give the"
              + " model's tokenizer.json.");
    }
    if (name.endsWith(".json")) {
      return openJson(path);
    }
    throw new InputException(path + " is no tokenizer; " + wanted());
  }

  private static String wanted() {
    return "give a tokenizer.json, a folder with one or with vocab.json and merges.txt, or a .gguf"
        + " file.";
  }

  private static InputException sentencePiece(Path path) {
    return new InputException(
        path
            + " is a tokenizer of SentencePiece's; only byte-level BPE can be read, as of GPT-2,"
            + " Llama 3, Qwen and SmolLM.");
  }

  private static Tokenizer openFolder(Path folder) {
    if (Files.exists(folder.resolve(TOKENIZER))) {
      return openJson(folder.resolve(TOKENIZER));
    }
    if (Files.exists(folder.resolve(VOCAB)) && Files.exists(folder.resolve(MERGES))) {
      return openPair(folder.resolve(VOCAB), folder.resolve(MERGES));
    }
    for (String name : List.of("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")) {
      if (Files.exists(folder.resolve(name))) {
        throw sentencePiece(folder.resolve(name));
      }
    }
    if (Files.exists(folder.resolve("vocab.txt"))) {
      throw new InputException(
          folder.resolve("vocab.txt")
              + " is a vocabulary of WordPiece, as of BERT; only byte-level BPE can be read.");
    }
    List<Path> gguf = new ArrayList<>();
    try (var files = Files.list(folder)) {
      files.filter(f -> f.toString().toLowerCase(Locale.ROOT).endsWith(".gguf")).forEach(gguf::add);
    } catch (IOException e) {
      throw unreadable(folder, e);
    }
    if (gguf.size() == 1) {
      return openGguf(gguf.getFirst());
    }
    throw new InputException(folder + " holds no tokenizer; " + wanted());
  }

  private static Tokenizer openGguf(Path path) {
    try (Arena arena = Arena.ofShared()) {
      return GgufVocabulary.read(Gguf.map(path, arena).metadata(), path.toString());
    }
  }

  private static Tokenizer openJson(Path path) {
    Map<String, Object> json = readObject(path);
    if (json.containsKey("kind")) {
      return Tokenizers.fromJson(json, path.toString());
    }
    if (!json.containsKey("model")) {
      throw new InputException(path + " is JSON, but no tokenizer; " + wanted());
    }
    Optional<Tokenizer> plain = PlainVocabulary.ofHuggingFace(json);
    if (plain.isPresent()) {
      return plain.get();
    }
    Map<String, Object> config = readIfThere(path.resolveSibling("tokenizer_config.json"));
    return HuggingFaceTokenizer.read(json, beside(path, config, json), path.toString());
  }

  /** GPT-2's older form, in which Qwen comes too. */
  private static Tokenizer openPair(Path vocab, Path merges) {
    List<Object> pairs = new ArrayList<>();
    for (String line : read(merges).lines().toList()) {
      if (!line.isEmpty() && !line.startsWith("#version")) {
        pairs.add(line);
      }
    }
    Path configFile = vocab.resolveSibling("tokenizer_config.json");
    Map<String, Object> config = readIfThere(configFile);
    Object type = config.get("tokenizer_class");
    String source = vocab.toString();
    Map<String, Object> tokens = readObject(vocab);
    Map<String, Object> model = new LinkedHashMap<>();
    model.put("type", "BPE");
    model.put("vocab", tokens);
    model.put("merges", pairs);
    boolean qwen = type != null && type.toString().startsWith("Qwen2");
    Map<String, Object> file =
        qwen ? GgufVocabulary.rest("qwen2", source) : BpeVocabulary.gpt2Rest();
    if (!qwen && Boolean.TRUE.equals(config.get("add_prefix_space"))) {
      Map<String, Object> bytes = new LinkedHashMap<>();
      bytes.put("type", "ByteLevel");
      bytes.put("add_prefix_space", true);
      file.put("pre_tokenizer", bytes);
    }
    file.put("added_tokens", addedTokens(config, tokens));
    file.put("model", model);
    return HuggingFaceTokenizer.read(file, beside(vocab, config, file), source);
  }

  /** Added tokens of a {@code tokenizer_config.json}, or GPT-2's one. */
  private static List<Object> addedTokens(Map<String, Object> config, Map<String, Object> tokens) {
    List<Object> added = new ArrayList<>();
    if (config.get("added_tokens_decoder") instanceof Map<?, ?> decoder) {
      decoder.forEach(
          (id, token) -> {
            if (token instanceof Map<?, ?> fields && id.toString().matches("[0-9]{1,9}")) {
              Map<String, Object> copy = new LinkedHashMap<>();
              fields.forEach((key, value) -> copy.put(key.toString(), value));
              copy.put("id", Long.valueOf(id.toString()));
              added.add(copy);
            }
          });
    }
    if (added.isEmpty() && tokens.get("<|endoftext|>") instanceof Long id) {
      Map<String, Object> end = new LinkedHashMap<>();
      end.put("id", id);
      end.put("content", "<|endoftext|>");
      end.put("special", true);
      end.put("normalized", false);
      added.add(end);
    }
    return added;
  }

  private static Beside beside(
      Path tokenizer, Map<String, Object> config, Map<String, Object> json) {
    Object begin = config.get("bos_token");
    if (begin instanceof Map<?, ?> token) {
      begin = token.get("content");
    }
    return new Beside(
        endOfText(tokenizer, config, json),
        begin instanceof String text ? text : null,
        chatTemplate(tokenizer, config));
  }

  /** The id that ends a text, as the files beside a tokenizer say it. */
  private static OptionalInt endOfText(
      Path tokenizer, Map<String, Object> config, Map<String, Object> json) {
    Object end = config.get("eos_token");
    if (end instanceof Map<?, ?> token) {
      end = token.get("content");
    }
    if (end instanceof String text && json.get("added_tokens") instanceof List<?> added) {
      for (Object item : added) {
        if (item instanceof Map<?, ?> token
            && text.equals(token.get("content"))
            && token.get("id") instanceof Long id) {
          return OptionalInt.of(Math.toIntExact(id));
        }
      }
    }
    for (String name : List.of("generation_config.json", "config.json")) {
      Object id = readIfThere(tokenizer.resolveSibling(name)).get("eos_token_id");
      if (id instanceof List<?> several && !several.isEmpty()) {
        id = several.getFirst();
      }
      if (id instanceof Long number && number >= 0 && number <= Integer.MAX_VALUE) {
        return OptionalInt.of(number.intValue());
      }
    }
    return OptionalInt.empty();
  }

  private static String chatTemplate(Path tokenizer, Map<String, Object> config) {
    Path file = tokenizer.resolveSibling("chat_template.jinja");
    if (Files.isRegularFile(file)) {
      return read(file);
    }
    return config.get("chat_template") instanceof String template ? template : null;
  }

  private static Map<String, Object> readIfThere(Path path) {
    return Files.isRegularFile(path) ? readObject(path) : Map.of();
  }

  private static Map<String, Object> readObject(Path path) {
    return Json.parseObject(read(path), path.toString());
  }

  static String read(Path path) {
    try {
      return Files.readString(path);
    } catch (CharacterCodingException e) {
      throw new InputException(path + " is not UTF-8 text.", e);
    } catch (IOException e) {
      throw unreadable(path, e);
    }
  }

  private static InputException unreadable(Path path, IOException e) {
    return new InputException(path + " cannot be read: " + Failures.describe(e), e);
  }
}
