package dev.lanewise.simd;

import static dev.lanewise.simd.Machine.F;
import static dev.lanewise.simd.Machine.LANES;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import jdk.incubator.vector.DoubleVector;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorShape;
import jdk.incubator.vector.VectorSpecies;

/**
 * Sums, largest elements and their places.
 *
 * <p>Sums are taken in double precision over chunks of fixed size, and the chunks are added in
 * order, so a sum is the same to the bit for any number of threads. A wrong call gives an {@link
 * IllegalArgumentException} before anything is written.
 */
public final class Reduce {
  private static final int CHUNK = 1 << 15;

  /** Most partial results of a sum over rows, each of them a row. */
  private static final int PARTS = 64;

  private static final VectorSpecies<Double> D =
      VectorSpecies.of(double.class, VectorShape.forBitSize(Machine.VECTOR_BYTES * 8));

  /** As many floats as {@link #D} has doubles. */
  private static final VectorSpecies<Float> HALF =
      VectorSpecies.of(float.class, VectorShape.forBitSize(Machine.VECTOR_BYTES * 4));

  private static final ByteOrder ORDER = ByteOrder.nativeOrder();
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;
  private static final ValueLayout.OfDouble DOUBLE = ValueLayout.JAVA_DOUBLE_UNALIGNED;
  private static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT_UNALIGNED;

  private Reduce() {}

  // Of a whole segment ---------------------------------------------------------------------------

  /**
   * Sum in double precision.
   *
   * @param x {@code n} floats from {@code offset}
   * @param offset first float
   * @param n number of elements
   */
  public static double sum(MemorySegment x, long offset, long n) {
    return chunked(x, offset, n, Reduce::sumTask);
  }

  /**
   * Sum of squares in double precision, which no float can make overflow.
   *
   * @param x {@code n} floats from {@code offset}
   * @param offset first float
   * @param n number of elements
   */
  public static double sumOfSquares(MemorySegment x, long offset, long n) {
    return chunked(x, offset, n, Reduce::squaresTask);
  }

  private static double chunked(MemorySegment x, long offset, long n, Call.Body body) {
    Checks.readable("x", x, offset, n);
    int tasks = Math.toIntExact((n + CHUNK - 1) / CHUNK);
    try (Call call = Call.take();
        Scratch parts = Scratch.take((long) tasks * Double.BYTES)) {
      call.input("x", x, offset, n);
      call.scratch = parts.segment;
      call.cols = n;
      call.run(tasks, body);
      double sum = 0;
      for (int i = 0; i < tasks; i++) {
        sum += parts.segment.get(DOUBLE, (long) i * Double.BYTES);
      }
      return sum;
    }
  }

  private static void sumTask(Call call, int task) {
    try (Scratch lanes = Scratch.take(Machine.VECTOR_BYTES)) {
      long from = (long) task * CHUNK;
      long n = Math.min(CHUNK, call.cols - from);
      double sum = sum(call.segment[0], call.at(0, 0, from), n, lanes.segment, 0);
      call.scratch.set(DOUBLE, (long) task * Double.BYTES, sum);
    }
  }

  private static void squaresTask(Call call, int task) {
    try (Scratch lanes = Scratch.take(Machine.VECTOR_BYTES)) {
      long from = (long) task * CHUNK;
      int n = (int) Math.min(CHUNK, call.cols - from);
      double sum = sumOfSquares(call.segment[0], call.at(0, 0, from), n, lanes.segment);
      call.scratch.set(DOUBLE, (long) task * Double.BYTES, sum);
    }
  }

  /** Sum in double precision; {@code lanes} is room for a vector at {@code lanesAt}. */
  static double sum(MemorySegment x, long xAt, long n, MemorySegment lanes, long lanesAt) {
    double sum = 0;
    long from = 0;
    for (; from < n; from += CHUNK) {
      int m = (int) Math.min(CHUNK, n - from);
      long at = xAt + from * Float.BYTES;
      int whole = F.loopBound(m);
      sum += sumOfVectors(x, at, whole, lanes, lanesAt);
      for (int i = whole; i < m; i++) {
        sum += x.get(FLOAT, at + (long) i * Float.BYTES);
      }
    }
    return sum;
  }

