package dev.lanewise.bench;

import dev.lanewise.bench.contest.Case;
import dev.lanewise.bench.contest.Contender;
import dev.lanewise.bench.contest.Contest;
import dev.lanewise.bench.contest.ContestBenchmark;
import dev.lanewise.bench.contest.ContestProfiler;
import dev.lanewise.bench.peers.Endpoint;
import dev.lanewise.bench.report.Beside;
import dev.lanewise.bench.report.Interval;
import dev.lanewise.bench.report.Result;
import dev.lanewise.bench.report.Rival;
import dev.lanewise.bench.report.Surroundings;
import dev.lanewise.bench.suite.Workloads;
import dev.lanewise.core.base.InputException;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.openjdk.jmh.results.BenchmarkResult;
import org.openjdk.jmh.results.IterationResult;
import org.openjdk.jmh.results.RunResult;
import org.openjdk.jmh.results.format.ResultFormatFactory;
import org.openjdk.jmh.results.format.ResultFormatType;
import org.openjdk.jmh.runner.RunnerException;
import org.openjdk.jmh.runner.options.ChainedOptionsBuilder;
import org.openjdk.jmh.runner.options.OptionsBuilder;
import org.openjdk.jmh.runner.options.TimeValue;
import org.openjdk.jmh.runner.options.VerboseMode;

/**
 * Runs cases through JMH, each in JVMs of its own with a heap of fixed size.
 *
 * <p>The JVMs run on the class path, whatever this one runs on: JMH's generated code and the peers'
 * jars are not modules.
 */
final class Runner {
  private final Path folder;
  private final String java;
  private double best;
  private final List<RunResult> all = new ArrayList<>();

  /**
   * Creates a runner.
   *
   * @param folder takes JMH's log and JSON
   * @param java the launcher of the JVMs; null for this JVM's
   */
  Runner(Path folder, String java) {
    this.folder = folder;
    this.java = java;
    ClassPath.publish();
  }

  /**
   * Measures a case.
   *
   * @param suite its suite
   * @param text the case
   * @param threads threads of every contender
   * @param peers the peers that take part
   * @param schedule how long
   * @return the result
   * @throws InputException if Lanewise fails or computes something wrong
   * @throws LockedException if another JMH run is under way
   */
  Result run(Suite suite, String text, int threads, List<Endpoint> peers, Schedule schedule) {
    Path notes = folder.resolve("notes.txt");
    Path log = folder.resolve("jmh.log");
    Collection<RunResult> results;
    try {
      Files.deleteIfExists(notes);
      ChainedOptionsBuilder options =
          new OptionsBuilder()
              .include("^" + suite.benchmark().getName().replace(".", "\\.") + "\\.round$")
              .param("task", text)
              .param("threads", Integer.toString(threads))
              .param("peers", String.join(",", peers.stream().map(Endpoint::name).toList()))
              .forks(schedule.forks())
              .warmupIterations(0)
              .measurementIterations(schedule.iterations())
              .measurementTime(TimeValue.milliseconds(schedule.iterationMillis()))
              .addProfiler(ContestProfiler.class)
              .shouldFailOnError(true)
              .timeout(TimeValue.minutes(5))
              .verbosity(VerboseMode.NORMAL)
              .output(log.toString())
              .jvmArgs(
                  "--add-modules=jdk.incubator.vector",
                  "--enable-native-access=ALL-UNNAMED",
                  "--sun-misc-unsafe-memory-access=allow", // JMH's own
                  "-Xmx128m",
                  // As the launcher has it, so that memory is what a user's run takes.
                  "-XX:+UseSerialGC",
                  "-Xms24m",
                  "-Xmn16m",
                  "-XX:MinHeapFreeRatio=10",
                  "-XX:MaxHeapFreeRatio=20",
                  "-XX:-ShrinkHeapInSteps",
                  "-XX:TrimNativeHeapInterval=5000",
                  "-D" + Contest.SLICE + "=" + schedule.sliceMillis(),
                  "-D" + Contest.SETTLE + "=" + schedule.settleMillis(),
                  "-D" + ContestBenchmark.BESIDES + "=" + schedule.besides(),
                  "-D" + ContestBenchmark.BREAKDOWN + "=" + schedule.breakdown(),
                  "-D" + Endpoint.PROPERTY + "=" + Endpoint.write(peers),
                  "-D" + ContestProfiler.NOTES + "=" + notes.toAbsolutePath());
      options.jvmArgsAppend(compileCommands());
      if (java != null) {
        options.jvm(java);
      }
      results = new org.openjdk.jmh.runner.Runner(options.build()).run();
    } catch (RunnerException | IOException e) {
      String cause = cause(log, e);
      if (cause.contains("JMH lock")) {
        throw new LockedException();
      }
      throw new InputException(cause);
    }
    all.addAll(results);
    Case task = Case.parse(text);
    Notes noted = Notes.read(notes);
    best = Math.max(best, noted.most());
    return result(suite, task, threads, schedule, results, noted);
  }

