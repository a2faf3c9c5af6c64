package dev.lanewise.simd;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Locale;

/**
 * The head of a language model and its loss in one: {@code logits = x · wᵀ}, the cross-entropy of
 * the logits against targets, and the gradients {@code dx = dlogits · w} and {@code dw += dlogitsᵀ
 * · x}, without ever holding the logits of more than some rows.
 *
 * <p>Rows are worked on in chunks, whose size depends on the shapes alone, so that results are the
 * same to the bit for any number of threads. The logits of a chunk are at most 72 MB, or as many
 * rows as the caller allows, kept between calls as scratch memory. Chunks decide in which order
 * {@code dw} is summed, and nothing else: loss and {@code dx} are the same to the bit for all
 * chunks of more than eight rows. Each chunk reads {@code w} twice and {@code dw} once from memory,
 * and writes it once; that is the price of small ones. The work is {@code 2·rows·width·classes}
 * operations for the loss and three times as many with gradients. Semantics of the loss are those
 * of {@link CrossEntropy}.
 *
 * <p>Gradients are computed with the loss, for a factor that is known beforehand. A call with wrong
 * arguments throws {@link IllegalArgumentException} before anything is written.
 */
public final class LinearCrossEntropy {
  private static final long CHUNK_BYTES = 72_000_000;
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;
  private static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT_UNALIGNED;
  private static final ValueLayout.OfLong LONG = ValueLayout.JAVA_LONG_UNALIGNED;

  private LinearCrossEntropy() {}

  /**
   * The loss alone.
   *
   * @param x {@code [rows, width]}
   * @param w {@code [classes, width]}
   * @param targets {@code rows} classes
   * @param losses {@code rows} floats; receives each row's weighted loss
   * @param lse null, or {@code rows} floats; receives each row's log-sum-exp
   * @param options reduction, ignored target and so on
   * @return the reduced loss; NaN if there is no reduction
   */
  public static float forward(
      Matrix x,
      Matrix w,
      Indices targets,
      MemorySegment losses,
      MemorySegment lse,
      CrossEntropy.Options options) {
    return forward(x, w, targets, losses, lse, options, ElementType.FLOAT32, 0, null);
  }

  /**
   * The loss alone, in limited memory.
   *
   * @param x {@code [rows, width]}
   * @param w {@code [classes, width]}
   * @param targets {@code rows} classes
   * @param losses {@code rows} floats; receives each row's weighted loss
   * @param lse null, or {@code rows} floats; receives each row's log-sum-exp
   * @param options reduction, ignored target and so on
   * @param products what operands of products are rounded to: {@link ElementType#FLOAT32}, or
   *     {@link ElementType#BFLOAT16} with the sums of {@link Bfloat16Gemm}
   * @param mostRows most rows of logits to hold at a time; 0 for as many as is fastest
   * @param working native memory of at least {@link #workingBytes} bytes for them, undefined
   *     afterwards; null for memory that the process keeps for later calls
   * @return the reduced loss; NaN if there is no reduction
   */
  public static float forward(
      Matrix x,
      Matrix w,
      Indices targets,
      MemorySegment losses,
      MemorySegment lse,
      CrossEntropy.Options options,
      ElementType products,
      int mostRows,
      MemorySegment working) {
    return forwardBackward(
        x, w, targets, losses, lse, null, null, false, 0, options, products, mostRows, working);
  }

  /**
   * The loss and its gradients.
   *
   * @param x {@code [rows, width]}
   * @param w {@code [classes, width]}
   * @param targets {@code rows} classes
   * @param losses {@code rows} floats; receives each row's weighted loss
   * @param lse null, or {@code rows} floats; receives each row's log-sum-exp
   * @param dx {@code [rows, width]}; receives the gradient of {@code scale} times the loss; null
   *     for none
   * @param dw {@code [classes, width]}; receives the gradient of {@code scale} times the loss; null
   *     for none
   * @param accumulate whether the gradient is added to {@code dw}, or else overwrites it
   * @param scale gradient of the reduced loss
   * @param options reduction, ignored target and so on
   * @return the reduced loss; NaN if there is no reduction; not scaled
   */
  public static float forwardBackward(
      Matrix x,
      Matrix w,
      Indices targets,
      MemorySegment losses,
      MemorySegment lse,
      Matrix dx,
      Matrix dw,
      boolean accumulate,
      float scale,
      CrossEntropy.Options options) {
    return forwardBackward(
        x,
        w,
        targets,
        losses,
        lse,
        dx,
        dw,
        accumulate,
        scale,
        options,
        ElementType.FLOAT32,
        0,
        null);
  }