  private static double sumOfVectors(
      MemorySegment x, long xAt, int n, MemorySegment lanes, long lanesAt) {
    x = Native.known(x);
    lanes = Native.known(lanes);
    DoubleVector s0 = DoubleVector.zero(D);
    DoubleVector s1 = DoubleVector.zero(D);
    for (int i = 0; i < n; i += LANES) {
      long at = xAt + (long) i * Float.BYTES;
      FloatVector v0 = FloatVector.fromMemorySegment(HALF, x, at, ORDER);
      FloatVector v1 = FloatVector.fromMemorySegment(HALF, x, at + Machine.VECTOR_BYTES / 2, ORDER);
      s0 = ((DoubleVector) v0.convertShape(VectorOperators.F2D, D, 0)).add(s0);
      s1 = ((DoubleVector) v1.convertShape(VectorOperators.F2D, D, 0)).add(s1);
    }
    s0.add(s1).intoMemorySegment(lanes, lanesAt, ORDER);
    return Lanes.sumDoubles(lanes, lanesAt);
  }

  private static double sumOfSquares(MemorySegment x, long xAt, int n, MemorySegment lanes) {
    x = Native.known(x);
    lanes = Native.known(lanes);
    DoubleVector s0 = DoubleVector.zero(D);
    DoubleVector s1 = DoubleVector.zero(D);
    int whole = F.loopBound(n);
    for (int i = 0; i < whole; i += LANES) {
      long at = xAt + (long) i * Float.BYTES;
      FloatVector v0 = FloatVector.fromMemorySegment(HALF, x, at, ORDER);
      FloatVector v1 = FloatVector.fromMemorySegment(HALF, x, at + Machine.VECTOR_BYTES / 2, ORDER);
      DoubleVector d0 = (DoubleVector) v0.convertShape(VectorOperators.F2D, D, 0);
      DoubleVector d1 = (DoubleVector) v1.convertShape(VectorOperators.F2D, D, 0);
      s0 = d0.fma(d0, s0);
      s1 = d1.fma(d1, s1);
    }
    s0.add(s1).intoMemorySegment(lanes, 0, ORDER);
    double sum = Lanes.sumDoubles(lanes, 0);
    for (int i = whole; i < n; i++) {
      double d = x.get(FLOAT, xAt + (long) i * Float.BYTES);
      sum = Math.fma(d, d, sum);
    }
    return sum;
  }

  /**
   * Largest element; NaN when there is one.
   *
   * @param x {@code n} floats from {@code offset}, at least one
   * @param offset first float
   * @param n number of elements
   */
  public static float max(MemorySegment x, long offset, long n) {
    if (n < 1) {
      throw new IllegalArgumentException("the largest of " + n + " elements");
    }
    Checks.readable("x", x, offset, n);
    int tasks = Math.toIntExact((n + CHUNK - 1) / CHUNK);
    try (Call call = Call.take();
        Scratch parts = Scratch.take((long) tasks * Float.BYTES)) {
      call.input("x", x, offset, n);
      call.scratch = parts.segment;
      call.cols = n;
      call.run(tasks, Reduce::maxTask);
      float max = Float.NEGATIVE_INFINITY;
      for (int i = 0; i < tasks; i++) {
        max = Math.max(max, parts.segment.get(FLOAT, (long) i * Float.BYTES));
      }
      return max;
    }
  }

  private static void maxTask(Call call, int task) {
    long from = (long) task * CHUNK;
    int n = (int) Math.min(CHUNK, call.cols - from);
    float max = max(call.segment[0], call.at(0, 0, from), n);
    call.scratch.set(FLOAT, (long) task * Float.BYTES, max);
  }

  private static float max(MemorySegment x, long xAt, int n) {
    x = Native.known(x);
    FloatVector m = FloatVector.broadcast(F, Float.NEGATIVE_INFINITY);
    int whole = F.loopBound(n);
    for (int i = 0; i < whole; i += LANES) {
      m = FloatVector.fromMemorySegment(F, x, xAt + (long) i * Float.BYTES, ORDER).max(m);
    }
    float max = m.reduceLanes(VectorOperators.MAX);
    for (int i = whole; i < n; i++) {
      max = Math.max(max, x.get(FLOAT, xAt + (long) i * Float.BYTES));
    }
    return max;
  }

  // Of rows --------------------------------------------------------------------------------------

  /**
   * Place of the largest element of each row, the first of equals. NaN counts as the largest, as in
   * PyTorch.
   *
   * @param x {@code [rows, cols]} with at least one column
   * @param places receives {@code rows} int32
   * @param placesOffset first int to write
   */
  public static void argmax(Matrix x, MemorySegment places, long placesOffset) {
    Checks.present("x", x);
    if (x.cols() == 0 && x.rows() > 0) {
      throw new IllegalArgumentException("the largest of rows without columns");
    }
    try (Call call = Call.take()) {
      call.input("x", x);
      call.typed("places", places, placesOffset, x.rows(), Integer.BYTES, true);
      Softmax.byRows(call, x.rows(), x.cols(), Reduce::argmaxTask);
    }
  }

