package dev.lanewise.core.data;

import dev.lanewise.core.base.Failures;
import dev.lanewise.core.base.InputException;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.AccessDeniedException;
import java.nio.file.FileSystemLoopException;
import java.nio.file.FileSystems;
import java.nio.file.FileVisitOption;
import java.nio.file.FileVisitResult;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.nio.file.PathMatcher;
import java.nio.file.SimpleFileVisitor;
import java.nio.file.attribute.BasicFileAttributes;
import java.security.DigestInputStream;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.EnumSet;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.zip.ZipEntry;
import java.util.zip.ZipException;
import java.util.zip.ZipFile;

/**
 * Text documents from files, folders and zip archives, as UTF-8.
 *
 * <p>Folders are read with their subfolders, archives with all their entries, both sorted by name;
 * hidden files and folders do not count. Links are followed, and a file that is met under several
 * names counts once, by a link's name where there is one. A file that was named itself must be
 * valid UTF-8. Among the members of folders and archives, those that are empty, binary (a zero byte
 * near the start) or not UTF-8 are left out as a whole, however late that shows, and {@link
 * Summary} says so. A byte order mark at the start of a document is dropped.
 */
public final class Corpus {
  private static final int BINARY_PROBE = 8192;
  private static final int PIECE = 1 << 22;
  private static final int READER_PIECE = 1 << 17;

  /** Text without a good place to cut is cut here all the same: encoders take 40 bytes for each. */
  private static final int LONGEST_PIECE = 1 << 18;

  /** An archive's member of so many times its compressed size is no text but an attack. */
  static final int MOST_COMPRESSION = 500;

  private static final long SUSPICIOUS_SIZE = 64L << 20;

  private final List<Document> documents;
  private final LeftOut leftOut;
  private final boolean dropComments;
  private final String description;

  private Corpus(
      List<Document> documents, LeftOut leftOut, boolean dropComments, String description) {
    this.documents = documents;
    this.leftOut = leftOut;
    this.dropComments = dropComments;
    this.description = description;
  }

  /**
   * One document, not read yet.
   *
   * @param name its path, or {@code archive!entry}
   * @param bytes its size
   * @param file the file or archive that holds it
   * @param entry its name inside the archive, or null
   * @param member whether it was found in a folder or archive, not named itself
   */
  private record Document(String name, long bytes, Path file, String entry, boolean member) {}

  /** Takes the text of a corpus. */
  @FunctionalInterface
  public interface Reader {
    /**
     * Takes a piece of a document: valid UTF-8, never empty unless it ends a document.
     *
     * @param utf8 holds the piece until the call returns, and other text later
     * @param from start of the piece
     * @param to end of the piece
     * @param endsDocument whether the document ends here; a long one comes in several pieces, cut
     *     before white space, as {@link Tokenizer#encode(byte[], int, int, TokenSink)} needs it, or
     *     every 256 KiB of a stretch without
     */
    void piece(byte[] utf8, int from, int to, boolean endsDocument);
  }

  /**
   * What reading a corpus met.
   *
   * @param documents documents with text
   * @param bytes bytes of text
   * @param skipped members of folders and archives that were left out
   * @param reasons why: "3 binary (first a/b.png)", one text for each kind
   */
  public record Summary(long documents, long bytes, long skipped, List<String> reasons) {
    /** Keeps an unmodifiable copy. */
    public Summary {
      reasons = List.copyOf(reasons);
    }

    /** One line for people about what was left out; empty if nothing was. */
    public String leftOut() {
      return skipped == 0
          ? ""
          : String.format(
              Locale.ROOT,
              "%,d of %,d files left out: %s",
              skipped,
              skipped + documents,
              String.join(", ", reasons));
    }
  }

  /**
   * Finds the documents under some paths.
   *
   * @param paths text files, folders, and zip archives ({@code .zip}, {@code .jar})
   * @return the corpus
   * @throws InputException if a path is missing, unreadable, an empty file, an empty folder or a
   *     damaged archive
   */
  public static Corpus of(Path... paths) {
    return of(List.of(paths));
  }

