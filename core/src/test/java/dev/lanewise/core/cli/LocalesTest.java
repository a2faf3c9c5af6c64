package dev.lanewise.core.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.core.base.Json;
import java.io.IOException;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Commands under default locales whose digits, decimal points or capitals are others. */
class LocalesTest {
  private final Locale before = Locale.getDefault();
  private final String home = System.getProperty("user.home");
  @TempDir Path folder;

  @BeforeEach
  void move() {
    System.setProperty("user.home", folder.toString());
  }

  @AfterEach
  void restore() {
    System.setProperty("user.home", home);
    Locale.setDefault(before);
  }

  private String run(String... arguments) {
    StringWriter out = new StringWriter();
    StringWriter err = new StringWriter();
    List<Subcommand> commands =
        List.of(new TrainCommand(), new GenerateCommand(), new EvalCommand());
    int exit = Main.run(commands, new PrintWriter(out), new PrintWriter(err), arguments);
    assertEquals(0, exit, err.toString());
    return out.toString();
  }

  private static List<String> names(Path of) throws IOException {
    try (Stream<Path> files = Files.list(of)) {
      return files.map(file -> file.getFileName().toString()).sorted().toList();
    }
  }

  /** The same run, taken up, evaluated and let write, under each locale. */
  @Test
  void filesAndNumbersAreTheSame() throws IOException {
    Path text = Files.writeString(folder.resolve("text.txt"), "to be, or not to be\n".repeat(200));
    Path model =
        Files.writeString(
            folder.resolve("model.json"),
            Json.write(Map.of("contextLength", 16, "layers", 1, "heads", 2, "channels", 16)));
    byte[] expected = null;
    String evaluation = null;
    String written = null;
    for (String tag : new String[] {"en", "ar-EG-u-nu-arab", "fa-u-nu-arabext", "de"}) {
      Locale.setDefault(Locale.forLanguageTag(tag));
      Path run = folder.resolve("run-" + tag);
      run(
          "train",
          "--data",
          text.toString(),
          "--tokenizer",
          "chars",
          "--model",
          model.toString(),
          "--steps",
          "9",
          "--batch",
          "2",
          "--eval-every",
          "3",
          "--checkpoint-every",
          "3",
          "--lr",
          "3e-3",
          "--dropout",
          "0.1",
          "--prompt",
          "to be",
          "--out",
          run.toString());
      run("train", "--resume", "--out", run.toString(), "--prompt", "to be", "--steps", "12");
      assertEquals(List.of("step-00000009", "step-00000012"), names(run.resolve("checkpoints")));
      for (String file : new String[] {"config.json", "metrics.jsonl", "report.html"}) {
        String content = Files.readString(run.resolve(file));
        assertFalse(content.codePoints().anyMatch(c -> c > 127 && Character.isDigit(c)), file);
      }
      byte[] parameters =
          Files.readAllBytes(run.resolve("checkpoints/step-00000012/model.safetensors"));
      String loss = run("eval", "--from", run.toString(), "--data", text.toString());
      String sample = run("generate", "--from", run.toString(), "--prompt", "to be");
      if (expected == null) {
        expected = parameters;
        evaluation = loss;
        written = sample;
      }
      assertArrayEquals(expected, parameters, tag);
      assertEquals(evaluation.replace("run-en", ""), loss.replace("run-" + tag, ""), tag);
      assertEquals(written, sample, tag);
      assertTrue(loss.contains("loss"), loss);
    }
  }
}
