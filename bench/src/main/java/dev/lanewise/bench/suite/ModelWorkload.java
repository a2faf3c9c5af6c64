package dev.lanewise.bench.suite;

import dev.lanewise.bench.breakdown.Breakdown;
import dev.lanewise.bench.contest.Case;
import dev.lanewise.bench.contest.Inputs;
import dev.lanewise.bench.contest.Workload;
import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.backend.FrozenWeights;
import dev.lanewise.core.model.Gpt;
import dev.lanewise.core.model.GptConfig;
import dev.lanewise.core.model.GptInit;
import dev.lanewise.core.model.TextGenerator;
import dev.lanewise.core.nn.AdamW;
import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.core.tensor.Tape;
import dev.lanewise.core.tensor.Tensor;

/**
 * A training step of a GPT-2, {@code train layers= heads= width= vocabulary= batch= tokens=}, or
 * greedy text from it, {@code generate ... tokens= new=} of a prompt of that many tokens.
 *
 * <p>Weights are random and differ between contenders, so results are compared only as far as they
 * can be: the first loss of a model that knows nothing is about the logarithm of the vocabulary. A
 * step that does not learn its one batch fails, too. What a step computes is tested against PyTorch
 * where the model is.
 */
final class ModelWorkload implements Workload, Breakdown.Stepper {
  private static final int SEED = 1;

  private final Case task;
  private final boolean trains;
  private final int vocabulary;
  private final Backend backend;
  private final Tape tape;
  private final Gpt model;
  private final AdamW optimizer;
  private final Tensor ids;
  private final Tensor targets;
  private final TextGenerator generator;
  private final int[] prompt;
  private double first = Double.NaN;
  private double last = Double.NaN;
  private long steps;

  /** Makes the model; the device is closed with this workload. */
  ModelWorkload(Case task, Backend backend) {
    this.task = task;
    this.backend = backend;
    tape = new Tape(backend, true);
    trains = task.operation().equals("train");
    vocabulary = task.number("vocabulary");
    int tokens = task.number("tokens");
    int heads = task.number("heads");
    int context = tokens + task.number("new", 0);
    GptConfig config =
        GptConfig.gpt2(vocabulary, context, task.number("layers"), heads, task.number("width"));
    model = new Gpt(tape, config, null);
    TorchGenerator random = new TorchGenerator(SEED);
    GptInit.gpt2(model, random);
    if (trains && !backend.keepsActivations()) {
      // As the trainer does in steps of one pass.
      tape.layGradientsOverActivations();
    }
    int batch = task.number("batch", 1);
    prompt = values(1, batch * tokens);
    if (trains) {
      ids = tape.ids(prompt, batch, tokens);
      targets = tape.ids(values(2, batch * tokens), batch, tokens);
      optimizer = new AdamW(tape, p -> p.shape().rank() == 2).weightDecay(0.1);
      generator = null;
    } else {
      ids = null;
      targets = null;
      optimizer = null;
      backend.freezeWeights(FrozenWeights.of(task.word("weights", "exact")));
      generator = new TextGenerator(model);
    }
  }

  private int[] values(int operand, int count) {
    int[] values = new int[count];
    for (int i = 0; i < count; i++) {
      values[i] = Inputs.below(i, operand, vocabulary);
    }
    return values;
  }

  static Cost cost(Case c) {
    double layers = c.number("layers");
    double width = c.number("width");
    double tokens = c.number("tokens");
    double matrices = 12 * layers * width * width + (double) c.number("vocabulary") * width;
    double weightBytes = c.hasIntegers() ? 17 / 16.0 : c.isBfloat16() ? 2 : 4;
    if (c.operation().equals("train")) {
      double all = c.number("batch") * tokens;
      double attention = 2 * layers * (tokens + 1) * width;
      // Each product runs forward and twice backward; weights, gradients and moments go by memory
      double flops = 3 * all * (2 * matrices + attention);
      return Cost.tokens(all, flops, 4 * 10 * matrices, Pattern.UPDATE);
    }
    double count = c.number("new");
    double body = 12 * layers * width * width;
    double attention = 2 * layers * width * (tokens + count) * (tokens + count);
    // Only new tokens need the head; all weights are read for each of them
    double flops = 2 * body * (tokens + count - 1) + 2 * (matrices - body) * count + attention;
    double counted = count == 1 ? tokens : count;
    return Cost.tokens(counted, flops, weightBytes * matrices * count, Pattern.READ);
  }

  @Override
  public Case task() {
    return task;
  }

  @Override
  public Cost cost() {
    return Workloads.cost(task);
  }

  @Override
  public long[] positions() {
    return trains ? new long[] {0} : new long[0];
  }

  @Override
  public double[] expected() {
    return trains ? new double[] {Math.log(vocabulary)} : new double[0];
  }

  @Override
  public double tolerance(int index) {
    return 0.1 * Math.log(vocabulary);
  }

  @Override
  public void run() {
    if (!trains) {
      generator.generate(
          prompt, task.number("new"), TextGenerator.Sampling.GREEDY, null, token -> true);
      return;
    }
    model.train();
    optimizer.zeroGrad();
    tape.reset();
    Tensor loss = model.loss(ids, targets);
    loss.backward();
    last = loss.item();
    if (steps++ == 0) {
      first = last;
    }
    optimizer.gradientNorm(1);
    optimizer.step(3e-4);
    tape.backend().synchronize();
  }

  @Override
  public void step() {
    run();
  }

  @Override
  public double[] result(long[] at) {
    if (at.length == 0) {
      return new double[0];
    }
    boolean learns = steps < 3 || last < first;
    return new double[] {learns ? first : Double.NaN};
  }

  @Override
  public void close() {
    if (optimizer != null) {
      optimizer.close();
    }
    tape.close();
    backend.close();
  }
}
