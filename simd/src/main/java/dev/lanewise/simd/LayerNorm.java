package dev.lanewise.simd;

import static dev.lanewise.simd.Machine.F;
import static dev.lanewise.simd.Machine.LANES;

import java.lang.foreign.MemorySegment;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorMask;

/**
 * Layer normalisation of each row, its gradient, and the sum of two rows normalised in one pass.
 *
 * <p>{@code y = (x - mean) rstd w + b} with the biased variance and {@code rstd = 1 / sqrt(variance
 * + eps)}. The variance is taken about a mean that was corrected once, so a constant row gives
 * exactly the bias. With {@code g = w dy} and {@code h = (x - mean) rstd} the gradient is {@code dx
 * = rstd (g - mean(g) - h mean(g h))}, {@code dw += sum over rows of dy h}, {@code db += sum over
 * rows of dy}. The sums over rows are taken over fixed groups of rows, the same to the bit for any
 * number of threads.
 *
 * <p>Matrices are {@code [rows, cols]}; weight, bias and their gradients {@code cols} floats, mean
 * and rstd {@code rows} floats, from the start of their segments. Outputs may be exactly the input
 * that is said and may not overlap one otherwise. A wrong call gives an {@link
 * IllegalArgumentException} before anything is written.
 */
public final class LayerNorm {
  /** What PyTorch and GPT-2 add to the variance. */
  public static final float DEFAULT_EPS = 1e-5f;

  // Operands of the forward pass.
  private static final int X = 0;
  private static final int WEIGHT = 1;
  private static final int BIAS = 2;
  private static final int Y = 3;
  private static final int MEAN = 4;
  private static final int RSTD = 5;
  private static final int RESIDUAL = 6;
  private static final int SUM = 7;

  // Operands of the backward pass; X and WEIGHT as above.
  private static final int DY = 2;
  private static final int DX = 3;
  private static final int DW = 6;
  private static final int DB = 7;

  private static final int FINISH_COLUMNS = 512;
  private static final ByteOrder ORDER = ByteOrder.nativeOrder();

  private LayerNorm() {}

  /**
   * Normalises each row.
   *
   * @param x {@code [rows, cols]}
   * @param weight {@code cols} floats
   * @param bias {@code cols} floats
   * @param y {@code [rows, cols]}; may be exactly {@code x}
   * @param mean null, or receives {@code rows} floats
   * @param rstd null, or receives {@code rows} floats
   * @param eps added to the variance
   */
  public static void forward(
      Matrix x,
      MemorySegment weight,
      MemorySegment bias,
      Matrix y,
      MemorySegment mean,
      MemorySegment rstd,
      float eps) {
    Call.sameShape("x", x, "y", y);
    try (Call call = Call.take()) {
      call.input("x", x);
      call.input("weight", weight, 0, x.cols());
      call.input("bias", bias, 0, x.cols());
      call.output("y", y);
      call.mayBeSame(Y, X);
      statistics(call, mean, rstd, x.rows());
      call.absent();
      call.absent();
      run(call, x.rows(), x.cols(), eps);
    }
  }

  /**
   * As {@link #forward(Matrix, MemorySegment, MemorySegment, Matrix, MemorySegment, MemorySegment,
   * float)} over raw memory; offsets and strides count floats.
   */
  public static void forward(
      MemorySegment x,
      long xOffset,
      long xStride,
      MemorySegment weight,
      long weightOffset,
      MemorySegment bias,
      long biasOffset,
      MemorySegment y,
      long yOffset,
      long yStride,
      MemorySegment mean,
      MemorySegment rstd,
      int rows,
      int cols,
      float eps) {
    try (Call call = Call.take()) {
      call.input("x", x, xOffset, rows, cols, xStride);
      call.input("weight", weight, weightOffset, cols);
      call.input("bias", bias, biasOffset, cols);
      call.output("y", y, yOffset, rows, cols, yStride);
      call.mayBeSame(Y, X);
      statistics(call, mean, rstd, rows);
      call.absent();
      call.absent();
      run(call, rows, cols, eps);
    }
  }

