package dev.lanewise.core.backend;

import dev.lanewise.core.base.InputException;
import dev.lanewise.core.random.TorchGenerator;
import java.lang.foreign.MemorySegment;
import java.util.List;

/**
 * A device: its memory and the fused operations on it.
 *
 * <p>All matrices are dense and row-major. Activations have {@link #activationType()}; parameters,
 * parameter gradients, optimiser state, statistics (mean, rstd, lse) and losses are float32; ids
 * and targets are int32. {@code rows} counts tokens, {@code channels} the model's width. An
 * argument marked nullable may be null, which leaves out what it stands for. Where a result is said
 * to be added, it is added to what the buffer holds; otherwise it is overwritten. Outputs may not
 * overlap inputs unless it is said. Shapes are trusted to be those that the caller made the buffers
 * for; a backend checks lengths once at its door and throws {@link IllegalArgumentException}.
 *
 * <p>Calls are queued in order; results are visible to {@link #download} and after {@link
 * #synchronize}. A backend is driven by one thread at a time. The same calls give the same bits.
 */
public interface Backend extends AutoCloseable {

  /** Short name, {@code cpu} or {@code cuda}. */
  String name();

  /** One line for people: which device this is and how it is used. */
  String description();

  /** Type of activations: float32, or bfloat16 where the device trains in mixed precision. */
  DType activationType();

  /** Memory that {@link #allocate} can still hand out, in bytes; an estimate. */
  long availableMemory();

  /**
   * Whether results that one pass over memory makes again are better kept for backward. Where
   * arithmetic is far faster than memory, or memory plentiful, they are.
   */
  default boolean keepsActivations() {
    return false;
  }

  /**
   * Says that weights of linear layers stay as they are until {@link #releaseWeights}, as in
   * generating: a device may then keep them in another form beside.
   *
   * @param form how; a device that has no other form for the same results keeps them as they are
   * @throws InputException if a form that changes results is not to be had here
   */
  default void freezeWeights(FrozenWeights form) {
    if (form != FrozenWeights.EXACT) {
      throw new InputException(
          "Weights as " + form + " are for a CPU; leave that out, or compute with --device cpu.");
    }
  }

  /** Says that weights may change again. */
  default void releaseWeights() {}

  // Memory ---------------------------------------------------------------------------------------

  /**
   * Allocates zeroed memory, aligned to 64 bytes or more, that lives until the backend is closed or
   * {@link #free} is called.
   *
   * @throws dev.lanewise.core.base.InputException if the device has not that much, with figures
   */
  Buffer allocate(DType type, long length);

  /** Frees a buffer that {@link #allocate} made; its views must not be used any more. */
  void free(Buffer buffer);

  /** Copies from host memory, byte for byte; sizes must be equal. */
  void upload(MemorySegment from, Buffer to);

  /** Copies to host memory, byte for byte; waits until the data is there. */
  void download(Buffer from, MemorySegment to);

  /**
   * The memory itself, where the host can read it in place.
   *
   * @return memory of {@code buffer.byteSize()} bytes, or null where a {@link #download} is needed
   */
  default MemorySegment hostMemory(Buffer buffer) {
    return null;
  }

  /** Sets every element of a float32 or activation buffer. */
  void fill(Buffer buffer, float value);

  /** Copies, converting between float32 and bfloat16 where the types differ. */
  void copy(Buffer from, Buffer to);

  /** Waits until everything queued has run; failures of queued work surface here at the latest. */
  void synchronize();

  // Fused layers
  // -----------------------------------------------------------------------------------

  /**
   * Looks up rows: {@code out[b, t] = table[ids[b, t]] + positions[firstPosition + t]}.
   *
   * @param ids int32 {@code [batch * time]}, each in {@code [0, vocab)}; the caller has checked
   *     them
   * @param table float32 {@code [vocab, channels]}
   * @param positions nullable; float32 {@code [maxTime, channels]}
   * @param out {@code [batch * time, channels]}
   */
  void embedding(
      Buffer ids,
      Buffer table,
      Buffer positions,
      int firstPosition,
      Buffer out,
      int batch,
      int time,
      int channels);

  /**
   * Gradient of {@link #embedding}; both results are added.
   *
   * @param dTable nullable; float32 {@code [vocab, channels]}
   * @param dPositions nullable; float32 {@code [maxTime, channels]}, its rows from firstPosition on
   */
  void embeddingBackward(
      Buffer ids,
      Buffer dOut,
      Buffer dTable,
      Buffer dPositions,
      int firstPosition,
      int batch,
      int time,
      int channels);

