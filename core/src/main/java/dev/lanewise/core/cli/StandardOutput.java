package dev.lanewise.core.cli;

import dev.lanewise.core.base.Failures;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Locale;

/**
 * Standard output that remembers a failure, which Java's own keeps to itself: what a command found
 * must not get lost on a full disk without a word. A reader that has seen enough is no failure.
 */
final class StandardOutput extends OutputStream {
  private static final Path DESCRIPTOR = Path.of("/proc/self/fd/1");

  private final OutputStream out;
  private IOException failure;

  /**
   * The standard output of the process.
   *
   * @return the stream, not buffered
   */
  static StandardOutput ofProcess() {
    return new StandardOutput(new FileOutputStream(FileDescriptor.out));
  }

  StandardOutput(OutputStream out) {
    this.out = out;
  }

  @Override
  public void write(int b) throws IOException {
    write(new byte[] {(byte) b}, 0, 1);
  }

  @Override
  public void write(byte[] bytes, int offset, int length) throws IOException {
    try {
      out.write(bytes, offset, length);
    } catch (IOException e) {
      if (failure == null) {
        failure = e;
      }
      throw e;
    }
  }

  /** A sentence about what could not be written; null if all was, or nobody reads on. */
  String fault() {
    return failure == null || readerLeft()
        ? null
        : String.format(
            Locale.ROOT,
            "Standard output cannot be written (%s), so what was printed is not whole.",
            Failures.describe(failure));
  }

  /** A pipe or socket only fails when nobody reads; in which words, is up to the system. */
  private boolean readerLeft() {
    if (String.valueOf(failure.getMessage()).contains("Broken pipe")) {
      return true;
    }
    try {
      String file = Files.readSymbolicLink(DESCRIPTOR).toString();
      return file.startsWith("pipe:") || file.startsWith("socket:");
    } catch (IOException | UnsupportedOperationException e) {
      return false;
    }
  }
}
