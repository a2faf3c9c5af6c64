package dev.lanewise.core.backend.cuda;

import java.nio.file.Files;
import java.nio.file.Path;

/**
 * Real NVRTC and cuBLASLt, which answer much without a GPU. Their folder is named by the system
 * property {@code lanewise.cuda.test.libraries} or the variable {@code LANEWISE_CUDA_LIBRARIES},
 * such as {@code site-packages/nvidia/cu13/lib} of an environment with the wheels nvidia-cuda-nvrtc
 * and nvidia-cublas.
 */
final class RealLibraries {
  private RealLibraries() {}

  /** The folder, or null. */
  static Path folder() {
    String named =
        System.getProperty(
            "lanewise.cuda.test.libraries", System.getenv("LANEWISE_CUDA_LIBRARIES"));
    return named == null || named.isBlank() ? null : Path.of(named);
  }

  static String missing() {
    return "no folder of real CUDA libraries is named: set LANEWISE_CUDA_LIBRARIES";
  }

  /** The folder of {@code cublasLt.h} beside the libraries, or null. */
  static Path include() {
    Path folder = folder();
    Path include = folder == null ? null : folder.resolveSibling("include");
    return include != null && Files.exists(include.resolve("cublasLt.h")) ? include : null;
  }
}
