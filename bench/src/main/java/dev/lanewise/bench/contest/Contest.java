package dev.lanewise.bench.contest;

import dev.lanewise.bench.peers.Endpoint;
import dev.lanewise.bench.peers.PeerConnection;
import dev.lanewise.bench.peers.PeerException;
import dev.lanewise.simd.Workers;
import java.lang.management.ManagementFactory;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.function.Supplier;

/**
 * Contenders that perform the same case by turns.
 *
 * <p>A turn is a slice of some milliseconds, preceded by a lead-in that is not timed, in which
 * caches fill and the threads of the contender before go to sleep. A round gives every contender
 * one turn; the order rotates. What disturbs the machine for longer than a round thus meets all
 * alike, and the ratio of two times of one round is sounder than either.
 */
public final class Contest implements AutoCloseable {
  /** System property: milliseconds of a turn. */
  public static final String SLICE = "lanewise.bench.slice";

  /** System property: milliseconds that Lanewise runs alone first at least, to be compiled. */
  public static final String SETTLE = "lanewise.bench.settle";

  private static final long LEAD_IN = 3_000_000;

  /** The least and the most that a peer runs before it is timed, in settling times. */
  private static final double LEAST_WARM_UP = 0.2;

  private static final double MOST_WARM_UP = 5;

  /** The first operations of a peer can take many times as long as the later ones. */
  private static final int LEAST_OPERATIONS = 3;

  private static final double STEADY = 1.15;

  /** A peer that takes so many times as long as Lanewise keeps the time that it had at first. */
  private static final double HOPELESS = 20;

  /** The same for one that takes seconds. */
  private static final double MUCH_SLOWER = 3;

  private static final double LONG = 2e9;

  /** Half a settling time in which the best turn gained less than this ends the wait. */
  private static final double SETTLED = 0.97;

  /** The longest wait, in settling times. */
  private static final long PATIENCE = 10;

  private final Workload workload;
  private final int threads;
  private final List<Workload> others = new ArrayList<>();
  private final Map<String, Memory> memory = new LinkedHashMap<>();
  private final List<Turns> turns = new ArrayList<>();
  private final List<WarmUp> warmUp = new ArrayList<>();
  private final List<String> failures = new ArrayList<>();
  private final long settle = Long.getLong(SETTLE, 1200) * 1_000_000;
  private final long slice = Long.getLong(SLICE, 15) * 1_000_000;
  private int round;

  /**
   * A moment of the warm-up of Lanewise.
   *
   * @param seconds since the JVM started
   * @param nanos time of an operation then
   */
  public record WarmUp(double seconds, double nanos) {}

  /** One contender's share of the contest. */
  private static final class Turns {
    final Contender contender;
    double estimate;
    double hopeless;
    final List<Double> times = new ArrayList<>();

    Turns(Contender contender) {
      this.contender = contender;
    }
  }

  /**
   * Prepares the contest: every contender computes the case, and its result is compared with the
   * exact one before anything is timed.
   *
   * @param workload the case; closed with this contest
   * @param threads number of threads of every contender
   * @param peers the peers; those that do not know the operation stay away, and those that fail or
   *     compute something else are sent away, see {@link #failures}
   * @throws WrongResultException if the result of Lanewise is not the exact one within the
   *     tolerance
   */
  public Contest(Workload workload, int threads, List<Endpoint> peers) {
    this(workload, threads, peers, List.of());
  }

  /**
   * Prepares a contest in which Lanewise takes part more than once: with one thread beside many,
   * with a product alone beside one that does more.
   *
   * @param workload the case; closed with this contest
   * @param threads number of threads of every contender
   * @param peers the peers, see {@link #Contest(Workload, int, List)}
   * @param besides what else Lanewise performs by turns
   * @throws WrongResultException if a result of Lanewise is not the exact one within the tolerance
   */
  public Contest(Workload workload, int threads, List<Endpoint> peers, List<Beside> besides) {
    this.workload = workload;
    this.threads = threads;
    try {
      Turns ours = new Turns(new Ours(Contender.OURS, workload, threads, threads));
      turns.add(ours);
      ours.contender.nanos(0, 1);
      verify(ours.contender, workload);
      settle(ours);
      // Once more, now that it is compiled
      workload.reset();
      ours.contender.nanos(0, 1);
      verify(ours.contender, workload);
      remember(ours.contender);
      besides.forEach(this::addBeside);
      for (Endpoint peer : peers) {
        invite(peer, threads, ours.estimate);
      }
      if (workload.task().word("device", "cpu").equals("cpu")) {
        addMachine(threads);
      }
    } catch (RuntimeException e) {
      close();
      throw e;
    }
  }

