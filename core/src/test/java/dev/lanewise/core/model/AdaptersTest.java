package dev.lanewise.core.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.backend.CpuBackend;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.format.Gpt2Weights;
import dev.lanewise.core.format.HuggingFace;
import dev.lanewise.core.format.PeftAdapter;
import dev.lanewise.core.format.SafeTensors;
import dev.lanewise.core.format.StoredTensor;
import dev.lanewise.core.nn.AdamW;
import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.core.tensor.Recompute;
import dev.lanewise.core.tensor.Tape;
import dev.lanewise.core.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.net.URISyntaxException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.SequencedMap;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Fine-tuning by corrections of low rank, beside what PEFT and PyTorch computed. */
class AdaptersTest {
  private static final Path FOLDER = folder();

  @TempDir private Path temporary;

  private static Path folder() {
    try {
      return Path.of(AdaptersTest.class.getResource("/fixtures/lora").toURI());
    } catch (URISyntaxException e) {
      throw new AssertionError(e);
    }
  }

  /** The stored model with the stored adapter. */
  private static final class Case implements AutoCloseable {
    final Backend backend = new CpuBackend();
    final Tape tape = new Tape(backend, true);
    final Arena arena = Arena.ofShared();
    final SafeTensors expected = SafeTensors.map(FOLDER.resolve("expected.safetensors"), arena);
    final Gpt model;

    Case(double dropout, boolean adapted) {
      Gpt2Weights weights = HuggingFace.read(FOLDER, arena);
      model =
          new Gpt(
              tape,
              GptConfig.gpt2(
                  weights.shape().vocabulary(),
                  weights.shape().context(),
                  weights.shape().layers(),
                  weights.shape().heads(),
                  weights.shape().width()),
              null);
      fill(model.namedParameters(), weights.tensors());
      if (adapted) {
        PeftAdapter stored = PeftAdapter.read(FOLDER, arena);
        model.adapt(
            new LoraConfig(stored.rank(), stored.alpha(), dropout, stored.targets()),
            new TorchGenerator(1));
        fill(model.adapters().namedParameters(), stored.tensors());
      }
    }

    static void fill(Map<String, Tensor> parameters, Map<String, StoredTensor> tensors) {
      assertEquals(parameters.keySet(), tensors.keySet());
      parameters.forEach((name, tensor) -> tensor.set(tensors.get(name).toFloats()));
    }

    int[] ints(String name, int batch) {
      long[] all = expected.tensor(name).toLongs();
      return Arrays.stream(all, batch * 24, batch * 24 + 24).mapToInt(Math::toIntExact).toArray();
    }

    float[] logits() {
      tape.reset();
      float[][] logits = new float[1][];
      tape.withoutGradient(
          () -> logits[0] = model.forward(tape.stepIds(ints("ids", 0), 2, 12)).toArray());
      return logits[0];
    }

    @Override
    public void close() {
      tape.close();
      backend.close();
      arena.close();
    }
  }

  private static void assertClose(float[] expected, float[] actual, double tolerance) {
    double scale = 0;
    for (float value : expected) {
      scale = Math.max(scale, Math.abs(value));
    }
    assertEquals(expected.length, actual.length);
    for (int i = 0; i < expected.length; i++) {
      assertEquals(expected[i], actual[i], tolerance * scale, "at " + i);
    }
  }

  @ParameterizedTest
  @CsvSource({"false, 0", "true, 0", "false, 2", "true, 1"})
  void trainsAsPeftDoes(boolean overActivations, int blocks) {
    try (Case c = new Case(0, true)) {
      if (overActivations) {
        c.tape.layGradientsOverActivations();
      }
      c.tape.setRecompute(new Recompute(true, blocks));
      assertClose(c.expected.tensor("logits").toFloats(), c.logits(), 1e-5);
      float[] losses = c.expected.tensor("losses").toFloats();
      float[] norms = c.expected.tensor("norms").toFloats();
      try (AdamW optimizer = new AdamW(c.tape, parameter -> true)) {
        optimizer.betas(0.9, 0.95).weightDecay(0.1);
        Tensor ids = c.tape.ids(new int[24], 2, 12);
        Tensor targets = c.tape.ids(new int[24], 2, 12);
        c.model.train();
        for (int step = 0; step < losses.length; step++) {
          ids.set(c.ints("ids", step));
          targets.set(c.ints("targets", step));
          optimizer.zeroGrad();
          c.tape.reset();
          Tensor loss = c.model.loss(ids, targets);
          loss.backward();
          assertEquals(losses[step], loss.item(), 2e-5 * losses[step], "loss of step " + step);
          assertEquals(
              norms[step], optimizer.gradientNorm(1), 1e-4 * norms[step], "norm of step " + step);
          optimizer.step(1e-2);
        }
      }
      c.model
          .adapters()
          .namedParameters()
          .forEach(
              (name, tensor) ->
                  assertClose(
                      c.expected.tensor("after." + name).toFloats(), tensor.toArray(), 1e-4));
      SafeTensors base = SafeTensors.map(FOLDER.resolve("model.safetensors"), c.arena);
      assertArrayEquals(
          base.tensor("transformer.wte.weight").toFloats(),
          c.model.namedParameters().get("wte.weight").toArray(),
          "frozen");

      c.model.eval().mergeAdapters();
      assertClose(c.expected.tensor("merged_logits").toFloats(), c.logits(), 2e-5);
    }
  }

