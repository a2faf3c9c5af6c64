package dev.lanewise.core.train;

import dev.lanewise.core.base.JsonFields;
import dev.lanewise.core.data.Dataset;
import dev.lanewise.core.data.TokenSequence;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.zip.CRC32C;

/**
 * What tells a run's tokens from others: how many there are, and a checksum of them.
 *
 * <p>The checksum is the CRC-32C of the ids as 32-bit little-endian integers, those to train on
 * before those to validate on, and of which are targets where not all are. It covers every token of
 * up to 2<sup>28</sup> (half a gigabyte on disk, about a second); of more, 4,096 pieces of 65,536
 * tokens that lie evenly from the first to the last, so that it takes no longer for any amount.
 *
 * @param train tokens to train on
 * @param validation tokens to validate on
 * @param crc32c the checksum, as eight hexadecimal digits
 */
public record DataStamp(long train, long validation, String crc32c) {
  private static final int PIECE = 1 << 16;
  private static final long MOST_PIECES = 1 << 12;

  /** The stamp of a run's tokens. */
  public static DataStamp of(Dataset data) {
    return of(data.train(), data.validation(), MOST_PIECES);
  }

  static DataStamp of(TokenSequence train, TokenSequence validation, long mostPieces) {
    CRC32C crc = new CRC32C();
    long held = validation == null ? 0 : validation.length();
    try (Arena arena = Arena.ofShared()) {
      MemorySegment ids = arena.allocate((long) PIECE * Integer.BYTES, Integer.BYTES);
      long all = train.length() + held;
      add(crc, train, pieces(train.length(), all, mostPieces), ids);
      if (held > 0) {
        add(crc, validation, pieces(held, all, mostPieces), ids);
      }
    }
    return new DataStamp(train.length(), held, String.format(Locale.ROOT, "%08x", crc.getValue()));
  }

  /** How many pieces of a part are read, of those allowed for all; Long.MAX_VALUE for every one. */
  private static long pieces(long length, long all, long most) {
    return all <= most * PIECE ? Long.MAX_VALUE : Math.max(2, most * length / all);
  }

  private static void add(CRC32C crc, TokenSequence tokens, long pieces, MemorySegment ids) {
    long length = tokens.length();
    boolean whole = pieces >= (length + PIECE - 1) / PIECE;
    long count = whole ? (length + PIECE - 1) / PIECE : pieces;
    for (long piece = 0; piece < count; piece++) {
      // The division first, so that the product stays small.
      long from = whole ? piece * PIECE : (length - PIECE) / (count - 1) * piece;
      if (!whole && piece == count - 1) {
        from = length - PIECE;
      }
      int size = (int) Math.min(PIECE, length - from);
      tokens.copy(from, size, ids, 0);
      ByteBuffer bytes = ids.asSlice(0, (long) size * Integer.BYTES).asByteBuffer();
      crc.update(bytes);
      for (int i = 0; i < size && !tokens.allCount(); i++) {
        crc.update(tokens.counts(from + i) ? 1 : 0);
      }
    }
  }

  /** Puts the stamp among what describes a run's data. */
  public void addTo(Map<String, Object> data) {
    data.put("trainTokens", train);
    data.put("validationTokens", validation);
    data.put("crc32c", crc32c);
  }

  /** The stamp among what describes a run's data; nothing if an older version began the run. */
  public static Optional<DataStamp> find(JsonFields data) {
    return data.has("crc32c")
        ? Optional.of(
            new DataStamp(
                data.integer("trainTokens"), data.integer("validationTokens"), data.text("crc32c")))
        : Optional.empty();
  }

  /** In words, how other tokens differ from these. */
  public String difference(DataStamp now) {
    return train == now.train && validation == now.validation
        ? String.format(Locale.ROOT, "as many tokens as then, %,d, but others", train + validation)
        : String.format(
            Locale.ROOT,
            "%,d tokens to train on and %,d to validate on then, %,d and %,d now",
            train,
            validation,
            now.train,
            now.validation);
  }
}
