package dev.lanewise.core.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.core.base.Json;
import dev.lanewise.core.train.RunFolder;
import java.io.IOException;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.net.URISyntaxException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** From a folder of Hugging Face's to a tuned run and out again, by the command line. */
class FromWeightsTest {
  @TempDir private Path folder;
  private Path weights;
  private Path text;
  private Path run;
  private String home;
  private String out;
  private String err;

  @BeforeEach
  void write() throws IOException, URISyntaxException {
    home = System.getProperty("user.home");
    System.setProperty("user.home", folder.toString());
    weights = Path.of(FromWeightsTest.class.getResource("/fixtures/weights/untied-f32").toURI());
    text = folder.resolve("text.txt");
    run = folder.resolve("run");
    Files.writeString(text, "First Citizen: we are all resolved rather to die.\n".repeat(60));
  }

  @AfterEach
  void restore() {
    System.setProperty("user.home", home);
  }

  private int lanewise(Object... args) {
    StringWriter console = new StringWriter();
    StringWriter errors = new StringWriter();
    String[] texts = new String[args.length];
    for (int i = 0; i < args.length; i++) {
      texts[i] = String.valueOf(args[i]);
    }
    int exit = Main.run(Main.commands(), new PrintWriter(console), new PrintWriter(errors), texts);
    out = console.toString();
    err = errors.toString();
    return exit;
  }

  private int train(Object... more) {
    Object[] args = {
      "train",
      "--data",
      text,
      "--from",
      weights,
      "--out",
      run,
      "--device",
      "cpu",
      "--steps",
      4,
      "--batch",
      2
    };
    Object[] all = java.util.Arrays.copyOf(args, args.length + more.length);
    System.arraycopy(more, 0, all, args.length, more.length);
    return lanewise(all);
  }

  @Test
  void tunesExportsAndUses() throws IOException {
    assertEquals(0, train(), () -> err);
    assertTrue(out.contains("Weights     " + weights), out);
    assertFalse(out.contains("first loss") || err.contains("first loss"), out + err);
    RunFolder.Description description = new RunFolder(run).describe();
    assertFalse(description.model().tiedHead());
    assertEquals(48, description.training().context());
    assertEquals(1e-4, description.training().learningRate(), 1e-12);
    assertEquals(weights.toString(), description.from().get("path"));
    Map<?, ?> sums = (Map<?, ?>) description.from().get("sha256");
    assertEquals(64, sums.get("model.safetensors").toString().length());
    assertEquals("huggingface", new RunFolder(run).tokenizer().name());

    for (String form : List.of("hf", "gguf")) {
      Path exported = folder.resolve("model." + form);
      assertEquals(
          0, lanewise("export", "--from", run, "--to", form, "--out", exported), () -> err);
      assertEquals(1, lanewise("export", "--from", run, "--to", form, "--out", exported));
      String[] texts = new String[2];
      for (int i = 0; i < 2; i++) {
        Path from = i == 0 ? run : exported;
        assertEquals(
            0,
            lanewise(
                "generate", "--from", from, "--prompt", "First", "--greedy", "--max-tokens", 9),
            () -> err);
        texts[i] = out;
      }
      assertEquals(texts[0], texts[1]);
      assertEquals(0, lanewise("eval", "--from", exported, "--data", text), () -> err);
    }
  }

  @Test
  void correctionsAreTrainedResumedUsedAndTakenAnywhere() throws IOException {
    Object[] lora = {
      "--lora",
      2,
      "--lora-targets",
      "c_attn,c_fc",
      "--lora-dropout",
      0.1,
      "--lr",
      0.02,
      "--patience",
      9
    };
    assertEquals(0, train(lora), () -> err);
    RunFolder.Description description = new RunFolder(run).describe();
    assertEquals(2, description.training().lora().rank());
    assertEquals(4, description.training().lora().alpha());
    assertTrue(description.training().keepBest());

    assertEquals(
        0,
        lanewise("train", "--resume", "--out", run, "--steps", 8, "--device", "cpu", "--lora", 2),
        () -> err);
    for (Object[] other :
        new Object[][] {{"--lora", 3}, {"--freeze", "wte.*"}, {"--lora-targets", "c_fc"}}) {
      Object[] args = {"train", "--resume", "--out", run, "--steps", 9, other[0], other[1]};
      assertEquals(1, lanewise(args));
      assertTrue(err.contains(other[0].toString()), err);
    }

    Path adapter = folder.resolve("adapter");
    Path whole = folder.resolve("whole");
    assertEquals(0, lanewise("export", "--from", run, "--to", "peft", "--out", adapter), () -> err);
    assertEquals(0, lanewise("export", "--from", run, "--to", "hf", "--out", whole), () -> err);
    assertTrue(Files.size(adapter.resolve("adapter_model.safetensors")) < 20_000);
    List<String> said = new java.util.ArrayList<>();
    for (Path from : List.of(run, adapter, whole)) {
      assertEquals(
          0,
          lanewise("generate", "--from", from, "--prompt", "First", "--greedy", "--max-tokens", 9),
          () -> err);
      String text = out;
      assertEquals(
          0, lanewise("eval", "--from", from, "--data", this.text, "--batch", 2), () -> err);
      said.add(text + out.substring(out.indexOf("loss")));
    }
    assertEquals(said.get(0), said.get(1));
    assertEquals(said.get(0), said.get(2));
    assertEquals(0, lanewise("eval", "--from", weights, "--data", text, "--batch", 2), () -> err);
    assertFalse(said.get(0).endsWith(out.substring(out.indexOf("loss"))), "nothing was learnt");
    assertEquals(
        1, lanewise("export", "--from", whole, "--to", "peft", "--out", folder.resolve("x")));
    assertTrue(err.contains("--lora"), err);
    assertTrue(Files.notExists(folder.resolve("x")));
  }

