package dev.lanewise.core.cli;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.backend.CpuBackend;
import dev.lanewise.core.backend.Precision;
import dev.lanewise.core.backend.cuda.CudaBackend;
import dev.lanewise.core.backend.cuda.CudaException;
import dev.lanewise.core.backend.cuda.CudaProbe;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.UsageException;
import dev.lanewise.core.train.TrainConfig;
import dev.lanewise.simd.Workers;
import java.util.Locale;

/** Opens the device that a command line names. */
final class Devices {
  private Devices() {}

  /**
   * Opens a device.
   *
   * @param precision what to compute in; null for what suits the device
   * @param isAsked whether the precision must be had, and is not just what was used before
   * @param threads how many; null for all cores
   */
  static Backend open(String name, Precision precision, boolean isAsked, Integer threads) {
    if (threads != null) {
      setThreads(threads);
    }
    return switch (name) {
      case "auto" -> automatic(precision, isAsked);
      case "cpu" -> cpu(precision, isAsked);
      case "cuda" -> gpu(precision);
      default ->
          throw new UsageException(
              String.format(
                  Locale.ROOT, "There is no device '%s'; choose auto, cpu or cuda.", name));
    };
  }

  /** Opens the device that a run computes on, as it was decided where the run is led. */
  static Backend open(TrainConfig run, Integer threads) {
    return open(run.device(), Precision.of(run.precision()), false, threads);
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
  private static Backend automatic(Precision precision, boolean isAsked) {
    if (!CudaProbe.driverAnswers()) {
      return cpu(precision, isAsked);
    }
    CudaBackend gpu = null;
    String fault;
    try {
      gpu = gpu(precision);
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
    return cpu(precision, isAsked);
  }

  private static CudaBackend gpu(Precision precision) {
    return CudaBackend.open(precision == null ? Precision.BF16 : precision);
  }

  private static CpuBackend cpu(Precision precision, boolean isAsked) {
    if (precision == Precision.TF32 && isAsked) {
      throw new UsageException("A CPU has no tf32; choose --precision bf16 or fp32.");
    }
    if (precision == Precision.TF32) {
      System.err.println("The CPU computes in fp32, since it has no tf32.");
    }
    return new CpuBackend(precision == Precision.BF16 ? precision : Precision.FP32);
  }
}
