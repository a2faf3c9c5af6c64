package dev.lanewise.bench.report;

import dev.lanewise.bench.peers.Peers;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;

/** The report as Markdown: whole, or between two comments of a file that has more to say. */
public final class MarkdownReport {
  private static final String START = "<!-- performance -->";
  private static final String END = "<!-- /performance -->";

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
   * @param report what was measured
   * @return the new text
   */
  public static String into(String before, Report report) {
    int start = before.indexOf(START);
    int end = before.indexOf(END, Math.max(start, 0));
    if (start < 0 || end < 0) {
      return new MarkdownReport(report).whole();
    }
    return before.substring(0, start + START.length())
        + "\n"
        + new MarkdownReport(report).section()
        + before.substring(end);
  }

  private String whole() {
    line("# Performance");
    line("");
    line("Measured on " + report.date() + " with `" + report.command() + "`.");
    line("");
    line(Text.machine(report.machine()) + ".");
    line("");
    limits();
    Summary.disturbed(report).ifPresent(note -> line(note + "\n"));
    means();
    for (String suite : suites()) {
      line("## " + suite.substring(0, 1).toUpperCase(java.util.Locale.ROOT) + suite.substring(1));
      line("");
      table(suite, Integer.MAX_VALUE);
    }
    line("## Peers");
    line("");
    report.peers().forEach((name, text) -> line("- " + name + ": " + text));
    line("");
    line("## How it was measured");
    line("");
    Summary.method(report).forEach(p -> line(p + "\n"));
    return out.toString().stripTrailing() + "\n";
  }

  private String section() {
    line("Measured on " + report.date() + ", " + Text.machine(report.machine()) + ".");
    line("");
    means();
    for (String suite : suites()) {
      table(suite, 8);
    }
    return out.toString();
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
    line("| limit, measured | 1 core | " + report.limits().threads() + " cores |");
    line("| --- | ---: | ---: |");
    var one = report.limits().one();
    var all = report.limits().all();
    limit("fused multiply-add, GFLOP/s", one.fma().best(), all.fma().best());
    limit("read, GB/s", one.read().best(), all.read().best());
    limit("copy, GB/s", one.copy().best(), all.copy().best());
    limit("triad, GB/s", one.triad().best(), all.triad().best());
    limit("update in place, GB/s", one.update().best(), all.update().best());
    line("");
  }

  private void limit(String name, double one, double all) {
    line("| " + name + " | " + Text.number(one) + " | " + Text.number(all) + " |");
  }

  private void means() {
    for (int threads : Summary.threads(report)) {
      List<String> means = new ArrayList<>();
      Summary.means(report, threads)
          .forEach((name, mean) -> means.add("%s %.2f×".formatted(name, mean)));
      if (!means.isEmpty()) {
        line(
            "Speed divided by the peer's, geometric mean, %d thread%s: %s."
                .formatted(threads, threads == 1 ? "" : "s", String.join("; ", means)));
        line("");
      }
    }
  }

  private void table(String suite, int most) {
    int threads =
        report.results().stream()
            .filter(r -> r.suite().equals(suite))
            .mapToInt(Result::threads)
            .max()
            .orElse(1);
    List<Result> all =
        report.results().stream()
            .filter(r -> r.suite().equals(suite))
            .filter(r -> most == Integer.MAX_VALUE || r.threads() == threads)
            .limit(most)
            .toList();
    Set<String> peers = new LinkedHashSet<>();
    all.forEach(r -> r.rivals().forEach(rival -> peers.add(rival.peer())));
    line(
        "| case | threads | speed | ms | % of limit |"
            + String.join("", peers.stream().map(p -> " ÷ " + Peers.label(p) + " |").toList()));
    line("| --- | ---: | ---: | ---: | ---: |" + " ---: |".repeat(peers.size()));
    for (Result result : all) {
      StringBuilder row =
          new StringBuilder(
              "| %s%s | %d | %s %s | %s | %s |"
                  .formatted(
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
                .map(r -> " " + Text.ratio(r, report.floor()) + " |")
                .findFirst()
                .orElse(" |"));
      }
      line(row.toString());
    }
    line("");
  }
}
