package dev.lanewise.bench;

import dev.lanewise.bench.breakdown.Breakdown;
import dev.lanewise.bench.contest.Case;
import dev.lanewise.bench.peers.Peer;
import dev.lanewise.bench.peers.Peers;
import dev.lanewise.bench.report.Comparison;
import dev.lanewise.bench.report.HtmlReport;
import dev.lanewise.bench.report.MarkdownReport;
import dev.lanewise.bench.report.Report;
import dev.lanewise.bench.report.Result;
import dev.lanewise.bench.report.Text;
import dev.lanewise.bench.suite.Workloads;
import dev.lanewise.core.base.AtomicFile;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.cli.Subcommand;
import dev.lanewise.core.machine.MachineFacts;
import dev.lanewise.core.machine.MachineLimits;
import dev.lanewise.core.machine.MachineProbe;
import dev.lanewise.simd.Workers;
import java.io.IOException;
import java.io.PrintWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.regex.Pattern;
import java.util.regex.PatternSyntaxException;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/** Measures the machine, the kernels and the trainer, and the peers beside them. */
@Command(
    name = "bench",
    description = {
      "Measures how fast this machine is, how close Lanewise comes, and the peers found on it.",
      "",
      "Peers take turns with Lanewise, each in a process of its own; each computes the right result"
          + " before it is timed. Get them with: mvn -Ppeers -pl bench validate"
    },
    footer = {
      "Examples:",
      "  lanewise bench --quick",
      "  lanewise bench gemm --filter k=768 --report gemm.html",
      "  lanewise bench --from old.json --report old.html",
      "  lanewise bench kernels --baseline old.json",
      "  lanewise bench train --breakdown"
    })
public final class BenchCommand implements Subcommand {
  @Parameters(
      arity = "0..*",
      paramLabel = "SUITE",
      description = "gemm, kernels, search, train, generate, gpu; all of them if none is named.")
  private List<String> suites = List.of();

  @Option(
      names = "--quick",
      description = "A few cases and the strongest peers in about a minute, with wider errors.")
  private boolean quick;

  @Option(
      names = "--forks",
      paramLabel = "N",
      description = {
        "JVMs of each case; by default 2 for the usual products and kernels, otherwise 1.",
        "With 1, errors are wider."
      })
  private int forks;

  @Option(
      names = "--filter",
      paramLabel = "REGEX",
      description = "Only cases in whose text this is found, such as \"m=1024.*NT\".")
  private String filter = "";

  @Option(
      names = "--threads",
      paramLabel = "N",
      split = ",",
      description = {
        "Numbers of threads; by default all cores, and one for some cases unless quick.",
        "With all cores, one thread takes turns with them, for the ratio."
      })
  private List<Integer> threads = List.of();

  @Option(
      names = "--peers",
      paramLabel = "NAME",
      split = ",",
      description = "Peers to ask; those found by default; none for none.")
  private List<String> peers;

  @Option(
      names = "--json",
      paramLabel = "FILE",
      description = "Write a list of objects: benchmark, params, threads, score, error, ...")
  private Path json;

  @Option(names = "--report", paramLabel = "FILE", description = "Write the report as HTML.")
  private Path html;

  @Option(
      names = "--markdown",
      paramLabel = "FILE",
      description = {
        "Write the report as Markdown; between the comments <!-- performance --> and",
        "<!-- /performance --> if the file has them, of which the rest is kept."
      })
  private List<Path> markdown = List.of();

  @Option(
      names = "--store",
      paramLabel = "FILE",
      description = "Write all that was found, for --from and --baseline.")
  private Path store;

  @Option(
      names = "--from",
      paramLabel = "FILE",
      description = {
        "Measure nothing; take a stored report. Several of one machine are put together, those of",
        "several machines stand one after the other in Markdown."
      })
  private List<Path> from = List.of();

  @Option(
      names = "--baseline",
      paramLabel = "FILE",
      description = "Say what has changed beyond noise since this stored report.")
  private Path baseline;

  @Option(
      names = "--jvm",
      paramLabel = "PATH",
      description = "The java that runs the measurements; this one by default.")
  private String jvm;

  @Option(
      names = "--breakdown",
      description = "Only take the steps of training and generating apart, by operation.")
  private boolean breakdown;

  @Option(names = "--list", description = "Only list the cases and the peers.")
  private boolean list;

  @Spec private CommandSpec spec;

  private PrintWriter out;

  /** Called by the service loader. */
  public BenchCommand() {}