  /**
   * Finds the documents under some paths.
   *
   * @param paths as for {@link #of(Path...)}
   * @return the corpus
   * @throws InputException as for {@link #of(Path...)}
   */
  public static Corpus of(List<Path> paths) {
    if (paths.isEmpty()) {
      throw new InputException("No text was given; name a file, a folder or a zip archive.");
    }
    List<Document> documents = new ArrayList<>();
    LeftOut leftOut = new LeftOut();
    for (Path path : paths) {
      int before = documents.size();
      try {
        find(path, documents, leftOut);
      } catch (IOException e) {
        throw unreadable(path.toString(), e);
      }
      if (documents.size() == before) {
        throw new InputException(
            path
                + " holds no files"
                + (leftOut.count() == 0
                    ? "."
                    : ": " + String.join(", ", leftOut.sentences()) + "."));
      }
    }
    String names = String.join(", ", paths.stream().map(Path::toString).toList());
    return new Corpus(documents, leftOut, false, names);
  }

  private static void find(Path path, List<Document> documents, LeftOut leftOut)
      throws IOException {
    if (!Files.exists(path)) {
      throw new InputException("There is no file or folder " + path + ".");
    }
    if (Files.isDirectory(path)) {
      findInFolder(path, documents, leftOut);
      return;
    }
    if (!Files.isReadable(path)) {
      throw new InputException("The file " + path + " may not be read; check its permissions.");
    }
    if (isArchive(path)) {
      findInArchive(path, documents, leftOut);
      return;
    }
    long size = Files.size(path);
    if (size == 0 && Files.isRegularFile(path)) {
      throw new InputException("The file " + path + " is empty.");
    }
    documents.add(new Document(path.toString(), size, path, null, false));
  }

  private static boolean isArchive(Path path) {
    String name = path.getFileName().toString().toLowerCase(Locale.ROOT);
    return name.endsWith(".zip") || name.endsWith(".jar");
  }

  private static void findInFolder(Path folder, List<Document> documents, LeftOut leftOut)
      throws IOException {
    // By the file itself, which a link's name stands for, too.
    Map<Object, Document> found = new HashMap<>();
    Files.walkFileTree(
        folder,
        EnumSet.of(FileVisitOption.FOLLOW_LINKS),
        Integer.MAX_VALUE,
        new SimpleFileVisitor<>() {
          @Override
          public FileVisitResult preVisitDirectory(Path dir, BasicFileAttributes attributes) {
            return dir.equals(folder) || !hidden(dir)
                ? FileVisitResult.CONTINUE
                : FileVisitResult.SKIP_SUBTREE;
          }

          @Override
          public FileVisitResult visitFile(Path file, BasicFileAttributes attributes)
              throws IOException {
            if (hidden(file)) {
              return FileVisitResult.CONTINUE;
            }
            if (!attributes.isRegularFile()) {
              leftOut.add(
                  attributes.isSymbolicLink() ? LeftOut.BROKEN_LINK : LeftOut.NO_FILE,
                  file.toString());
              return FileVisitResult.CONTINUE;
            }
            Document document = new Document(file.toString(), attributes.size(), file, null, true);
            Object key = attributes.fileKey() != null ? attributes.fileKey() : file.toRealPath();
            Document known = found.putIfAbsent(key, document);
            if (known != null) {
              boolean better = isLinked(file) && !isLinked(known.file);
              leftOut.add(LeftOut.SAME_FILE, better ? known.name : document.name);
              if (better) {
                found.put(key, document);
              }
            }
            return FileVisitResult.CONTINUE;
          }

          @Override
          public FileVisitResult visitFileFailed(Path file, IOException e) throws IOException {
            if (e instanceof FileSystemLoopException) {
              leftOut.add(LeftOut.LOOP, file.toString());
              return FileVisitResult.CONTINUE;
            }
            throw e;
          }

          // Whether a name leads through a link below the folder.
          private boolean isLinked(Path file) {
            for (Path at = file; at != null && !at.equals(folder); at = at.getParent()) {
              if (Files.isSymbolicLink(at)) {
                return true;
              }
            }
            return false;
          }
        });
    found.values().stream().sorted(Comparator.comparing(Document::name)).forEach(documents::add);
  }

  private static boolean hidden(Path path) {
    return path.getFileName() != null && path.getFileName().toString().startsWith(".");
  }

  private static void findInArchive(Path archive, List<Document> documents, LeftOut leftOut)
      throws IOException {
    try (ZipFile zip = new ZipFile(archive.toFile(), StandardCharsets.UTF_8)) {
      zip.stream()
          .filter(entry -> !entry.isDirectory())
          .sorted(Comparator.comparing(ZipEntry::getName))
          .forEach(
              entry -> {
                String name = archive + "!" + entry.getName();
                long size = Math.max(0, entry.getSize());
                if (isUnusable(entry.getName())) {
                  leftOut.add(LeftOut.UNNAMED, name);
                } else if (size > SUSPICIOUS_SIZE
                    && size / MOST_COMPRESSION > Math.max(1, entry.getCompressedSize())) {
                  leftOut.add(LeftOut.BOMB, name);
                } else {
                  documents.add(new Document(name, size, archive, entry.getName(), true));
                }
              });
    }
  }

