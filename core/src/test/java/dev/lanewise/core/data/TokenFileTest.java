package dev.lanewise.core.data;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.core.base.InputException;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Locale;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

class TokenFileTest {
  @TempDir Path folder;

  private static String message(Runnable call) {
    return assertThrows(InputException.class, call::run).getMessage();
  }

  private static TokenFile.Content content(int... ids) {
    return sink -> {
      for (int id : ids) {
        sink.accept(id);
      }
    };
  }

  private Path header(int magic, int version, int count, int bytes) throws IOException {
    ByteBuffer buffer = ByteBuffer.allocate(bytes).order(ByteOrder.LITTLE_ENDIAN);
    buffer.putInt(0, magic).putInt(4, version).putInt(8, count);
    return Files.write(folder.resolve("made.bin"), buffer.array());
  }

  @ParameterizedTest
  @EnumSource
  void everyLayoutRoundTrips(TokenFile.Layout layout) throws IOException {
    Random random = new Random(1);
    int[] ids =
        random.ints(200_001, 0, layout == TokenFile.Layout.LLMC_LLAMA ? 128_000 : 65536).toArray();
    ids[0] = 65535;
    Path path = folder.resolve("tokens.bin");
    assertEquals(ids.length, TokenFile.write(path, layout, content(ids)));
    int header = layout == TokenFile.Layout.NANOGPT ? 0 : 1024;
    int bytes = layout == TokenFile.Layout.LLMC_LLAMA ? 4 : 2;
    assertEquals(header + (long) bytes * ids.length, Files.size(path));
    try (TokenFile file = TokenFile.open(path, 128_000);
        Arena arena = Arena.ofConfined()) {
      assertEquals(layout, file.layout());
      assertEquals(ids.length, file.length());
      MemorySegment out = arena.allocate(ValueLayout.JAVA_INT, ids.length + 3L);
      file.copy(0, ids.length, out, 3);
      for (int i = 0; i < ids.length; i++) {
        assertEquals(ids[i], file.get(i));
        assertEquals(ids[i], out.getAtIndex(ValueLayout.JAVA_INT, 3 + i));
      }
      TokenSequence part = file.slice(10, 20).slice(2, 7);
      assertEquals(5, part.length());
      assertEquals(ids[12], part.get(0));
      assertThrows(IndexOutOfBoundsException.class, () -> part.get(5));
      assertThrows(IndexOutOfBoundsException.class, () -> part.copy(3, 3, out, 0));
      assertThrows(IndexOutOfBoundsException.class, () -> part.slice(3, 6));
      assertThrows(IndexOutOfBoundsException.class, () -> file.get(ids.length));
      assertThrows(IndexOutOfBoundsException.class, () -> file.get(-1));
      assertThrows(IndexOutOfBoundsException.class, () -> file.copy(0, 9, out, ids.length));
    }
  }

  @Test
  void bytesAreLaidOutAsOthersReadThem() throws IOException {
    Path path = folder.resolve("tokens.bin");
    TokenFile.write(path, TokenFile.Layout.NANOGPT, content(1, 0x1234));
    assertArrayEquals(new byte[] {1, 0, 0x34, 0x12}, Files.readAllBytes(path));
    TokenFile.write(path, TokenFile.Layout.LLMC, content(1, 0x1234));
    ByteBuffer buffer = ByteBuffer.wrap(Files.readAllBytes(path)).order(ByteOrder.LITTLE_ENDIAN);
    assertEquals(1028, buffer.capacity());
    assertEquals(20240520, buffer.getInt(0));
    assertEquals(1, buffer.getInt(4));
    assertEquals(2, buffer.getInt(8));
    assertEquals(0, buffer.getInt(12));
    assertEquals(0x1234, buffer.getShort(1026));
  }

  @Test
  void aTokenOutsideTheVocabularyIsNamed() {
    Path path = folder.resolve("tokens.bin");
    // Positions at the start, inside and after the blocks that the check reads at once.
    for (int position : new int[] {0, 1, 31, 32, 4095, 70_000, 70_001}) {
      int[] ids = new Random(2).ints(70_002, 0, 50257).toArray();
      ids[position] = 50257;
      TokenFile.write(path, TokenFile.Layout.NANOGPT, content(ids));
      assertEquals(
          String.format(
              Locale.ROOT,
              "Token 50257 at position %d of %s is not in the vocabulary of 50257; the file was"
                  + " made with another tokenizer or is damaged.",
              position,
              path),
          message(() -> TokenFile.open(path, 50257)));
      TokenFile.open(path, 50258).close();
      TokenFile.write(path, TokenFile.Layout.LLMC_LLAMA, content(ids));
      assertTrue(
          message(() -> TokenFile.open(path, 50257))
              .startsWith("Token 50257 at position " + position));
    }
  }

