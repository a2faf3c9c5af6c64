package dev.lanewise.core.train;

import dev.lanewise.core.backend.Precision;
import dev.lanewise.core.base.JsonFields;
import dev.lanewise.core.base.UsageException;
import dev.lanewise.core.model.LoraConfig;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/**
 * Everything about a training run but the model and the data.
 *
 * @param steps updates of the parameters
 * @param batch sequences of a forward pass
 * @param context tokens of a sequence
 * @param accumulate forward passes whose gradients make one update
 * @param schedule shape of the learning rate
 * @param learningRate its peak
 * @param minLearningRate its end
 * @param warmup steps until the peak
 * @param weightDecay decay of parameters with two axes
 * @param beta1 decay rate of AdamW's first moment
 * @param beta2 decay rate of AdamW's second moment
 * @param clip largest gradient norm; 0 for none
 * @param seed seed of initialisation, dropout and batches
 * @param evalEvery steps between validations; 0 for only at the end
 * @param evalBatches batches of a validation on the way
 * @param checkpointEvery steps between checkpoints; 0 for only at the end
 * @param keepCheckpoints newest checkpoints that are kept
 * @param epochs whether batches visit the data in shuffled epochs, instead of windows at random
 * @param overfit whether every step uses the first batch again: a model that can learn must then
 *     reach a loss near zero
 * @param maxSkipped skipped steps in a row, for losses or gradients that are not finite, after
 *     which training gives up
 * @param recomputedBlocks blocks of the model whose activations are computed again in backward
 *     instead of being kept; this changes no result
 * @param headRows most rows of logits that are held at a time; 0 for what is fastest. It decides in
 *     which order the head's gradient is summed, so another number gives other last digits
 * @param evalAll whether the last validation uses all validation tokens, instead of so many that it
 *     takes at most about a tenth of the time of training
 * @param memoryPasses passes into which each batch that was asked for is cut to save memory; 1 if
 *     batch and accumulate are as asked
 * @param pretrained whether the parameters were trained before this run, so that its first loss is
 *     not that of a model that knows nothing
 * @param prompt how samples begin; null for what suits the data
 * @param device device that was asked for: auto, cpu or cuda
 * @param precision what products are computed in: auto, or the name of a {@link Precision}
 * @param threads threads that were asked for; 0 for all cores
 * @param lora corrections of low rank that are trained instead of the parameters; null for none
 * @param freeze patterns of names of parameters that stay as they are, {@code *} for any part
 * @param keepBest whether the checkpoint of the smallest validation loss is kept beside the newest
 * @param patience validations without a smaller loss after which training ends; 0 for never
 * @param isolateDocuments whether documents that share a row know nothing of each other: attention
 *     does not look across their ends, and positions count from the start of each
 * @param gradientSum in which order gradients of a step's passes are summed
 */
