package dev.lanewise.core.data;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * Learns a byte-pair vocabulary: the most frequent pair of neighbours inside words becomes a token,
 * again and again. Ties go to the pair with the lower left id, then the lower right id, so that the
 * same text always gives the same vocabulary.
 */
final class BpeTrainer {
  private static final int MIN_COUNT = 2;

  /** Longer tokens are stretches of one character, and take time that grows with their square. */
  private static final int LONGEST_TOKEN = 256;

  private static final long MIX = 0x9E3779B97F4A7C15L;

  // Distinct words, end to end: bytes as they are seen, with how often each was seen.
  private byte[] wordBytes = new byte[1 << 20];
  private int wordBytesSize;
  private int[] wordStart = new int[1 << 16];
  private int[] wordCount = new int[1 << 16];
  private int words;
  private int[] slots = new int[1 << 18];

  /** Counts the words of a piece of text. */
  void add(byte[] utf8, int from, int to) {
    for (int i = from; i < to; ) {
      int end = Words.end(utf8, i, to);
      if (end - i > 1) {
        count(utf8, i, end);
      }
      i = end;
    }
  }

  private void count(byte[] b, int from, int to) {
    int slot = (int) BytePairs.hash(b, from, to) & slots.length - 1;
    for (; slots[slot] != 0; slot = slot + 1 & slots.length - 1) {
      int word = slots[slot] - 1;
      if (Arrays.equals(wordBytes, wordStart[word], wordStart[word + 1], b, from, to)) {
        wordCount[word]++;
        return;
      }
    }
    if (wordBytesSize + (to - from) > wordBytes.length) {
      wordBytes =
          Arrays.copyOf(wordBytes, Math.max(2 * wordBytes.length, wordBytesSize + to - from));
    }
    System.arraycopy(b, from, wordBytes, wordBytesSize, to - from);
    wordBytesSize += to - from;
    if (words + 2 > wordStart.length) {
      wordStart = Arrays.copyOf(wordStart, 2 * wordStart.length);
      wordCount = Arrays.copyOf(wordCount, 2 * wordCount.length);
    }
    wordCount[words] = 1;
    wordStart[++words] = wordBytesSize;
    slots[slot] = words;
    if (words > slots.length / 2) {
      int[] bigger = new int[slots.length * 2];
      for (int word = 0; word < words; word++) {
        int s = (int) BytePairs.hash(wordBytes, wordStart[word], wordStart[word + 1]);
        for (s &= bigger.length - 1; bigger[s] != 0; ) {
          s = s + 1 & bigger.length - 1;
        }
        bigger[s] = word + 1;
      }
      slots = bigger;
    }
  }

  /** Learns up to the given number of tokens, the 256 bytes included; fewer if pairs run out. */
  byte[][] train(int size) {
    List<byte[]> tokens = new ArrayList<>(size);
    for (int b = 0; b < 256; b++) {
      tokens.add(new byte[] {(byte) b});
    }
    int[] symbols = new int[wordBytesSize];
    int[] length = new int[words];
    for (int i = 0; i < wordBytesSize; i++) {
      symbols[i] = wordBytes[i] & 0xFF;
    }
    Pairs pairs = new Pairs();
    for (int word = 0; word < words; word++) {
      length[word] = wordStart[word + 1] - wordStart[word];
      for (int i = wordStart[word]; i + 1 < wordStart[word + 1]; i++) {
        pairs.change(symbols[i], symbols[i + 1], wordCount[word], word);
      }
    }
    pairs.queueAll();
    while (tokens.size() < size) {
      int pair = pairs.poll();
      if (pair < 0 || pairs.count[pair] < MIN_COUNT) {
        break;
      }
      int left = (int) (pairs.key[pair] >>> 32);
      int right = (int) pairs.key[pair];
      int made = tokens.size();
      if (tokens.get(left).length + tokens.get(right).length > LONGEST_TOKEN) {
        continue;
      }
      byte[] bytes =
          Arrays.copyOf(tokens.get(left), tokens.get(left).length + tokens.get(right).length);
      System.arraycopy(
          tokens.get(right), 0, bytes, tokens.get(left).length, tokens.get(right).length);
      tokens.add(bytes);
      int[] where = pairs.words[pair];
      for (int w = 0, n = pairs.wordsSize[pair]; w < n; w++) {
        int word = where[w];
        length[word] =
            merge(pairs, symbols, wordStart[word], length[word], left, right, made, word);
      }
      pairs.words[pair] = null;
      pairs.wordsSize[pair] = 0;
      pairs.queueChanged();
    }
    return tokens.toArray(byte[][]::new);
  }

