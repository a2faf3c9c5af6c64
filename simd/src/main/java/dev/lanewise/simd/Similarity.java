package dev.lanewise.simd;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/**
 * Likeness of vectors: dot product, squared Euclidean distance, cosine and Euclidean (L2) norm, of
 * a pair, or of a query with each row of a matrix; and search for the rows that are most like it.
 *
 * <p>Sums are taken in float32, in an order that the length and the width of the machine's vectors
 * decide: the same pair gives the same bits in arrays and in native memory, alone or among rows,
 * and for any number of threads. Against exact arithmetic a sum of n products is wrong by about
 * {@code n / 16} roundings of its largest part at most. A dot product or distance beyond the range
 * of a float is an infinity. Norms and cosines are as good for elements of 1e-30 or 1e30 as for
 * others. The cosine with a vector of zeros is 0. An element that is NaN makes each result NaN that
 * it takes part in.
 *
 * <p>Arrays of floats are read where they lie, as such or as segments; other memory on the heap is
 * copied. Rows are shared out among threads, a pair is not. A wrong call gives an {@link
 * IllegalArgumentException} before anything is written.
 */
public final class Similarity {
  /** What tells how alike two vectors are. */
  public enum Metric {
    /** The sum of products; the largest is the most alike. */
    DOT,
    /** The cosine of the angle, from -1 to 1 but for rounding; the largest is the most alike. */
    COSINE,
    /** The sum of squared differences; the smallest is the most alike. */
    SQUARED_DISTANCE
  }

  /** What a row is asked for. */
  private enum Kind {
    DOT,
    COSINE,
    SQUARED_DISTANCE,
    NORM;

    static Kind of(Metric metric) {
      return switch (metric) {
        case DOT -> DOT;
        case COSINE -> COSINE;
        case SQUARED_DISTANCE -> SQUARED_DISTANCE;
      };
    }
  }

  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;

  /** Elements of a task: 256 KiB of floats. */
  private static final int CHUNK = 1 << 16;

  private static final Spares<ArrayRows> ARRAYS = new Spares<>(ArrayRows::new);

  private Similarity() {}

  // Pairs of arrays ------------------------------------------------------------------------------

  /**
   * Dot product {@code sum a[i] * b[i]}.
   *
   * @param a a vector
   * @param b a vector of the same length
   */
  public static float dot(float[] a, float[] b) {
    return SimilarityArrays.dot(a, 0, b, 0, sameLength(a, b));
  }

  /**
   * Dot product {@code sum a[aOffset + i] * b[bOffset + i]} of parts of arrays.
   *
   * @param a holds {@code n} floats from {@code aOffset}
   * @param b holds {@code n} floats from {@code bOffset}
   * @param n number of elements
   */
  public static float dot(float[] a, int aOffset, float[] b, int bOffset, int n) {
    check("a", a, aOffset, n);
    check("b", b, bOffset, n);
    return SimilarityArrays.dot(a, aOffset, b, bOffset, n);
  }

  /**
   * Squared Euclidean distance {@code sum (a[i] - b[i])^2}.
   *
   * @param a a vector
   * @param b a vector of the same length
   */
  public static float squaredDistance(float[] a, float[] b) {
    return SimilarityArrays.squaredDistance(a, 0, b, 0, sameLength(a, b));
  }

  /**
   * Squared Euclidean distance of parts of arrays.
   *
   * @param a holds {@code n} floats from {@code aOffset}
   * @param b holds {@code n} floats from {@code bOffset}
   * @param n number of elements
   */
  public static float squaredDistance(float[] a, int aOffset, float[] b, int bOffset, int n) {
    check("a", a, aOffset, n);
    check("b", b, bOffset, n);
    return SimilarityArrays.squaredDistance(a, aOffset, b, bOffset, n);
  }

