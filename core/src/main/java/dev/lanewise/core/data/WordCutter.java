package dev.lanewise.core.data;

/** A way to cut text into words, each of which starts where the one before ended. */
@FunctionalInterface
interface WordCutter {
  /**
   * The end of the word that starts at i.
   *
   * @param b valid UTF-8
   * @param from where the text begins
   * @param i where the word begins, before {@code to}
   * @param to where the text ends
   * @return the index after the word's last byte, above i; or, negated, of a word that is dropped
   */
  int end(byte[] b, int from, int i, int to);
}
