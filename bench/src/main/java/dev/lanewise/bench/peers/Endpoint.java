package dev.lanewise.bench.peers;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/**
 * Where a running peer can be spoken to, also from another process than the one that started it.
 *
 * @param name the peer's name
 * @param pid its process
 * @param address the socket that it listens on
 */
public record Endpoint(String name, long pid, Path address) {
  /** System property: endpoints of the running peers, as {@link #write} puts them down. */
  public static final String PROPERTY = "lanewise.bench.endpoints";

  /**
   * Puts endpoints down as text.
   *
   * @param endpoints peers that run
   * @return a text without blanks
   */
  public static String write(List<Endpoint> endpoints) {
    return String.join(
        ";", endpoints.stream().map(e -> e.name + "," + e.pid + "," + e.address).toList());
  }

  /**
   * The endpoints of the property {@link #PROPERTY} that are named.
   *
   * @param names names of peers
   * @return their endpoints
   * @throws PeerException if one of them does not run
   */
  public static List<Endpoint> find(List<String> names) {
    List<Endpoint> found = new ArrayList<>();
    List<String> all = List.of(System.getProperty(PROPERTY, "").split(";", -1));
    for (String name : names) {
      String[] parts =
          all.stream()
              .map(text -> text.split(",", 3))
              .filter(p -> p[0].equals(name))
              .findFirst()
              .orElseThrow(() -> new PeerException(name + " was not started"));
      found.add(new Endpoint(name, Long.parseLong(parts[1]), Path.of(parts[2])));
    }
    return found;
  }
}
