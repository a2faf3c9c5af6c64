package dev.lanewise.bench.report;

import dev.lanewise.bench.breakdown.Breakdown;
import dev.lanewise.bench.contest.Case;
import dev.lanewise.bench.contest.Workload.Cost;
import dev.lanewise.bench.peers.Peers;
import dev.lanewise.bench.suite.Workloads;
import dev.lanewise.core.machine.MachineFacts;
import dev.lanewise.core.machine.MachineLimits;
import dev.lanewise.core.machine.MachineLimits.Rate;
import dev.lanewise.core.machine.MachineLimits.Rates;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.function.UnaryOperator;
import java.util.stream.Collectors;

/** Lines for terminals and tables. */
public final class Text {
  private Text() {}

  /** The machine in a line. */
  public static String machine(MachineFacts facts) {
    return String.format(
        Locale.ROOT,
        "%s, %d cores (%s), %d-bit vectors, %.0f GiB, %s%s, %s",
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
        : List.of(
            one,
            String.format(Locale.ROOT, "%d cores:   %s", limits.threads(), rates(limits.all())));
  }

  private static String rates(Rates r) {
    return String.format(
        Locale.ROOT,
        "%s GFLOP/s; read %s, copy %s, triad %s, update %s GB/s",
        rate(r.fma()),
        rate(r.read()),
        rate(r.copy()),
        rate(r.triad()),
        rate(r.update()));
  }

  /** The best, and behind it what the machine gave at its slowest if that is much less. */
  private static String rate(Rate rate) {
    return rate.median() > 0.9 * rate.best()
        ? number(rate.best())
        : number(rate.best()) + " (at times " + number(rate.median()) + ")";
  }

  private static String precision(Case task) {
    return task.hasIntegers() ? ", q8_0" : task.isBfloat16() ? ", bf16" : "";
  }

  /** A case as people write it: {@code gemm 1024×2304×768 NT}. */
  public static String task(Case task) {
    UnaryOperator<String> p = key -> task.params().get(key);
    String name = task.operation();
    return switch (name) {
      case "gemm" ->
          String.format(
                  Locale.ROOT,
                  "gemm %s×%s×%s %s%s",
                  p.apply("m"),
                  p.apply("n"),
                  p.apply("k"),
                  task.word("layout", "NN"),
                  task.params().containsKey("batch") ? ", batch " + p.apply("batch") : "")
              + precision(task);
      case "linear" ->
          String.format(
              Locale.ROOT,
              "linear %s×%s→%s%s%s",
              p.apply("m"),
              p.apply("k"),
              p.apply("n"),
              task.word("epilogue", "none").equals("none") ? "" : " +" + p.apply("epilogue"),
              task.params().containsKey("weights") ? ", " + p.apply("weights") : "");
      case "attention", "attentionBackward" ->
          String.format(
              Locale.ROOT,
              "%s %s×%s×%s×%s",
              name,
              p.apply("batch"),
              p.apply("heads"),
              p.apply("tokens"),
              p.apply("head"));
      case "linearCrossEntropy" ->
          String.format(
              Locale.ROOT,
              "%s %s×%s→%s",
              name,
              p.apply("tokens"),
              p.apply("width"),
              p.apply("vocabulary"));
      case "train" ->
          String.format(
                  Locale.ROOT,
                  "train %s, %s × %s tokens",
                  model(task),
                  p.apply("batch"),
                  p.apply("tokens"))
              + precision(task);
      case "generate" ->
          (p.apply("new").equals("1")
                  ? String.format(
                      Locale.ROOT, "prompt %s, %s tokens", model(task), p.apply("tokens"))
                  : String.format(
                      Locale.ROOT,
                      "generate %s, %s + %s tokens",
                      model(task),
                      p.apply("tokens"),
                      p.apply("new")))
              + precision(task);
      default -> shape(task);
    };
  }

  private static String model(Case task) {
    boolean isGpt2 = task.number("width") == 768 && task.number("layers") == 12;
    return isGpt2 && task.number("vocabulary") == 50257
        ? "GPT-2 124M"
        : String.format(Locale.ROOT, "GPT %d×%d", task.number("layers"), task.number("width"));
  }

  private static String shape(Case task) {
    Map<String, String> p = task.params();
    if (p.containsKey("rows")) {
      return String.format(Locale.ROOT, "%s %s×%s", task.operation(), p.get("rows"), p.get("cols"));
    }
    if (p.containsKey("count")) {
      return String.format(Locale.ROOT, "%s %.1f M", task.operation(), task.number("count") / 1e6);
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
    String format = "  %-34s %5s %9s %7s %8s %7s %6s";
    List<String> lines = new ArrayList<>();
    lines.add(
        String.format(
            Locale.ROOT,
            format,
            "operation",
            "calls",
            "ms",
            "% step",
            "GFLOP/s",
            "% peak",
            "GB/s"));
    parts(breakdown, rates)
        .forEach(row -> lines.add(String.format(Locale.ROOT, format, row.toArray())));
    lines.add(
        String.format(Locale.ROOT, "  %s %s", number(cost.speed(breakdown.nanos())), cost.unit()));
    return lines;
  }

  /** The operations of a step, what is between them, and the whole. */
  static List<List<String>> parts(Breakdown breakdown, Rates rates) {
    List<List<String>> rows = new ArrayList<>();
    double all = breakdown.nanos();
    for (Breakdown.Part p : breakdown.parts()) {
      rows.add(
          part(p.label(), Long.toString(p.calls()), p.nanos(), all, p.flops(), p.bytes(), rates));
    }
    rows.add(part("between operations", "", Math.max(0, breakdown.between()), all, 0, 0, rates));
    rows.add(part("all", "", all, all, breakdown.flops(), 0, rates));
    return rows;
  }

  private static List<String> part(
      String label,
      String calls,
      double nanos,
      double all,
      double flops,
      double bytes,
      Rates rates) {
    return List.of(
        label,
        calls,
        String.format(Locale.ROOT, "%.3f", nanos / 1e6),
        String.format(Locale.ROOT, "%.1f", 100 * nanos / all),
        flops == 0 ? "" : String.format(Locale.ROOT, "%.0f", flops / nanos),
        flops == 0
            ? ""
            : String.format(Locale.ROOT, "%.1f", 100 * flops / nanos / rates.fma().best()),
        bytes == 0 ? "" : String.format(Locale.ROOT, "%.1f", bytes / nanos));
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
    return ratio(ratio, Rival.verdict(ratio, floor));
  }

  /** A ratio with its interval and what was made of it. */
  static String ratio(Interval ratio, Rival.Verdict judged) {
    String verdict =
        switch (judged) {
          case FASTER -> "▲";
          case SLOWER -> "▼";
          case EVEN -> "≈";
        };
    return String.format(
        Locale.ROOT,
        "%s %s× (%s–%s)",
        verdict,
        times(ratio.median()),
        times(ratio.low()),
        times(ratio.high()));
  }

  /** A ratio with its interval, without a judgement. */
  static String times(Interval ratio) {
    return String.format(
        Locale.ROOT,
        "%s×\u00a0(%s–%s)",
        times(ratio.median()),
        times(ratio.low()),
        times(ratio.high()));
  }

  private static String times(double ratio) {
    return ratio >= 9.95
        ? String.format(Locale.ROOT, "%.0f", ratio)
        : String.format(Locale.ROOT, "%.2f", ratio);
  }

  /** {@code 97}, or nothing where there is no limit. */
  static String percent(Interval limit) {
    return limit == null ? "" : String.format(Locale.ROOT, "%.0f", 100 * limit.median());
  }

  /** What disturbed a result. */
  static String disturbance(Result result, Report report) {
    Surroundings s = result.surroundings();
    return String.format(
        Locale.ROOT,
        "others had %.0f %% of the cores%s, which gave %.0f %% of their best arithmetic",
        100 * s.others(),
        s.stolen() > 0.005
            ? String.format(Locale.ROOT, " (other guests %.0f %%)", 100 * s.stolen())
            : "",
        100 * s.peak() / report.limits().all().fma().best());
  }

  /** A result in a line, for the terminal. */
  public static String result(Result result, Report report) {
    StringBuilder line =
        new StringBuilder(
            String.format(
                Locale.ROOT,
                "%s, %s: %s %s",
                task(result.task()),
                threads(result.threads()),
                speed(result.speed()),
                result.cost().unit()));
    if (result.limit() != null) {
      line.append(String.format(Locale.ROOT, ", %s %% of the limit", percent(result.limit())));
    }
    result
        .beside(Workloads.ONE_THREAD)
        .ifPresent(one -> line.append("; 1 thread " + times(one.ratio())));
    result
        .beside(Workloads.PLAIN)
        .ifPresent(plain -> line.append("; product alone " + times(plain.ratio())));
    result
        .beside(Workloads.FLOATS)
        .ifPresent(floats -> line.append("; fp32 " + times(floats.ratio())));
    result
        .beside(Workloads.ROUND_SIZE)
        .ifPresent(round -> line.append("; round size " + times(round.ratio())));
    for (Rival rival : result.rivals()) {
      line.append(
          String.format(
              Locale.ROOT, "; %s %s", Peers.label(rival.peer()), ratio(rival, result.floor())));
    }
    if (result.isDisturbed(report.limits())) {
      line.append("; machine was busy: " + disturbance(result, report));
    }
    return line.toString();
  }
}
