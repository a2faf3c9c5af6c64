package dev.lanewise.simd;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/**
 * Elements picked out of rows, and matrices transposed.
 *
 * <p>A wrong call, an index outside a row included, gives an {@link IllegalArgumentException}
 * before anything is written.
 */
public final class Rearrange {
  private static final int TILE = 32;
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;

  private Rearrange() {}

  /**
   * Picks one element of each row: {@code out[i] = x[i, ids[i]]}.
   *
   * @param x {@code [rows, cols]}
   * @param ids {@code rows} indices
   * @param out {@code rows} floats from {@code outOffset}
   * @param outOffset first float of {@code out}
   */
  public static void gather(Matrix x, Indices ids, MemorySegment out, long outOffset) {
    try (Call call = Call.take()) {
      call.input("x", x);
      call.indices("ids", ids, x.rows());
      call.output("out", out, outOffset, x.rows());
      call.requireIndices(1, x.rows(), x.cols(), -1, false);
      rows(call, x, Rearrange::gather);
    }
  }

  /**
   * Gradient of {@link #gather}: {@code dx[i, ids[i]] += dy[i]}.
   *
   * @param ids {@code rows} indices
   * @param dy {@code rows} floats from {@code dyOffset}
   * @param dyOffset first float of {@code dy}
   * @param dx {@code [rows, cols]}, added to
   */
  public static void gatherBackward(Indices ids, MemorySegment dy, long dyOffset, Matrix dx) {
    try (Call call = Call.take()) {
      call.output("dx", dx);
      call.indices("ids", ids, dx.rows());
      call.input("dy", dy, dyOffset, dx.rows());
      call.requireIndices(1, dx.rows(), dx.cols(), -1, false);
      rows(call, dx, Rearrange::scatter);
    }
  }

  private static void rows(Call call, Matrix x, Call.Body body) {
    call.rows = x.rows();
    call.taskRows = TILE * TILE;
    call.run(call.rowTasks(), body);
  }

  private static void gather(Call call, int task) {
    long end = call.endRow(task);
    for (long row = call.firstRow(task); row < end; row++) {
      call.setFloat(2, row, call.segment[0].get(FLOAT, call.at(0, row, call.index(1, row))));
    }
  }

  private static void scatter(Call call, int task) {
    MemorySegment dx = call.segment[0];
    long end = call.endRow(task);
    for (long row = call.firstRow(task); row < end; row++) {
      long at = call.at(0, row, call.index(1, row));
      dx.set(FLOAT, at, dx.get(FLOAT, at) + call.getFloat(2, row));
    }
  }

  /**
   * {@code y[j, i] = x[i, j]}.
   *
   * @param x {@code [rows, cols]}
   * @param y {@code [cols, rows]}
   */
  public static void transpose(Matrix x, Matrix y) {
    Checks.present("x", x);
    Checks.present("y", y);
    if (x.rows() != y.cols() || x.cols() != y.rows()) {
      throw new IllegalArgumentException(
          "x is "
              + x.rows()
              + " x "
              + x.cols()
              + ", so its transpose is not "
              + y.rows()
              + " x "
              + y.cols());
    }
    try (Call call = Call.take()) {
      call.input("x", x);
      call.output("y", y);
      call.rows = x.rows();
      call.cols = x.cols();
      call.taskRows = TILE;
      call.run(call.rowTasks(), Rearrange::transpose);
    }
  }

  private static void transpose(Call call, int task) {
    MemorySegment x = Native.known(call.segment[0]);
    MemorySegment y = Native.known(call.segment[1]);
    long rows = call.endRow(task) - call.firstRow(task);
    long xStride = call.at(0, 1, 0) - call.at(0, 0, 0);
    long yStride = call.at(1, 1, 0) - call.at(1, 0, 0);
    long xAt = call.at(0, call.firstRow(task), 0);
    long yAt = call.at(1, 0, call.firstRow(task));
    for (long from = 0; from < call.cols; from += TILE) {
      int cols = (int) Math.min(TILE, call.cols - from);
      for (int i = 0; i < rows; i++) {
        long in = xAt + i * xStride + from * Float.BYTES;
        long out = yAt + from * yStride + (long) i * Float.BYTES;
        for (int j = 0; j < cols; j++) {
          y.set(FLOAT, out + j * yStride, x.get(FLOAT, in + (long) j * Float.BYTES));
        }
      }
    }
  }
}
