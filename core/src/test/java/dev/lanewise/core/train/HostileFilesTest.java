package dev.lanewise.core.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.fail;

import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.Json;
import dev.lanewise.core.base.JsonFields;
import dev.lanewise.core.data.CharTokenizer;
import dev.lanewise.core.data.Corpus;
import dev.lanewise.core.data.Dataset;
import dev.lanewise.core.data.TokenFile;
import dev.lanewise.core.data.Tokenizer;
import dev.lanewise.core.data.TokenizerExport;
import dev.lanewise.core.data.Tokenizers;
import dev.lanewise.core.format.ElementType;
import dev.lanewise.core.format.Gguf;
import dev.lanewise.core.format.Gpt2Weights;
import dev.lanewise.core.format.HuggingFace;
import dev.lanewise.core.format.LlmcFile;
import dev.lanewise.core.format.PeftAdapter;
import dev.lanewise.core.format.SafeTensors;
import dev.lanewise.core.format.StoredTensor;
import dev.lanewise.core.model.GptPresets;
import dev.lanewise.core.report.Metrics;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.net.URISyntaxException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SequencedMap;
import java.util.SplittableRandom;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import java.util.zip.ZipEntry;
import java.util.zip.ZipOutputStream;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * Every format that is read, damaged in many ways: each file opens, or is refused in one sentence.
 *
 * <p>{@code -Dlanewise.test.mutations=20000} tries so many of each format, from another seed with
 * {@code -Dlanewise.test.seed}.
 */
class HostileFilesTest {
  private static final int MUTATIONS = Integer.getInteger("lanewise.test.mutations", 25);
  private static final long SEED = Long.getLong("lanewise.test.seed", 7);
  private static final String[] VALUES = {
    "-1",
    "0",
    "1e308",
    "-0.5",
    "4611686018427387904",
    "99999999999999999999",
    "2147483648",
    "null",
    "true",
    "\"\\u0000\"",
    "[]",
    "{}",
    "\"\"",
    "\"\\ud800\"",
    "[[[[[[[[]]]]]]]]",
    "\"-1\"",
    "NaN"
  };

  @TempDir static Path folder;

  /** Reads a whole file or folder the way the program does. */
  private interface Reader {
    void read(Path file) throws IOException;
  }

  /**
   * A format.
   *
   * @param name names the format, and its folder here
   * @param file the file that is damaged, in that folder
   * @param target what the reader gets: the file, or the folder
   */
  private record Format(String name, String file, boolean target, Reader reader) {
    @Override
    public String toString() {
      return name;
    }
  }

