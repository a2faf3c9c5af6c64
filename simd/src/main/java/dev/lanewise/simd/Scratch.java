package dev.lanewise.simd;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.List;
import java.util.concurrent.atomic.AtomicLong;
import java.util.stream.IntStream;

/**
 * Native working memory that outlives the call that needs it: taken, used by any thread, released
 * and used again. Contents are undefined when taken. Nothing is ever returned to the system, so the
 * memory held is the most that was in use at once; what copies of a caller's arrays take is limited
 * by {@link Staging}.
 */
final class Scratch implements AutoCloseable {
  private static final int SMALLEST_SHIFT = 12;

  /** The largest class has more bytes than any machine, which then says so itself. */
  private static final int CLASSES = 80;

  private static final AtomicLong HELD = new AtomicLong();
  private static final List<Spares<Scratch>> FREE =
      IntStream.range(0, CLASSES).mapToObj(c -> new Spares<>(() -> new Scratch(c))).toList();

  /** At least as many bytes as asked for, on a cache line's boundary. */
  final MemorySegment segment;

  private final int sizeClass;

  private Scratch(int sizeClass) {
    long bytes = bytesOf(sizeClass);
    this.segment = NativeMemory.allocate(bytes, Arena.global());
    this.sizeClass = sizeClass;
    HELD.addAndGet(bytes);
  }

  /**
   * Takes a piece of memory.
   *
   * @param bytes how much is needed
   * @throws OutOfMemoryError if the system has no more
   */
  static Scratch take(long bytes) {
    return FREE.get(classOf(bytes)).take();
  }

  /** Bytes that scratch memory holds in this process, in use or free. */
  static long heldBytes() {
    return HELD.get();
  }

  /** Gives the memory back. It must not be touched afterwards. */
  @Override
  public void close() {
    FREE.get(sizeClass).give(this);
  }

  /** Classes step by halves of a power of two: 4, 6, 8, 12, 16 KiB and so on. */
  private static int classOf(long bytes) {
    for (int c = 0; c < CLASSES; c++) {
      if (bytes <= bytesOf(c)) {
        return c;
      }
    }
    throw new IllegalArgumentException("scratch memory of " + bytes + " bytes is too large");
  }

  private static long bytesOf(int sizeClass) {
    long power = 1L << (SMALLEST_SHIFT + (sizeClass >> 1));
    return (sizeClass & 1) == 0 ? power : power + (power >> 1);
  }
}
