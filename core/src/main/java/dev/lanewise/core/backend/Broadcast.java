package dev.lanewise.core.backend;

/** How the second operand of a binary operation is spread over a matrix {@code [rows, cols]}. */
public enum Broadcast {
  /** It has the same shape. */
  NONE,
  /** It is one row {@code [cols]}, used for every row. */
  ROW,
  /** It is one column {@code [rows]}, used for every column. */
  COLUMN,
  /** It is one number. */
  SCALAR
}
