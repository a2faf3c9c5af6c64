package dev.lanewise.core.train;

import dev.lanewise.core.data.TokenBatches;
import dev.lanewise.core.model.Gpt;
import dev.lanewise.core.tensor.Shape;
import dev.lanewise.core.tensor.Tape;
import dev.lanewise.core.tensor.Tensor;
import java.lang.foreign.ValueLayout;

/** How well a model predicts tokens. */
public final class Evaluation {
  private Evaluation() {}

  /** Hears how far an evaluation is, and may end it. */
  @FunctionalInterface
  public interface Progress {
    /** Goes on to the end. */
    Progress SILENT = (done, count) -> true;

    /**
     * Some batches are done.
     *
     * @param done number of them
     * @param count number of all
     * @return whether to go on
     */
    boolean goOn(long done, long count);
  }

  /**
   * Mean cross-entropy over batches, each target that counts counted once.
   *
   * @param model a model, which is in its own mode again afterwards
   * @param batches the batches, from where they stand
   * @param ids integers of a batch's shape, overwritten
   * @param targets likewise
   * @return the loss in nats; its exponential is the perplexity; NaN if no target counts
   */
  public static double meanLoss(Gpt model, TokenBatches batches, Tensor ids, Tensor targets) {
    return meanLoss(model, batches, ids, targets, null, Progress.SILENT);
  }

  /**
   * As {@link #meanLoss(Gpt, TokenBatches, Tensor, Tensor)}, for long evaluations.
   *
   * @param model a model, which is in its own mode again afterwards
   * @param batches the batches, from where they stand
   * @param ids integers of a batch's shape, overwritten
   * @param targets likewise
   * @param positions likewise; null unless the batches' documents are isolated
   * @param progress hears of each batch
   * @return the loss in nats; NaN if it was ended before its last batch
   */
  public static double meanLoss(
      Gpt model,
      TokenBatches batches,
      Tensor ids,
      Tensor targets,
      Tensor positions,
      Progress progress) {
    return model.evaluate(
        () -> {
          double sum = 0;
          long tokens = 0;
          while (batches.hasNext()) {
            if (!progress.goOn(batches.position(), batches.count())) {
              return Double.NaN;
            }
            batches.next();
            if (batches.tokens() == 0) {
              continue;
            }
            sum += loss(model, batches, ids, targets, positions) * batches.tokens();
            tokens += batches.tokens();
          }
          return sum / tokens;
        });
  }

  /** Loss of a batch, computed for no more rows than hold tokens: the last may be nearly empty. */
  private static double loss(
      Gpt model, TokenBatches batches, Tensor ids, Tensor targets, Tensor positions) {
    Tape tape = model.tape();
    tape.reset();
    int context = batches.context();
    int rows = filledRows(batches);
    if (rows == batches.batch()) {
      ids.upload(batches.inputs());
      targets.upload(batches.targets());
      if (positions != null) {
        positions.upload(batches.positions());
      }
      return model.loss(ids, targets, positions).item();
    }
    long count = (long) rows * context;
    Shape shape = Shape.of(rows, context);
    Tensor someIds = tape.over(shape, ids.data().slice(0, count));
    Tensor someTargets = tape.over(shape, targets.data().slice(0, count));
    someIds.upload(batches.inputs().asSlice(0, count * Integer.BYTES));
    someTargets.upload(batches.targets().asSlice(0, count * Integer.BYTES));
    Tensor somePositions = null;
    if (positions != null) {
      somePositions = tape.over(shape, positions.data().slice(0, count));
      somePositions.upload(batches.positions().asSlice(0, count * Integer.BYTES));
    }
    return model.loss(someIds, someTargets, somePositions).item();
  }

  private static int filledRows(TokenBatches batches) {
    long last = (long) batches.batch() * batches.context() - 1;
    while (last > 0
        && batches.targets().getAtIndex(ValueLayout.JAVA_INT, last) == TokenBatches.IGNORE) {
      last--;
    }
    return (int) (last / batches.context()) + 1;
  }
}
