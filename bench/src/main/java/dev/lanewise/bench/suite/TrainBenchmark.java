package dev.lanewise.bench.suite;

import dev.lanewise.bench.breakdown.Breakdown;
import dev.lanewise.bench.contest.Case;
import dev.lanewise.bench.contest.Contest;
import dev.lanewise.bench.contest.ContestBenchmark;
import dev.lanewise.bench.contest.Workload;
import java.util.List;
import org.openjdk.jmh.annotations.Param;

/** Training steps: forward, backward, clipping and AdamW, at 32 bits and in mixed precision. */
public class TrainBenchmark extends ContestBenchmark {
  /** The model and its batch: nanoGPT's two of characters, and GPT-2 124M at three lengths. */
  @Param({
    "train layers=4 heads=4 width=128 vocabulary=65 batch=12 tokens=64",
    "train layers=6 heads=6 width=384 vocabulary=65 batch=8 tokens=256",
    "train layers=12 heads=12 width=768 vocabulary=50257 batch=4 tokens=64",
    "train layers=12 heads=12 width=768 vocabulary=50257 batch=4 tokens=256",
    "train layers=12 heads=12 width=768 vocabulary=50257 batch=1 tokens=1024",
    "train layers=4 heads=4 width=128 vocabulary=65 batch=12 tokens=64 precision=bf16",
    "train layers=6 heads=6 width=384 vocabulary=65 batch=8 tokens=256 precision=bf16",
    "train layers=12 heads=12 width=768 vocabulary=50257 batch=4 tokens=64 precision=bf16",
    "train layers=12 heads=12 width=768 vocabulary=50257 batch=4 tokens=256 precision=bf16",
    "train layers=12 heads=12 width=768 vocabulary=50257 batch=1 tokens=1024 precision=bf16",
  })
  public String task;

  /** Called by JMH. */
  public TrainBenchmark() {}

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