  private static void argmaxTask(Call call, int task) {
    MemorySegment x = call.segment[0];
    int cols = (int) call.cols;
    long end = call.endRow(task);
    for (long row = call.firstRow(task); row < end; row++) {
      long at = call.at(0, row, 0);
      int place = find(x, at, cols, max(x, at, cols));
      call.segment[1].set(INT, call.at(1, 0, row), place);
    }
  }

  /** First place of a value that is there. */
  private static int find(MemorySegment x, long xAt, int n, float value) {
    x = Native.known(x);
    int i = 0;
    boolean isNan = Float.isNaN(value);
    for (; i <= n - LANES; i += LANES) {
      FloatVector v = FloatVector.fromMemorySegment(F, x, xAt + (long) i * Float.BYTES, ORDER);
      VectorMask<Float> hit = isNan ? v.test(VectorOperators.IS_NAN) : v.eq(value);
      if (hit.anyTrue()) {
        break;
      }
    }
    for (; i < n; i++) {
      float v = x.get(FLOAT, xAt + (long) i * Float.BYTES);
      if (v == value || (isNan && Float.isNaN(v))) {
        return i;
      }
    }
    throw new IllegalStateException("elements changed while they were searched");
  }

  /**
   * Sum of each row: {@code out[i] = sum_j x[i, j]}.
   *
   * @param x {@code [rows, cols]}
   * @param out {@code rows} floats from {@code outOffset}
   * @param outOffset first float of {@code out}
   * @param accumulate whether the sums are added to {@code out}, or else overwrite it
   */
  public static void rowSums(Matrix x, MemorySegment out, long outOffset, boolean accumulate) {
    Checks.present("x", x);
    try (Call call = Call.take()) {
      call.input("x", x);
      call.output("out", out, outOffset, x.rows());
      call.flag = accumulate;
      call.rows = x.rows();
      call.cols = x.cols();
      call.byRows(Reduce::rowSumsTask);
    }
  }

  private static void rowSumsTask(Call call, int task) {
    try (Scratch lanes = Scratch.take(Machine.VECTOR_BYTES)) {
      long end = call.endRow(task);
      for (long row = call.firstRow(task); row < end; row++) {
        double sum = sum(call.segment[0], call.at(0, row, 0), call.cols, lanes.segment, 0);
        call.setFloat(1, row, (float) (call.flag ? call.getFloat(1, row) + sum : sum));
      }
    }
  }

  /**
   * Sum of each column: {@code out[j] = sum_i x[i, j]}, as for the gradient of a bias.
   *
   * @param x {@code [rows, cols]}
   * @param out {@code cols} floats from {@code outOffset}
   * @param outOffset first float of {@code out}
   * @param accumulate whether the sums are added to {@code out}, or else overwrite it
   */
  public static void columnSums(Matrix x, MemorySegment out, long outOffset, boolean accumulate) {
    Checks.present("x", x);
    int rows = x.rows();
    int cols = x.cols();
    int taskRows = partRows(rows);
    int parts = (rows + taskRows - 1) / taskRows;
    try (Call call = Call.take();
        Scratch partial = Scratch.take((long) parts * paddedBytes(cols))) {
      call.input("x", x);
      call.output("out", out, outOffset, cols);
      call.flag = accumulate;
      call.scratch = partial.segment;
      call.rows = rows;
      call.cols = cols;
      call.taskRows = taskRows;
      call.run(parts, Reduce::columnPart, columnTasks(cols), Reduce::columnFinish);
    }
  }

  /** Rows that are summed into one partial result: fixed by the problem alone. */
  static int partRows(int rows) {
    return Math.max(16, (rows + PARTS - 1) / PARTS);
  }

  /** Bytes of a partial row, a whole number of cache lines. */
  static long paddedBytes(long cols) {
    return (cols * Float.BYTES + 63) / 64 * 64;
  }

  private static final int FINISH_COLUMNS = 512;

  static int columnTasks(int cols) {
    return (cols + FINISH_COLUMNS - 1) / FINISH_COLUMNS;
  }

  private static void columnPart(Call call, int task) {
    MemorySegment x = call.segment[0];
    MemorySegment part = call.scratch;
    int cols = (int) call.cols;
    long partAt = task * paddedBytes(cols);
    long end = call.endRow(task);
    long row = call.firstRow(task);
    clear(part, partAt, cols);
    for (; row + 4 <= end; row += 4) {
      addFourRows(
          x,
          call.at(0, row, 0),
          call.at(0, row + 1, 0),
          call.at(0, row + 2, 0),
          call.at(0, row + 3, 0),
          part,
          partAt,
          cols);
    }
    for (; row < end; row++) {
      addRow(x, call.at(0, row, 0), part, partAt, cols);
    }
  }

