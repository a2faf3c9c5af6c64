package dev.lanewise.bench.suite;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import dev.lanewise.bench.contest.Case;
import dev.lanewise.bench.contest.Inputs;
import dev.lanewise.bench.contest.Workload;
import dev.lanewise.bench.contest.Workload.Cost;
import dev.lanewise.bench.contest.Workload.Pattern;
import dev.lanewise.simd.AdamW;
import dev.lanewise.simd.Attention;
import dev.lanewise.simd.CrossEntropy;
import dev.lanewise.simd.Dropout;
import dev.lanewise.simd.Embedding;
import dev.lanewise.simd.Epilogue;
import dev.lanewise.simd.Gelu;
import dev.lanewise.simd.Gemm;
import dev.lanewise.simd.Indices;
import dev.lanewise.simd.LayerNorm;
import dev.lanewise.simd.LinearCrossEntropy;
import dev.lanewise.simd.Matrix;
import dev.lanewise.simd.PackedMatrix;
import dev.lanewise.simd.Reduce;
import dev.lanewise.simd.Similarity;
import dev.lanewise.simd.Softmax;
import dev.lanewise.simd.VectorMath;
import java.lang.foreign.MemorySegment;
import java.util.function.DoubleUnaryOperator;

/**
 * The kernels as workloads, each with its exact result in 64-bit floats.
 *
 * <p>Costs count every operand once, and for functions such as exp the operations of the usual
 * polynomial: about 12 for exp, 20 for tanh and what is made of it.
 */
final class Kernels {
  private static final double SQRT_2_OVER_PI = Math.sqrt(2 / Math.PI);
  private static final double CUBIC = 0.044715;
  private static final float HEAD_SCALE = 0.02f;

  private Kernels() {}

  /** Opens a kernel's workload, or returns null if there is none of this name. */
  static Workload open(Case task) {
    return switch (task.operation()) {
      case "linear" -> linear(task);
      case "gelu" -> gelu(task);
      case "geluBackward" -> geluBackward(task);
      case "exp" -> function(task, 4, Math::exp);
      case "log" -> function(task, 1, Math::log);
      case "tanh" -> function(task, 4, Math::tanh);
      case "erf" -> function(task, 4, Kernels::erf);
      case "softmax" -> softmax(task);
      case "layerNorm" -> layerNorm(task);
      case "layerNormBackward" -> layerNormBackward(task);
      case "crossEntropy" -> crossEntropy(task);
      case "linearCrossEntropy" -> linearCrossEntropy(task);
      case "sumOfSquares" -> sumOfSquares(task);
      case "dotRows" -> rows(task, Similarity.Metric.DOT);
      case "cosineRows" -> rows(task, Similarity.Metric.COSINE);
      case "distanceRows" -> rows(task, Similarity.Metric.SQUARED_DISTANCE);
      case "dotPairs" -> pairs(task, Similarity.Metric.DOT);
      case "cosinePairs" -> pairs(task, Similarity.Metric.COSINE);
      case "distancePairs" -> pairs(task, Similarity.Metric.SQUARED_DISTANCE);
      case "attention" -> attention(task);
      case "attentionBackward" -> attentionBackward(task);
      case "embedding" -> embedding(task);
      case "dropout" -> dropout(task);
      case "adamW" -> adamW(task);
      default -> null;
    };
  }

