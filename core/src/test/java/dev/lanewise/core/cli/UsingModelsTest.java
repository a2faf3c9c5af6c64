package dev.lanewise.core.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.backend.CpuBackend;
import dev.lanewise.core.backend.FrozenWeights;
import dev.lanewise.core.data.Tokenizer;
import dev.lanewise.core.model.Gpt;
import dev.lanewise.core.tensor.Tape;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.PrintStream;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Random;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What the commands eval and generate make of a trained run. */
class UsingModelsTest {
  private static final int CONTEXT = 12;

  @TempDir private static Path folder;
  private static Path run;
  private static Path validation;
  private static String trained;
  private static Path rounded;
  private static String trainedRounded;

  private final StringWriter out = new StringWriter();
  private final StringWriter err = new StringWriter();

  /** A run with a shorter context than its model's, on text without line breaks. */
  @BeforeAll
  static void train() throws IOException {
    StringBuilder text = new StringBuilder();
    Random random = new Random(3);
    for (int i = 0; i < 600; i++) {
      text.append((char) ('a' + random.nextInt(20))).append(i % 7 == 0 ? " é" : "é");
    }
    Path file = folder.resolve("text.txt");
    Files.writeString(file, text);
    validation = folder.resolve("validation.txt");
    Files.writeString(validation, text.substring((int) (text.length() * (1 - 0.25))));
    Path model = folder.resolve("model.json");
    Files.writeString(
        model, "{\"contextLength\": 40, \"layers\": 1, \"heads\": 2, \"channels\": 16}");
    run = folder.resolve("run");
    trained = train(file, model, run, "auto");
    rounded = folder.resolve("rounded");
    trainedRounded = train(file, model, rounded, "bf16");
  }

  private static String train(Path file, Path model, Path run, String precision) {
    ByteArrayOutputStream progress = new ByteArrayOutputStream();
    PrintStream before = System.out;
    System.setOut(new PrintStream(progress, true, StandardCharsets.UTF_8));
    try {
      StringWriter printed = new StringWriter();
      int code =
          Main.run(
              Main.commands(),
              new PrintWriter(printed),
              new PrintWriter(printed),
              "train",
              "--device=cpu",
              "--precision=" + precision,
              "--data=" + file,
              "--tokenizer=chars",
              "--validation=0.25",
              "--model=" + model,
              "--context=" + CONTEXT,
              "--batch=3",
              "--steps=8",
              "--lr=0.01",
              "--prompt=é",
              "--out=" + run);
      assertEquals(0, code, printed.toString());
    } finally {
      System.setOut(before);
    }
    return progress.toString(StandardCharsets.UTF_8);
  }

  private int run(String... args) {
    return Main.run(Main.commands(), new PrintWriter(out), new PrintWriter(err), args);
  }

  private static String find(String pattern, String text) {
    Matcher matcher = Pattern.compile(pattern).matcher(text);
    assertTrue(matcher.find(), text);
    return matcher.group(1);
  }

  @Test
  void evalSaysWhatTrainingSaid() throws IOException {
    assertEquals(0, run("eval", "--from=" + run, "--data=" + validation), err.toString());
    String loss = find("Step 8: validation loss (\\S+),", trained);
    assertEquals(loss, find("loss (\\S+),", out.toString()));
    assertTrue(out.toString().contains("context " + CONTEXT + ","), out.toString());
    int bytes = Files.readString(validation).substring(1).getBytes(StandardCharsets.UTF_8).length;
    assertTrue(out.toString().contains(", " + bytes + " bytes"), out.toString());
    int tokens = Files.readString(validation).length() - 1;
    double bits = Double.parseDouble(loss) * tokens / Math.log(2) / bytes;
    assertEquals(
        bits, Double.parseDouble(find("(\\S+) bits per byte", out.toString())), 1e-4 * bits);
  }

  @Test
  void aRunIsUsedInThePrecisionThatItWasTrainedIn() throws IOException {
    String loss = find("Step 8: validation loss (\\S+),", trainedRounded);
    assertNotEquals(-1, Files.mismatch(run.resolve("metrics.csv"), rounded.resolve("metrics.csv")));
    assertEquals(0, run("eval", "--from=" + rounded, "--data=" + validation), err.toString());
    assertEquals(loss, find("loss (\\S+),", out.toString()));
    String[] asked = {"eval", "--from=" + rounded, "--data=" + validation, "--precision=tf32"};
    assertNotEquals(0, run(asked));
    assertTrue(err.toString().contains("A CPU has no tf32; choose"), err.toString());
  }