public record TrainConfig(
    long steps,
    int batch,
    int context,
    int accumulate,
    LrSchedule.Kind schedule,
    double learningRate,
    double minLearningRate,
    long warmup,
    double weightDecay,
    double beta1,
    double beta2,
    double clip,
    long seed,
    long evalEvery,
    int evalBatches,
    long checkpointEvery,
    int keepCheckpoints,
    boolean epochs,
    boolean overfit,
    int maxSkipped,
    int recomputedBlocks,
    int headRows,
    boolean evalAll,
    int memoryPasses,
    boolean pretrained,
    String prompt,
    String device,
    String precision,
    int threads,
    LoraConfig lora,
    List<String> freeze,
    boolean keepBest,
    int patience,
    boolean isolateDocuments,
    GradientSumOrder gradientSum) {
  /** In which order the gradients of a step's passes are summed. It decides last digits. */
  public enum GradientSumOrder {
    /** In pairs, pairs of pairs and so on: the same for any number of processes. */
    TREE,
    /** Each added to those before, in the least memory, by one process alone. */
    PLAIN;

    /**
     * The order of a name.
     *
     * @throws UsageException if there is none of this name
     */
    public static GradientSumOrder of(String name) {
      for (GradientSumOrder order : values()) {
        if (order.toString().equals(name)) {
          return order;
        }
      }
      throw new UsageException(
          "Gradients of passes are summed in a tree or plain, not '"
              + name
              + "'; choose --gradient-sum tree or plain.");
    }

    /** The name on the command line and in files. */
    @Override
    public String toString() {
      return name().toLowerCase(Locale.ROOT);
    }
  }

  /** Checks the numbers. */
  public TrainConfig {
    positive("steps", steps);
    positive("batch", batch);
    positive("context", context);
    positive("accumulate", accumulate);
    positive("eval-batches", evalBatches);
    positive("keep-checkpoints", keepCheckpoints);
    positive("max-skipped", maxSkipped);
    notNegative("warmup", warmup);
    notNegative("weight-decay", weightDecay);
    notNegative("clip", clip);
    notNegative("eval-every", evalEvery);
    notNegative("checkpoint-every", checkpointEvery);
    notNegative("recomputed blocks", recomputedBlocks);
    notNegative("rows of the head", headRows);
    positive("passes of a batch", memoryPasses);
    notNegative("threads", threads);
    notNegative("patience", patience);
    freeze = List.copyOf(freeze);
    if (!(beta1 >= 0 && beta1 < 1 && beta2 >= 0 && beta2 < 1)) {
      throw new UsageException(
          "AdamW's decay rates lie in [0, 1), not " + beta1 + " and " + beta2 + ".");
    }
  }

  private static void positive(String name, long value) {
    if (value < 1) {
      throw new UsageException("--" + name + " must be at least 1, not " + value + ".");
    }
  }

  private static void notNegative(String name, double value) {
    if (!(value >= 0)) {
      throw new UsageException("--" + name + " cannot be " + value + ".");
    }
  }

  /** The learning rate's schedule. */
  public LrSchedule lrSchedule() {
    return new LrSchedule(schedule, learningRate, minLearningRate, warmup, steps);
  }

  /** Tokens of one update. */
  public long tokensPerStep() {
    return (long) batch * context * accumulate;
  }

  /**
   * Batches of a validation on the way. Where {@link #memoryPasses} cut batches there are more of
   * them, so that the same tokens are looked at.
   */
  public int validationBatches() {
    return (int) Math.min(Integer.MAX_VALUE, (long) evalBatches * memoryPasses);
  }

  /** The same run with another number of steps. */
  public TrainConfig withSteps(long count) {
    return toBuilder().steps(count).build();
  }

  /** The same run with other batches and another number of them for an update. */
  public TrainConfig withBatch(int sequences, int passes) {
    return toBuilder().batch(sequences).accumulate(passes).build();
  }

  /** The same run with another number of blocks that are computed again. */
  public TrainConfig withRecomputedBlocks(int blocks) {
    return toBuilder().recomputedBlocks(blocks).build();
  }

  /** The same run with another number of rows of logits that are held at a time. */
  public TrainConfig withHeadRows(int rows) {
    return toBuilder().headRows(rows).build();
  }

  /** Names and values, for JSON. */
  public Map<String, Object> toMap() {
    Map<String, Object> map = new LinkedHashMap<>();
    map.put("steps", steps);
    map.put("batch", batch);
    map.put("context", context);
    map.put("accumulate", accumulate);
    map.put("schedule", schedule.toString());
    map.put("learningRate", learningRate);
    map.put("minLearningRate", minLearningRate);
    map.put("warmup", warmup);
    map.put("weightDecay", weightDecay);
    map.put("beta1", beta1);
    map.put("beta2", beta2);
    map.put("clip", clip);
    map.put("seed", seed);
    map.put("evalEvery", evalEvery);
    map.put("evalBatches", evalBatches);
    map.put("checkpointEvery", checkpointEvery);
    map.put("keepCheckpoints", keepCheckpoints);
    map.put("epochs", epochs);
    map.put("overfit", overfit);
    map.put("maxSkipped", maxSkipped);
    map.put("recomputedBlocks", recomputedBlocks);
    map.put("headRows", headRows);
    map.put("evalAll", evalAll);
    map.put("memoryPasses", memoryPasses);
    map.put("pretrained", pretrained);
    if (prompt != null) {
      map.put("prompt", prompt);
    }
    map.put("device", device);
    map.put("precision", precision);
    map.put("threads", threads);
    if (lora != null) {
      map.put("lora", lora.toMap());
    }
    map.put("freeze", freeze);
    map.put("keepBest", keepBest);
    map.put("patience", patience);
    map.put("isolateDocuments", isolateDocuments);
    map.put("gradientSum", gradientSum.toString());
    return map;
  }

  /**
   * What {@link #toMap} wrote. Members that an older version did not write have the values that its
   * runs had; those that are not known are left out.
   *
   * @param map names and values
   * @param name where they come from, for the error message
   */
  public static TrainConfig fromMap(Map<String, Object> map, String name) {
    JsonFields fields = new JsonFields(map, name);
    Builder builder = new Builder();
    builder.steps(fields.integer("steps"));
    builder.batch(fields.int32("batch"));
    builder.context(fields.int32("context"));
    builder.accumulate(fields.int32("accumulate"));
    builder.schedule(LrSchedule.Kind.of(fields.text("schedule")));
    builder.learningRate(fields.number("learningRate"));
    builder.minLearningRate(fields.number("minLearningRate"));
    builder.warmup(fields.integer("warmup"));
    builder.weightDecay(fields.number("weightDecay"));
    builder.beta1(fields.number("beta1"));
    builder.beta2(fields.number("beta2"));
    builder.clip(fields.number("clip"));
    builder.seed(fields.integer("seed"));
    builder.evalEvery(fields.integer("evalEvery"));
    builder.evalBatches(fields.int32("evalBatches"));
    builder.checkpointEvery(fields.integer("checkpointEvery"));
    builder.keepCheckpoints(fields.int32("keepCheckpoints"));
    builder.epochs(fields.flag("epochs"));
    builder.overfit(fields.flag("overfit"));
    builder.maxSkipped(fields.int32("maxSkipped"));
    if (fields.has("recomputedBlocks")) {
      builder.recomputedBlocks(fields.int32("recomputedBlocks"));
    }
    if (fields.has("headRows")) {
      builder.headRows(fields.int32("headRows"));
    }
    if (fields.has("evalAll")) {
      builder.evalAll(fields.flag("evalAll"));
    }
    if (fields.has("memoryPasses")) {
      builder.memoryPasses(fields.int32("memoryPasses"));
    }
    if (fields.has("pretrained")) {
      builder.pretrained(fields.flag("pretrained"));
    }
    if (fields.has("prompt")) {
      builder.prompt(fields.text("prompt"));
    }
    if (fields.has("device")) {
      builder.device(fields.text("device"));
    }
    if (fields.has("precision")) {
      builder.precision(fields.text("precision"));
    }
    if (fields.has("threads")) {
      builder.threads(fields.int32("threads"));
    }
    if (fields.has("lora")) {
      builder.lora(LoraConfig.fromFields(fields.object("lora")));
    }
    if (fields.members().get("freeze") instanceof List<?> list) {
      builder.freeze(list.stream().map(String::valueOf).toList());
    }
    if (fields.has("keepBest")) {
      builder.keepBest(fields.flag("keepBest"));
    }
    if (fields.has("patience")) {
      builder.patience(fields.int32("patience"));
    }
    if (fields.has("isolateDocuments")) {
      builder.isolateDocuments(fields.flag("isolateDocuments"));
    }
    if (fields.has("gradientSum")) {
      builder.gradientSum(GradientSumOrder.of(fields.text("gradientSum")));
    }
    return builder.build();
  }

  /** A run with the default job's values, of which those that differ are set. */
  public static Builder builder() {
    return new Builder();
  }

  /** This run, of which what differs is set. */
  public Builder toBuilder() {
    Builder builder = new Builder();
    builder.steps = steps;
    builder.batch = batch;
    builder.context = context;
    builder.accumulate = accumulate;
    builder.schedule = schedule;
    builder.learningRate = learningRate;
    builder.minLearningRate = minLearningRate;
    builder.warmup = warmup;
    builder.weightDecay = weightDecay;
    builder.beta1 = beta1;
    builder.beta2 = beta2;
    builder.clip = clip;
    builder.seed = seed;
    builder.evalEvery = evalEvery;
    builder.evalBatches = evalBatches;
    builder.checkpointEvery = checkpointEvery;
    builder.keepCheckpoints = keepCheckpoints;
    builder.epochs = epochs;
    builder.overfit = overfit;
    builder.maxSkipped = maxSkipped;
    builder.recomputedBlocks = recomputedBlocks;
    builder.headRows = headRows;
    builder.evalAll = evalAll;
    builder.memoryPasses = memoryPasses;
    builder.pretrained = pretrained;
    builder.prompt = prompt;
    builder.device = device;
    builder.precision = precision;
    builder.threads = threads;
    builder.lora = lora;
    builder.freeze = freeze;
    builder.keepBest = keepBest;
    builder.patience = patience;
    builder.isolateDocuments = isolateDocuments;
    builder.gradientSum = gradientSum;
    return builder;
  }

  /** Sets the values of a run by name. */
  public static final class Builder {
    private long steps = 800;
    private int batch = 12;
    private int context = 128;
    private int accumulate = 1;
    private LrSchedule.Kind schedule = LrSchedule.Kind.COSINE;
    private double learningRate = 1e-3;
    private double minLearningRate = 1e-4;
    private long warmup = 50;
    private double weightDecay = 0.1;
    private double beta1 = 0.9;
    private double beta2 = 0.99;
    private double clip = 1;
    private long seed = 1337;
    private long evalEvery = 100;
    private int evalBatches = 20;
    private long checkpointEvery = 100;
    private int keepCheckpoints = 2;
    private boolean epochs;
    private boolean overfit;
    private int maxSkipped = 10;
    private int recomputedBlocks;
    private int headRows;
    private boolean evalAll;
    private int memoryPasses = 1;
    private boolean pretrained;
    private String prompt;
    private String device = "auto";
    private String precision = Precision.AUTO;
    private int threads;
    private LoraConfig lora;
    private List<String> freeze = List.of();
    private boolean keepBest;
    private int patience;
    private boolean isolateDocuments;

    // What runs had that were begun before there was a choice.
    private GradientSumOrder gradientSum = GradientSumOrder.PLAIN;

    private Builder() {}

    /** Updates of the parameters. */
    public Builder steps(long value) {
      steps = value;
      return this;
    }

    /** Sequences of a forward pass. */
    public Builder batch(int value) {
      batch = value;
      return this;
    }

    /** Tokens of a sequence. */
    public Builder context(int value) {
      context = value;
      return this;
    }

    /** Forward passes for one update. */
    public Builder accumulate(int value) {
      accumulate = value;
      return this;
    }

    /** Shape of the learning rate. */
    public Builder schedule(LrSchedule.Kind value) {
      schedule = value;
      return this;
    }

    /** Its peak. */
    public Builder learningRate(double value) {
      learningRate = value;
      return this;
    }

    /** Its end. */
    public Builder minLearningRate(double value) {
      minLearningRate = value;
      return this;
    }

    /** Steps until the peak. */
    public Builder warmup(long value) {
      warmup = value;
      return this;
    }

    /** Decay of parameters with two axes. */
    public Builder weightDecay(double value) {
      weightDecay = value;
      return this;
    }

    /** Decay rate of AdamW's first moment. */
    public Builder beta1(double value) {
      beta1 = value;
      return this;
    }

    /** Decay rate of AdamW's second moment. */
    public Builder beta2(double value) {
      beta2 = value;
      return this;
    }

    /** Largest gradient norm; 0 for none. */
    public Builder clip(double value) {
      clip = value;
      return this;
    }

    /** Seed of initialisation, dropout and batches. */
    public Builder seed(long value) {
      seed = value;
      return this;
    }

    /** Steps between validations; 0 for only at the end. */
    public Builder evalEvery(long value) {
      evalEvery = value;
      return this;
    }

    /** Batches of a validation on the way. */
    public Builder evalBatches(int value) {
      evalBatches = value;
      return this;
    }

    /** Steps between checkpoints; 0 for only at the end. */
    public Builder checkpointEvery(long value) {
      checkpointEvery = value;
      return this;
    }

    /** Newest checkpoints that are kept. */
    public Builder keepCheckpoints(int value) {
      keepCheckpoints = value;
      return this;
    }

    /** Whether batches visit the data in shuffled epochs. */
    public Builder epochs(boolean value) {
      epochs = value;
      return this;
    }

    /** Whether every step uses the first batch again. */
    public Builder overfit(boolean value) {
      overfit = value;
      return this;
    }

    /** Skipped steps in a row after which training gives up. */
    public Builder maxSkipped(int value) {
      maxSkipped = value;
      return this;
    }

    /** Blocks whose activations are computed again in backward. */
    public Builder recomputedBlocks(int value) {
      recomputedBlocks = value;
      return this;
    }

    /** Most rows of logits held at a time; 0 for what is fastest. */
    public Builder headRows(int value) {
      headRows = value;
      return this;
    }

    /** Whether the last validation uses all validation tokens. */
    public Builder evalAll(boolean value) {
      evalAll = value;
      return this;
    }

    /** Passes into which each batch asked for is cut. */
    public Builder memoryPasses(int value) {
      memoryPasses = value;
      return this;
    }

    /** Whether the parameters were trained before. */
    public Builder pretrained(boolean value) {
      pretrained = value;
      return this;
    }

    /** How samples begin; null for what suits the data. */
    public Builder prompt(String value) {
      prompt = value;
      return this;
    }

    /** Device asked for. */
    public Builder device(String value) {
      device = value;
      return this;
    }

    /** What a GPU is asked to compute in. */
    public Builder precision(String value) {
      precision = value;
      return this;
    }

    /** Threads asked for; 0 for all cores. */
    public Builder threads(int value) {
      threads = value;
      return this;
    }

    /** Sets the corrections of low rank that are trained instead of the parameters. */
    public Builder lora(LoraConfig value) {
      lora = value;
      return this;
    }

    /** Sets patterns of names of parameters that stay as they are. */
    public Builder freeze(List<String> value) {
      freeze = value;
      return this;
    }

    /** Sets whether the checkpoint of the smallest validation loss is kept. */
    public Builder keepBest(boolean value) {
      keepBest = value;
      return this;
    }

    /** Sets after how many validations without a smaller loss training ends; 0 for never. */
    public Builder patience(int value) {
      patience = value;
      return this;
    }

    /** Whether documents that share a row know nothing of each other; unless set, they do. */
    public Builder isolateDocuments(boolean value) {
      isolateDocuments = value;
      return this;
    }

    /** Sets in which order gradients of passes are summed. */
    public Builder gradientSum(GradientSumOrder value) {
      gradientSum = value;
      return this;
    }

    /**
     * The run.
     *
     * @throws UsageException if a value makes no sense
     */
    public TrainConfig build() {
      return new TrainConfig(
          steps,
          batch,
          context,
          accumulate,
          schedule,
          learningRate,
          minLearningRate,
          warmup,
          weightDecay,
          beta1,
          beta2,
          clip,
          seed,
          evalEvery,
          evalBatches,
          checkpointEvery,
          keepCheckpoints,
          epochs,
          overfit,
          maxSkipped,
          recomputedBlocks,
          headRows,
          evalAll,
          memoryPasses,
          pretrained,
          prompt,
          device,
          precision,
          threads,
          lora,
          freeze,
          keepBest,
          patience,
          isolateDocuments,
          gradientSum);
    }
  }
}