  /**
   * Adds two matrices and normalises each row of the sum, in one pass over memory: {@code sum = x +
   * residual}, {@code y = norm(sum)}.
   *
   * @param x {@code [rows, cols]}
   * @param residual {@code [rows, cols]}
   * @param sum {@code [rows, cols]}; may be exactly {@code x} or {@code residual}
   * @param weight {@code cols} floats
   * @param bias {@code cols} floats
   * @param y {@code [rows, cols]}; may be exactly {@code x} or {@code residual}, not the sum
   * @param mean null, or receives {@code rows} floats
   * @param rstd null, or receives {@code rows} floats
   * @param eps added to the variance
   */
  public static void addForward(
      Matrix x,
      Matrix residual,
      Matrix sum,
      MemorySegment weight,
      MemorySegment bias,
      Matrix y,
      MemorySegment mean,
      MemorySegment rstd,
      float eps) {
    Call.sameShape("x", x, "residual", residual);
    Call.sameShape("x", x, "sum", sum);
    Call.sameShape("x", x, "y", y);
    try (Call call = Call.take()) {
      call.input("x", x);
      call.input("weight", weight, 0, x.cols());
      call.input("bias", bias, 0, x.cols());
      call.output("y", y);
      statistics(call, mean, rstd, x.rows());
      call.input("residual", residual);
      call.output("sum", sum);
      call.mayBeSame(Y, X);
      call.mayBeSame(Y, RESIDUAL);
      call.mayBeSame(SUM, X);
      call.mayBeSame(SUM, RESIDUAL);
      run(call, x.rows(), x.cols(), eps);
    }
  }

  private static void statistics(Call call, MemorySegment mean, MemorySegment rstd, long rows) {
    if (mean == null) {
      call.absent();
    } else {
      call.output("mean", mean, 0, rows);
    }
    if (rstd == null) {
      call.absent();
    } else {
      call.output("rstd", rstd, 0, rows);
    }
  }

  private static void run(Call call, int rows, int cols, float eps) {
    call.scalar[0] = eps;
    Softmax.byRows(call, rows, cols, LayerNorm::forward);
  }

  private static void forward(Call call, int task) {
    int cols = (int) call.cols;
    boolean isSum = call.has(SUM);
    MemorySegment x = call.segment[isSum ? SUM : X];
    try (Scratch scratch = Scratch.take(2L * Machine.VECTOR_BYTES)) {
      MemorySegment lanes = scratch.segment;
      long end = call.endRow(task);
      for (long row = call.firstRow(task); row < end; row++) {
        long xAt = call.at(isSum ? SUM : X, row, 0);
        if (isSum) {
          Reduce.addRows(
              call.segment[X],
              call.at(X, row, 0),
              call.segment[RESIDUAL],
              call.at(RESIDUAL, row, 0),
              x,
              xAt,
              cols);
        }
        float guess = (float) (sum(x, xAt, cols, lanes) / cols);
        deviations(x, xAt, cols, guess, lanes);
        double deviation = Lanes.sum(lanes, 0) / cols;
        double square = Lanes.sum(lanes, Machine.VECTOR_BYTES) / cols;
        float mean = (float) (guess + deviation);
        double variance = Math.max(0, square - deviation * deviation);
        float rstd = (float) (1 / Math.sqrt(variance + call.scalar[0]));
        normalise(
            x,
            xAt,
            call.segment[WEIGHT],
            call.at(WEIGHT, 0, 0),
            call.segment[BIAS],
            call.at(BIAS, 0, 0),
            call.segment[Y],
            call.at(Y, row, 0),
            cols,
            guess,
            rstd,
            (float) (-deviation * rstd));
        if (call.has(MEAN)) {
          call.setFloat(MEAN, row, mean);
        }
        if (call.has(RSTD)) {
          call.setFloat(RSTD, row, rstd);
        }
      }
    }
  }

