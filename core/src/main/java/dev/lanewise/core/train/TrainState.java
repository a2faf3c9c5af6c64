package dev.lanewise.core.train;

import dev.lanewise.core.base.JsonFields;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * Where a run stands, apart from parameters and moments.
 *
 * @param step steps so far
 * @param optimizerSteps updates that were made, which leaves out skipped steps
 * @param batchPosition number of the next batch
 * @param skipped steps without an update
 * @param seconds time spent in training
 * @param bestValidation smallest validation loss, infinite before the first
 */
record TrainState(
    long step,
    long optimizerSteps,
    long batchPosition,
    long skipped,
    double seconds,
    double bestValidation) {

  Map<String, Object> toMap() {
    Map<String, Object> map = new LinkedHashMap<>();
    map.put("step", step);
    map.put("optimizerSteps", optimizerSteps);
    map.put("batchPosition", batchPosition);
    map.put("skipped", skipped);
    map.put("seconds", seconds);
    if (Double.isFinite(bestValidation)) {
      map.put("bestValidation", bestValidation);
    }
    return map;
  }

  static TrainState fromFields(JsonFields fields) {
    return new TrainState(
        fields.integer("step"),
        fields.integer("optimizerSteps"),
        fields.integer("batchPosition"),
        fields.integer("skipped"),
        fields.number("seconds"),
        fields.has("bestValidation") ? fields.number("bestValidation") : Double.POSITIVE_INFINITY);
  }
}
