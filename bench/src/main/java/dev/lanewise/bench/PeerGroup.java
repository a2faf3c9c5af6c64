package dev.lanewise.bench;

import dev.lanewise.bench.peers.Endpoint;
import dev.lanewise.bench.peers.PeerException;
import dev.lanewise.bench.peers.PeerHost;
import dev.lanewise.bench.peers.Peers;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** The peers of a suite, which stay while its cases run, for a number of threads. */
final class PeerGroup implements AutoCloseable {
  private final int threads;
  private final Map<String, PeerHost> hosts = new LinkedHashMap<>();
  private final Map<String, String> descriptions = new LinkedHashMap<>();

  /**
   * Starts peers side by side and waits for them. One that does not start is left out, and its
   * description says why.
   *
   * @param names peers that were found
   * @param threads threads of each
   */
  PeerGroup(List<String> names, int threads) {
    this.threads = threads;
    for (String name : names) {
      try {
        hosts.put(name, new PeerHost(Peers.find(name), threads));
      } catch (PeerException e) {
        descriptions.put(name, "skipped: " + e.getMessage());
      }
    }
    for (String name : List.copyOf(hosts.keySet())) {
      try {
        descriptions.put(name, hosts.get(name).description());
      } catch (PeerException e) {
        descriptions.put(name, "skipped: " + e.getMessage());
        hosts.remove(name).close();
      }
    }
  }

  /** What each peer says of itself, or why it was left out. */
  Map<String, String> descriptions() {
    return descriptions;
  }

  /** Where the peers are; one that has ended meanwhile is started again. */
  List<Endpoint> endpoints() {
    List<Endpoint> endpoints = new ArrayList<>();
    for (Map.Entry<String, PeerHost> entry : hosts.entrySet()) {
      if (!entry.getValue().isAlive()) {
        entry.getValue().close();
        entry.setValue(new PeerHost(Peers.find(entry.getKey()), threads));
        String ignored = entry.getValue().description();
      }
      endpoints.add(entry.getValue().endpoint());
    }
    return endpoints;
  }

  @Override
  public void close() {
    hosts.values().forEach(PeerHost::close);
  }
}