  /**
   * Layer normalisation of each row, biased variance, eps 1e-5.
   *
   * @param mean float32 {@code [rows]}, kept for backward
   * @param rstd float32 {@code [rows]}, kept for backward
   */
  void layerNorm(
      Buffer x,
      Buffer weight,
      Buffer bias,
      Buffer out,
      Buffer mean,
      Buffer rstd,
      int rows,
      int channels);

  /**
   * Gradient of {@link #layerNorm}.
   *
   * @param dx written, or added to when {@code accumulate}
   * @param dWeight nullable; added
   * @param dBias nullable; added
   */
  void layerNormBackward(
      Buffer dOut,
      Buffer x,
      Buffer weight,
      Buffer mean,
      Buffer rstd,
      Buffer dx,
      boolean accumulate,
      Buffer dWeight,
      Buffer dBias,
      int rows,
      int channels);

  /**
   * {@code out = activation(x · weightᵀ + bias) + residual}.
   *
   * @param x {@code [rows, in]}
   * @param weight float32 {@code [outputs, inputs]}, as nn.Linear stores it
   * @param bias nullable; float32 {@code [outputs]}
   * @param preactivation nullable; receives {@code x · weightᵀ + bias}; only with an activation
   * @param residual nullable; {@code [rows, outputs]}; may be {@code out} itself; only without an
   *     activation
   * @param out {@code [rows, outputs]}
   */
  void linear(
      Buffer x,
      Buffer weight,
      Buffer bias,
      Activation activation,
      Buffer preactivation,
      Buffer residual,
      Buffer out,
      int rows,
      int inputs,
      int outputs);

  /**
   * {@code dx = (dOut · weight) ⊙ activation'(preactivation)}.
   *
   * @param activation the activation that made the linear operation's input, or NONE
   * @param preactivation what that activation was applied to, {@code [rows, inputs]}; null with
   *     NONE
   * @param dx {@code [rows, inputs]}; written, or added to when {@code accumulate} (not with an
   *     activation)
   */
  void linearBackwardInput(
      Buffer dOut,
      Buffer weight,
      Activation activation,
      Buffer preactivation,
      Buffer dx,
      boolean accumulate,
      int rows,
      int inputs,
      int outputs);

  /**
   * {@code dWeight = dOutᵀ · x} and {@code dBias = column sums of dOut}.
   *
   * @param dWeight nullable; float32 {@code [outputs, inputs]}
   * @param dBias nullable; float32 {@code [outputs]}
   * @param accumulate whether both are added to, instead of written
   */
  void linearBackwardWeight(
      Buffer dOut,
      Buffer x,
      Buffer dWeight,
      Buffer dBias,
      boolean accumulate,
      int rows,
      int inputs,
      int outputs);

  /**
   * Causal attention over packed queries, keys and values.
   *
   * @param qkv {@code [batch * time, 3 * heads * headSize]}: each row holds q, k, v one after the
   *     other
   * @param dropoutMask nullable; keep bits over {@code [batch, heads, time, time]}, bit {@code i %
   *     8} of byte {@code i / 8} for element i
   * @param keepScale 1 / (1 - p) with a mask, 1 without
   * @param out {@code [batch * time, heads * headSize]}
   * @param lse float32 {@code [batch, heads, time]}, log-sum-exp of the scaled scores, for backward
   */
  void attention(
      Buffer qkv,
      Buffer dropoutMask,
      float keepScale,
      Buffer out,
      Buffer lse,
      int batch,
      int time,
      int heads,
      int headSize);

  /**
   * Gradient of {@link #attention}.
   *
   * @param dQkv written, laid out as {@code qkv}
   */
  void attentionBackward(
      Buffer dOut,
      Buffer qkv,
      Buffer out,
      Buffer lse,
      Buffer dropoutMask,
      float keepScale,
      Buffer dQkv,
      int batch,
      int time,
      int heads,
      int headSize);

  /**
   * Whether there are {@link #attentionWithin} and its gradient.
   *
   * @return false unless a device says otherwise
   */
  default boolean isolatesDocuments() {
    return false;
  }

  /**
   * As {@link #attention}, within documents: a position sees those from its document's start on.
   *
   * <p>The documents of a row, from 0 on, each of n positions, have their parts of {@code lse} and
   * of the mask one after the other, {@code [heads, n]} and {@code [heads, n, n]}; a row's parts
   * begin where they do without documents.
   *
   * @param positions int32 {@code [batch, time]}; 0 where a document begins
   * @throws UnsupportedOperationException unless {@link #isolatesDocuments}
   */
  default void attentionWithin(
      Buffer positions,
      Buffer qkv,
      Buffer dropoutMask,
      float keepScale,
      Buffer out,
      Buffer lse,
      int batch,
      int time,
      int heads,
      int headSize) {
    throw new UnsupportedOperationException(name() + " has no attention within documents");
  }

