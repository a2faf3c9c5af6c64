package dev.lanewise.bench.peers;

import dev.lanewise.bench.contest.Case;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.net.StandardProtocolFamily;
import java.net.UnixDomainSocketAddress;
import java.nio.channels.Channels;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;

/**
 * The peer's side of the conversation with {@link PeerConnection}: one line asks, one line answers.
 *
 * <pre>
 * case gemm m=2 n=3 k=4 threads=1   ok | skip REASON | error REASON
 * run 3 10                          nanos 12345, of the 10 after 3 that lead in
 * result 0 5                        values 0.25 -1.5
 * </pre>
 *
 * <p>A peer runs in a process of its own, so that its thread runtime, its allocator and, if it is
 * written in Java, its compiled code cannot disturb anybody else's, and so that it gets the
 * environment in which it is fastest. It says {@code ready DESCRIPTION} to whoever started it,
 * listens on the socket that {@link #ADDRESS} names, performs a case for each connection, and ends
 * with its standard input.
 */
public final class PeerServer {
  /** Environment variable: the socket to listen on. */
  public static final String ADDRESS = "LANEWISE_PEER_SOCKET";

  private PeerServer() {}

  /** A library that can perform cases. */
  public interface Library {
    /**
     * What the library is.
     *
     * @return name, version and what it found out about the machine, in a line
     */
    String describe();

    /**
     * Prepares a case.
     *
     * @param task the case
     * @param threads number of threads
     * @return the job, or null if the library does not know the operation
     */
    Job open(Case task, int threads);
  }

  /** A case with its operands in place. */
  public interface Job {
    /** Performs the operation. */
    void run();

    /**
     * The time of operations.
     *
     * @param count how often to perform it
     * @return nanoseconds of all of them
     */
    default long nanos(long count) {
      long start = System.nanoTime();
      for (long i = 0; i < count; i++) {
        run();
      }
      return System.nanoTime() - start;
    }

    /**
     * An element of the result.
     *
     * @param position its place
     * @return its value
     */
    double at(long position);

    /** Frees the operands. */
    default void close() {}
  }

  /**
   * Answers until the standard input ends.
   *
   * @param library who performs the cases
   * @throws IOException if the socket fails
   */
  public static void serve(Library library) throws IOException {
    PrintStream out = System.out;
    // A library that prints must not be mistaken for an answer
    System.setOut(System.err);
    String address = System.getenv(ADDRESS);
    if (address == null) {
      throw new IOException(ADDRESS + " names no socket");
    }
    Thread.ofPlatform().daemon().start(PeerServer::endWithInput);
    try (ServerSocketChannel server = ServerSocketChannel.open(StandardProtocolFamily.UNIX)) {
      server.bind(UnixDomainSocketAddress.of(address));
      out.println("ready " + library.describe());
      while (true) {
        try (SocketChannel channel = server.accept()) {
          converse(library, channel);
        } catch (IOException e) {
          // Whoever asked is gone; the next one may come
        }
        System.gc();
      }
    }
  }

  private static void endWithInput() {
    try {
      while (System.in.read() >= 0) {
        // Nothing is said there
      }
    } catch (IOException e) {
      // Ends likewise
    }
    Runtime.getRuntime().halt(0);
  }

  private static void converse(Library library, SocketChannel channel) throws IOException {
    BufferedReader in =
        new BufferedReader(
            new InputStreamReader(Channels.newInputStream(channel), StandardCharsets.UTF_8));
    PrintStream out =
        new PrintStream(Channels.newOutputStream(channel), true, StandardCharsets.UTF_8);
    Job job = null;
    try {
      for (String line = in.readLine(); line != null; line = in.readLine()) {
        String[] words = line.split(" ", -1);
        try {
          switch (words[0]) {
            case "case" -> {
              Case task = Case.parse(line.substring(5));
              job = library.open(task, task.number("threads"));
              out.println(job == null ? "skip does not know " + task.operation() : "ok");
            }
            case "run" -> {
              job.nanos(Long.parseLong(words[1]));
              out.println("nanos " + job.nanos(Long.parseLong(words[2])));
            }
            case "result" -> {
              StringBuilder values = new StringBuilder("values");
              for (int i = 1; i < words.length; i++) {
                values.append(' ').append(job.at(Long.parseLong(words[i])));
              }
              out.println(values);
            }
            default -> out.println("error no such request: " + words[0]);
          }
        } catch (RuntimeException | LinkageError e) {
          out.println("error " + e.toString().lines().findFirst().orElse(""));
        }
      }
    } finally {
      if (job != null) {
        job.close();
      }
    }
  }
}
