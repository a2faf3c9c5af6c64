package dev.lanewise.core.format;

import dev.lanewise.core.base.AtomicFile;
import dev.lanewise.core.base.Failures;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.Json;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.SequencedMap;
import java.util.Set;

/**
 * Folders in which Hugging Face's transformers keeps a GPT-2 model: {@code config.json} and {@code
 * model.safetensors}, whole or in shards.
 *
 * <p>There the four linear weights of a block are stored as [inputs, outputs]; they are transposed
 * on the way. Masks that old files carry are left out.
 */
public final class HuggingFace {
  private static final String CONFIG = "config.json";
  private static final String WEIGHTS = "model.safetensors";
  private static final String INDEX = "model.safetensors.index.json";
  private static final String PREFIX = "transformer.";

  /** What is said of other architectures. */
  static final String SUPPORTED = "Lanewise computes gpt2 only.";

  /** What transformers calls types of elements. */
  private static final Map<ElementType, String> DTYPES =
      Map.of(ElementType.F32, "float32", ElementType.F16, "float16", ElementType.BF16, "bfloat16");

  private HuggingFace() {}

  /** Whether a folder looks like one that transformers wrote. */
  public static boolean isIn(Path folder) {
    return Files.isRegularFile(folder.resolve(CONFIG))
        && readJson(folder.resolve(CONFIG)).get("model_type") instanceof String;
  }

  /**
   * Reads a model.
   *
   * @param folder the model's folder
   * @param arena owns the tensors; they are usable until it is closed
   * @throws InputException if a file is missing or damaged, or the model is not one that Lanewise
   *     computes: GPT-2 with tanh GELU, a layer norm epsilon of 1e-5 and scaled attention
   */
  public static Gpt2Weights read(Path folder, Arena arena) {
    return map(folder, arena).upright(arena);
  }

  /**
   * Maps a model, whose linear weights stay {@linkplain Gpt2Weights#transposed transposed}.
   *
   * @param folder the model's folder
   * @param arena owns the tensors; they are usable until it is closed
   * @throws InputException as {@link #read}
   */
  public static Gpt2Weights map(Path folder, Arena arena) {
    Map<String, Object> config = readJson(folder.resolve(CONFIG));
    Gpt2Shape shape = shape(folder.resolve(CONFIG), config);
    boolean tied = !Boolean.FALSE.equals(config.get("tie_word_embeddings"));
    SequencedMap<String, StoredTensor> tensors = new LinkedHashMap<>();
    for (Map.Entry<String, StoredTensor> entry : readTensors(folder, tied, arena).entrySet()) {
      String name = ours(entry.getKey());
      if (!isLeftOut(name, tied)) {
        tensors.put(name, entry.getValue());
      }
    }
    if (!tied && !tensors.containsKey(Gpt2Weights.HEAD)) {
      throw new InputException(
          folder
              + " says that the head is not tied, but has no tensor '"
              + Gpt2Weights.HEAD
              + "'.");
    }
    return new Gpt2Weights(shape, tensors, true);
  }

  /**
   * Number of tokens of a model.
   *
   * @param folder the model's folder
   * @throws InputException if its configuration is missing or damaged, or of another architecture
   */
  public static int vocabulary(Path folder) {
    Path config = folder.resolve(CONFIG);
    return shape(config, readJson(config)).vocabulary();
  }

  /** The files that hold a model's weights. */
  public static List<Path> weightFiles(Path folder) {
    Path index = folder.resolve(INDEX);
    Path whole = folder.resolve(WEIGHTS);
    if (Files.exists(whole)) {
      return List.of(whole);
    }
    if (!Files.exists(index)) {
      throw missing(folder);
    }
    Set<Path> shards = new LinkedHashSet<>();
    if (readJson(index).get("weight_map") instanceof Map<?, ?> map) {
      for (Object shard : map.values()) {
        Path file = inFolder(folder, String.valueOf(shard));
        if (file == null) {
          throw new InputException(
              index + " names something else than a file of its folder: " + shard + ".");
        }
        shards.add(file);
      }
    }
    if (shards.isEmpty()) {
      throw new InputException(index + " names no files in its 'weight_map'.");
    }
    return List.copyOf(shards);
  }

  private static InputException missing(Path folder) {
    for (String pickled : List.of("pytorch_model.bin", "pytorch_model.bin.index.json")) {
      if (Files.exists(folder.resolve(pickled))) {
        return new InputException(
            folder.resolve(pickled)
                + " holds weights that only Python can unpack; load the folder with transformers"
                + " and save it again (model.save_pretrained), which writes "
                + WEIGHTS
                + ".");
      }
    }
    return new InputException(
        folder + " has neither " + WEIGHTS + " nor " + INDEX + ", so there are no weights.");
  }

  private static SequencedMap<String, StoredTensor> readTensors(
      Path folder, boolean tied, Arena arena) {
    SequencedMap<String, StoredTensor> tensors = new LinkedHashMap<>();
    for (Path path : weightFiles(folder)) {
      SafeTensors file = SafeTensors.map(path, arena);
      for (String name : file.unread().keySet()) {
        if (!isLeftOut(ours(name), tied)) {
          throw new InputException(
              path
                  + ": the tensor '"
                  + name
                  + "' has the unknown type '"
                  + file.unread().get(name)
                  + "', which is not read.");
        }
      }
      tensors.putAll(file.tensors());
    }
    return tensors;
  }

  private static String ours(String name) {
    return name.startsWith(PREFIX) ? name.substring(PREFIX.length()) : name;
  }

