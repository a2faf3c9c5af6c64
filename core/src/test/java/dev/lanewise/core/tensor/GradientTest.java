package dev.lanewise.core.tensor;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.lanewise.core.backend.Activation;
import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.backend.CpuBackend;
import dev.lanewise.core.backend.Precision;
import dev.lanewise.core.backend.ReferenceBackend;
import dev.lanewise.core.backend.Unary;
import dev.lanewise.core.nn.AdamW;
import dev.lanewise.core.random.TorchGenerator;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Function;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * Gradients of every operation against finite differences of plain loops that compute in double,
 * and against those loops' own gradients.
 */
class GradientTest {
  /** Inputs by shape, and what is computed from them. */
  record Case(String name, int[][] shapes, Function<Tensor[], Tensor> operation) {
    @Override
    public String toString() {
      return name;
    }
  }

  private static int[] shape(int... dims) {
    return dims;
  }

  static Stream<Case> cases() {
    List<Case> cases = new ArrayList<>();
    int[] small = shape(3, 5);
    for (Unary function : Unary.values()) {
      cases.add(
          new Case(
              function.name(),
              new int[][] {small},
              x -> {
                boolean positive =
                    switch (function) {
                      case LOG, SQRT, RELU, RECIPROCAL -> true;
                      default -> false;
                    };
                Tensor input = positive ? x[0].mul(x[0]).add(0.5f) : x[0].add(0.1f);
                return input.unary(function);
              }));
    }
    int[][] others = {small, shape(5), shape(3, 1), shape(1)};
    for (int[] other : others) {
      String name = Arrays.toString(other);
      cases.add(new Case("add " + name, new int[][] {small, other}, x -> x[0].add(x[1])));
      cases.add(new Case("sub " + name, new int[][] {small, other}, x -> x[0].sub(x[1])));
      cases.add(new Case("mul " + name, new int[][] {small, other}, x -> x[0].mul(x[1])));
      cases.add(
          new Case(
              "div " + name, new int[][] {small, other}, x -> x[0].div(x[1].mul(x[1]).add(1))));
    }
    cases.add(new Case("x + x", new int[][] {small}, x -> x[0].add(x[0])));
    cases.add(new Case("x * x", new int[][] {small}, x -> x[0].mul(x[0])));
    cases.add(new Case("affine", new int[][] {small}, x -> x[0].mul(3).add(2).div(4).neg()));
    cases.add(new Case("matmul", new int[][] {small, shape(5, 4)}, x -> x[0].matmul(x[1])));
    cases.add(
        new Case(
            "batched matmul",
            new int[][] {shape(2, 3, 4), shape(2, 4, 5)},
            x -> x[0].matmul(x[1])));
    cases.add(
        new Case(
            "shared matmul", new int[][] {shape(2, 3, 4), shape(4, 5)}, x -> x[0].matmul(x[1])));
    cases.add(new Case("transpose", new int[][] {shape(2, 3, 4)}, x -> x[0].transpose().tanh()));
    cases.add(new Case("view", new int[][] {small}, x -> x[0].view(5, -1).tanh()));
    cases.add(new Case("sum", new int[][] {small}, x -> x[0].sum()));
    cases.add(new Case("mean", new int[][] {small}, x -> x[0].mean()));
    cases.add(new Case("sumLast", new int[][] {small}, x -> x[0].mul(x[0]).sumLast()));
    cases.add(new Case("softmax", new int[][] {small}, x -> x[0].softmax()));
    cases.add(new Case("logSoftmax", new int[][] {small}, x -> x[0].logSoftmax()));
    cases.add(new Case("gather", new int[][] {small}, x -> x[0].gather(ids(x, 3, 5, 3))));
    cases.add(new Case("rows", new int[][] {shape(4, 3)}, x -> x[0].rows(ids(x, 6, 4, 2, 3))));
    cases.add(
        new Case(
            "embedding",
            new int[][] {shape(7, 3), shape(5, 3)},
            x -> x[0].embedding(ids(x, 8, 7, 2, 4), x[1], 0)));
    for (Activation activation : Activation.values()) {
      cases.add(
          new Case(
              "linear " + activation,
              new int[][] {shape(2, 3, 5), shape(4, 5), shape(4), shape(6, 4)},
              x -> x[0].linear(x[1], x[2], activation, null).linear(x[3], null)));
    }
    cases.add(
        new Case(
            "activation with two readers",
            new int[][] {shape(3, 5), shape(4, 5), shape(4), shape(6, 4)},
            x -> {
              Tensor hidden = x[0].linear(x[1], x[2], Activation.GELU_TANH, null);
              return hidden.linear(x[3], null).sum().add(hidden.sum());
            }));
    cases.add(
        new Case(
            "linear with residual",
            new int[][] {shape(3, 5), shape(5, 5), shape(5)},
            x -> x[0].linear(x[1], x[2], Activation.NONE, x[0].tanh())));
    cases.add(
        new Case(
            "layerNorm",
            new int[][] {shape(4, 6), shape(6), shape(6)},
            x -> x[0].mul(2).layerNorm(x[1], x[2]).add(x[0])));
    cases.add(
        new Case("attention", new int[][] {shape(2, 5, 18)}, x -> x[0].attention(2, 0, null)));
    cases.add(
        new Case(
            "attention with dropout",
            new int[][] {shape(2, 5, 18)},
            x -> x[0].attention(2, 0.3, new TorchGenerator(5))));
    int[] places = {0, 1, 0, 0, 1, 0, 1, 2, 3, 0};
    for (double p : new double[] {0, 0.3}) {
      cases.add(
          new Case(
              "attention within documents, dropout " + p,
              new int[][] {shape(2, 5, 18)},
              x -> x[0].attention(2, p, new TorchGenerator(5), x[0].tape().stepIds(places, 2, 5))));
    }
    cases.add(
        new Case(
            "attention beside another reader",
            new int[][] {shape(1, 4, 12)},
            x -> {
              Tensor qkv = x[0].mul(1.5f);
              return qkv.attention(2, 0, null).sum().add(qkv.mul(qkv).sum());
            }));
    cases.add(
        new Case("dropout", new int[][] {small}, x -> x[0].dropout(0.4, new TorchGenerator(3))));
    cases.add(
        new Case(
            "crossEntropy", new int[][] {small}, x -> x[0].crossEntropy(ids(x, 3, 5, 3), 2, 0)));
    cases.add(
        new Case(
            "crossEntropy, smoothed and scaled",
            new int[][] {small},
            x -> x[0].crossEntropy(ids(x, 3, 5, 3), -100, 0.2f).mul(3)));
    cases.add(
        new Case(
            "linearCrossEntropy",
            new int[][] {shape(6, 4), shape(9, 4)},
            x -> x[0].tanh().linearCrossEntropy(x[1], ids(x, 6, 9, 6), -100)));
    return cases.stream();
  }

