package dev.lanewise.bench.peers;

/** Thrown when a peer cannot be asked. */
public final class PeerException extends RuntimeException {
  private static final long serialVersionUID = 1;

  /**
   * Creates the exception.
   *
   * @param message which peer, and what is wrong with it
   */
  public PeerException(String message) {
    super(message);
  }
}
