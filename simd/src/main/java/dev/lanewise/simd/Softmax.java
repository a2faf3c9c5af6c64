package dev.lanewise.simd;

import static dev.lanewise.simd.Machine.F;
import static dev.lanewise.simd.Machine.LANES;

import java.lang.foreign.MemorySegment;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorMask;

/**
 * Softmax of each row and its gradient.
 *
 * <p>{@code y_i = e^(x_i - m) / sum_j e^(x_j - m)} with m the row's maximum. A row that holds NaN
 * or +inf, or nothing but -inf, gives NaN throughout. Shapes are {@code [rows, cols]}, rows lie
 * {@code stride} floats apart; outputs may be exactly an input and may not overlap one otherwise. A
 * wrong call gives an {@link IllegalArgumentException} before anything is written.
 */
public final class Softmax {
  private static final ByteOrder ORDER = ByteOrder.nativeOrder();

  private Softmax() {}

  /**
   * Softmax of each row.
   *
   * @param x {@code [rows, cols]}
   * @param y {@code [rows, cols]}; may be exactly {@code x}
   */
  public static void forward(Matrix x, Matrix y) {
    Call.sameShape("x", x, "y", y);
    try (Call call = Call.take()) {
      call.input("x", x);
      call.output("y", y);
      run(call, x.rows(), x.cols(), Softmax::forward);
    }
  }

  /** Softmax of each row; see {@link #forward(Matrix, Matrix)}. Offsets and strides in floats. */
  public static void forward(
      MemorySegment x,
      long xOffset,
      long xStride,
      MemorySegment y,
      long yOffset,
      long yStride,
      int rows,
      int cols) {
    try (Call call = Call.take()) {
      call.input("x", x, xOffset, rows, cols, xStride);
      call.output("y", y, yOffset, rows, cols, yStride);
      run(call, rows, cols, Softmax::forward);
    }
  }

  private static void run(Call call, int rows, int cols, Call.Body body) {
    call.mayBeSame(1, 0);
    byRows(call, rows, cols, body);
  }

  /** Runs a row kernel; without columns there is nothing to do. */
  static void byRows(Call call, int rows, int cols, Call.Body body) {
    call.rows = cols == 0 ? 0 : rows;
    call.cols = cols;
    call.byRows(body);
  }

  private static void forward(Call call, int task) {
    try (Scratch scratch = Exponentials.scratch(call.cols)) {
      long end = call.endRow(task);
      for (long row = call.firstRow(task); row < end; row++) {
        MemorySegment y = call.segment[1];
        long yAt = call.at(1, row, 0);
        Exponentials.exponentials(call.segment[0], call.at(0, row, 0), y, yAt, call.cols, scratch);
        Exponentials.rescale(y, yAt, call.cols, 1 / Exponentials.sum(scratch), 0, scratch);
      }
    }
  }

  /**
   * Gradient of {@link #forward(Matrix, Matrix)}: {@code dx = y (dy - sum_j dy_j y_j)}.
   *
   * @param y {@code [rows, cols]}, the softmax
   * @param dy {@code [rows, cols]}, gradient of {@code y}
   * @param dx {@code [rows, cols]}; may be exactly {@code y} or {@code dy}
   * @param accumulate whether the gradient is added to {@code dx}, or else overwrites it
   */
  public static void backward(Matrix y, Matrix dy, Matrix dx, boolean accumulate) {
    Call.sameShape("y", y, "dy", dy);
    Call.sameShape("y", y, "dx", dx);
    try (Call call = Call.take()) {
      call.input("y", y);
      call.input("dy", dy);
      call.output("dx", dx);
      runBackward(call, y.rows(), y.cols(), accumulate, Softmax::backward);
    }
  }

