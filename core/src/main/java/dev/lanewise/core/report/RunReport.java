package dev.lanewise.core.report;

import dev.lanewise.core.report.Metrics.Step;
import dev.lanewise.core.report.Metrics.Validation;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.DoubleSummaryStatistics;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** The report of a training run: curves, samples, configuration and machine on one page. */
public final class RunReport {
  /**
   * Text that the model wrote.
   *
   * @param caption when and how, as "step 2000, temperature 0.8"
   * @param prompt what it was given; may be empty
   * @param text what it made of it
   */
  public record Sample(String caption, String prompt, String text) {}

  private static final int ROWS = 12;

  private final String title;
  private final Metrics metrics;
  private String subtitle = "";
  private int vocabSize;
  private long tokensPerStep;
  private double wallSeconds = Double.NaN;
  private List<Sample> samples = List.of();
  private Map<String, ?> configuration = Map.of();
  private Map<String, ?> machine = Map.of();
  private List<String> notes = List.of();

  /**
   * Starts a report.
   *
   * @param title its heading
   * @param metrics the run's numbers
   */
  public RunReport(String title, Metrics metrics) {
    this.title = title;
    this.metrics = metrics;
  }

  /** Sets the line beneath the heading, such as the data and the model's size. */
  public RunReport subtitle(String line) {
    subtitle = line;
    return this;
  }

  /** Sets the size of the vocabulary, with which the loss of guessing is marked. */
  public RunReport vocabSize(int size) {
    vocabSize = size;
    return this;
  }

  /** Sets how many tokens a step trains on. */
  public RunReport tokensPerStep(long tokens) {
    tokensPerStep = tokens;
    return this;
  }

  /** Sets how long the run took with all that is not a step: validations, samples, checkpoints. */
  public RunReport wallSeconds(double seconds) {
    wallSeconds = seconds;
    return this;
  }

  /** Sets the samples, the oldest first. */
  public RunReport samples(List<Sample> all) {
    samples = List.copyOf(all);
    return this;
  }

  /** Sets names and values of the configuration, in the order to show. */
  public RunReport configuration(Map<String, ?> facts) {
    configuration = facts;
    return this;
  }

  /** Sets names and values that describe the machine, in the order to show. */
  public RunReport machine(Map<String, ?> facts) {
    machine = facts;
    return this;
  }

  /** Sets sentences that a reader must know, such as skipped steps. */
  public RunReport notes(List<String> sentences) {
    notes = List.copyOf(sentences);
    return this;
  }

  /** The loss curves alone, for a picture of the run. */
  public XyChart lossChart() {
    double[] steps = metrics.column(Step::step);
    double[] losses = metrics.column(Step::loss);
    XyChart chart = steps("Loss").y("cross-entropy, nats per token").description(describeLoss());
    if (Curves.fallsEarly(steps, losses)) {
      chart.logX().xRange(Double.NaN, Double.NaN);
    }
    if (steps.length > 0) {
      chart.faint(steps, losses).line("training", steps, Curves.smooth(losses));
    }
    if (!metrics.validations().isEmpty()) {
      chart.points("validation", validationSteps(), validationLosses());
    }
    double guessing = Math.log(vocabSize);
    if (vocabSize > 1) {
      chart.markY(
          guessing, Numbers.format("guessing: ln %d = %s", vocabSize, Numbers.compact(guessing)));
    }
    return chart;
  }

  private double[] validationSteps() {
    // A validation before the first step is shown at step 1, which a logarithmic axis can show.
    return metrics.validations().stream().mapToDouble(v -> Math.max(1, v.step())).toArray();
  }

  private double[] validationLosses() {
    return metrics.validations().stream().mapToDouble(Validation::loss).toArray();
  }

  private String describeLoss() {
    StringBuilder text = new StringBuilder();
    if (!metrics.steps().isEmpty()) {
      Step first = metrics.steps().getFirst();
      Step last = metrics.steps().getLast();
      text.append(
          Numbers.format(
              "Training loss from %s at step %d to %s at step %d.",
              Numbers.compact(first.loss()),
              first.step(),
              Numbers.compact(trainingLoss()),
              last.step()));
    }
    if (!metrics.validations().isEmpty()) {
      Validation last = metrics.validations().getLast();
      text.append(
          Numbers.format(
              " Validation loss %s at step %d.", Numbers.compact(last.loss()), last.step()));
    }
    return text.toString().strip();
  }

