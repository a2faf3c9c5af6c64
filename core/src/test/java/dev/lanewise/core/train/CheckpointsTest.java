package dev.lanewise.core.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.Json;
import dev.lanewise.core.model.GptConfig;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.DisabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/** What is done with checkpoints that are not what a run wrote, and with what it did not write. */
class CheckpointsTest {
  @TempDir Path folder;
  private TinyRuns runs;
  private GptConfig model;
  private Path run;
  private Path checkpoints;

  @BeforeEach
  void begin() {
    runs = new TinyRuns(folder);
    model = runs.model(0.1);
    run = folder.resolve("run");
    checkpoints = run.resolve("checkpoints");
  }

  /** Checkpoints at 4 and 8. */
  private static TrainConfig eight() {
    return TinyRuns.config(8, 2, 4, false);
  }

  private static TrainConfig twenty() {
    return TinyRuns.config(20, 2, 4, false);
  }

  private Path step(int number) {
    return checkpoints.resolve(String.format(java.util.Locale.ROOT, "step-%08d", number));
  }

  private List<String> names() throws IOException {
    try (Stream<Path> files = Files.list(checkpoints)) {
      return files.map(file -> file.getFileName().toString()).sorted().toList();
    }
  }

  private static void flip(Path file) throws IOException {
    byte[] bytes = Files.readAllBytes(file);
    bytes[bytes.length - 9] ^= 1;
    Files.write(file, bytes);
  }

  private static void copy(Path from, Path to) throws IOException {
    Files.createDirectory(to);
    try (Stream<Path> files = Files.list(from)) {
      for (Path file : files.toList()) {
        Files.copy(file, to.resolve(file.getFileName()));
      }
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"model.safetensors", "optimizer.safetensors", "state.json"})
  void aDamagedOneIsNamedAndKeptAndTheRunGoesOnFromTheOneBefore(String file) throws IOException {
    TinyRuns.Heard whole = runs.train(folder.resolve("whole"), model, twenty());
    runs.train(run, model, twenty(), 8);
    flip(step(8).resolve(file));
    byte[] damaged = Files.readAllBytes(step(8).resolve(file));
    TinyRuns.Heard resumed = runs.train(run, model, twenty());
    assertEquals(whole.losses.subList(4, 20), resumed.losses);
    String warning = resumed.warnings.getFirst();
    assertTrue(warning.contains("step-00000008") && warning.contains(file), warning);
    assertTrue(warning.contains("damaged-step-00000008"), warning);
    assertTrue(warning.contains("goes on from step 4"), warning);
    assertArrayEquals(
        damaged, Files.readAllBytes(checkpoints.resolve("damaged-step-00000008").resolve(file)));
    assertEquals(List.of("damaged-step-00000008", "step-00000016", "step-00000020"), names());
  }

  @Test
  void withoutAnyWholeOneARunDoesNotBeginAnew() throws IOException {
    runs.train(run, model, eight());
    flip(step(4).resolve("optimizer.safetensors"));
    Files.delete(step(8).resolve("model.safetensors"));
    byte[] metrics = Files.readAllBytes(run.resolve("metrics.jsonl"));
    List<String> before = names();
    String refusal =
        assertThrows(InputException.class, () -> runs.train(run, model, twenty())).getMessage();
    assertTrue(refusal.contains("step-00000004") && refusal.contains("step-00000008"), refusal);
    assertTrue(refusal.contains("optimizer.safetensors is not what was written"), refusal);
    assertEquals(before, names());
    assertArrayEquals(metrics, Files.readAllBytes(run.resolve("metrics.jsonl")));
  }

  @Test
  void aRunKilledBeforeItsFirstBeginsAgainAndSaysSo() throws IOException {
    TinyRuns.Heard first = runs.train(run, model, eight());
    TinyRuns.deleteTree(checkpoints);
    TinyRuns.Heard again = runs.train(run, model, eight());
    assertEquals(first.losses, again.losses);
    assertTrue(again.warnings.getFirst().contains("begins again at step 0"), again.warnings + "");
  }

  @Test
  void onlyWhatTheRunWroteIsRemoved() throws IOException {
    runs.train(run, model, eight());
    copy(step(4), checkpoints.resolve("step-00000004-best"));
    copy(step(4), checkpoints.resolve("step-4"));
    copy(step(4), step(3));
    copy(step(4), checkpoints.resolve("step-00000099-copy"));
    Files.writeString(checkpoints.resolve("step-notes.txt"), "mine");
    Files.createDirectory(checkpoints.resolve("step-00000001"));
    Files.writeString(step(1).resolve("notes.txt"), "mine");
    Files.writeString(step(8).resolve("notes.txt"), "mine");
    runs.train(run, model, twenty());
    assertEquals(
        List.of(
            "step-00000001",
            "step-00000003",
            "step-00000004-best",
            "step-00000008",
            "step-00000016",
            "step-00000020",
            "step-00000099-copy",
            "step-4",
            "step-notes.txt"),
        names());
    assertEquals("mine", Files.readString(step(1).resolve("notes.txt")));
    assertEquals("mine", Files.readString(step(8).resolve("notes.txt")));
  }

  @Test
  void whatStandsInTheWayIsKept() throws IOException {
    runs.train(run, model, eight());
    Files.createDirectory(step(12));
    Files.writeString(step(12).resolve("notes.txt"), "mine");
    TinyRuns.Heard heard = runs.train(run, model, TinyRuns.config(12, 2, 4, false));
    assertTrue(heard.warnings.getFirst().contains("step-00000012"), heard.warnings + "");
    assertEquals(
        "mine",
        Files.readString(checkpoints.resolve("damaged-step-00000012").resolve("notes.txt")));
    assertEquals(12, Checkpoints.open(step(12)).step());
  }

