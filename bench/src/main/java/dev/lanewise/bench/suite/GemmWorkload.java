package dev.lanewise.bench.suite;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import dev.lanewise.bench.contest.Case;
import dev.lanewise.bench.contest.Contest;
import dev.lanewise.bench.contest.Inputs;
import dev.lanewise.bench.contest.Workload;
import dev.lanewise.simd.Gemm;
import dev.lanewise.simd.Matrix;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * C = op(A) op(B), once or for a batch of matrices that lie one after another: {@code gemm m= n= k=
 * layout=NN|NT|TN|TT batch=1}.
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
  private final Matrix left;
  private final Matrix right;
  private final Matrix product;
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
    a = Inputs.floats(arena, (long) batch * m * k, 1);
    b = Inputs.floats(arena, (long) batch * k * n, 2);
    c = arena.allocate((long) batch * m * n * Float.BYTES, 64);
    left = isATransposed ? new Matrix(a, k, m).transposed() : new Matrix(a, m, k);
    right = isBTransposed ? new Matrix(b, n, k).transposed() : new Matrix(b, k, n);
    product = new Matrix(c, m, n);
    positions = Contest.spread((long) batch * m * n);
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
    double bytes = 4 * batch * (m * k + k * n + m * n);
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
    return 1e-5 * sums(true)[index];
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
        double term = (double) Inputs.value(inA, 1) * Inputs.value(inB, 2);
        sums[q] += absolute ? Math.abs(term) : term;
      }
    }
    return sums;
  }

  @Override
  public void run() {
    if (batch == 1) {
      Gemm.multiply(left, right, product);
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
      values[i] = c.getAtIndex(JAVA_FLOAT, at[i]);
    }
    return values;
  }

  @Override
  public void close() {
    arena.close();
  }
}
