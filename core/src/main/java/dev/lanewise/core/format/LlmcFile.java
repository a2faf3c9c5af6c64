package dev.lanewise.core.format;

import dev.lanewise.core.base.AtomicFile;
import dev.lanewise.core.base.Failures;
import dev.lanewise.core.base.InputException;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.SequencedMap;

/**
 * Files of llm.c: models of GPT-2's architecture, tokens and vocabularies. All start with 256
 * little-endian int32 numbers, of which the first is a magic number and the second a version.
 *
 * <p>A model's version 3 holds float32, version 5 bfloat16; the same parameter of all layers lies
 * together, and the token embedding is padded with rows of zeros to a multiple of 128.
 */
public final class LlmcFile {
  /** Tokens of a token file. */
  public sealed interface Tokens {
    /** The tokens' bytes, little-endian. */
    MemorySegment data();

    /** Number of tokens. */
    long count();
  }

  /**
   * Tokens of 16 bits, as for GPT-2.
   *
   * @param data two bytes per token
   */
  public record Tokens16(MemorySegment data) implements Tokens {
    @Override
    public long count() {
      return data.byteSize() / Short.BYTES;
    }
  }

  /**
   * Tokens of 32 bits, as for Llama 3.
   *
   * @param data four bytes per token
   */
  public record Tokens32(MemorySegment data) implements Tokens {
    @Override
    public long count() {
      return data.byteSize() / Integer.BYTES;
    }
  }

  /** One group of parameters: the same one of every layer, or one of the whole model. */
  private record Group(String prefix, String suffix) {
    boolean perLayer() {
      return !suffix.isEmpty();
    }

    String name(int layer) {
      return perLayer() ? prefix + layer + suffix : prefix;
    }
  }

  private static final int HEADER = 256;
  private static final int MODEL_MAGIC = 20240326;
  private static final int FLOAT32 = 3;
  private static final int BFLOAT16 = 5;
  private static final int TOKENIZER_MAGIC = 20240328;
  private static final int TOKENS16_MAGIC = 20240520;
  private static final int TOKENS32_MAGIC = 20240801;
  private static final int PADDING = 128;
  private static final ValueLayout.OfInt INT =
      ValueLayout.JAVA_INT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  private static final List<Group> ORDER =
      List.of(
          new Group("wte.weight", ""),
          new Group("wpe.weight", ""),
          new Group("h.", ".ln_1.weight"),
          new Group("h.", ".ln_1.bias"),
          new Group("h.", ".attn.c_attn.weight"),
          new Group("h.", ".attn.c_attn.bias"),
          new Group("h.", ".attn.c_proj.weight"),
          new Group("h.", ".attn.c_proj.bias"),
          new Group("h.", ".ln_2.weight"),
          new Group("h.", ".ln_2.bias"),
          new Group("h.", ".mlp.c_fc.weight"),
          new Group("h.", ".mlp.c_fc.bias"),
          new Group("h.", ".mlp.c_proj.weight"),
          new Group("h.", ".mlp.c_proj.bias"),
          new Group("ln_f.weight", ""),
          new Group("ln_f.bias", ""));

  private LlmcFile() {}

  /**
   * Maps a model. The padding of the token embedding is left out.
   *
   * @param path the file
   * @param arena owns the mapping; the tensors are usable until it is closed
   * @throws InputException if the file cannot be read or is no such model
   */
  public static Gpt2Weights mapModel(Path path, Arena arena) {
    MemorySegment file = map(path, arena);
    int version = file.getAtIndex(INT, 1);
    if (file.getAtIndex(INT, 0) != MODEL_MAGIC) {
      throw bad(path, "it does not start with the magic number of llm.c's models");
    }
    if (version != FLOAT32 && version != BFLOAT16) {
      throw bad(path, "its version is " + version + "; 3 (float32) and 5 (bfloat16) can be read");
    }
    ElementType type = version == FLOAT32 ? ElementType.F32 : ElementType.BF16;
    Gpt2Shape shape = shape(path, file);
    int padded = file.getAtIndex(INT, 7);
    if (padded < shape.vocabulary()) {
      throw bad(
          path, "it pads the vocabulary " + shape.vocabulary() + " to fewer tokens, " + padded);
    }
    double least = 12.0 * shape.layers() * shape.width() * shape.width() * type.bytes();
    if (least > file.byteSize()) {
      throw bad(path, "it is too short for a model " + shape + "; it may be cut off");
    }
    SequencedMap<String, long[]> shapes = shape.parameters();
    SequencedMap<String, StoredTensor> tensors = new LinkedHashMap<>();
    long at = HEADER * Integer.BYTES;
    for (Group group : ORDER) {
      for (int layer = 0; layer < (group.perLayer() ? shape.layers() : 1); layer++) {
        long[] size = shapes.get(group.name(layer));
        long bytes = StoredTensor.byteSize(type, size);
        if (at + bytes > file.byteSize()) {
          throw bad(path, "it ends within '" + group.name(layer) + "'; it may be cut off");
        }
        tensors.put(group.name(layer), new StoredTensor(type, size, file.asSlice(at, bytes)));
        at += bytes;
        if (group.prefix.equals("wte.weight")) {
          at += (long) (padded - shape.vocabulary()) * shape.width() * type.bytes();
        }
      }
    }
    if (at != file.byteSize()) {
      throw bad(path, "it has " + (file.byteSize() - at) + " bytes too many");
    }
    return new Gpt2Weights(shape, tensors);
  }

