package dev.lanewise.core.backend;

/** Activation that a linear operation applies to its result. */
public enum Activation {
  /** Nothing. */
  NONE,
  /** GELU in its tanh form, as GPT-2 has it. */
  GELU_TANH,
  /** GELU by the error function, PyTorch's default. */
  GELU_ERF
}
