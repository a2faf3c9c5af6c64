package dev.lanewise.bench.suite;

import dev.lanewise.bench.contest.Case;
import dev.lanewise.bench.contest.ContestBenchmark;
import dev.lanewise.bench.contest.Workload;
import org.openjdk.jmh.annotations.Param;

/** Greedy text, one sequence with a cache of keys and values. */
public class GenerateBenchmark extends ContestBenchmark {
  /** The model, its prompt and how many tokens it adds. */
  @Param({
    "generate layers=4 heads=4 width=256 vocabulary=4096 tokens=64 new=32",
    "generate layers=12 heads=12 width=768 vocabulary=50257 tokens=64 new=32",
  })
  public String task;

  /** Called by JMH. */
  public GenerateBenchmark() {}

  @Override
  protected Workload workload() {
    return Workloads.open(Case.parse(task));
  }
}