  /**
   * The loss and its gradients, in limited memory.
   *
   * @param x {@code [rows, width]}
   * @param w {@code [classes, width]}
   * @param targets {@code rows} classes
   * @param losses {@code rows} floats; receives each row's weighted loss
   * @param lse null, or {@code rows} floats; receives each row's log-sum-exp
   * @param dx {@code [rows, width]}; receives the gradient of {@code scale} times the loss; null
   *     for none
   * @param dw {@code [classes, width]}; receives the gradient of {@code scale} times the loss; null
   *     for none
   * @param accumulate whether the gradient is added to {@code dw}, or else overwrites it
   * @param scale gradient of the reduced loss
   * @param options reduction, ignored target and so on
   * @param products what operands of products are rounded to: {@link ElementType#FLOAT32}, or
   *     {@link ElementType#BFLOAT16} with the sums of {@link Bfloat16Gemm}
   * @param mostRows most rows of logits to hold at a time; 0 for as many as is fastest
   * @param working native memory of at least {@link #workingBytes} bytes for them, undefined
   *     afterwards; null for memory that the process keeps for later calls
   * @return the reduced loss; NaN if there is no reduction; not scaled
   */
  public static float forwardBackward(
      Matrix x,
      Matrix w,
      Indices targets,
      MemorySegment losses,
      MemorySegment lse,
      Matrix dx,
      Matrix dw,
      boolean accumulate,
      float scale,
      CrossEntropy.Options options,
      ElementType products,
      int mostRows,
      MemorySegment working) {
    int rows = check(x, w, targets, losses, lse, dx, dw, options);
    Checks.present("products", products);
    if (mostRows < 0) {
      throw new IllegalArgumentException("at most " + mostRows + " rows of logits at a time");
    }
    int classes = w.rows();
    if (working != null) {
      checkWorking(working, rows, mostRows, x, w, targets, losses, lse, dx, dw, options);
    }
    double weight = totalWeight(targets, options);
    boolean isMean = options.reduction() == CrossEntropy.Reduction.MEAN;
    boolean hasGradient = dx != null || dw != null;
    float rowScale = isMean ? (float) (scale / weight) : scale;
    if (dw != null && !accumulate && rows == 0) {
      Gemm.multiply(dw.cols(0, 0), x, dw);
    }
    int chunk = chunkRows(rows, classes, mostRows);
    try (Scratch scratch = working == null ? Scratch.take(4L * chunk * classes + 64) : null) {
      MemorySegment logits = scratch == null ? working : scratch.segment;
      for (int from = 0; from < rows; from += chunk) {
        int some = Math.min(chunk, rows - from);
        multiply(
            products,
            x.isTransposed(),
            !w.isTransposed(),
            some,
            classes,
            x.cols(),
            x.segment(),
            rowAt(x, from),
            x.stride(),
            w.segment(),
            w.offset(),
            w.stride(),
            0,
            logits,
            0,
            classes);
        CrossEntropy.some(
            logits, some, classes, targets, losses, lse, from, hasGradient, rowScale, options);
        if (dx != null) {
          inputGradient(products, logits, some, w, dx, from);
        }
        if (dw != null) {
          weightGradient(products, logits, some, x, from, from > 0 || accumulate ? 1 : 0, dw);
        }
      }
    }
    double loss = 0;
    for (int row = 0; row < rows; row++) {
      loss += losses.get(FLOAT, 4L * row);
    }
    return switch (options.reduction()) {
      case MEAN -> (float) (loss / weight);
      case SUM -> (float) loss;
      case NONE -> Float.NaN;
    };
  }

  private static void multiply(
      ElementType products,
      boolean transposeA,
      boolean transposeB,
      int m,
      int n,
      int k,
      MemorySegment a,
      long aOffset,
      long lda,
      MemorySegment b,
      long bOffset,
      long ldb,
      float beta,
      MemorySegment c,
      long cOffset,
      long ldc) {
    if (products == ElementType.FLOAT32) {
      Gemm.sgemm(
          transposeA,
          transposeB,
          m,
          n,
          k,
          1,
          a,
          aOffset,
          lda,
          b,
          bOffset,
          ldb,
          beta,
          c,
          cOffset,
          ldc);
    } else {
      ElementType stored = ElementType.FLOAT32;
      Bfloat16Gemm.gemm(
          transposeA,
          transposeB,
          m,
          n,
          k,
          1,
          stored,
          a,
          aOffset,
          lda,
          stored,
          b,
          bOffset,
          ldb,
          beta,
          stored,
          c,
          cOffset,
          ldc,
          null);
    }
  }