  private List<XyChart> smallCharts() {
    List<XyChart> charts = new ArrayList<>();
    double[] steps = metrics.column(Step::step);
    if (!metrics.validations().isEmpty()) {
      double[] perplexities = validationLosses();
      for (int i = 0; i < perplexities.length; i++) {
        perplexities[i] = Math.exp(perplexities[i]);
      }
      XyChart chart =
          steps("Validation perplexity")
              .y("e to the loss")
              .line("perplexity", validationSteps(), perplexities);
      if (Curves.spread(perplexities) > 20) {
        chart.logY();
      }
      charts.add(chart);
    }
    double[] rates = metrics.column(Step::lr);
    if (Curves.hasValues(rates)) {
      charts.add(steps("Learning rate").yRange(0, Double.NaN).line("learning rate", steps, rates));
    }
    double[] norms = metrics.column(Step::gradNorm);
    if (Curves.hasValues(norms)) {
      XyChart chart =
          steps("Gradient norm")
              .y("before clipping")
              .faint(steps, norms)
              .line("gradient norm", steps, Curves.smooth(norms));
      if (Curves.spread(norms) > 20) {
        chart.logY();
      }
      charts.add(chart);
    }
    double[] speeds = speeds();
    if (Curves.hasValues(speeds)) {
      charts.add(
          steps("Speed")
              .y("tokens per second")
              .yRange(0, Double.NaN)
              .faint(steps, speeds)
              .line("tokens per second", steps, Curves.smoothSpeeds(speeds)));
    }
    return charts;
  }

  /** The training loss that is named: where its curve ends. */
  private double trainingLoss() {
    return Curves.last(Curves.smooth(metrics.column(Step::loss)));
  }

  /** The speed that is named: where its curve ends. */
  private double speed() {
    return Curves.last(Curves.smoothSpeeds(speeds()));
  }

  /**
   * How long the run took and how fast it is.
   *
   * @return such as "12 s in 800 steps, 20 s in all, 57.1k tokens per second"
   */
  public String times() {
    if (metrics.steps().isEmpty()) {
      return "no step";
    }
    Step last = metrics.steps().getLast();
    String text =
        Numbers.format(
            "%s in %s steps", Numbers.duration(last.seconds()), Numbers.grouped(last.step()));
    if (Double.isFinite(wallSeconds)) {
      text += Numbers.format(", %s in all", Numbers.duration(wallSeconds));
    }
    if (Double.isFinite(speed())) {
      text += Numbers.format(", %s tokens per second", Numbers.compact(speed()));
    }
    return last.compiling() ? text + " (the JVM was still compiling)" : text;
  }

  /** Speeds of the steps, without those while the JVM compiled, if there are others. */
  private double[] speeds() {
    boolean compiledOnly = metrics.steps().stream().allMatch(Step::compiling);
    return metrics.column(
        step -> step.compiling() && !compiledOnly ? Double.NaN : step.tokensPerSecond());
  }

  private static XyChart steps(String title) {
    return new XyChart(title).x("step").wholeX().xRange(0, Double.NaN);
  }

  private Map<String, String> figures() {
    Map<String, String> figures = new LinkedHashMap<>();
    if (!metrics.validations().isEmpty()) {
      double loss = metrics.validations().getLast().loss();
      figures.put("validation loss", Numbers.format("%.3f", loss));
      figures.put("perplexity", perplexity(loss));
    }
    if (!metrics.steps().isEmpty()) {
      Step last = metrics.steps().getLast();
      if (Double.isFinite(trainingLoss())) {
        figures.put("training loss", Numbers.format("%.3f", trainingLoss()));
      }
      figures.put("steps", Numbers.grouped(last.step()));
      if (tokensPerStep > 0) {
        figures.put("tokens", Numbers.compact((double) tokensPerStep * last.step()));
      }
      double speed = speed();
      if (Double.isFinite(speed)) {
        figures.put("tokens per second", Numbers.compact(speed));
      }
      if (Double.isFinite(last.seconds())) {
        figures.put("training time", Numbers.duration(last.seconds()));
      }
    }
    if (Double.isFinite(wallSeconds)) {
      figures.put("wall time", Numbers.duration(wallSeconds));
    }
    return figures;
  }

