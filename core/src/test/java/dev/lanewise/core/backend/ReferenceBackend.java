package dev.lanewise.core.backend;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;

import dev.lanewise.core.random.TorchGenerator;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * The seam written down as plain loops, accumulated in double: what every other backend is held to.
 */
public final class ReferenceBackend implements Backend {
  private static final double EPSILON = 1e-5;
  private static final double GELU = Math.sqrt(2 / Math.PI);
  private final Map<Buffer, Arena> arenas = new HashMap<>();

  /** Where masks begin. */
  private long firstBit;

  /** A backend that holds no memory yet. */
  public ReferenceBackend() {}

  private static MemorySegment of(Buffer buffer) {
    return ((CpuBuffer) buffer).segment();
  }

  private static float get(Buffer buffer, long i) {
    return of(buffer).getAtIndex(JAVA_FLOAT, i);
  }

  private static void set(Buffer buffer, long i, double value) {
    of(buffer).setAtIndex(JAVA_FLOAT, i, (float) value);
  }

  private static void add(Buffer buffer, long i, double value) {
    set(buffer, i, get(buffer, i) + value);
  }

  private static void put(Buffer buffer, long i, double value, boolean accumulate) {
    set(buffer, i, accumulate ? get(buffer, i) + value : value);
  }

  private static int id(Buffer ids, long i) {
    return of(ids).getAtIndex(JAVA_INT, i);
  }

  private boolean kept(Buffer mask, long element) {
    long i = firstBit + element;
    return mask == null || (of(mask).get(JAVA_BYTE, i / 8) >> (i % 8) & 1) != 0;
  }

  @Override
  public String name() {
    return "reference";
  }

  @Override
  public String description() {
    return "plain loops in double precision";
  }

  @Override
  public DType activationType() {
    return DType.FLOAT32;
  }

  @Override
  public long availableMemory() {
    return Long.MAX_VALUE;
  }

  @Override
  public Buffer allocate(DType type, long length) {
    Arena arena = Arena.ofShared();
    Buffer buffer = new CpuBuffer(type, arena.allocate(length * type.bytes, 64));
    arenas.put(buffer, arena);
    return buffer;
  }

  @Override
  public void free(Buffer buffer) {
    arenas.remove(buffer).close();
  }

  @Override
  public void upload(MemorySegment from, Buffer to) {
    if (from.byteSize() != to.byteSize()) {
      throw new IllegalArgumentException(from.byteSize() + " bytes into " + to.byteSize());
    }
    of(to).copyFrom(from);
  }

  @Override
  public void download(Buffer from, MemorySegment to) {
    to.copyFrom(of(from));
  }

  @Override
  public void fill(Buffer buffer, float value) {
    for (long i = 0; i < buffer.length(); i++) {
      set(buffer, i, value);
    }
  }

  @Override
  public void copy(Buffer from, Buffer to) {
    of(to).copyFrom(of(from));
  }

  @Override
  public void synchronize() {}

  @Override
  public void embedding(
      Buffer ids,
      Buffer table,
      Buffer positions,
      int firstPosition,
      Buffer out,
      int batch,
      int time,
      int channels) {
    for (int b = 0; b < batch; b++) {
      for (int t = 0; t < time; t++) {
        long row = (long) b * time + t;
        for (int c = 0; c < channels; c++) {
          double value = get(table, (long) id(ids, row) * channels + c);
          if (positions != null) {
            value += get(positions, (long) (firstPosition + t) * channels + c);
          }
          set(out, row * channels + c, value);
        }
      }
    }
  }

  @Override
  public void embeddingBackward(
      Buffer ids,
      Buffer dOut,
      Buffer dTable,
      Buffer dPositions,
      int firstPosition,
      int batch,
      int time,
      int channels) {
    for (int b = 0; b < batch; b++) {
      for (int t = 0; t < time; t++) {
        long row = (long) b * time + t;
        for (int c = 0; c < channels; c++) {
          double value = get(dOut, row * channels + c);
          if (dTable != null) {
            add(dTable, (long) id(ids, row) * channels + c, value);
          }
          if (dPositions != null) {
            add(dPositions, (long) (firstPosition + t) * channels + c, value);
          }
        }
      }
    }
  }

