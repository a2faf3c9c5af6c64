package dev.lanewise.simd;

import static dev.lanewise.simd.Machine.LANES;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;

/**
 * One call of a row-wise or elementwise kernel: its operands, checked as they are named, and its
 * run over the workers. Calls are kept and used again, so a kernel allocates nothing.
 *
 * {@snippet :
 * try (Call call = Call.take()) {
 *   call.input("x", x, xOffset, n);
 *   call.output("y", y, yOffset, n);
 *   call.mayBeSame(1, 0);
 *   call.spans(1, n, Kernel::loop);
 * }
 * }
 *
 * An operand is a block of rows: element (row, col) of operand k lies at byte {@code at(k, row,
 * col)} of {@code segment[k]}. The kernels see native memory only; operands on the Java heap are
 * copied there and back.
 */
final class Call implements Workers.Task, AutoCloseable {
  /** The body of a kernel that divides its own work. */
  @FunctionalInterface
  interface Body {
    void run(Call call, int task);
  }

  /** The body of an elementwise kernel: {@code n} elements of one row, a multiple of the lanes. */
  @FunctionalInterface
  interface Span {
    void run(Call call, long row, long col, int n);
  }

  private static final int OPERANDS = 10;

  /** Elements in a task of an elementwise kernel: 128 KiB of each operand. */
  private static final int CHUNK = 1 << 15;

  /** Elements that a task of a row kernel takes at most, if a row has no more. */
  private static final int ROWS_CHUNK = 1 << 14;

  /** Room for one operand's tail: 64 elements of 8 bytes. */
  private static final int TAIL_BYTES = 512;

  private static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT_UNALIGNED;
  private static final ValueLayout.OfLong LONG = ValueLayout.JAVA_LONG_UNALIGNED;
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;

  private static final Spares<Call> SPARES = new Spares<>(Call::new);

  /** Memory of each operand; null where an operand is absent. */
  final MemorySegment[] segment = new MemorySegment[OPERANDS];

  /** Scalars of the kernel; each kernel says what they mean. */
  final float[] scalar = new float[10];

  /** Partial sums of a reduction. */
  final float[] partial = new float[8];

  /** A switch of the kernel, often whether the result is added to the output. */
  boolean flag;

  /** Rows and columns of the problem. */
  long rows;

  long cols;

  /** Partial results of the kernel's tasks. */
  MemorySegment scratch;

  /** An index that the kernel treats on its own. */
  long ignore;

  /** Where the rows of a periodic operand begin, and after how many they repeat. */
  long origin;

  long period;

  /** Rows of one task, where a kernel divides its work by rows. */
  int taskRows;

  private final long[] start = new long[OPERANDS];
  private final long[] stride = new long[OPERANDS];
  private final long[] operandRows = new long[OPERANDS];
  private final long[] operandCols = new long[OPERANDS];
  private final int[] bytes = new int[OPERANDS];
  private final int[] step = new int[OPERANDS];
  private final boolean[] written = new boolean[OPERANDS];
  private final int[] same = new int[OPERANDS];
  private final String[] names = new String[OPERANDS];
  private int count;
  private boolean dense;
  private Body body;
  private Body nextBody;
  private int nextTasks;
  private Span span;

  private Call() {}

  static Call take() {
    return SPARES.take();
  }

  @Override
  public void close() {
    Arrays.fill(segment, 0, count, null);
    Arrays.fill(same, 0, count, 0);
    count = 0;
    flag = false;
    scratch = null;
    body = null;
    nextBody = null;
    span = null;
    SPARES.give(this);
  }

  // Operands -------------------------------------------------------------------------------------

  void input(String name, MemorySegment segment, long offset, long floats) {
    add(name, segment, offset, 1, floats, floats, Float.BYTES, false);
    Checks.arrayOfFloats(name, segment);
  }

  void input(String name, MemorySegment segment, long offset, long rows, long cols, long stride) {
    add(name, segment, offset, rows, cols, stride, Float.BYTES, false);
    Checks.arrayOfFloats(name, segment);
  }

  void input(String name, Matrix m) {
    requireRows(name, m);
    add(name, m.segment(), m.offset(), m.rows(), m.cols(), m.stride(), Float.BYTES, false);
    Checks.arrayOfFloats(name, m.segment());
  }

  void output(String name, MemorySegment segment, long offset, long floats) {
    add(name, segment, offset, 1, floats, floats, Float.BYTES, true);
    Checks.arrayOfFloats(name, segment);
  }

