package dev.lanewise.core.backend.cuda;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;

/**
 * Compiles the kernel files, and keeps what it compiled on disk: in the folder of the system
 * property {@code lanewise.cuda.cache}, else in {@code $XDG_CACHE_HOME/lanewise/cubin}, else in
 * {@code ~/.cache/lanewise/cubin}. A file's name is the hash of source, options, architecture and
 * compiler version, so nothing there ever goes out of date, and all of it may be deleted at any
 * time.
 */
final class KernelCompiler {
  static final String CACHE_PROPERTY = "lanewise.cuda.cache";

  /** The kernel files, without the one that each starts with. */
  static final List<String> FILES =
      List.of("attention", "attention_plain", "elements", "layers", "loss", "norm", "optimizer");

  private final Nvrtc nvrtc;
  private final String target;
  private final Path cache;

  KernelCompiler(Nvrtc nvrtc, int capability) {
    this.nvrtc = nvrtc;
    this.target = nvrtc.target(capability);
    this.cache = cacheFolder();
  }

  /** Source of a kernel file, with the common part before it. */
  static String source(String file) {
    return resource("common.cu") + "#line 1 \"" + file + ".cu\"\n" + resource(file + ".cu");
  }

  private static String resource(String name) {
    try (InputStream in = KernelCompiler.class.getResourceAsStream(name)) {
      if (in == null) {
        throw new IllegalStateException("kernel source " + name + " is missing from this build");
      }
      return new String(in.readAllBytes(), StandardCharsets.UTF_8);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /**
   * A kernel file as the driver loads it.
   *
   * @param definitions macros, such as {@code HEAD_SIZE=64}
   */
  byte[] compile(String file, List<String> definitions) {
    List<String> options = options(definitions);
    String source = source(file);
    Path cached = cachedFile(source, options);
    byte[] known = read(cached);
    if (known != null) {
      return known;
    }
    byte[] cubin = nvrtc.compile(source, file + ".cu", options);
    write(cached, cubin);
    return cubin;
  }

  /** Removes what is kept of a file, for when the driver refuses it. */
  void forget(String file, List<String> definitions) {
    Path cached = cachedFile(source(file), options(definitions));
    try {
      if (cached != null) {
        Files.deleteIfExists(cached);
      }
    } catch (IOException e) {
      // It is written over below, or left out of use if that fails too.
    }
  }

  private List<String> options(List<String> definitions) {
    List<String> options = new ArrayList<>();
    options.add(target);
    options.add("-std=c++17");
    for (String definition : definitions) {
      options.add("-D" + definition);
    }
    return options;
  }

  private Path cachedFile(String source, List<String> options) {
    if (cache == null) {
      return null;
    }
    try {
      MessageDigest digest = MessageDigest.getInstance("SHA-256");
      for (String part : List.of(source, String.join("\n", options), nvrtc.version())) {
        digest.update(part.getBytes(StandardCharsets.UTF_8));
        digest.update((byte) 0);
      }
      return cache.resolve(HexFormat.of().formatHex(digest.digest()) + ".cubin");
    } catch (NoSuchAlgorithmException e) {
      throw new IllegalStateException(e);
    }
  }

  private static Path cacheFolder() {
    String property = System.getProperty(CACHE_PROPERTY, "");
    if (!property.isBlank()) {
      return Path.of(property);
    }
    String xdg = System.getenv("XDG_CACHE_HOME");
    Path root =
        xdg != null && Path.of(xdg).isAbsolute()
            ? Path.of(xdg)
            : Path.of(System.getProperty("user.home"), ".cache");
    // Where a user has no home, Java calls it "?", which would be a folder here.
    return root.isAbsolute() ? root.resolve("lanewise").resolve("cubin") : null;
  }

  private static byte[] read(Path file) {
    try {
      return file != null && Files.isRegularFile(file) ? Files.readAllBytes(file) : null;
    } catch (IOException e) {
      return null;
    }
  }

  /** Other processes see the whole file or none; a folder that can't be written costs time only. */
  private void write(Path file, byte[] cubin) {
    if (file == null) {
      return;
    }
    try {
      Files.createDirectories(cache);
      Path temporary = Files.createTempFile(cache, "new", ".tmp");
      try {
        Files.write(temporary, cubin);
        Files.move(temporary, file, StandardCopyOption.ATOMIC_MOVE);
      } finally {
        Files.deleteIfExists(temporary);
      }
    } catch (IOException e) {
      // The next run compiles again.
    }
  }
}
