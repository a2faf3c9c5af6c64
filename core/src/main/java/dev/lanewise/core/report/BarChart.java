package dev.lanewise.core.report;

import java.util.ArrayList;
import java.util.List;

/**
 * Horizontal bars in groups, with error bars: one group for each category, in it one bar for each
 * series. Horizontal, so that long names stay readable.
 *
 * <pre>{@code
 * new BarChart("Matrix product", "GFLOP/s")
 *     .categories("256 x 768 x 768", "1024 x 768 x 3072")
 *     .series("Lanewise", new double[] {410, 430}, new double[] {4, 3})
 *     .series("OpenBLAS", new double[] {390, 425}, new double[] {6, 2});
 * }</pre>
 */
public final class BarChart implements Chart {
  private static final int BAR = 14;
  private static final int GAP = 12;

  /** Height of a name that stands above its bars. */
  private static final int NAME = 17;

  /** Some systems' sans-serif is so much wider than the usual one. */
  private static final double WIDEST_FONT = 1.1;

  private record Series(String name, double[] values, double[] errors) {}

  private record Mark(double at, String label) {}

  private final String title;
  private final String unit;
  private final List<Series> series = new ArrayList<>();
  private final List<Mark> marks = new ArrayList<>();
  private List<String> categories = List.of();
  private String description = "";

  /**
   * Starts a chart.
   *
   * @param title stands above it
   * @param unit of the values
   */
  public BarChart(String title, String unit) {
    this.title = title;
    this.unit = unit;
  }

  /** Names the groups, from top to bottom; before any series is added. */
  public BarChart categories(String... names) {
    categories = List.of(names);
    return this;
  }

  /**
   * Adds a bar to each group.
   *
   * @param name its name in the legend
   * @param values one for each category; NaN for none
   * @param errors half the length of the error bars, or null
   * @return this chart
   */
  public BarChart series(String name, double[] values, double[] errors) {
    if (values.length != categories.size()
        || errors != null && errors.length != categories.size()) {
      throw new IllegalArgumentException(
          "a series needs one value for each of " + categories.size() + " categories");
    }
    series.add(new Series(name, values.clone(), errors == null ? null : errors.clone()));
    return this;
  }

  /** Draws a line across all bars with a label, as for a limit of the machine. */
  public BarChart mark(double at, String label) {
    marks.add(new Mark(at, label));
    return this;
  }

  /** Describes the picture for those who cannot see it. */
  public BarChart description(String text) {
    description = text;
    return this;
  }

  /** The height at which bars have their usual thickness. */
  public int naturalHeight() {
    return 96 + categories.size() * (series.size() * BAR + GAP);
  }

  /** The same where names stand above their bars, for want of room beside them. */
  public int narrowHeight() {
    return naturalHeight() + 20 + categories.size() * NAME;
  }

  @Override
  public String inline(int width, int height, String type) {
    return draw(width, height).inline(type, "");
  }

  @Override
  public String standalone(int width, int height) {
    return draw(width, height).standalone();
  }

  private Svg draw(int width, int height) {
    Svg svg = new Svg(width, height, title, description);
    List<Svg.Key> keys = new ArrayList<>();
    for (int s = 0; series.size() > 1 && s < series.size(); s++) {
      keys.add(new Svg.Key(series.get(s).name, "b", colour(s)));
    }
    svg.head(keys);
    double highest = 0;
    for (Series one : series) {
      for (int c = 0; c < one.values.length; c++) {
        if (Double.isFinite(one.values[c])) {
          highest = Math.max(highest, one.values[c] + error(one, c));
        }
      }
    }
    for (Mark mark : marks) {
      highest = Math.max(highest, mark.at);
    }
    Axis axis = Axis.of(0, highest == 0 ? 1 : highest, 0, Double.NaN, false, false);
    double names = categories.stream().mapToDouble(Svg::textWidth).max().orElse(0);
    boolean isAbove = names * WIDEST_FONT + 10 > width * 0.4;
    svg.left = isAbove ? 5 : names * WIDEST_FONT + 10;
    svg.right = width - 10.0 - Svg.textWidth("0.000k");
    svg.bottom = height - 40.0;
    if (!marks.isEmpty()) {
      svg.top += 14;
    }
    List<Double> ticks = axis.ticks((int) ((svg.right - svg.left) / 84));
    for (double tick : ticks) {
      double x = svg.px(axis, tick);
      svg.line("g", x, svg.top, x, svg.bottom);
      svg.text(x, svg.bottom + 17, null, "middle", axis.label(tick, ticks));
    }
    svg.text(svg.right, svg.bottom + 34, null, "end", unit);
    for (Mark mark : marks) {
      double x = svg.px(axis, mark.at);
      svg.line("m", x, svg.top - 4, x, svg.bottom);
      svg.text(x, svg.top - 8, null, "middle", mark.label);
    }
    double group = (svg.bottom - svg.top) / Math.max(1, categories.size());
    double line = isAbove ? NAME : 0;
    double room = group - line - Math.min(GAP, group / 4);
    double bar = Math.min(22, room / Math.max(1, series.size()));
    for (int c = 0; c < categories.size(); c++) {
      double middle = svg.top + (c + 0.5) * group + line / 2;
      double top = middle - series.size() / 2.0 * bar;
      if (isAbove) {
        svg.text(svg.left, top - 4, "k", "start", categories.get(c));
      } else {
        svg.text(svg.left - 8, middle + 4, "k", "end", categories.get(c));
      }
      for (int s = 0; s < series.size(); s++) {
        drawBar(svg, axis, s, c, top + s * bar, bar);
      }
    }
    svg.line("a", svg.left, svg.top, svg.left, svg.bottom);
    return svg;
  }

  private void drawBar(Svg svg, Axis axis, int s, int c, double y, double thickness) {
    Series one = series.get(s);
    double value = one.values[c];
    if (!Double.isFinite(value)) {
      return;
    }
    double x = svg.px(axis, Math.max(0, value));
    double error = error(one, c);
    String spoken =
        Numbers.format(
            "%s, %s: %s%s %s",
            categories.get(c),
            one.name,
            Numbers.compact(value),
            error > 0 ? " ± " + Numbers.compact(error) : "",
            unit);
    svg.add(
        Numbers.format(
            "<rect class=\"b%d\" x=\"%s\" y=\"%s\" width=\"%s\" height=\"%s\""
                + " rx=\"2\"><title>%s</title></rect>",
            colour(s),
            Markup.px(svg.left),
            Markup.px(y + 1),
            Markup.px(Math.max(0.5, x - svg.left)),
            Markup.px(Math.max(1, thickness - 2)),
            Markup.escape(spoken)));
    double end = x;
    if (error > 0) {
      double middle = y + thickness / 2;
      double from = svg.px(axis, Math.max(0, value - error));
      end = svg.px(axis, value + error);
      svg.line("e", from, middle, end, middle);
      svg.line("e", from, middle - 3, from, middle + 3);
      svg.line("e", end, middle - 3, end, middle + 3);
    }
    svg.text(end + 5, y + thickness / 2 + 4, null, "start", Numbers.compact(value));
  }

  private static double error(Series one, int category) {
    double error = one.errors == null ? 0 : one.errors[category];
    return Double.isFinite(error) ? Math.max(0, error) : 0;
  }

  private static int colour(int s) {
    return s % Svg.SERIES_COLOURS + 1;
  }
}
