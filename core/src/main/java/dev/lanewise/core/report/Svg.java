package dev.lanewise.core.report;

import java.util.List;

/** What all charts share: frame, title, legend, axes, colours. */
final class Svg {
  /** Colours as variables, light first; a page and a chart of its own use the same. */
  static final String COLOURS =
      """
      --paper:#fff;--ink:#1d1f23;--soft:#666b73;--line:#e4e5e7;--panel:#f7f7f6;\
      --s1:#2a6fdb;--s2:#d4680b;--s3:#1f8a5b;--s4:#8a4fc8;--s5:#b3374d;--s6:#5b6470;\
      --s7:#0f8a9d;--s8:#8a7a12;\
      """;

  static final String DARK_COLOURS =
      """
      --paper:#14161a;--ink:#e8e8e6;--soft:#9ba1aa;--line:#2c3036;--panel:#1b1e23;\
      --s1:#6aa5ff;--s2:#ffa04d;--s3:#57c892;--s4:#c39bf5;--s5:#f08095;--s6:#a3abb6;\
      --s7:#4fc3d4;--s8:#cdbb5a;\
      """;

  static final String STYLE =
      """
      .chart{font:12px system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;\
      font-variant-numeric:tabular-nums}
      .chart text{fill:var(--soft);paint-order:stroke;stroke:var(--paper);stroke-width:3px;\
      stroke-linejoin:round}
      .chart .t{fill:var(--ink);font-weight:600;font-size:14px}
      .chart .k{fill:var(--ink)}
      .chart .g{stroke:var(--line);stroke-width:1;fill:none}
      .chart .a{stroke:var(--soft);stroke-width:1;fill:none;opacity:.55}
      .chart .l{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
      .chart .f{fill:none;stroke-width:1;opacity:.3;stroke-linejoin:round}
      .chart .d{fill:none;stroke-width:1.5;stroke-dasharray:5 4}
      .chart .m{stroke:var(--soft);stroke-width:1;stroke-dasharray:3 3}
      .chart .e{stroke:var(--ink);stroke-width:1.2;opacity:.75}
      .chart .p{stroke:var(--paper);stroke-width:1.2}
      .c1{stroke:var(--s1)}.c2{stroke:var(--s2)}.c3{stroke:var(--s3)}\
      .c4{stroke:var(--s4)}.c5{stroke:var(--s5)}.c6{stroke:var(--s6)}\
      .c7{stroke:var(--s7)}.c8{stroke:var(--s8)}
      .b1{fill:var(--s1)}.b2{fill:var(--s2)}.b3{fill:var(--s3)}\
      .b4{fill:var(--s4)}.b5{fill:var(--s5)}.b6{fill:var(--s6)}\
      .b7{fill:var(--s7)}.b8{fill:var(--s8)}
      """;

  static final int SERIES_COLOURS = 8;

  private static final double CHARACTER_WIDTH = 7.4;

  /** One entry of a legend. */
  record Key(String name, String mark, int colour) {}

  private final StringBuilder out = new StringBuilder(4096);
  final int width;
  final int height;
  double left;
  double top;
  double right;
  double bottom;

  private final String title;
  private final String description;

  Svg(int width, int height, String title, String description) {
    this.width = width;
    this.height = height;
    this.title = title;
    this.description = description;
  }

  static double textWidth(String text) {
    return CHARACTER_WIDTH * text.codePointCount(0, text.length());
  }

  /** Draws the title and, beneath or beside it, the legend; sets the top of the plot. */
  void head(List<Key> keys) {
    text(0, 14, "t", "start", title);
    double x = title.isEmpty() ? 0 : textWidth(title) * 1.2 + 24;
    double y = 14;
    double total = keys.stream().mapToDouble(key -> textWidth(key.name) + 38).sum();
    if (x + total > width && !keys.isEmpty() && !title.isEmpty()) {
      x = 0;
      y = 34;
    } else {
      x = Math.max(x, width - total);
    }
    for (Key key : keys) {
      double size = textWidth(key.name) + 38;
      if (x + size - 14 > width && x > 0) {
        x = 0;
        y += 18;
      }
      mark(key, x, y - 4);
      text(x + 22, y, "k", "start", key.name);
      x += size;
    }
    top = y + 16;
  }

