package dev.lanewise.core.cli;

import dev.lanewise.core.backend.FrozenWeights;
import dev.lanewise.core.base.UsageException;
import dev.lanewise.core.data.Tokenizer;
import dev.lanewise.core.exchange.Pretrained;
import dev.lanewise.core.model.Gpt;
import dev.lanewise.core.model.GptConfig;
import dev.lanewise.core.tensor.Tape;
import java.nio.file.Path;
import java.util.Locale;
import java.util.function.Consumer;

/**
 * A model that can be used, with the tokenizer that it was trained with.
 *
 * @param name what it is, for people: where it comes from and how far it was trained
 * @param config its sizes, without dropout
 * @param context tokens that it was trained to look back at, at most the context length
 * @param batch sequences of a forward pass in its training
 * @param precision what its training was asked to compute in
 * @param isolatesDocuments whether documents that shared a row in its training knew nothing of each
 *     other
 * @param tokenizer its tokenizer
 * @param parameters puts its parameters into a model of these sizes
 */
record TrainedModel(
    String name,
    GptConfig config,
    int context,
    int batch,
    String precision,
    boolean isolatesDocuments,
    Tokenizer tokenizer,
    Consumer<Gpt> parameters) {

  /** What {@code --from} takes. */
  static final String FROM =
      "A run folder or one of its checkpoints, a folder of Hugging Face's, a .gguf file, or a model"
          + " of llm.c's.";

  /** Sequences of a forward pass where training does not say. */
  private static final int BATCH = 4;

  /**
   * Finds a model.
   *
   * @param from as in {@link Pretrained#open(Path)}
   * @param warnings hears of damaged checkpoints
   */
  static TrainedModel find(Path from, Consumer<String> warnings) {
    Pretrained model = Pretrained.open(from, warnings);
    return new TrainedModel(
        model.name(),
        model.config(),
        model.context(),
        model.batch().orElse(BATCH),
        model.precision(),
        model.isolatesDocuments(),
        model.tokenizer(),
        model::copyTo);
  }

  /**
   * Loads the model.
   *
   * @param tape where it is to live
   * @param form how products read its weights
   * @return the model, in evaluation mode
   */
  Gpt load(Tape tape, FrozenWeights form) {
    Gpt model = new Gpt(tape, config, null);
    parameters.accept(model);
    tape.backend().freezeWeights(form);
    return model.eval();
  }

  /**
   * The context to use, for a command that was given one or not.
   *
   * @param asked what {@code --context} says, or null
   * @param warnings hears if the model was never trained at so many positions
   */
  int context(Integer asked, Consumer<String> warnings) {
    if (asked == null) {
      return context;
    }
    if (asked < 1 || asked > config.contextLength()) {
      throw new UsageException(
          String.format(
              Locale.ROOT,
              "--context must be from 1 to %d, which is as far as this model looks back, not %d.",
              config.contextLength(),
              asked));
    }
    if (asked > context) {
      warnings.accept(
          String.format(
              Locale.ROOT,
              "The model was trained with a context of %d; its positions beyond know nothing.",
              context));
    }
    return asked;
  }
}
