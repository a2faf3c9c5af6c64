package dev.lanewise.core.format;

import dev.lanewise.core.base.AtomicFile;
import dev.lanewise.core.base.Failures;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.Json;
import dev.lanewise.core.base.JsonFields;
import dev.lanewise.simd.Gemm;
import dev.lanewise.simd.Matrix;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.SequencedMap;
import java.util.Set;

/**
 * Folders in which Hugging Face's PEFT keeps the corrections of low rank that a GPT-2 model was
 * fine-tuned by: {@code adapter_config.json} and {@code adapter_model.safetensors}.
 *
 * @param base where the model is that is corrected, as the folder says; null if it does not
 * @param rank width between a correction's two matrices
 * @param alpha corrections are multiplied with alpha / rank
 * @param dropout probability of dropout in training
 * @param targets names of the layers that are corrected, or the ends of their names
 * @param tensors {@code h.0.attn.c_attn.lora_A.weight} [rank, inputs], {@code ...lora_B.weight}
 *     [outputs, rank] and so on
 */
public record PeftAdapter(
    String base,
    int rank,
    double alpha,
    double dropout,
    Set<String> targets,
    SequencedMap<String, StoredTensor> tensors) {
  private static final String CONFIG = "adapter_config.json";

  /** Name of the file with the corrections. */
  public static final String WEIGHTS = "adapter_model.safetensors";

  private static final List<String> PREFIXES =
      List.of("base_model.model.transformer.", "base_model.model.");

  private static final String DOWN = ".lora_A.weight";
  private static final String UP = ".lora_B.weight";

  /** Settings that change what is computed, and the values with which they do not. */
  private static final Map<String, Object> PLAIN =
      Map.of("use_dora", false, "use_rslora", false, "bias", "none", "lora_bias", false);

  /** Settings that may only be missing, null or empty. */
  private static final List<String> UNUSED =
      List.of(
          "modules_to_save",
          "rank_pattern",
          "alpha_pattern",
          "layers_to_transform",
          "layer_replication",
          "target_parameters",
          "trainable_token_indices",
          "exclude_modules");

  /** Keeps unmodifiable views. */
  public PeftAdapter {
    targets = Collections.unmodifiableSet(new LinkedHashSet<>(targets));
    tensors = Collections.unmodifiableSequencedMap(tensors);
  }

  /** Whether a folder holds one. */
  public static boolean isIn(Path folder) {
    return Files.isRegularFile(folder.resolve(CONFIG));
  }

  /**
   * Reads a folder.
   *
   * @param arena owns the tensors; they are usable until it is closed
   * @throws InputException if a file is missing or damaged, or corrections are of another kind
   */
  public static PeftAdapter read(Path folder, Arena arena) {
    Path path = folder.resolve(CONFIG);
    JsonFields fields;
    try {
      fields =
          new JsonFields(
              Json.parseObject(Files.readString(path), path.toString()), path.toString());
    } catch (IOException e) {
      throw new InputException(
          String.format(Locale.ROOT, "Cannot read %s (%s).", path, Failures.describe(e)), e);
    }
    if (!"LORA".equals(fields.text("peft_type"))) {
      throw new InputException(
          String.format(
              Locale.ROOT,
              "%s has an adapter of the kind %s; Lanewise reads LORA.",
              path,
              fields.text("peft_type")));
    }
    PLAIN.forEach(
        (key, plain) -> {
          Object value = fields.members().get(key);
          if (value != null && !value.equals(plain)) {
            throw unsupported(path, key, value);
          }
        });
    for (String key : UNUSED) {
      Object value = fields.members().get(key);
      boolean empty =
          value == null
              || value instanceof List<?> list && list.isEmpty()
              || value instanceof Map<?, ?> map && map.isEmpty();
      if (!empty) {
        throw unsupported(path, key, value);
      }
    }
    Set<String> targets = new LinkedHashSet<>();
    switch (fields.members().get("target_modules")) {
      case List<?> list -> list.forEach(target -> targets.add(String.valueOf(target)));
      case null, default -> throw new InputException(path + ": 'target_modules' must be a list.");
    }
    SequencedMap<String, StoredTensor> tensors = new LinkedHashMap<>();
    SafeTensors.map(folder.resolve(WEIGHTS), arena)
        .allTensors()
        .forEach((name, tensor) -> tensors.put(withoutPrefix(folder, name), tensor));
    return new PeftAdapter(
        fields.has("base_model_name_or_path") ? fields.text("base_model_name_or_path") : null,
        fields.int32("r"),
        fields.number("lora_alpha"),
        fields.has("lora_dropout") ? fields.number("lora_dropout") : 0,
        targets,
        tensors);
  }

  private static String withoutPrefix(Path folder, String name) {
    for (String prefix : PREFIXES) {
      if (name.startsWith(prefix)) {
        return name.substring(prefix.length());
      }
    }
    throw new InputException(
        String.format(
            Locale.ROOT,
            "%s: the tensor '%s' is not named as PEFT names those of a GPT-2 model.",
            folder.resolve(WEIGHTS),
            name));
  }

  private static InputException unsupported(Path path, String key, Object value) {
    return new InputException(
        String.format(
            Locale.ROOT,
            "%s has '%s' = %s; Lanewise reads corrections without it.",
            path,
            key,
            value));
  }

  /**
   * A model with these corrections added to its weights.
   *
   * @param weights the model
   * @param arena owns the weights that change, as float32
   * @return all of its parameters, those without a correction over the same memory
   * @throws InputException if a correction belongs to no layer of the model or is of another size
   */
  public Gpt2Weights mergedInto(Gpt2Weights weights, Arena arena) {
    SequencedMap<String, StoredTensor> merged = new LinkedHashMap<>(weights.tensors());
    for (String name : tensors.keySet()) {
      if (!name.endsWith(DOWN)) {
        continue;
      }
      String layer = name.substring(0, name.length() - DOWN.length());
      StoredTensor weight = weights.tensors().get(layer + ".weight");
      StoredTensor down = tensors.get(name);
      StoredTensor up = tensors.get(layer + UP);
      if (weight == null || up == null) {
        throw new InputException(
            String.format(
                Locale.ROOT, "The correction '%s' belongs to no layer of the model.", name));
      }
      boolean turned = weights.transposed() && Gpt2Weights.isLinear(layer + ".weight");
      long outputs = weight.shape()[turned ? 1 : 0];
      long inputs = weight.shape()[turned ? 0 : 1];
      if (!Arrays.equals(down.shape(), new long[] {rank, inputs})
          || !Arrays.equals(up.shape(), new long[] {outputs, rank})) {
        throw new InputException(
            String.format(
                Locale.ROOT,
                "The correction '%s' of rank %d does not fit a layer of %d inputs and %d outputs.",
                name,
                rank,
                inputs,
                outputs));
      }
      MemorySegment sum = float32(weight, arena);
      Matrix left = new Matrix(float32(up, arena), (int) outputs, rank);
      Matrix right = new Matrix(float32(down, arena), rank, (int) inputs);
      float scale = (float) (alpha / rank);
      if (turned) {
        Matrix to = new Matrix(sum, (int) inputs, (int) outputs);
        Gemm.multiply(scale, right.transposed(), left.transposed(), 1, to);
      } else {
        Gemm.multiply(scale, left, right, 1, new Matrix(sum, (int) outputs, (int) inputs));
      }
      merged.put(layer + ".weight", StoredTensor.float32(sum, weight.shape()));
    }
    return new Gpt2Weights(weights.shape(), merged, weights.transposed());
  }

  private static MemorySegment float32(StoredTensor tensor, Arena arena) {
    MemorySegment copy = arena.allocate(tensor.elements() * Float.BYTES, 64);
    tensor.copyToFloat32(copy);
    return copy;
  }

  /**
   * Writes a folder that PEFT opens.
   *
   * @param folder must exist; its two files are overwritten
   */
  public void write(Path folder) {
    SequencedMap<String, StoredTensor> named = new LinkedHashMap<>();
    tensors.forEach((name, tensor) -> named.put(PREFIXES.getFirst() + name, tensor));
    SafeTensors.write(folder.resolve(WEIGHTS), named, Map.of("format", "pt"));
    Map<String, Object> config = new LinkedHashMap<>();
    config.put("base_model_name_or_path", base);
    config.put("bias", "none");
    config.put("fan_in_fan_out", true);
    config.put("inference_mode", true);
    config.put("init_lora_weights", true);
    config.put("lora_alpha", alpha);
    config.put("lora_dropout", dropout);
    config.put("peft_type", "LORA");
    config.put("r", rank);
    config.put("target_modules", targets.stream().sorted().toList());
    config.put("task_type", "CAUSAL_LM");
    config.put("use_dora", false);
    config.put("use_rslora", false);
    AtomicFile.writeText(folder.resolve(CONFIG), Json.writePretty(config) + "\n");
  }
}
