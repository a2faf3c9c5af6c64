package dev.lanewise.core.tensor;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.core.backend.Activation;
import dev.lanewise.core.backend.CpuBackend;
import dev.lanewise.core.model.Gpt;
import dev.lanewise.core.model.GptConfig;
import dev.lanewise.core.model.GptInit;
import dev.lanewise.core.nn.AdamW;
import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.simd.Workers;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.function.Function;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** What is computed again is the same to the bit as what would have been kept. */
class RecomputeTest {
  private static final List<Recompute> ALL =
      List.of(
          Recompute.NOTHING,
          Recompute.CHEAP,
          new Recompute(false, 1),
          new Recompute(true, 2),
          new Recompute(true, 3),
          new Recompute(false, 9));

  private record Run(List<float[]> numbers, long bytes) {}

  /** Losses of steps of one pass, with validation between them, and parameters at the end. */
  private static Run trainOver(Recompute recompute, double dropout, boolean over) {
    int vocab = 37;
    try (CpuBackend backend = new CpuBackend();
        Tape tape = new Tape(backend, true)) {
      tape.setRecompute(recompute);
      if (over) {
        tape.layGradientsOverActivations();
      }
      TorchGenerator generator = new TorchGenerator(5);
      GptConfig config = GptConfig.gpt2(vocab, 24, 3, 2, 40).withDropout(dropout);
      Gpt model = new Gpt(tape, config, generator);
      GptInit.gpt2(model, generator);
      Tensor unused = tape.parameter(3, 5).set(generator::normal);
      Random random = new Random(1);
      Tensor ids = tape.ids(Shape.of(6, 20));
      Tensor targets = tape.ids(Shape.of(6, 20));
      List<float[]> numbers = new ArrayList<>();
      try (AdamW optimizer = new AdamW(tape, p -> p.shape().rank() == 2)) {
        for (int step = 0; step < 5; step++) {
          ids.set(random.ints(120, 0, vocab).toArray());
          targets.set(random.ints(120, 0, vocab).toArray());
          optimizer.zeroGrad();
          tape.reset();
          Tensor loss = model.train().loss(ids, targets);
          loss.backward();
          numbers.add(new float[] {loss.item()});
          for (ParameterBlock block : tape.parameters()) {
            for (Tensor parameter : block.tensors()) {
              numbers.add(
                  parameter == unused && step == 0 ? new float[15] : parameter.grad().toArray());
            }
          }
          optimizer.step(1e-2);
          tape.withoutGradient(
              () -> numbers.add(new float[] {model.eval().loss(ids, targets).item()}));
        }
      }
      for (ParameterBlock block : tape.parameters()) {
        for (Tensor parameter : block.tensors()) {
          numbers.add(parameter.toArray());
        }
      }
      return new Run(numbers, tape.activationBytes() + tape.gradientBytes());
    }
  }

  @Test
  void gradientsOverActivationsAreTheSame() {
    for (double dropout : new double[] {0, 0.2}) {
      Run apart = trainOver(Recompute.NOTHING, dropout, false);
      for (Recompute recompute : ALL) {
        Run over = trainOver(recompute, dropout, true);
        same(apart.numbers, over.numbers, recompute.toString());
        assertTrue(over.bytes < trainOver(recompute, dropout, false).bytes, recompute.toString());
      }
    }
  }

  @Test
  void gradientsOverActivationsAreOfOnePass() {
    try (CpuBackend backend = new CpuBackend();
        Tape tape = new Tape(backend)) {
      tape.layGradientsOverActivations();
      Tensor x = tape.parameter(4, 16).set(new TorchGenerator(3)::normal);
      x.tanh().sum().backward();
      assertThrows(IllegalStateException.class, () -> tape.parameters().getFirst().gradient());
      tape.reset();
      Tensor again = x.tanh().sum();
      assertThrows(IllegalStateException.class, again::backward);
      tape.zeroGrad();
      again.backward();
    }
  }

