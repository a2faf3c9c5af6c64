package dev.lanewise.core.backend.cuda;

import dev.lanewise.core.base.InputException;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/**
 * Looks for everything that training on a GPU needs, and says what is there and what is missing.
 */
public final class CudaProbe {

  /**
   * One piece of the CUDA path.
   *
   * @param piece what it is, such as {@code driver}
   * @param found whether it can be used
   * @param detail where it is and its version; or what is missing and its mend
   */
  public record Line(String piece, boolean found, String detail) {}

  /** What to look for where there is no driver to ask. */
  private static final int NEWEST = 13;

  private CudaProbe() {}

  /**
   * Looks at the driver, its GPUs, cuBLASLt, NVRTC and cuBLAS, in this order. Never throws for what
   * a machine lacks.
   */
  public static List<Line> describe() {
    List<Line> lines = new ArrayList<>();
    int[] cuda = {NEWEST};
    probe(
        lines,
        "driver",
        () -> {
          Driver driver = Driver.open();
          int version = driver.driverVersion();
          cuda[0] = driver.cudaMajor();
          lines.add(
              new Line(
                  "driver",
                  true,
                  driver.path() + ", CUDA " + version / 1000 + "." + version % 1000 / 10));
          devices(driver, lines);
        });
    probe(
        lines,
        "cuBLASLt",
        () -> {
          CublasLt library = CublasLt.open(cuda[0]);
          String version = version(library.version());
          lines.add(library("cuBLASLt", library.path(), version, cuda[0]));
        });
    probe(
        lines,
        "NVRTC",
        () -> {
          Nvrtc library = Nvrtc.open(cuda[0]);
          lines.add(library("NVRTC", library.path(), library.version(), cuda[0]));
        });
    probe(
        lines,
        "cuBLAS",
        () ->
            lines.add(
                new Line("cuBLAS", true, Cublas.open(cuda[0]).path() + ", for CudaGemm only")));
    return List.copyOf(lines);
  }

  /** Whether {@link CudaBackend} can be opened, as far as looking tells. */
  public static boolean usable() {
    return describe().stream().allMatch(line -> line.found() || line.piece().equals("cuBLAS"));
  }

  /** Whether there is a driver that sees a GPU, usable or not; says nothing of the libraries. */
  public static boolean driverAnswers() {
    try {
      return Driver.open().deviceCount() > 0;
    } catch (CudaUnavailableException | CudaException e) {
      return false;
    }
  }

  private static void devices(Driver driver, List<Line> lines) {
    int count = driver.deviceCount();
    if (count == 0) {
      lines.add(new Line("GPU", false, "The driver sees no GPU: check CUDA_VISIBLE_DEVICES."));
    }
    for (int i = 0; i < count; i++) {
      int device = driver.device(i);
      int major = driver.deviceAttribute(Driver.COMPUTE_CAPABILITY_MAJOR, device);
      int minor = driver.deviceAttribute(Driver.COMPUTE_CAPABILITY_MINOR, device);
      boolean supported = major >= 8;
      lines.add(
          new Line(
              "GPU " + i,
              supported,
              String.format(
                  Locale.ROOT,
                  "%s, compute capability %d.%d, %d multiprocessors, %.1f GiB%s",
                  driver.deviceName(device),
                  major,
                  minor,
                  driver.deviceAttribute(Driver.MULTIPROCESSOR_COUNT, device),
                  driver.deviceTotalMem(device) / (double) (1L << 30),
                  supported ? "" : "; too old, compute capability 8.0 (Ampere) is needed")));
    }
  }

  private static Line library(String piece, String path, String version, int cudaMajor) {
    boolean tooNew = Integer.parseInt(version.substring(0, version.indexOf('.'))) > cudaMajor;
    return new Line(
        piece,
        !tooNew,
        path
            + ", "
            + version
            + (tooNew ? "; too new for this driver, so install that of CUDA " + cudaMajor : ""));
  }

  private static String version(long version) {
    return version / 10000 + "." + version / 100 % 100 + "." + version % 100;
  }

  private static void probe(List<Line> lines, String piece, Runnable look) {
    try {
      look.run();
    } catch (InputException | CudaException e) {
      lines.add(new Line(piece, false, e.getMessage()));
    }
  }
}