  private static void columnFinish(Call call, int task) {
    int from = task * FINISH_COLUMNS;
    int n = (int) Math.min(FINISH_COLUMNS, call.cols - from);
    addParts(
        call.scratch,
        (long) from * Float.BYTES,
        paddedBytes(call.cols),
        call.rowTasks(),
        call.segment[1],
        call.at(1, 0, from),
        n,
        call.flag);
  }

  /** {@code y = [y +] sum of parts}, in order, over {@code n} columns. */
  static void addParts(
      MemorySegment parts,
      long partsAt,
      long partStride,
      int count,
      MemorySegment y,
      long yAt,
      int n,
      boolean accumulate) {
    if (!accumulate) {
      clear(y, yAt, n);
    }
    for (int part = 0; part < count; part++) {
      addRow(parts, partsAt + part * partStride, y, yAt, n);
    }
  }

  /** {@code y = 0}. */
  static void clear(MemorySegment y, long yAt, int n) {
    y = Native.known(y);
    FloatVector zero = FloatVector.zero(F);
    int whole = F.loopBound(n);
    for (int i = 0; i < whole; i += LANES) {
      zero.intoMemorySegment(y, yAt + (long) i * Float.BYTES, ORDER);
    }
    for (int i = whole; i < n; i++) {
      y.set(FLOAT, yAt + (long) i * Float.BYTES, 0);
    }
  }

  /** {@code y += x}. */
  static void addRow(MemorySegment x, long xAt, MemorySegment y, long yAt, int n) {
    x = Native.known(x);
    y = Native.known(y);
    int whole = F.loopBound(n);
    for (int i = 0; i < whole; i += LANES) {
      long at = (long) i * Float.BYTES;
      FloatVector.fromMemorySegment(F, y, yAt + at, ORDER)
          .add(FloatVector.fromMemorySegment(F, x, xAt + at, ORDER))
          .intoMemorySegment(y, yAt + at, ORDER);
    }
    for (int i = whole; i < n; i++) {
      long at = (long) i * Float.BYTES;
      y.set(FLOAT, yAt + at, y.get(FLOAT, yAt + at) + x.get(FLOAT, xAt + at));
    }
  }

  /** {@code y = a + b}. */
  static void addRows(
      MemorySegment a, long aAt, MemorySegment b, long bAt, MemorySegment y, long yAt, int n) {
    a = Native.known(a);
    b = Native.known(b);
    y = Native.known(y);
    int whole = F.loopBound(n);
    for (int i = 0; i < whole; i += LANES) {
      long at = (long) i * Float.BYTES;
      FloatVector.fromMemorySegment(F, a, aAt + at, ORDER)
          .add(FloatVector.fromMemorySegment(F, b, bAt + at, ORDER))
          .intoMemorySegment(y, yAt + at, ORDER);
    }
    for (int i = whole; i < n; i++) {
      long at = (long) i * Float.BYTES;
      y.set(FLOAT, yAt + at, a.get(FLOAT, aAt + at) + b.get(FLOAT, bAt + at));
    }
  }

  private static void addFourRows(
      MemorySegment x, long at0, long at1, long at2, long at3, MemorySegment y, long yAt, int n) {
    x = Native.known(x);
    y = Native.known(y);
    int whole = F.loopBound(n);
    for (int i = 0; i < whole; i += LANES) {
      long at = (long) i * Float.BYTES;
      FloatVector a =
          FloatVector.fromMemorySegment(F, x, at0 + at, ORDER)
              .add(FloatVector.fromMemorySegment(F, x, at1 + at, ORDER));
      FloatVector b =
          FloatVector.fromMemorySegment(F, x, at2 + at, ORDER)
              .add(FloatVector.fromMemorySegment(F, x, at3 + at, ORDER));
      FloatVector.fromMemorySegment(F, y, yAt + at, ORDER)
          .add(a.add(b))
          .intoMemorySegment(y, yAt + at, ORDER);
    }
    for (int i = whole; i < n; i++) {
      long at = (long) i * Float.BYTES;
      float a = x.get(FLOAT, at0 + at) + x.get(FLOAT, at1 + at);
      float b = x.get(FLOAT, at2 + at) + x.get(FLOAT, at3 + at);
      y.set(FLOAT, yAt + at, y.get(FLOAT, yAt + at) + (a + b));
    }
  }
}
