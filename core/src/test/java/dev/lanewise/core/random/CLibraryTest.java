package dev.lanewise.core.random;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.zip.CRC32;
import org.junit.jupiter.api.Test;

/** All arguments that a uniform number of 24 bits can lead to, against glibc 2.36 by checksum. */
class CLibraryTest {
  private static final int ARGUMENTS = 1 << 24;

  @FunctionalInterface
  private interface Bits {
    int of(float uniform);
  }

  @Test
  void logarithmsAreTheCLibrarys() {
    assertEquals(0xf85b15b2L, checksum(u -> Float.floatToRawIntBits(CLibrary.log(1 - u))));
  }

  @Test
  void cosinesAreTheCLibrarys() {
    assertEquals(0xff779a1eL, checksum(u -> (int) CLibrary.sinCos(angle(u))));
  }

  @Test
  void sinesAreTheCLibrarys() {
    assertEquals(0xce1db6daL, checksum(u -> (int) (CLibrary.sinCos(angle(u)) >> 32)));
  }

  private static float angle(float uniform) {
    return (float) (2 * Math.PI * uniform);
  }

  private static long checksum(Bits function) {
    CRC32 crc = new CRC32();
    ByteBuffer chunk = ByteBuffer.allocate(1 << 16).order(ByteOrder.LITTLE_ENDIAN);
    for (int i = 0; i < ARGUMENTS; i++) {
      chunk.putInt(function.of(i * 0x1p-24f));
      if (!chunk.hasRemaining()) {
        crc.update(chunk.flip());
        chunk.clear();
      }
    }
    return crc.getValue();
  }
}
