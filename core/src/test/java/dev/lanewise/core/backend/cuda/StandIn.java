package dev.lanewise.core.backend.cuda;

import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

/**
 * The stand-ins for CUDA's libraries, compiled once into {@code target/standin}. Tests that need
 * them are skipped where g++ or the real {@code cuda.h} is missing.
 */
@SuppressWarnings("restricted")
public final class StandIn {
  private static final Path SOURCES = Path.of("src", "test", "native").toAbsolutePath();
  private static Path folder;

  private StandIn() {}

  /** What a program printed, and how it ended. */
  record Output(int status, String text) {}

  static Output run(String... command) {
    try {
      Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
      String text = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
      if (!process.waitFor(5, TimeUnit.MINUTES)) {
        process.destroyForcibly();
        throw new IllegalStateException(command[0] + " does not end");
      }
      return new Output(process.exitValue(), text);
    } catch (IOException e) {
      return new Output(127, e.toString());
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new IllegalStateException(e);
    }
  }

  static boolean has(String program) {
    return run(program, "--version").status() == 0;
  }

  /** The folder of the real {@code cuda.h}, or null. */
  static Path include() {
    String home = System.getenv("CUDA_HOME");
    for (Path root :
        List.of(
            Path.of(home == null ? "/usr/local/cuda" : home),
            Path.of("/usr/local/cuda"),
            Path.of("/usr/local/cuda-13.0"))) {
      if (Files.exists(root.resolve("include/cuda.h"))) {
        return root.resolve("include");
      }
    }
    return null;
  }

  /** Builds the libraries if that has not been done, and returns their folder. */
  static synchronized Path folder() {
    if (folder == null) {
      assumeTrue(include() != null, "cuda.h is not on this machine, so no stand-in can be built");
      assumeTrue(has("g++"), "g++ is not on this machine, so no stand-in can be built");
      Path built = Path.of("target", "standin", hash()).toAbsolutePath();
      if (!Files.exists(built.resolve("libcublas.so.13"))) {
        Output output =
            run(
                "sh",
                SOURCES.resolve("build.sh").toString(),
                built.toString(),
                include().toString());
        if (output.status() != 0) {
          throw new IllegalStateException("the stand-in does not compile:\n" + output.text());
        }
      }
      folder = built;
    }
    return folder;
  }

  /** Makes the bindings find the stand-in, and its kernels be kept beside it. */
  public static void use() {
    System.setProperty(CudaLibraries.PATH_PROPERTY, folder().toString());
    System.setProperty(KernelCompiler.CACHE_PROPERTY, folder().resolve("cubin").toString());
  }

  /** Undoes {@link #use}. */
  public static void forget() {
    System.clearProperty(CudaLibraries.PATH_PROPERTY);
    System.clearProperty(KernelCompiler.CACHE_PROPERTY);
  }

  private static String hash() {
    try (Stream<Path> files = Files.list(SOURCES)) {
      MessageDigest digest = MessageDigest.getInstance("SHA-256");
      for (Path file : files.sorted().toList()) {
        digest.update(Files.readAllBytes(file));
      }
      return HexFormat.of().formatHex(digest.digest(), 0, 8);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    } catch (NoSuchAlgorithmException e) {
      throw new IllegalStateException(e);
    }
  }

  /**
   * Changes what the stand-in driver pretends: devices, init, memory, capability, launch, fault.
   */
  public static void set(String what, long value) {
    try (Arena arena = Arena.ofConfined()) {
      SymbolLookup driver =
          SymbolLookup.libraryLookup(folder().resolve("libcuda.so.1"), Arena.global());
      Linker.nativeLinker()
          .downcallHandle(
              driver.find("standin_set").orElseThrow(),
              FunctionDescriptor.ofVoid(ValueLayout.ADDRESS, ValueLayout.JAVA_LONG))
          .invoke(arena.allocateFrom(what), value);
    } catch (Throwable e) {
      throw new IllegalStateException(e);
    }
  }

  /**
   * What the stand-in driver counts: blocks, launches, allocations, uploaded, downloaded, waits,
   * contexts.
   */
  static long get(String what) {
    try (Arena arena = Arena.ofConfined()) {
      SymbolLookup driver =
          SymbolLookup.libraryLookup(folder().resolve("libcuda.so.1"), Arena.global());
      return (long)
          Linker.nativeLinker()
              .downcallHandle(
                  driver.find("standin_get").orElseThrow(),
                  FunctionDescriptor.of(ValueLayout.JAVA_LONG, ValueLayout.ADDRESS))
              .invoke(arena.allocateFrom(what));
    } catch (Throwable e) {
      throw new IllegalStateException(e);
    }
  }

  /** Makes it a healthy GPU again. */
  public static void reset() {
    set("devices", 1);
    set("init", 0);
    set("memory", 2L << 30);
    set("capability", 90);
    set("launch", 0);
    set("fault", 0);
  }
}
