package dev.lanewise.core.examples;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.base.Json;
import dev.lanewise.core.data.Tokenizer;
import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.core.tensor.Tape;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.function.Consumer;
import java.util.stream.Collectors;
import java.util.stream.IntStream;

/**
 * Every seeded number that the tutorials print, computed again and held against what was printed.
 *
 * <p>The notebooks were run with PyTorch's scalar kernels, so their weights are those of {@link
 * TorchGenerator.Stream#SCALAR}; makemore's values were made with the x86 vector kernels.
 */
public final class Parity {
  private final Backend backend;
  private final Consumer<Row> listener;
  private final List<Row> rows = new ArrayList<>();
  private String tutorial;

  /**
   * One comparison.
   *
   * @param tutorial where the value is printed
   * @param statement what prints it
   * @param printed what was printed
   * @param ours what was computed here
   * @param agrees whether they are the same, within what is allowed
   * @param allowed what is allowed beyond equality, or empty
   */
  public record Row(
      String tutorial,
      String statement,
      String printed,
      String ours,
      boolean agrees,
      String allowed) {}

  private Parity(Backend backend, Consumer<Row> listener) {
    this.backend = backend;
    this.listener = listener;
  }

  /**
   * Computes everything.
   *
   * @param backend device
   * @param listener hears of each comparison as it is made
   * @return all comparisons
   */
  public static List<Row> run(Backend backend, Consumer<Row> listener) {
    Parity parity = new Parity(backend, listener);
    parity.initialLoss();
    parity.notebook();
    parity.crossEntropyFromScratch();
    parity.languageModelingLoss();
    parity.makemore();
    parity.training();
    return parity.rows;
  }

  private void check(
      String statement, String printed, String ours, boolean agrees, String allowed) {
    Row row = new Row(tutorial, statement, printed, ours, agrees, allowed);
    rows.add(row);
    listener.accept(row);
  }

  private void same(String statement, String printed, Object ours) {
    check(statement, printed, ours.toString(), printed.equals(ours.toString()), "");
  }

  /** Numbers in C's %.4f or %.4e form; so many units of the last digit may be between them. */
  private void printed(String statement, String format, String[] printed, float[] ours, int units) {
    String[] texts = new String[ours.length];
    boolean agrees = printed.length == ours.length;
    for (int i = 0; i < ours.length; i++) {
      texts[i] = String.format(Locale.ROOT, format, ours[i]);
      agrees = agrees && Math.abs(digits(texts[i]) - digits(printed[i])) <= units;
    }
    check(
        statement,
        String.join(", ", printed),
        String.join(", ", texts),
        agrees,
        units == 0 ? "" : "1 in the last digit: the exact values lie at a rounding edge");
  }

  /** All digits of a number as one integer, without its exponent. */
  private static long digits(String number) {
    int end = number.indexOf('e');
    return Long.parseLong((end < 0 ? number : number.substring(0, end)).replace(".", ""));
  }

  private void initialLoss() {
    tutorial = "loss at initialisation";
    same("-ln(1/50257)", "10.82", String.format(Locale.ROOT, "%.2f", -Math.log(1.0 / 50257)));
    try (Tape tape = new Tape(backend)) {
      Gpt124M.Judgement judgement = gpt(tape, true).judge(INPUTS, TARGETS);
      check(
          "loss of a freshly initialised GPT",
          "11 (roughly)",
          String.format(Locale.ROOT, "%.2f", judgement.loss()),
          Math.abs(judgement.loss() - 11) < 0.5,
          "0.5: the tutorial's batch and weights are not given");
    }
  }

  private static final int[] INPUTS = {16833, 3626, 6100, 40, 1107, 588};
  private static final int[] TARGETS = {3626, 6100, 345, 1107, 588, 11311};

  private static Gpt124M gpt(Tape tape, boolean swapQueryAndKey) {
    return new Gpt124M(
        tape, new TorchGenerator(123, TorchGenerator.Stream.SCALAR), swapQueryAndKey);
  }

  private static String list(int[] values) {
    return Arrays.toString(values);
  }

  private static String encoded(Tokenizer tokenizer, String first, String second) {
    return list(tokenizer.encode(first)) + ", " + list(tokenizer.encode(second));
  }

