package dev.lanewise.core.exchange;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.Json;
import dev.lanewise.core.data.BpeTokenizer;
import dev.lanewise.core.data.ByteTokenizer;
import dev.lanewise.core.data.CharTokenizer;
import dev.lanewise.core.data.EndOfText;
import dev.lanewise.core.data.Tokenizer;
import dev.lanewise.core.format.ElementType;
import dev.lanewise.core.format.Gguf;
import dev.lanewise.core.format.Gpt2Shape;
import dev.lanewise.core.format.Gpt2Weights;
import dev.lanewise.core.format.StoredTensor;
import dev.lanewise.core.random.TorchGenerator;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalInt;
import java.util.SequencedMap;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** What is exported opens again, with the same logits and the same tokens. */
class ModelExportTest {
  private static final String TEXT =
      "The cat's hat isn't there.\n\n  \u00e9t\u00e9 1999 the the then \\x41\tend \ud83d\ude00";

  @TempDir private Path folder;
  private final Arena arena = Arena.ofAuto();

  private static Tokenizer tokenizer(String kind) {
    return switch (kind) {
      case "chars" -> new CharTokenizer(TEXT);
      case "bytes" -> new ByteTokenizer();
      case "bpe" -> BpeTokenizer.train(TEXT.repeat(3), 270);
      default -> BpeTokenizer.gpt2(EndOfText.ALLOW);
    };
  }

  /** A model of random numbers over a vocabulary, with rows to spare. */
  private static Pretrained model(Tokenizer tokenizer, int spare, boolean tied) {
    int rows = tokenizer.vocabSize() + spare;
    Gpt2Shape shape = new Gpt2Shape(rows, 48, 2, 2, tokenizer.vocabSize() > 1000 ? 8 : 32);
    SequencedMap<String, long[]> shapes = shape.parameters();
    if (!tied) {
      shapes.put("lm_head.weight", new long[] {rows, shape.width()});
    }
    TorchGenerator generator = new TorchGenerator(5);
    SequencedMap<String, StoredTensor> tensors = new LinkedHashMap<>();
    shapes.forEach(
        (name, size) -> {
          float[] numbers = new float[(int) (size.length == 1 ? size[0] : size[0] * size[1])];
          generator.normal(numbers, name.contains("ln_") ? 1 : 0, 0.3);
          tensors.put(name, StoredTensor.float32(MemorySegment.ofArray(numbers), size));
        });
    Gpt2Weights weights = new Gpt2Weights(shape, tensors);
    return Pretrained.of(
        Path.of("here"), "test", "a test", null, null, tokenizer, List.of(), unused -> weights);
  }

  private Path out(ModelExport form) {
    return folder.resolve(
        switch (form) {
          case HF, PEFT -> "model";
          case GGUF -> "model.gguf";
          case LLMC -> "model.bin";
        });
  }

  @ParameterizedTest
  @CsvSource({
    "HF,chars",
    "HF,bytes",
    "HF,bpe",
    "HF,gpt2",
    "GGUF,chars",
    "GGUF,bytes",
    "GGUF,bpe",
    "GGUF,gpt2",
    "LLMC,chars",
    "LLMC,bytes",
    "LLMC,bpe",
    "LLMC,gpt2"
  })
  void comesBackWithItsLogitsAndTokens(ModelExport form, String kind) {
    Tokenizer tokenizer = tokenizer(kind);
    for (boolean tied : new boolean[] {true, false}) {
      if (!tied && (form == ModelExport.LLMC || kind.equals("gpt2"))) {
        continue;
      }
      Pretrained model = model(tokenizer, kind.equals("bpe") ? 3 : 0, tied);
      Path out = folder.resolve(tied + "").resolve(out(form).getFileName());
      form.export(model, out, ElementType.F32);
      Pretrained again = Pretrained.open(out);
      assertEquals(tied, again.config().tiedHead());
      assertEquals(model.config(), again.config());
      int[] ids = tokenizer.encode(TEXT);
      assertArrayEquals(ids, again.tokenizer().encode(TEXT));
      assertEquals(TEXT, again.tokenizer().decode(ids));
      assertEquals(tokenizer.endOfText(), again.tokenizer().endOfText());
      int[] some = java.util.Arrays.copyOf(ids, 12);
      assertArrayEquals(PretrainedTest.logits(model, some), PretrainedTest.logits(again, some));
    }
  }

