package dev.lanewise.bench.contest;

import dev.lanewise.bench.breakdown.Breakdown;
import dev.lanewise.core.machine.MachineProbe;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import org.openjdk.jmh.infra.BenchmarkParams;
import org.openjdk.jmh.infra.IterationParams;
import org.openjdk.jmh.profile.InternalProfiler;
import org.openjdk.jmh.results.AggregationPolicy;
import org.openjdk.jmh.results.IterationResult;
import org.openjdk.jmh.results.Result;
import org.openjdk.jmh.results.ScalarResult;

/**
 * Hands the contenders' times of an iteration to JMH as secondary results, so that its own
 * statistics and its JSON file hold them.
 */
public final class ContestProfiler implements InternalProfiler {
  /**
   * System property: file that takes what JMH has no place for, a line each: {@code warm SECONDS
   * NANOS} for the moments of the warm-up, {@code peak GFLOPS} for what the cores gave before and
   * after, {@code others SHARE} for what other programs and other guests had of them, {@code stolen
   * SHARE} for those guests alone, {@code memory SETTLED PEAK NAME} for the bytes that a contender
   * holds, {@code failed WHY} for a peer that was sent away.
   */
  public static final String NOTES = "lanewise.bench.notes";

  private static final Duration WINDOW = Duration.ofMillis(10);

  private static Contest current;
  private static Disturbance disturbance;

  /** Called by JMH. */
  public ContestProfiler() {}

  /**
   * Says which contest is on.
   *
   * @param contest the contest whose times are reported from now on
   */
  static void start(Contest contest) {
    List<String> lines = new ArrayList<>();
    for (Contest.WarmUp moment : contest.warmUp()) {
      lines.add("warm " + moment.seconds() + " " + moment.nanos());
    }
    contest
        .memory()
        .forEach(
            (name, held) ->
                lines.add(String.join(" ", "memory", "" + held.settled(), "" + held.peak(), name)));
    lines.add(peak());
    note(lines);
    current = contest;
    disturbance = new Disturbance(contest::processorTime);
  }

  /** Says that the contest is over, while its peers still are there. */
  static void end() {
    Disturbance.Shares shares = disturbance.shares();
    List<String> lines = new ArrayList<>();
    lines.add("others " + shares.others());
    lines.add("stolen " + shares.stolen());
    lines.add(peak());
    current.failures().forEach(why -> lines.add("failed " + why));
    note(lines);
    current = null;
  }

  private static String peak() {
    int cores = Runtime.getRuntime().availableProcessors();
    return "peak " + MachineProbe.arithmetic(cores, WINDOW).best();
  }

  /**
   * Notes where a step's time goes, {@code step NANOS} and {@code part CALLS NANOS FLOPS BYTES
   * LABEL} for each operation.
   */
  static void note(Breakdown breakdown) {
    List<String> lines = new ArrayList<>();
    lines.add("step " + breakdown.nanos());
    for (Breakdown.Part part : breakdown.parts()) {
      lines.add(
          String.join(
              " ",
              "part",
              Long.toString(part.calls()),
              Double.toString(part.nanos()),
              Double.toString(part.flops()),
              Double.toString(part.bytes()),
              part.label()));
    }
    note(lines);
  }

  private static void note(List<String> lines) {
    String file = System.getProperty(NOTES);
    if (file != null) {
      try {
        Files.write(
            Path.of(file),
            lines,
            StandardCharsets.UTF_8,
            StandardOpenOption.CREATE,
            StandardOpenOption.APPEND);
      } catch (IOException e) {
        throw new UncheckedIOException(e);
      }
    }
  }

  @Override
  public String getDescription() {
    return "times of the contenders";
  }

  @Override
  public void beforeIteration(BenchmarkParams benchmark, IterationParams iteration) {
    if (current != null) {
      current.takeMedians();
    }
  }

  @Override
  public Collection<? extends Result<?>> afterIteration(
      BenchmarkParams benchmark, IterationParams iteration, IterationResult result) {
    List<ScalarResult> results = new ArrayList<>();
    if (current != null) {
      current
          .takeMedians()
          .forEach(
              (name, nanos) ->
                  results.add(new ScalarResult(name, nanos, "ns/op", AggregationPolicy.AVG)));
    }
    return results;
  }
}
