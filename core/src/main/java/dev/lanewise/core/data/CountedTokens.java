package dev.lanewise.core.data;

import dev.lanewise.core.base.AtomicFile;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Objects;

/**
 * Tokens of which only some count as targets: of answers, and not of the questions before them.
 *
 * <p>Which do is kept in a file beside the tokens: their number as a 64-bit integer, then a bit for
 * each, lowest first, in 64-bit integers, then likewise a bit for each that begins an example; all
 * little-endian.
 */
record CountedTokens(TokenSequence tokens, long[] bits, long[] starting) implements TokenSequence {
  @Override
  public long length() {
    return tokens.length();
  }

  @Override
  public int get(long index) {
    return tokens.get(index);
  }

  @Override
  public void copy(long from, int count, MemorySegment target, long targetIndex) {
    tokens.copy(from, count, target, targetIndex);
  }

  @Override
  public boolean allCount() {
    return false;
  }

  @Override
  public boolean counts(long index) {
    Objects.checkIndex(index, length());
    return (bits[(int) (index >> 6)] >>> index & 1) != 0;
  }

  @Override
  public boolean marksDocuments() {
    return true;
  }

  @Override
  public boolean starts(long index) {
    Objects.checkIndex(index, length());
    return (starting[(int) (index >> 6)] >>> index & 1) != 0;
  }

  /** Collects bits in order. */
  static final class Builder {
    private long[] bits = new long[1 << 10];
    private long[] starting = new long[1 << 10];
    private boolean starts = true;
    private long length;
    private long counted;

    /** The next token begins an example. */
    void start() {
      starts = true;
    }

    void add(boolean counts) {
      if (length >> 6 == bits.length) {
        bits = Arrays.copyOf(bits, Math.multiplyExact(2, bits.length));
        starting = Arrays.copyOf(starting, bits.length);
      }
      if (counts) {
        bits[(int) (length >> 6)] |= 1L << length;
        counted++;
      }
      if (starts) {
        starting[(int) (length >> 6)] |= 1L << length;
        starts = false;
      }
      length++;
    }

    long counted() {
      return counted;
    }

    void write(Path path) {
      int words = Math.toIntExact((length + 63) >> 6);
      ByteBuffer bytes = ByteBuffer.allocate(Math.multiplyExact(8, 2 * words + 1));
      bytes.order(ByteOrder.LITTLE_ENDIAN).putLong(length);
      bytes.asLongBuffer().put(bits, 0, words).put(starting, 0, words);
      bytes.position(0);
      AtomicFile.write(
          path,
          channel -> {
            while (bytes.hasRemaining()) {
              channel.write(bytes);
            }
          });
    }
  }

  /** Reads the file beside tokens; null if it is not whole or of other tokens. */
  static CountedTokens read(Path path, TokenSequence tokens) throws IOException {
    ByteBuffer bytes = ByteBuffer.wrap(Files.readAllBytes(path)).order(ByteOrder.LITTLE_ENDIAN);
    long words = (tokens.length() + 63) >> 6;
    if (bytes.remaining() != 8 * (2 * words + 1) || bytes.getLong() != tokens.length()) {
      return null;
    }
    long[] bits = new long[(int) words];
    long[] starting = new long[(int) words];
    bytes.asLongBuffer().get(bits).get(starting);
    return new CountedTokens(tokens, bits, starting);
  }
}
