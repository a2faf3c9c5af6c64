package dev.lanewise.core.format;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.core.base.InputException;
import dev.lanewise.core.data.Tokenizer;
import dev.lanewise.core.data.TokenizerExport;
import dev.lanewise.core.random.TorchGenerator;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.SequencedMap;
import java.util.TreeMap;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** GPT-2's weights through every file format. */
class Gpt2FilesTest {
  private static final Gpt2Shape SHAPE = new Gpt2Shape(131, 7, 2, 2, 6);

  @TempDir Path folder;
  private final Arena arena = Arena.ofAuto();

  @Test
  void llmcKeepsAModel() {
    Path file = folder.resolve("model.bin");
    Gpt2Weights weights = weights(true);
    LlmcFile.writeModel(file, weights, ElementType.F32);
    assertEquals(weights, LlmcFile.mapModel(file, arena));
    LlmcFile.writeModel(file, weights, ElementType.BF16);
    assertClose(weights, LlmcFile.mapModel(file, arena), 0x1p-8f);
    assertRefused(() -> LlmcFile.writeModel(file, weights(false), ElementType.F32), "tied");
  }

  @Test
  void llmcLaysParametersOutByKindAndPadsTheVocabulary() throws IOException {
    Path file = folder.resolve("model.bin");
    LlmcFile.writeModel(file, weights(true), ElementType.F32);
    ByteBuffer bytes = ByteBuffer.wrap(Files.readAllBytes(file)).order(ByteOrder.LITTLE_ENDIAN);
    int[] header = new int[9];
    bytes.asIntBuffer().get(header);
    assertArrayEquals(new int[] {20240326, 3, 7, 131, 2, 2, 6, 256, 0}, header);
    int position = 256 * 4 + 256 * 6 * 4;
    assertEquals(0, bytes.getFloat(position - 4));
    float[] wpe = weights(true).tensors().get("wpe.weight").toFloats();
    assertEquals(wpe[0], bytes.getFloat(position));
    float[] second = weights(true).tensors().get("h.1.ln_1.weight").toFloats();
    assertEquals(second[0], bytes.getFloat(position + 7 * 6 * 4 + 6 * 4));
  }

  @Test
  void huggingFaceKeepsAModel() {
    for (boolean tied : new boolean[] {true, false}) {
      Path model = folder.resolve("hf" + tied);
      HuggingFace.write(model, weights(tied));
      assertEquals(weights(tied), HuggingFace.read(model, arena));
    }
  }

  @Test
  void huggingFaceStoresLinearWeightsTransposed() {
    HuggingFace.write(folder, weights(true));
    StoredTensor stored =
        SafeTensors.map(folder.resolve("model.safetensors"), arena)
            .tensor("transformer.h.1.mlp.c_fc.weight");
    assertArrayEquals(new long[] {6, 24}, stored.shape());
    float[] ours = weights(true).tensors().get("h.1.mlp.c_fc.weight").toFloats();
    float[] theirs = stored.toFloats();
    for (int out = 0; out < 24; out++) {
      for (int in = 0; in < 6; in++) {
        assertEquals(ours[out * 6 + in], theirs[in * 24 + out]);
      }
    }
  }

  @Test
  void huggingFaceReadsShardsAndOldNames() throws IOException {
    HuggingFace.write(folder, weights(true));
    Path whole = folder.resolve("model.safetensors");
    SequencedMap<String, StoredTensor> first = new LinkedHashMap<>();
    SequencedMap<String, StoredTensor> second = new LinkedHashMap<>();
    SafeTensors.map(whole, arena)
        .tensors()
        .forEach(
            (name, tensor) ->
                (name.contains(".h.0.") ? first : second)
                    .put(name.substring("transformer.".length()), tensor));
    first.put("h.0.attn.bias", StoredTensor.float32(arena.allocate(4), 1));
    SafeTensors.write(folder.resolve("a.safetensors"), first, Map.of());
    SafeTensors.write(folder.resolve("b.safetensors"), second, Map.of());
    Files.delete(whole);
    Files.writeString(
        folder.resolve("model.safetensors.index.json"),
        "{\"weight_map\":{\"x\":\"a.safetensors\",\"y\":\"b.safetensors\"}}");
    assertEquals(weights(true), HuggingFace.read(folder, arena));
    Files.writeString(
        folder.resolve("model.safetensors.index.json"),
        "{\"weight_map\":{\"x\":\"../a.safetensors\"}}");
    assertRefused(() -> HuggingFace.read(folder, arena), "something else");
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '~',
      value = {
        "\"n_layer\":2 | \"n_layer\":3 | missing",
        "\"n_layer\":2 | \"n_layer\":2000000000 | layers",
        "\"n_layer\":2 | \"n_layer\":1 | unknown",
        "\"n_head\":2 | \"n_head\":4 | divide",
        "\"n_embd\":6 | \"n_embd\":8 | shape",
        "\"n_embd\":6 | \"n_embd\":0 | above 0",
        "\"n_embd\":6 | \"n_embd\":\"6\" | above 0",
        "gelu_new | relu | relu",
        "1.0E-5 | 1.0E-6 | epsilon",
        "\"gpt2\" | \"llama\" | llama",
        "\"tie_word_embeddings\":true | \"tie_word_embeddings\":false | not tied",
        "} | x | JSON"
      })
  void unsoundConfigurationsGiveOneSentence(String from, String to, String words)
      throws IOException {
    HuggingFace.write(folder, weights(true));
    Path config = folder.resolve("config.json");
    String text = Files.readString(config).replace(" : ", ":");
    assertTrue(text.contains(from), text);
    Files.writeString(config, text.replace(from, to));
    assertRefused(() -> HuggingFace.read(folder, arena), words);
  }