  @Test
  void weightsOfEightBitsAreUsedIfAskedFor() {
    String from = "--from=" + run;
    String loss = find("Step 8: validation loss (\\S+),", trained);
    String[] eval = {"eval", from, "--data=" + validation, "--weights=q8_0"};
    assertEquals(0, run(eval), err.toString());
    double exact = Double.parseDouble(loss);
    assertEquals(exact, Double.parseDouble(find("loss (\\S+),", out.toString())), 0.01 * exact);
    out.getBuffer().setLength(0);
    String[] generate = {"generate", from, "--prompt=a", "--max-tokens=3", "--weights=q8_0"};
    assertEquals(0, run(generate), err.toString());
    assertTrue(out.toString().startsWith("a"), out.toString());
    assertEquals(2, run("generate", from, "--prompt=a", "--weights=q4"));
    assertTrue(err.toString().contains("read as exact or q8_0, not as 'q4'"), err.toString());
  }

  /** The guide's windows, each through the model by itself, with the softmax in double. */
  @Test
  void stridesScoreEachTokenAsTheGuideDoes() throws IOException {
    TrainedModel trainedModel = TrainedModel.find(run, warning -> {});
    Tokenizer tokenizer = trainedModel.tokenizer();
    int[] ids = tokenizer.encode(Files.readString(validation));
    for (int[] choice : new int[][] {{CONTEXT, 5}, {CONTEXT, 1}, {30, 29}}) {
      int maxLength = choice[0];
      int stride = choice[1];
      double nats = 0;
      try (Backend backend = new CpuBackend();
          Tape tape = new Tape(backend)) {
        Gpt model = trainedModel.load(tape, FrozenWeights.EXACT);
        tape.setRecording(false);
        int before = 0;
        for (int begin = 0; before < ids.length; begin += stride) {
          int end = Math.min(begin + maxLength, ids.length);
          tape.reset();
          int[] window = java.util.Arrays.copyOfRange(ids, begin, end);
          float[] logits = model.forward(tape.stepIds(window, 1, window.length)).toArray();
          for (int target = Math.max(1, before); target < end; target++) {
            nats -= logProbability(logits, target - begin - 1, ids[target], tokenizer.vocabSize());
          }
          before = end;
        }
      }
      out.getBuffer().setLength(0);
      String context = "--context=" + maxLength;
      assertEquals(
          0, run("eval", "--from=" + run, "--data=" + validation, context, "--stride=" + stride));
      String expected = String.format(Locale.ROOT, "%.4f", nats / (ids.length - 1));
      assertEquals(
          Double.parseDouble(expected),
          Double.parseDouble(find("loss (\\S+),", out.toString())),
          1.01e-4);
    }
    assertTrue(err.toString().contains("trained with a context of " + CONTEXT), err.toString());
  }

  private static double logProbability(float[] logits, int row, int id, int vocabulary) {
    double sum = 0;
    for (int i = 0; i < vocabulary; i++) {
      sum += Math.exp(logits[row * vocabulary + i]);
    }
    return logits[row * vocabulary + id] - Math.log(sum);
  }

  @Test
  void severalTextsAreScoredEachAndTogether() throws IOException {
    Path one = Files.writeString(folder.resolve("one.txt"), "abé");
    Path single = Files.writeString(folder.resolve("single.txt"), "a");
    int code =
        run("eval", "--from=" + run, "--data", one.toString(), validation.toString(), single + "");
    assertEquals(0, code, err.toString());
    List<String> lines = out.toString().lines().toList();
    assertEquals(4, lines.size(), out.toString());
    double first = Double.parseDouble(find("loss (\\S+),", lines.get(1)));
    double second = Double.parseDouble(find("loss (\\S+),", lines.get(2)));
    int tokens = Files.readString(validation).length() - 1;
    double mean = (2 * first + tokens * second) / (2 + tokens);
    assertTrue(lines.get(3).startsWith("All: "), lines.get(3));
    assertEquals(mean, Double.parseDouble(find("loss (\\S+),", lines.get(3))), 1e-4);
    assertTrue(err.toString().contains(single + " is left out"), err.toString());
    assertEquals(1, run("eval", "--from=" + run, "--data=" + single));
  }

  @Test
  void tokensForTrainingAreNotTakenForThoseToEvaluate() throws IOException {
    Path tokens = Files.createDirectories(folder.resolve("tokens"));
    Files.write(tokens.resolve("train.bin"), new byte[20]);
    Files.write(tokens.resolve("val.bin"), new byte[20]);
    assertEquals(1, run("eval", "--from=" + run, "--data=" + tokens));
    assertTrue(err.toString().contains("val.bin"), err.toString());
    assertEquals(0, run("eval", "--from=" + run, "--data=" + tokens.resolve("val.bin")));
  }

