package dev.lanewise.bench.report;

import dev.lanewise.bench.peers.Peers;
import dev.lanewise.core.machine.MachineLimits.Rate;
import dev.lanewise.core.machine.MachineLimits.Rates;
import dev.lanewise.core.report.BarChart;
import dev.lanewise.core.report.Page;
import dev.lanewise.core.report.XyChart;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import java.util.stream.DoubleStream;

/** The report as one HTML file, with the stored report inside it. */
public final class HtmlReport {
  static final String DATA_START = "<script type=\"application/json\" id=\"report\">";

  /** Room for a point's name, in decades. */
  private static final double NAME_WIDTH = 0.75;

  private static final double NAME_HEIGHT = 0.16;

  /** So many fit on a printed page. */
  private static final int MOST_CATEGORIES = 9;

  private static final int WARM_UP_LINES = 5;
  private static final double COMPARABLE = 20;

  private final Report report;
  private final Page page;

  private HtmlReport(Report report) {
    this.report = report;
    page =
        new Page(
            "Performance of Lanewise",
            report.date() + ", " + report.machine().processor() + ", " + threadsInWords());
  }

  /**
   * Draws a report.
   *
   * @param report what was measured
   * @param baseline an older report to compare with, or null
   * @return a page that needs no other file
   */
  public static String of(Report report, Report baseline) {
    return new HtmlReport(report).draw(baseline);
  }

  private String draw(Report baseline) {
    page.figures(Summary.figures(report));
    if (report.quick()) {
      page.paragraph(
          "A quick run: short iterations, and one JVM for each case. What differs from one start of"
              + " a JVM to the next is not in the intervals, so differences below 5 % are not"
              + " called differences.");
    }
    report.failures().forEach(why -> page.paragraph("Failed: " + why));
    Summary.disturbed(report).ifPresent(page::paragraph);
    if (baseline != null) {
      compare(Comparison.of(baseline, report), baseline);
    }
    roofline();
    for (String suite : suites()) {
      page.heading(suite(suite));
      bars(suite, threads(suite).iterator().next());
      table(suite);
      for (Asides aside : Asides.of(report, suite)) {
        page.paragraph(aside.title());
        page.table(aside.header(), aside.rows());
      }
      breakdowns(suite);
    }
    warmUp();
    machine();
    peers();
    method();
    String data = report.toJson().replace("</", "<\\/");
    return page.html().replace("</main>", "</main>\n" + DATA_START + data + "</script>");
  }

  private String threadsInWords() {
    return String.format(
        Locale.ROOT,
        "%d cores of %s, %d-bit vectors",
        report.limits().threads(),
        report.machine().processor(),
        report.limits().vectorBits());
  }

  private static String suite(String name) {
    return switch (name) {
      case "gemm" -> "Matrix products";
      case "kernels" -> "Kernels";
      case "search" -> "Vector search";
      case "train" -> "Training";
      case "generate" -> "Generating";
      case "gpu" -> "GPU";
      default -> name;
    };
  }

  private Set<String> suites() {
    return report.results().stream()
        .map(Result::suite)
        .collect(Collectors.toCollection(LinkedHashSet::new));
  }

  private Set<Integer> threads(String suite) {
    return report.results().stream()
        .filter(r -> r.suite().equals(suite))
        .map(Result::threads)
        .collect(Collectors.toCollection(TreeSet::new))
        .descendingSet();
  }

  private List<Result> results(String suite, int threads) {
    return report.results().stream()
        .filter(r -> r.suite().equals(suite) && r.threads() == threads)
        .toList();
  }

  private void compare(Comparison comparison, Report baseline) {
    page.heading("Since " + baseline.date());
    comparison.notes().forEach(page::paragraph);
    List<Comparison.Change> changed =
        comparison.changes().stream().filter(c -> c.verdict() != Rival.Verdict.EVEN).toList();
    if (!changed.isEmpty()) {
      changes(page, changed);
    }
    Page rest = Page.fragment();
    List<Comparison.Change> same =
        comparison.changes().stream().filter(c -> c.verdict() == Rival.Verdict.EVEN).toList();
    if (!same.isEmpty()) {
      changes(rest, same);
      page.folded(same.size() + " without a change beyond noise", rest);
    }
  }

