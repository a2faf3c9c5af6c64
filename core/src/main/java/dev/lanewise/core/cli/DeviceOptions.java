package dev.lanewise.core.cli;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.backend.Precision;
import dev.lanewise.core.train.TrainConfig;
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
      description = {
        "What products are computed in: bf16 (sums and parameters stay fp32), fp32, or on a GPU",
        "tf32; auto is bf16 on a GPU and fp32 on a CPU. Default: auto."
      })
  private String precision;

  @Option(names = "--threads", paramLabel = "N", description = "Threads. Default: all cores.")
  private Integer threads;

  /** Opens the device for a model of any origin; warnings are for people. */
  Backend open() {
    return open(Precision.AUTO);
  }

  /**
   * Opens the device for a trained model; warnings are for people.
   *
   * @param usual what its training was asked to compute in, which is kept unless the command says
   *     otherwise
   */
  Backend open(String usual) {
    TrainConfig.Builder run = TrainConfig.builder().precision(usual);
    change(run);
    return open(run.build());
  }

  /** Opens the device that a run asks for; warnings are for people. */
  Backend open(TrainConfig run) {
    Integer count = run.threads() == 0 ? null : run.threads();
    return Devices.open(run.device(), Precision.of(run.precision()), precision != null, count);
  }

  /** Lets a run ask for what is asked for here. */
  void change(TrainConfig.Builder run) {
    if (device != null) {
      run.device(device);
    }
    if (precision != null) {
      Precision.of(precision);
      run.precision(precision);
    }
    if (threads != null) {
      Devices.checkThreads(threads);
      run.threads(threads);
    }
  }
}