  /** Losses of some steps with validation between them, and gradients and parameters at the end. */
  private static Run train(Recompute recompute, double dropout, boolean overlaid) {
    int vocab = 37;
    try (CpuBackend backend = new CpuBackend();
        Tape tape = new Tape(backend, overlaid)) {
      tape.setRecompute(recompute);
      TorchGenerator generator = new TorchGenerator(5);
      GptConfig config = GptConfig.gpt2(vocab, 24, 3, 2, 40).withDropout(dropout);
      Gpt model = new Gpt(tape, config, generator);
      GptInit.gpt2(model, generator);
      Random random = new Random(1);
      Tensor ids = tape.ids(Shape.of(3, 20));
      Tensor targets = tape.ids(Shape.of(3, 20));
      List<float[]> numbers = new ArrayList<>();
      try (AdamW optimizer = new AdamW(tape, p -> p.shape().rank() == 2)) {
        tape.setLossScale(0.5f);
        for (int step = 0; step < 4; step++) {
          optimizer.zeroGrad();
          for (int pass = 0; pass < 2; pass++) {
            ids.set(random.ints(60, 0, vocab).toArray());
            targets.set(random.ints(60, 0, vocab).toArray());
            tape.reset();
            Tensor loss = model.train().loss(ids, targets);
            loss.backward();
            numbers.add(new float[] {loss.item()});
          }
          numbers.add(new float[] {optimizer.gradientNorm(1)});
          optimizer.step(1e-2);
          tape.withoutGradient(
              () -> numbers.add(new float[] {model.eval().loss(ids, targets).item()}));
        }
      }
      for (Tensor parameter : tape.parameters().getFirst().tensors()) {
        numbers.add(parameter.grad().toArray());
        numbers.add(parameter.toArray());
      }
      return new Run(numbers, tape.activationBytes());
    }
  }

  private static void same(List<float[]> expected, List<float[]> actual, String what) {
    assertEquals(expected.size(), actual.size(), what);
    for (int i = 0; i < expected.size(); i++) {
      assertArrayEquals(expected.get(i), actual.get(i), what + ", tensor " + i);
    }
  }

  @ParameterizedTest
  @ValueSource(doubles = {0, 0.2})
  void trainingGivesTheSameBits(double dropout) {
    Run kept = train(Recompute.NOTHING, dropout, true);
    for (Recompute recompute : ALL) {
      for (boolean overlaid : new boolean[] {true, false}) {
        same(kept.numbers, train(recompute, dropout, overlaid).numbers, recompute.toString());
      }
    }
  }

  @Test
  void threadsDoNotMatter() {
    int before = Workers.threads();
    try {
      Run kept = train(Recompute.NOTHING, 0.1, true);
      for (int threads : new int[] {1, 2, 3}) {
        Workers.setThreads(threads);
        for (Recompute recompute : List.of(Recompute.CHEAP, new Recompute(true, 3))) {
          same(kept.numbers, train(recompute, 0.1, true).numbers, threads + ", " + recompute);
        }
      }
    } finally {
      Workers.setThreads(before);
    }
  }

  @Test
  void memoryShrinks() {
    long kept = train(Recompute.NOTHING, 0, true).bytes;
    long cheap = train(Recompute.CHEAP, 0, true).bytes;
    long one = train(new Recompute(true, 1), 0, true).bytes;
    long all = train(new Recompute(true, 3), 0, true).bytes;
    // A norm's and a GELU's result for each of two layers, less the gradients' share.
    assertTrue(cheap < kept - 2L * 60 * 6 * 40 * Float.BYTES / 2, kept + " to " + cheap);
    assertTrue(all < one && all < cheap, kept + ", " + cheap + ", " + one + ", " + all);
  }

  /** Gradients of a body's sum by a matrix, and the sum itself. */
  private static List<float[]> gradients(Recompute recompute, Function<Tensor, Tensor> body) {
    try (CpuBackend backend = new CpuBackend();
        Tape tape = new Tape(backend)) {
      tape.setRecompute(recompute);
      Tensor x = tape.randn(new TorchGenerator(3), 6, 16).requireGrad();
      List<float[]> numbers = new ArrayList<>();
      for (int step = 0; step < 3; step++) {
        tape.reset();
        tape.zeroGrad();
        Tensor y = body.apply(x);
        Tensor loss = y.mul(y).mean();
        loss.backward();
        numbers.add(y.toArray());
        numbers.add(loss.toArray());
        numbers.add(x.grad().toArray());
      }
      return numbers;
    }
  }

  private static Tensor norm(Tensor x, int seed) {
    Tape tape = x.tape();
    TorchGenerator generator = new TorchGenerator(seed);
    return x.layerNorm(tape.randn(generator, 16), tape.randn(generator, 16));
  }

