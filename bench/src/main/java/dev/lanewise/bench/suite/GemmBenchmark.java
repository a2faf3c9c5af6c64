package dev.lanewise.bench.suite;

import dev.lanewise.bench.contest.Case;
import dev.lanewise.bench.contest.Contest;
import dev.lanewise.bench.contest.ContestBenchmark;
import dev.lanewise.bench.contest.Workload;
import java.util.List;
import org.openjdk.jmh.annotations.Param;

/**
 * Matrix products of GPT-2 124M, forward (NT), gradient of the input (NN) and of the weights (TN)
 * at 1024 and 256 tokens; attention's batches of small products; one and four rows against the
 * vocabulary, as in generating; squares; sizes that are prime; and many of these in bfloat16.
 */
public class GemmBenchmark extends ContestBenchmark {
  /** The product. */
  @Param({
    "gemm m=1024 n=1024 k=1024 layout=NN",
    "gemm m=2048 n=2048 k=2048 layout=NN",
    "gemm m=1024 n=2304 k=768 layout=NT",
    "gemm m=1024 n=768 k=2304 layout=NN",
    "gemm m=2304 n=768 k=1024 layout=TN",
    "gemm m=1024 n=768 k=768 layout=NT",
    "gemm m=1024 n=768 k=768 layout=NN",
    "gemm m=768 n=768 k=1024 layout=TN",
    "gemm m=1024 n=3072 k=768 layout=NT",
    "gemm m=1024 n=768 k=3072 layout=NN",
    "gemm m=3072 n=768 k=1024 layout=TN",
    "gemm m=1024 n=768 k=3072 layout=NT",
    "gemm m=1024 n=3072 k=768 layout=NN",
    "gemm m=768 n=3072 k=1024 layout=TN",
    "gemm m=1024 n=50257 k=768 layout=NT",
    "gemm m=1024 n=50257 k=768 layout=NN",
    "gemm m=1024 n=768 k=50257 layout=NN",
    "gemm m=50257 n=768 k=1024 layout=TN",
    "gemm m=256 n=2304 k=768 layout=NT",
    "gemm m=2304 n=768 k=256 layout=TN",
    "gemm m=256 n=3072 k=768 layout=NT",
    "gemm m=256 n=50257 k=768 layout=NT",
    "gemm m=50257 n=768 k=256 layout=TN",
    "gemm m=256 n=256 k=64 layout=NT batch=48",
    "gemm m=256 n=64 k=256 layout=NN batch=48",
    "gemm m=256 n=64 k=256 layout=TN batch=48",
    "gemm m=1 n=50257 k=768 layout=NT",
    "gemm m=4 n=50257 k=768 layout=NT",
    "gemm m=1021 n=1031 k=1019 layout=NN",
    "gemm m=1021 n=3067 k=769 layout=NT",
    "gemm m=3067 n=769 k=1021 layout=TN",
    "gemm m=2048 n=2048 k=2048 layout=NN precision=bf16",
    "gemm m=1024 n=768 k=768 layout=NT precision=bf16",
    "gemm m=1024 n=3072 k=768 layout=NT precision=bf16",
    "gemm m=1024 n=768 k=3072 layout=NN precision=bf16",
    "gemm m=3072 n=768 k=1024 layout=TN precision=bf16",
    "gemm m=1024 n=50257 k=768 layout=NT precision=bf16",
    "gemm m=50257 n=768 k=1024 layout=TN precision=bf16",
    "gemm m=256 n=3072 k=768 layout=NT precision=bf16",
    "gemm m=3067 n=769 k=1021 layout=TN precision=bf16",
  })
  public String task;

  /** Called by JMH. */
  public GemmBenchmark() {}

  @Override
  protected Workload workload() {
    return Workloads.open(Case.parse(task));
  }

  @Override
  protected List<Contest.Beside> besides() {
    return Workloads.besides(Case.parse(task), threads);
  }
}
