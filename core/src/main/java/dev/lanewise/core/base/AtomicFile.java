package dev.lanewise.core.base;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.AtomicMoveNotSupportedException;
import java.nio.file.DirectoryIteratorException;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.Collection;
import java.util.UUID;

/** Files that appear complete or not at all, even when the power fails meanwhile. */
public final class AtomicFile {
  /** Writes a file's bytes. */
  @FunctionalInterface
  public interface Content {
    /**
     * Writes everything to the channel, which stands at the start of an empty file.
     *
     * @throws IOException if writing fails
     */
    void writeTo(FileChannel channel) throws IOException;
  }

  private static final String TEMPORARY = ".tmp";

  private AtomicFile() {}

  /**
   * Writes a file under a temporary name beside it, forces it to disk, and renames it over the old
   * one. When anything fails, the old file stays and the temporary one is removed.
   *
   * @param path the file
   * @param content writes the bytes
   * @throws InputException if the file cannot be written
   */
  public static void write(Path path, Content content) {
    Path target = path.toAbsolutePath();
    Path folder = target.getParent();
    Path temporary = null;
    try {
      if (folder == null || Files.isDirectory(target)) {
        throw new IOException("is a folder");
      }
      // Not Files.createTempFile: its files are closed to everyone but their owner.
      temporary = folder.resolve("." + target.getFileName() + "." + UUID.randomUUID() + TEMPORARY);
      try (FileChannel channel =
          FileChannel.open(temporary, StandardOpenOption.WRITE, StandardOpenOption.CREATE_NEW)) {
        content.writeTo(channel);
        channel.force(true);
      }
      move(temporary, target);
      temporary = null;
      forceFolder(folder);
    } catch (IOException e) {
      throw new InputException("Cannot write " + path + " (" + Failures.describe(e) + ").", e);
    } finally {
      if (temporary != null) {
        try {
          Files.deleteIfExists(temporary);
        } catch (IOException e) {
          // The failure on its way to the caller matters more than a file left behind.
        }
      }
    }
  }

  /**
   * Writes a text file as UTF-8, complete or not at all.
   *
   * @param path the file
   * @param text all of its text
   * @throws InputException if the file cannot be written
   */
  public static void writeText(Path path, String text) {
    ByteBuffer bytes = StandardCharsets.UTF_8.encode(text);
    write(
        path,
        channel -> {
          while (bytes.hasRemaining()) {
            channel.write(bytes);
          }
        });
  }

  private static void move(Path from, Path to) throws IOException {
    try {
      Files.move(from, to, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
    } catch (AtomicMoveNotSupportedException e) {
      Files.move(from, to, StandardCopyOption.REPLACE_EXISTING);
    }
  }

  /**
   * Forces the entries of a folder to disk: after it, files made or renamed there outlast a loss of
   * power.
   *
   * @param folder the folder
   */
  public static void forceFolder(Path folder) {
    try (FileChannel channel = FileChannel.open(folder, StandardOpenOption.READ)) {
      channel.force(true);
    } catch (IOException e) {
      // Some systems cannot open folders; there the rename is as durable as the system makes it.
    }
  }

  /**
   * Whether a file is one that {@link #write} left unfinished when its process was killed.
   *
   * @param file a file
   * @param name name of the file that was to be written
   */
  public static boolean isLeftover(Path file, String name) {
    String found = file.getFileName().toString();
    int id = name.length() + 2;
    return found.length() == id + 36 + TEMPORARY.length()
        && found.startsWith("." + name + ".")
        && found.endsWith(TEMPORARY)
        && found.substring(id, id + 36).matches("[0-9a-f-]+");
  }

  /**
   * Removes files that {@link #write} left unfinished when its process was killed. What cannot be
   * removed stays: it takes some space, that is all.
   *
   * @param folder where they are
   * @param names names of the files that were to be written
   */
  public static void removeLeftovers(Path folder, Collection<String> names) {
    try (DirectoryStream<Path> files = Files.newDirectoryStream(folder, ".*" + TEMPORARY)) {
      for (Path file : files) {
        if (names.stream().anyMatch(name -> isLeftover(file, name))) {
          Files.delete(file);
        }
      }
    } catch (IOException | DirectoryIteratorException e) {
      // As said above.
    }
  }
}