  /**
   * Cosine of the angle {@code a . b / (|a| |b|)}; 0 if one of them is all zeros.
   *
   * @param a a vector
   * @param b a vector of the same length
   */
  public static float cosine(float[] a, float[] b) {
    return SimilarityArrays.cosine(a, 0, b, 0, sameLength(a, b));
  }

  /**
   * Cosine of the angle of parts of arrays; 0 if one of them is all zeros.
   *
   * @param a holds {@code n} floats from {@code aOffset}
   * @param b holds {@code n} floats from {@code bOffset}
   * @param n number of elements
   */
  public static float cosine(float[] a, int aOffset, float[] b, int bOffset, int n) {
    check("a", a, aOffset, n);
    check("b", b, bOffset, n);
    return SimilarityArrays.cosine(a, aOffset, b, bOffset, n);
  }

  /**
   * Euclidean norm {@code sqrt(sum a[i]^2)}, which BLAS calls snrm2.
   *
   * @param a a vector
   */
  public static float norm(float[] a) {
    Checks.present("a", a);
    return SimilarityArrays.norm(a, 0, a.length);
  }

  /**
   * Euclidean norm of a part of an array.
   *
   * @param a holds {@code n} floats from {@code aOffset}
   * @param n number of elements
   */
  public static float norm(float[] a, int aOffset, int n) {
    check("a", a, aOffset, n);
    return SimilarityArrays.norm(a, aOffset, n);
  }

  private static int sameLength(float[] a, float[] b) {
    Checks.present("a", a);
    Checks.present("b", b);
    if (a.length != b.length) {
      throw new IllegalArgumentException(
          "a has " + a.length + " elements but b has " + b.length + "; vectors must be as long");
    }
    return a.length;
  }

  private static void check(String name, float[] array, int offset, int n) {
    Checks.present(name, array);
    if (offset < 0 || n < 0 || offset > array.length - n) {
      throw new IllegalArgumentException(
          name
              + ": "
              + n
              + " elements at "
              + offset
              + " do not fit in an array of "
              + array.length
              + " elements");
    }
  }

  // Pairs of segments ----------------------------------------------------------------------------

  /**
   * Dot product of vectors in segments.
   *
   * @param a {@code n} floats from {@code aOffset}
   * @param aOffset first float of {@code a}
   * @param b {@code n} floats from {@code bOffset}
   * @param bOffset first float of {@code b}
   * @param n number of elements
   */
  public static float dot(MemorySegment a, long aOffset, MemorySegment b, long bOffset, int n) {
    return pair(Kind.DOT, a, aOffset, b, bOffset, n);
  }

  /**
   * Squared Euclidean distance of vectors in segments.
   *
   * @param a {@code n} floats from {@code aOffset}
   * @param aOffset first float of {@code a}
   * @param b {@code n} floats from {@code bOffset}
   * @param bOffset first float of {@code b}
   * @param n number of elements
   */
  public static float squaredDistance(
      MemorySegment a, long aOffset, MemorySegment b, long bOffset, int n) {
    return pair(Kind.SQUARED_DISTANCE, a, aOffset, b, bOffset, n);
  }

  /**
   * Cosine of the angle of vectors in segments; 0 if one of them is all zeros.
   *
   * @param a {@code n} floats from {@code aOffset}
   * @param aOffset first float of {@code a}
   * @param b {@code n} floats from {@code bOffset}
   * @param bOffset first float of {@code b}
   * @param n number of elements
   */
  public static float cosine(MemorySegment a, long aOffset, MemorySegment b, long bOffset, int n) {
    return pair(Kind.COSINE, a, aOffset, b, bOffset, n);
  }

  /**
   * Euclidean norm of a vector in a segment.
   *
   * @param a {@code n} floats from {@code aOffset}
   * @param aOffset first float of {@code a}
   * @param n number of elements
   */
  public static float norm(MemorySegment a, long aOffset, int n) {
    return pair(Kind.NORM, a, aOffset, a, aOffset, n);
  }