  @Test
  @DisabledOnOs(OS.WINDOWS)
  void aLinkIsNotFollowedToBeRemoved() throws IOException {
    runs.train(run, model, eight());
    Path elsewhere = folder.resolve("elsewhere");
    Files.move(step(8), elsewhere);
    Files.createSymbolicLink(step(8), elsewhere);
    TinyRuns.Heard heard = runs.train(run, model, twenty());
    assertEquals(12, heard.losses.size());
    assertEquals(8, Checkpoints.open(step(8)).step());
    assertTrue(Files.exists(elsewhere.resolve("model.safetensors")));
  }

  @Test
  void leftoversOfAKilledProcessAreRemoved() throws IOException {
    runs.train(run, model, eight());
    copy(step(8), checkpoints.resolve(".writing-step-00000012"));
    copy(step(4), checkpoints.resolve(".removing-step-00000002"));
    Path report = run.resolve(".report.html.0b0b1d3e-8a09-4a57-b8ee-28f0a6b8d6e7.tmp");
    Path notOurs = run.resolve(".report.html.notes.tmp");
    Files.writeString(report, "half");
    Files.writeString(notOurs, "mine");
    runs.train(run, model, twenty());
    assertEquals(List.of("step-00000016", "step-00000020"), names());
    assertFalse(Files.exists(report));
    assertTrue(Files.exists(notOurs));
  }

  @Test
  void theyAreOrderedByNumber() throws IOException {
    runs.train(run, model, eight());
    // As a locale of Arabic or Persian once named them; and one of nine digits.
    Files.move(
        step(4), checkpoints.resolve("step-\u06f0\u06f0\u06f0\u06f0\u06f0\u06f0\u06f0\u06f4"));
    Files.move(step(8), checkpoints.resolve("step-000000008"));
    Checkpoints.Checkpoint newest = new RunFolder(run).checkpoints().newest(w -> {}).orElseThrow();
    assertEquals(8, newest.step());
    TinyRuns.deleteTree(newest.path());
    assertEquals(4, new RunFolder(run).checkpoints().newest(w -> {}).orElseThrow().step());
  }

  /** Changes of a state that no checksum would notice, since the first format had none for it. */
  static Stream<Map<String, Object>> senseless() {
    return Stream.of(
        Map.of("step", 4_000_000_000_000L),
        Map.of("step", -5L),
        Map.of("batchPosition", 41L),
        Map.of("batchPosition", -1L),
        Map.of("optimizerSteps", 0L),
        Map.of("skipped", 3L),
        Map.of("skipped", -1L, "optimizerSteps", 9L),
        Map.of("seconds", -1.0),
        Map.of("seconds", "long"),
        Map.of("bestValidation", -2.0),
        Map.of("generator", "A"),
        Map.of("generator", "AAAA"),
        Map.of("generator", Base64.getEncoder().encodeToString(new byte[2528])));
  }

  @ParameterizedTest
  @MethodSource("senseless")
  void aStateThatMakesNoSenseIsNotBelieved(Map<String, Object> changes) throws IOException {
    runs.train(run, model, eight());
    toFirstFormat(step(4), Map.of());
    toFirstFormat(step(8), changes);
    TinyRuns.Heard heard = runs.train(run, model, TinyRuns.config(12, 2, 4, false));
    assertEquals(8, heard.losses.size());
    assertTrue(heard.warnings.getFirst().contains("step-00000008"), heard.warnings + "");
  }

  /** A run as the first format kept it goes on with the same bits. */
  @Test
  void oldRunsGoOn() throws IOException {
    TinyRuns.Heard whole = runs.train(folder.resolve("whole"), model, twenty());
    runs.train(run, model, twenty(), 8);
    TinyRuns.deleteTree(step(8));
    toFirstFormat(step(4), Map.of());
    Path config = run.resolve("config.json");
    Map<String, Object> document = Json.parseObject(Files.readString(config), "config");
    members(document, "training").remove("evalAll");
    Files.writeString(config, Json.writePretty(document));
    TrainConfig stored = new RunFolder(run).describe().training();
    TinyRuns.Heard resumed = runs.train(run, model, stored);
    assertEquals(whole.losses.subList(4, 20), resumed.losses);
    assertEquals(List.of(), resumed.warnings);
    assertEquals(TinyRuns.metrics(folder.resolve("whole")), TinyRuns.metrics(run));
    assertEquals(
        Files.readString(folder.resolve("whole/samples.txt")),
        Files.readString(run.resolve("samples.txt")));
  }

  @SuppressWarnings("unchecked")
  private static Map<String, Object> members(Map<String, Object> document, String name) {
    Map<String, Object> members = new LinkedHashMap<>((Map<String, Object>) document.get(name));
    document.put(name, members);
    return members;
  }

  private static void toFirstFormat(Path checkpoint, Map<String, Object> changes)
      throws IOException {
    Path file = checkpoint.resolve("state.json");
    Map<String, Object> document = Json.parseObject(Files.readString(file), "state");
    document.put("format", 1L);
    members(document, "crc32c").remove("state.json");
    Map<String, Object> state = members(document, "run");
    state.keySet().removeAll(List.of("batch", "skippedInARow", "validatedAt", "finished"));
    changes.forEach(
        (name, value) -> (name.equals("generator") ? document : state).put(name, value));
    Files.writeString(file, Json.writePretty(document) + "\n");
  }
}
