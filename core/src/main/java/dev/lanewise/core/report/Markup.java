package dev.lanewise.core.report;

import java.util.Locale;

/** Text that is safe inside HTML and SVG. */
final class Markup {
  private Markup() {}

  /**
   * Escapes text for element content and quoted attributes. Control characters, which pages cannot
   * hold, become their pictures (U+2400 block).
   */
  static String escape(String text) {
    StringBuilder out = new StringBuilder(text.length() + 16);
    for (int i = 0; i < text.length(); i++) {
      char c = text.charAt(i);
      switch (c) {
        case '&' -> out.append("&amp;");
        case '<' -> out.append("&lt;");
        case '>' -> out.append("&gt;");
        case '"' -> out.append("&quot;");
        case '\'' -> out.append("&#39;");
        case '\n', '\t' -> out.append(c);
        case 0x7F -> out.append('\u2421');
        default -> {
          boolean pair =
              Character.isHighSurrogate(c)
                  && i + 1 < text.length()
                  && Character.isLowSurrogate(text.charAt(i + 1));
          if (c < 0x20) {
            out.append((char) (0x2400 + c));
          } else if (pair) {
            out.append(c).append(text.charAt(++i));
          } else if (Character.isSurrogate(c) || c >= 0xFFFE || c >= 0x80 && c < 0xA0) {
            out.append('\uFFFD');
          } else {
            out.append(c);
          }
        }
      }
    }
    return out.toString();
  }

  /** A coordinate with two decimals. */
  static String px(double value) {
    String text = String.format(Locale.ROOT, "%.2f", value);
    int end = text.length();
    while (text.charAt(end - 1) == '0') {
      end--;
    }
    return text.substring(0, text.charAt(end - 1) == '.' ? end - 1 : end);
  }
}
