package dev.lanewise.bench.report;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.bench.breakdown.Breakdown;
import dev.lanewise.bench.contest.Case;
import dev.lanewise.bench.contest.Memory;
import dev.lanewise.bench.contest.Workload.Cost;
import dev.lanewise.bench.contest.Workload.Pattern;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.Json;
import dev.lanewise.core.machine.MachineFacts;
import dev.lanewise.core.machine.MachineLimits;
import dev.lanewise.core.machine.MachineLimits.Rate;
import dev.lanewise.core.machine.MachineLimits.Rates;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class ReportTest {
  private static final Cost PRODUCT = Cost.arithmetic(2e9, 12e6, Pattern.TRIAD);

  @TempDir private Path folder;

  private static Rates rates(double fma) {
    return new Rates(
        new Rate(fma, fma, "GFLOP/s"),
        new Rate(36, 35, "GB/s"),
        new Rate(35, 34, "GB/s"),
        new Rate(38, 37, "GB/s"),
        new Rate(55, 50, "GB/s"));
  }

  private static Result result(double millis, double peerMillis, double disturbance, double peak) {
    Interval ours = new Interval(millis * 1e6, millis * 0.99e6, millis * 1.01e6, 30);
    double ratio = peerMillis / millis;
    return new Result(
        "gemm",
        Case.parse("gemm m=1000 n=1000 k=1000 layout=NT"),
        2,
        PRODUCT,
        ours,
        new Interval(4 / millis, 3.96 / millis, 4.04 / millis, 30),
        List.of(
            new Rival(
                "openblas",
                new Interval(peerMillis * 1e6, peerMillis * 0.9e6, peerMillis * 1.1e6, 30),
                new Interval(ratio, ratio - 0.01, ratio + 0.01, 30))),
        new Surroundings(disturbance, 0, peak),
        List.of(0.4, 9e7, 0.5, 2e7, 0.6, 8e6, 0.8, 6e6, 1.2, 5e6),
        List.of(),
        new Breakdown(
            millis * 1e6, List.of(new Breakdown.Part("linear 768→2304", 12, 4e6, 3e9, 2e7))),
        List.of(
            new Beside(
                "one-thread",
                Case.parse("gemm m=1000 n=1000 k=1000 layout=NT"),
                new Interval(millis * 1.9e6, millis * 1.89e6, millis * 1.91e6, 30),
                new Interval(1.9, 1.88, 1.92, 30))),
        Map.of(
            "lanewise", new Memory(1L << 30, 3L << 30), "openblas", new Memory(2L << 30, 4L << 30)),
        3);
  }

  private static Report report(Result... results) {
    return new Report(
        "2026-11-22 07:00 UTC",
        "./lanewise bench gemm",
        "0.1.0",
        false,
        3,
        new MachineFacts(
            "Processor <X>", 2, List.of("L2 1024K"), 1L << 34, "Linux 6", true, "VM 25", 512),
        new MachineLimits(512, 2, rates(240), rates(480)),
        Map.of("openblas", "OpenBLAS 0.3"),
        List.of(results),
        List.of());
  }

  @Test
  void speedRatioAndFractionFollowFromTheTimes() {
    Report report = report(result(5, 5.5, 0, 480));
    Result result = report.results().getFirst();
    assertEquals(400, result.speed().median(), 1e-9);
    List<?> rows = (List<?>) Json.parse(report.toRows(), "rows");
    assertEquals(3, rows.size());
    Map<?, ?> alone = (Map<?, ?>) rows.get(0);
    Map<?, ?> row = (Map<?, ?>) rows.get(1);
    for (String key :
        List.of("benchmark", "params", "threads", "score", "error", "unit", "peer", "ratio")) {
      assertTrue(alone.containsKey(key) && row.containsKey(key), key);
    }
    assertNull(alone.get("peer"));
    assertNull(alone.get("ratio"));
    assertEquals("gemm", row.get("benchmark"));
    assertEquals("1000", ((Map<?, ?>) row.get("params")).get("m"));
    assertEquals("openblas", row.get("peer"));
    assertEquals(1.1, ((Number) row.get("ratio")).doubleValue(), 1e-9);
    assertEquals(400, ((Number) row.get("score")).doubleValue(), 1e-9);
    assertEquals("GFLOP/s", row.get("unit"));
    assertEquals("faster", row.get("verdict"));
  }

  @Test
  void survivesJsonAndHtml() throws Exception {
    Report report = report(result(5, 5.5, Double.NaN, 480), result(6, 5, 0.2, 300));
    Path json = folder.resolve("report.json");
    Files.writeString(json, report.toJson());
    Path html = folder.resolve("report.html");
    Files.writeString(html, HtmlReport.of(report, report));
    assertEquals(report.toJson(), Report.read(json).toJson());
    assertEquals(report.toJson(), Report.read(html).toJson());
    Result now = Report.read(html).results().get(1);
    assertEquals(report.results().get(1).task(), now.task());
    assertEquals(report.results().get(1).breakdown(), now.breakdown());
    assertEquals(report.results().get(1).warmUp(), now.warmUp());
  }

  @Test
  void aFileThatHoldsNoReportIsNamed() throws Exception {
    Path file = folder.resolve("other.json");
    Files.writeString(file, "{\"a\": 1}");
    InputException e = assertThrows(InputException.class, () -> Report.read(file));
    assertTrue(e.getMessage().contains("other.json"), e.getMessage());
    assertThrows(InputException.class, () -> Report.read(folder.resolve("none.json")));
  }

  @Test
  void theHtmlNeedsNoOtherFileAndEscapes() {
    String html = HtmlReport.of(report(result(5, 5.5, 0, 480)), null);
    assertTrue(html.contains("Processor &lt;X&gt;"));
    assertFalse(html.matches("(?s).*(src|href)=\"(?!data:|#).*"), "refers to another file");
    for (String part : List.of("<svg", "openblas", "./lanewise bench gemm", "1.10×")) {
      assertTrue(html.contains(part), part);
    }
  }

  @Test
  void markdownReplacesOnlyItsSection() {
    Report report = report(result(5, 5.5, 0, 480));
    String readme = "# A\n<!-- performance -->\nold\n<!-- /performance -->\nend\n";
    String once = MarkdownReport.into(readme, List.of(report));
    assertTrue(once.startsWith("# A\n<!-- performance -->\n") && once.endsWith("\nend\n"), once);
    assertFalse(once.contains("old"));
    assertTrue(once.contains("2026-11-22") && once.contains("Processor <X>"), once);
    assertEquals(once, MarkdownReport.into(once, List.of(report)), "generated twice, the same");
    assertTrue(MarkdownReport.into("", List.of(report)).startsWith("# Performance\n"));
  }

  @Test
  void everyRatioStandsBesideItsProcessor() {
    Report one = report(result(5, 5.5, 0, 480));
    MachineFacts m = one.machine();
    MachineFacts other =
        new MachineFacts(
            "Other (Zen 4)",
            m.cores(),
            m.caches(),
            m.memoryBytes(),
            m.system(),
            m.virtualized(),
            m.java(),
            m.vectorBits());
    Report two =
        new Report(
            one.date(),
            one.command(),
            one.version(),
            one.quick(),
            one.forks(),
            other,
            one.limits(),
            one.peers(),
            List.of(result(5, 6.5, 0, 480)),
            List.of());
    String readme = "<!-- performance -->\n<!-- /performance -->\n";
    for (String before : List.of(readme, "")) {
      String text = MarkdownReport.into(before, List.of(one, two));
      String processor = "";
      int ratios = 0;
      for (String line : text.lines().toList()) {
        if (line.startsWith("| ") && line.contains("Processor <X>")) {
          processor = "X";
        } else if (line.startsWith("| ") && line.contains("Other (Zen 4)")) {
          processor = "4";
        } else if (line.contains("1.10×") || line.contains("1.30×")) {
          assertTrue(
              line.contains(" on ") || processor.equals(line.contains("1.10×") ? "X" : "4"), line);
          ratios++;
        }
      }
      assertTrue(ratios >= 2, text);
    }
    assertTrue(HtmlReport.of(two, null).contains("case on Other (Zen 4)"));
  }

  @Test
  void comparesWhatBothHaveAndCallsNoiseNoise() {
    Report old = report(result(5, 5, 0, 480));
    assertEquals(
        Rival.Verdict.FASTER, only(Comparison.of(old, report(result(4, 5, 0, 480)))).verdict());
    assertEquals(
        Rival.Verdict.SLOWER, only(Comparison.of(old, report(result(6, 5, 0, 480)))).verdict());
    assertEquals(
        Rival.Verdict.EVEN, only(Comparison.of(old, report(result(5.1, 5, 0, 480)))).verdict());
    assertEquals(
        Rival.Verdict.EVEN,
        only(Comparison.of(old, report(result(9, 5, 0.3, 480)))).verdict(),
        "a busy machine proves nothing");
    assertEquals(
        Rival.Verdict.EVEN,
        only(Comparison.of(old, report(withLimit(result(9, 5, 0, 240), 0.8)))).verdict(),
        "a machine at half its speed proves nothing");
  }

  @Test
  void aChangeMustShowBesideTheMachineToo() {
    Result before = result(5, 5, 0, 480);
    Result slower = result(6, 5, 0, 480);
    // As slow beside the machine's own loops as before: then it is the machine that is slower
    assertEquals(
        Rival.Verdict.EVEN,
        only(Comparison.of(report(before), report(withLimit(slower, 0.79)))).verdict());
    assertEquals(
        Rival.Verdict.SLOWER,
        only(Comparison.of(report(before), report(withLimit(slower, 0.66)))).verdict());
  }

  @Test
  void aLimitOfArithmeticThatIsBeatenIsLeftOut() {
    Result result = result(5, 5.5, 0, 480);
    assertEquals(1.04, withLimit(result, 1.04).limit().median());
    assertNull(withLimit(result, 1.4).limit());
    assertFalse(MarkdownReport.into("", List.of(report(withLimit(result, 1.4)))).contains("140 %"));
  }

  private static Result withLimit(Result r, double limit) {
    return new Result(
        r.suite(),
        r.task(),
        r.threads(),
        r.cost(),
        r.nanos(),
        new Interval(limit, limit - 0.01, limit + 0.01, 30),
        r.rivals(),
        r.surroundings(),
        r.warmUp(),
        r.failures(),
        r.breakdown(),
        r.besides(),
        r.memory(),
        r.forks());
  }

  @Test
  void whatStandsBesideIsShown() {
    Report report = report(result(5, 5.5, 0, 480));
    String html = HtmlReport.of(report, null);
    String markdown = MarkdownReport.into("", List.of(report));
    for (String part :
        List.of("1.90×", "1.00 GiB", "2.00 GiB (ours 50 %)", "3.00 GiB", "4.00 GiB (ours 75 %)")) {
      assertTrue(html.contains(part), part);
      assertTrue(markdown.contains(part), part);
    }
  }

  @Test
  void foldersAreLeftOut() {
    String home = System.getProperty("user.home");
    Report plain = report(result(5, 5.5, 0, 480));
    Report report =
        new Report(
            plain.date(),
            plain.command(),
            plain.version(),
            plain.quick(),
            plain.forks(),
            plain.machine(),
            plain.limits(),
            Map.of("blis", "skipped: nothing in " + home + "/peers"),
            plain.results(),
            List.of("gemm: see " + System.getProperty("user.dir") + "/runs"));
    assertEquals("skipped: nothing in ~/peers", report.peers().get("blis"));
    assertEquals(List.of("gemm: see the current folder/runs"), report.failures());
    assertFalse(report.toJson().contains(home), report.toJson());
  }

  private static Comparison.Change only(Comparison comparison) {
    assertEquals(1, comparison.changes().size());
    return comparison.changes().getFirst();
  }
}
