package dev.lanewise.bench.report;

import dev.lanewise.bench.peers.Peers;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;

/** What a report says in a few words, for the page and for Markdown. */
final class Summary {
  /** How to read the tables. */
  static final String KEY =
      "Ratios are our speed divided by the peer's, with their intervals: ▲ Lanewise is faster, ▼ it"
          + " is slower, ≈ the difference is within the noise. % of limit is our speed beside that"
          + " of the machine's own arithmetic or memory, taken by turns; above 100 the caches"
          + " help.";

  /** Where the limits come from. */
  static final String PROBES =
      "Probes before, during and after the run, each of several windows: the best window is the"
          + " limit; at its slowest is the least median of a probe, when neighbours had the"
          + " machine, or when a host ran several virtual cores on one: all together then give no"
          + " more arithmetic than one.";

  private static final Set<String> STRONG = Set.of("onednn", "openblas", "pytorch", "libtorch");

  private Summary() {}

  /** The few numbers at the head: ratios to the strongest peers, over all their cases. */
  static Map<String, String> figures(Report report) {
    Map<String, String> figures = new LinkedHashMap<>();
    int threads = report.results().stream().mapToInt(Result::threads).max().orElse(1);
    report.results().stream()
        .filter(r -> r.threads() == threads && r.cost().unit().equals("GFLOP/s"))
        .filter(r -> r.limit() != null)
        .max(Comparator.comparingDouble(r -> r.speed().median()))
        .ifPresent(
            r ->
                figures.put(
                    String.format(
                        Locale.ROOT, "fastest, %s, %s", Text.task(r.task()), Text.threads(threads)),
                    String.format(
                        Locale.ROOT,
                        "%.0f GFLOP/s, %s %% of peak",
                        r.speed().median(),
                        Text.percent(r.limit()))));
    means(report, threads)
        .forEach(
            (name, mean) -> {
              boolean isStrong =
                  STRONG.stream().anyMatch(p -> name.startsWith(Peers.label(p) + ","));
              if (isStrong) {
                figures.put("speed ÷ " + name, String.format(Locale.ROOT, "%.2f×", mean));
              }
            });
    return figures;
  }

  /** Geometric mean of the ratios to each peer of a suite, by {@code suite, peer}. */
  static Map<String, Double> means(Report report, int threads) {
    Map<String, List<Double>> ratios = new LinkedHashMap<>();
    for (Result result : report.results()) {
      if (result.threads() == threads) {
        for (Rival rival : result.rivals()) {
          ratios
              .computeIfAbsent(
                  Peers.label(rival.peer()) + ", " + result.suite(), k -> new ArrayList<>())
              .add(rival.ratio().median());
        }
      }
    }
    Map<String, Double> means = new LinkedHashMap<>();
    ratios.forEach(
        (key, all) ->
            means.put(key, Math.exp(all.stream().mapToDouble(Math::log).average().orElseThrow())));
    return means;
  }

  /** A note if others had much of the machine. */
  static Optional<String> disturbed(Report report) {
    List<Result> disturbed =
        report.results().stream().filter(r -> r.isDisturbed(report.limits())).toList();
    if (disturbed.isEmpty()) {
      return Optional.empty();
    }
    double most =
        disturbed.stream().mapToDouble(r -> r.surroundings().others()).max().orElseThrow();
    double least = disturbed.stream().mapToDouble(r -> r.surroundings().peak()).min().orElseThrow();
    return Optional.of(
        String.format(
                Locale.ROOT,
                "The machine was busy in %d of %d cases, which are marked: other guests or programs"
                    + " had up",
                disturbed.size(),
                report.results().size())
            + String.format(
                Locale.ROOT,
                " to %.0f %% of the cores, and these gave down to %.0f %% of their best"
                    + " arithmetic.",
                100 * most,
                100 * least / report.limits().all().fma().best()));
  }

  /** Cases with different operations whose warm-up is worth a line, the longest first. */
  static List<Result> warmUps(Report report, int most) {
    int threads = report.results().stream().mapToInt(Result::threads).max().orElse(1);
    Map<String, Result> byOperation =
        report.results().stream()
            .filter(r -> r.threads() == threads && r.warmUp().size() >= 8)
            .filter(r -> r.nanos().median() < 1e8)
            .collect(
                Collectors.toMap(
                    r -> r.task().operation(), r -> r, (a, b) -> a, LinkedHashMap::new));
    return byOperation.values().stream().limit(most).toList();
  }

  /** The numbers of threads of a report, most first. */
  static Set<Integer> threads(Report report) {
    return report.results().stream()
        .map(Result::threads)
        .collect(Collectors.toCollection(TreeSet::new))
        .descendingSet();
  }

  /** How the figures came to be, in sentences. */
  static List<String> method(Report report) {
    int least = report.results().stream().mapToInt(Result::forks).min().orElse(1);
    String forks =
        (report.forks() == 1
                ? "one JVM for each case"
                : least == report.forks()
                    ? report.forks() + " JVMs for each case"
                    : least + " to " + report.forks() + " JVMs for each case")
            + " and as many iterations in each as a fixed time allows, at most "
            + (report.quick() ? "seven" : "nine");
    return List.of(
        "JMH, "
            + forks
            + ". Lanewise and the peers take turns of some milliseconds within an iteration; an"
            + " iteration counts with the median of its turns, a case with the median of its"
            + " iterations. Every peer has a process of its own, which is stopped while others have"
            + " their turn, with the settings in which it is fastest unless it is called as"
            + " installed: OpenBLAS is told its kernels, PyTorch's malloc keeps what it has. A peer"
            + " that takes many times as long is timed once, before the others. Each computes the"
            + " right result before it is timed.",
        "± is half the 95 % interval of the median, from order statistics. A ratio is our speed"
            + " divided by the peer's in the same iteration: above 1, Lanewise is faster. A ratio"
            + " is called faster or slower only if its whole interval is more than 5 % from 1, or"
            + " 3 % where two JVMs measured it: what differs from one start of a JVM to the next is"
            + " hardly in the interval.");
  }
}
