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
 *
 * <p>Losses of single batches jump. So the curve is looked at through running medians, which a
 * batch that is unlike the others does not move, and only what falls below everything before counts
 * as falling: coming back from a rise does not.
 */
public final class LrFinder {
  private static final double BLOW_UP = 2;

  private LrFinder() {}

  /**
   * What a test found.
   *
   * @param rates learning rates that were tried
   * @param losses loss of the batch at each rate, before the update
   * @param smoothed their running medians
   * @param suggested rate at which the smoothed loss falls fastest over the logarithm of the rate;
   *     NaN if it falls nowhere
   */
  public record Result(double[] rates, double[] losses, double[] smoothed, double suggested) {}

  /**
   * Runs a test. The model's parameters are spoilt by it.
   *
   * @param model the model, freshly initialised
   * @param config batch, context, passes, clipping and optimiser
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
    int window = window(steps);
    int done = 0;
    MemoryPlan.apply(config, model.tape());
    try (AdamW optimizer =
        new AdamW(model.tape(), parameter -> parameter.shape().rank() == 2)
            .betas(config.beta1(), config.beta2())
            .weightDecay(config.weightDecay())) {
      Tensor ids = model.tape().ids(Shape.of(config.batch(), config.context()));
      Tensor targets = model.tape().ids(Shape.of(config.batch(), config.context()));
      model.train();
      double best = Double.POSITIVE_INFINITY;
      while (done < steps) {
        double rate = from * Math.pow(to / from, done / Math.max(1.0, steps - 1));
        optimizer.zeroGrad();
        double loss = 0;
        long counted = countTargets(batches, config.accumulate());
        for (int pass = 0; pass < config.accumulate(); pass++) {
          batches.next();
          float weight = batches.tokens() / (float) counted;
          model.tape().setLossScale(weight);
          ids.upload(batches.inputs());
          targets.upload(batches.targets());
          model.tape().reset();
          Tensor passLoss = model.loss(ids, targets);
          passLoss.backward();
          loss += (double) passLoss.item() * weight;
        }
        double norm = optimizer.gradientNorm((float) config.clip());
        if (!Double.isFinite(loss) || !Double.isFinite(norm)) {
          break;
        }
        optimizer.step(rate);
        rates[done] = rate;
        losses[done] = loss;
        done++;
        progress.accept(done);
        double recent = median(losses, done - Math.min(done, 2 * window + 1), done);
        best = Math.min(best, recent);
        if (done > 10 && recent > BLOW_UP * best) {
          break;
        }
      }
    }
    rates = Arrays.copyOf(rates, done);
    losses = Arrays.copyOf(losses, done);
    double[] smoothed = smooth(losses, window);
    return new Result(rates, losses, smoothed, steepest(rates, smoothed, window));
  }

  /** The targets of the passes to come: each weighs as much as it has of them. */
  private static long countTargets(TokenBatches batches, int passes) {
    long position = batches.position();
    long counted = 0;
    for (int pass = 0; pass < passes; pass++) {
      batches.next();
      counted += batches.tokens();
    }
    batches.seek(position);
    return counted;
  }

  /** Rates on each side that a point of the curve is looked at with. */
  private static int window(int steps) {
    return Math.max(2, steps / 20);
  }

  /** Medians over so many neighbours on each side, and as many as there are at the ends. */
  static double[] smooth(double[] losses, int window) {
    double[] smoothed = new double[losses.length];
    for (int i = 0; i < losses.length; i++) {
      smoothed[i] =
          median(losses, Math.max(0, i - window), Math.min(losses.length, i + window + 1));
    }
    return smoothed;
  }

  private static double median(double[] values, int from, int to) {
    double[] sorted = Arrays.copyOfRange(values, from, to);
    Arrays.sort(sorted);
    int middle = sorted.length / 2;
    return sorted.length % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  }

  /** The rate of the steepest fall below all that was before. */
  static double steepest(double[] rates, double[] smoothed, int window) {
    double[] lowest = smoothed.clone();
    for (int i = 1; i < lowest.length; i++) {
      lowest[i] = Math.min(lowest[i], lowest[i - 1]);
    }
    double best = Double.NaN;
    double slope = 0;
    for (int i = window; i + window < rates.length; i++) {
      double fall = lowest[i - window] - lowest[i + window];
      if (fall > slope) {
        slope = fall;
        best = rates[i];
      }
    }
    return best;
  }
}
