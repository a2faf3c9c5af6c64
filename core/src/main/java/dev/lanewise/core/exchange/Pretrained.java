package dev.lanewise.core.exchange;

import dev.lanewise.core.backend.Precision;
import dev.lanewise.core.base.Failures;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.data.Tokenizer;
import dev.lanewise.core.format.Gpt2Shape;
import dev.lanewise.core.format.Gpt2Weights;
import dev.lanewise.core.format.PeftAdapter;
import dev.lanewise.core.model.Gpt;
import dev.lanewise.core.model.GptConfig;
import dev.lanewise.core.tensor.Tape;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.function.Consumer;
import java.util.function.Function;

/**
 * A trained model with its tokenizer, from whatever holds one.
 *
 * <pre>{@code
 * Pretrained pretrained = Pretrained.open(Path.of("models/gpt2"));
 * Tokenizer tokenizer = pretrained.tokenizer();
 * Gpt model = pretrained.load(tape);
 * }</pre>
 *
 * <p>Opening reads sizes and tokenizer and checks that every parameter is there; the parameters
 * themselves are read when a model is {@linkplain #load loaded}. Nothing is held open meanwhile.
 */
public final class Pretrained {
  /**
   * What training left beside the weights of a run.
   *
   * @param context tokens that the model was trained to look back at
   * @param batch sequences of a forward pass in its training
   * @param precision what its training was asked to compute in, as in {@link Precision#of}
   * @param isolateDocuments whether documents that shared a row knew nothing of each other
   * @param figures names and values for people: steps, tokens, losses
   */
  record Training(
      int context,
      int batch,
      String precision,
      boolean isolateDocuments,
      Map<String, String> figures) {}

  private final Path path;
  private final String kind;
  private final String name;
  private final GptConfig config;
  private final Training training;
  private final Tokenizer tokenizer;
  private final List<Path> files;
  private final Function<Arena, Gpt2Weights> weights;
  private Function<Arena, PeftAdapter> adapter;

  private Pretrained(
      Path path,
      String kind,
      String name,
      GptConfig config,
      Training training,
      Tokenizer tokenizer,
      List<Path> files,
      Function<Arena, Gpt2Weights> weights) {
    this.path = path;
    this.kind = kind;
    this.name = name;
    this.config = config;
    this.training = training;
    this.tokenizer = tokenizer;
    this.files = List.copyOf(files);
    this.weights = weights;
  }

  /**
   * Opens a model.
   *
   * @param path a run folder, whose newest whole checkpoint is taken; one of its checkpoints; a
   *     folder of Hugging Face's; a {@code .gguf} file; or a model file of llm.c's
   * @return the model
   * @throws InputException if there is none, it is damaged, or not one that Lanewise computes; the
   *     message says what there is instead
   */
  public static Pretrained open(Path path) {
    return open(path, warning -> {});
  }

  /**
   * Opens a model.
   *
   * @param path as in {@link #open(Path)}
   * @param warnings hears of damaged checkpoints that were passed over
   * @return the model
   * @throws InputException as in {@link #open(Path)}
   */
  public static Pretrained open(Path path, Consumer<String> warnings) {
    return ModelFinder.find(path, warnings);
  }

  /**
   * A model whose weights were found.
   *
   * @param path where the user said that it is
   * @param kind what holds it
   * @param name what it is, for people
   * @param variant its configuration if that is written down; null where only weights tell
   * @param training what training left; null if it was elsewhere
   * @param tokenizer its tokenizer
   * @param files what holds its weights
   * @param weights maps them
   */
  static Pretrained of(
      Path path,
      String kind,
      String name,
      GptConfig variant,
      Training training,
      Tokenizer tokenizer,
      List<Path> files,
      Function<Arena, Gpt2Weights> weights) {
    GptConfig config = variant;
    try (Arena arena = Arena.ofShared()) {
      Gpt2Weights mapped = weights.apply(arena);
      if (config == null) {
        Gpt2Shape shape = mapped.shape();
        config =
            new GptConfig(
                shape.vocabulary(),
                shape.context(),
                shape.layers(),
                shape.heads(),
                shape.width(),
                0,
                mapped.hasQkvBias(),
                mapped.tied());
      }
    }
    if (tokenizer.vocabSize() > config.vocabSize()) {
      throw new InputException(
          String.format(
              Locale.ROOT,
              "%s: the tokenizer has %,d tokens, but the model only %,d, so they do not belong"
                  + " together; restore the tokenizer or the weights.",
              path,
              tokenizer.vocabSize(),
              config.vocabSize()));
    }
    return new Pretrained(path, kind, name, config, training, tokenizer, files, weights);
  }

