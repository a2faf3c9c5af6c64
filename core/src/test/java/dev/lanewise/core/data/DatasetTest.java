package dev.lanewise.core.data;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTimeoutPreemptively;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.core.base.InputException;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
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
    text.append("é".repeat(100_000)).append(" end of it");
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
    assertEquals(4, summary.documents());
    assertEquals(12, summary.bytes());
    assertEquals(3, summary.skipped());
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
            + ": 1 empty ("
            + folder.resolve("e/one.txt")
            + ").",
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
      assertEquals(new Corpus.Summary(1, text.length(), 0, List.of()), data.summary());
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
      assertEquals(new Corpus.Summary(1, text.length(), 0, List.of()), again.summary());
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
    assertEquals(List.of(dir.resolve("x_train.bin")), TokenFiles.of(dir).train());
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
    assertTrue(TokenFiles.of(folder.resolve("none")).isEmpty());
    TokenFile.write(dir.resolve("y_train.bin"), TokenFile.Layout.LLMC, sink -> repeat(sink, 1, 7));
    assertTrue(message(() -> TokenFiles.of(dir)).contains("several token files"));
  }

  /** What Python's pickle made of nanoGPT's dictionary for the text "hello wörld\n𝄞". */
  private static final List<String> META =
      List.of(
          "80027d710028580a000000766f6361625f73697a6571014b0b580400000069746f7371"
              + "027d7103284b0058010000000a71044b0158010000002071054b025801000000647106"
              + "4b0358010000006571074b0458010000006871084b0558010000006c71094b06580100"
              + "00006f710a4b07580100000072710b4b08580100000077710c4b095802000000c3b671"
              + "0d4b0a5804000000f09d849e710e75580400000073746f69710f7d71102868044b0068"
              + "054b0168064b0268074b0368084b0468094b05680a4b06680b4b07680c4b08680d4b09"
              + "680e4b0a75752e",
          "8004959c000000000000007d94288c0a766f6361625f73697a65944b0b8c0469746f73"
              + "947d94284b008c010a944b018c0120944b028c0164944b038c0165944b048c0168944b"
              + "058c016c944b068c016f944b078c0172944b088c0177944b098c02c3b6944b0a8c04f0"
              + "9d849e94758c0473746f69947d942868044b0068054b0168064b0268074b0368084b04"
              + "68094b05680a4b06680b4b07680c4b08680d4b09680e4b0a75752e");

  @Test
  void theCharactersOfNanoGptAreTakenFromItsMeta() throws IOException {
    for (String pickle : META) {
      Path dir = folder.resolve("nano" + pickle.length());
      Files.createDirectories(dir);
      TokenFile.write(
          dir.resolve("train.bin"), TokenFile.Layout.NANOGPT, sink -> repeat(sink, 3, 100));
      TokenFile.write(
          dir.resolve("val.bin"), TokenFile.Layout.NANOGPT, sink -> repeat(sink, 4, 10));
      assertEquals(null, Dataset.tokenizerBeside(dir));
      byte[] meta = HexFormat.of().parseHex(pickle);
      Files.write(dir.resolve("meta.pkl"), meta);
      Tokenizer tokenizer = Dataset.tokenizerBeside(dir);
      assertEquals("hello wörld\n𝄞", tokenizer.decode(tokenizer.encode("hello wörld\n𝄞")));
      assertEquals(11, tokenizer.vocabSize());
      assertEquals(2, tokenizer.encode("d")[0]);
      try (Dataset data = Dataset.open(dir, tokenizer, 0.1)) {
        assertEquals(10, data.validation().length());
      }
      for (int cut = 0; cut < meta.length; cut += 7) {
        Files.write(dir.resolve("meta.pkl"), Arrays.copyOf(meta, cut));
        assertTrue(message(() -> Dataset.tokenizerBeside(dir)).contains("meta.pkl"));
      }
      // A pickle that would call a function.
      Files.write(
          dir.resolve("meta.pkl"),
          HexFormat.of()
              .parseHex("80049516000000000000008c086275696c74696e73948c057072696e749493942e"));
      assertTrue(message(() -> Dataset.tokenizerBeside(dir)).contains("instruction 0x93"));
    }
  }

  @Test
  void shardsOfLlmcAreOneSequence() throws IOException {
    Path dir = Files.createDirectory(folder.resolve("shards"));
    for (int i = 1; i <= 3; i++) {
      int id = i;
      TokenFile.write(
          dir.resolve("text_train_00000" + i + ".bin"),
          i == 2 ? TokenFile.Layout.LLMC_LLAMA : TokenFile.Layout.LLMC,
          sink -> repeat(sink, 10 * id, 5 * id));
    }
    try (Dataset data = Dataset.open(dir, new ByteTokenizer(), 0.2)) {
      assertEquals(24, data.train().length());
      assertEquals(6, data.validation().length());
    }
    TokenFile.write(
        dir.resolve("text_val_000000.bin"), TokenFile.Layout.LLMC, sink -> repeat(sink, 7, 4));
    try (Dataset data = Dataset.open(dir, new ByteTokenizer(), 0.2);
        Arena arena = Arena.ofConfined()) {
      assertEquals(30, data.train().length());
      assertEquals(4, data.validation().length());
      assertEquals(20, data.train().get(14));
      MemorySegment copied = arena.allocate(30 * 4L);
      data.train().copy(0, 30, copied, 0);
      for (int i = 0; i < 30; i++) {
        assertEquals(i < 5 ? 10 : i < 15 ? 20 : 30, copied.getAtIndex(ValueLayout.JAVA_INT, i));
      }
      assertThrows(IndexOutOfBoundsException.class, () -> data.train().copy(29, 2, copied, 0));
    }
    TokenFile.write(
        dir.resolve("other_train_000001.bin"), TokenFile.Layout.LLMC, sink -> repeat(sink, 7, 4));
    assertTrue(message(() -> TokenFiles.of(dir)).contains("several data sets"));
  }

  @Test
  void aByteOrderMarkAtTheStartHurtsNoTokenizer() throws IOException {
    Path marked = file("m/a.txt", "\ufeffabcabc abc");
    file("m/b.txt", "\ufeffcab");
    for (String tokenizer : List.of("chars", "bytes", "bpe:257", "gpt2")) {
      for (Path path : List.of(marked, folder.resolve("m"))) {
        try (Dataset data = prepare(Corpus.of(path), tokenizer, 0)) {
          assertTrue(
              data.tokenizer().decode(ids(data.train())).startsWith("abcabc abc"), tokenizer);
        }
      }
    }
  }

  @Test
  void whatIsLeftOutIsSaid() throws IOException {
    file("o/good.txt", "good");
    file("o/empty.txt", "");
    file("o/zero.bin.txt", new byte[] {'x', 0, 'y'});
    byte[] late = new byte[(1 << 22) + 100];
    Arrays.fill(late, (byte) 'x');
    late[late.length - 1] = (byte) 0xE9;
    file("o/late.txt", late);
    Files.createSymbolicLink(folder.resolve("o/nowhere.txt"), folder.resolve("missing"));
    Corpus corpus = Corpus.of(folder.resolve("o"));
    assertEquals("good|", text(corpus));
    String said = corpus.read((utf8, from, to, ends) -> {}).leftOut();
    for (String part :
        List.of(
            "4 of 5 files left out", "1 empty", "1 binary", "1 not UTF-8", "links to nothing")) {
      assertTrue(said.contains(part), said);
    }
    try (Dataset made = prepare(corpus, "bytes", 0);
        Dataset cached = prepare(corpus, "bytes", 0)) {
      assertEquals(said, made.summary().leftOut());
      assertEquals(said, cached.summary().leftOut());
      assertEquals(said, cached.notes(8).getFirst());
      assertTrue(cached.notes(8).getLast().startsWith("nothing is validated"));
    }
    assertEquals("", Corpus.of(folder.resolve("o/good.txt")).read((u, f, t, e) -> {}).leftOut());
  }

  @Test
  void linksAreFollowedOnceAndLoopsNoticed() throws IOException {
    file("hub/blobs/0123", "alpha");
    file("hub/blobs/4567", "beta");
    Path snapshot = Files.createDirectories(folder.resolve("hub/snapshots/main"));
    Files.createSymbolicLink(snapshot.resolve("a.txt"), Path.of("../../blobs/0123"));
    Files.createSymbolicLink(snapshot.resolve("b.md"), Path.of("../../blobs/4567"));
    assertEquals("alpha|beta|", text(Corpus.of(snapshot)));
    Corpus whole = Corpus.of(folder.resolve("hub"));
    assertEquals("alpha|beta|", text(whole));
    assertEquals("alpha|", text(whole.include("*.txt")));
    Path links = Files.createDirectory(folder.resolve("links"));
    Files.createSymbolicLink(links.resolve("hub"), folder.resolve("hub"));
    Files.createSymbolicLink(links.resolve("again"), links);
    Corpus linked = Corpus.of(links);
    assertEquals("alpha|beta|", text(linked));
    assertTrue(
        linked.read((utf8, from, to, ends) -> {}).leftOut().contains("links into themselves"));
    Path only = Files.createDirectory(folder.resolve("only"));
    Files.createSymbolicLink(only.resolve("self"), only);
    assertTrue(message(() -> Corpus.of(only)).contains("links into themselves"));
  }

  @Test
  void severalPatternsIncludeAndExclude() throws IOException {
    file("p/a.txt", "a");
    file("p/b.md", "b");
    file("p/sub/c.txt", "c");
    file("p/d.java", "d");
    Corpus corpus = Corpus.of(folder.resolve("p"));
    assertEquals("a|b|c|", text(corpus.include("*.txt", "*.md")));
    assertEquals("a|b|", text(corpus.include("*.txt", "*.md").exclude("sub/**")));
    assertEquals("b|", text(corpus.exclude("*.txt", "*.java")));
    assertTrue(message(() -> corpus.exclude("*")).contains("Every file"));
  }

  @Test
  void aBombInAnArchiveIsLeftOut() throws IOException {
    Path zip = folder.resolve("bomb.zip");
    try (ZipOutputStream out = new ZipOutputStream(Files.newOutputStream(zip))) {
      out.putNextEntry(new ZipEntry("zeros.txt"));
      byte[] spaces = new byte[1 << 20];
      Arrays.fill(spaces, (byte) ' ');
      for (int i = 0; i < 70; i++) {
        out.write(spaces);
      }
      out.putNextEntry(new ZipEntry("../../etc/text.txt"));
      out.write("text".getBytes(StandardCharsets.UTF_8));
      out.closeEntry();
    }
    Corpus corpus = Corpus.of(zip);
    assertEquals("text|", text(corpus));
    assertTrue(corpus.read((u, f, t, e) -> {}).leftOut().contains("500-fold (" + zip + "!zeros"));
  }

  @Test
  void unbrokenTextIsCutAndLearntInTime() throws IOException {
    for (String character : List.of(" ", "ab", "字")) {
      String text = character.repeat(3_000_000 / character.length());
      Path path = file("unbroken.txt", text);
      assertTimeoutPreemptively(
          Duration.ofMinutes(2),
          () -> {
            try (Dataset data = prepare(Corpus.of(path), "bpe:300", 0)) {
              byte[] back = new byte[data.train().length() > 0 ? text.length() * 3 : 0];
              int size = 0;
              for (long i = 0; i + 1 < data.train().length(); i++) {
                byte[] token = data.tokenizer().bytes(data.train().get(i));
                assertTrue(token.length <= 256);
                System.arraycopy(token, 0, back, size, token.length);
                size += token.length;
              }
              assertArrayEquals(text.getBytes(StandardCharsets.UTF_8), Arrays.copyOf(back, size));
            }
          },
          "a vocabulary of " + character);
      int[] longest = new int[1];
      Corpus.of(path).read((utf8, from, to, ends) -> longest[0] = Math.max(longest[0], to - from));
      assertTrue(longest[0] <= 1 << 18, "longest piece " + longest[0]);
    }
  }

  @Test
  void aCacheThatCannotBeWrittenIsNamedWithItsMend() throws IOException {
    Path path = file("some.txt", "text");
    Path notAFolder = file("cache-file", "x");
    String said =
        message(
            () -> Dataset.prepare(Corpus.of(path), "bytes", notAFolder, 0, Dataset.Progress.NONE));
    assertTrue(said.contains("XDG_CACHE_HOME") && said.contains("cache-file"), said);
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
        "There is no tokenizer words; choose bytes, chars, gpt2, or bpe:1024, or name a"
            + " tokenizer.json, a folder with one, or a .gguf file.",
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
