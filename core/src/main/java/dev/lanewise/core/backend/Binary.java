package dev.lanewise.core.backend;

/** Elementwise functions of two arguments. */
public enum Binary {
  ADD,
  SUBTRACT,
  MULTIPLY,
  DIVIDE
}
