package dev.lanewise.core.exchange;

import dev.lanewise.core.format.ElementType;
import dev.lanewise.core.model.GptConfig;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;

/** The README.md of an exported folder: what the model is and how it is used. */
final class ModelCard {
  private ModelCard() {}

  static String of(Pretrained model, String title, ElementType type) {
    GptConfig config = model.config();
    Map<String, String> figures = new LinkedHashMap<>();
    figures.put("parameters", number(parameters(config)));
    figures.put(
        "layers, heads, channels",
        String.format(
            Locale.ROOT, "%d, %d, %d", config.layers(), config.heads(), config.channels()));
    figures.put("context", number(config.contextLength()));
    if (model.context() < config.contextLength()) {
      figures.put("context it was trained with", number(model.context()));
    }
    figures.put(
        "tokenizer",
        String.format(
            Locale.ROOT,
            "%s, %,d tokens",
            model.tokenizer().name(),
            model.tokenizer().vocabSize()));
    figures.put("weights", type.name().toLowerCase(Locale.ROOT));
    model.training().ifPresent(training -> figures.putAll(training.figures()));
    StringBuilder card = new StringBuilder();
    card.append("---\nlibrary_name: transformers\npipeline_tag: text-generation\n");
    card.append("tags:\n- gpt2\n- lanewise\n---\n\n# ").append(title).append("\n\n");
    card.append("A language model of GPT-2's architecture, written by Lanewise.\n\n");
    card.append("| | |\n| --- | --- |\n");
    figures.forEach(
        (name, value) -> card.append("| ").append(name).append(" | ").append(value).append(" |\n"));
    card.append("\n```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n");
    card.append("tokenizer = AutoTokenizer.from_pretrained(\".\")\n");
    card.append("model = AutoModelForCausalLM.from_pretrained(\".\")\n");
    card.append("inputs = tokenizer(\"The\", return_tensors=\"pt\")\n");
    card.append("print(tokenizer.decode(model.generate(**inputs, max_new_tokens=50)[0]))\n");
    card.append("```\n");
    return card.toString();
  }

  private static long parameters(GptConfig config) {
    long c = config.channels();
    long block = 12 * c * c + (config.qkvBias() ? 13 : 10) * c;
    return config.vocabSize() * c * (config.tiedHead() ? 1 : 2)
        + config.contextLength() * c
        + config.layers() * block
        + 2 * c;
  }

  private static String number(long value) {
    return String.format(Locale.ROOT, "%,d", value);
  }
}
