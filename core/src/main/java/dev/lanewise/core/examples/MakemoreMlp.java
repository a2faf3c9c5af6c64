package dev.lanewise.core.examples;

import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.core.tensor.Tape;
import dev.lanewise.core.tensor.Tensor;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.function.IntToDoubleFunction;
import java.util.function.Supplier;
import java.util.stream.IntStream;

/** makemore's multi-layer perceptron over the characters of names. */
public final class MakemoreMlp {
  private static final int BLOCK = 3;

  private final Tape tape;
  private final int[] contexts;
  private final int[] nexts;
  private final Tensor table;
  private final Tensor weight1;
  private final Tensor bias1;
  private final Tensor weight2;
  private final Tensor bias2;
  private final List<Tensor> parameters;

  /**
   * A model with 3481 random parameters, over all examples in some names.
   *
   * @param tape where it runs
   * @param names lower-case names
   * @param generator seeded with 2147483647
   */
  public MakemoreMlp(Tape tape, List<String> names, TorchGenerator generator) {
    this.tape = tape;
    List<Integer> inputs = new ArrayList<>();
    List<Integer> targets = new ArrayList<>();
    for (String name : names) {
      int[] context = new int[BLOCK];
      for (char letter : (name + ".").toCharArray()) {
        int next = letter == '.' ? 0 : letter - 'a' + 1;
        for (int id : context) {
          inputs.add(id);
        }
        targets.add(next);
        System.arraycopy(context, 1, context, 0, BLOCK - 1);
        context[BLOCK - 1] = next;
      }
    }
    contexts = inputs.stream().mapToInt(Integer::intValue).toArray();
    nexts = targets.stream().mapToInt(Integer::intValue).toArray();

    table = tape.randn(generator, 27, 2);
    weight1 = tape.randn(generator, 6, 100);
    bias1 = tape.randn(generator, 100);
    weight2 = tape.randn(generator, 100, 27);
    bias2 = tape.randn(generator, 27);
    parameters = List.of(table, weight1, bias1, weight2, bias2);
    parameters.forEach(Tensor::requireGrad);
  }

  /** Number of examples. */
  public int examples() {
    return nexts.length;
  }

  /** The contexts of all examples, three letters each. */
  public int[] contexts() {
    return contexts.clone();
  }

  /** The letter that follows each context. */
  public int[] nexts() {
    return nexts.clone();
  }

  /** Table of letters, then weight and bias of both layers. */
  public List<Tensor> parameters() {
    return parameters;
  }

  /** Loss of all examples. */
  public double loss() {
    return loss(all()).item();
  }

  private int[] all() {
    return IntStream.range(0, examples()).toArray();
  }

  /** Loss of the examples chosen. */
  private Tensor loss(int[] chosen) {
    tape.reset();
    Tensor x = tape.stepIds(rows(contexts, BLOCK, chosen), -1, BLOCK);
    Tensor y = tape.stepIds(rows(nexts, 1, chosen), -1);
    Tensor embedded = table.rows(x);
    Tensor hidden = embedded.view(-1, 6).matmul(weight1).add(bias1).tanh();
    Tensor logits = hidden.matmul(weight2).add(bias2);
    return logits.crossEntropy(y);
  }

  private static int[] rows(int[] matrix, int width, int[] chosen) {
    return Arrays.stream(chosen)
        .flatMap(row -> Arrays.stream(matrix, row * width, (row + 1) * width))
        .toArray();
  }

  /**
   * Gradient descent on all examples.
   *
   * @param steps number of updates
   * @param learningRate learning rate
   * @return the loss before each update
   */
  public double[] descend(int steps, double learningRate) {
    int[] all = all();
    return train(steps, i -> learningRate, () -> all);
  }

  /**
   * Gradient descent on minibatches of 32.
   *
   * @param steps number of updates
   * @param learningRate learning rate of each
   * @param generator draws the batches
   * @return the loss of each batch before its update
   */
  public double[] minibatches(
      int steps, IntToDoubleFunction learningRate, TorchGenerator generator) {
    int[] batch = new int[32];
    return train(
        steps,
        learningRate,
        () -> {
          generator.randint(batch, 0, examples());
          return batch;
        });
  }

  private double[] train(int steps, IntToDoubleFunction learningRate, Supplier<int[]> batches) {
    double[] losses = new double[steps];
    for (int i = 0; i < steps; i++) {
      Tensor loss = loss(batches.get());
      losses[i] = loss.item();
      tape.zeroGrad();
      loss.backward();
      float rate = (float) learningRate.applyAsDouble(i);
      for (Tensor parameter : parameters) {
        parameter.addInPlace(-rate, parameter.grad());
      }
    }
    return losses;
  }
}