  /** Thrown when another JMH run is under way. */
  static final class LockedException extends RuntimeException {
    private static final long serialVersionUID = 1;

    LockedException() {
      super(
          "Another JMH run is under way, and each would disturb the other's figures: wait for its"
              + " end, or set LANEWISE_JAVA_OPTIONS=-Djmh.ignoreLock=true.");
    }
  }

  /** What the launcher tells its own JVM about compiling, so that kernels run as they do there. */
  private static String[] compileCommands() {
    return ManagementFactory.getRuntimeMXBean().getInputArguments().stream()
        .filter(argument -> argument.startsWith("-XX:CompileCommand="))
        .toArray(String[]::new);
  }

  /** The most arithmetic that all cores ever gave, in GFLOP/s. */
  double best() {
    return best;
  }

  /** JMH prints the exception of a fork into its log and throws a word without it. */
  private static String cause(Path log, Exception e) {
    try {
      for (String line : Files.readAllLines(log)) {
        int at = line.indexOf("Exception: ");
        if (at >= 0 && !line.startsWith("\tat")) {
          return line.substring(at + 11);
        }
      }
    } catch (IOException unreadable) {
      // Then JMH's own word must do
    }
    return e.getMessage() + "; see " + log;
  }

  private static Result result(
      Suite suite,
      Case task,
      int threads,
      Schedule schedule,
      Collection<RunResult> results,
      Notes notes) {
    Map<String, List<Double>> times = new LinkedHashMap<>();
    for (RunResult run : results) {
      for (BenchmarkResult fork : run.getBenchmarkResults()) {
        for (IterationResult iteration : fork.getIterationResults()) {
          iteration
              .getSecondaryResults()
              .forEach(
                  (name, value) ->
                      times.computeIfAbsent(name, n -> new ArrayList<>()).add(value.getScore()));
        }
      }
    }
    List<Double> ours = times.remove(Contender.OURS);
    if (ours == null) {
      throw new InputException("no time of ours was reported");
    }
    List<Double> machine = times.remove(Contender.MACHINE);
    Interval limit = machine == null ? null : Interval.of(ratios(machine, ours));
    List<Beside> besides = new ArrayList<>();
    for (Contest.Beside beside : Workloads.besides(task, threads)) {
      List<Double> nanos = times.remove(beside.name());
      if (nanos != null) {
        // Another size has other work, so speeds are compared and not times
        double work = Workloads.cost(task).amount() / Workloads.cost(beside.task()).amount();
        List<Double> ratios = ratios(nanos, ours).stream().map(r -> r * work).toList();
        besides.add(
            new Beside(beside.name(), beside.task(), Interval.of(nanos), Interval.of(ratios)));
      }
    }
    List<Rival> rivals = new ArrayList<>();
    times.forEach(
        (peer, nanos) ->
            rivals.add(new Rival(peer, Interval.of(nanos), Interval.of(ratios(nanos, ours)))));
    return new Result(
        suite.toString(),
        task,
        threads,
        Workloads.cost(task),
        Interval.of(ours),
        limit,
        rivals,
        new Surroundings(notes.others(), notes.stolen(), notes.peak()),
        notes.warmUp(),
        notes.failures(),
        notes.breakdown(),
        besides,
        task.operation().equals("train") ? notes.memory() : Map.of(),
        schedule.forks());
  }

  /** Another's time divided by ours in the same iteration. */
  private static List<Double> ratios(List<Double> nanos, List<Double> ours) {
    List<Double> ratios = new ArrayList<>();
    for (int i = 0; i < Math.min(nanos.size(), ours.size()); i++) {
      ratios.add(nanos.get(i) / ours.get(i));
    }
    return ratios;
  }

  /**
   * Writes what JMH found, in its own format.
   *
   * @param file the file
   */
  void writeJmh(Path file) {
    try {
      ResultFormatFactory.getInstance(ResultFormatType.JSON, file.toString()).writeOut(all);
    } catch (RuntimeException e) {
      throw new InputException("cannot write " + file + ": " + e.getMessage());
    }
  }
}
