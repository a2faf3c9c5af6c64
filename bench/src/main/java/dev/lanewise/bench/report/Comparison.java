package dev.lanewise.bench.report;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.function.Function;
import java.util.stream.Collectors;

/**
 * What has changed between two reports.
 *
 * @param changes the cases that both have
 * @param onlyOld names of cases that only the old one has
 * @param onlyNew names of cases that only the new one has
 * @param sameMachine whether both come from the same machine and Java
 */
public record Comparison(
    List<Change> changes, List<String> onlyOld, List<String> onlyNew, boolean sameMachine) {

  /**
   * A case then and now.
   *
   * @param old the old result
   * @param now the new one
   * @param speed new speed divided by old, with the most cautious interval that both allow
   * @param verdict whether it changed beyond noise: by the clock, and beside the machine's own
   *     arithmetic or memory too, of which there may be more or less on another day
   */
  public record Change(Result old, Result now, Interval speed, Rival.Verdict verdict) {}

  /**
   * Compares.
   *
   * @param old the baseline
   * @param now the new report
   * @return the comparison
   */
  public static Comparison of(Report old, Report now) {
    Map<String, Result> before =
        old.results().stream()
            .collect(Collectors.toMap(Result::name, Function.identity(), (a, b) -> b));
    List<Change> changes = new ArrayList<>();
    List<String> onlyNew = new ArrayList<>();
    for (Result result : now.results()) {
      Result was = before.remove(result.name());
      if (was == null) {
        onlyNew.add(result.name());
      } else {
        Interval a = was.nanos();
        Interval b = result.nanos();
        Interval speed = quotient(a, b);
        double floor = Math.max(was.floor(), result.floor());
        Rival.Verdict verdict = Rival.verdict(speed, floor);
        // A machine that is slower as a whole shows in the fraction of its limit
        boolean doubtful =
            was.limit() == null || result.limit() == null
                ? was.isDisturbed(old.limits()) || result.isDisturbed(now.limits())
                : was.surroundings().isCrowded() || result.surroundings().isCrowded();
        if (doubtful || verdict != beside(was.limit(), result.limit(), floor, verdict)) {
          verdict = Rival.Verdict.EVEN;
        }
        changes.add(new Change(was, result, speed, verdict));
      }
    }
    return new Comparison(
        changes, List.copyOf(before.keySet()), onlyNew, old.machine().equals(now.machine()));
  }

  /** The most cautious interval of a quotient that both allow. */
  private static Interval quotient(Interval a, Interval b) {
    return new Interval(
        a.median() / b.median(),
        a.low() / b.high(),
        a.high() / b.low(),
        Math.min(a.count(), b.count()));
  }

  /** What fractions of the machine's limit say, if both are known. */
  private static Rival.Verdict beside(
      Interval was, Interval now, double floor, Rival.Verdict otherwise) {
    return was == null || now == null ? otherwise : Rival.verdict(quotient(now, was), floor);
  }

  /** The comparison in lines: what changed first, then how many did not. */
  public List<String> lines() {
    List<String> lines = new ArrayList<>();
    for (Change change : changes) {
      if (change.verdict() != Rival.Verdict.EVEN) {
        lines.add(line(change));
      }
    }
    lines.addAll(notes());
    return lines;
  }

  /** What there is to say beside the cases that changed. */
  List<String> notes() {
    List<String> notes = new ArrayList<>();
    if (!sameMachine) {
      notes.add("The baseline comes from another machine or Java: differences may be theirs.");
    }
    long even = changes.stream().filter(c -> c.verdict() == Rival.Verdict.EVEN).count();
    notes.add(even + " of " + changes.size() + " cases show no change beyond noise.");
    if (!onlyOld.isEmpty()) {
      notes.add("Only in the baseline: " + onlyOld.size() + " cases.");
    }
    if (!onlyNew.isEmpty()) {
      notes.add("Not in the baseline: " + onlyNew.size() + " cases.");
    }
    return notes;
  }

  private static String line(Change change) {
    return String.format(
        Locale.ROOT,
        "%s, %d threads: %.2f× the baseline's speed (%.2f–%.2f), %s -> %s %s",
        Text.task(change.now().task()),
        change.now().threads(),
        change.speed().median(),
        change.speed().low(),
        change.speed().high(),
        Text.number(change.old().speed().median()),
        Text.number(change.now().speed().median()),
        change.now().cost().unit());
  }
}
