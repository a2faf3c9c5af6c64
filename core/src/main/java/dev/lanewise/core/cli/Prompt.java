package dev.lanewise.core.cli;

import dev.lanewise.core.base.InputException;
import dev.lanewise.core.data.Dataset;
import dev.lanewise.core.data.Tokenizer;
import dev.lanewise.core.train.DefaultJob;
import dev.lanewise.core.train.RunFolder;
import java.util.Locale;

/**
 * How a run's samples begin, which its vocabulary is known to express.
 *
 * @param text at least one token
 * @param replaced whether the text has not what is usual, so that this stands in for it
 */
record Prompt(String text, boolean replaced) {
  /**
   * The prompt that a run asks for, or one that suits its data.
   *
   * @throws InputException if the vocabulary cannot express what was asked for
   */
  static Prompt of(RunFolder.Description description, Dataset data) {
    Tokenizer tokenizer = data.tokenizer();
    String asked = description.training().prompt();
    if (asked != null) {
      if (asked.isEmpty()) {
        throw new InputException(
            "--prompt is empty; give it at least one character, or leave it out.");
      }
      try {
        tokenizer.encode(asked);
      } catch (InputException e) {
        throw new InputException(
            String.format(
                Locale.ROOT,
                "The --prompt of this run's samples cannot be written in its vocabulary: %s Choose"
                    + " another --prompt, or leave it out.",
                e.getMessage()),
            e);
      }
      return new Prompt(asked, false);
    }
    String usual = DefaultJob.promptFor(description.source());
    try {
      tokenizer.encode(usual);
      return new Prompt(usual, false);
    } catch (InputException e) {
      // What a text begins with is in every vocabulary that was made from it.
      return new Prompt(tokenizer.decode(data.train().get(0)), true);
    }
  }
}