  private void addBeside(Beside beside) {
    Workload other = workload;
    if (beside.task().equals(workload.task())) {
      workload.reset();
    } else {
      other = beside.open().get();
      others.add(other);
    }
    Turns turn = new Turns(new Ours(beside.name(), other, beside.threads(), threads));
    turn.estimate = turn.contender.nanos(0, 1);
    verify(turn.contender, other);
    double sum = 0;
    while (sum < settle / 2.0) {
      long operations = Math.max(1, (long) (4e6 / turn.estimate));
      double nanos = turn.contender.nanos(0, operations);
      sum += nanos;
      turn.estimate = nanos / operations;
    }
    turns.add(turn);
  }

  private void remember(Contender contender) {
    Memory held = contender.memory();
    if (held.settled() > 0) {
      memory.put(contender.name(), held);
    }
  }

  private void invite(Endpoint endpoint, int threads, double ours) {
    PeerConnection peer = null;
    try {
      peer = PeerConnection.open(endpoint, workload.task(), threads);
      if (peer == null) {
        return;
      }
      Turns turn = new Turns(peer);
      turn.estimate = peer.nanos(0, 1);
      verify(peer, workload);
      double hope = turn.estimate > 2 * LONG ? HOPELESS / 2.5 : HOPELESS;
      if (turn.estimate < Math.max(LONG, hope * ours)) {
        turn.estimate = warmUp(peer, ours);
      }
      if (turn.estimate > Math.max(2e8, HOPELESS * ours)
          || turn.estimate > Math.max(LONG, MUCH_SLOWER * ours)) {
        turn.hopeless = turn.estimate;
      }
      remember(peer);
      if (turn.hopeless > 0) {
        peer.close(); // has no more turns, so others may have its memory
      }
      turns.add(turn);
    } catch (PeerException | WrongResultException e) {
      failures.add(e.getMessage());
      if (peer != null) {
        peer.close();
      }
    }
  }

  /**
   * Lets a peer run until it has settled: the memory that it keeps takes some operations to find
   * its place.
   *
   * @return the shortest time of an operation
   */
  private double warmUp(PeerConnection peer, double ours) {
    double[] last = new double[4];
    double best = Double.POSITIVE_INFINITY;
    double sum = 0;
    for (int i = 0; i < LEAST_OPERATIONS || sum < MOST_WARM_UP * settle; i++) {
      double nanos = peer.nanos(0, 1);
      last[i % last.length] = nanos;
      best = Math.min(best, nanos);
      sum += nanos;
      boolean steady = Arrays.stream(last).max().orElseThrow() < STEADY * best;
      boolean hopeless = best > Math.max(LONG, HOPELESS / 4 * ours);
      if (hopeless || i >= last.length && steady && sum >= LEAST_WARM_UP * settle) {
        break;
      }
    }
    return best;
  }

  /** The machine takes part too, with the least time that its limits allow at this moment. */
  private void addMachine(int threads) {
    Turns turn = new Turns(new MachineLimit(workload.cost(), workload.task(), threads));
    turn.estimate = turn.contender.nanos(0, 1);
    turns.add(turn);
  }

  /**
   * Peers that were sent away.
   *
   * @return why, a sentence each
   */
  public List<String> failures() {
    return List.copyOf(failures);
  }

  /** Runs Lanewise alone until the compiler has done with it, and keeps the curve. */
  private void settle(Turns ours) {
    long start = System.nanoTime();
    long jvm = ManagementFactory.getRuntimeMXBean().getStartTime();
    double offset = (System.currentTimeMillis() - jvm) / 1e3;
    long operations = 1;
    double before = Double.POSITIVE_INFINITY;
    double best = Double.POSITIVE_INFINITY;
    long window = start;
    for (long now = start; now - start < PATIENCE * settle; ) {
      double nanos = (double) ours.contender.nanos(0, operations) / operations;
      now = System.nanoTime();
      warmUp.add(new WarmUp(offset + (now - start) / 1e9, nanos));
      operations = Math.max(1, (long) (4e6 / nanos));
      ours.estimate = nanos;
      best = Math.min(best, nanos);
      if (now - window >= settle / 2 && warmUp.size() > 2) {
        if (now - start >= settle && best > SETTLED * before) {
          return;
        }
        before = best;
        best = Double.POSITIVE_INFINITY;
        window = now;
      }
    }
  }

  private static void verify(Contender contender, Workload workload) {
    long[] positions = workload.positions();
    double[] expected = workload.expected();
    double[] result = contender.result(positions);
    for (int i = 0; i < positions.length; i++) {
      double error = Math.abs(result[i] - expected[i]);
      if (!(error <= workload.tolerance(i))) {
        throw new WrongResultException(
            String.format(
                Locale.ROOT,
                "%s computes %s at element %d of %s, where %s is right",
                contender.name(),
                result[i],
                positions[i],
                workload.task(),
                expected[i]));
      }
    }
  }

