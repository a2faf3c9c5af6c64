package dev.lanewise.core.golden;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.backend.Buffer;
import dev.lanewise.core.backend.DType;
import dev.lanewise.core.backend.Unary;
import dev.lanewise.core.examples.MakemoreMlp;
import dev.lanewise.core.model.Gpt;
import dev.lanewise.core.nn.AdamW;
import dev.lanewise.core.random.Linspace;
import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.core.tensor.Tape;
import dev.lanewise.core.tensor.Tensor;
import dev.lanewise.simd.VectorMath;
import java.io.IOException;
import java.io.InputStream;
import java.lang.foreign.MemorySegment;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.function.Function;
import java.util.function.UnaryOperator;
import java.util.stream.Collectors;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * Every tensor of every file of golden values, on one device: a subclass opens it. A tensor that
 * none of these tests looks at makes them fail. The random streams have a test of their own.
 */
public abstract class GoldenValues {
  private static final int VOCAB = 50257;

  private Backend backend;
  private Tape tape;

  /** The device. */
  protected abstract Backend open();

  /** Share of a tensor's largest number by which rounding may change one. */
  protected abstract double tolerance();

  @BeforeEach
  void openDevice() {
    backend = open();
    tape = new Tape(backend);
  }

  @AfterEach
  void closeDevice() {
    if (backend != null) {
      tape.close();
      backend.close();
    }
  }

  private Tensor input(Golden golden, String name) {
    return tape.tensor(golden.floats(name), golden.dims(name)).requireGrad();
  }

  private Tensor ids(Golden golden, String name) {
    return tape.ids(golden.ints(name), golden.dims(name));
  }

  /** One operation: its result, and the gradients of its inputs for the gradient given. */
  private void operation(
      Golden golden,
      String name,
      List<String> inputs,
      Function<Map<String, Tensor>, Tensor> forward) {
    Map<String, Tensor> tensors = new LinkedHashMap<>();
    inputs.forEach(input -> tensors.put(input, input(golden, name + "." + input)));
    Tensor y = forward.apply(tensors);
    golden.assertClose(name + ".y", y.toArray(), tolerance());
    float[] ones = new float[Math.toIntExact(y.shape().count())];
    Arrays.fill(ones, 1);
    float[] dy = golden.has(name + ".dy") ? golden.floats(name + ".dy") : ones;
    y.view(-1).mul(tape.tensor(dy, dy.length)).sum().backward();
    tensors.forEach(
        (input, tensor) ->
            golden.assertClose(name + ".d_" + input, tensor.grad().toArray(), tolerance()));
  }

  @Test
  void layers() {
    Golden golden = new Golden("layers");
    for (String name : List.of("ln48", "ln768", "ln_const")) {
      operation(
          golden,
          name,
          List.of("x", "w", "b"),
          in -> in.get("x").layerNorm(in.get("w"), in.get("b")));
    }
    operation(golden, "softmax", List.of("x"), in -> in.get("x").softmax());
    operation(golden, "log_softmax", List.of("x"), in -> in.get("x").logSoftmax());
    operation(
        golden,
        "linear",
        List.of("x", "w", "b"),
        in -> in.get("x").linear(in.get("w"), in.get("b")));
    operation(
        golden, "linear_nobias", List.of("x", "w"), in -> in.get("x").linear(in.get("w"), null));
    operation(
        golden, "embedding", List.of("w"), in -> in.get("w").rows(ids(golden, "embedding.ids")));
    operation(
        golden, "tanh_matmul", List.of("a", "b"), in -> in.get("a").matmul(in.get("b")).tanh());
    for (String name : List.of("dropout_p0.1_eval", "dropout_p0")) {
      operation(golden, name, List.of("x"), in -> in.get("x").mul(1));
    }
    for (String name : List.of("attention", "attention_sharp", "attention_t1")) {
      attention(golden, name);
    }
    golden.assertAllAsked();
  }

