package dev.lanewise.bench.peers;

import dev.lanewise.bench.contest.Case;
import dev.lanewise.bench.contest.Contender;
import dev.lanewise.bench.contest.Memory;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.OutputStreamWriter;
import java.io.Writer;
import java.net.StandardProtocolFamily;
import java.net.UnixDomainSocketAddress;
import java.nio.channels.Channels;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.stream.LongStream;

/**
 * A peer that performs one case; see {@link PeerServer} for the conversation.
 *
 * <p>Between its turns its process is stopped: the threads of most libraries spin for milliseconds
 * after their work is done, on cores that the next contender needs.
 */
public final class PeerConnection implements Contender {
  private static final Duration PATIENCE = Duration.ofMinutes(6);
  private static final String END = "";

  private final Endpoint endpoint;
  private final SocketChannel channel;
  private final Writer requests;
  private final BlockingQueue<String> answers = new LinkedBlockingQueue<>();

  private PeerConnection(Endpoint endpoint) {
    this.endpoint = endpoint;
    try {
      channel = SocketChannel.open(StandardProtocolFamily.UNIX);
      channel.connect(UnixDomainSocketAddress.of(endpoint.address()));
    } catch (IOException e) {
      throw new PeerException(endpoint.name() + " cannot be reached: " + e.getMessage());
    }
    requests = new OutputStreamWriter(Channels.newOutputStream(channel), StandardCharsets.UTF_8);
    Thread.ofPlatform().daemon().name("peer " + endpoint.name()).start(this::listen);
  }

  private void listen() {
    try (BufferedReader reader =
        new BufferedReader(
            new InputStreamReader(Channels.newInputStream(channel), StandardCharsets.UTF_8))) {
      for (String line = reader.readLine(); line != null; line = reader.readLine()) {
        answers.add(line);
      }
    } catch (IOException e) {
      // The end of the stream is reported below, whatever its cause
    }
    answers.add(END);
  }

  /**
   * Lets a peer prepare a case.
   *
   * @param endpoint the peer
   * @param task the case
   * @param threads number of threads
   * @return the peer, ready to run, or null if it does not know the operation
   * @throws PeerException if the peer is gone or answers with an error
   */
  public static PeerConnection open(Endpoint endpoint, Case task, int threads) {
    PeerConnection connection = new PeerConnection(endpoint);
    try {
      String answer = connection.ask("case " + task + " threads=" + threads);
      if (answer.startsWith("skip")) {
        connection.close();
        return null;
      }
      if (!answer.equals("ok")) {
        throw new PeerException(endpoint.name() + " cannot perform this: " + answer);
      }
      Signals.stop(endpoint.pid());
      return connection;
    } catch (PeerException e) {
      connection.close();
      throw e;
    }
  }

  private String ask(String request) {
    try {
      requests.write(request + "\n");
      requests.flush();
    } catch (IOException e) {
      throw new PeerException(endpoint.name() + " has ended");
    }
    try {
      String line = null;
      // Second by second, so that time in which this process was stopped too does not count
      for (long second = 0; line == null && second < PATIENCE.toSeconds(); second++) {
        line = answers.poll(1, TimeUnit.SECONDS);
      }
      if (line == null) {
        throw new PeerException(
            endpoint.name() + " does not answer within " + PATIENCE.toMinutes() + " minutes");
      }
      if (line.equals(END)) {
        throw new PeerException(endpoint.name() + " has ended");
      }
      return line;
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new PeerException(endpoint.name() + " was interrupted");
    }
  }

  /** Asks while the process runs, and stops it again. */
  private String turn(String request) {
    Signals.resume(endpoint.pid());
    try {
      return ask(request);
    } finally {
      Signals.stop(endpoint.pid());
    }
  }

  @Override
  public String name() {
    return endpoint.name();
  }

  @Override
  public long nanos(long leadIn, long operations) {
    String answer = turn("run " + leadIn + " " + operations);
    if (!answer.startsWith("nanos ")) {
      throw new PeerException(endpoint.name() + " answers: " + answer);
    }
    return Long.parseLong(answer.substring(6));
  }

  @Override
  public double[] result(long[] positions) {
    StringBuilder request = new StringBuilder("result");
    LongStream.of(positions).forEach(p -> request.append(' ').append(p));
    String[] words = turn(request.toString()).split(" ");
    if (words.length != positions.length + 1) {
      throw new PeerException(endpoint.name() + " answers: " + String.join(" ", words));
    }
    double[] values = new double[positions.length];
    for (int i = 0; i < values.length; i++) {
      values[i] = Double.parseDouble(words[i + 1].replace("inf", "Infinity").replace("nan", "NaN"));
    }
    return values;
  }

  @Override
  public Duration processorTime() {
    return ProcessHandle.of(endpoint.pid())
        .flatMap(p -> p.info().totalCpuDuration())
        .orElse(Duration.ZERO);
  }

  @Override
  public Memory memory() {
    return Memory.of(endpoint.pid());
  }

  @Override
  public void close() {
    Signals.resume(endpoint.pid());
    try {
      channel.close();
    } catch (IOException e) {
      // The peer sees the end, and that is what is wanted
    }
  }
}