  private static Tensor linear(Tensor x, int seed, Activation activation, Tensor residual) {
    Tensor weight = x.tape().randn(new TorchGenerator(seed), 16, 16);
    return x.linear(weight, null, activation, residual);
  }

  @Test
  void resultsThatAreUsedLaterAreThere() {
    List<Function<Tensor, Tensor>> bodies =
        List.of(
            x -> norm(x, 1).add(norm(x.mul(2), 2)),
            x -> norm(norm(norm(x, 1), 2), 3),
            x -> {
              Tensor a = norm(x, 1);
              Tensor b = norm(x.add(1), 2);
              Tensor c = norm(x.tanh(), 3);
              return a.mul(b).add(c).add(a).mul(c);
            },
            x -> {
              Tensor a = norm(x, 1).view(3, 32).view(6, 16);
              return norm(x.tanh(), 2).mul(a).add(a);
            },
            x -> {
              Tensor a = linear(norm(x, 1), 4, Activation.GELU_TANH, null);
              Tensor b = linear(norm(a, 2), 5, Activation.GELU_ERF, null);
              return linear(a, 6, Activation.NONE, b).add(a.gelu()).add(norm(b.gelu(), 7));
            },
            x -> norm(x, 1).gelu().gelu().add(norm(x, 1)));
    for (int i = 0; i < bodies.size(); i++) {
      List<float[]> kept = gradients(Recompute.NOTHING, bodies.get(i));
      same(kept, gradients(Recompute.CHEAP, bodies.get(i)), "body " + i);
    }
  }

  @Test
  void aTraceThatIsCutKeepsWhatIsStillUsed() {
    List<List<float[]>> all = new ArrayList<>();
    for (Recompute recompute : List.of(Recompute.NOTHING, Recompute.CHEAP)) {
      List<float[]> numbers = new ArrayList<>();
      try (CpuBackend backend = new CpuBackend();
          Tape tape = new Tape(backend)) {
        tape.setRecompute(recompute);
        Tensor x = tape.randn(new TorchGenerator(3), 6, 16).requireGrad();
        Tensor ones = tape.tensor(new float[] {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, 16);
        for (int step = 0; step < 12; step++) {
          tape.reset();
          tape.zeroGrad();
          Tensor a = x.layerNorm(ones, ones);
          Tensor b = step % 3 == 2 ? x.tanh() : x.mul(2).layerNorm(ones, ones);
          Tensor c = step % 2 == 0 ? a.add(b) : a.mul(3).mul(b.gelu());
          Tensor loss = c.mul(a).mean();
          loss.backward();
          numbers.add(loss.toArray());
          numbers.add(x.grad().toArray());
          numbers.add(b.toArray());
        }
      }
      all.add(numbers);
    }
    same(all.get(0), all.get(1), "cut");
  }

  @Test
  void whatWouldBeOtherNumbersIsRefused() {
    try (CpuBackend backend = new CpuBackend();
        Tape tape = new Tape(backend)) {
      tape.setRecompute(Recompute.CHEAP);
      Tensor x = tape.randn(new TorchGenerator(3), 6, 16).requireGrad();
      Tensor a = norm(x, 1);
      norm(x, 2);
      a.toArray();
      x.addInPlace(1, x);
      norm(x, 2);
      String refusal = assertThrows(IllegalStateException.class, a::toArray).getMessage();
      assertTrue(refusal.contains("not kept"), refusal);
    }
  }

  @Test
  void resultsInsideBlocksDoNotLeaveThem() {
    try (CpuBackend backend = new CpuBackend();
        Tape tape = new Tape(backend)) {
      tape.setRecompute(new Recompute(true, 2));
      Tensor x = tape.randn(new TorchGenerator(3), 6, 16).requireGrad();
      tape.beginBlock();
      Tensor inside = x.tanh();
      Tensor view = inside.view(3, 32);
      tape.endBlock();
      Tensor result = inside.mul(2);
      tape.beginBlock();
      Tensor other = result.tanh();
      assertThrows(IllegalArgumentException.class, () -> view.view(6, 16).add(other));
      tape.endBlock();
      assertArrayEquals(inside.toArray(), view.toArray());
    }
  }
}
