package dev.lanewise.core.examples;

import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.core.tensor.Tape;
import dev.lanewise.core.tensor.Tensor;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** The loss of next-word prediction: log-softmax, negative log-likelihood, cross-entropy. */
public final class LanguageModelingLoss {
  private static final int BATCH = 3;
  private static final int CONTEXT = 4;
  private static final int VOCAB = 8;

  private LanguageModelingLoss() {}

  /** One row of the table of contexts and what comes next. */
  public record Prediction(int sequence, List<Integer> context, int target) {}

  /**
   * What the steps give.
   *
   * @param data rows of tokens
   * @param predictions every context in them with its target
   * @param logSoftmaxIsLogOfSoftmax whether the two agree
   * @param nll negative log-likelihood of random logits
   * @param nllByLoop the same, summed by hand
   * @param crossEntropy cross-entropy of other logits
   * @param nllOfLogSoftmax the same in two operations
   */
  public record Result(
      int[][] data,
      List<Prediction> predictions,
      boolean logSoftmaxIsLogOfSoftmax,
      float nll,
      float nllByLoop,
      float crossEntropy,
      float nllOfLogSoftmax) {}

  /**
   * Runs the steps. As in the printed notebook, the comparison of log-softmax draws nothing from
   * the generator between the data and the losses.
   *
   * @param tape where they run
   * @param generator seeded with 538
   */
  public static Result run(Tape tape, TorchGenerator generator) {
    int[][] data = new int[BATCH][CONTEXT + 1];
    int[] drawn = new int[BATCH * (CONTEXT + 1)];
    generator.randint(drawn, 0, 10);
    List<Prediction> predictions = new ArrayList<>();
    for (int b = 0; b < BATCH; b++) {
      data[b] = Arrays.copyOfRange(drawn, b * (CONTEXT + 1), (b + 1) * (CONTEXT + 1));
      for (int t = 0; t < CONTEXT; t++) {
        int[] context = Arrays.copyOf(data[b], t + 1);
        predictions.add(new Prediction(b, Arrays.stream(context).boxed().toList(), data[b][t + 1]));
      }
    }

    Tensor some = tape.randn(new TorchGenerator(0), BATCH * CONTEXT, VOCAB);
    boolean agree = some.logSoftmax().allClose(some.softmax().log().toArray());

    Tensor logits = tape.randn(generator, BATCH * CONTEXT, VOCAB);
    Tensor targets = targets(tape, generator);
    Tensor logProbabilities = logits.logSoftmax();
    float nll = logProbabilities.nllLoss(targets).item();
    float[] values = logProbabilities.toArray();
    int[] classes = targets.toIntArray();
    double sum = 0;
    for (int i = 0; i < classes.length; i++) {
      sum -= values[i * VOCAB + classes[i]];
    }

    Tensor others = tape.randn(generator, BATCH * CONTEXT, VOCAB);
    Tensor otherTargets = targets(tape, generator);
    return new Result(
        data,
        predictions,
        agree,
        nll,
        (float) (sum / classes.length),
        others.crossEntropy(otherTargets).item(),
        others.logSoftmax().nllLoss(otherTargets).item());
  }

  private static Tensor targets(Tape tape, TorchGenerator generator) {
    int[] drawn = new int[BATCH * CONTEXT];
    generator.randint(drawn, 0, VOCAB);
    return tape.ids(drawn, drawn.length);
  }
}
