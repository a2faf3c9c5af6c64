package dev.lanewise.core.data;

import dev.lanewise.core.base.InputException;
import java.lang.foreign.MemorySegment;
import java.util.Objects;
import java.util.OptionalInt;

/**
 * Tokens of documents that are to know nothing of each other: the first of each is no target, since
 * only the document before it could predict it.
 */
record IsolatedDocuments(TokenSequence tokens, int endOfText) implements TokenSequence {
  private static final int NONE = -1;

  /** Isolates documents; see {@link TokenSequence#isolated(OptionalInt)}. */
  static TokenSequence of(TokenSequence tokens, OptionalInt endOfText) {
    if (!tokens.marksDocuments() && endOfText.isEmpty()) {
      throw new InputException(
          "Where documents end cannot be seen, since the tokenizer has no end of text; choose gpt2"
              + " or bpe:N for --tokenizer, or leave --isolate-documents out.");
    }
    return new IsolatedDocuments(tokens, endOfText.orElse(NONE));
  }

  @Override
  public long length() {
    return tokens.length();
  }

  @Override
  public int get(long index) {
    return tokens.get(index);
  }

  @Override
  public void copy(long from, int count, MemorySegment target, long targetIndex) {
    tokens.copy(from, count, target, targetIndex);
  }

  @Override
  public boolean allCount() {
    return false;
  }

  @Override
  public boolean counts(long index) {
    return tokens.counts(index) && !starts(index);
  }

  @Override
  public boolean marksDocuments() {
    return true;
  }

  @Override
  public boolean isolates() {
    return true;
  }

  @Override
  public boolean starts(long index) {
    Objects.checkIndex(index, length());
    return index == 0
        || (tokens.marksDocuments() ? tokens.starts(index) : tokens.get(index - 1) == endOfText);
  }
}