  @Test
  void ggufKeepsAModel() {
    Path file = folder.resolve("model.gguf");
    for (boolean tied : new boolean[] {true, false}) {
      Gpt2Weights weights = weights(tied);
      Gguf.writeGpt2(file, weights, ElementType.F32, new TreeMap<>());
      assertEquals(weights, Gguf.map(file, arena).gpt2());
      Gguf.writeGpt2(file, weights, ElementType.F16, new TreeMap<>());
      assertClose(weights, Gguf.map(file, arena).gpt2(), 0x1p-11f);
    }
    StoredTensor up = Gguf.map(file, arena).tensors().get("blk.1.ffn_up.weight");
    assertEquals("F16[24, 6]", up.toString());
    assertEquals(0, up.data().address() % 32);
  }

  @Test
  void ggufKeepsMetadata() {
    Path file = folder.resolve("x.gguf");
    SequencedMap<String, Object> metadata = new LinkedHashMap<>();
    metadata.put("byte", (byte) -3);
    metadata.put("short", (short) -300);
    metadata.put("int", -70000);
    metadata.put("uint", 4294967295L);
    metadata.put("ulong", 1L << 40);
    metadata.put("float", 1.5f);
    metadata.put("double", Math.PI);
    metadata.put("bool", true);
    metadata.put("text", "\u00e9\u20ac");
    metadata.put("list", List.of("a", "", "b"));
    metadata.put("empty", List.of());
    metadata.put("numbers", List.of(1, 2, 3));
    Gguf.write(file, metadata, new TreeMap<>());
    assertEquals(metadata, Gguf.map(file, arena).metadata());
    metadata.put("mixed", List.of(1, "a"));
    assertThrows(IllegalArgumentException.class, () -> Gguf.write(file, metadata, new TreeMap<>()));
  }

  @Test
  void aModelWithoutBiasesGetsZeros() {
    SequencedMap<String, StoredTensor> bare = new LinkedHashMap<>(weights(true).tensors());
    bare.keySet().removeIf(name -> name.endsWith(".bias"));
    Path file = folder.resolve("model");
    LlmcFile.writeModel(file, new Gpt2Weights(SHAPE, bare), ElementType.F32);
    assertArrayEquals(
        new float[18],
        LlmcFile.mapModel(file, arena).tensors().get("h.0.attn.c_attn.bias").toFloats());
    bare.remove("h.0.ln_1.weight");
    assertRefused(() -> new Gpt2Weights(SHAPE, bare), "h.0.ln_1.weight");
  }

  @Test
  void llmcKeepsTokens() throws IOException {
    Path file = folder.resolve("tokens.bin");
    short[] tokens = {1, 2, (short) 50256};
    LlmcFile.writeTokens(file, new LlmcFile.Tokens16(MemorySegment.ofArray(tokens)));
    assertEquals(1024 + 6, Files.size(file));
    LlmcFile.Tokens read = LlmcFile.mapTokens(file, arena);
    assertEquals(3, read.count());
    assertEquals(-1, read.data().mismatch(MemorySegment.ofArray(tokens)));
    int[] wide = {128000, 7};
    LlmcFile.writeTokens(file, new LlmcFile.Tokens32(MemorySegment.ofArray(wide)));
    assertEquals(2, LlmcFile.mapTokens(file, arena).count());
    Files.write(file, java.util.Arrays.copyOf(Files.readAllBytes(file), 1024 + 5));
    assertRefused(() -> LlmcFile.mapTokens(file, arena), "promises 2 tokens");
    assertRefused(() -> LlmcFile.mapModel(file, arena), "magic");
  }

