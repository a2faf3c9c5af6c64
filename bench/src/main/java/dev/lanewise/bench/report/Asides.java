package dev.lanewise.bench.report;

import dev.lanewise.bench.contest.Contender;
import dev.lanewise.bench.contest.Memory;
import dev.lanewise.bench.peers.Peers;
import dev.lanewise.bench.suite.Workloads;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.Set;
import java.util.TreeSet;
import java.util.function.ToLongFunction;

/**
 * Tables of what stands beside the speeds of a suite: one thread, the product alone, round sizes,
 * memory.
 *
 * @param title a sentence that says what it shows
 * @param header names of the columns; the first holds words
 * @param rows the rows
 */
record Asides(String title, List<String> header, List<List<String>> rows) {

  /** The tables that a suite has something for. */
  static List<Asides> of(Report report, String suite) {
    List<Result> results = report.results().stream().filter(r -> r.suite().equals(suite)).toList();
    List<Asides> tables = new ArrayList<>();
    scaling(results).ifPresent(tables::add);
    compared(
            results, Workloads.PLAIN, "What is fused or packed, beside the product alone:", "alone")
        .ifPresent(tables::add);
    compared(
            results, Workloads.FLOATS, "In bfloat16 or 8 bits, beside the same in float32:", "fp32")
        .ifPresent(tables::add);
    compared(
            results,
            Workloads.ROUND_SIZE,
            "Odd sizes, beside the nearest multiples of 64:",
            "round size")
        .ifPresent(tables::add);
    memory(results).ifPresent(tables::add);
    return tables;
  }

  private static Optional<Asides> scaling(List<Result> results) {
    List<List<String>> rows = new ArrayList<>();
    List<Double> ratios = new ArrayList<>();
    Set<Integer> threads = new TreeSet<>();
    for (Result result : results) {
      result
          .beside(Workloads.ONE_THREAD)
          .ifPresent(
              one -> {
                threads.add(result.threads());
                ratios.add(one.ratio().median());
                rows.add(
                    List.of(
                        Text.task(result.task()),
                        speed(result, one),
                        Text.speed(result.speed()),
                        result.cost().unit(),
                        Text.times(one.ratio())));
              });
    }
    if (rows.isEmpty()) {
      return Optional.empty();
    }
    String many = threads.size() == 1 ? Text.threads(threads.iterator().next()) : "all threads";
    double mean = Math.exp(ratios.stream().mapToDouble(Math::log).average().orElseThrow());
    return Optional.of(
        new Asides(
            String.format(
                Locale.ROOT,
                "From 1 thread to %s, by turns: %.2f× in the geometric mean.",
                many,
                mean),
            List.of("case", "1 thread", many, "unit", "times as fast"),
            rows));
  }

  private static Optional<Asides> compared(
      List<Result> results, String name, String title, String column) {
    List<List<String>> rows = new ArrayList<>();
    for (Result result : results) {
      result
          .beside(name)
          .ifPresent(
              other ->
                  rows.add(
                      List.of(
                          Text.task(result.task()),
                          Text.speed(result.speed()),
                          speed(result, other),
                          result.cost().unit(),
                          Text.times(other.ratio()))));
    }
    return rows.isEmpty()
        ? Optional.empty()
        : Optional.of(
            new Asides(title, List.of("case", "speed", column, "unit", "speed ÷ " + column), rows));
  }

  private static String speed(Result result, Beside beside) {
    double amount =
        beside.task().equals(result.task())
            ? result.cost().amount()
            : Workloads.cost(beside.task()).amount();
    return Text.speed(beside.nanos().invert(amount * 1e9));
  }

  private static Optional<Asides> memory(List<Result> results) {
    List<Result> known =
        results.stream().filter(r -> r.memory().containsKey(Contender.OURS)).toList();
    Set<String> peers = new LinkedHashSet<>();
    known.forEach(r -> peers.addAll(r.memory().keySet()));
    peers.remove(Contender.OURS);
    List<List<String>> rows = new ArrayList<>();
    for (Result result : known) {
      rows.add(memoryRow(result, "settled", peers, Memory::settled));
      if (result.memory().get(Contender.OURS).peak() > 0) {
        rows.add(memoryRow(result, "at most", peers, Memory::peak));
      }
    }
    if (rows.isEmpty()) {
      return Optional.empty();
    }
    List<String> header = new ArrayList<>(List.of("case", "threads", "memory", "Lanewise"));
    peers.forEach(p -> header.add(Peers.label(p)));
    return Optional.of(
        new Asides(
            "Resident memory of each process, ours with its JVM: what it holds once it has settled,"
                + " and the most that it held until then:",
            header,
            rows));
  }

  private static List<String> memoryRow(
      Result result, String which, Set<String> peers, ToLongFunction<Memory> figure) {
    long ours = figure.applyAsLong(result.memory().get(Contender.OURS));
    List<String> row = new ArrayList<>();
    row.add(Text.task(result.task()));
    row.add(Integer.toString(result.threads()));
    row.add(which);
    row.add(gibibytes(ours));
    for (String peer : peers) {
      Memory held = result.memory().get(peer);
      long theirs = held == null ? 0 : figure.applyAsLong(held);
      row.add(
          theirs == 0
              ? ""
              : String.format(
                  Locale.ROOT, "%s (ours %.0f %%)", gibibytes(theirs), 100.0 * ours / theirs));
    }
    return row;
  }

  private static String gibibytes(long bytes) {
    return String.format(Locale.ROOT, "%.2f GiB", bytes / 0x1p30);
  }
}
