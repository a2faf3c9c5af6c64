package dev.lanewise.core.backend.cuda;

import java.io.File;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.SymbolLookup;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.stream.Stream;

/**
 * Finds the CUDA libraries, those of the driver's major version before others. The order is: the
 * folders of the system property {@code lanewise.cuda.path}, {@code CUDA_HOME} and {@code
 * CUDA_PATH}, the loader's own path, the usual folders of drivers and toolkits, and last the {@code
 * nvidia/*}{@code /lib} folders that Python wheels install (those of {@code VIRTUAL_ENV}, of each
 * {@code python3} on the PATH, and of the user).
 */
@SuppressWarnings("restricted")
final class CudaLibraries {
  /** Folders to look in first, separated as a class path is. */
  static final String PATH_PROPERTY = "lanewise.cuda.path";

  private static final String[] USUAL_FOLDERS = {
    "/usr/local/nvidia/lib64",
    "/usr/local/nvidia/lib",
    "/usr/lib/wsl/lib",
    "/usr/local/cuda/lib64",
    "/usr/local/cuda/targets/x86_64-linux/lib",
    "/usr/local/cuda/targets/sbsa-linux/lib",
  };

  /**
   * An opened library.
   *
   * @param path file or soname that it was opened by
   * @param symbols its functions
   */
  record Opened(String path, SymbolLookup symbols) {}

  private CudaLibraries() {}

  /** The driver; the unversioned name is left out because a toolkit's stub may carry it. */
  static Opened driver() {
    return open(
        List.of("libcuda.so.1"),
        "the NVIDIA driver",
        "install an NVIDIA driver, or start the container with its GPU (docker: --gpus all)");
  }

  static Opened nvrtc(int cudaMajor) {
    return open(
        versions("libnvrtc.so.", cudaMajor),
        "the CUDA run-time compiler",
        "install the CUDA toolkit 12 or 13, or run: pip install nvidia-cuda-nvrtc");
  }

  static Opened cublasLt(int cudaMajor) {
    return open(
        versions("libcublasLt.so.", cudaMajor),
        "cuBLASLt",
        "install the CUDA toolkit 12 or 13, or run: pip install nvidia-cublas");
  }

  static Opened cublas(int cudaMajor) {
    return open(
        versions("libcublas.so.", cudaMajor),
        "cuBLAS",
        "install the CUDA toolkit 12 or 13, or run: pip install nvidia-cublas");
  }

  /** A library of CUDA 13 does not run on a driver of CUDA 12; the reverse does. */
  private static List<String> versions(String name, int cudaMajor) {
    return cudaMajor < 13 ? List.of(name + "12", name + "13") : List.of(name + "13", name + "12");
  }

  private static Opened open(List<String> names, String what, String mend) {
    if (!System.getProperty("os.name").startsWith("Linux")) {
      throw new CudaUnavailableException(
          "CUDA is used on Linux only, and this is " + System.getProperty("os.name") + ".");
    }
    List<String> refusals = new ArrayList<>();
    Opened found = openIn(explicitFolders(), names, refusals);
    for (int i = 0; i < names.size() && found == null; i++) {
      List<String> name = names.subList(i, i + 1);
      found = openByLoader(name.getFirst());
      if (found == null) {
        found = openIn(usualFolders(), name, refusals);
      }
      if (found == null) {
        found = openIn(pythonFolders(), name, refusals);
      }
    }
    if (found != null) {
      return found;
    }
    throw new CudaUnavailableException(
        String.format(
            Locale.ROOT,
            "%s (%s) was not found: %s, or name its folder with -D%s=FOLDER.%s",
            what,
            String.join(" or ", names),
            mend,
            PATH_PROPERTY,
            refusals.isEmpty() ? "" : " Could not be opened: " + String.join("; ", refusals)));
  }

  private static Opened openByLoader(String name) {
    try {
      return new Opened(name, SymbolLookup.libraryLookup(name, Arena.global()));
    } catch (IllegalArgumentException e) {
      return null;
    }
  }

  private static Opened openIn(Set<Path> folders, List<String> names, List<String> refusals) {
    for (Path folder : folders) {
      for (String name : names) {
        Path file = folder.resolve(name);
        if (Files.isRegularFile(file)) {
          try {
            openCompanions(folder, name);
            return new Opened(file.toString(), SymbolLookup.libraryLookup(file, Arena.global()));
          } catch (IllegalArgumentException e) {
            refusals.add(file + " (" + e.getMessage() + ")");
          }
        }
      }
    }
    return null;
  }

  /**
   * NVRTC opens its builtins by soname when it first compiles. In a folder that the loader does not
   * search, it finds them only if they are loaded already.
   */
  private static void openCompanions(Path folder, String name) {
    if (!name.startsWith("libnvrtc.")) {
      return;
    }
    for (Path builtins : list(folder, "libnvrtc-builtins.so*")) {
      try {
        SymbolLookup.libraryLookup(builtins, Arena.global());
      } catch (IllegalArgumentException e) {
        // NVRTC says so itself when it compiles.
      }
    }
  }

  private static Set<Path> explicitFolders() {
    Set<Path> folders = new LinkedHashSet<>();
    String property = System.getProperty(PATH_PROPERTY, "");
    for (String folder : property.split(File.pathSeparator, -1)) {
      if (!folder.isBlank()) {
        folders.add(Path.of(folder));
      }
    }
    for (String variable : List.of("CUDA_HOME", "CUDA_PATH")) {
      String home = System.getenv(variable);
      if (home != null && !home.isBlank()) {
        for (String lib :
            List.of("lib64", "lib", "targets/x86_64-linux/lib", "targets/sbsa-linux/lib")) {
          folders.add(Path.of(home, lib));
        }
      }
    }
    return folders;
  }

  private static Set<Path> usualFolders() {
    Set<Path> folders = new LinkedHashSet<>();
    for (String folder : USUAL_FOLDERS) {
      folders.add(Path.of(folder));
    }
    return folders;
  }

  private static Set<Path> pythonFolders() {
    Set<Path> prefixes = new LinkedHashSet<>();
    String environment = System.getenv("VIRTUAL_ENV");
    if (environment != null && !environment.isBlank()) {
      prefixes.add(Path.of(environment));
    }
    String path = System.getenv("PATH");
    for (String folder : (path == null ? "" : path).split(File.pathSeparator, -1)) {
      if (!folder.isBlank() && Files.exists(Path.of(folder, "python3"))) {
        Path bin = Path.of(folder).toAbsolutePath();
        if (bin.getParent() != null) {
          prefixes.add(bin.getParent());
        }
      }
    }
    prefixes.add(Path.of(System.getProperty("user.home"), ".local"));
    prefixes.add(Path.of("/usr/local"));
    Set<Path> folders = new LinkedHashSet<>();
    for (Path prefix : prefixes) {
      for (Path python : list(prefix.resolve("lib"), "python3*")) {
        for (String packages : List.of("site-packages", "dist-packages")) {
          for (Path wheel : list(python.resolve(packages).resolve("nvidia"), "*")) {
            folders.add(wheel.resolve("lib"));
          }
        }
      }
    }
    return folders;
  }

  private static List<Path> list(Path folder, String glob) {
    if (!Files.isDirectory(folder)) {
      return List.of();
    }
    try (DirectoryStream<Path> entries = Files.newDirectoryStream(folder, glob);
        Stream<Path> sorted = java.util.stream.StreamSupport.stream(entries.spliterator(), false)) {
      return sorted.sorted().toList();
    } catch (IOException e) {
      return List.of();
    }
  }
}
