package dev.lanewise.core.format;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.core.base.InputException;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class SafeTensorsTest {
  @TempDir Path folder;

  @Test
  void whatIsWrittenIsReadBack() {
    Path file = folder.resolve("a.safetensors");
    Map<String, StoredTensor> tensors = new HashMap<>();
    for (ElementType type : ElementType.values()) {
      if (type.quantised()) {
        continue;
      }
      byte[] bytes = new byte[6 * type.bytes()];
      for (int i = 0; i < bytes.length; i++) {
        bytes[i] = (byte) (31 * i + type.bytes());
      }
      tensors.put(
          "t." + type, new StoredTensor(type, new long[] {2, 3}, MemorySegment.ofArray(bytes)));
    }
    tensors.put("scalar", StoredTensor.float32(MemorySegment.ofArray(new float[] {1.5f})));
    tensors.put("empty", StoredTensor.float32(MemorySegment.ofArray(new float[0]), 3, 0));
    tensors.put("a \"name\" \u00e9", StoredTensor.float32(MemorySegment.ofArray(new float[2]), 2));
    SafeTensors.write(file, tensors, Map.of("step", "7", "by", "Lanewise"));
    try (Arena arena = Arena.ofConfined()) {
      SafeTensors read = SafeTensors.map(file, arena);
      assertEquals(tensors, new HashMap<>(read.tensors()));
      assertEquals(Map.of("step", "7", "by", "Lanewise"), read.metadata());
      assertArrayEquals(new float[] {1.5f}, read.tensor("scalar").toFloats());
      for (StoredTensor tensor : read.tensors().values()) {
        assertEquals(0, tensor.data().address() % tensor.type().bytes(), "alignment");
      }
      assertThrows(InputException.class, () -> read.tensor("none"));
    }
    assertEquals(List.of(file), list());
  }

  @Test
  void anOldFileStaysWhenWritingFails() throws IOException {
    Path file = folder.resolve("a.safetensors");
    Files.writeString(file, "old");
    Arena arena = Arena.ofConfined();
    Map<String, StoredTensor> tensors = Map.of("x", StoredTensor.float32(arena.allocate(64), 16));
    arena.close();
    assertThrows(IllegalStateException.class, () -> SafeTensors.write(file, tensors, Map.of()));
    assertEquals("old", Files.readString(file));
    assertEquals(List.of(file), list());
    Path nowhere = folder.resolve("none").resolve("a.safetensors");
    String sentence =
        assertThrows(InputException.class, () -> SafeTensors.write(nowhere, Map.of(), Map.of()))
            .getMessage();
    assertTrue(sentence.contains("no such file"), sentence);
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '~',
      value = {
        "{'a':{'dtype':'F32','shape':[2],'data_offsets':[0,8]}} | 7 | outside the file",
        "{'a':{'dtype':'F32','shape':[2],'data_offsets':[0,8]}} | 9 | belong to none",
        "{'a':{'dtype':'F32','shape':[2],'data_offsets':[0,9]}} | 9 | needs 8 bytes",
        "{'a':{'dtype':'F32','shape':[2],'data_offsets':[8,0]}} | 8 | gap",
        "{'a':{'dtype':'F32','shape':[0],'data_offsets':[0,-8]}} | 8 | list of offsets",
        "{'a':{'dtype':'F99','shape':[2],'data_offsets':[0,9]}} | 8 | outside the file",
        "{'a':{'dtype':'F99','shape':[2],'data_offsets':[1,8]}} | 8 | gap",
        "{'a':{'dtype':'F99','shape':[-2],'data_offsets':[0,8]}} | 8 | list of sizes",
        "{'a\\ud800':{'dtype':'F32','shape':[2],'data_offsets':[0,8]}} | 8 | not valid JSON",
        "{'a':{'dtype':'F32','shape':[2],'data_offsets':[0,8]},'a':{'dtype':'F32','shape':[2],'data_offsets':[0,8]}}"
            + " | 8 | twice",
        "{'a':{'dtype':'F32','shape':[2],'data_offsets':[0,8]},'b':{'dtype':'F32','shape':[2],'data_offsets':[4,12]}}"
            + " | 12 | overlaps",
        "{'a':{'dtype':'F32','shape':[2],'data_offsets':[0,8]},'b':{'dtype':'F32','shape':[2],'data_offsets':[12,20]}}"
            + " | 20 | gap",
        "{'a':{'dtype':'F32','shape':[4611686018427387904,4],'data_offsets':[0,0]}} | 0 |"
            + " impossible shape",
        "{'a':{'dtype':'F32','shape':[9999999999999999999999],'data_offsets':[0,0]}} | 0 | JSON",
        "{'a':{'dtype':'F32','shape':[1.5],'data_offsets':[0,8]}} | 8 | list of sizes",
        "{'a':{'dtype':'F32','shape':2,'data_offsets':[0,8]}} | 8 | list of sizes",
        "{'a':{'dtype':'F32','shape':[2],'data_offsets':[0]}} | 8 | start and end",
        "{'a':{'dtype':'F32','data_offsets':[0,8]}} | 8 | no shape",
        "{'a':{'shape':[2],'data_offsets':[0,8]}} | 8 | no type",
        "{'a':7} | 0 | not described",
        "{'__metadata__':{'a':1}} | 0 | metadata",
        "[] | 0 | not a JSON object",
        "{'a' | 0 | JSON",
        "rubbish | 0 | JSON",
        "{}x | 0 | JSON",
        "{}{} | 0 | follows"
      })
  void unsoundFilesGiveOneSentence(String header, int data, String words) throws IOException {
    byte[] json = header.strip().replace('\'', '"').getBytes(StandardCharsets.UTF_8);
    ByteBuffer bytes = ByteBuffer.allocate(8 + json.length + data).order(ByteOrder.LITTLE_ENDIAN);
    bytes.putLong(json.length).put(json);
    assertUnsound(bytes.array(), words);
  }

  @Test
  void unsoundLengthsGiveOneSentence() throws IOException {
    assertUnsound(new byte[0], "fewer than");
    assertUnsound(new byte[7], "fewer than");
    assertUnsound(new byte[] {9, 0, 0, 0, 0, 0, 0, 0, '{', '}'}, "only 2 follow");
    assertUnsound(new byte[] {-1, -1, -1, -1, -1, -1, -1, -1}, "100 MB");
    assertUnsound(new byte[] {0, 0, 0, 0, 1, 0, 0, 0}, "100 MB");
  }

  @Test
  void aMissingFileIsNamed() {
    Path file = folder.resolve("missing");
    String sentence =
        assertThrows(InputException.class, () -> SafeTensors.map(file, Arena.ofAuto()))
            .getMessage();
    assertTrue(sentence.contains("missing") && sentence.contains("no such file"), sentence);
  }

  @Test
  void halfPrecisionBecomesFloat() {
    short[] half = {0x3c00, (short) 0xc000, 0x7c00, 1};
    StoredTensor f16 =
        new StoredTensor(ElementType.F16, new long[] {4}, MemorySegment.ofArray(half));
    assertArrayEquals(new float[] {1, -2, Float.POSITIVE_INFINITY, 0x1p-24f}, f16.toFloats());
    short[] brain = {0x3f80, (short) 0xc000, 0x7f80, 1};
    StoredTensor bf16 =
        new StoredTensor(ElementType.BF16, new long[] {4}, MemorySegment.ofArray(brain));
    assertArrayEquals(
        new float[] {1, -2, Float.POSITIVE_INFINITY, Float.intBitsToFloat(1 << 16)},
        bf16.toFloats());
  }

  @Test
  void anUnknownTypeRefusesItsTensorAlone() throws IOException {
    String header =
        "{'a':{'dtype':'F32','shape':[1],'data_offsets':[0,4]},"
            + "'b':{'dtype':'F4','shape':[4],'data_offsets':[4,6]},"
            + "'c':{'dtype':'U16','shape':[2],'data_offsets':[6,10]}}";
    ByteBuffer data = ByteBuffer.allocate(10).order(ByteOrder.LITTLE_ENDIAN);
    data.putFloat(2.5f).putShort((short) 7).putShort((short) 65535).putShort((short) 3);
    SafeTensors file = SafeTensors.map(write(json(header), data.array()), Arena.ofAuto());
    assertEquals(List.of("a", "c"), List.copyOf(file.tensors().keySet()));
    assertArrayEquals(new float[] {2.5f}, file.tensor("a").toFloats());
    assertArrayEquals(new long[] {65535, 3}, file.tensor("c").toLongs());
    assertEquals(Map.of("b", "F4"), file.unread());
    String sentence = assertThrows(InputException.class, () -> file.tensor("b")).getMessage();
    assertTrue(sentence.contains("'b' has the unknown type 'F4'"), sentence);
    assertThrows(InputException.class, file::allTensors);
  }

  @Test
  void metadataMayBeNull() throws IOException {
    byte[] header =
        json("{'__metadata__':null,'a':{'dtype':'U8','shape':[1],'data_offsets':[0,1]}}");
    SafeTensors file = SafeTensors.map(write(header, new byte[] {9}), Arena.ofAuto());
    assertEquals(Map.of(), file.metadata());
    assertArrayEquals(new long[] {9}, file.tensor("a").toLongs());
  }

  @Test
  void namesMayBeLong() {
    Path file = folder.resolve("long.safetensors");
    String name = "layer.".repeat(50_000);
    StoredTensor tensor = StoredTensor.float32(MemorySegment.ofArray(new float[] {3}), 1);
    SafeTensors.write(file, Map.of(name, tensor), Map.of(name + "key", name));
    SafeTensors read = SafeTensors.map(file, Arena.ofAuto());
    assertArrayEquals(new float[] {3}, read.tensor(name).toFloats());
    assertEquals(Map.of(name + "key", name), read.metadata());
  }

  @Test
  void headersOfAnotherEncodingAreNamed() throws IOException {
    String header = "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}";
    byte[] marked = ("\ufeff" + header).getBytes(StandardCharsets.UTF_8);
    assertUnsound(file(marked, new byte[1]), "byte order mark");
    for (var charset :
        List.of(
            StandardCharsets.UTF_16LE,
            StandardCharsets.UTF_16BE,
            StandardCharsets.UTF_16,
            StandardCharsets.UTF_32LE,
            StandardCharsets.UTF_32BE)) {
      assertUnsound(file(header.getBytes(charset), new byte[1]), "UTF-16 or UTF-32");
      byte[] withMark = ("\ufeff" + header).getBytes(charset);
      assertUnsound(file(withMark, new byte[1]), "UTF-16 or UTF-32");
    }
    byte[] latin = header.replace('a', '\u00e9').getBytes(StandardCharsets.ISO_8859_1);
    assertUnsound(file(latin, new byte[1]), "not valid JSON");
  }

  @Test
  void halfOfASurrogatePairIsNotWritten() throws IOException {
    Path file = folder.resolve("a.safetensors");
    StoredTensor tensor = StoredTensor.float32(MemorySegment.ofArray(new float[1]), 1);
    for (String half : List.of("x\ud83d", "\ude00y", "\ude00\ud83d", "\ud83dz")) {
      for (Runnable write :
          List.<Runnable>of(
              () -> SafeTensors.write(file, Map.of(half, tensor), Map.of()),
              () -> SafeTensors.write(file, Map.of("x", tensor), Map.of(half, "v")),
              () -> SafeTensors.write(file, Map.of("x", tensor), Map.of("k", half)),
              () ->
                  Gguf.write(file, new TreeMap<>(Map.of("general.name", half)), new TreeMap<>()))) {
        String sentence = assertThrows(IllegalArgumentException.class, write::run).getMessage();
        assertTrue(sentence.contains("surrogate"), sentence);
      }
    }
    assertEquals(List.of(), list());
    SafeTensors.write(file, Map.of("\ud83d\ude00", tensor), Map.of());
    assertTrue(SafeTensors.map(file, Arena.ofAuto()).tensors().containsKey("\ud83d\ude00"));
  }

  @Test
  void unsignedNumbersAreReadAsSuch() {
    long[] bits = {0, 1, Long.MAX_VALUE, Long.MIN_VALUE, Long.MIN_VALUE + 1025, -1, -1024, -1025};
    StoredTensor all =
        new StoredTensor(ElementType.U64, new long[] {8}, MemorySegment.ofArray(bits));
    double[] doubles = all.toDoubles();
    for (int i = 0; i < bits.length; i++) {
      double exact = new BigInteger(Long.toUnsignedString(bits[i])).doubleValue();
      assertEquals(exact, doubles[i], Long.toUnsignedString(bits[i]));
    }
    String sentence = assertThrows(IllegalArgumentException.class, all::toLongs).getMessage();
    assertTrue(sentence.contains("9223372036854775808"), sentence);
    long[] small = {0, Long.MAX_VALUE};
    assertArrayEquals(
        small,
        new StoredTensor(ElementType.U64, new long[] {2}, MemorySegment.ofArray(small)).toLongs());
  }

  private static byte[] json(String text) {
    return text.replace('\'', '"').getBytes(StandardCharsets.UTF_8);
  }

  private static byte[] file(byte[] header, byte[] data) {
    ByteBuffer bytes = ByteBuffer.allocate(8 + header.length + data.length);
    bytes.order(ByteOrder.LITTLE_ENDIAN).putLong(header.length).put(header).put(data);
    return bytes.array();
  }

  private Path write(byte[] header, byte[] data) throws IOException {
    return Files.write(folder.resolve("made.safetensors"), file(header, data));
  }

  private void assertUnsound(byte[] bytes, String words) throws IOException {
    Path file = folder.resolve("bad.safetensors");
    Files.write(file, bytes);
    String sentence =
        assertThrows(InputException.class, () -> SafeTensors.map(file, Arena.ofAuto()))
            .getMessage();
    assertTrue(sentence.contains(words.strip()), sentence);
    assertTrue(sentence.startsWith(file.toString()) && sentence.endsWith("."), sentence);
  }

  private List<Path> list() {
    try (var files = Files.list(folder)) {
      return files.toList();
    } catch (IOException e) {
      throw new java.io.UncheckedIOException(e);
    }
  }
}
