package dev.lanewise.core.train;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.backend.DType;
import dev.lanewise.core.backend.PlanningBackend;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.UsageException;
import dev.lanewise.core.model.Gpt;
import dev.lanewise.core.model.GptConfig;
import dev.lanewise.core.model.GptPresets;
import dev.lanewise.core.model.KvCache;
import dev.lanewise.core.nn.AdamW;
import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.core.tensor.ParameterBlock;
import dev.lanewise.core.tensor.Recompute;
import dev.lanewise.core.tensor.Shape;
import dev.lanewise.core.tensor.Tape;
import dev.lanewise.core.tensor.Tensor;
import dev.lanewise.simd.Workers;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Optional;

/**
 * Memory that a training step takes, found by running one on a device that only counts.
 *
 * @param parameters bytes of parameters, and of the bfloat16 copy that a device in mixed precision
 *     keeps of them
 * @param gradients bytes of their gradients, but for those that lie where activations were
 * @param moments bytes of the optimiser's moments
 * @param activations bytes of activations and their gradients, at their peak, and of the logits
 *     that lie where these gradients will be
 * @param working bytes of working memory: of kernels, of Java itself
 */
public record MemoryPlan(
    long parameters, long gradients, long moments, long activations, long working) {
  /**
   * What a Java process with a small heap takes at most, while its code is compiled: up to 165 MiB
   * were seen, and some more for safety.
   */
  private static final long JAVA = 176L << 20;

  /** Bytes of scratch memory that kernels take at most for each thread. */
  private static final long PER_THREAD = 2L << 20;

  /**
   * Threads whose scratch memory every plan counts, so that what {@link #fit} chooses, and with it
   * the last digits of a run, is the same for any number of threads. What more of them take is in
   * the plan of a run, but nothing is chosen by it.
   */
  private static final int THREADS = 16;

  /**
   * Operations of a step in the time of a byte from memory: 370 GFLOP/s and 33 GB/s on two cores of
   * a server. With it a GPT-2 of 124M at 4 x 256 tokens is estimated to take 6 % longer in four
   * passes, 15 % with all blocks computed again and 8 % with 85 rows of the head at a time;
   * measured were 7, 13 and 6 to 8 %.
   */
  private static final double OPERATIONS_PER_BYTE = 11;

  /** Fewer rows of the head at a time are never worth their cost. */
  private static final int FEWEST_HEAD_ROWS = 32;

  /** A shorter context is no advice. */
  private static final int SHORTEST_CONTEXT = 16;

  /** Bytes in all. */
  public long total() {
    return parameters + gradients + moments + activations + working;
  }

  /**
   * The plan of a run's training step.
   *
   * @param config the run
   * @param model the model
   * @param backend its device
   */
  public static MemoryPlan of(TrainConfig config, GptConfig model, Backend backend) {
    long more = PER_THREAD * Math.max(0, Workers.threads() - THREADS);
    return forAnyThreads(config, model, backend).withWorking(more);
  }

  /**
   * What each of several processes takes, of which this is the first.
   *
   * @param config the run
   * @param processes how many share its work
   */
  MemoryPlan dealtTo(TrainConfig config, int processes) {
    if (!Trainer.sumsInTree(config) || processes == 1) {
      return this;
    }
    long one = gradients / (1 + GradientSum.copies(config.accumulate(), 0, 1));
    return new MemoryPlan(
        parameters,
        one * (1 + GradientSum.copies(config.accumulate(), 0, processes)),
        (moments + processes - 1) / processes,
        activations,
        working + GradientSum.exchangeBytes(config.accumulate(), processes));
  }

  private MemoryPlan withWorking(long more) {
    return new MemoryPlan(parameters, gradients, moments, activations, working + more);
  }

  /** Whether the gradients of a run are needed no longer than until its next forward pass. */
  private static boolean laysGradientsOverActivations(TrainConfig config, Backend backend) {
    return config.accumulate() == 1 && !backend.keepsActivations();
  }

  /**
   * Makes a tape keep its memory as a run's plan has it, before an optimiser is made.
   *
   * @param config the run
   * @param tape where the model is
   */
  static void apply(TrainConfig config, Tape tape) {
    if (laysGradientsOverActivations(config, tape.backend())) {
      tape.layGradientsOverActivations();
    }
    tape.setRecompute(recompute(config, tape.backend()));
    tape.setHeadRows(config.headRows());
  }

  private static Recompute recompute(TrainConfig config, Backend backend) {
    int blocks = config.recomputedBlocks();
    return new Recompute(blocks > 0 || !backend.keepsActivations(), blocks);
  }

  /** A plan with the scratch memory of a fixed number of threads. */
  private static MemoryPlan forAnyThreads(TrainConfig config, GptConfig model, Backend backend) {
    int batch = config.batch();
    int context = config.context();
    if ((long) batch * context > Integer.MAX_VALUE) {
      throw new UsageException(
          String.format(
              Locale.ROOT,
              "%,d sequences of %,d tokens are too many for a forward pass; choose a smaller"
                  + " --batch or --context.",
              batch,
              context));
    }
    DType activationType = backend.activationType();
    try (Backend counting = new PlanningBackend(backend).backend();
        Tape tape = new Tape(counting, true)) {
      tape.setRecompute(recompute(config, backend));
      tape.setHeadRows(config.headRows());
      if (laysGradientsOverActivations(config, backend)) {
        tape.layGradientsOverActivations();
      }
      // In one piece, as it will be.
      tape.reserveActivations(Long.MAX_VALUE / 2);
      Gpt gpt = new Gpt(tape, model, new TorchGenerator(0));
      FineTuning.apply(config, gpt, null);
      gpt.train();
      long parameters = 0;
      for (ParameterBlock block : tape.parameters()) {
        parameters += block.data().byteSize();
      }
      try (AdamW optimizer = new AdamW(tape, parameter -> true)) {
        Tensor ids = tape.ids(Shape.of(batch, context));
        Tensor targets = tape.ids(Shape.of(batch, context));
        Tensor positions = config.isolateDocuments() ? tape.ids(Shape.of(batch, context)) : null;
        optimizer.zeroGrad();
        gpt.loss(ids, targets, positions).backward();
        tape.settleGradients();
        tape.setRecording(false);
        gpt.eval().loss(ids, targets, positions);
        // Samples that are written on the way.
        KvCache cache = new KvCache(tape, model, 1, context);
        tape.reset();
        gpt.next(tape.ids(Shape.of(1, context)), cache);
        int copies = Trainer.sumsInTree(config) ? GradientSum.copies(config.accumulate(), 0, 1) : 0;
        long copy = activationType == DType.BFLOAT16 ? parameters / 2 : 0;
        long logits = backend.ownLogitBytes(batch * context, model.vocabSize(), config.headRows());
        return new MemoryPlan(
            parameters + copy,
            tape.gradientBytes() * (1 + copies),
            optimizer.momentBytes(),
            tape.activationBytes(),
            JAVA + PER_THREAD * THREADS + cache.bytes() + logits);
      }
    }
  }

  /**
   * Refuses a plan that does not fit.
   *
   * @param available bytes that the device has
   * @throws InputException with the figures, if it does not fit
   */
  public void requireFits(long available) {
    if (total() > available) {
      throw new UsageException(
          String.format(
              Locale.ROOT,
              "This model needs %s, but only %s are free; choose a smaller --batch, --context or"
                  + " --model.",
              this,
              gib(available)));
    }
  }

  /**
   * The plan of a run's training step on a device that has the memory for it.
   *
   * @param config the run
   * @param model the model
   * @param backend its device
   * @throws InputException if it does not fit, with the least that it needs and with what would fit
   */
  public static MemoryPlan fitting(TrainConfig config, GptConfig model, Backend backend) {
    return fitting(config, model, backend, 1);
  }

  /** As {@link #fitting(TrainConfig, GptConfig, Backend)} for each of several processes. */
  static MemoryPlan fitting(TrainConfig config, GptConfig model, Backend backend, int processes) {
    return fitting(config, model, backend, backend.availableMemory(), processes);
  }

  static MemoryPlan fitting(TrainConfig config, GptConfig model, Backend backend, long available) {
    return fitting(config, model, backend, available, 1);
  }

  private static MemoryPlan fitting(
      TrainConfig config, GptConfig model, Backend backend, long available, int processes) {
    MemoryPlan plan = of(config, model, backend).dealtTo(config, processes);
    if (plan.total() <= available) {
      return plan;
    }
    Optional<Fit> fit = search(config, model, backend, available);
    if (fit.isPresent() && of(fit.get().config, model, backend).total() <= available) {
      throw new InputException(
          String.format(
              Locale.ROOT,
              "This run needs %s, but only %s are free; with --memory %s it takes %s, and about"
                  + " %.0f %% longer.",
              plan,
              gib(available),
              option(available),
              gib(of(fit.get().config, model, backend).total()),
              100 * fit.get().slowdown));
    }
    throw new InputException(
        String.format(
            Locale.ROOT,
            "This run needs %s, and %s at least, however it is cut, but only %s are free; %s.",
            plan,
            gib(least(config, model, backend).total()),
            gib(available),
            wouldFit(config, model, backend, available)));
  }

  /** The least that a run can take: the fewest rows of the head, all blocks computed again. */
  private static MemoryPlan least(TrainConfig config, GptConfig model, Backend backend) {
    MemoryPlan least = null;
    for (TrainConfig cut : cuts(config)) {
      TrainConfig tight =
          cut.withHeadRows(headRows(cut, model, backend).getLast())
              .withRecomputedBlocks(model.layers());
      MemoryPlan plan = of(tight, model, backend);
      least = least == null || plan.total() < least.total() ? plan : least;
    }
    return least;
  }

  /** The nearest runs that would fit, for people. */
  private static String wouldFit(
      TrainConfig config, GptConfig model, Backend backend, long available) {
    List<String> ways = new ArrayList<>();
    TrainConfig one = config.withBatch(1, 1);
    if (config.batch() > 1 && least(one, model, backend).total() <= available) {
      ways.add("--batch 1");
    }
    for (int context = config.context() / 2; context >= SHORTEST_CONTEXT; context /= 2) {
      if (least(withContext(config, context), model, backend).total() <= available) {
        ways.add("--context " + context);
        break;
      }
    }
    String name = null;
    for (String preset : GptPresets.names()) {
      GptConfig smaller = GptPresets.of(preset).withVocabSize(model.vocabSize());
      TrainConfig run = withContext(config, Math.min(config.context(), smaller.contextLength()));
      if (size(smaller) < size(model) && least(run, smaller, backend).total() <= available) {
        name = preset;
      }
    }
    if (name != null) {
      ways.add("--model " + name);
    }
    return ways.isEmpty()
        ? "not even a smaller model of the same vocabulary would fit"
        : String.format(
            Locale.ROOT,
            "what would fit, with --memory %s: %s",
            option(available),
            String.join(", or ", ways));
  }

  private static TrainConfig withContext(TrainConfig config, int context) {
    return config.toBuilder().context(context).build();
  }

  private static double size(GptConfig model) {
    return (double) model.layers() * model.channels() * model.channels();
  }

  /** Bytes as --memory takes them, rounded down. */
  private static String option(long bytes) {
    return bytes >= 10L << 30 ? bytes / (1L << 30) + "G" : bytes / (1L << 20) + "M";
  }

  /** One line for people. */
  @Override
  public String toString() {
    return String.format(
        Locale.ROOT,
        "%s: %s parameters, %s gradients, %s optimiser, %s activations, %s working memory",
        gib(total()),
        gib(parameters),
        gib(gradients),
        gib(moments),
        gib(activations),
        gib(working));
  }

  /**
   * The same training in less memory.
   *
   * @param config the run, with smaller batches and more of them for an update, with blocks that
   *     are computed again, or with fewer rows of the head at a time
   * @param plan what it takes
   * @param slowdown what it costs in time, as a share of a step; an estimate
   */
  public record Fit(TrainConfig config, MemoryPlan plan, double slowdown) {}

  /**
   * The same training under a limit, in the way that costs least time: batches are cut into passes
   * whose gradients are summed before the update, activations of blocks are computed again in
   * backward, the head holds logits of fewer tokens at a time, or several of these. What is chosen
   * depends on the arguments and the device's kind, not on the number of threads.
   *
   * @param config a run
   * @param model its model
   * @param backend its device
   * @param limit bytes that may be used
   * @return the run that fits; the same if it does already
   * @throws InputException if nothing stays under the limit, or so many threads do not
   */
  public static Fit fit(TrainConfig config, GptConfig model, Backend backend, long limit) {
    Fit best =
        search(config, model, backend, limit)
            .orElseThrow(
                () ->
                    new InputException(
                        String.format(
                            Locale.ROOT,
                            "Even one sequence at a time with all blocks computed again needs %s,"
                                + " which is more than --memory allows (%s); %s.",
                            least(config, model, backend),
                            gib(limit),
                            wouldFit(config, model, backend, limit))));
    MemoryPlan plan = of(best.config, model, backend);
    if (plan.total() > limit) {
      throw new InputException(
          String.format(
              Locale.ROOT,
              "With the working memory of %d threads this model needs %s, which is more than"
                  + " --memory allows (%s); give %s, or at most %d --threads.",
              Workers.threads(),
              plan,
              gib(limit),
              gib(plan.total()),
              THREADS));
    }
    return new Fit(best.config, plan, best.slowdown);
  }

  /** The run that costs least of those under a limit; none if there is none. */
  private static Optional<Fit> search(
      TrainConfig config, GptConfig model, Backend backend, long limit) {
    Fit best = null;
    for (TrainConfig cut : cuts(config)) {
      for (int rows : headRows(cut, model, backend)) {
        Fit fit = fitBlocks(config, cut.withHeadRows(rows), model, backend, limit);
        if (fit.plan.total() <= limit && (best == null || fit.slowdown < best.slowdown)) {
          best = fit;
        }
      }
    }
    return Optional.ofNullable(best);
  }

  /** A run's batches in one pass, and in more of fewer sequences. */
  private static List<TrainConfig> cuts(TrainConfig config) {
    List<TrainConfig> cuts = new ArrayList<>();
    for (int batch = config.batch(); batch > 0; batch--) {
      if (config.batch() % batch == 0) {
        cuts.add(config.withBatch(batch, config.accumulate() * (config.batch() / batch)));
      }
    }
    return cuts;
  }

  /**
   * The same training under a limit with the same results to the bit: batches and sums stay as they
   * are, and as few blocks are computed again as the limit allows.
   *
   * @param config a run
   * @param model its model
   * @param backend its device
   * @param limit bytes that may be used
   * @return the run that fits; nothing if that takes other batches or sums
   */
  public static Optional<Fit> fitBlocks(
      TrainConfig config, GptConfig model, Backend backend, long limit) {
    Fit fit = fitBlocks(config.withRecomputedBlocks(0), config, model, backend, limit);
    MemoryPlan plan = of(fit.config, model, backend);
    // A device that keeps activations has a kernel of its own for them, which rounds otherwise.
    boolean same =
        !backend.keepsActivations()
            || (fit.config.recomputedBlocks() > 0) == (config.recomputedBlocks() > 0);
    return plan.total() <= limit && same
        ? Optional.of(new Fit(fit.config, plan, fit.slowdown))
        : Optional.empty();
  }

  /** Numbers of rows of the head to choose among: what is fastest, and halves of it. */
  private static List<Integer> headRows(TrainConfig config, GptConfig model, Backend backend) {
    List<Integer> choices = new ArrayList<>(List.of(config.headRows()));
    for (int rows = chunkRows(config, model, backend) / 2;
        rows >= FEWEST_HEAD_ROWS && 4L * rows * model.vocabSize() >= 1 << 20;
        rows /= 2) {
      choices.add(rows);
    }
    return choices;
  }

  private static int chunkRows(TrainConfig config, GptConfig model, Backend backend) {
    return backend.headRows(
        config.batch() * config.context(), model.vocabSize(), config.headRows());
  }

  /** As few blocks computed again as a limit allows, or all of them. */
  private static Fit fitBlocks(
      TrainConfig whole, TrainConfig config, GptConfig model, Backend backend, long limit) {
    // From the first block on, each further one saves and costs as much as the one before.
    int low = 0;
    int high = model.layers();
    TrainConfig fitting = config.withRecomputedBlocks(low);
    MemoryPlan plan = forAnyThreads(fitting, model, backend);
    if (plan.total() > limit) {
      fitting = config.withRecomputedBlocks(high);
      plan = forAnyThreads(fitting, model, backend);
      while (plan.total() <= limit && high - low > 1) {
        int middle = (low + high) / 2;
        TrainConfig tried = config.withRecomputedBlocks(middle);
        MemoryPlan triedPlan = forAnyThreads(tried, model, backend);
        if (triedPlan.total() <= limit) {
          high = middle;
          fitting = tried;
          plan = triedPlan;
        } else {
          low = middle;
        }
      }
    }
    return new Fit(fitting, plan, slowdown(whole, fitting, model, backend));
  }

  /**
   * Share of a step that a run takes longer than another: the operations of a recomputed block's
   * forward pass without its last layer, and for each further pass, or part of the head, a read of
   * the weights forwards and backwards and a sum of gradients.
   */
  private static double slowdown(
      TrainConfig whole, TrainConfig cut, GptConfig model, Backend backend) {
    double channels = model.channels();
    double square = channels * channels;
    double head = channels * model.vocabSize();
    double attention = 2 * channels * (whole.context() + 1);
    double block = 24 * square + attention;
    double tokens = whole.tokensPerStep();
    double blocks = 12 * model.layers() * square;
    double parameters = blocks + head;
    // The optimiser reads gradients, weights and moments, and writes what it changes.
    double step =
        3 * tokens * (model.layers() * block + 2 * head) + 40 * parameters * OPERATIONS_PER_BYTE;
    double again = tokens * cut.recomputedBlocks() * (block - 8 * square);
    double further =
        (cut.accumulate() - whole.accumulate()) * blocks
            + (headParts(cut, model, backend) - headParts(whole, model, backend)) * head;
    return (again + 16 * further * OPERATIONS_PER_BYTE) / step;
  }

  /** In how many parts the head's work of a step is done. */
  private static double headParts(TrainConfig config, GptConfig model, Backend backend) {
    long rows = (long) config.batch() * config.context();
    long chunk = chunkRows(config, model, backend);
    return config.accumulate() * (double) ((rows + chunk - 1) / chunk);
  }

  private static String gib(long bytes) {
    return bytes < 1L << 30
        ? String.format(Locale.ROOT, "%.0f MiB", bytes / (double) (1 << 20))
        : String.format(Locale.ROOT, "%.2f GiB", bytes / (double) (1 << 30));
  }
}
