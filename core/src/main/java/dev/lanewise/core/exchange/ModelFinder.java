package dev.lanewise.core.exchange;

import dev.lanewise.core.base.Failures;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.Json;
import dev.lanewise.core.data.BpeTokenizer;
import dev.lanewise.core.data.EndOfText;
import dev.lanewise.core.data.Tokenizer;
import dev.lanewise.core.data.TokenizerExport;
import dev.lanewise.core.data.Tokenizers;
import dev.lanewise.core.format.Gguf;
import dev.lanewise.core.format.Gpt2Shape;
import dev.lanewise.core.format.Gpt2Weights;
import dev.lanewise.core.format.HuggingFace;
import dev.lanewise.core.format.LlmcFile;
import dev.lanewise.core.format.PeftAdapter;
import dev.lanewise.core.format.SafeTensors;
import dev.lanewise.core.model.GptConfig;
import dev.lanewise.core.model.LoraConfig;
import dev.lanewise.core.train.Checkpoints;
import dev.lanewise.core.train.RunFolder;
import dev.lanewise.core.train.TrainConfig;
import java.io.IOException;
import java.io.InputStream;
import java.lang.foreign.Arena;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.function.Consumer;

/** Finds out what a path holds, and opens the model there. */
final class ModelFinder {
  private static final String MODEL = "model.safetensors";
  private static final String WANTED =
      " A model is a run folder, one of its checkpoints, a folder of Hugging Face's (config.json"
          + " and model.safetensors), an adapter of PEFT's, a .gguf file, or a model file of"
          + " llm.c's.";
  private static final int GPT2_VOCABULARY = 50257;

  private ModelFinder() {}

  static Pretrained find(Path path, Consumer<String> warnings) {
    if (Files.isDirectory(path)) {
      return folder(path, warnings);
    }
    if (!Files.exists(path)) {
      throw new InputException("There is no " + path + "." + WANTED);
    }
    byte[] start = start(path);
    if (startsWith(start, "GGUF")) {
      return gguf(path);
    }
    if ("model".equals(LlmcFile.describe(path))) {
      return llmc(path);
    }
    throw new InputException(path + " is no model: " + looks(path, start) + WANTED);
  }

  // Folders
  // ----------------------------------------------------------------------------------------

  private static Pretrained folder(Path path, Consumer<String> warnings) {
    if (Files.exists(path.resolve("state.json"))) {
      return checkpoint(path);
    }
    if (PeftAdapter.isIn(path)) {
      return adapter(path, warnings);
    }
    if (HuggingFace.isIn(path)) {
      return huggingFace(path);
    }
    if (isRun(path)) {
      return run(path, warnings);
    }
    throw new InputException(path + " holds no model: " + looks(path) + WANTED);
  }

  private static boolean isRun(Path path) {
    Path config = path.resolve("config.json");
    try {
      return Files.isRegularFile(config)
          && Json.parseObject(Files.readString(config), config.toString()).containsKey("training");
    } catch (IOException e) {
      throw new InputException(
          String.format(Locale.ROOT, "%s cannot be read (%s).", config, Failures.describe(e)), e);
    }
  }

  private static Pretrained run(Path path, Consumer<String> warnings) {
    RunFolder run = new RunFolder(path);
    run.describe();
    Checkpoints.Checkpoint newest =
        run.checkpoints()
            .newest(warnings)
            .orElseThrow(
                () ->
                    new InputException(
                        String.format(
                            Locale.ROOT, "The run %s has no whole checkpoint yet.", path)));
    return checkpoint(path, run, newest);
  }

  private static Pretrained checkpoint(Path path) {
    Path checkpoints = path.toAbsolutePath().normalize().getParent();
    Path run = checkpoints == null ? null : checkpoints.getParent();
    if (run == null || !new RunFolder(run).exists()) {
      throw new InputException(
          String.format(
              Locale.ROOT,
              "The checkpoint %s lies outside its run, whose config.json and tokenizer.json are"
                  + " needed to use it; leave it in the run's folder checkpoints.",
              path));
    }
    return checkpoint(path, new RunFolder(run), Checkpoints.open(path));
  }

