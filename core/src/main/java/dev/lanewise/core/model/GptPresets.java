package dev.lanewise.core.model;

import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.JsonFields;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;

/**
 * Models by name. Vocabulary sizes are those of GPT-2's tokenizer and are replaced by the data's.
 */
public final class GptPresets {
  private static final int GPT2_VOCABULARY = 50257;
  private static final Map<String, GptConfig> PRESETS = new LinkedHashMap<>();

  static {
    PRESETS.put("nano", GptConfig.gpt2(GPT2_VOCABULARY, 64, 4, 4, 128));
    PRESETS.put("small", GptConfig.gpt2(GPT2_VOCABULARY, 256, 6, 6, 384));
    PRESETS.put("gpt2", GptConfig.gpt2(GPT2_VOCABULARY, 1024, 12, 12, 768));
    PRESETS.put("gpt2-medium", GptConfig.gpt2(GPT2_VOCABULARY, 1024, 24, 16, 1024));
    PRESETS.put("gpt2-large", GptConfig.gpt2(GPT2_VOCABULARY, 1024, 36, 20, 1280));
    PRESETS.put("gpt2-xl", GptConfig.gpt2(GPT2_VOCABULARY, 1024, 48, 25, 1600));
  }

  private GptPresets() {}

  /** All names. */
  public static Iterable<String> names() {
    return PRESETS.keySet();
  }

  /**
   * The model of that name.
   *
   * @throws InputException if there is none
   */
  public static GptConfig of(String name) {
    GptConfig config = PRESETS.get(name);
    if (config == null) {
      throw new InputException(
          String.format(
              Locale.ROOT,
              "There is no model '%s'; choose one of %s, or give a JSON file.",
              name,
              String.join(", ", PRESETS.keySet())));
    }
    return config;
  }

  /** Names and values of a model's sizes, for JSON. */
  public static Map<String, Object> toMap(GptConfig config) {
    Map<String, Object> map = new LinkedHashMap<>();
    map.put("vocabSize", config.vocabSize());
    map.put("contextLength", config.contextLength());
    map.put("layers", config.layers());
    map.put("heads", config.heads());
    map.put("channels", config.channels());
    map.put("dropout", config.dropout());
    map.put("qkvBias", config.qkvBias());
    map.put("tiedHead", config.tiedHead());
    return map;
  }

  /**
   * What {@link #toMap} wrote. Vocabulary, dropout and variants may be missing: GPT-2's are used.
   *
   * @throws InputException if a member is missing or wrong
   */
  public static GptConfig fromFields(JsonFields fields) {
    try {
      return new GptConfig(
          fields.has("vocabSize") ? fields.int32("vocabSize") : GPT2_VOCABULARY,
          fields.int32("contextLength"),
          fields.int32("layers"),
          fields.int32("heads"),
          fields.int32("channels"),
          fields.has("dropout") ? fields.number("dropout") : 0,
          !fields.has("qkvBias") || fields.flag("qkvBias"),
          !fields.has("tiedHead") || fields.flag("tiedHead"));
    } catch (IllegalArgumentException e) {
      throw new InputException(fields.source() + ": " + e.getMessage() + ".", e);
    }
  }
}
