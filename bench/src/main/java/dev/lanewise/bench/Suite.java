package dev.lanewise.bench;

import dev.lanewise.bench.contest.ContestBenchmark;
import dev.lanewise.bench.peers.Peers;
import dev.lanewise.bench.suite.GemmBenchmark;
import dev.lanewise.bench.suite.GenerateBenchmark;
import dev.lanewise.bench.suite.GpuBenchmark;
import dev.lanewise.bench.suite.KernelsBenchmark;
import dev.lanewise.bench.suite.SearchBenchmark;
import dev.lanewise.bench.suite.TrainBenchmark;
import dev.lanewise.core.backend.Precision;
import dev.lanewise.core.backend.cuda.CudaBackend;
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
          "scalar",
          "pytorch"),
      "gemm m=1024 n=3072 k=768 layout=NT",
      "gemm m=1 n=50257 k=768 layout=NT"),
  KERNELS(
      KernelsBenchmark.class,
      List.of("pytorch", "libtorch"),
      "attention batch=4 tokens=256 heads=12 head=64",
      "crossEntropy rows=1024 cols=50257"),
  SEARCH(SearchBenchmark.class, List.of("lucene", "jvector"), "dotRows rows=1000 cols=768"),
  TRAIN(
      TrainBenchmark.class,
      List.of(
          "pytorch", "pytorch-bf16", "pytorch-bf16-compiled", "pytorch-as-is", "libtorch", "llm.c"),
      "train layers=4 heads=4 width=128 vocabulary=65 batch=12 tokens=64",
      "train layers=12 heads=12 width=768 vocabulary=50257 batch=4 tokens=64"),
  GENERATE(
      GenerateBenchmark.class,
      List.of("llama.cpp", "pytorch", "pytorch-bf16", "libtorch"),
      "generate layers=6 heads=6 width=384 vocabulary=65 tokens=64 new=64"),
  GPU(
      GpuBenchmark.class,
      List.of("pytorch"),
      "train layers=6 heads=6 width=384 vocabulary=65 batch=64 tokens=256 device=cuda");

  private static final Set<String> QUICK_PEERS =
      Set.of("onednn", "openblas", "pytorch", "libtorch");

  /** Cases that are measured with one thread too, with the peers, unless threads are named. */
  private static final Set<String> SINGLE =
      Set.of(
          "gemm m=1024 n=1024 k=1024 layout=NN",
          "gemm m=1024 n=3072 k=768 layout=NT",
          "gemm m=1024 n=768 k=3072 layout=NN",
          "gemm m=3072 n=768 k=1024 layout=TN",
          "gemm m=256 n=256 k=64 layout=NT batch=48",
          "gemm m=1 n=50257 k=768 layout=NT",
          "linear m=1024 n=3072 k=768 epilogue=gelu",
          "attention batch=4 tokens=256 heads=12 head=64",
          "attentionBackward batch=4 tokens=256 heads=12 head=64",
          "crossEntropy rows=1024 cols=50257",
          "gelu rows=1024 cols=3072",
          "adamW count=38597376",
          "dotPairs rows=1000 cols=128",
          "dotPairs rows=1000 cols=768",
          "distancePairs rows=1000 cols=768",
          "cosinePairs rows=1000 cols=768",
          "dotRows rows=1000 cols=768",
          "dotRows rows=100000 cols=768",
          "cosineRows rows=1000 cols=768",
          "distanceRows rows=1000 cols=768",
          "train layers=4 heads=4 width=128 vocabulary=65 batch=12 tokens=64");

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

  /** Peers of a quick run: the strongest, and one PyTorch of those that were found. */
  List<String> quickPeers() {
    boolean hasPyTorch = peers.contains("pytorch") && Peers.find("pytorch").isFound();
    return peers.stream()
        .filter(QUICK_PEERS::contains)
        .filter(p -> !p.equals(hasPyTorch ? "libtorch" : "pytorch"))
        .toList();
  }

  /** The cases, as the benchmark's parameter lists them. */
  List<String> cases() {
    try {
      return List.of(benchmark.getField("task").getAnnotation(Param.class).value());
    } catch (NoSuchFieldException e) {
      throw new IllegalStateException(benchmark + " has no parameter called task", e);
    }
  }

  /** Cases named in {@link #singleCases} over all suites, for a test that none is misspelt. */
  static Set<String> allSingleCases() {
    return SINGLE;
  }

  /** The few cases of a quick run. */
  List<String> quickCases() {
    return quick;
  }

  /** The cases that one thread performs too. */
  List<String> singleCases() {
    return cases().stream().filter(SINGLE::contains).toList();
  }

  /**
   * JVMs of a case. A kernel's code is the compiler's choice, which can differ from one JVM to the
   * next; the usual ones get two, and steps of models average over many kernels.
   */
  int forks(String text, int threads) {
    return this != TRAIN && SINGLE.contains(text) && threads > 1 ? 2 : 1;
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
