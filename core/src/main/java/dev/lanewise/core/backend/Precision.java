package dev.lanewise.core.backend;

import dev.lanewise.core.base.UsageException;
import java.util.Arrays;
import java.util.Locale;
import java.util.stream.Collectors;

/**
 * What a device computes products of matrices in. Parameters, their gradients and the optimiser are
 * float32 always, and so are norms, softmax and losses.
 */
public enum Precision {
  /**
   * Operands of products are rounded to bfloat16, sums are float32. A GPU also stores activations
   * in bfloat16; a CPU keeps them in float32.
   */
  BF16,
  /** A GPU's products round their operands to 10 bits of mantissa; a CPU has no such thing. */
  TF32,
  /** Float32 throughout, to compare with others. */
  FP32;

  /** The name of what suits the device: bfloat16 on a GPU, float32 on a CPU. */
  public static final String AUTO = "auto";

  /**
   * The precision of a name, or null for {@link #AUTO}.
   *
   * @throws UsageException if there is none of this name
   */
  public static Precision of(String name) {
    if (name.equals(AUTO)) {
      return null;
    }
    return Arrays.stream(values())
        .filter(value -> value.toString().equals(name))
        .findFirst()
        .orElseThrow(
            () ->
                new UsageException(
                    Arrays.stream(values())
                        .map(Precision::toString)
                        .collect(
                            Collectors.joining(
                                ", ",
                                "There is no precision '"
                                    + name
                                    + "'; choose one of "
                                    + AUTO
                                    + ", ",
                                "."))));
  }

  /** The name on the command line and in files. */
  @Override
  public String toString() {
    return name().toLowerCase(Locale.ROOT);
  }
}
