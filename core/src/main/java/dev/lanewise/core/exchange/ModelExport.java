package dev.lanewise.core.exchange;

import dev.lanewise.core.base.AtomicFile;
import dev.lanewise.core.base.Failures;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.Json;
import dev.lanewise.core.data.BpeTokenizer;
import dev.lanewise.core.data.BpeVocabulary;
import dev.lanewise.core.data.Tokenizer;
import dev.lanewise.core.data.TokenizerExport;
import dev.lanewise.core.format.ElementType;
import dev.lanewise.core.format.Gguf;
import dev.lanewise.core.format.HuggingFace;
import dev.lanewise.core.format.LlmcFile;
import dev.lanewise.core.format.PeftAdapter;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.SequencedMap;
import java.util.UUID;
import java.util.stream.Collectors;

/** Forms in which other programs open a model, with weights, tokenizer and what belongs to them. */
public enum ModelExport {
  /** A folder of Hugging Face's, for transformers and all that reads its folders. */
  HF(ElementType.F32, ElementType.F16, ElementType.BF16) {
    @Override
    void write(Pretrained model, Path out, ElementType type) {
      writeFolder(model, out, type);
    }
  },
  /** What a run of --lora trained, alone: a folder of PEFT's, over the model that it began with. */
  PEFT(ElementType.F32) {
    @Override
    void write(Pretrained model, Path out, ElementType type) {
      writeAdapter(model, out);
    }
  },
  /** A GGUF file, for llama.cpp, Ollama and their kin. */
  GGUF(ElementType.F32, ElementType.F16, ElementType.BF16, ElementType.Q8_0) {
    @Override
    void write(Pretrained model, Path out, ElementType type) {
      writeGguf(model, out, type);
    }
  },
  /** A model file of llm.c's, and beside it the vocabulary, whose name ends in _tokenizer.bin. */
  LLMC(ElementType.F32, ElementType.BF16) {
    @Override
    void write(Pretrained model, Path out, ElementType type) {
      writeLlmc(model, out, type);
    }
  };

  @SuppressWarnings("ImmutableEnumChecker") // made by List.of
  private final List<ElementType> types;

  ModelExport(ElementType... types) {
    this.types = List.of(types);
  }

  abstract void write(Pretrained model, Path out, ElementType type);

  /**
   * Writes a model, which appears complete or not at all.
   *
   * @param model the model
   * @param out file or folder that is not there yet
   * @param type what weights are stored as
   * @throws InputException if there is something already, this form lacks the type or cannot
   *     express the model or its tokenizer, or nothing can be written
   */
  public void export(Pretrained model, Path out, ElementType type) {
    if (!types.contains(type)) {
      throw new InputException(
          String.format(
              Locale.ROOT,
              "%s has no weights of the type %s; choose one of %s.",
              this == HF
                  ? "Hugging Face's format"
                  : this == PEFT ? "An adapter" : this == GGUF ? "This" : "llm.c",
              name(type),
              types.stream().map(ModelExport::name).collect(Collectors.joining(", "))));
    }
    refuseExisting(out);
    Path parent = out.toAbsolutePath().getParent();
    try {
      if (parent != null) {
        Files.createDirectories(parent);
      }
    } catch (IOException e) {
      throw unwritable(parent, e);
    }
    write(model, out, type);
  }

  private static String name(ElementType type) {
    return type.name().toLowerCase(Locale.ROOT);
  }

  private static void refuseExisting(Path path) {
    if (Files.exists(path, java.nio.file.LinkOption.NOFOLLOW_LINKS)) {
      throw new InputException(
          path + " is there already and is not overwritten; choose another --out or remove it.");
    }
  }

  private static InputException unwritable(Path path, IOException e) {
    return new InputException(
        String.format(Locale.ROOT, "Cannot write %s (%s).", path, Failures.describe(e)), e);
  }

  /** A model's name for people: that of what it was exported to. */
  private static String title(Path out) {
    String name = out.toAbsolutePath().normalize().getFileName().toString();
    return name.endsWith(".gguf") ? name.substring(0, name.length() - 5) : name;
  }

  // GGUF and llm.c
  // -----------------------------------------------------------------------------------

  private static void writeGguf(Pretrained model, Path out, ElementType type) {
    SequencedMap<String, Object> metadata = new LinkedHashMap<>();
    metadata.put("general.name", title(out));
    metadata.putAll(TokenizerExport.toGguf(model.tokenizer(), model.config().vocabSize()));
    try (Arena arena = Arena.ofShared()) {
      Gguf.writeGpt2(out, model.weights(arena), type, metadata);
    }
  }

  /** Where the vocabulary of a model file of llm.c's lies. */
  static Path llmcTokenizer(Path model) {
    String name = model.getFileName().toString();
    String stem = name.endsWith(".bin") ? name.substring(0, name.length() - 4) : name;
    return model.resolveSibling(stem + "_tokenizer.bin");
  }

  private static void writeLlmc(Pretrained model, Path out, ElementType type) {
    Tokenizer tokenizer = model.tokenizer();
    Path beside = llmcTokenizer(out);
    refuseExisting(beside);
    try (Arena arena = Arena.ofShared()) {
      LlmcFile.writeModel(out, model.weights(arena), type);
    }
    try {
      LlmcFile.writeTokenizer(
          beside, TokenizerExport.toBytes(tokenizer), tokenizer.endOfText().orElse(0));
    } catch (InputException e) {
      remove(out);
      throw e;
    }
  }

