package dev.lanewise.core.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.core.backend.CpuBackend;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.data.Dataset;
import dev.lanewise.core.distributed.Communicator;
import dev.lanewise.core.distributed.Threads;
import dev.lanewise.core.model.Gpt;
import dev.lanewise.core.model.GptConfig;
import dev.lanewise.core.model.GptInit;
import dev.lanewise.core.model.LoraConfig;
import dev.lanewise.core.nn.Share;
import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.core.tensor.ParameterBlock;
import dev.lanewise.core.tensor.Tape;
import java.io.IOException;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Training by several processes, for which threads stand in: the bits of one. */
class DealtTrainingTest {
  @TempDir Path folder;
  private TinyRuns runs;

  @BeforeEach
  void write() {
    runs = new TinyRuns(folder);
  }

  /** What a run left. */
  private record Left(List<Double> losses, double validation, float[] parameters, long sent) {}

  private static TrainConfig config(int passes) {
    return TinyRuns.config(6, 3, 3, false).toBuilder()
        .accumulate(passes)
        .gradientSum(TrainConfig.GradientSumOrder.TREE)
        .build();
  }

  private Left train(GptConfig model, TrainConfig config, int size, Path checkpoints) {
    List<? extends Communicator> members =
        size == 1 ? List.of(Communicator.alone()) : Threads.of(size);
    try (ExecutorService threads = Executors.newFixedThreadPool(size)) {
      List<CompletableFuture<?>> others = new ArrayList<>();
      for (int rank = 1; rank < size; rank++) {
        Team team = new Team(members.get(rank));
        others.add(CompletableFuture.runAsync(() -> follow(team, model, config), threads));
      }
      Left left = lead(new Team(members.getFirst()), model, config, checkpoints);
      others.forEach(CompletableFuture::join);
      return left;
    }
  }

  private void follow(Team team, GptConfig model, TrainConfig config) {
    RunFolder.Description description =
        new RunFolder.Description(model, config, runs.source().toMap());
    try (Dataset data = runs.data();
        CpuBackend backend = TinyRuns.open(config);
        Follower follower = new Follower(team, description, data, backend)) {
      follower.run();
    } catch (Throwable e) {
      team.communicator().abort(1);
      throw e;
    }
  }

  private Left lead(Team team, GptConfig sizes, TrainConfig config, Path place) {
    TinyRuns.Heard heard = new TinyRuns.Heard();
    try (Dataset data = runs.data();
        CpuBackend backend = TinyRuns.open(config);
        Tape tape = new Tape(backend)) {
      TorchGenerator generator = new TorchGenerator(config.seed());
      Gpt model = new Gpt(tape, sizes, generator);
      GptInit.gpt2(model, generator);
      FineTuning.apply(config, model, generator);
      Checkpoints checkpoints = place == null ? null : new Checkpoints(place);
      try (Trainer trainer =
          new Trainer(
              model,
              config,
              data.train(),
              data.validation(),
              generator,
              checkpoints,
              heard,
              team)) {
        if (checkpoints != null && checkpoints.any()) {
          checkpoints.resume(trainer::resume, warning -> {});
        }
        trainer.shareParameters();
        trainer.run();
        team.end(0);
        long sent = team.communicator() instanceof Threads threads ? threads.sent : 0;
        return new Left(heard.losses, heard.validation, parameters(tape), sent);
      }
    } catch (Throwable e) {
      team.communicator().abort(1);
      throw e;
    }
  }

  private static float[] parameters(Tape tape) {
    float[] all = {};
    for (ParameterBlock block : tape.parameters()) {
      float[] more = tape.backend().hostMemory(block.data()).toArray(ValueLayout.JAVA_FLOAT);
      int length = all.length;
      all = Arrays.copyOf(all, length + more.length);
      System.arraycopy(more, 0, all, length, more.length);
    }
    return all;
  }

  private static void assertSame(Left one, Left many) {
    assertEquals(one.losses, many.losses);
    assertEquals(one.validation, many.validation);
    assertArrayEquals(one.parameters, many.parameters);
  }

  @Test
  void anyNumberOfProcessesGivesTheSameBits() {
    GptConfig model = runs.model(0);
    Left eight = train(model, config(8), 1, null);
    for (int size : new int[] {2, 4, 8}) {
      assertSame(eight, train(model, config(8), size, null));
    }
    Left twelve = train(model, config(12), 1, null);
    for (int size : new int[] {2, 3, 6, 12}) {
      assertSame(twelve, train(model, config(12), size, null));
    }
  }

  /** A wider model, of which every process has a share. */
  @Test
  void sharesOfALargerModelGiveTheSameBits() {
    GptConfig model = runs.model(0).withContextLength(16);
    GptConfig wide = GptConfig.gpt2(model.vocabSize(), 16, 2, 4, 64);
    TrainConfig config = config(6);
    assertSame(train(wide, config, 1, null), train(wide, config, 3, null));
    assertSame(train(wide, config, 1, null), train(wide, config, 2, null));
  }