  private static Tensor ids(Tensor[] x, int count, int below, int... dims) {
    int[] values = new int[count];
    for (int i = 0; i < count; i++) {
      values[i] = (i * 3 + 2) % below;
    }
    return x[0].tape().stepIds(values, dims);
  }

  private static float[] random(int seed, int[] dims) {
    float[] values = new float[Math.toIntExact(Shape.of(dims).count())];
    new TorchGenerator(seed).normal(values, 0, 0.7);
    return values;
  }

  /** A scalar that weighs every element of the result differently. */
  private static Tensor loss(Tape tape, Case testCase, Tensor[] inputs) {
    Tensor result = testCase.operation.apply(inputs);
    if (result.shape().count() == 1) {
      return result.view();
    }
    int[] dims = result.shape().toArray();
    return result.mul(tape.tensor(random(99, dims), dims)).sum();
  }

  private static Map<Integer, float[]> gradients(Backend backend, Case testCase, float[][] values) {
    Map<Integer, float[]> gradients = new LinkedHashMap<>();
    try (Tape tape = new Tape(backend)) {
      Tensor[] inputs = new Tensor[values.length];
      for (int i = 0; i < values.length; i++) {
        inputs[i] = tape.tensor(values[i], testCase.shapes[i]).requireGrad();
      }
      // The second pass follows the trace and the plan that the first has left.
      for (int pass = 0; pass < 2; pass++) {
        tape.reset();
        tape.zeroGrad();
        loss(tape, testCase, inputs).backward();
      }
      for (int i = 0; i < values.length; i++) {
        gradients.put(i, inputs[i].grad().toArray());
      }
    }
    return gradients;
  }

  private static double value(Case testCase, float[][] values) {
    try (ReferenceBackend backend = new ReferenceBackend();
        Tape tape = new Tape(backend)) {
      Tensor[] inputs = new Tensor[values.length];
      for (int i = 0; i < values.length; i++) {
        inputs[i] = tape.tensor(values[i], testCase.shapes[i]);
      }
      return loss(tape, testCase, inputs).item();
    }
  }

  @ParameterizedTest
  @MethodSource("cases")
  void gradientIsTheSlope(Case testCase) {
    float[][] values = new float[testCase.shapes.length][];
    for (int i = 0; i < values.length; i++) {
      values[i] = random(7 + i, testCase.shapes[i]);
    }
    Map<Integer, float[]> ours;
    Map<Integer, float[]> plain;
    try (CpuBackend cpu = new CpuBackend();
        ReferenceBackend reference = new ReferenceBackend()) {
      ours = gradients(cpu, testCase, values);
      plain = gradients(reference, testCase, values);
    }
    float step = 1f / 64;
    for (int i = 0; i < values.length; i++) {
      for (int j = 0; j < values[i].length; j++) {
        String what = testCase + ", gradient of input " + i + " at " + j;
        assertEquals(plain.get(i)[j], ours.get(i)[j], 2e-5 * (1 + Math.abs(plain.get(i)[j])), what);
        float before = values[i][j];
        values[i][j] = before + step;
        double above = value(testCase, values);
        values[i][j] = before - step;
        double below = value(testCase, values);
        values[i][j] = before;
        double slope = (above - below) / (2 * step);
        // The difference's own error: third derivative times step², and float32 results.
        assertEquals(slope, ours.get(i)[j], 4e-3 * (1 + Math.abs(slope)), what);
      }
    }
  }

