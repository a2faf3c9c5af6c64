package dev.lanewise.core.examples;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.base.Json;
import dev.lanewise.core.model.Gpt;
import dev.lanewise.core.model.GptConfig;
import dev.lanewise.core.model.GptInit;
import dev.lanewise.core.nn.AdamW;
import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.core.report.Chart;
import dev.lanewise.core.report.XyChart;
import dev.lanewise.core.tensor.Tape;
import dev.lanewise.core.tensor.Tensor;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.stream.IntStream;

/**
 * A tiny GPT trained for 200 steps on a list of names, here and in PyTorch, from one seed: it draws
 * the weights, then the batches and, where there is dropout, what is dropped.
 */
public final class TrainingParity {
  private static final int STEPS = 200;
  private static final int BATCH = 8;
  private static final int CONTEXT = 16;
  private static final int LETTERS = 27;

  private TrainingParity() {}

  /** The two architectures. */
  public enum Model {
    /** The tutorial's, with PyTorch's default weights and dropout 0.1. */
    TUTORIAL,
    /** GPT-2's, with its own weights and without dropout. */
    GPT2
  }

  /**
   * Trains.
   *
   * @param backend device
   * @param model architecture
   * @param names what to learn, one name a line
   * @return the loss of each step
   */
  public static double[] train(Backend backend, Model model, String names) {
    int[] data = names.strip().concat("\n").chars().map(c -> c == '\n' ? 0 : c - 'a' + 1).toArray();
    TorchGenerator generator = new TorchGenerator(1337, TorchGenerator.Stream.VECTOR);
    try (Tape tape = new Tape(backend)) {
      Gpt gpt = new Gpt(tape, config(model), generator).train();
      switch (model) {
        case TUTORIAL -> GptInit.torchDefaults(gpt, generator, false);
        case GPT2 -> GptInit.gpt2(gpt, generator);
      }
      try (AdamW optimizer = new AdamW(tape, parameter -> true).weightDecay(0.1)) {
        double[] losses = new double[STEPS];
        for (int i = 0; i < STEPS; i++) {
          losses[i] = step(gpt, optimizer, data, generator);
        }
        return losses;
      }
    }
  }

  private static GptConfig config(Model model) {
    return switch (model) {
      case TUTORIAL -> GptConfig.tutorial(LETTERS, CONTEXT, 2, 3, 48, 0.1);
      case GPT2 -> GptConfig.gpt2(LETTERS, CONTEXT, 2, 3, 48);
    };
  }

  private static double step(Gpt gpt, AdamW optimizer, int[] data, TorchGenerator generator) {
    int[] starts = new int[BATCH];
    generator.randint(starts, 0, data.length - CONTEXT);
    Tape tape = gpt.tape();
    tape.reset();
    Tensor inputs = tape.stepIds(windows(data, starts, 0), BATCH, CONTEXT);
    Tensor targets = tape.stepIds(windows(data, starts, 1), BATCH, CONTEXT);
    optimizer.zeroGrad();
    Tensor loss = gpt.loss(inputs, targets);
    loss.backward();
    optimizer.step(3e-3);
    return loss.item();
  }

  private static int[] windows(int[] data, int[] starts, int shift) {
    return Arrays.stream(starts)
        .flatMap(start -> Arrays.stream(data, start + shift, start + shift + CONTEXT))
        .toArray();
  }

  /**
   * Loss curves of one training.
   *
   * @param model architecture
   * @param torch PyTorch's in float32
   * @param exact PyTorch's in float64
   * @param ours Lanewise's
   */
  public record Curves(Model model, double[] torch, double[] exact, double[] ours) {
    /** Largest distance of our losses from PyTorch's. */
    public double apart() {
      return largest(ours, torch);
    }

    /** Largest distance of PyTorch's losses from its own in float64: what rounding alone does. */
    public double rounding() {
      return largest(torch, exact);
    }

    /**
     * What float32 explains: some times PyTorch's own rounding, which training multiplies step by
     * step, and a few units of the last of the digits that are stored.
     */
    public double allowed() {
      return 16 * rounding() + 1e-6;
    }

    private static double largest(double[] a, double[] b) {
      return Arrays.stream(distance(a, b)).max().orElse(0);
    }

    private String named(String whose) {
      return (model == Model.TUTORIAL ? "tutorial, " : "GPT-2, ") + whose;
    }
  }

  private static double[] distance(double[] a, double[] b) {
    return IntStream.range(0, a.length).mapToDouble(i -> Math.abs(a[i] - b[i])).toArray();
  }

  /** Trains both architectures and puts PyTorch's losses, which were stored, beside ours. */
  public static List<Curves> compare(Backend backend) {
    Map<String, Object> stored =
        Json.parseObject(Parity.resource("training.json"), "training.json");
    String names = Parity.resource("names.txt");
    return Arrays.stream(Model.values())
        .map(
            model -> {
              Map<?, ?> torch = (Map<?, ?>) stored.get(model.name().toLowerCase(Locale.ROOT));
              return new Curves(
                  model,
                  Parity.numbers(torch, "float32"),
                  Parity.numbers(torch, "float64"),
                  train(backend, model, names));
            })
        .toList();
  }

  /** The losses of Lanewise and PyTorch over each other. */
  public static Chart picture(List<Curves> all) {
    XyChart chart =
        new XyChart("200 steps of training")
            .x("step")
            .y("loss, nats per letter")
            .wholeX()
            .description("The loss curves of Lanewise and PyTorch lie on each other.");
    for (Curves curves : all) {
      chart.line(curves.named("PyTorch"), steps(), curves.torch);
      chart.dashed(curves.named("Lanewise"), steps(), curves.ours);
    }
    return chart;
  }

  /** How far the losses are apart, beside how far PyTorch is from itself in float64. */
  public static Chart pictureOfDistance(List<Curves> all) {
    XyChart chart =
        new XyChart("How far they are apart")
            .x("step")
            .y("difference of the losses, nats per letter")
            .wholeX()
            .logY()
            .description("Both differences are of the size of float32 rounding.");
    for (Curves curves : all) {
      chart.line(
          curves.named("Lanewise from PyTorch"), steps(), distance(curves.ours, curves.torch));
      chart.dashed(
          curves.named("PyTorch from float64"), steps(), distance(curves.torch, curves.exact));
    }
    return chart;
  }

  private static double[] steps() {
    return IntStream.rangeClosed(1, STEPS).asDoubleStream().toArray();
  }
}
