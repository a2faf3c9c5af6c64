package dev.lanewise.core.cli;

import dev.lanewise.core.report.TerminalProgress;
import dev.lanewise.core.train.TrainListener;
import dev.lanewise.core.train.Validation;
import java.util.Locale;

/** Shows a training run on the console: a bar on a terminal, lines elsewhere. */
final class ConsoleProgress implements TrainListener {
  private final TerminalProgress progress = TerminalProgress.on(System.out);
  private String phase;
  private double smoothedLoss = Double.NaN;
  private double smoothedSpeed = Double.NaN;
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
    if (skipped) {
      progress.message(
          String.format(
              Locale.ROOT,
              "Step %,d skipped: loss %s, gradient norm %s.",
              step,
              loss,
              gradientNorm));
    } else {
      smoothedLoss = Double.isNaN(smoothedLoss) ? loss : 0.95 * smoothedLoss + 0.05 * loss;
    }
    smoothedSpeed =
        Double.isNaN(smoothedSpeed) ? tokensPerSecond : 0.9 * smoothedSpeed + 0.1 * tokensPerSecond;
    progress.update(step, this::details);
  }

  private String details() {
    String text =
        String.format(
            Locale.ROOT,
            "loss %.3f, %s",
            smoothedLoss,
            TerminalProgress.speed(smoothedSpeed, "tok"));
    return Double.isNaN(validationLoss)
        ? text
        : text + String.format(Locale.ROOT, ", validation %.3f", validationLoss);
  }

  @Override
  public void validating(long done, long tokens, long available) {
    if (step < steps) {
      return;
    }
    if (done == 0) {
      progress.begin("validating", 0, tokens);
      if (tokens < available) {
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

  @Override
  public void validation(Validation validation) {
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
