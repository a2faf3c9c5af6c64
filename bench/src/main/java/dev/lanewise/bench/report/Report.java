package dev.lanewise.bench.report;

import dev.lanewise.bench.contest.Contender;
import dev.lanewise.bench.contest.Memory;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.Json;
import dev.lanewise.core.machine.MachineFacts;
import dev.lanewise.core.machine.MachineLimits;
import dev.lanewise.core.machine.MachineLimits.Rate;
import dev.lanewise.core.machine.MachineLimits.Rates;
import java.io.IOException;
import java.math.BigDecimal;
import java.math.MathContext;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * All that a run of the benchmarks found, enough to draw the report again at another time.
 *
 * @param date when it was measured, as {@code 2026-11-22 07:10 UTC}
 * @param command what to type to repeat it
 * @param version Lanewise's version
 * @param quick whether it was a quick run, with wider errors
 * @param forks JVMs of each case
 * @param machine the machine
 * @param limits what the machine can do
 * @param peers each peer with its own description, or why it took no part
 * @param results the cases in the order measured
 * @param failures cases that Lanewise did not perform, and why, a sentence each
 */
public record Report(
    String date,
    String command,
    String version,
    boolean quick,
    int forks,
    MachineFacts machine,
    MachineLimits limits,
    Map<String, String> peers,
    List<Result> results,
    List<String> failures) {
  private static final MathContext DIGITS = new MathContext(6);

  /** Leaves the folders of whoever measured out of all that is said. */
  public Report {
    Map<String, String> told = new LinkedHashMap<>();
    peers.forEach((name, text) -> told.put(name, Folders.hide(text)));
    peers = told;
    results = results.stream().map(r -> r.withFailures(Folders.hide(r.failures()))).toList();
    failures = Folders.hide(failures);
  }

  /** The report as JSON. */
  public String toJson() {
    Map<String, Object> json = new LinkedHashMap<>();
    json.put("date", date);
    json.put("command", command);
    json.put("version", version);
    json.put("quick", quick);
    json.put("forks", forks);
    json.put("machine", machineJson());
    json.put(
        "limits",
        Map.of(
            "vectorBits",
            limits.vectorBits(),
            "threads",
            limits.threads(),
            "one",
            ratesJson(limits.one()),
            "all",
            ratesJson(limits.all())));
    json.put("peers", peers);
    json.put("results", results.stream().map(Result::toJson).toList());
    if (!failures.isEmpty()) {
      json.put("failures", failures);
    }
    return Json.write(rounded(json));
  }

  /** Six digits are more than any measurement has, and keep stored reports small. */
  private static Object rounded(Object value) {
    return switch (value) {
      case Double d when Double.isFinite(d) -> new BigDecimal(d).round(DIGITS).doubleValue();
      case List<?> list -> list.stream().map(Report::rounded).toList();
      case Map<?, ?> map -> {
        Map<String, Object> copy = new LinkedHashMap<>();
        map.forEach((k, v) -> copy.put((String) k, v == null ? null : rounded(v)));
        yield copy;
      }
      default -> value;
    };
  }

  private Map<String, Object> machineJson() {
    Map<String, Object> json = new LinkedHashMap<>();
    json.put("processor", machine.processor());
    json.put("cores", machine.cores());
    json.put("caches", machine.caches());
    json.put("memoryBytes", machine.memoryBytes());
    json.put("system", machine.system());
    json.put("virtualized", machine.virtualized());
    json.put("java", machine.java());
    json.put("vectorBits", machine.vectorBits());
    return json;
  }

  private static Map<String, Object> ratesJson(Rates rates) {
    Map<String, Object> json = new LinkedHashMap<>();
    json.put("fma", rateJson(rates.fma()));
    json.put("read", rateJson(rates.read()));
    json.put("copy", rateJson(rates.copy()));
    json.put("triad", rateJson(rates.triad()));
    json.put("update", rateJson(rates.update()));
    return json;
  }

  private static List<Object> rateJson(Rate rate) {
    return List.of(rate.best(), rate.median(), rate.unit());
  }

  /**
   * The results as the list that scripts read: an object for each case alone, with peer and ratio
   * null, and one for each peer.
   */
  public String toRows() {
    List<Map<String, Object>> rows = new ArrayList<>();
    for (Result result : results) {
      rows.add(row(result, (Rival) null));
      result.rivals().forEach(rival -> rows.add(row(result, rival)));
      result.besides().forEach(beside -> rows.add(row(result, beside)));
    }
    return Json.writePretty(rows);
  }

  private Map<String, Object> row(Result result, Rival rival) {
    Map<String, Object> row = new LinkedHashMap<>();
    row.put("benchmark", result.task().operation());
    row.put("suite", result.suite());
    row.put("params", result.task().params());
    row.put("threads", result.threads());
    row.put("score", result.speed().median());
    row.put("error", result.speed().error());
    row.put("unit", result.cost().unit());
    row.put("nanosPerOperation", result.nanos().median());
    row.put("fractionOfLimit", result.limit() == null ? null : result.limit().median());
    Memory held = result.memory().get(Contender.OURS);
    row.put("memoryBytes", held == null ? null : held.settled());
    row.put("peakMemoryBytes", held == null ? null : held.peak());
    row.put("othersShare", result.surroundings().others());
    row.put("peer", rival == null ? null : rival.peer());
    row.put("ratio", rival == null ? null : rival.ratio().median());
    if (rival != null) {
      Interval speed = rival.nanos().invert(result.cost().amount() * 1e9);
      row.put("ratioLow", rival.ratio().low());
      row.put("ratioHigh", rival.ratio().high());
      row.put("verdict", rival.verdict(result.floor()).name().toLowerCase(java.util.Locale.ROOT));
      row.put("peerScore", speed.median());
      row.put("peerError", speed.error());
      Memory theirs = result.memory().get(rival.peer());
      row.put("peerMemoryBytes", theirs == null ? null : theirs.settled());
      row.put("peerPeakMemoryBytes", theirs == null ? null : theirs.peak());
    }
    return row;
  }

  /** What Lanewise did beside a case stands like a peer, and the ratio is ours to it. */
  private Map<String, Object> row(Result result, Beside beside) {
    Map<String, Object> row = row(result, (Rival) null);
    row.put("peer", "lanewise " + beside.name());
    row.put("ratio", beside.ratio().median());
    row.put("ratioLow", beside.ratio().low());
    row.put("ratioHigh", beside.ratio().high());
    return row;
  }

  /**
   * Reads a report that was stored as JSON or inside an HTML report.
   *
   * @param file the stored report
   * @return the report
   * @throws InputException if the file holds none
   */
  public static Report read(Path file) {
    String text;
    try {
      text = Files.readString(file, StandardCharsets.UTF_8);
    } catch (IOException e) {
      throw new InputException("cannot read the report " + file + ": " + e.getMessage());
    }
    int inPage = text.indexOf(HtmlReport.DATA_START);
    if (inPage >= 0) {
      int from = inPage + HtmlReport.DATA_START.length();
      text = text.substring(from, text.indexOf("</script>", from)).replace("<\\/", "</");
    }
    try {
      return fromJson(Json.parseObject(text, file.toString()));
    } catch (ClassCastException | NullPointerException | IllegalArgumentException e) {
      throw new InputException(file + " is not a report that bench has stored");
    }
  }

  private static Report fromJson(Map<String, Object> json) {
    Map<?, ?> m = (Map<?, ?>) json.get("machine");
    Map<?, ?> l = (Map<?, ?>) json.get("limits");
    List<String> caches = new ArrayList<>();
    ((List<?>) m.get("caches")).forEach(c -> caches.add((String) c));
    Map<String, String> peers = new LinkedHashMap<>();
    ((Map<?, ?>) json.get("peers")).forEach((k, v) -> peers.put((String) k, (String) v));
    int forks = ((Number) json.get("forks")).intValue();
    List<Result> results = new ArrayList<>();
    for (Object result : (List<?>) json.get("results")) {
      results.add(Result.fromJson((Map<?, ?>) result, forks));
    }
    List<String> failures = new ArrayList<>();
    if (json.get("failures") instanceof List<?> list) {
      list.forEach(text -> failures.add((String) text));
    }
    return new Report(
        (String) json.get("date"),
        (String) json.get("command"),
        (String) json.get("version"),
        (Boolean) json.get("quick"),
        forks,
        new MachineFacts(
            (String) m.get("processor"),
            ((Number) m.get("cores")).intValue(),
            caches,
            ((Number) m.get("memoryBytes")).longValue(),
            (String) m.get("system"),
            (Boolean) m.get("virtualized"),
            (String) m.get("java"),
            ((Number) m.get("vectorBits")).intValue()),
        new MachineLimits(
            ((Number) l.get("vectorBits")).intValue(),
            ((Number) l.get("threads")).intValue(),
            rates((Map<?, ?>) l.get("one")),
            rates((Map<?, ?>) l.get("all"))),
        peers,
        results,
        failures);
  }

  private static Rates rates(Map<?, ?> json) {
    return new Rates(
        rate(json.get("fma")),
        rate(json.get("read")),
        rate(json.get("copy")),
        rate(json.get("triad")),
        rate(json.get("update")));
  }

  private static Rate rate(Object json) {
    List<?> parts = (List<?>) json;
    return new Rate(
        ((Number) parts.get(0)).doubleValue(),
        ((Number) parts.get(1)).doubleValue(),
        (String) parts.get(2));
  }
}
