package dev.lanewise.core.train;

import java.util.Locale;

/**
 * A validation that is over.
 *
 * @param step number of updates so far
 * @param loss mean cross-entropy of the tokens, in nats
 * @param tokens validation tokens that were predicted
 * @param available validation tokens that could be
 */
public record Validation(long step, double loss, long tokens, long available) {
  /** Whether all validation tokens were used, instead of a sample. */
  public boolean whole() {
    return tokens >= available;
  }

  /** How much of the validation text was used, for people. */
  public String extent() {
    return whole()
        ? "all validation tokens"
        : String.format(
            Locale.ROOT,
            "%,d of %,d validation tokens, %.2g %%",
            tokens,
            available,
            100.0 * tokens / available);
  }
}
