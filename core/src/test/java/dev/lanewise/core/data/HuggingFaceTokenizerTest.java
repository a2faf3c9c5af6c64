package dev.lanewise.core.data;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.Json;
import dev.lanewise.core.format.Gguf;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalInt;
import java.util.Set;
import java.util.function.Consumer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Tokenizers and ids that Hugging Face's tokenizers 0.23.2 made. */
class HuggingFaceTokenizerTest {
  @TempDir Path folder;

  private static Object resource(String name) {
    try (InputStream in =
        HuggingFaceTokenizerTest.class.getResourceAsStream("tokenizers/" + name + ".json")) {
      return Json.parse(new String(in.readAllBytes(), StandardCharsets.UTF_8), name);
    } catch (IOException e) {
      throw new AssertionError(e);
    }
  }

  private static Object member(Object object, String... path) {
    Object value = object;
    for (String name : path) {
      value = ((Map<?, ?>) value).get(name);
    }
    return value;
  }

  private static List<String> texts() {
    return ((List<?>) resource("texts")).stream().map(String.class::cast).toList();
  }

  private static void assertIds(Object golden, Tokenizer tokenizer) {
    List<?> ids = (List<?>) member(golden, "ids");
    List<String> texts = texts();
    assertTrue(texts.size() > 70);
    for (int i = 0; i < texts.size(); i++) {
      int[] expected =
          ((List<?>) ids.get(i)).stream().mapToInt(id -> ((Long) id).intValue()).toArray();
      assertArrayEquals(expected, tokenizer.encode(texts.get(i)), texts.get(i));
    }
  }

  private Path write(String name, Object json) {
    try {
      return Files.writeString(folder.resolve(name), Json.write(json));
    } catch (IOException e) {
      throw new AssertionError(e);
    }
  }

  private BpeTokenizer open(String name) {
    return (BpeTokenizer)
        Tokenizers.open(write("tokenizer.json", member(resource(name), "tokenizer")));
  }

  @ParameterizedTest
  @ValueSource(strings = {"prefix", "llama3", "qwen2", "smollm", "o200k", "deepseek", "odd"})
  void idsAreHuggingFaces(String name) {
    BpeTokenizer tokenizer = open(name);
    assertIds(resource(name), tokenizer);
    Tokenizers.save(tokenizer, folder.resolve("saved.json"));
    Tokenizer saved = Tokenizers.open(folder.resolve("saved.json"));
    assertIds(resource(name), saved);
    assertEquals(tokenizer.toJson(), saved.toJson());
    assertEquals(tokenizer.endOfText(), saved.endOfText());
  }

  @ParameterizedTest
  @ValueSource(strings = {"llama3", "smollm", "o200k", "deepseek"})
  void textsComeBack(String name) {
    BpeTokenizer tokenizer = open(name);
    for (String text : texts()) {
      assertEquals(text, tokenizer.decode(tokenizer.encode(text)));
      TokenDecoder decoder = tokenizer.decoder();
      StringBuilder streamed = new StringBuilder();
      for (int id : tokenizer.encode(text)) {
        streamed.append(decoder.next(id));
      }
      assertEquals(text, streamed.append(decoder.finish()).toString());
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"llama3", "qwen2", "smollm", "o200k"})
  void ggufGivesTheSameIds(String name) {
    BpeVocabulary vocabulary = open(name).vocabulary();
    Map<String, String> names =
        Map.of("llama3", "llama-bpe", "qwen2", "qwen2", "smollm", "smollm", "o200k", "gpt-4o");
    assertEquals(names.get(name), vocabulary.ggufName().orElseThrow());
    LinkedHashMap<String, Object> metadata = metadata(vocabulary);
    assertIds(resource(name), Tokenizers.fromGguf(metadata, "t.gguf"));
    Gguf.write(folder.resolve("t.gguf"), metadata, new LinkedHashMap<>());
    assertIds(resource(name), Tokenizers.open(folder.resolve("t.gguf")));
    assertIds(resource(name), Tokenizers.open(folder));
  }

