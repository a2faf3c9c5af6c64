package dev.lanewise.core.model;

import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.JsonFields;
import dev.lanewise.core.base.UsageException;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;

/**
 * What corrections of low rank a model is fine-tuned by, its own parameters frozen.
 *
 * @param rank width between a correction's two matrices
 * @param alpha corrections are multiplied with alpha / rank
 * @param dropout probability that an element of what a correction reads is dropped in training
 * @param targets layers of a block that are corrected, by the ends of their names as PEFT has them:
 *     {@code c_attn}, {@code c_fc}, {@code attn.c_proj}, {@code mlp.c_proj}, or {@code c_proj} for
 *     both of these
 */
public record LoraConfig(int rank, double alpha, double dropout, Set<String> targets) {
  /** Layers of a block, in the order in which they are computed. */
  static final List<String> LAYERS =
      List.of("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj");

  /** What PEFT corrects in a GPT-2 unless told otherwise. */
  public static final Set<String> DEFAULT_TARGETS = Set.of("c_attn");

  /**
   * Checks the numbers and names.
   *
   * @throws UsageException if one makes no sense
   */
  public LoraConfig {
    if (rank < 1) {
      throw new UsageException("--lora must be at least 1, not " + rank + ".");
    }
    if (!(alpha > 0) || Double.isInfinite(alpha)) {
      throw new UsageException("--lora-alpha must be above 0, not " + alpha + ".");
    }
    if (!(dropout >= 0 && dropout < 1)) {
      throw new UsageException("--lora-dropout must lie in [0, 1), not " + dropout + ".");
    }
    targets = Set.copyOf(new LinkedHashSet<>(targets));
    if (targets.isEmpty()) {
      throw new UsageException("--lora-targets names no layer.");
    }
    for (String target : targets) {
      if (LAYERS.stream().noneMatch(layer -> isNamed(layer, target))) {
        throw new UsageException(
            String.format(
                Locale.ROOT,
                "--lora-targets: no layer is called '%s'; choose among c_attn, c_fc, c_proj,"
                    + " attn.c_proj and mlp.c_proj.",
                target));
      }
    }
  }

  /**
   * Whether a layer is corrected.
   *
   * @param layer its name in the block
   */
  boolean covers(String layer) {
    return targets.stream().anyMatch(target -> isNamed(layer, target));
  }

  private static boolean isNamed(String layer, String target) {
    return layer.equals(target) || layer.endsWith("." + target);
  }

  /** Names and values, for JSON. */
  public Map<String, Object> toMap() {
    Map<String, Object> map = new LinkedHashMap<>();
    map.put("rank", rank);
    map.put("alpha", alpha);
    map.put("dropout", dropout);
    map.put("targets", targets.stream().sorted().toList());
    return map;
  }

  /** What {@link #toMap} wrote. */
  public static LoraConfig fromFields(JsonFields fields) {
    if (!(fields.members().get("targets") instanceof List<?> list)) {
      throw new InputException(fields.source() + ": 'targets' must be a list.");
    }
    Set<String> targets = new LinkedHashSet<>();
    list.forEach(target -> targets.add(String.valueOf(target)));
    return new LoraConfig(
        fields.int32("rank"), fields.number("alpha"), fields.number("dropout"), targets);
  }
}
