package dev.lanewise.core.report;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.core.base.InputException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class RunReportTest {
  @TempDir Path folder;

  private Metrics read(String text) throws IOException {
    return Metrics.read(Files.writeString(folder.resolve("metrics.jsonl"), text));
  }

  private static Metrics run(int steps, double lossAfter) {
    List<Metrics.Step> rows = new ArrayList<>();
    List<Metrics.Validation> validations = new ArrayList<>();
    for (int i = 1; i <= steps; i++) {
      double loss = lossAfter + (7 - lossAfter) / i;
      rows.add(new Metrics.Step(i, loss, 1e-3, 1, 1000, i * 0.5, false));
      if (i % 10 == 0) {
        validations.add(new Metrics.Validation(i, loss + 0.1));
      }
    }
    return new Metrics(rows, validations);
  }

  @Test
  void metricsAreReadInOrder() throws IOException {
    Metrics metrics =
        read(
            """
            {"step":0,"valLoss":4.2}
            {"step":1,"loss":4.1,"lr":1e-3,"gradNorm":2.5,"tokensPerSecond":1000,"seconds":0.5,"other":[1]}

            {"step":2,"loss":null,"lr":2e-3,"skipped":true}
            {"step":2,"valLoss":3.5}
            """);
    assertEquals(2, metrics.steps().size());
    assertEquals(new Metrics.Step(1, 4.1, 1e-3, 2.5, 1000, 0.5, false), metrics.steps().getFirst());
    assertTrue(Double.isNaN(metrics.steps().get(1).loss()));
    assertTrue(Double.isNaN(metrics.steps().get(1).gradNorm()));
    assertEquals(
        List.of(new Metrics.Validation(0, 4.2), new Metrics.Validation(2, 3.5)),
        metrics.validations());
  }

  @Test
  void aResumedRunReplacesWhatItRepeats() throws IOException {
    Metrics metrics =
        read(
            """
            {"step":1,"loss":5}
            {"step":2,"loss":4}
            {"step":2,"valLoss":4.5}
            {"step":3,"loss":9}
            {"step":3,"valLoss":9.5}
            {"step":3,"loss":3}
            {"step":4,"loss":2}
            {"step":4,"valLoss":2.5}
            {"step":4,"val\
            """);
    assertEquals(
        List.of(5.0, 4.0, 3.0, 2.0), metrics.steps().stream().map(Metrics.Step::loss).toList());
    assertEquals(
        List.of(2L, 3L, 4L), metrics.validations().stream().map(Metrics.Validation::step).toList());
  }

  @Test
  void damagedMetricsAreNamed() throws IOException {
    Path none = folder.resolve("none.jsonl");
    assertTrue(
        assertThrows(InputException.class, () -> Metrics.read(none))
            .getMessage()
            .startsWith("There is no file " + none));
    assertTrue(
        assertThrows(InputException.class, () -> read("{\"step\":1}\n{\"st\n{\"step\":2}\n"))
            .getMessage()
            .contains("metrics.jsonl line 2 is not valid JSON"));
  }

  @Test
  void thePageHoldsEverything() throws IOException {
    Path file = folder.resolve("report.html");
    new RunReport("Run <1> & more", run(100, 2))
        .subtitle("3M parameters")
        .vocabSize(512)
        .tokensPerStep(3072)
        .notes(List.of("2 steps were skipped."))
        .samples(
            List.of(
                new RunReport.Sample("step 50", "", "early"),
                new RunReport.Sample(
                    "step 100", "public ", "<script>alert(1)</script>\n  \"x\" &amp;")))
        .configuration(Map.of("data", "a<b>.txt"))
        .machine(Map.of("cores", 2))
        .write(file);
    String html = Files.readString(file);
    for (String part :
        List.of(
            "Run &lt;1&gt; &amp; more",
            "2.150",
            "perplexity",
            "guessing: ln 512 = 6.238",
            "307k",
            "50 s",
            "2 steps were skipped.",
            "<b>public </b>&lt;script&gt;alert(1)&lt;/script&gt;\n  &quot;x&quot; &amp;amp;",
            "Earlier samples (1)",
            "a&lt;b&gt;.txt",
            "prefers-color-scheme:dark",
            "@media print",
            "name=\"viewport\"")) {
      assertTrue(html.contains(part), part);
    }
    assertEquals(1, count(html, "<script>"));
    Matcher links = Pattern.compile("(?:src|href)=\"([^\"]*)\"|url\\(|@import").matcher(html);
    while (links.find()) {
      assertEquals("data:,", links.group(1));
    }
    assertEquals(html, html.replaceAll("[\\p{Cntrl}&&[^\n\t]]", ""));
    assertEquals(count(html, "<svg"), count(html, "</svg>"));
    assertEquals(count(html, "<div"), count(html, "</div>"));
    assertFalse(html.contains("NaN"));
  }

  private static int count(String text, String part) {
    return text.split(Pattern.quote(part), -1).length - 1;
  }

  @Test
  void runsOfEveryLengthHaveAPage() {
    for (int steps : new int[] {0, 1, 2, 3, 9, 10, 61, 250, 5000}) {
      String html = new RunReport("t", run(steps, 2)).page().html();
      assertFalse(html.contains("NaN") || html.contains("Infinity"), "steps " + steps);
    }
    assertTrue(
        new RunReport("t", run(0, 2)).page().html().contains("No step has been finished yet."));
  }

  @Test
  void anEarlyFallIsShownOnALogarithm() {
    Pattern log = Pattern.compile("data-x=\"[^,]*,[^,]*,1,1,step\"");
    assertTrue(
        log.matcher(new RunReport("t", run(2000, 2)).lossChart().inline(800, 300, "")).find());
    assertFalse(
        log.matcher(new RunReport("t", run(100, 2)).lossChart().inline(800, 300, "")).find());
  }

  @Test
  void brokenLossesLeaveGaps() {
    List<Metrics.Step> rows = new ArrayList<>(run(50, 2).steps());
    rows.set(20, new Metrics.Step(21, Double.NaN, 1e-3, Double.POSITIVE_INFINITY, 1, 1, false));
    for (int i = 30; i < 50; i++) {
      rows.set(i, new Metrics.Step(i + 1, Double.NaN, 1e-3, Double.NaN, 1, 1, false));
    }
    String html = new RunReport("t", new Metrics(rows, List.of())).page().html();
    assertTrue(html.contains("<path class=\"l c1\""));
  }

  @Test
  void aMeanIsOfWholeWindowsAndOfNothingLater() {
    double[] values = new double[1201];
    for (int i = 0; i < values.length; i++) {
      values[i] = Math.sin(i * i) + 3.0 / (1 + i);
    }
    double[] smooth = Curves.smooth(values);
    for (int i = 0; i < values.length; i++) {
      int from = i + 1 - Math.min(40, 1 + i / 4);
      assertEquals(
          Arrays.stream(values, from, i + 1).average().orElseThrow(), smooth[i], 1e-12, "at " + i);
    }
    assertEquals(values[0], smooth[0]);
    Recent recent = new Recent(values.length);
    assertTrue(Double.isNaN(recent.mean()));
    for (int i = 0; i < values.length; i++) {
      recent.add(values[i]);
      assertEquals(smooth[i], recent.mean(), 1e-12, "at " + i);
    }
    values[600] = Double.NaN;
    assertTrue(Double.isFinite(Curves.smooth(values)[600]));
    assertEquals(0, Curves.smooth(new double[0]).length);
  }

  /** The last step is far from those before it: a mean that narrows there would follow it. */
  @Test
  void headlineTableAndCurveTellTheSameLoss() {
    for (int steps : new int[] {1, 9, 40, 100, 1000}) {
      List<Metrics.Step> rows = new ArrayList<>();
      for (int i = 1; i <= steps; i++) {
        double loss = i == steps ? 2.5 : 3 + (i % 7) / 10.0;
        rows.add(new Metrics.Step(i, loss, 1e-3, 1, 1000, i, false));
      }
      List<Metrics.Validation> validations =
          List.of(
              new Metrics.Validation(Math.max(1, steps / 2), 4), new Metrics.Validation(steps, 3));
      RunReport report = new RunReport("t", new Metrics(rows, validations));
      int window = Math.min(Math.max(10, steps / 30), 1 + (steps - 1) / 4);
      double expected =
          rows.subList(steps - window, steps).stream()
              .mapToDouble(Metrics.Step::loss)
              .average()
              .orElseThrow();
      String html = report.page().html();
      assertTrue(
          html.contains(
              "<dt>training loss</dt><dd>" + String.format(Locale.ROOT, "%.3f", expected)),
          steps + " steps");
      String row = html.substring(html.lastIndexOf("<tr>"), html.indexOf("</table>"));
      assertTrue(row.contains(String.format(Locale.ROOT, "%.4f", expected)), row);
      String chart = report.lossChart().standalone(800, 300);
      assertTrue(
          chart.contains("to " + Numbers.compact(expected) + " at step " + steps),
          steps + " steps");
      double curve =
          Curves.smooth(rows.stream().mapToDouble(Metrics.Step::loss).toArray())[steps - 1];
      assertEquals(expected, curve, 1e-12);
    }
  }

  @Test
  void speedLeavesOutWhatWasCompiled() {
    List<Metrics.Step> rows = new ArrayList<>();
    for (int i = 1; i <= 12; i++) {
      boolean compiling = i <= 8;
      rows.add(
          new Metrics.Step(i, 3, 1e-3, 1, compiling ? 50 : i % 2 == 0 ? 200 : 100, i, compiling));
    }
    String html =
        new RunReport("t", new Metrics(rows, List.of()))
            .tokensPerStep(1000)
            .wallSeconds(100)
            .page()
            .html();
    // The last three steps take 5, 10 and 5 s.
    assertTrue(html.contains("<dt>tokens per second</dt><dd>150<"), html);
    assertTrue(html.contains("<dt>training time</dt><dd>12 s<"), html);
    assertTrue(html.contains("<dt>wall time</dt><dd>1 min 40 s<"), html);
    assertTrue(
        html.contains(
            "In 8 steps the JVM was still compiling, which took 1 min 40 s longer than as many"
                + " later ones; they are not in the speed."),
        html);
    String early = new RunReport("t", new Metrics(rows.subList(0, 5), List.of())).page().html();
    assertTrue(early.contains("<dt>tokens per second</dt><dd>50<"), early);
    assertTrue(early.contains("The JVM was compiling in all these steps"), early);
  }

  @Test
  void wallTimeAddsUpTheLivesOfARun() throws IOException {
    Metrics metrics =
        read(
            """
            {"step":1,"loss":5,"started":1000.5,"time":1004.5}
            {"step":2,"loss":4,"time":1010.5}
            {"step":2,"valLoss":4.5,"time":1020.5}
            {"step":3,"loss":9,"started":5000,"time":5003}
            {"step":4,"loss":9,"compiling":true,"time":5007.25}
            """);
    assertEquals(20 + 7.25, metrics.wallSeconds(), 1e-9);
    assertEquals(5007.25, metrics.lastTime());
    assertFalse(metrics.steps().get(2).compiling());
    assertTrue(metrics.steps().get(3).compiling());
    assertTrue(Double.isNaN(read("{\"step\":1,\"loss\":5}\n").wallSeconds()));
  }
}
