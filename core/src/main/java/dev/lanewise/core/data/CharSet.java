package dev.lanewise.core.data;

import java.util.function.IntPredicate;

/**
 * A set of characters with quick look-up: the 65,536 of the first plane in a table, made when the
 * first beyond ASCII is asked for, the rest by asking the rule.
 *
 * <p>Categories, scripts and white space are those of the JDK's Unicode; of JDK 25 that is Unicode
 * 16, as of the Oniguruma inside Hugging Face's tokenizers.
 */
final class CharSet {
  private static final int BASIC = 1 << 16;

  private final IntPredicate rule;
  private final long low;
  private final long high;
  private Table table;

  /** Its field is final, so threads may find it without a lock. */
  private record Table(long[] bits) {}

  /** The characters that a rule is true for. */
  CharSet(IntPredicate rule) {
    this.rule = rule;
    low = bits(rule, 0);
    high = bits(rule, Long.SIZE);
  }

  private static long bits(IntPredicate rule, int from) {
    long bits = 0;
    for (int i = 0; i < Long.SIZE; i++) {
      if (rule.test(from + i)) {
        bits |= 1L << i;
      }
    }
    return bits;
  }

  boolean has(int c) {
    if (c < 2 * Long.SIZE) {
      return ((c < Long.SIZE ? low : high) >>> c & 1) != 0;
    }
    return c < BASIC ? (table().bits[c >> 6] >>> c & 1) != 0 : rule.test(c);
  }

  private Table table() {
    Table found = table;
    if (found == null) {
      long[] bits = new long[BASIC / Long.SIZE];
      for (int i = 0; i < bits.length; i++) {
        bits[i] = bits(rule, i * Long.SIZE);
      }
      found = new Table(bits);
      table = found;
    }
    return found;
  }

  /** Whether a character of this set can begin with a byte; true for all beyond ASCII. */
  boolean mayBegin(int firstByte) {
    return firstByte >= 0x80 || has(firstByte);
  }

  /** Whether the characters at and behind i are in this set; where they end, or i if none is. */
  int runEnd(byte[] b, int i, int to) {
    int at = i;
    while (at < to) {
      int c = b[at];
      int length = 1;
      if (c < 0) {
        length = Utf8.sequenceLength(b, at, to);
        c = Utf8.codePoint(b, at, length);
      }
      if (!has(c)) {
        break;
      }
      at += Math.max(1, length);
    }
    return at;
  }

  /** As {@link #runEnd(byte[], int, int)}, of at most so many characters. */
  int runEnd(byte[] b, int i, int to, int most) {
    int at = i;
    for (int n = 0; n < most && at < to; n++) {
      int next = next(b, at, to);
      if (next < 0) {
        break;
      }
      at = next;
    }
    return at;
  }

  /** The end of the character at i if it is in this set, or -1. */
  int next(byte[] b, int i, int to) {
    if (i >= to) {
      return -1;
    }
    if (b[i] >= 0) {
      return has(b[i]) ? i + 1 : -1;
    }
    int length = Utf8.sequenceLength(b, i, to);
    return has(Utf8.codePoint(b, i, length)) ? i + Math.max(1, length) : -1;
  }

  static CharSet of(int... characters) {
    return new CharSet(
        c -> {
          for (int one : characters) {
            if (one == c) {
              return true;
            }
          }
          return false;
        });
  }

  /** Whether a character has Unicode's property White_Space. */
  static boolean isSpace(int c) {
    return switch (Character.getType(c)) {
      case Character.SPACE_SEPARATOR, Character.LINE_SEPARATOR, Character.PARAGRAPH_SEPARATOR ->
          true;
      default -> c >= 0x09 && c <= 0x0D || c == 0x85;
    };
  }

  /** Whether a character is of category N. */
  static boolean isNumber(int c) {
    return switch (Character.getType(c)) {
      case Character.DECIMAL_DIGIT_NUMBER, Character.LETTER_NUMBER, Character.OTHER_NUMBER -> true;
      default -> false;
    };
  }

  /** Whether a character is of category P, or one of ASCII's marks that are of category S. */
  static boolean isPunctuation(int c) {
    return switch (Character.getType(c)) {
      case Character.DASH_PUNCTUATION,
          Character.START_PUNCTUATION,
          Character.END_PUNCTUATION,
          Character.CONNECTOR_PUNCTUATION,
          Character.OTHER_PUNCTUATION,
          Character.INITIAL_QUOTE_PUNCTUATION,
          Character.FINAL_QUOTE_PUNCTUATION ->
          true;
      default -> c < 0x80 && c > ' ' && !Character.isLetterOrDigit(c) && c != 0x7F;
    };
  }

  /** Whether Oniguruma's {@code \w} matches: letters, marks, numbers and connecting marks. */
  static boolean isWord(int c) {
    return switch (Character.getType(c)) {
      case Character.UPPERCASE_LETTER,
          Character.LOWERCASE_LETTER,
          Character.TITLECASE_LETTER,
          Character.MODIFIER_LETTER,
          Character.OTHER_LETTER,
          Character.NON_SPACING_MARK,
          Character.ENCLOSING_MARK,
          Character.COMBINING_SPACING_MARK,
          Character.DECIMAL_DIGIT_NUMBER,
          Character.LETTER_NUMBER,
          Character.OTHER_NUMBER,
          Character.CONNECTOR_PUNCTUATION ->
          true;
      default -> false;
    };
  }
}