  @ParameterizedTest
  @CsvSource({
    "HF,F16,3e-3",
    "HF,BF16,3e-2",
    "GGUF,F16,3e-3",
    "GGUF,BF16,3e-2",
    "GGUF,Q8_0,3e-2",
    "LLMC,BF16,3e-2"
  })
  void smallerTypesAreClose(ModelExport form, ElementType type, double tolerance)
      throws IOException {
    Pretrained model = model(new ByteTokenizer(), 0, true);
    form.export(model, out(form), type);
    int[] ids = {84, 104, 101, 32};
    float[] expected = PretrainedTest.logits(model, ids);
    float[] actual = PretrainedTest.logits(Pretrained.open(out(form)), ids);
    PretrainedTest.assertClose(expected, actual, tolerance);
    assertThrows(
        AssertionError.class, () -> PretrainedTest.assertClose(expected, actual, tolerance / 300));
    Path weights = form == ModelExport.HF ? out(form).resolve("model.safetensors") : out(form);
    long parameters = 32 * (256 + 48 + 2) + 2 * (12 * 32 * 32 + 13 * 32);
    assertTrue(Files.size(weights) < (type == ElementType.Q8_0 ? 1.8 : 2.6) * parameters);
  }

  /** llama.cpp takes token 11 for the end of a vocabulary of the kind gpt2 that names none. */
  @ParameterizedTest
  @CsvSource({"chars", "bytes"})
  void noCharacterIsTheEndOfText(String kind) {
    Path out = out(ModelExport.GGUF);
    ModelExport.GGUF.export(model(tokenizer(kind), 2, true), out, ElementType.F32);
    Map<String, Object> metadata = Gguf.map(out, arena).metadata();
    assertEquals("rwkv", metadata.get("tokenizer.ggml.model"));
    assertFalse(metadata.keySet().stream().anyMatch(key -> key.endsWith("_token_id")));
    List<?> types = (List<?>) metadata.get("tokenizer.ggml.token_type");
    assertEquals(List.of(1, 5, 5), types.subList(types.size() - 3, types.size()));
    assertEquals(OptionalInt.empty(), Pretrained.open(out).tokenizer().endOfText());
  }

  @Test
  void foldersHaveWhatTransformersAsksFor() throws IOException {
    Path out = out(ModelExport.HF);
    ModelExport.HF.export(model(tokenizer("bpe"), 0, true), out, ElementType.BF16);
    try (var files = Files.list(out)) {
      assertEquals(
          List.of(
              "README.md",
              "config.json",
              "generation_config.json",
              "merges.txt",
              "model.safetensors",
              "tokenizer.json",
              "tokenizer_config.json",
              "vocab.json"),
          files.map(file -> file.getFileName().toString()).sorted().toList());
    }
    Map<String, Object> config = json(out.resolve("config.json"));
    assertEquals("bfloat16", config.get("dtype"));
    assertEquals("bfloat16", config.get("torch_dtype"));
    assertEquals(269L, config.get("eos_token_id"));
    assertEquals(269L, json(out.resolve("generation_config.json")).get("pad_token_id"));
    assertEquals("<|endoftext|>", json(out.resolve("tokenizer_config.json")).get("eos_token"));
    // The two old files alone give the same tokens.
    Files.delete(out.resolve("tokenizer.json"));
    assertArrayEquals(tokenizer("bpe").encode(TEXT), Pretrained.open(out).tokenizer().encode(TEXT));
    Path plain = folder.resolve("plain");
    ModelExport.HF.export(model(tokenizer("chars"), 0, true), plain, ElementType.F32);
    assertTrue(json(plain.resolve("config.json")).containsKey("eos_token_id"));
    assertEquals(null, json(plain.resolve("config.json")).get("eos_token_id"));
  }

  private static Map<String, Object> json(Path file) throws IOException {
    return Json.parseObject(Files.readString(file), file.toString());
  }

  @Test
  void whatCannotBeExportedLeavesNothing() throws IOException {
    Pretrained model = model(new ByteTokenizer(), 0, false);
    refused(ModelExport.LLMC, model, ElementType.F32, "tied");
    refused(ModelExport.HF, model, ElementType.Q8_0, "choose one of f32, f16, bf16");
    refused(ModelExport.LLMC, model, ElementType.F16, "choose one of f32, bf16");
    try (var files = Files.list(folder)) {
      assertEquals(List.of(), files.toList());
    }
    Files.createDirectory(out(ModelExport.HF));
    Files.writeString(out(ModelExport.GGUF), "mine");
    Files.writeString(folder.resolve("model_tokenizer.bin"), "mine");
    Pretrained tied = model(new ByteTokenizer(), 0, true);
    for (ModelExport form : ModelExport.values()) {
      refused(form, tied, ElementType.F32, "is there already");
    }
    assertEquals("mine", Files.readString(out(ModelExport.GGUF)));
    assertFalse(Files.exists(out(ModelExport.LLMC)));
  }

  private void refused(ModelExport form, Pretrained model, ElementType type, String words) {
    String sentence =
        assertThrows(InputException.class, () -> form.export(model, out(form), type)).getMessage();
    assertTrue(sentence.contains(words), sentence);
  }
}
