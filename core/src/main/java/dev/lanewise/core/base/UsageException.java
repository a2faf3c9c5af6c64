package dev.lanewise.core.base;

/**
 * An option or argument of a command that cannot be used: wrong whatever the files say. The command
 * line answers it as it answers an option that does not exist.
 */
public final class UsageException extends InputException {
  private static final long serialVersionUID = 1L;

  /**
   * Creates an exception.
   *
   * @param message one sentence that names the option, what it was given and what it takes
   */
  public UsageException(String message) {
    super(message);
  }
}
