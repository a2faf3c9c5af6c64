package dev.lanewise.core.data;

import dev.lanewise.core.base.InputException;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Locale;

/** UTF-8 checked and taken apart. */
final class Utf8 {
  private static final VarHandle LONG =
      MethodHandles.byteArrayViewVarHandle(long[].class, ByteOrder.LITTLE_ENDIAN);
  private static final long HIGH_BITS = 0x8080808080808080L;

  private Utf8() {}

  /** Encodes a text, refusing halves of surrogate pairs, which UTF-8 cannot hold. */
  static byte[] encode(String text) {
    for (int i = 0; i < text.length(); i++) {
      char c = text.charAt(i);
      if (Character.isSurrogate(c)) {
        if (Character.isHighSurrogate(c)
            && i + 1 < text.length()
            && Character.isLowSurrogate(text.charAt(i + 1))) {
          i++;
        } else {
          throw new InputException(
              String.format(
                  Locale.ROOT,
                  "The text holds half of a surrogate pair, U+%04X, at position %d, which is not a"
                      + " character.",
                  (int) c,
                  i));
        }
      }
    }
    return text.getBytes(StandardCharsets.UTF_8);
  }

  /**
   * The index of the first byte that is not part of a valid sequence (Unicode 16, table 3-7), or -1
   * if all is valid. A sequence that the range's end cuts off counts as invalid.
   */
  static int firstInvalid(byte[] b, int from, int to) {
    int i = from;
    while (i < to) {
      if (i + 8 <= to && ((long) LONG.get(b, i) & HIGH_BITS) == 0) {
        i += 8;
        continue;
      }
      if (b[i] >= 0) {
        i++;
        continue;
      }
      int length = sequenceLength(b, i, to);
      if (length == 0) {
        return i;
      }
      i += length;
    }
    return -1;
  }

  /** The length of the valid sequence that starts at i, or 0 if there is none. */
  static int sequenceLength(byte[] b, int i, int to) {
    int b0 = b[i] & 0xFF;
    if (b0 < 0x80) {
      return 1;
    }
    if (b0 < 0xC2 || b0 > 0xF4) {
      return 0;
    }
    int length = b0 < 0xE0 ? 2 : b0 < 0xF0 ? 3 : 4;
    if (i + length > to) {
      return 0;
    }
    int b1 = b[i + 1] & 0xFF;
    int lowest = b0 == 0xE0 ? 0xA0 : b0 == 0xF0 ? 0x90 : 0x80;
    int highest = b0 == 0xED ? 0x9F : b0 == 0xF4 ? 0x8F : 0xBF;
    if (b1 < lowest || b1 > highest) {
      return 0;
    }
    for (int k = 2; k < length; k++) {
      if ((b[i + k] & 0xC0) != 0x80) {
        return 0;
      }
    }
    return length;
  }

  /** The code point of the sequence at i of the given length; U+FFFD for the invalid length 0. */
  static int codePoint(byte[] b, int i, int length) {
    return switch (length) {
      case 0 -> 0xFFFD;
      case 1 -> b[i];
      case 2 -> (b[i] & 0x1F) << 6 | b[i + 1] & 0x3F;
      case 3 -> (b[i] & 0x0F) << 12 | (b[i + 1] & 0x3F) << 6 | b[i + 2] & 0x3F;
      default ->
          (b[i] & 0x07) << 18 | (b[i + 1] & 0x3F) << 12 | (b[i + 2] & 0x3F) << 6 | b[i + 3] & 0x3F;
    };
  }
}