  @Override
  public void layerNorm(
      Buffer x,
      Buffer weight,
      Buffer bias,
      Buffer out,
      Buffer mean,
      Buffer rstd,
      int rows,
      int channels) {
    for (int r = 0; r < rows; r++) {
      long at = (long) r * channels;
      double m = 0;
      for (int c = 0; c < channels; c++) {
        m += get(x, at + c);
      }
      m /= channels;
      double variance = 0;
      for (int c = 0; c < channels; c++) {
        variance += (get(x, at + c) - m) * (get(x, at + c) - m);
      }
      double s = 1 / Math.sqrt(variance / channels + EPSILON);
      for (int c = 0; c < channels; c++) {
        set(out, at + c, (get(x, at + c) - m) * s * get(weight, c) + get(bias, c));
      }
      set(mean, r, m);
      set(rstd, r, s);
    }
  }

  @Override
  public void layerNormBackward(
      Buffer dOut,
      Buffer x,
      Buffer weight,
      Buffer mean,
      Buffer rstd,
      Buffer dx,
      boolean accumulate,
      Buffer dWeight,
      Buffer dBias,
      int rows,
      int channels) {
    for (int r = 0; r < rows; r++) {
      long at = (long) r * channels;
      double m = get(mean, r);
      double s = get(rstd, r);
      double sum = 0;
      double dot = 0;
      for (int c = 0; c < channels; c++) {
        double normal = (get(x, at + c) - m) * s;
        double g = (double) get(dOut, at + c) * get(weight, c);
        sum += g;
        dot += g * normal;
        if (dWeight != null) {
          add(dWeight, c, get(dOut, at + c) * normal);
        }
        if (dBias != null) {
          add(dBias, c, get(dOut, at + c));
        }
      }
      for (int c = 0; c < channels; c++) {
        double normal = (get(x, at + c) - m) * s;
        double g = (double) get(dOut, at + c) * get(weight, c);
        put(dx, at + c, s * (g - sum / channels - normal * dot / channels), accumulate);
      }
    }
  }

  private static double activate(Activation activation, double x) {
    return switch (activation) {
      case NONE -> x;
      case GELU_TANH -> value(Unary.GELU_TANH, x);
      case GELU_ERF -> value(Unary.GELU_ERF, x);
    };
  }

  @Override
  public void linear(
      Buffer x,
      Buffer weight,
      Buffer bias,
      Activation activation,
      Buffer preactivation,
      Buffer residual,
      Buffer out,
      int rows,
      int inputs,
      int outputs) {
    for (int r = 0; r < rows; r++) {
      for (int o = 0; o < outputs; o++) {
        double sum = bias == null ? 0 : get(bias, o);
        for (int i = 0; i < inputs; i++) {
          sum += (double) get(x, (long) r * inputs + i) * get(weight, (long) o * inputs + i);
        }
        long at = (long) r * outputs + o;
        if (preactivation != null) {
          set(preactivation, at, sum);
        }
        set(
            out,
            at,
            activate(activation, (float) sum) + (residual == null ? 0 : get(residual, at)));
      }
    }
  }

  @Override
  public void linearBackwardInput(
      Buffer dOut,
      Buffer weight,
      Activation activation,
      Buffer preactivation,
      Buffer dx,
      boolean accumulate,
      int rows,
      int inputs,
      int outputs) {
    for (int r = 0; r < rows; r++) {
      for (int i = 0; i < inputs; i++) {
        double sum = 0;
        for (int o = 0; o < outputs; o++) {
          sum += (double) get(dOut, (long) r * outputs + o) * get(weight, (long) o * inputs + i);
        }
        long at = (long) r * inputs + i;
        double slope =
            switch (activation) {
              case NONE -> 1;
              case GELU_TANH -> slope(Unary.GELU_TANH, get(preactivation, at), 0);
              case GELU_ERF -> slope(Unary.GELU_ERF, get(preactivation, at), 0);
            };
        put(dx, at, sum * slope, accumulate);
      }
    }
  }

