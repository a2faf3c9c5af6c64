package dev.lanewise.bench.gpu;

import dev.lanewise.core.backend.Activation;
import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.backend.Binary;
import dev.lanewise.core.backend.Broadcast;
import dev.lanewise.core.backend.Buffer;
import dev.lanewise.core.backend.DType;
import dev.lanewise.core.backend.Precision;
import dev.lanewise.core.backend.Unary;
import dev.lanewise.core.backend.cuda.CudaException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.function.Consumer;

/** Every operation of the seam at sizes odd and even, to hold one backend against another. */
public final class BackendCases {

  /**
   * How far two backends are apart in one output.
   *
   * @param name case and output
   * @param error {@code ‖a − b‖ / ‖b‖}, or infinity if one holds NaN or infinities elsewhere
   * @param allowed largest error that rounding explains
   */
  public record Result(String name, double error, double allowed) {
    /** Whether the error is within what is allowed. */
    public boolean passed() {
      return error <= allowed;
    }

    @Override
    public String toString() {
      return String.format(
          Locale.ROOT, "%s %-60s %.2e of %.0e", passed() ? "ok  " : "FAIL", name, error, allowed);
    }
  }

  private record Case(String name, Consumer<CaseRun> body) {}

  private final List<Case> cases = new ArrayList<>();
  private final boolean large;

  /**
   * The cases.
   *
   * @param large whether to include those that take a device
   */
  public BackendCases(boolean large) {
    this.large = large;
    embeddings();
    norms();
    linears();
    attentions();
    losses();
    matrices();
    elements();
    optimizer();
  }

  /** Largest relative error that a precision explains. */
  public static double allowed(Precision precision) {
    return switch (precision) {
      case FP32 -> 2e-5;
      case TF32 -> 3e-3;
      case BF16 -> 1e-2;
    };
  }

  /**
   * Runs every case whose name holds a text, on two backends.
   *
   * @param tested backend to check; runs each case twice, since it has to give the same bits
   * @param reference backend to compare with
   * @param allowed largest relative error
   * @param first number of the case to begin with
   * @param filter part of the names wanted
   * @param report told each result
   * @return the number of the case to go on with in another process, if the device refuses
   *     everything after a fault; else -1
   */
  public int run(
      Backend tested,
      Backend reference,
      double allowed,
      int first,
      String filter,
      Consumer<Result> report) {
    boolean round = tested.activationType() == DType.BFLOAT16;
    for (int i = first; i < cases.size(); i++) {
      Case c = cases.get(i);
      if (!c.name.contains(filter)) {
        continue;
      }
      Map<String, float[]> expected = outputs(c, reference, round, i);
      Map<String, float[]> actual;
      Map<String, float[]> again;
      try {
        actual = outputs(c, tested, round, i);
        again = outputs(c, tested, round, i);
      } catch (CudaException e) {
        report.accept(
            new Result(c.name + ": " + e.getMessage(), Double.POSITIVE_INFINITY, allowed));
        if (refusesEverything(tested)) {
          return i + 1;
        }
        continue;
      }
      for (Map.Entry<String, float[]> output : expected.entrySet()) {
        String name = c.name + ": " + output.getKey();
        float[] ours = actual.get(output.getKey());
        report.accept(new Result(name, error(ours, output.getValue()), allowed));
        if (!Arrays.equals(bits(ours), bits(again.get(output.getKey())))) {
          report.accept(new Result(name + ", again", Double.POSITIVE_INFINITY, 0));
        }
      }
    }
    return -1;
  }

  private static boolean refusesEverything(Backend backend) {
    try {
      backend.synchronize();
      return false;
    } catch (CudaException e) {
      return true;
    }
  }

  private static Map<String, float[]> outputs(Case c, Backend backend, boolean round, int seed) {
    try (CaseRun run = new CaseRun(backend, round, 1000 + seed)) {
      c.body.accept(run);
      return run.outputs();
    }
  }

