package dev.lanewise.bench.suite;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_SHORT;

import dev.lanewise.bench.contest.Case;
import dev.lanewise.bench.contest.Contest;
import dev.lanewise.bench.contest.Inputs;
import dev.lanewise.bench.contest.Workload;
import dev.lanewise.simd.Bfloat16;
import dev.lanewise.simd.Bfloat16Gemm;
import dev.lanewise.simd.Bfloat16Matrix;
import dev.lanewise.simd.Gemm;
import dev.lanewise.simd.Matrix;
import dev.lanewise.simd.MatrixView;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * C = op(A) op(B), once or for a batch of matrices that lie one after another: {@code gemm m= n= k=
 * layout=NN|NT|TN|TT batch=1 precision=fp32|bf16}. In bfloat16 all three matrices are stored so.
 */
final class GemmWorkload implements Workload {
  private final Case task;
  private final int m;
  private final int n;
  private final int k;
  private final int batch;
  private final boolean isATransposed;
  private final boolean isBTransposed;
  private final Arena arena = Arena.ofShared();
  private final MemorySegment a;
  private final MemorySegment b;
  private final MemorySegment c;
  private final boolean isBfloat16;
  private final MatrixView left;
  private final MatrixView right;
  private final MatrixView product;
  private final long[] positions;

  GemmWorkload(Case task) {
    this.task = task;
    m = task.number("m");
    n = task.number("n");
    k = task.number("k");
    batch = task.number("batch", 1);
    String layout = task.word("layout", "NN");
    isATransposed = layout.charAt(0) == 'T';
    isBTransposed = layout.charAt(1) == 'T';
    isBfloat16 = task.isBfloat16();
    a = operand((long) batch * m * k, 1);
    b = operand((long) batch * k * n, 2);
    c = arena.allocate((long) batch * m * n * (isBfloat16 ? Short.BYTES : Float.BYTES), 64);
    left = view(a, m, k, isATransposed);
    right = view(b, k, n, isBTransposed);
    product = view(c, m, n, false);
    positions = Contest.spread((long) batch * m * n);
  }

  private MemorySegment operand(long count, int which) {
    MemorySegment floats = Inputs.floats(arena, count, which);
    if (!isBfloat16) {
      return floats;
    }
    MemorySegment rounded = arena.allocate(count * Short.BYTES, 64);
    Bfloat16.fromFloat(floats, 0, rounded, 0, count);
    return rounded;
  }

  private MatrixView view(MemorySegment segment, int rows, int cols, boolean isTransposed) {
    int storedRows = isTransposed ? cols : rows;
    int storedCols = isTransposed ? rows : cols;
    if (isBfloat16) {
      return new Bfloat16Matrix(segment, 0, rows, cols, storedCols, isTransposed);
    }
    Matrix stored = new Matrix(segment, storedRows, storedCols);
    return isTransposed ? stored.transposed() : stored;
  }

  @Override
  public Case task() {
    return task;
  }

  static Cost cost(Case task) {
    double m = task.number("m");
    double n = task.number("n");
    double k = task.number("k");
    double batch = task.number("batch", 1);
    double flops = 2 * batch * m * n * k;
    double bytes = (task.isBfloat16() ? 2 : 4) * batch * (m * k + k * n + m * n);
    // A few rows against a large matrix only read it
    return m <= 8
        ? Cost.traffic(flops, bytes, Pattern.READ)
        : Cost.arithmetic(flops, bytes, Pattern.TRIAD);
  }

  @Override
  public Cost cost() {
    return Workloads.cost(task);
  }

  @Override
  public long[] positions() {
    return positions;
  }

  @Override
  public double[] expected() {
    return sums(false);
  }

  @Override
  public double tolerance(int index) {
    double tolerance = 1e-5 * sums(true)[index];
    // The product is rounded once more: half a unit of eight bits, and a peer's way of rounding.
    return isBfloat16 ? tolerance + 0x1p-8 * Math.abs(sums(false)[index]) : tolerance;
  }

  private double[] sums(boolean absolute) {
    double[] sums = new double[positions.length];
    for (int q = 0; q < sums.length; q++) {
      long matrix = positions[q] / ((long) m * n);
      int i = (int) (positions[q] % ((long) m * n) / n);
      int j = (int) (positions[q] % n);
      for (int p = 0; p < k; p++) {
        long inA = matrix * m * k + (isATransposed ? (long) p * m + i : (long) i * k + p);
        long inB = matrix * k * n + (isBTransposed ? (long) j * k + p : (long) p * n + j);
        double term = (double) value(inA, 1) * value(inB, 2);
        sums[q] += absolute ? Math.abs(term) : term;
      }
    }
    return sums;
  }

  private float value(long index, int operand) {
    float value = Inputs.value(index, operand);
    return isBfloat16 ? Bfloat16.toFloat(Bfloat16.fromFloat(value)) : value;
  }

  @Override
  public void run() {
    if (isBfloat16) {
      Bfloat16Gemm.multiply(left, right, product);
    } else if (batch == 1) {
      Gemm.multiply((Matrix) left, (Matrix) right, (Matrix) product);
    } else {
      long lda = isATransposed ? m : k;
      long ldb = isBTransposed ? k : n;
      Gemm.batched(
          batch,
          isATransposed,
          isBTransposed,
          m,
          n,
          k,
          1,
          a,
          0,
          lda,
          (long) m * k,
          b,
          0,
          ldb,
          (long) k * n,
          0,
          c,
          0,
          n,
          (long) m * n);
    }
  }

  @Override
  public double[] result(long[] at) {
    double[] values = new double[at.length];
    for (int i = 0; i < at.length; i++) {
      values[i] =
          isBfloat16
              ? Bfloat16.toFloat(c.getAtIndex(JAVA_SHORT, at[i]))
              : c.getAtIndex(JAVA_FLOAT, at[i]);
    }
    return values;
  }

  @Override
  public void close() {
    arena.close();
  }
}