  private static boolean isUnusable(String entry) {
    try {
      return Path.of(entry).getNameCount() == 0;
    } catch (InvalidPathException e) {
      return true;
    }
  }

  /**
   * Keeps the documents whose name matches a pattern; files that were named themselves stay.
   *
   * @param globs patterns as of {@link java.nio.file.FileSystem#getPathMatcher}, held against the
   *     entry's name in an archive and the end of the path in a folder, so that {@code *.java}
   *     matches at any depth and {@code java.base/java/**} one part of an archive
   * @return the smaller corpus
   * @throws InputException if nothing is left or a pattern is malformed
   */
  public Corpus include(String... globs) {
    return matching(true, globs);
  }

  /**
   * Drops the documents whose name matches a pattern; files that were named themselves stay.
   *
   * @param globs patterns as for {@link #include}
   * @return the smaller corpus
   * @throws InputException if nothing is left or a pattern is malformed
   */
  public Corpus exclude(String... globs) {
    return matching(false, globs);
  }

  private Corpus matching(boolean wanted, String... globs) {
    List<PathMatcher> matchers = new ArrayList<>();
    for (String glob : globs) {
      try {
        matchers.add(FileSystems.getDefault().getPathMatcher("glob:" + glob));
        matchers.add(FileSystems.getDefault().getPathMatcher("glob:**/" + glob));
      } catch (IllegalArgumentException e) {
        throw new InputException("The pattern " + glob + " is malformed: " + e.getMessage(), e);
      }
    }
    List<Document> kept = new ArrayList<>();
    for (Document document : documents) {
      Path name = Path.of(document.entry != null ? document.entry : document.name);
      if (!document.member
          || matchers.stream().anyMatch(matcher -> matcher.matches(name)) == wanted) {
        kept.add(document);
      }
    }
    if (kept.isEmpty()) {
      throw new InputException(
          wanted
              ? "No file in " + description + " matches " + String.join(" or ", globs) + "."
              : "Every file in " + description + " matches " + String.join(" or ", globs) + ".");
    }
    return new Corpus(kept, leftOut, dropComments, description);
  }

  /**
   * Puts the documents in random order, so that a contiguous split gives both parts the same kinds
   * of text, and {@link #limit} a fair sample.
   *
   * @param seed fixes the order
   * @return the corpus in another order
   */
  public Corpus shuffle(long seed) {
    List<Document> shuffled = new ArrayList<>(documents);
    SplittableRandom random = new SplittableRandom(seed);
    for (int i = shuffled.size() - 1; i > 0; i--) {
      Collections.swap(shuffled, i, random.nextInt(i + 1));
    }
    return new Corpus(shuffled, leftOut, dropComments, description);
  }

  /**
   * Keeps documents from the first on while they stay within a size, but at least one.
   *
   * @param bytes the size
   * @return the smaller corpus
   */
  public Corpus limit(long bytes) {
    long sum = 0;
    int count = 0;
    for (Document document : documents) {
      sum += document.bytes;
      if (sum > bytes && count > 0) {
        break;
      }
      count++;
    }
    return new Corpus(documents.subList(0, count), leftOut, dropComments, description);
  }

  /**
   * Leaves out the comments of source code, and the empty lines that they leave.
   *
   * @return the corpus of code alone
   */
  public Corpus withoutComments() {
    return new Corpus(documents, leftOut, true, description);
  }

  /**
   * The number of documents found, those that reading will skip included.
   *
   * @return the count
   */
  public int size() {
    return documents.size();
  }

  /**
   * The size of the documents found, those that reading will skip included.
   *
   * @return the sum of their bytes
   */
  public long bytes() {
    return documents.stream().mapToLong(Document::bytes).sum();
  }

  @Override
  public String toString() {
    return description;
  }

  /**
   * Reads all documents in order.
   *
   * @param reader takes the text
   * @return what was met
   * @throws InputException if a document cannot be read, if a file named itself is not UTF-8 (the
   *     message gives the byte's offset), or if there was no text at all
   */
  public Summary read(Reader reader) {
    return read(reader, Long.MAX_VALUE);
  }

