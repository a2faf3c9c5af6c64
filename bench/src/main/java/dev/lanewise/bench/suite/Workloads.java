package dev.lanewise.bench.suite;

import dev.lanewise.bench.breakdown.Breakdown;
import dev.lanewise.bench.contest.Case;
import dev.lanewise.bench.contest.Contest;
import dev.lanewise.bench.contest.Workload;
import dev.lanewise.bench.contest.Workload.Cost;
import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.backend.CpuBackend;
import dev.lanewise.core.backend.Precision;
import dev.lanewise.core.backend.cuda.CudaBackend;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** Makes workloads from cases. */
public final class Workloads {
  /** The case itself with one thread. */
  public static final String ONE_THREAD = "one-thread";

  /** The product alone, with weights as they are. */
  public static final String PLAIN = "plain";

  /** The same in float32. */
  public static final String FLOATS = "fp32";

  /** The same with the nearest sizes that are multiples of 64. */
  public static final String ROUND_SIZE = "round-size";

  /** Names of all that may stand beside a case. */
  public static final Set<String> BESIDES = Set.of(ONE_THREAD, PLAIN, FLOATS, ROUND_SIZE);

  private static final int ROUND = 64;

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
    return Breakdown.of(device(task), backend -> new ModelWorkload(task, backend), patience);
  }

  /**
   * What Lanewise performs by turns with a case, so that a ratio tells what the case costs beside
   * it: the case itself with one thread, the product alone beside one with an epilogue or with
   * packed weights, float32 beside bfloat16, the nearest round size beside an odd one.
   *
   * @param task the case
   * @param threads threads of the case
   * @return what stands beside it; nothing on a GPU
   */
  public static List<Contest.Beside> besides(Case task, int threads) {
    if (isOnGpu(task)) {
      return List.of();
    }
    List<Contest.Beside> besides = new ArrayList<>();
    if (threads > 1) {
      besides.add(new Contest.Beside(ONE_THREAD, task, 1, () -> null));
    }
    if (task.operation().equals("linear")) {
      Case plain = task.with(Map.of("epilogue", "none")).without("weights");
      if (!plain.equals(task)) {
        besides.add(new Contest.Beside(PLAIN, plain, threads, () -> open(plain)));
      }
    }
    if (task.isBfloat16() || task.hasIntegers()) {
      Case floats = task.without("precision").without("weights");
      besides.add(new Contest.Beside(FLOATS, floats, threads, () -> open(floats)));
    }
    if (task.operation().equals("gemm") && task.number("m") > ROUND && task.number("m") % 2 == 1) {
      Map<String, String> sizes = new LinkedHashMap<>();
      for (String key : List.of("m", "n", "k")) {
        int even = (task.number(key) + ROUND / 2) / ROUND * ROUND;
        sizes.put(key, Integer.toString(Math.max(ROUND, even)));
      }
      Case round = task.with(sizes);
      besides.add(new Contest.Beside(ROUND_SIZE, round, threads, () -> open(round)));
    }
    return besides;
  }

  /** Whether a case runs on a GPU, for which the limits of processor and memory do not hold. */
  public static boolean isOnGpu(Case task) {
    return task.word("device", "cpu").equals("cuda");
  }

  private static Backend device(Case task) {
    return isOnGpu(task)
        ? CudaBackend.open(Precision.BF16)
        : new CpuBackend(task.isBfloat16() ? Precision.BF16 : Precision.FP32);
  }

  private static <T> T found(T thing, Case task) {
    if (thing == null) {
      throw new IllegalArgumentException("no workload is called " + task.operation());
    }
    return thing;
  }
}
