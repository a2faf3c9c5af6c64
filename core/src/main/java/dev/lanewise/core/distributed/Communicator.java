package dev.lanewise.core.distributed;

import java.lang.foreign.MemorySegment;

/**
 * Processes that make the same calls in the same order, each with its own part of the data. Counts
 * and places are in floats; what is exchanged are bits, whatever they mean. Calls are made by one
 * thread, the one that made the communicator.
 */
public interface Communicator extends AutoCloseable {
  /**
   * Which of the processes this is.
   *
   * @return from 0 to {@link #size} - 1
   */
  int rank();

  /**
   * How many processes there are.
   *
   * @return at least 1
   */
  int size();

  /**
   * What connects the processes.
   *
   * @return name and version, for people
   */
  String description();

  /**
   * Gives every process, this one included, a piece of what this one has, and takes one of each.
   *
   * @param send native memory
   * @param sendAt where the piece for each process begins
   * @param sendCounts how long it is
   * @param receive native memory apart from {@code send}
   * @param receiveAt where the piece of each process goes
   * @param receiveCounts how long it is: what that process sends
   * @throws IllegalArgumentException if a piece lies outside its memory
   */
  void allToAll(
      MemorySegment send,
      int[] sendAt,
      int[] sendCounts,
      MemorySegment receive,
      int[] receiveAt,
      int[] receiveCounts);

  /**
   * Gives every process the pieces of all.
   *
   * @param all native memory, in which this process's piece lies in its place
   * @param at where the piece of each process begins
   * @param counts how long it is
   * @throws IllegalArgumentException if a piece lies outside the memory
   */
  void allGather(MemorySegment all, int[] at, int[] counts);

  /**
   * Gives every process what one has.
   *
   * @param data native memory, as long in every process, of whole floats
   * @param root the process that has it
   */
  void broadcast(MemorySegment data, int root);

  /** Returns when all processes have come here. */
  void barrier();

  /**
   * Ends all processes at once, this one included, whatever they do.
   *
   * @param code exit code
   */
  void abort(int code);

  /** Ends the use of this process; all processes end it together. */
  @Override
  void close();

  /** One process alone. */
  static Communicator alone() {
    return new Alone();
  }
}
