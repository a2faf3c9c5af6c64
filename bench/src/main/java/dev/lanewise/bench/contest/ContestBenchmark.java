package dev.lanewise.bench.contest;

import dev.lanewise.bench.breakdown.Breakdown;
import dev.lanewise.bench.peers.Endpoint;
import dev.lanewise.simd.Workers;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Level;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;

/**
 * What all suites share: JMH times rounds, and {@link ContestProfiler} tells it who took how long.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.MILLISECONDS)
@Fork(value = 3)
@Warmup(iterations = 2, time = 500, timeUnit = TimeUnit.MILLISECONDS)
@Measurement(iterations = 7, time = 500, timeUnit = TimeUnit.MILLISECONDS)
public abstract class ContestBenchmark {
  /** System property: whether to take a step apart after it was timed. */
  public static final String BREAKDOWN = "lanewise.bench.breakdown";

  /** System property: whether Lanewise performs other things by turns with the work, to compare. */
  public static final String BESIDES = "lanewise.bench.besides";

  /** Threads of every contender. */
  @Param("1")
  public int threads;

  /** Names of running peers between commas; none by default. */
  @Param("")
  public String peers;

  private Contest contest;

  /** Called by JMH. */
  protected ContestBenchmark() {}

  /**
   * The work that is timed.
   *
   * @return a fresh workload
   */
  protected abstract Workload workload();

  /**
   * What else Lanewise performs by turns with the work.
   *
   * @return nothing, if not overridden
   */
  protected List<Contest.Beside> besides() {
    return List.of();
  }

  /**
   * Takes a step of the work apart.
   *
   * @return its operations, or null for work of one operation
   */
  protected Breakdown breakdown() {
    return null;
  }

  /** Lets every contender compute the case and compares the results. */
  @Setup(Level.Trial)
  public void prepare() {
    Workers.setThreads(threads);
    List<String> names = peers.isEmpty() ? List.of() : List.of(peers.split(",", -1));
    List<Contest.Beside> others = Boolean.getBoolean(BESIDES) ? besides() : List.of();
    contest = new Contest(workload(), threads, Endpoint.find(names), others);
    ContestProfiler.start(contest);
  }

  /** Gives every contender a turn. */
  @Benchmark
  public void round() {
    contest.round();
  }

  /** Sends the contenders home. */
  @TearDown(Level.Trial)
  public void close() {
    ContestProfiler.end();
    contest.close();
    if (Boolean.getBoolean(BREAKDOWN)) {
      Breakdown breakdown = breakdown();
      if (breakdown != null) {
        ContestProfiler.note(breakdown);
      }
    }
  }
}