  /** Ours takes queries, keys and values side by side and gives heads side by side. */
  private void attention(Golden golden, String name) {
    int[] dims = golden.dims(name + ".q");
    int batch = dims[0];
    int heads = dims[1];
    int time = dims[2];
    int size = dims[3];
    int channels = heads * size;
    Tensor qkv = tape.zeros(batch, time, 3 * channels).requireGrad();
    float[] packed = new float[batch * time * 3 * channels];
    for (int part = 0; part < 3; part++) {
      float[] rows = interleave(golden.floats(name + "." + "qkv".charAt(part)), dims);
      for (int row = 0; row < batch * time; row++) {
        System.arraycopy(rows, row * channels, packed, (3 * row + part) * channels, channels);
      }
    }
    qkv.set(packed);
    Tensor y = qkv.attention(heads, 0, null);
    golden.assertClose(name + ".y", separate(y.toArray(), dims), tolerance());
    float[] dy = interleave(golden.floats(name + ".dy"), dims);
    y.view(-1).mul(tape.tensor(dy, dy.length)).sum().backward();
    float[] gradient = qkv.grad().toArray();
    for (int part = 0; part < 3; part++) {
      float[] rows = new float[batch * time * channels];
      for (int row = 0; row < batch * time; row++) {
        System.arraycopy(gradient, (3 * row + part) * channels, rows, row * channels, channels);
      }
      // Of sharp attention nothing but differences of larger numbers is left.
      golden.assertClose(name + ".d_" + "qkv".charAt(part), separate(rows, dims), 8 * tolerance());
    }
  }

  /** {@code [batch, heads, time, size]} as {@code [batch, time, heads, size]}. */
  private static float[] interleave(float[] x, int[] dims) {
    return swapMiddle(x, dims[0], dims[1], dims[2], dims[3]);
  }

  /** The reverse of {@link #interleave}. */
  private static float[] separate(float[] x, int[] dims) {
    return swapMiddle(x, dims[0], dims[2], dims[1], dims[3]);
  }

  private static float[] swapMiddle(float[] x, int a, int b, int c, int d) {
    float[] y = new float[x.length];
    for (int i = 0; i < a; i++) {
      for (int j = 0; j < b; j++) {
        for (int k = 0; k < c; k++) {
          System.arraycopy(x, ((i * b + j) * c + k) * d, y, ((i * c + k) * b + j) * d, d);
        }
      }
    }
    return y;
  }

  @Test
  void elementwise() {
    Golden golden = new Golden("elementwise");
    function(golden, "gelu_tanh", x -> x.gelu());
    function(golden, "gelu_erf", x -> x.unary(Unary.GELU_ERF));
    function(
        golden,
        "gelu_notebook",
        x -> {
          Tensor cubed = x.mul(x).mul(x).mul(0.044715f);
          Tensor inner = x.add(cubed).mul((float) Math.sqrt(2 / Math.PI));
          return inner.tanh().add(1).mul(x.mul(0.5f));
        });
    function(golden, "tanh", x -> x.tanh());
    function(golden, "exp", x -> x.exp());
    function(golden, "sigmoid", x -> x.unary(Unary.SIGMOID));
    logarithm(golden);
    errorFunction(golden);
    golden.assertAllAsked();
  }

  private void function(Golden golden, String name, UnaryOperator<Tensor> f) {
    Tensor x = input(golden, "x");
    Tensor y = f.apply(x);
    pointwise(golden, name + ".y", y.toArray());
    y.sum().backward();
    pointwise(golden, name + ".dx", x.grad().toArray());
  }

  /** Each number by itself: a value of 10^38 beside it excuses nothing. */
  private void pointwise(Golden golden, String name, float[] actual) {
    double[] exact = golden.doubles(name);
    float[] torch = golden.floats(name + "_f32");
    for (int i = 0; i < exact.length; i++) {
      float expected = (float) exact[i];
      double torchError = Float.isFinite(torch[i]) ? Math.abs(torch[i] - exact[i]) : 0;
      double allowed = tolerance() * Math.max(1, Math.abs(exact[i])) + 2 * torchError;
      // Today's PyTorch gives NaN for the error function's form of an infinite number.
      boolean newer = name.equals("gelu_erf.y") && torch[i] == Float.POSITIVE_INFINITY;
      assertTrue(
          Float.compare(newer ? Float.NaN : torch[i], actual[i]) == 0
              || Float.compare(expected, actual[i]) == 0
              || Math.abs(actual[i] - exact[i]) <= allowed,
          name + "[" + i + "] is " + actual[i] + " and not " + exact[i]);
    }
  }

