package dev.lanewise.bench.gpu;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.backend.CpuBackend;
import dev.lanewise.core.backend.Precision;
import dev.lanewise.core.backend.cuda.CudaBackend;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * Every operation of the CUDA backend against the CPU. The stand-in that core's tests compile runs
 * the kernels on the host; without g++ or the real {@code cuda.h} there is none, and this is
 * skipped.
 */
class BackendAgreementTest {
  private static final Path SOURCES = Path.of("..", "core", "src", "test", "native");

  @BeforeAll
  static void useStandIn() throws IOException, InterruptedException {
    Path include =
        Stream.of(System.getenv("CUDA_HOME"), "/usr/local/cuda", "/usr/local/cuda-13.0")
            .filter(home -> home != null && Files.exists(Path.of(home, "include", "cuda.h")))
            .findFirst()
            .map(home -> Path.of(home, "include"))
            .orElse(null);
    assumeTrue(include != null, "cuda.h is not on this machine, so no stand-in can be built");
    assumeTrue(
        Stream.of(System.getenv("PATH").split(":"))
            .anyMatch(folder -> Files.isExecutable(Path.of(folder, "g++"))),
        "g++ is not on this machine, so no stand-in can be built");
    Path folder = Path.of("target", "standin").toAbsolutePath();
    Process build =
        new ProcessBuilder(
                "sh", SOURCES.resolve("build.sh").toString(), folder.toString(), include.toString())
            .redirectErrorStream(true)
            .start();
    String log = new String(build.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertEquals(0, build.waitFor(), log);
    System.setProperty("lanewise.cuda.path", folder.toString());
    System.setProperty("lanewise.cuda.cache", folder.resolve("cubin").toString());
  }

  @AfterAll
  static void forgetStandIn() {
    System.clearProperty("lanewise.cuda.path");
    System.clearProperty("lanewise.cuda.cache");
  }

  @ParameterizedTest
  @EnumSource
  void everyOperationAgreesWithTheCpu(Precision precision) {
    List<BackendCases.Result> failures = new ArrayList<>();
    int[] count = new int[1];
    try (CudaBackend cuda = CudaBackend.open(precision);
        Backend cpu = new CpuBackend()) {
      new BackendCases(false)
          .run(
              cuda,
              cpu,
              BackendCases.allowed(precision),
              0,
              // To the stand-in, tf32 is float32: only what chooses between them is of interest.
              precision == Precision.TF32 ? "linear" : "",
              result -> {
                count[0]++;
                if (!result.passed()) {
                  failures.add(result);
                }
              });
    }
    assertEquals(List.of(), failures);
    int least = precision == Precision.TF32 ? 50 : 500;
    assertTrue(count[0] >= least, "only " + count[0] + " results");
  }
}
