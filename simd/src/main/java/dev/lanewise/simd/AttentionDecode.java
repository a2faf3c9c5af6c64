package dev.lanewise.simd;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorSpecies;

/**
 * Few queries against many keys, as when text is generated: bound by reading keys and values once.
 * A task streams a fixed number of rows of the cache, all heads of a row together as they lie in
 * memory, and leaves its maximum, sum and output; the partial results are then combined in order
 * (Dao et al., "Flash-Decoding").
 */
final class AttentionDecode {
  /** Rows of the cache that a task streams. */
  static final int CHUNK = 32;

  private static final VectorSpecies<Float> F = Machine.F;
  private static final int LANES = Machine.LANES;
  private static final ByteOrder ORDER = ByteOrder.nativeOrder();
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;

  private AttentionDecode() {}

  static int chunks(AttentionCall call) {
    return (call.keys + CHUNK - 1) / CHUNK;
  }

  private static int padded(int headSize) {
    return (headSize + LANES - 1) & -LANES;
  }

  /** Bytes of one query's partial result: of each head maximum, sum, output. */
  private static long slotBytes(AttentionCall call) {
    return call.heads * headBytes(call);
  }

  private static long headBytes(AttentionCall call) {
    return (LANES + padded(call.headSize)) * 4L;
  }

  static long partialBytes(AttentionCall call) {
    return (long) call.batch * chunks(call) * call.queries * slotBytes(call);
  }

  static void run(AttentionCall call, int task) {
    int chunks = chunks(call);
    int sequence = task / chunks;
    int from = task % chunks * CHUNK;
    int to = Math.min(from + CHUNK, call.keys);
    try (Scratch scratch =
        Scratch.take((long) call.heads * CHUNK * Float.BYTES + AttentionRows.STATS_BYTES)) {
      for (int query = 0; query < call.queries; query++) {
        int end = Math.min(to, call.visible(query + 1));
        long slot = ((long) task * call.queries + query) * slotBytes(call);
        chunk(call, sequence, query, from, end, scratch.segment, slot);
      }
    }
  }

  private static void chunk(
      AttentionCall call, int sequence, int query, int from, int to, MemorySegment s, long slot) {
    int heads = call.heads;
    int headSize = call.headSize;
    long headBytes = headBytes(call);
    float scale = call.scale * AttentionRows.LOG2_E;
    MemorySegment partial = call.partial;
    long stats = (long) heads * CHUNK * Float.BYTES;
    long q = call.q.at(sequence, 0) + query * call.q.rowStep;
    for (int key = from; key < to; key++) {
      long k = call.k.at(sequence, 0) + key * call.k.rowStep;
      for (int head = 0; head < heads; head++) {
        float x =
            dot(
                call.q.segment,
                q + head * call.q.headStep,
                call.k.segment,
                k + head * call.k.headStep,
                headSize);
        s.set(FLOAT, (head * CHUNK + key - from) * 4L, x * scale);
      }
    }
    for (int head = 0; head < heads; head++) {
      AttentionRows.softmax(s, head * CHUNK * 4L, 1, to - from, 0, CHUNK, stats, 0, 0, true);
      float max = s.get(FLOAT, stats + AttentionRows.MAXIMA);
      float sum = s.get(FLOAT, stats + AttentionRows.SUMS);
      partial.set(FLOAT, slot + head * headBytes, max);
      partial.set(FLOAT, slot + head * headBytes + 4, sum);
      AttentionRows.clear(partial, slot + head * headBytes + LANES * 4L, padded(headSize));
    }
    for (int key = from; key < to; key++) {
      long v = call.v.at(sequence, 0) + key * call.v.rowStep;
      for (int head = 0; head < heads; head++) {
        float p = s.get(FLOAT, (head * CHUNK + key - from) * 4L);
        add(
            call.v.segment,
            v + head * call.v.headStep,
            p,
            partial,
            slot + head * headBytes + LANES * 4L,
            headSize);
      }
    }
  }