  /** What a kernel costs, or null if there is none of this name. */
  static Cost cost(Case c) {
    return switch (c.operation()) {
      case "linear" -> {
        double m = c.number("m");
        double n = c.number("n");
        double k = c.number("k");
        boolean reads = c.word("epilogue", "bias").equals("residual");
        double bytes = 4 * (m * k + n * k + (reads ? 2 : 1) * m * n);
        yield Cost.arithmetic(2 * m * n * k, bytes, Pattern.TRIAD);
      }
      case "gelu" -> matrix(c, 24, 2, Pattern.COPY);
      case "geluBackward" -> matrix(c, 30, 3, Pattern.TRIAD);
      case "exp" -> vector(c, 12, 2, Pattern.COPY);
      case "log", "tanh", "erf" -> vector(c, 20, 2, Pattern.COPY);
      case "softmax" -> matrix(c, 15, 2, Pattern.COPY);
      case "layerNorm" -> matrix(c, 7, 2, Pattern.COPY);
      case "layerNormBackward" -> matrix(c, 13, 3, Pattern.TRIAD);
      case "crossEntropy" -> matrix(c, 16, 2, Pattern.UPDATE);
      case "linearCrossEntropy" -> {
        double tokens = c.number("tokens");
        double width = c.number("width");
        double vocabulary = c.number("vocabulary");
        // Reads x and the weights, writes dx, adds to the weights' gradient
        double bytes = 4 * (2 * tokens * width + 3 * vocabulary * width);
        yield Cost.arithmetic(6 * tokens * width * vocabulary, bytes, Pattern.TRIAD);
      }
      case "sumOfSquares" -> vector(c, 2, 1, Pattern.READ);
      case "dotRows", "dotPairs" -> matrix(c, 2, 1, Pattern.READ);
      case "distanceRows", "distancePairs" -> matrix(c, 3, 1, Pattern.READ);
      case "cosineRows", "cosinePairs" -> matrix(c, 4, 1, Pattern.READ);
      case "attention" -> attention(c, 2, 4);
      case "attentionBackward" -> attention(c, 5, 8);
      case "embedding" -> {
        double floats = (double) c.number("tokens") * c.number("width");
        yield Cost.traffic(0, 8 * floats, Pattern.COPY);
      }
      case "dropout" -> Cost.traffic(c.number("count"), 8.125 * c.number("count"), Pattern.COPY);
      case "adamW" -> vector(c, 15, 7, Pattern.UPDATE);
      default -> null;
    };
  }

  private static Cost matrix(Case c, double flops, double passes, Pattern pattern) {
    double count = (double) c.number("rows") * c.number("cols");
    return Cost.traffic(flops * count, passes * 4 * count, pattern);
  }

  private static Cost vector(Case c, double flops, double passes, Pattern pattern) {
    double count = c.number("count");
    return Cost.traffic(flops * count, passes * 4 * count, pattern);
  }

  /** Products over the causal half of the scores, each of 2 operations an element. */
  private static Cost attention(Case c, double products, double passes) {
    double rows = (double) c.number("batch") * c.number("heads") * c.number("tokens");
    double head = c.number("head");
    double keys = (c.number("tokens") + 1) / 2.0;
    return Cost.arithmetic(
        products * 2 * rows * keys * head, passes * 4 * rows * head, Pattern.TRIAD);
  }

  private static Workload linear(Case c) {
    KernelWorkload w = new KernelWorkload(c);
    int m = c.number("m");
    int n = c.number("n");
    int k = c.number("k");
    String kind = c.word("epilogue", "bias");
    Matrix x = new Matrix(w.input((long) m * k, 1), m, k);
    Matrix weight = new Matrix(w.input((long) n * k, 2), n, k).transposed();
    Epilogue epilogue = new Epilogue();
    if (!kind.equals("none")) {
      epilogue.bias(w.input(n, 3), 0);
    }
    if (kind.equals("gelu")) {
      epilogue.activation(Epilogue.Activation.GELU_TANH);
    } else if (kind.equals("residual")) {
      epilogue.residual(new Matrix(w.input((long) m * n, 4), m, n));
    }
    MemorySegment out = w.zeros((long) m * n);
    Matrix y = new Matrix(out, m, n);
    return w.result(out, (long) m * n)
        .run(
            c.word("weights", "plain").equals("packed")
                ? multiply(x, PackedMatrix.of(w.arena(), weight), y, epilogue)
                : () -> Gemm.multiply(x, weight, y, epilogue))
        .exact(
            1e-4,
            2e-5 * Math.sqrt(k),
            p -> {
              long i = p / n;
              long j = p % n;
              double sum = kind.equals("none") ? 0 : Inputs.value(j, 3);
              for (int q = 0; q < k; q++) {
                sum += (double) Inputs.value(i * k + q, 1) * Inputs.value(j * k + q, 2);
              }
              return switch (kind) {
                case "gelu" -> gelu(sum);
                case "residual" -> sum + Inputs.value(p, 4);
                default -> sum;
              };
            });
  }

  private static Runnable multiply(Matrix x, PackedMatrix weight, Matrix y, Epilogue epilogue) {
    return () -> Gemm.multiply(1, x, weight, 0, y, epilogue);
  }

