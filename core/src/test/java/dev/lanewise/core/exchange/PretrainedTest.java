package dev.lanewise.core.exchange;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.backend.CpuBackend;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.Json;
import dev.lanewise.core.data.ByteTokenizer;
import dev.lanewise.core.data.Tokenizer;
import dev.lanewise.core.format.ElementType;
import dev.lanewise.core.format.Gguf;
import dev.lanewise.core.format.SafeTensors;
import dev.lanewise.core.format.StoredTensor;
import dev.lanewise.core.model.Gpt;
import dev.lanewise.core.model.TextGenerator;
import dev.lanewise.core.nn.AdamW;
import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.core.tensor.Tape;
import dev.lanewise.core.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.net.URISyntaxException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SequencedMap;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Models that transformers 5.18 and gguf 0.19 wrote, and the logits that PyTorch has for them. */
class PretrainedTest {
  static final Path FOLDER = fixtures();
  private static final int[] BYTES = "To be, or not".chars().toArray();

  @TempDir private Path temporary;
  private final Arena arena = Arena.ofAuto();

  private static Path fixtures() {
    try {
      return Path.of(PretrainedTest.class.getResource("/fixtures/weights").toURI());
    } catch (URISyntaxException e) {
      throw new AssertionError(e);
    }
  }

  static float[] logits(Pretrained model, int... ids) {
    try (Backend backend = new CpuBackend();
        Tape tape = new Tape(backend, true)) {
      Gpt gpt = model.load(tape);
      return gpt.evaluate(() -> gpt.forward(tape.ids(ids, 1, ids.length)).toArray());
    }
  }

  static int[] greedy(Pretrained model, int[] ids, int count) {
    try (Backend backend = new CpuBackend();
        Tape tape = new Tape(backend, true)) {
      int[] all =
          new TextGenerator(model.load(tape), model.context(), model.tokenizer())
              .generate(
                  ids, count, TextGenerator.Sampling.GREEDY, new TorchGenerator(1), id -> true);
      return Arrays.copyOfRange(all, ids.length, all.length);
    }
  }

  static void assertClose(float[] expected, float[] actual, double tolerance) {
    double scale = 0;
    for (float value : expected) {
      scale = Math.max(scale, Math.abs(value));
    }
    assertEquals(expected.length, actual.length);
    for (int i = 0; i < expected.length; i++) {
      assertEquals(expected[i], actual[i], tolerance * scale, "at " + i);
    }
  }

  private float[] expected(String name) {
    return SafeTensors.map(FOLDER.resolve("logits.safetensors"), arena).tensor(name).toFloats();
  }

  private static Map<String, Object> facts() throws IOException {
    return Json.parseObject(Files.readString(FOLDER.resolve("expected.json")), "expected.json");
  }

  private static int[] ints(Object list) {
    return ((List<?>) list).stream().mapToInt(n -> ((Long) n).intValue()).toArray();
  }

  @ParameterizedTest
  @ValueSource(strings = {"tied-bf16-sharded", "untied-f32"})
  void transformersFoldersGiveTheirLogitsAndText(String name) throws IOException {
    Pretrained model = Pretrained.open(FOLDER.resolve(name));
    assertEquals(name.startsWith("tied"), model.config().tiedHead());
    Tokenizer tokenizer = model.tokenizer();
    int[] ids = ints(facts().get("ids"));
    assertArrayEquals(ids, tokenizer.encode((String) facts().get("prompt")));
    assertEquals(0, tokenizer.endOfText().orElseThrow());
    assertClose(expected(name), logits(model, ids), 1e-5);
    Map<?, ?> text = (Map<?, ?>) facts().get(name);
    assertArrayEquals(ints(text.get("greedy")), greedy(model, ids, 8));
  }