  private String generated(String... more) {
    out.getBuffer().setLength(0);
    String[] args = new String[more.length + 2];
    args[0] = "generate";
    args[1] = "--from=" + run;
    System.arraycopy(more, 0, args, 2, more.length);
    assertEquals(0, run(args), err.toString());
    return out.toString();
  }

  @Test
  void samplesHaveSeedsOneAfterTheOther() {
    String three = generated("--prompt=aé", "--samples=3", "--seed=5", "--max-tokens=30");
    for (int i = 0; i < 3; i++) {
      String alone = generated("--prompt=aé", "--seed=" + (5 + i), "--max-tokens=30");
      String title =
          String.format(Locale.ROOT, "── sample %d of 3, seed %d ──%n%s", i + 1, 5 + i, alone);
      assertTrue(three.contains(title), three);
    }
    assertEquals(2, run("generate", "--from=" + run, "--greedy", "--samples=2"));
  }

  @Test
  void theTextEndsBeforeAStop() {
    String whole = generated("--prompt=a", "--max-tokens=60").strip();
    String stop = whole.substring(20, 23);
    int end = 1 + whole.substring(1).indexOf(stop);
    assertEquals(
        whole.substring(0, end),
        generated("--prompt=a", "--max-tokens=60", "--stop=\n", "--stop=" + stop).strip());
    assertEquals(2, run("generate", "--from=" + run, "--stop="));
  }

  @Test
  void thePromptComesFromAFileOrStandardInput() throws IOException {
    Path file = Files.writeString(folder.resolve("prompt.txt"), "abcé");
    String expected = generated("--prompt=abcé", "--greedy");
    assertEquals(expected, generated("--prompt-file=" + file, "--greedy"));
    InputStream before = System.in;
    System.setIn(new ByteArrayInputStream("abcé".getBytes(StandardCharsets.UTF_8)));
    try {
      assertEquals(expected, generated("--prompt-file=-", "--greedy"));
    } finally {
      System.setIn(before);
    }
    assertEquals(2, run("generate", "--from=" + run, "--prompt=a", "--prompt-file=" + file));
    Files.write(file, new byte[] {'a', 'b', (byte) 0xFF});
    assertEquals(1, run("generate", "--from=" + run, "--prompt-file=" + file));
    assertTrue(err.toString().contains("not valid UTF-8 at byte 2"), err.toString());
  }

  @Test
  void whatIsNotDoneAsAskedIsSaid() {
    generated("--prompt=" + "ab".repeat(20));
    assertTrue(err.toString().contains("40 tokens; the model looks back at the last 12"), "" + err);
    assertTrue(generated().startsWith(" "), out.toString());
    assertTrue(err.toString().contains("no line break, so the text begins with ' '"), "" + err);
    generated("--prompt=a", "--greedy", "--top-k=3", "--seed=1");
    assertTrue(err.toString().contains("whatever --top-k, --seed say."), err.toString());
    assertFalse(out.toString().contains("Model"), out.toString());
    assertTrue(err.toString().contains("run, step 8, context " + CONTEXT), err.toString());
  }

  @Test
  void aReaderThatHasSeenEnoughEndsAnEndlessText() {
    PrintWriter closing =
        new PrintWriter(out) {
          @Override
          public boolean checkError() {
            return UsingModelsTest.this.out.getBuffer().length() > 300;
          }
        };
    int code =
        Main.run(
            Main.commands(),
            closing,
            new PrintWriter(err),
            "generate",
            "--from=" + run,
            "--prompt=a",
            "--max-tokens=2147483647");
    assertEquals(0, code, err.toString());
    assertTrue(out.getBuffer().length() < 400);
  }

  @Test
  void modelsThatAreNoneAreNamed() throws IOException {
    Path checkpoint = run.resolve("checkpoints/step-00000008");
    assertEquals(0, run("generate", "--from=" + checkpoint, "--prompt=a"), err.toString());
    Path alone = Files.createDirectories(folder.resolve("a/b/alone"));
    for (String name : List.of("state.json", "model.safetensors", "optimizer.safetensors")) {
      Files.copy(checkpoint.resolve(name), alone.resolve(name));
    }
    assertEquals(1, run("generate", "--from=" + alone, "--prompt=a"));
    assertTrue(err.toString().contains("lies outside its run"), err.toString());
    assertEquals(1, run("generate", "--from=" + validation, "--prompt=a"));
    assertTrue(err.toString().contains("it looks like text"), err.toString());
    assertEquals(1, run("eval", "--from=" + folder.resolve("none"), "--data=" + validation));
    assertTrue(err.toString().contains("There is no "), err.toString());
    assertEquals(2, run("eval", "--from=" + run, "--data=" + validation, "--context=41"));
    assertEquals(2, run("eval", "--from=" + run, "--data=" + validation, "--stride=13"));
  }
}
