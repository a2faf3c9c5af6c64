package dev.lanewise.core.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.core.backend.CpuBackend;
import dev.lanewise.core.backend.FrozenWeights;
import dev.lanewise.core.data.Tokenizer;
import dev.lanewise.core.model.Gpt;
import dev.lanewise.core.tensor.Tape;
import dev.lanewise.core.train.RunFolder;
import java.io.IOException;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What the commands make of examples in JSON lines, and of documents that are kept apart. */
class ExamplesCommandsTest {
  @TempDir private Path folder;
  private Path examples;
  private Path model;
  private Path run;
  private String out;
  private String err;

  @BeforeEach
  void prepare() throws IOException {
    StringBuilder lines = new StringBuilder();
    for (int i = 0; i < 60; i++) {
      lines.append("{\"prompt\":\"").append(i).append("+1=\",\"completion\":\"").append(i + 1);
      lines.append("\"}\n{\"text\":\"Sum ").append(i * 7 % 10).append(".\"}\n");
    }
    examples = Files.writeString(folder.resolve("sums.jsonl"), lines);
    model =
        Files.writeString(
            folder.resolve("model.json"),
            "{\"contextLength\": 64, \"layers\": 2, \"heads\": 2, \"channels\": 16}");
    run = folder.resolve("run");
  }

  private int lanewise(Object... arguments) {
    StringWriter output = new StringWriter();
    StringWriter errors = new StringWriter();
    int code =
        Main.run(
            Main.commands(),
            new PrintWriter(output),
            new PrintWriter(errors),
            Arrays.stream(arguments).map(Object::toString).toArray(String[]::new));
    out = output.toString();
    err = errors.toString();
    return code;
  }

  private int train(Path to, int steps, Path data, String tokenizer, String... more) {
    Object[] args = {
      "train",
      "--data=" + data,
      "--tokenizer=" + tokenizer,
      "--model=" + model,
      "--out=" + to,
      "--device=cpu",
      "--batch=2",
      "--accumulate=2",
      "--schedule=constant",
      "--lr=0.01",
      "--warmup=0",
      "--steps=" + steps
    };
    return lanewise(Stream.concat(Arrays.stream(args), Arrays.stream(more)).toArray());
  }

  private static byte[] weights(Path run) throws IOException {
    return Files.readAllBytes(run.resolve("checkpoints/step-00000006/model.safetensors"));
  }

  @Test
  void isolatedRunsResumeToTheBitAndStayIsolated() throws IOException {
    Path other = folder.resolve("other");
    Path plain = folder.resolve("plain");
    String isolate = "--isolate-documents";
    assertEquals(0, train(run, 6, examples, "bpe:260", isolate), () -> err);
    assertEquals(0, train(other, 3, examples, "bpe:260", isolate), () -> err);
    assertEquals(0, train(plain, 6, examples, "bpe:260"), () -> err);
    assertTrue(new RunFolder(run).describe().training().isolateDocuments());
    assertFalse(new RunFolder(plain).describe().training().isolateDocuments());
    Object[] resume = {"train", "--resume", "--steps=6", "--device=cpu", "--out=" + other, isolate};
    assertEquals(0, lanewise(resume), () -> err);
    assertArrayEquals(weights(run), weights(other));
    assertFalse(Arrays.equals(weights(run), weights(plain)));

    resume[4] = "--out=" + plain;
    assertEquals(1, lanewise(resume));
    assertTrue(err.contains("cannot have another --isolate-documents;"), err);
  }

  @Test
  void documentsWithoutAnEndCannotBeKeptApart() throws IOException {
    Path text = Files.writeString(folder.resolve("text.txt"), "Nothing ends here. ".repeat(40));
    assertEquals(1, train(run, 2, text, "bytes", "--isolate-documents"));
    assertTrue(err.contains("leave --isolate-documents out"), err);
    assertTrue(Files.notExists(run));
    // Examples end where their lines end.
    assertEquals(0, train(run, 2, examples, "bytes", "--isolate-documents"), () -> err);
  }

