package dev.lanewise.core.data;

import dev.lanewise.core.base.AtomicFile;
import dev.lanewise.core.base.Failures;
import dev.lanewise.core.base.InputException;
import java.io.EOFException;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.io.UncheckedIOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Locale;
import java.util.Objects;

/**
 * Token ids in a file, little-endian.
 *
 * <p>What is asked for is read, and no more than a window of it held: of a file that is mapped,
 * every page that was ever looked at counts as memory of the process. The system's cache makes
 * reading again as good as free. Any thread may read, one at a time. After {@link #close} every use
 * throws IllegalStateException.
 */
public final class TokenFile implements TokenSequence, AutoCloseable {
  private static final VarHandle SHORT =
      MethodHandles.byteArrayViewVarHandle(short[].class, ByteOrder.LITTLE_ENDIAN);
  private static final VarHandle INT =
      MethodHandles.byteArrayViewVarHandle(int[].class, ByteOrder.LITTLE_ENDIAN);
  private static final int WINDOW_BYTES = 1 << 16;
  private static final int HEADER_BYTES = 1024;

  /** How tokens lie in a file. */
  public enum Layout {
    /** nanoGPT's: 16-bit unsigned ids and nothing else. */
    NANOGPT(2, 0, 0),
    /**
     * llm.c's for GPT-2: 256 32-bit integers, of which the first three are magic 20240520, version
     * 1 and the number of tokens; then 16-bit unsigned ids. Of more than 2<sup>32</sup> - 1 tokens
     * the fourth integer holds the upper half of the number, which llm.c does not read.
     */
    LLMC(2, 20240520, 1),
    /** llm.c's for Llama 3: the same header with magic 20240801, version 7; then 32-bit ids. */
    LLMC_LLAMA(4, 20240801, 7);

    private final int bytes;
    private final int magic;
    private final int version;

    Layout(int bytes, int magic, int version) {
      this.bytes = bytes;
      this.magic = magic;
      this.version = version;
    }

    private int headerBytes() {
      return magic == 0 ? 0 : HEADER_BYTES;
    }
  }

  private final Path path;
  private final Layout layout;
  private final RandomAccessFile file;
  private final long length;
  private final byte[] window = new byte[WINDOW_BYTES];
  private long windowStart;
  private int windowLength;
  private boolean closed;

  private TokenFile(Path path, Layout layout, RandomAccessFile file, long bytes) {
    this.path = path;
    this.layout = layout;
    this.file = file;
    this.length = bytes / layout.bytes;
  }

  /**
   * Opens a token file, which says by its first integer whether it has llm.c's header.
   *
   * @param path the file
   * @param vocabSize number of ids that are valid; the whole file is checked
   * @return the open file
   * @throws InputException if the file is missing, unreadable, empty, of odd length, damaged, or
   *     holds an id that is not below vocabSize; the message names the file and the position
   */
  public static TokenFile open(Path path, int vocabSize) {
    TokenFile file = open(path);
    try {
      file.check(vocabSize);
      return file;
    } catch (RuntimeException e) {
      file.close();
      throw e;
    }
  }

  /**
   * Opens a token file without looking at its ids.
   *
   * @param path the file
   * @return the open file
   * @throws InputException as {@link #open(Path, int)}, but for ids
   */
  public static TokenFile open(Path path) {
    if (Files.isDirectory(path)) {
      throw new InputException(path + " is a folder, not a token file.");
    }
    if (Files.notExists(path)) {
      throw new InputException("There is no token file " + path + ".");
    }
    RandomAccessFile file = null;
    try {
      file = new RandomAccessFile(path.toFile(), "r");
      long size = file.length();
      Layout layout = layoutOf(path, file, size);
      if (size == layout.headerBytes()) {
        throw new InputException("The token file " + path + " holds no tokens.");
      }
      return new TokenFile(path, layout, file, size - layout.headerBytes());
    } catch (IOException e) {
      closeQuietly(file);
      throw unreadable(path, e);
    } catch (RuntimeException e) {
      closeQuietly(file);
      throw e;
    }
  }

