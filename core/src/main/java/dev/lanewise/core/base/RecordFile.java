package dev.lanewise.core.base;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.CharBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;

/**
 * A text file that grows by whole records. What is appended waits in memory until {@link #flush}; a
 * flush that fails leaves the file as it was, and its records wait for the next one.
 */
public final class RecordFile implements AutoCloseable {
  private final Path path;
  private final StringBuilder waiting = new StringBuilder();
  private FileChannel channel;
  private long end;

  /**
   * Opens a file, or makes one.
   *
   * @param path the file
   * @param end byte where the next record goes; what the file holds from there on is cut off
   * @throws IOException if it cannot be opened
   */
  public RecordFile(Path path, long end) throws IOException {
    this.path = path;
    open(end);
  }

  private void open(long at) throws IOException {
    channel = FileChannel.open(path, StandardOpenOption.CREATE, StandardOpenOption.WRITE);
    try {
      end = Math.min(at, channel.size());
      channel.truncate(end);
    } catch (IOException e) {
      channel.close();
      throw e;
    }
  }

  /** Adds a record, which reaches the file with the next {@link #flush}. */
  public void append(CharSequence record) {
    waiting.append(record);
  }

  /** Forgets records that are not written yet. */
  public void discard() {
    waiting.setLength(0);
  }

  /** Bytes of whole records in the file. */
  public long end() {
    return end;
  }

  /** Cuts off records, from a byte on. */
  public void truncate(long at) throws IOException {
    channel.truncate(at);
    end = at;
  }

  /**
   * Hands all records to the system.
   *
   * @throws IOException if they cannot be written; the file then ends where it did before
   */
  public void flush() throws IOException {
    if (!channel.isOpen() || Files.notExists(path)) {
      // Removed while it was written, or closed by an interrupt of this thread.
      channel.close();
      open(end);
    }
    if (waiting.isEmpty()) {
      return;
    }
    ByteBuffer bytes = StandardCharsets.UTF_8.encode(CharBuffer.wrap(waiting));
    long at = end;
    try {
      while (bytes.hasRemaining()) {
        at += channel.write(bytes, at);
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
    waiting.setLength(0);
  }

  /**
   * Writes all records to the disk itself, where they outlast a loss of power.
   *
   * @throws IOException if they cannot be written
   */
  public void force() throws IOException {
    flush();
    channel.force(false);
    AtomicFile.forceFolder(path.toAbsolutePath().getParent());
  }

  /** Closes the file; records that wait are dropped unless {@link #flush} came first. */
  @Override
  public void close() throws IOException {
    channel.close();
  }
}