  private static double gelu(double x) {
    return 0.5 * x * (1 + Math.tanh(SQRT_2_OVER_PI * (x + CUBIC * x * x * x)));
  }

  private static double geluSlope(double x) {
    double t = Math.tanh(SQRT_2_OVER_PI * (x + CUBIC * x * x * x));
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * SQRT_2_OVER_PI * (1 + 3 * CUBIC * x * x);
  }

  private static Workload gelu(Case c) {
    KernelWorkload w = new KernelWorkload(c);
    long count = (long) c.number("rows") * c.number("cols");
    MemorySegment x = w.input(count, 1);
    MemorySegment y = w.zeros(count);
    return w.result(y, count)
        .run(() -> Gelu.forward(Gelu.Form.TANH, x, 0, y, 0, count))
        .exact(1e-5, 1e-6, p -> gelu(Inputs.value(p, 1)));
  }

  private static Workload geluBackward(Case c) {
    KernelWorkload w = new KernelWorkload(c);
    long count = (long) c.number("rows") * c.number("cols");
    MemorySegment x = w.input(count, 1);
    MemorySegment dy = w.input(count, 2);
    MemorySegment dx = w.zeros(count);
    return w.result(dx, count)
        .run(() -> Gelu.backward(Gelu.Form.TANH, x, 0, dy, 0, dx, 0, count, false))
        .exact(1e-5, 1e-6, p -> Inputs.value(p, 2) * geluSlope(Inputs.value(p, 1)));
  }

  private static Workload function(Case c, float scale, DoubleUnaryOperator f) {
    KernelWorkload w = new KernelWorkload(c);
    long count = c.number("count");
    MemorySegment x = w.input(count, 1);
    boolean isLog = c.operation().equals("log");
    for (long i = 0; i < count; i++) {
      x.setAtIndex(JAVA_FLOAT, i, argument(i, scale, isLog));
    }
    MemorySegment y = w.zeros(count);
    Runnable run =
        switch (c.operation()) {
          case "exp" -> () -> VectorMath.exp(x, 0, y, 0, count);
          case "log" -> () -> VectorMath.log(x, 0, y, 0, count);
          case "tanh" -> () -> VectorMath.tanh(x, 0, y, 0, count);
          default -> () -> VectorMath.erf(x, 0, y, 0, count);
        };
    return w.result(y, count)
        .run(run)
        .exact(1e-6, 1e-7, p -> f.applyAsDouble(argument(p, scale, isLog)));
  }

  private static float argument(long i, float scale, boolean isLog) {
    float value = Inputs.value(i, 1);
    return isLog ? Math.abs(value) + 1e-3f : value * scale;
  }

  /** The error function by its series, or by its continued fraction where that is better. */
  private static double erf(double x) {
    double z = Math.abs(x);
    if (z < 2.5) {
      double term = z;
      double sum = z;
      for (int n = 1; n < 80; n++) {
        term *= -z * z / n;
        sum += term / (2 * n + 1);
      }
      return Math.copySign(2 / Math.sqrt(Math.PI) * sum, x);
    }
    double fraction = 0;
    for (int n = 60; n > 0; n--) {
      fraction = n / 2.0 / (z + fraction);
    }
    double complement = Math.exp(-z * z) / Math.sqrt(Math.PI) / (z + fraction);
    return Math.copySign(1 - complement, x);
  }

  private static Workload softmax(Case c) {
    KernelWorkload w = new KernelWorkload(c);
    int rows = c.number("rows");
    int cols = c.number("cols");
    long count = (long) rows * cols;
    Matrix x = new Matrix(w.input(count, 1), rows, cols);
    MemorySegment out = w.zeros(count);
    Matrix y = new Matrix(out, rows, cols);
    return w.result(out, count)
        .run(() -> Softmax.forward(x, y))
        .exact(
            1e-5,
            1e-9,
            p -> {
              double sum = 0;
              for (long q = p / cols * cols; q < p / cols * cols + cols; q++) {
                sum += Math.exp(Inputs.value(q, 1));
              }
              return Math.exp(Inputs.value(p, 1)) / sum;
            });
  }

