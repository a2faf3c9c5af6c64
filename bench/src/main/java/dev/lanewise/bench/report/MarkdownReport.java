package dev.lanewise.bench.report;

import dev.lanewise.bench.peers.Peers;
import dev.lanewise.core.machine.MachineLimits.Rate;
import dev.lanewise.core.machine.MachineLimits.Rates;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.function.Function;
import java.util.stream.Collectors;

/** The report as Markdown: whole, or between two comments of a file that has more to say. */
public final class MarkdownReport {
  private static final String START = "<!-- performance -->";
  private static final String END = "<!-- /performance -->";

  /** Rows of a suite in the short form. */
  private static final int ROWS = 8;

  private final Report report;
  private final StringBuilder out = new StringBuilder();

  private MarkdownReport(Report report) {
    this.report = report;
  }

  /**
   * Puts the report into a file's text.
   *
   * @param before the text so far; what is between the comments {@code performance} and {@code
   *     /performance} is replaced by a short form, a text without them by the whole report
   * @param reports what was measured, one report for each kind of processor
   * @return the new text
   */
  public static String into(String before, List<Report> reports) {
    int start = before.indexOf(START);
    int end = before.indexOf(END, Math.max(start, 0));
    if (start < 0 || end < 0) {
      return "# Performance\n\n" + all(reports, MarkdownReport::whole).stripTrailing() + "\n";
    }
    return before.substring(0, start + START.length())
        + "\n"
        + all(reports, MarkdownReport::section)
        + "▲ Lanewise is faster, ▼ slower, ≈ no difference beyond noise; the fastest peer of each"
        + " case.\n\n"
        + before.substring(end);
  }

  private static String all(List<Report> reports, Function<MarkdownReport, String> form) {
    return reports.stream()
        .map(report -> form.apply(new MarkdownReport(report)))
        .collect(Collectors.joining());
  }

  private String processor() {
    return report.machine().processor();
  }

  private String whole() {
    line("Measured on " + processor() + " at " + report.date() + " with");
    line("");
    line("```");
    line(report.command());
    line("```");
    line("");
    line(Text.machine(report.machine()) + ".");
    line("");
    limits();
    Summary.disturbed(report).ifPresent(note -> line(note + "\n"));
    report.failures().forEach(why -> line("Failed: " + why + "\n"));
    means();
    line(Summary.KEY);
    line("");
    for (String suite : suites()) {
      line("## " + suite.substring(0, 1).toUpperCase(java.util.Locale.ROOT) + suite.substring(1));
      line("");
      table(suite);
      Asides.of(report, suite).forEach(this::aside);
      breakdowns(suite);
    }
    line("## Peers");
    line("");
    report.peers().forEach((name, text) -> line("- " + Peers.label(name) + ": " + text));
    line("");
    line("## How it was measured");
    line("");
    Summary.method(report).forEach(p -> line(p + "\n"));
    return out.toString();
  }

  /** The short form: what a reader of the README wants to know. */
  private String section() {
    line(
        String.format(
            Locale.ROOT, "Measured on %s: %s.", report.date(), Text.machine(report.machine())));
    Rates all = report.limits().all();
    line(
        String.format(
            Locale.ROOT,
            "The machine gives %s GFLOP/s and reads %s to %s GB/s.",
            Text.number(all.fma().best()),
            Text.number(all.read().median()),
            Text.number(all.read().best())));
    line("");
    line(
        String.format(
            Locale.ROOT,
            "| %d threads | Lanewise | %% of limit | against, on %s |",
            report.limits().threads(),
            processor()));
    line("| --- | ---: | ---: | --- |");
    int threads = report.results().stream().mapToInt(Result::threads).max().orElse(1);
    for (String suite : suites()) {
      List<Result> results =
          report.results().stream()
              .filter(r -> r.suite().equals(suite) && r.threads() == threads)
              .toList();
      int step = Math.ceilDiv(results.size(), ROWS);
      for (int i = 0; i < results.size(); i += step) {
        Result result = results.get(i);
        line(
            String.format(
                Locale.ROOT,
                "| %s | %s %s | %s | %s |",
                Text.task(result.task()),
                Text.number(result.speed().median()),
                result.cost().unit(),
                Text.percent(result.limit()),
                against(result)));
      }
    }
    line("");
    return out.toString();
  }

