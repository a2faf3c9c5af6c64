package dev.lanewise.bench.suite;

import dev.lanewise.bench.breakdown.Breakdown;
import dev.lanewise.bench.contest.Case;
import dev.lanewise.bench.contest.ContestBenchmark;
import dev.lanewise.bench.contest.Workload;
import org.openjdk.jmh.annotations.Param;

/** Training steps and greedy text on an NVIDIA GPU, in mixed precision. */
public class GpuBenchmark extends ContestBenchmark {
  /** The model and its batch. */
  @Param({
    "train layers=6 heads=6 width=384 vocabulary=65 batch=64 tokens=256 device=cuda",
    "train layers=12 heads=12 width=768 vocabulary=50257 batch=16 tokens=1024 device=cuda",
    "generate layers=12 heads=12 width=768 vocabulary=50257 tokens=64 new=64 device=cuda",
  })
  public String task;

  /** Called by JMH. */
  public GpuBenchmark() {}

  @Override
  protected Workload workload() {
    return Workloads.open(Case.parse(task));
  }

  @Override
  protected Breakdown breakdown() {
    return Workloads.breakdown(Case.parse(task), 2_000_000_000L);
  }
}