  private void notebook() {
    tutorial = "GPT 124M notebook";
    try (Tape tape = new Tape(backend)) {
      Gpt124M gpt = gpt(tape, true);
      Tokenizer tokenizer = gpt.tokenizer();
      int[] hello = tokenizer.encode("Hello, I am");
      same("encode('Hello, I am')", "[15496, 11, 314, 716]", list(hello));
      int[] out = gpt.generate(hello, 10);
      same(
          "generate, 10 tokens",
          "[15496, 11, 314, 716, 13240, 11381, 4307, 7640, 33491, 12254, 5939, 8371, 33191, 43071]",
          list(out));
      same("length", "14", out.length);
      same(
          "decode",
          "Hello, I am Laur inhab Distrinereplacefly markets subsectionGW stren",
          tokenizer.decode(out));
      int[] effort = gpt.generate(tokenizer.encode("Every effort moves you"), 10);
      same(
          "generate 'Every effort moves you', ids",
          "[34245, 5139, 28365, 47314, 32883, 26660, 612, 7501, 5408, 27226]",
          list(Arrays.copyOfRange(effort, effort.length - 10, effort.length)));
      same(
          "generate 'Every effort moves you', text",
          "Every effort moves you rentingetic minion cones477243 therepo expression syll",
          tokenizer.decode(effort));
      same(
          "inputs",
          "[16833, 3626, 6100], [40, 1107, 588]",
          encoded(tokenizer, "every effort moves", "I really like"));
      same(
          "targets",
          "[3626, 6100, 345], [1107, 588, 11311]",
          encoded(tokenizer, " effort moves you", " really like chocolate"));
      same("decode targets 1", " effort moves you", tokenizer.decode(Arrays.copyOf(TARGETS, 3)));
      same(
          "decode targets 2",
          " really like chocolate",
          tokenizer.decode(Arrays.copyOfRange(TARGETS, 3, 6)));
      Gpt124M.Judgement judgement = gpt.judge(INPUTS, TARGETS);
      same("shape of the probabilities", "[2, 3, 50257]", judgement.shape());
      same(
          "argmax of the probabilities",
          "[16657, 13866, 44376, 49906, 29669, 41751]",
          list(judgement.likeliest()));
      same(
          "decode argmax 1",
          " Armedbage inaction",
          tokenizer.decode(Arrays.copyOf(judgement.likeliest(), 3)));
      same(
          "decode argmax 2",
          " pressuring empoweredfaith",
          tokenizer.decode(Arrays.copyOfRange(judgement.likeliest(), 3, 6)));
      float[] p = judgement.targetProbabilities();
      printed(
          "target probabilities 1, first two",
          "%.4e",
          new String[] {"7.4541e-05", "2.9624e-05"},
          Arrays.copyOf(p, 2),
          1);
      printed(
          "target probabilities 1, third",
          "%.4e",
          new String[] {"1.2002e-05"},
          Arrays.copyOfRange(p, 2, 3),
          0);
      printed(
          "target probabilities 2",
          "%.4e",
          new String[] {"1.0337e-05", "5.5172e-05", "5.1407e-06"},
          Arrays.copyOfRange(p, 3, 6),
          0);
      printed(
          "log-probabilities",
          "%.4f",
          new String[] {"-9.5042", "-10.4269", "-11.3305", "-11.4798", "-9.8050", "-12.1783"},
          judgement.logProbabilities(),
          0);
      printed(
          "mean log-probability",
          "%.4f",
          new String[] {"-10.7875"},
          new float[] {judgement.meanLogProbability()},
          0);
      printed("cross_entropy", "%.4f", new String[] {"10.7875"}, new float[] {judgement.loss()}, 0);
      printed(
          "exp(-mean log-probability), the perplexity",
          "%.4f",
          new String[] {"48409.9336"},
          new float[] {judgement.perplexity()},
          0);
    }
    try (Tape tape = new Tape(backend)) {
      Gpt124M.Judgement judgement = gpt(tape, false).judge(INPUTS, TARGETS);
      printed(
          "perplexity of the prose, with query and key in their places",
          "%.0f",
          new String[] {"48725"},
          new float[] {(float) Math.floor(judgement.perplexity())},
          0);
    }
  }

