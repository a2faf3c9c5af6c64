package dev.lanewise.simd;

import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;

/**
 * Native stand-ins for segments on the Java heap, so that kernels see native memory only: a kernel
 * that meets both kinds loses most of its speed for good. Used at the public doors, after the
 * checks:
 *
 * {@snippet :
 * try (var staging = new Staging()) {
 *   MemorySegment nx = staging.input(x, xOffset, n);
 *   MemorySegment ny = staging.output(y, yOffset, n);
 *   run(nx, 0, ny, 0, n);
 *   staging.finish();
 * }
 * }
 *
 * Offsets and lengths are in bytes. An element at {@code offset} of the segment lies at 0 of its
 * stand-in.
 */
final class Staging implements AutoCloseable {
  private record Output(
      MemorySegment to, long offset, MemorySegment from, long rows, long rowBytes, long stride) {}

  private final List<Scratch> taken = new ArrayList<>();
  private final List<Output> outputs = new ArrayList<>();

  /** Whether any of the segments lies on the Java heap; null counts as native. */
  static boolean needed(MemorySegment a) {
    return a != null && !a.isNative();
  }

  /** Whether any of the segments lies on the Java heap; null counts as native. */
  static boolean needed(MemorySegment a, MemorySegment b) {
    return needed(a) || needed(b);
  }

  /** Whether any of the segments lies on the Java heap; null counts as native. */
  static boolean needed(MemorySegment a, MemorySegment b, MemorySegment c) {
    return needed(a) || needed(b) || needed(c);
  }

  /** Whether any of the segments lies on the Java heap; null counts as native. */
  static boolean needed(MemorySegment... segments) {
    for (MemorySegment segment : segments) {
      if (needed(segment)) {
        return true;
      }
    }
    return false;
  }

  /** A native copy of {@code bytes} bytes for reading; null stays null. */
  MemorySegment input(MemorySegment segment, long offset, long bytes) {
    if (segment == null) {
      return null;
    }
    Scratch scratch = Scratch.take(Math.max(1, bytes));
    taken.add(scratch);
    MemorySegment.copy(segment, offset, scratch.segment, 0, bytes);
    return scratch.segment;
  }

  /** A native copy that {@link #finish} copies back as a whole; null stays null. */
  MemorySegment output(MemorySegment segment, long offset, long bytes) {
    return output(segment, offset, 1, bytes, bytes);
  }

  /**
   * A native copy of which {@link #finish} copies back {@code rows} rows of {@code rowBytes} bytes,
   * {@code stride} bytes apart; the gaps between rows stay untouched. Null stays null.
   */
  MemorySegment output(MemorySegment segment, long offset, long rows, long rowBytes, long stride) {
    if (segment == null) {
      return null;
    }
    long bytes = rows == 0 || rowBytes == 0 ? 0 : (rows - 1) * stride + rowBytes;
    MemorySegment copy = input(segment, offset, bytes);
    outputs.add(new Output(segment, offset, copy, bytes == 0 ? 0 : rows, rowBytes, stride));
    return copy;
  }

  /** Copies the outputs back. Left out when the kernel failed. */
  void finish() {
    for (Output o : outputs) {
      for (long row = 0; row < o.rows; row++) {
        MemorySegment.copy(o.from, row * o.stride, o.to, o.offset + row * o.stride, o.rowBytes);
      }
    }
  }

  @Override
  public void close() {
    for (Scratch scratch : taken) {
      scratch.close();
    }
  }
}