  /** Reads documents in order until at least so many bytes have gone to the reader. */
  Summary read(Reader reader, long enough) {
    long count = 0;
    long bytes = 0;
    LeftOut met = new LeftOut();
    met.addAll(leftOut);
    byte[] buffer = new byte[Math.clamp(largest() + 1, 1024, PIECE)];
    try (Archives archives = new Archives()) {
      for (Document document : documents) {
        if (bytes >= enough) {
          break;
        }
        try {
          String fault = document.member ? fault(document, archives, buffer) : null;
          if (fault == null) {
            long read;
            try (InputStream in = archives.open(document)) {
              read = read(document, in, buffer, reader);
            }
            if (read > 0) {
              count++;
              bytes += read;
              continue;
            }
            fault = LeftOut.EMPTY;
          }
          met.add(fault, document.name);
        } catch (IOException e) {
          throw unreadable(document.name, e);
        }
      }
    }
    if (count == 0) {
      throw new InputException(
          "There is no text in " + description + ": " + String.join(", ", met.sentences()) + ".");
    }
    return new Summary(count, bytes, met.count(), met.sentences());
  }

  /** Why a member is left out; null if it is text from its first byte to its last. */
  private static String fault(Document document, Archives archives, byte[] buffer)
      throws IOException {
    try (InputStream in = archives.open(document)) {
      boolean first = true;
      int size = 0;
      while (true) {
        int more = in.readNBytes(buffer, size, buffer.length - size);
        size += more;
        boolean ended = size < buffer.length;
        if (first) {
          if (size == 0) {
            return LeftOut.EMPTY;
          }
          if (isBinary(buffer, size)) {
            return LeftOut.BINARY;
          }
        }
        int end = ended ? size : startOfLastCharacter(buffer, size);
        if (Utf8.firstInvalid(buffer, 0, end) >= 0) {
          return LeftOut.NOT_UTF8;
        }
        if (ended) {
          return null;
        }
        System.arraycopy(buffer, end, buffer, 0, size - end);
        size -= end;
        first = false;
      }
    }
  }

  private long largest() {
    return documents.stream().mapToLong(Document::bytes).max().orElse(0);
  }

  /** Gives one document to the reader; 0 if nothing is left of it. */
  private long read(Document document, InputStream in, byte[] buffer, Reader reader)
      throws IOException {
    long offset = 0;
    long given = 0;
    int size = 0;
    boolean first = true;
    CommentStripper stripper = dropComments ? new CommentStripper() : null;
    while (true) {
      int more = in.readNBytes(buffer, size, buffer.length - size);
      size += more;
      boolean ended = size < buffer.length;
      int cut = ended ? size : cut(buffer, 0, size);
      if (cut == 0 && !ended) {
        cut = startOfLastCharacter(buffer, size);
      }
      int start = 0;
      if (first) {
        start = startsWith(buffer, size, 0xEF, 0xBB, 0xBF) ? 3 : 0;
      }
      int invalid = Utf8.firstInvalid(buffer, start, cut);
      if (invalid >= 0) {
        throw new InputException(
            String.format(
                Locale.ROOT,
                "%s is not valid UTF-8 at byte %d%s; convert it to UTF-8 first.",
                document.name,
                offset + invalid,
                first
                        && (startsWith(buffer, size, 0xFF, 0xFE)
                            || startsWith(buffer, size, 0xFE, 0xFF))
                    ? " (it looks like UTF-16)"
                    : ""));
      }
      first = false;
      if (stripper == null) {
        given += cut - start;
        giveInPieces(buffer, start, cut, ended && given > 0, reader);
      } else {
        byte[] piece = stripper.strip(buffer, start, cut, ended);
        given += piece.length;
        giveInPieces(piece, 0, piece.length, ended && given > 0, reader);
      }
      if (ended) {
        return given;
      }
      System.arraycopy(buffer, cut, buffer, 0, size - cut);
      offset += cut;
      size -= cut;
    }
  }

  private static void giveInPieces(byte[] b, int from, int to, boolean ends, Reader reader) {
    int start = from;
    while (to - start > READER_PIECE) {
      int cut = cut(b, start, start + READER_PIECE);
      if (cut == start) {
        int most = Math.min(to, start + LONGEST_PIECE);
        cut = firstCut(b, start + READER_PIECE, most);
        if (cut == most && most < to) {
          cut = startOfLastCharacter(b, most);
        }
      }
      reader.piece(b, start, cut, false);
      start = cut;
    }
    if (start < to || ends) {
      reader.piece(b, start, to, ends);
    }
  }