  /** Mean and reciprocal deviation of a row of the first operand. */
  private static double[] moments(long row, int cols) {
    double mean = 0;
    for (long q = row * cols; q < (row + 1) * cols; q++) {
      mean += Inputs.value(q, 1) / (double) cols;
    }
    double variance = 0;
    for (long q = row * cols; q < (row + 1) * cols; q++) {
      variance += (Inputs.value(q, 1) - mean) * (Inputs.value(q, 1) - mean) / cols;
    }
    return new double[] {mean, 1 / Math.sqrt(variance + LayerNorm.DEFAULT_EPS)};
  }

  private static Workload layerNorm(Case c) {
    KernelWorkload w = new KernelWorkload(c);
    int rows = c.number("rows");
    int cols = c.number("cols");
    long count = (long) rows * cols;
    Matrix x = new Matrix(w.input(count, 1), rows, cols);
    MemorySegment weight = w.input(cols, 2);
    MemorySegment bias = w.input(cols, 3);
    MemorySegment out = w.zeros(count);
    Matrix y = new Matrix(out, rows, cols);
    MemorySegment mean = w.zeros(rows);
    MemorySegment rstd = w.zeros(rows);
    return w.result(out, count)
        .run(() -> LayerNorm.forward(x, weight, bias, y, mean, rstd, LayerNorm.DEFAULT_EPS))
        .exact(
            1e-5,
            1e-5,
            p -> {
              double[] moments = moments(p / cols, cols);
              double normal = (Inputs.value(p, 1) - moments[0]) * moments[1];
              return normal * Inputs.value(p % cols, 2) + Inputs.value(p % cols, 3);
            });
  }

  private static Workload layerNormBackward(Case c) {
    KernelWorkload w = new KernelWorkload(c);
    int rows = c.number("rows");
    int cols = c.number("cols");
    long count = (long) rows * cols;
    Matrix x = new Matrix(w.input(count, 1), rows, cols);
    MemorySegment weight = w.input(cols, 2);
    MemorySegment bias = w.input(cols, 3);
    Matrix dy = new Matrix(w.input(count, 4), rows, cols);
    Matrix y = new Matrix(w.zeros(count), rows, cols);
    MemorySegment mean = w.zeros(rows);
    MemorySegment rstd = w.zeros(rows);
    MemorySegment out = w.zeros(count);
    Matrix dx = new Matrix(out, rows, cols);
    MemorySegment dWeight = w.zeros(cols);
    MemorySegment dBias = w.zeros(cols);
    LayerNorm.forward(x, weight, bias, y, mean, rstd, LayerNorm.DEFAULT_EPS);
    return w.result(out, count)
        .run(() -> LayerNorm.backward(dy, x, weight, mean, rstd, dx, false, dWeight, dBias))
        .exact(
            1e-4,
            1e-5,
            p -> {
              long row = p / cols;
              double[] moments = moments(row, cols);
              double sum = 0;
              double dot = 0;
              for (int j = 0; j < cols; j++) {
                double g = (double) Inputs.value(row * cols + j, 4) * Inputs.value(j, 2);
                sum += g;
                dot += g * (Inputs.value(row * cols + j, 1) - moments[0]) * moments[1];
              }
              double normal = (Inputs.value(p, 1) - moments[0]) * moments[1];
              double g = (double) Inputs.value(p, 4) * Inputs.value(p % cols, 2);
              return moments[1] * (g - sum / cols - normal * dot / cols);
            });
  }

  private static Workload crossEntropy(Case c) {
    KernelWorkload w = new KernelWorkload(c);
    int rows = c.number("rows");
    int cols = c.number("cols");
    long count = (long) rows * cols;
    MemorySegment logits = w.input(count, 1);
    Matrix matrix = new Matrix(logits, rows, cols);
    Indices targets = Indices.ofInts(w.ids(rows, 2, cols), rows);
    MemorySegment losses = w.zeros(rows);
    return w.result(logits, count)
        .run(
            () ->
                CrossEntropy.forwardBackward(
                    matrix, targets, losses, null, matrix, 1, CrossEntropy.Options.DEFAULT))
        .reset(() -> fill(logits, count, 1))
        .exact(
            1e-4,
            1e-9,
            p -> {
              long row = p / cols;
              double sum = 0;
              for (long q = row * cols; q < (row + 1) * cols; q++) {
                sum += Math.exp(Inputs.value(q, 1));
              }
              boolean isTarget = Inputs.below(row, 2, cols) == p % cols;
              return (Math.exp(Inputs.value(p, 1)) / sum - (isTarget ? 1 : 0)) / rows;
            });
  }

