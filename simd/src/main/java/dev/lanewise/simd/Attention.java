package dev.lanewise.simd;

import java.lang.foreign.MemorySegment;

/**
 * Scaled dot-product attention, {@code softmax(scale q kᵀ) v}, without ever holding the matrix of
 * scores (Dao et al., "FlashAttention"): forward, backward and for generating text from a cache.
 *
 * <p>Shapes are {@code [batch, rows, heads, headSize]}, given as {@link Heads}, which describe
 * where the floats lie; the packed forms take GPT's rows of queries, keys and values directly. With
 * {@code causal}, query i of m sees the first {@code n - m + i + 1} of n keys: the last query
 * belongs to the last key. Any number of rows and any headSize up to {@value #MAX_HEAD_SIZE} is
 * possible; sizes that are multiples of 32 are fastest.
 *
 * <p>Arithmetic is fp32. Results do not depend on the number of threads. Work memory is
 * proportional to rows times headSize for each thread. A row whose scores hold a NaN or positive
 * infinity, or nothing but negative infinity, becomes NaN; other rows do not notice. A value or
 * gradient that is not finite may also reach the few rows of its block that do not see it, as 0
 * times NaN. Finite scores of any size give finite results.
 *
 * <p>Every method checks its arguments first and throws {@link IllegalArgumentException}, having
 * written nothing, when a shape does not match, a view leaves its segment, an output shares memory
 * with another operand or with itself, a segment is closed, confined to another thread, or
 * read-only where it is written. Segments on the Java heap work; they are copied first.
 *
 * {@snippet :
 * // GPT-2: rows of 3 * 768 floats hold q, k and v of 12 heads
 * Attention.forwardPacked(qkv, 0, 3 * 768, out, 0, 768, lse, 0, 4, 1024, 12, 64, 0.125f);
 * }
 */
public final class Attention {
  /** The largest number of floats in a head. */
  public static final int MAX_HEAD_SIZE = 256;

  /** Up to so many queries are cheaper one by one than as a block. */
  private static final int FEW_QUERIES = 4;

  private Attention() {}

  /**
   * Attention dropout: a kept probability is multiplied by {@code scale}, another becomes 0.
   *
   * @param keep bits {@code [batch, heads, queries, keys]} without gaps; bit i is bit {@code i % 8}
   *     of byte {@code i / 8}; 1 keeps
   * @param firstBit the mask's first bit in the segment
   * @param scale usually {@code 1 / (1 - p)}
   */
  public record Dropout(MemorySegment keep, long firstBit, float scale) {}

  /**
   * The usual scale of the scores.
   *
   * @param headSize floats of a head
   * @return {@code 1 / sqrt(headSize)}
   */
  public static float defaultScale(int headSize) {
    return (float) (1 / Math.sqrt(headSize));
  }

  /**
   * Computes {@code out = softmax(scale q kᵀ) v}.
   *
   * @param q queries {@code [batch, m, heads, headSize]}
   * @param k keys {@code [batch, n, heads, headSize]}
   * @param v values, shaped as the keys
   * @param out written, shaped as the queries
   * @param lse {@code [batch, heads, m]} floats, written with the logarithm of the sum of the
   *     exponentials of each row's scaled scores, which {@link #backward} needs; may be null
   * @param lseOffset first float of lse
   * @param scale factor of the scores
   * @param causal whether queries see no later keys
   * @param dropout may be null
   * @throws IllegalArgumentException see the class
   */
  public static void forward(
      Heads q,
      Heads k,
      Heads v,
      Heads out,
      MemorySegment lse,
      long lseOffset,
      float scale,
      boolean causal,
      Dropout dropout) {
    AttentionCall call = AttentionCall.SPARES.take();
    try {
      call.q.set(q);
      call.k.set(k);
      call.v.set(v);
      call.out.set(out);
      call.setLse(lse, lseOffset);
      call.setProblem(scale, causal, k.rows());
      setDropout(call, dropout);
      forward(call);
    } finally {
      call.release();
    }
  }