  private static double sum(MemorySegment x, long xAt, int n, MemorySegment lanes) {
    x = Native.known(x);
    lanes = Native.known(lanes);
    FloatVector sum = FloatVector.zero(F);
    FloatVector other = FloatVector.zero(F);
    int whole = F.loopBound(n);
    int i = 0;
    for (; i < whole - LANES; i += 2 * LANES) {
      long at = xAt + (long) i * Float.BYTES;
      sum = FloatVector.fromMemorySegment(F, x, at, ORDER).add(sum);
      other = FloatVector.fromMemorySegment(F, x, at + Machine.VECTOR_BYTES, ORDER).add(other);
    }
    if (i < whole) {
      sum = FloatVector.fromMemorySegment(F, x, xAt + (long) i * Float.BYTES, ORDER).add(sum);
    }
    sum = sum.add(other);
    if (whole < n) {
      long at = xAt + (long) whole * Float.BYTES;
      sum = FloatVector.fromMemorySegment(F, x, at, ORDER, F.indexInRange(whole, n)).add(sum);
    }
    sum.intoMemorySegment(lanes, 0, ORDER);
    return Lanes.sum(lanes, 0);
  }

  /** Lane sums of {@code x - mean} and, a vector further, of its square. */
  private static void deviations(
      MemorySegment x, long xAt, int n, float mean, MemorySegment lanes) {
    x = Native.known(x);
    lanes = Native.known(lanes);
    FloatVector sum = FloatVector.zero(F);
    FloatVector squares = FloatVector.zero(F);
    FloatVector otherSum = FloatVector.zero(F);
    FloatVector otherSquares = FloatVector.zero(F);
    int whole = F.loopBound(n);
    int i = 0;
    for (; i < whole - LANES; i += 2 * LANES) {
      long at = xAt + (long) i * Float.BYTES;
      FloatVector d = FloatVector.fromMemorySegment(F, x, at, ORDER).sub(mean);
      FloatVector e =
          FloatVector.fromMemorySegment(F, x, at + Machine.VECTOR_BYTES, ORDER).sub(mean);
      sum = d.add(sum);
      squares = d.fma(d, squares);
      otherSum = e.add(otherSum);
      otherSquares = e.fma(e, otherSquares);
    }
    if (i < whole) {
      FloatVector d =
          FloatVector.fromMemorySegment(F, x, xAt + (long) i * Float.BYTES, ORDER).sub(mean);
      sum = d.add(sum);
      squares = d.fma(d, squares);
    }
    sum = sum.add(otherSum);
    squares = squares.add(otherSquares);
    if (whole < n) {
      VectorMask<Float> mask = F.indexInRange(whole, n);
      long at = xAt + (long) whole * Float.BYTES;
      FloatVector d = FloatVector.fromMemorySegment(F, x, at, ORDER, mask).sub(mean);
      d = FloatVector.zero(F).blend(d, mask);
      sum = d.add(sum);
      squares = d.fma(d, squares);
    }
    sum.intoMemorySegment(lanes, 0, ORDER);
    squares.intoMemorySegment(lanes, Machine.VECTOR_BYTES, ORDER);
  }

  /** {@code y = ((x - guess) rstd + shift) weight + bias}. */
  private static void normalise(
      MemorySegment x,
      long xAt,
      MemorySegment weight,
      long weightAt,
      MemorySegment bias,
      long biasAt,
      MemorySegment y,
      long yAt,
      int n,
      float guess,
      float rstd,
      float shift) {
    x = Native.known(x);
    weight = Native.known(weight);
    bias = Native.known(bias);
    y = Native.known(y);
    FloatVector scale = FloatVector.broadcast(F, rstd);
    FloatVector offset = FloatVector.broadcast(F, shift);
    int whole = F.loopBound(n);
    for (int i = 0; i < whole; i += LANES) {
      long at = (long) i * Float.BYTES;
      FloatVector h =
          FloatVector.fromMemorySegment(F, x, xAt + at, ORDER).sub(guess).fma(scale, offset);
      h.fma(
              FloatVector.fromMemorySegment(F, weight, weightAt + at, ORDER),
              FloatVector.fromMemorySegment(F, bias, biasAt + at, ORDER))
          .intoMemorySegment(y, yAt + at, ORDER);
    }
    if (whole < n) {
      long at = (long) whole * Float.BYTES;
      VectorMask<Float> mask = F.indexInRange(whole, n);
      FloatVector h =
          FloatVector.fromMemorySegment(F, x, xAt + at, ORDER, mask).sub(guess).fma(scale, offset);
      h.fma(
              FloatVector.fromMemorySegment(F, weight, weightAt + at, ORDER, mask),
              FloatVector.fromMemorySegment(F, bias, biasAt + at, ORDER, mask))
          .intoMemorySegment(y, yAt + at, ORDER, mask);
    }
  }

