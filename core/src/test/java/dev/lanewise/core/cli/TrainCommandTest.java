package dev.lanewise.core.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.core.base.Json;
import dev.lanewise.core.base.JsonFields;
import dev.lanewise.core.model.GptConfig;
import dev.lanewise.core.model.GptPresets;
import dev.lanewise.core.train.DefaultJob;
import dev.lanewise.core.train.RunFolder;
import dev.lanewise.core.train.TrainConfig;
import dev.lanewise.simd.Workers;
import java.io.IOException;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.LocalDateTime;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import picocli.CommandLine;

/** Runs of a tiny model by the command line: begun, killed, taken up with other options. */
class TrainCommandTest {
  private static final int STEPS = 6;

  @TempDir Path folder;
  private Path text;
  private Path model;
  private Path run;
  private String home;
  private int threads;

  private record Result(int exit, String out, String err) {}

  @BeforeEach
  void write() throws IOException {
    home = System.getProperty("user.home");
    System.setProperty("user.home", folder.toString());
    threads = Workers.threads();
    text = folder.resolve("text.txt");
    model = folder.resolve("tiny.json");
    run = folder.resolve("run");
    Files.writeString(text, words(0));
    Files.writeString(model, "{\"contextLength\":8,\"layers\":2,\"heads\":2,\"channels\":16}");
  }

  @AfterEach
  void restore() {
    System.setProperty("user.home", home);
    Workers.setThreads(threads);
  }

  private static String words(int first) {
    StringBuilder words = new StringBuilder();
    for (int i = first; i < first + 300; i++) {
      words.append("the ").append(i * 7919 % 1000).append(" of spades\n");
    }
    return words.toString();
  }

  private static Result lanewise(Subcommand command, String... args) {
    StringWriter out = new StringWriter();
    StringWriter err = new StringWriter();
    int exit = Main.run(List.of(command), new PrintWriter(out), new PrintWriter(err), args);
    return new Result(exit, out.toString(), err.toString());
  }

  private static Result train(Path into, List<String> options) {
    List<String> args = new ArrayList<>(List.of("train", "--device", "cpu"));
    args.addAll(List.of("--out", into.toString()));
    args.addAll(options);
    return lanewise(new TrainCommand(), args.toArray(String[]::new));
  }

  private List<String> first(String... more) {
    List<String> options = new ArrayList<>();
    options.addAll(List.of("--data", text.toString(), "--tokenizer", "chars"));
    options.addAll(List.of("--model", model.toString(), "--steps", STEPS + "", "--batch", "4"));
    options.addAll(List.of("--checkpoint-every", "2", "--keep", "9", "--eval-batches", "1"));
    options.addAll(List.of("--warmup", "1", "--lr", "0.01"));
    options.addAll(List.of(more));
    return options;
  }

  private Result begin(String... more) {
    Result result = train(run, first(more));
    assertEquals(0, result.exit, result.err);
    return result;
  }

  private Result resume(String... options) {
    List<String> all = new ArrayList<>(List.of("--resume"));
    all.addAll(List.of(options));
    List<String> args = new ArrayList<>(List.of("train", "--out", run.toString()));
    args.addAll(all);
    return lanewise(new TrainCommand(), args.toArray(String[]::new));
  }

  private Result resumed(String... options) {
    Result result = resume(options);
    assertEquals(0, result.exit, result.err);
    return result;
  }

  /** As if the process had been killed after a checkpoint: later ones are not there. */
  private void killedAfter(int step) throws IOException {
    try (Stream<Path> all = Files.list(run.resolve("checkpoints"))) {
      for (Path checkpoint : all.toList()) {
        if (checkpoint.toString().compareTo(checkpoint(run, step).toString()) > 0) {
          delete(checkpoint);
        }
      }
    }
  }

