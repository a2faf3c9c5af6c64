package dev.lanewise.core.cli;

import dev.lanewise.core.machine.Compiling;
import dev.lanewise.core.report.Recent;
import dev.lanewise.core.report.TerminalProgress;
import dev.lanewise.core.train.TrainListener;
import dev.lanewise.core.train.Validation;
import java.util.Locale;

/**
 * Shows a training run on the console: a bar on a terminal, lines elsewhere.
 *
 * <p>The speed is that of the recent steps, as in the run's report. As long as the JVM compiles
 * what runs, that is said instead, and no time left is told.
 */
final class ConsoleProgress implements TrainListener {
  private final TerminalProgress progress = TerminalProgress.on(System.out);
  private final Compiling compiling = Compiling.ofThisProcess();
  private String phase;
  private boolean isEven;
  private boolean isValidating;
  private Recent losses = new Recent(0);
  private Recent tokenSeconds = new Recent(0);
  private double validationLoss = Double.NaN;
  private long step;
  private long steps;

  void preparing(String what, long done, long total) {
    if (!what.equals(phase)) {
      prepared();
      progress.begin(what, 0, total);
      phase = what;
    }
    progress.update(done, () -> "");
  }

  void prepared() {
    if (phase != null) {
      progress.end();
      phase = null;
    }
  }

  void begin(long steps, long done) {
    this.steps = steps;
    step = done;
    progress.begin("training", done, steps);
    progress.uneven();
    losses = new Recent(steps);
    tokenSeconds = new Recent(steps);
    isEven = false;
  }

  @Override
  public void step(
      long step,
      double loss,
      double learningRate,
      double gradientNorm,
      double tokensPerSecond,
      double seconds,
      boolean skipped) {
    this.step = step;
    endValidating();
    if (skipped) {
      progress.message(
          String.format(
              Locale.ROOT,
              "Step %,d skipped: loss %s, gradient norm %s.",
              step,
              loss,
              gradientNorm));
    }
    losses.add(loss);
    if (isEven) {
      // Every step has as many tokens, so the mean time of one gives the speed.
      tokenSeconds.add(1 / tokensPerSecond);
    } else if (!compiling.goesOn()) {
      isEven = true;
      progress.evenFrom(step);
    }
    progress.update(step, this::details);
  }

  private String details() {
    String text = String.format(Locale.ROOT, "loss %.3f", losses.mean());
    if (!isEven) {
      text += ", compiling";
    } else if (Double.isFinite(tokenSeconds.mean())) {
      text += ", " + TerminalProgress.speed(1 / tokenSeconds.mean(), "tok");
    }
    return Double.isNaN(validationLoss)
        ? text
        : text + String.format(Locale.ROOT, ", validation %.3f", validationLoss);
  }

  @Override
  public void validating(long done, long tokens, long available) {
    if (!isValidating) {
      isValidating = true;
      progress.aside("validating", tokens);
      if (step >= steps && tokens < available) {
        progress.message(
            String.format(
                Locale.ROOT,
                "Last validation: %,d of %,d tokens (%.2g %%); --eval-all takes all.",
                tokens,
                available,
                100.0 * tokens / available));
      }
    }
    progress.update(done, () -> "");
  }

  private void endValidating() {
    if (isValidating) {
      progress.back();
      isValidating = false;
    }
  }

  @Override
  public void validation(Validation validation) {
    endValidating();
    validationLoss = validation.loss();
    progress.message(
        String.format(
            Locale.ROOT,
            "Step %,d: validation loss %.4f, perplexity %.2f%s",
            validation.step(),
            validation.loss(),
            Math.exp(validation.loss()),
            step < steps ? "" : " (" + validation.extent() + ")"));
  }

  @Override
  public void warning(String sentence) {
    progress.message(sentence);
  }

  void sample(String text) {
    String line = text.strip().lines().limit(2).reduce((a, b) -> a + " ⏎ " + b).orElse("");
    progress.message("    " + (line.length() > 110 ? line.substring(0, 110) + "…" : line));
  }

  void end() {
    progress.end();
  }
}
