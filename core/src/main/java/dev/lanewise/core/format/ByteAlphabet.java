package dev.lanewise.core.format;

import java.util.Arrays;

/**
 * The printable characters that GPT-2's kin write for bytes, in {@code tokenizer.json}, {@code
 * vocab.json}, {@code merges.txt} and GGUF: printable ones of Latin-1 for themselves, and those
 * from U+0100 on, in order, for the rest.
 */
public final class ByteAlphabet {
  private static final char[] CHARACTERS = new char[256];
  private static final short[] BYTES = new short[512];

  static {
    Arrays.fill(BYTES, (short) -1);
    char next = 256;
    for (int b = 0; b < 256; b++) {
      boolean printable = b >= '!' && b <= '~' || b >= 0xa1 && b <= 0xac || b >= 0xae;
      CHARACTERS[b] = printable ? (char) b : next++;
      BYTES[CHARACTERS[b]] = (short) b;
    }
  }

  private ByteAlphabet() {}

  /** The characters for a range of bytes. */
  public static String text(byte[] bytes, int from, int to) {
    StringBuilder text = new StringBuilder(to - from);
    for (int i = from; i < to; i++) {
      text.append(CHARACTERS[bytes[i] & 0xff]);
    }
    return text.toString();
  }

  /** The characters for bytes. */
  public static String text(byte[] bytes) {
    return text(bytes, 0, bytes.length);
  }

  /** The bytes that characters stand for; null if one of them stands for none. */
  public static byte[] bytes(String text) {
    byte[] bytes = new byte[text.length()];
    for (int i = 0; i < bytes.length; i++) {
      char c = text.charAt(i);
      if (c >= BYTES.length || BYTES[c] < 0) {
        return null;
      }
      bytes[i] = (byte) BYTES[c];
    }
    return bytes;
  }
}