  // Hugging Face
  // -------------------------------------------------------------------------------------

  private static void writeFolder(Pretrained model, Path out, ElementType type) {
    writeWhole(
        out,
        folder -> {
          try (Arena arena = Arena.ofShared()) {
            Map<String, Object> ends = ends(model.tokenizer());
            HuggingFace.write(folder, model.weights(arena), type, ends);
            if (model.tokenizer().endOfText().isPresent()) {
              // Else transformers says in every call that it takes the end of the text for padding.
              ends.put("pad_token_id", model.tokenizer().endOfText().getAsInt());
            }
            json(folder.resolve("generation_config.json"), ends);
            writeTokenizer(model, folder);
            AtomicFile.writeText(
                folder.resolve("README.md"), ModelCard.of(model, title(out), type));
          }
        });
  }

  private static void writeAdapter(Pretrained model, Path out) {
    writeWhole(
        out,
        folder -> {
          try (Arena arena = Arena.ofShared()) {
            PeftAdapter adapter = model.adapter(arena);
            if (adapter == null) {
              throw new InputException(
                  model.path()
                      + " has no corrections to write apart: it was not trained with --lora; export"
                      + " it with --to hf.");
            }
            Files.createDirectories(folder);
            adapter.write(folder);
          }
        });
  }

  /** Fills a folder. */
  private interface Content {
    void writeTo(Path folder) throws IOException;
  }

  /** Writes a folder that is there as a whole or not at all. */
  private static void writeWhole(Path out, Content content) {
    Path target = out.toAbsolutePath().normalize();
    Path folder =
        target.resolveSibling("." + target.getFileName() + "." + UUID.randomUUID() + ".tmp");
    boolean done = false;
    try {
      content.writeTo(folder);
      AtomicFile.forceFolder(folder);
      Files.move(folder, target);
      AtomicFile.forceFolder(target.getParent());
      done = true;
    } catch (IOException e) {
      throw unwritable(out, e);
    } finally {
      if (!done) {
        remove(folder);
      }
    }
  }

  private static Map<String, Object> ends(Tokenizer tokenizer) {
    Integer end = tokenizer.endOfText().isPresent() ? tokenizer.endOfText().getAsInt() : null;
    Map<String, Object> ends = new LinkedHashMap<>();
    ends.put("bos_token_id", end);
    ends.put("eos_token_id", end);
    return ends;
  }

  private static void writeTokenizer(Pretrained model, Path folder) {
    Tokenizer tokenizer = model.tokenizer();
    json(folder.resolve("tokenizer.json"), TokenizerExport.toHuggingFace(tokenizer));
    Map<String, Object> config = new LinkedHashMap<>();
    config.put("tokenizer_class", "PreTrainedTokenizerFast");
    config.put("model_max_length", model.config().contextLength());
    config.put("clean_up_tokenization_spaces", false);
    if (tokenizer instanceof BpeTokenizer bpe) {
      BpeVocabulary vocabulary = bpe.vocabulary();
      if (bpe.endOfText().isPresent()) {
        String end = vocabulary.text(bpe.endOfText().getAsInt());
        config.put("bos_token", end);
        config.put("eos_token", end);
        config.put("pad_token", end);
      }
      if (vocabulary.ggufName().filter("gpt-2"::equals).isPresent()
          && vocabulary.rest().get("normalizer") == null) {
        config.put("tokenizer_class", "GPT2Tokenizer");
        config.put("unk_token", config.get("eos_token"));
        config.put("add_prefix_space", false);
        writeVocabAndMerges(vocabulary, folder);
      }
      bpe.chatTemplate()
          .ifPresent(
              template -> AtomicFile.writeText(folder.resolve("chat_template.jinja"), template));
    }
    json(folder.resolve("tokenizer_config.json"), config);
  }

  /** GPT-2's own two files, which older programs and the class GPT2Tokenizer want. */
  private static void writeVocabAndMerges(BpeVocabulary vocabulary, Path folder) {
    Map<String, Object> ids = new LinkedHashMap<>();
    for (int id = 0; id < vocabulary.size(); id++) {
      if (vocabulary.text(id) != null) {
        ids.put(vocabulary.text(id), id);
      }
    }
    AtomicFile.writeText(folder.resolve("vocab.json"), Json.write(ids));
    StringBuilder merges = new StringBuilder("#version: 0.2\n");
    int[] pairs = vocabulary.merges();
    for (int i = 0; i < pairs.length; i += 2) {
      merges.append(vocabulary.text(pairs[i])).append(' ');
      merges.append(vocabulary.text(pairs[i + 1])).append('\n');
    }
    AtomicFile.writeText(folder.resolve("merges.txt"), merges.toString());
  }

  private static void json(Path file, Map<String, Object> document) {
    AtomicFile.writeText(file, Json.writePretty(document));
  }

  private static void remove(Path path) {
    try {
      if (Files.isDirectory(path)) {
        try (var files = Files.walk(path)) {
          for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
            Files.deleteIfExists(file);
          }
        }
      }
      Files.deleteIfExists(path);
    } catch (IOException e) {
      // The failure on its way to the caller matters more than a file left behind.
    }
  }
}