  private static void fill(MemorySegment segment, long count, int operand) {
    for (long i = 0; i < count; i++) {
      segment.setAtIndex(JAVA_FLOAT, i, Inputs.value(i, operand));
    }
  }

  /** Head and loss of a model in one, with the gradients of both operands; dx is compared. */
  private static Workload linearCrossEntropy(Case c) {
    KernelWorkload w = new KernelWorkload(c);
    int tokens = c.number("tokens");
    int width = c.number("width");
    int vocabulary = c.number("vocabulary");
    Matrix x = new Matrix(w.input((long) tokens * width, 1), tokens, width);
    MemorySegment weights = w.input((long) vocabulary * width, 2);
    for (long i = 0; i < (long) vocabulary * width; i++) {
      weights.setAtIndex(JAVA_FLOAT, i, Inputs.value(i, 2) * HEAD_SCALE);
    }
    Matrix head = new Matrix(weights, vocabulary, width);
    Indices targets = Indices.ofInts(w.ids(tokens, 3, vocabulary), tokens);
    MemorySegment losses = w.zeros(tokens);
    MemorySegment out = w.zeros((long) tokens * width);
    Matrix dx = new Matrix(out, tokens, width);
    Matrix dHead = new Matrix(w.zeros((long) vocabulary * width), vocabulary, width);
    return w.result(out, (long) tokens * width, 4)
        .run(
            () ->
                LinearCrossEntropy.forwardBackward(
                    x,
                    head,
                    targets,
                    losses,
                    null,
                    dx,
                    dHead,
                    false,
                    1,
                    CrossEntropy.Options.DEFAULT))
        .exact(
            1e-3,
            1e-8,
            p -> {
              long row = p / width;
              double total = 0;
              double sum = 0;
              for (long j = 0; j < vocabulary; j++) {
                double logit = 0;
                for (int q = 0; q < width; q++) {
                  float weight = Inputs.value(j * width + q, 2) * HEAD_SCALE;
                  logit += (double) Inputs.value(row * width + q, 1) * weight;
                }
                double exponential = Math.exp(logit);
                total += exponential;
                sum += exponential * (Inputs.value(j * width + p % width, 2) * HEAD_SCALE);
              }
              long target = Inputs.below(row, 3, vocabulary);
              float own = Inputs.value(target * width + p % width, 2) * HEAD_SCALE;
              return (sum / total - own) / tokens;
            });
  }

  private static Workload sumOfSquares(Case c) {
    KernelWorkload w = new KernelWorkload(c);
    long count = c.number("count");
    MemorySegment x = w.input(count, 1);
    MemorySegment out = w.zeros(1);
    return w.result(out, 1)
        .run(() -> out.setAtIndex(JAVA_FLOAT, 0, (float) Reduce.sumOfSquares(x, 0, count)))
        .exact(
            1e-5,
            0,
            p -> {
              double sum = 0;
              for (long i = 0; i < count; i++) {
                sum += (double) Inputs.value(i, 1) * Inputs.value(i, 1);
              }
              return sum;
            });
  }

  /** A query and the rows of a matrix in native memory. */
  private static Workload rows(Case c, Similarity.Metric metric) {
    KernelWorkload w = new KernelWorkload(c);
    int rows = c.number("rows");
    int cols = c.number("cols");
    Matrix matrix = new Matrix(w.input((long) rows * cols, 1), rows, cols);
    MemorySegment query = w.input(cols, 2);
    MemorySegment out = w.zeros(rows);
    return similarity(w, metric, out, rows, cols)
        .run(() -> Similarity.compare(metric, query, 0, matrix, out, 0));
  }

