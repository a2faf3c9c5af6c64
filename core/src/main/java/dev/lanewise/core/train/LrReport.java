package dev.lanewise.core.train;

import dev.lanewise.core.report.Page;
import dev.lanewise.core.report.XyChart;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;

/** The page about a learning-rate range test. */
public final class LrReport {
  private LrReport() {}

  /**
   * Writes the page.
   *
   * @param result what the test found
   * @param file the file to make or replace
   */
  public static void write(LrFinder.Result result, Path file) {
    XyChart chart =
        new XyChart("Loss against learning rate")
            .x("learning rate")
            .y("loss")
            .logX()
            .faint(result.rates(), result.losses())
            .line("smoothed loss", result.rates(), result.smoothed());
    Map<String, String> figures = new LinkedHashMap<>();
    if (!Double.isNaN(result.suggested())) {
      String suggested = String.format(Locale.ROOT, "%.2g", result.suggested());
      chart.markX(result.suggested(), suggested);
      figures.put("suggested rate", suggested);
    }
    figures.put("rates tried", Integer.toString(result.rates().length));
    new Page("Learning-rate range test", "One training step at each rate")
        .figures(figures)
        .chart(chart)
        .paragraph(
            "The suggested rate is where the smoothed loss falls fastest. Rates to the left of it"
                + " learn slowly; where the curve turns up, training blows up.")
        .write(file);
  }
}
