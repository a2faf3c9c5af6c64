package dev.lanewise.core.backend;

/** Activation that a linear operation applies to its result. */
public enum Activation {
  /** Nothing. */
  NONE(null),
  /** GELU in its tanh form, as GPT-2 has it. */
  GELU_TANH(Unary.GELU_TANH),
  /** GELU by the error function, PyTorch's default. */
  GELU_ERF(Unary.GELU_ERF);

  private final Unary function;

  Activation(Unary function) {
    this.function = function;
  }

  /** The function; null for {@link #NONE}. */
  public Unary function() {
    return function;
  }
}