  private static int[] bits(float[] x) {
    int[] bits = new int[x.length];
    for (int i = 0; i < x.length; i++) {
      bits[i] = Float.floatToIntBits(x[i]);
    }
    return bits;
  }

  static double error(float[] a, float[] b) {
    double difference = 0;
    double size = 0;
    for (int i = 0; i < b.length; i++) {
      if (Float.isFinite(a[i]) && Float.isFinite(b[i])) {
        difference += Math.pow((double) a[i] - b[i], 2);
        size += Math.pow(b[i], 2);
      } else if (Float.compare(a[i], b[i]) != 0) {
        return Double.POSITIVE_INFINITY;
      }
    }
    return difference == 0 ? 0 : Math.sqrt(difference / Math.max(size, 1e-30));
  }

  private void add(String name, Consumer<CaseRun> body) {
    cases.add(new Case(name, body));
  }

  private void embeddings() {
    int[][] sizes = {{2, 7, 5, 8}, {1, 1, 1, 1}, {3, 33, 70000, 48}, {2, 65, 3, 257}};
    for (int[] s : sizes) {
      int batch = s[0];
      int time = s[1];
      int vocab = s[2];
      int channels = s[3];
      add(
          "embedding " + Arrays.toString(s),
          r -> {
            Buffer ids = r.integers(r.ids(batch * time, vocab));
            Buffer table = r.floats(r.normal((long) vocab * channels, 1));
            Buffer positions = r.floats(r.normal((long) (time + 2) * channels, 1));
            Buffer out = r.poison((long) batch * time * channels);
            r.backend.embedding(ids, table, positions, 2, out, batch, time, channels);
            r.output("out", out);
            r.backend.embedding(ids, table, null, 0, out, batch, time, channels);
            r.output("out without positions", out);
            Buffer dOut = r.activations(r.normal((long) batch * time * channels, 1));
            Buffer dTable = r.floats(r.normal((long) vocab * channels, 1));
            Buffer dPositions = r.floats(r.normal((long) (time + 2) * channels, 1));
            r.backend.embeddingBackward(ids, dOut, dTable, dPositions, 2, batch, time, channels);
            r.output("dTable", dTable);
            r.output("dPositions", dPositions);
          });
    }
  }

  private void norms() {
    int[][] sizes = {{5, 768}, {1, 1}, {3, 65}, {19, 256}, {300, 128}, {9, 1024}, {2, 2304}};
    for (int[] s : sizes) {
      int rows = s[0];
      int channels = s[1];
      long count = (long) rows * channels;
      add(
          "layerNorm " + Arrays.toString(s),
          r -> {
            float[] values = r.normal(count, 2);
            Buffer x = r.activations(values);
            Buffer weight = r.floats(r.normal(channels, 1));
            Buffer bias = r.floats(r.normal(channels, 1));
            Buffer out = r.poison(count);
            Buffer mean = r.poison(DType.FLOAT32, rows);
            Buffer rstd = r.poison(DType.FLOAT32, rows);
            r.backend.layerNorm(x, weight, bias, out, mean, rstd, rows, channels);
            r.output("out", out);
            r.output("mean", mean);
            r.output("rstd", rstd);
            Buffer dOut = r.activations(r.normal(count, 1));
            Buffer dx = r.poison(count);
            Buffer dWeight = r.floats(r.normal(channels, 1));
            Buffer dBias = r.floats(r.normal(channels, 1));
            r.backend.layerNormBackward(
                dOut, x, weight, mean, rstd, dx, false, dWeight, dBias, rows, channels);
            if (channels > 1) {
              r.output("dx", dx);
            }
            r.output("dWeight", dWeight);
            r.output("dBias", dBias);
            Buffer sum = r.activations(r.normal(count, 1));
            r.backend.layerNormBackward(
                dOut, x, weight, mean, rstd, sum, true, null, null, rows, channels);
            r.output("dx added", sum);
            r.backend.layerNormBackward(
                dOut, x, weight, mean, rstd, sum, true, null, dBias, rows, channels);
            r.output("dBias alone", dBias);
          });
    }
  }

