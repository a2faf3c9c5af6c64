package dev.lanewise.core.report;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;

/**
 * Lines and points over two numeric axes, each linear or logarithmic.
 *
 * <pre>{@code
 * String svg = new XyChart("Learning rate test")
 *     .x("learning rate").logX().y("loss")
 *     .line("loss", rates, losses)
 *     .markX(3e-3, "suggested 0.003")
 *     .standalone(720, 320);
 * }</pre>
 *
 * <p>Values that an axis cannot show, such as NaN, leave a gap. Long series are thinned to what the
 * picture can show, their peaks kept.
 */
public final class XyChart implements Chart {
  private enum Look {
    LINE,
    FAINT,
    DASHED,
    POINTS
  }

  private record Series(
      String name, Look look, int colour, double[] x, double[] y, String[] labels) {}

  private record Mark(double at, String label) {}

  private final String title;
  private final List<Series> series = new ArrayList<>();
  private final List<Mark> marksX = new ArrayList<>();
  private final List<Mark> marksY = new ArrayList<>();
  private String xName = "";
  private String yName = "";
  private boolean logX;
  private boolean logY;
  private boolean wholeX;
  private double xLow = Double.NaN;
  private double xHigh = Double.NaN;
  private double yLow = Double.NaN;
  private double yHigh = Double.NaN;
  private String description = "";
  private int colours;

  /**
   * Starts a chart.
   *
   * @param title stands above it
   */
  public XyChart(String title) {
    this.title = title;
  }

  /** Names the horizontal axis, with its unit. */
  public XyChart x(String name) {
    xName = name;
    return this;
  }

  /** Names the vertical axis, with its unit. */
  public XyChart y(String name) {
    yName = name;
    return this;
  }

  /** Makes the horizontal axis logarithmic; what is not positive is left out. */
  public XyChart logX() {
    logX = true;
    return this;
  }

  /** Says that places are whole numbers, such as steps, so that no tick is between them. */
  public XyChart wholeX() {
    wholeX = true;
    return this;
  }

  /** Makes the vertical axis logarithmic; what is not positive is left out. */
  public XyChart logY() {
    logY = true;
    return this;
  }

  /** Fixes the ends of the horizontal axis; NaN leaves an end to the data. */
  public XyChart xRange(double low, double high) {
    xLow = low;
    xHigh = high;
    return this;
  }

  /** Fixes the ends of the vertical axis; NaN leaves an end to the data. What is outside is cut. */
  public XyChart yRange(double low, double high) {
    yLow = low;
    yHigh = high;
    return this;
  }

  /** Describes the picture for those who cannot see it. */
  public XyChart description(String text) {
    description = text;
    return this;
  }

  /**
   * Adds a line in the next colour.
   *
   * @param name its name in the legend
   * @param x ascending places
   * @param y as many values
   * @return this chart
   */
  public XyChart line(String name, double[] x, double[] y) {
    return add(name, Look.LINE, ++colours, x, y, null);
  }

  /** Adds a dashed line in the next colour; otherwise as {@link #line}. */
  public XyChart dashed(String name, double[] x, double[] y) {
    return add(name, Look.DASHED, ++colours, x, y, null);
  }

  /**
   * Adds a thin pale line in the colour that the next series will have: raw values behind their
   * average. It does not widen the vertical axis for its rarest values and is not in the legend.
   *
   * @param x ascending places
   * @param y as many values
   * @return this chart
   */
  public XyChart faint(double[] x, double[] y) {
    return add("", Look.FAINT, colours + 1, x, y, null);
  }

  /** Adds points in the next colour; otherwise as {@link #line}. */
  public XyChart points(String name, double[] x, double[] y) {
    return add(name, Look.POINTS, ++colours, x, y, null);
  }

  /**
   * Adds points with a word beside each.
   *
   * @param name their name in the legend
   * @param x places
   * @param y as many values
   * @param labels as many words
   * @return this chart
   */
  public XyChart points(String name, double[] x, double[] y, String[] labels) {
    if (labels.length != x.length) {
      throw new IllegalArgumentException(
          labels.length + " labels cannot name " + x.length + " points");
    }
    return add(name, Look.POINTS, ++colours, x, y, labels.clone());
  }

  /** Draws a vertical line with a label, as for a suggested value. */
  public XyChart markX(double at, String label) {
    marksX.add(new Mark(at, label));
    return this;
  }

  /** Draws a horizontal line with a label, as for a limit. */
  public XyChart markY(double at, String label) {
    marksY.add(new Mark(at, label));
    return this;
  }

