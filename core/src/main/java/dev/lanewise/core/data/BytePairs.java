package dev.lanewise.core.data;

import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteOrder;
import java.util.Arrays;

/**
 * Byte-pair merging over a fixed vocabulary whose ids are also the order of merging: of all
 * neighbours that together make a token, the leftmost pair with the lowest id is joined, until none
 * is left.
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
  private final long[] pairKeys;
  private final int[] pairIds;

  /** Takes the bytes of each token by id; all 256 single bytes must be among them. */
  BytePairs(byte[][] tokens) {
    this.tokens = tokens;
    Arrays.fill(idOfByte, -1);
    wordTable = new int[Integer.highestOneBit(Math.max(512, tokens.length)) * 4];
    for (int id = 0; id < tokens.length; id++) {
      byte[] token = tokens[id];
      if (token.length == 1) {
        idOfByte[token[0] & 0xFF] = id;
      }
      int slot = (int) hash(token, 0, token.length) & wordTable.length - 1;
      while (wordTable[slot] != 0) {
        slot = slot + 1 & wordTable.length - 1;
      }
      wordTable[slot] = id + 1;
    }
    for (int b = 0; b < 256; b++) {
      if (idOfByte[b] < 0) {
        throw new IllegalArgumentException("the vocabulary has no token for byte " + b);
      }
    }
    long[] keys = new long[1024];
    int[] ids = new int[1024];
    int count = 0;
    for (int id = 0; id < tokens.length; id++) {
      byte[] token = tokens[id];
      for (int cut = 1; cut < token.length; cut++) {
        int left = find(token, 0, cut);
        int right = left < 0 ? -1 : find(token, cut, token.length);
        if (right >= 0) {
          if (++count > keys.length / 2) {
            long[] oldKeys = keys;
            int[] oldIds = ids;
            keys = new long[oldKeys.length * 2];
            ids = new int[keys.length];
            for (int i = 0; i < oldKeys.length; i++) {
              if (oldKeys[i] != 0) {
                put(keys, ids, oldKeys[i], oldIds[i]);
              }
            }
          }
          put(keys, ids, key(left, right), id);
        }
      }
    }
    pairKeys = keys;
    pairIds = ids;
  }

  private static void put(long[] keys, int[] ids, long key, int id) {
    int slot = slot(key, keys.length);
    while (keys[slot] != 0 && keys[slot] != key) {
      slot = slot + 1 & keys.length - 1;
    }
    keys[slot] = key;
    ids[slot] = id;
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

  private int merged(int left, int right) {
    long key = key(left, right);
    int slot = slot(key, pairKeys.length);
    for (; pairKeys[slot] != 0; slot = slot + 1 & pairKeys.length - 1) {
      if (pairKeys[slot] == key) {
        return pairIds[slot];
      }
    }
    return NONE;
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
        sink.accept(idOfByte[b[from] & 0xFF]);
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
      int whole = find(b, from, to);
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
        parts[i] = idOfByte[b[from + i] & 0xFF];
      }
      for (int i = 0; i + 1 < count; i++) {
        ranks[i] = merged(parts[i], parts[i + 1]);
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
        parts[best] = ranks[best];
        count--;
        System.arraycopy(parts, best + 2, parts, best + 1, count - best - 1);
        System.arraycopy(ranks, best + 2, ranks, best + 1, Math.max(0, count - best - 2));
        if (best + 1 < count) {
          ranks[best] = merged(parts[best], parts[best + 1]);
        }
        if (best > 0) {
          ranks[best - 1] = merged(parts[best - 1], parts[best]);
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
        parts[i] = ranks[i];
        ranks[gone] = NONE;
        next[i] = next[gone];
        if (next[i] < count) {
          previous[next[i]] = i;
        }
        rank(heap, i, next[i], count);
        if (previous[i] >= 0) {
          rank(heap, previous[i], i, count);
        }
      }
      int size = 0;
      for (int i = 0; i < count; i = next[i]) {
        parts[size++] = parts[i];
      }
      return size;
    }

    private void rank(LongHeap heap, int left, int right, int count) {
      ranks[left] = right < count ? merged(parts[left], parts[right]) : NONE;
      if (ranks[left] != NONE) {
        heap.add((long) ranks[left] << 32 | left);
      }
    }
  }

  Encoder encoder() {
    return new Encoder();
  }
}
