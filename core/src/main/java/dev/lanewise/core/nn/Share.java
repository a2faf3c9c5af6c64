package dev.lanewise.core.nn;

/**
 * The part of every block of parameters that one of several processes updates: whole chunks of
 * {@value #CHUNK} elements, as equal as they can be.
 *
 * @param rank which process, from 0
 * @param size how many processes
 */
public record Share(int rank, int size) {
  /** Elements of a chunk. */
  public static final int CHUNK = 1 << 14;

  /** All of it. */
  public static final Share ALL = new Share(0, 1);

  /** Checks the numbers. */
  public Share {
    if (size < 1 || rank < 0 || rank >= size) {
      throw new IllegalArgumentException("process " + rank + " of " + size);
    }
  }

  /** Whether there is no other part. */
  public boolean isAll() {
    return size == 1;
  }

  /**
   * First element of the part.
   *
   * @param length elements of the block
   */
  public long from(long length) {
    return bound(length, rank);
  }

  /**
   * Past the last element of the part.
   *
   * @param length elements of the block
   */
  public long to(long length) {
    return bound(length, rank + 1);
  }

  /**
   * Chunks of a block.
   *
   * @param length elements of the block
   */
  public static int chunks(long length) {
    return Math.toIntExact((length + CHUNK - 1) / CHUNK);
  }

  private long bound(long length, int of) {
    return Math.min(length, (long) chunks(length) * of / size * CHUNK);
  }
}