  @Test
  void correctionsNeedWeightsAndTheirRank() {
    Object[] begin = {"train", "--data", text, "--out", run, "--device", "cpu", "--steps", 1};
    for (Object[] wrong : new Object[][] {{"--lora", 2}, {"--lora-alpha", 2}}) {
      Object[] all = java.util.Arrays.copyOf(begin, begin.length + 2);
      System.arraycopy(wrong, 0, all, begin.length, 2);
      assertEquals(2, lanewise(all));
      assertTrue(err.contains("--lora"), err);
      assertTrue(Files.notExists(run));
    }
    assertEquals(2, train("--freeze", "no.such.*"));
    assertTrue(err.contains("names no parameter"), err);
  }

  @Test
  void patienceEndsARunUntilItIsLifted() throws IOException {
    Object[] wild = {
      "train",
      "--data",
      text,
      "--from",
      weights,
      "--out",
      run,
      "--device",
      "cpu",
      "--batch",
      2,
      "--steps",
      40,
      "--eval-every",
      1,
      "--lr",
      1,
      "--min-lr",
      0.5,
      "--warmup",
      0,
      "--patience",
      2
    };
    assertEquals(0, lanewise(wild), () -> err);
    assertTrue(out.contains("no smaller loss in 2 validations"), out);
    int ended = steps();
    assertTrue(ended < 40, "ended after " + ended);
    assertEquals(0, lanewise("train", "--resume", "--out", run, "--device", "cpu"), () -> err);
    assertTrue(out.contains("no smaller loss in 2 validations"), out);
    assertEquals(ended, steps());
    Object[] on = {
      "train",
      "--resume",
      "--out",
      run,
      "--device",
      "cpu",
      "--patience",
      0,
      "--steps",
      ended + 2,
      "--min-lr",
      0.5
    };
    assertEquals(0, lanewise(on), () -> err);
    assertEquals(ended + 2, steps());
  }

  /** A run that ended before its first checkpoint begins again with the same weights. */
  @Test
  void begunAgainItHasTheSameWeights() throws IOException {
    assertEquals(0, train(), () -> err);
    List<String> before = losses();
    deleteTree(run.resolve("checkpoints"));
    assertEquals(0, lanewise("train", "--resume", "--out", run, "--device", "cpu"), () -> err);
    assertEquals(before, losses());

    deleteTree(run);
    Path copy = Files.createDirectory(folder.resolve("copy"));
    try (var files = Files.list(weights)) {
      for (Path file : files.toList()) {
        Files.copy(file, copy.resolve(file.getFileName()));
      }
    }
    weights = copy;
    assertEquals(0, train(), () -> err);
    deleteTree(run.resolve("checkpoints"));
    Path file = copy.resolve("model.safetensors");
    byte[] bytes = Files.readAllBytes(file);
    bytes[bytes.length - 1] ^= 1;
    Files.write(file, bytes);
    assertEquals(1, lanewise("train", "--resume", "--out", run, "--device", "cpu"));
    assertTrue(err.contains("checksum"), err);
  }

  private int steps() throws IOException {
    return (int) losses().stream().filter(loss -> !loss.equals("null")).count();
  }

  private List<String> losses() throws IOException {
    return Files.readAllLines(run.resolve("metrics.jsonl")).stream()
        .map(row -> String.valueOf(Json.parseObject(row, "row").get("loss")))
        .toList();
  }

  private static void deleteTree(Path path) throws IOException {
    try (var files = Files.walk(path)) {
      for (Path file : files.sorted(java.util.Comparator.reverseOrder()).toList()) {
        Files.delete(file);
      }
    }
  }

  @Test
  void whatTheWeightsBringIsNotAskedFor() {
    assertEquals(2, train("--model", "nano"));
    assertTrue(err.contains("leave --model out"), err);
    assertEquals(2, train("--tokenizer", "chars"));
    assertTrue(err.contains("leave --tokenizer out"), err);
    assertEquals(2, train("--context", 49));
    assertTrue(err.contains("from 1 to 48"), err);
    assertFalse(Files.exists(run));
  }

  @Test
  void ratesAreFoundForWeights() {
    Path to = folder.resolve("lr");
    assertEquals(
        0,
        lanewise(
            "lr-find",
            "--from",
            weights,
            "--data",
            text,
            "--points",
            12,
            "--batch",
            1,
            "--out",
            to,
            "--device",
            "cpu",
            "--lowest",
            1e-5,
            "--highest",
            1e-2),
        () -> err);
    assertTrue(Files.exists(to.resolve("lr-find.html")));
  }
}