  /** Rows of dx: gradients of the logits times w. */
  private static void inputGradient(
      ElementType products, MemorySegment gradients, int rows, Matrix w, Matrix dx, int from) {
    if (dx.isTransposed()) {
      multiply(products, new Matrix(gradients, rows, w.rows()), w, 0, dx.rows(from, from + rows));
      return;
    }
    multiply(
        products,
        false,
        w.isTransposed(),
        rows,
        w.cols(),
        w.rows(),
        gradients,
        0,
        w.rows(),
        w.segment(),
        w.offset(),
        w.stride(),
        0,
        dx.segment(),
        rowAt(dx, from),
        dx.stride());
  }

  /** A part of dw: gradients of the logits, transposed, times rows of x. */
  private static void weightGradient(
      ElementType products,
      MemorySegment gradients,
      int rows,
      Matrix x,
      int from,
      float beta,
      Matrix dw) {
    if (dw.isTransposed()) {
      Matrix logits = new Matrix(gradients, rows, dw.rows());
      multiply(products, logits.transposed(), x.rows(from, from + rows), beta, dw);
      return;
    }
    multiply(
        products,
        true,
        x.isTransposed(),
        dw.rows(),
        dw.cols(),
        rows,
        gradients,
        0,
        dw.rows(),
        x.segment(),
        rowAt(x, from),
        x.stride(),
        beta,
        dw.segment(),
        dw.offset(),
        dw.stride());
  }

  private static void multiply(ElementType products, Matrix a, Matrix b, float beta, Matrix c) {
    if (products == ElementType.FLOAT32) {
      Gemm.multiply(1, a, b, beta, c, null);
    } else {
      Bfloat16Gemm.multiply(1, a, b, beta, c, null);
    }
  }

  private static long rowAt(Matrix m, long row) {
    return m.offset() + (m.isTransposed() ? row : row * m.stride());
  }

  private static void checkWorking(
      MemorySegment working,
      int rows,
      int mostRows,
      Matrix x,
      Matrix w,
      Indices targets,
      MemorySegment losses,
      MemorySegment lse,
      Matrix dx,
      Matrix dw,
      CrossEntropy.Options options) {
    long bytes = workingBytes(rows, w.rows(), mostRows);
    if (!working.isNative() || working.byteSize() < bytes) {
      throw new IllegalArgumentException(
          String.format(
              Locale.ROOT,
              "working memory has %d bytes%s; %d rows of logits of %d classes take %d native bytes",
              working.byteSize(),
              working.isNative() ? "" : " on the heap",
              chunkRows(rows, w.rows(), mostRows),
              w.rows(),
              bytes));
    }
    int floats = (int) (bytes / Float.BYTES);
    String name = "working memory";
    Checks.writable(name, working, 0, floats);
    checkFloats(name, working, floats, x, w, targets, options);
    Checks.disjoint(name, working, 0, floats, "losses", losses, 0, (long) rows);
    if (lse != null) {
      Checks.disjoint(name, working, 0, floats, "lse", lse, 0, (long) rows);
    }
    if (dx != null) {
      Checks.disjoint(name, working, floats, "dx", dx);
    }
    if (dw != null) {
      Checks.disjoint(name, working, floats, "dw", dw);
    }
  }

  /**
   * The working memory of a call.
   *
   * @param rows rows of x
   * @param classes rows of w
   * @param mostRows most rows of logits to hold at a time; 0 for as many as is fastest
   * @return bytes, at most about 72 million unless a single row takes more
   */
  public static long workingBytes(int rows, int classes, int mostRows) {
    return 4L * chunkRows(rows, classes, mostRows) * classes;
  }

  /**
   * Rows of logits that a call holds at a time: as few chunks as the memory allows, about equally
   * large.
   *
   * @param rows rows of x
   * @param classes rows of w
   * @param mostRows most rows to hold; 0 for as many as is fastest
   */
  public static int chunkRows(int rows, int classes, int mostRows) {
    long most = Math.max(1, CHUNK_BYTES / (4L * Math.max(1, classes)));
    if (mostRows > 0) {
      most = Math.min(most, mostRows);
    }
    long chunks = Math.max(1, (rows + most - 1) / most);
    return (int) Math.max(1, (rows + chunks - 1) / chunks);
  }

  /** The sum of the weights of the rows that count. */
  private static double totalWeight(Indices targets, CrossEntropy.Options options) {
    MemorySegment weights = options.classWeights();
    double sum = 0;
    for (long row = 0; row < targets.length(); row++) {
      long target = target(targets, row);
      if (target != options.ignoreIndex()) {
        sum += weights == null ? 1 : weights.get(FLOAT, 4 * target);
      }
    }
    return sum;
  }

