package dev.lanewise.core.data;

import dev.lanewise.core.base.AtomicFile;
import dev.lanewise.core.base.Failures;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.Json;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;

/** Makes, saves and loads tokenizers. */
public final class Tokenizers {
  private Tokenizers() {}

  /**
   * Writes a tokenizer to a file, from which {@link #load} reads an equal one.
   *
   * @param tokenizer the tokenizer
   * @param file the file, replaced as a whole if it exists
   * @throws InputException if the file cannot be written
   */
  public static void save(Tokenizer tokenizer, Path file) {
    AtomicFile.writeText(file, tokenizer.toJson() + "\n");
  }

  /**
   * Reads a tokenizer that {@link #save} wrote. It allows {@code <|endoftext|>}.
   *
   * @param file the file
   * @return the tokenizer
   * @throws InputException if the file is missing or damaged
   */
  public static Tokenizer load(Path file) {
    try {
      return fromJson(Files.readString(file), file.toString());
    } catch (NoSuchFileException e) {
      throw new InputException("There is no tokenizer file " + file + ".", e);
    } catch (IOException e) {
      throw new InputException(
          "The tokenizer file " + file + " cannot be read: " + Failures.describe(e), e);
    }
  }

  /**
   * Opens a tokenizer, whoever made it: Hugging Face's {@code tokenizer.json} or a folder with one,
   * a folder with {@code vocab.json} and {@code merges.txt}, a {@code .gguf} file, a run folder or
   * its {@code tokenizer.json}. Of others than our own, byte-level BPE can be read, as of GPT-2,
   * Llama 3, Qwen and SmolLM. Which token ends a text, and how conversations are written, is taken
   * from the files beside it.
   *
   * <p>Ids are those of Hugging Face's tokenizers 0.23 without special tokens added around the text
   * ({@code encode(text, add_special_tokens=False)}). What their regular expressions, categories
   * and normal forms take from Unicode, here comes from the JDK, of JDK 25 that is Unicode 16.
   *
   * @param path file or folder
   * @return the tokenizer, which allows special tokens in text
   * @throws InputException if there is none, it is damaged, or of a kind that is not read; the
   *     message names the kind
   */
  public static Tokenizer open(Path path) {
    return ours(TokenizerFiles.open(path));
  }

  /**
   * Whether what a user calls a tokenizer is a file or folder, and not the name of a kind.
   *
   * @param tokenizer the user's word
   * @return whether it is for {@link #open}
   */
  public static boolean isFile(String tokenizer) {
    if (List.of("bytes", "chars", "gpt2").contains(tokenizer) || tokenizer.startsWith("bpe:")) {
      return false;
    }
    try {
      return Files.exists(Path.of(tokenizer));
    } catch (InvalidPathException e) {
      return false;
    }
  }

  /**
   * Makes the tokenizer that a GGUF file's metadata describe.
   *
   * @param metadata values by key
   * @param source where they come from, for error messages
   * @return the tokenizer, which allows special tokens in text
   * @throws InputException if there is none, it is damaged, or not byte-level BPE
   */
  public static Tokenizer fromGguf(Map<String, Object> metadata, String source) {
    return ours(GgufVocabulary.read(metadata, source));
  }

  /** GPT-2's vocabulary is ours, whoever wrote it down: a run need not keep a copy. */
  private static Tokenizer ours(Tokenizer tokenizer) {
    return tokenizer instanceof BpeTokenizer bpe && bpe.isGpt2()
        ? BpeTokenizer.gpt2(EndOfText.ALLOW)
        : tokenizer;
  }

  /**
   * Makes a tokenizer from its JSON form.
   *
   * @param json what {@link Tokenizer#toJson} wrote
   * @param source where it comes from, for the error message
   * @return the tokenizer
   * @throws InputException if the form is damaged or its kind unknown
   */
  public static Tokenizer fromJson(String json, String source) {
    return fromJson(Json.parseObject(json, source), source);
  }

  static Tokenizer fromJson(Map<String, Object> object, String source) {
    return switch (String.valueOf(object.get("kind"))) {
      case "bytes" -> new ByteTokenizer();
      case "gpt2" -> BpeTokenizer.gpt2(EndOfText.ALLOW);
      case "bpe" -> BpeTokenizer.fromJson(object, source);
      case BpeTokenizer.HUGGING_FACE -> BpeTokenizer.fromHuggingFaceJson(object, source);
      case "chars" -> {
        if (object.get("characters") instanceof String characters) {
          yield new CharTokenizer(characters);
        }
        throw new InputException(source + " describes a chars tokenizer without its characters.");
      }
      default ->
          throw new InputException(
              source
                  + " describes a tokenizer of the unknown kind "
                  + object.get("kind")
                  + "; known are bytes, chars, gpt2, bpe and huggingface.");
    };
  }
}