  /** Gradient; see {@link #backward(Matrix, Matrix, Matrix, boolean)}. Strides in floats. */
  public static void backward(
      MemorySegment y,
      long yOffset,
      long yStride,
      MemorySegment dy,
      long dyOffset,
      long dyStride,
      MemorySegment dx,
      long dxOffset,
      long dxStride,
      int rows,
      int cols,
      boolean accumulate) {
    try (Call call = Call.take()) {
      call.input("y", y, yOffset, rows, cols, yStride);
      call.input("dy", dy, dyOffset, rows, cols, dyStride);
      call.output("dx", dx, dxOffset, rows, cols, dxStride);
      runBackward(call, rows, cols, accumulate, Softmax::backward);
    }
  }

  static void runBackward(Call call, int rows, int cols, boolean accumulate, Call.Body body) {
    call.mayBeSame(2, 0);
    call.mayBeSame(2, 1);
    call.flag = accumulate;
    byRows(call, rows, cols, body);
  }

  private static void backward(Call call, int task) {
    try (Scratch scratch = Scratch.take(Machine.VECTOR_BYTES)) {
      MemorySegment y = call.segment[0];
      MemorySegment dy = call.segment[1];
      MemorySegment dx = call.segment[2];
      long end = call.endRow(task);
      for (long row = call.firstRow(task); row < end; row++) {
        long yAt = call.at(0, row, 0);
        long dyAt = call.at(1, row, 0);
        int cols = (int) call.cols;
        float dot = (float) dot(y, yAt, dy, dyAt, cols, scratch.segment);
        gradient(y, yAt, dy, dyAt, dx, call.at(2, row, 0), cols, dot, call.flag);
      }
    }
  }

  private static double dot(
      MemorySegment a, long aAt, MemorySegment b, long bAt, int n, MemorySegment lanes) {
    a = Native.known(a);
    b = Native.known(b);
    lanes = Native.known(lanes);
    FloatVector sum = FloatVector.zero(F);
    int whole = F.loopBound(n);
    for (int i = 0; i < whole; i += LANES) {
      long at = (long) i * Float.BYTES;
      FloatVector v = FloatVector.fromMemorySegment(F, a, aAt + at, ORDER);
      FloatVector w = FloatVector.fromMemorySegment(F, b, bAt + at, ORDER);
      sum = v.fma(w, sum);
    }
    if (whole < n) {
      long at = (long) whole * Float.BYTES;
      VectorMask<Float> mask = F.indexInRange(whole, n);
      FloatVector v = FloatVector.fromMemorySegment(F, a, aAt + at, ORDER, mask);
      FloatVector w = FloatVector.fromMemorySegment(F, b, bAt + at, ORDER, mask);
      sum = v.fma(w, sum);
    }
    sum.intoMemorySegment(lanes, 0, ORDER);
    return Lanes.sum(lanes, 0);
  }

  private static void gradient(
      MemorySegment y,
      long yAt,
      MemorySegment dy,
      long dyAt,
      MemorySegment dx,
      long dxAt,
      int n,
      float dot,
      boolean accumulate) {
    y = Native.known(y);
    dy = Native.known(dy);
    dx = Native.known(dx);
    int whole = F.loopBound(n);
    for (int i = 0; i < whole; i += LANES) {
      long at = (long) i * Float.BYTES;
      FloatVector v = FloatVector.fromMemorySegment(F, y, yAt + at, ORDER);
      FloatVector g = FloatVector.fromMemorySegment(F, dy, dyAt + at, ORDER).sub(dot).mul(v);
      if (accumulate) {
        g = g.add(FloatVector.fromMemorySegment(F, dx, dxAt + at, ORDER));
      }
      g.intoMemorySegment(dx, dxAt + at, ORDER);
    }
    if (whole < n) {
      long at = (long) whole * Float.BYTES;
      VectorMask<Float> mask = F.indexInRange(whole, n);
      FloatVector v = FloatVector.fromMemorySegment(F, y, yAt + at, ORDER, mask);
      FloatVector g = FloatVector.fromMemorySegment(F, dy, dyAt + at, ORDER, mask).sub(dot).mul(v);
      if (accumulate) {
        g = g.add(FloatVector.fromMemorySegment(F, dx, dxAt + at, ORDER, mask));
      }
      g.intoMemorySegment(dx, dxAt + at, ORDER, mask);
    }
  }
}
