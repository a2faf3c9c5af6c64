package dev.lanewise.bench.suite;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import dev.lanewise.bench.contest.Case;
import dev.lanewise.bench.contest.Contest;
import dev.lanewise.bench.contest.Inputs;
import dev.lanewise.bench.contest.Workload;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.function.LongToDoubleFunction;
import java.util.function.LongUnaryOperator;
import java.util.stream.LongStream;

/** An operation over segments, put together from its parts by {@link Kernels}. */
final class KernelWorkload implements Workload {
  private final Case task;
  private final Arena arena = Arena.ofShared();
  private long[] positions = {};
  private MemorySegment output;
  private LongUnaryOperator place = i -> i;
  private LongToDoubleFunction exact;
  private double[] expected;
  private double relative;
  private double absolute;
  private Runnable run;
  private Runnable reset = () -> {};

  KernelWorkload(Case task) {
    this.task = task;
  }

  /** An operand that peers make for themselves alike. */
  MemorySegment input(long count, int operand) {
    return Inputs.floats(arena, count, operand);
  }

  /** Whole numbers that peers make for themselves alike. */
  MemorySegment ids(long count, int operand, int bound) {
    MemorySegment ids = arena.allocate(count * Integer.BYTES, 64);
    for (long i = 0; i < count; i++) {
      ids.setAtIndex(java.lang.foreign.ValueLayout.JAVA_INT, i, Inputs.below(i, operand, bound));
    }
    return ids;
  }

  /** Owner of the operands. */
  Arena arena() {
    return arena;
  }

  MemorySegment zeros(long count) {
    return arena.allocate(count * Float.BYTES, 64);
  }

  /** Where the result is, and how many elements of it are compared. */
  KernelWorkload result(MemorySegment segment, long count) {
    output = segment;
    positions = Contest.spread(count);
    return this;
  }

  /** As {@link #result(MemorySegment, long)}, where an exact element is dear. */
  KernelWorkload result(MemorySegment segment, long count, int compared) {
    output = segment;
    positions =
        LongStream.range(0, Math.min(compared, count)).map(i -> i * (count / compared)).toArray();
    return this;
  }

  /** Where an element that is compared lies in our result, if not in its own place. */
  KernelWorkload at(LongUnaryOperator function) {
    place = function;
    return this;
  }

  /** The exact result, and how far a value may be from it. */
  KernelWorkload exact(double relativeTolerance, double absoluteTolerance, LongToDoubleFunction f) {
    relative = relativeTolerance;
    absolute = absoluteTolerance;
    exact = f;
    return this;
  }

  KernelWorkload run(Runnable operation) {
    run = operation;
    return this;
  }

  KernelWorkload reset(Runnable operation) {
    reset = operation;
    return this;
  }

  @Override
  public Case task() {
    return task;
  }

  @Override
  public Cost cost() {
    return Workloads.cost(task);
  }

  @Override
  public long[] positions() {
    return positions;
  }

  @Override
  public double[] expected() {
    if (expected == null) {
      expected = LongStream.of(positions).mapToDouble(exact).toArray();
    }
    return expected.clone();
  }

  @Override
  public double tolerance(int index) {
    return absolute + relative * Math.abs(expected()[index]);
  }

  @Override
  public void run() {
    run.run();
  }

  @Override
  public void reset() {
    reset.run();
  }

  @Override
  public double[] result(long[] at) {
    double[] values = new double[at.length];
    for (int i = 0; i < at.length; i++) {
      values[i] = output.getAtIndex(JAVA_FLOAT, place.applyAsLong(at[i]));
    }
    return values;
  }

  @Override
  public void close() {
    arena.close();
  }
}
