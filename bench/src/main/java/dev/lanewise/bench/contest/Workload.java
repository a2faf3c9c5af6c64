package dev.lanewise.bench.contest;

import dev.lanewise.core.machine.MachineLimits.Rates;
import dev.lanewise.core.machine.MachineProbe;

/** A case with operands, its exact result at some places, and its cost. */
public interface Workload extends AutoCloseable {

  /**
   * The case.
   *
   * @return what a peer is asked to perform
   */
  Case task();

  /**
   * What an operation costs.
   *
   * @return arithmetic and traffic
   */
  Cost cost();

  /**
   * Places of the result that are compared.
   *
   * @return positions in the result, counted in elements
   */
  long[] positions();

  /**
   * The result at {@link #positions()}, computed in 64-bit floats.
   *
   * @return the exact values
   */
  double[] expected();

  /**
   * How far a value may be from the exact one.
   *
   * @param index index into {@link #positions()}
   * @return the absolute tolerance
   */
  double tolerance(int index);

  /** Performs the operation once with Lanewise. */
  void run();

  /** Puts operands back that {@link #run()} has overwritten. */
  default void reset() {}

  /**
   * Values of the result that {@link #run()} left.
   *
   * @param positions places in the result
   * @return the values there
   */
  double[] result(long[] positions);

  @Override
  void close();

  /** Which of the machine's rates bounds the traffic of an operation. */
  enum Pattern {
    /** Reads and writes next to nothing. */
    READ,
    /** Reads one array and writes another. */
    COPY,
    /** Reads two arrays or more and writes another. */
    TRIAD,
    /** Writes where it reads. */
    UPDATE;

    /**
     * The bound.
     *
     * @param rates the machine's rates
     * @return GB/s
     */
    public double bandwidth(Rates rates) {
      return switch (this) {
        case READ -> rates.read().best();
        case COPY -> rates.copy().best();
        case TRIAD -> rates.triad().best();
        case UPDATE -> rates.update().best();
      };
    }

    /**
     * The loop that measures the bound.
     *
     * @return one of those that go by memory
     */
    MachineProbe.Work work() {
      return switch (this) {
        case READ -> MachineProbe.Work.READ;
        case COPY -> MachineProbe.Work.COPY;
        case TRIAD -> MachineProbe.Work.TRIAD;
        case UPDATE -> MachineProbe.Work.UPDATE;
      };
    }
  }

  /**
   * The cost of an operation.
   *
   * @param unit {@code GFLOP/s}, {@code GB/s} or {@code tokens/s}
   * @param amount what an operation performs, in billions of the unit's numerator (tokens: ones)
   * @param flops floating-point operations
   * @param bytes least traffic with memory: every operand once
   * @param pattern which bandwidth holds
   */
  record Cost(String unit, double amount, double flops, double bytes, Pattern pattern) {
    /**
     * The cost of an operation whose speed is told in GFLOP/s.
     *
     * @param flops floating-point operations
     * @param bytes least traffic
     * @param pattern which bandwidth holds
     * @return the cost
     */
    public static Cost arithmetic(double flops, double bytes, Pattern pattern) {
      return new Cost("GFLOP/s", flops / 1e9, flops, bytes, pattern);
    }

    /**
     * The cost of an operation whose speed is told in GB/s.
     *
     * @param flops floating-point operations
     * @param bytes least traffic
     * @param pattern which bandwidth holds
     * @return the cost
     */
    public static Cost traffic(double flops, double bytes, Pattern pattern) {
      return new Cost("GB/s", bytes / 1e9, flops, bytes, pattern);
    }

    /**
     * The cost of an operation whose speed is told in tokens per second.
     *
     * @param tokens tokens that an operation handles
     * @param flops floating-point operations
     * @param bytes least traffic
     * @param pattern which bandwidth holds
     * @return the cost
     */
    public static Cost tokens(double tokens, double flops, double bytes, Pattern pattern) {
      return new Cost("tokens/s", tokens, flops, bytes, pattern);
    }

    /**
     * The speed of an operation.
     *
     * @param nanos time of an operation
     * @return speed in {@link #unit()}
     */
    public double speed(double nanos) {
      return amount / (nanos * 1e-9);
    }

    /**
     * The shortest time that the machine's arithmetic and memory allow.
     *
     * @param rates the machine's rates
     * @return nanoseconds
     */
    public double limitNanos(Rates rates) {
      return Math.max(flops / rates.fma().best(), bytes / pattern.bandwidth(rates));
    }
  }
}