  private void linears() {
    List<int[]> sizes =
        new ArrayList<>(
            List.of(new int[] {5, 16, 24}, new int[] {1, 1, 1}, new int[] {33, 27, 65}));
    if (large) {
      sizes.add(new int[] {4096, 768, 3072});
    }
    for (int[] s : sizes) {
      int rows = s[0];
      int ins = s[1];
      int outs = s[2];
      add(
          "linear " + Arrays.toString(s),
          r -> {
            Backend backend = r.backend;
            Buffer x = r.activations(r.normal((long) rows * ins, 1));
            Buffer parameters = r.floats(r.normal((long) outs * ins + 16 + outs, 0.3));
            Buffer weight = parameters.slice(0, (long) outs * ins);
            long biasAt = ((long) outs * ins + 15) / 16 * 16;
            Buffer bias =
                biasAt + outs <= parameters.length()
                    ? parameters.slice(biasAt, outs)
                    : parameters.slice((long) outs * ins, outs);
            long count = (long) rows * outs;
            Buffer out = r.poison(count);
            backend.linear(x, weight, bias, Activation.NONE, null, null, out, rows, ins, outs);
            r.output("out", out);
            backend.linear(x, weight, null, Activation.NONE, null, null, out, rows, ins, outs);
            r.output("out without bias", out);
            Buffer residual = r.activations(r.normal(count, 1));
            backend.linear(x, weight, bias, Activation.NONE, null, residual, out, rows, ins, outs);
            r.output("out with residual", out);
            backend.linear(
                x, weight, bias, Activation.NONE, null, residual, residual, rows, ins, outs);
            r.output("out in residual", residual);
            for (Activation activation : List.of(Activation.GELU_TANH, Activation.GELU_ERF)) {
              Buffer pre = r.poison(count);
              backend.linear(x, weight, bias, activation, pre, null, out, rows, ins, outs);
              r.output(activation + " out", out);
              r.output(activation + " preactivation", pre);
              backend.linear(x, weight, null, activation, null, null, out, rows, ins, outs);
              r.output(activation + " without bias", out);
            }
            Buffer dOut = r.activations(r.normal(count, 1));
            Buffer dx = r.poison((long) rows * ins);
            backend.linearBackwardInput(
                dOut, weight, Activation.NONE, null, dx, false, rows, ins, outs);
            r.output("dx", dx);
            backend.linearBackwardInput(
                dOut, weight, Activation.NONE, null, dx, true, rows, ins, outs);
            r.output("dx added", dx);
            Buffer pre = r.activations(r.normal((long) rows * ins, 1));
            for (Activation activation : List.of(Activation.GELU_TANH, Activation.GELU_ERF)) {
              backend.linearBackwardInput(
                  dOut, weight, activation, pre, dx, false, rows, ins, outs);
              r.output(activation + " dx", dx);
            }
            Buffer dWeight = r.floats(r.normal((long) outs * ins, 1));
            Buffer dBias = r.floats(r.normal(outs, 1));
            backend.linearBackwardWeight(dOut, x, dWeight, dBias, true, rows, ins, outs);
            r.output("dWeight added", dWeight);
            r.output("dBias added", dBias);
            backend.linearBackwardWeight(dOut, x, dWeight, dBias, false, rows, ins, outs);
            r.output("dWeight", dWeight);
            r.output("dBias", dBias);
            backend.linearBackwardWeight(dOut, x, null, dBias, true, rows, ins, outs);
            r.output("dBias alone", dBias);
            // A copy of the weights in another type has to follow what changes them.
            backend.fill(bias, 0.5f);
            backend.linear(x, weight, bias, Activation.NONE, null, null, out, rows, ins, outs);
            r.output("out after a change", out);
          });
    }
  }