  void output(String name, MemorySegment segment, long offset, long rows, long cols, long stride) {
    add(name, segment, offset, rows, cols, stride, Float.BYTES, true);
    Checks.arrayOfFloats(name, segment);
  }

  void output(String name, Matrix m) {
    requireRows(name, m);
    add(name, m.segment(), m.offset(), m.rows(), m.cols(), m.stride(), Float.BYTES, true);
    Checks.arrayOfFloats(name, m.segment());
  }

  /** Indices of 4 or 8 bytes, or elements of another size. */
  void typed(
      String name, MemorySegment segment, long offset, long n, int elementBytes, boolean isOutput) {
    add(name, segment, offset, 1, n, n, elementBytes, isOutput);
  }

  /** Rows of elements of another size. */
  void typed(
      String name,
      MemorySegment segment,
      long offset,
      long rows,
      long cols,
      long stride,
      int elementBytes,
      boolean isOutput) {
    add(name, segment, offset, rows, cols, stride, elementBytes, isOutput);
  }

  /** {@code n} indices. */
  void indices(String name, Indices indices, long n) {
    if (indices == null) {
      throw new IllegalArgumentException(name + " is null");
    }
    if (indices.length() != n) {
      throw new IllegalArgumentException(
          name + " holds " + indices.length() + " indices; " + n + " are needed");
    }
    int size = indices.isLong() ? Long.BYTES : Integer.BYTES;
    add(name, indices.segment(), indices.offset(), 1, n, n, size, false);
  }

  /** Takes the place of an operand that the caller left out. */
  void absent() {
    segment[count] = null;
    written[count] = false;
    count++;
  }

  private static void requireRows(String name, Matrix m) {
    if (m == null) {
      throw new IllegalArgumentException(name + " is null");
    }
    if (m.isTransposed()) {
      throw new IllegalArgumentException(
          name + " is a transposed view; this kernel needs each row in contiguous memory");
    }
  }

  private void add(
      String name,
      MemorySegment s,
      long offset,
      long rows,
      long cols,
      long rowStride,
      int elementBytes,
      boolean isOutput) {
    int k = count;
    if (rows < 0 || cols < 0) {
      throw new IllegalArgumentException(name + ": negative shape, " + rows + " x " + cols);
    }
    if (rowStride < cols && (isOutput || rowStride != 0) && rows > 1) {
      throw new IllegalArgumentException(
          name + ": stride " + rowStride + " is shorter than a row of " + cols);
    }
    long extent = Checks.extent(name, rows, cols, rowStride);
    if (isOutput) {
      Checks.writable(name, s, offset, extent, elementBytes);
    } else {
      Checks.readable(name, s, offset, extent, elementBytes);
    }
    segment[k] = s;
    start[k] = offset * elementBytes;
    stride[k] = rowStride * elementBytes;
    operandRows[k] = rows;
    operandCols[k] = cols;
    bytes[k] = elementBytes;
    step[k] = elementBytes;
    written[k] = isOutput;
    names[k] = name;
    count++;
  }

  /**
   * Spreads operand {@code k} over a problem of {@code rows x cols}: a single row serves every row,
   * a single column every column.
   */
  void broadcast(int k, long rows, long cols) {
    if ((operandRows[k] != rows && operandRows[k] != 1)
        || (operandCols[k] != cols && operandCols[k] != 1)) {
      throw new IllegalArgumentException(
          names[k]
              + " is "
              + operandRows[k]
              + " x "
              + operandCols[k]
              + ", which does not spread over "
              + rows
              + " x "
              + cols);
    }
    if (operandRows[k] == 1 && rows != 1) {
      stride[k] = 0;
    }
    if (operandCols[k] == 1 && cols != 1) {
      step[k] = 0;
    }
  }

  /** Whether a row of operand {@code k} is one element. */
  boolean isScalar(int k) {
    return step[k] == 0;
  }

  /** Output {@code out} may be exactly the memory of operand {@code in}. */
  void mayBeSame(int out, int in) {
    same[out] |= 1 << in;
    same[in] |= 1 << out;
  }

  /** Requires two shapes to agree, and says both when they do not. */
  static void sameShape(String aName, Matrix a, String bName, Matrix b) {
    if (a == null || b == null) {
      throw new IllegalArgumentException((a == null ? aName : bName) + " is null");
    }
    if (a.rows() != b.rows() || a.cols() != b.cols()) {
      throw new IllegalArgumentException(
          aName + " is " + a.rows() + " x " + a.cols() + " but " + bName + " is " + b.rows() + " x "
              + b.cols());
    }
  }

