package dev.lanewise.simd;

import static dev.lanewise.simd.machinecode.Int8Layout.COLS;
import static dev.lanewise.simd.machinecode.Int8Layout.chunks;

import java.lang.foreign.MemorySegment;

/**
 * One product with weights of 8 bits, cut into tasks. All operands are native and checked; offsets
 * and strides are in bytes. Rows of A are made integers first, by all threads if there are many;
 * then a task multiplies some rows with some panels of B.
 */
final class Int8Job implements Workers.Task {
  /** Rows of A that a task multiplies with the panels it holds in its core's cache. */
  private static final int TASK_ROWS = 8 * Int8Kernel.ROWS;

  /** Bytes of B that a task keeps in its core's second-level cache, for many rows. */
  private static final long PANELS_BYTES = 300 << 10;

  /** Bytes of B that a task reads at most for few rows: fetching ahead starts anew in each. */
  private static final long FEW_ROWS_BYTES = 1 << 20;

  /** Bytes of B that a call reads at most, in which the JVM cannot stop the thread. */
  private static final long CALL_BYTES = 512 << 10;

  /** Products of fewer multiplications run on the calling thread. */
  private static final long SMALL = 1 << 18;

  /** Room for an epilogue's vectors. */
  private static final long EPILOGUE_BYTES = 5L * 64;

  private static final Spares<Int8Job> JOBS = new Spares<>(Int8Job::new);

  private MemorySegment a;
  private long aAt;
  private long aStride;
  private Int8Matrix b;
  private MemorySegment c;
  private long cAt;
  private long cStride;
  private int m;
  private float beta;
  private Epilogue epilogue;

  /** A's rows as integers. */
  private MemorySegment numbers;

  private boolean makesNumbers;
  private int rowTasks;
  private int panelTasks;

  private Int8Job() {}

  static void run(
      int m,
      MemorySegment a,
      long aOffset,
      long lda,
      Int8Matrix b,
      float beta,
      MemorySegment c,
      long cOffset,
      long ldc,
      Epilogue epilogue) {
    if (m == 0 || b.cols == 0) {
      return;
    }
    Int8Job job = JOBS.take();
    job.m = m;
    job.a = a;
    job.aAt = aOffset * Float.BYTES;
    job.aStride = lda * Float.BYTES;
    job.b = b;
    job.beta = beta;
    job.c = c;
    job.cAt = cOffset * Float.BYTES;
    job.cStride = ldc * Float.BYTES;
    job.epilogue = epilogue;
    try {
      job.run();
    } finally {
      job.a = null;
      job.b = null;
      job.c = null;
      job.epilogue = null;
      job.numbers = null;
      JOBS.give(job);
    }
  }

  private void run() {
    int threads = (double) m * b.cols * b.rows < SMALL ? 1 : Workers.threads();
    try (Scratch scratch = Scratch.take(m * Int8Kernel.rowBytes(b.rows) + 64)) {
      numbers = scratch.segment;
      rowTasks = (m + TASK_ROWS - 1) / TASK_ROWS;
      makesNumbers = true;
      run(rowTasks, threads);
      makesNumbers = false;
      long panelBytes = Math.max(1, b.panel(1));
      long most = Math.max(1, (rowTasks == 1 ? FEW_ROWS_BYTES : PANELS_BYTES) / panelBytes);
      int panels = Int8Matrix.panels(b.cols);
      long tasks = (panels + most - 1) / most;
      // The same number for each thread.
      panelTasks = (int) Math.min(panels, (tasks + threads - 1) / threads * threads);
      run(rowTasks * panelTasks, threads);
    }
  }

  private void run(int tasks, int threads) {
    if (threads == 1 || tasks == 1) {
      for (int i = 0; i < tasks; i++) {
        run(i);
      }
    } else {
      Workers.parallel(tasks, this);
    }
  }

  @Override
  public void run(int task) {
    int rows = makesNumbers ? task : task / panelTasks;
    int from = Blocking.start(rows, rowTasks, m, Int8Kernel.ROWS);
    int to = Blocking.start(rows + 1, rowTasks, m, Int8Kernel.ROWS);
    if (makesNumbers) {
      long rowBytes = Int8Kernel.rowBytes(b.rows);
      for (int i = from; i < to; i++) {
        Int8Kernel.quantize(a, aAt + i * aStride, b.rows, numbers, i * rowBytes);
      }
      return;
    }
    int panels = Int8Matrix.panels(b.cols);
    int part = task % panelTasks;
    int first = Blocking.start(part, panelTasks, panels, 1);
    int end = Blocking.start(part + 1, panelTasks, panels, 1);
    int most = (int) Math.max(1, CALL_BYTES / Math.max(1, b.panel(1)));
    try (Scratch own = Scratch.take(Int8Kernel.ROWS * COLS * 4L + EPILOGUE_BYTES)) {
      for (int panel = first; panel < end; panel += most) {
        multiply(from, to, panel, Math.min(end, panel + most), own.segment);
      }
    }
  }

  /** Multiplies rows with panels; what ends inside a panel goes by way of {@code temp}. */
  private void multiply(int from, int to, int first, int end, MemorySegment temp) {
    int whole = Math.min(end, b.cols / COLS) - first;
    int chunks = chunks(b.rows);
    long rowBytes = Int8Kernel.rowBytes(b.rows);
    int col = first * COLS;
    int cols = Math.min(b.cols, end * COLS) - col;
    for (int i = from; i < to; i += Int8Kernel.ROWS) {
      int rows = Math.min(Int8Kernel.ROWS, to - i);
      long at = i * rowBytes;
      long target = cAt + i * cStride + 4L * col;
      if (whole > 0) {
        Int8Kernel.multiply(
            rows,
            whole,
            chunks,
            numbers,
            at,
            rowBytes,
            b.segment,
            b.panel(first),
            c,
            target,
            cStride,
            beta);
      }
      if (first + whole < end) {
        long stride = 4L * COLS;
        long panelAt = b.panel(first + whole);
        Int8Kernel.multiply(
            rows, 1, chunks, numbers, at, rowBytes, b.segment, panelAt, temp, 0, stride, 0);
        long rest = target + stride * whole;
        Packing.merge(temp, 0, stride, c, rest, cStride, rows, cols - whole * COLS, beta);
      }
      if (epilogue != null) {
        EpilogueKernel.apply(epilogue, c, cAt, cStride, i, rows, col, cols, temp);
      }
    }
  }
}