  private static LinkedHashMap<String, Object> metadata(BpeVocabulary vocabulary) {
    List<String> texts = new ArrayList<>();
    List<Integer> types = new ArrayList<>();
    for (int id = 0; id < vocabulary.size(); id++) {
      int number = id;
      texts.add(vocabulary.text(id));
      types.add(
          vocabulary.added().stream()
              .filter(token -> token.id() == number)
              .map(token -> token.special() ? 3 : 4)
              .findAny()
              .orElse(1));
    }
    List<String> merges = new ArrayList<>();
    int[] pairs = vocabulary.merges();
    for (int i = 0; i < pairs.length; i += 2) {
      merges.add(vocabulary.text(pairs[i]) + " " + vocabulary.text(pairs[i + 1]));
    }
    LinkedHashMap<String, Object> metadata = new LinkedHashMap<>();
    metadata.put("general.architecture", "gpt2");
    metadata.put("tokenizer.ggml.model", "gpt2");
    metadata.put("tokenizer.ggml.pre", vocabulary.ggufName().orElse("?"));
    metadata.put("tokenizer.ggml.tokens", texts);
    metadata.put("tokenizer.ggml.token_type", types);
    metadata.put("tokenizer.ggml.merges", merges);
    metadata.put("tokenizer.ggml.eos_token_id", 5L);
    metadata.put("tokenizer.chat_template", "{{ messages }}");
    return metadata;
  }

  @Test
  void ggufNamesTheEndAndTheTemplate() {
    BpeTokenizer read =
        (BpeTokenizer) Tokenizers.fromGguf(metadata(open("smollm").vocabulary()), "t.gguf");
    assertEquals(OptionalInt.of(5), read.endOfText());
    assertEquals("{{ messages }}", read.chatTemplate().orElseThrow());
  }

  @Test
  void vocabularyAndMergesGiveTheSameIds() throws IOException {
    Object golden = resource("qwen2");
    write("vocab.json", member(golden, "tokenizer", "model", "vocab"));
    StringBuilder merges = new StringBuilder("#version: 0.2\n");
    for (Object merge : (List<?>) member(golden, "tokenizer", "model", "merges")) {
      merges.append(((List<?>) merge).get(0)).append(' ').append(((List<?>) merge).get(1));
      merges.append('\n');
    }
    Files.writeString(folder.resolve("merges.txt"), merges);
    Map<String, Object> added = new LinkedHashMap<>();
    for (Object token : (List<?>) member(golden, "tokenizer", "added_tokens")) {
      added.put(member(token, "id").toString(), token);
    }
    write(
        "tokenizer_config.json",
        Map.of(
            "tokenizer_class",
            "Qwen2Tokenizer",
            "added_tokens_decoder",
            added,
            "eos_token",
            "<|im_end|>"));
    BpeTokenizer read = (BpeTokenizer) Tokenizers.open(folder);
    assertIds(golden, read);
    assertEquals("<|im_end|>", read.decode(read.endOfText().orElseThrow()));
    assertIds(golden, Tokenizers.open(folder.resolve("merges.txt")));
  }

  @Test
  void theEndOfTextComesFromTheFilesBeside() {
    BpeTokenizer alone = open("qwen2");
    assertEquals("<|endoftext|>", alone.decode(alone.endOfText().orElseThrow()));
    int end = alone.encode("<|im_end|>")[0];
    for (long none : new long[] {100_000, -1, 1L << 40}) {
      write("config.json", Map.of("eos_token_id", none));
      assertEquals(alone.endOfText(), open("qwen2").endOfText());
    }
    write("config.json", Map.of("eos_token_id", List.of(end, 7)));
    assertEquals(OptionalInt.of(end), open("qwen2").endOfText());
    write("tokenizer_config.json", Map.of("eos_token", Map.of("content", "<|im_start|>")));
    BpeTokenizer configured = open("qwen2");
    assertEquals("<|im_start|>", configured.decode(configured.endOfText().orElseThrow()));
  }

  @Test
  void specialTokensInTextMayBeText() {
    BpeTokenizer tokenizer = open("llama3");
    String text = "a<|eot_id|>b";
    assertEquals(3, tokenizer.encode(text).length);
    int[] asText = tokenizer.withEndOfText(EndOfText.AS_TEXT).encode(text);
    assertTrue(asText.length > 6);
    assertEquals(text, tokenizer.decode(asText));
    assertTrue(
        assertThrows(
                InputException.class, () -> tokenizer.withEndOfText(EndOfText.REFUSE).encode(text))
            .getMessage()
            .startsWith("The text holds <|eot_id|> at byte 1,"));
  }

