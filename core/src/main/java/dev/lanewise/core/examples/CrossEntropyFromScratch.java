package dev.lanewise.core.examples;

import dev.lanewise.core.data.BpeTokenizer;
import dev.lanewise.core.data.EndOfText;
import dev.lanewise.core.data.Tokenizer;
import dev.lanewise.core.nn.Embedding;
import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.core.tensor.Tape;
import dev.lanewise.core.tensor.Tensor;
import java.util.Arrays;

/** Cross-entropy by hand: softmax, the target's probability, its logarithm, and the gradient. */
public final class CrossEntropyFromScratch {
  private static final String TEXT =
      "Hi, how are you? I am learning cross entropy loss and how it is related to entropy.";

  private CrossEntropyFromScratch() {}

  /**
   * What the steps give.
   *
   * @param tokens ids of the text
   * @param inputs two rows of four ids
   * @param targets the ids that follow them
   * @param probabilitySums sum of each row's probabilities
   * @param targetProbabilities probability of each target
   * @param loss mean of their negative logarithms
   * @param fusedLoss the same by one operation
   * @param gradientsAgree whether the gradient by hand is that of backward
   */
  public record Result(
      int[] tokens,
      int[][] inputs,
      int[][] targets,
      float[] probabilitySums,
      float[] targetProbabilities,
      float loss,
      float fusedLoss,
      boolean gradientsAgree) {}

  /**
   * Runs the steps.
   *
   * @param tape where they run
   * @param rows first token of each row of the batch
   * @param generator seeded with 123
   */
  public static Result run(Tape tape, int[] rows, TorchGenerator generator) {
    Tokenizer tokenizer = BpeTokenizer.gpt2(EndOfText.ALLOW);
    int[] tokens = tokenizer.encode(TEXT);

    int context = 4;
    int[][] inputs = windows(tokens, rows, 0, context);
    int[][] outputs = windows(tokens, rows, 1, context);
    Tensor inputIds = tape.ids(flatten(inputs), rows.length, context);
    Tensor outputIds = tape.ids(flatten(outputs), rows.length, context);

    Embedding embedding = new Embedding(tape, 50257, 100, generator);
    Tensor weight = tape.randn(generator, 100, 50257).requireGrad();
    Tensor logits = embedding.forward(inputIds).matmul(weight).retainGrad();

    Tensor probabilities = logits.softmax();
    Tensor targetProbabilities = probabilities.gather(outputIds);
    Tensor loss = targetProbabilities.log().mean().neg();

    int n = rows.length * context;
    float[] byHand = probabilities.toArray();
    for (int i = 0; i < n; i++) {
      byHand[i * 50257 + outputIds.toIntArray()[i]] -= 1;
    }
    for (int i = 0; i < byHand.length; i++) {
      byHand[i] /= n;
    }

    Tensor fused = logits.crossEntropy(outputIds);
    fused.backward();

    return new Result(
        tokens,
        inputs,
        outputs,
        probabilities.sumLast().toArray(),
        targetProbabilities.toArray(),
        loss.item(),
        fused.item(),
        logits.grad().allClose(byHand));
  }

  private static int[][] windows(int[] tokens, int[] rows, int shift, int length) {
    return Arrays.stream(rows)
        .mapToObj(row -> Arrays.copyOfRange(tokens, row + shift, row + shift + length))
        .toArray(int[][]::new);
  }

  private static int[] flatten(int[][] rows) {
    return Arrays.stream(rows).flatMapToInt(Arrays::stream).toArray();
  }
}