  /** log|x|, of which the sign is put back by hand. */
  private void logarithm(Golden golden) {
    float[] values = golden.floats("x");
    float[] magnitudes = new float[values.length];
    for (int i = 0; i < values.length; i++) {
      magnitudes[i] = Math.abs(values[i]);
    }
    Tensor x = tape.tensor(magnitudes, magnitudes.length).requireGrad();
    Tensor y = x.log();
    pointwise(golden, "log_abs.y", y.toArray());
    y.sum().backward();
    float[] dx = x.grad().toArray();
    for (int i = 0; i < dx.length; i++) {
      // PyTorch's |x| has slope 0 at 0, and 0 · ∞ is NaN.
      dx[i] = values[i] == 0 ? Float.NaN : dx[i] * Math.signum(values[i]);
    }
    pointwise(golden, "log_abs.dx", dx);
  }

  /** The error function belongs to the kernels; its slope is written with tensors. */
  private void errorFunction(Golden golden) {
    float[] values = golden.floats("x");
    float[] y = new float[values.length];
    MemorySegment result = MemorySegment.ofArray(y);
    VectorMath.erf(MemorySegment.ofArray(values), 0, result, 0, values.length);
    pointwise(golden, "erf.y", y);
    Tensor x = tape.tensor(values, values.length);
    Tensor dx = x.unary(Unary.SQUARE).neg().exp().mul((float) (2 / Math.sqrt(Math.PI)));
    pointwise(golden, "erf.dx", dx.toArray());
  }

  @Test
  void crossEntropy() {
    Golden golden = new Golden("cross_entropy");
    for (String name : cases(golden)) {
      float smoothing =
          switch (name) {
            case "smooth_0.1", "smooth_0.1_ignore", "smooth_all_ignored", "extreme_smooth" -> 0.1f;
            case "smooth_0.5" -> 0.5f;
            case "smooth_1.0" -> 1;
            default -> 0;
          };
      int ignored = name.equals("ignore_5") ? 5 : -100;
      int[] targets = golden.ints(name + ".targets");
      int rows = targets.length;
      int cols = golden.dims(name + ".logits")[1];
      long counted = Arrays.stream(targets).filter(target -> target != ignored).count();
      Tensor labels = tape.ids(targets, rows);

      Tensor logits = input(golden, name + ".logits");
      Tensor mean = logits.crossEntropy(labels, ignored, smoothing);
      mean.backward();
      golden.assertClose(name + ".loss_mean", mean.toArray(), tolerance());
      golden.assertClose(name + ".dlogits_mean", logits.grad().toArray(), tolerance());

      Tensor again = input(golden, name + ".logits");
      Tensor sum = again.crossEntropy(labels, ignored, smoothing).mul(counted);
      sum.backward();
      // The mean of no rows is NaN, their sum 0.
      float[] total = counted == 0 ? new float[1] : sum.toArray();
      golden.assertClose(name + ".loss_sum", total, tolerance());
      golden.assertClose(name + ".dlogits_sum", again.grad().toArray(), tolerance());

      float[] losses = new float[rows];
      float[] values = golden.floats(name + ".logits");
      for (int i = 0; i < rows; i++) {
        if (targets[i] != ignored) {
          float[] row = Arrays.copyOfRange(values, i * cols, (i + 1) * cols);
          Tensor label = tape.ids(new int[] {targets[i]}, 1);
          losses[i] = tape.tensor(row, 1, cols).crossEntropy(label, ignored, smoothing).item();
        }
      }
      golden.assertClose(name + ".loss_none", losses, tolerance());
    }
    golden.assertAllAsked();
  }

  private static TreeSet<String> cases(Golden golden) {
    return golden.names().stream()
        .filter(name -> name.endsWith(".targets"))
        .map(name -> name.substring(0, name.length() - ".targets".length()))
        .collect(Collectors.toCollection(TreeSet::new));
  }