  private void crossEntropyFromScratch() {
    tutorial = "cross-entropy from scratch";
    try (Tape tape = new Tape(backend)) {
      CrossEntropyFromScratch.Result result =
          CrossEntropyFromScratch.run(
              tape, new int[] {15, 10}, new TorchGenerator(123, TorchGenerator.Stream.SCALAR));
      same(
          "encode",
          "[17250, 11, 703, 389, 345, 30, 314, 716, 4673, 3272, 40709, 2994, 290, 703, 340, 318,"
              + " 3519, 284, 40709, 13]",
          list(result.tokens()));
      same("number of tokens", "20", result.tokens().length);
      same(
          "inputs",
          "[[318, 3519, 284, 40709], [40709, 2994, 290, 703]]",
          Arrays.deepToString(result.inputs()));
      same(
          "targets",
          "[[3519, 284, 40709, 13], [2994, 290, 703, 340]]",
          Arrays.deepToString(result.targets()));
      String[] ones = new String[8];
      Arrays.fill(ones, "1.0000");
      printed("sums of probabilities", "%.4f", ones, result.probabilitySums(), 0);
      float[] p = result.targetProbabilities();
      String[] printed = {
        "7.4362e-26",
        "3.1464e-18",
        "3.3123e-21",
        "5.2197e-21",
        "7.9674e-20",
        "4.7586e-18",
        "1.8158e-23",
        "1.3934e-21"
      };
      for (int i = 0; i < p.length; i++) {
        // The fifth is 7.96733e-20 exactly and 7.96735e-20 in PyTorch's float32.
        printed(
            "probability of target " + (i + 1),
            "%.4e",
            new String[] {printed[i]},
            new float[] {p[i]},
            i == 4 ? 1 : 0);
      }
      same("loss", "47.03350830078125", Double.toString(result.loss()));
      same("F.cross_entropy", "47.03350830078125", Double.toString(result.fusedLoss()));
      same("gradient by hand = gradient by backward", "true", result.gradientsAgree());
    }
  }

  private void languageModelingLoss() {
    tutorial = "language-modelling loss";
    try (Tape tape = new Tape(backend)) {
      LanguageModelingLoss.Result result =
          LanguageModelingLoss.run(tape, new TorchGenerator(538, TorchGenerator.Stream.SCALAR));
      same(
          "data",
          "[[7, 9, 4, 7, 4], [9, 3, 0, 4, 9], [0, 0, 7, 0, 5]]",
          Arrays.deepToString(result.data()));
      same(
          "contexts and targets",
          "[7]>9 [7, 9]>4 [7, 9, 4]>7 [7, 9, 4, 7]>4 [9]>3 [9, 3]>0 [9, 3, 0]>4 [9, 3, 0, 4]>9"
              + " [0]>0 [0, 0]>7 [0, 0, 7]>0 [0, 0, 7, 0]>5",
          result.predictions().stream()
              .map(prediction -> prediction.context() + ">" + prediction.target())
              .collect(Collectors.joining(" ")));
      same("log(softmax) = log_softmax", "true", result.logSoftmaxIsLogOfSoftmax());
      printed("nll_loss", "%.4f", new String[] {"2.3182"}, new float[] {result.nll()}, 0);
      printed(
          "nll by a loop", "%.4f", new String[] {"2.3182"}, new float[] {result.nllByLoop()}, 0);
      printed(
          "cross_entropy", "%.4f", new String[] {"2.8195"}, new float[] {result.crossEntropy()}, 0);
      printed(
          "nll_loss(log_softmax)",
          "%.4f",
          new String[] {"2.8195"},
          new float[] {result.nllOfLogSoftmax()},
          0);
    }
  }

