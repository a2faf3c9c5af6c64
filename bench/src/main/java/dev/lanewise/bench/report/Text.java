package dev.lanewise.bench.report;

import dev.lanewise.bench.breakdown.Breakdown;
import dev.lanewise.bench.contest.Case;
import dev.lanewise.bench.contest.Workload.Cost;
import dev.lanewise.core.machine.MachineFacts;
import dev.lanewise.core.machine.MachineLimits;
import dev.lanewise.core.machine.MachineLimits.Rates;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.stream.Collectors;

/** Lines for terminals and tables. */
public final class Text {
  private Text() {}

  /** The machine in a line. */
  public static String machine(MachineFacts facts) {
    return "%s, %d cores (%s), %d-bit vectors, %.0f GiB, %s%s, %s"
        .formatted(
            facts.processor(),
            facts.cores(),
            String.join(", ", facts.caches()),
            facts.vectorBits(),
            facts.memoryBytes() / 0x1p30,
            facts.system(),
            facts.virtualized() ? " (virtual machine)" : "",
            facts.java());
  }

  /** The limits of one core and of all, a line each. */
  public static List<String> limits(MachineLimits limits) {
    String one = "one core:  " + rates(limits.one());
    return limits.threads() == 1
        ? List.of(one)
        : List.of(one, "%d cores:   %s".formatted(limits.threads(), rates(limits.all())));
  }

  private static String rates(Rates r) {
    return "%.0f GFLOP/s; read %.1f, copy %.1f, triad %.1f, update %.1f GB/s"
        .formatted(
            r.fma().best(), r.read().best(), r.copy().best(), r.triad().best(), r.update().best());
  }

  /** A case as people write it: {@code gemm 1024×2304×768 NT}. */
  public static String task(Case task) {
    Map<String, String> p = task.params();
    if (task.operation().equals("gemm")) {
      String size =
          "gemm %s×%s×%s %s"
              .formatted(p.get("m"), p.get("n"), p.get("k"), p.getOrDefault("layout", "NN"));
      return p.containsKey("batch") ? size + ", batch of " + p.get("batch") : size;
    }
    return p.entrySet().stream()
        .map(e -> " " + e.getKey() + " " + e.getValue())
        .collect(Collectors.joining(",", task.operation(), ""));
  }

  /** {@code 1 thread}. */
  public static String threads(int count) {
    return count == 1 ? "1 thread" : count + " threads";
  }

  /**
   * Where the time of a step goes, a line for each operation.
   *
   * @param breakdown the step
   * @param cost the step's cost
   * @param rates the machine's rates for as many threads
   */
  public static List<String> breakdown(Breakdown breakdown, Cost cost, Rates rates) {
    List<String> lines = new ArrayList<>();
    lines.add(
        "  %-34s %5s %9s %6s %8s %6s %6s %6s"
            .formatted("operation", "calls", "ms", "% step", "GFLOP/s", "% peak", "GB/s", "% lim"));
    for (Breakdown.Part part : breakdown.parts()) {
      lines.add(
          line(
              part.label(),
              Long.toString(part.calls()),
              part.nanos(),
              breakdown.nanos(),
              part.flops(),
              part.bytes(),
              rates));
    }
    lines.add(line("between operations", "", breakdown.between(), breakdown.nanos(), 0, 0, rates));
    double flops = breakdown.flops();
    lines.add(line("all", "", breakdown.nanos(), breakdown.nanos(), flops, 0, rates));
    lines.add("  %s %s".formatted(number(cost.speed(breakdown.nanos())), cost.unit()));
    return lines;
  }

  private static String line(
      String label,
      String calls,
      double nanos,
      double all,
      double flops,
      double bytes,
      Rates rates) {
    double limit = Math.max(flops / rates.fma().best(), bytes / rates.update().best());
    return "  %-34s %5s %9.3f %6.1f %8s %6s %6s %6s"
        .formatted(
            label,
            calls,
            nanos / 1e6,
            100 * nanos / all,
            flops == 0 ? "" : "%.0f".formatted(flops / nanos),
            flops == 0 ? "" : "%.1f".formatted(100 * flops / nanos / rates.fma().best()),
            bytes == 0 ? "" : "%.1f".formatted(bytes / nanos),
            bytes == 0 ? "" : "%.0f".formatted(100 * limit / nanos));
  }

  /** A number with about three digits. */
  static String number(double value) {
    double size = Math.abs(value);
    int decimals = size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
    return String.format(Locale.ROOT, "%." + decimals + "f", value);
  }

  /** {@code 410 ±3}. */
  static String speed(Interval interval) {
    return number(interval.median()) + " ±" + number(interval.error());
  }

  /** A ratio with its interval and what it means. */
  static String ratio(Rival rival, double floor) {
    return ratio(rival.ratio(), floor);
  }

  static String ratio(Interval ratio, double floor) {
    String verdict =
        switch (Rival.verdict(ratio, floor)) {
          case FASTER -> "faster";
          case SLOWER -> "slower";
          case EVEN -> "no clear difference";
        };
    return "%.2f× (%.2f–%.2f), %s".formatted(ratio.median(), ratio.low(), ratio.high(), verdict);
  }

  /** What disturbed a result. */
  static String disturbance(Result result, Report report) {
    return "others had %.0f %% of the cores, which gave %.0f %% of their best arithmetic"
        .formatted(
            100 * result.disturbance(), 100 * result.peak() / report.limits().all().fma().best());
  }

  /** A result in a line, for the terminal. */
  public static String result(Result result, Report report) {
    StringBuilder line =
        new StringBuilder(
            "%s, %d thread%s: %s %s, %.0f %% of the limit"
                .formatted(
                    task(result.task()),
                    result.threads(),
                    result.threads() == 1 ? "" : "s",
                    speed(result.speed()),
                    result.cost().unit(),
                    100 * result.fractionOfLimit(report.limits())));
    for (Rival rival : result.rivals()) {
      line.append("; %s %s".formatted(rival.peer(), ratio(rival, report.floor())));
    }
    if (result.isDisturbed(report.limits())) {
      line.append("; machine was busy: " + disturbance(result, report));
    }
    return line.toString();
  }
}