  /** A query and vectors in arrays, a call for each of them. */
  private static Workload pairs(Case c, Similarity.Metric metric) {
    KernelWorkload w = new KernelWorkload(c);
    int rows = c.number("rows");
    int cols = c.number("cols");
    float[][] vectors = vectors(rows, cols);
    float[] query = Inputs.array(cols, 2);
    MemorySegment out = w.zeros(rows);
    KernelWorkload all = similarity(w, metric, out, rows, cols);
    return switch (metric) {
      case DOT ->
          all.run(
              () -> {
                for (int i = 0; i < rows; i++) {
                  out.setAtIndex(JAVA_FLOAT, i, Similarity.dot(query, vectors[i]));
                }
              });
      case COSINE ->
          all.run(
              () -> {
                for (int i = 0; i < rows; i++) {
                  out.setAtIndex(JAVA_FLOAT, i, Similarity.cosine(query, vectors[i]));
                }
              });
      case SQUARED_DISTANCE ->
          all.run(
              () -> {
                for (int i = 0; i < rows; i++) {
                  out.setAtIndex(JAVA_FLOAT, i, Similarity.squaredDistance(query, vectors[i]));
                }
              });
    };
  }

  private static float[][] vectors(int rows, int cols) {
    float[][] vectors = new float[rows][cols];
    for (int i = 0; i < rows; i++) {
      for (int j = 0; j < cols; j++) {
        vectors[i][j] = Inputs.value((long) i * cols + j, 1);
      }
    }
    return vectors;
  }

  private static KernelWorkload similarity(
      KernelWorkload w, Similarity.Metric metric, MemorySegment out, int rows, int cols) {
    return w.result(out, rows)
        .exact(
            1e-5,
            1e-5 * (metric == Similarity.Metric.COSINE ? 1 : Math.sqrt(cols)),
            i -> {
              double ab = 0;
              double aa = 0;
              double bb = 0;
              double distance = 0;
              for (int j = 0; j < cols; j++) {
                double a = Inputs.value(j, 2);
                double b = Inputs.value(i * cols + j, 1);
                ab += a * b;
                aa += a * a;
                bb += b * b;
                distance += (a - b) * (a - b);
              }
              return switch (metric) {
                case DOT -> ab;
                case COSINE -> ab / Math.sqrt(aa * bb);
                case SQUARED_DISTANCE -> distance;
              };
            });
  }

  private static Workload attention(Case c) {
    KernelWorkload w = new KernelWorkload(c);
    AttentionOperands o = new AttentionOperands(c, w);
    return w.result(o.out, o.count)
        .run(o::forward)
        .exact(
            1e-4,
            1e-5,
            p -> {
              double[] weights = o.weights(p);
              double sum = 0;
              for (int j = 0; j < weights.length; j++) {
                sum += weights[j] * o.value(p, j, 2, (int) (p % o.head));
              }
              return sum;
            });
  }

  private static Workload attentionBackward(Case c) {
    KernelWorkload w = new KernelWorkload(c);
    AttentionOperands o = new AttentionOperands(c, w);
    o.forward();
    MemorySegment dOut = w.input(o.count, 2);
    MemorySegment dQkv = w.zeros(3 * o.count);
    return w.result(dQkv, o.count)
        .at(p -> p / o.width * 3 * o.width + p % o.width)
        .run(
            () ->
                Attention.backwardPacked(
                    dOut,
                    0,
                    o.width,
                    o.qkv,
                    0,
                    3L * o.width,
                    o.out,
                    0,
                    o.width,
                    o.lse,
                    0,
                    null,
                    0,
                    1,
                    dQkv,
                    0,
                    3L * o.width,
                    o.batch,
                    o.tokens,
                    o.heads,
                    o.head,
                    o.scale))
        .exact(
            1e-4,
            1e-5,
            p -> {
              // Gradient of a query: scale * sum of p (dp - sum of p dp) k
              double[] weights = o.weights(p);
              double[] slopes = new double[weights.length];
              double mean = 0;
              for (int j = 0; j < weights.length; j++) {
                for (int d = 0; d < o.head; d++) {
                  slopes[j] += Inputs.value(p / o.head * o.head + d, 2) * o.value(p, j, 2, d);
                }
                mean += weights[j] * slopes[j];
              }
              double sum = 0;
              for (int j = 0; j < weights.length; j++) {
                sum += weights[j] * (slopes[j] - mean) * o.value(p, j, 1, (int) (p % o.head));
              }
              return o.scale * sum;
            });
  }

