package dev.lanewise.bench.suite;

import dev.lanewise.bench.breakdown.Breakdown;
import dev.lanewise.bench.contest.Case;
import dev.lanewise.bench.contest.Workload;
import dev.lanewise.bench.contest.Workload.Cost;
import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.backend.CpuBackend;
import dev.lanewise.core.backend.cuda.CudaBackend;
import dev.lanewise.core.backend.cuda.Precision;

/** Makes workloads from cases. */
public final class Workloads {
  private Workloads() {}

  /**
   * Opens a workload.
   *
   * @param task the case
   * @return the workload with its operands in place
   * @throws IllegalArgumentException if no workload has this name
   */
  public static Workload open(Case task) {
    Workload workload =
        switch (task.operation()) {
          case "gemm" -> new GemmWorkload(task);
          case "train", "generate" -> new ModelWorkload(task, device(task));
          default -> Kernels.open(task);
        };
    return found(workload, task);
  }

  /**
   * What an operation of a case costs, without opening it.
   *
   * @param task the case
   * @return the cost
   * @throws IllegalArgumentException if no workload has this name
   */
  public static Cost cost(Case task) {
    Cost cost =
        switch (task.operation()) {
          case "gemm" -> GemmWorkload.cost(task);
          case "train", "generate" -> ModelWorkload.cost(task);
          default -> Kernels.cost(task);
        };
    return found(cost, task);
  }

  /**
   * Whether a case has steps of several operations, which {@link #breakdown} tells apart.
   *
   * @param task the case
   * @return whether it runs a model
   */
  public static boolean hasBreakdown(Case task) {
    return task.operation().equals("train") || task.operation().equals("generate");
  }

  /**
   * Takes the step of a case that runs a model apart into its operations.
   *
   * @param task the case
   * @param patience nanoseconds of steps that count
   * @return where a step's time goes
   */
  public static Breakdown breakdown(Case task, long patience) {
    return Breakdown.of(new CpuBackend(), backend -> new ModelWorkload(task, backend), patience);
  }

  /** Whether a case runs on a GPU, for which the limits of processor and memory do not hold. */
  public static boolean isOnGpu(Case task) {
    return task.word("device", "cpu").equals("cuda");
  }

  private static Backend device(Case task) {
    return isOnGpu(task) ? CudaBackend.open(Precision.BF16) : new CpuBackend();
  }

  private static <T> T found(T thing, Case task) {
    if (thing == null) {
      throw new IllegalArgumentException("no workload is called " + task.operation());
    }
    return thing;
  }
}