  /**
   * The model that a run began with.
   *
   * @param origin what {@link #origin} was then
   * @throws InputException if it is not there any more, or is another one now
   */
  public static Pretrained again(Map<String, Object> origin) {
    if (!(origin.get("path") instanceof String path)) {
      throw new InputException("The run's config.json does not say what weights it began with.");
    }
    Pretrained model;
    try {
      model = open(Path.of(path));
    } catch (InputException e) {
      throw new InputException(
          "The weights that the run began with are needed again. " + e.getMessage(), e);
    }
    if (!model.origin().get("sha256").equals(origin.get("sha256"))) {
      throw new InputException(
          path
              + " is not what the run began with: its checksum is another one; restore it, or begin"
              + " a new run.");
    }
    return model;
  }

  Pretrained withAdapter(Function<Arena, PeftAdapter> corrections) {
    adapter = corrections;
    return this;
  }

  /** The corrections of low rank that a run trained, over the mapped file; null for none. */
  PeftAdapter adapter(Arena arena) {
    return adapter == null ? null : adapter.apply(arena);
  }

  /** What it is, for people: where it comes from and how far it was trained. */
  public String name() {
    return name;
  }

  /** Where the user said that it is. */
  public Path path() {
    return path;
  }

  /** Its sizes, without dropout. */
  public GptConfig config() {
    return config;
  }

  /** Tokens that it was trained to look back at, at most the context length. */
  public int context() {
    return training == null
        ? config.contextLength()
        : Math.min(training.context(), config.contextLength());
  }

  /** Sequences of a forward pass in its training; nothing if it was trained elsewhere. */
  public OptionalInt batch() {
    return training == null ? OptionalInt.empty() : OptionalInt.of(training.batch());
  }

  /**
   * What its training was asked to compute in, as in {@link Precision#of}; {@link Precision#AUTO}
   * if it was trained elsewhere.
   */
  public String precision() {
    return training == null ? Precision.AUTO : training.precision();
  }

  /** Whether documents that shared a row in its training knew nothing of each other. */
  public boolean isolatesDocuments() {
    return training != null && training.isolateDocuments();
  }

  /** Its tokenizer. */
  public Tokenizer tokenizer() {
    return tokenizer;
  }

  Optional<Training> training() {
    return Optional.ofNullable(training);
  }

  /** What holds the weights. */
  List<Path> files() {
    return files;
  }

  /** The parameters, over the mapped file. */
  Gpt2Weights weights(Arena arena) {
    return weights.apply(arena);
  }

  /**
   * Loads the model.
   *
   * @param tape where it is to live
   * @return the model, in evaluation mode
   */
  public Gpt load(Tape tape) {
    Gpt model = new Gpt(tape, config, null);
    copyTo(model);
    return model.eval();
  }

  /**
   * Puts the parameters into a model.
   *
   * @param model a model of these sizes
   */
  public void copyTo(Gpt model) {
    try (Arena arena = Arena.ofShared()) {
      Gpt2Weights mapped = weights.apply(arena);
      model
          .namedParameters()
          .forEach(
              (parameter, tensor) -> tensor.set(values -> mapped.copyToFloat32(parameter, values)));
    }
  }

  /**
   * Where the model comes from, for those who note what they were made from: {@code path}, {@code
   * kind}, and the SHA-256 of each file of weights under {@code sha256}.
   *
   * @throws InputException if a file cannot be read
   */
  public Map<String, Object> origin() {
    Map<String, Object> sums = new LinkedHashMap<>();
    files.forEach(file -> sums.put(file.getFileName().toString(), sha256(file)));
    Map<String, Object> origin = new LinkedHashMap<>();
    origin.put("path", path.toAbsolutePath().normalize().toString());
    origin.put("kind", kind);
    origin.put("name", name);
    origin.put("sha256", sums);
    return origin;
  }

  private static String sha256(Path file) {
    try (FileChannel channel = FileChannel.open(file, StandardOpenOption.READ)) {
      MessageDigest digest = MessageDigest.getInstance("SHA-256");
      ByteBuffer bytes = ByteBuffer.allocate(1 << 20);
      while (channel.read(bytes) >= 0) {
        digest.update(bytes.flip());
        bytes.clear();
      }
      return HexFormat.of().formatHex(digest.digest());
    } catch (IOException e) {
      throw new InputException(
          String.format(Locale.ROOT, "%s cannot be read (%s).", file, Failures.describe(e)), e);
    } catch (NoSuchAlgorithmException e) {
      throw new AssertionError(e);
    }
  }
}