  /** Gives every contender a turn. */
  public void round() {
    List<Turns> failed = new ArrayList<>();
    for (int i = 0; i < turns.size(); i++) {
      Turns turn = turns.get((i + round) % turns.size());
      try {
        take(turn);
      } catch (PeerException e) {
        failures.add(e.getMessage());
        turn.contender.close();
        failed.add(turn);
      }
    }
    turns.removeAll(failed);
    round++;
  }

  private void take(Turns turn) {
    if (turn.hopeless > 0) {
      turn.times.add(turn.hopeless);
      return;
    }
    long leadIn = turn.estimate > 10 * LEAD_IN ? 0 : Math.ceilDiv(LEAD_IN, (long) turn.estimate);
    long operations = Math.max(1, Math.round(slice / turn.estimate));
    double nanos = (double) turn.contender.nanos(leadIn, operations) / operations;
    turn.estimate = nanos;
    turn.times.add(nanos);
  }

  /**
   * The median time of each contender over the rounds since the last call, and forgets them.
   *
   * @return nanoseconds of an operation by name, Lanewise first
   */
  public Map<String, Double> takeMedians() {
    Map<String, Double> medians = new LinkedHashMap<>();
    for (Turns turn : turns) {
      double[] sorted = turn.times.stream().mapToDouble(Double::doubleValue).sorted().toArray();
      turn.times.clear();
      if (sorted.length > 0) {
        int half = sorted.length / 2;
        medians.put(
            turn.contender.name(),
            sorted.length % 2 == 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2);
      }
    }
    return medians;
  }

  /** Processor time that this process and the peers have used. */
  Duration processorTime() {
    return turns.stream()
        .map(t -> t.contender.processorTime())
        .reduce(Duration.ZERO, Duration::plus);
  }

  /**
   * How Lanewise came to its speed in this JVM.
   *
   * @return moments in the order of time
   */
  public List<WarmUp> warmUp() {
    return warmUp;
  }

  /**
   * Memory that contenders hold once they have settled, before others are there: of Lanewise with
   * its JVM, of a peer with its process.
   *
   * @return resident memory by name; without those of whom the system does not tell
   */
  public Map<String, Memory> memory() {
    return memory;
  }

  @Override
  public void close() {
    turns.forEach(t -> t.contender.close());
    others.forEach(Workload::close);
    workload.close();
  }

  /**
   * Something that Lanewise performs beside the case itself, to be compared with it.
   *
   * @param name under which its times are reported
   * @param task what it performs
   * @param threads with how many threads
   * @param open makes the workload; not called for the contest's own case
   */
  public record Beside(String name, Case task, int threads, Supplier<Workload> open) {}

  /** Lanewise, in this process; leaves as many threads as everything else here needs. */
  private record Ours(String name, Workload workload, int threads, int usualThreads)
      implements Contender {
    @Override
    public long nanos(long leadIn, long operations) {
      if (threads == usualThreads) {
        return timed(leadIn, operations);
      }
      Workers.setThreads(threads);
      try {
        return timed(leadIn, operations);
      } finally {
        Workers.setThreads(usualThreads);
      }
    }

    private long timed(long leadIn, long operations) {
      for (long i = 0; i < leadIn; i++) {
        workload.run();
      }
      long start = System.nanoTime();
      for (long i = 0; i < operations; i++) {
        workload.run();
      }
      return System.nanoTime() - start;
    }

    @Override
    public double[] result(long[] positions) {
      return workload.result(positions);
    }

    @Override
    public Duration processorTime() {
      return name.equals(OURS)
          ? ProcessHandle.current().info().totalCpuDuration().orElse(Duration.ZERO)
          : Duration.ZERO; // part of this process
    }

    @Override
    public Memory memory() {
      return Memory.of(ProcessHandle.current().pid());
    }

    @Override
    public void close() {}
  }

  /**
   * Places spread over a result, the first and the last among them.
   *
   * @param count elements of the result
   * @return at most 64 positions
   */
  public static long[] spread(long count) {
    long[] positions = new long[(int) Math.min(64, count)];
    for (int i = 0; i < positions.length; i++) {
      long even = i * (count - 1) / Math.max(1, positions.length - 1);
      boolean edge = i == 0 || i == positions.length - 1;
      positions[i] = edge ? even : Math.min(count - 1, even + Inputs.below(i, 99, 17));
    }
    return Arrays.stream(positions).sorted().distinct().toArray();
  }
}
