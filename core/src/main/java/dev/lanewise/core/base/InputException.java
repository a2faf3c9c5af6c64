package dev.lanewise.core.base;

import java.io.Serial;
import java.util.Locale;

/**
 * Input that cannot be used: a file, an option or data that is missing, damaged or of the wrong
 * kind.
 *
 * <p>The message is one clear sentence for the person who gave the input: what is wrong, where, and
 * what to do. Errors of the calling program are {@link IllegalArgumentException} instead.
 */
public class InputException extends RuntimeException {
  private static final int MOST = 1500;

  @Serial private static final long serialVersionUID = 1L;

  /**
   * Creates an exception.
   *
   * @param message one sentence that names what is wrong, where, and what to do
   */
  public InputException(String message) {
    super(plain(message));
  }

  /**
   * Creates an exception with its cause.
   *
   * @param message one sentence that names what is wrong, where, and what to do
   * @param cause the failure underneath
   */
  public InputException(String message, Throwable cause) {
    super(plain(message), cause);
  }

  /** A message in one line of bearable length, whatever names from files it quotes. */
  private static String plain(String message) {
    StringBuilder text = new StringBuilder(message.length());
    for (int i = 0; i < message.length(); i++) {
      char c = message.charAt(i);
      if (Character.isISOControl(c)) {
        text.append(String.format(Locale.ROOT, "\\u%04x", (int) c));
      } else {
        text.append(c);
      }
    }
    if (text.length() > MOST) {
      text.replace(MOST / 2, text.length() - MOST / 2, " … ");
    }
    return text.toString();
  }
}
