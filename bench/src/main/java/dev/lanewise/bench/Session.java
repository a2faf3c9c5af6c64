package dev.lanewise.bench;

import dev.lanewise.bench.contest.Case;
import dev.lanewise.bench.peers.Endpoint;
import dev.lanewise.bench.peers.Peers;
import dev.lanewise.bench.report.HtmlReport;
import dev.lanewise.bench.report.MarkdownReport;
import dev.lanewise.bench.report.Report;
import dev.lanewise.bench.report.Result;
import dev.lanewise.bench.report.Text;
import dev.lanewise.core.base.AtomicFile;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.machine.MachineFacts;
import dev.lanewise.core.machine.MachineLimits;
import dev.lanewise.core.machine.MachineProbe;
import dev.lanewise.core.report.TerminalProgress;
import java.io.IOException;
import java.io.PrintWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.ZoneOffset;
import java.time.ZonedDateTime;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.function.Consumer;

/**
 * A run of the benchmarks: case after case, with what was found written after each, so that an
 * interruption costs no more than the case it meets.
 */
final class Session implements AutoCloseable {
  private static final DateTimeFormatter STAMP =
      DateTimeFormatter.ofPattern("yyyyMMdd-HHmmss", Locale.ROOT);
  private static final DateTimeFormatter DATE =
      DateTimeFormatter.ofPattern("yyyy-MM-dd HH:mm 'UTC'", Locale.ROOT);

  /** Memory and turbo differ from minute to minute; the limit is the best that was ever seen. */
  private static final long PROBE_AGAIN = 60_000_000_000L;

  /** The part of the planned time that cases may take once more because the machine was busy. */
  private static final double AGAIN = 0.05;

  /** Starting the peers of a suite. */
  private static final double PEERS_SECONDS = 5;

  private final ZonedDateTime now = ZonedDateTime.now(ZoneOffset.UTC);
  private final Path folder =
      Files.createDirectories(Path.of("runs", "bench-" + STAMP.format(now)));
  private final MachineFacts facts = MachineFacts.ofThisMachine();
  private final TerminalProgress progress = TerminalProgress.on(System.out);
  private final Map<String, String> peers = new LinkedHashMap<>();
  private final List<Result> results = new ArrayList<>();
  private final List<String> failures = new ArrayList<>();
  private final List<Batch> batches;
  private final boolean quick;
  private final int forks;
  private final String command;
  private final Runner runner;
  private final PrintWriter out;
  private final Consumer<Report> writer;
  private MachineLimits limits;
  private long probed;
  private double planned;
  private double done;
  private double spentAgain;
  private int number;
  private int count;

  /**
   * Cases that share their peers.
   *
   * @param suite their suite
   * @param threads threads of every contender
   * @param cases the cases
   * @param peers peers that were found
   * @param isAlone whether peers start anew for each case, so that they hold only its memory
   */
  record Batch(Suite suite, int threads, List<String> cases, List<String> peers, boolean isAlone) {}

  /**
   * Measures the machine and plans the run.
   *
   * @param batches what is measured
   * @param quick whether wider errors will do
   * @param forks JVMs of each case; 0 for what the suites find right
   * @param command what to type to repeat the run
   * @param java the launcher of the JVMs; null for this JVM's
   * @param out takes what is said before and after
   * @param writer called with what was found so far after each case
   */
  Session(
      List<Batch> batches,
      boolean quick,
      int forks,
      String command,
      String java,
      PrintWriter out,
      Consumer<Report> writer)
      throws IOException {
    this.batches = batches;
    this.quick = quick;
    this.forks = forks;
    this.command = command;
    this.out = out;
    this.writer = writer;
    runner = new Runner(folder, java);
    out.println(Text.machine(facts));
    probe();
    Text.limits(limits).forEach(out::println);
    for (Batch batch : batches) {
      planned += starts(batch) * PEERS_SECONDS;
      for (String text : batch.cases) {
        planned += schedule(batch, text, batch.peers.size()).seconds();
        count++;
      }
    }
    out.printf(
        Locale.ROOT,
        "%d cases, about %s on a quiet machine; what is found goes to %s as it comes.%n",
        count,
        planned < 100
            ? String.format(Locale.ROOT, "%.0f seconds", planned)
            : String.format(Locale.ROOT, "%.0f minutes", planned / 60),
        folder);
    out.flush();
  }