  @Test
  void longRunsTakeNoStack() {
    for (String name : List.of("llama3", "o200k", "deepseek")) {
      BpeTokenizer tokenizer = open(name);
      for (String part : List.of("x", "X", "9", " ", "\n", ".", "漢", "é", "Xx")) {
        String text = part.repeat(200_000);
        assertEquals(text, tokenizer.decode(tokenizer.encode(text)));
      }
    }
  }

  @Test
  void piecesOfACorpusGiveTheTokensOfTheWhole() throws IOException {
    StringBuilder text = new StringBuilder();
    for (int i = 0; text.length() < 600_000; i++) {
      text.append("call(").append(i).append(");\n}\n\n".repeat(40)).append("if x");
    }
    Path file = Files.writeString(folder.resolve("code.txt"), text);
    @SuppressWarnings("unchecked")
    Map<String, Object> json = (Map<String, Object>) member(resource("llama3"), "tokenizer");
    // A token over punctuation and the line feed behind it.
    set(json, 999L, "model", "vocab", ";\u010a");
    List<Object> merges = new ArrayList<>((List<?>) member(json, "model", "merges"));
    merges.addFirst(List.of(";", "\u010a"));
    set(json, merges, "model", "merges");
    Tokenizer tokenizer = Tokenizers.open(write("tokenizer.json", json));
    assertEquals(2, tokenizer.encode(");\n").length);
    try (Dataset data =
        Dataset.prepare(Corpus.of(List.of(file)), tokenizer, folder, 0, Dataset.Progress.NONE)) {
      int[] whole = tokenizer.encode(text.toString());
      assertEquals(whole.length + tokenizer.endOfText().stream().count(), data.train().length());
      for (int i = 0; i < whole.length; i++) {
        assertEquals(whole[i], data.train().get(i));
      }
    }
  }

  @Test
  @SuppressWarnings("unchecked")
  void idsBeyond16BitsAreKept() throws IOException {
    Map<String, Object> json = (Map<String, Object>) member(resource("smollm"), "tokenizer");
    Map<String, Object> far = new LinkedHashMap<>();
    far.put("id", 100_000L);
    far.put("content", "<far>");
    set(json, List.of(far), "added_tokens");
    Tokenizer tokenizer = Tokenizers.open(write("tokenizer.json", json));
    assertEquals(100_001, tokenizer.vocabSize());
    assertEquals("", tokenizer.decode(99_999));
    Path file = Files.writeString(folder.resolve("t.txt"), "a<far>");
    try (Dataset data =
        Dataset.prepare(Corpus.of(List.of(file)), tokenizer, folder, 0, Dataset.Progress.NONE)) {
      assertEquals(2, data.train().length());
      assertEquals(100_000, data.train().get(1));
    }
  }

  @Test
  void whatWeWriteIsReadBack() {
    BpeTokenizer learnt = BpeTokenizer.train("low low lower lowest newest ".repeat(20), 280);
    Tokenizer read = Tokenizers.open(write("tokenizer.json", learnt.toHuggingFace()));
    assertEquals(learnt.vocabSize(), read.vocabSize());
    assertEquals(learnt.endOfText(), read.endOfText());
    for (String text : texts()) {
      assertArrayEquals(learnt.encode(text), read.encode(text));
    }
  }

  private String refusal(Consumer<Map<String, Object>> damage) {
    @SuppressWarnings("unchecked")
    Map<String, Object> tokenizer = (Map<String, Object>) member(resource("smollm"), "tokenizer");
    damage.accept(tokenizer);
    Path file = write("tokenizer.json", tokenizer);
    return assertThrows(InputException.class, () -> Tokenizers.open(file))
        .getMessage()
        .replace(file.toString(), "FILE");
  }

  @SuppressWarnings("unchecked")
  private static void set(Map<String, Object> object, Object value, String... path) {
    Map<String, Object> parent = object;
    for (int i = 0; i < path.length - 1; i++) {
      parent = (Map<String, Object>) parent.get(path[i]);
    }
    parent.put(path[path.length - 1], value);
  }