  @ParameterizedTest
  @ValueSource(
      strings = {"dropout", "bf16", "recomputed", "epochs", "frozen", "lora", "wild", "overfit"})
  void soDoesEveryKindOfRun(String kind) {
    TrainConfig.Builder builder = config(4).toBuilder();
    switch (kind) {
      case "bf16" -> builder.precision("bf16");
      case "recomputed" -> builder.recomputedBlocks(2);
      case "epochs" -> builder.epochs(true);
      case "frozen" -> builder.freeze(List.of("wte.*", "h.0.*"));
      case "lora" -> builder.lora(new LoraConfig(2, 4, 0.1, LoraConfig.DEFAULT_TARGETS));
      case "wild" -> builder.learningRate(1e25).minLearningRate(1e24).clip(0).maxSkipped(100);
      case "overfit" -> builder.overfit(true);
      default -> {}
    }
    GptConfig model = runs.model(kind.equals("dropout") ? 0.2 : 0);
    TrainConfig config = builder.build();
    Left one = train(model, config, 1, null);
    assertSame(one, train(model, config, 4, null));
    assertEquals(kind.equals("wild"), one.losses.stream().anyMatch(l -> !Double.isFinite(l)));
  }

  @Test
  void aTreeIsTheSumAndNoOther() {
    GptConfig model = runs.model(0);
    TrainConfig plain =
        config(4).toBuilder().gradientSum(TrainConfig.GradientSumOrder.PLAIN).build();
    Left inTree = train(model, config(4), 1, null);
    Left inARow = train(model, plain, 1, null);
    for (int i = 0; i < inTree.losses.size(); i++) {
      assertEquals(inARow.losses.get(i), inTree.losses.get(i), 1e-4);
    }
    assertNotEquals(inARow.losses, inTree.losses);
  }

  @Test
  void checkpointsDoNotTellWhoWroteThemAndMoveBetweenAnyNumbers() throws IOException {
    GptConfig model = runs.model(0.1);
    TrainConfig whole = config(4).toBuilder().schedule(LrSchedule.Kind.CONSTANT).build();
    Path alone = folder.resolve("alone");
    Left one = train(model, whole, 1, alone);
    Path moved = folder.resolve("moved");
    train(model, whole.withSteps(2), 4, moved);
    train(model, whole.withSteps(4), 1, moved);
    Left last = train(model, whole, 2, moved);
    assertArrayEquals(one.parameters, last.parameters);
    assertEquals(one.losses.subList(4, 6), last.losses);
    for (String name : List.of(CheckpointFiles.MODEL, CheckpointFiles.OPTIMIZER)) {
      Path file = Path.of("step-00000006", name);
      assertEquals(-1, Files.mismatch(alone.resolve(file), moved.resolve(file)), name);
    }
  }

  /** Each sends a gradient less its share, and its share of the parameters to all others. */
  @Test
  void noMoreIsSentThanSharesOfAGradientAndOfParameters() {
    GptConfig wide = GptConfig.gpt2(runs.model(0).vocabSize(), 16, 2, 4, 64);
    TrainConfig config = config(4).toBuilder().evalEvery(0).checkpointEvery(0).build();
    Left left = train(wide, config, 4, null);
    long length = left.parameters.length;
    long share = new Share(0, 4).to(length);
    long expected = config.steps() * (length - share + 3 * share);
    assertTrue(left.sent >= expected && left.sent < 1.05 * expected, left.sent + ", " + expected);
  }

  @Test
  void passesThatDoNotDivideAreRefused() {
    InputException e = assertThrows(InputException.class, () -> Trainer.requireDealt(config(4), 3));
    assertTrue(e.getMessage().contains("4 passes cannot be dealt equally to 3"), e.getMessage());
    TrainConfig plain =
        config(4).toBuilder().gradientSum(TrainConfig.GradientSumOrder.PLAIN).build();
    e = assertThrows(InputException.class, () -> Trainer.requireDealt(plain, 2));
    assertTrue(e.getMessage().contains("--gradient-sum plain"), e.getMessage());
    Trainer.requireDealt(plain, 1);
  }

  @Test
  void plansAreForOneOfThem() {
    GptConfig model = runs.model(0);
    try (CpuBackend backend = new CpuBackend()) {
      MemoryPlan alone = MemoryPlan.of(config(4), model, backend);
      MemoryPlan dealt = alone.dealtTo(config(4), 4);
      assertEquals((alone.moments() + 3) / 4, dealt.moments());
      assertEquals(alone.gradients() / 3, dealt.gradients());
      assertEquals(alone.activations(), dealt.activations());
    }
  }

  @Test
  void oneThatCannotTakePartIsQuoted() {
    List<Threads> members = Threads.of(2);
    CompletableFuture<Void> other =
        CompletableFuture.runAsync(
            () -> {
              Team team = new Team(members.get(1));
              assertEquals("{}", team.hear());
              team.answer(Team.said(1, 2, "elsewhere", "there are other data."));
            });
    Team leader = new Team(members.getFirst());
    InputException e = assertThrows(InputException.class, () -> leader.announce("{}"));
    assertEquals("Process 2 of 2, on elsewhere: there are other data.", e.getMessage());
    other.join();
  }
}