  /** Nats and number of what is learnt of documents, each through the model by itself. */
  private static double[] score(Path run, List<int[]> documents, List<boolean[]> learnt) {
    TrainedModel trained = TrainedModel.find(run, warning -> {});
    int vocabulary = trained.tokenizer().vocabSize();
    double nats = 0;
    int count = 0;
    try (CpuBackend backend = new CpuBackend();
        Tape tape = new Tape(backend)) {
      Gpt gpt = trained.load(tape, FrozenWeights.EXACT);
      tape.setRecording(false);
      for (int i = 0; i < documents.size(); i++) {
        int[] ids = documents.get(i);
        tape.reset();
        float[] logits = gpt.forward(tape.stepIds(ids, 1, ids.length)).toArray();
        for (int t = 1; t < ids.length; t++) {
          if (learnt.get(i)[t]) {
            double sum = 0;
            for (int v = 0; v < vocabulary; v++) {
              sum += Math.exp(logits[(t - 1) * vocabulary + v]);
            }
            nats += Math.log(sum) - logits[(t - 1) * vocabulary + ids[t]];
            count++;
          }
        }
      }
    }
    return new double[] {nats / count, count};
  }

  @Test
  void answersAreScoredAlone() throws IOException {
    Path isolated = folder.resolve("isolated");
    assertEquals(0, train(run, 6, examples, "bpe:260"), () -> err);
    assertEquals(0, train(isolated, 6, examples, "bpe:260", "--isolate-documents"), () -> err);
    String[][] pairs = {{"3+1=", "4"}, {"", "Sum 5."}, {"10+1=", "11"}, {"7+1=", "8"}};
    StringBuilder lines = new StringBuilder();
    List<int[]> apart = new ArrayList<>();
    List<boolean[]> learntApart = new ArrayList<>();
    int bytes = 0;
    Tokenizer tokenizer = new RunFolder(run).tokenizer();
    for (String[] pair : pairs) {
      lines.append(
          pair[0].isEmpty()
              ? "{\"text\":\"" + pair[1] + "\"}\n"
              : "{\"prompt\":\"" + pair[0] + "\",\"completion\":\"" + pair[1] + "\"}\n");
      int prompt = tokenizer.encode(pair[0]).length;
      int[] ids =
          IntStream.concat(
                  IntStream.concat(
                      Arrays.stream(tokenizer.encode(pair[0])),
                      Arrays.stream(tokenizer.encode(pair[1]))),
                  IntStream.of(tokenizer.endOfText().orElseThrow()))
              .toArray();
      boolean[] learnt = new boolean[ids.length];
      Arrays.fill(learnt, prompt, ids.length, true);
      apart.add(ids);
      learntApart.add(learnt);
      bytes += pair[1].length();
    }
    int first = tokenizer.bytes(apart.get(1)[0]).length;
    int[] row = apart.stream().flatMapToInt(Arrays::stream).toArray();
    boolean[] learntRow = new boolean[row.length];
    int at = 0;
    for (boolean[] learnt : learntApart) {
      System.arraycopy(learnt, 0, learntRow, at, learnt.length);
      at += learnt.length;
    }
    assertTrue(row.length <= 64, "one window");
    Path asked = Files.writeString(folder.resolve("asked.jsonl"), lines);
    double together = check(run, asked, score(run, List.of(row), List.of(learntRow)), bytes);
    // The first token of the text that follows another is not learnt.
    double alone = check(isolated, asked, score(isolated, apart, learntApart), bytes - first);
    assertNotEquals(together, alone);
  }

  private double check(Path run, Path data, double[] expected, int bytes) {
    assertEquals(0, lanewise("eval", "--from", run, "--data", data, "--device=cpu"), () -> err);
    Matcher said =
        Pattern.compile("loss (\\S+), .* bits per byte, (\\d+) tokens, (\\d+) bytes").matcher(out);
    assertTrue(said.find(), out);
    assertEquals(expected[0], Double.parseDouble(said.group(1)), 1e-4);
    assertEquals(expected[1], Double.parseDouble(said.group(2)));
    assertEquals(bytes, Integer.parseInt(said.group(3)));
    return expected[0];
  }

  @Test
  void whereNothingIsToBePredictedItSaysSo() throws IOException {
    assertEquals(0, train(run, 2, examples, "bytes"), () -> err);
    Path single = Files.writeString(folder.resolve("one.jsonl"), "{\"text\":\"a\"}\n");
    assertEquals(1, lanewise("eval", "--from", run, "--data", single, "--device=cpu"));
    assertTrue(err.contains("There is nothing to predict in"), err);
  }

  @Test
  void ratesAreFoundForExamples() {
    Path to = folder.resolve("lr");
    Object[] args = {
      "lr-find",
      "--data=" + examples,
      "--tokenizer=bytes",
      "--model=" + model,
      "--device=cpu",
      "--batch=2",
      "--accumulate=2",
      "--points=12",
      "--out=" + to
    };
    assertEquals(0, lanewise(args), () -> err);
    assertTrue(Files.exists(to.resolve("lr-find.html")));
  }
}