  private XyChart add(String name, Look look, int colour, double[] x, double[] y, String[] labels) {
    if (x.length != y.length) {
      throw new IllegalArgumentException(
          x.length + " places and " + y.length + " values do not make a series");
    }
    int shown = (colour - 1) % Svg.SERIES_COLOURS + 1;
    series.add(new Series(name, look, shown, x.clone(), y.clone(), labels));
    return this;
  }

  @Override
  public String inline(int width, int height, String type) {
    Drawing drawing = new Drawing(width, height);
    return drawing.svg.inline(type, drawing.attributes());
  }

  @Override
  public String standalone(int width, int height) {
    return new Drawing(width, height).svg.standalone();
  }

  private final class Drawing {
    final Svg svg;
    final Axis xAxis;
    final Axis yAxis;

    Drawing(int width, int height) {
      svg = new Svg(width, height, title, description);
      List<Svg.Key> keys = new ArrayList<>();
      for (Series one : series) {
        if (!one.name.isEmpty() && series.stream().filter(s -> !s.name.isEmpty()).count() > 1) {
          String mark = one.look == Look.POINTS ? "p" : one.look == Look.DASHED ? "d" : "l";
          keys.add(new Svg.Key(one.name, mark, one.colour));
        }
      }
      svg.head(keys);
      Range x = new Range(logX);
      Range y = new Range(logY);
      for (Series one : series) {
        x.add(one.x);
        if (one.look == Look.FAINT) {
          y.addMost(one.y);
        } else {
          y.add(one.y);
        }
      }
      marksX.forEach(mark -> x.add(mark.at));
      marksY.forEach(mark -> y.add(mark.at));
      // Lines end at the frame; points need room around them.
      boolean onlyLines = series.stream().noneMatch(one -> one.look == Look.POINTS);
      xAxis =
          Axis.of(
              x.low,
              x.high,
              Double.isNaN(xLow) && onlyLines ? x.low : xLow,
              Double.isNaN(xHigh) && onlyLines ? x.high : xHigh,
              logX,
              wholeX);
      yAxis = Axis.of(y.low, y.high, yLow, yHigh, logY, false);
      svg.axes(xAxis, yAxis, xName, yName);
      for (Mark mark : marksY) {
        double at = svg.py(yAxis, mark.at);
        svg.line("m", svg.left, at, svg.right, at);
        svg.text(svg.right, at - 5, null, "end", mark.label);
      }
      svg.add(window());
      for (Series one : series) {
        if (one.look != Look.POINTS) {
          drawLine(one);
        }
      }
      svg.add("</svg>");
      for (Series one : series) {
        if (one.look == Look.POINTS) {
          drawPoints(one);
        }
      }
      for (Mark mark : marksX) {
        double at = svg.px(xAxis, mark.at);
        svg.line("m", at, svg.top, at, svg.bottom);
        boolean fits = at + 6 + Svg.textWidth(mark.label) < svg.right;
        svg.text(fits ? at + 6 : at - 6, svg.top + 11, "k", fits ? "start" : "end", mark.label);
      }
    }

    /** An inner picture with the same coordinates, which cuts off what is outside the frame. */
    private String window() {
      String place = "x=\"%1$s\" y=\"%2$s\" width=\"%3$s\" height=\"%4$s\"";
      return Numbers.format(
          ("<svg " + place + " viewBox=\"%1$s %2$s %3$s %4$s\">"),
          Markup.px(svg.left - 1),
          Markup.px(svg.top - 2),
          Markup.px(svg.right - svg.left + 2),
          Markup.px(svg.bottom - svg.top + 4));
    }

    private void drawLine(Series one) {
      Thinned thinned = new Thinned(one);
      String type =
          switch (one.look) {
            case FAINT -> "f";
            case DASHED -> "d";
            default -> "l";
          };
      svg.add(
          Numbers.format(
              "<path class=\"%s c%d\"%s d=\"%s\"/>",
              type, one.colour, named(one, thinned.places()), thinned.path()));
    }

    private void drawPoints(Series one) {
      StringBuilder places = new StringBuilder();
      StringBuilder circles = new StringBuilder();
      double radius = one.x.length > 60 ? 2.5 : 4;
      for (int i = 0; i < one.x.length; i++) {
        double x = svg.px(xAxis, one.x[i]);
        double y = svg.py(yAxis, one.y[i]);
        if (!inside(x, y)) {
          continue;
        }
        places.append(Markup.px(x)).append(',').append(Markup.px(y)).append(' ');
        circles.append(
            Numbers.format(
                "<circle class=\"p b%d\" cx=\"%s\" cy=\"%s\" r=\"%s\"/>\n",
                one.colour, Markup.px(x), Markup.px(y), Markup.px(radius)));
        if (one.labels != null) {
          boolean fits = x + 8 + Svg.textWidth(one.labels[i]) < svg.right;
          circles.append(
              Numbers.format(
                  "<text class=\"k\" x=\"%s\" y=\"%s\"%s>%s</text>\n",
                  Markup.px(fits ? x + 8 : x - 8),
                  Markup.px(y + 4),
                  fits ? "" : " text-anchor=\"end\"",
                  Markup.escape(one.labels[i])));
        }
      }
      svg.add("<g" + named(one, places.toString()) + ">\n" + circles + "</g>");
    }

