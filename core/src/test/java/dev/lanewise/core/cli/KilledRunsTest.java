package dev.lanewise.core.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.core.base.Json;
import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.DisabledOnOs;
import org.junit.jupiter.api.condition.EnabledIfSystemProperty;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;

/**
 * Training runs in processes of their own, killed without warning and taken up again until they are
 * done. They must end as if nothing had happened.
 *
 * <p>Only on demand: {@code -Dlanewise.kills=300} kills so often, {@code -Dlanewise.seed=2} at
 * other moments.
 */
@DisabledOnOs(OS.WINDOWS)
@EnabledIfSystemProperty(named = "lanewise.kills", matches = "\\d+")
class KilledRunsTest {
  private static final int KILLS = Integer.getInteger("lanewise.kills", 1);
  private static final int KILLS_OF_A_RUN = 8;
  private static final int STEPS = KILLS > 10 ? 100 : 24;

  @TempDir Path folder;
  private Path text;
  private Path model;
  private int starting;
  private final Random random = new Random(Long.getLong("lanewise.seed", 1));

  @BeforeEach
  void write() throws IOException {
    StringBuilder words = new StringBuilder();
    for (int i = 0; i < 2000; i++) {
      words.append("the ").append(i * 7919 % 1000).append(" of spades\n");
    }
    text = Files.writeString(folder.resolve("text.txt"), words);
    model =
        Files.writeString(
            folder.resolve("model.json"),
            Json.writePretty(Map.of("contextLength", 32, "layers", 2, "heads", 2, "channels", 32)));
  }

  /** A process that has ended. */
  private record Ended(int exit, String out, String err) {}

  private static List<String> java(String... more) {
    String path =
        System.getProperty("jdk.module.path", "")
            + File.pathSeparator
            + System.getProperty("java.class.path");
    List<String> command = new ArrayList<>();
    command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
    command.addAll(
        List.of(
            "--add-modules",
            "jdk.incubator.vector",
            "--enable-native-access=ALL-UNNAMED",
            "-XX:+UseSerialGC",
            "-Xshare:auto",
            "-cp",
            path,
            Main.class.getName()));
    command.addAll(Arrays.asList(more));
    return command;
  }

  private Process start(List<String> command) throws IOException {
    ProcessBuilder builder = new ProcessBuilder(command);
    builder.environment().put("XDG_CACHE_HOME", folder.resolve("cache").toString());
    builder.redirectOutput(folder.resolve("out.txt").toFile());
    builder.redirectError(folder.resolve("err.txt").toFile());
    return builder.start();
  }

  private Ended end(Process process) throws IOException, InterruptedException {
    assertTrue(process.waitFor(20, TimeUnit.MINUTES), "hangs");
    return new Ended(
        process.exitValue(),
        Files.readString(folder.resolve("out.txt")),
        Files.readString(folder.resolve("err.txt")));
  }

  private Ended run(String... arguments) throws IOException, InterruptedException {
    return end(start(java(arguments)));
  }

  private String[] begin(Path out, String[] kind) {
    return concat(
        new String[] {
          "train",
          "--data",
          text.toString(),
          "--tokenizer",
          "chars",
          "--model",
          model.toString(),
          "--steps",
          "" + STEPS,
          "--eval-every",
          "4",
          "--eval-batches",
          "2",
          "--checkpoint-every",
          "6",
          "--prompt",
          "the ",
          "--out",
          out.toString()
        },
        kind);
  }

  private static String[] concat(String[] one, String... other) {
    return Stream.concat(Arrays.stream(one), Arrays.stream(other)).toArray(String[]::new);
  }

  private static final String[][] KINDS = {
    {"--dropout", "0.1", "--batch", "2", "--accumulate", "3"},
    {"--dropout", "0.2", "--batch", "3", "--epochs", "--precision", "bf16"},
    {"--dropout", "0.1", "--batch", "8", "--memory", "LESS"},
    {"--batch", "4", "--accumulate", "2", "--epochs", "--schedule", "linear"}
  };

