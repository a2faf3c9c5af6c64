package dev.lanewise.core.tensor;

/**
 * What a {@link Tape} does not keep for backward but computes again, from what it keeps, when
 * backward needs it. Losses and gradients are the same to the bit; memory is saved for time.
 *
 * @param cheap whether results that one pass over memory makes again are not kept: those of layer
 *     norms and of GELU
 * @param blocks number of blocks, from the first on, of which only the result is kept; a model says
 *     where they lie by {@link Tape#beginBlock} and {@link Tape#endBlock}
 */
public record Recompute(boolean cheap, int blocks) {
  /** Everything is kept. */
  public static final Recompute NOTHING = new Recompute(false, 0);

  /** Only what is cheap is computed again. */
  public static final Recompute CHEAP = new Recompute(true, 0);

  /** Checks the number. */
  public Recompute {
    if (blocks < 0) {
      throw new IllegalArgumentException(blocks + " blocks to compute again");
    }
  }
}