  private static float pair(
      Kind kind, MemorySegment a, long aOffset, MemorySegment b, long bOffset, int n) {
    Checks.readable("a", a, aOffset, n);
    Checks.readable("b", b, bOffset, n);
    if (!Staging.needed(a, b)) {
      return rows(kind, a, aOffset * Float.BYTES, b, bOffset * Float.BYTES, n);
    }
    float[] x = array(a);
    float[] y = array(b);
    if (x != null && y != null) {
      return arrays(kind, x, place(a, aOffset), y, place(b, bOffset), n);
    }
    try (Staging staging = new Staging()) {
      long bytes = (long) n * Float.BYTES;
      MemorySegment first = staging.input(a, aOffset * Float.BYTES, bytes);
      MemorySegment second = staging.input(b, bOffset * Float.BYTES, bytes);
      return rows(kind, first, 0, second, 0, n);
    }
  }

  private static float rows(
      Kind kind, MemorySegment a, long aAt, MemorySegment b, long bAt, int n) {
    return switch (kind) {
      case DOT -> SimilarityRows.dot(a, aAt, b, bAt, n);
      case COSINE -> SimilarityRows.cosine(a, aAt, b, bAt, n);
      case SQUARED_DISTANCE -> SimilarityRows.squaredDistance(a, aAt, b, bAt, n);
      case NORM -> SimilarityRows.norm(b, bAt, n);
    };
  }

  private static float arrays(Kind kind, float[] a, int aAt, float[] b, int bAt, int n) {
    return switch (kind) {
      case DOT -> SimilarityArrays.dot(a, aAt, b, bAt, n);
      case COSINE -> SimilarityArrays.cosine(a, aAt, b, bAt, n);
      case SQUARED_DISTANCE -> SimilarityArrays.squaredDistance(a, aAt, b, bAt, n);
      case NORM -> SimilarityArrays.norm(b, bAt, n);
    };
  }

  /** The array of floats that a segment shows, if its floats are those of the array. */
  private static float[] array(MemorySegment segment) {
    return !segment.isNative()
            && segment.address() % Float.BYTES == 0
            && segment.heapBase().orElse(null) instanceof float[] array
        ? array
        : null;
  }

  private static int place(MemorySegment segment, long offset) {
    return (int) (segment.address() / Float.BYTES + offset);
  }

  // A query and rows -----------------------------------------------------------------------------

  /**
   * Likeness of a query with each row of a matrix: {@code out[i] = metric(query, rows[i])}.
   *
   * @param metric what to compute
   * @param query as many floats from {@code queryOffset} as rows have columns
   * @param queryOffset first float of {@code query}
   * @param rows {@code [count, n]} of floats or bfloat16, at any stride, not transposed
   * @param out receives {@code count} floats from {@code outOffset}
   * @param outOffset first float of {@code out}
   */
  public static void compare(
      Metric metric,
      MemorySegment query,
      long queryOffset,
      MatrixView rows,
      MemorySegment out,
      long outOffset) {
    Checks.present("metric", metric);
    Checks.present("rows", rows);
    Checks.readable("query", query, queryOffset, rows.cols());
    all(Kind.of(metric), query, queryOffset, rows, out, outOffset);
  }

  /**
   * Euclidean norm of each row of a matrix.
   *
   * @param rows {@code [count, n]} of floats or bfloat16, at any stride, not transposed
   * @param out receives {@code count} floats from {@code outOffset}
   * @param outOffset first float of {@code out}
   */
  public static void norms(MatrixView rows, MemorySegment out, long outOffset) {
    Checks.present("rows", rows);
    all(Kind.NORM, null, 0, rows, out, outOffset);
  }

