package dev.lanewise.bench.contest;

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
   * @return resident memory, zeros where the system does not tell
   */
  default Memory memory() {
    return new Memory(0, 0);
  }

  @Override
  void close();
}