  private void checkOverlaps() {
    for (int out = 0; out < count; out++) {
      if (!written[out]) {
        continue;
      }
      for (int k = 0; k < count; k++) {
        if (k == out || segment[k] == null || (written[k] && k < out)) {
          continue;
        }
        if (overlap(out, k) && !((same[out] & 1 << k) != 0 && identical(out, k))) {
          throw new IllegalArgumentException(
              names[out] + " is written but shares memory with " + names[k]);
        }
      }
    }
  }

  private boolean overlap(int a, int b) {
    return Checks.overlap(
            segment[a], start[a], extentBytes(a), segment[b], start[b], extentBytes(b))
        && !interleaved(a, b);
  }

  private long extentBytes(int k) {
    return operandRows[k] == 0 || operandCols[k] == 0
        ? 0
        : (operandRows[k] - 1) * stride[k] + operandCols[k] * bytes[k];
  }

  private boolean identical(int a, int b) {
    return operandRows[a] == operandRows[b]
        && operandCols[a] * bytes[a] == operandCols[b] * bytes[b]
        && (stride[a] == stride[b] || operandRows[a] <= 1)
        && segment[a].address() + start[a] == segment[b].address() + start[b];
  }

  /** Whether two operands of the same stride occupy different columns of every row. */
  private boolean interleaved(int a, int b) {
    if (stride[a] != stride[b] || stride[a] == 0) {
      return false;
    }
    long apart = segment[b].address() + start[b] - segment[a].address() - start[a];
    long gap = Math.floorMod(apart, stride[a]);
    return gap >= operandCols[a] * bytes[a] && stride[a] - gap >= operandCols[b] * bytes[b];
  }

  // Running --------------------------------------------------------------------------------------

  /** Checks overlaps, then runs {@code body} for each task. */
  void run(int tasks, Body body) {
    checkOverlaps();
    this.body = body;
    if (isNative()) {
      regions(tasks);
    } else {
      runStaged(tasks);
    }
  }

  /** As {@link #run(int, Body)}, followed by a second region when the first is done. */
  void run(int tasks, Body body, int nextTasks, Body nextBody) {
    this.nextTasks = nextTasks;
    this.nextBody = nextBody;
    run(tasks, body);
  }

  private void regions(int tasks) {
    Workers.parallel(tasks, this);
    if (nextBody != null) {
      body = nextBody;
      Workers.parallel(nextTasks, this);
    }
  }

  /** Runs an elementwise kernel over {@code rows x cols} elements of the operands. */
  void spans(long rows, long cols, Span span) {
    this.rows = rows;
    this.cols = cols;
    this.span = span;
    if (rows == 0 || cols == 0) {
      checkOverlaps();
      return;
    }
    dense = true;
    for (int k = 0; k < count; k++) {
      boolean fixed = stride[k] == 0 && step[k] == 0;
      dense &= segment[k] == null || fixed || stride[k] == cols * step[k] || rows == 1;
    }
    if (dense) {
      run(Math.toIntExact((rows * cols + CHUNK - 1) / CHUNK), Call::denseTask);
    } else {
      taskRows = evenRows(CHUNK);
      run(rowTasks(), Call::rowsTask);
    }
  }

  /** Runs a row kernel over {@link #rows} rows, with as many in a task as make it worth one. */
  void byRows(Body body) {
    taskRows = evenRows(ROWS_CHUNK);
    run(rowTasks(), body);
  }

  /** Rows of a task, so that tasks are about equal and have so many elements at most. */
  private int evenRows(int elements) {
    long most = Math.clamp(elements / Math.max(1, cols), 1, Math.max(1, rows));
    long tasks = Math.max(1, (rows + most - 1) / most);
    return (int) Math.max(1, (rows + tasks - 1) / tasks);
  }

  /** Number of tasks when each takes {@link #taskRows} rows. */
  int rowTasks() {
    return Math.toIntExact((rows + taskRows - 1) / taskRows);
  }

  long firstRow(int task) {
    return (long) task * taskRows;
  }

  long endRow(int task) {
    return Math.min(rows, (long) (task + 1) * taskRows);
  }

  @Override
  public void run(int task) {
    body.run(this, task);
  }

