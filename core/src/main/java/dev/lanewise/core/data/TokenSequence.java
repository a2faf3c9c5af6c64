package dev.lanewise.core.data;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Objects;
import java.util.OptionalInt;

/** Token ids in order, in memory or in a file. */
public interface TokenSequence {
  /**
   * The number of tokens.
   *
   * @return the length
   */
  long length();

  /**
   * One token.
   *
   * @param index position, from 0
   * @return its id
   * @throws IndexOutOfBoundsException if the index is outside the sequence
   */
  int get(long index);

  /**
   * Copies tokens as 32-bit integers.
   *
   * @param from position of the first token
   * @param count number of tokens
   * @param target memory for at least {@code targetIndex + count} native integers
   * @param targetIndex where to put the first, counted in integers
   * @throws IndexOutOfBoundsException if either range is too long
   */
  default void copy(long from, int count, MemorySegment target, long targetIndex) {
    Objects.checkFromIndexSize(from, count, length());
    Objects.checkFromIndexSize(targetIndex, count, target.byteSize() / Integer.BYTES);
    for (int i = 0; i < count; i++) {
      target.set(ValueLayout.JAVA_INT_UNALIGNED, (targetIndex + i) * Integer.BYTES, get(from + i));
    }
  }

  /**
   * Whether every token counts as a target, as those of plain text do.
   *
   * @return whether {@link #counts} is true everywhere
   */
  default boolean allCount() {
    return true;
  }

  /**
   * Whether a token counts as a target: of fine-tuning data, those of answers do.
   *
   * @param index position, from 0
   * @return whether a model is to learn to predict the token
   * @throws IndexOutOfBoundsException if the index is outside the sequence
   */
  default boolean counts(long index) {
    Objects.checkIndex(index, length());
    return true;
  }

  /**
   * Whether {@link #starts} knows where documents begin, without looking for an end-of-text token.
   *
   * @return whether it was noted when the tokens were made
   */
  default boolean marksDocuments() {
    return false;
  }

  /**
   * Whether a document begins with a token.
   *
   * @param index position, from 0
   * @return true for the first token of each document; where documents are not marked, for that of
   *     the sequence alone
   * @throws IndexOutOfBoundsException if the index is outside the sequence
   */
  default boolean starts(long index) {
    return Objects.checkIndex(index, length()) == 0;
  }

  /**
   * Whether documents are to know nothing of each other: see {@link #isolated}.
   *
   * @return whether batches count positions from each document's start
   */
  default boolean isolates() {
    return false;
  }

  /**
   * The same tokens, whose documents are to know nothing of each other. The first token of a
   * document is then no target; {@link TokenBatches#positions()} count from it.
   *
   * @param endOfText the token behind each document, unless documents are marked; may be empty then
   * @return a view
   * @throws dev.lanewise.core.base.InputException if nothing tells where documents end
   */
  default TokenSequence isolated(OptionalInt endOfText) {
    return IsolatedDocuments.of(this, endOfText);
  }

  /**
   * A part of this sequence, through which nothing outside can be read.
   *
   * @param from position of the first token
   * @param to position after the last
   * @return a view
   * @throws IndexOutOfBoundsException if the range is outside the sequence
   */
  default TokenSequence slice(long from, long to) {
    Objects.checkFromToIndex(from, to, length());
    return new Slice(this, from, to - from);
  }

  /**
   * A sequence in memory.
   *
   * @param ids the tokens; the array is not copied
   * @return the sequence
   */
  static TokenSequence of(int... ids) {
    return new Slice.InMemory(ids);
  }
}