  /** The last place to cut at, a good one if there is any; from if there is none. */
  private static int cut(byte[] b, int from, int to) {
    int fair = from;
    for (int i = to - 1; i > from; i--) {
      if (isGood(b, i)) {
        return i;
      }
      if (fair == from && isFair(b, i)) {
        fair = i;
      }
    }
    return fair;
  }

  /**
   * Whether no tokenizer's word lies across a place: many take the line feeds behind punctuation
   * with it.
   */
  private static boolean isGood(byte[] b, int i) {
    return b[i] == ' ' && b[i - 1] > ' ' || b[i] == '\n' && isLetterOrDigit(b[i - 1]);
  }

  private static boolean isLetterOrDigit(byte b) {
    return b >= '0' && b <= '9' || b >= 'A' && b <= 'Z' || b >= 'a' && b <= 'z';
  }

  /** Whether white space follows something else, both ASCII: good for GPT-2's words. */
  private static boolean isFair(byte[] b, int i) {
    return (b[i] == ' ' || b[i] == '\n') && b[i - 1] > ' ';
  }

  /** The first place where white space follows something else; to if there is none. */
  private static int firstCut(byte[] b, int from, int to) {
    int i = from;
    while (i < to && !isFair(b, i)) {
      i++;
    }
    return i;
  }

  /** Where the last character that begins before the end begins. */
  private static int startOfLastCharacter(byte[] b, int end) {
    int i = end - 1;
    while (i > end - 4 && (b[i] & 0xC0) == 0x80) {
      i--;
    }
    return i;
  }

  private static boolean isBinary(byte[] b, int size) {
    for (int i = 0; i < Math.min(size, BINARY_PROBE); i++) {
      if (b[i] == 0) {
        return true;
      }
    }
    return false;
  }

  private static boolean startsWith(byte[] b, int size, int... start) {
    for (int i = 0; i < start.length; i++) {
      if (i >= size || (b[i] & 0xFF) != start[i]) {
        return false;
      }
    }
    return true;
  }

  /**
   * A fingerprint of the documents' names and contents and of how they are selected and ordered.
   *
   * @return 64 hexadecimal digits
   * @throws InputException if a document cannot be read
   */
  public String fingerprint() {
    try {
      MessageDigest digest = MessageDigest.getInstance("SHA-256");
      digest.update((byte) (dropComments ? 2 : 0));
      byte[] buffer = new byte[1 << 16];
      Path lastArchive = null;
      for (Document document : documents) {
        digest.update(
            (document.name + "\0" + document.bytes + "\0").getBytes(StandardCharsets.UTF_8));
        // An archive's bytes stand for its entries, which need not be unpacked to be told apart.
        if (document.entry != null && document.file.equals(lastArchive)) {
          continue;
        }
        lastArchive = document.entry != null ? document.file : null;
        try (InputStream in = new DigestInputStream(Files.newInputStream(document.file), digest)) {
          while (in.read(buffer) >= 0) {
            // The stream feeds the digest.
          }
        } catch (IOException e) {
          throw unreadable(document.name, e);
        }
      }
      return HexFormat.of().formatHex(digest.digest());
    } catch (NoSuchAlgorithmException e) {
      throw new IllegalStateException("every Java platform has SHA-256", e);
    }
  }

  private static InputException unreadable(String name, IOException e) {
    if (e instanceof AccessDeniedException) {
      return new InputException(name + " may not be read; check its permissions.", e);
    }
    if (e instanceof ZipException) {
      return new InputException(
          name + " is not a complete zip archive: " + Failures.describe(e) + ".", e);
    }
    return new InputException(name + " cannot be read: " + Failures.describe(e), e);
  }

  /** Keeps the archive of the last document open for the next. */
  private static final class Archives implements AutoCloseable {
    private Path path;
    private ZipFile zip;

    InputStream open(Document document) throws IOException {
      if (document.entry == null) {
        return Files.newInputStream(document.file);
      }
      if (!document.file.equals(path)) {
        close();
        zip = new ZipFile(document.file.toFile(), StandardCharsets.UTF_8);
        path = document.file;
      }
      ZipEntry entry = zip.getEntry(document.entry);
      if (entry == null) {
        throw new IOException("the archive has changed");
      }
      return zip.getInputStream(entry);
    }

    @Override
    public void close() {
      if (zip != null) {
        try {
          zip.close();
        } catch (IOException e) {
          // Nothing was written, so nothing is lost.
        }
        zip = null;
        path = null;
      }
    }
  }
}
