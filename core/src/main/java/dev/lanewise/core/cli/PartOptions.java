package dev.lanewise.core.cli;

import dev.lanewise.core.base.UsageException;
import dev.lanewise.core.model.LoraConfig;
import dev.lanewise.core.train.TrainConfig;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import picocli.CommandLine.Option;

/** Which part of a model is trained. Decided when a run begins, and kept. */
final class PartOptions {
  @Option(
      names = "--lora",
      paramLabel = "RANK",
      description =
          "Train corrections of this rank (LoRA) and keep the model's own parameters as they are:"
              + " less memory, faster steps. With --from.")
  Integer lora;

  @Option(
      names = "--lora-alpha",
      paramLabel = "X",
      description = "Corrections are multiplied with X / RANK. Default: 2 RANK.")
  Double loraAlpha;

  @Option(
      names = "--lora-dropout",
      paramLabel = "P",
      description = "Dropout of what corrections read. Default: 0.")
  Double loraDropout;

  @Option(
      names = "--lora-targets",
      paramLabel = "NAME",
      split = ",",
      description =
          "Layers to correct: c_attn, c_fc, attn.c_proj, mlp.c_proj, or c_proj for both. Default:"
              + " c_attn, as PEFT has it.")
  List<String> loraTargets = List.of();

  @Option(
      names = "--freeze",
      paramLabel = "GLOB",
      description =
          "Parameters to leave as they are, by name, such as wte.* or h.0.*. May be given several"
              + " times.")
  List<String> freeze = List.of();

  /** The corrections that were asked for; null for none. */
  LoraConfig corrections() {
    if (lora == null) {
      if (loraAlpha != null || loraDropout != null || !loraTargets.isEmpty()) {
        throw new UsageException(
            "--lora-alpha, --lora-dropout and --lora-targets belong to --lora RANK; give it, or"
                + " leave them out.");
      }
      return null;
    }
    Set<String> targets =
        loraTargets.isEmpty() ? LoraConfig.DEFAULT_TARGETS : new LinkedHashSet<>(loraTargets);
    return new LoraConfig(
        lora,
        loraAlpha == null ? 2.0 * lora : loraAlpha,
        loraDropout == null ? 0 : loraDropout,
        targets);
  }

  /**
   * Sets which part a run trains.
   *
   * @param pretrained whether it begins with weights that were trained before
   */
  void change(TrainConfig.Builder run, boolean pretrained) {
    LoraConfig corrections = corrections();
    if (corrections != null && !pretrained) {
      throw new UsageException(
          "--lora corrects a model that was trained before; name one with --from.");
    }
    run.lora(corrections).freeze(freeze);
  }
}