  /**
   * Causal self-attention over packed rows: each row of {@code qkv} holds the queries of all heads,
   * then the keys, then the values.
   *
   * @param qkv {@code [batch * rows, 3 * heads * headSize]} floats
   * @param qkvOffset first float
   * @param qkvStride distance in floats between rows
   * @param out written, {@code [batch * rows, heads * headSize]}
   * @param outOffset first float
   * @param outStride distance in floats between rows
   * @param lse written, {@code [batch, heads, rows]}; may be null
   * @param lseOffset first float of lse
   * @param batch number of sequences
   * @param rows positions in a sequence
   * @param heads number of heads
   * @param headSize floats of a head
   * @param scale factor of the scores, usually {@link #defaultScale}
   * @throws IllegalArgumentException see the class
   */
  public static void forwardPacked(
      MemorySegment qkv,
      long qkvOffset,
      long qkvStride,
      MemorySegment out,
      long outOffset,
      long outStride,
      MemorySegment lse,
      long lseOffset,
      int batch,
      int rows,
      int heads,
      int headSize,
      float scale) {
    forwardPacked(
        qkv, qkvOffset, qkvStride, out, outOffset, outStride, lse, lseOffset, null, 0, 1, batch,
        rows, heads, headSize, scale);
  }

  /**
   * As the other packed form, with dropout.
   *
   * @param qkv {@code [batch * rows, 3 * heads * headSize]} floats
   * @param qkvOffset first float
   * @param qkvStride distance in floats between rows
   * @param out written, {@code [batch * rows, heads * headSize]}
   * @param outOffset first float
   * @param outStride distance in floats between rows
   * @param lse written, {@code [batch, heads, rows]}; may be null
   * @param lseOffset first float of lse
   * @param keep the bits of {@link Dropout}, or null for none
   * @param keepFirstBit the mask's first bit in the segment
   * @param keepScale factor of kept probabilities
   * @param batch number of sequences
   * @param rows positions in a sequence
   * @param heads number of heads
   * @param headSize floats of a head
   * @param scale factor of the scores
   * @throws IllegalArgumentException see the class
   */
  public static void forwardPacked(
      MemorySegment qkv,
      long qkvOffset,
      long qkvStride,
      MemorySegment out,
      long outOffset,
      long outStride,
      MemorySegment lse,
      long lseOffset,
      MemorySegment keep,
      long keepFirstBit,
      float keepScale,
      int batch,
      int rows,
      int heads,
      int headSize,
      float scale) {
    Checks.floats("qkv", qkv);
    AttentionCall call = AttentionCall.SPARES.take();
    try {
      setPacked(call.q, call.k, call.v, qkv, qkvOffset, qkvStride, batch, rows, heads, headSize);
      call.out.set(out, outOffset, batch, rows, heads, headSize, rows * outStride, outStride);
      call.setLse(lse, lseOffset);
      call.setProblem(scale, true, rows);
      call.setDropout(keep, keepFirstBit, keepScale);
      forward(call);
    } finally {
      call.release();
    }
  }

  /**
   * The gradient of {@link #forward}. The outputs are written, not added to.
   *
   * @param q queries, as in forward
   * @param k keys, as in forward
   * @param v values, as in forward
   * @param out result of forward
   * @param lse result of forward
   * @param lseOffset first float of lse
   * @param dOut gradient of the output, shaped as the queries
   * @param dq written: gradient of the queries
   * @param dk written: gradient of the keys
   * @param dv written: gradient of the values
   * @param scale as in forward
   * @param causal as in forward
   * @param dropout as in forward; may be null
   * @throws IllegalArgumentException see the class
   */
  public static void backward(
      Heads q,
      Heads k,
      Heads v,
      Heads out,
      MemorySegment lse,
      long lseOffset,
      Heads dOut,
      Heads dq,
      Heads dk,
      Heads dv,
      float scale,
      boolean causal,
      Dropout dropout) {
    AttentionCall call = AttentionCall.SPARES.take();
    try {
      call.q.set(q);
      call.k.set(k);
      call.v.set(v);
      call.out.set(out);
      call.dOut.set(dOut);
      call.dq.set(dq);
      call.dk.set(dk);
      call.dv.set(dv);
      call.setLse(lse, lseOffset);
      call.setProblem(scale, causal, k.rows());
      setDropout(call, dropout);
      backward(call);
    } finally {
      call.release();
    }
  }

