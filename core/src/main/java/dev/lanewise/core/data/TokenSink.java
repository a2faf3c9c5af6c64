package dev.lanewise.core.data;

/** Takes token ids one by one, in order. */
@FunctionalInterface
public interface TokenSink {
  /**
   * Takes the next token.
   *
   * @param id the token's id
   */
  void accept(int id);
}
