package dev.lanewise.core.data;

/**
 * GPT-2's way to cut text into words before byte pairs are merged, by hand in place of its regular
 * expression: a contraction ({@code 's 't 're 've 'm 'll 'd}); or letters, numbers, or other
 * characters, each with at most one space before; or white space, which leaves its last character
 * to the word that follows.
 *
 * <p>Letters are Unicode's category L, numbers N, white space the property White_Space.
 */
final class Words {
  private static final byte OTHER = 0;
  private static final byte LETTER = 1;
  private static final byte NUMBER = 2;
  private static final byte SPACE = 3;
  private static final byte[] ASCII = new byte[128];

  static {
    for (int c = 0; c < 128; c++) {
      ASCII[c] = classOf(c);
    }
  }

  private Words() {}

  /** The end of the word that starts at i, which is before to. */
  static int end(byte[] b, int i, int to) {
    byte first = b[i];
    if (first == '\'') {
      int contraction = contraction(b, i + 1, to);
      if (contraction > 0) {
        return i + 1 + contraction;
      }
    }
    int next = i + Math.max(1, length(b, i, to));
    byte kind = kind(b, i, to);
    if (first == ' ' && next < to) {
      byte after = kind(b, next, to);
      if (after != SPACE) {
        return runEnd(b, next, to, after);
      }
    }
    if (kind != SPACE) {
      return runEnd(b, next, to, kind);
    }
    int last = i;
    int end = next;
    while (end < to && kind(b, end, to) == SPACE) {
      last = end;
      end += Math.max(1, length(b, end, to));
    }
    return end == to || last == i ? end : last;
  }

  private static int runEnd(byte[] b, int from, int to, byte kind) {
    int i = from;
    while (i < to && kind(b, i, to) == kind) {
      i += Math.max(1, length(b, i, to));
    }
    return i;
  }

  private static int contraction(byte[] b, int i, int to) {
    if (i >= to) {
      return 0;
    }
    byte second = i + 1 < to ? b[i + 1] : 0;
    return switch (b[i]) {
      case 's', 't', 'm', 'd' -> 1;
      case 'r', 'v' -> second == 'e' ? 2 : 0;
      case 'l' -> second == 'l' ? 2 : 0;
      default -> 0;
    };
  }

  private static int length(byte[] b, int i, int to) {
    return b[i] >= 0 ? 1 : Utf8.sequenceLength(b, i, to);
  }

  private static byte kind(byte[] b, int i, int to) {
    return b[i] >= 0 ? ASCII[b[i]] : classOf(Utf8.codePoint(b, i, Utf8.sequenceLength(b, i, to)));
  }

  private static byte classOf(int c) {
    return switch (Character.getType(c)) {
      case Character.UPPERCASE_LETTER,
          Character.LOWERCASE_LETTER,
          Character.TITLECASE_LETTER,
          Character.MODIFIER_LETTER,
          Character.OTHER_LETTER ->
          LETTER;
      case Character.DECIMAL_DIGIT_NUMBER, Character.LETTER_NUMBER, Character.OTHER_NUMBER ->
          NUMBER;
      case Character.SPACE_SEPARATOR, Character.LINE_SEPARATOR, Character.PARAGRAPH_SEPARATOR ->
          SPACE;
      default -> c >= 0x09 && c <= 0x0D || c == 0x85 ? SPACE : OTHER;
    };
  }
}