  private static Pretrained checkpoint(
      Path path, RunFolder run, Checkpoints.Checkpoint checkpoint) {
    RunFolder.Description description = run.describe();
    GptConfig config = description.model().withDropout(0);
    TrainConfig training = description.training();
    Path file = checkpoint.path().resolve(MODEL);
    Gpt2Shape shape =
        new Gpt2Shape(
            config.vocabSize(),
            config.contextLength(),
            config.layers(),
            config.heads(),
            config.channels());
    Map<String, String> figures = new LinkedHashMap<>();
    figures.put("steps", number(checkpoint.step()));
    figures.put("tokens trained on", number(checkpoint.step() * training.tokensPerStep()));
    double loss = checkpoint.state().bestValidation();
    if (Double.isFinite(loss)) {
      figures.put(
          "best validation loss",
          String.format(Locale.ROOT, "%.4f (perplexity %.2f)", loss, Math.exp(loss)));
    }
    String name = String.format(Locale.ROOT, "%s, step %,d", run.path(), checkpoint.step());
    Pretrained.Training left =
        new Pretrained.Training(
            training.context(),
            training.batch(),
            training.precision(),
            training.isolateDocuments(),
            figures);
    LoraConfig lora = training.lora();
    if (lora == null) {
      return Pretrained.of(
          path,
          "lanewise",
          name,
          config,
          left,
          run.tokenizer(),
          List.of(file),
          arena -> checked(file, shape, config, arena));
    }
    Pretrained base = Pretrained.again(description.from());
    List<Path> files = new ArrayList<>(base.files());
    files.add(file);
    return Pretrained.of(
            path,
            "lanewise",
            name,
            config,
            left,
            run.tokenizer(),
            files,
            arena -> corrections(file, base, lora, arena).mergedInto(base.weights(arena), arena))
        .withAdapter(arena -> corrections(file, base, lora, arena));
  }

  /** What a run trained by corrections of low rank. */
  private static PeftAdapter corrections(Path file, Pretrained base, LoraConfig lora, Arena arena) {
    return new PeftAdapter(
        base.path().toAbsolutePath().normalize().toString(),
        lora.rank(),
        lora.alpha(),
        lora.dropout(),
        lora.targets(),
        new LinkedHashMap<>(SafeTensors.map(file, arena).allTensors()));
  }

  private static Gpt2Weights checked(Path file, Gpt2Shape shape, GptConfig config, Arena arena) {
    try {
      Gpt2Weights weights = new Gpt2Weights(shape, SafeTensors.map(file, arena).allTensors());
      if (weights.tied() != config.tiedHead() || weights.hasQkvBias() != config.qkvBias()) {
        throw new InputException("Head or biases are not as the run's config.json says.");
      }
      return weights;
    } catch (InputException e) {
      throw new InputException(file + ": " + e.getMessage(), e);
    }
  }

  private static String number(long value) {
    return String.format(Locale.ROOT, "%,d", value);
  }

  /** The model that an adapter of PEFT's corrects, with the corrections in its weights. */
  private static Pretrained adapter(Path path, Consumer<String> warnings) {
    String named;
    try (Arena arena = Arena.ofShared()) {
      named = PeftAdapter.read(path, arena).base();
    }
    Path base = base(path, named);
    if (base == null) {
      throw new InputException(
          String.format(
              Locale.ROOT,
              "The adapter %s corrects a model that is not here (%s); put the path of its folder"
                  + " under 'base_model_name_or_path' in adapter_config.json.",
              path,
              named == null ? "it names none" : named));
    }
    Pretrained corrected = find(base, warnings);
    List<Path> files = new ArrayList<>(corrected.files());
    files.add(path.resolve(PeftAdapter.WEIGHTS));
    return Pretrained.of(
        path,
        "peft",
        String.format(Locale.ROOT, "%s over %s", path, corrected.name()),
        corrected.config(),
        null,
        corrected.tokenizer(),
        files,
        arena -> PeftAdapter.read(path, arena).mergedInto(corrected.weights(arena), arena));
  }

  private static Path base(Path adapter, String named) {
    try {
      for (Path candidate :
          named == null ? List.<Path>of() : List.of(Path.of(named), adapter.resolve(named))) {
        if (Files.exists(candidate) && !Files.isSameFile(candidate, adapter)) {
          return candidate;
        }
      }
    } catch (InvalidPathException | IOException e) {
      // Then it is the name of a model on a server.
    }
    return null;
  }

  private static Pretrained huggingFace(Path path) {
    return Pretrained.of(
        path,
        "huggingface",
        path.toString(),
        null,
        null,
        huggingFaceTokenizer(path, HuggingFace.vocabulary(path)),
        HuggingFace.weightFiles(path),
        arena -> HuggingFace.map(path, arena));
  }

  private static Tokenizer huggingFaceTokenizer(Path path, int vocabulary) {
    boolean any =
        Files.exists(path.resolve("tokenizer.json")) || Files.exists(path.resolve("vocab.json"));
    if (any || vocabulary != GPT2_VOCABULARY) {
      return Tokenizers.open(path);
    }
    return BpeTokenizer.gpt2(EndOfText.ALLOW);
  }

  // Files
  // ------------------------------------------------------------------------------------------

