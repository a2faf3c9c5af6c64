package dev.lanewise.simd;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;

/**
 * Native stand-ins for segments on the Java heap, so that kernels see native memory only: a kernel
 * that meets both kinds loses most of its speed for good. And stand-ins that all workers may touch
 * for memory that is confined to the caller's thread: the same memory under another name, since
 * nobody else can close it during the call, or, without native access, a copy too. Used at the
 * public doors, after the checks:
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

  /** Copies of more bytes are given back to the system after the call. */
  private static final long LARGEST_KEPT = 64L << 20;

  private final List<AutoCloseable> taken = new ArrayList<>();
  private final List<Output> outputs = new ArrayList<>();

  /** Whether a segment lies on the Java heap or is confined to a thread; null does not. */
  static boolean needed(MemorySegment a) {
    return a != null && (!a.isNative() || Checks.isConfined(a));
  }

  /** Whether any of the segments needs a stand-in. */
  static boolean needed(MemorySegment a, MemorySegment b) {
    return needed(a) || needed(b);
  }

  /** Whether any of the segments needs a stand-in. */
  static boolean needed(MemorySegment a, MemorySegment b, MemorySegment c) {
    return needed(a) || needed(b) || needed(c);
  }

  /** Whether any of the segments needs a stand-in. */
  static boolean needed(MemorySegment... segments) {
    for (MemorySegment segment : segments) {
      if (needed(segment)) {
        return true;
      }
    }
    return false;
  }

  /** A stand-in of {@code bytes} bytes for reading; null stays null. */
  MemorySegment input(MemorySegment segment, long offset, long bytes) {
    if (segment == null) {
      return null;
    }
    MemorySegment same = inPlace(segment, offset, bytes);
    return same == null ? copy(segment, offset, bytes) : same;
  }

  /** The memory itself, as a segment that every thread may touch; null if it must be copied. */
  private static MemorySegment inPlace(MemorySegment segment, long offset, long bytes) {
    if (!segment.isNative()) {
      return null;
    }
    if (!Checks.isConfined(segment)) {
      return segment.asSlice(offset, bytes);
    }
    return Native.alias(segment, offset, bytes);
  }

  private MemorySegment copy(MemorySegment segment, long offset, long bytes) {
    MemorySegment to;
    if (bytes > LARGEST_KEPT) {
      Arena arena = Arena.ofShared();
      taken.add(arena);
      to = NativeMemory.allocate(bytes, arena);
    } else {
      Scratch scratch = Scratch.take(Math.max(1, bytes));
      taken.add(scratch);
      to = scratch.segment;
    }
    MemorySegment.copy(segment, offset, to, 0, bytes);
    return to;
  }

  /** A stand-in that {@link #finish} copies back as a whole; null stays null. */
  MemorySegment output(MemorySegment segment, long offset, long bytes) {
    return output(segment, offset, 1, bytes, bytes);
  }

  /**
   * A stand-in of which {@link #finish} copies back {@code rows} rows of {@code rowBytes} bytes,
   * {@code stride} bytes apart; the gaps between rows stay untouched. Null stays null.
   */
  MemorySegment output(MemorySegment segment, long offset, long rows, long rowBytes, long stride) {
    if (segment == null) {
      return null;
    }
    long bytes = rows == 0 || rowBytes == 0 ? 0 : (rows - 1) * stride + rowBytes;
    MemorySegment same = inPlace(segment, offset, bytes);
    if (same != null) {
      return same;
    }
    MemorySegment copy = copy(segment, offset, bytes);
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
    for (AutoCloseable memory : taken) {
      switch (memory) {
        case Scratch scratch -> scratch.close();
        default -> ((Arena) memory).close();
      }
    }
  }
}