  @Override
  public void linearBackwardWeight(
      Buffer dOut,
      Buffer x,
      Buffer dWeight,
      Buffer dBias,
      boolean accumulate,
      int rows,
      int inputs,
      int outputs) {
    for (int o = 0; o < outputs; o++) {
      if (dBias != null) {
        double sum = 0;
        for (int r = 0; r < rows; r++) {
          sum += get(dOut, (long) r * outputs + o);
        }
        put(dBias, o, sum, accumulate);
      }
      for (int i = 0; dWeight != null && i < inputs; i++) {
        double sum = 0;
        for (int r = 0; r < rows; r++) {
          sum += (double) get(dOut, (long) r * outputs + o) * get(x, (long) r * inputs + i);
        }
        put(dWeight, (long) o * inputs + i, sum, accumulate);
      }
    }
  }

  /** Scaled scores of one query, softmaxed; returns the log-sum-exp. */
  private static double probabilities(
      Buffer q,
      long query,
      Buffer k,
      long firstKey,
      long keyStride,
      int keys,
      int size,
      double[] p) {
    double scale = 1 / Math.sqrt(size);
    double max = Double.NEGATIVE_INFINITY;
    for (int j = 0; j < keys; j++) {
      double dot = 0;
      for (int d = 0; d < size; d++) {
        dot += (double) get(q, query + d) * get(k, firstKey + j * keyStride + d);
      }
      p[j] = dot * scale;
      max = Math.max(max, p[j]);
    }
    double sum = 0;
    for (int j = 0; j < keys; j++) {
      p[j] = Math.exp(p[j] - max);
      sum += p[j];
    }
    for (int j = 0; j < keys; j++) {
      p[j] /= sum;
    }
    return max + Math.log(sum);
  }

  @Override
  public void attention(
      Buffer qkv,
      Buffer dropoutMask,
      float keepScale,
      Buffer out,
      Buffer lse,
      int batch,
      int time,
      int heads,
      int headSize) {
    long width = 3L * heads * headSize;
    double[] p = new double[time];
    for (int b = 0; b < batch; b++) {
      for (int h = 0; h < heads; h++) {
        long first = b * time * width + (long) h * headSize;
        for (int t = 0; t < time; t++) {
          long weights = (((long) b * heads + h) * time + t) * time;
          double l =
              probabilities(
                  qkv,
                  first + t * width,
                  qkv,
                  first + (long) heads * headSize,
                  width,
                  t + 1,
                  headSize,
                  p);
          set(lse, ((long) b * heads + h) * time + t, l);
          for (int d = 0; d < headSize; d++) {
            double sum = 0;
            for (int j = 0; j <= t; j++) {
              if (kept(dropoutMask, weights + j)) {
                sum += p[j] * keepScale * get(qkv, first + 2L * heads * headSize + j * width + d);
              }
            }
            set(out, (((long) b * time + t) * heads + h) * headSize + d, sum);
          }
        }
      }
    }
  }

  @Override
  public void attentionBackward(
      Buffer dOut,
      Buffer qkv,
      Buffer out,
      Buffer lse,
      Buffer dropoutMask,
      float keepScale,
      Buffer dQkv,
      int batch,
      int time,
      int heads,
      int headSize) {
    long width = 3L * heads * headSize;
    double scale = 1 / Math.sqrt(headSize);
    double[] p = new double[time];
    double[] sums = new double[Math.toIntExact(dQkv.length())];
    for (int b = 0; b < batch; b++) {
      for (int h = 0; h < heads; h++) {
        long q = b * time * width + (long) h * headSize;
        long k = q + (long) heads * headSize;
        long v = k + (long) heads * headSize;
        for (int t = 0; t < time; t++) {
          long weights = (((long) b * heads + h) * time + t) * time;
          long o = (((long) b * time + t) * heads + h) * headSize;
          probabilities(qkv, q + t * width, qkv, k, width, t + 1, headSize, p);
          double[] dp = new double[t + 1];
          double dot = 0;
          for (int j = 0; j <= t; j++) {
            double keep = kept(dropoutMask, weights + j) ? keepScale : 0;
            for (int d = 0; d < headSize; d++) {
              dp[j] += keep * get(dOut, o + d) * get(qkv, v + j * width + d);
              sums[(int) (v + j * width + d)] += p[j] * keep * get(dOut, o + d);
            }
            dot += dp[j] * p[j];
          }
          for (int j = 0; j <= t; j++) {
            double ds = p[j] * (dp[j] - dot) * scale;
            for (int d = 0; d < headSize; d++) {
              sums[(int) (q + t * width + d)] += ds * get(qkv, k + j * width + d);
              sums[(int) (k + j * width + d)] += ds * get(qkv, q + t * width + d);
            }
          }
        }
      }
    }
    for (int i = 0; i < sums.length; i++) {
      set(dQkv, i, sums[i]);
    }
  }

