package dev.lanewise.core.train;

import dev.lanewise.core.data.TokenBatches;
import dev.lanewise.core.distributed.Communicator;
import dev.lanewise.core.model.Gpt;
import dev.lanewise.core.tensor.Shape;
import dev.lanewise.core.tensor.Tape;
import dev.lanewise.core.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
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

  /**
   * As {@link #meanLoss(Gpt, TokenBatches, Tensor, Tensor, Tensor, Progress)}, by several processes
   * that all call it: each takes some batches in a row. All get the loss that one alone would get,
   * to the bit.
   *
   * @param communicator the processes
   * @param model a model, which is in its own mode again afterwards
   * @param batches all batches, from the first on
   * @param ids integers of a batch's shape, overwritten
   * @param targets likewise
   * @param positions likewise; null unless the batches' documents are isolated
   * @param progress hears of this process's batches; one that ends it still waits for the others
   * @return the loss in nats; NaN if one of them ended before its last batch
   */
  public static double dealt(
      Communicator communicator,
      Gpt model,
      TokenBatches batches,
      Tensor ids,
      Tensor targets,
      Tensor positions,
      Progress progress) {
    int size = communicator.size();
    int count = Math.toIntExact(batches.count());
    int[] at = new int[size];
    int[] counts = new int[size];
    int words = 2 * Double.BYTES / Float.BYTES;
    for (int rank = 0; rank < size; rank++) {
      at[rank] = words * first(count, rank, size);
      counts[rank] = words * first(count, rank + 1, size) - at[rank];
    }
    int from = first(count, communicator.rank(), size);
    int to = first(count, communicator.rank() + 1, size);
    try (Arena arena = Arena.ofShared()) {
      MemorySegment all = arena.allocate(2L * Double.BYTES * Math.max(1, count), Double.BYTES);
      model.evaluate(
          () -> {
            batches.seek(from);
            boolean goesOn = true;
            for (int i = from; i < to; i++) {
              goesOn = goesOn && progress.goOn((long) (i - from) * count / (to - from), count);
              double loss = Double.NaN;
              long tokens = 1;
              if (goesOn) {
                batches.next();
                tokens = batches.tokens();
                loss = tokens == 0 ? 0 : loss(model, batches, ids, targets, positions);
              }
              all.setAtIndex(ValueLayout.JAVA_DOUBLE, 2L * i, loss);
              all.setAtIndex(ValueLayout.JAVA_DOUBLE, 2L * i + 1, tokens);
            }
            return null;
          });
      communicator.allGather(all, at, counts);
      double sum = 0;
      double tokens = 0;
      for (int i = 0; i < count; i++) {
        double ofBatch = all.getAtIndex(ValueLayout.JAVA_DOUBLE, 2L * i + 1);
        sum += all.getAtIndex(ValueLayout.JAVA_DOUBLE, 2L * i) * ofBatch;
        tokens += ofBatch;
      }
      return sum / tokens;
    }
  }

  private static int first(int count, int rank, int size) {
    return (int) ((long) count * rank / size);
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
