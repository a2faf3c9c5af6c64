package dev.lanewise.bench.suite;

import dev.lanewise.bench.breakdown.Breakdown;
import dev.lanewise.bench.contest.Case;
import dev.lanewise.bench.contest.Contest;
import dev.lanewise.bench.contest.ContestBenchmark;
import dev.lanewise.bench.contest.Workload;
import java.util.List;
import org.openjdk.jmh.annotations.Param;

/** Greedy text, one sequence with a cache of keys and values. */
public class GenerateBenchmark extends ContestBenchmark {
  /** The model, its prompt and how many tokens it adds; one token more means reading the prompt. */
  @Param({
    "generate layers=6 heads=6 width=384 vocabulary=65 tokens=64 new=64",
    "generate layers=12 heads=12 width=768 vocabulary=50257 tokens=16 new=32",
    "generate layers=12 heads=12 width=768 vocabulary=50257 tokens=512 new=1",
    "generate layers=12 heads=12 width=768 vocabulary=50257 tokens=16 new=32 precision=bf16",
    "generate layers=12 heads=12 width=768 vocabulary=50257 tokens=512 new=1 precision=bf16",
    "generate layers=12 heads=12 width=768 vocabulary=50257 tokens=16 new=32 weights=q8_0",
    "generate layers=12 heads=12 width=768 vocabulary=50257 tokens=512 new=1 weights=q8_0",
    "generate layers=12 heads=12 width=768 vocabulary=50257 tokens=512 new=64 weights=q8_0",
  })
  public String task;

  /** Called by JMH. */
  public GenerateBenchmark() {}

  @Override
  protected Workload workload() {
    return Workloads.open(Case.parse(task));
  }

  @Override
  protected List<Contest.Beside> besides() {
    return Workloads.besides(Case.parse(task), threads);
  }

  @Override
  protected Breakdown breakdown() {
    return Workloads.breakdown(Case.parse(task), 2_000_000_000L);
  }
}