  static Stream<Format> formats() throws IOException, URISyntaxException {
    Path lora = Path.of(HostileFilesTest.class.getResource("/fixtures/lora").toURI());
    List<Format> formats = new ArrayList<>();
    try (Arena arena = Arena.ofShared()) {
      Gpt2Weights weights = HuggingFace.read(lora, arena);
      for (String name : List.of("hf-config", "hf-weights", "hf-index")) {
        Files.createDirectories(folder.resolve(name));
        Files.copy(lora.resolve("config.json"), folder.resolve(name).resolve("config.json"));
        Files.copy(
            lora.resolve("model.safetensors"), folder.resolve(name).resolve("model.safetensors"));
      }
      Path shard = folder.resolve("hf-index/model-00001-of-00001.safetensors");
      Files.move(folder.resolve("hf-index/model.safetensors"), shard);
      Map<String, Object> map = new LinkedHashMap<>();
      SafeTensors.map(shard, arena)
          .tensors()
          .keySet()
          .forEach(name -> map.put(name, shard.getFileName().toString()));
      Files.writeString(
          folder.resolve("hf-index/model.safetensors.index.json"),
          Json.writePretty(Map.of("metadata", Map.of("total_size", 1), "weight_map", map)));
      formats.add(new Format("hf-config", "config.json", false, HostileFilesTest::huggingFace));
      formats.add(
          new Format("hf-weights", "model.safetensors", false, HostileFilesTest::huggingFace));
      formats.add(
          new Format(
              "hf-index", "model.safetensors.index.json", false, HostileFilesTest::huggingFace));
      for (String name : List.of("peft-config", "peft-weights")) {
        Files.createDirectories(folder.resolve(name));
        for (String file : List.of("adapter_config.json", "adapter_model.safetensors")) {
          Files.copy(lora.resolve(file), folder.resolve(name).resolve(file));
        }
      }
      formats.add(new Format("peft-config", "adapter_config.json", false, HostileFilesTest::peft));
      formats.add(
          new Format("peft-weights", "adapter_model.safetensors", false, HostileFilesTest::peft));
      make("gguf", "model.gguf", path -> Gguf.writeGpt2(path, weights, ElementType.F16, tokens()));
      make("llmc", "model.bin", path -> LlmcFile.writeModel(path, weights, ElementType.F32));
      SequencedMap<String, StoredTensor> few = new LinkedHashMap<>();
      few.put("a", weights.tensors().get("wpe.weight"));
      few.put("b", weights.tensors().get("ln_f.bias"));
      make("safetensors", "x.safetensors", path -> SafeTensors.write(path, few, Map.of("k", "v")));
    }
    formats.add(
        new Format(
            "gguf",
            "model.gguf",
            true,
            path -> {
              try (Arena arena = Arena.ofShared()) {
                Gguf file = Gguf.map(path, arena);
                assertNotNull(file.metadata().toString());
                file.tensors().values().forEach(HostileFilesTest::use);
                use(file.gpt2());
              }
            }));
    formats.add(
        new Format(
            "llmc",
            "model.bin",
            true,
            path -> {
              try (Arena arena = Arena.ofShared()) {
                use(LlmcFile.mapModel(path, arena));
              }
            }));
    formats.add(
        new Format(
            "safetensors",
            "x.safetensors",
            true,
            path -> {
              try (Arena arena = Arena.ofShared()) {
                SafeTensors.map(path, arena).tensors().values().forEach(HostileFilesTest::use);
              }
            }));
    for (TokenFile.Layout layout : TokenFile.Layout.values()) {
      String name = "tokens-" + layout;
      make(
          name,
          "t.bin",
          path ->
              TokenFile.write(
                  path,
                  layout,
                  sink -> {
                    for (int i = 0; i < 500; i++) {
                      sink.accept(i % 256);
                    }
                  }));
      formats.add(
          new Format(
              name,
              "t.bin",
              true,
              path -> {
                try (TokenFile file = TokenFile.open(path, 256)) {
                  file.get(file.length() - 1);
                }
              }));
    }
    formats.addAll(tokenizers());
    formats.addAll(runs());
    make("model", "model.json", path -> write(path, GptPresets.toMap(GptPresets.of("nano"))));
    formats.add(
        new Format(
            "model",
            "model.json",
            true,
            path ->
                GptPresets.fromFields(
                    new JsonFields(
                        Json.parseObject(text(path), path.toString()), path.toString()))));
    make("zip", "text.zip", HostileFilesTest::zip);
    formats.add(
        new Format(
            "zip", "text.zip", true, path -> Corpus.of(path).read((utf8, from, to, ends) -> {})));
    make("nanogpt", "meta.pkl", path -> Files.write(path, pickle()));
    formats.add(new Format("nanogpt", "meta.pkl", false, Dataset::tokenizerBeside));
    return formats.stream();
  }

  private static List<Format> tokenizers() throws IOException {
    List<Format> formats = new ArrayList<>();
    Path text = folder.resolve("words.txt");
    Files.writeString(text, "some words and some other words ".repeat(40));
    for (String kind : List.of("chars", "bpe:280", "bytes")) {
      try (Dataset data =
          Dataset.prepare(
              Corpus.of(text), kind, folder.resolve("cache"), 0.1, Dataset.Progress.NONE)) {
        String name = "tokenizer-" + kind.replace(':', '-');
        make(name, "tokenizer.json", path -> Tokenizers.save(data.tokenizer(), path));
        formats.add(
            new Format(
                name,
                "tokenizer.json",
                true,
                path -> {
                  Tokenizer tokenizer = Tokenizers.load(path);
                  for (int id = 0; id < Math.min(300, tokenizer.vocabSize()); id++) {
                    tokenizer.bytes(id);
                  }
                  tokenizer.encode("some");
                }));
      }
    }
    for (String family : List.of("llama3", "qwen2", "smollm")) {
      String name = "tokenizer-" + family;
      make(name, "tokenizer.json", path -> write(path, huggingFaceTokenizer(family)));
      formats.add(
          new Format(
              name,
              "tokenizer.json",
              true,
              path -> Tokenizers.open(path).encode("Some words, 1234 and  spaces\n")));
    }
    // What the cache holds is made again when it is damaged.
    for (String ending : List.of(".json", ".bin")) {
      Path cache = Files.createDirectories(folder.resolve("cache" + ending));
      Dataset.prepare(Corpus.of(text), "bpe:280", cache, 0.1, Dataset.Progress.NONE).close();
      try (Stream<Path> files = Files.list(cache)) {
        Path file =
            files.filter(path -> path.toString().endsWith(ending)).findFirst().orElseThrow();
        formats.add(
            new Format(
                "cache" + ending,
                file.getFileName().toString(),
                true,
                path ->
                    Dataset.prepare(Corpus.of(text), "bpe:280", cache, 0.1, Dataset.Progress.NONE)
                        .close()));
      }
    }
    return formats;
  }