  /** A limit that makes a run compute activations again. */
  private String[] limited(String[] kind) throws IOException, InterruptedException {
    String[] copy = kind.clone();
    for (int i = 0; i < copy.length; i++) {
      if (copy[i].equals("LESS")) {
        String[] least = copy.clone();
        least[i] = "1M";
        String refusal = run(begin(folder.resolve("refused"), least)).err;
        double mebibytes =
            Double.parseDouble(refusal.replaceAll("(?s).* needs (\\d+) MiB.*", "$1"));
        copy[i] = String.format(Locale.ROOT, "%.1fM", mebibytes + 0.6);
      }
    }
    return copy;
  }

  private static List<String> rows(Path run) throws IOException {
    return Files.readAllLines(run.resolve("metrics.jsonl")).stream()
        .map(
            row ->
                row.replaceAll(",\"(tokensPerSecond|seconds|compiling|started|time)\":[^,}]*", ""))
        .toList();
  }

  private static void assertSameEnd(Path whole, Path run) throws IOException {
    Path end = Path.of("checkpoints", String.format(Locale.ROOT, "step-%08d", STEPS));
    for (String file : List.of("model.safetensors", "optimizer.safetensors")) {
      assertArrayEquals(
          Files.readAllBytes(whole.resolve(end).resolve(file)),
          Files.readAllBytes(run.resolve(end).resolve(file)),
          run + " " + file);
    }
    assertEquals(rows(whole), rows(run));
    assertEquals(
        Files.readString(whole.resolve("samples.txt")),
        Files.readString(run.resolve("samples.txt")));
  }

  @Test
  void killedAtRandomMoments() throws IOException, InterruptedException {
    int kills = 0;
    for (int round = 0; kills < KILLS; round++) {
      String[] kind = limited(KINDS[round % KINDS.length]);
      Path whole = folder.resolve("whole" + round);
      Ended undisturbed = run(begin(whole, kind));
      assertEquals(0, undisturbed.exit, undisturbed.err);
      Path run = folder.resolve("run" + round);
      int most = Math.min(KILLS, kills + KILLS_OF_A_RUN);
      while (true) {
        int threads = 1 + random.nextInt(4);
        boolean begun = Files.exists(run.resolve("config.json"));
        String[] arguments =
            begun
                ? new String[] {"train", "--resume", "--out", run.toString(), "--prompt", "the "}
                : begin(run, kind);
        Process process = start(java(concat(arguments, "--threads", "" + threads)));
        if (kills < most && killed(process, run)) {
          kills++;
          continue;
        }
        Ended ended = end(process);
        assertEquals(0, ended.exit, ended.err);
        assertFalse(ended.err.contains("damaged"), ended.err);
        break;
      }
      assertSameEnd(whole, run);
      System.out.printf(
          Locale.ROOT,
          "%s: %d kills so far, %d of them while the program starts%n",
          String.join(" ", kind),
          kills,
          starting);
    }
  }

  /** Kills a process at a random moment, mostly soon after it has written something. */
  private boolean killed(Process process, Path run) throws IOException, InterruptedException {
    boolean start = random.nextInt(8) == 0;
    long before = 0;
    while (!start && process.isAlive()) {
      // A run that is taken up first cuts off rows after its checkpoint, then it writes on.
      long now = rowBytes(run);
      if (now > before && before > 0) {
        break;
      }
      before = now;
      Thread.sleep(5);
    }
    if (process.waitFor(random.nextInt(1000), TimeUnit.MILLISECONDS)) {
      return false;
    }
    process.destroyForcibly();
    process.waitFor();
    starting += start ? 1 : 0;
    return true;
  }

  private static long rowBytes(Path run) throws IOException {
    Path metrics = run.resolve("metrics.jsonl");
    return Files.exists(metrics) ? Files.size(metrics) : 0;
  }
}