  /**
   * Gradient of the normalisation.
   *
   * @param dy {@code [rows, cols]}, gradient of the result
   * @param x {@code [rows, cols]}, what was normalised
   * @param weight {@code cols} floats
   * @param mean {@code rows} floats, kept by the forward pass
   * @param rstd {@code rows} floats, kept by the forward pass
   * @param dx {@code [rows, cols]}; may be exactly {@code dy} or {@code x}
   * @param accumulate whether the gradient is added to {@code dx}, or else overwrites it
   * @param dWeight null, or {@code cols} floats that are added to
   * @param dBias null, or {@code cols} floats that are added to
   */
  public static void backward(
      Matrix dy,
      Matrix x,
      MemorySegment weight,
      MemorySegment mean,
      MemorySegment rstd,
      Matrix dx,
      boolean accumulate,
      MemorySegment dWeight,
      MemorySegment dBias) {
    Call.sameShape("x", x, "dy", dy);
    Call.sameShape("x", x, "dx", dx);
    try (Call call = Call.take()) {
      call.input("x", x);
      call.input("weight", weight, 0, x.cols());
      call.input("dy", dy);
      call.output("dx", dx);
      call.input("mean", mean, 0, x.rows());
      call.input("rstd", rstd, 0, x.rows());
      gradients(call, dWeight, 0, dBias, 0, x.cols());
      runBackward(call, x.rows(), x.cols(), accumulate);
    }
  }

  /**
   * As {@link #backward(Matrix, Matrix, MemorySegment, MemorySegment, MemorySegment, Matrix,
   * boolean, MemorySegment, MemorySegment)} over raw memory; offsets and strides count floats.
   */
  public static void backward(
      MemorySegment dy,
      long dyOffset,
      long dyStride,
      MemorySegment x,
      long xOffset,
      long xStride,
      MemorySegment weight,
      long weightOffset,
      MemorySegment mean,
      MemorySegment rstd,
      MemorySegment dx,
      long dxOffset,
      long dxStride,
      boolean accumulate,
      MemorySegment dWeight,
      long dWeightOffset,
      MemorySegment dBias,
      long dBiasOffset,
      int rows,
      int cols) {
    try (Call call = Call.take()) {
      call.input("x", x, xOffset, rows, cols, xStride);
      call.input("weight", weight, weightOffset, cols);
      call.input("dy", dy, dyOffset, rows, cols, dyStride);
      call.output("dx", dx, dxOffset, rows, cols, dxStride);
      call.input("mean", mean, 0, rows);
      call.input("rstd", rstd, 0, rows);
      gradients(call, dWeight, dWeightOffset, dBias, dBiasOffset, cols);
      runBackward(call, rows, cols, accumulate);
    }
  }

  private static void gradients(
      Call call, MemorySegment dw, long dwOffset, MemorySegment db, long dbOffset, int cols) {
    if (dw == null) {
      call.absent();
    } else {
      call.output("dWeight", dw, dwOffset, cols);
    }
    if (db == null) {
      call.absent();
    } else {
      call.output("dBias", db, dbOffset, cols);
    }
  }

  private static void runBackward(Call call, int rows, int cols, boolean accumulate) {
    call.mayBeSame(DX, X);
    call.mayBeSame(DX, DY);
    call.flag = accumulate;
    call.rows = rows;
    call.cols = cols;
    call.taskRows = Reduce.partRows(rows);
    int parts = call.rowTasks();
    try (Scratch partial = Scratch.take(2 * parts * Reduce.paddedBytes(cols))) {
      call.scratch = partial.segment;
      int finish = (cols + FINISH_COLUMNS - 1) / FINISH_COLUMNS;
      call.run(parts, LayerNorm::backwardPart, finish, LayerNorm::backwardFinish);
    }
  }

