package dev.lanewise.core.backend;

/** Elementwise functions of one argument. */
public enum Unary {
  GELU_TANH,
  GELU_ERF,
  TANH,
  RELU,
  SIGMOID,
  EXP,
  LOG,
  SQRT,
  SQUARE,
  NEGATE,
  RECIPROCAL
}
