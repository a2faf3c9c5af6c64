package dev.lanewise.core.cli;

import dev.lanewise.core.backend.FrozenWeights;
import picocli.CommandLine.Option;

/** Option of commands that use a model as it is: in which form its weights are read. */
final class FrozenOptions {
  @Option(
      names = "--weights",
      paramLabel = "FORM",
      description = {
        "How products read weights: exact, or on a CPU q8_0, which is 8 bits and fastest, with",
        "results a little off. Default: exact."
      })
  private String weights = FrozenWeights.EXACT.toString();

  /** The form that is asked for. */
  FrozenWeights form() {
    return FrozenWeights.of(weights);
  }
}