  /**
   * The rows that are most like a query, the most alike first; of rows that are equally so, that
   * with the smaller number first. Rows with a result of NaN come after all others.
   *
   * @param metric what to compare by: the largest dot products or cosines, the smallest distances
   * @param query as many floats from {@code queryOffset} as rows have columns
   * @param queryOffset first float of {@code query}
   * @param rows {@code [count, n]} of floats or bfloat16, at any stride, not transposed
   * @param k how many, from 0 to {@code count}
   * @param places receives the numbers of {@code k} rows as int32 from {@code placesOffset}
   * @param placesOffset first int of {@code places}
   * @param scores receives their {@code k} results from {@code scoresOffset}
   * @param scoresOffset first float of {@code scores}
   */
  public static void search(
      Metric metric,
      MemorySegment query,
      long queryOffset,
      MatrixView rows,
      int k,
      MemorySegment places,
      long placesOffset,
      MemorySegment scores,
      long scoresOffset) {
    Checks.present("metric", metric);
    Checks.present("rows", rows);
    Checks.readable("query", query, queryOffset, rows.cols());
    TopK.checkCount(k, rows.rows());
    Checks.writable("places", places, placesOffset, k, Integer.BYTES);
    Checks.writable("scores", scores, scoresOffset, k);
    long count = rows.rows();
    try (Scratch all = Scratch.take(Math.max(1, count * Float.BYTES))) {
      all(Kind.of(metric), query, queryOffset, rows, all.segment, 0);
      TopK.of(
          metric != Metric.SQUARED_DISTANCE,
          false,
          all.segment,
          0,
          1,
          count,
          count,
          k,
          places,
          placesOffset,
          k,
          scores,
          scoresOffset,
          k);
    }
  }

  private static void all(
      Kind kind,
      MemorySegment query,
      long queryOffset,
      MatrixView rows,
      MemorySegment out,
      long outOffset) {
    if (rows.isTransposed()) {
      throw new IllegalArgumentException(
          "rows is a transposed view; each row must lie in contiguous memory");
    }
    Checks.readable("rows", rows);
    float[] array = rows.type() == ElementType.FLOAT32 ? array(rows.segment()) : null;
    if (array != null) {
      try (ArrayRows job = ARRAYS.take()) {
        job.run(kind, query, queryOffset, rows, array, out, outOffset);
      }
      return;
    }
    try (Call call = Call.take()) {
      int n = rows.cols();
      call.typed(
          "rows",
          rows.segment(),
          rows.offset(),
          rows.rows(),
          n,
          rows.stride(),
          rows.type().bytes(),
          false);
      call.output("out", out, outOffset, rows.rows());
      if (query == null) {
        call.absent();
      } else {
        call.input("query", query, queryOffset, n);
      }
      call.rows = rows.rows();
      call.cols = n;
      call.flag = rows.type() == ElementType.BFLOAT16;
      call.taskRows = taskRows(rows.rows(), n);
      call.run(
          call.rowTasks(),
          switch (kind) {
            case DOT -> Similarity::dotTask;
            case COSINE -> Similarity::cosineTask;
            case SQUARED_DISTANCE -> Similarity::distanceTask;
            case NORM -> Similarity::normTask;
          });
    }
  }

  private static int taskRows(long rows, long cols) {
    return (int) Math.clamp(CHUNK / Math.max(1, cols), 1, Math.max(1, rows));
  }

  private static void dotTask(Call call, int task) {
    task(Kind.DOT, call, task);
  }

  private static void cosineTask(Call call, int task) {
    task(Kind.COSINE, call, task);
  }

  private static void distanceTask(Call call, int task) {
    task(Kind.SQUARED_DISTANCE, call, task);
  }

  private static void normTask(Call call, int task) {
    task(Kind.NORM, call, task);
  }

