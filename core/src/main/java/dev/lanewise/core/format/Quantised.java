package dev.lanewise.core.format;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;

/** Blocks of 32 quantised numbers, as ggml makes and reads them. */
final class Quantised {
  private static final int BLOCK = 32;
  private static final ValueLayout.OfShort SHORT =
      ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;

  private Quantised() {}

  /** Widens whole blocks to float32. */
  static void widen(
      ElementType type, MemorySegment data, long from, MemorySegment out, long count) {
    if (from % BLOCK != 0 || count % BLOCK != 0) {
      throw new IllegalArgumentException("Elements of " + type + " are copied by whole blocks.");
    }
    for (long block = 0; block < count / BLOCK; block++) {
      long at = (from / BLOCK + block) * type.blockBytes();
      long to = block * BLOCK * Float.BYTES;
      float scale = Float.float16ToFloat(data.get(SHORT, at));
      if (type == ElementType.Q8_0) {
        for (int i = 0; i < BLOCK; i++) {
          out.set(FLOAT, to + 4L * i, scale * data.get(ValueLayout.JAVA_BYTE, at + 2 + i));
        }
      } else {
        for (int i = 0; i < BLOCK / 2; i++) {
          int pair = data.get(ValueLayout.JAVA_BYTE, at + 2 + i);
          out.set(FLOAT, to + 4L * i, scale * ((pair & 15) - 8));
          out.set(FLOAT, to + 4L * (i + BLOCK / 2), scale * ((pair >> 4 & 15) - 8));
        }
      }
    }
  }

  /**
   * Makes blocks of Q8_0, in place: the largest number of a block becomes 127 or -127, the others
   * are rounded to nearest, halves away from zero.
   */
  static void toQ8(MemorySegment floats, int count) {
    float[] block = new float[BLOCK];
    for (int b = 0; b < count / BLOCK; b++) {
      MemorySegment.copy(floats, FLOAT, (long) b * BLOCK * Float.BYTES, block, 0, BLOCK);
      float largest = 0;
      for (float value : block) {
        largest = Math.max(largest, Math.abs(value));
      }
      float scale = largest / 127;
      float inverse = scale == 0 ? 0 : 1 / scale;
      long at = (long) b * ElementType.Q8_0.blockBytes();
      floats.set(SHORT, at, Float.floatToFloat16(scale));
      for (int i = 0; i < BLOCK; i++) {
        float scaled = block[i] * inverse;
        int rounded = Math.round(Math.abs(scaled));
        floats.set(ValueLayout.JAVA_BYTE, at + 2 + i, (byte) (scaled < 0 ? -rounded : rounded));
      }
    }
  }
}