  /**
   * Writes a model; missing biases become zeros.
   *
   * @param path the file
   * @param weights a model with a tied head
   * @param type {@code F32} or {@code BF16}, to which numbers are rounded
   * @throws InputException if the file cannot be written, or the head is not tied, which llm.c
   *     cannot express
   */
  public static void writeModel(Path path, Gpt2Weights weights, ElementType type) {
    if (type != ElementType.F32 && type != ElementType.BF16) {
      throw new IllegalArgumentException("llm.c's models hold F32 or BF16, not " + type + ".");
    }
    if (!weights.tied()) {
      throw new InputException(
          "llm.c has no model with a head of its own; only one whose head is tied to the token"
              + " embedding can be written to "
              + path
              + ".");
    }
    Gpt2Shape shape = weights.shape();
    int padded = Math.ceilDiv(shape.vocabulary(), PADDING) * PADDING;
    int version = type == ElementType.F32 ? FLOAT32 : BFLOAT16;
    AtomicFile.write(
        path,
        channel -> {
          writeHeader(
              channel,
              MODEL_MAGIC,
              version,
              shape.context(),
              shape.vocabulary(),
              shape.layers(),
              shape.heads(),
              shape.width(),
              padded);
          for (Group group : ORDER) {
            for (int layer = 0; layer < (group.perLayer() ? shape.layers() : 1); layer++) {
              try (Arena arena = Arena.ofShared()) {
                Segments.write(channel, weights.tensor(group.name(layer), false, arena), type);
              }
            }
            if (group.prefix.equals("wte.weight")) {
              long rows = padded - shape.vocabulary();
              Segments.writeZeros(channel, rows * shape.width() * type.bytes());
            }
          }
        });
  }

  /**
   * Maps a token file.
   *
   * @param path the file
   * @param arena owns the mapping; the tokens are usable until it is closed
   * @throws InputException if the file cannot be read or is no such file
   */
  public static Tokens mapTokens(Path path, Arena arena) {
    MemorySegment file = map(path, arena);
    int magic = file.getAtIndex(INT, 0);
    int version = file.getAtIndex(INT, 1);
    long count = Integer.toUnsignedLong(file.getAtIndex(INT, 2));
    MemorySegment data = file.asSlice(HEADER * Integer.BYTES);
    Tokens tokens =
        switch (magic) {
          case TOKENS16_MAGIC -> new Tokens16(data);
          case TOKENS32_MAGIC -> new Tokens32(data);
          default -> throw bad(path, "it does not start with the magic number of llm.c's tokens");
        };
    int known = magic == TOKENS16_MAGIC ? 1 : 7;
    if (version != known) {
      throw bad(path, "its version is " + version + "; " + known + " can be read");
    }
    int size = magic == TOKENS16_MAGIC ? Short.BYTES : Integer.BYTES;
    if (data.byteSize() != count * size) {
      throw bad(
          path,
          "its header promises " + count + " tokens, but " + data.byteSize() / size + " follow");
    }
    return tokens;
  }

  /**
   * Writes a token file.
   *
   * @param path the file
   * @param tokens fewer than 2<sup>31</sup> tokens, which is what the header can count
   * @throws InputException if the file cannot be written
   */
  public static void writeTokens(Path path, Tokens tokens) {
    if (tokens.count() > Integer.MAX_VALUE) {
      throw new IllegalArgumentException(
          tokens.count() + " tokens do not fit one file of llm.c, which holds 2^31 - 1 at most.");
    }
    boolean wide = tokens instanceof Tokens32;
    AtomicFile.write(
        path,
        channel -> {
          writeHeader(
              channel, wide ? TOKENS32_MAGIC : TOKENS16_MAGIC, wide ? 7 : 1, (int) tokens.count());
          Segments.write(channel, tokens.data());
        });
  }

