package dev.lanewise.core.backend;

import dev.lanewise.core.base.UsageException;
import java.util.Arrays;
import java.util.Locale;
import java.util.stream.Collectors;

/** In which form a device may keep weights of linear layers that nobody changes any more. */
public enum FrozenWeights {
  /** That in which it multiplies fastest, with the same results to the bit. */
  EXACT,
  /**
   * Integers of 8 bits with a scale for 32 of them, as in GGUF's type of this name; products then
   * round what they multiply with to 8 bits as well. For speed: results differ a little.
   */
  Q8_0;

  /**
   * The form of a name.
   *
   * @throws UsageException if there is none of this name
   */
  public static FrozenWeights of(String name) {
    return Arrays.stream(values())
        .filter(value -> value.toString().equals(name))
        .findFirst()
        .orElseThrow(
            () ->
                new UsageException(
                    "Weights are read as "
                        + Arrays.stream(values())
                            .map(FrozenWeights::toString)
                            .collect(Collectors.joining(" or "))
                        + ", not as '"
                        + name
                        + "'."));
  }

  /** The name on the command line. */
  @Override
  public String toString() {
    return name().toLowerCase(Locale.ROOT);
  }
}