  private static void denseTask(Call call, int task) {
    long from = (long) task * CHUNK;
    int n = (int) Math.min(CHUNK, call.rows * call.cols - from);
    int whole = n - n % LANES;
    if (whole > 0) {
      call.span.run(call, 0, from, whole);
    }
    if (whole < n) {
      call.tails(0, 1, from + whole, n - whole);
    }
  }

  private static void rowsTask(Call call, int task) {
    int tail = (int) (call.cols % LANES);
    long whole = call.cols - tail;
    long end = call.endRow(task);
    for (long row = call.firstRow(task); row < end; row++) {
      for (long col = 0; col < whole; col += CHUNK) {
        call.span.run(call, row, col, (int) Math.min(CHUNK, whole - col));
      }
    }
    if (tail > 0) {
      call.tails(call.firstRow(task), end, whole, tail);
    }
  }

  /** The last columns of rows, less than a vector, on padded copies. */
  private void tails(long fromRow, long toRow, long col, int n) {
    try (Scratch scratch = Scratch.take((long) OPERANDS * TAIL_BYTES);
        Call padded = take()) {
      MemorySegment memory = scratch.segment;
      padded.count = count;
      padded.flag = flag;
      System.arraycopy(scalar, 0, padded.scalar, 0, scalar.length);
      for (int k = 0; k < count; k++) {
        padded.segment[k] = segment[k] == null ? null : memory;
        padded.start[k] = (long) k * TAIL_BYTES;
        padded.stride[k] = 0;
        padded.step[k] = step[k];
      }
      for (long row = fromRow; row < toRow; row++) {
        for (int k = 0; k < count; k++) {
          if (segment[k] != null) {
            long from = at(k, row, col);
            MemorySegment.copy(segment[k], from, memory, padded.start[k], tailBytes(k, n));
          }
        }
        span.run(padded, 0, 0, LANES);
        for (int k = 0; k < count; k++) {
          if (written[k]) {
            long to = at(k, row, col);
            MemorySegment.copy(memory, padded.start[k], segment[k], to, tailBytes(k, n));
          }
        }
      }
    }
  }

  private long tailBytes(int k, int n) {
    return step[k] == 0 ? bytes[k] : (long) n * step[k];
  }

  private boolean isNative() {
    for (int k = 0; k < count; k++) {
      if (Staging.needed(segment[k])) {
        return false;
      }
    }
    return true;
  }

  private void runStaged(int tasks) {
    try (Staging staging = new Staging()) {
      for (int k = 0; k < count; k++) {
        if (!Staging.needed(segment[k])) {
          continue;
        }
        segment[k] =
            written[k]
                ? staging.output(
                    segment[k],
                    start[k],
                    operandRows[k],
                    operandCols[k] * bytes[k],
                    operandRows[k] > 1 ? stride[k] : operandCols[k] * bytes[k])
                : staging.input(segment[k], start[k], extentBytes(k));
        start[k] = 0;
      }
      regions(tasks);
      staging.finish();
    }
  }

  // Access, for kernels --------------------------------------------------------------------------

  /** Byte of element (row, col) in {@code segment[k]}. */
  long at(int k, long row, long col) {
    return start[k] + row * stride[k] + col * step[k];
  }

  /** Whether operand {@code k} was given. */
  boolean has(int k) {
    return segment[k] != null;
  }

  float getFloat(int k, long i) {
    return segment[k].get(FLOAT, start[k] + i * Float.BYTES);
  }

  void setFloat(int k, long i, float value) {
    segment[k].set(FLOAT, start[k] + i * Float.BYTES, value);
  }

  void setFloat(int k, long row, long col, float value) {
    segment[k].set(FLOAT, at(k, row, col), value);
  }

  /** Element {@code i} of an operand of indices. */
  long index(int k, long i) {
    return bytes[k] == Integer.BYTES
        ? segment[k].get(INT, start[k] + i * Integer.BYTES)
        : segment[k].get(LONG, start[k] + i * Long.BYTES);
  }

  /** Refuses indices outside {@code [0, bound)}, but for {@code allowed} where one is. */
  void requireIndices(int k, long n, long bound, long allowed, boolean hasAllowed) {
    for (long i = 0; i < n; i++) {
      long index = index(k, i);
      if ((index < 0 || index >= bound) && !(hasAllowed && index == allowed)) {
        throw new IllegalArgumentException(
            names[k] + "[" + i + "] is " + index + "; it must be from 0 to " + (bound - 1));
      }
    }
  }
}
