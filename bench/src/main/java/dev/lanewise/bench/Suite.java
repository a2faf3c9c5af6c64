package dev.lanewise.bench;

import dev.lanewise.bench.contest.ContestBenchmark;
import dev.lanewise.bench.suite.GemmBenchmark;
import dev.lanewise.bench.suite.GenerateBenchmark;
import dev.lanewise.bench.suite.GpuBenchmark;
import dev.lanewise.bench.suite.KernelsBenchmark;
import dev.lanewise.bench.suite.TrainBenchmark;
import dev.lanewise.core.backend.cuda.CudaBackend;
import dev.lanewise.core.backend.cuda.Precision;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.Set;
import org.openjdk.jmh.annotations.Param;

/**
 * The suites: which benchmark runs the cases, which cases make a quick run, which peers know them.
 */
@SuppressWarnings("ImmutableEnumChecker") // the lists are
enum Suite {
  GEMM(
      GemmBenchmark.class,
      List.of(
          "onednn",
          "openblas",
          "openblas-as-is",
          "mkl",
          "blis",
          "nd4j",
          "vectorblas",
          "ejml",
          "scalar"),
      "gemm m=1024 n=3072 k=768 layout=NT",
      "gemm m=3072 n=768 k=1024 layout=TN",
      "gemm m=1 n=50257 k=768 layout=NT"),
  KERNELS(
      KernelsBenchmark.class,
      List.of("pytorch", "libtorch"),
      "attention batch=4 tokens=256 heads=12 head=64",
      "crossEntropy rows=1024 cols=50257",
      "gelu rows=1024 cols=3072",
      "adamW count=38597376"),
  TRAIN(
      TrainBenchmark.class,
      List.of("pytorch", "pytorch-as-is", "libtorch", "llm.c"),
      "train layers=4 heads=4 width=128 vocabulary=65 batch=12 tokens=64",
      "train layers=12 heads=12 width=768 vocabulary=50257 batch=4 tokens=64"),
  GENERATE(
      GenerateBenchmark.class,
      List.of("pytorch", "libtorch"),
      "generate layers=6 heads=6 width=384 vocabulary=65 tokens=64 new=64"),
  GPU(
      GpuBenchmark.class,
      List.of("pytorch"),
      "train layers=6 heads=6 width=384 vocabulary=65 batch=64 tokens=256 device=cuda");

  private static final Set<String> QUICK_PEERS =
      Set.of("onednn", "openblas", "mkl", "pytorch", "libtorch");

  private final Class<? extends ContestBenchmark> benchmark;
  private final List<String> peers;
  private final List<String> quick;

  Suite(Class<? extends ContestBenchmark> benchmark, List<String> peers, String... quick) {
    this.benchmark = benchmark;
    this.peers = peers;
    this.quick = List.of(quick);
  }

  /** The JMH benchmark that runs the cases. */
  Class<? extends ContestBenchmark> benchmark() {
    return benchmark;
  }

  /** Peers that know operations of this suite. */
  List<String> peers() {
    return peers;
  }

  /** Peers of a quick run: the strongest. */
  List<String> quickPeers() {
    return peers.stream().filter(QUICK_PEERS::contains).toList();
  }

  /** The cases, as the benchmark's parameter lists them. */
  List<String> cases() {
    try {
      return List.of(benchmark.getField("task").getAnnotation(Param.class).value());
    } catch (NoSuchFieldException e) {
      throw new IllegalStateException(benchmark + " has no parameter called task", e);
    }
  }

  /** The few cases of a quick run. */
  List<String> quickCases() {
    return quick;
  }

  /** Why the suite cannot run on this machine, if it cannot. */
  Optional<String> obstacle() {
    if (this != GPU) {
      return Optional.empty();
    }
    try {
      CudaBackend.open(Precision.BF16).close();
      return Optional.empty();
    } catch (RuntimeException e) {
      return Optional.of(e.getMessage());
    }
  }

  @Override
  public String toString() {
    return name().toLowerCase(Locale.ROOT);
  }
}
