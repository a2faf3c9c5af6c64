package dev.lanewise.core.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.backend.CpuBackend;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.data.Dataset;
import dev.lanewise.core.format.SafeTensors;
import dev.lanewise.core.model.GptConfig;
import dev.lanewise.core.model.LoraConfig;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.reflect.Proxy;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Runs that train a part of a model: they resume to the bit, and keep the best. */
class PartialTrainingTest {
  @TempDir private Path folder;
  private TinyRuns runs;
  private GptConfig model;

  @BeforeEach
  void prepare() {
    runs = new TinyRuns(folder);
    model = runs.model(0);
  }

  private static TrainConfig.Builder config(long steps) {
    return TinyRuns.config(steps, 2, 4, false).toBuilder();
  }

  private static List<String> checkpoints(Path run) throws IOException {
    try (Stream<Path> all = Files.list(run.resolve("checkpoints"))) {
      return all.map(path -> path.getFileName().toString()).sorted().toList();
    }
  }

  private static byte[] weights(Path run, String checkpoint) throws IOException {
    return Files.readAllBytes(
        run.resolve("checkpoints").resolve(checkpoint).resolve("model.safetensors"));
  }

  @Test
  void correctionsResumeToTheBit() throws IOException {
    TrainConfig lora = config(10).lora(new LoraConfig(2, 4, 0.2, Set.of("c_attn", "c_fc"))).build();
    TinyRuns.Heard whole = runs.train(folder.resolve("a"), model, lora, 0);
    runs.train(folder.resolve("b"), model, lora, 5);
    runs.train(folder.resolve("b"), model, lora, 0);
    assertArrayEquals(
        weights(folder.resolve("a"), "step-00000010"),
        weights(folder.resolve("b"), "step-00000010"));
    assertTrue(whole.losses.stream().distinct().count() > 5);
    try (Arena arena = Arena.ofShared()) {
      SafeTensors saved =
          SafeTensors.map(folder.resolve("a/checkpoints/step-00000010/model.safetensors"), arena);
      assertEquals(2 * 2 * 2, saved.tensors().size());
      assertTrue(saved.tensors().containsKey("h.1.mlp.c_fc.lora_B.weight"));
    }
    RunFolder run = new RunFolder(folder.resolve("a"));
    assertEquals(lora, run.describe().training());
  }

  @Test
  void correctionsTakeLessMemoryThanTheWholeModel() {
    try (CpuBackend backend = new CpuBackend()) {
      MemoryPlan whole = MemoryPlan.of(config(1).build(), model, backend);
      MemoryPlan part =
          MemoryPlan.of(
              config(1).lora(new LoraConfig(1, 1, 0, LoraConfig.DEFAULT_TARGETS)).build(),
              model,
              backend);
      assertEquals(2 * whole.parameters(), whole.moments());
      assertTrue(part.moments() < whole.moments() / 10, part.toString());
      assertTrue(part.gradients() < whole.gradients() / 10, part.toString());
    }
  }

  @Test
  void whatIsFrozenStays() throws IOException {
    TrainConfig frozen = config(6).freeze(List.of("wte.*", "h.0.*")).build();
    runs.train(folder.resolve("a"), model, frozen, 0);
    runs.train(folder.resolve("b"), model, frozen, 3);
    runs.train(folder.resolve("b"), model, frozen, 0);
    assertArrayEquals(
        weights(folder.resolve("a"), "step-00000006"),
        weights(folder.resolve("b"), "step-00000006"));
    try (Arena arena = Arena.ofShared()) {
      Path checkpoints = folder.resolve("a/checkpoints");
      SafeTensors early =
          SafeTensors.map(checkpoints.resolve("step-00000004/model.safetensors"), arena);
      SafeTensors late =
          SafeTensors.map(checkpoints.resolve("step-00000006/model.safetensors"), arena);
      for (String name : early.tensors().keySet()) {
        boolean same =
            java.util.Arrays.equals(early.tensor(name).toFloats(), late.tensor(name).toFloats());
        assertEquals(name.startsWith("wte.") || name.startsWith("h.0."), same, name);
      }
      SafeTensors moments =
          SafeTensors.map(checkpoints.resolve("step-00000006/optimizer.safetensors"), arena);
      assertTrue(moments.tensors().keySet().stream().noneMatch(name -> name.startsWith("h.0.")));
    }
  }

  @Test
  void patternsThatMeanNothingAreRefused() {
    for (TrainConfig.Builder bad :
        List.of(
            config(2).freeze(List.of("h.9.*")),
            config(2).freeze(List.of("*")),
            config(2)
                .freeze(List.of("wte.*"))
                .lora(new LoraConfig(1, 1, 0, LoraConfig.DEFAULT_TARGETS)))) {
      InputException refused =
          assertThrows(
              InputException.class, () -> runs.train(folder.resolve("bad"), model, bad.build(), 0));
      assertTrue(refused.getMessage().contains("--freeze"), refused.getMessage());
      assertTrue(Files.notExists(folder.resolve("bad")), "a folder is left behind");
    }
  }

  @Test
  void theBestIsKeptAndPatienceEndsTheRun() throws IOException {
    // A rate at which the loss soon rises.
    TrainConfig wild =
        config(60)
            .learningRate(0.3)
            .minLearningRate(0.3)
            .schedule(LrSchedule.Kind.CONSTANT)
            .warmup(0)
            .keepBest(true)
            .patience(3)
            .build();
    Path run = folder.resolve("wild");
    TinyRuns.Heard heard = runs.train(run, model, wild, 0);
    assertTrue(heard.losses.size() < 60, "ended after " + heard.losses.size());
    List<String> best = checkpoints(run).stream().filter(name -> name.startsWith("best-")).toList();
    assertEquals(1, best.size(), best.toString());
    long step = Long.parseLong(best.getFirst().substring(5));
    assertEquals(heard.losses.size(), step + 3 * 2, "three validations after the best");

    Path again = folder.resolve("again");
    runs.train(again, model, wild, (int) step + 1);
    TinyRuns.Heard rest = runs.train(again, model, wild, 0);
    assertEquals(checkpoints(run), checkpoints(again));
    assertArrayEquals(weights(run, best.getFirst()), weights(again, best.getFirst()));
    assertTrue(rest.losses.size() < heard.losses.size());
    // Nothing goes on until the limit is lifted.
    assertEquals(0, runs.train(again, model, wild, 0).losses.size());
  }

  @Test
  void devicesThatCannotKeepDocumentsApartRefuseTo() {
    TrainConfig isolating = config(2).isolateDocuments(true).build();
    Path run = folder.resolve("run");
    try (CpuBackend cpu = new CpuBackend();
        Dataset data = runs.data()) {
      Backend other =
          (Backend)
              Proxy.newProxyInstance(
                  getClass().getClassLoader(),
                  new Class<?>[] {Backend.class},
                  (proxy, method, arguments) ->
                      switch (method.getName()) {
                        case "isolatesDocuments" -> false;
                        case "name" -> "other";
                        default -> method.invoke(cpu, arguments);
                      });
      RunFolder.Description description =
          new RunFolder.Description(model, isolating, runs.source().toMap());
      String message =
          assertThrows(
                  InputException.class,
                  () -> TrainingRun.begin(new RunFolder(run), description, data, other, List.of()))
              .getMessage();
      assertEquals(
          "--isolate-documents is not there for other yet; choose --device cpu, or leave it out.",
          message);
      assertTrue(Files.notExists(run));
    }
  }
}