  @SuppressWarnings("unchecked")
  private static Map<String, Object> huggingFaceTokenizer(String family) throws IOException {
    String resource = "/dev/lanewise/core/data/tokenizers/" + family + ".json";
    try (InputStream in = HostileFilesTest.class.getResourceAsStream(resource)) {
      String text = new String(in.readAllBytes(), StandardCharsets.UTF_8);
      return (Map<String, Object>) Json.parseObject(text, family).get("tokenizer");
    }
  }

  private static List<Format> runs() throws IOException {
    List<Format> formats = new ArrayList<>();
    Path run = folder.resolve("run");
    TinyRuns tiny = new TinyRuns(Files.createDirectories(folder.resolve("tiny")));
    tiny.train(run, tiny.model(0), TinyRuns.config(4, 2, 4, false), 0);
    Path checkpoint;
    try (Stream<Path> folders = Files.list(run.resolve("checkpoints"))) {
      checkpoint = folders.max(Comparator.naturalOrder()).orElseThrow();
    }
    try (Stream<Path> files = Files.list(checkpoint)) {
      for (Path file : files.sorted().toList()) {
        String name = "checkpoint-" + file.getFileName();
        Path copy = Files.createDirectories(folder.resolve(name));
        try (Stream<Path> all = Files.list(checkpoint)) {
          for (Path each : all.toList()) {
            Files.copy(each, copy.resolve(each.getFileName()));
          }
        }
        byte[] whole = Files.readAllBytes(file);
        formats.add(
            new Format(
                name,
                file.getFileName().toString(),
                false,
                path -> {
                  Checkpoints.open(path);
                  // What opens must be what was written.
                  byte[] now = Files.readAllBytes(path.resolve(file.getFileName()));
                  if (!meaning(file, whole).equals(meaning(file, now))) {
                    throw new AssertionError("an altered checkpoint was taken for whole");
                  }
                }));
      }
    }
    for (String file : List.of("config.json", "metrics.jsonl")) {
      Path copy = Files.createDirectories(folder.resolve("run-" + file));
      Files.copy(run.resolve(file), copy.resolve(file));
    }
    formats.add(
        new Format(
            "run-config.json",
            "config.json",
            false,
            path -> new RunFolder(path).describe().source()));
    formats.add(new Format("run-metrics.jsonl", "metrics.jsonl", true, Metrics::read));
    return formats;
  }

  /** A file's content, without white space that means nothing. */
  private static Object meaning(Path file, byte[] content) {
    String text = new String(content, StandardCharsets.ISO_8859_1);
    return file.toString().endsWith(".json") ? Json.parse(text, "") : text;
  }

  private static SequencedMap<String, Object> tokens() {
    StringBuilder characters = new StringBuilder();
    for (int i = 0; i < 37; i++) {
      characters.append((char) (i + 60));
    }
    return TokenizerExport.toGguf(new CharTokenizer(characters.toString()), 37);
  }

  private static void huggingFace(Path folder) {
    try (Arena arena = Arena.ofShared()) {
      use(HuggingFace.read(folder, arena));
    }
  }

  private static void peft(Path folder) {
    try (Arena arena = Arena.ofShared()) {
      PeftAdapter.read(folder, arena).tensors().values().forEach(HostileFilesTest::use);
    }
  }

  private static void use(Gpt2Weights weights) {
    weights.tensors().values().forEach(HostileFilesTest::use);
  }

  private static void use(StoredTensor tensor) {
    if (tensor.elements() < 100_000) {
      tensor.toDoubles();
    }
  }

  private static void zip(Path path) throws IOException {
    try (ZipOutputStream out = new ZipOutputStream(Files.newOutputStream(path))) {
      for (String name : List.of("a.txt", "../b.txt", "/etc/c.txt")) {
        out.putNextEntry(new ZipEntry(name));
        out.write("some text of a file ".repeat(30).getBytes(StandardCharsets.UTF_8));
      }
    }
  }

  /** A dictionary with 'itos' of two characters, by hand. */
  private static byte[] pickle() {
    return new byte[] {
      (byte) 0x80,
      4,
      '}',
      (byte) 0x94,
      (byte) 0x8C,
      4,
      'i',
      't',
      'o',
      's',
      (byte) 0x94,
      '}',
      '(',
      'K',
      0,
      (byte) 0x8C,
      1,
      'a',
      'K',
      1,
      (byte) 0x8C,
      1,
      'b',
      'u',
      's',
      '.'
    };
  }

  private static String text(Path path) throws IOException {
    return new String(Files.readAllBytes(path), StandardCharsets.UTF_8);
  }

  private static void write(Path path, Map<String, Object> object) throws IOException {
    Files.writeString(path, Json.writePretty(object));
  }

  private interface Maker {
    void make(Path path) throws IOException;
  }

  private static void make(String name, String file, Maker maker) throws IOException {
    maker.make(Files.createDirectories(folder.resolve(name)).resolve(file));
  }

