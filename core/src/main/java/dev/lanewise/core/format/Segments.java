package dev.lanewise.core.format;

import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;

/** Writing memory segments of any size and kind to files. */
final class Segments {
  private static final int STAGE = 1 << 20;
  private static final long LARGEST_WRITE = 1L << 30;

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
    ByteBuffer stage = ByteBuffer.allocateDirect((int) Math.min(STAGE, data.byteSize()));
    MemorySegment target = MemorySegment.ofBuffer(stage);
    for (long at = 0; at < data.byteSize(); at += STAGE) {
      long part = Math.min(STAGE, data.byteSize() - at);
      MemorySegment.copy(data, at, target, 0, part);
      write(channel, stage.clear().limit((int) part));
    }
  }
}
