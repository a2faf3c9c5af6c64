package dev.lanewise.core.data;

import dev.lanewise.core.base.InputException;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.Locale;

/**
 * Byte-pair merging over a fixed vocabulary: of all neighbours that may be joined, the leftmost
 * pair of the lowest rank is, until none is left. Ranks are the ids of what a pair makes, or given.
 */
final class BytePairs {
  private static final VarHandle LONG =
      MethodHandles.byteArrayViewVarHandle(long[].class, ByteOrder.LITTLE_ENDIAN);
  private static final long MIX = 0x9E3779B97F4A7C15L;
  private static final int NONE = Integer.MAX_VALUE;
  // Past this many parts a scan for the lowest pair after every merge costs more than a heap.
  private static final int SCAN_LIMIT = 96;

  private final byte[][] tokens;
  private final int[] idOfByte = new int[256];
  private final int[] wordTable;
  private final boolean wholeWords;
  private long[] pairKeys = new long[1024];
  private int[] pairRanks = new int[1024];
  private int pairCount;

  /** What the pair of each rank makes; null where ranks are ids. */
  private final int[] idOfRank;

  /**
   * Any two neighbours that together make a token are joined, tokens of low ids first, but a word
   * that is a token as a whole is never taken apart.
   *
   * @param tokens bytes of each token by id; all 256 single bytes must be among them
   */
  BytePairs(byte[][] tokens) {
    this(true, null, tokens);
    for (int b = 0; b < 256; b++) {
      if (idOfByte[b] < 0) {
        throw new IllegalArgumentException("the vocabulary has no token for byte " + b);
      }
    }
    for (int id = 0; id < tokens.length; id++) {
      byte[] token = tokens[id];
      for (int cut = 1; cut < token.length; cut++) {
        int left = find(token, 0, cut);
        int right = left < 0 ? -1 : find(token, cut, token.length);
        if (right >= 0) {
          add(left, right, id);
        }
      }
    }
  }

  /**
   * Only given pairs are joined, in their order.
   *
   * @param tokens bytes of each token by id; null for ids that no text has
   * @param merges ids of left and right, two for each pair
   * @param wholeWords whether a word that is a token as a whole is never taken apart
   * @throws IllegalArgumentException if a pair makes no token
   */
  BytePairs(byte[][] tokens, int[] merges, boolean wholeWords) {
    this(wholeWords, new int[merges.length / 2], tokens);
    byte[] joined = new byte[64];
    for (int rank = 0; rank < idOfRank.length; rank++) {
      byte[] left = tokens[merges[2 * rank]];
      byte[] right = tokens[merges[2 * rank + 1]];
      int length = left.length + right.length;
      joined = joined.length < length ? new byte[2 * length] : joined;
      System.arraycopy(left, 0, joined, 0, left.length);
      System.arraycopy(right, 0, joined, left.length, right.length);
      idOfRank[rank] = find(joined, 0, length);
      if (idOfRank[rank] < 0) {
        throw new IllegalArgumentException("pair " + rank + " makes no token");
      }
      add(merges[2 * rank], merges[2 * rank + 1], rank);
    }
  }

  private BytePairs(boolean wholeWords, int[] idOfRank, byte[][] tokens) {
    this.tokens = tokens;
    this.idOfRank = idOfRank;
    this.wholeWords = wholeWords;
    Arrays.fill(idOfByte, -1);
    wordTable = new int[Integer.highestOneBit(Math.max(512, tokens.length)) * 4];
    for (int id = 0; id < tokens.length; id++) {
      byte[] token = tokens[id];
      if (token == null) {
        continue;
      }
      if (token.length == 1) {
        idOfByte[token[0] & 0xFF] = id;
      }
      int slot = (int) hash(token, 0, token.length) & wordTable.length - 1;
      while (wordTable[slot] != 0) {
        slot = slot + 1 & wordTable.length - 1;
      }
      wordTable[slot] = id + 1;
    }
  }

  private void add(int left, int right, int rank) {
    if (++pairCount > pairKeys.length / 2) {
      long[] oldKeys = pairKeys;
      int[] oldRanks = pairRanks;
      pairKeys = new long[oldKeys.length * 2];
      pairRanks = new int[pairKeys.length];
      for (int i = 0; i < oldKeys.length; i++) {
        if (oldKeys[i] != 0) {
          put(pairKeys, pairRanks, oldKeys[i], oldRanks[i]);
        }
      }
    }
    put(pairKeys, pairRanks, key(left, right), rank);
  }