  /** Whether a tensor is stored but no parameter: masks, and the copy of a tied head. */
  private static boolean isLeftOut(String name, boolean tied) {
    return name.endsWith(".attn.bias")
        || name.endsWith(".attn.masked_bias")
        || tied && name.equals(Gpt2Weights.HEAD);
  }

  /**
   * Writes a model to a folder, which is created if need be.
   *
   * @param folder the folder
   * @param weights the model; missing biases become zeros
   * @param type {@code F32}, {@code F16} or {@code BF16}, to which numbers are rounded
   * @param more further members of {@code config.json}, such as {@code eos_token_id}, which may
   *     replace ours
   * @throws InputException if a file cannot be written
   */
  public static void write(
      Path folder, Gpt2Weights weights, ElementType type, Map<String, ?> more) {
    String dtype = DTYPES.get(type);
    if (dtype == null) {
      throw new IllegalArgumentException(
          "Models are written as F32, F16 or BF16, not " + type + ".");
    }
    try (Arena arena = Arena.ofShared()) {
      Files.createDirectories(folder);
      SequencedMap<String, StoredTensor> tensors = new LinkedHashMap<>();
      for (String name : weights.shape().parameters().keySet()) {
        tensors.put(PREFIX + name, weights.tensor(name, true, arena).as(type, arena));
      }
      if (!weights.tied()) {
        tensors.put(Gpt2Weights.HEAD, weights.tensors().get(Gpt2Weights.HEAD).as(type, arena));
      }
      SafeTensors.write(folder.resolve(WEIGHTS), tensors, Map.of("format", "pt"));
    } catch (IOException e) {
      throw new InputException(
          "Cannot create the folder " + folder + " (" + Failures.describe(e) + ").", e);
    }
    Map<String, Object> config = config(weights);
    config.put("dtype", dtype);
    config.put("torch_dtype", dtype);
    config.putAll(more);
    AtomicFile.writeText(folder.resolve(CONFIG), Json.writePretty(config));
  }

  /**
   * Writes a model as float32.
   *
   * @param folder the folder, which is created if need be
   * @param weights the model; missing biases become zeros
   * @throws InputException if a file cannot be written
   */
  public static void write(Path folder, Gpt2Weights weights) {
    write(folder, weights, ElementType.F32, Map.of());
  }

  /** The file of that name; null where the name leads elsewhere or is none. */
  private static Path inFolder(Path folder, String name) {
    try {
      Path file = folder.resolve(name);
      return folder.normalize().equals(file.normalize().getParent()) ? file : null;
    } catch (InvalidPathException e) {
      return null;
    }
  }

  private static Gpt2Shape shape(Path path, Map<String, Object> config) {
    Object kind = config.get("model_type");
    if (kind != null && !kind.equals("gpt2")) {
      throw new InputException(
          path + " describes a model of the architecture '" + kind + "'; " + SUPPORTED);
    }
    String activation = String.valueOf(config.getOrDefault("activation_function", "gelu_new"));
    if (!activation.equals("gelu_pytorch_tanh")) {
      require(path, config, "activation_function", "gelu_new", "gelu_new");
    }
    require(path, config, "layer_norm_epsilon", 1e-5, 1e-5);
    require(path, config, "scale_attn_weights", true, true);
    require(path, config, "scale_attn_by_inverse_layer_idx", false, false);
    require(path, config, "add_cross_attention", false, false);
    int width = size(path, config, "n_embd");
    if (config.get("n_inner") != null) {
      require(path, config, "n_inner", 4L * width, 4L * width);
    }
    try {
      return new Gpt2Shape(
          size(path, config, "vocab_size"),
          size(path, config, config.containsKey("n_positions") ? "n_positions" : "n_ctx"),
          size(path, config, "n_layer"),
          size(path, config, "n_head"),
          width);
    } catch (IllegalArgumentException e) {
      throw new InputException(path + " is no sound configuration: " + e.getMessage(), e);
    }
  }

  private static int size(Path path, Map<String, Object> config, String key) {
    if (config.get(key) instanceof Long size && size > 0 && size <= Integer.MAX_VALUE) {
      return size.intValue();
    }
    throw new InputException(path + " has no size above 0 under '" + key + "'.");
  }

  private static void require(
      Path path, Map<String, Object> config, String key, Object wanted, Object byDefault) {
    Object value = config.get(key) == null ? byDefault : config.get(key);
    if (!value.equals(wanted)) {
      throw new InputException(
          path + " has '" + key + "' = " + value + "; Lanewise reads models with " + wanted + ".");
    }
  }

  private static Map<String, Object> config(Gpt2Weights weights) {
    Gpt2Shape shape = weights.shape();
    Map<String, Object> config = new LinkedHashMap<>();
    config.put("model_type", "gpt2");
    config.put("architectures", List.of("GPT2LMHeadModel"));
    config.put("activation_function", "gelu_new");
    config.put("layer_norm_epsilon", 1e-5);
    config.put("n_ctx", shape.context());
    config.put("n_positions", shape.context());
    config.put("n_embd", shape.width());
    config.put("n_head", shape.heads());
    config.put("n_layer", shape.layers());
    config.put("n_inner", null);
    config.put("vocab_size", shape.vocabulary());
    config.put("tie_word_embeddings", weights.tied());
    config.put("scale_attn_weights", true);
    // Else transformers takes GPT-2's, whatever the vocabulary.
    config.put("bos_token_id", null);
    config.put("eos_token_id", null);
    return config;
  }

  private static Map<String, Object> readJson(Path path) {
    try {
      return Json.parseObject(Files.readString(path), path.toString());
    } catch (IOException e) {
      throw new InputException("Cannot read " + path + " (" + Failures.describe(e) + ").", e);
    }
  }
}
