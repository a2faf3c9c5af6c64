package dev.lanewise.core.format;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.core.base.InputException;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
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
        "{'a':{'dtype':'F99','shape':[2],'data_offsets':[0,8]}} | 8 | unknown type",
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
