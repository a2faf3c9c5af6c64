package dev.lanewise.bench.suite;

import dev.lanewise.bench.contest.Case;
import dev.lanewise.bench.contest.Contest;
import dev.lanewise.bench.contest.ContestBenchmark;
import dev.lanewise.bench.contest.Workload;
import java.util.List;
import org.openjdk.jmh.annotations.Param;

/** The kernels around the matrix products, at the sizes of GPT-2 124M with 1024 tokens a step. */
public class KernelsBenchmark extends ContestBenchmark {
  /** The kernel. */
  @Param({
    "linear m=1024 n=3072 k=768 epilogue=none",
    "linear m=1024 n=3072 k=768 epilogue=none weights=packed",
    "linear m=1024 n=3072 k=768 epilogue=bias",
    "linear m=1024 n=3072 k=768 epilogue=gelu",
    "linear m=1024 n=768 k=3072 epilogue=residual",
    "attention batch=4 tokens=256 heads=12 head=64",
    "attention batch=4 tokens=1024 heads=12 head=64",
    "attentionBackward batch=4 tokens=256 heads=12 head=64",
    "attentionBackward batch=4 tokens=1024 heads=12 head=64",
    "linearCrossEntropy tokens=1024 width=768 vocabulary=50257",
    "crossEntropy rows=1024 cols=50257",
    "gelu rows=1024 cols=3072",
    "geluBackward rows=1024 cols=3072",
    "layerNorm rows=1024 cols=768",
    "layerNormBackward rows=1024 cols=768",
    "softmax rows=12288 cols=256",
    "softmax rows=1024 cols=50257",
    "exp count=4194304",
    "log count=4194304",
    "tanh count=4194304",
    "erf count=4194304",
    "embedding vocabulary=50257 width=768 tokens=1024",
    "dropout count=3145728",
    "adamW count=38597376",
    "sumOfSquares count=38597376",
  })
  public String task;

  /** Called by JMH. */
  public KernelsBenchmark() {}

  @Override
  protected Workload workload() {
    return Workloads.open(Case.parse(task));
  }

  @Override
  protected List<Contest.Beside> besides() {
    return Workloads.besides(Case.parse(task), threads);
  }
}
