package dev.lanewise.core.train;

import dev.lanewise.core.data.TokenBatches;
import dev.lanewise.core.model.Gpt;
import dev.lanewise.core.tensor.Tensor;

/** How well a model predicts tokens. */
public final class Evaluation {
  private Evaluation() {}

  /**
   * Mean cross-entropy over batches, each token counted once. Nothing is recorded for backward only
   * if the tape does not record.
   *
   * @param model a model in evaluation mode
   * @param batches the batches, from where they stand
   * @param ids integers of a batch's shape, overwritten
   * @param targets likewise
   * @return the loss in nats; its exponential is the perplexity
   */
  public static double meanLoss(Gpt model, TokenBatches batches, Tensor ids, Tensor targets) {
    double sum = 0;
    long tokens = 0;
    while (batches.hasNext()) {
      batches.next();
      ids.upload(batches.inputs());
      targets.upload(batches.targets());
      model.tape().reset();
      sum += (double) model.loss(ids, targets).item() * batches.tokens();
      tokens += batches.tokens();
    }
    return sum / tokens;
  }
}