    private boolean inside(double x, double y) {
      return x >= svg.left - 1 && x <= svg.right + 1 && y >= svg.top - 1 && y <= svg.bottom + 1;
    }

    private String named(Series one, String places) {
      return one.name.isEmpty()
          ? ""
          : Numbers.format(
              " data-n=\"%s\" data-c=\"%d\" data-p=\"%s\"",
              Markup.escape(one.name), one.colour, places.strip());
    }

    String attributes() {
      return Numbers.format(
          " tabindex=\"0\" data-f=\"%s,%s,%s,%s\" data-x=\"%s,%s,%d,%d,%s\" data-y=\"%s,%s,%d\"",
          Markup.px(svg.left),
          Markup.px(svg.top),
          Markup.px(svg.right),
          Markup.px(svg.bottom),
          xAxis.from(),
          xAxis.to(),
          logX ? 1 : 0,
          wholeX ? 1 : 0,
          Markup.escape(xName),
          yAxis.from(),
          yAxis.to(),
          logY ? 1 : 0);
    }

    /** A line reduced to what each column of pixels shows: first, lowest, highest, last. */
    private final class Thinned {
      private final StringBuilder path = new StringBuilder();
      private final StringBuilder places = new StringBuilder();
      private int run;

      Thinned(Series one) {
        int i = 0;
        while (i < one.x.length) {
          double x = svg.px(xAxis, one.x[i]);
          if (!Double.isFinite(x) || !Double.isFinite(svg.py(yAxis, one.y[i]))) {
            lift();
            i++;
            continue;
          }
          int low = i;
          int high = i;
          int end = i + 1;
          while (end < one.x.length
              && Math.floor(svg.px(xAxis, one.x[end])) == Math.floor(x)
              && Double.isFinite(svg.py(yAxis, one.y[end]))) {
            low = one.y[end] < one.y[low] ? end : low;
            high = one.y[end] > one.y[high] ? end : high;
            end++;
          }
          to(one, i);
          places.append(coordinates(one, i)).append(' ');
          int earlier = Math.min(low, high);
          int later = Math.max(low, high);
          if (earlier > i) {
            to(one, earlier);
          }
          if (later > earlier) {
            to(one, later);
          }
          if (end - 1 > later) {
            to(one, end - 1);
          }
          i = end;
        }
        lift();
      }

      /** Ends a run of values; one that stands alone becomes a dot, which round ends make of it. */
      private void lift() {
        if (run == 1) {
          path.append("h0");
        }
        run = 0;
      }

      private void to(Series one, int i) {
        path.append(run++ > 0 ? 'L' : 'M').append(coordinates(one, i));
      }

      private String coordinates(Series one, int i) {
        // Far outside the frame all places look alike, and renderers dislike huge numbers.
        double y = Math.clamp(svg.py(yAxis, one.y[i]), -10_000, 10_000);
        return Markup.px(svg.px(xAxis, one.x[i])) + "," + Markup.px(y);
      }

      String path() {
        return path.toString();
      }

      String places() {
        return places.toString();
      }
    }
  }

  /** The finite values' range, of positive ones only for a logarithmic axis. */
  private static final class Range {
    private final boolean log;
    double low = Double.POSITIVE_INFINITY;
    double high = Double.NEGATIVE_INFINITY;

    Range(boolean log) {
      this.log = log;
    }

    void add(double... values) {
      for (double value : values) {
        if (Double.isFinite(value) && (!log || value > 0)) {
          low = Math.min(low, value);
          high = Math.max(high, value);
        }
      }
    }

    /** Adds all but the lowest and highest half percent. */
    void addMost(double[] values) {
      double[] sorted =
          Arrays.stream(values)
              .filter(v -> Double.isFinite(v) && (!log || v > 0))
              .sorted()
              .toArray();
      if (sorted.length > 0) {
        int cut = sorted.length / 200;
        add(sorted[cut], sorted[sorted.length - 1 - cut]);
      }
    }
  }

  @Override
  public String toString() {
    return String.format(Locale.ROOT, "%s: %d series", title, series.size());
  }
}