  /**
   * Gradient of {@link #attentionWithin}.
   *
   * @param dQkv written, laid out as {@code qkv}
   * @throws UnsupportedOperationException unless {@link #isolatesDocuments}
   */
  default void attentionWithinBackward(
      Buffer positions,
      Buffer dOut,
      Buffer qkv,
      Buffer out,
      Buffer lse,
      Buffer dropoutMask,
      float keepScale,
      Buffer dQkv,
      int batch,
      int time,
      int heads,
      int headSize) {
    throw new UnsupportedOperationException(name() + " has no attention within documents");
  }

  /**
   * Attention of new positions to a cache. The new keys and values are stored in the cache at
   * {@code position} first.
   *
   * @param qkv {@code [batch * time, 3 * heads * headSize]} of the new positions
   * @param keys cache, {@code [batch, maxTime, heads * headSize]}
   * @param values cache, likewise
   * @param position number of positions in the cache before this call
   * @param out {@code [batch * time, heads * headSize]}
   */
  void attentionCached(
      Buffer qkv,
      Buffer keys,
      Buffer values,
      int position,
      int maxTime,
      Buffer out,
      int batch,
      int time,
      int heads,
      int headSize);

  /**
   * Mean cross-entropy of logits, with its gradient if wanted.
   *
   * @param logits {@code [rows, vocab]}
   * @param targets int32 {@code [rows]}, in {@code [0, vocab)} or {@code ignoreIndex}
   * @param loss float32 {@code [1]}: sum of losses over the number of rows that are not ignored
   * @param dLogits nullable; may be {@code logits} itself; gradient of {@code gradientScale * loss}
   */
  void crossEntropy(
      Buffer logits,
      Buffer targets,
      int ignoreIndex,
      float labelSmoothing,
      Buffer loss,
      Buffer dLogits,
      float gradientScale,
      int rows,
      int vocab);

  /**
   * Rows of logits that {@link #linearCrossEntropy} holds at a time.
   *
   * @param rows rows of {@code x}
   * @param vocab rows of {@code weight}
   * @param mostRows most rows to hold; 0 for what the device likes best
   */
  int headRows(int rows, int vocab, int mostRows);

  /** Bytes that {@link #linearCrossEntropy} takes for logits beside those that it is lent. */
  default long ownLogitBytes(int rows, int vocab, int mostRows) {
    return (long) headRows(rows, vocab, mostRows) * vocab * activationType().bytes;
  }

  /** Bytes that {@link #linearCrossEntropy} is best lent for logits; 0 if it needs none. */
  default long lentLogitBytes(int rows, int vocab, int mostRows) {
    return 0;
  }

  /**
   * Output head and mean cross-entropy in one, without holding {@code [rows, vocab]} logits.
   *
   * @param x {@code [rows, channels]}
   * @param weight float32 {@code [vocab, channels]}
   * @param loss float32 {@code [1]}
   * @param dx nullable (then only the loss is computed); written with the gradient of {@code
   *     gradientScale * loss}
   * @param dWeight nullable; float32; written likewise, or added to when {@code accumulate}
   * @param mostRows most rows of logits to hold at a time; 0 for what the device likes best. It
   *     decides in which order {@code dWeight} is summed
   * @param logits nullable; memory of at least {@link #lentLogitBytes}, undefined afterwards;
   *     without it the device keeps memory of its own
   */
  void linearCrossEntropy(
      Buffer x,
      Buffer weight,
      Buffer targets,
      int ignoreIndex,
      Buffer loss,
      Buffer dx,
      Buffer dWeight,
      boolean accumulate,
      float gradientScale,
      int rows,
      int channels,
      int vocab,
      int mostRows,
      Buffer logits);

  // Matrices and elements
  // ----------------------------------------------------------------------------

  /**
   * {@code c[i] = op(a[i]) · op(b[i])} for each matrix of a batch.
   *
   * @param a batch of {@code [m, k]}, or {@code [k, m]} when {@code transposeA}
   * @param b batch of {@code [k, n]}, or {@code [n, k]} when {@code transposeB}; one matrix for the
   *     whole batch when {@code sharedB}
   * @param c batch of {@code [m, n]}; written, or added to when {@code accumulate}
   */
  void matmul(
      Buffer a,
      boolean transposeA,
      Buffer b,
      boolean transposeB,
      boolean sharedB,
      Buffer c,
      boolean accumulate,
      int batch,
      int m,
      int n,
      int k);

