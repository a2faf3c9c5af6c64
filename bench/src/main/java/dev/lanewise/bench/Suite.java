package dev.lanewise.bench;

import dev.lanewise.bench.contest.ContestBenchmark;
import dev.lanewise.bench.suite.GemmBenchmark;
import dev.lanewise.bench.suite.GenerateBenchmark;
import dev.lanewise.bench.suite.KernelsBenchmark;
import dev.lanewise.bench.suite.TrainBenchmark;
import java.util.List;
import java.util.Locale;
import org.openjdk.jmh.annotations.Param;

/**
 * The suites: which benchmark runs the cases, which cases make a quick run, which peers know them.
 */
@SuppressWarnings("ImmutableEnumChecker") // the lists are
enum Suite {
  GEMM(
      GemmBenchmark.class,
      List.of("onednn", "openblas", "mkl", "blis", "nd4j", "vectorblas", "ejml", "scalar"),
      "gemm m=1024 n=1024 k=1024 layout=NN",
      "gemm m=1024 n=3072 k=768 layout=NT",
      "gemm m=1024 n=768 k=3072 layout=NN",
      "gemm m=3072 n=768 k=1024 layout=TN",
      "gemm m=1 n=50257 k=768 layout=NT"),
  KERNELS(
      KernelsBenchmark.class,
      List.of("pytorch", "pytorch-python"),
      "linear m=1024 n=3072 k=768 epilogue=gelu",
      "attention batch=4 tokens=256 heads=12 head=64",
      "attentionBackward batch=4 tokens=256 heads=12 head=64",
      "crossEntropy rows=1024 cols=50257",
      "gelu rows=1024 cols=3072",
      "adamW count=38597376"),
  TRAIN(
      TrainBenchmark.class,
      List.of("pytorch", "pytorch-python"),
      "train layers=4 heads=4 width=128 vocabulary=65 batch=12 tokens=64",
      "train layers=12 heads=12 width=768 vocabulary=50257 batch=4 tokens=64"),
  GENERATE(
      GenerateBenchmark.class,
      List.of("pytorch", "pytorch-python"),
      "generate layers=4 heads=4 width=256 vocabulary=4096 tokens=64 new=32");

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

  @Override
  public String toString() {
    return name().toLowerCase(Locale.ROOT);
  }
}
