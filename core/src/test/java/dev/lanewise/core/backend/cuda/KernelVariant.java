package dev.lanewise.core.backend.cuda;

import java.util.ArrayList;
import java.util.List;

/**
 * One way that a kernel file is compiled.
 *
 * @param file kernel file
 * @param definitions macros
 */
record KernelVariant(String file, String... definitions) {
  static final List<KernelVariant> ALL =
      List.of(
          new KernelVariant("attention", "BFLOAT16", "HEAD_SIZE=64"),
          new KernelVariant("attention", "BFLOAT16", "HEAD_SIZE=128"),
          new KernelVariant("attention", "BFLOAT16", "DROPOUT", "HEAD_SIZE=64"),
          new KernelVariant("attention_plain", "HEAD_SIZE=64"),
          new KernelVariant("attention_plain", "BFLOAT16", "HEAD_SIZE=20"),
          new KernelVariant("elements"),
          new KernelVariant("layers"),
          new KernelVariant("layers", "BFLOAT16"),
          new KernelVariant("loss"),
          new KernelVariant("loss", "BFLOAT16"),
          new KernelVariant("norm"),
          new KernelVariant("norm", "CHANNELS=768"),
          new KernelVariant("norm", "BFLOAT16", "CHANNELS=768"),
          new KernelVariant("optimizer"));

  List<String> options(String... first) {
    List<String> options = new ArrayList<>(List.of(first));
    options.add("-std=c++17");
    for (String definition : definitions) {
      options.add("-D" + definition);
    }
    return options;
  }

  @Override
  public String toString() {
    return file + " " + String.join(" ", definitions);
  }
}