  private static void backwardPart(Call call, int task) {
    int cols = (int) call.cols;
    long rowBytes = Reduce.paddedBytes(cols);
    long dwAt = 2 * task * rowBytes;
    long dbAt = dwAt + rowBytes;
    Reduce.clear(call.scratch, dwAt, cols);
    Reduce.clear(call.scratch, dbAt, cols);
    try (Scratch scratch = Scratch.take(3L * Machine.VECTOR_BYTES)) {
      MemorySegment lanes = scratch.segment;
      long end = call.endRow(task);
      for (long row = call.firstRow(task); row < end; row++) {
        float mean = call.getFloat(MEAN, row);
        float rstd = call.getFloat(RSTD, row);
        gradientSums(
            call.segment[X],
            call.at(X, row, 0),
            call.segment[WEIGHT],
            call.at(WEIGHT, 0, 0),
            call.segment[DY],
            call.at(DY, row, 0),
            cols,
            mean,
            rstd,
            lanes);
        double meanG = Lanes.sum(lanes, 0) / cols;
        double meanGh = Lanes.sum(lanes, Machine.VECTOR_BYTES) / cols;
        // The kept mean was rounded; what it lacks shows as a mean of h that is not 0.
        double meanH = Lanes.sum(lanes, 2L * Machine.VECTOR_BYTES) / cols;
        gradient(
            call.segment[X],
            call.at(X, row, 0),
            call.segment[WEIGHT],
            call.at(WEIGHT, 0, 0),
            call.segment[DY],
            call.at(DY, row, 0),
            call.segment[DX],
            call.at(DX, row, 0),
            call.flag,
            call.scratch,
            dwAt,
            dbAt,
            cols,
            mean,
            rstd,
            (float) -meanH,
            (float) meanG,
            (float) (meanGh - meanH * meanG));
      }
    }
  }

  /** Lane sums of {@code g} and, one and two vectors further, of {@code g h} and {@code h}. */
  private static void gradientSums(
      MemorySegment x,
      long xAt,
      MemorySegment weight,
      long weightAt,
      MemorySegment dy,
      long dyAt,
      int n,
      float mean,
      float rstd,
      MemorySegment lanes) {
    x = Native.known(x);
    weight = Native.known(weight);
    dy = Native.known(dy);
    lanes = Native.known(lanes);
    FloatVector sum = FloatVector.zero(F);
    FloatVector products = FloatVector.zero(F);
    FloatVector means = FloatVector.zero(F);
    int whole = F.loopBound(n);
    for (int i = 0; i < whole; i += LANES) {
      long at = (long) i * Float.BYTES;
      FloatVector h = FloatVector.fromMemorySegment(F, x, xAt + at, ORDER).sub(mean).mul(rstd);
      FloatVector g =
          FloatVector.fromMemorySegment(F, dy, dyAt + at, ORDER)
              .mul(FloatVector.fromMemorySegment(F, weight, weightAt + at, ORDER));
      sum = g.add(sum);
      products = g.fma(h, products);
      means = h.add(means);
    }
    if (whole < n) {
      long at = (long) whole * Float.BYTES;
      VectorMask<Float> mask = F.indexInRange(whole, n);
      FloatVector h =
          FloatVector.fromMemorySegment(F, x, xAt + at, ORDER, mask).sub(mean).mul(rstd);
      FloatVector g =
          FloatVector.fromMemorySegment(F, dy, dyAt + at, ORDER, mask)
              .mul(FloatVector.fromMemorySegment(F, weight, weightAt + at, ORDER, mask));
      sum = g.add(sum);
      products = products.blend(g.fma(h, products), mask);
      means = means.blend(means.add(h), mask);
    }
    sum.intoMemorySegment(lanes, 0, ORDER);
    products.intoMemorySegment(lanes, Machine.VECTOR_BYTES, ORDER);
    means.intoMemorySegment(lanes, 2L * Machine.VECTOR_BYTES, ORDER);
  }

