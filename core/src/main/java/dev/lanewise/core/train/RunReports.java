package dev.lanewise.core.train;

import dev.lanewise.core.model.GptConfig;
import dev.lanewise.core.model.GptPresets;
import dev.lanewise.core.report.Metrics;
import dev.lanewise.core.report.MetricsCsv;
import dev.lanewise.core.report.RunReport;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/** Writes the page about a run from what is in its folder. */
public final class RunReports {
  private RunReports() {}

  /**
   * Writes {@code report.html} and {@code metrics.csv}.
   *
   * @param run the run; nothing is written before its first step
   */
  public static void write(TrainingRun run) {
    run.flushMetrics();
    if (!Files.exists(run.folder().metricsFile())) {
      return;
    }
    MetricsCsv.write(run.folder().metricsFile(), run.folder().csvFile());
    Metrics metrics = Metrics.read(run.folder().metricsFile());
    if (metrics.steps().isEmpty()) {
      return;
    }
    GptConfig model = run.description().model();
    TrainConfig training = run.description().training();
    Map<String, Object> configuration = new LinkedHashMap<>();
    configuration.put(
        "parameters", String.format(Locale.ROOT, "%,d", run.model().parameterCount()));
    configuration.putAll(GptPresets.toMap(model));
    configuration.putAll(training.toMap());
    run.description().data().forEach((name, value) -> configuration.put("data " + name, value));
    Map<String, Object> machine = new LinkedHashMap<>();
    machine.put("device", run.device());
    machine.put("memory", run.plan());
    machine.put("Java", Runtime.version());
    machine.put("system", System.getProperty("os.name") + ", " + System.getProperty("os.arch"));
    List<String> notes = new ArrayList<>(run.warnings());
    if (run.trainer().skipped() > 0) {
      notes.add(
          String.format(
              Locale.ROOT,
              "%,d steps were skipped since loss or gradient were not finite.",
              run.trainer().skipped()));
    }
    report(run, metrics)
        .subtitle(
            String.format(
                Locale.ROOT,
                "%d layers, %d heads, %d channels, context %d, on %s",
                model.layers(),
                model.heads(),
                model.channels(),
                training.context(),
                run.description().source().pathNames()))
        .vocabSize(model.vocabSize())
        .wallSeconds(metrics.wallSeconds() + System.currentTimeMillis() / 1e3 - metrics.lastTime())
        .samples(run.samples())
        .configuration(configuration)
        .machine(machine)
        .notes(notes)
        .write(run.folder().reportFile());
  }

  private static RunReport report(TrainingRun run, Metrics metrics) {
    // Rows end with the last validation; samples come later.
    double since = System.currentTimeMillis() / 1e3 - metrics.lastTime();
    return new RunReport(run.folder().path().toAbsolutePath().getFileName().toString(), metrics)
        .tokensPerStep(run.description().training().tokensPerStep())
        .wallSeconds(metrics.wallSeconds() + since);
  }

  /**
   * How long a run took and how fast it is, in one line, as its report says.
   *
   * @param run the run
   * @return such as "12 s in 800 steps, 20 s in all, 57.1k tokens per second"
   */
  public static String times(TrainingRun run) {
    run.flushMetrics();
    return report(run, Metrics.read(run.folder().metricsFile())).times();
  }
}