  /** The logits are not stored; a linear congruential generator makes them. */
  @Test
  void crossEntropyOfAWholeVocabulary() {
    Golden golden = new Golden("cross_entropy_50257");
    for (String name : cases(golden)) {
      int seed = name.equals("v50257_n4") ? 12345 : name.equals("v50257_n6_flat") ? 777 : 99;
      float scale = name.equals("v50257_n4") ? 4 : name.equals("v50257_n6_flat") ? 0.5f : 64;
      int[] targets = golden.ints(name + ".targets");
      int rows = targets.length;
      float[] values = new float[rows * VOCAB];
      int state = seed;
      for (int i = 0; i < values.length; i++) {
        state = 1664525 * state + 1013904223;
        values[i] = ((state >>> 8) * 0x1p-24f - 0.5f) * 2 * scale;
      }
      for (float smoothing : new float[] {0, 0.1f}) {
        String prefix = name + ".ls" + smoothing + ".";
        Tensor logits = tape.tensor(values, rows, VOCAB).requireGrad();
        Tensor loss = logits.crossEntropy(tape.ids(targets, rows), -100, smoothing);
        loss.backward();
        golden.assertClose(prefix + "loss_mean", loss.toArray(), tolerance());
        float[] dx = logits.grad().toArray();
        float[] losses = new float[rows];
        float[] atTarget = new float[rows];
        float[] sums = new float[rows];
        float[] magnitudes = new float[rows];
        int samples = (VOCAB + 996) / 997;
        float[] sampled = new float[rows * samples];
        for (int i = 0; i < rows; i++) {
          float[] row = Arrays.copyOfRange(values, i * VOCAB, (i + 1) * VOCAB);
          Tensor label = tape.ids(new int[] {targets[i]}, 1);
          losses[i] = tape.tensor(row, 1, VOCAB).crossEntropy(label, -100, smoothing).item();
          atTarget[i] = dx[i * VOCAB + targets[i]];
          double sum = 0;
          double magnitude = 0;
          for (int j = 0; j < VOCAB; j++) {
            sum += dx[i * VOCAB + j];
            magnitude += Math.abs(dx[i * VOCAB + j]);
            if (j % 997 == 0) {
              sampled[i * samples + j / 997] = dx[i * VOCAB + j];
            }
          }
          sums[i] = (float) sum;
          magnitudes[i] = (float) magnitude;
        }
        golden.assertClose(prefix + "loss_none", losses, tolerance());
        golden.assertClose(prefix + "dlogits_at_target", atTarget, tolerance());
        golden.assertClose(prefix + "dlogits_every_997th", sampled, tolerance() / 1000);
        golden.assertClose(prefix + "dlogits_sum", sums, tolerance());
        golden.assertClose(prefix + "dlogits_sum_abs", magnitudes, tolerance());
      }
    }
    golden.assertAllAsked();
  }

  @Test
  void optimisers() {
    Golden golden = new Golden("optim");
    adam(golden, "adamw", 1e-2f, 0.95f, 0.1f);
    adam(golden, "adamw_default", 1e-3f, 0.999f, 0.01f);
    adam(golden, "adamw_nowd", 3e-4f, 0.999f, 0);
    adam(golden, "adam", 1e-2f, 0.999f, 0);
    descent(golden, "sgd", 0, 0);
    descent(golden, "sgd_mom", 0.9f, 0.01f);
    for (String most : List.of("0.5", "1.0", "1000000.0")) {
      clip(golden, "clip_" + most + ".", Float.parseFloat(most));
    }
    golden.assertAllAsked();
  }

  private void adam(Golden golden, String name, float rate, float beta2, float decay) {
    for (String parameter : List.of("p", "q")) {
      Tensor value = input(golden, parameter + "0");
      Buffer first = backend.allocate(DType.FLOAT32, value.shape().count());
      Buffer second = backend.allocate(DType.FLOAT32, value.shape().count());
      for (int step = 1; step <= 5; step++) {
        Buffer gradient = input(golden, "g" + parameter + step).data();
        backend.adamW(
            value.data(), gradient, first, second, rate, 0.9f, beta2, 1e-8f, decay, step, null);
        golden.assertClose(name + "." + parameter + step, value.toArray(), tolerance());
      }
      backend.free(first);
      backend.free(second);
    }
  }