  @ParameterizedTest
  @ValueSource(strings = {"tied-bf16-sharded", "untied-f32"})
  void tenStepsOfFineTuningFollowPyTorch(String name) throws IOException {
    int[] ids = ints(facts().get("ids"));
    int length = ids.length - 1;
    List<?> losses = (List<?>) ((Map<?, ?>) facts().get(name)).get("losses");
    try (Backend backend = new CpuBackend();
        Tape tape = new Tape(backend)) {
      Gpt gpt = Pretrained.open(FOLDER.resolve(name)).load(tape).train();
      Tensor inputs = tape.ids(Arrays.copyOf(ids, length), 1, length);
      Tensor targets = tape.ids(Arrays.copyOfRange(ids, 1, ids.length), 1, length);
      try (AdamW optimizer =
          new AdamW(tape, parameter -> parameter.shape().rank() == 2)
              .betas(0.9, 0.95)
              .weightDecay(0.1)) {
        for (Object expected : losses) {
          tape.reset();
          optimizer.zeroGrad();
          Tensor loss = gpt.loss(inputs, targets);
          loss.backward();
          assertEquals((Double) expected, loss.item(), 1e-5 * (Double) expected);
          optimizer.step(1e-3);
        }
      }
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"q8_0.gguf", "q4_0.gguf"})
  void quantisedFilesGiveTheLogitsOfTheirNumbers(String name) {
    Pretrained model = Pretrained.open(FOLDER.resolve(name));
    assertInstanceOf(ByteTokenizer.class, model.tokenizer());
    assertClose(expected(name), logits(model, BYTES), 1e-5);
  }

  @Test
  void blocksOfEightBitsAreThoseOfGgml() {
    SequencedMap<String, StoredTensor> stored =
        Gguf.map(FOLDER.resolve("q8_0.gguf"), arena).tensors();
    StoredTensor source = stored.get("source");
    SequencedMap<String, StoredTensor> one = new LinkedHashMap<>();
    one.put("blk.0.attn_output.weight", source);
    Path file = temporary.resolve("x.gguf");
    Gguf.write(
        file, new LinkedHashMap<>(), one, Map.of("blk.0.attn_output.weight", ElementType.Q8_0));
    assertEquals(
        stored.get("blk.0.attn_output.weight"),
        Gguf.map(file, arena).tensors().get("blk.0.attn_output.weight"));
  }

  @Test
  void theOriginHasEachFilesChecksum() throws IOException {
    Map<String, Object> origin = Pretrained.open(FOLDER.resolve("q8_0.gguf")).origin();
    assertEquals("gguf", origin.get("kind"));
    assertEquals(FOLDER.resolve("q8_0.gguf").toString(), origin.get("path"));
    assertEquals(64, ((Map<?, ?>) origin.get("sha256")).get("q8_0.gguf").toString().length());
    Map<?, ?> shards =
        (Map<?, ?>) Pretrained.open(FOLDER.resolve("tied-bf16-sharded")).origin().get("sha256");
    assertEquals(3, shards.size());
  }

  /** What is no model is told what it looks like. */
  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "none | There is no",
        "empty/ | it is empty",
        "text.txt=Once upon a time | looks like text",
        "x.bin=PK\u0003\u0004.... | PyTorch file",
        "old.bin=lmgg1234 | before GGUF",
        "pickled/config.json={\"model_type\":\"gpt2\",\"vocab_size\":50257,\"n_positions\":8,"
            + "\"n_layer\":1,\"n_head\":1,\"n_embd\":4}+pickled/pytorch_model.bin=x"
            + " | save_pretrained",
        "llama/config.json={\"model_type\":\"llama\"} | architecture 'llama'",
        "bare/model.safetensors=x | no config.json",
        "peft/adapter_config.json={} | adapter",
        "nano/ckpt.pt=x | ckpt.pt is a PyTorch file",
        "ggufs/a.gguf=GGUF | name the file in it",
        "cut.gguf=GGUF | no sound GGUF file",
        "notes/a.txt=x+notes/b.txt=y | it holds a.txt, b.txt",
        "w.safetensors=xxxxxxxxxxx | name the folder"
      })
  void whatIsNoModelIsNamed(String files, String words) throws IOException {
    String first = null;
    for (String file : files.strip().split("\\+", -1)) {
      String[] parts = file.split("=", 2);
      Path path = temporary.resolve(parts[0]);
      if (parts[0].endsWith("/")) {
        Files.createDirectories(path);
      } else if (parts.length == 2) {
        Files.createDirectories(path.getParent());
        Files.writeString(path, parts[1]);
      }
      first = first == null ? parts[0] : first;
    }
    int folder = first.indexOf('/');
    Path path = temporary.resolve(folder > 0 ? first.substring(0, folder) : first);
    String sentence = assertThrows(InputException.class, () -> Pretrained.open(path)).getMessage();
    assertTrue(sentence.contains(words.strip()), sentence);
    assertTrue(sentence.endsWith("."), sentence);
  }
}
