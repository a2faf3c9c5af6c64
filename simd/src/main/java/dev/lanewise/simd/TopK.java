package dev.lanewise.simd;

import static dev.lanewise.simd.Machine.F;
import static dev.lanewise.simd.Machine.LANES;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorOperators;

/**
 * The largest or smallest elements of each row, in order, with their places. Of equal elements, of
 * which 0 and -0 are two, that with the smaller place comes first, so there is one right answer for
 * any number of threads. NaN counts as larger than any number, as in {@link Reduce#argmax} and in
 * PyTorch's topk.
 *
 * <p>Nearly all elements are compared with the least of those kept so far, a vector at a time, and
 * no more; long rows are cut into parts of which each keeps its own. A wrong call gives an {@link
 * IllegalArgumentException} before anything is written.
 */
public final class TopK {
  private static final ByteOrder ORDER = ByteOrder.nativeOrder();
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;
  private static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT_UNALIGNED;
  private static final ValueLayout.OfLong LONG = ValueLayout.JAVA_LONG_UNALIGNED;

  /** Elements of a part of a row. */
  private static final int PART = 1 << 16;

  private TopK() {}

  /**
   * The {@code k} largest elements of each row, the largest first.
   *
   * @param x {@code [rows, cols]}, not transposed
   * @param k how many, from 0 to {@code cols}
   * @param values receives them, {@code [rows, k]}
   * @param places receives their columns, {@code rows * k} int32 from {@code placesOffset}
   * @param placesOffset first int of {@code places}
   */
  public static void largest(
      Matrix x, int k, Matrix values, MemorySegment places, long placesOffset) {
    of(true, x, k, values, places, placesOffset);
  }

  /**
   * The {@code k} smallest elements of each row, the smallest first.
   *
   * @param x {@code [rows, cols]}, not transposed
   * @param k how many, from 0 to {@code cols}
   * @param values receives them, {@code [rows, k]}
   * @param places receives their columns, {@code rows * k} int32 from {@code placesOffset}
   * @param placesOffset first int of {@code places}
   */
  public static void smallest(
      Matrix x, int k, Matrix values, MemorySegment places, long placesOffset) {
    of(false, x, k, values, places, placesOffset);
  }

  private static void of(
      boolean isLargest, Matrix x, int k, Matrix values, MemorySegment places, long placesOffset) {
    Checks.present("x", x);
    Checks.present("values", values);
    checkCount(k, x.cols());
    if (x.isTransposed() || values.isTransposed()) {
      throw new IllegalArgumentException(
          (x.isTransposed() ? "x" : "values")
              + " is a transposed view; this kernel needs each row in contiguous memory");
    }
    if (values.rows() != x.rows() || values.cols() != k) {
      throw new IllegalArgumentException(
          "values is "
              + values.rows()
              + " x "
              + values.cols()
              + "; it must be "
              + x.rows()
              + " x "
              + k);
    }
    of(
        isLargest,
        isLargest,
        x.segment(),
        x.offset(),
        x.rows(),
        x.cols(),
        x.stride(),
        k,
        places,
        placesOffset,
        k,
        values.segment(),
        values.offset(),
        values.stride());
  }

  static void checkCount(int k, int n) {
    if (k < 0 || k > n) {
      throw new IllegalArgumentException("k is " + k + "; it must be from 0 to " + n);
    }
  }

  /**
   * The first elements of each row in an order.
   *
   * @param isNanFirst whether NaN comes before all numbers or after them
   */
  static void of(
      boolean isLargest,
      boolean isNanFirst,
      MemorySegment x,
      long xOffset,
      long rows,
      long cols,
      long stride,
      int k,
      MemorySegment places,
      long placesOffset,
      long placesStride,
      MemorySegment values,
      long valuesOffset,
      long valuesStride) {
    long parts = Math.max(1, (cols + PART - 1) / PART);
    long kept = parts * k * Long.BYTES;
    try (Call call = Call.take();
        Scratch heaps = Scratch.take(Math.max(1, rows * kept))) {
      call.input("x", x, xOffset, rows, cols, stride);
      call.typed(
          "places", places, placesOffset, rows, k, Math.max(k, placesStride), Integer.BYTES, true);
      call.output("values", values, valuesOffset, rows, k, valuesStride);
      if (k == 0 || rows == 0) {
        call.run(0, TopK::partTask);
        return;
      }
      call.rows = rows;
      call.cols = cols;
      call.scratch = heaps.segment;
      call.period = k;
      call.origin = parts;
      call.flag = isLargest;
      call.ignore = isNanFirst ? 1 : 0;
      call.taskRows = (int) Math.clamp((1 << 14) / cols, 1, rows);
      int tasks = parts == 1 ? call.rowTasks() : Math.toIntExact(rows * parts);
      call.run(tasks, parts == 1 ? TopK::rowsTask : TopK::partTask, call.rowTasks(), TopK::finish);
    }
  }

  private static void rowsTask(Call call, int task) {
    long end = call.endRow(task);
    for (long row = call.firstRow(task); row < end; row++) {
      part(call, row, 0);
    }
  }

  private static void partTask(Call call, int task) {
    part(call, task / call.origin, task % call.origin);
  }