  private void mark(Key key, double x, double y) {
    switch (key.mark) {
      case "p" ->
          add(
              Numbers.format(
                  "<circle class=\"p b%d\" cx=\"%s\" cy=\"%s\" r=\"4\"/>",
                  key.colour, Markup.px(x + 9), Markup.px(y)));
      case "b" ->
          add(
              Numbers.format(
                  "<rect class=\"b%d\" x=\"%s\" y=\"%s\" width=\"12\" height=\"10\" rx=\"2\"/>",
                  key.colour, Markup.px(x + 4), Markup.px(y - 5)));
      default -> line(key.mark + " c" + key.colour, x, y, x + 17, y);
    }
  }

  /** Draws the grid, the ticks of both axes and their names; sets the rest of the plot's frame. */
  void axes(Axis x, Axis y, String xName, String yName) {
    right = width - 14;
    bottom = height - (xName.isEmpty() ? 22 : 40);
    if (!yName.isEmpty()) {
      text(0, top - 2, null, "start", yName);
      top += 10;
    }
    List<Double> yTicks = y.ticks((int) Math.round((bottom - top) / 38));
    double widest = 0;
    for (double tick : yTicks) {
      widest = Math.max(widest, textWidth(y.label(tick, yTicks)));
    }
    left = Math.max(24, widest + 8);
    for (double tick : yTicks) {
      double at = py(y, tick);
      line("g", left, at, right, at);
      text(left - 7, at + 4, null, "end", y.label(tick, yTicks));
    }
    if (x == null) {
      return;
    }
    List<Double> xTicks = x.ticks((int) Math.round((right - left) / 84));
    double free = Double.NEGATIVE_INFINITY;
    for (double tick : xTicks) {
      double at = px(x, tick);
      String label = x.label(tick, xTicks);
      double half = textWidth(label) / 2;
      double centre = Math.clamp(at, left + half - 12, Math.max(left + half - 12, width - half));
      line("a", at, bottom, at, bottom + 4);
      if (centre - half > free + 6) {
        text(centre, bottom + 17, null, "middle", label);
        free = centre + half;
      }
    }
    line("a", left, bottom, right, bottom);
    if (!xName.isEmpty()) {
      text(right, bottom + 34, null, "end", xName);
    }
  }

  double px(Axis axis, double value) {
    return left + axis.place(value) * (right - left);
  }

  double py(Axis axis, double value) {
    return bottom - axis.place(value) * (bottom - top);
  }

  void line(String type, double x1, double y1, double x2, double y2) {
    add(
        Numbers.format(
            "<line class=\"%s\" x1=\"%s\" y1=\"%s\" x2=\"%s\" y2=\"%s\"/>",
            type, Markup.px(x1), Markup.px(y1), Markup.px(x2), Markup.px(y2)));
  }

  void text(double x, double y, String type, String anchor, String text) {
    if (text.isEmpty()) {
      return;
    }
    add(
        Numbers.format(
            "<text%s x=\"%s\" y=\"%s\"%s>%s</text>",
            type == null ? "" : " class=\"" + type + "\"",
            Markup.px(x),
            Markup.px(y),
            anchor.equals("start") ? "" : " text-anchor=\"" + anchor + "\"",
            Markup.escape(text)));
  }

  void add(String element) {
    out.append(element).append('\n');
  }

  /** The element for a page that brings the styles; the attributes are for its script. */
  String inline(String type, String attributes) {
    return Numbers.format(
        """
        <svg class="chart %s" viewBox="0 0 %d %d" role="img" xmlns="http://www.w3.org/2000/svg"%s>
        <title>%s</title>
        <desc>%s</desc>
        %s</svg>
        """,
        type, width, height, attributes, Markup.escape(title), Markup.escape(description), out);
  }

  /** A file of its own, for light and dark. */
  String standalone() {
    int margin = 16;
    return Numbers.format(
        """
        <svg class="chart" viewBox="%d %d %d %d" width="%d" height="%d" role="img" \
        xmlns="http://www.w3.org/2000/svg">
        <title>%s</title>
        <desc>%s</desc>
        <style>
        svg{%s}
        @media(prefers-color-scheme:dark){svg{%s}}
        %s</style>
        <rect x="%d" y="%d" width="100%%" height="100%%" fill="var(--paper)"/>
        %s</svg>
        """,
        -margin,
        -margin,
        width + 2 * margin,
        height + 2 * margin,
        width + 2 * margin,
        height + 2 * margin,
        Markup.escape(title),
        Markup.escape(description),
        COLOURS,
        DARK_COLOURS,
        STYLE,
        -margin,
        -margin,
        out);
  }
}