  private int merge(
      Pairs pairs, int[] symbols, int start, int length, int left, int right, int made, int word) {
    int times = wordCount[word];
    int to = start;
    int end = start + length;
    for (int from = start; from < end; to++) {
      if (symbols[from] != left || from + 1 == end || symbols[from + 1] != right) {
        symbols[to] = symbols[from++];
        continue;
      }
      pairs.change(left, right, -times, -1);
      if (to > start) {
        pairs.change(symbols[to - 1], left, -times, -1);
        pairs.change(symbols[to - 1], made, times, word);
      }
      if (from + 2 < end) {
        pairs.change(right, symbols[from + 2], -times, -1);
        pairs.change(made, symbols[from + 2], times, word);
      }
      symbols[to] = made;
      from += 2;
    }
    return to - start;
  }

  /** Every pair with its count and the words that hold it, and the order of merging. */
  private static final class Pairs {
    long[] key = new long[1 << 14];
    long[] count = new long[1 << 14];
    int[][] words = new int[1 << 14][];
    int[] wordsSize = new int[1 << 14];
    private boolean[] changed = new boolean[1 << 14];
    private int size;
    private int[] slots = new int[1 << 16];
    private int[] changedPairs = new int[1 << 10];
    private int changedSize;
    private final java.util.PriorityQueue<Entry> queue = new java.util.PriorityQueue<>();

    private record Entry(long count, long key, int pair) implements Comparable<Entry> {
      @Override
      public int compareTo(Entry other) {
        int byCount = Long.compare(other.count, count);
        return byCount != 0 ? byCount : Long.compare(key, other.key);
      }
    }

    /** Adds to a pair's count, and notes a word that holds the pair unless it is -1. */
    void change(int left, int right, long by, int word) {
      long pairKey = (long) left << 32 | right;
      int slot = (int) (pairKey * MIX >>> 36) & slots.length - 1;
      while (slots[slot] != 0 && key[slots[slot] - 1] != pairKey) {
        slot = slot + 1 & slots.length - 1;
      }
      if (slots[slot] == 0) {
        slots[slot] = create(pairKey) + 1;
      }
      int pair = slots[slot] - 1;
      count[pair] += by;
      if (word >= 0) {
        int n = wordsSize[pair];
        int[] list = words[pair];
        if (n == 0 || list[n - 1] != word) {
          if (list == null) {
            words[pair] = list = new int[4];
          } else if (n == list.length) {
            words[pair] = list = Arrays.copyOf(list, 2 * n);
          }
          list[n] = word;
          wordsSize[pair] = n + 1;
        }
      }
      if (!changed[pair]) {
        changed[pair] = true;
        if (changedSize == changedPairs.length) {
          changedPairs = Arrays.copyOf(changedPairs, 2 * changedSize);
        }
        changedPairs[changedSize++] = pair;
      }
      if (size > slots.length / 2) {
        rehash();
      }
    }

    private int create(long pairKey) {
      if (size == key.length) {
        key = Arrays.copyOf(key, 2 * size);
        count = Arrays.copyOf(count, 2 * size);
        words = Arrays.copyOf(words, 2 * size);
        wordsSize = Arrays.copyOf(wordsSize, 2 * size);
        changed = Arrays.copyOf(changed, 2 * size);
      }
      key[size] = pairKey;
      return size++;
    }

    private void rehash() {
      slots = new int[slots.length * 2];
      for (int pair = 0; pair < size; pair++) {
        int slot = (int) (key[pair] * MIX >>> 36) & slots.length - 1;
        while (slots[slot] != 0) {
          slot = slot + 1 & slots.length - 1;
        }
        slots[slot] = pair + 1;
      }
    }

    void queueAll() {
      queueChanged();
    }

    /** Queues every pair whose count has changed; entries under its former counts are stale. */
    void queueChanged() {
      for (int i = 0; i < changedSize; i++) {
        int pair = changedPairs[i];
        changed[pair] = false;
        if (count[pair] >= MIN_COUNT) {
          queue.add(new Entry(count[pair], key[pair], pair));
        }
      }
      changedSize = 0;
    }

    /** The pair to merge next, or -1. */
    int poll() {
      for (Entry entry = queue.poll(); entry != null; entry = queue.poll()) {
        if (entry.count == count[entry.pair]) {
          return entry.pair;
        }
      }
      return -1;
    }
  }
}
