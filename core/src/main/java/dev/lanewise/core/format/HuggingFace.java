package dev.lanewise.core.format;

import dev.lanewise.core.base.AtomicFile;
import dev.lanewise.core.base.Failures;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.Json;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
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
  private static final int END_OF_TEXT = 50256;
  private static final ValueLayout.OfShort SHORT = ValueLayout.JAVA_SHORT_UNALIGNED;
  private static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT_UNALIGNED;

  private HuggingFace() {}

  /**
   * Reads a model.
   *
   * @param folder the model's folder
   * @param arena owns the tensors; they are usable until it is closed
   * @throws InputException if a file is missing or damaged, or the model is not one that Lanewise
   *     computes: GPT-2 with tanh GELU, a layer norm epsilon of 1e-5 and scaled attention
   */
  public static Gpt2Weights read(Path folder, Arena arena) {
    Map<String, Object> config = readJson(folder.resolve(CONFIG));
    Gpt2Shape shape = shape(folder.resolve(CONFIG), config);
    SequencedMap<String, StoredTensor> stored = readTensors(folder, arena);
    SequencedMap<String, StoredTensor> tensors = new LinkedHashMap<>();
    boolean tied = !Boolean.FALSE.equals(config.get("tie_word_embeddings"));
    for (Map.Entry<String, StoredTensor> entry : stored.entrySet()) {
      String name = entry.getKey();
      String ours = name.startsWith(PREFIX) ? name.substring(PREFIX.length()) : name;
      boolean mask = ours.endsWith(".attn.bias") || ours.endsWith(".attn.masked_bias");
      if (mask || (tied && ours.equals(Gpt2Weights.HEAD))) {
        continue;
      }
      StoredTensor tensor = entry.getValue();
      tensors.put(ours, isTransposed(ours) ? transpose(name, tensor, arena) : tensor);
    }
    if (!tied && !tensors.containsKey(Gpt2Weights.HEAD)) {
      throw new InputException(
          folder
              + " says that the head is not tied, but has no tensor '"
              + Gpt2Weights.HEAD
              + "'.");
    }
    return new Gpt2Weights(shape, tensors);
  }

  /**
   * Writes a model to a folder, which is created if need be.
   *
   * @param folder the folder
   * @param weights the model; missing biases become zeros
   * @throws InputException if a file cannot be written
   */
  public static void write(Path folder, Gpt2Weights weights) {
    try (Arena arena = Arena.ofConfined()) {
      Files.createDirectories(folder);
      SequencedMap<String, StoredTensor> tensors = new LinkedHashMap<>();
      for (String name : weights.shape().parameters().keySet()) {
        StoredTensor tensor = weights.orZeros(name);
        tensors.put(PREFIX + name, isTransposed(name) ? transpose(name, tensor, arena) : tensor);
      }
      if (!weights.tied()) {
        tensors.put(Gpt2Weights.HEAD, weights.tensors().get(Gpt2Weights.HEAD));
      }
      SafeTensors.write(folder.resolve(WEIGHTS), tensors, Map.of("format", "pt"));
    } catch (IOException e) {
      throw new InputException(
          "Cannot create the folder " + folder + " (" + Failures.describe(e) + ").", e);
    }
    byte[] config = Json.writePretty(config(weights)).getBytes(StandardCharsets.UTF_8);
    AtomicFile.write(
        folder.resolve(CONFIG), channel -> Segments.write(channel, ByteBuffer.wrap(config)));
  }

  private static boolean isTransposed(String name) {
    return name.endsWith(".c_attn.weight")
        || name.endsWith(".c_proj.weight")
        || name.endsWith(".c_fc.weight");
  }

  private static SequencedMap<String, StoredTensor> readTensors(Path folder, Arena arena) {
    Path index = folder.resolve(INDEX);
    if (!Files.exists(index) || Files.exists(folder.resolve(WEIGHTS))) {
      return SafeTensors.map(folder.resolve(WEIGHTS), arena).tensors();
    }
    Set<String> shards = new LinkedHashSet<>();
    if (readJson(index).get("weight_map") instanceof Map<?, ?> map) {
      map.values().forEach(file -> shards.add(String.valueOf(file)));
    }
    if (shards.isEmpty()) {
      throw new InputException(index + " names no files in its 'weight_map'.");
    }
    SequencedMap<String, StoredTensor> tensors = new LinkedHashMap<>();
    for (String shard : shards) {
      Path file = inFolder(folder, shard);
      if (file == null) {
        throw new InputException(
            index + " names something else than a file of its folder: " + shard + ".");
      }
      tensors.putAll(SafeTensors.map(file, arena).tensors());
    }
    return tensors;
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
    require(path, config, "model_type", "gpt2", "gpt2");
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

  private static StoredTensor transpose(String name, StoredTensor tensor, Arena arena) {
    long[] shape = tensor.shape();
    if (shape.length != 2) {
      throw new InputException("The parameter '" + name + "' is no matrix.");
    }
    MemorySegment out = arena.allocate(tensor.data().byteSize(), Long.BYTES);
    transpose(tensor.data(), out, shape[0], shape[1], tensor.type().bytes());
    return new StoredTensor(tensor.type(), new long[] {shape[1], shape[0]}, out);
  }

  /**
   * Transposes a matrix of elements of 2, 4 or 8 bytes, tile by tile so that both sides stay in
   * cache.
   */
  private static void transpose(
      MemorySegment in, MemorySegment out, long rows, long cols, int size) {
    int tile = 32;
    for (long r0 = 0; r0 < rows; r0 += tile) {
      for (long c0 = 0; c0 < cols; c0 += tile) {
        for (long r = r0; r < Math.min(rows, r0 + tile); r++) {
          for (long c = c0; c < Math.min(cols, c0 + tile); c++) {
            long from = (r * cols + c) * size;
            long to = (c * rows + r) * size;
            switch (size) {
              case 2 -> out.set(SHORT, to, in.get(SHORT, from));
              case 4 -> out.set(INT, to, in.get(INT, from));
              default -> MemorySegment.copy(in, from, out, to, size);
            }
          }
        }
      }
    }
  }

  private static Map<String, Object> config(Gpt2Weights weights) {
    Gpt2Shape shape = weights.shape();
    // GPT-2's end-of-text token, where the vocabulary has it.
    Integer end = shape.vocabulary() > END_OF_TEXT ? END_OF_TEXT : null;
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
    config.put("vocab_size", shape.vocabulary());
    config.put("tie_word_embeddings", weights.tied());
    config.put("bos_token_id", end);
    config.put("eos_token_id", end);
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