  /** Damage anywhere must end in a sentence or a sound result, never in another failure. */
  @Test
  void damagedFilesNeverCauseAnotherFailure() throws IOException {
    Path llmc = folder.resolve("model.bin");
    LlmcFile.writeModel(llmc, weights(true), ElementType.F32);
    damage(llmc, 1024, path -> LlmcFile.mapModel(path, arena));
    Path gguf = folder.resolve("model.gguf");
    Gguf.writeGpt2(gguf, weights(true), ElementType.F32, TokenizerExport.toGguf(tokenizer(), 261));
    damage(gguf, 8000, path -> Gguf.map(path, arena).gpt2());
    HuggingFace.write(folder, weights(true));
    damage(
        folder.resolve("model.safetensors"), 3000, path -> SafeTensors.map(path, arena).tensors());
    damage(folder.resolve("config.json"), 300, path -> HuggingFace.read(folder, arena));
  }

  @FunctionalInterface
  private interface Reader {
    void read(Path path);
  }

  private static void damage(Path file, int headerBytes, Reader reader) throws IOException {
    byte[] sound = Files.readAllBytes(file);
    Random random = new Random(5);
    int refused = 0;
    for (int i = 0; i < 400; i++) {
      byte[] bytes = sound.clone();
      if (i % 4 == 0) {
        bytes = java.util.Arrays.copyOf(bytes, random.nextInt(bytes.length));
      } else {
        for (int k = 0; k < i % 4; k++) {
          bytes[random.nextInt(Math.min(headerBytes, bytes.length))] = (byte) random.nextInt();
        }
      }
      Files.write(file, bytes);
      try {
        reader.read(file);
      } catch (InputException e) {
        refused++;
        assertTrue(e.getMessage().endsWith("."), e.getMessage());
      }
    }
    Files.write(file, sound);
    assertTrue(refused > 100, "only " + refused + " refused");
  }

  @Test
  void mergersAreRecoveredFromRanks() {
    SequencedMap<String, Object> metadata = TokenizerExport.toGguf(tokenizer(), 263);
    assertEquals(
        List.of("t h", "h e", "\u0120 th", "\u0120th e"), metadata.get("tokenizer.ggml.merges"));
    List<?> texts = (List<?>) metadata.get("tokenizer.ggml.tokens");
    assertEquals("\u0120", texts.get(32));
    assertEquals(List.of("<|endoftext|>", "[PAD261]", "[PAD262]"), texts.subList(260, 263));
    List<?> types = (List<?>) metadata.get("tokenizer.ggml.token_type");
    assertEquals(List.of(1, 3, 5, 5), types.subList(259, 263));
    assertEquals(260L, metadata.get("tokenizer.ggml.eos_token_id"));
    assertFalse(texts.contains(" "));
    List<byte[]> broken = tokens();
    broken.set(257, "xyz".getBytes(StandardCharsets.UTF_8));
    assertRefused(() -> TokenizerExport.ofBytes(broken, "x.bin"), "x.bin");
  }

  private static Tokenizer tokenizer() {
    return TokenizerExport.ofBytes(tokens(), "test");
  }

  private static List<byte[]> tokens() {
    List<byte[]> tokens = new ArrayList<>();
    for (int i = 0; i < 256; i++) {
      tokens.add(new byte[] {(byte) i});
    }
    for (String text : new String[] {"th", "he", " th", " the", "<|endoftext|>"}) {
      tokens.add(text.getBytes(StandardCharsets.UTF_8));
    }
    return tokens;
  }

  private static Gpt2Weights weights(boolean tied) {
    TorchGenerator generator = new TorchGenerator(3);
    SequencedMap<String, long[]> shapes = SHAPE.parameters();
    if (!tied) {
      shapes.put("lm_head.weight", new long[] {131, 6});
    }
    SequencedMap<String, StoredTensor> tensors = new LinkedHashMap<>();
    shapes.forEach(
        (name, shape) -> {
          float[] numbers = new float[(int) (shape.length == 1 ? shape[0] : shape[0] * shape[1])];
          generator.normal(numbers, 0, 1);
          tensors.put(name, StoredTensor.float32(MemorySegment.ofArray(numbers), shape));
        });
    return new Gpt2Weights(SHAPE, tensors);
  }

  private static void assertClose(Gpt2Weights expected, Gpt2Weights actual, float tolerance) {
    assertEquals(expected.tensors().keySet(), actual.tensors().keySet());
    expected
        .tensors()
        .forEach(
            (name, tensor) -> {
              float[] a = tensor.toFloats();
              float[] b = actual.tensors().get(name).toFloats();
              for (int i = 0; i < a.length; i++) {
                assertEquals(a[i], b[i], Math.abs(a[i]) * tolerance, name);
              }
            });
  }

  private static void assertRefused(Executable call, String words) {
    String sentence = assertThrows(InputException.class, call).getMessage();
    assertTrue(sentence.contains(words.strip()) && sentence.endsWith("."), sentence);
  }
}
