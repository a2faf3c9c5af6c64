package dev.lanewise.bench;

import dev.lanewise.bench.contest.Case;
import dev.lanewise.bench.contest.Workload.Cost;
import dev.lanewise.bench.suite.Workloads;
import dev.lanewise.core.machine.MachineLimits;

/**
 * How long a case is measured, so that a run takes the time that it promises.
 *
 * <p>A case gets a budget, and of that as many iterations as there is room for: an iteration is a
 * round of everybody's turns at least, and a round of training steps takes half a minute.
 *
 * @param forks JVMs
 * @param iterations iterations in each
 * @param iterationMillis least time of an iteration
 * @param sliceMillis time of a turn
 * @param settleMillis time that Lanewise runs alone first, at least
 * @param besides whether Lanewise does other things by turns, to compare with
 * @param breakdown whether a step is taken apart at the end
 * @param seconds what all of it takes, roughly
 */
record Schedule(
    int forks,
    int iterations,
    int iterationMillis,
    int sliceMillis,
    int settleMillis,
    boolean besides,
    boolean breakdown,
    double seconds) {
  private static final int CORES = Runtime.getRuntime().availableProcessors();

  /** Interpreted code makes first steps of a large model take many seconds. */
  private static final double COLD_STEPS = 12;

  private static final double START_SECONDS = 2;

  /** What operands cost: elements are made one by one, by us and by each peer. */
  private static final double BYTES_PER_SECOND = 1e9;

  /** What a usual case reaches of the limits, and a usual peer of our speed. */
  private static final double REACHED = 0.6;

  private static final double PEER = 1.7;

  /** Steps of which models are taken apart; the option for it takes any apart. */
  private static final int LARGE = 12;

  private static final int SHORT = 256;

  /** Above this an operation is so long that few of them must do. */
  private static final double SECONDS_LONG = 1;

  /**
   * Plans a case.
   *
   * @param task the case
   * @param threads threads of every contender
   * @param peers number of peers
   * @param forks JVMs
   * @param quick whether wider errors will do
   * @param limits what the machine can do
   */
  static Schedule of(
      Case task, int threads, int peers, int forks, boolean quick, MachineLimits limits) {
    Cost cost = Workloads.cost(task);
    boolean isModel = Workloads.hasBreakdown(task);
    double ours = cost.limitNanos(limits.of(threads)) / REACHED / 1e9;
    double slice = Math.max(ours, quick ? 0.008 : 0.012);
    // A shorter step of the same model shows as well what more threads bring
    boolean besides = !quick && threads > 1 && ours < SECONDS_LONG;
    double round = slice * (2 + (besides ? 2 : 0)) + peers * PEER * slice;
    double budget = quick ? 1.2 : isModel ? 8 : 2.5;
    int most = quick ? (isModel ? 5 : 7) : 9;
    int least = quick || ours > SECONDS_LONG ? 3 : ours > 0.1 ? 4 : 5;
    int iterations = (int) Math.clamp(budget / round, least, most);
    double iterationSeconds = budget / most;
    double settle = quick ? 0.5 : 0.6;
    double measuring = iterations * Math.max(round, iterationSeconds) + round / 2;
    boolean breakdown =
        isModel
            && threads == CORES
            && !quick
            && task.number("layers") >= LARGE
            && task.number("tokens") <= SHORT;
    double setUp =
        START_SECONDS
            + cost.bytes() / BYTES_PER_SECOND * (isModel ? 0.2 : 1 + peers)
            + Math.max(settle * 1.7, 5 * ours)
            + (isModel && ours > 0.1 ? COLD_STEPS : 0) * (quick ? 0.6 : 1)
            + peers * Math.max(settle * 0.4, 2.5 * PEER * ours)
            + (besides ? settle : 0);
    double apart = breakdown ? 5 + Math.max(4, 8 * ours) + (ours > 0.1 ? COLD_STEPS : 0) : 0;
    return new Schedule(
        forks,
        iterations,
        (int) (1000 * iterationSeconds),
        quick ? 8 : 12,
        (int) (1000 * settle),
        besides,
        breakdown,
        forks * (setUp + measuring + apart));
  }
}
