package dev.lanewise.core.data;

import java.util.Arrays;

/** A growing list of token ids. */
final class TokenList implements TokenSink {
  private int[] ids;
  private int size;

  TokenList(int capacity) {
    ids = new int[Math.max(16, capacity)];
  }

  @Override
  public void accept(int id) {
    if (size == ids.length) {
      ids = Arrays.copyOf(ids, Math.addExact(size, size >> 1));
    }
    ids[size++] = id;
  }

  void clear() {
    size = 0;
  }

  int size() {
    return size;
  }

  int get(int index) {
    return ids[index];
  }

  int[] toArray() {
    return Arrays.copyOf(ids, size);
  }
}
