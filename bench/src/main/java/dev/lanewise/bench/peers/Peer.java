package dev.lanewise.bench.peers;

import java.util.List;
import java.util.Map;

/**
 * A library to compare with, found on this machine or not.
 *
 * @param name short name without blanks
 * @param command the process that speaks for it, or an empty list if it was not found
 * @param environment variables for the process
 * @param reason where it was found, or why it was not and how to get it
 */
public record Peer(
    String name, List<String> command, Map<String, String> environment, String reason) {

  /**
   * A peer that is not here.
   *
   * @param name its name
   * @param reason why not, and how to get it
   * @return the peer
   */
  static Peer missing(String name, String reason) {
    return new Peer(name, List.of(), Map.of(), reason);
  }

  /**
   * Whether it can be asked.
   *
   * @return whether there is a process to start
   */
  public boolean isFound() {
    return !command.isEmpty();
  }
}
