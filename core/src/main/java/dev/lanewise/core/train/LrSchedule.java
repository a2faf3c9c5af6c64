package dev.lanewise.core.train;

import dev.lanewise.core.base.UsageException;
import java.util.Locale;

/**
 * Learning rate of each step: a linear warm-up, then a shape whose last step has the minimum.
 *
 * @param kind shape after the warm-up
 * @param peak learning rate at the end of the warm-up
 * @param minimum learning rate of the last step, but for a constant one
 * @param warmup steps of warm-up; step i of them has {@code peak · (i + 1) / warmup}
 * @param steps steps in all
 */
public record LrSchedule(Kind kind, double peak, double minimum, long warmup, long steps) {

  /** Shapes. */
  public enum Kind {
    /** The peak, to the end. */
    CONSTANT,
    /** A straight line from peak to minimum. */
    LINEAR,
    /** Half a cosine wave from peak to minimum. */
    COSINE,
    /** The peak for the first four fifths, the minimum after: makemore's decay. */
    DECAY;

    /**
     * The shape of that name, in any case.
     *
     * @throws UsageException if there is none
     */
    public static Kind of(String name) {
      for (Kind kind : values()) {
        if (kind.name().equalsIgnoreCase(name)) {
          return kind;
        }
      }
      throw new UsageException(
          String.format(
              Locale.ROOT,
              "There is no schedule '%s'; choose constant, linear, cosine or decay.",
              name));
    }

    @Override
    public String toString() {
      return name().toLowerCase(Locale.ROOT);
    }
  }

  /** Checks the numbers. */
  public LrSchedule {
    if (!(peak > 0) || !(minimum >= 0) || minimum > peak) {
      throw new UsageException(
          "A learning rate falls from a positive peak to a minimum that is not above it, not from "
              + peak
              + " to "
              + minimum
              + ".");
    }
    if (warmup < 0 || steps < 1) {
      throw new UsageException(
          String.format(
              Locale.ROOT,
              "A schedule has at least one step and no negative warm-up, not %d and %d.",
              steps,
              warmup));
    }
  }

  /**
   * Learning rate of a step.
   *
   * @param step number of the step, from 0
   */
  public double at(long step) {
    if (step < warmup) {
      return peak * (step + 1) / warmup;
    }
    if (kind == Kind.CONSTANT) {
      return peak;
    }
    if (step >= steps - 1 && steps > 1) {
      return minimum;
    }
    long falling = step - warmup;
    if (kind == Kind.DECAY) {
      return falling < 0.8 * (steps - warmup) ? peak : minimum;
    }
    double ratio = (double) falling / Math.max(1, steps - 1 - warmup);
    return kind == Kind.LINEAR
        ? peak + ratio * (minimum - peak)
        : minimum + 0.5 * (1 + Math.cos(Math.PI * ratio)) * (peak - minimum);
  }
}
