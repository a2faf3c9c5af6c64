package dev.lanewise.bench.contest;

import dev.lanewise.bench.contest.Workload.Cost;
import dev.lanewise.core.machine.MachineProbe;
import dev.lanewise.simd.Machine;
import java.time.Duration;

/**
 * What the machine allows: the time that an operation would take if it ran at the machine's limit,
 * which is measured anew in each turn, so that it meets the same slow and fast moments as everybody
 * else. The limit is arithmetic or memory, whichever takes longer for the operation.
 */
final class MachineLimit implements Contender {
  /** System property: size of the arrays, smaller for tests. */
  private static final int MEGABYTES = Integer.getInteger("lanewise.bench.megabytes", 128);

  /** More does not make a turn sounder. */
  private static final long MOST_NANOS = 30_000_000;

  private static final long LEAST_NANOS = 2_000_000;

  private final MachineProbe.Loop loop;
  private final double amount;

  /**
   * Prepares the loop that limits an operation.
   *
   * @param task says what its products are computed in
   */
  MachineLimit(Cost cost, Case task, int threads) {
    MachineProbe.Work products = MachineProbe.Work.FMA;
    if (task.hasIntegers() && Machine.int8Operations(1) > 0) {
      products = MachineProbe.Work.INT8;
    } else if (task.isBfloat16() && Machine.bfloat16Operations(1) > 0) {
      products = MachineProbe.Work.BFLOAT16;
    }
    MachineProbe.Loop arithmetic = new MachineProbe.Loop(products, threads, MEGABYTES);
    if (cost.bytes() == 0) {
      loop = arithmetic;
      amount = cost.flops();
      return;
    }
    MachineProbe.Loop memory = new MachineProbe.Loop(cost.pattern().work(), threads, MEGABYTES);
    double flopNanos = cost.flops() / arithmetic.rate(LEAST_NANOS);
    double byteNanos = cost.bytes() / memory.rate(LEAST_NANOS);
    boolean isArithmetic = flopNanos > byteNanos;
    loop = isArithmetic ? arithmetic : memory;
    amount = isArithmetic ? cost.flops() : cost.bytes();
    (isArithmetic ? memory : arithmetic).close();
  }

  @Override
  public String name() {
    return MACHINE;
  }

  @Override
  public long nanos(long leadIn, long operations) {
    if (leadIn > 0) {
      loop.rate(LEAST_NANOS / 2);
    }
    double share = operations * amount / loop.lastRate();
    double rate = loop.rate((long) Math.clamp(share, LEAST_NANOS, MOST_NANOS));
    return Math.max(1, Math.round(operations * amount / rate));
  }

  @Override
  public double[] result(long[] positions) {
    throw new UnsupportedOperationException("the machine computes nothing");
  }

  @Override
  public Duration processorTime() {
    return Duration.ZERO; // part of this process
  }

  @Override
  public void close() {
    loop.close();
  }
}