  private void descent(Golden golden, String name, float momentum, float decay) {
    for (String parameter : List.of("p", "q")) {
      Tensor value = input(golden, parameter + "0");
      Tensor velocity = tape.zeros(golden.dims(parameter + "0"));
      for (int step = 1; step <= 5; step++) {
        backend.scale(velocity.data(), momentum, velocity.data(), false);
        velocity.addInPlace(1, input(golden, "g" + parameter + step));
        velocity.addInPlace(decay, value);
        value.addInPlace(-0.1f, velocity);
        golden.assertClose(name + "." + parameter + step, value.toArray(), tolerance());
      }
    }
  }

  private void clip(Golden golden, String name, float most) {
    Tensor p = input(golden, "gp3");
    Tensor q = input(golden, "gq3");
    Tensor result = tape.zeros(2);
    backend.gradientNorm(List.of(p.data(), q.data()), most, result.data());
    float[] norm = result.toArray();
    golden.assertClose(name + "norm", new float[] {norm[0]}, tolerance());
    golden.assertClose(name + "gp", p.mul(norm[1]).toArray(), tolerance());
    golden.assertClose(name + "gq", q.mul(norm[1]).toArray(), tolerance());
  }

  @ParameterizedTest
  @ValueSource(strings = {"tiny_gpt_seed001", "tiny_gpt2_tied"})
  void tinyGpt(String name) {
    Golden golden = new Golden(name);
    TinyGpt gpt = new TinyGpt(tape, golden, name.equals("tiny_gpt2_tied"));
    Tensor ids = ids(golden, "inputs");
    Tensor targets = ids(golden, "targets");
    for (boolean fused : new boolean[] {false, true}) {
      tape.reset();
      tape.zeroGrad();
      Tensor loss;
      if (fused) {
        loss = gpt.model.loss(ids, targets);
      } else {
        Gpt.Output output = gpt.model.forward(ids, targets);
        golden.assertClose("logits", output.logits().toArray(), tolerance());
        loss = output.loss();
      }
      golden.assertClose("loss", loss.toArray(), tolerance());
      loss.backward();
      gpt.parts()
          .forEach(
              (ours, theirs) ->
                  assertNear(
                      "gradient of " + ours,
                      gpt.join("g.", theirs),
                      gpt.model.namedParameters().get(ours).grad().toArray(),
                      10 * tolerance()));
    }
    shorter(golden, gpt);
    greedy(golden, gpt);
    tenSteps(golden, gpt, ids, targets);
    golden.assertAllAsked();
  }

  @Test
  protected void makemore() throws IOException {
    Golden golden = new Golden("makemore_mlp");
    List<String> names;
    try (InputStream in = MakemoreMlp.class.getResourceAsStream("names.txt")) {
      names = new String(in.readAllBytes(), StandardCharsets.UTF_8).lines().toList();
    }
    MakemoreMlp model = makemore(names);
    assertArrayEquals(golden.ints("X_first32"), Arrays.copyOf(model.contexts(), 32 * 3));
    assertArrayEquals(golden.ints("Y_first32"), Arrays.copyOf(model.nexts(), 32));
    List<String> parameters = List.of("C", "W1", "b1", "W2", "b2");
    for (int i = 0; i < parameters.size(); i++) {
      String name = parameters.get(i);
      assertArrayEquals(golden.floats(name), model.parameters().get(i).toArray(), name);
    }
    double[] losses = model.descend(1, 0);
    for (int i = 0; i < parameters.size(); i++) {
      float[] gradient = model.parameters().get(i).grad().toArray();
      assertNear(
          "gradient of " + parameters.get(i),
          golden.floats("grad0." + parameters.get(i)),
          gradient,
          10 * tolerance());
    }
    losses = model.descend(100, 0.1);
    curve(golden, "fullbatch_losses", losses);
    curve(golden, "loss_after100", model.loss());
    curve(golden, "fivewords_losses", makemore(names.subList(0, 5)).descend(100, 0.1));

    float[] exponents = Linspace.of(-3, 0, 1000);
    assertArrayEquals(golden.floats("lre"), exponents);
    double[] rates = new double[1000];
    float[] torchRates = golden.floats("lrs_f32");
    for (int i = 0; i < rates.length; i++) {
      rates[i] = Math.pow(10, exponents[i]);
      assertEquals(torchRates[i], rates[i], 2e-7 * rates[i], "rate " + i);
    }
    TorchGenerator generator = new TorchGenerator(1);
    int[] drawn = new int[20 * 32];
    generator.randint(drawn, 0, model.nexts().length);
    assertArrayEquals(golden.ints("minibatch_first20"), drawn);
    curve(
        golden,
        "lrtest_as_printed_0.1",
        makemore(names).minibatches(1000, i -> 0.1, new TorchGenerator(1)));
    // Beyond its first hundred steps the range test is chaotic, in PyTorch as here.
    assertEquals(1000, golden.doubles("lrtest_with_lr_f32").length);
    double[] ranged = makemore(names).minibatches(100, i -> rates[i], new TorchGenerator(1));
    double[] expected = golden.doubles("lrtest_with_lr");
    for (int i = 0; i < ranged.length; i++) {
      assertEquals(expected[i], ranged[i], 100 * tolerance() * expected[i], "range test, " + i);
    }

    MakemoreMlp decay = makemore(names);
    TorchGenerator batches = new TorchGenerator(2);
    double[] full = golden.doubles("decay_full_losses_every100");
    for (int i = 0, done = 0; i < full.length; i++) {
      int before = done;
      done = Math.min(2500, 100 * i + 1);
      decay.minibatches(done - before, step -> before + step < 2000 ? 0.1 : 0.01, batches);
      assertEquals(full[i], decay.loss(), 2e-3 * full[i], "after " + done + " minibatches");
    }
    golden.assertAllAsked();
  }