  private static long target(Indices targets, long row) {
    long i = targets.offset() + row;
    MemorySegment segment = targets.segment();
    return targets.isLong() ? segment.get(LONG, 8 * i) : segment.get(INT, 4 * i);
  }

  /** Checks all operands, and returns the number of rows. */
  private static int check(
      Matrix x,
      Matrix w,
      Indices targets,
      MemorySegment losses,
      MemorySegment lse,
      Matrix dx,
      Matrix dw,
      CrossEntropy.Options options) {
    Checks.readable("x", x);
    Checks.readable("w", w);
    Checks.present("targets", targets);
    Checks.present("options", options);
    int rows = x.rows();
    int classes = w.rows();
    if (x.cols() != w.cols()) {
      throw new IllegalArgumentException(
          "x is "
              + rows
              + " x "
              + x.cols()
              + " but w is "
              + classes
              + " x "
              + w.cols()
              + ": both must be of one width");
    }
    if (targets.length() != rows) {
      throw new IllegalArgumentException(targets.length() + " targets for " + rows + " rows of x");
    }
    int indexBytes = targets.isLong() ? Long.BYTES : Integer.BYTES;
    Checks.readable("targets", targets.segment(), targets.offset(), rows, indexBytes);
    if (options.classWeights() != null) {
      Checks.readable("class weights", options.classWeights(), 0, classes);
    }
    for (long row = 0; row < rows; row++) {
      long target = target(targets, row);
      if (target != options.ignoreIndex() && (target < 0 || target >= classes)) {
        throw new IllegalArgumentException(
            "target " + target + " of row " + row + " is not one of " + classes + " classes");
      }
    }
    Checks.writable("losses", losses, 0, rows);
    checkFloats("losses", losses, rows, x, w, targets, options);
    if (lse != null) {
      Checks.writable("lse", lse, 0, rows);
      checkFloats("lse", lse, rows, x, w, targets, options);
      Checks.disjoint("lse", lse, 0, rows, "losses", losses, 0, rows);
    }
    checkGradient("dx", dx, x, x, w, targets, losses, lse, options);
    checkGradient("dw", dw, w, x, w, targets, losses, lse, options);
    if (dx != null && dw != null) {
      Checks.disjoint("dx", dx, "dw", dw);
    }
    return rows;
  }

  private static void checkGradient(
      String name,
      Matrix gradient,
      Matrix of,
      Matrix x,
      Matrix w,
      Indices targets,
      MemorySegment losses,
      MemorySegment lse,
      CrossEntropy.Options options) {
    if (gradient == null) {
      return;
    }
    Checks.writable(name, gradient);
    if (gradient.rows() != of.rows() || gradient.cols() != of.cols()) {
      throw new IllegalArgumentException(
          name
              + " is "
              + gradient.rows()
              + " x "
              + gradient.cols()
              + "; it must be "
              + of.rows()
              + " x "
              + of.cols());
    }
    checkOutput(name, gradient, x, w, targets, options);
    Checks.disjoint(name, gradient, "losses", losses, x.rows());
    if (lse != null) {
      Checks.disjoint(name, gradient, "lse", lse, x.rows());
    }
  }

  private static void checkOutput(
      String name, Matrix out, Matrix x, Matrix w, Indices targets, CrossEntropy.Options options) {
    Checks.disjoint(name, out, "x", x);
    Checks.disjoint(name, out, "w", w);
    checkTargets(name, out.segment(), out.offset(), Checks.extent(out), targets);
    if (options.classWeights() != null) {
      Checks.disjoint(name, out, "class weights", options.classWeights(), w.rows());
    }
  }

  /** As {@link #checkOutput} for the first floats of a segment; makes no objects. */
  private static void checkFloats(
      String name,
      MemorySegment out,
      int floats,
      Matrix x,
      Matrix w,
      Indices targets,
      CrossEntropy.Options options) {
    Checks.disjoint(name, out, floats, "x", x);
    Checks.disjoint(name, out, floats, "w", w);
    checkTargets(name, out, 0, floats, targets);
    if (options.classWeights() != null) {
      Checks.disjoint(
          name, out, 0, floats, "class weights", options.classWeights(), 0, (long) w.rows());
    }
  }

  private static void checkTargets(
      String name, MemorySegment out, long offset, long floats, Indices targets) {
    Checks.disjoint(
        name,
        out,
        offset,
        floats,
        Float.BYTES,
        "targets",
        targets.segment(),
        targets.offset(),
        targets.length(),
        targets.isLong() ? Long.BYTES : Integer.BYTES);
  }
}
