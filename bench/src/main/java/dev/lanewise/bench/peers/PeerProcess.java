package dev.lanewise.bench.peers;

import dev.lanewise.bench.contest.Case;
import dev.lanewise.bench.contest.Contender;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.OutputStreamWriter;
import java.io.Writer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.stream.LongStream;

/**
 * A peer in its own process; see {@link PeerServer} for the conversation.
 *
 * <p>Between its turns the process is stopped: the threads of most libraries spin for milliseconds
 * after their work is done, on cores that the next contender needs.
 */
public final class PeerProcess implements Contender {
  private static final Duration PATIENCE = Duration.ofMinutes(3);
  private static final String END = "";

  private final Peer peer;
  private final Process process;
  private final Path errors;
  private final Writer requests;
  private final BlockingQueue<String> answers = new LinkedBlockingQueue<>();
  private String description = "";

  private PeerProcess(Peer peer, int threads) {
    this.peer = peer;
    try {
      errors = Files.createTempFile("lanewise-peer-", ".txt");
      ProcessBuilder builder = new ProcessBuilder(peer.command()).redirectError(errors.toFile());
      builder.environment().putAll(peer.environment());
      for (String variable :
          List.of(
              "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")) {
        builder.environment().put(variable, Integer.toString(threads));
      }
      process = builder.start();
    } catch (IOException e) {
      throw new PeerException(peer.name() + " cannot be started: " + e.getMessage());
    }
    requests = new OutputStreamWriter(process.getOutputStream(), StandardCharsets.UTF_8);
    Thread.ofPlatform().daemon().name("peer " + peer.name()).start(this::listen);
  }

  private void listen() {
    try (BufferedReader reader =
        new BufferedReader(
            new InputStreamReader(process.getInputStream(), StandardCharsets.UTF_8))) {
      for (String line = reader.readLine(); line != null; line = reader.readLine()) {
        answers.add(line);
      }
    } catch (IOException e) {
      // The end of the stream is reported below, whatever its cause
    }
    answers.add(END);
  }

  /**
   * Starts a peer and lets it prepare a case.
   *
   * @param peer the peer
   * @param task the case
   * @param threads number of threads
   * @return the peer, ready to run, or null if it does not know the operation
   * @throws PeerException if the peer is not here, ends early or answers with an error
   */
  public static PeerProcess start(Peer peer, Case task, int threads) {
    if (!peer.isFound()) {
      throw new PeerException(peer.name() + ": " + peer.reason());
    }
    PeerProcess process = new PeerProcess(peer, threads);
    try {
      process.description = process.expect("ready");
      String answer = process.ask("case " + task + " threads=" + threads);
      if (answer.startsWith("skip")) {
        process.close();
        return null;
      }
      if (!answer.equals("ok")) {
        throw new PeerException(peer.name() + " cannot perform " + task + ": " + answer);
      }
      return process;
    } catch (PeerException e) {
      process.close();
      throw e;
    }
  }

  /**
   * Starts a peer only to hear what it is.
   *
   * @param peer the peer
   * @return its own description
   * @throws PeerException if the peer does not start
   */
  public static String describe(Peer peer) {
    PeerProcess process = new PeerProcess(peer, 1);
    try {
      return process.expect("ready");
    } finally {
      process.close();
    }
  }

  private String ask(String request) {
    try {
      requests.write(request + "\n");
      requests.flush();
    } catch (IOException e) {
      throw ended();
    }
    return answer();
  }

  private String answer() {
    try {
      String line = answers.poll(PATIENCE.toSeconds(), TimeUnit.SECONDS);
      if (line == null) {
        throw new PeerException(
            peer.name() + " does not answer within " + PATIENCE.toMinutes() + " minutes");
      }
      if (line.equals(END)) {
        throw ended();
      }
      return line;
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new PeerException(peer.name() + " was interrupted");
    }
  }

  private PeerException ended() {
    String last = "";
    try {
      List<String> lines = Files.readAllLines(errors, StandardCharsets.ISO_8859_1);
      last = lines.isEmpty() ? "" : ": " + lines.getLast();
    } catch (IOException e) {
      // The exit alone is still worth telling
    }
    return new PeerException(peer.name() + " ended" + last);
  }

  /** Waits for a line of this kind and returns the rest of it. */
  private String expect(String kind) {
    String line = answer();
    if (!line.startsWith(kind + " ")) {
      throw new PeerException(peer.name() + " answers: " + line);
    }
    return line.substring(kind.length() + 1);
  }

  /**
   * What the peer says of itself.
   *
   * @return name and version
   */
  public String description() {
    return description;
  }

  @Override
  public String name() {
    return peer.name();
  }

  @Override
  public long nanos(long leadIn, long operations) {
    Signals.resume(process);
    String answer = ask("run " + leadIn + " " + operations);
    Signals.stop(process);
    if (!answer.startsWith("nanos ")) {
      throw new PeerException(peer.name() + " answers: " + answer);
    }
    return Long.parseLong(answer.substring(6));
  }

  @Override
  public double[] result(long[] positions) {
    Signals.resume(process);
    StringBuilder request = new StringBuilder("result");
    LongStream.of(positions).forEach(p -> request.append(' ').append(p));
    String[] words = ask(request.toString()).split(" ");
    if (words.length != positions.length + 1) {
      throw new PeerException(peer.name() + " answers: " + String.join(" ", words));
    }
    double[] values = new double[positions.length];
    for (int i = 0; i < values.length; i++) {
      values[i] = Double.parseDouble(words[i + 1].replace("inf", "Infinity").replace("nan", "NaN"));
    }
    return values;
  }

  @Override
  public Duration processorTime() {
    return process.info().totalCpuDuration().orElse(Duration.ZERO);
  }

  @Override
  public void close() {
    process.destroy();
    Signals.resume(process);
    try {
      if (!process.waitFor(2, TimeUnit.SECONDS)) {
        process.destroyForcibly();
      }
      Files.deleteIfExists(errors);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    } catch (IOException e) {
      // A file in the temporary folder is no reason to fail
    }
  }
}