  /**
   * The gradient of {@link #forwardPacked}: {@code dQkv} is laid out as {@code qkv} and written.
   *
   * @param dOut gradient of the output, laid out as {@code out}
   * @param dOutOffset first float
   * @param dOutStride distance in floats between rows
   * @param qkv as in forward
   * @param qkvOffset first float
   * @param qkvStride distance in floats between rows
   * @param out result of forward
   * @param outOffset first float
   * @param outStride distance in floats between rows
   * @param lse result of forward
   * @param lseOffset first float
   * @param keep the bits of {@link Dropout} as in forward, or null
   * @param keepFirstBit the mask's first bit in the segment
   * @param keepScale factor of kept probabilities
   * @param dQkv written, {@code [batch * rows, 3 * heads * headSize]}
   * @param dQkvOffset first float
   * @param dQkvStride distance in floats between rows
   * @param batch number of sequences
   * @param rows positions in a sequence
   * @param heads number of heads
   * @param headSize floats of a head
   * @param scale as in forward
   * @throws IllegalArgumentException see the class
   */
  public static void backwardPacked(
      MemorySegment dOut,
      long dOutOffset,
      long dOutStride,
      MemorySegment qkv,
      long qkvOffset,
      long qkvStride,
      MemorySegment out,
      long outOffset,
      long outStride,
      MemorySegment lse,
      long lseOffset,
      MemorySegment keep,
      long keepFirstBit,
      float keepScale,
      MemorySegment dQkv,
      long dQkvOffset,
      long dQkvStride,
      int batch,
      int rows,
      int heads,
      int headSize,
      float scale) {
    Checks.floats("qkv", qkv);
    AttentionCall call = AttentionCall.SPARES.take();
    try {
      setPacked(call.q, call.k, call.v, qkv, qkvOffset, qkvStride, batch, rows, heads, headSize);
      Checks.floats("dQkv", dQkv);
      setPacked(
          call.dq, call.dk, call.dv, dQkv, dQkvOffset, dQkvStride, batch, rows, heads, headSize);
      call.out.set(out, outOffset, batch, rows, heads, headSize, rows * outStride, outStride);
      call.dOut.set(dOut, dOutOffset, batch, rows, heads, headSize, rows * dOutStride, dOutStride);
      call.setLse(lse, lseOffset);
      call.setProblem(scale, true, rows);
      call.setDropout(keep, keepFirstBit, keepScale);
      backward(call);
    } finally {
      call.release();
    }
  }

  /**
   * Attention of the newest positions to a cache of keys and values, which holds theirs already.
   * Few queries stream the cache once at the speed of memory; many are computed as blocks.
   *
   * @param q queries of the last {@code rows} of {@code keys} positions, {@code [batch, rows, heads
   *     * headSize]}
   * @param qOffset first float
   * @param qStride distance in floats between rows; sequences follow each other
   * @param kCache keys {@code [batch, positions, heads * headSize]}
   * @param kOffset first float
   * @param vCache values, likewise
   * @param vOffset first float
   * @param cacheBatchStride distance in floats between sequences in both caches
   * @param cacheStride distance in floats between positions in both caches
   * @param keys filled positions of the cache, those of the queries among them
   * @param out written, shaped as the queries
   * @param outOffset first float
   * @param outStride distance in floats between rows
   * @param batch number of sequences
   * @param rows number of queries in a sequence
   * @param heads number of heads
   * @param headSize floats of a head
   * @param scale factor of the scores
   * @throws IllegalArgumentException see the class
   */
  public static void decode(
      MemorySegment q,
      long qOffset,
      long qStride,
      MemorySegment kCache,
      long kOffset,
      MemorySegment vCache,
      long vOffset,
      long cacheBatchStride,
      long cacheStride,
      int keys,
      MemorySegment out,
      long outOffset,
      long outStride,
      int batch,
      int rows,
      int heads,
      int headSize,
      float scale) {
    Checks.floats("kCache", kCache);
    Checks.floats("vCache", vCache);
    AttentionCall call = AttentionCall.SPARES.take();
    try {
      call.q.set(q, qOffset, batch, rows, heads, headSize, rows * qStride, qStride);
      call.k.set(kCache, kOffset, batch, keys, heads, headSize, cacheBatchStride, cacheStride);
      call.v.set(vCache, vOffset, batch, keys, heads, headSize, cacheBatchStride, cacheStride);
      call.out.set(out, outOffset, batch, rows, heads, headSize, rows * outStride, outStride);
      call.setLse(null, 0);
      call.setProblem(scale, true, keys);
      call.setDropout(null, 0, 1);
      forward(call);
    } finally {
      call.release();
    }
  }

  private static void setDropout(AttentionCall call, Dropout dropout) {
    if (dropout == null) {
      call.setDropout(null, 0, 1);
    } else if (dropout.keep() == null) {
      throw new IllegalArgumentException("keep is null");
    } else {
      call.setDropout(dropout.keep(), dropout.firstBit(), dropout.scale());
    }
  }

  private static void setPacked(
      AttentionOperand q,
      AttentionOperand k,
      AttentionOperand v,
      MemorySegment segment,
      long offset,
      long stride,
      int batch,
      int rows,
      int heads,
      int headSize) {
    long width = (long) heads * headSize;
    q.set(segment, offset, batch, rows, heads, headSize, rows * stride, stride);
    k.set(segment, offset + width, batch, rows, heads, headSize, rows * stride, stride);
    v.set(segment, offset + 2 * width, batch, rows, heads, headSize, rows * stride, stride);
  }

