package dev.lanewise.core.train;

import dev.lanewise.core.base.JsonFields;
import dev.lanewise.core.base.UsageException;
import java.util.LinkedHashMap;
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
    boolean evalAll) {
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

  /** The same run with another number of steps. */
  public TrainConfig withSteps(long count) {
    return with(count, batch, accumulate, recomputedBlocks, headRows);
  }

  /** The same run with other batches and another number of them for an update. */
  public TrainConfig withBatch(int sequences, int passes) {
    return with(steps, sequences, passes, recomputedBlocks, headRows);
  }

  /** The same run with another number of blocks that are computed again. */
  public TrainConfig withRecomputedBlocks(int blocks) {
    return with(steps, batch, accumulate, blocks, headRows);
  }

  /** The same run with another number of rows of logits that are held at a time. */
  public TrainConfig withHeadRows(int rows) {
    return with(steps, batch, accumulate, recomputedBlocks, rows);
  }

  private TrainConfig with(long count, int sequences, int passes, int blocks, int logitRows) {
    return new TrainConfig(
        count,
        sequences,
        context,
        passes,
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
        blocks,
        logitRows,
        evalAll);
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
    return map;
  }

  /**
   * What {@link #toMap} wrote.
   *
   * @param map names and values
   * @param name where they come from, for the error message
   */
  public static TrainConfig fromMap(Map<String, Object> map, String name) {
    JsonFields fields = new JsonFields(map, name);
    return new TrainConfig(
        fields.integer("steps"),
        fields.int32("batch"),
        fields.int32("context"),
        fields.int32("accumulate"),
        LrSchedule.Kind.of(fields.text("schedule")),
        fields.number("learningRate"),
        fields.number("minLearningRate"),
        fields.integer("warmup"),
        fields.number("weightDecay"),
        fields.number("beta1"),
        fields.number("beta2"),
        fields.number("clip"),
        fields.integer("seed"),
        fields.integer("evalEvery"),
        fields.int32("evalBatches"),
        fields.integer("checkpointEvery"),
        fields.int32("keepCheckpoints"),
        fields.flag("epochs"),
        fields.flag("overfit"),
        fields.int32("maxSkipped"),
        fields.has("recomputedBlocks") ? fields.int32("recomputedBlocks") : 0,
        fields.has("headRows") ? fields.int32("headRows") : 0,
        fields.has("evalAll") && fields.flag("evalAll"));
  }
}