  /** What the lines and the numbers named are, and which speeds are left out. */
  private String means() {
    int steps = metrics.steps().size();
    StringBuilder text = new StringBuilder();
    text.append(
        Numbers.format(
            "Every line, and the training losses and the speed that are named, are means over the"
                + " last %s steps, near the start over the last quarter of the steps so far.",
            Numbers.grouped(Curves.widest(steps))));
    long compiling = metrics.steps().stream().filter(Step::compiling).count();
    if (compiling == steps) {
      text.append(" The JVM was compiling in all these steps: later ones will be faster.");
    } else if (compiling > 0) {
      text.append(
          Numbers.format(
              " In %s the JVM was still compiling%s; they are not in the speed.",
              compiling == 1 ? "one step" : Numbers.grouped(compiling) + " steps", extraTime()));
    }
    return text.toString();
  }

  /** How much longer steps took while the JVM compiled; empty if that is not known. */
  private String extraTime() {
    // Each step has as many tokens, so its time is the inverse of its speed.
    DoubleSummaryStatistics early = secondsOfAToken(true);
    DoubleSummaryStatistics later = secondsOfAToken(false);
    double extra = (early.getSum() - early.getCount() * later.getAverage()) * tokensPerStep;
    return extra > 0
        ? Numbers.format(", which took %s longer than as many later ones", Numbers.duration(extra))
        : "";
  }

  private DoubleSummaryStatistics secondsOfAToken(boolean compiling) {
    return metrics.steps().stream()
        .filter(step -> step.compiling() == compiling && step.tokensPerSecond() > 0)
        .mapToDouble(step -> 1 / step.tokensPerSecond())
        .summaryStatistics();
  }

  /** The page. */
  public Page page() {
    Page page = new Page(title, subtitle).figures(figures());
    notes.forEach(page::paragraph);
    if (metrics.steps().isEmpty() && metrics.validations().isEmpty()) {
      page.paragraph("No step has been finished yet.");
    } else {
      page.chart(lossChart()).smallCharts(smallCharts()).paragraph(means());
    }
    if (!metrics.validations().isEmpty()) {
      page.heading("Validation");
      page.table(List.of("step", "training loss", "validation loss", "perplexity"), rows());
    }
    if (!samples.isEmpty()) {
      page.heading("What the model writes");
      Sample newest = samples.getLast();
      page.paragraph(newest.caption).text(newest.prompt, newest.text);
      if (samples.size() > 1) {
        Page older = Page.fragment();
        for (Sample sample : samples.subList(0, samples.size() - 1).reversed()) {
          older.paragraph(sample.caption).text(sample.prompt, sample.text);
        }
        page.folded("Earlier samples (" + (samples.size() - 1) + ")", older);
      }
    }
    if (!configuration.isEmpty()) {
      page.heading("Configuration").facts(configuration);
    }
    if (!machine.isEmpty()) {
      page.heading("Machine").facts(machine);
    }
    return page;
  }

  /** Validations, thinned to a page's length with the last one kept. */
  private List<List<String>> rows() {
    List<Validation> all = metrics.validations();
    double[] smooth = Curves.smooth(metrics.column(Step::loss));
    int every = (all.size() + ROWS - 1) / ROWS;
    List<List<String>> rows = new ArrayList<>();
    for (int i = (all.size() - 1) % every; i < all.size(); i += every) {
      Validation one = all.get(i);
      double training = Double.NaN;
      for (int s = 0; s < smooth.length && metrics.steps().get(s).step() <= one.step(); s++) {
        training = smooth[s];
      }
      rows.add(
          List.of(
              Numbers.grouped(one.step()),
              Double.isNaN(training) ? "" : Numbers.format("%.4f", training),
              Numbers.format("%.4f", one.loss()),
              perplexity(one.loss())));
    }
    return rows;
  }

  private static String perplexity(double loss) {
    double perplexity = Math.exp(loss);
    return Numbers.format(perplexity < 100 ? "%.3f" : "%,.1f", perplexity);
  }

  /**
   * Writes the page, complete or not at all.
   *
   * @param file the file to make or replace
   * @throws dev.lanewise.core.base.InputException if it cannot be written
   */
  public void write(Path file) {
    page().write(file);
  }
}
