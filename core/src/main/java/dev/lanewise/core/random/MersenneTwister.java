package dev.lanewise.core.random;

import java.util.Arrays;

/**
 * The 32 bit Mersenne Twister MT19937 of Matsumoto and Nishimura, made block by block.
 *
 * <p>Not safe for use by several threads at once.
 */
final class MersenneTwister {
  /** Words of state, and outputs per block. */
  static final int BLOCK = 624;

  private static final int MIDDLE = 397;

  /** The block in use in the first half; the twist grows the next one behind it. */
  private final int[] words = new int[2 * BLOCK];

  private final int[] outputs = new int[BLOCK];
  private boolean tempered;
  private int next;

  MersenneTwister(int seed) {
    seed(seed);
  }

  /** Takes over the state of another engine. */
  void copyFrom(MersenneTwister other) {
    restore(other.words, other.next);
  }

  void seed(int seed) {
    words[0] = seed;
    for (int i = 1; i < BLOCK; i++) {
      words[i] = 1812433253 * (words[i - 1] ^ (words[i - 1] >>> 30)) + i;
    }
    next = BLOCK;
    tempered = false;
  }

  int next() {
    if (next == BLOCK) {
      twist();
    }
    if (!tempered) {
      temper();
    }
    return outputs[next++];
  }

  /** Writes the next {@code count} outputs to {@code out}. */
  void fill(int[] out, int count) {
    int done = 0;
    while (done < count) {
      if (next == BLOCK) {
        twist();
      }
      if (!tempered) {
        temper();
      }
      int part = Math.min(BLOCK - next, count - done);
      System.arraycopy(outputs, next, out, done, part);
      next += part;
      done += part;
    }
  }

  /** Leaves out the next {@code count} outputs. */
  void skip(long count) {
    long left = count;
    while (left > BLOCK - next) {
      left -= BLOCK - next;
      twist();
    }
    next += (int) left;
  }

  /** Position in the current block, 0 to 624; 624 says that the next block is still to be made. */
  int position() {
    return next;
  }

  /** The words of the current block, before tempering. */
  int[] words() {
    return Arrays.copyOf(words, BLOCK);
  }

  void restore(int[] words, int position) {
    System.arraycopy(words, 0, this.words, 0, BLOCK);
    next = position;
    tempered = false;
  }

  private void twist() {
    for (int k = 0; k < BLOCK; k++) {
      int y = (words[k] & 0x80000000) | (words[k + 1] & 0x7fffffff);
      words[k + BLOCK] = words[k + MIDDLE] ^ (y >>> 1) ^ (-(y & 1) & 0x9908b0df);
    }
    System.arraycopy(words, BLOCK, words, 0, BLOCK);
    next = 0;
    tempered = false;
  }

  private void temper() {
    for (int k = 0; k < BLOCK; k++) {
      int y = words[k];
      y ^= y >>> 11;
      y ^= (y << 7) & 0x9d2c5680;
      y ^= (y << 15) & 0xefc60000;
      outputs[k] = y ^ (y >>> 18);
    }
    tempered = true;
  }
}