  @Override
  public boolean isolatesDocuments() {
    return true;
  }

  /** Takes the first row of a document in all rows, and its length. */
  private interface Document {
    void accept(int row, int length);
  }

  private void documents(Buffer positions, int batch, int time, int heads, Document each) {
    for (int b = 0; b < batch; b++) {
      firstBit = (long) b * heads * time * time;
      int from = 0;
      for (int t = 1; t <= time; t++) {
        if (t == time || id(positions, (long) b * time + t) == 0) {
          each.accept(b * time + from, t - from);
          firstBit += (long) heads * (t - from) * (t - from);
          from = t;
        }
      }
    }
    firstBit = 0;
  }

  private static Buffer rows(Buffer buffer, int row, int count, long width) {
    return buffer.slice(row * width, count * width);
  }

  @Override
  public void attentionWithin(
      Buffer positions,
      Buffer qkv,
      Buffer dropoutMask,
      float keepScale,
      Buffer out,
      Buffer lse,
      int batch,
      int time,
      int heads,
      int headSize) {
    long width = (long) heads * headSize;
    documents(
        positions,
        batch,
        time,
        heads,
        (row, n) ->
            attention(
                rows(qkv, row, n, 3 * width),
                dropoutMask,
                keepScale,
                rows(out, row, n, width),
                rows(lse, row, n, heads),
                1,
                n,
                heads,
                headSize));
  }

  @Override
  public void attentionWithinBackward(
      Buffer positions,
      Buffer dOut,
      Buffer qkv,
      Buffer out,
      Buffer lse,
      Buffer dropoutMask,
      float keepScale,
      Buffer dQkv,
      int batch,
      int time,
      int heads,
      int headSize) {
    long width = (long) heads * headSize;
    documents(
        positions,
        batch,
        time,
        heads,
        (row, n) ->
            attentionBackward(
                rows(dOut, row, n, width),
                rows(qkv, row, n, 3 * width),
                rows(out, row, n, width),
                rows(lse, row, n, heads),
                dropoutMask,
                keepScale,
                rows(dQkv, row, n, 3 * width),
                1,
                n,
                heads,
                headSize));
  }

  @Override
  public void attentionCached(
      Buffer qkv,
      Buffer keys,
      Buffer values,
      int position,
      int maxTime,
      Buffer out,
      int batch,
      int time,
      int heads,
      int headSize) {
    int channels = heads * headSize;
    double[] p = new double[maxTime];
    for (int b = 0; b < batch; b++) {
      long cache = (long) b * maxTime * channels;
      for (int t = 0; t < time; t++) {
        long row = ((long) b * time + t) * 3 * channels;
        for (int c = 0; c < channels; c++) {
          set(keys, cache + (long) (position + t) * channels + c, get(qkv, row + channels + c));
          set(
              values,
              cache + (long) (position + t) * channels + c,
              get(qkv, row + 2L * channels + c));
        }
        for (int h = 0; h < heads; h++) {
          long head = cache + (long) h * headSize;
          int seen = position + t + 1;
          probabilities(qkv, row + (long) h * headSize, keys, head, channels, seen, headSize, p);
          for (int d = 0; d < headSize; d++) {
            double sum = 0;
            for (int j = 0; j < seen; j++) {
              sum += p[j] * get(values, head + (long) j * channels + d);
            }
            set(out, ((long) b * time + t) * channels + (long) h * headSize + d, sum);
          }
        }
      }
    }
  }