  private static Pretrained gguf(Path path) {
    Map<String, Object> metadata;
    try (Arena arena = Arena.ofShared()) {
      Gguf file = Gguf.map(path, arena);
      file.gpt2();
      metadata = file.metadata();
    }
    Object title = metadata.get("general.name");
    return Pretrained.of(
        path,
        "gguf",
        title == null ? path.toString() : path + " (" + title + ")",
        null,
        null,
        Tokenizers.fromGguf(metadata, path.toString()),
        List.of(path),
        arena -> Gguf.map(path, arena).gpt2());
  }

  private static Pretrained llmc(Path path) {
    int vocabulary;
    try (Arena arena = Arena.ofShared()) {
      vocabulary = LlmcFile.mapModel(path, arena).shape().vocabulary();
    }
    return Pretrained.of(
        path,
        "llm.c",
        path.toString(),
        null,
        null,
        llmcTokenizer(path, vocabulary),
        List.of(path),
        arena -> LlmcFile.mapModel(path, arena));
  }

  private static Tokenizer llmcTokenizer(Path path, int vocabulary) {
    Path beside = ModelExport.llmcTokenizer(path);
    if (Files.exists(beside)) {
      return TokenizerExport.ofBytes(LlmcFile.readTokenizer(beside), beside.toString());
    }
    if (vocabulary == GPT2_VOCABULARY) {
      return BpeTokenizer.gpt2(EndOfText.ALLOW);
    }
    throw new InputException(
        String.format(
            Locale.ROOT,
            "%s has a vocabulary of %,d tokens, which is not GPT-2's; put its tokenizer beside it,"
                + " as %s.",
            path,
            vocabulary,
            beside.getFileName()));
  }

  // What else it may be
  // ------------------------------------------------------------------------------

  private static String looks(Path folder) {
    for (String name : List.of("pytorch_model.bin", "model.ckpt", "ckpt.pt")) {
      if (Files.exists(folder.resolve(name))) {
        return name + " is a PyTorch file, which only Python can unpack; save it as safetensors.";
      }
    }
    if (Files.exists(folder.resolve(MODEL))) {
      return "it has weights (" + MODEL + "), but no config.json that says of what model.";
    }
    try (var entries = Files.list(folder)) {
      List<String> names = entries.map(entry -> entry.getFileName().toString()).sorted().toList();
      List<String> gguf = names.stream().filter(name -> name.endsWith(".gguf")).toList();
      if (!gguf.isEmpty()) {
        return "name the file in it, " + folder.resolve(gguf.getFirst()) + ".";
      }
      if (names.stream().anyMatch(name -> name.startsWith("step-"))) {
        return "it is a folder of checkpoints; name one of them, or the run's folder.";
      }
      return names.isEmpty()
          ? "it is empty."
          : "it holds "
              + String.join(", ", names.subList(0, Math.min(3, names.size())))
              + (names.size() > 3 ? " and more." : ".");
    } catch (IOException e) {
      throw new InputException(
          String.format(Locale.ROOT, "%s cannot be read (%s).", folder, Failures.describe(e)), e);
    }
  }

  private static String looks(Path file, byte[] start) {
    String llmc = LlmcFile.describe(file);
    if (llmc != null) {
      return "it holds llm.c's " + llmc + ".";
    }
    String name = file.getFileName().toString().toLowerCase(Locale.ROOT);
    if (name.endsWith(".safetensors")) {
      return "weights alone do not say of what model they are; name the folder with its"
          + " config.json.";
    }
    if (startsWith(start, "PK\3\4") || start.length > 1 && start[0] == (byte) 0x80) {
      return "it looks like a PyTorch file, which only Python can unpack; save the model as"
          + " safetensors (model.save_pretrained).";
    }
    if (startsWith(start, "ggml") || startsWith(start, "lmgg") || startsWith(start, "tjgg")) {
      return "it is in the format before GGUF; convert it with llama.cpp.";
    }
    if (start.length == 0) {
      return "it is empty.";
    }
    boolean text = true;
    for (byte b : start) {
      text &= b < 0 || b >= ' ' || b == '\n' || b == '\r' || b == '\t';
    }
    return text ? "it looks like text." : "it is of no known format.";
  }

  private static byte[] start(Path path) {
    try (InputStream in = Files.newInputStream(path)) {
      return in.readNBytes(64);
    } catch (IOException e) {
      throw new InputException(
          String.format(Locale.ROOT, "%s cannot be read (%s).", path, Failures.describe(e)), e);
    }
  }

  private static boolean startsWith(byte[] start, String magic) {
    byte[] wanted = magic.getBytes(StandardCharsets.ISO_8859_1);
    return start.length >= wanted.length
        && java.util.Arrays.equals(start, 0, wanted.length, wanted, 0, wanted.length);
  }
}
