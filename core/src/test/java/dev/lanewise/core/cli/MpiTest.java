package dev.lanewise.core.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.File;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Real processes of the launchers that are installed; each is skipped where it is not. */
class MpiTest {
  @TempDir Path folder;

  private record Ended(int exit, String out, String err) {}

  private static Optional<String> launcher(String kind) {
    return Stream.of(System.getenv("PATH").split(File.pathSeparator))
        .map(place -> Path.of(place, "mpirun." + kind))
        .filter(Files::isExecutable)
        .map(Path::toString)
        .findFirst();
  }

  private Ended run(String launcher, int processes, String... args)
      throws IOException, InterruptedException {
    List<String> command = new ArrayList<>();
    if (launcher != null) {
      command.addAll(List.of(launcher, "-n", Integer.toString(processes)));
      if (launcher.endsWith("openmpi")) {
        command.add("--oversubscribe");
      }
    }
    command.addAll(
        List.of(
            Path.of(System.getProperty("java.home"), "bin", "java").toString(),
            "--add-modules",
            "jdk.incubator.vector",
            "--enable-native-access=ALL-UNNAMED",
            "-XX:+UseSerialGC",
            "-cp",
            System.getProperty("jdk.module.path", "")
                + File.pathSeparator
                + System.getProperty("java.class.path"),
            Main.class.getName()));
    command.addAll(List.of(args));
    ProcessBuilder builder = new ProcessBuilder(command);
    builder.environment().put("OMPI_ALLOW_RUN_AS_ROOT", "1");
    builder.environment().put("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    builder.environment().put("XDG_CACHE_HOME", folder.resolve("cache").toString());
    Path out = folder.resolve("out.txt");
    Path err = folder.resolve("err.txt");
    Process process = builder.redirectOutput(out.toFile()).redirectError(err.toFile()).start();
    process.getOutputStream().close();
    boolean ended = process.waitFor(3, TimeUnit.MINUTES);
    if (!ended) {
      process.descendants().forEach(ProcessHandle::destroyForcibly);
      process.destroyForcibly();
    }
    String said = Files.readString(out) + Files.readString(err);
    assertTrue(ended, () -> "hangs: " + said);
    return new Ended(process.exitValue(), Files.readString(out), Files.readString(err));
  }

  private String[] train(Path out, String... more) throws IOException {
    Path text = folder.resolve("text.txt");
    Files.writeString(text, "The quick brown fox jumps over the lazy dog.\n".repeat(60));
    Path model = folder.resolve("model.json");
    Files.writeString(
        model, "{\"contextLength\": 16, \"layers\": 2, \"heads\": 2, \"channels\": 64}");
    List<String> args =
        new ArrayList<>(
            List.of(
                "train",
                "--data=" + text,
                "--tokenizer=chars",
                "--model=" + model,
                "--batch=2",
                "--accumulate=4",
                "--steps=6",
                "--eval-every=3",
                "--out=" + out));
    args.addAll(List.of(more));
    return args.toArray(String[]::new);
  }

  @ParameterizedTest
  @ValueSource(strings = {"openmpi", "mpich"})
  void processesGiveTheBitsOfOne(String kind) throws IOException, InterruptedException {
    Optional<String> launcher = launcher(kind);
    assumeTrue(launcher.isPresent(), () -> "no mpirun." + kind + " on the path");
    Path alone = folder.resolve("alone");
    Ended one = run(null, 1, train(alone));
    assertEquals(0, one.exit, one.err);
    Path many = folder.resolve("many");
    Ended two = run(launcher.get(), 2, train(many));
    assertEquals(0, two.exit, two.out + two.err);
    assertTrue(two.out.contains("Processes   2 by "), two.out);
    for (String name : List.of("model.safetensors", "optimizer.safetensors")) {
      Path file = Path.of("checkpoints", "step-00000006", name);
      assertEquals(-1, Files.mismatch(alone.resolve(file), many.resolve(file)), name);
    }
    assertEquals(-1, Files.mismatch(alone.resolve("samples.txt"), many.resolve("samples.txt")));
    Path other = Files.writeString(folder.resolve("other.txt"), "A lazy fox. ".repeat(40));
    String[] eval = {"eval", "--from=" + many, "--data=" + other, "--batch=2"};
    assertEquals(losses(run(null, 1, eval).out), losses(run(launcher.get(), 2, eval).out));
    Ended odd = run(launcher.get(), 3, train(folder.resolve("odd")));
    assertEquals(1, odd.exit, odd.out);
    String sentence = "A step of 4 passes cannot be dealt equally to 3 processes";
    assertTrue(odd.err.contains(sentence), odd.err);
    assertFalse(Files.exists(folder.resolve("odd")), "a run was begun");
    assertEquals(odd.err.indexOf(sentence), odd.err.lastIndexOf(sentence), odd.err);
  }

  private static List<String> losses(String out) {
    byte[] bytes = out.getBytes(StandardCharsets.UTF_8);
    assertTrue(bytes.length > 0);
    return out.lines().filter(line -> line.startsWith("loss ")).toList();
  }
}
