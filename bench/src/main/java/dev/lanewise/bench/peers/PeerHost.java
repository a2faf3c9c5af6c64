package dev.lanewise.bench.peers;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/** A peer's process, which serves case after case until it is closed. */
public final class PeerHost implements AutoCloseable {
  private static final long PATIENCE_SECONDS = 120;

  private static final List<String> THREAD_VARIABLES =
      List.of("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS");

  private final Peer peer;
  private final Path folder;
  private final Path errors;
  private final Process process;
  private final Thread hook = new Thread(this::kill, "end of a peer");
  private final CompletableFuture<String> ready = new CompletableFuture<>();

  /**
   * Starts a peer, without waiting for it.
   *
   * @param peer the peer
   * @param threads threads that it uses
   * @throws PeerException if it is not here or cannot be started
   */
  public PeerHost(Peer peer, int threads) {
    if (!peer.isFound()) {
      throw new PeerException(peer.name() + ": " + peer.reason());
    }
    this.peer = peer;
    try {
      folder = Files.createTempDirectory("lanewise-");
      errors = folder.resolve("errors.txt");
      ProcessBuilder builder = new ProcessBuilder(peer.command()).redirectError(errors.toFile());
      builder.environment().putAll(peer.environment());
      builder.environment().put(PeerServer.ADDRESS, address().toString());
      for (String variable : THREAD_VARIABLES) {
        builder.environment().put(variable, Integer.toString(threads));
      }
      process = builder.start();
    } catch (IOException e) {
      throw new PeerException(peer.name() + " cannot be started: " + e.getMessage());
    }
    Runtime.getRuntime().addShutdownHook(hook);
    Thread.ofPlatform().daemon().name("peer " + peer.name()).start(this::listen);
  }

  private Path address() {
    return folder.resolve("socket");
  }

  private void listen() {
    try (BufferedReader reader =
        new BufferedReader(
            new InputStreamReader(process.getInputStream(), StandardCharsets.UTF_8))) {
      for (String line = reader.readLine(); line != null; line = reader.readLine()) {
        if (line.startsWith("ready ")) {
          ready.complete(line.substring(6));
        }
      }
    } catch (IOException e) {
      // The process has ended, which is told below
    }
    ready.completeExceptionally(new PeerException(peer.name() + " ended" + lastError()));
  }

  private String lastError() {
    try {
      List<String> lines = Files.readAllLines(errors, StandardCharsets.ISO_8859_1);
      return lines.isEmpty() ? "" : ": " + lines.getLast();
    } catch (IOException e) {
      return "";
    }
  }

  /**
   * Waits until the peer has loaded its library.
   *
   * @return what it says of itself
   * @throws PeerException if it ends instead
   */
  public String description() {
    try {
      return ready.get(PATIENCE_SECONDS, TimeUnit.SECONDS);
    } catch (ExecutionException e) {
      throw (PeerException) e.getCause();
    } catch (TimeoutException e) {
      throw new PeerException(
          peer.name() + " is not ready after " + PATIENCE_SECONDS + " seconds" + lastError());
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new PeerException(peer.name() + " was interrupted");
    }
  }

  /** Where the peer can be spoken to, once it is ready. */
  public Endpoint endpoint() {
    return new Endpoint(peer.name(), process.pid(), address());
  }

  /** Whether the process still runs. */
  public boolean isAlive() {
    return process.isAlive();
  }

  private void kill() {
    process.destroy();
    Signals.resume(process.pid());
  }

  @Override
  public void close() {
    kill();
    try {
      if (!process.waitFor(2, TimeUnit.SECONDS)) {
        process.destroyForcibly().waitFor(5, TimeUnit.SECONDS);
      }
      Runtime.getRuntime().removeShutdownHook(hook);
      Files.deleteIfExists(address());
      Files.deleteIfExists(errors);
      Files.deleteIfExists(folder);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    } catch (IOException | IllegalStateException e) {
      // A file in the temporary folder, or the end of this JVM, is no reason to fail
    }
  }

  @Override
  public String toString() {
    return peer.name();
  }
}