  @Override
  public void crossEntropy(
      Buffer logits,
      Buffer targets,
      int ignoreIndex,
      float labelSmoothing,
      Buffer loss,
      Buffer dLogits,
      float gradientScale,
      int rows,
      int vocab) {
    int counted = 0;
    for (int r = 0; r < rows; r++) {
      counted += id(targets, r) == ignoreIndex ? 0 : 1;
    }
    double total = 0;
    for (int r = 0; r < rows; r++) {
      int target = id(targets, r);
      long at = (long) r * vocab;
      if (target == ignoreIndex) {
        for (int j = 0; dLogits != null && j < vocab; j++) {
          set(dLogits, at + j, 0);
        }
        continue;
      }
      double max = Double.NEGATIVE_INFINITY;
      for (int j = 0; j < vocab; j++) {
        max = Math.max(max, get(logits, at + j));
      }
      double sum = 0;
      double plain = 0;
      for (int j = 0; j < vocab; j++) {
        sum += Math.exp(get(logits, at + j) - max);
        plain += get(logits, at + j);
      }
      double lse = max + Math.log(sum);
      total += (1 - labelSmoothing) * (lse - get(logits, at + target));
      if (labelSmoothing != 0) {
        total += labelSmoothing * (lse - plain / vocab);
      }
      for (int j = 0; dLogits != null && j < vocab; j++) {
        double g = Math.exp(get(logits, at + j) - lse) - labelSmoothing / vocab;
        g -= j == target ? 1 - labelSmoothing : 0;
        set(dLogits, at + j, g * gradientScale / counted);
      }
    }
    set(loss, 0, total / counted);
  }

  @Override
  public int headRows(int rows, int vocab, int mostRows) {
    return rows;
  }

  @Override
  public void linearCrossEntropy(
      Buffer x,
      Buffer weight,
      Buffer targets,
      int ignoreIndex,
      Buffer loss,
      Buffer dx,
      Buffer dWeight,
      boolean accumulate,
      float gradientScale,
      int rows,
      int channels,
      int vocab,
      int mostRows,
      Buffer lent) {
    Buffer logits = allocate(DType.FLOAT32, (long) rows * vocab);
    linear(x, weight, null, Activation.NONE, null, null, logits, rows, channels, vocab);
    crossEntropy(
        logits,
        targets,
        ignoreIndex,
        0,
        loss,
        dx == null && dWeight == null ? null : logits,
        gradientScale,
        rows,
        vocab);
    if (dx != null) {
      linearBackwardInput(logits, weight, Activation.NONE, null, dx, false, rows, channels, vocab);
    }
    if (dWeight != null) {
      linearBackwardWeight(logits, x, dWeight, null, accumulate, rows, channels, vocab);
    }
    free(logits);
  }

  @Override
  public void matmul(
      Buffer a,
      boolean transposeA,
      Buffer b,
      boolean transposeB,
      boolean sharedB,
      Buffer c,
      boolean accumulate,
      int batch,
      int m,
      int n,
      int k) {
    for (long s = 0; s < batch; s++) {
      for (long i = 0; i < m; i++) {
        for (long j = 0; j < n; j++) {
          double sum = 0;
          for (long l = 0; l < k; l++) {
            double x = get(a, s * m * k + (transposeA ? l * m + i : i * k + l));
            double y = get(b, (sharedB ? 0 : s * n * k) + (transposeB ? j * k + l : l * n + j));
            sum += x * y;
          }
          put(c, (s * m + i) * n + j, sum, accumulate);
        }
      }
    }
  }

  private static double value(Unary function, double x) {
    return switch (function) {
      case GELU_TANH -> 0.5 * x * (1 + Math.tanh(GELU * (x + 0.044715 * x * x * x)));
      case GELU_ERF -> x * normalDistribution(x);
      case TANH -> Math.tanh(x);
      case RELU -> Double.isNaN(x) ? x : Math.max(0, x);
      case SIGMOID -> 1 / (1 + Math.exp(-x));
      case EXP -> Math.exp(x);
      case LOG -> Math.log(x);
      case SQRT -> Math.sqrt(x);
      case SQUARE -> x * x;
      case NEGATE -> -x;
      case RECIPROCAL -> 1 / x;
    };
  }

  /** Φ by integrating the density, Simpson's rule: slow and without a table of coefficients. */
  private static double normalDistribution(double x) {
    if (x < -9) {
      return 0;
    }
    if (x > 9) {
      return 1;
    }
    int steps = 400;
    double h = x / steps;
    double sum = Math.exp(0) + Math.exp(-x * x / 2);
    for (int i = 1; i < steps; i++) {
      double t = i * h;
      sum += (i % 2 == 0 ? 2 : 4) * Math.exp(-t * t / 2);
    }
    return 0.5 + sum * h / 3 / Math.sqrt(2 * Math.PI);
  }

