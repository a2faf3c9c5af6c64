package dev.lanewise.core.format;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;

/** Writing memory segments of any size and kind to files. */
final class Segments {
  private static final int STAGE = 1 << 20;
  private static final long LARGEST_WRITE = 1L << 30;
  private static final ValueLayout.OfShort SHORT =
      ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  private Segments() {}

  static void write(FileChannel channel, ByteBuffer bytes) throws IOException {
    while (bytes.hasRemaining()) {
      channel.write(bytes);
    }
  }

  static void write(FileChannel channel, MemorySegment data) throws IOException {
    if (data.isNative()) {
      for (long at = 0; at < data.byteSize(); at += LARGEST_WRITE) {
        long part = Math.min(LARGEST_WRITE, data.byteSize() - at);
        write(channel, data.asSlice(at, part).asByteBuffer());
      }
      return;
    }
    try (Arena arena = Arena.ofShared()) {
      MemorySegment stage = arena.allocate(STAGE);
      for (long at = 0; at < data.byteSize(); at += STAGE) {
        long part = Math.min(STAGE, data.byteSize() - at);
        MemorySegment.copy(data, at, stage, 0, part);
        write(channel, stage.asSlice(0, part).asByteBuffer());
      }
    }
  }

  /** Writes floating point elements as F32, F16, BF16 or Q8_0, rounded to nearest. */
  static void write(FileChannel channel, StoredTensor tensor, ElementType as) throws IOException {
    if (tensor.type() == as) {
      write(channel, tensor.data());
      return;
    }
    int step = STAGE / Float.BYTES;
    try (Arena arena = Arena.ofShared()) {
      MemorySegment stage = arena.allocate(STAGE);
      for (long at = 0; at < tensor.elements(); at += step) {
        int part = (int) Math.min(step, tensor.elements() - at);
        tensor.copyToFloat32(at, stage, part);
        narrow(stage, part, as);
        write(channel, stage.asSlice(0, as.bytes(part)).asByteBuffer());
      }
    }
  }

  /** Writes that many bytes of zeros. */
  static void writeZeros(FileChannel channel, long bytes) throws IOException {
    ByteBuffer zeros = ByteBuffer.allocate((int) Math.min(STAGE, bytes));
    for (long left = bytes; left > 0; left -= zeros.limit()) {
      write(channel, zeros.clear().limit((int) Math.min(zeros.capacity(), left)));
    }
  }

  /**
   * Narrows floats in place, ties to even in plain types: each element is read before its place is
   * overwritten.
   */
  static void narrow(MemorySegment floats, int count, ElementType as) {
    if (as == ElementType.Q8_0) {
      Quantised.toQ8(floats, count);
      return;
    }
    for (int i = 0; i < count && as != ElementType.F32; i++) {
      float value = floats.get(ValueLayout.JAVA_FLOAT_UNALIGNED, (long) i * Float.BYTES);
      short bits = as == ElementType.F16 ? Float.floatToFloat16(value) : toBfloat16(value);
      floats.set(SHORT, (long) i * Short.BYTES, bits);
    }
  }

  static short toBfloat16(float value) {
    int bits = Float.floatToRawIntBits(value);
    if (Float.isNaN(value)) {
      return (short) (bits >>> 16 | 0x40);
    }
    return (short) (bits + 0x7fff + (bits >>> 16 & 1) >>> 16);
  }
}
