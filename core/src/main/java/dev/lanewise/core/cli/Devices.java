package dev.lanewise.core.cli;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.backend.CpuBackend;
import dev.lanewise.core.backend.cuda.CudaBackend;
import dev.lanewise.core.backend.cuda.CudaException;
import dev.lanewise.core.backend.cuda.CudaProbe;
import dev.lanewise.core.backend.cuda.Precision;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.UsageException;
import dev.lanewise.simd.Workers;
import java.util.Locale;

/** Opens the device that a command line names. */
final class Devices {
  private Devices() {}

  static Backend open(String name, Precision precision, Integer threads) {
    if (threads != null) {
      setThreads(threads);
    }
    return switch (name) {
      case "auto" -> automatic(precision);
      case "cpu" -> new CpuBackend();
      case "cuda" -> CudaBackend.open(precision);
      default ->
          throw new UsageException(
              String.format(
                  Locale.ROOT, "There is no device '%s'; choose auto, cpu or cuda.", name));
    };
  }

  static void checkThreads(int threads) {
    if (threads < 1 || threads > Workers.MAX_THREADS) {
      throw new UsageException(
          String.format(
              Locale.ROOT,
              "--threads must be from 1 to %d, not %d.",
              Workers.MAX_THREADS,
              threads));
    }
  }

  private static void setThreads(int threads) {
    checkThreads(threads);
    try {
      Workers.setThreads(threads);
    } catch (IllegalStateException e) {
      throw new InputException(
          String.format(Locale.ROOT, "--threads %d cannot be had: %s.", threads, e.getMessage()),
          e);
    }
  }

  /** A GPU that agrees with the CPU, else the CPU, with a line about a GPU that is passed over. */
  private static Backend automatic(Precision precision) {
    if (!CudaProbe.driverAnswers()) {
      return new CpuBackend();
    }
    CudaBackend gpu = null;
    String fault;
    try {
      gpu = CudaBackend.open(precision);
      fault = DeviceCheck.fault(gpu);
    } catch (CudaException | InputException e) {
      fault = e.getMessage();
    }
    if (fault == null) {
      return gpu;
    }
    if (gpu != null) {
      try {
        gpu.close();
      } catch (CudaException e) {
        // After a fault the driver refuses everything; the process needs the GPU no more.
      }
    }
    System.err.println("Computing on the CPU, since the GPU cannot be used: " + fault);
    return new CpuBackend();
  }
}