  private static InputException unreadable(Path path, IOException e) {
    return new InputException(
        "The token file " + path + " cannot be read: " + Failures.describe(e), e);
  }

  private static void closeQuietly(RandomAccessFile file) {
    if (file != null) {
      try {
        file.close();
      } catch (IOException e) {
        // Nothing was written, so nothing is lost.
      }
    }
  }

  private static Layout layoutOf(Path path, RandomAccessFile file, long size) throws IOException {
    if (size == 0) {
      throw new InputException("The token file " + path + " is empty.");
    }
    byte[] header = new byte[16];
    file.readFully(header, 0, (int) Math.min(header.length, size));
    int first = (int) INT.get(header, 0);
    for (Layout layout : new Layout[] {Layout.LLMC, Layout.LLMC_LLAMA}) {
      if (first == layout.magic) {
        if (size < HEADER_BYTES) {
          throw new InputException(
              String.format(
                  Locale.ROOT,
                  "The token file %s ends inside its header: %d of %d bytes are there.",
                  path,
                  size,
                  HEADER_BYTES));
        }
        int version = (int) INT.get(header, 4);
        if (version != layout.version) {
          throw new InputException(
              String.format(
                  Locale.ROOT,
                  "The token file %s has version %d of llm.c's layout %d; only version %d is"
                      + " known.",
                  path,
                  version,
                  layout.magic,
                  layout.version));
        }
        long count =
            (long) (int) INT.get(header, 12) << 32
                | Integer.toUnsignedLong((int) INT.get(header, 8));
        long expected = HEADER_BYTES + count * layout.bytes;
        if (count < 0 || count > Long.MAX_VALUE / 8 || size != expected) {
          throw new InputException(
              String.format(
                  Locale.ROOT,
                  "The token file %s is damaged: its header announces %d tokens, which take %d"
                      + " bytes, but it has %d.",
                  path,
                  count,
                  expected,
                  size));
        }
        return layout;
      }
    }
    if (size % Short.BYTES != 0) {
      throw new InputException(
          String.format(
              Locale.ROOT,
              "The token file %s has an odd number of bytes, %d, so it cannot hold 16-bit tokens.",
              path,
              size));
    }
    return Layout.NANOGPT;
  }

  /**
   * Checks that every id is below a vocabulary's size.
   *
   * @param vocabSize number of ids that are valid
   * @throws InputException if one is not; the message names the first
   */
  public void check(int vocabSize) {
    if (layout.bytes == 2 && vocabSize > 0xFFFF) {
      return;
    }
    for (long i = 0; i < length; i++) {
      int id = get(i);
      if (id < 0 || id >= vocabSize) {
        throw new InputException(
            String.format(
                Locale.ROOT,
                "Token %s at position %d of %s is not in the vocabulary of %d; the file was made"
                    + " with another tokenizer or is damaged.",
                Integer.toUnsignedString(id),
                i,
                path,
                vocabSize));
      }
    }
  }

  /**
   * The file.
   *
   * @return its path as given
   */
  public Path path() {
    return path;
  }

  /**
   * The layout that was found.
   *
   * @return the layout
   */
  public Layout layout() {
    return layout;
  }

  @Override
  public long length() {
    return length;
  }

  @Override
  public synchronized int get(long index) {
    Objects.checkIndex(index, length);
    hold(index, 1, windowTokens());
    return inWindow(index);
  }

  @Override
  public synchronized void copy(long from, int count, MemorySegment target, long targetIndex) {
    Objects.checkFromIndexSize(from, count, length);
    Objects.checkFromIndexSize(targetIndex, count, target.byteSize() / Integer.BYTES);
    for (int done = 0; done < count; ) {
      int some = Math.min(count - done, windowTokens());
      // One more: targets are the same tokens, one later.
      hold(from + done, some, some + 1);
      for (int i = 0; i < some; i++) {
        target.set(
            ValueLayout.JAVA_INT_UNALIGNED,
            (targetIndex + done + i) * Integer.BYTES,
            inWindow(from + done + i));
      }
      done += some;
    }
  }

