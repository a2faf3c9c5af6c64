package dev.lanewise.core.train;

import dev.lanewise.core.base.UsageException;
import dev.lanewise.core.model.Gpt;
import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.core.tensor.Tensor;
import java.util.Locale;
import java.util.Map;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/** Decides which of a model's parameters a run trains. */
final class FineTuning {
  private FineTuning() {}

  /**
   * Freezes what a run does not train, and gives the model its corrections of low rank.
   *
   * @param config the run
   * @param model its parameters have no gradients yet
   * @param generator draws the corrections' first values
   * @throws UsageException if a pattern names no parameter, or nothing is left to train
   */
  static void apply(TrainConfig config, Gpt model, TorchGenerator generator) {
    Map<String, Tensor> parameters = model.namedParameters();
    for (String glob : config.freeze()) {
      Pattern pattern = pattern(glob);
      boolean found = false;
      for (Map.Entry<String, Tensor> parameter : parameters.entrySet()) {
        if (pattern.matcher(parameter.getKey()).matches()) {
          parameter.getValue().freeze();
          found = true;
        }
      }
      if (!found) {
        throw new UsageException(
            String.format(
                Locale.ROOT,
                "--freeze %s names no parameter; their names are like wte.weight,"
                    + " h.0.attn.c_attn.weight and ln_f.bias, and * stands for any part.",
                glob));
      }
    }
    if (config.lora() != null) {
      if (!config.freeze().isEmpty()) {
        throw new UsageException("--lora freezes all parameters; leave --freeze out.");
      }
      model.adapt(config.lora(), generator);
    } else if (parameters.values().stream().noneMatch(Tensor::requiresGrad)) {
      throw new UsageException("--freeze leaves nothing to train; freeze fewer parameters.");
    }
  }

  private static Pattern pattern(String glob) {
    return Pattern.compile(
        Stream.of(glob.split("\\*", -1)).map(Pattern::quote).collect(Collectors.joining(".*")));
  }
}
