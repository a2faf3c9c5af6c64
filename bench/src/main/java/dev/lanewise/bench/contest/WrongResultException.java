package dev.lanewise.bench.contest;

/** Thrown when a contender computes something else than the case asks for. */
public final class WrongResultException extends RuntimeException {
  private static final long serialVersionUID = 1;

  /**
   * Creates the exception.
   *
   * @param message who computes what, and what is right
   */
  public WrongResultException(String message) {
    super(message);
  }
}