  private static void changes(Page to, List<Comparison.Change> changes) {
    List<List<String>> rows = new ArrayList<>();
    for (Comparison.Change change : changes) {
      rows.add(
          List.of(
              Text.task(change.now().task()),
              Integer.toString(change.now().threads()),
              Text.speed(change.old().speed()),
              Text.speed(change.now().speed()),
              change.now().cost().unit(),
              Text.ratio(change.speed(), change.verdict())));
    }
    to.table(List.of("case", "threads", "before", "now", "unit", "now ÷ before"), rows);
  }

  private void roofline() {
    int threads = report.results().stream().mapToInt(Result::threads).max().orElse(1);
    Rates rates = report.limits().of(threads);
    List<Result> points =
        report.results().stream()
            .filter(r -> r.threads() == threads && r.cost().bytes() > 0 && r.cost().flops() > 0)
            .toList();
    if (points.isEmpty()) {
      return;
    }
    page.heading("Arithmetic and memory");
    double peak = rates.fma().best();
    double bandwidth = rates.update().best();
    double[] intensities =
        points.stream().mapToDouble(r -> r.cost().flops() / r.cost().bytes()).toArray();
    double low = Math.min(0.1, DoubleStream.of(intensities).min().orElse(0.1));
    double high = Math.max(100, DoubleStream.of(intensities).max().orElse(100) * 1.5);
    XyChart chart =
        new XyChart("Roofline, " + Text.threads(threads))
            .x("operations for each byte of operands")
            .logX()
            .y("GFLOP/s")
            .logY()
            .description(
                "A line rises with the memory's bandwidth and turns flat at the arithmetic peak;"
                    + " each point is a kernel.")
            .line(
                "this machine at its best",
                new double[] {low, peak / bandwidth, high},
                new double[] {low * bandwidth, peak, peak});
    double slowPeak = rates.fma().median();
    double slowBandwidth = rates.update().median();
    if (slowPeak < 0.9 * peak || slowBandwidth < 0.9 * bandwidth) {
      chart.dashed(
          "at its slowest",
          new double[] {low, slowPeak / slowBandwidth, high},
          new double[] {low * slowBandwidth, slowPeak, slowPeak});
    }
    List<double[]> named = new ArrayList<>();
    for (String suite : suites()) {
      List<Result> own = points.stream().filter(r -> r.suite().equals(suite)).toList();
      if (!own.isEmpty()) {
        double[] x = own.stream().mapToDouble(r -> r.cost().flops() / r.cost().bytes()).toArray();
        double[] y = own.stream().mapToDouble(r -> r.cost().flops() / r.nanos().median()).toArray();
        if (suite.equals("gemm")) {
          chart.points(suite(suite), x, y);
        } else {
          chart.points(suite(suite), x, y, names(own, x, y, named));
        }
      }
    }
    page.chart(chart);
    page.paragraph(
        String.format(
                Locale.ROOT,
                "The slope is %.0f GB/s, measured updating memory in place; the flat part is %.0f"
                    + " GFLOP/s of",
                bandwidth,
                peak)
            + " fused multiply-adds. A kernel above the slope works in the caches. Bytes count"
            + " every operand once.");
  }

  /** Names of points where there is room for one. */
  private static String[] names(List<Result> results, double[] x, double[] y, List<double[]> room) {
    String[] names = new String[x.length];
    for (int i = 0; i < x.length; i++) {
      double[] place = {Math.log10(x[i]), Math.log10(y[i])};
      boolean free =
          room.stream()
              .allMatch(
                  p ->
                      Math.abs(p[0] - place[0]) > NAME_WIDTH
                          || Math.abs(p[1] - place[1]) > NAME_HEIGHT);
      names[i] = free ? results.get(i).task().operation() : "";
      if (free) {
        room.add(place);
      }
    }
    return names;
  }

  private void bars(String suite, int threads) {
    Map<String, List<Result>> byUnit =
        results(suite, threads).stream()
            .collect(
                Collectors.groupingBy(
                    r -> r.cost().unit(), LinkedHashMap::new, Collectors.toList()));
    byUnit.forEach(
        (unit, all) -> {
          for (List<Result> some : scales(all)) {
            int pages = Math.ceilDiv(some.size(), MOST_CATEGORIES);
            int each = Math.ceilDiv(some.size(), pages);
            for (int from = 0; from < some.size(); from += each) {
              bars(threads, unit, some.subList(from, Math.min(some.size(), from + each)));
            }
          }
        });
  }

