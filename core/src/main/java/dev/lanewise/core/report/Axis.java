package dev.lanewise.core.report;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/** One axis of a chart: what range it shows, where its ticks are, and what they say. */
final class Axis {
  private static final double[] FACTORS = {1, 2, 2.5, 5};
  private static final double[] WHOLE_FACTORS = {1, 2, 5};

  private final double from;
  private final double to;
  private final boolean log;
  private final boolean whole;

  private Axis(double from, double to, boolean log, boolean whole) {
    this.from = from;
    this.to = to;
    this.log = log;
    this.whole = whole;
  }

  /** An axis that shows a range with a little room, or exactly where an end is given (not NaN). */
  static Axis of(
      double low, double high, double fixedLow, double fixedHigh, boolean log, boolean whole) {
    double from = Double.isNaN(fixedLow) ? low : fixedLow;
    double to = Double.isNaN(fixedHigh) ? high : fixedHigh;
    if (!(Double.isFinite(from) && Double.isFinite(to) && from <= to)) {
      from = log ? 1 : 0;
      to = log ? 10 : 1;
    }
    if (log) {
      from = Math.max(from, Double.MIN_NORMAL);
      to = Math.max(to, from);
      double room = from == to ? Math.log(2) : 0.04 * Math.log(to / from);
      return new Axis(
          Double.isNaN(fixedLow) ? from * Math.exp(-room) : from,
          Double.isNaN(fixedHigh) || from == to ? to * Math.exp(room) : to,
          true,
          whole);
    }
    double room = from == to ? Math.max(Math.abs(from) * 0.1, 1e-9) : 0.04 * (to - from);
    return new Axis(
        Double.isNaN(fixedLow) ? from - room : from,
        Double.isNaN(fixedHigh) || from == to ? to + room : to,
        false,
        whole);
  }

  boolean isLog() {
    return log;
  }

  double from() {
    return from;
  }

  double to() {
    return to;
  }

  /** Where a value lies: 0 at the axis's start, 1 at its end; NaN for what it cannot show. */
  double place(double value) {
    if (log) {
      return value > 0 ? Math.log(value / from) / Math.log(to / from) : Double.NaN;
    }
    return (value - from) / (to - from);
  }

  /** Round values inside the range, about as many as asked for. */
  List<Double> ticks(int wanted) {
    return log ? logTicks(Math.max(2, wanted)) : linearTicks(Math.max(2, wanted));
  }

  private List<Double> linearTicks(int wanted) {
    double step = niceStep(whole ? Math.max(1, (to - from) / wanted) : (to - from) / wanted);
    List<Double> ticks = new ArrayList<>();
    for (long i = (long) Math.ceil(from / step - 1e-9); i * step <= to + 1e-9 * step; i++) {
      ticks.add(i * step);
    }
    return ticks;
  }

  private double niceStep(double atLeast) {
    double power = Math.pow(10, Math.floor(Math.log10(atLeast)));
    for (double factor : whole && power == 1 ? WHOLE_FACTORS : FACTORS) {
      if (factor * power >= atLeast * (1 - 1e-9)) {
        return factor * power;
      }
    }
    return 10 * power;
  }

  private List<Double> logTicks(int wanted) {
    double decades = Math.log10(to / from);
    if (decades < 0.7) {
      return linearTicks(wanted);
    }
    double[] factors = {1};
    if (decades * 3 <= wanted) {
      factors = new double[] {1, 2, 5};
    } else if (decades * 2 <= wanted) {
      factors = new double[] {1, 3};
    }
    int every = Math.max(1, (int) Math.ceil(decades / wanted));
    List<Double> ticks = new ArrayList<>();
    for (int e = (int) Math.floor(Math.log10(from)); e <= Math.ceil(Math.log10(to)); e++) {
      if (Math.floorMod(e, every) != 0) {
        continue;
      }
      for (double factor : factors) {
        double tick = factor * Math.pow(10, e);
        if (tick >= from * (1 - 1e-9) && tick <= to * (1 + 1e-9)) {
          ticks.add(tick);
        }
      }
    }
    return ticks;
  }

  /** What a tick says, with as many digits as tell it from its neighbours. */
  String label(double tick, List<Double> ticks) {
    if (log && Math.log10(to / from) >= 0.7 || ticks.size() < 2) {
      return Numbers.compact(tick);
    }
    double step = ticks.get(1) - ticks.get(0);
    double largest = Math.max(Math.abs(ticks.getFirst()), Math.abs(ticks.getLast()));
    if (Math.abs(tick) < step / 2) {
      return "0";
    }
    int digits = 2 + (int) Math.floor(Math.log10(largest / step) + 1e-9);
    if (largest < 0.01) {
      return Numbers.scientific(tick, digits);
    }
    if (largest >= 100_000) {
      return Numbers.thousands(tick, digits);
    }
    int decimals = Math.max(0, (int) -Math.floor(Math.log10(step) + 1e-9));
    // A step of 2.5 units needs one more digit than its power of ten shows.
    double scaled = step * Math.pow(10, decimals);
    if (Math.abs(scaled - Math.rint(scaled)) > 1e-6) {
      decimals++;
    }
    return String.format(Locale.ROOT, "%,." + decimals + "f", tick);
  }
}