  private void makemore() {
    tutorial = "makemore MLP";
    Map<String, Object> golden = Json.parseObject(resource("makemore.json"), "makemore.json");
    List<String> names = resource("names.txt").lines().toList();
    try (Tape tape = new Tape(backend)) {
      MakemoreMlp five = mlp(tape, names.subList(0, 5));
      double[] losses = five.descend(100, 0.1);
      same("first loss, five names", "17.7697", String.format(Locale.ROOT, "%.4f", losses[0]));
      curve("100 steps, five names", numbers(golden, "fivewords_losses"), losses, 1e-4);
    }
    try (Tape tape = new Tape(backend)) {
      MakemoreMlp all = mlp(tape, names);
      same("examples of all names", "1315", all.examples());
      curve(
          "100 steps, all examples",
          numbers(golden, "fullbatch_losses"),
          all.descend(100, 0.1),
          1e-4);
      curve("loss after them", numbers(golden, "loss_after100"), new double[] {all.loss()}, 1e-4);
    }
    try (Tape tape = new Tape(backend)) {
      curve(
          "range test as printed, 1000 minibatches at 0.1",
          numbers(golden, "lrtest_as_printed_0.1"),
          mlp(tape, names).minibatches(1000, i -> 0.1, new TorchGenerator(1)),
          5e-3);
    }
    double[] rates = numbers(golden, "lrs");
    try (Tape tape = new Tape(backend)) {
      curve(
          "range test with its rates, first 100 minibatches",
          numbers(golden, "lrtest_with_lr"),
          mlp(tape, names).minibatches(100, i -> rates[i], new TorchGenerator(1)),
          1e-4);
    }
    try (Tape tape = new Tape(backend)) {
      MakemoreMlp decay = mlp(tape, names);
      double[] golden100 = numbers(golden, "decay_full_losses_every100");
      double[] losses = new double[golden100.length];
      TorchGenerator generator = new TorchGenerator(2);
      // The loss of all examples is printed after the first step, each hundredth after it, the
      // last.
      int done = 0;
      for (int i = 0; i < losses.length; i++) {
        int until = Math.min(2500, 100 * i + 1);
        int before = done;
        decay.minibatches(until - done, step -> before + step < 2000 ? 0.1 : 0.01, generator);
        done = until;
        losses[i] = decay.loss();
      }
      curve("2500 minibatches, rate 0.1 then 0.01", golden100, losses, 5e-3);
    }
  }

  private void training() {
    tutorial = "training a tiny GPT";
    for (TrainingParity.Curves curves : TrainingParity.compare(backend)) {
      double[] torch = curves.torch();
      double[] ours = curves.ours();
      int last = torch.length - 1;
      check(
          switch (curves.model()) {
            case TUTORIAL -> "200 steps, the tutorial's architecture, dropout 0.1";
            case GPT2 -> "200 steps, GPT-2's architecture";
          },
          String.format(Locale.ROOT, "%.6f … %.6f", torch[0], torch[last]),
          String.format(
              Locale.ROOT, "%.6f … %.6f, at most %.0e apart", ours[0], ours[last], curves.apart()),
          curves.apart() <= curves.allowed(),
          String.format(
              Locale.ROOT,
              "%.0e: PyTorch in float32 is %.0e from PyTorch in float64",
              curves.allowed(),
              curves.rounding()));
    }
  }

  private static MakemoreMlp mlp(Tape tape, List<String> names) {
    return new MakemoreMlp(
        tape, names, new TorchGenerator(2147483647, TorchGenerator.Stream.VECTOR));
  }

  /** Curves drift apart by float32 rounding; what matters is the largest relative distance. */
  private void curve(String statement, double[] golden, double[] ours, double tolerance) {
    double worst =
        IntStream.range(0, golden.length)
            .mapToDouble(i -> Math.abs(golden[i] - ours[i]) / Math.abs(golden[i]))
            .max()
            .orElse(0);
    int last = golden.length - 1;
    check(
        statement,
        String.format(Locale.ROOT, "%.5f … %.5f", golden[0], golden[last]),
        String.format(Locale.ROOT, "%.5f … %.5f, at most %.0e apart", ours[0], ours[last], worst),
        worst <= tolerance,
        String.format(Locale.ROOT, "%.0e relative: float32 against float64", tolerance));
  }

  static double[] numbers(Map<?, ?> golden, String name) {
    return ((List<?>) golden.get(name))
        .stream().mapToDouble(value -> ((Number) value).doubleValue()).toArray();
  }

  static String resource(String name) {
    try (InputStream in = Parity.class.getResourceAsStream(name)) {
      return new String(in.readAllBytes(), StandardCharsets.UTF_8);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
