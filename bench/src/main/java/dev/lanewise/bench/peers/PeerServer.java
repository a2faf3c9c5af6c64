package dev.lanewise.bench.peers;

import dev.lanewise.bench.contest.Case;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;

/**
 * The peer's side of the conversation with {@link PeerProcess}: one line asks, one line answers.
 *
 * <pre>
 *                                   ready DESCRIPTION
 * case gemm m=2 n=3 k=4 threads=1   ok | skip REASON | error REASON
 * run 3 10                          nanos 12345, of the 10 after 3 that lead in
 * result 0 5                        values 0.25 -1.5
 * </pre>
 *
 * <p>A peer runs in a process of its own, so that its thread runtime, its allocator and, if it is
 * written in Java, its compiled code cannot disturb anybody else's, and so that it gets the
 * environment in which it is fastest.
 */
public final class PeerServer {
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
     * An element of the result.
     *
     * @param position its place
     * @return its value
     */
    double at(long position);
  }

  /**
   * Answers until the input ends.
   *
   * @param library who performs the cases
   * @throws IOException if the conversation breaks off
   */
  public static void serve(Library library) throws IOException {
    PrintStream out = System.out;
    // A library that prints must not be mistaken for an answer
    System.setOut(System.err);
    BufferedReader in =
        new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    out.println("ready " + library.describe());
    Job job = null;
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
            long operations = Long.parseLong(words[2]);
            for (long i = Long.parseLong(words[1]); i > 0; i--) {
              job.run();
            }
            long start = System.nanoTime();
            for (long i = 0; i < operations; i++) {
              job.run();
            }
            out.println("nanos " + (System.nanoTime() - start));
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
  }
}
