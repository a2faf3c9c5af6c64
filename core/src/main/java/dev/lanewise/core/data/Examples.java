package dev.lanewise.core.data;

import dev.lanewise.core.base.Failures;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.Json;
import java.io.BufferedReader;
import java.io.IOException;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.security.DigestInputStream;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.function.Consumer;

/**
 * Examples to fine-tune on, one JSON object a line: {@code {"text"}} is learnt whole, of {@code
 * {"prompt", "completion"}} the completion, and of {@code {"messages"}} what the assistant says.
 *
 * <p>Prompt and completion are encoded each for itself, so a space between them belongs to the
 * completion. Every text and completion ends with the end-of-text token, which is learnt too;
 * conversations end as {@link ChatFormat} ends them.
 */
public final class Examples {
  private final List<Path> files;

  private Examples(List<Path> files) {
    this.files = files;
  }

  /** Whether paths are for this class: all of them end in {@code .jsonl}. */
  public static boolean are(List<Path> paths) {
    return paths.stream()
        .allMatch(path -> path.toString().toLowerCase(Locale.ROOT).endsWith(".jsonl"));
  }

  /**
   * Examples of files.
   *
   * @param files the files, in order
   */
  public static Examples of(List<Path> files) {
    return new Examples(List.copyOf(files));
  }

  /**
   * A piece of an example.
   *
   * @param text what it says
   * @param learnt whether it is learnt
   * @param ends whether the text ends with it
   */
  public record Part(String text, boolean learnt, boolean ends) {}

  /**
   * Reads all examples in order.
   *
   * @param format writes conversations
   * @param reader takes the parts of each
   * @return the number of examples
   * @throws InputException if a file cannot be read or a line is no example; the message names it
   */
  long read(ChatFormat format, Consumer<List<Part>> reader) {
    long count = 0;
    for (Path file : files) {
      try (BufferedReader lines = Files.newBufferedReader(file, StandardCharsets.UTF_8)) {
        long number = 0;
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
          number++;
          if (!line.isBlank()) {
            reader.accept(parts(line, file + ", line " + number, format));
            count++;
          }
        }
      } catch (NoSuchFileException e) {
        throw new InputException("There is no file " + file + ".", e);
      } catch (CharacterCodingException e) {
        throw new InputException(file + " is not valid UTF-8; convert it to UTF-8 first.", e);
      } catch (IOException e) {
        throw new InputException(file + " cannot be read: " + Failures.describe(e), e);
      }
    }
    if (count == 0) {
      throw new InputException("There are no examples in " + this + ".");
    }
    return count;
  }

  private static List<Part> parts(String line, String place, ChatFormat format) {
    Map<String, Object> object = Json.parseObject(line, place);
    if (object.get("messages") instanceof List<?> list) {
      return format.parts(ChatFormat.messages(list, place), place);
    }
    if (object.get("prompt") instanceof String prompt
        && object.get("completion") instanceof String completion) {
      return List.of(new Part(prompt, false, false), new Part(completion, true, true));
    }
    if (object.get("text") instanceof String text) {
      return List.of(new Part(text, true, true));
    }
    throw new InputException(
        place
            + " is no example: it has neither 'text', nor 'prompt' and 'completion', nor a list of"
            + " 'messages', but "
            + object.keySet()
            + ".");
  }

  /** Turns an example into tokens, and tells for each whether it is learnt. */
  static void encode(
      List<Part> parts, Tokenizer tokenizer, TokenSink sink, CountedTokens.Builder counted) {
    counted.start();
    for (Part part : parts) {
      for (int id : tokenizer.encode(part.text())) {
        sink.accept(id);
        counted.add(part.learnt());
      }
      if (part.ends() && tokenizer.endOfText().isPresent()) {
        sink.accept(tokenizer.endOfText().getAsInt());
        counted.add(part.learnt());
      }
    }
  }

  /** A fingerprint of the files' contents. */
  String fingerprint() {
    try {
      MessageDigest digest = MessageDigest.getInstance("SHA-256");
      byte[] buffer = new byte[1 << 16];
      for (Path file : files) {
        try (var in = new DigestInputStream(Files.newInputStream(file), digest)) {
          while (in.read(buffer) >= 0) {
            // The stream feeds the digest.
          }
        } catch (NoSuchFileException e) {
          throw new InputException("There is no file " + file + ".", e);
        } catch (IOException e) {
          throw new InputException(file + " cannot be read: " + Failures.describe(e), e);
        }
        digest.update((byte) '\n');
      }
      return HexFormat.of().formatHex(digest.digest());
    } catch (NoSuchAlgorithmException e) {
      throw new IllegalStateException("every Java platform has SHA-256", e);
    }
  }

  /** The size of the files in bytes. */
  long bytes() {
    return files.stream().mapToLong(file -> file.toFile().length()).sum();
  }

  @Override
  public String toString() {
    List<String> names = new ArrayList<>();
    files.forEach(file -> names.add(file.toString()));
    return String.join(", ", names);
  }
}
