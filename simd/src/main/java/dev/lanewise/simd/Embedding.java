package dev.lanewise.simd;

import java.lang.foreign.MemorySegment;

/**
 * Rows of a table looked up by index, with rows of a position table added, and the gradient of it.
 *
 * <p>The gradient adds the rows that share an index in their order. Each task owns a block of
 * columns, so results are the same to the bit for any number of threads. A wrong call, an index
 * outside the table included, gives an {@link IllegalArgumentException} before anything is written.
 */
public final class Embedding {
  private static final int COLUMNS = 64;

  // Operands.
  private static final int TABLE = 0;
  private static final int POSITIONS = 1;
  private static final int IDS = 2;
  private static final int OUT = 3;

  private Embedding() {}

  /**
   * {@code out[i] = table[ids[i]]}.
   *
   * @param table {@code [vocab, cols]}
   * @param ids {@code rows} indices
   * @param out {@code [rows, cols]}
   */
  public static void forward(Matrix table, Indices ids, Matrix out) {
    forward(table, ids, null, 0, 1, out);
  }

  /**
   * {@code out[b time + t] = table[ids[b time + t]] + positions[firstPosition + t]}.
   *
   * @param table {@code [vocab, cols]}
   * @param ids {@code batch * time} indices
   * @param positions null, or {@code [at least firstPosition + time, cols]}
   * @param firstPosition row of {@code positions} for t = 0
   * @param time length of a sequence
   * @param out {@code [batch * time, cols]}
   */
  public static void forward(
      Matrix table, Indices ids, Matrix positions, int firstPosition, int time, Matrix out) {
    try (Call call = Call.take()) {
      call.input("table", table);
      if (positions == null) {
        call.absent();
      } else {
        call.input("positions", positions);
      }
      Checks.present("out", out);
      int rows = out.rows();
      call.indices("ids", ids, rows);
      call.output("out", out);
      prepare(call, "table", table, positions, firstPosition, time, out);
      call.requireIndices(IDS, rows, table.rows(), -1, false);
      Softmax.byRows(call, rows, out.cols(), Embedding::forward);
    }
  }

  private static void forward(Call call, int task) {
    MemorySegment out = call.segment[OUT];
    int cols = (int) call.cols;
    long end = call.endRow(task);
    for (long row = call.firstRow(task); row < end; row++) {
      long from = call.at(TABLE, call.index(IDS, row), 0);
      long to = call.at(OUT, row, 0);
      if (call.has(POSITIONS)) {
        long position = call.at(POSITIONS, call.origin + row % call.period, 0);
        Reduce.addRows(call.segment[TABLE], from, call.segment[POSITIONS], position, out, to, cols);
      } else {
        MemorySegment.copy(call.segment[TABLE], from, out, to, (long) cols * Float.BYTES);
      }
    }
  }

  /**
   * Gradient of {@link #forward(Matrix, Indices, Matrix, int, int, Matrix)}.
   *
   * @param ids {@code batch * time} indices
   * @param dOut {@code [batch * time, cols]}, gradient of the result
   * @param dTable null, or {@code [vocab, cols]}, added to
   * @param dPositions null, or {@code [at least firstPosition + time, cols]}, added to
   * @param firstPosition row of {@code dPositions} for t = 0
   * @param time length of a sequence
   */
  public static void backward(
      Indices ids, Matrix dOut, Matrix dTable, Matrix dPositions, int firstPosition, int time) {
    try (Call call = Call.take()) {
      if (dTable == null) {
        call.absent();
      } else {
        call.output("dTable", dTable);
      }
      if (dPositions == null) {
        call.absent();
      } else {
        call.output("dPositions", dPositions);
      }
      Checks.present("dOut", dOut);
      int rows = dOut.rows();
      call.indices("ids", ids, rows);
      call.input("dOut", dOut);
      prepare(call, "dTable", dTable, dPositions, firstPosition, time, dOut);
      if (dTable != null) {
        call.requireIndices(IDS, rows, dTable.rows(), -1, false);
      }
      call.rows = rows;
      call.cols = dOut.cols();
      call.run((dOut.cols() + COLUMNS - 1) / COLUMNS, Embedding::backward);
    }
  }

  private static void prepare(
      Call call,
      String tableName,
      Matrix table,
      Matrix positions,
      int firstPosition,
      int time,
      Matrix out) {
    if (table != null && table.cols() != out.cols()) {
      throw new IllegalArgumentException(
          tableName
              + " has "
              + table.cols()
              + " columns but the rows looked up have "
              + out.cols());
    }
    if (positions != null) {
      if (time < 1 || out.rows() % time != 0) {
        throw new IllegalArgumentException(
            out.rows() + " rows are no whole number of sequences of length " + time);
      }
      if (positions.cols() != out.cols()
          || firstPosition < 0
          || (long) firstPosition + time > positions.rows()) {
        throw new IllegalArgumentException(
            "positions are "
                + positions.rows()
                + " x "
                + positions.cols()
                + "; rows "
                + firstPosition
                + " to "
                + ((long) firstPosition + time)
                + " of "
                + out.cols()
                + " columns are needed");
      }
    }
    call.origin = firstPosition;
    call.period = time;
  }

  private static void backward(Call call, int task) {
    MemorySegment dOut = call.segment[OUT];
    int col = task * COLUMNS;
    int n = (int) Math.min(COLUMNS, call.cols - col);
    for (long row = 0; row < call.rows; row++) {
      long from = call.at(OUT, row, col);
      if (call.has(TABLE)) {
        long to = call.at(TABLE, call.index(IDS, row), col);
        Reduce.addRow(dOut, from, call.segment[TABLE], to, n);
      }
      if (call.has(POSITIONS)) {
        long to = call.at(POSITIONS, call.origin + row % call.period, col);
        Reduce.addRow(dOut, from, call.segment[POSITIONS], to, n);
      }
    }
  }
}