  @Override
  public Integer call() throws IOException {
    out = spec.commandLine().getOut();
    List<Suite> chosen = chosenSuites();
    ClassPath.publish();
    if (list) {
      listAll(chosen);
      return 0;
    }
    if (breakdown) {
      printBreakdowns(chosen);
      return 0;
    }
    Report old = baseline == null ? null : Report.read(baseline);
    List<Report> reports = from.isEmpty() ? List.of(measure(chosen, old)) : stored();
    if (reports.size() == 1) {
      if (old != null) {
        Comparison.of(old, reports.getFirst()).lines().forEach(out::println);
      }
      writeData(reports.getFirst(), old);
    } else if (json != null || store != null || html != null || old != null) {
      throw new InputException(
          "The stored reports come from different machines, which only --markdown can show"
              + " together.");
    }
    for (Path file : markdown) {
      String before = Files.exists(file) ? Files.readString(file) : "";
      AtomicFile.writeText(file, MarkdownReport.into(before, reports));
    }
    List<String> failures = reports.stream().flatMap(r -> r.failures().stream()).toList();
    failures.forEach(why -> out.println("Failed: " + why));
    return failures.isEmpty() ? 0 : 1;
  }

  private List<Suite> chosenSuites() {
    if (suites.isEmpty()) {
      return List.of(Suite.values());
    }
    Set<Suite> chosen = new LinkedHashSet<>();
    for (String name : suites) {
      try {
        chosen.add(Suite.valueOf(name.toUpperCase(Locale.ROOT)));
      } catch (IllegalArgumentException e) {
        throw wrong(
            "There is no suite called "
                + name
                + "; there are gemm, kernels, search, train, generate and gpu.");
      }
    }
    return List.copyOf(chosen);
  }

  private ParameterException wrong(String message) {
    return new ParameterException(spec.commandLine(), message);
  }

  private List<String> cases(Suite suite) {
    Pattern pattern;
    try {
      pattern = Pattern.compile(filter);
    } catch (PatternSyntaxException e) {
      throw wrong("--filter is no regular expression: " + e.getDescription() + ".");
    }
    // A filter that names a case which is not quick means it nevertheless
    List<String> all = quick && filter.isEmpty() ? suite.quickCases() : suite.cases();
    return all.stream().filter(c -> pattern.matcher(c).find()).toList();
  }

  private void listAll(List<Suite> chosen) {
    for (Suite suite : chosen) {
      out.println(suite + ":");
      cases(suite).forEach(c -> out.println("  " + c));
    }
    out.println("peers:");
    for (String name : Peers.KNOWN) {
      Peer peer = Peers.find(name);
      out.println("  " + name + ": " + (peer.isFound() ? "" : "not found, ") + peer.reason());
    }
  }

  /** In this JVM, without peers: made for looking at again and again while tuning. */
  private void printBreakdowns(List<Suite> chosen) {
    int cores = Runtime.getRuntime().availableProcessors();
    List<Integer> counts = counts(cores, List.of(cores));
    List<Case> tasks =
        chosen.stream()
            .flatMap(s -> cases(s).stream())
            .map(Case::parse)
            .filter(Workloads::hasBreakdown)
            .toList();
    if (tasks.isEmpty()) {
      throw wrong("No case to break down; the suites train and generate have some.");
    }
    MachineLimits limits = MachineProbe.measure(cores, Duration.ofMillis(25));
    Text.limits(limits).forEach(out::println);
    for (Case task : tasks) {
      for (int count : counts) {
        Workers.setThreads(count);
        Breakdown parts = Workloads.breakdown(task, quick ? 1_000_000_000L : 4_000_000_000L);
        out.println();
        out.println(Text.task(task) + ", " + Text.threads(count));
        Text.breakdown(parts, Workloads.cost(task), limits.of(count)).forEach(out::println);
        out.flush();
      }
    }
  }

  private List<Integer> counts(int cores, List<Integer> otherwise) {
    List<Integer> counts = threads.isEmpty() ? otherwise : threads;
    for (int count : counts) {
      if (count < 1 || count > cores) {
        throw wrong("--threads " + count + ": this machine has " + cores + " cores.");
      }
    }
    return counts;
  }

  /** The stored reports, those of one machine put together. */
  private List<Report> stored() {
    Map<MachineFacts, List<Report>> machines = new LinkedHashMap<>();
    for (Path file : from) {
      Report report = Report.read(file);
      machines.computeIfAbsent(report.machine(), m -> new ArrayList<>()).add(report);
    }
    return machines.values().stream().map(BenchCommand::together).toList();
  }

