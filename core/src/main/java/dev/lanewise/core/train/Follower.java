package dev.lanewise.core.train;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.data.Dataset;
import dev.lanewise.core.data.TokenBatches;
import dev.lanewise.core.data.TokenSequence;
import dev.lanewise.core.model.Gpt;
import dev.lanewise.core.nn.AdamW;
import dev.lanewise.core.nn.Share;
import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.core.tensor.ParameterBlock;
import dev.lanewise.core.tensor.Shape;
import dev.lanewise.core.tensor.Tape;
import dev.lanewise.core.tensor.Tensor;

/** A process that does its part of a run that another one leads, until it is told to end. */
public final class Follower implements AutoCloseable {
  private final Team team;
  private final TrainConfig config;
  private final Tape tape;
  private final Gpt model;
  private final AdamW optimizer;
  private final TokenSequence validation;
  private final TokenBatches batches;
  private final Tensor ids;
  private final Tensor targets;
  private final Tensor positions;
  private final DealtStep dealt;
  private final DealtMoments moments;
  private final LrSchedule schedule;

  /**
   * A process that is ready; its parameters come from the leader.
   *
   * @param team all processes
   * @param description the run
   * @param data the leader's tokens
   * @param backend device; closed by the caller
   */
  public Follower(Team team, RunFolder.Description description, Dataset data, Backend backend) {
    this.team = team;
    config = description.training();
    schedule = config.lrSchedule();
    tape = new Tape(backend, true);
    tape.reserveActivations(MemoryPlan.of(config, description.model(), backend).activations());
    TorchGenerator generator = new TorchGenerator(config.seed());
    model = new Gpt(tape, description.model(), generator);
    FineTuning.apply(config, model, generator);
    MemoryPlan.apply(config, tape);
    TokenSequence train = TrainingRun.isolated(data.train(), data, config);
    validation = TrainingRun.isolated(data.validation(), data, config);
    batches = Trainer.batches(train, config);
    optimizer = Trainer.optimizer(tape, config, new Share(team.communicator().rank(), team.size()));
    Shape shape = Shape.of(config.batch(), config.context());
    ids = tape.ids(shape);
    targets = tape.ids(shape);
    positions = train.isolates() ? tape.ids(shape) : null;
    dealt =
        new DealtStep(
            team.communicator(),
            model,
            config,
            optimizer,
            batches,
            ids,
            targets,
            positions,
            generator);
    moments = new DealtMoments(team, tape, optimizer);
  }

  /** Does what the leader asks for, until that is to end. */
  public void run() {
    while (true) {
      switch (team.next()) {
        case PARAMETERS -> {
          shareParameters(team, tape);
          optimizer.restoreSteps(team.word(1));
        }
        case STEP -> {
          long step = team.word(1);
          dealt.compute(step, team.word(2), team.word(3));
          if (dealt.isFinite()) {
            dealt.update(schedule.at(step));
          }
        }
        case VALIDATE -> validate((int) team.word(1));
        case GATHER -> moments.gather((int) team.word(1), team.word(2) != 0);
        case SCATTER -> moments.scatter((int) team.word(1), team.word(2) != 0);
        case RUN -> throw new IllegalStateException("a second run");
        case END -> {
          return;
        }
      }
    }
  }

  private void validate(int most) {
    try (TokenBatches evaluation = Trainer.evaluation(validation, config, most)) {
      Evaluation.dealt(
          team.communicator(),
          model,
          evaluation,
          ids,
          targets,
          positions,
          Evaluation.Progress.SILENT);
    }
  }

  /** Gives the leader's parameters to everyone, those that are not trained too. */
  static void shareParameters(Team team, Tape tape) {
    for (ParameterBlock block : tape.parameters()) {
      team.communicator().broadcast(tape.backend().hostMemory(block.data()), 0);
    }
    tape.parametersUpdated();
  }

  @Override
  public void close() {
    dealt.close();
    optimizer.close();
    batches.close();
    tape.close();
  }
}
