package dev.lanewise.core.report;

/** A picture that a {@link Page} can hold and that can stand alone as an SVG file. */
public sealed interface Chart permits XyChart, BarChart {
  /**
   * Draws the chart for a page, whose styles and script it needs.
   *
   * @param width in CSS pixels
   * @param height in CSS pixels
   * @param type CSS class to add
   * @return an {@code <svg>} element
   */
  String inline(int width, int height, String type);

  /**
   * Draws the chart as a file of its own that follows the reader's light or dark setting.
   *
   * @param width in CSS pixels
   * @param height in CSS pixels
   * @return an SVG document
   */
  String standalone(int width, int height);
}
