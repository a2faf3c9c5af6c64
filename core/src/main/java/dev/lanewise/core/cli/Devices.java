package dev.lanewise.core.cli;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.backend.CpuBackend;
import dev.lanewise.core.backend.cuda.CudaBackend;
import dev.lanewise.core.backend.cuda.Precision;
import dev.lanewise.core.base.InputException;
import dev.lanewise.simd.Workers;

/** Opens the device that a command line names. */
final class Devices {
  private Devices() {}

  static Backend open(String name, Integer threads) {
    if (threads != null) {
      if (threads < 1) {
        throw new InputException("--threads must be at least 1, not " + threads + ".");
      }
      Workers.setThreads(threads);
    }
    return switch (name) {
      // A GPU is used only where it is asked for, until the CUDA kernels have run on real ones.
      case "auto", "cpu" -> new CpuBackend();
      case "cuda" -> CudaBackend.open(Precision.BF16);
      default ->
          throw new InputException(
              "There is no device '%s'; choose auto, cpu or cuda.".formatted(name));
    };
  }
}