  private static float dot(MemorySegment a, long aAt, MemorySegment b, long bAt, int length) {
    a = Native.known(a);
    b = Native.known(b);
    FloatVector sum = FloatVector.zero(F);
    int i = 0;
    for (; i <= length - LANES; i += LANES) {
      FloatVector x = FloatVector.fromMemorySegment(F, a, aAt + i * 4L, ORDER);
      FloatVector y = FloatVector.fromMemorySegment(F, b, bAt + i * 4L, ORDER);
      sum = x.fma(y, sum);
    }
    if (i < length) {
      VectorMask<Float> tail = F.indexInRange(i, length);
      FloatVector x = FloatVector.fromMemorySegment(F, a, aAt + i * 4L, ORDER, tail);
      FloatVector y = FloatVector.fromMemorySegment(F, b, bAt + i * 4L, ORDER, tail);
      sum = x.fma(y, sum);
    }
    return AttentionRows.fold(sum);
  }

  /** Adds a multiple of a row to a row in scratch memory that is padded to whole vectors. */
  private static void add(
      MemorySegment from, long at, float by, MemorySegment to, long target, int length) {
    from = Native.known(from);
    to = Native.known(to);
    FloatVector factor = FloatVector.broadcast(F, by);
    int i = 0;
    for (; i <= length - LANES; i += LANES) {
      FloatVector x = FloatVector.fromMemorySegment(F, from, at + i * 4L, ORDER);
      FloatVector y = FloatVector.fromMemorySegment(F, to, target + i * 4L, ORDER);
      x.fma(factor, y).intoMemorySegment(to, target + i * 4L, ORDER);
    }
    if (i < length) {
      VectorMask<Float> tail = F.indexInRange(i, length);
      FloatVector x = FloatVector.fromMemorySegment(F, from, at + i * 4L, ORDER, tail);
      FloatVector y = FloatVector.fromMemorySegment(F, to, target + i * 4L, ORDER);
      x.fma(factor, y).intoMemorySegment(to, target + i * 4L, ORDER);
    }
  }

  /** Combines the chunks of one head of one sequence into its output rows. */
  static void combine(AttentionCall call, int task) {
    int sequence = task / call.heads;
    int head = task % call.heads;
    int chunks = chunks(call);
    long headBytes = headBytes(call);
    int padded = padded(call.headSize);
    MemorySegment partial = call.partial;
    for (int query = 0; query < call.queries; query++) {
      int used = (call.visible(query + 1) + CHUNK - 1) / CHUNK;
      long first =
          ((long) sequence * chunks * call.queries + query) * slotBytes(call) + head * headBytes;
      long next = call.queries * slotBytes(call);
      float max = -Float.MAX_VALUE;
      for (int c = 0; c < used; c++) {
        float x = partial.get(FLOAT, first + c * next);
        max = x > max ? x : max;
      }
      float sum = 0;
      for (int c = 0; c < used; c++) {
        long slot = first + c * next;
        double apart = partial.get(FLOAT, slot) - (double) max;
        float by = (float) Math.exp(apart * 0.6931471805599453);
        sum += partial.get(FLOAT, slot + 4) * by;
        for (int i = 0; i < padded; i += LANES) {
          long at = (LANES + i) * 4L;
          FloatVector x = FloatVector.fromMemorySegment(F, partial, slot + at, ORDER).mul(by);
          if (c > 0) {
            x = x.add(FloatVector.fromMemorySegment(F, partial, first + at, ORDER));
          }
          x.intoMemorySegment(partial, first + at, ORDER);
        }
      }
      long out = call.out.at(sequence, head) + query * call.out.rowStep;
      AttentionRows.copy(
          partial, first + LANES * 4L, 0, call.out.segment, out, 0, 1, call.headSize, 1 / sum);
    }
  }
}