  private void attentions() {
    List<int[]> sizes =
        new ArrayList<>(
            List.of(
                new int[] {1, 1, 1, 64},
                new int[] {2, 65, 3, 64},
                new int[] {1, 130, 2, 64},
                new int[] {1, 64, 1, 128},
                new int[] {1, 100, 2, 128},
                new int[] {2, 37, 2, 16},
                new int[] {1, 70, 1, 5},
                new int[] {1, 9, 2, 80}));
    if (large) {
      sizes.add(new int[] {4, 1024, 12, 64});
      sizes.add(new int[] {2, 777, 4, 128});
    }
    for (int[] s : sizes) {
      for (boolean dropped : new boolean[] {false, true}) {
        int batch = s[0];
        int time = s[1];
        int heads = s[2];
        int headSize = s[3];
        long width = (long) heads * headSize;
        long tokens = (long) batch * time;
        add(
            "attention " + Arrays.toString(s) + (dropped ? " with dropout" : ""),
            r -> {
              Buffer qkv = r.activations(r.normal(3 * tokens * width, 1.5));
              Buffer mask =
                  dropped ? r.bytes(r.randomBytes((tokens * heads * time + 7) / 8)) : null;
              float keepScale = dropped ? 2 : 1;
              Buffer out = r.poison(tokens * width);
              Buffer lse = r.poison(DType.FLOAT32, tokens * heads);
              r.backend.attention(qkv, mask, keepScale, out, lse, batch, time, heads, headSize);
              r.output("out", out);
              r.output("lse", lse);
              Buffer dOut = r.activations(r.normal(tokens * width, 1));
              Buffer dQkv = r.poison(3 * tokens * width);
              r.backend.attentionBackward(
                  dOut, qkv, out, lse, mask, keepScale, dQkv, batch, time, heads, headSize);
              r.output("dQkv", dQkv);
            });
      }
    }
    int[][] cached = {{1, 1, 1, 4, 0}, {2, 3, 2, 64, 5}, {1, 1, 3, 64, 300}, {2, 40, 1, 20, 0}};
    for (int[] s : cached) {
      int batch = s[0];
      int time = s[1];
      int heads = s[2];
      int headSize = s[3];
      int position = s[4];
      long width = (long) heads * headSize;
      int maxTime = position + time + 3;
      add(
          "attentionCached " + Arrays.toString(s),
          r -> {
            Buffer qkv = r.activations(r.normal(3L * batch * time * width, 1));
            Buffer keys = r.activations(r.normal(batch * maxTime * width, 1));
            Buffer values = r.activations(r.normal(batch * maxTime * width, 1));
            Buffer out = r.poison(batch * time * width);
            r.backend.attentionCached(
                qkv, keys, values, position, maxTime, out, batch, time, heads, headSize);
            r.output("out", out);
            r.output("keys", keys);
            r.output("values", values);
          });
    }
  }

