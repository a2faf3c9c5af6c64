package dev.lanewise.simd;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.IOException;
import java.io.OutputStream;
import java.net.URISyntaxException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.jar.JarEntry;
import java.util.jar.JarOutputStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * A project outside this build compiles and runs against the jar, as the README shows it, and
 * without native access.
 */
class ConsumerTest {
  private static final String PROGRAM =
      """
      package consumer;

      import dev.lanewise.simd.Attention;
      import dev.lanewise.simd.Epilogue;
      import dev.lanewise.simd.Gemm;
      import dev.lanewise.simd.Heads;
      import dev.lanewise.simd.Matrix;
      import java.lang.foreign.Arena;
      import java.lang.foreign.MemorySegment;
      import java.lang.foreign.ValueLayout;

      public class Main {
        public static void main(String[] arguments) {
          try (Arena arena = Arena.ofShared()) {
            Matrix x = new Matrix(arena.allocate(33 * 7 * 4L, 64), 33, 7);
            Matrix w = new Matrix(arena.allocate(5 * 7 * 4L, 64), 5, 7);
            Matrix y = new Matrix(arena.allocate(33 * 5 * 4L, 64), 33, 5);
            MemorySegment bias = arena.allocate(5 * 4L, 64);
            for (int i = 0; i < 33 * 7; i++) {
              x.segment().setAtIndex(ValueLayout.JAVA_FLOAT, i, i % 5);
            }
            for (int i = 0; i < 5 * 7; i++) {
              w.segment().setAtIndex(ValueLayout.JAVA_FLOAT, i, i % 3);
            }
            for (int i = 0; i < 5; i++) {
              bias.setAtIndex(ValueLayout.JAVA_FLOAT, i, 100 * i);
            }
            Gemm.multiply(x, w.transposed(), y, new Epilogue().bias(bias, 0));
            double sum = 0;
            for (int i = 0; i < 33 * 5; i++) {
              sum += y.segment().getAtIndex(ValueLayout.JAVA_FLOAT, i);
            }
            // Queries of 0 see all keys alike, so that attention gives the mean of the values.
            MemorySegment heads = arena.allocate(4 * 64 * 40 * 4L, 64);
            for (int i = 0; i < 64 * 40; i++) {
              heads.setAtIndex(ValueLayout.JAVA_FLOAT, 64 * 40 + i, i % 7);
              heads.setAtIndex(ValueLayout.JAVA_FLOAT, 2 * 64 * 40 + i, i / 40 + i % 40);
            }
            Attention.forward(
                Heads.ofRows(heads, 0, 1, 64, 1, 40, 40),
                Heads.ofRows(heads, 64 * 40, 1, 64, 1, 40, 40),
                Heads.ofRows(heads, 2 * 64 * 40, 1, 64, 1, 40, 40),
                Heads.ofRows(heads, 3 * 64 * 40, 1, 64, 1, 40, 40),
                null, 0, 1, false, null);
            for (int i = 0; i < 64 * 40; i++) {
              sum += heads.getAtIndex(ValueLayout.JAVA_FLOAT, 3 * 64 * 40 + i);
            }
            System.out.println(sum);
          }
        }
      }
      """;

  @TempDir static Path folder;
  private static Path jar;

  @BeforeAll
  static void pack() throws IOException, URISyntaxException {
    Path classes = Path.of(Gemm.class.getProtectionDomain().getCodeSource().getLocation().toURI());
    jar = classes;
    if (Files.isDirectory(classes)) {
      jar = folder.resolve("lanewise-simd.jar");
      try (OutputStream file = Files.newOutputStream(jar);
          JarOutputStream out = new JarOutputStream(file);
          Stream<Path> all = Files.walk(classes)) {
        for (Path path : (Iterable<Path>) all.filter(Files::isRegularFile)::iterator) {
          out.putNextEntry(new JarEntry(classes.relativize(path).toString().replace('\\', '/')));
          Files.copy(path, out);
        }
      }
    }
    Path source = Files.createDirectories(folder.resolve("source/consumer"));
    Files.writeString(source.resolve("Main.java"), PROGRAM);
    Files.writeString(
        folder.resolve("source/module-info.java"),
        "module consumer { requires dev.lanewise.simd; }");
  }

  @Test
  void runsOnTheClassPath() throws Exception {
    String out = folder.resolve("classpath").toString();
    run("javac", "-cp", jar.toString(), "-d", out, source("consumer/Main.java"));
    String printed =
        run(
            "java",
            "--add-modules",
            "jdk.incubator.vector",
            "-cp",
            jar + System.getProperty("path.separator") + out,
            "consumer.Main");
    assertEquals(expected(), Double.parseDouble(printed));
  }

  @Test
  void runsOnTheModulePath() throws Exception {
    String out = folder.resolve("modules").toString();
    run(
        "javac",
        "-p",
        jar.toString(),
        "-d",
        out,
        source("module-info.java"),
        source("consumer/Main.java"));
    String printed =
        run(
            "java",
            "-p",
            jar + System.getProperty("path.separator") + out,
            "-m",
            "consumer/consumer.Main");
    assertEquals(expected(), Double.parseDouble(printed));
  }

  private static String source(String name) {
    return folder.resolve("source").resolve(name).toString();
  }

  private static double expected() {
    double sum = 0;
    for (int r = 0; r < 33; r++) {
      for (int c = 0; c < 5; c++) {
        sum += 100 * c;
        for (int k = 0; k < 7; k++) {
          sum += (r * 7 + k) % 5 * ((c * 7 + k) % 3);
        }
      }
    }
    for (int d = 0; d < 40; d++) {
      sum += 64 * (31.5 + d);
    }
    return sum;
  }

  /** Runs one of the JDK's tools; what it wrote to its output is returned. */
  private static String run(String tool, String... arguments) throws Exception {
    List<String> command = new ArrayList<>();
    command.add(Path.of(System.getProperty("java.home"), "bin", tool).toString());
    command.addAll(List.of(arguments));
    Path errors = folder.resolve(tool + ".err");
    Process process = new ProcessBuilder(command).redirectError(errors.toFile()).start();
    String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertEquals(0, process.waitFor(), () -> command + ": " + read(errors));
    return output.strip();
  }

  private static String read(Path path) {
    try {
      return Files.readString(path);
    } catch (IOException e) {
      return e.toString();
    }
  }
}