  /**
   * Of a vocabulary whose ids are its ranks, the two tokens that each token is last joined from, in
   * order of ids: what merging its bytes with tokens before it alone comes to.
   *
   * @return ids of left and right, two for each token longer than a byte
   */
  int[] lastMerges() {
    TokenList merges = new TokenList(2 * tokens.length);
    for (int id = 0; id < tokens.length; id++) {
      if (tokens[id].length > 1) {
        int[] parts = new int[tokens[id].length];
        for (int i = 0; i < parts.length; i++) {
          parts[i] = idOf(tokens[id][i]);
        }
        for (int count = parts.length; count > 2; count--) {
          int best = -1;
          int bestRank = id;
          for (int i = 0; i + 1 < count; i++) {
            int rank = rank(parts[i], parts[i + 1]);
            if (rank < bestRank) {
              best = i;
              bestRank = rank;
            }
          }
          if (best < 0) {
            throw new InputException("Token " + id + " is not joined from two before it.");
          }
          parts[best] = bestRank;
          System.arraycopy(parts, best + 2, parts, best + 1, count - best - 2);
        }
        merges.accept(parts[0]);
        merges.accept(parts[1]);
      }
    }
    return merges.toArray();
  }

  private static void put(long[] keys, int[] ranks, long key, int rank) {
    int slot = slot(key, keys.length);
    while (keys[slot] != 0 && keys[slot] != key) {
      slot = slot + 1 & keys.length - 1;
    }
    keys[slot] = key;
    ranks[slot] = rank;
  }

  // One is added so that no key is 0, which marks an empty slot.
  private static long key(int left, int right) {
    return (long) left << 32 | right + 1;
  }

  private static int slot(long key, int length) {
    return (int) (key * MIX >>> 40) & length - 1;
  }

  static long hash(byte[] b, int from, int to) {
    long h = (to - from) * MIX;
    int i = from;
    for (; i + 8 <= to; i += 8) {
      h = (h ^ (long) LONG.get(b, i)) * MIX;
      h ^= h >>> 29;
    }
    long tail = 0;
    for (; i < to; i++) {
      tail = tail << 8 | b[i] & 0xFF;
    }
    h = (h ^ tail) * MIX;
    return h ^ h >>> 32;
  }

  /** The id of the token made of exactly these bytes, or -1. */
  private int find(byte[] b, int from, int to) {
    int slot = (int) hash(b, from, to) & wordTable.length - 1;
    for (; wordTable[slot] != 0; slot = slot + 1 & wordTable.length - 1) {
      byte[] token = tokens[wordTable[slot] - 1];
      if (token.length == to - from && Arrays.equals(token, 0, token.length, b, from, to)) {
        return wordTable[slot] - 1;
      }
    }
    return -1;
  }

  /** The rank at which two neighbours are joined. */
  private int rank(int left, int right) {
    long key = key(left, right);
    int slot = slot(key, pairKeys.length);
    for (; pairKeys[slot] != 0; slot = slot + 1 & pairKeys.length - 1) {
      if (pairKeys[slot] == key) {
        return pairRanks[slot];
      }
    }
    return NONE;
  }

  /** What the pair of a rank makes. */
  private int made(int rank) {
    return idOfRank == null ? rank : idOfRank[rank];
  }

  private int idOf(byte b) {
    int id = idOfByte[b & 0xFF];
    if (id < 0) {
      throw new InputException(
          String.format(
              Locale.ROOT,
              "The text holds the byte 0x%02X, for which the tokenizer has no token.",
              b & 0xFF));
    }
    return id;
  }

  /** Working memory of one encoding thread, with the words seen lately. */
  final class Encoder {
    private static final int SLOTS = 1 << 16;
    private static final int LONGEST_KEPT = 48;

    private final int[] slots = new int[SLOTS];
    private final byte[] kept = new byte[1 << 20];
    private final int[] keptIds = new int[1 << 19];
    private final int[] entries = new int[3 << 15];
    private int entryCount;
    private int keptSize;
    private int keptIdsSize;
    private int[] parts = new int[256];
    private int[] ranks = new int[256];