  /**
   * Writes the bytes of a vocabulary, which llm.c needs to show what a model wrote.
   *
   * @param path the file
   * @param tokens bytes of each token, at most 255; what has no bytes is empty
   * @param first the token that texts begin with: the end of the text before, where there is one
   * @throws InputException if the file cannot be written, or a token is longer
   */
  public static void writeTokenizer(Path path, List<byte[]> tokens, int first) {
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    for (byte[] token : tokens) {
      if (token.length > 255) {
        throw new InputException(
            "llm.c has no tokens of more than 255 bytes; one of this vocabulary has "
                + token.length
                + ".");
      }
      out.write(token.length);
      out.writeBytes(token);
    }
    AtomicFile.write(
        path,
        channel -> {
          writeHeader(channel, TOKENIZER_MAGIC, 2, tokens.size(), first);
          Segments.write(channel, ByteBuffer.wrap(out.toByteArray()));
        });
  }

  /**
   * Reads what {@link #writeTokenizer} or llm.c wrote.
   *
   * @param path the file
   * @return bytes of each token; the token that texts begin with is none of them
   * @throws InputException if the file cannot be read or is no such file
   */
  public static List<byte[]> readTokenizer(Path path) {
    try (Arena arena = Arena.ofShared()) {
      MemorySegment file = map(path, arena);
      if (file.getAtIndex(INT, 0) != TOKENIZER_MAGIC) {
        throw bad(path, "it does not start with the magic number of llm.c's tokenizers");
      }
      int version = file.getAtIndex(INT, 1);
      if (version != 1 && version != 2) {
        throw bad(path, "its version is " + version + "; 1 and 2 can be read");
      }
      int count = file.getAtIndex(INT, 2);
      List<byte[]> tokens = new ArrayList<>();
      long at = HEADER * Integer.BYTES;
      for (int id = 0; id < count; id++) {
        int length = at < file.byteSize() ? file.get(ValueLayout.JAVA_BYTE, at) & 0xff : 0;
        if (at + 1 + length > file.byteSize()) {
          throw bad(path, "it ends within token " + id + "; it may be cut off");
        }
        tokens.add(file.asSlice(at + 1, length).toArray(ValueLayout.JAVA_BYTE));
        at += 1 + length;
      }
      if (tokens.isEmpty() || at != file.byteSize()) {
        throw bad(path, "it does not hold " + count + " tokens and nothing else");
      }
      return tokens;
    }
  }

  /** What a file of llm.c's holds, for people; null if it is none. */
  public static String describe(Path path) {
    ByteBuffer start = ByteBuffer.allocate(Integer.BYTES).order(ByteOrder.LITTLE_ENDIAN);
    try (FileChannel channel = FileChannel.open(path, StandardOpenOption.READ)) {
      while (start.hasRemaining() && channel.read(start) >= 0) {
        // Files are read in as many parts as the system likes.
      }
    } catch (IOException e) {
      throw new InputException("Cannot read " + path + " (" + Failures.describe(e) + ").", e);
    }
    if (start.hasRemaining()) {
      return null;
    }
    return switch (start.getInt(0)) {
      case MODEL_MAGIC -> "model";
      case TOKENS16_MAGIC, TOKENS32_MAGIC -> "tokens";
      case TOKENIZER_MAGIC -> "tokenizer";
      default -> null;
    };
  }

  private static Gpt2Shape shape(Path path, MemorySegment file) {
    try {
      return new Gpt2Shape(
          file.getAtIndex(INT, 3),
          file.getAtIndex(INT, 2),
          file.getAtIndex(INT, 4),
          file.getAtIndex(INT, 5),
          file.getAtIndex(INT, 6));
    } catch (IllegalArgumentException e) {
      throw new InputException(path + " is no sound llm.c file: " + e.getMessage(), e);
    }
  }

  private static MemorySegment map(Path path, Arena arena) {
    try (FileChannel channel = FileChannel.open(path, StandardOpenOption.READ)) {
      if (channel.size() < HEADER * Integer.BYTES) {
        throw bad(path, "it has " + channel.size() + " bytes, fewer than the header takes");
      }
      return channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size(), arena);
    } catch (IOException e) {
      throw new InputException("Cannot read " + path + " (" + Failures.describe(e) + ").", e);
    }
  }

  private static void writeHeader(FileChannel channel, int... numbers) throws IOException {
    ByteBuffer header = ByteBuffer.allocate(HEADER * Integer.BYTES).order(ByteOrder.LITTLE_ENDIAN);
    header.asIntBuffer().put(numbers);
    Segments.write(channel, header);
  }

  private static InputException bad(Path path, String fault) {
    return new InputException(path + " is no sound llm.c file: " + fault + ".");
  }
}