  /** Packed queries, keys and values; positions count [batch, tokens, heads, head]. */
  private static final class AttentionOperands {
    final int batch;
    final int tokens;
    final int heads;
    final int head;
    final int width;
    final long count;
    final float scale;
    final MemorySegment qkv;
    final MemorySegment out;
    final MemorySegment lse;

    AttentionOperands(Case c, KernelWorkload w) {
      batch = c.number("batch");
      tokens = c.number("tokens");
      heads = c.number("heads");
      head = c.number("head");
      width = heads * head;
      count = (long) batch * tokens * width;
      scale = Attention.defaultScale(head);
      qkv = w.input(3 * count, 1);
      out = w.zeros(count);
      lse = w.zeros((long) batch * heads * tokens);
    }

    void forward() {
      Attention.forwardPacked(
          qkv, 0, 3L * width, out, 0, width, lse, 0, batch, tokens, heads, head, scale);
    }

    /** Element d of query (0), key (1) or value (2) j of the sequence and head of a position. */
    double value(long p, int j, int which, int d) {
      long row = p / width / tokens * tokens + j;
      long column = p % width / head * head + d;
      return Inputs.value(row * 3 * width + (long) which * width + column, 1);
    }

    /** The probabilities that a position's query gives to the keys it sees. */
    double[] weights(long p) {
      int i = (int) (p / width % tokens);
      double[] weights = new double[i + 1];
      double sum = 0;
      for (int j = 0; j <= i; j++) {
        double dot = 0;
        for (int d = 0; d < head; d++) {
          dot += value(p, i, 0, d) * value(p, j, 1, d);
        }
        weights[j] = Math.exp(scale * dot);
        sum += weights[j];
      }
      for (int j = 0; j <= i; j++) {
        weights[j] /= sum;
      }
      return weights;
    }
  }

  private static Workload embedding(Case c) {
    KernelWorkload w = new KernelWorkload(c);
    int vocabulary = c.number("vocabulary");
    int width = c.number("width");
    int tokens = c.number("tokens");
    Matrix table = new Matrix(w.input((long) vocabulary * width, 1), vocabulary, width);
    Indices ids = Indices.ofInts(w.ids(tokens, 2, vocabulary), tokens);
    MemorySegment out = w.zeros((long) tokens * width);
    Matrix y = new Matrix(out, tokens, width);
    return w.result(out, (long) tokens * width)
        .run(() -> Embedding.forward(table, ids, y))
        .exact(
            0,
            0,
            p ->
                Inputs.value((long) Inputs.below(p / width, 2, vocabulary) * width + p % width, 1));
  }

  private static Workload dropout(Case c) {
    KernelWorkload w = new KernelWorkload(c);
    long count = c.number("count");
    MemorySegment x = w.input(count, 1);
    MemorySegment mask = w.input((count + 31) / 32, 2);
    MemorySegment y = w.zeros(count);
    return w.result(y, count)
        .run(() -> Dropout.applyBits(x, 0, mask, 0, 1.25f, y, 0, count, false))
        .exact(
            1e-6,
            0,
            p -> {
              int bits = Float.floatToRawIntBits(Inputs.value(p / 32, 2));
              return (bits >>> (p % 32) & 1) == 0 ? 0 : 1.25 * Inputs.value(p, 1);
            });
  }

  private static Workload adamW(Case c) {
    KernelWorkload w = new KernelWorkload(c);
    long count = c.number("count");
    MemorySegment p = w.input(count, 1);
    MemorySegment g = w.input(count, 2);
    MemorySegment m = w.zeros(count);
    MemorySegment v = w.zeros(count);
    long[] step = {0};
    return w.result(p, count)
        .run(
            () ->
                AdamW.step(
                    p, 0, g, 0, m, 0, v, 0, count, 3e-4, 0.9, 0.999, 1e-8, 0.1, ++step[0], 1))
        .reset(
            () -> {
              fill(p, count, 1);
              m.fill((byte) 0);
              v.fill((byte) 0);
              step[0] = 0;
            })
        .exact(
            1e-6,
            1e-7,
            // In the first step the corrected moments are the gradient and its square
            i -> {
              double gradient = Inputs.value(i, 2);
              return Inputs.value(i, 1) * (1 - 3e-4 * 0.1)
                  - 3e-4 * gradient / (Math.abs(gradient) + 1e-8);
            });
  }
}