  @Test
  void otherKindsAreRefusedByName() throws IOException {
    for (String kind : Set.of("Unigram", "WordPiece", "WordLevel")) {
      assertEquals(
          "FILE holds a tokenizer of the kind "
              + kind
              + "; only byte-level BPE can be read, as of GPT-2, Llama 3, Qwen and SmolLM.",
          refusal(json -> set(json, kind, "model", "type")));
    }
    assertTrue(
        refusal(json -> set(json, true, "model", "byte_fallback")).contains("SentencePiece"));
    assertTrue(refusal(json -> set(json, null, "pre_tokenizer")).contains("has no pre-tokenizer"));
    assertTrue(
        refusal(json -> set(json, Map.of("type", "Metaspace"), "pre_tokenizer"))
            .contains("has the pre-tokenizer Metaspace, which is not supported"));
    assertTrue(
        refusal(json -> set(json, Map.of("type", "Digits"), "pre_tokenizer"))
            .contains("has the pre-tokenizer Digits and no ByteLevel"));
    assertTrue(
        refusal(json -> set(json, Map.of("type", "Lowercase"), "normalizer"))
            .contains("has the normalizer Lowercase, which is not supported"));
    assertTrue(
        refusal(json -> set(json, "</w>", "model", "end_of_word_suffix")).contains("suffix"));
    assertTrue(refusal(json -> set(json, 0.1, "model", "dropout")).contains("by chance"));
    Path sentencePiece = Files.writeString(folder.resolve("tokenizer.model"), "x");
    assertTrue(message(sentencePiece).contains("SentencePiece"));
    for (Map.Entry<String, String> kind :
        Map.of("llama", "SentencePiece BPE", "t5", "Unigram", "bert", "WordPiece").entrySet()) {
      assertTrue(
          assertThrows(
                  InputException.class,
                  () ->
                      Tokenizers.fromGguf(Map.of("tokenizer.ggml.model", kind.getKey()), "x.gguf"))
              .getMessage()
              .contains(kind.getValue()));
    }
    LinkedHashMap<String, Object> unknown = metadata(open("smollm").vocabulary());
    unknown.put("tokenizer.ggml.pre", "default");
    assertTrue(
        assertThrows(InputException.class, () -> Tokenizers.fromGguf(unknown, "x.gguf"))
            .getMessage()
            .contains("in the way 'default'"));
  }

  private static String message(Path path) {
    return assertThrows(InputException.class, () -> Tokenizers.open(path)).getMessage();
  }

  @Test
  void damageIsNamed() throws IOException {
    assertTrue(
        refusal(json -> set(json, List.of("a zz"), "model", "merges"))
            .contains("merge 0 is a zz, not two tokens of the vocabulary"));
    assertTrue(
        refusal(json -> set(json, List.of("! z"), "model", "merges"))
            .contains("pair 0 makes no token"));
    assertTrue(refusal(json -> set(json, -1L, "model", "vocab", "a")).contains("the id -1"));
    assertTrue(refusal(json -> set(json, 1L << 40, "model", "vocab", "a")).contains("cannot be"));
    assertTrue(refusal(json -> set(json, 65L, "model", "vocab", "a")).contains("two tokens"));
    assertTrue(refusal(json -> set(json, "x", "model", "vocab", "a")).contains("the id x"));
    assertTrue(refusal(json -> set(json, "x", "model", "merges")).contains("'merges' must be"));
    assertTrue(refusal(json -> set(json, List.of(1L), "added_tokens")).contains("not an object"));
    assertTrue(refusal(json -> json.remove("model")).contains("JSON, but no tokenizer"));
    assertTrue(message(folder.resolve("none")).startsWith("There is no tokenizer"));
    Path broken = Files.writeString(folder.resolve("tokenizer.json"), "{\"model\":");
    assertTrue(message(broken).contains("is not valid JSON"));
    Path empty = Files.createDirectory(folder.resolve("empty"));
    assertTrue(message(empty).contains("holds no tokenizer; give a tokenizer.json"));
    assertTrue(
        message(Files.writeString(folder.resolve("x.txt"), "x")).contains("is no tokenizer"));
  }

  @Test
  void aByteWithoutATokenIsNamed() {
    @SuppressWarnings("unchecked")
    Map<String, Object> json = (Map<String, Object>) member(resource("smollm"), "tokenizer");
    ((Map<?, ?>) member(json, "model", "vocab")).remove("q");
    set(json, List.of(), "model", "merges");
    Tokenizer tokenizer = Tokenizers.open(write("tokenizer.json", json));
    assertEquals(
        "The text holds the byte 0x71, for which the tokenizer has no token.",
        assertThrows(InputException.class, () -> tokenizer.encode("a quick")).getMessage());
  }
}
