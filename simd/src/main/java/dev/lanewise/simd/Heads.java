package dev.lanewise.simd;

import java.lang.foreign.MemorySegment;

/**
 * A view of {@code [batch, rows, heads, headSize]} floats inside a segment: the queries, keys,
 * values or outputs of {@link Attention}, wherever they lie.
 *
 * <p>Element {@code (b, t, h, d)} is float {@code offset + b * batchStride + t * rowStride + h *
 * headStride + d} of the segment. So one view reads the keys out of packed rows that hold queries,
 * keys and values one after the other, another a tensor laid out {@code [batch, heads, rows,
 * headSize]}, a third the filled part of a cache. Heads that share keys and values have a head
 * stride of 0. A view owns nothing and is cheap; keep it and use it again.
 *
 * @param segment memory that holds the floats; native or a float array, at any alignment
 * @param offset first float of the view, counted from the segment's start
 * @param batch number of sequences
 * @param rows number of positions in a sequence
 * @param heads number of heads
 * @param headSize floats of one head at one position, contiguous
 * @param batchStride distance in floats between sequences
 * @param rowStride distance in floats between positions
 * @param headStride distance in floats between heads
 */
public record Heads(
    MemorySegment segment,
    long offset,
    int batch,
    int rows,
    int heads,
    int headSize,
    long batchStride,
    long rowStride,
    long headStride) {

  /**
   * Checks the view against its segment.
   *
   * @throws IllegalArgumentException if a dimension, the offset or a stride is negative, or the
   *     view reaches past the segment
   */
  public Heads {
    Checks.floats("segment", segment);
    AttentionOperand.check(
        "view", segment, offset, batch, rows, heads, headSize, batchStride, rowStride, headStride);
  }

  /**
   * The view of rows that hold all heads one after the other, sequences following each other
   * without a gap: queries, keys or values inside packed rows, or an output of its own.
   *
   * @param segment memory that holds the floats
   * @param offset first float of the view
   * @param batch number of sequences
   * @param rows number of positions in a sequence
   * @param heads number of heads
   * @param headSize floats of one head at one position
   * @param rowStride distance in floats between positions: {@code heads * headSize} when dense,
   *     three times that when packed
   * @return the view
   */
  public static Heads ofRows(
      MemorySegment segment,
      long offset,
      int batch,
      int rows,
      int heads,
      int headSize,
      long rowStride) {
    return new Heads(
        segment, offset, batch, rows, heads, headSize, rows * rowStride, rowStride, headSize);
  }

  /**
   * The view of a dense tensor {@code [batch, heads, rows, headSize]}.
   *
   * @param segment memory that holds the floats
   * @param offset first float of the view
   * @param batch number of sequences
   * @param rows number of positions in a sequence
   * @param heads number of heads
   * @param headSize floats of one head at one position
   * @return the view
   */
  public static Heads ofHeads(
      MemorySegment segment, long offset, int batch, int rows, int heads, int headSize) {
    long head = (long) rows * headSize;
    return new Heads(segment, offset, batch, rows, heads, headSize, heads * head, headSize, head);
  }
}