  private int windowTokens() {
    return WINDOW_BYTES / layout.bytes;
  }

  private int inWindow(long index) {
    int at = (int) (index - windowStart) * layout.bytes;
    return layout.bytes == 2 ? (short) SHORT.get(window, at) & 0xFFFF : (int) INT.get(window, at);
  }

  /** Has tokens in the window; where it must read, it reads more, as far as there are. */
  private void hold(long from, int count, int more) {
    if (closed) {
      throw new IllegalStateException("the token file " + path + " has been closed");
    }
    if (from >= windowStart && from + count <= windowStart + windowLength) {
      return;
    }
    int tokens = (int) Math.min(Math.min(more, windowTokens()), length - from);
    windowLength = 0;
    try {
      file.seek(layout.headerBytes() + from * layout.bytes);
      file.readFully(window, 0, tokens * layout.bytes);
    } catch (EOFException e) {
      throw new InputException(
          "The token file " + path + " has been shortened while it was read.", e);
    } catch (IOException e) {
      throw unreadable(path, e);
    }
    windowStart = from;
    windowLength = tokens;
  }

  /** Closes the file. */
  @Override
  public synchronized void close() {
    closed = true;
    closeQuietly(file);
  }

  /** Gives the tokens of a new file to a sink, in order. */
  @FunctionalInterface
  public interface Content {
    /**
     * Gives all tokens.
     *
     * @param sink takes them one by one, from one thread at a time
     */
    void writeTo(TokenSink sink);
  }

  /**
   * Writes a token file, which appears under its name when it is whole.
   *
   * @param path the file to make; an existing one is replaced
   * @param layout how to lay it out
   * @param content gives the tokens
   * @return the number of tokens
   * @throws InputException if the file cannot be written or an id does not fit the layout
   */
  public static long write(Path path, Layout layout, Content content) {
    long[] count = new long[1];
    AtomicFile.write(
        path,
        channel -> {
          Writer writer = new Writer(path, layout, channel);
          try {
            content.writeTo(writer);
          } catch (UncheckedIOException e) {
            throw e.getCause();
          }
          count[0] = writer.finish();
        });
    return count[0];
  }

  private static final class Writer implements TokenSink {
    private final Path path;
    private final Layout layout;
    private final FileChannel channel;
    private final ByteBuffer buffer =
        ByteBuffer.allocateDirect(1 << 18).order(ByteOrder.LITTLE_ENDIAN);
    private long count;

    Writer(Path path, Layout layout, FileChannel channel) throws IOException {
      this.path = path;
      this.layout = layout;
      this.channel = channel;
      channel.position(layout.headerBytes());
    }

    @Override
    public void accept(int id) {
      if (id < 0 || layout.bytes == 2 && id > 0xFFFF) {
        throw new InputException(
            String.format(
                Locale.ROOT,
                "Token %d at position %d does not fit the 16-bit tokens of %s.",
                id,
                count,
                path));
      }
      if (buffer.remaining() < layout.bytes) {
        try {
          flush();
        } catch (IOException e) {
          throw new UncheckedIOException(e);
        }
      }
      if (layout.bytes == 2) {
        buffer.putShort((short) id);
      } else {
        buffer.putInt(id);
      }
      count++;
    }

    long finish() throws IOException {
      flush();
      if (layout.magic != 0) {
        buffer
            .putInt(layout.magic)
            .putInt(layout.version)
            .putInt((int) count)
            .putInt((int) (count >>> 32));
        while (buffer.position() < HEADER_BYTES) {
          buffer.putInt(0);
        }
        channel.position(0);
        flush();
      }
      return count;
    }

    private void flush() throws IOException {
      buffer.flip();
      while (buffer.hasRemaining()) {
        channel.write(buffer);
      }
      buffer.clear();
    }
  }
}