  private static Report together(List<Report> reports) {
    Report first = reports.getFirst();
    Map<String, Result> results = new LinkedHashMap<>();
    Map<String, String> all = new LinkedHashMap<>();
    for (Report report : reports) {
      all.putAll(report.peers());
      report.results().forEach(r -> results.put(r.name(), r));
    }
    MachineLimits limits =
        reports.stream().map(Report::limits).reduce(MachineLimits::with).orElseThrow();
    return new Report(
        first.date(),
        String.join("\n", reports.stream().map(Report::command).distinct().toList()),
        first.version(),
        reports.stream().anyMatch(Report::quick),
        reports.stream().mapToInt(Report::forks).max().orElseThrow(),
        first.machine(),
        limits,
        all,
        List.copyOf(results.values()),
        reports.stream().flatMap(r -> r.failures().stream()).distinct().toList());
  }

  private Report measure(List<Suite> chosen, Report old) throws IOException {
    int cores = Runtime.getRuntime().availableProcessors();
    if (chosen.stream().allMatch(s -> cases(s).isEmpty())) {
      throw wrong("No case matches --filter " + filter + "; --list shows them.");
    }
    checkPeerNames();
    Map<String, String> skipped = new LinkedHashMap<>();
    List<Session.Batch> batches = new ArrayList<>();
    for (Suite suite : chosen) {
      Optional<String> obstacle = cases(suite).isEmpty() ? Optional.empty() : suite.obstacle();
      if (obstacle.isPresent()) {
        skipped.put("suite " + suite, obstacle.get());
        continue;
      }
      List<String> names = cases(suite).isEmpty() ? List.of() : wantedPeers(suite, skipped);
      for (int count : counts(cores, quick || cores == 1 ? List.of(cores) : List.of(1, cores))) {
        List<String> cases = cases(suite);
        if (threads.isEmpty() && count < cores) {
          cases = cases.stream().filter(suite.singleCases()::contains).toList();
        }
        if (!cases.isEmpty()) {
          boolean isAlone = suite == Suite.TRAIN && !quick;
          batches.add(new Session.Batch(suite, count, cases, names, isAlone));
        }
      }
    }
    try (Session session =
        new Session(batches, quick, forks, repeat(), jvm, out, r -> writeData(r, old))) {
      skipped.forEach(session::skip);
      return session.run();
    }
  }

  /**
   * The peers that know the suite, are wanted and were found; the others are said to be skipped.
   */
  private List<String> wantedPeers(Suite suite, Map<String, String> skipped) {
    List<String> wanted = new ArrayList<>();
    for (String name : suite.peers()) {
      boolean isWanted =
          peers != null ? peers.contains(name) : !quick || suite.quickPeers().contains(name);
      if (!isWanted) {
        continue;
      }
      Peer peer = Peers.find(name);
      if (peer.isFound()) {
        wanted.add(name);
      } else if (peers != null) {
        throw new InputException(name + " was not found: " + peer.reason() + ".");
      } else {
        skipped.put(name, peer.reason());
      }
    }
    return wanted;
  }

  private void checkPeerNames() {
    if (peers == null) {
      return;
    }
    for (String name : peers) {
      if (!name.equals("none") && !Peers.KNOWN.contains(name)) {
        String known = String.join(", ", Peers.KNOWN);
        throw wrong("There is no peer called " + name + "; there are " + known + ".");
      }
    }
  }

  /** The command line that repeats this run. */
  private String repeat() {
    StringBuilder command = new StringBuilder("./lanewise bench");
    suites.forEach(s -> command.append(' ').append(s));
    if (quick) {
      command.append(" --quick");
    }
    if (forks > 0) {
      command.append(" --forks ").append(forks);
    }
    if (!filter.isEmpty()) {
      command.append(" --filter '").append(filter).append('\'');
    }
    if (!threads.isEmpty()) {
      command
          .append(" --threads ")
          .append(String.join(",", threads.stream().map(t -> "" + t).toList()));
    }
    if (peers != null) {
      command.append(" --peers ").append(String.join(",", peers));
    }
    return command.toString();
  }

  /** What a program reads, and the page; written after each case too. */
  private void writeData(Report report, Report old) {
    if (json != null) {
      AtomicFile.writeText(json, report.toRows());
    }
    if (store != null) {
      AtomicFile.writeText(store, report.toJson());
    }
    if (html != null) {
      AtomicFile.writeText(html, HtmlReport.of(report, old));
    }
  }
}