    /** Encodes one word. */
    void encode(byte[] b, int from, int to, TokenSink sink) {
      int length = to - from;
      if (length == 1) {
        sink.accept(idOf(b[from]));
        return;
      }
      if (length > LONGEST_KEPT) {
        int count = merge(b, from, to);
        for (int i = 0; i < count; i++) {
          sink.accept(parts[i]);
        }
        return;
      }
      int slot = (int) hash(b, from, to) & SLOTS - 1;
      for (; slots[slot] != 0; slot = slot + 1 & SLOTS - 1) {
        int entry = 3 * (slots[slot] - 1);
        int start = entries[entry];
        int packed = entries[entry + 2];
        if (packed >>> 16 == length && Arrays.equals(kept, start, start + length, b, from, to)) {
          int firstId = entries[entry + 1];
          for (int i = 0, count = packed & 0xFFFF; i < count; i++) {
            sink.accept(keptIds[firstId + i]);
          }
          return;
        }
      }
      int count = merge(b, from, to);
      if (entryCount == SLOTS / 2
          || keptSize + length > kept.length
          || keptIdsSize + count > keptIds.length) {
        Arrays.fill(slots, 0);
        entryCount = 0;
        keptSize = 0;
        keptIdsSize = 0;
        slot = (int) hash(b, from, to) & SLOTS - 1;
      }
      System.arraycopy(b, from, kept, keptSize, length);
      System.arraycopy(parts, 0, keptIds, keptIdsSize, count);
      entries[3 * entryCount] = keptSize;
      entries[3 * entryCount + 1] = keptIdsSize;
      entries[3 * entryCount + 2] = length << 16 | count;
      slots[slot] = ++entryCount;
      keptSize += length;
      keptIdsSize += count;
      for (int i = 0; i < count; i++) {
        sink.accept(parts[i]);
      }
    }

    /** Leaves the word's tokens in parts and returns their number. */
    private int merge(byte[] b, int from, int to) {
      int whole = wholeWords ? find(b, from, to) : -1;
      if (whole >= 0) {
        parts[0] = whole;
        return 1;
      }
      int count = to - from;
      if (parts.length < count) {
        parts = new int[count];
        ranks = new int[count];
      }
      for (int i = 0; i < count; i++) {
        parts[i] = idOf(b[from + i]);
      }
      for (int i = 0; i + 1 < count; i++) {
        ranks[i] = rank(parts[i], parts[i + 1]);
      }
      return count <= SCAN_LIMIT ? mergeByScan(count) : mergeByHeap(count);
    }

    private int mergeByScan(int length) {
      int count = length;
      while (count > 1) {
        int best = 0;
        for (int i = 1; i < count - 1; i++) {
          if (ranks[i] < ranks[best]) {
            best = i;
          }
        }
        if (ranks[best] == NONE) {
          break;
        }
        parts[best] = made(ranks[best]);
        count--;
        System.arraycopy(parts, best + 2, parts, best + 1, count - best - 1);
        System.arraycopy(ranks, best + 2, ranks, best + 1, Math.max(0, count - best - 2));
        if (best + 1 < count) {
          ranks[best] = rank(parts[best], parts[best + 1]);
        }
        if (best > 0) {
          ranks[best - 1] = rank(parts[best - 1], parts[best]);
        }
      }
      return count;
    }

    private int mergeByHeap(int count) {
      int[] next = new int[count];
      int[] previous = new int[count];
      LongHeap heap = new LongHeap(count);
      for (int i = 0; i < count; i++) {
        next[i] = i + 1;
        previous[i] = i - 1;
        if (i + 1 < count && ranks[i] != NONE) {
          heap.add((long) ranks[i] << 32 | i);
        }
      }
      ranks[count - 1] = NONE;
      while (!heap.isEmpty()) {
        long lowest = heap.poll();
        int i = (int) lowest;
        // A pair whose rank has changed since it was queued is queued again under the new one.
        if (ranks[i] != (int) (lowest >>> 32)) {
          continue;
        }
        int gone = next[i];
        parts[i] = made(ranks[i]);
        ranks[gone] = NONE;
        next[i] = next[gone];
        if (next[i] < count) {
          previous[next[i]] = i;
        }
        queue(heap, i, next[i], count);
        if (previous[i] >= 0) {
          queue(heap, previous[i], i, count);
        }
      }
      int size = 0;
      for (int i = 0; i < count; i = next[i]) {
        parts[size++] = parts[i];
      }
      return size;
    }

    private void queue(LongHeap heap, int left, int right, int count) {
      ranks[left] = right < count ? rank(parts[left], parts[right]) : NONE;
      if (ranks[left] != NONE) {
        heap.add((long) ranks[left] << 32 | left);
      }
    }
  }

  Encoder encoder() {
    return new Encoder();
  }
}
