package dev.lanewise.core.train;

import dev.lanewise.core.base.AtomicFile;
import dev.lanewise.core.base.Failures;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.Json;
import dev.lanewise.core.base.JsonFields;
import dev.lanewise.core.data.Tokenizer;
import dev.lanewise.core.data.Tokenizers;
import dev.lanewise.core.model.GptConfig;
import dev.lanewise.core.model.GptPresets;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/**
 * The folder of a run: {@code config.json}, {@code tokenizer.json}, {@code metrics.jsonl}, {@code
 * samples.txt}, {@code report.html} and {@code checkpoints/}.
 *
 * @param path where it is
 */
public record RunFolder(Path path) {

  /**
   * What a run is made from.
   *
   * @param model sizes of the model
   * @param training the run
   * @param data where the tokens come from: names and values for people and for resuming
   */
  public record Description(GptConfig model, TrainConfig training, Map<String, Object> data) {
    /** Where the tokens come from, as {@link RunData}. */
    public RunData source() {
      return RunData.fromFields(new JsonFields(data, "data"));
    }
  }

  /** The run's configuration. */
  public Path configFile() {
    return path.resolve("config.json");
  }

  /** One JSON object a step. */
  public Path metricsFile() {
    return path.resolve("metrics.jsonl");
  }

  /** Text that the model wrote on the way. */
  public Path samplesFile() {
    return path.resolve("samples.txt");
  }

  /** The page about the run. */
  public Path reportFile() {
    return path.resolve("report.html");
  }

  /** The run's checkpoints. */
  public Checkpoints checkpoints() {
    return new Checkpoints(path.resolve("checkpoints"));
  }

  /** Whether a run was begun here. */
  public boolean exists() {
    return Files.exists(configFile());
  }

  /**
   * Begins a run: makes the folder and writes what it is made from.
   *
   * @throws InputException if there is a run already or the folder cannot be written
   */
  public void begin(Description description, Tokenizer tokenizer) {
    if (exists()) {
      throw new InputException(
          String.format(
              Locale.ROOT,
              "%s holds a run already; continue it with --resume, or choose another --out.",
              path));
    }
    try {
      Files.createDirectories(path);
    } catch (IOException e) {
      throw new InputException(
          String.format(
              Locale.ROOT,
              "The folder %s cannot be made (%s); choose another --out.",
              path,
              Failures.describe(e)),
          e);
    }
    Tokenizers.save(tokenizer, path.resolve("tokenizer.json"));
    Map<String, Object> document = new LinkedHashMap<>();
    document.put("model", GptPresets.toMap(description.model()));
    document.put("training", description.training().toMap());
    document.put("data", description.data());
    AtomicFile.writeText(configFile(), Json.writePretty(document) + "\n");
  }

  /**
   * What the run is made from.
   *
   * @throws InputException if there is no run here or its configuration is damaged
   */
  public Description describe() {
    if (!exists()) {
      throw new InputException(
          String.format(Locale.ROOT, "There is no run in %s: it has no config.json.", path));
    }
    JsonFields fields =
        new JsonFields(
            Json.parseObject(read(configFile()), configFile().toString()), configFile().toString());
    return new Description(
        GptPresets.fromFields(fields.object("model")),
        TrainConfig.fromMap(fields.object("training").members(), configFile() + ", training"),
        fields.object("data").members());
  }

  /** The run's tokenizer. */
  public Tokenizer tokenizer() {
    return Tokenizers.load(path.resolve("tokenizer.json"));
  }

  private static String read(Path file) {
    try {
      return Files.readString(file);
    } catch (IOException e) {
      throw new InputException(
          String.format(Locale.ROOT, "%s cannot be read (%s).", file, Failures.describe(e)), e);
    }
  }

  /** Drops the metrics of steps after one, which a resumed run will write again. */
  void dropMetricsAfter(long step) {
    if (!Files.exists(metricsFile())) {
      return;
    }
    StringBuilder kept = new StringBuilder();
    List<String> lines = read(metricsFile()).lines().toList();
    for (int i = 0; i < lines.size(); i++) {
      String line = lines.get(i);
      boolean torn = i == lines.size() - 1 && !line.endsWith("}");
      if (line.isBlank() || torn) {
        continue;
      }
      Map<String, Object> row =
          Json.parseObject(line, String.format(Locale.ROOT, "%s, line %d", metricsFile(), i + 1));
      if (row.get("step") instanceof Long at && at <= step) {
        kept.append(line).append('\n');
      }
    }
    AtomicFile.writeText(metricsFile(), kept.toString());
  }

  /** Adds a sample to {@link #samplesFile}. */
  public void addSample(long step, String text) {
    String entry = String.format(Locale.ROOT, "── step %d ──%n%s%n%n", step, text);
    try {
      Files.writeString(
          samplesFile(),
          entry,
          StandardCharsets.UTF_8,
          StandardOpenOption.CREATE,
          StandardOpenOption.APPEND);
    } catch (IOException e) {
      throw new InputException(
          String.format(
              Locale.ROOT, "%s cannot be written (%s).", samplesFile(), Failures.describe(e)),
          e);
    }
  }
}