  private static void delete(Path tree) throws IOException {
    try (Stream<Path> files = Files.walk(tree)) {
      for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
        Files.delete(file);
      }
    }
  }

  private static Path checkpoint(Path of, int step) {
    return of.resolve("checkpoints").resolve(String.format(Locale.ROOT, "step-%08d", step));
  }

  private byte[] weights(Path of, int step) throws IOException {
    return Files.readAllBytes(checkpoint(of, step).resolve("model.safetensors"));
  }

  private JsonFields config() throws IOException {
    String source = Files.readString(run.resolve("config.json"));
    return new JsonFields(Json.parseObject(source, "config.json"), "config.json");
  }

  private TrainConfig training() {
    return new RunFolder(run).describe().training();
  }

  private static Set<String> options(Subcommand command) {
    Set<String> names = new HashSet<>();
    CommandLine line = new CommandLine(command);
    line.getCommandSpec().options().forEach(option -> names.add(option.longestName()));
    return names;
  }

  // What may change
  // ----------------------------------------------------------------------------------------

  @Test
  void everyOptionEitherChangesARunOrIsKept() {
    Set<String> known = new HashSet<>(Resumption.CHANGING);
    known.addAll(Resumption.KEPT);
    Set<String> there = options(new TrainCommand());
    there.addAll(Set.of("--debug", "--help", "--version"));
    assertEquals(known, there);
    Set<String> both = new HashSet<>(Resumption.CHANGING);
    both.retainAll(Resumption.KEPT);
    assertEquals(Set.of(), both);
  }

  @ParameterizedTest
  @CsvSource({
    "--steps, 8, steps, steps 6 to 8",
    "--lr, 0.002, learningRate, lr 0.01 to 0.002",
    "--min-lr, 0.0005, minLearningRate, min-lr 0.001 to 0.0005",
    "--warmup, 3, warmup, warmup 1 to 3",
    "--schedule, linear, schedule, schedule cosine to linear",
    "--weight-decay, 0.2, weightDecay, weight-decay 0.1 to 0.2",
    "--beta2, 0.9, beta2, beta2 0.99 to 0.9",
    "--clip, 0.5, clip, clip 1 to 0.5",
    "--eval-every, 3, evalEvery, eval-every 1 to 3",
    "--eval-batches, 2, evalBatches, eval-batches 1 to 2",
    "--checkpoint-every, 1, checkpointEvery, checkpoint-every 2 to 1",
    "--keep, 3, keepCheckpoints, keep 9 to 3",
    "--prompt, of, prompt, prompt of",
    "--threads, 1, threads, threads 0 to 1",
    "--precision, fp32, precision, precision auto to fp32",
  })
  void whatMayChangeChangesIsToldAndStaysSo(String option, String value, String name, String told)
      throws IOException {
    begin();
    killedAfter(2);
    Object before = config().object("training").members().get(name);
    Result result = resumed(option, value);
    assertTrue(result.out.contains(told), result.out);
    assertTrue(result.out.contains("at step 2"), result.out);
    Object now = config().object("training").members().get(name);
    assertEquals(value, String.valueOf(now).replace("5.0E-4", "0.0005"));
    assertNotEquals(before, now);
    // Interrupted again, and taken up without the option.
    killedAfter(4);
    byte[] end = Files.readAllBytes(run.resolve("config.json"));
    result = resumed();
    assertFalse(result.out.contains("Changed"), result.out);
    assertArrayEquals(end, Files.readAllBytes(run.resolve("config.json")));
    assertEquals(training().steps(), lastStep());
    // What it is already is no change.
    assertFalse(resumed(option, value).out.contains("Changed"));
  }

  private long lastStep() throws IOException {
    List<String> rows = Files.readAllLines(run.resolve("metrics.jsonl"));
    return new JsonFields(Json.parseObject(rows.getLast(), "row"), "row").integer("step");
  }

  @Test
  void evalAllMayBeAskedForLater() throws IOException {
    begin();
    killedAfter(2);
    assertTrue(resumed("--eval-all").out.contains("eval-all false to true"));
    assertTrue(config().object("training").flag("evalAll"));
  }

  @Test
  void anotherRateIsTrainedWith() throws IOException {
    begin();
    killedAfter(2);
    resumed("--lr", "0.002");
    List<String> rows =
        Files.readAllLines(run.resolve("metrics.jsonl")).stream()
            .filter(row -> row.contains("\"lr\""))
            .toList();
    assertEquals(STEPS, rows.size());
    List<Double> rates = new ArrayList<>();
    rows.forEach(row -> rates.add(new JsonFields(Json.parseObject(row, ""), "").number("lr")));
    assertEquals(0.01, rates.get(1), 1e-9);
    assertTrue(rates.get(2) < 0.002 && rates.get(2) > 0.001, rates.toString());
    // The end was a tenth of the peak, and is.
    assertEquals(0.0002, rates.getLast(), 1e-12);
    assertEquals(2e-4, training().minLearningRate(), 1e-12);
  }

  @Test
  void interruptedTwiceWithMoreStepsOnceIsTheLongerRun() throws IOException {
    begin("--dropout", "0.1");
    killedAfter(2);
    resumed("--steps", "10");
    killedAfter(4);
    assertTrue(resumed().out.contains("10 steps"));
    assertEquals(10, lastStep());
    // As a run that was told so from the moment of the first resume on.
    byte[] weights = weights(run, 10);
    killedAfter(2);
    resumed();
    assertArrayEquals(weights, weights(run, 10));
  }

  @Test
  void aFinishedRunSaysWhatToDoAndIsLeftAlone() throws IOException {
    begin();
    byte[] samples = Files.readAllBytes(run.resolve("samples.txt"));
    byte[] config = Files.readAllBytes(run.resolve("config.json"));
    for (String[] options : new String[][] {{}, {"--lr", "0.1"}, {"--steps", "6"}}) {
      Result result = resumed(options);
      assertTrue(result.out.contains("is finished, with all of its 6 steps"), result.out);
      assertTrue(result.out.contains("--resume --out " + run + " --steps 12"), result.out);
    }
    assertArrayEquals(samples, Files.readAllBytes(run.resolve("samples.txt")));
    assertArrayEquals(config, Files.readAllBytes(run.resolve("config.json")));
    Result back = resume("--steps", "3");
    assertEquals(1, back.exit);
    assertTrue(back.err.contains("at step 6 already"), back.err);
    assertArrayEquals(config, Files.readAllBytes(run.resolve("config.json")));
  }

  @Test
  void extendingAFinishedCosineSaysHowTheRateGoes() {
    begin();
    String out = resumed("--steps", "12").out;
    assertTrue(out.contains("Rate        0.001 in step 6, "), out);
    assertTrue(out.contains("0.001 in step 12 (cosine over all steps)"), out);
    assertTrue(out.contains("; --schedule constant --lr 0.001 would stay"), out);
    out = resumed("--steps", "14", "--schedule", "constant", "--lr", "0.001").out;
    assertTrue(out.contains("0.001 in step 12, 0.001 in step 13, 0.001 in step 14"), out);
    assertFalse(out.contains("would stay"), out);
  }

  @Test
  void lessMemoryKeepsTheBitsWhereItCan() throws IOException {
    // Half a batch at a time saves more than blocks computed again; here they do.
    begin();
    byte[] whole = weights(run, STEPS);
    killedAfter(2);
    long batch = training().batch();
    String plenty = resumed("--memory", "2G").out;
    assertFalse(plenty.contains("Changed"), plenty);
    assertArrayEquals(whole, weights(run, STEPS));
    assertEquals(batch, training().batch());
    killedAfter(2);
    Result none = resume("--memory", "1M");
    assertEquals(1, none.exit);
    assertTrue(none.err.contains("--memory"), none.err);
  }

  // What is kept
  // ----------------------------------------------------------------------------------------

  @ParameterizedTest
  @CsvSource({
    "--include, *.md",
    "--exclude, *.md",
    "--tokenizer, bytes",
    "--validation, 0.2",
    "--model, nano",
    "--dropout, 0.3",
    "--batch, 8",
    "--context, 4",
    "--accumulate, 2",
    "--seed, 7",
    "--epochs,",
    "--overfit,",
  })
  void whatIsKeptIsRefusedByName(String option, String value) throws IOException {
    begin();
    killedAfter(2);
    byte[] config = Files.readAllBytes(run.resolve("config.json"));
    Result result = value == null ? resume(option) : resume(option, value);
    assertEquals(1, result.exit);
    assertTrue(result.err.contains("another " + option), result.err);
    assertEquals(1, result.err.lines().count(), result.err);
    assertArrayEquals(config, Files.readAllBytes(run.resolve("config.json")));
    assertFalse(Files.exists(checkpoint(run, 4)));
  }

  @Test
  void severalThatAreKeptAreAllNamed() {
    begin();
    String err = resume("--seed", "7", "--batch", "8", "--steps", "9").err;
    assertTrue(err.contains("--batch (4, not 8), --seed (1337, not 7); leave these out"), err);
  }

  @Test
  void theSameCommandAgainIsFine() throws IOException {
    begin("--dropout", "0.1", "--epochs", "--context", "12", "--seed", "3", "--accumulate", "2");
    byte[] whole = weights(run, STEPS);
    killedAfter(2);
    List<String> again =
        first(
            "--dropout", "0.1", "--epochs", "--context", "12", "--seed", "3", "--accumulate", "2");
    again.add("--resume");
    Result result = train(run, again);
    assertEquals(0, result.exit, result.err);
    assertFalse(result.out.contains("Changed"), result.out);
    assertArrayEquals(whole, weights(run, STEPS));
  }

  @Test
  void batchesThatMemoryCutAreStillThoseAskedFor() throws IOException {
    begin();
    // As --memory would have cut them.
    String source = Files.readString(run.resolve("config.json"));
    source = source.replaceFirst("\"batch\" : 4", "\"batch\" : 2");
    source = source.replaceFirst("\"accumulate\" : 1", "\"accumulate\" : 2");
    source = source.replaceFirst("\"memoryPasses\" : 1", "\"memoryPasses\" : 2");
    Files.writeString(run.resolve("config.json"), source);
    killedAfter(2);
    assertEquals(1, resume("--batch", "2").exit);
    resumed("--batch", "4", "--accumulate", "1");
    assertEquals(STEPS, lastStep());
  }

  // Data
  // ----------------------------------------------------------------------------------------

  @Test
  void changedDataAreNoticed() throws IOException {
    begin();
    killedAfter(2);
    String before = Files.readString(text);
    Files.writeString(text, before + "the 5 of spades\n");
    Result longer = resume();
    assertEquals(1, longer.exit);
    assertTrue(longer.err.contains("tokens to train on and"), longer.err);
    Files.writeString(text, before.replaceFirst("the 0 of", "the 1 of"));
    Result other = resume();
    assertEquals(1, other.exit);
    assertTrue(other.err.contains("as many tokens as then"), other.err);
    Files.writeString(text, before.replaceFirst("spades", "späde"));
    Result strange = resume();
    assertEquals(1, strange.exit);
    assertTrue(strange.err.contains("cannot be read again as they were"), strange.err);
    assertFalse(Files.exists(checkpoint(run, 4)));
    Files.writeString(text, before);
    resumed();
  }

  @Test
  void movedDataAreFoundByName() throws IOException {
    begin();
    byte[] whole = weights(run, STEPS);
    killedAfter(2);
    Path moved = Files.move(text, folder.resolve("moved.txt"));
    Result lost = resume();
    assertEquals(1, lost.exit);
    assertTrue(lost.err.contains(text.toString()) && lost.err.contains("--data"), lost.err);
    assertTrue(resumed("--data", moved.toString()).out.contains("the place of the data"));
    assertArrayEquals(whole, weights(run, STEPS));
    killedAfter(2);
    resumed();
    Path other = Files.writeString(folder.resolve("other.txt"), words(1));
    Result refused = resume("--data", other.toString(), "--steps", "9");
    assertEquals(1, refused.exit);
    assertTrue(refused.err.contains("other --data"), refused.err);
  }

  @Test
  void runsOfEarlierVersionsAreTakenUpAndNoteTheirDataThen() throws IOException {
    begin();
    killedAfter(2);
    String source = Files.readString(run.resolve("config.json"));
    for (String unknown :
        List.of(
            "trainTokens",
            "validationTokens",
            "crc32c",
            "memoryPasses",
            "pretrained",
            "device",
            "precision",
            "threads",
            "evalAll")) {
      source = source.replaceFirst(",\\s*\"" + unknown + "\" : [^,\n]*", "");
    }
    source = source.replaceFirst("\"steps\"", "\"aKeyOfTheFuture\" : [ 1 ], \"steps\"");
    Files.writeString(run.resolve("config.json"), source);
    Path copy = Files.copy(text, folder.resolve("copy.txt"));
    assertEquals(1, resume("--data", copy.toString()).exit);
    resumed();
    assertEquals(8, config().object("data").text("crc32c").length());
    killedAfter(2);
    resumed("--data", copy.toString());
  }

  // Before the first step
  // ----------------------------------------------------------------------------------------

  @Test
  void aPromptThatCannotBeWrittenIsRefusedAtTheDoor() throws IOException {
    for (String prompt : List.of("Ω", "")) {
      Result result = train(run, first("--prompt", prompt));
      assertEquals(1, result.exit);
      assertTrue(result.err.contains("--prompt"), result.err);
      assertFalse(Files.exists(run), "nothing was begun");
    }
    begin("--prompt", "of");
    killedAfter(2);
    Result result = resume("--prompt", "Ω");
    assertEquals(1, result.exit);
    assertTrue(result.err.contains("Ω"), result.err);
    Files.delete(run.resolve("samples.txt"));
    resumed();
    assertTrue(Files.readString(run.resolve("samples.txt")).contains("──\nof"), "as it began");
  }

  @Test
  void aTextWithoutLineBreaksHasItsOwnBeginning() throws IOException {
    Files.writeString(text, words(0).replace("\n", " "));
    String out = begin("--eval-every", "2").out;
    assertTrue(out.contains("Samples     begin with \"t\""), out);
    assertTrue(Files.readString(run.resolve("samples.txt")).contains("──\nt"));
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "--warmup 6",
        "--warmup 700",
        "--min-lr 0.1",
        "--schedule constant --min-lr 0.001",
        "--schedule steep",
        "--lr 0",
        "--lr NaN",
        "--lr 1e400",
        "--min-lr -1",
        "--clip NaN",
        "--beta2 1",
        "--weight-decay -1",
        "--dropout 1",
        "--keep 0",
        "--steps 0",
        "--threads 0",
        "--precision fp8",
        "--device tpu",
        "--context 100000",
        "--memory 3",
        "--memory 1M",
        "--validation 1",
        "--batch 0"
      })
  void whatMakesNoSenseIsOneSentenceAndBeginsNothing(String options) {
    Result result = train(run, first(options.split(" ")));
    assertNotEquals(0, result.exit);
    assertTrue(result.err.lines().count() <= 2 && !result.err.contains("Unexpected"), result.err);
    assertFalse(Files.exists(run), "nothing was begun");
  }

  @Test
  void whatMakesNoSenseIsRefusedOnResumeToo() throws IOException {
    begin();
    killedAfter(2);
    byte[] config = Files.readAllBytes(run.resolve("config.json"));
    for (String options :
        List.of(
            "--warmup 6",
            "--min-lr 0.1",
            "--schedule constant --min-lr 0.001",
            "--steps 1",
            "--clip NaN",
            "--keep 0",
            "--device tpu",
            "--threads 0")) {
      List<String> given = new ArrayList<>(List.of("--resume"));
      given.addAll(Arrays.asList(options.split(" ")));
      Result result = resume(given.toArray(String[]::new));
      assertNotEquals(0, result.exit, options);
      assertTrue(result.err.lines().count() <= 2 && !result.err.contains("Unexpected"), result.err);
      assertArrayEquals(config, Files.readAllBytes(run.resolve("config.json")), options);
    }
  }

  @Test
  void runsOfOneSecondHaveFoldersOfTheirOwn() {
    LocalDateTime time = LocalDateTime.of(2026, 1, 2, 3, 4, 5);
    Path runs = folder.resolve("runs");
    List<String> names =
        Stream.generate(() -> RunFolder.claim(runs, time).path().getFileName().toString())
            .limit(3)
            .toList();
    assertEquals(List.of("20260102-030405", "20260102-030405-2", "20260102-030405-3"), names);
  }

  // Help
  // ----------------------------------------------------------------------------------------

  private static String help(Subcommand command, String name) {
    return lanewise(command, name, "--help").out.replaceAll("\\s+", " ");
  }

  @Test
  void helpShowsDefaultsAndSizes() {
    String help = help(new TrainCommand(), "train");
    for (String name : GptPresets.names()) {
      GptConfig preset = GptPresets.of(name);
      String sizes =
          String.format(
              Locale.ROOT,
              "%s (%d of %d, %d)",
              name,
              preset.layers(),
              preset.channels(),
              preset.contextLength());
      String words =
          String.format(
              Locale.ROOT,
              "%s (%d layers of %d channels, context %d)",
              name,
              preset.layers(),
              preset.channels(),
              preset.contextLength());
      assertTrue(help.contains(sizes) || help.contains(words), name + " in " + help);
    }
    TrainConfig small = DefaultJob.training(DefaultJob.MODEL);
    TrainConfig large = DefaultJob.training(GptPresets.of("gpt2"));
    Map<String, String> defaults =
        Map.of(
            "steps", small.steps() + ", or " + large.steps(),
            "batch", small.batch() + ", or " + large.batch(),
            "lr", "1e-3, or 6e-4",
            "beta2", small.beta2() + ", or " + large.beta2(),
            "model",
                String.format(
                    Locale.ROOT,
                    "%d layers of %d channels, context %d.",
                    DefaultJob.MODEL.layers(),
                    DefaultJob.MODEL.channels(),
                    DefaultJob.MODEL.contextLength()));
    defaults.forEach(
        (name, value) -> assertTrue(help.contains("Default: " + value), name + " in " + help));
    assertEquals(1e-3, small.learningRate());
    assertEquals(6e-4, large.learningRate());
    assertEquals(0.1, small.weightDecay());
    assertEquals(20, small.evalBatches());
    assertEquals(2, small.keepCheckpoints());
    assertEquals(1337, small.seed());
  }

  @Test
  void theRangeTestTakesWhatMattersToIt() {
    Set<String> options = options(new LrFindCommand());
    for (String option :
        List.of("--data", "--model", "--batch", "--accumulate", "--clip", "--from", "--points")) {
      assertTrue(options.contains(option), option);
    }
    for (String option :
        List.of("--steps", "--lr", "--schedule", "--eval-every", "--keep", "--epochs")) {
      assertFalse(options.contains(option), option);
    }
  }

  private List<?> rangeTest(String... options) throws IOException {
    Path into = folder.resolve("lr");
    List<String> args = new ArrayList<>(List.of("lr-find", "--out", into.toString()));
    args.addAll(List.of("--device", "cpu", "--points", "12", "--highest", "0.1"));
    args.addAll(List.of("--data", text.toString(), "--tokenizer", "chars"));
    args.addAll(List.of("--model", model.toString()));
    args.addAll(List.of(options));
    Result result = lanewise(new LrFindCommand(), args.toArray(String[]::new));
    assertEquals(0, result.exit, result.err);
    String found = Files.readString(into.resolve("lr-find.json"));
    return (List<?>) Json.parseObject(found, "lr-find.json").get("losses");
  }

  @Test
  void theRangeTestSumsPassesAsTrainingDoes() throws IOException {
    List<?> whole = rangeTest("--batch", "6");
    List<?> passes = rangeTest("--batch", "2", "--accumulate", "3");
    List<?> part = rangeTest("--batch", "2");
    assertEquals(12, whole.size());
    double difference = 0;
    for (int i = 0; i < 12; i++) {
      assertEquals((Double) whole.get(i), (Double) passes.get(i), 1e-4);
      difference += Math.abs((Double) whole.get(i) - (Double) part.get(i));
    }
    assertTrue(difference > 0.01, "a smaller batch is another one");
  }
}