  /** Results whose bars can be seen beside each other: none many times as long as another. */
  private static List<List<Result>> scales(List<Result> results) {
    List<List<Result>> scales = new ArrayList<>();
    for (Result result : results) {
      double speed = result.speed().median();
      scales.stream()
          .filter(
              s ->
                  s.stream()
                      .mapToDouble(r -> r.speed().median())
                      .allMatch(v -> v < COMPARABLE * speed && speed < COMPARABLE * v))
          .findFirst()
          .ifPresentOrElse(s -> s.add(result), () -> scales.add(new ArrayList<>(List.of(result))));
    }
    return scales;
  }

  private void bars(int threads, String unit, List<Result> results) {
    Set<String> peers = new LinkedHashSet<>();
    for (String peer : Peers.KNOWN) {
      long cases =
          results.stream()
              .filter(r -> r.rivals().stream().anyMatch(rival -> rival.peer().equals(peer)))
              .count();
      // Those that know few cases, or are there twice, are in the table
      if (!peer.endsWith(Peers.AS_IS) && cases > 0 && cases >= results.size() / 2) {
        peers.add(peer);
      }
    }
    BarChart chart =
        new BarChart(unit + ", " + Text.threads(threads), unit)
            .categories(results.stream().map(r -> Text.task(r.task())).toArray(String[]::new))
            .series(
                "Lanewise",
                results.stream().mapToDouble(r -> r.speed().median()).toArray(),
                results.stream().mapToDouble(r -> r.speed().error()).toArray());
    for (String peer : peers) {
      double[] speeds = new double[results.size()];
      double[] errors = new double[results.size()];
      for (int i = 0; i < speeds.length; i++) {
        Interval speed = peerSpeed(results.get(i), peer);
        speeds[i] = speed == null ? Double.NaN : speed.median();
        errors[i] = speed == null ? 0 : speed.error();
      }
      chart.series(Peers.label(peer), speeds, errors);
    }
    Rates rates = report.limits().of(threads);
    if (unit.equals("GFLOP/s")) {
      chart.mark(rates.fma().best(), String.format(Locale.ROOT, "peak %.0f", rates.fma().best()));
    }
    page.chart(chart);
  }

  private static Interval peerSpeed(Result result, String peer) {
    return result.rivals().stream()
        .filter(r -> r.peer().equals(peer))
        .map(r -> r.nanos().invert(result.cost().amount() * 1e9))
        .findFirst()
        .orElse(null);
  }

  private void table(String suite) {
    Set<String> peers = new LinkedHashSet<>();
    List<Result> all = report.results().stream().filter(r -> r.suite().equals(suite)).toList();
    all.forEach(r -> r.rivals().forEach(rival -> peers.add(rival.peer())));
    List<String> header =
        new ArrayList<>(
            List.of(
                "case on " + report.machine().processor(),
                "threads",
                "speed",
                "unit",
                "ms",
                "% of limit"));
    peers.forEach(p -> header.add("÷ " + Peers.label(p)));
    List<List<String>> rows = new ArrayList<>();
    for (Result result : all) {
      List<String> row =
          new ArrayList<>(
              List.of(
                  Text.task(result.task()) + (result.isDisturbed(report.limits()) ? " (busy)" : ""),
                  Integer.toString(result.threads()),
                  Text.speed(result.speed()),
                  result.cost().unit(),
                  Text.number(result.nanos().median() / 1e6),
                  Text.percent(result.limit())));
      for (String peer : peers) {
        row.add(
            result.rivals().stream()
                .filter(r -> r.peer().equals(peer))
                .map(r -> Text.ratio(r, result.floor()))
                .findFirst()
                .orElse(""));
      }
      rows.add(row);
    }
    page.folded(
        "All figures with their intervals",
        Page.fragment().paragraph(Summary.KEY).table(header, rows));
  }

