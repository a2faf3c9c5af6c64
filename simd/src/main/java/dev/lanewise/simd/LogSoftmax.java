package dev.lanewise.simd;

import static dev.lanewise.simd.Machine.F;
import static dev.lanewise.simd.Machine.LANES;

import java.lang.foreign.MemorySegment;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorOperators;

/**
 * Logarithm of the softmax of each row and its gradient.
 *
 * <p>{@code y_i = (x_i - m) - log sum_j e^(x_j - m)} with m the row's maximum. A row that holds NaN
 * or +inf, or nothing but -inf, gives NaN throughout. Shapes, strides, overlaps and errors are
 * those of {@link Softmax}.
 */
public final class LogSoftmax {
  private static final ByteOrder ORDER = ByteOrder.nativeOrder();

  private LogSoftmax() {}

  /**
   * Logarithm of the softmax of each row.
   *
   * @param x {@code [rows, cols]}
   * @param y {@code [rows, cols]}; may be exactly {@code x}
   */
  public static void forward(Matrix x, Matrix y) {
    Call.sameShape("x", x, "y", y);
    try (Call call = Call.take()) {
      call.input("x", x);
      call.output("y", y);
      call.mayBeSame(1, 0);
      Softmax.byRows(call, x.rows(), x.cols(), LogSoftmax::forward);
    }
  }

  /** As {@link #forward(Matrix, Matrix)}, with offsets and strides in floats. */
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
      call.mayBeSame(1, 0);
      Softmax.byRows(call, rows, cols, LogSoftmax::forward);
    }
  }

  private static void forward(Call call, int task) {
    try (Scratch scratch = Exponentials.scratch(call.cols)) {
      long end = call.endRow(task);
      for (long row = call.firstRow(task); row < end; row++) {
        MemorySegment x = call.segment[0];
        long xAt = call.at(0, row, 0);
        Exponentials.statistics(x, xAt, call.cols, scratch);
        float maximum = (float) Exponentials.maximum(scratch);
        float logSum = (float) Math.log(Exponentials.sum(scratch));
        subtract(x, xAt, call.segment[1], call.at(1, row, 0), (int) call.cols, maximum, logSum);
      }
    }
  }

  private static void subtract(
      MemorySegment x, long xAt, MemorySegment y, long yAt, int n, float maximum, float logSum) {
    x = Native.known(x);
    y = Native.known(y);
    int whole = F.loopBound(n);
    for (int i = 0; i < whole; i += LANES) {
      long at = (long) i * Float.BYTES;
      FloatVector.fromMemorySegment(F, x, xAt + at, ORDER)
          .sub(maximum)
          .sub(logSum)
          .intoMemorySegment(y, yAt + at, ORDER);
    }
    if (whole < n) {
      long at = (long) whole * Float.BYTES;
      VectorMask<Float> mask = F.indexInRange(whole, n);
      FloatVector.fromMemorySegment(F, x, xAt + at, ORDER, mask)
          .sub(maximum)
          .sub(logSum)
          .intoMemorySegment(y, yAt + at, ORDER, mask);
    }
  }

  /**
   * Gradient of {@link #forward(Matrix, Matrix)}: {@code dx = dy - e^y sum_j dy_j}.
   *
   * @param y {@code [rows, cols]}, the result of the forward pass
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
      Softmax.runBackward(call, y.rows(), y.cols(), accumulate, LogSoftmax::backward);
    }
  }

  /** As {@link #backward(Matrix, Matrix, Matrix, boolean)}, with offsets and strides in floats. */
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
      Softmax.runBackward(call, rows, cols, accumulate, LogSoftmax::backward);
    }
  }

  private static void backward(Call call, int task) {
    try (Scratch scratch = Scratch.take(4L * Machine.VECTOR_BYTES)) {
      MemorySegment y = call.segment[0];
      MemorySegment dy = call.segment[1];
      MemorySegment dx = call.segment[2];
      MemorySegment s = scratch.segment;
      int cols = (int) call.cols;
      int whole = F.loopBound(cols);
      long wholeBytes = (long) whole * Float.BYTES;
      long tailBytes = (long) (cols - whole) * Float.BYTES;
      long end = call.endRow(task);
      for (long row = call.firstRow(task); row < end; row++) {
        long yAt = call.at(0, row, 0);
        long dyAt = call.at(1, row, 0);
        long dxAt = call.at(2, row, 0);
        float sum = (float) Reduce.sum(dy, dyAt, cols, s, 0);
        gradient(y, yAt, dy, dyAt, dx, dxAt, whole, sum, call.flag);
        if (tailBytes > 0) {
          MemorySegment.copy(y, yAt + wholeBytes, s, 0, tailBytes);
          MemorySegment.copy(dy, dyAt + wholeBytes, s, Machine.VECTOR_BYTES, tailBytes);
          MemorySegment.copy(dx, dxAt + wholeBytes, s, 2L * Machine.VECTOR_BYTES, tailBytes);
          gradient(
              s, 0, s, Machine.VECTOR_BYTES, s, 2L * Machine.VECTOR_BYTES, LANES, sum, call.flag);
          MemorySegment.copy(s, 2L * Machine.VECTOR_BYTES, dx, dxAt + wholeBytes, tailBytes);
        }
      }
    }
  }

  private static void gradient(
      MemorySegment y,
      long yAt,
      MemorySegment dy,
      long dyAt,
      MemorySegment dx,
      long dxAt,
      int n,
      float sum,
      boolean accumulate) {
    y = Native.known(y);
    dy = Native.known(dy);
    dx = Native.known(dx);
    FloatVector least = FloatVector.broadcast(F, VectorMath.EXP_ZERO);
    FloatVector minusSum = FloatVector.broadcast(F, -sum);
    for (int i = 0; i < n; i += LANES) {
      long at = (long) i * Float.BYTES;
      FloatVector v = FloatVector.fromMemorySegment(F, y, yAt + at, ORDER);
      v = v.blend(least, v.compare(VectorOperators.LT, least));
      FloatVector shifted =
          v.fma(
              FloatVector.broadcast(F, VectorMath.LOG2_E),
              FloatVector.broadcast(F, VectorMath.ROUND));
      FloatVector k = shifted.sub(VectorMath.ROUND);
      FloatVector r = k.fma(FloatVector.broadcast(F, -VectorMath.LN2), v);
      FloatVector p =
          r.fma(FloatVector.broadcast(F, VectorMath.E6), FloatVector.broadcast(F, VectorMath.E5));
      p = p.fma(r, FloatVector.broadcast(F, VectorMath.E4));
      p = p.fma(r, FloatVector.broadcast(F, VectorMath.E3));
      p = p.fma(r, FloatVector.broadcast(F, VectorMath.E2));
      p = p.fma(r.mul(r), r).add(1f);
      FloatVector power =
          shifted
              .reinterpretAsInts()
              .lanewise(VectorOperators.LSHL, VectorMath.EXPONENT)
              .reinterpretAsFloats();
      FloatVector g = FloatVector.fromMemorySegment(F, dy, dyAt + at, ORDER);
      g = p.mul(power).fma(minusSum, g);
      if (accumulate) {
        g = g.add(FloatVector.fromMemorySegment(F, dx, dxAt + at, ORDER));
      }
      g.intoMemorySegment(dx, dxAt + at, ORDER);
    }
  }
}