  private void losses() {
    int[][] sizes = {{6, 27}, {3, 1000}, {2, 9001}, {1, 1}, {40, 64}};
    for (int[] s : sizes) {
      int rows = s[0];
      int vocab = s[1];
      for (float smoothing : new float[] {0, 0.1f}) {
        add(
            "crossEntropy " + Arrays.toString(s) + " smoothing " + smoothing,
            r -> {
              int[] ids = r.ids(rows, vocab);
              ids[rows / 2] = rows > 1 ? -100 : ids[0];
              Buffer targets = r.integers(ids);
              Buffer logits = r.activations(r.normal((long) rows * vocab, 3));
              Buffer loss = r.poison(DType.FLOAT32, 1);
              Buffer d = r.poison((long) rows * vocab);
              r.backend.crossEntropy(logits, targets, -100, smoothing, loss, null, 1, rows, vocab);
              r.output("loss alone", loss);
              r.backend.crossEntropy(logits, targets, -100, smoothing, loss, d, 0.5f, rows, vocab);
              r.output("loss", loss);
              if (vocab > 1) {
                r.output("dLogits", d);
              }
              r.backend.crossEntropy(
                  logits, targets, -100, smoothing, loss, logits, 0.5f, rows, vocab);
              if (vocab > 1) {
                r.output("dLogits in place", logits);
              }
            });
      }
    }
    add(
        "crossEntropy of special values",
        r -> {
          float inf = Float.POSITIVE_INFINITY;
          float[] x = r.normal(8 * 9, 1);
          x[3] = -inf; // at a non-target
          x[9] = -inf; // at the target
          Arrays.fill(x, 18, 27, -inf);
          x[27 + 4] = inf;
          x[36 + 5] = Float.NaN;
          Arrays.fill(x, 45, 54, 1e30f);
          x[54 + 1] = 3e38f;
          x[63 + 2] = Float.NaN; // in an ignored row
          Buffer logits = r.activations(x);
          Buffer targets = r.integers(0, 0, 1, 2, 3, 4, 5, -1);
          for (int row = 0; row < 8; row++) {
            Buffer loss = r.poison(DType.FLOAT32, 1);
            Buffer d = r.poison(9);
            r.backend.crossEntropy(
                logits.slice(row * 9, 9), targets.slice(row, 1), -1, 0, loss, d, 1, 1, 9);
            r.output("loss of row " + row, loss);
            if (row != 7) {
              r.output("dLogits of row " + row, d);
            }
          }
        });
    List<int[]> heads =
        new ArrayList<>(
            List.of(new int[] {9, 8, 27}, new int[] {65, 64, 300}, new int[] {700, 16, 5003}));
    if (large) {
      heads.add(new int[] {20000, 64, 50257}); // several chunks of logits
    }
    for (int[] s : heads) {
      int rows = s[0];
      int channels = s[1];
      int vocab = s[2];
      add(
          "linearCrossEntropy " + Arrays.toString(s),
          r -> {
            int[] ids = r.ids(rows, vocab);
            ids[1] = -100;
            Buffer targets = r.integers(ids);
            Buffer x = r.activations(r.normal((long) rows * channels, 1));
            Buffer weight = r.floats(r.normal((long) vocab * channels, 0.3));
            Buffer loss = r.poison(DType.FLOAT32, 1);
            r.backend.linearCrossEntropy(
                x, weight, targets, -100, loss, null, null, false, 1, rows, channels, vocab, 0,
                null);
            r.output("loss alone", loss);
            Buffer dx = r.poison((long) rows * channels);
            Buffer dWeight = r.floats(r.normal((long) vocab * channels, 1e-3));
            r.backend.linearCrossEntropy(
                x, weight, targets, -100, loss, dx, dWeight, true, 0.25f, rows, channels, vocab, 0,
                null);
            r.output("loss", loss);
            r.output("dx", dx);
            r.output("dWeight added", dWeight);
            r.backend.linearCrossEntropy(
                x, weight, targets, -100, loss, dx, dWeight, false, 0.25f, rows, channels, vocab, 5,
                null);
            r.output("dWeight", dWeight);
          });
    }
    int[][] rowsAndCols = {{3, 5}, {1, 1}, {7, 300}, {2, 5000}};
    for (int[] s : rowsAndCols) {
      int rows = s[0];
      int cols = s[1];
      long count = (long) rows * cols;
      add(
          "softmax " + Arrays.toString(s),
          r -> {
            Buffer x = r.activations(r.normal(count, 3));
            Buffer y = r.poison(count);
            Buffer dy = r.activations(r.normal(count, 1));
            r.backend.softmax(x, y, rows, cols);
            r.output("softmax", y);
            Buffer dx = r.activations(r.normal(count, 1));
            r.backend.softmaxBackward(y, dy, dx, true, rows, cols);
            r.output("softmax dx", dx);
            r.backend.logSoftmax(x, y, rows, cols);
            r.output("logSoftmax", y);
            Buffer dz = r.activations(r.normal(count, 1));
            r.backend.logSoftmaxBackward(y, dy, dz, true, rows, cols);
            r.output("logSoftmax dx", dz);
          });
    }
  }

