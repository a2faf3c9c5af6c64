package dev.lanewise.core.train;

import dev.lanewise.core.data.TokenBatches;
import dev.lanewise.core.model.Gpt;
import dev.lanewise.core.tensor.Tensor;

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
    return meanLoss(model, batches, ids, targets, Progress.SILENT);
  }

  /**
   * As {@link #meanLoss(Gpt, TokenBatches, Tensor, Tensor)}, for long evaluations.
   *
   * @param model a model, which is in its own mode again afterwards
   * @param batches the batches, from where they stand
   * @param ids integers of a batch's shape, overwritten
   * @param targets likewise
   * @param progress hears of each batch
   * @return the loss in nats; NaN if it was ended before its last batch
   */
  public static double meanLoss(
      Gpt model, TokenBatches batches, Tensor ids, Tensor targets, Progress progress) {
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
            ids.upload(batches.inputs());
            targets.upload(batches.targets());
            model.tape().reset();
            sum += (double) model.loss(ids, targets).item() * batches.tokens();
            tokens += batches.tokens();
          }
          return sum / tokens;
        });
  }
}
