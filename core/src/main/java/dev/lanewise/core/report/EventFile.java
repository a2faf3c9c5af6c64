package dev.lanewise.core.report;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Arrays;
import java.util.zip.CRC32C;

/**
 * A file of events as TensorBoard reads them: records, each with the checksums of its length and of
 * its bytes (TFRecord, CRC-32C), which hold an {@code Event} as a protocol buffer.
 *
 * <p>Events wait in memory until {@link #flush}. A flush that fails leaves the file as it was, and
 * its events wait for the next one.
 */
public final class EventFile implements AutoCloseable {
  /** What every name holds by which TensorBoard knows such a file. */
  public static final String NAME = "events.out.tfevents.";

  private static final int HEADER = 12;
  private static final int FOOTER = 4;
  private static final int START = 1;
  private static final int STRING = 7;
  private static final int TENSORS = 2;

  private final Path path;
  private final long firstStep;
  private final Message event = new Message();
  private final Message summary = new Message();
  private final Message value = new Message();
  private final CRC32C checksum = new CRC32C();
  private ByteBuffer waiting = ByteBuffer.allocate(1 << 14).order(ByteOrder.LITTLE_ENDIAN);
  private FileChannel channel;
  private long end;

  /**
   * Makes a file. Its first events tell a reader to forget what other files say of later steps.
   *
   * @param path the file, which must not exist
   * @param firstStep the first step that will be written
   * @throws IOException if it cannot be made
   */
  public EventFile(Path path, long firstStep) throws IOException {
    this.path = path;
    this.firstStep = firstStep;
    open();
    flush();
  }

  private void open() throws IOException {
    Files.createDirectories(path.toAbsolutePath().getParent());
    channel = FileChannel.open(path, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE);
    end = 0;
    byte[] before = new byte[waiting.position()];
    waiting.flip().get(before);
    waiting.clear();
    begin(0);
    event.text(3, "brain.Event:2");
    record();
    begin(firstStep);
    value.clear();
    value.number(1, START);
    event.message(7, value);
    record();
    reserve(before.length);
    waiting.put(before);
  }

  private void begin(long step) {
    event.clear();
    event.real(1, System.currentTimeMillis() / 1e3);
    event.number(2, step);
    summary.clear();
  }

  /**
   * Begins an event of numbers; {@link #scalar} adds them, {@link #write} ends it.
   *
   * @param step number of the step
   */
  public EventFile step(long step) {
    begin(step);
    return this;
  }

  /** Adds a number to the event at hand. */
  public EventFile scalar(Tag tag, double number) {
    value.clear();
    value.bytes(1, tag.name, tag.name.length);
    value.single(2, (float) number);
    summary.message(1, value);
    return this;
  }

  /** Ends the event at hand. */
  public void write() {
    event.message(5, summary);
    record();
  }

  /**
   * Adds an event with a text, which is shown as it is, not as Markdown.
   *
   * @param step number of the step
   * @param tag its name
   * @param text the text
   */
  public void text(long step, Tag tag, String text) {
    begin(step);
    // Indented, Markdown leaves a text alone.
    byte[] shown = text.indent(4).getBytes(StandardCharsets.UTF_8);
    Message metadata = new Message();
    Message plugin = new Message();
    plugin.text(1, "text");
    metadata.message(1, plugin);
    metadata.number(4, TENSORS);
    Message tensor = new Message();
    tensor.number(1, STRING);
    tensor.message(2, new Message());
    tensor.bytes(8, shown, shown.length);
    value.clear();
    value.bytes(1, tag.name, tag.name.length);
    value.message(8, tensor);
    value.message(9, metadata);
    summary.message(1, value);
    write();
  }

  private void record() {
    reserve(HEADER + event.size + FOOTER);
    int at = waiting.position();
    waiting.putLong(event.size);
    waiting.putInt(masked(checksum, waiting.array(), at, Long.BYTES));
    waiting.put(event.bytes, 0, event.size);
    waiting.putInt(masked(checksum, event.bytes, 0, event.size));
  }

  private void reserve(int bytes) {
    if (waiting.remaining() < bytes) {
      ByteBuffer larger =
          ByteBuffer.allocate(Math.max(2 * waiting.capacity(), waiting.position() + bytes))
              .order(ByteOrder.LITTLE_ENDIAN);
      waiting = larger.put(waiting.flip());
    }
  }

  /** A checksum in the form that the format stores, so that sums of sums do not cancel. */
  private static int masked(CRC32C checksum, byte[] bytes, int from, int length) {
    checksum.reset();
    checksum.update(bytes, from, length);
    return Integer.rotateRight((int) checksum.getValue(), 15) + 0xa282ead8;
  }

  /**
   * Hands all events to the system.
   *
   * @throws IOException if they cannot be written; the file then ends where it did before
   */
  public void flush() throws IOException {
    if (!channel.isOpen() || Files.notExists(path)) {
      channel.close();
      if (Files.exists(path)) {
        channel = FileChannel.open(path, StandardOpenOption.WRITE);
      } else {
        open();
      }
    }
    ByteBuffer events = waiting.duplicate().flip();
    long at = end;
    try {
      while (events.hasRemaining()) {
        at += channel.write(events, at);
      }
    } catch (IOException e) {
      try {
        channel.truncate(end);
      } catch (IOException again) {
        e.addSuppressed(again);
      }
      throw e;
    }
    end = at;
    waiting.clear();
  }

  /**
   * Writes all events to the disk itself.
   *
   * @throws IOException if they cannot be written
   */
  public void force() throws IOException {
    flush();
    channel.force(false);
  }

  @Override
  public void close() throws IOException {
    try {
      flush();
    } finally {
      channel.close();
    }
  }