  @ParameterizedTest
  @MethodSource("formats")
  @Timeout(value = 30, unit = TimeUnit.MINUTES, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
  void opensOrIsRefusedInOneSentence(Format format) throws IOException {
    Path home = folder.resolve(format.name);
    Path file = home.resolve(format.file);
    byte[] whole = Files.readAllBytes(file);
    Path target = format.target ? file : home;
    format.reader.read(target);
    boolean textual = format.file.contains(".json");
    SplittableRandom random = new SplittableRandom(SEED * 31 + format.name.hashCode());
    int refused = 0;
    for (int i = 0; i < MUTATIONS; i++) {
      byte[] damaged =
          textual && random.nextInt(4) > 0 ? json(whole, random) : bytes(whole, random);
      Files.write(file, damaged);
      long start = System.nanoTime();
      try {
        format.reader.read(target);
      } catch (InputException e) {
        refused++;
        String said = e.getMessage();
        if (said == null || said.isBlank() || said.contains("Exception") || said.contains("\n")) {
          fail(describe(format, i, damaged) + " was refused with: " + said, e);
        }
      } catch (Throwable e) {
        fail(describe(format, i, damaged) + " gave " + e, e);
      }
      long seconds = TimeUnit.NANOSECONDS.toSeconds(System.nanoTime() - start);
      if (seconds > 60) {
        fail(describe(format, i, damaged) + " took " + seconds + " seconds");
      }
    }
    Files.write(file, whole);
    format.reader.read(target);
    assertEquals(true, refused > 0 || format.name.startsWith("cache"), "nothing was refused");
  }

  private static String describe(Format format, int number, byte[] damaged) {
    try {
      Path kept = Files.createTempFile("hostile-" + format.name + "-" + number + "-", ".bin");
      Files.write(kept, damaged);
      return "mutation " + number + " of " + format.name + ", kept as " + kept + ",";
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** Bytes changed, cut off, doubled, left out, or integers made extreme. */
  private static byte[] bytes(byte[] whole, SplittableRandom random) {
    byte[] b = whole.clone();
    // Headers are where damage matters most.
    int times = 1 + random.nextInt(4);
    for (int t = 0; t < times && b.length > 8; t++) {
      int at = random.nextInt(random.nextBoolean() ? Math.min(b.length, 512) : b.length);
      switch (random.nextInt(7)) {
        case 0 -> b[at] ^= (byte) (1 << random.nextInt(8));
        case 1 -> b[at] = (byte) random.nextInt(256);
        case 2 -> b = Arrays.copyOf(b, at);
        case 3 -> b = Arrays.copyOf(b, b.length + 1 + random.nextInt(64));
        case 4 -> {
          int length = Math.min(b.length - at, 1 + random.nextInt(64));
          byte[] shorter = new byte[b.length - length];
          System.arraycopy(b, 0, shorter, 0, at);
          System.arraycopy(b, at + length, shorter, at, b.length - at - length);
          b = shorter;
        }
        case 5 -> {
          byte fill = (byte) (random.nextBoolean() ? 0xFF : random.nextBoolean() ? 0x7F : 0);
          int place = Math.min(at & ~3, b.length - 8);
          int size = random.nextBoolean() ? 4 : 8;
          Arrays.fill(b, place, place + size, fill);
          b[place + size - 1] = random.nextBoolean() ? 0x7F : fill;
        }
        default -> {
          int from = random.nextInt(b.length);
          int length = Math.min(32, b.length - Math.max(from, at));
          System.arraycopy(
              whole,
              Math.min(from, whole.length - 1),
              b,
              at,
              Math.min(length, whole.length - Math.min(from, whole.length - 1)));
        }
      }
    }
    return b;
  }

  /** A value replaced by one that makes no sense, or a line left out. */
  private static byte[] json(byte[] whole, SplittableRandom random) {
    String text = new String(whole, StandardCharsets.UTF_8);
    List<Integer> colons = new ArrayList<>();
    for (int i = text.indexOf(':'); i >= 0; i = text.indexOf(':', i + 1)) {
      colons.add(i);
    }
    if (colons.isEmpty() || random.nextInt(6) == 0) {
      List<String> lines = new ArrayList<>(text.lines().toList());
      lines.remove(random.nextInt(lines.size()));
      return String.join("\n", lines).getBytes(StandardCharsets.UTF_8);
    }
    int colon = colons.get(random.nextInt(colons.size()));
    int end = colon + 1;
    while (end < text.length() && ",}\n".indexOf(text.charAt(end)) < 0) {
      end++;
    }
    return (text.substring(0, colon + 1)
            + VALUES[random.nextInt(VALUES.length)]
            + text.substring(end))
        .getBytes(StandardCharsets.UTF_8);
  }
}