  /** The fastest peer, and the one as installed that most people would have. */
  private String against(Result result) {
    List<String> said = new ArrayList<>();
    result.rivals().stream()
        .filter(r -> !r.peer().endsWith(Peers.AS_IS))
        .min(Comparator.comparingDouble(r -> r.nanos().median()))
        .ifPresent(r -> said.add(Peers.label(r.peer()) + " " + Text.ratio(r, result.floor())));
    result.rivals().stream()
        .filter(r -> r.peer().equals("pytorch" + Peers.AS_IS))
        .forEach(r -> said.add(Peers.label(r.peer()) + " " + Text.ratio(r, result.floor())));
    return String.join("; ", said);
  }

  private void line(String text) {
    out.append(text).append('\n');
  }

  private Set<String> suites() {
    Set<String> suites = new LinkedHashSet<>();
    report.results().forEach(r -> suites.add(r.suite()));
    return suites;
  }

  private void limits() {
    String cores = report.limits().threads() + " cores";
    line("| limit, measured | 1 core | at its slowest | " + cores + " | at their slowest |");
    line("| --- | ---: | ---: | ---: | ---: |");
    var one = report.limits().one();
    var all = report.limits().all();
    limit("fused multiply-add, GFLOP/s", one.fma(), all.fma());
    limit("read, GB/s", one.read(), all.read());
    limit("copy, GB/s", one.copy(), all.copy());
    limit("triad, GB/s", one.triad(), all.triad());
    limit("update in place, GB/s", one.update(), all.update());
    line("");
    line(Summary.PROBES);
    line("");
  }

  private void limit(String name, Rate one, Rate all) {
    line(
        String.format(
            Locale.ROOT,
            "| %s | %s | %s | %s | %s |",
            name,
            Text.number(one.best()),
            Text.number(one.median()),
            Text.number(all.best()),
            Text.number(all.median())));
  }

  private void means() {
    for (int threads : Summary.threads(report)) {
      List<String> means = new ArrayList<>();
      Summary.means(report, threads)
          .forEach((name, mean) -> means.add(String.format(Locale.ROOT, "%s %.2f×", name, mean)));
      if (!means.isEmpty()) {
        line(
            String.format(
                Locale.ROOT,
                "Speed divided by the peer's on %s, geometric mean, %d thread%s: %s.",
                processor(),
                threads,
                threads == 1 ? "" : "s",
                String.join("; ", means)));
        line("");
      }
    }
  }

  private void aside(Asides aside) {
    line(aside.title());
    line("");
    line("| " + String.join(" | ", aside.header()) + " |");
    line("| --- |" + " ---: |".repeat(aside.header().size() - 1));
    aside.rows().forEach(row -> line("| " + String.join(" | ", row) + " |"));
    line("");
  }

  /** The longest step of a suite, taken apart. */
  private void breakdowns(String suite) {
    report.results().stream()
        .filter(r -> r.suite().equals(suite) && r.breakdown() != null)
        .max(Comparator.comparingDouble(r -> r.breakdown().flops()))
        .ifPresent(
            r -> {
              line("Where the time of a step goes, " + Text.task(r.task()) + ":");
              line("");
              line("| operation | calls | ms | % of step | GFLOP/s | % of peak | GB/s |");
              line("| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
              Text.parts(r.breakdown(), report.limits().of(r.threads()))
                  .forEach(row -> line("| " + String.join(" | ", row) + " |"));
              line("");
            });
  }

  private void table(String suite) {
    List<Result> all = report.results().stream().filter(r -> r.suite().equals(suite)).toList();
    Set<String> peers = new LinkedHashSet<>();
    all.forEach(r -> r.rivals().forEach(rival -> peers.add(rival.peer())));
    line(
        "| case on "
            + processor()
            + " | threads | speed | ms | % of limit |"
            + String.join("", peers.stream().map(p -> " ÷ " + Peers.label(p) + " |").toList()));
    line("| --- | ---: | ---: | ---: | ---: |" + " ---: |".repeat(peers.size()));
    for (Result result : all) {
      StringBuilder row =
          new StringBuilder(
              String.format(
                  Locale.ROOT,
                  "| %s%s | %d | %s %s | %s | %s |",
                  Text.task(result.task()),
                  result.isDisturbed(report.limits()) ? " (busy)" : "",
                  result.threads(),
                  Text.speed(result.speed()),
                  result.cost().unit(),
                  Text.number(result.nanos().median() / 1e6),
                  Text.percent(result.limit())));
      for (String peer : peers) {
        row.append(
            result.rivals().stream()
                .filter(r -> r.peer().equals(peer))
                .map(r -> " " + Text.ratio(r, result.floor()) + " |")
                .findFirst()
                .orElse(" |"));
      }
      line(row.toString());
    }
    line("");
  }
}
