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
import java.util.Collections;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SequencedMap;
import java.util.TreeMap;
import java.util.function.Consumer;
import tools.jackson.core.JacksonException;
import tools.jackson.core.JsonGenerator;
import tools.jackson.core.JsonParser;
import tools.jackson.core.JsonToken;
import tools.jackson.core.ObjectReadContext;
import tools.jackson.core.ObjectWriteContext;
import tools.jackson.core.StreamReadConstraints;
import tools.jackson.core.json.JsonFactory;

/**
 * A file in the safetensors format: eight bytes with the header's length, a JSON header with name,
 * type, shape and place of each tensor, then the tensors' bytes without gaps.
 *
 * <p>Files are mapped, not read, so that tensors of any size cost nothing until they are used. They
 * are written in the Python package's order, so that both give the same bytes for the same tensors
 * (the package leaves only the order of several metadata texts to chance).
 *
 * @param tensors the tensors in the order of their data
 * @param metadata the texts under {@code __metadata__}
 * @param unread tensors of types that are not in {@link ElementType}, such as {@code F4}: their
 *     types by name. The file's other tensors are read all the same
 */
public record SafeTensors(
    SequencedMap<String, StoredTensor> tensors,
    SequencedMap<String, String> metadata,
    SequencedMap<String, String> unread) {
  /** Largest header that is read, as in the reference implementation. */
  private static final long MAX_HEADER = 100_000_000;

  private static final String METADATA = "__metadata__";
  private static final ValueLayout.OfLong LENGTH =
      ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  /** Names and texts may be as long as a header. */
  private static final JsonFactory JSON =
      JsonFactory.builder()
          .streamReadConstraints(
              StreamReadConstraints.builder()
                  .maxNameLength((int) MAX_HEADER)
                  .maxStringLength((int) MAX_HEADER)
                  .build())
          .build();

  /** Keeps unmodifiable views in the given order. */
  public SafeTensors {
    tensors = Collections.unmodifiableSequencedMap(tensors);
    metadata = Collections.unmodifiableSequencedMap(metadata);
    unread = Collections.unmodifiableSequencedMap(unread);
  }

  /**
   * Maps a file.
   *
   * @param path the file
   * @param arena owns the mapping; the tensors are usable until it is closed
   * @throws InputException if the file cannot be read or is no sound safetensors file
   */
  public static SafeTensors map(Path path, Arena arena) {
    try (FileChannel channel = FileChannel.open(path, StandardOpenOption.READ)) {
      long size = channel.size();
      if (size < Long.BYTES) {
        throw bad(path, "it has " + size + " bytes, fewer than the header's length takes");
      }
      return parse(path, channel.map(FileChannel.MapMode.READ_ONLY, 0, size, arena));
    } catch (IOException e) {
      throw new InputException("Cannot read " + path + " (" + Failures.describe(e) + ").", e);
    }
  }

  /**
   * The tensor of that name.
   *
   * @throws InputException if there is none, or it is of a type that is not read
   */
  public StoredTensor tensor(String name) {
    StoredTensor tensor = tensors.get(name);
    if (tensor == null) {
      checkRead(name);
      throw new InputException("There is no tensor '" + name + "' in the file.");
    }
    return tensor;
  }

  /**
   * The tensors in the order of their data, for those who need every one.
   *
   * @throws InputException if one of them is of a type that is not read
   */
  public SequencedMap<String, StoredTensor> allTensors() {
    unread.keySet().forEach(this::checkRead);
    return tensors;
  }

  /**
   * Refuses a tensor of a type that is not read.
   *
   * @throws InputException if the tensor of that name is one
   */
  public void checkRead(String name) {
    String type = unread.get(name);
    if (type != null) {
      throw new InputException(
          "The tensor '" + name + "' has the unknown type '" + type + "', which is not read.");
    }
  }

  /**
   * Writes tensors to a file, which appears complete or not at all.
   *
   * <p>Larger element types come first, equal ones by name, so that every tensor is aligned to its
   * elements and the file depends only on its content.
   *
   * @param path the file
   * @param tensors the tensors by name
   * @param metadata texts to store under {@code __metadata__}; may be empty
   * @throws InputException if the file cannot be written
   * @throws IllegalArgumentException if a tensor is called {@code __metadata__} or is quantised, a
   *     name or text has half of a surrogate pair, which UTF-8 cannot hold, or the header would
   *     pass 100 MB
   */
  public static void write(
      Path path, Map<String, StoredTensor> tensors, Map<String, String> metadata) {
    write(path, tensors, metadata, name -> {});
  }

  /**
   * As {@link #write(Path, Map, Map)}, for tensors that are not there all at a time.
   *
   * @param path the file
   * @param tensors the tensors by name, whose data may share memory
   * @param metadata texts to store under {@code __metadata__}; may be empty
   * @param prepare puts a tensor's data in place, given its name, right before they are written
   * @throws InputException if the file cannot be written
   * @throws IllegalArgumentException if a tensor is called {@code __metadata__} or is quantised, or
   *     the header would pass 100 MB
   */
  public static void write(
      Path path,
      Map<String, StoredTensor> tensors,
      Map<String, String> metadata,
      Consumer<String> prepare) {
    if (tensors.containsKey(METADATA)) {
      throw new IllegalArgumentException("A tensor cannot be called " + METADATA + ".");
    }
    if (tensors.values().stream().anyMatch(tensor -> tensor.type().quantised())) {
      throw new IllegalArgumentException("The safetensors format has no quantised tensors.");
    }
    tensors.keySet().forEach(name -> Texts.checkWhole("The name of a tensor", name));
    metadata.forEach(
        (key, text) -> {
          Texts.checkWhole("A key of the metadata", key);
          Texts.checkWhole("The text under '" + key + "'", text);
        });
    List<Map.Entry<String, StoredTensor>> entries = new ArrayList<>(tensors.entrySet());
    entries.sort(
        Comparator.comparing((Map.Entry<String, StoredTensor> e) -> e.getValue().type())
            .reversed()
            .thenComparing(Map.Entry.comparingByKey()));
    byte[] header = header(entries, new TreeMap<>(metadata));
    if (header.length > MAX_HEADER) {
      throw new IllegalArgumentException(
          "The header of " + header.length + " bytes is larger than readers accept.");
    }
    AtomicFile.write(
        path,
        channel -> {
          ByteBuffer start =
              ByteBuffer.allocate(Long.BYTES + header.length).order(ByteOrder.LITTLE_ENDIAN);
          Segments.write(channel, start.putLong(header.length).put(header).flip());
          for (Map.Entry<String, StoredTensor> entry : entries) {
            prepare.accept(entry.getKey());
            Segments.write(channel, entry.getValue().data());
          }
        });
  }

  private static byte[] header(
      List<Map.Entry<String, StoredTensor>> entries, Map<String, String> metadata) {
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    try (JsonGenerator json = JSON.createGenerator(ObjectWriteContext.empty(), out)) {
      json.writeStartObject();
      if (!metadata.isEmpty()) {
        json.writeName(METADATA);
        json.writeStartObject();
        metadata.forEach(json::writeStringProperty);
        json.writeEndObject();
      }
      long offset = 0;
      for (Map.Entry<String, StoredTensor> entry : entries) {
        StoredTensor tensor = entry.getValue();
        long end = offset + tensor.data().byteSize();
        json.writeName(entry.getKey());
        json.writeStartObject();
        json.writeStringProperty("dtype", tensor.type().name());
        json.writeName("shape");
        writeNumbers(json, tensor.shape());
        json.writeName("data_offsets");
        writeNumbers(json, offset, end);
        json.writeEndObject();
        offset = end;
      }
      json.writeEndObject();
    }
    while (out.size() % Long.BYTES != 0) {
      out.write(' ');
    }
    return out.toByteArray();
  }

  private static void writeNumbers(JsonGenerator json, long... numbers) {
    json.writeArray(numbers, 0, numbers.length);
  }

  /** What the header says of one tensor; the type is null if it is unknown. */
  private record Entry(
      String name, ElementType type, String typeName, long[] shape, long from, long to) {}

  private static SafeTensors parse(Path path, MemorySegment file) {
    long length = file.get(LENGTH, 0);
    long room = file.byteSize() - Long.BYTES;
    if (length < 0 || length > MAX_HEADER) {
      throw bad(
          path,
          "its header would have "
              + Long.toUnsignedString(length)
              + " bytes, more than the 100 MB that are allowed");
    }
    if (length > room) {
      throw bad(path, "its header should have " + length + " bytes, but only " + room + " follow");
    }
    byte[] header = file.asSlice(Long.BYTES, length).toArray(ValueLayout.JAVA_BYTE);
    checkUtf8(path, header);
    SequencedMap<String, String> metadata = new LinkedHashMap<>();
    List<Entry> entries;
    try (JsonParser json = JSON.createParser(ObjectReadContext.empty(), header)) {
      entries = readHeader(path, json, metadata);
    } catch (JacksonException e) {
      throw new InputException(
          path + " is no sound safetensors file: its header is not valid JSON.", e);
    }
    SequencedMap<String, String> unread = new LinkedHashMap<>();
    SequencedMap<String, StoredTensor> tensors =
        place(path, entries, file.asSlice(Long.BYTES + length), unread);
    return new SafeTensors(tensors, metadata, unread);
  }

  /** Refuses what a JSON parser would take for JSON of another encoding. */
  private static void checkUtf8(Path path, byte[] header) {
    if (header.length >= 3
        && header[0] == (byte) 0xef
        && header[1] == (byte) 0xbb
        && header[2] == (byte) 0xbf) {
      throw bad(path, "its header begins with a byte order mark, which the format does not allow");
    }
    for (int i = 0; i < Math.min(2, header.length); i++) {
      if (header[i] == 0 || (header[i] & 0xfe) == 0xfe) {
        throw bad(path, "its header is in UTF-16 or UTF-32, where the format wants UTF-8");
      }
    }
  }

  private static SequencedMap<String, StoredTensor> place(
      Path path, List<Entry> entries, MemorySegment data, Map<String, String> unread) {
    entries.sort(Comparator.comparingLong(Entry::from).thenComparingLong(Entry::to));
    SequencedMap<String, StoredTensor> tensors = new LinkedHashMap<>();
    long end = 0;
    for (Entry entry : entries) {
      String where = "tensor '" + entry.name + "'";
      if (entry.from != end) {
        String fault = entry.from < end ? "overlaps the tensor before it" : "follows a gap";
        throw bad(path, where + " " + fault);
      }
      if (entry.to < entry.from || entry.to > data.byteSize()) {
        throw bad(
            path,
            where
                + " lies at ["
                + entry.from
                + ", "
                + entry.to
                + "), outside the file's "
                + data.byteSize()
                + " bytes of data; the file may be cut off");
      }
      end = entry.to;
      if (entry.type == null) {
        unread.put(entry.name, entry.typeName);
        continue;
      }
      long bytes;
      try {
        bytes = StoredTensor.byteSize(entry.type, entry.shape);
      } catch (IllegalArgumentException e) {
        throw bad(path, where + " has an impossible shape");
      }
      if (bytes != entry.to - entry.from) {
        throw bad(
            path,
            where
                + " needs "
                + bytes
                + " bytes for its shape and type, but takes "
                + (entry.to - entry.from));
      }
      MemorySegment part = data.asSlice(entry.from, bytes);
      tensors.put(entry.name, new StoredTensor(entry.type, entry.shape, part));
    }
    if (end != data.byteSize()) {
      throw bad(path, (data.byteSize() - end) + " bytes after the last tensor belong to none");
    }
    return tensors;
  }

  private static List<Entry> readHeader(Path path, JsonParser json, Map<String, String> metadata) {
    expect(path, json.nextToken() == JsonToken.START_OBJECT, "its header is not a JSON object");
    Map<String, Entry> entries = new LinkedHashMap<>();
    boolean metadataSeen = false;
    while (json.nextToken() != JsonToken.END_OBJECT) {
      String name = json.currentName();
      json.nextToken();
      if (name.equals(METADATA)) {
        expect(path, !metadataSeen, "its metadata comes twice");
        metadataSeen = true;
        readMetadata(path, json, metadata);
      } else if (entries.put(name, readEntry(path, json, name)) != null) {
        throw bad(path, "tensor '" + name + "' comes twice");
      }
    }
    expect(path, json.nextToken() == null, "something follows the JSON object of its header");
    return new ArrayList<>(entries.values());
  }

  private static void readMetadata(Path path, JsonParser json, Map<String, String> metadata) {
    if (json.currentToken() == JsonToken.VALUE_NULL) {
      return;
    }
    String fault = "its metadata is not an object of texts";
    expect(path, json.currentToken() == JsonToken.START_OBJECT, fault);
    while (json.nextToken() != JsonToken.END_OBJECT) {
      String key = json.currentName();
      expect(path, json.nextToken() == JsonToken.VALUE_STRING, fault);
      expect(
          path, metadata.put(key, json.getString()) == null, "its metadata repeats '" + key + "'");
    }
  }

  private static Entry readEntry(Path path, JsonParser json, String name) {
    String where = "tensor '" + name + "' ";
    expect(
        path,
        json.currentToken() == JsonToken.START_OBJECT,
        where + "is not described by an object");
    String type = null;
    long[] shape = null;
    long[] offsets = null;
    while (json.nextToken() != JsonToken.END_OBJECT) {
      String field = json.currentName();
      JsonToken value = json.nextToken();
      switch (field) {
        case "dtype" -> {
          expect(path, type == null, where + "gives its type twice");
          expect(path, value == JsonToken.VALUE_STRING, where + "has no text as its type");
          type = json.getString();
        }
        case "shape" -> {
          expect(path, shape == null, where + "gives its shape twice");
          shape = readNumbers(path, json, where + "has a shape that is not a list of sizes");
        }
        case "data_offsets" -> {
          expect(path, offsets == null, where + "gives its place twice");
          offsets = readNumbers(path, json, where + "has a place that is not a list of offsets");
        }
        default -> json.skipChildren();
      }
    }
    expect(path, type != null, where + "has no type");
    expect(path, shape != null, where + "has no shape");
    expect(path, offsets != null && offsets.length == 2, where + "has no start and end");
    return new Entry(name, type(type), type, shape, offsets[0], offsets[1]);
  }

  private static ElementType type(String name) {
    for (ElementType type : ElementType.values()) {
      if (type.name().equals(name) && !type.quantised()) {
        return type;
      }
    }
    return null;
  }

  private static long[] readNumbers(Path path, JsonParser json, String fault) {
    expect(path, json.currentToken() == JsonToken.START_ARRAY, fault);
    List<Long> numbers = new ArrayList<>();
    while (json.nextToken() != JsonToken.END_ARRAY) {
      expect(path, json.currentToken() == JsonToken.VALUE_NUMBER_INT, fault);
      long number = json.getLongValue();
      expect(path, number >= 0, fault);
      numbers.add(number);
    }
    return numbers.stream().mapToLong(Long::longValue).toArray();
  }

  private static void expect(Path path, boolean condition, String fault) {
    if (!condition) {
      throw bad(path, fault);
    }
  }

  private static InputException bad(Path path, String fault) {
    return new InputException(path + " is no sound safetensors file: " + fault + ".");
  }
}
