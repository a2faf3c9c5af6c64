package dev.lanewise.core.data;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.core.base.InputException;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.zip.ZipEntry;
import java.util.zip.ZipOutputStream;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class DatasetTest {
  @TempDir Path folder;

  private static String message(Runnable call) {
    return assertThrows(InputException.class, call::run).getMessage();
  }

  private Path file(String name, String text) throws IOException {
    return file(name, text.getBytes(StandardCharsets.UTF_8));
  }

  private Path file(String name, byte[] bytes) throws IOException {
    Path path = folder.resolve(name);
    Files.createDirectories(path.getParent());
    return Files.write(path, bytes);
  }

  private static String text(Corpus corpus) {
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    corpus.read(
        (utf8, from, to, ends) -> {
          out.write(utf8, from, to - from);
          if (ends) {
            out.write('|');
          }
        });
    return out.toString(StandardCharsets.UTF_8);
  }

  private static int[] ids(TokenSequence tokens) {
    int[] ids = new int[(int) tokens.length()];
    for (int i = 0; i < ids.length; i++) {
      ids[i] = tokens.get(i);
    }
    return ids;
  }

  private Dataset prepare(Corpus corpus, String tokenizer, double fraction) {
    return Dataset.prepare(
        corpus, tokenizer, folder.resolve("cache"), fraction, Dataset.Progress.NONE);
  }

  @Test
  void aLongTextComesInSmallPiecesThatChangeNoToken() throws IOException {
    Random random = new Random(5);
    StringBuilder text = new StringBuilder();
    while (text.length() < 700_000) {
      text.append("word".repeat(1 + random.nextInt(3)))
          .append("  \n, x'll é".charAt(random.nextInt(11)));
    }
    // A stretch without a good place to cut, longer than a piece.
    text.append("é".repeat(200_000)).append(" end of it");
    Path path = file("long.txt", text.toString());
    byte[] whole = Files.readAllBytes(path);
    Corpus corpus = Corpus.of(path);
    ByteArrayOutputStream read = new ByteArrayOutputStream();
    int[] pieces = new int[1];
    corpus.read(
        (utf8, from, to, ends) -> {
          read.write(utf8, from, to - from);
          pieces[0]++;
        });
    assertArrayEquals(whole, read.toByteArray());
    assertTrue(pieces[0] > 4);
    try (Dataset data = prepare(corpus, "bpe:300", 0)) {
      TokenList once = new TokenList(0);
      data.tokenizer().encode(whole, 0, whole.length, once);
      once.accept(data.tokenizer().endOfText().getAsInt());
      assertArrayEquals(once.toArray(), ids(data.train()));
    }
  }

  @Test
  void foldersAreReadSortedAndOddFilesSkipped() throws IOException {
    file("d/b.txt", "bee");
    file("d/a.txt", "ay");
    file("d/sub/c.java", "sea");
    file("d/.hidden", "no");
    file("d/.git/config", "no");
    file("d/empty.txt", "");
    file("d/binary.dat", new byte[] {'x', 0, 'y'});
    file("d/latin1.txt", "caf\u00e9".getBytes(StandardCharsets.ISO_8859_1));
    file("d/bom.txt", "\ufeffmark");
    Corpus corpus = Corpus.of(folder.resolve("d"));
    assertEquals("ay|bee|mark|sea|", text(corpus));
    assertEquals(7, corpus.size());
    Corpus.Summary summary = corpus.read((utf8, from, to, ends) -> {});
    assertEquals(new Corpus.Summary(4, 12, 3), summary);
    assertEquals("sea|", text(corpus.include("*.java")));
    assertEquals("sea|", text(corpus.include("sub/**")));
    assertEquals("ay|bee|mark|", text(corpus.include("*.txt")));
    assertTrue(message(() -> corpus.include("*.rs")).endsWith("matches *.rs."));
    assertTrue(message(() -> corpus.include("[")).contains("malformed"));
  }

  @Test
  void archivesAreReadLikeFolders() throws IOException {
    Path zip = folder.resolve("src.zip");
    try (ZipOutputStream out = new ZipOutputStream(Files.newOutputStream(zip))) {
      for (String name : List.of("m/Z.java", "m/A.java", "other/B.java", "m/x.gif")) {
        out.putNextEntry(new ZipEntry(name));
        out.write(
            (name.endsWith("gif") ? "\0\0" : "class " + name).getBytes(StandardCharsets.UTF_8));
      }
      out.putNextEntry(new ZipEntry("dir/"));
    }
    Corpus corpus = Corpus.of(zip);
    assertEquals("class m/A.java|class m/Z.java|class other/B.java|", text(corpus));
    assertEquals(1, corpus.read((utf8, from, to, ends) -> {}).skipped());
    assertEquals("class m/A.java|class m/Z.java|", text(corpus.include("m/**")));
    byte[] bytes = Files.readAllBytes(zip);
    Path torn = file("torn.zip", java.util.Arrays.copyOf(bytes, bytes.length / 2));
    assertTrue(message(() -> Corpus.of(torn)).contains("is not a complete zip archive"));
  }

  @Test
  void selectionIsReproducible() throws IOException {
    for (int i = 0; i < 20; i++) {
      file("d/" + i + ".txt", "file" + i + "...............................................");
    }
    Corpus corpus = Corpus.of(folder.resolve("d"));
    assertNotEquals(text(corpus), text(corpus.shuffle(1)));
    assertEquals(text(corpus.shuffle(1)), text(corpus.shuffle(1)));
    assertNotEquals(text(corpus.shuffle(2)), text(corpus.shuffle(1)));
    assertEquals(1, corpus.limit(1).size());
    assertEquals(2, corpus.limit(110).size());
    assertNotEquals(corpus.fingerprint(), corpus.shuffle(1).fingerprint());
    assertEquals(corpus.fingerprint(), Corpus.of(folder.resolve("d")).fingerprint());
  }

  @Test
  void commentsOfCodeAreDropped() throws IOException {
    String code =
        """
        /* Licence */

        package a; // here

        /**
         * About A, "quoted and 'so.
         */
        class A {


          String s = "http://x/* no \\" comment */"; /* gone */ char c = '"', d = '\\'';
          String t = ""; int e = 6 / 2 /* * / **/ / 3;
          String text = \"""
              // stays \\\"""
              /* and this */  \t

              \"""; // gone
          // gone
        }
        """;
    String rest =
        """
        package a;

        class A {

          String s = "http://x/* no \\" comment */";  char c = '"', d = '\\'';
          String t = ""; int e = 6 / 2  / 3;
          String text = \"""
              // stays \\\"""
              /* and this */  \t

              \""";
        }
        """;
    file("d/A.java", code);
    assertEquals(rest + "|", text(Corpus.of(folder.resolve("d")).withoutComments()));
    byte[] bytes = code.getBytes(StandardCharsets.UTF_8);
    CommentStripper stripper = new CommentStripper();
    StringBuilder joined = new StringBuilder();
    for (int i = 0; i < bytes.length; i++) {
      byte[] piece = stripper.strip(bytes, i, i + 1, i == bytes.length - 1);
      joined.append(new String(piece, StandardCharsets.UTF_8));
    }
    assertEquals(rest, joined.toString());
    file("e/B.java", "a / b\n/* never closed");
    assertEquals("a / b\n|", text(Corpus.of(folder.resolve("e")).withoutComments()));
    file("f/C.java", "it's\nx // y");
    assertEquals("it's\nx|", text(Corpus.of(folder.resolve("f")).withoutComments()));
  }

  @Test
  void longFilesComeInPiecesThatJoinToTheWhole() throws IOException {
    StringBuilder text = new StringBuilder();
    for (int i = 0; text.length() < 9_000_000; i++) {
      text.append("word").append(i * 7919L).append(i % 9 == 0 ? " é🙂\n\n" : " ");
    }
    Path path = file("long.txt", text.toString());
    List<byte[]> pieces = new ArrayList<>();
    List<Boolean> ends = new ArrayList<>();
    Corpus.of(path)
        .read(
            (utf8, from, to, end) -> {
              pieces.add(Arrays.copyOfRange(utf8, from, to));
              ends.add(end);
            });
    assertTrue(pieces.size() > 60);
    for (int i = 0; i < pieces.size(); i++) {
      assertEquals(i == pieces.size() - 1, ends.get(i));
      assertTrue(i == 0 || pieces.get(i)[0] == ' ' || pieces.get(i)[0] == '\n');
    }
    assertEquals(text + "|", text(Corpus.of(path)));
    // A text without any white space is cut between characters.
    Path dense = file("dense.txt", "日本".repeat(12_000_000));
    assertEquals("日本".repeat(12_000_000) + "|", text(Corpus.of(dense)));
  }

  @Test
  void unusableTextIsNamed() throws IOException {
    Path none = folder.resolve("none.txt");
    assertEquals("There is no file or folder " + none + ".", message(() -> Corpus.of(none)));
    Path empty = file("empty.txt", "");
    assertEquals("The file " + empty + " is empty.", message(() -> Corpus.of(empty)));
    Path emptyFolder = Files.createDirectory(folder.resolve("nothing"));
    assertEquals(emptyFolder + " holds no files.", message(() -> Corpus.of(emptyFolder)));
    assertTrue(message(() -> Corpus.of(List.of())).startsWith("No text was given"));
    Path bad = file("bad.txt", new byte[] {'a', 'b', (byte) 0xC3, 'c'});
    assertEquals(
        bad + " is not valid UTF-8 at byte 2; convert it to UTF-8 first.",
        message(() -> text(Corpus.of(bad))));
    Path wide = file("wide.txt", "text".getBytes(StandardCharsets.UTF_16));
    assertEquals(
        wide + " is not valid UTF-8 at byte 0 (it looks like UTF-16); convert it to UTF-8 first.",
        message(() -> text(Corpus.of(wide))));
    byte[] late = "word ".repeat(2_000_000).getBytes(StandardCharsets.UTF_8);
    late[9_000_001] = (byte) 0xFF;
    Path lateFile = file("late.txt", late);
    assertTrue(message(() -> text(Corpus.of(lateFile))).contains("at byte 9000001;"));
    byte[] cut = "long enough é".getBytes(StandardCharsets.UTF_8);
    Path cutFile = file("cut.txt", java.util.Arrays.copyOf(cut, cut.length - 1));
    assertTrue(message(() -> text(Corpus.of(cutFile))).contains("at byte 12;"));
    file("e/one.txt", "");
    assertEquals(
        "There is no text in "
            + folder.resolve("e")
            + ": its one file is empty, binary or not UTF-8.",
        message(() -> text(Corpus.of(folder.resolve("e")))));
  }

  @Test
  void anUnreadableFileIsNamed() throws IOException {
    Path secret = file("secret.txt", "x");
    Files.setPosixFilePermissions(secret, PosixFilePermissions.fromString("---------"));
    Assumptions.assumeFalse(Files.isReadable(secret), "the tests run as a user who may read all");
    assertEquals(
        "The file " + secret + " may not be read; check its permissions.",
        message(() -> Corpus.of(secret)));
  }

  @Test
  void preparesSplitsAndCaches() throws IOException {
    String text = "To be, or not to be, that is the question. ".repeat(200);
    Path path = file("text.txt", text);
    List<String> phases = new ArrayList<>();
    int[] all;
    try (Dataset data =
        Dataset.prepare(
            Corpus.of(path),
            "chars",
            folder.resolve("a/b/cache"),
            0.1,
            (phase, done, total) -> phases.add(phase))) {
      assertEquals(text.length(), data.train().length() + data.validation().length());
      assertEquals((long) (text.length() * 0.9), data.train().length());
      assertEquals(
          text,
          data.tokenizer().decode(ids(data.train()))
              + data.tokenizer().decode(ids(data.validation())));
      assertEquals(new Corpus.Summary(1, text.length(), 0), data.summary());
      all = ids(data.train());
    }
    assertTrue(phases.contains("tokenizing") && phases.contains("collecting characters"));
    phases.clear();
    try (Dataset again =
        Dataset.prepare(
            Corpus.of(path),
            "chars",
            folder.resolve("a/b/cache"),
            0.1,
            (phase, done, total) -> phases.add(phase))) {
      assertTrue(phases.isEmpty());
      assertArrayEquals(all, ids(again.train()));
      assertEquals(new Corpus.Summary(1, text.length(), 0), again.summary());
    }
    file("text.txt", text.replace("question", "Question"));
    try (Dataset changed = prepare(Corpus.of(path), "chars", 0.1)) {
      assertTrue(changed.tokenizer().decode(ids(changed.train())).contains("Question"));
    }
  }

  @Test
  void aDamagedCacheIsMadeAgain() throws IOException {
    Path path = file("text.txt", "some text to be read again and again ".repeat(20));
    prepare(Corpus.of(path), "bytes", 0).close();
    try (var files = Files.list(folder.resolve("cache"))) {
      for (Path cached : files.toList()) {
        byte[] bytes = Files.readAllBytes(cached);
        Files.write(cached, java.util.Arrays.copyOf(bytes, bytes.length - 3));
      }
    }
    try (Dataset data = prepare(Corpus.of(path), "bytes", 0)) {
      assertEquals(Files.size(path), data.train().length());
      assertEquals(0, data.validation().length());
    }
  }

  @Test
  void documentsEndWithTheEndOfText() throws IOException {
    file("d/a.txt", "one");
    file("d/b.txt", "two");
    try (Dataset data = prepare(Corpus.of(folder.resolve("d")), "gpt2", 0)) {
      assertArrayEquals(new int[] {505, 50256, 11545, 50256}, ids(data.train()));
    }
    try (Dataset data = prepare(Corpus.of(folder.resolve("d")), "bpe:300", 0)) {
      assertEquals("one<|endoftext|>two<|endoftext|>", data.tokenizer().decode(ids(data.train())));
    }
    try (Dataset data = prepare(Corpus.of(folder.resolve("d")), "bytes", 0)) {
      assertEquals("onetwo", data.tokenizer().decode(ids(data.train())));
    }
  }

  @Test
  void encodingInParallelKeepsTheOrder() throws IOException {
    StringBuilder text = new StringBuilder();
    for (int i = 0; text.length() < 12_000_000; i++) {
      text.append(" w").append(i % 50_021).append(i % 11 == 0 ? "\n\n" : "");
    }
    Path path = file("text.txt", text.toString());
    try (Dataset data = prepare(Corpus.of(path), "bpe:512", 0.1)) {
      assertEquals(512, data.tokenizer().vocabSize());
      int[] whole = data.tokenizer().encode(text.toString());
      assertEquals(whole.length + 1, data.train().length() + data.validation().length());
      for (int i = 0; i < data.train().length(); i++) {
        assertEquals(whole[i], data.train().get(i));
      }
    }
  }

  @Test
  void aVocabularyIsLearntFromTheTrainingPartOnly() throws IOException {
    String train = "abababab ".repeat(1000);
    Path path = file("text.txt", train + "xyxyxyxy ".repeat(1000));
    try (Dataset data = prepare(Corpus.of(path), "bpe:400", 0.5)) {
      String vocabulary = "";
      for (int id = 256; id < data.tokenizer().vocabSize(); id++) {
        vocabulary += data.tokenizer().decode(id);
      }
      assertTrue(vocabulary.contains("abab") && !vocabulary.contains("xy"));
    }
  }

  @Test
  void aGivenTokenizerIsUsed() throws IOException {
    Path path = file("text.txt", "abcabc");
    try (Dataset data =
        Dataset.prepare(
            Corpus.of(path),
            new CharTokenizer("abcdef"),
            folder.resolve("cache"),
            0,
            Dataset.Progress.NONE)) {
      assertArrayEquals(new int[] {0, 1, 2, 0, 1, 2}, ids(data.train()));
    }
    Corpus corpus = Corpus.of(path);
    assertTrue(
        message(
                () ->
                    Dataset.prepare(
                        corpus,
                        new CharTokenizer("ab"),
                        folder.resolve("cache"),
                        0,
                        Dataset.Progress.NONE))
            .contains("'c' (U+0063) at position 2"));
  }

  @Test
  void tokenFilesAreOpenedAsTheyAre() throws IOException {
    Path dir = Files.createDirectory(folder.resolve("tokens"));
    TokenFile.write(
        dir.resolve("x_train.bin"), TokenFile.Layout.NANOGPT, sink -> repeat(sink, 97, 100));
    Tokenizer bytes = new ByteTokenizer();
    assertEquals(List.of(dir.resolve("x_train.bin")), Dataset.tokenFiles(dir));
    try (Dataset data = Dataset.open(dir, bytes, 0.2)) {
      assertEquals(80, data.train().length());
      assertEquals(20, data.validation().length());
    }
    TokenFile.write(dir.resolve("x_val.bin"), TokenFile.Layout.LLMC, sink -> repeat(sink, 98, 7));
    try (Dataset data = Dataset.open(dir, bytes, 0.2)) {
      assertEquals(100, data.train().length());
      assertEquals(7, data.validation().length());
      assertEquals(98, data.validation().get(6));
    }
    TokenFile.write(dir.resolve("x_val.bin"), TokenFile.Layout.LLMC, sink -> repeat(sink, 256, 7));
    assertTrue(message(() -> Dataset.open(dir, bytes, 0.2)).startsWith("Token 256 at position 0"));
    assertTrue(message(() -> Dataset.open(folder, bytes, 0)).contains("no token file"));
    assertEquals(List.of(), Dataset.tokenFiles(folder.resolve("none")));
    TokenFile.write(dir.resolve("y_train.bin"), TokenFile.Layout.LLMC, sink -> repeat(sink, 1, 7));
    assertTrue(message(() -> Dataset.tokenFiles(dir)).contains("several token files"));
  }

  private static void repeat(TokenSink sink, int id, int times) {
    for (int i = 0; i < times; i++) {
      sink.accept(id);
    }
  }

  @Test
  void wrongOptionsAreNamed() throws IOException {
    Corpus corpus = Corpus.of(file("text.txt", "text"));
    assertEquals(
        "There is no tokenizer words; choose bytes, chars, gpt2, or bpe:1024.",
        message(() -> prepare(corpus, "words", 0)));
    assertTrue(message(() -> prepare(corpus, "bpe:many", 0)).contains("as bpe:1024"));
    assertTrue(message(() -> prepare(corpus, "bpe:10", 0)).contains("choose 257"));
    assertTrue(message(() -> prepare(corpus, "bytes", 1)).contains("not 1.0"));
    assertTrue(message(() -> prepare(corpus, "bytes", Double.NaN)).contains("not NaN"));
  }

  @Test
  void touchingAFileDoesNotUndoTheCache() throws IOException {
    Path path = file("text.txt", "same text");
    String before = Corpus.of(path).fingerprint();
    Files.setLastModifiedTime(path, FileTime.fromMillis(1));
    assertEquals(before, Corpus.of(path).fingerprint());
  }
}