  @Test
  void optimiserAndGradientsAreOfTheCorrectionsAlone() {
    try (Case c = new Case(0, true);
        AdamW optimizer = new AdamW(c.tape, parameter -> true)) {
      long trained = 0;
      for (Tensor tensor : c.model.adapters().namedParameters().values()) {
        optimizer.firstMoment(tensor);
        trained += (tensor.shape().count() + 15) / 16 * 16 * Float.BYTES;
      }
      assertEquals(trained, c.tape.gradientBytes());
      Tensor frozen = c.model.namedParameters().get("wte.weight");
      assertThrows(IllegalStateException.class, frozen::grad);
    }
  }

  @Test
  void beginsWithoutEffect() {
    try (Case plain = new Case(0, false)) {
      float[] before = plain.logits();
      plain.model.adapt(
          new LoraConfig(2, 4, 0.5, Set.of("c_attn", "c_fc", "c_proj")), new TorchGenerator(7));
      assertArrayEquals(before, plain.logits());
      plain.model.adapters().namedParameters().values().forEach(t -> assertTrue(t.requiresGrad()));
      assertEquals(16, plain.model.adapters().namedParameters().size());
    }
  }

  @Test
  void dropoutChangesTrainingAlone() {
    try (Case c = new Case(0.5, true)) {
      float[] quiet = c.logits();
      c.model.train();
      assertTrue(!Arrays.equals(quiet, c.logits()));
      c.model.eval();
      assertArrayEquals(quiet, c.logits());
    }
  }

  @Test
  void cachedAndUncachedAgree() {
    try (Case c = new Case(0, true)) {
      int[] ids = Arrays.copyOf(c.ints("ids", 0), 12);
      float[] whole = Arrays.copyOf(c.logits(), 12 * 37);
      float[] last = new float[37];
      c.tape.withoutGradient(
          () -> {
            KvCache cache = new KvCache(c.tape, c.model.config(), 1, 12);
            for (int id : ids) {
              c.tape.reset();
              Tensor next = c.model.next(c.tape.stepIds(new int[] {id}, 1, 1), cache);
              System.arraycopy(next.toArray(), 0, last, 0, 37);
            }
          });
      assertClose(Arrays.copyOfRange(whole, 11 * 37, 12 * 37), last, 1e-5);
    }
  }

  @Test
  void filesMergeAsTheModelDoes() {
    try (Case c = new Case(0, true);
        Arena arena = Arena.ofShared()) {
      c.model.mergeAdapters();
      Gpt2Weights merged =
          PeftAdapter.read(FOLDER, arena).mergedInto(HuggingFace.read(FOLDER, arena), arena);
      c.model
          .namedParameters()
          .forEach(
              (name, tensor) ->
                  assertClose(merged.tensors().get(name).toFloats(), tensor.toArray(), 1e-6));
      PeftAdapter stored = PeftAdapter.read(FOLDER, arena);
      PeftAdapter wrong =
          new PeftAdapter(
              null, 2, stored.alpha(), 0, stored.targets(), new LinkedHashMap<>(stored.tensors()));
      assertThrows(
          InputException.class, () -> wrong.mergedInto(HuggingFace.read(FOLDER, arena), arena));
    }
  }

  @Test
  void adapterFilesComeBack() throws IOException {
    try (Arena arena = Arena.ofShared()) {
      PeftAdapter stored = PeftAdapter.read(FOLDER, arena);
      SequencedMap<String, StoredTensor> tensors = new LinkedHashMap<>(stored.tensors());
      new PeftAdapter("base", stored.rank(), stored.alpha(), 0.1, stored.targets(), tensors)
          .write(temporary);
      PeftAdapter back = PeftAdapter.read(temporary, arena);
      assertEquals(stored.targets(), back.targets());
      assertEquals(0.1, back.dropout());
      assertEquals("base", back.base());
      assertEquals(stored.tensors().keySet(), back.tensors().keySet());
      back.tensors()
          .forEach(
              (name, tensor) ->
                  assertArrayEquals(stored.tensors().get(name).toFloats(), tensor.toFloats()));
      Path config = temporary.resolve("adapter_config.json");
      String text = Files.readString(config);
      for (String[] change :
          new String[][] {
            {"\"use_dora\" : false", "\"use_dora\" : true", "use_dora"},
            {"\"LORA\"", "\"IA3\"", "IA3"},
            {"\"none\"", "\"all\"", "bias"},
            {"\"r\"", "\"q\"", "'r'"}
          }) {
        assertTrue(text.contains(change[0]), text);
        Files.writeString(config, text.replace(change[0], change[1]));
        InputException refused =
            assertThrows(InputException.class, () -> PeftAdapter.read(temporary, arena));
        assertTrue(refused.getMessage().contains(change[2]), refused.getMessage());
      }
    }
  }

  @ParameterizedTest
  @CsvSource({
    "0, 1, 0, c_attn",
    "1, 0, 0, c_attn",
    "1, NaN, 0, c_attn",
    "1, 1, 1, c_attn",
    "1, 1, 0, lm_head"
  })
  void senselessConfigurationsAreRefused(int rank, double alpha, double dropout, String target) {
    assertThrows(InputException.class, () -> new LoraConfig(rank, alpha, dropout, Set.of(target)));
  }
}