  private static double slope(Unary function, double x, double y) {
    return switch (function) {
      case GELU_TANH -> {
        double t = Math.tanh(GELU * (x + 0.044715 * x * x * x));
        yield 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * GELU * (1 + 3 * 0.044715 * x * x);
      }
      case GELU_ERF -> normalDistribution(x) + x * Math.exp(-x * x / 2) / Math.sqrt(2 * Math.PI);
      case TANH -> 1 - y * y;
      case RELU -> x > 0 ? 1 : 0;
      case SIGMOID -> y * (1 - y);
      case EXP -> y;
      case LOG -> 1 / x;
      case SQRT -> 0.5 / y;
      case SQUARE -> 2 * x;
      case NEGATE -> -1;
      case RECIPROCAL -> -y * y;
    };
  }

  @Override
  public void unary(Unary function, Buffer x, Buffer y) {
    for (long i = 0; i < x.length(); i++) {
      set(y, i, value(function, get(x, i)));
    }
  }

  @Override
  public void unaryBackward(
      Unary function, Buffer x, Buffer y, Buffer dy, Buffer dx, boolean accumulate) {
    for (long i = 0; i < x.length(); i++) {
      put(dx, i, get(dy, i) * slope(function, get(x, i), get(y, i)), accumulate);
    }
  }

  @Override
  public void binary(
      Binary function, Buffer a, Buffer b, Broadcast broadcast, Buffer out, int rows, int cols) {
    for (long r = 0; r < rows; r++) {
      for (long c = 0; c < cols; c++) {
        double x = get(a, r * cols + c);
        double y =
            get(
                b,
                switch (broadcast) {
                  case NONE -> r * cols + c;
                  case ROW -> c;
                  case COLUMN -> r;
                  case SCALAR -> 0;
                });
        set(
            out,
            r * cols + c,
            switch (function) {
              case ADD -> x + y;
              case SUBTRACT -> x - y;
              case MULTIPLY -> x * y;
              case DIVIDE -> x / y;
            });
      }
    }
  }

  @Override
  public void scale(Buffer x, float alpha, Buffer y, boolean accumulate) {
    for (long i = 0; i < x.length(); i++) {
      put(y, i, (double) alpha * get(x, i), accumulate);
    }
  }

  @Override
  public void addScalar(Buffer x, float alpha, Buffer y) {
    for (long i = 0; i < x.length(); i++) {
      set(y, i, (double) alpha + get(x, i));
    }
  }

  @Override
  public void sumRows(Buffer x, Buffer out, boolean accumulate, int rows, int cols) {
    for (long c = 0; c < cols; c++) {
      double sum = 0;
      for (long r = 0; r < rows; r++) {
        sum += get(x, r * cols + c);
      }
      put(out, c, sum, accumulate);
    }
  }

  @Override
  public void sumColumns(Buffer x, Buffer out, boolean accumulate, int rows, int cols) {
    for (long r = 0; r < rows; r++) {
      double sum = 0;
      for (long c = 0; c < cols; c++) {
        sum += get(x, r * cols + c);
      }
      put(out, r, sum, accumulate);
    }
  }

  private static double lse(Buffer x, long at, int cols) {
    double max = Double.NEGATIVE_INFINITY;
    for (int c = 0; c < cols; c++) {
      max = Math.max(max, get(x, at + c));
    }
    double sum = 0;
    for (int c = 0; c < cols; c++) {
      sum += Math.exp(get(x, at + c) - max);
    }
    return max + Math.log(sum);
  }

  @Override
  public void softmax(Buffer x, Buffer y, int rows, int cols) {
    for (long at = 0; at < (long) rows * cols; at += cols) {
      double lse = lse(x, at, cols);
      for (int c = 0; c < cols; c++) {
        set(y, at + c, Math.exp(get(x, at + c) - lse));
      }
    }
  }

  @Override
  public void softmaxBackward(
      Buffer y, Buffer dy, Buffer dx, boolean accumulate, int rows, int cols) {
    for (long at = 0; at < (long) rows * cols; at += cols) {
      double dot = 0;
      for (int c = 0; c < cols; c++) {
        dot += (double) get(y, at + c) * get(dy, at + c);
      }
      for (int c = 0; c < cols; c++) {
        put(dx, at + c, get(y, at + c) * (get(dy, at + c) - dot), accumulate);
      }
    }
  }

