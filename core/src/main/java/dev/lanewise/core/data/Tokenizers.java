package dev.lanewise.core.data;

import dev.lanewise.core.base.AtomicFile;
import dev.lanewise.core.base.Failures;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.Json;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
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
   * Makes a tokenizer from its JSON form.
   *
   * @param json what {@link Tokenizer#toJson} wrote
   * @param source where it comes from, for the error message
   * @return the tokenizer
   * @throws InputException if the form is damaged or its kind unknown
   */
  public static Tokenizer fromJson(String json, String source) {
    Map<String, Object> object = Json.parseObject(json, source);
    return switch (String.valueOf(object.get("kind"))) {
      case "bytes" -> new ByteTokenizer();
      case "gpt2" -> BpeTokenizer.gpt2(EndOfText.ALLOW);
      case "bpe" -> BpeTokenizer.fromJson(object, source);
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
                  + "; known are bytes, chars, gpt2 and bpe.");
    };
  }
}
