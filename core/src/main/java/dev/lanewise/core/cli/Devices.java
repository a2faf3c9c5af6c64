package dev.lanewise.core.cli;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.backend.CpuBackend;
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
      case "auto", "cpu" -> new CpuBackend();
      default ->
          throw new InputException(
              "There is no device '%s'; choose auto, cpu or cuda.".formatted(name));
    };
  }
}
