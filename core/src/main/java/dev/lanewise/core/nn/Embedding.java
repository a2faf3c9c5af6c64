package dev.lanewise.core.nn;

import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.core.tensor.Tape;
import dev.lanewise.core.tensor.Tensor;
import java.util.function.BiConsumer;

/**
 * A table of rows that integers choose from.
 *
 * @param weight {@code [entries, channels]}
 */
public record Embedding(Tensor weight) implements Module {

  /** A table of zeros; an {@code Initializer} fills it. */
  public Embedding(Tape tape, int entries, int channels) {
    this(tape.parameter(entries, channels));
  }

  /** A table of standard normal numbers, PyTorch's default. */
  public Embedding(Tape tape, int entries, int channels, TorchGenerator generator) {
    this(tape, entries, channels);
    weight.set(values -> Initializer.embedding(generator, values));
  }

  /** The rows that ids choose, {@code [ids..., channels]}. */
  public Tensor forward(Tensor ids) {
    return weight.rows(ids);
  }

  @Override
  public void visit(String prefix, BiConsumer<String, Tensor> visitor) {
    visitor.accept(prefix + "weight", weight);
  }
}
