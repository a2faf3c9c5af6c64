package dev.lanewise.core.train;

import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.JsonFields;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;

/**
 * Where a run stands, apart from parameters, moments and random numbers.
 *
 * @param step steps so far
 * @param optimizerSteps updates that were made, which leaves out skipped steps
 * @param batchPosition number of the next batch
 * @param batch sequences of a batch; 0 if that is not known
 * @param skipped steps without an update
 * @param skippedInARow those since the last update
 * @param seconds time spent in training
 * @param bestValidation smallest validation loss, infinite before the first
 * @param validatedAt step of the last validation, -1 before the first
 * @param sinceBest validations since the one of the smallest loss
 * @param finished whether the validation after the last step is over
 */
public record TrainState(
    long step,
    long optimizerSteps,
    long batchPosition,
    int batch,
    long skipped,
    long skippedInARow,
    double seconds,
    double bestValidation,
    long validatedAt,
    int sinceBest,
    boolean finished) {

  /** Names and values, for JSON. */
  Map<String, Object> toMap() {
    Map<String, Object> map = new LinkedHashMap<>();
    map.put("step", step);
    map.put("optimizerSteps", optimizerSteps);
    map.put("batchPosition", batchPosition);
    map.put("batch", batch);
    map.put("skipped", skipped);
    map.put("skippedInARow", skippedInARow);
    map.put("seconds", seconds);
    if (Double.isFinite(bestValidation)) {
      map.put("bestValidation", bestValidation);
    }
    map.put("validatedAt", validatedAt);
    map.put("sinceBest", sinceBest);
    map.put("finished", finished);
    return map;
  }

  /**
   * What {@link #toMap} wrote.
   *
   * @throws InputException if no run can stand there
   */
  static TrainState fromFields(JsonFields fields) {
    long step = fields.integer("step");
    TrainState state =
        new TrainState(
            step,
            fields.integer("optimizerSteps"),
            fields.integer("batchPosition"),
            fields.has("batch") ? fields.int32("batch") : 0,
            fields.integer("skipped"),
            fields.has("skippedInARow") ? fields.integer("skippedInARow") : 0,
            fields.number("seconds"),
            fields.has("bestValidation")
                ? fields.number("bestValidation")
                : Double.POSITIVE_INFINITY,
            fields.has("validatedAt") ? fields.integer("validatedAt") : step,
            fields.has("sinceBest") ? fields.int32("sinceBest") : 0,
            fields.has("finished") && fields.flag("finished"));
    boolean sound =
        step >= 0
            && state.skipped >= 0
            && state.optimizerSteps >= 0
            && state.optimizerSteps == step - state.skipped
            && state.skippedInARow >= 0
            && state.skippedInARow <= state.skipped
            && state.batchPosition >= 0
            && state.batch >= 0
            && state.seconds >= 0
            && Double.isFinite(state.seconds)
            && state.bestValidation >= 0
            && state.validatedAt >= -1
            && state.validatedAt <= step
            && state.sinceBest >= 0;
    if (!sound) {
      throw new InputException(
          String.format(
              Locale.ROOT, "%s: no run can stand where it says, %s.", fields.source(), state));
    }
    return state;
  }

  /** Whether these are batches and passes of this run, whose steps read the same sequences. */
  boolean fits(TrainConfig config) {
    if (config.overfit()) {
      return batchPosition <= Integer.MAX_VALUE;
    }
    // A limit on memory may have changed how a step's sequences are cut into batches.
    long sequences = (long) config.batch() * config.accumulate();
    if (step == 0 || batchPosition == 0 || sequences > Long.MAX_VALUE / step) {
      return step == 0 && batchPosition == 0;
    }
    long read = step * sequences;
    return batch == 0
        ? read % batchPosition == 0
        : read / batch == batchPosition && read % batch == 0;
  }
}
