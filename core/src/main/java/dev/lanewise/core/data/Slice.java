package dev.lanewise.core.data;

import java.lang.foreign.MemorySegment;
import java.util.Objects;

/** A part of a sequence. */
record Slice(TokenSequence whole, long start, long length) implements TokenSequence {
  @Override
  public int get(long index) {
    return whole.get(start + Objects.checkIndex(index, length));
  }

  @Override
  public void copy(long from, int count, MemorySegment target, long targetIndex) {
    Objects.checkFromIndexSize(from, count, length);
    whole.copy(start + from, count, target, targetIndex);
  }

  @Override
  public boolean allCount() {
    return whole.allCount();
  }

  @Override
  public boolean counts(long index) {
    return whole.counts(start + Objects.checkIndex(index, length));
  }

  @Override
  public boolean marksDocuments() {
    return whole.marksDocuments();
  }

  @Override
  public boolean starts(long index) {
    return whole.starts(start + Objects.checkIndex(index, length));
  }

  @Override
  public boolean isolates() {
    return whole.isolates();
  }

  @Override
  public TokenSequence slice(long from, long to) {
    Objects.checkFromToIndex(from, to, length);
    return new Slice(whole, start + from, to - from);
  }

  /** A sequence in an array. */
  record InMemory(int[] ids) implements TokenSequence {
    @Override
    public long length() {
      return ids.length;
    }

    @Override
    public int get(long index) {
      return ids[(int) Objects.checkIndex(index, (long) ids.length)];
    }
  }
}