  /** Says which events of a file stay. */
  @FunctionalInterface
  public interface Filter {
    /**
     * Whether an event belongs to the run.
     *
     * @param step its step
     * @param tag the name of its first value; empty if it has none
     */
    boolean belongs(long step, String tag);
  }

  /**
   * Cuts a file off before the first event that does not belong to the run, or is not whole.
   *
   * @param path the file
   * @param filter says which events belong
   * @throws IOException if it cannot be read or cut
   */
  public static void cut(Path path, Filter filter) throws IOException {
    CRC32C checksum = new CRC32C();
    try (FileChannel channel =
        FileChannel.open(path, StandardOpenOption.READ, StandardOpenOption.WRITE)) {
      long size = channel.size();
      long at = 0;
      ByteBuffer header = ByteBuffer.allocate(HEADER).order(ByteOrder.LITTLE_ENDIAN);
      while (fill(channel, header.clear(), at)) {
        long length = header.getLong(0);
        boolean fits = length >= 0 && length <= size - at - HEADER - FOOTER;
        if (!fits || header.getInt(8) != masked(checksum, header.array(), 0, Long.BYTES)) {
          break;
        }
        ByteBuffer body =
            ByteBuffer.allocate(Math.toIntExact(length + FOOTER)).order(ByteOrder.LITTLE_ENDIAN);
        if (!fill(channel, body, at + HEADER)
            || body.getInt((int) length) != masked(checksum, body.array(), 0, (int) length)
            || !belongs(body.flip().limit((int) length), filter)) {
          break;
        }
        at += HEADER + length + FOOTER;
      }
      channel.truncate(at);
    }
  }

  private static boolean fill(FileChannel channel, ByteBuffer buffer, long at) throws IOException {
    while (buffer.hasRemaining()) {
      if (channel.read(buffer, at + buffer.position()) < 0) {
        return false;
      }
    }
    return true;
  }

  private static boolean belongs(ByteBuffer bytes, Filter filter) {
    long step = 0;
    String tag = "";
    try {
      while (bytes.hasRemaining()) {
        long key = varint(bytes);
        if (key == 2 << 3) {
          step = varint(bytes);
        } else if (key == (5 << 3 | 2)) {
          ByteBuffer first = field(field(part(bytes), 1), 1);
          tag = StandardCharsets.UTF_8.decode(first).toString();
        } else {
          skip(bytes, key);
        }
      }
    } catch (RuntimeException e) {
      // Not an event of ours.
      return false;
    }
    return filter.belongs(step, tag);
  }

  /** The first part of a message with a number; empty if there is none. */
  private static ByteBuffer field(ByteBuffer message, int number) {
    while (message.hasRemaining()) {
      long key = varint(message);
      if (key == ((long) number << 3 | 2)) {
        return part(message);
      }
      skip(message, key);
    }
    return message;
  }

  private static ByteBuffer part(ByteBuffer bytes) {
    int length = Math.toIntExact(varint(bytes));
    ByteBuffer part = bytes.slice(bytes.position(), length).order(ByteOrder.LITTLE_ENDIAN);
    bytes.position(bytes.position() + length);
    return part;
  }

  private static void skip(ByteBuffer bytes, long key) {
    switch ((int) (key & 7)) {
      case 0 -> varint(bytes);
      case 1 -> bytes.position(bytes.position() + Long.BYTES);
      case 2 -> part(bytes);
      case 5 -> bytes.position(bytes.position() + Integer.BYTES);
      default -> throw new IllegalArgumentException("unknown type of a field");
    }
  }

  private static long varint(ByteBuffer bytes) {
    long result = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      byte next = bytes.get();
      result |= (long) (next & 0x7f) << shift;
      if (next >= 0) {
        return result;
      }
    }
    throw new IllegalArgumentException("a number without end");
  }

  /** The name of a series. */
  public static final class Tag {
    private final byte[] name;

    /** A name; what comes before a slash is its group. */
    public Tag(String name) {
      this.name = name.getBytes(StandardCharsets.UTF_8);
    }

    @Override
    public String toString() {
      return new String(name, StandardCharsets.UTF_8);
    }
  }

  /** A protocol buffer as it is written; kept and filled again, so that it allocates nothing. */
  private static final class Message {
    private byte[] bytes = new byte[256];
    private int size;

    void clear() {
      size = 0;
    }

    private void add(int octet) {
      if (size == bytes.length) {
        bytes = Arrays.copyOf(bytes, 2 * size);
      }
      bytes[size++] = (byte) octet;
    }

    private void varint(long number) {
      long rest = number;
      while ((rest & ~0x7fL) != 0) {
        add((int) (rest & 0x7f) | 0x80);
        rest >>>= 7;
      }
      add((int) rest);
    }

    void number(int field, long number) {
      varint(field << 3);
      varint(number);
    }

    void real(int field, double number) {
      varint(field << 3 | 1);
      long bits = Double.doubleToLongBits(number);
      for (int i = 0; i < Double.BYTES; i++) {
        add((int) (bits >>> 8 * i));
      }
    }

    void single(int field, float number) {
      varint(field << 3 | 5);
      int bits = Float.floatToIntBits(number);
      for (int i = 0; i < Float.BYTES; i++) {
        add(bits >>> 8 * i);
      }
    }

    void text(int field, String text) {
      byte[] encoded = text.getBytes(StandardCharsets.UTF_8);
      bytes(field, encoded, encoded.length);
    }

    void message(int field, Message part) {
      bytes(field, part.bytes, part.size);
    }

    void bytes(int field, byte[] from, int length) {
      varint(field << 3 | 2);
      varint(length);
      for (int i = 0; i < length; i++) {
        add(from[i]);
      }
    }
  }
}
