package dev.lanewise.simd;

/** Attention in float64, written for clarity: the reference of {@link AttentionTest}. */
final class AttentionReference {
  final int batch;
  final int heads;
  final int queries;
  final int keys;
  final int headSize;
  final double[][][][] out;
  final double[][][] lse;
  double[][][][] dq;
  double[][][][] dk;
  double[][][][] dv;

  private final double[][][][] q;
  private final double[][][][] k;
  private final double[][][][] v;
  private final double scale;
  private final boolean[][][][] keep;
  private final double keepScale;
  private final double[][][][] p;

  /** Arrays are indexed {@code [batch][head][row][d]}; keep may be null. */
  AttentionReference(
      double[][][][] q,
      double[][][][] k,
      double[][][][] v,
      double scale,
      boolean causal,
      boolean[][][][] keep,
      double keepScale) {
    this.q = q;
    this.k = k;
    this.v = v;
    this.scale = scale;
    this.keep = keep;
    this.keepScale = keepScale;
    batch = q.length;
    heads = q[0].length;
    queries = q[0][0].length;
    keys = k[0][0].length;
    headSize = q[0][0][0].length;
    out = new double[batch][heads][queries][headSize];
    lse = new double[batch][heads][queries];
    p = new double[batch][heads][queries][keys];
    for (int b = 0; b < batch; b++) {
      for (int h = 0; h < heads; h++) {
        for (int i = 0; i < queries; i++) {
          int visible = causal ? keys - queries + i + 1 : keys;
          double max = Double.NEGATIVE_INFINITY;
          for (int j = 0; j < visible; j++) {
            double s = 0;
            for (int d = 0; d < headSize; d++) {
              s += q[b][h][i][d] * k[b][h][j][d];
            }
            p[b][h][i][j] = s * scale;
            max = Math.max(max, s * scale);
          }
          double sum = 0;
          for (int j = 0; j < visible; j++) {
            sum += Math.exp(p[b][h][i][j] - max);
          }
          lse[b][h][i] = max + Math.log(sum);
          for (int j = 0; j < visible; j++) {
            p[b][h][i][j] = Math.exp(p[b][h][i][j] - max) / sum;
            for (int d = 0; d < headSize; d++) {
              out[b][h][i][d] += p[b][h][i][j] * kept(b, h, i, j) * v[b][h][j][d];
            }
          }
        }
      }
    }
  }

  private double kept(int b, int h, int i, int j) {
    return keep == null ? 1 : keep[b][h][i][j] ? keepScale : 0;
  }

  void backward(double[][][][] dOut) {
    dq = new double[batch][heads][queries][headSize];
    dk = new double[batch][heads][keys][headSize];
    dv = new double[batch][heads][keys][headSize];
    for (int b = 0; b < batch; b++) {
      for (int h = 0; h < heads; h++) {
        for (int i = 0; i < queries; i++) {
          double[] dp = new double[keys];
          double mean = 0;
          for (int j = 0; j < keys; j++) {
            double pij = p[b][h][i][j];
            for (int d = 0; d < headSize; d++) {
              dp[j] += dOut[b][h][i][d] * v[b][h][j][d] * kept(b, h, i, j);
              dv[b][h][j][d] += pij * kept(b, h, i, j) * dOut[b][h][i][d];
            }
            mean += pij * dp[j];
          }
          for (int j = 0; j < keys; j++) {
            double ds = p[b][h][i][j] * (dp[j] - mean) * scale;
            for (int d = 0; d < headSize; d++) {
              dq[b][h][i][d] += ds * k[b][h][j][d];
              dk[b][h][j][d] += ds * q[b][h][i][d];
            }
          }
        }
      }
    }
  }
}