  private static void gradient(
      MemorySegment x,
      long xAt,
      MemorySegment weight,
      long weightAt,
      MemorySegment dy,
      long dyAt,
      MemorySegment dx,
      long dxAt,
      boolean accumulate,
      MemorySegment part,
      long dwAt,
      long dbAt,
      int n,
      float mean,
      float rstd,
      float shift,
      float meanG,
      float meanGh) {
    x = Native.known(x);
    weight = Native.known(weight);
    dy = Native.known(dy);
    dx = Native.known(dx);
    part = Native.known(part);
    FloatVector scale = FloatVector.broadcast(F, rstd);
    FloatVector offset = FloatVector.broadcast(F, shift);
    int whole = F.loopBound(n);
    for (int i = 0; i < whole; i += LANES) {
      long at = (long) i * Float.BYTES;
      FloatVector h =
          FloatVector.fromMemorySegment(F, x, xAt + at, ORDER).sub(mean).fma(scale, offset);
      FloatVector d = FloatVector.fromMemorySegment(F, dy, dyAt + at, ORDER);
      FloatVector g = d.mul(FloatVector.fromMemorySegment(F, weight, weightAt + at, ORDER));
      FloatVector r = h.fma(FloatVector.broadcast(F, -meanGh), g.sub(meanG)).mul(rstd);
      if (accumulate) {
        r = r.add(FloatVector.fromMemorySegment(F, dx, dxAt + at, ORDER));
      }
      r.intoMemorySegment(dx, dxAt + at, ORDER);
      d.fma(h, FloatVector.fromMemorySegment(F, part, dwAt + at, ORDER))
          .intoMemorySegment(part, dwAt + at, ORDER);
      d.add(FloatVector.fromMemorySegment(F, part, dbAt + at, ORDER))
          .intoMemorySegment(part, dbAt + at, ORDER);
    }
    if (whole < n) {
      long at = (long) whole * Float.BYTES;
      VectorMask<Float> mask = F.indexInRange(whole, n);
      FloatVector h =
          FloatVector.fromMemorySegment(F, x, xAt + at, ORDER, mask).sub(mean).fma(scale, offset);
      FloatVector d = FloatVector.fromMemorySegment(F, dy, dyAt + at, ORDER, mask);
      FloatVector g = d.mul(FloatVector.fromMemorySegment(F, weight, weightAt + at, ORDER, mask));
      FloatVector r = h.fma(FloatVector.broadcast(F, -meanGh), g.sub(meanG)).mul(rstd);
      if (accumulate) {
        r = r.add(FloatVector.fromMemorySegment(F, dx, dxAt + at, ORDER, mask));
      }
      r.intoMemorySegment(dx, dxAt + at, ORDER, mask);
      d.fma(h, FloatVector.fromMemorySegment(F, part, dwAt + at, ORDER, mask))
          .intoMemorySegment(part, dwAt + at, ORDER, mask);
      d.add(FloatVector.fromMemorySegment(F, part, dbAt + at, ORDER, mask))
          .intoMemorySegment(part, dbAt + at, ORDER, mask);
    }
  }

  private static void backwardFinish(Call call, int task) {
    int from = task * FINISH_COLUMNS;
    int n = (int) Math.min(FINISH_COLUMNS, call.cols - from);
    long rowBytes = Reduce.paddedBytes(call.cols);
    long at = (long) from * Float.BYTES;
    int parts = call.rowTasks();
    if (call.has(DW)) {
      Reduce.addParts(
          call.scratch, at, 2 * rowBytes, parts, call.segment[DW], call.at(DW, 0, from), n, true);
    }
    if (call.has(DB)) {
      Reduce.addParts(
          call.scratch,
          rowBytes + at,
          2 * rowBytes,
          parts,
          call.segment[DB],
          call.at(DB, 0, from),
          n,
          true);
    }
  }
}
