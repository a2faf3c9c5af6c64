package dev.lanewise.bench.scaling;

import dev.lanewise.core.base.UsageException;
import dev.lanewise.core.cli.Subcommand;
import dev.lanewise.core.model.GptConfig;
import dev.lanewise.core.model.GptPresets;
import java.io.PrintWriter;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** Predicts how training scales over machines. */
@Command(
    name = "scaling",
    description = {
      "Predicts time and efficiency of training steps for 1 to 1,024 machines, as Markdown, from"
          + " the speed of one and what connects them.",
      "The speed is that of \"lanewise train --model gpt2 --batch 1 --context 1024\"."
    })
public final class ScalingCommand implements Subcommand {
  private static final Map<String, Integer> MODELS =
      Map.of("gpt2", 124, "gpt2-medium", 355, "gpt2-xl", 1558);

  private static final int CONTEXT = 1024;
  private static final List<Integer> MACHINES = List.of(1, 2, 4, 8, 16, 64, 256, 1024);
  private static final List<Double> GIGABITS = List.of(1.0, 10.0, 100.0, 400.0);

  /** Bytes of gradients, parameters and moments that an update reads and writes. */
  private static final int UPDATE_BYTES = 28;

  @Option(
      names = "--speed",
      paramLabel = "N",
      description = "Tokens a second of GPT-2 124M on one machine. Default: ${DEFAULT-VALUE}.")
  private double speed = 500;

  @Option(
      names = "--passes",
      paramLabel = "N",
      description = "Passes of 1,024 tokens for each machine in a step. Default: ${DEFAULT-VALUE}.")
  private int passes = 8;

  @Option(
      names = "--memory-speed",
      paramLabel = "GB/s",
      description = "What a machine reads and writes. Default: ${DEFAULT-VALUE}.")
  private double memory = 40;

  @Option(
      names = "--latency",
      paramLabel = "US",
      description = "Microseconds from one machine to another. Default: ${DEFAULT-VALUE}.")
  private double latency = 30;

  @Spec private CommandSpec spec;

  /** Called by picocli. */
  public ScalingCommand() {}

  @Override
  public Integer call() {
    if (!(speed > 0 && passes > 0 && memory > 0 && latency >= 0)) {
      throw new UsageException("Speeds and passes must be above 0, a latency at least 0.");
    }
    PrintWriter out = spec.commandLine().getOut();
    for (String name : List.of("gpt2", "gpt2-medium", "gpt2-xl")) {
      print(out, name);
    }
    return 0;
  }

  private void print(PrintWriter out, String name) {
    GptConfig model = GptPresets.of(name);
    GptConfig gpt2 = GptPresets.of("gpt2");
    double passSeconds = CONTEXT / speed * operations(model) / operations(gpt2);
    double parameters = parameters(model);
    Scaling scaling =
        new Scaling(
            parameters, passSeconds, UPDATE_BYTES * parameters / (memory * 1e9), memory * 1e9);
    out.printf(
        Locale.ROOT,
        "%n%s, %dM parameters, %d passes of 1,024 tokens a machine: seconds of a step"
            + " (efficiency)%n%n",
        name,
        MODELS.get(name),
        passes);
    out.print("| Gbit/s |");
    MACHINES.forEach(machines -> out.printf(Locale.ROOT, " %,d |", machines));
    out.printf(Locale.ROOT, "%n| --- |%s%n", " ---: |".repeat(MACHINES.size()));
    for (double gigabits : GIGABITS) {
      Scaling.Network network = Scaling.Network.ofGigabits(gigabits, latency * 1e-6);
      out.printf(Locale.ROOT, "| %.0f |", gigabits);
      for (int machines : MACHINES) {
        out.printf(
            Locale.ROOT,
            " %.1f (%.0f %%) |",
            scaling.stepSeconds(network, machines, passes),
            100 * scaling.efficiency(network, machines, passes));
      }
      out.println();
    }
    out.flush();
  }

  private static double parameters(GptConfig model) {
    double channels = model.channels();
    return 12 * model.layers() * channels * channels
        + (double) (model.vocabSize() + model.contextLength()) * channels;
  }

  /** Operations of a token, forward and backward. */
  private static double operations(GptConfig model) {
    double channels = model.channels();
    double matrices = 12 * model.layers() * channels * channels;
    double head = model.vocabSize() * channels;
    double attention = 2.0 * model.layers() * channels * CONTEXT;
    return 6 * (matrices + head) + 3 * attention;
  }
}
