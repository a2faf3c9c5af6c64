package dev.lanewise.core.data;

import java.util.Arrays;

/** A binary heap of longs, smallest first. */
final class LongHeap {
  private long[] items;
  private int size;

  LongHeap(int capacity) {
    items = new long[Math.max(16, capacity)];
  }

  boolean isEmpty() {
    return size == 0;
  }

  void add(long item) {
    if (size == items.length) {
      items = Arrays.copyOf(items, Math.addExact(size, size));
    }
    int i = size++;
    while (i > 0 && items[i - 1 >>> 1] > item) {
      items[i] = items[i - 1 >>> 1];
      i = i - 1 >>> 1;
    }
    items[i] = item;
  }

  long poll() {
    long lowest = items[0];
    long item = items[--size];
    int i = 0;
    for (int child = 1; child < size; child = 2 * i + 1) {
      if (child + 1 < size && items[child + 1] < items[child]) {
        child++;
      }
      if (items[child] >= item) {
        break;
      }
      items[i] = items[child];
      i = child;
    }
    items[i] = item;
    return lowest;
  }
}