  /** {@code y = f(x)}; {@code y} may be {@code x}. */
  void unary(Unary function, Buffer x, Buffer y);

  /**
   * Gradient of {@link #unary}: {@code dx = dy · f'(x)}, with {@code y = f(x)} at hand.
   *
   * @param dx written, or added to when {@code accumulate}; may be {@code dy} when not
   */
  void unaryBackward(Unary function, Buffer x, Buffer y, Buffer dy, Buffer dx, boolean accumulate);

  /** {@code out = f(a, b)} over {@code [rows, cols]}, b broadcast; {@code out} may be {@code a}. */
  void binary(
      Binary function, Buffer a, Buffer b, Broadcast broadcast, Buffer out, int rows, int cols);

  /** {@code y = alpha * x}, or {@code y += alpha * x} when {@code accumulate}; y may be x. */
  void scale(Buffer x, float alpha, Buffer y, boolean accumulate);

  /** {@code y = x + alpha}; y may be x. */
  void addScalar(Buffer x, float alpha, Buffer y);

  /**
   * Sums each column of {@code [rows, cols]} into {@code [cols]}; added when {@code accumulate}.
   */
  void sumRows(Buffer x, Buffer out, boolean accumulate, int rows, int cols);

  /** Sums each row of {@code [rows, cols]} into {@code [rows]}; added when {@code accumulate}. */
  void sumColumns(Buffer x, Buffer out, boolean accumulate, int rows, int cols);

  /** Softmax of each row; {@code y} may be {@code x}. */
  void softmax(Buffer x, Buffer y, int rows, int cols);

  /** {@code dx = y ⊙ (dy − Σ dy·y)}; added when {@code accumulate}. */
  void softmaxBackward(Buffer y, Buffer dy, Buffer dx, boolean accumulate, int rows, int cols);

  /** Logarithm of the softmax of each row; {@code y} may be {@code x}. */
  void logSoftmax(Buffer x, Buffer y, int rows, int cols);

  /** {@code dx = dy − exp(y) · Σ dy}; added when {@code accumulate}. */
  void logSoftmaxBackward(Buffer y, Buffer dy, Buffer dx, boolean accumulate, int rows, int cols);

  /** Picks one element of each row: {@code out[i] = x[i, ids[i]]}; ids have been checked. */
  void gather(Buffer x, Buffer ids, Buffer out, int rows, int cols);

  /** Gradient of {@link #gather}: {@code dx[i, ids[i]] += dy[i]}. */
  void gatherBackward(Buffer ids, Buffer dy, Buffer dx, int rows, int cols);

  /** Swaps the last two axes of each matrix {@code [rows, cols]} of a batch. */
  void transpose(Buffer x, Buffer y, int batch, int rows, int cols);

  /** Index of the largest element of each row, the first of equals; {@code out} is int32. */
  void argmax(Buffer x, Buffer out, int rows, int cols);

  /**
   * Draws keep bits, each 1 with probability {@code 1 - p}.
   *
   * @param mask uint8 {@code [ceil(count / 8)]}; bit {@code i % 8} of byte {@code i / 8} belongs to
   *     element i
   * @param generator source; the CPU consumes it as PyTorch's dropout does, a GPU takes a seed
   */
  void dropoutMask(TorchGenerator generator, double p, Buffer mask, long count);

  /** {@code y = keep ? x * keepScale : 0}; {@code y} may be {@code x}; added when accumulate. */
  void applyMask(Buffer x, Buffer mask, float keepScale, Buffer y, boolean accumulate);

  // Optimiser
  // ----------------------------------------------------------------------------------------

  /**
   * Euclidean norm of a gradient and the factor that clips it.
   *
   * @param gradients float32; all of them together are the gradient
   * @param maxNorm largest norm wanted; 0 leaves gradients as they are
   * @param result float32 {@code [2]}: the norm, and {@code min(1, maxNorm / (norm + 1e-6))}; the
   *     factor is 0 when the norm is not finite
   */
  void gradientNorm(List<Buffer> gradients, float maxNorm, Buffer result);

  /**
   * One AdamW step over a run of parameters. Does nothing when {@code clip}'s factor is 0.
   *
   * @param clip nullable; result of {@link #gradientNorm}, whose factor multiplies the gradient
   * @param step number of this step, from 1
   */
  void adamW(
      Buffer parameter,
      Buffer gradient,
      Buffer firstMoment,
      Buffer secondMoment,
      float learningRate,
      float beta1,
      float beta2,
      float epsilon,
      float weightDecay,
      long step,
      Buffer clip);

  /** Frees everything; the backend can't be used any more. */
  @Override
  void close();
}
