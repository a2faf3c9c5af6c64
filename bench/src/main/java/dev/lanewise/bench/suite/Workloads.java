package dev.lanewise.bench.suite;

import dev.lanewise.bench.contest.Case;
import dev.lanewise.bench.contest.Workload;
import dev.lanewise.bench.contest.Workload.Cost;

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
          case "train", "generate" -> new ModelWorkload(task);
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

  private static <T> T found(T thing, Case task) {
    if (thing == null) {
      throw new IllegalArgumentException("no workload is called " + task.operation());
    }
    return thing;
  }
}
