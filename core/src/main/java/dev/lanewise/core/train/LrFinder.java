package dev.lanewise.core.train;

import dev.lanewise.core.data.TokenBatches;
import dev.lanewise.core.model.Gpt;
import dev.lanewise.core.nn.AdamW;
import dev.lanewise.core.tensor.Shape;
import dev.lanewise.core.tensor.Tensor;
import java.util.Arrays;
import java.util.function.IntConsumer;

/**
 * Learning-rate range test (Smith, 2015): one step at each of many rates, from small to large, and
 * a look at where the loss falls fastest.
 */
public final class LrFinder {
  private static final double SMOOTHING = 0.9;
  private static final double BLOW_UP = 2;

  private LrFinder() {}

  /**
   * What a test found.
   *
   * @param rates learning rates that were tried
   * @param losses loss of the batch at each rate, before the update
   * @param smoothed the same, averaged exponentially
   * @param suggested rate at which the smoothed loss falls fastest over the logarithm of the rate
   */
  public record Result(double[] rates, double[] losses, double[] smoothed, double suggested) {}

  /**
   * Runs a test. The model's parameters are spoilt by it.
   *
   * @param model the model, freshly initialised
   * @param config batch, context, clipping and optimiser
   * @param batches where batches come from
   * @param from smallest rate
   * @param to largest rate
   * @param steps number of rates
   * @param progress hears the number of steps done
   */
  public static Result run(
      Gpt model,
      TrainConfig config,
      TokenBatches batches,
      double from,
      double to,
      int steps,
      IntConsumer progress) {
    double[] rates = new double[steps];
    double[] losses = new double[steps];
    double[] smoothed = new double[steps];
    int done = 0;
    MemoryPlan.apply(config.withBatch(config.batch(), 1), model.tape());
    try (AdamW optimizer =
        new AdamW(model.tape(), parameter -> parameter.shape().rank() == 2)
            .betas(config.beta1(), config.beta2())
            .weightDecay(config.weightDecay())) {
      Tensor ids = model.tape().ids(Shape.of(config.batch(), config.context()));
      Tensor targets = model.tape().ids(Shape.of(config.batch(), config.context()));
      model.train();
      double average = 0;
      double best = Double.POSITIVE_INFINITY;
      while (done < steps) {
        double rate = from * Math.pow(to / from, done / Math.max(1.0, steps - 1));
        batches.next();
        ids.upload(batches.inputs());
        targets.upload(batches.targets());
        model.tape().reset();
        optimizer.zeroGrad();
        Tensor loss = model.loss(ids, targets);
        loss.backward();
        double value = loss.item();
        double norm = optimizer.gradientNorm((float) config.clip());
        if (!Double.isFinite(value) || !Double.isFinite(norm)) {
          break;
        }
        optimizer.step(rate);
        average = SMOOTHING * average + (1 - SMOOTHING) * value;
        rates[done] = rate;
        losses[done] = value;
        smoothed[done] = average / (1 - Math.pow(SMOOTHING, done + 1));
        best = Math.min(best, smoothed[done]);
        done++;
        progress.accept(done);
        if (done > 10 && smoothed[done - 1] > BLOW_UP * best) {
          break;
        }
      }
    }
    rates = Arrays.copyOf(rates, done);
    losses = Arrays.copyOf(losses, done);
    smoothed = Arrays.copyOf(smoothed, done);
    return new Result(rates, losses, smoothed, steepest(rates, smoothed));
  }

  /** The rate of the steepest fall, looked for up to the smallest loss. */
  static double steepest(double[] rates, double[] smoothed) {
    int lowest = 0;
    for (int i = 1; i < rates.length; i++) {
      if (smoothed[i] < smoothed[lowest]) {
        lowest = i;
      }
    }
    int window = Math.max(1, rates.length / 20);
    double best = Double.NaN;
    double slope = 0;
    for (int i = window; i + window <= lowest; i++) {
      double fall = smoothed[i - window] - smoothed[i + window];
      if (fall > slope) {
        slope = fall;
        best = rates[i];
      }
    }
    return best;
  }
}
