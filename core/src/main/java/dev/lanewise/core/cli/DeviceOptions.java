package dev.lanewise.core.cli;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.backend.cuda.Precision;
import dev.lanewise.core.base.UsageException;
import dev.lanewise.core.train.TrainConfig;
import java.util.Arrays;
import java.util.Locale;
import java.util.stream.Collectors;
import picocli.CommandLine.Option;

/** Options of every command that computes: on what, in which precision, with how many threads. */
final class DeviceOptions {
  @Option(
      names = "--device",
      paramLabel = "KIND",
      description = {
        "auto, cpu or cuda; auto takes a GPU that is there and passes a short test.",
        "Default: auto."
      })
  private String device;

  @Option(
      names = "--precision",
      paramLabel = "KIND",
      description = "What a GPU computes in: bf16, tf32 or fp32. Default: bf16.")
  private String precision;

  @Option(names = "--threads", paramLabel = "N", description = "Threads. Default: all cores.")
  private Integer threads;

  /** Opens the device; warnings are for people. */
  Backend open() {
    TrainConfig.Builder run = TrainConfig.builder();
    change(run);
    return open(run.build());
  }

  /** Opens the device that a run asks for; warnings are for people. */
  Backend open(TrainConfig run) {
    Precision wanted = precision(run.precision());
    Backend backend = Devices.open(run.device(), wanted, run.threads() == 0 ? null : run.threads());
    if (precision != null && wanted != Precision.FP32 && backend.name().equals("cpu")) {
      System.err.println("The CPU computes in fp32, whatever --precision says.");
    }
    return backend;
  }

  /** Lets a run ask for what is asked for here. */
  void change(TrainConfig.Builder run) {
    if (device != null) {
      run.device(device);
    }
    if (precision != null) {
      precision(precision);
      run.precision(precision);
    }
    if (threads != null) {
      Devices.checkThreads(threads);
      run.threads(threads);
    }
  }

  private static Precision precision(String name) {
    return Arrays.stream(Precision.values())
        .filter(value -> value.name().toLowerCase(Locale.ROOT).equals(name))
        .findFirst()
        .orElseThrow(
            () ->
                new UsageException(
                    Arrays.stream(Precision.values())
                        .map(value -> value.name().toLowerCase(Locale.ROOT))
                        .collect(
                            Collectors.joining(
                                ", ",
                                "There is no precision '" + name + "'; choose one of ",
                                "."))));
  }
}