  private void matrices() {
    int[][] sizes = {{1, 1, 1, 1}, {3, 5, 7, 9}, {2, 64, 32, 16}};
    for (int[] s : sizes) {
      int batch = s[0];
      int m = s[1];
      int n = s[2];
      int k = s[3];
      add(
          "matmul " + Arrays.toString(s),
          r -> {
            for (int flags = 0; flags < 16; flags++) {
              boolean transposeA = (flags & 1) != 0;
              boolean transposeB = (flags & 2) != 0;
              boolean shared = (flags & 4) != 0;
              boolean accumulate = (flags & 8) != 0;
              Buffer a = r.activations(r.normal((long) batch * m * k, 1));
              Buffer b = r.activations(r.normal((long) (shared ? 1 : batch) * k * n, 1));
              Buffer c = r.activations(r.normal((long) batch * m * n, 1));
              r.backend.matmul(a, transposeA, b, transposeB, shared, c, accumulate, batch, m, n, k);
              r.output("flags " + flags, c);
            }
          });
    }
  }

  private void elements() {
    for (int count : new int[] {1, 7, 1000}) {
      add(
          "unary " + count,
          r -> {
            for (Unary function : Unary.values()) {
              float[] values = r.normal(count, 1);
              boolean positive = function == Unary.LOG || function == Unary.SQRT;
              for (int i = 0; i < count; i++) {
                float away = Math.max(0.125f, Math.abs(values[i]));
                values[i] = positive ? away : Math.copySign(away, values[i]);
              }
              Buffer x = r.activations(values);
              Buffer y = r.poison(count);
              r.backend.unary(function, x, y);
              r.output(function + "", y);
              Buffer dy = r.activations(r.normal(count, 1));
              Buffer dx = r.activations(r.normal(count, 1));
              r.backend.unaryBackward(function, x, y, dy, dx, true);
              r.output(function + " dx", dx);
              r.backend.unaryBackward(function, x, y, dy, dy, false);
              r.output(function + " in place", dy);
            }
          });
    }
    int[][] sizes = {{3, 5}, {1, 1}, {33, 70}, {600, 264}};
    for (int[] s : sizes) {
      int rows = s[0];
      int cols = s[1];
      long count = (long) rows * cols;
      add(
          "elements " + Arrays.toString(s),
          r -> {
            Backend backend = r.backend;
            Buffer x = r.activations(r.normal(count, 1));
            Buffer out = r.poison(count);
            for (Binary function : Binary.values()) {
              for (Broadcast broadcast : Broadcast.values()) {
                long size =
                    switch (broadcast) {
                      case NONE -> count;
                      case ROW -> cols;
                      case COLUMN -> rows;
                      case SCALAR -> 1;
                    };
                float[] values = r.normal(size, 1);
                for (int i = 0; i < size; i++) {
                  values[i] = Math.copySign(Math.max(0.25f, Math.abs(values[i])), values[i]);
                }
                backend.binary(function, x, r.activations(values), broadcast, out, rows, cols);
                r.output(function + " " + broadcast, out);
              }
            }
            backend.scale(x, 0.5f, out, false);
            r.output("scale", out);
            backend.scale(x, 0.25f, out, true);
            r.output("scale added", out);
            backend.addScalar(x, 0.5f, out);
            r.output("addScalar", out);
            Buffer sums = r.activations(r.normal(cols, 1));
            backend.sumRows(x, sums, true, rows, cols);
            r.output("sumRows", sums);
            Buffer across = r.activations(r.normal(rows, 1));
            backend.sumColumns(x, across, true, rows, cols);
            r.output("sumColumns", across);
            Buffer ids = r.integers(r.ids(rows, cols));
            backend.gather(x, ids, across, rows, cols);
            r.output("gather", across);
            Buffer dx = r.activations(r.normal(count, 1));
            backend.gatherBackward(ids, across, dx, rows, cols);
            r.output("gatherBackward", dx);
            backend.transpose(x, out, 1, rows, cols);
            r.output("transpose", out);
            Buffer batch = r.activations(r.normal(3 * count, 1));
            Buffer turned = r.poison(3 * count);
            backend.transpose(batch, turned, 3, rows, cols);
            r.output("transpose of a batch", turned);
            Buffer best = r.integers(new int[rows]);
            backend.argmax(x, best, rows, cols);
            r.output("argmax", best);
            Buffer mask = r.bytes(r.randomBytes((count + 7) / 8));
            backend.applyMask(x, mask, 1.25f, out, false);
            r.output("applyMask", out);
            backend.applyMask(x, mask, 1.25f, out, true);
            r.output("applyMask added", out);
            Buffer wide = r.poison(DType.FLOAT32, count);
            backend.copy(x, wide);
            r.output("copy to float32", wide);
            backend.copy(wide, out);
            r.output("copy back", out);
            backend.fill(out, 0.375f);
            r.output("fill", out);
          });
    }
    add(
        "argmax of equals and NaN",
        r -> {
          Buffer x = r.activations(1, 3, 3, 2, 1, Float.NaN, 5, Float.NaN);
          Buffer best = r.integers(9, 9);
          r.backend.argmax(x, best, 2, 4);
          r.output("argmax", best);
        });
  }