  private static void forward(AttentionCall call) {
    requireInputs(call);
    call.out.requireShape(call.batch, call.queries, call.heads, call.headSize, "q");
    call.out.requireWritable();
    call.out.requireDisjoint(call.q);
    call.out.requireDisjoint(call.k);
    call.out.requireDisjoint(call.v);
    requireDisjoint(call.out, "keep", call.keep, 0, keepBytes(call), 1);
    if (call.lse != null) {
      Checks.writable("lse", call.lse, call.lseAt / Float.BYTES, call.lseFloats());
      requireLseDisjoint(call, call.q);
      requireLseDisjoint(call, call.k);
      requireLseDisjoint(call, call.v);
      requireLseDisjoint(call, call.out);
    }
    if (call.out.isEmpty() && (call.lse == null || call.lseFloats() == 0)) {
      return;
    }
    AttentionHeap.withNative(call, Attention::compute);
  }

  private static void backward(AttentionCall call) {
    requireInputs(call);
    call.out.requireShape(call.batch, call.queries, call.heads, call.headSize, "q");
    call.dOut.requireShape(call.batch, call.queries, call.heads, call.headSize, "q");
    call.dq.requireShape(call.batch, call.queries, call.heads, call.headSize, "q");
    call.dk.requireShape(call.batch, call.keys, call.heads, call.headSize, "k");
    call.dv.requireShape(call.batch, call.keys, call.heads, call.headSize, "k");
    call.out.requireReadable();
    call.dOut.requireReadable();
    Checks.readable("lse", call.lse, call.lseAt / Float.BYTES, call.lseFloats());
    requireOutput(call, call.dq);
    requireOutput(call, call.dk);
    requireOutput(call, call.dv);
    call.dq.requireDisjoint(call.dk);
    call.dq.requireDisjoint(call.dv);
    call.dk.requireDisjoint(call.dv);
    if (call.batch == 0 || call.heads == 0 || call.headSize == 0) {
      return;
    }
    AttentionHeap.withNative(call, Attention::computeGradients);
  }

  private static void requireInputs(AttentionCall call) {
    call.k.requireShape(call.batch, call.keys, call.heads, call.headSize, "q");
    call.v.requireShape(call.batch, call.keys, call.heads, call.headSize, "k");
    call.q.requireReadable();
    call.k.requireReadable();
    call.v.requireReadable();
  }

  private static void requireOutput(AttentionCall call, AttentionOperand written) {
    written.requireWritable();
    written.requireDisjoint(call.q);
    written.requireDisjoint(call.k);
    written.requireDisjoint(call.v);
    written.requireDisjoint(call.out);
    written.requireDisjoint(call.dOut);
    requireDisjoint(written, "lse", call.lse, call.lseAt / 4, call.lseFloats(), Float.BYTES);
    requireDisjoint(written, "keep", call.keep, 0, keepBytes(call), 1);
  }

  private static void requireLseDisjoint(AttentionCall call, AttentionOperand operand) {
    requireDisjoint(operand, "lse", call.lse, call.lseAt / 4, call.lseFloats(), Float.BYTES);
  }

  private static long keepBytes(AttentionCall call) {
    return call.keep == null ? 0 : call.keep.byteSize();
  }

  private static void requireDisjoint(
      AttentionOperand operand,
      String name,
      MemorySegment other,
      long offset,
      long count,
      int bytes) {
    if (other != null) {
      Checks.disjoint(
          operand.name,
          operand.segment,
          operand.at / Float.BYTES,
          operand.extent(),
          Float.BYTES,
          name,
          other,
          offset,
          count,
          bytes);
    }
  }

  private static void compute(AttentionCall call) {
    if (call.queries <= FEW_QUERIES && call.lse == null && call.keep == null && call.causal) {
      try (Scratch scratch = Scratch.take(AttentionDecode.partialBytes(call))) {
        call.partial = scratch.segment;
        Workers.parallel(call.batch * AttentionDecode.chunks(call), call.decodeTask);
        Workers.parallel(call.batch * call.heads, call.combineTask);
      }
      return;
    }
    call.chooseGroups();
    Workers.parallel(call.batch * call.heads * call.groups, call.forwardTask);
  }

  private static void computeGradients(AttentionCall call) {
    Workers.parallel(call.batch * call.heads, call.backwardTask);
  }
}