  private void breakdowns(String suite) {
    List<Result> taken =
        results(suite, threads(suite).iterator().next()).stream()
            .filter(r -> r.breakdown() != null)
            .toList();
    if (taken.isEmpty()) {
      return;
    }
    page.paragraph("Where the time of a step goes, operation by operation:");
    for (Result result : taken) {
      page.folded(
          String.format(
              Locale.ROOT,
              "%s: %s ms, %s of the arithmetic peak",
              Text.task(result.task()),
              Text.number(result.breakdown().nanos() / 1e6),
              String.format(
                  Locale.ROOT,
                  "%.0f %%",
                  100
                      * result.breakdown().flops()
                      / result.breakdown().nanos()
                      / report.limits().of(result.threads()).fma().best())),
          Page.fragment()
              .table(
                  List.of("operation", "calls", "ms", "% of step", "GFLOP/s", "% of peak", "GB/s"),
                  Text.parts(result.breakdown(), report.limits().of(result.threads()))));
    }
  }

  private void warmUp() {
    List<Result> curves = Summary.warmUps(report, WARM_UP_LINES);
    if (curves.isEmpty()) {
      return;
    }
    page.heading("From the start of the JVM to full speed");
    XyChart chart =
        new XyChart("Speed while the JVM compiles")
            .x("seconds since the JVM started")
            .y("best so far, % of the final speed")
            .yRange(0, 110)
            .description("Lines that rise to 100 % as the compiler replaces interpreted code.");
    for (Result result : curves) {
      List<Double> curve = result.warmUp();
      double[] x = new double[curve.size() / 2];
      double[] y = new double[curve.size() / 2];
      for (int i = 0; i < x.length; i++) {
        x[i] = curve.get(2 * i);
        // The compiler's own threads take the cores now and then, which is not what is shown
        double speed = 100 * result.nanos().median() / curve.get(2 * i + 1);
        y[i] = i == 0 ? speed : Math.max(speed, y[i - 1]);
      }
      chart.line(Text.task(result.task()), x, y);
    }
    page.chart(chart);
  }

  private void machine() {
    page.heading("Machine");
    Map<String, String> facts = new LinkedHashMap<>();
    facts.put("processor", report.machine().processor());
    facts.put("cores", Integer.toString(report.machine().cores()));
    facts.put("caches", String.join(", ", report.machine().caches()));
    facts.put("vectors", report.machine().vectorBits() + " bits");
    facts.put(
        "memory", String.format(Locale.ROOT, "%.1f GiB", report.machine().memoryBytes() / 0x1p30));
    facts.put(
        "system",
        report.machine().system() + (report.machine().virtualized() ? ", virtual machine" : ""));
    facts.put("Java", report.machine().java());
    facts.put("Lanewise", report.version());
    page.facts(facts);
    Rates one = report.limits().one();
    Rates all = report.limits().all();
    String cores = report.limits().threads() + " cores";
    page.table(
        List.of("limit, measured", "1 core", "at its slowest", cores, "at their slowest", "unit"),
        List.of(
            limit("fused multiply-add", one.fma(), all.fma()),
            limit("read", one.read(), all.read()),
            limit("copy", one.copy(), all.copy()),
            limit("triad", one.triad(), all.triad()),
            limit("update in place", one.update(), all.update())));
    page.paragraph(Summary.PROBES);
  }

  private static List<String> limit(String name, Rate one, Rate all) {
    return List.of(
        name,
        Text.number(one.best()),
        Text.number(one.median()),
        Text.number(all.best()),
        Text.number(all.median()),
        one.unit());
  }

  private void peers() {
    if (report.peers().isEmpty()) {
      return;
    }
    page.heading("Peers");
    List<List<String>> rows = new ArrayList<>();
    report.peers().forEach((name, text) -> rows.add(List.of(Peers.label(name), text)));
    page.table(List.of("name", "what it is"), rows);
    report.results().stream()
        .flatMap(
            r -> r.failures().stream().map(why -> "Not in " + Text.task(r.task()) + ": " + why))
        .distinct()
        .forEach(why -> page.paragraph(why + "."));
  }

  private void method() {
    page.heading("How it was measured");
    Summary.method(report).forEach(page::paragraph);
    page.paragraph("To repeat it:");
    page.text("", report.command());
  }
}
