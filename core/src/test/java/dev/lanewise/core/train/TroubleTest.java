package dev.lanewise.core.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;

import dev.lanewise.core.base.InputException;
import dev.lanewise.core.model.GptConfig;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * A run that is killed before, or half-way through, each operation that changes something on the
 * disk, and one for which each of these operations fails. Taken up again, it must end with the bits
 * of an undisturbed run, with each row and each sample once.
 *
 * <p>{@code -Dlanewise.torture=all} takes every operation, instead of some.
 */
class TroubleTest {
  private static final boolean ALL = "all".equals(System.getProperty("lanewise.torture"));
  private static final int SOME = 10;
  private static final TrainConfig CONFIG = TinyRuns.config(6, 2, 3, true).withBatch(2, 2);

  @TempDir Path folder;
  private TinyRuns runs;
  private GptConfig model;
  private Path whole;

  @BeforeEach
  void begin() {
    runs = new TinyRuns(folder);
    model = runs.model(0.1);
    whole = folder.resolve("whole");
    runs.train(whole, model, CONFIG);
  }

  private void assertSameEnd(Path run, String what) throws IOException {
    for (String file : List.of("model.safetensors", "optimizer.safetensors")) {
      Path end = Path.of("checkpoints", "step-00000006", file);
      assertArrayEquals(
          Files.readAllBytes(whole.resolve(end)), Files.readAllBytes(run.resolve(end)), what);
    }
    assertEquals(TinyRuns.metrics(whole), TinyRuns.metrics(run), what);
    assertEquals(
        Files.readString(whole.resolve("samples.txt")),
        Files.readString(run.resolve("samples.txt")),
        what);
    try (Stream<Path> files = Files.walk(run)) {
      List<Path> left =
          files
              .filter(file -> file.getFileName().toString().startsWith("."))
              .filter(file -> !file.endsWith(".lock"))
              .toList();
      assertEquals(List.of(), left, what);
    }
  }

  private static void copyTree(Path from, Path to) throws IOException {
    try (Stream<Path> files = Files.walk(from)) {
      for (Path file : files.toList()) {
        Files.copy(file, to.resolve(from.relativize(file).toString()));
      }
    }
  }

  private static List<Integer> some(int count) {
    List<Integer> numbers = new ArrayList<>();
    for (int i = 0; i < count; i++) {
      numbers.add(i);
    }
    Collections.shuffle(numbers, new Random(count));
    return ALL ? numbers : numbers.subList(0, Math.min(SOME, count));
  }

  @Test
  void killedAnywhere() throws IOException {
    Path run = folder.resolve("run");
    List<Integer> some = some(operations());
    List<String> moments = new ArrayList<>();
    runs.train(
        new TroubledFiles(
                (operation, file) -> {
                  if (some.contains(moments.size())) {
                    Path killed = folder.resolve("killed" + moments.size());
                    if (Files.exists(run)) {
                      copyTree(run, killed);
                    } else {
                      Files.createDirectory(killed);
                    }
                  }
                  moments.add(operation + " " + folder.relativize(file));
                })
            .wrap(run),
        model,
        CONFIG);
    assertSameEnd(run, "undisturbed");
    assertTrue(moments.size() > 60, moments.toString());
    for (int moment : some) {
      Path killed = folder.resolve("killed" + moment);
      runs.train(killed, model, CONFIG);
      assertSameEnd(killed, "killed before: " + moments.get(moment));
    }
  }

  /** Counts operations and lets some fail. */
  private static final class Failing implements TroubledFiles.Trouble {
    private final int from;
    private final int to;
    private int count;
    private String failed = "nothing";

    Failing(int from, int to) {
      this.from = from;
      this.to = to;
    }

    @Override
    public void before(String operation, Path file) throws IOException {
      int number = count++;
      if (number >= from && number < to) {
        failed = operation + " " + file.getFileName();
        throw new IOException("No space left on device");
      }
    }
  }

  private int operations() {
    Failing count = new Failing(0, 0);
    runs.train(new TroubledFiles(count).wrap(folder.resolve("counted")), model, CONFIG);
    return count.count;
  }

  /** An operation fails once: the run goes on, or ends with a sentence and can be taken up. */
  @Test
  void failsOnceAnywhere() throws IOException {
    for (int moment : some(operations())) {
      Path run = folder.resolve("once" + moment);
      Failing failing = new Failing(moment, moment + 1);
      try {
        runs.train(new TroubledFiles(failing).wrap(run), model, CONFIG);
      } catch (InputException e) {
        assertSentence(e.getMessage());
      }
      finish(run, failing.failed);
    }
  }

  /** From an operation on nothing can be written: the run ends with a sentence and can go on. */
  @Test
  void fullFromAnywhere() throws IOException {
    int all = operations();
    for (int moment : some(all)) {
      Path run = folder.resolve("full" + moment);
      Failing failing = new Failing(moment, Integer.MAX_VALUE);
      try {
        TinyRuns.Heard heard = runs.train(new TroubledFiles(failing).wrap(run), model, CONFIG);
        // Folders that cannot be forced are as durable as their system makes them.
        boolean last = moment >= all - 2;
        assertTrue(last || !heard.warnings.isEmpty(), failing.failed);
        heard.warnings.forEach(TroubleTest::assertSentence);
      } catch (InputException e) {
        assertSentence(e.getMessage());
      } catch (RuntimeException e) {
        fail(failing.failed, e);
      }
      finish(run, "full since " + failing.failed);
    }
  }

  private void finish(Path run, String what) throws IOException {
    runs.train(run, model, CONFIG);
    assertEquals(6, Checkpoints.open(run.resolve("checkpoints/step-00000006")).step(), what);
    for (String file : List.of("model.safetensors", "optimizer.safetensors")) {
      Path end = Path.of("checkpoints", "step-00000006", file);
      assertArrayEquals(
          Files.readAllBytes(whole.resolve(end)), Files.readAllBytes(run.resolve(end)), what);
    }
  }

  private static void assertSentence(String text) {
    assertTrue(text.endsWith("."), text);
    assertFalse(text.contains("Exception"), text);
  }
}
