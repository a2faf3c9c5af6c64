package dev.lanewise.core.base;

import java.io.Serial;

/**
 * Input that cannot be used: a file, an option or data that is missing, damaged or of the wrong
 * kind.
 *
 * <p>The message is one clear sentence for the person who gave the input: what is wrong, where, and
 * what to do. Errors of the calling program are {@link IllegalArgumentException} instead.
 */
public class InputException extends RuntimeException {
  @Serial private static final long serialVersionUID = 1L;

  /**
   * Creates an exception.
   *
   * @param message one sentence that names what is wrong, where, and what to do
   */
  public InputException(String message) {
    super(message);
  }

  /**
   * Creates an exception with its cause.
   *
   * @param message one sentence that names what is wrong, where, and what to do
   * @param cause the failure underneath
   */
  public InputException(String message, Throwable cause) {
    super(message, cause);
  }
}