  private static void task(Kind kind, Call call, int task) {
    int n = (int) call.cols;
    long end = call.endRow(task);
    MemorySegment query = call.segment[2];
    long queryAt = query == null ? 0 : call.at(2, 0, 0);
    float squares = kind == Kind.COSINE ? SimilarityRows.squares(query, queryAt, n) : 0;
    if (!call.flag) {
      for (long row = call.firstRow(task); row < end; row++) {
        MemorySegment memory = call.segment[0];
        long at = call.at(0, row, 0);
        float result =
            kind == Kind.COSINE
                ? SimilarityRows.cosine(squares, query, queryAt, memory, at, n)
                : rows(kind, query, queryAt, memory, at, n);
        call.setFloat(1, row, result);
      }
      return;
    }
    for (long row = call.firstRow(task); row < end; row++) {
      long at = call.at(0, row, 0);
      call.setFloat(1, row, halves(kind, query, queryAt, squares, call.segment[0], at, n));
    }
  }

  /** As {@link #rows} of a row of bfloat16 and a query of which the sum of squares is known. */
  private static float halves(
      Kind kind,
      MemorySegment query,
      long queryAt,
      float querySquares,
      MemorySegment row,
      long rowAt,
      int n) {
    switch (kind) {
      case DOT -> {
        return SimilarityHalves.dot(query, queryAt, row, rowAt, n);
      }
      case SQUARED_DISTANCE -> {
        return SimilarityHalves.squaredDistance(query, queryAt, row, rowAt, n);
      }
      case COSINE -> {
        float product = SimilarityHalves.dot(query, queryAt, row, rowAt, n);
        float squares = SimilarityHalves.squares(row, rowAt, n);
        if (SimilarityArrays.isSound(product, querySquares, squares)) {
          return SimilarityArrays.cosine(product, querySquares, squares);
        }
      }
      case NORM -> {
        float squares = SimilarityHalves.squares(row, rowAt, n);
        if (SimilarityArrays.isSound(squares)) {
          return (float) Math.sqrt(squares);
        }
      }
    }
    // Too large or small for sums of floats.
    try (Scratch wide = Scratch.take(Math.max(1, (long) n * Float.BYTES))) {
      Bfloat16.widen(row, rowAt, wide.segment, 0, n);
      return rows(kind, query, queryAt, wide.segment, 0, n);
    }
  }

  /** Rows in an array: the query lies in an array too, and results are copied to their place. */
  private static final class ArrayRows implements Workers.Task, AutoCloseable {
    private Kind kind;
    private float[] query = new float[0];
    private float[] results = new float[0];
    private float[] array;
    private int first;
    private int stride;
    private int count;
    private int n;
    private int taskRows;

    void run(
        Kind kind,
        MemorySegment query,
        long queryOffset,
        MatrixView rows,
        float[] array,
        MemorySegment out,
        long outOffset) {
      this.kind = kind;
      this.array = array;
      n = rows.cols();
      count = rows.rows();
      first = place(rows.segment(), rows.offset());
      // With one row the stride may be larger than any array.
      stride = count > 1 ? (int) rows.stride() : n;
      Checks.writable("out", out, outOffset, count);
      long extent = Checks.extent(count, n, stride);
      Checks.disjoint("out", out, outOffset, count, "rows", rows.segment(), rows.offset(), extent);
      if (query != null) {
        Checks.disjoint("out", out, outOffset, count, "query", query, queryOffset, n);
        if (this.query.length < n) {
          this.query = new float[n];
        }
        MemorySegment.copy(query, FLOAT, queryOffset * Float.BYTES, this.query, 0, n);
      }
      if (results.length < count) {
        results = new float[count];
      }
      taskRows = taskRows(count, n);
      Workers.parallel((count + taskRows - 1) / taskRows, this);
      MemorySegment.copy(results, 0, out, FLOAT, outOffset * Float.BYTES, count);
    }

    @Override
    public void run(int task) {
      int from = task * taskRows;
      int end = Math.min(count, from + taskRows);
      for (int row = from; row < end; row++) {
        results[row] = arrays(kind, query, 0, array, first + row * stride, n);
      }
    }

    @Override
    public void close() {
      array = null;
      ARRAYS.give(this);
    }
  }
}