  private static int starts(Batch batch) {
    return batch.peers.isEmpty() ? 0 : batch.isAlone ? batch.cases.size() : 1;
  }

  private Schedule schedule(Batch batch, String text, int rivals) {
    int jvms = forks > 0 ? forks : quick ? 1 : batch.suite.forks(text, batch.threads);
    return Schedule.of(Case.parse(text), batch.threads, rivals, jvms, quick, limits);
  }

  private void probe() {
    MachineLimits found =
        MachineProbe.measure(
            Runtime.getRuntime().availableProcessors(), Duration.ofMillis(quick ? 12 : 25));
    limits = limits == null ? found : limits.with(found);
    probed = System.nanoTime();
  }

  /** Says why something takes no part. */
  void skip(String name, String reason) {
    met(name, "skipped: " + reason);
  }

  private void met(String peer, String description) {
    if (!description.equals(peers.put(peer, description))) {
      progress.message("  " + Peers.label(peer) + ": " + description);
    }
  }

  /** Measures all, and returns what was found. */
  Report run() throws IOException {
    progress.begin("measured", 0, 100);
    for (Batch batch : batches) {
      for (List<String> cases : batch.isAlone ? single(batch.cases) : List.of(batch.cases)) {
        show("starting peers of " + batch.suite);
        try (PeerGroup group = new PeerGroup(batch.peers, batch.threads)) {
          group.descriptions().forEach(this::met);
          done += batch.peers.isEmpty() ? 0 : PEERS_SECONDS;
          for (String text : cases) {
            measure(batch, text, group);
          }
        }
      }
    }
    progress.end();
    probe();
    Report report = report();
    out.println("After the run, the best of all probes:");
    Text.limits(limits).forEach(out::println);
    write(report);
    out.println("Written: " + folder.resolve("report.html") + ", report.md, report.json, jmh.json");
    return report;
  }

  private static List<List<String>> single(List<String> cases) {
    return cases.stream().map(List::of).toList();
  }

  private void show(String what) {
    progress.show((long) Math.min(99, 100 * done / planned), what);
  }

  private void measure(Batch batch, String text, PeerGroup group) {
    Case task = Case.parse(text);
    number++;
    show(String.format(Locale.ROOT, "case %d of %d: %s", number, count, Text.task(task)));
    if (System.nanoTime() - probed > PROBE_AGAIN) {
      probe();
    }
    try {
      List<Endpoint> rivals = group.endpoints();
      Schedule schedule = schedule(batch, text, rivals.size());
      Result result = runner.run(batch.suite, text, batch.threads, rivals, schedule);
      limits = limits.withPeak(runner.best());
      boolean hasTime = spentAgain + schedule.seconds() < AGAIN * planned;
      if (result.isDisturbed(limits) && !quick && hasTime) {
        // Once more, in the hope of a quieter time
        spentAgain += schedule.seconds();
        Result again = runner.run(batch.suite, text, batch.threads, group.endpoints(), schedule);
        limits = limits.withPeak(runner.best());
        boolean quieter = again.surroundings().left() > result.surroundings().left();
        result = quieter ? again : result;
      }
      results.add(result);
      Report report = report();
      progress.message(Text.result(result, report));
      result.failures().forEach(why -> progress.message("  without a peer: " + why));
      write(report);
    } catch (Runner.LockedException e) {
      throw new InputException(e.getMessage());
    } catch (RuntimeException e) {
      String why = Text.task(task) + ", " + Text.threads(batch.threads) + ": " + e.getMessage();
      failures.add(why);
      progress.message("failed: " + why);
    }
    done += schedule(batch, text, batch.peers.size()).seconds();
  }

  private Report report() {
    int jvms = results.stream().mapToInt(Result::forks).max().orElse(1);
    return new Report(
        DATE.format(now), command, version(), quick, jvms, facts, limits, peers, results, failures);
  }

  private static String version() {
    Module module = Session.class.getModule();
    return module.isNamed() ? module.getDescriptor().rawVersion().orElse("unknown") : "unknown";
  }

  private void write(Report report) {
    AtomicFile.writeText(folder.resolve("report.json"), report.toJson());
    AtomicFile.writeText(folder.resolve("report.html"), HtmlReport.of(report, null));
    AtomicFile.writeText(folder.resolve("report.md"), MarkdownReport.into("", List.of(report)));
    runner.writeJmh(folder.resolve("jmh.json"));
    writer.accept(report);
  }

  @Override
  public void close() {
    progress.close();
  }
}
