package dev.lanewise.core.nn;

import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.core.tensor.Tensor;

/** Dropout that is active in training mode only. */
public final class Dropout {
  private final double p;
  private final TorchGenerator generator;
  private boolean training;

  /**
   * Dropout, inactive until {@link #training} switches it on.
   *
   * @param p probability that an element is dropped
   * @param generator draws what is dropped
   */
  public Dropout(double p, TorchGenerator generator) {
    this.p = p;
    this.generator = generator;
  }

  /** Switches dropping on or off. */
  public void training(boolean on) {
    training = on;
  }

  /** Whether dropping is switched on, be there anything to drop or not. */
  public boolean training() {
    return training;
  }

  /** Whether anything is dropped now. */
  public boolean active() {
    return training && p > 0;
  }

  /** The input, with elements dropped in training mode. */
  public Tensor forward(Tensor x) {
    return active() ? x.dropout(p, generator) : x;
  }

  /** Probability that counts now: 0 outside training. */
  public double p() {
    return active() ? p : 0;
  }

  /** The generator that draws. */
  public TorchGenerator generator() {
    return generator;
  }
}