  /**
   * Keeps the first elements of a part of a row, each as a key, whose order is that of the
   * elements, in the upper and its place in the lower half of a long: in a heap with the last of
   * them at the top, so that it is a single step to find out that an element does not belong.
   */
  private static void part(Call call, long row, long part) {
    int k = (int) call.period;
    MemorySegment heap = call.scratch;
    long heapAt = (row * call.origin + part) * k * Long.BYTES;
    long from = part * PART;
    int n = (int) Math.min(PART, call.cols - from);
    boolean isLargest = call.flag;
    boolean isNanFirst = call.ignore != 0;
    MemorySegment x = call.segment[0];
    long at = call.at(0, row, from);
    for (int i = 0; i < k; i++) {
      heap.set(LONG, heapAt + (long) i * Long.BYTES, Long.MIN_VALUE);
    }
    float least = Float.NaN;
    int i = 0;
    int filled = 0;
    while (i < n) {
      // As long as not all are there, or the last is NaN, each element has to be looked at.
      if (filled >= k && !Float.isNaN(least)) {
        i = next(x, at, i, n, least, isLargest);
        if (i >= n) {
          break;
        }
      }
      float value = x.get(FLOAT, at + (long) i * Float.BYTES);
      long key = key(value, isLargest, isNanFirst) << 32 | (0xffffffffL - (from + i));
      if (key > heap.get(LONG, heapAt)) {
        sink(heap, heapAt, k, key);
        long top = heap.get(LONG, heapAt);
        least =
            top == Long.MIN_VALUE
                ? Float.NaN
                : x.get(FLOAT, at + (0xffffffffL - (top & 0xffffffffL) - from) * Float.BYTES);
      }
      filled++;
      i++;
    }
  }

  /** The larger, the earlier an element comes; never the least int, which stands for none. */
  private static long key(float value, boolean isLargest, boolean isNanFirst) {
    if (Float.isNaN(value)) {
      return isNanFirst ? Integer.MAX_VALUE : Integer.MIN_VALUE + 1;
    }
    // The sum makes one zero of both.
    int bits = Float.floatToRawIntBits(value + 0f);
    int ordered = bits ^ (bits >> 31 & 0x7fffffff);
    return isLargest ? ordered : ~ordered;
  }

  /** Puts a key in the place of the least, and moves it to where it belongs. */
  private static void sink(MemorySegment heap, long heapAt, int k, long key) {
    int i = 0;
    while (2 * i + 1 < k) {
      int child = 2 * i + 1;
      long least = heap.get(LONG, heapAt + (long) child * Long.BYTES);
      if (child + 1 < k) {
        long right = heap.get(LONG, heapAt + (long) (child + 1) * Long.BYTES);
        if (right < least) {
          least = right;
          child++;
        }
      }
      if (key <= least) {
        break;
      }
      heap.set(LONG, heapAt + (long) i * Long.BYTES, least);
      i = child;
    }
    heap.set(LONG, heapAt + (long) i * Long.BYTES, key);
  }

  /** The first element from {@code i} on that may come before {@code least}, or {@code n}. */
  private static int next(MemorySegment x, long at, int i, int n, float least, boolean isLargest) {
    x = Native.known(x);
    if (isLargest) {
      for (; i <= n - LANES; i += LANES) {
        FloatVector v = FloatVector.fromMemorySegment(F, x, at + (long) i * Float.BYTES, ORDER);
        // What is not at most the least: larger or NaN.
        VectorMask<Float> below = v.compare(VectorOperators.LE, least);
        if (!below.allTrue()) {
          return i + below.not().firstTrue();
        }
      }
    } else {
      for (; i <= n - LANES; i += LANES) {
        FloatVector v = FloatVector.fromMemorySegment(F, x, at + (long) i * Float.BYTES, ORDER);
        VectorMask<Float> above = v.compare(VectorOperators.GE, least);
        if (!above.allTrue()) {
          return i + above.not().firstTrue();
        }
      }
    }
    return i;
  }

  /** Joins the parts of rows, and writes what is first, in order. */
  private static void finish(Call call, int task) {
    int k = (int) call.period;
    long end = call.endRow(task);
    MemorySegment heap = call.scratch;
    for (long row = call.firstRow(task); row < end; row++) {
      long heapAt = row * call.origin * k * Long.BYTES;
      for (long i = k; i < call.origin * k; i++) {
        long key = heap.get(LONG, heapAt + i * Long.BYTES);
        if (key > heap.get(LONG, heapAt)) {
          sink(heap, heapAt, k, key);
        }
      }
      // The last of those that are left, from the end on.
      for (int left = k; left > 0; left--) {
        long key = heap.get(LONG, heapAt);
        long place = 0xffffffffL - (key & 0xffffffffL);
        long last = heap.get(LONG, heapAt + (long) (left - 1) * Long.BYTES);
        sink(heap, heapAt, left - 1, last);
        call.segment[1].set(INT, call.at(1, row, left - 1), (int) place);
        call.setFloat(2, row, left - 1, call.segment[0].get(FLOAT, call.at(0, row, place)));
      }
    }
  }
}