  @Test
  void damagedFilesAreNamed() throws IOException {
    Path none = folder.resolve("none.bin");
    assertEquals("There is no token file " + none + ".", message(() -> TokenFile.open(none)));
    Path made = Files.write(folder.resolve("made.bin"), new byte[0]);
    assertEquals("The token file " + made + " is empty.", message(() -> TokenFile.open(made)));
    Files.write(made, new byte[7]);
    assertEquals(
        "The token file "
            + made
            + " has an odd number of bytes, 7, so it cannot hold 16-bit tokens.",
        message(() -> TokenFile.open(made)));
    header(20240520, 2, 1, 1026);
    assertEquals(
        "The token file "
            + made
            + " has version 2 of llm.c's layout 20240520; only version 1 is known.",
        message(() -> TokenFile.open(made)));
    header(20240520, 1, 3, 1028);
    assertEquals(
        "The token file "
            + made
            + " is damaged: its header announces 3 tokens, which take 1030 bytes, but it has 1028.",
        message(() -> TokenFile.open(made)));
    header(20240520, 1, 3, 600);
    assertTrue(message(() -> TokenFile.open(made)).contains("ends inside its header: 600 of 1024"));
    header(20240520, 1, 0, 1024);
    assertEquals(
        "The token file " + made + " holds no tokens.", message(() -> TokenFile.open(made)));
    header(20240801, 1, 0, 1028);
    assertTrue(message(() -> TokenFile.open(made)).contains("only version 7"));
    assertTrue(message(() -> TokenFile.open(folder)).contains("is a folder"));
    Path missing = folder.resolve("no/such/x.bin");
    assertTrue(
        message(() -> TokenFile.write(missing, TokenFile.Layout.LLMC, content(1)))
            .startsWith("Cannot write " + missing));
  }

  @Test
  void aFailedWriteLeavesTheOldFile() throws IOException {
    Path path = folder.resolve("tokens.bin");
    TokenFile.write(path, TokenFile.Layout.LLMC, content(1, 2, 3));
    assertEquals(
        "Token 65536 at position 1 does not fit the 16-bit tokens of " + path + ".",
        message(() -> TokenFile.write(path, TokenFile.Layout.LLMC, content(9, 65536))));
    try (TokenFile file = TokenFile.open(path)) {
      assertEquals(3, file.length());
    }
    try (var files = Files.list(folder)) {
      assertEquals(1, files.count());
    }
  }

  @ParameterizedTest
  @EnumSource
  void readingAnywhereGivesTheSame(TokenFile.Layout layout) {
    int[] ids = new Random(3).ints(150_000, 0, 65536).toArray();
    Path path = folder.resolve("tokens.bin");
    TokenFile.write(path, layout, content(ids));
    Random random = new Random(4);
    try (TokenFile file = TokenFile.open(path);
        Arena arena = Arena.ofConfined()) {
      MemorySegment out = arena.allocate(ValueLayout.JAVA_INT, ids.length);
      for (int i = 0; i < 300; i++) {
        int count = random.nextInt(i % 3 == 0 ? 100_000 : 40);
        int from = random.nextInt(ids.length - count);
        file.copy(from, count, out, 7);
        for (int k = 0; k < count; k++) {
          assertEquals(ids[from + k], out.getAtIndex(ValueLayout.JAVA_INT, 7 + k));
        }
        // The same, one later, as targets are read.
        file.copy(from + 1, count, out, 0);
        assertEquals(
            count == 0 ? out.get(ValueLayout.JAVA_INT, 0) : ids[from + count],
            out.getAtIndex(ValueLayout.JAVA_INT, Math.max(0, count - 1)));
        int at = random.nextInt(ids.length);
        assertEquals(ids[at], file.get(at));
      }
    }
  }

  @Test
  void aShortenedFileIsNamed() throws IOException {
    Path path = folder.resolve("tokens.bin");
    TokenFile.write(path, TokenFile.Layout.NANOGPT, content(new int[100_000]));
    try (TokenFile file = TokenFile.open(path)) {
      Files.write(path, new byte[100]);
      assertTrue(message(() -> file.get(99_000)).contains(path + " has been shortened"));
    }
  }

  @Test
  void aClosedFileThrows() {
    Path path = folder.resolve("tokens.bin");
    TokenFile.write(path, TokenFile.Layout.LLMC, content(1, 2, 3));
    TokenFile file = TokenFile.open(path);
    file.close();
    assertThrows(IllegalStateException.class, () -> file.get(0));
    assertFalse(Files.notExists(path));
  }

  @Test
  void moreTokensThan32BitsCountAreRead() throws IOException {
    Path path = folder.resolve("many.bin");
    TokenFile.write(path, TokenFile.Layout.LLMC, sink -> sink.accept(7));
    long count = (1L << 32) + 9;
    try (java.io.RandomAccessFile file = new java.io.RandomAccessFile(path.toFile(), "rw")) {
      file.seek(8);
      file.writeInt(Integer.reverseBytes((int) count));
      file.writeInt(Integer.reverseBytes(1));
      // Takes no room where the file system knows holes.
      file.setLength(1024 + 2 * count);
      file.seek(1024 + 2 * (count - 1));
      file.writeShort(Short.reverseBytes((short) 40_000));
    }
    try (TokenFile file = TokenFile.open(path)) {
      assertEquals(count, file.length());
      assertEquals(7, file.get(0));
      assertEquals(40_000, file.get(count - 1));
      assertEquals(40_000, file.slice(count - 3, count).get(2));
    }
  }
}
