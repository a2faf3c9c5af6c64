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
import java.io.Closeable;
import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.channels.OverlappingFileLockException;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.LocalDateTime;
import java.time.format.DateTimeFormatter;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;
import java.util.stream.Stream;

/**
 * The folder of a run: {@code config.json}, {@code tokenizer.json}, {@code metrics.jsonl}, {@code
 * samples.txt}, {@code report.html} and {@code checkpoints/}.
 *
 * @param path where it is
 */
public record RunFolder(Path path) {
  private static final String CHECKPOINTS = "checkpoints";
  private static final String TOKENIZER = "tokenizer.json";

  /**
   * What a run is made from.
   *
   * @param model sizes of the model
   * @param training the run
   * @param data where the tokens come from: names and values for people and for resuming
   * @param from where the weights came from that it began with: names and values; empty if they
   *     were drawn at random
   */
  public record Description(
      GptConfig model, TrainConfig training, Map<String, Object> data, Map<String, Object> from) {
    /** A run that begins with random weights. */
    public Description(GptConfig model, TrainConfig training, Map<String, Object> data) {
      this(model, training, data, Map.of());
    }

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

  /** The same numbers as a table, written with the report. */
  public Path csvFile() {
    return path.resolve("metrics.csv");
  }

  /** Files of events for TensorBoard. */
  public Path eventsFolder() {
    return path.resolve("tensorboard");
  }

  /** The page about the run. */
  public Path reportFile() {
    return path.resolve("report.html");
  }

  /** The run's checkpoints. */
  public Checkpoints checkpoints() {
    return new Checkpoints(path.resolve(CHECKPOINTS));
  }

  /** Whether a run was begun here. */
  public boolean exists() {
    return Files.exists(configFile());
  }

  /**
   * Makes a new folder for a run that is named by its time. Of several that begin in the same
   * second each gets its own.
   *
   * @param parent where it is made
   * @param time when the run begins
   * @throws InputException if it cannot be made
   */
  public static RunFolder claim(Path parent, LocalDateTime time) {
    String name = time.format(DateTimeFormatter.ofPattern("yyyyMMdd-HHmmss", Locale.ROOT));
    Path path = parent.resolve(name);
    try {
      Files.createDirectories(parent);
      for (int number = 2; ; number++) {
        try {
          return new RunFolder(Files.createDirectory(path));
        } catch (FileAlreadyExistsException e) {
          path = parent.resolve(name + "-" + number);
        }
      }
    } catch (IOException e) {
      throw notMade(path, e);
    }
  }

  private static InputException notMade(Path path, IOException e) {
    return new InputException(
        String.format(
            Locale.ROOT,
            "The folder %s cannot be made (%s); choose another --out.",
            path,
            Failures.describe(e)),
        e);
  }

  /**
   * Requires that no run was begun here.
   *
   * @throws InputException if one was
   */
  public void requireNone() {
    if (exists()) {
      throw new InputException(
          String.format(
              Locale.ROOT,
              "%s holds a run already; continue it with --resume, or choose another --out.",
              path));
    }
    for (Path left : new Path[] {metricsFile(), path.resolve(CHECKPOINTS)}) {
      if (Files.exists(left)) {
        throw new InputException(
            String.format(
                Locale.ROOT,
                "%s belongs to a run whose config.json is missing; restore that and --resume, or"
                    + " choose another --out.",
                left));
      }
    }
  }

  /**
   * Begins a run: makes the folder and writes what it is made from.
   *
   * @throws InputException if there is a run already or the folder cannot be written
   */
  public void begin(Description description, Tokenizer tokenizer) {
    requireNone();
    store(description, tokenizer);
  }

  /**
   * Writes what a run is made from, in place of what was written before.
   *
   * @throws InputException if the folder cannot be made or written
   */
  public void store(Description description, Tokenizer tokenizer) {
    try {
      Files.createDirectories(path);
    } catch (IOException e) {
      throw notMade(path, e);
    }
    Tokenizers.save(tokenizer, path.resolve(TOKENIZER));
    Map<String, Object> document = new LinkedHashMap<>();
    document.put("model", GptPresets.toMap(description.model()));
    document.put("training", description.training().toMap());
    document.put("data", description.data());
    if (!description.from().isEmpty()) {
      document.put("from", description.from());
    }
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
        fields.object("data").members(),
        fields.has("from") ? fields.object("from").members() : Map.of());
  }

  /** The run's tokenizer. */
  public Tokenizer tokenizer() {
    return Tokenizers.load(path.resolve(TOKENIZER));
  }

  private static String read(Path file) {
    try {
      // What is not UTF-8 is for the parser to name.
      return new String(Files.readAllBytes(file), StandardCharsets.UTF_8);
    } catch (IOException e) {
      throw new InputException(
          String.format(Locale.ROOT, "%s cannot be read (%s).", file, Failures.describe(e)), e);
    }
  }

  /**
   * Keeps others from training this run until what is returned is closed.
   *
   * @throws InputException if one does already
   */
  Closeable lock() {
    FileChannel channel = null;
    try {
      // A file of its own: closing any other handle of a locked file may end the lock.
      channel =
          FileChannel.open(
              path.resolve(".lock"), StandardOpenOption.CREATE, StandardOpenOption.WRITE);
      if (channel.tryLock() != null) {
        return channel;
      }
      channel.close();
    } catch (OverlappingFileLockException e) {
      close(channel);
    } catch (IOException e) {
      // Not every file system has locks; a folder that cannot be written is noticed soon.
      close(channel);
      return () -> {};
    }
    throw new InputException(
        String.format(
            Locale.ROOT,
            "The run %s is being trained by another process; wait for its end or stop it.",
            path));
  }

  private static void close(FileChannel channel) {
    try {
      if (channel != null) {
        channel.close();
      }
    } catch (IOException e) {
      // It was not written to.
    }
  }

  /** Removes what a process that was killed left while it wrote one of the run's files. */
  void removeLeftovers() {
    AtomicFile.removeLeftovers(
        path,
        Stream.of(configFile(), path.resolve(TOKENIZER), reportFile(), metricsFile())
            .map(file -> file.getFileName().toString())
            .toList());
  }
}