  private void optimizer() {
    int[] sizes =
        large ? new int[] {1, 5, 1000, 40_001, 3_000_000} : new int[] {1, 5, 1000, 40_001};
    for (int count : sizes) {
      add(
          "adamW " + count,
          r -> {
            Buffer all = r.floats(r.normal(count + 16L, 1));
            for (int offset : new int[] {0, 1, 4}) {
              Buffer parameter = all.slice(offset, count);
              Buffer first = r.floats(new float[count]);
              Buffer second = r.floats(new float[count]);
              Buffer clip = r.floats(0, 0);
              for (int step = 1; step <= 3; step++) {
                Buffer gradient = r.floats(r.normal(count, 2));
                Buffer more = r.floats(r.normal(17, 2));
                r.backend.gradientNorm(List.of(gradient, more), 1, clip);
                r.backend.adamW(
                    parameter, gradient, first, second, 0.1f, 0.9f, 0.95f, 1e-8f, 0.1f, step, clip);
              }
              r.output("norm and factor at " + offset, clip);
              r.output("parameter at " + offset, parameter);
              r.output("first moment at " + offset, first);
              r.output("second moment at " + offset, second);
            }
            Buffer bad = r.floats(1, Float.NaN);
            Buffer clip = r.floats(0, 0);
            r.backend.gradientNorm(List.of(bad), 1, clip);
            r.output("clip of NaN", clip.slice(1, 1));
            Buffer parameter = all.slice(0, 2 <= count ? 2 : 1);
            r.backend.adamW(parameter, bad, bad, bad, 0.1f, 0.9f, 0.95f, 1e-8f, 0.1f, 1, clip);
            r.output("parameter left alone", parameter);
          });
    }
    add(
        "adamW refreshes copies",
        r -> {
          Buffer weight = r.floats(r.normal(64 * 32, 0.3));
          Buffer x = r.activations(r.normal(5 * 32, 1));
          Buffer out = r.poison(5 * 64);
          r.backend.linear(x, weight, null, Activation.NONE, null, null, out, 5, 32, 64);
          Buffer first = r.floats(new float[64 * 32]);
          Buffer second = r.floats(new float[64 * 32]);
          Buffer gradient = r.floats(r.normal(64 * 32, 1));
          r.backend.adamW(weight, gradient, first, second, 0.25f, 0.9f, 0.95f, 1e-8f, 0, 1, null);
          r.backend.linear(x, weight, null, Activation.NONE, null, null, out, 5, 32, 64);
          r.output("out", out);
        });
  }
}