  /** An operand is rounded to 8 bits, half a unit of the last off at most: 2^-9 of it, twice. */
  @ParameterizedTest
  @MethodSource("cases")
  void inBfloat16ProductsAloneAreRounded(Case testCase) {
    float[][] values = new float[testCase.shapes.length][];
    for (int i = 0; i < values.length; i++) {
      values[i] = random(7 + i, testCase.shapes[i]);
    }
    try (CpuBackend exact = new CpuBackend();
        CpuBackend rounded = new CpuBackend(Precision.BF16)) {
      Map<Integer, float[]> expected = gradients(exact, testCase, values);
      Map<Integer, float[]> actual = gradients(rounded, testCase, values);
      boolean differs = false;
      for (int i = 0; i < values.length; i++) {
        float most = 0;
        for (float value : expected.get(i)) {
          most = Math.max(most, Math.abs(value));
        }
        assertArrayEquals(expected.get(i), actual.get(i), 0x1p-6f * most, testCase + " " + i);
        differs |= !Arrays.equals(expected.get(i), actual.get(i));
      }
      boolean multiplies = testCase.name.matches(".*(matmul|linear|activation).*");
      assertEquals(multiplies, differs, testCase.name);
    }
  }

  @Test
  void wrongShapesAreRefused() {
    try (CpuBackend cpu = new CpuBackend();
        Tape tape = new Tape(cpu)) {
      Tensor a = tape.zeros(3, 4);
      Tensor b = tape.zeros(3, 4);
      assertThrows(IllegalArgumentException.class, () -> a.matmul(b));
      assertThrows(IllegalArgumentException.class, () -> a.add(tape.zeros(4, 3)));
      assertThrows(IllegalArgumentException.class, () -> a.view(5, -1));
      assertThrows(IllegalArgumentException.class, () -> a.attention(2, 0, null));
      assertThrows(IllegalArgumentException.class, () -> a.crossEntropy(tape.ids(new int[2], 2)));
      assertThrows(IllegalArgumentException.class, () -> a.rows(b));
      assertThrows(IllegalArgumentException.class, a::backward);
    }
  }

  @Test
  void gradientsAreWrittenThenAddedToAndZeroWhereNoneCame() {
    try (CpuBackend backend = new CpuBackend();
        Tape tape = new Tape(backend)) {
      TorchGenerator generator = new TorchGenerator(2);
      Tensor x = tape.randn(generator, 5, 4);
      Tensor targets = tape.ids(new int[] {0, 3, 1, 2, 6}, 5);
      Tensor weight = parameter(tape, generator, 4, 4);
      Tensor bias = parameter(tape, generator, 4);
      Tensor head = parameter(tape, generator, 7, 4);
      Tensor left = parameter(tape, generator, 4, 4);
      List<Tensor> all = List.of(weight, bias, head, left);
      List<float[]> first = new ArrayList<>();
      for (int step = 0; step < 3; step++) {
        tape.zeroGrad();
        for (int pass = 1; pass <= 3; pass++) {
          tape.reset();
          x.linear(weight, bias)
              .tanh()
              .linear(weight, null)
              .linearCrossEntropy(head, targets, -100)
              .backward();
          for (int i = 0; i < all.size(); i++) {
            float[] gradient = all.get(i).grad().toArray();
            if (step == 0 && pass == 1) {
              first.add(gradient);
            }
            for (int j = 0; j < gradient.length; j++) {
              assertEquals(pass * first.get(i)[j], gradient[j], 1e-6f * pass);
            }
          }
        }
        assertArrayEquals(new float[16], left.grad().toArray());
        // A gradient from elsewhere is gone after zeroGrad.
        tape.reset();
        left.mul(3).sum().backward();
        assertEquals(3, left.grad().toArray()[7]);
      }
      try (AdamW optimizer = new AdamW(tape, p -> true)) {
        tape.zeroGrad();
        assertEquals(0, optimizer.gradientNorm(0));
        tape.reset();
        left.mul(2).sum().backward();
        assertEquals(8, optimizer.gradientNorm(0));
        assertArrayEquals(new float[28], head.grad().toArray());
      }
    }
  }

  private static Tensor parameter(Tape tape, TorchGenerator generator, int... dims) {
    return tape.parameter(dims).set(generator::normal);
  }
}