  private MakemoreMlp makemore(List<String> names) {
    return new MakemoreMlp(
        tape, names, new TorchGenerator(2147483647, TorchGenerator.Stream.VECTOR));
  }

  /** A loss curve in float32 drifts from that in float64 with every step, here as in PyTorch. */
  private void curve(Golden golden, String name, double... losses) {
    double[] exact = golden.doubles(name);
    double[] torch = golden.doubles(name + "_f32");
    assertEquals(exact.length, losses.length, name);
    double drift = 0;
    for (int i = 0; i < losses.length; i++) {
      drift = Math.max(drift, Math.abs(torch[i] - exact[i]));
      double allowed = 4 * drift + 20 * tolerance() * exact[i];
      assertEquals(exact[i], losses[i], allowed, name + ", step " + i);
    }
  }

  private static void assertNear(String what, float[] expected, float[] actual, double tolerance) {
    double largest = 0.1;
    for (float value : expected) {
      largest = Math.max(largest, Math.abs(value));
    }
    assertArrayEquals(expected, actual, (float) (tolerance * largest), what);
  }

  /** The first five tokens of the first row. */
  private void shorter(Golden golden, TinyGpt gpt) {
    int[] inputs = Arrays.copyOf(golden.ints("inputs"), 5);
    int[] targets = Arrays.copyOf(golden.ints("targets"), 5);
    tape.reset();
    Tensor loss = gpt.model.loss(tape.ids(inputs, 1, 5), tape.ids(targets, 1, 5));
    golden.assertClose("loss_t5", loss.toArray(), tolerance());
  }

  private void greedy(Golden golden, TinyGpt gpt) {
    int[] expected = golden.ints("greedy");
    for (int length = expected.length - 12; length < expected.length; length++) {
      int[] window = Arrays.copyOfRange(expected, Math.max(0, length - TinyGpt.CONTEXT), length);
      tape.reset();
      Tensor best = gpt.model.forward(tape.stepIds(window, 1, window.length)).argmax();
      assertEquals(expected[length], best.toIntArray()[window.length - 1], "token " + length);
    }
  }

  private void tenSteps(Golden golden, TinyGpt gpt, Tensor ids, Tensor targets) {
    float[] rows = new float[20];
    try (AdamW optimizer = new AdamW(tape, parameter -> true).weightDecay(0.1)) {
      for (int step = 0; step < 10; step++) {
        tape.reset();
        optimizer.zeroGrad();
        Tensor loss = gpt.model.loss(ids, targets);
        loss.backward();
        rows[2 * step] = loss.item();
        rows[2 * step + 1] = optimizer.gradientNorm(1);
        optimizer.step(1e-3);
      }
      golden.assertClose("train10", rows, 10 * tolerance());
      tape.reset();
      golden.assertClose("loss_after10", gpt.model.loss(ids, targets).toArray(), 10 * tolerance());
    }
  }
}
