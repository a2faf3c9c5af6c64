package dev.lanewise.bench.contest;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;

/** Somebody who performs a case: Lanewise in this process, a peer in its own, or the machine. */
public interface Contender extends AutoCloseable {
  /** The name of Lanewise among contenders. */
  String OURS = "lanewise";

  /** The name of the machine itself, whose time is the least that its limits allow. */
  String MACHINE = "machine";

  /**
   * The name under which the times are reported.
   *
   * @return a short name without blanks
   */
  String name();

  /**
   * Performs the operation a number of times.
   *
   * @param leadIn how often before the clock starts
   * @param operations how often then, at least once
   * @return nanoseconds of those after the lead-in
   */
  long nanos(long leadIn, long operations);

  /**
   * Values of the result that the last operation left.
   *
   * @param positions places in the result, counted in elements
   * @return the values there
   */
  double[] result(long[] positions);

  /**
   * Processor time that the contender's process has used.
   *
   * @return the time, zero where the system does not tell
   */
  Duration processorTime();

  /**
   * Memory that the contender's process holds.
   *
   * @return resident bytes, zero where the system does not tell
   */
  default long residentBytes() {
    return 0;
  }

  /**
   * Memory that a process holds, as Linux counts it.
   *
   * @param pid the process
   * @return resident bytes, zero where the system does not tell
   */
  static long residentBytes(long pid) {
    try {
      for (String line : Files.readAllLines(Path.of("/proc", Long.toString(pid), "status"))) {
        if (line.startsWith("VmRSS:")) {
          return 1024 * Long.parseLong(line.replaceAll("\\D", ""));
        }
      }
    } catch (IOException e) {
      // Not Linux, or the process has ended
    }
    return 0;
  }

  @Override
  void close();
}
