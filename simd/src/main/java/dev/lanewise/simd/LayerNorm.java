package dev.lanewise.simd;

import static dev.lanewise.simd.Machine.F;
import static dev.lanewise.simd.Machine.LANES;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorMask;

/**
 * Layer normalisation of each row, its gradient, and the sum of two rows normalised in one pass.
 *
 * <p>{@code y = (x - mean) rstd w + b} with the biased variance and {@code rstd = 1 / sqrt(variance
 * + eps)}. The variance is taken about a mean that was corrected once, so a constant row gives
 * exactly the bias. Rows whose squares no float can hold, of numbers from about 1e19 on, are
 * normalised in double precision, slowly. With {@code g = w dy} and {@code h = (x - mean) rstd} the
 * gradient is {@code dx = rstd (g - mean(g) - h mean(g h))}, {@code dw += sum over rows of dy h},
 * {@code db += sum over rows of dy}. The sums over rows are taken over fixed groups of rows, the
 * same to the bit for any number of threads.
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
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;

  /**
   * Rows that go through each step together. What a step takes from the one before, a division or a
   * root, is long in coming, and vectors that wait for it would fill the processor's queues: of a
   * row of eight vectors, waiting was two thirds of the time.
   */
  private static final int MAX_GROUP = 16;

  /** Bytes of such rows, of each operand: they stay in the first-level cache between the steps. */
  private static final long GROUP_BYTES = 8 << 10;

  // What a row of a group keeps between the steps: lane sums, then numbers.
  private static final long SUM_LANES = 0;
  private static final long SQUARE_LANES = Machine.VECTOR_BYTES;
  private static final long MEAN_LANES = 2L * Machine.VECTOR_BYTES;
  private static final long NUMBERS = 3L * Machine.VECTOR_BYTES;
  private static final long GUESS_AT = NUMBERS;
  private static final long SCALE_AT = NUMBERS + 4;
  private static final long SHIFT_AT = NUMBERS + 8;
  private static final long MEAN_G_AT = NUMBERS + 12;
  private static final long MEAN_GH_AT = NUMBERS + 16;
  private static final long VARIANCE_AT = NUMBERS + 20;
  private static final long ROW_BYTES = NUMBERS + 64;

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

  /** Rows of {@code cols} floats that make a group. */
  private static int group(int cols) {
    return Math.clamp(GROUP_BYTES / (4L * Math.max(1, cols)), 1, MAX_GROUP);
  }

  private static void forward(Call call, int task) {
    int cols = (int) call.cols;
    int group = group(cols);
    try (Scratch scratch = Scratch.take(group * ROW_BYTES)) {
      long end = call.endRow(task);
      for (long row = call.firstRow(task); row < end; row += group) {
        forward(call, row, (int) Math.min(group, end - row), cols, scratch.segment);
      }
    }
  }

  private static void forward(Call call, long row, int rows, int cols, MemorySegment kept) {
    boolean isSum = call.has(SUM);
    int from = isSum ? SUM : X;
    MemorySegment x = call.segment[from];
    long xAt = call.at(from, row, 0);
    long xStride = call.at(from, row + 1, 0) - xAt;
    if (isSum) {
      for (int i = 0; i < rows; i++) {
        Reduce.addRows(
            call.segment[X],
            call.at(X, row + i, 0),
            call.segment[RESIDUAL],
            call.at(RESIDUAL, row + i, 0),
            x,
            xAt + i * xStride,
            cols);
      }
    }
    sums(x, xAt, xStride, rows, cols, kept);
    guesses(rows, cols, kept);
    deviations(x, xAt, xStride, rows, cols, kept);
    boolean isOrdinary = statistics(call, row, rows, cols, kept);
    long yAt = call.at(Y, row, 0);
    long yStride = call.at(Y, row + 1, 0) - yAt;
    if (isOrdinary) {
      normalise(call, x, xAt, xStride, yAt, yStride, rows, cols, kept);
      return;
    }
    for (int i = 0; i < rows; i++) {
      MemorySegment own = kept.asSlice(i * ROW_BYTES, ROW_BYTES);
      if (Float.isFinite(own.get(FLOAT, VARIANCE_AT)) || !wide(call, x, xAt, row + i, cols)) {
        normalise(call, x, xAt, xStride, yAt, yStride, 1, cols, own);
      }
      xAt += xStride;
      yAt += yStride;
    }
  }

  private static void normalise(
      Call call,
      MemorySegment x,
      long xAt,
      long xStride,
      long yAt,
      long yStride,
      int rows,
      int cols,
      MemorySegment kept) {
    normalise(
        x,
        xAt,
        xStride,
        call.segment[WEIGHT],
        call.at(WEIGHT, 0, 0),
        call.segment[BIAS],
        call.at(BIAS, 0, 0),
        call.segment[Y],
        yAt,
        yStride,
        rows,
        cols,
        kept);
  }

  /**
   * Normalises a row of finite numbers whose sum, or whose squares' sum, no float can hold, in
   * double precision.
   *
   * @return false if there is another kind of number, and nothing was done
   */
  private static boolean wide(Call call, MemorySegment x, long xAt, long row, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) {
      sum += x.get(FLOAT, xAt + (long) i * Float.BYTES);
    }
    if (!Double.isFinite(sum)) {
      return false;
    }
    double mean = sum / n;
    double squares = 0;
    for (int i = 0; i < n; i++) {
      double d = x.get(FLOAT, xAt + (long) i * Float.BYTES) - mean;
      squares += d * d;
    }
    double rstd = 1 / Math.sqrt(squares / n + call.scalar[0]);
    for (int i = 0; i < n; i++) {
      double h = (x.get(FLOAT, xAt + (long) i * Float.BYTES) - mean) * rstd;
      call.setFloat(Y, row, i, (float) (h * call.getFloat(WEIGHT, i) + call.getFloat(BIAS, i)));
    }
    if (call.has(MEAN)) {
      call.setFloat(MEAN, row, (float) mean);
    }
    if (call.has(RSTD)) {
      call.setFloat(RSTD, row, (float) rstd);
    }
    return true;
  }

  /** Lane sums of {@code x}. */
  private static void sums(
      MemorySegment x, long xAt, long xStride, int rows, int n, MemorySegment kept) {
    x = Native.known(x);
    kept = Native.known(kept);
    int whole = F.loopBound(n);
    for (int row = 0; row < rows; row++) {
      FloatVector sum = FloatVector.zero(F);
      FloatVector other = FloatVector.zero(F);
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
      sum.intoMemorySegment(kept, row * ROW_BYTES + SUM_LANES, ORDER);
      xAt += xStride;
    }
  }

  private static void guesses(int rows, int cols, MemorySegment kept) {
    for (int row = 0; row < rows; row++) {
      long at = row * ROW_BYTES;
      kept.set(FLOAT, at + GUESS_AT, (float) (Lanes.sum(kept, at + SUM_LANES) / cols));
    }
  }

  /** Lane sums of {@code x - guess} and of its square. */
  private static void deviations(
      MemorySegment x, long xAt, long xStride, int rows, int n, MemorySegment kept) {
    x = Native.known(x);
    kept = Native.known(kept);
    int whole = F.loopBound(n);
    for (int row = 0; row < rows; row++) {
      float guess = kept.get(FLOAT, row * ROW_BYTES + GUESS_AT);
      FloatVector sum = FloatVector.zero(F);
      FloatVector squares = FloatVector.zero(F);
      FloatVector otherSum = FloatVector.zero(F);
      FloatVector otherSquares = FloatVector.zero(F);
      int i = 0;
      for (; i < whole - LANES; i += 2 * LANES) {
        long at = xAt + (long) i * Float.BYTES;
        FloatVector d = FloatVector.fromMemorySegment(F, x, at, ORDER).sub(guess);
        FloatVector e =
            FloatVector.fromMemorySegment(F, x, at + Machine.VECTOR_BYTES, ORDER).sub(guess);
        sum = d.add(sum);
        squares = d.fma(d, squares);
        otherSum = e.add(otherSum);
        otherSquares = e.fma(e, otherSquares);
      }
      if (i < whole) {
        FloatVector d =
            FloatVector.fromMemorySegment(F, x, xAt + (long) i * Float.BYTES, ORDER).sub(guess);
        sum = d.add(sum);
        squares = d.fma(d, squares);
      }
      sum = sum.add(otherSum);
      squares = squares.add(otherSquares);
      if (whole < n) {
        VectorMask<Float> mask = F.indexInRange(whole, n);
        long at = xAt + (long) whole * Float.BYTES;
        FloatVector d = FloatVector.fromMemorySegment(F, x, at, ORDER, mask).sub(guess);
        d = FloatVector.zero(F).blend(d, mask);
        sum = d.add(sum);
        squares = d.fma(d, squares);
      }
      sum.intoMemorySegment(kept, row * ROW_BYTES + SUM_LANES, ORDER);
      squares.intoMemorySegment(kept, row * ROW_BYTES + SQUARE_LANES, ORDER);
      xAt += xStride;
    }
  }

  /** Writes what each row is shifted and scaled by; whether all of their variances are finite. */
  private static boolean statistics(Call call, long first, int rows, int cols, MemorySegment kept) {
    float eps = call.scalar[0];
    boolean isOrdinary = true;
    for (int row = 0; row < rows; row++) {
      long at = row * ROW_BYTES;
      double deviation = Lanes.sum(kept, at + SUM_LANES) / cols;
      double square = Lanes.sum(kept, at + SQUARE_LANES) / cols;
      double variance = Math.max(0, square - deviation * deviation);
      float rstd = (float) (1 / Math.sqrt(variance + eps));
      kept.set(FLOAT, at + SCALE_AT, rstd);
      kept.set(FLOAT, at + SHIFT_AT, (float) (-deviation * rstd));
      if (call.has(MEAN)) {
        call.setFloat(MEAN, first + row, (float) (kept.get(FLOAT, at + GUESS_AT) + deviation));
      }
      if (call.has(RSTD)) {
        call.setFloat(RSTD, first + row, rstd);
      }
      kept.set(FLOAT, at + VARIANCE_AT, (float) variance);
      isOrdinary &= Float.isFinite((float) variance);
    }
    return isOrdinary;
  }

  /** {@code y = ((x - guess) rstd + shift) weight + bias}. */
  private static void normalise(
      MemorySegment x,
      long xAt,
      long xStride,
      MemorySegment weight,
      long weightAt,
      MemorySegment bias,
      long biasAt,
      MemorySegment y,
      long yAt,
      long yStride,
      int rows,
      int n,
      MemorySegment kept) {
    x = Native.known(x);
    weight = Native.known(weight);
    bias = Native.known(bias);
    y = Native.known(y);
    kept = Native.known(kept);
    int whole = F.loopBound(n);
    for (int row = 0; row < rows; row++) {
      long keptAt = row * ROW_BYTES;
      float guess = kept.get(FLOAT, keptAt + GUESS_AT);
      FloatVector scale = FloatVector.broadcast(F, kept.get(FLOAT, keptAt + SCALE_AT));
      FloatVector offset = FloatVector.broadcast(F, kept.get(FLOAT, keptAt + SHIFT_AT));
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
            FloatVector.fromMemorySegment(F, x, xAt + at, ORDER, mask)
                .sub(guess)
                .fma(scale, offset);
        h.fma(
                FloatVector.fromMemorySegment(F, weight, weightAt + at, ORDER, mask),
                FloatVector.fromMemorySegment(F, bias, biasAt + at, ORDER, mask))
            .intoMemorySegment(y, yAt + at, ORDER, mask);
      }
      xAt += xStride;
      yAt += yStride;
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
    int group = group(cols);
    try (Scratch scratch = Scratch.take(group * ROW_BYTES)) {
      long end = call.endRow(task);
      for (long row = call.firstRow(task); row < end; row += group) {
        int rows = (int) Math.min(group, end - row);
        backward(call, row, rows, cols, dwAt, dbAt, scratch.segment);
      }
    }
  }

  private static void backward(
      Call call, long row, int rows, int cols, long dwAt, long dbAt, MemorySegment kept) {
    for (int i = 0; i < rows; i++) {
      kept.set(FLOAT, i * ROW_BYTES + GUESS_AT, call.getFloat(MEAN, row + i));
      kept.set(FLOAT, i * ROW_BYTES + SCALE_AT, call.getFloat(RSTD, row + i));
    }
    long xAt = call.at(X, row, 0);
    long xStride = call.at(X, row + 1, 0) - xAt;
    long dyAt = call.at(DY, row, 0);
    long dyStride = call.at(DY, row + 1, 0) - dyAt;
    gradientSums(
        call.segment[X],
        xAt,
        xStride,
        call.segment[WEIGHT],
        call.at(WEIGHT, 0, 0),
        call.segment[DY],
        dyAt,
        dyStride,
        rows,
        cols,
        kept);
    gradientMeans(rows, cols, kept);
    long dxAt = call.at(DX, row, 0);
    gradient(
        call.segment[X],
        xAt,
        xStride,
        call.segment[WEIGHT],
        call.at(WEIGHT, 0, 0),
        call.segment[DY],
        dyAt,
        dyStride,
        call.segment[DX],
        dxAt,
        call.at(DX, row + 1, 0) - dxAt,
        call.flag,
        call.scratch,
        dwAt,
        dbAt,
        rows,
        cols,
        kept);
  }

  /** Lane sums of {@code g}, of {@code g h} and of {@code h}. */
  private static void gradientSums(
      MemorySegment x,
      long xAt,
      long xStride,
      MemorySegment weight,
      long weightAt,
      MemorySegment dy,
      long dyAt,
      long dyStride,
      int rows,
      int n,
      MemorySegment kept) {
    x = Native.known(x);
    weight = Native.known(weight);
    dy = Native.known(dy);
    kept = Native.known(kept);
    int whole = F.loopBound(n);
    for (int row = 0; row < rows; row++) {
      long keptAt = row * ROW_BYTES;
      float mean = kept.get(FLOAT, keptAt + GUESS_AT);
      float rstd = kept.get(FLOAT, keptAt + SCALE_AT);
      FloatVector sum = FloatVector.zero(F);
      FloatVector products = FloatVector.zero(F);
      FloatVector means = FloatVector.zero(F);
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
      sum.intoMemorySegment(kept, keptAt + SUM_LANES, ORDER);
      products.intoMemorySegment(kept, keptAt + SQUARE_LANES, ORDER);
      means.intoMemorySegment(kept, keptAt + MEAN_LANES, ORDER);
      xAt += xStride;
      dyAt += dyStride;
    }
  }

  private static void gradientMeans(int rows, int cols, MemorySegment kept) {
    for (int row = 0; row < rows; row++) {
      long at = row * ROW_BYTES;
      double meanG = Lanes.sum(kept, at + SUM_LANES) / cols;
      double meanGh = Lanes.sum(kept, at + SQUARE_LANES) / cols;
      // The kept mean was rounded; what it lacks shows as a mean of h that is not 0.
      double meanH = Lanes.sum(kept, at + MEAN_LANES) / cols;
      kept.set(FLOAT, at + SHIFT_AT, (float) -meanH);
      kept.set(FLOAT, at + MEAN_G_AT, (float) meanG);
      kept.set(FLOAT, at + MEAN_GH_AT, (float) (meanGh - meanH * meanG));
    }
  }

  private static void gradient(
      MemorySegment x,
      long xAt,
      long xStride,
      MemorySegment weight,
      long weightAt,
      MemorySegment dy,
      long dyAt,
      long dyStride,
      MemorySegment dx,
      long dxAt,
      long dxStride,
      boolean accumulate,
      MemorySegment part,
      long dwAt,
      long dbAt,
      int rows,
      int n,
      MemorySegment kept) {
    x = Native.known(x);
    weight = Native.known(weight);
    dy = Native.known(dy);
    dx = Native.known(dx);
    part = Native.known(part);
    kept = Native.known(kept);
    int whole = F.loopBound(n);
    for (int row = 0; row < rows; row++) {
      long keptAt = row * ROW_BYTES;
      float mean = kept.get(FLOAT, keptAt + GUESS_AT);
      float rstd = kept.get(FLOAT, keptAt + SCALE_AT);
      float meanG = kept.get(FLOAT, keptAt + MEAN_G_AT);
      FloatVector minusMeanGh = FloatVector.broadcast(F, -kept.get(FLOAT, keptAt + MEAN_GH_AT));
      FloatVector scale = FloatVector.broadcast(F, rstd);
      FloatVector offset = FloatVector.broadcast(F, kept.get(FLOAT, keptAt + SHIFT_AT));
      for (int i = 0; i < whole; i += LANES) {
        long at = (long) i * Float.BYTES;
        FloatVector h =
            FloatVector.fromMemorySegment(F, x, xAt + at, ORDER).sub(mean).fma(scale, offset);
        FloatVector d = FloatVector.fromMemorySegment(F, dy, dyAt + at, ORDER);
        FloatVector g = d.mul(FloatVector.fromMemorySegment(F, weight, weightAt + at, ORDER));
        FloatVector r = h.fma(minusMeanGh, g.sub(meanG)).mul(rstd);
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
        FloatVector r = h.fma(minusMeanGh, g.sub(meanG)).mul(rstd);
        if (accumulate) {
          r = r.add(FloatVector.fromMemorySegment(F, dx, dxAt + at, ORDER, mask));
        }
        r.intoMemorySegment(dx, dxAt + at, ORDER, mask);
        d.fma(h, FloatVector.fromMemorySegment(F, part, dwAt + at, ORDER, mask))
            .intoMemorySegment(part, dwAt + at, ORDER, mask);
        d.add(FloatVector.fromMemorySegment(F, part, dbAt + at, ORDER, mask))
            .intoMemorySegment(part, dbAt + at, ORDER, mask);
      }
      xAt += xStride;
      dyAt += dyStride;
      dxAt += dxStride;
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