  @Override
  public void logSoftmax(Buffer x, Buffer y, int rows, int cols) {
    for (long at = 0; at < (long) rows * cols; at += cols) {
      double lse = lse(x, at, cols);
      for (int c = 0; c < cols; c++) {
        set(y, at + c, get(x, at + c) - lse);
      }
    }
  }

  @Override
  public void logSoftmaxBackward(
      Buffer y, Buffer dy, Buffer dx, boolean accumulate, int rows, int cols) {
    for (long at = 0; at < (long) rows * cols; at += cols) {
      double sum = 0;
      for (int c = 0; c < cols; c++) {
        sum += get(dy, at + c);
      }
      for (int c = 0; c < cols; c++) {
        put(dx, at + c, get(dy, at + c) - Math.exp(get(y, at + c)) * sum, accumulate);
      }
    }
  }

  @Override
  public void gather(Buffer x, Buffer ids, Buffer out, int rows, int cols) {
    for (long r = 0; r < rows; r++) {
      set(out, r, get(x, r * cols + id(ids, r)));
    }
  }

  @Override
  public void gatherBackward(Buffer ids, Buffer dy, Buffer dx, int rows, int cols) {
    for (long r = 0; r < rows; r++) {
      add(dx, r * cols + id(ids, r), get(dy, r));
    }
  }

  @Override
  public void transpose(Buffer x, Buffer y, int batch, int rows, int cols) {
    for (long b = 0; b < batch; b++) {
      for (long r = 0; r < rows; r++) {
        for (long c = 0; c < cols; c++) {
          set(y, (b * cols + c) * rows + r, get(x, (b * rows + r) * cols + c));
        }
      }
    }
  }

  @Override
  public void argmax(Buffer x, Buffer out, int rows, int cols) {
    for (long r = 0; r < rows; r++) {
      int best = 0;
      for (int c = 1; c < cols; c++) {
        if (get(x, r * cols + c) > get(x, r * cols + best)) {
          best = c;
        }
      }
      of(out).setAtIndex(JAVA_INT, r, best);
    }
  }

  @Override
  public void dropoutMask(TorchGenerator generator, double p, Buffer mask, long count) {
    generator.bits(of(mask), count, 1 - p);
  }

  @Override
  public void applyMask(Buffer x, Buffer mask, float keepScale, Buffer y, boolean accumulate) {
    for (long i = 0; i < x.length(); i++) {
      put(y, i, kept(mask, i) ? (double) get(x, i) * keepScale : 0, accumulate);
    }
  }

  @Override
  public void gradientNorm(List<Buffer> gradients, float maxNorm, Buffer result) {
    double sum = 0;
    for (Buffer gradient : gradients) {
      for (long i = 0; i < gradient.length(); i++) {
        sum += (double) get(gradient, i) * get(gradient, i);
      }
    }
    double norm = Math.sqrt(sum);
    set(result, 0, norm);
    set(
        result,
        1,
        !Double.isFinite(norm) ? 0 : maxNorm == 0 ? 1 : Math.min(1, maxNorm / (norm + 1e-6)));
  }

  @Override
  public void adamW(
      Buffer parameter,
      Buffer gradient,
      Buffer firstMoment,
      Buffer secondMoment,
      float learningRate,
      float beta1,
      float beta2,
      float epsilon,
      float weightDecay,
      long step,
      Buffer clip) {
    double factor = clip == null ? 1 : get(clip, 1);
    if (factor == 0) {
      return;
    }
    for (long i = 0; i < parameter.length(); i++) {
      double g = get(gradient, i) * factor;
      double m = beta1 * get(firstMoment, i) + (1 - beta1) * g;
      double v = beta2 * get(secondMoment, i) + (1 - beta2) * g * g;
      set(firstMoment, i, m);
      set(secondMoment, i, v);
      double hatM = m / (1 - Math.pow(beta1, step));
      double hatV = v / (1 - Math.pow(beta2, step));
      double p = get(parameter, i) * (1 - learningRate * weightDecay);
      set(parameter, i, p - learningRate * hatM / (Math.sqrt(hatV) + epsilon));
    }
  }

  @Override
  public void close() {
    arenas.values().forEach(Arena::close);
    arenas.clear();
  }
}
