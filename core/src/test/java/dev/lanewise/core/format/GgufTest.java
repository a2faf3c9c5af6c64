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
import java.util.LinkedHashMap;
import java.util.List;
import java.util.SequencedMap;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class GgufTest {
  @TempDir Path folder;

  @Test
  void aBigEndianFileIsNamed() throws IOException {
    for (int version = 2; version <= 3; version++) {
      ByteBuffer bytes = ByteBuffer.allocate(24).order(ByteOrder.BIG_ENDIAN);
      bytes.put("GGUF".getBytes(StandardCharsets.US_ASCII)).putInt(version).putLong(0).putLong(0);
      Path file = Files.write(folder.resolve("big.gguf"), bytes.array());
      String sentence =
          assertThrows(InputException.class, () -> Gguf.map(file, Arena.ofAuto())).getMessage();
      assertTrue(sentence.contains("big-endian"), sentence);
    }
  }

  /** Q4_K, as most files of models have, beside a plain tensor and a tokenizer's metadata. */
  @Test
  void anUnknownTypeRefusesItsTensorAlone() throws IOException {
    Path file = Files.write(folder.resolve("a.gguf"), withTypes(12, 0));
    Gguf read = Gguf.map(file, Arena.ofAuto());
    assertEquals("gpt2", read.metadata().get("general.architecture"));
    assertEquals(List.of("output_norm.weight"), List.copyOf(read.tensors().keySet()));
    assertArrayEquals(new float[] {1.5f}, read.tensors().get("output_norm.weight").toFloats());
    assertEquals(12, read.unread().get("token_embd.weight"));
    String sentence = assertThrows(InputException.class, read::gpt2).getMessage();
    assertTrue(sentence.contains("'token_embd.weight' has the type 12"), sentence);
  }

  @Test
  void unsignedNumbersAreReadAsSuch() {
    SequencedMap<String, Object> metadata = new LinkedHashMap<>();
    metadata.put("most", BigInteger.ONE.shiftLeft(64).subtract(BigInteger.ONE));
    metadata.put("large", 1L << 40);
    metadata.put("small", 7L);
    metadata.put("negative", -7L);
    Path file = folder.resolve("a.gguf");
    SequencedMap<String, StoredTensor> tensors = new LinkedHashMap<>();
    tensors.put("x", StoredTensor.float32(MemorySegment.ofArray(new float[] {1}), 1));
    Gguf.write(file, metadata, tensors);
    assertEquals(metadata, Gguf.map(file, Arena.ofAuto()).metadata());
    metadata.put("more", BigInteger.ONE.shiftLeft(64));
    assertThrows(IllegalArgumentException.class, () -> Gguf.write(file, metadata, tensors));
  }

  /** Two tensors of the types with these numbers; the first has the 32 bytes before the second. */
  private static byte[] withTypes(int first, int second) {
    ByteBuffer out = ByteBuffer.allocate(1024).order(ByteOrder.LITTLE_ENDIAN);
    out.put("GGUF".getBytes(StandardCharsets.US_ASCII)).putInt(3).putLong(2).putLong(1);
    text(out, "general.architecture").putInt(8);
    text(out, "gpt2");
    text(out, "token_embd.weight").putInt(2).putLong(256).putLong(1).putInt(first).putLong(0);
    text(out, "output_norm.weight").putInt(1).putLong(1).putInt(second).putLong(32);
    out.position(Math.ceilDiv(out.position(), 32) * 32 + 32);
    out.putFloat(1.5f);
    byte[] bytes = new byte[out.position()];
    out.flip().get(bytes);
    return bytes;
  }

  private static ByteBuffer text(ByteBuffer out, String text) {
    byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
    return out.putLong(bytes.length).put(bytes);
  }
}
