package dev.lanewise.core.format;

import dev.lanewise.core.base.AtomicFile;
import dev.lanewise.core.base.Failures;
import dev.lanewise.core.base.InputException;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SequencedMap;

/**
 * A file in the GGUF format (versions 2 and 3, little-endian), from which llama.cpp and its kin run
 * models: typed metadata, then names, shapes and places of tensors, then their aligned bytes.
 *
 * <p>Metadata values are {@code Byte, Short, Integer, Long, Float, Double, Boolean, String} and
 * lists of them; unsigned integers come as the signed type that holds them ({@code Short} for 8
 * bits, {@code Integer} for 16, {@code Long} for 32 and 64, {@link BigInteger} for those of 64 bits
 * that no long holds). When written, {@code Integer} becomes int32 and {@code Long} uint32 when it
 * fits, else uint64, or int64 below 0; lists hold values of one type.
 *
 * @param metadata values by key, in the file's order
 * @param tensors tensors by name, in the file's order, shapes outermost first
 * @param unread tensors of types that are not in {@link ElementType}: the types' numbers, by name.
 *     The file's other tensors and its metadata are read all the same
 */
public record Gguf(
    SequencedMap<String, Object> metadata,
    SequencedMap<String, StoredTensor> tensors,
    SequencedMap<String, Integer> unread) {
  private static final int MAGIC = 0x46554747;
  private static final int VERSION = 3;
  private static final int DEFAULT_ALIGNMENT = 32;
  private static final int MAX_DIMENSIONS = 4;
  private static final float EPSILON = 1e-5f;
  private static final String ALIGNMENT = "general.alignment";
  private static final String ARCHITECTURE = "general.architecture";

  private static final int UINT8 = 0;
  private static final int INT8 = 1;
  private static final int UINT16 = 2;
  private static final int INT16 = 3;
  private static final int UINT32 = 4;
  private static final int INT32 = 5;
  private static final int FLOAT32 = 6;
  private static final int BOOL = 7;
  private static final int STRING = 8;
  private static final int ARRAY = 9;
  private static final int UINT64 = 10;
  private static final int INT64 = 11;
  private static final int FLOAT64 = 12;

  private static final Map<Integer, ElementType> TYPES =
      Map.of(
          0, ElementType.F32,
          1, ElementType.F16,
          2, ElementType.Q4_0,
          8, ElementType.Q8_0,
          24, ElementType.I8,
          25, ElementType.I16,
          26, ElementType.I32,
          27, ElementType.I64,
          28, ElementType.F64,
          30, ElementType.BF16);

  /** What {@code general.file_type} calls the type of most tensors. */
  private static final Map<ElementType, Long> FILE_TYPES =
      Map.of(ElementType.F32, 0L, ElementType.F16, 1L, ElementType.Q8_0, 7L, ElementType.BF16, 32L);

  /** Our names of a block's parts, and GGUF's. */
  private static final Map<String, String> BLOCK_NAMES =
      Map.of(
          "ln_1", "attn_norm",
          "attn.c_attn", "attn_qkv",
          "attn.c_proj", "attn_output",
          "ln_2", "ffn_norm",
          "mlp.c_fc", "ffn_up",
          "mlp.c_proj", "ffn_down");

  /** Keeps unmodifiable views in the given order. */
  public Gguf {
    metadata = Collections.unmodifiableSequencedMap(metadata);
    tensors = Collections.unmodifiableSequencedMap(tensors);
    unread = Collections.unmodifiableSequencedMap(unread);
  }

  /**
   * Maps a file.
   *
   * @param path the file
   * @param arena owns the mapping; the tensors are usable until it is closed
   * @throws InputException if the file cannot be read or is damaged
   */
  public static Gguf map(Path path, Arena arena) {
    try (FileChannel channel = FileChannel.open(path, StandardOpenOption.READ)) {
      long size = channel.size();
      return new Reader(path, channel.map(FileChannel.MapMode.READ_ONLY, 0, size, arena)).read();
    } catch (IOException e) {
      throw new InputException("Cannot read " + path + " (" + Failures.describe(e) + ").", e);
    }
  }

  /**
   * Writes a file.
   *
   * @param path the file
   * @param metadata values by key, in the order to write
   * @param tensors tensors by name, in the order to write
   * @throws InputException if the file cannot be written
   * @throws IllegalArgumentException if a value or an element type has no counterpart in GGUF, or a
   *     text has half of a surrogate pair, which UTF-8 cannot hold
   */
  public static void write(
      Path path, SequencedMap<String, ?> metadata, SequencedMap<String, StoredTensor> tensors) {
    write(path, metadata, tensors, Map.of());
  }

  /**
   * Writes a file.
   *
   * @param path the file
   * @param metadata values by key, in the order to write
   * @param tensors tensors by name, in the order to write
   * @param types what floating point tensors are rounded to, {@code F32}, {@code F16}, {@code BF16}
   *     or {@code Q8_0}, by name; the others stay what they are
   * @throws InputException if the file cannot be written
   * @throws IllegalArgumentException if a value or an element type has no counterpart in GGUF, or a
   *     text has half of a surrogate pair, which UTF-8 cannot hold
   */
  public static void write(
      Path path,
      SequencedMap<String, ?> metadata,
      SequencedMap<String, StoredTensor> tensors,
      Map<String, ElementType> types) {
    int alignment =
        metadata.get(ALIGNMENT) instanceof Number number ? number.intValue() : DEFAULT_ALIGNMENT;
    if (alignment < 8 || alignment % 8 != 0) {
      throw new IllegalArgumentException(
          "The alignment " + alignment + " is not a multiple of 8 above 0.");
    }
    Writer head = new Writer();
    head.int32(MAGIC).int32(VERSION).int64(tensors.size()).int64(metadata.size());
    metadata.forEach((key, value) -> head.string(key).typed(key, value));
    long offset = 0;
    for (Map.Entry<String, StoredTensor> entry : tensors.entrySet()) {
      StoredTensor tensor = entry.getValue();
      ElementType type = types.getOrDefault(entry.getKey(), tensor.type());
      long[] shape = tensor.shape();
      head.string(entry.getKey()).int32(shape.length);
      for (int i = shape.length - 1; i >= 0; i--) {
        head.int64(shape[i]);
      }
      head.int32(code(type)).int64(offset);
      offset = align(offset + type.bytes(tensor.elements()), alignment);
    }
    byte[] start = head.bytes();
    AtomicFile.write(
        path,
        channel -> {
          Segments.write(channel, ByteBuffer.wrap(start));
          for (Map.Entry<String, StoredTensor> entry : tensors.entrySet()) {
            Segments.writeZeros(channel, align(channel.position(), alignment) - channel.position());
            StoredTensor tensor = entry.getValue();
            Segments.write(channel, tensor, types.getOrDefault(entry.getKey(), tensor.type()));
          }
          Segments.writeZeros(channel, align(channel.position(), alignment) - channel.position());
        });
  }

  /**
   * Writes a model of GPT-2's architecture; missing biases become zeros.
   *
   * @param path the file
   * @param weights the model
   * @param type {@code F32}, {@code F16}, {@code BF16} or {@code Q8_0} for matrices; the rest and
   *     the position embedding are always float32, and rows that are not whole blocks of Q8_0 are
   *     F16
   * @param more further metadata, such as a tokenizer's, which may replace ours
   * @throws InputException if the file cannot be written
   */
  public static void writeGpt2(
      Path path, Gpt2Weights weights, ElementType type, SequencedMap<String, ?> more) {
    Long fileType = FILE_TYPES.get(type);
    if (fileType == null) {
      throw new IllegalArgumentException(
          "Models are written as F32, F16, BF16 or Q8_0, not " + type + ".");
    }
    Gpt2Shape shape = weights.shape();
    SequencedMap<String, Object> metadata = new LinkedHashMap<>();
    metadata.put(ARCHITECTURE, "gpt2");
    metadata.put("general.name", "Lanewise GPT");
    metadata.put("general.file_type", fileType);
    if (type.quantised()) {
      metadata.put("general.quantization_version", 2L);
    }
    metadata.put("gpt2.block_count", (long) shape.layers());
    metadata.put("gpt2.context_length", (long) shape.context());
    metadata.put("gpt2.embedding_length", (long) shape.width());
    metadata.put("gpt2.feed_forward_length", 4L * shape.width());
    metadata.put("gpt2.attention.head_count", (long) shape.heads());
    metadata.put("gpt2.attention.layer_norm_epsilon", EPSILON);
    metadata.putAll(more);
    // llama.cpp's own conversion keeps positions in float32, too.
    ElementType whole = shape.width() % type.blockElements() == 0 ? type : ElementType.F16;
    SequencedMap<String, StoredTensor> tensors = new LinkedHashMap<>();
    Map<String, ElementType> types = new LinkedHashMap<>();
    List<String> names = new ArrayList<>(shape.parameters().keySet());
    if (!weights.tied()) {
      names.add(Gpt2Weights.HEAD);
    }
    try (Arena arena = Arena.ofShared()) {
      for (String name : names) {
        StoredTensor tensor = weights.tensor(name, false, arena);
        boolean matrix = tensor.shape().length == 2 && !name.equals("wpe.weight");
        tensors.put(theirName(name), tensor);
        types.put(theirName(name), matrix ? whole : ElementType.F32);
      }
      write(path, metadata, tensors, types);
    }
  }

  /**
   * The model of GPT-2's architecture in this file, over the same memory.
   *
   * @throws InputException if the file holds another model or lacks a part of it
   */
  public Gpt2Weights gpt2() {
    if (!"gpt2".equals(metadata.get(ARCHITECTURE))) {
      throw new InputException(
          "The GGUF file holds a model of the architecture '"
              + metadata.get(ARCHITECTURE)
              + "'; "
              + HuggingFace.SUPPORTED);
    }
    if (metadata.get("gpt2.attention.layer_norm_epsilon") instanceof Number epsilon
        && epsilon.floatValue() != EPSILON) {
      throw new InputException(
          "The GGUF file's layer norms add " + epsilon + "; Lanewise reads models with 1e-5.");
    }
    checkRead("token_embd.weight");
    StoredTensor embedding = tensors.get("token_embd.weight");
    if (embedding == null || embedding.shape().length != 2) {
      throw new InputException("The GGUF file has no matrix 'token_embd.weight'.");
    }
    Gpt2Shape shape;
    try {
      shape =
          new Gpt2Shape(
              Math.toIntExact(embedding.shape()[0]),
              size("gpt2.context_length"),
              size("gpt2.block_count"),
              size("gpt2.attention.head_count"),
              size("gpt2.embedding_length"));
    } catch (IllegalArgumentException | ArithmeticException e) {
      throw new InputException("The GGUF file's sizes are unsound: " + e.getMessage(), e);
    }
    if (shape.layers() > tensors.size()) {
      throw new InputException(
          "The GGUF file has " + tensors.size() + " tensors for " + shape.layers() + " layers.");
    }
    SequencedMap<String, StoredTensor> ours = new LinkedHashMap<>();
    List<String> names = new ArrayList<>(shape.parameters().keySet());
    names.add(Gpt2Weights.HEAD);
    for (String name : names) {
      checkRead(theirName(name));
      StoredTensor tensor = tensors.get(theirName(name));
      if (tensor != null) {
        ours.put(name, tensor);
      }
    }
    return new Gpt2Weights(shape, ours);
  }

  private void checkRead(String name) {
    Integer type = unread.get(name);
    if (type != null) {
      throw new InputException(
          "The GGUF file's tensor '"
              + name
              + "' has the type "
              + type
              + ", which is not read; F32, F16, BF16, Q8_0 and Q4_0 are (llama-quantize"
              + " --allow-requantize converts).");
    }
  }

  private int size(String key) {
    if (metadata.get(key) instanceof Number size
        && size.longValue() > 0
        && size.longValue() <= Integer.MAX_VALUE) {
      return size.intValue();
    }
    throw new InputException("The GGUF file has no size above 0 under '" + key + "'.");
  }

  private static String theirName(String name) {
    int dot = name.lastIndexOf('.');
    String kind = name.substring(dot);
    return switch (name.substring(0, dot)) {
      case "wte" -> "token_embd" + kind;
      case "wpe" -> "position_embd" + kind;
      case "ln_f" -> "output_norm" + kind;
      case "lm_head" -> "output" + kind;
      default -> {
        int layerEnd = name.indexOf('.', 2);
        String part = BLOCK_NAMES.get(name.substring(layerEnd + 1, dot));
        yield "blk." + name.substring(2, layerEnd) + "." + part + kind;
      }
    };
  }

  private static int code(ElementType type) {
    for (Map.Entry<Integer, ElementType> entry : TYPES.entrySet()) {
      if (entry.getValue() == type) {
        return entry.getKey();
      }
    }
    throw new IllegalArgumentException("GGUF has no tensors of " + type + ".");
  }

  private static long align(long offset, int alignment) {
    return Math.ceilDiv(offset, alignment) * alignment;
  }

  /** Grows the part of a file before the tensors. */
  private static final class Writer {
    private final ByteArrayOutputStream out = new ByteArrayOutputStream();

    byte[] bytes() {
      return out.toByteArray();
    }

    Writer int32(int value) {
      return number(value, Integer.BYTES);
    }

    Writer int64(long value) {
      return number(value, Long.BYTES);
    }

    private Writer number(long value, int bytes) {
      for (int i = 0; i < bytes; i++) {
        out.write((int) (value >>> 8 * i));
      }
      return this;
    }

    Writer string(String text) {
      Texts.checkWhole("A text of the metadata or a tensor's name", text);
      byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
      int64(bytes.length);
      out.writeBytes(bytes);
      return this;
    }

    void typed(String key, Object value) {
      int32(typeOf(key, value));
      value(key, value);
    }

    private static int typeOf(String key, Object value) {
      return switch (value) {
        case Byte b -> INT8;
        case Short s -> INT16;
        case Integer i -> INT32;
        case Long l -> l < 0 ? INT64 : l <= 0xffffffffL ? UINT32 : UINT64;
        case BigInteger b when b.signum() >= 0 && b.bitLength() <= Long.SIZE -> UINT64;
        case Float f -> FLOAT32;
        case Double d -> FLOAT64;
        case Boolean b -> BOOL;
        case String s -> STRING;
        case List<?> l -> ARRAY;
        default ->
            throw new IllegalArgumentException(
                "The value of '" + key + "' is a " + value.getClass().getName() + ".");
      };
    }

    private void value(String key, Object value) {
      switch (value) {
        case Byte b -> number(b, 1);
        case Short s -> number(s, 2);
        case Integer i -> int32(i);
        case Long l -> number(l, typeOf(key, l) == UINT32 ? 4 : 8);
        case BigInteger b -> int64(b.longValue());
        case Float f -> int32(Float.floatToRawIntBits(f));
        case Double d -> int64(Double.doubleToRawLongBits(d));
        case Boolean b -> number(b ? 1 : 0, 1);
        case String s -> string(s);
        case List<?> list -> {
          int type = list.isEmpty() ? STRING : typeOf(key, list.getFirst());
          int32(type).int64(list.size());
          for (Object element : list) {
            if (typeOf(key, element) != type || type == ARRAY) {
              throw new IllegalArgumentException(
                  "The list under '" + key + "' does not hold values of one simple type.");
            }
            value(key, element);
          }
        }
        default -> throw new AssertionError(value);
      }
    }
  }

  /** Reads a mapped file, checking every length before it is used. */
  private static final class Reader {
    private static final ValueLayout.OfShort SHORT =
        ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final ValueLayout.OfInt INT =
        ValueLayout.JAVA_INT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final ValueLayout.OfLong LONG =
        ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

    private final Path path;
    private final MemorySegment file;
    private long at;

    Reader(Path path, MemorySegment file) {
      this.path = path;
      this.file = file;
    }

    Gguf read() {
      if (file.byteSize() < 4 || int32() != MAGIC) {
        throw bad("it does not start with 'GGUF'");
      }
      int version = int32();
      if (Integer.reverseBytes(version) == 2 || Integer.reverseBytes(version) == 3) {
        throw bad(
            "its numbers are big-endian, and only little-endian ones are read (llama.cpp's"
                + " gguf_convert_endian.py converts)");
      }
      if (version != 2 && version != 3) {
        throw bad("its version is " + version + "; 2 and 3 can be read");
      }
      long tensorCount = count("tensors", 24);
      long valueCount = count("metadata values", 13);
      SequencedMap<String, Object> metadata = new LinkedHashMap<>();
      for (long i = 0; i < valueCount; i++) {
        String key = string();
        if (metadata.put(key, value(key, int32())) != null) {
          throw bad("its metadata repeats '" + key + "'");
        }
      }
      SequencedMap<String, Integer> unread = new LinkedHashMap<>();
      return new Gguf(metadata, tensors(tensorCount, alignment(metadata), unread), unread);
    }

    private long alignment(Map<String, Object> metadata) {
      Object value = metadata.getOrDefault(ALIGNMENT, (long) DEFAULT_ALIGNMENT);
      if (value instanceof Long alignment && alignment > 0 && alignment <= 1 << 20) {
        return alignment;
      }
      throw bad("its alignment is " + value);
    }

    /** What the header says of one tensor; the type is null if it is unknown. */
    private record Entry(String name, ElementType type, int code, long[] shape, long offset) {}

    private SequencedMap<String, StoredTensor> tensors(
        long count, long alignment, Map<String, Integer> unread) {
      List<Entry> entries = new ArrayList<>();
      for (long i = 0; i < count; i++) {
        entries.add(entry());
      }
      long start = Math.ceilDiv(at, alignment) * alignment;
      SequencedMap<String, StoredTensor> tensors = new LinkedHashMap<>();
      for (Entry entry : entries) {
        String where = "tensor '" + entry.name + "'";
        if (entry.type == null) {
          if (unread.put(entry.name, entry.code) != null || tensors.containsKey(entry.name)) {
            throw bad(where + " comes twice");
          }
          continue;
        }
        long bytes;
        try {
          bytes = StoredTensor.byteSize(entry.type, entry.shape);
        } catch (IllegalArgumentException e) {
          throw bad(where + " has an impossible shape");
        }
        long room = file.byteSize() - start;
        if (entry.offset < 0 || entry.offset % alignment != 0) {
          throw bad(where + " lies at the unaligned offset " + entry.offset);
        }
        if (bytes > room || entry.offset > room - bytes) {
          throw bad(where + " lies outside the file, which may be cut off");
        }
        StoredTensor tensor =
            new StoredTensor(entry.type, entry.shape, file.asSlice(start + entry.offset, bytes));
        if (tensors.put(entry.name, tensor) != null || unread.containsKey(entry.name)) {
          throw bad(where + " comes twice");
        }
      }
      return tensors;
    }

    private Entry entry() {
      String name = string();
      int dimensions = int32();
      if (dimensions < 0 || dimensions > MAX_DIMENSIONS) {
        throw bad("tensor '" + name + "' has " + dimensions + " dimensions");
      }
      long[] shape = new long[dimensions];
      for (int i = dimensions - 1; i >= 0; i--) {
        shape[i] = int64();
      }
      int code = int32();
      return new Entry(name, TYPES.get(code), code, shape, int64());
    }

    private Object value(String key, int type) {
      return switch (type) {
        case UINT8 -> (short) (int8() & 0xff);
        case INT8 -> int8();
        case UINT16 -> int16() & 0xffff;
        case INT16 -> int16();
        case UINT32 -> int32() & 0xffffffffL;
        case INT32 -> int32();
        case FLOAT32 -> Float.intBitsToFloat(int32());
        case BOOL -> int8() != 0;
        case STRING -> string();
        case INT64 -> int64();
        case UINT64 -> {
          long bits = int64();
          yield bits >= 0 ? (Object) bits : new BigInteger(Long.toUnsignedString(bits));
        }
        case FLOAT64 -> Double.longBitsToDouble(int64());
        case ARRAY -> {
          int element = int32();
          if (element == ARRAY) {
            throw bad("the value of '" + key + "' is a list of lists");
          }
          long count = count("elements of '" + key + "'", 1);
          List<Object> list = new ArrayList<>();
          for (long i = 0; i < count; i++) {
            list.add(value(key, element));
          }
          yield Collections.unmodifiableList(list);
        }
        default -> throw bad("the value of '" + key + "' has the unknown type " + type);
      };
    }

    /** A number of things of which each takes at least some bytes. */
    private long count(String what, int leastBytes) {
      long count = int64();
      if (count < 0 || count > (file.byteSize() - at) / leastBytes) {
        throw bad("it cannot hold " + Long.toUnsignedString(count) + " " + what);
      }
      return count;
    }

    private String string() {
      long length = int64();
      if (length < 0 || length > Math.min(Integer.MAX_VALUE - 8, file.byteSize() - at)) {
        throw bad("it cannot hold a text of " + Long.toUnsignedString(length) + " bytes");
      }
      byte[] bytes = file.asSlice(at, length).toArray(ValueLayout.JAVA_BYTE);
      at += length;
      return new String(bytes, StandardCharsets.UTF_8);
    }

    private byte int8() {
      return file.get(ValueLayout.JAVA_BYTE, advance(1));
    }

    private short int16() {
      return file.get(SHORT, advance(2));
    }

    private int int32() {
      return file.get(INT, advance(4));
    }

    private long int64() {
      return file.get(LONG, advance(8));
    }

    private long advance(int bytes) {
      if (file.byteSize() - at < bytes) {
        throw bad("it ends within its header; it may be cut off");
      }
      at += bytes;
      return at - bytes;
    }

    private InputException bad(String fault) {
      return new InputException(path + " is no sound GGUF file: " + fault + ".");
    }
  }
}
