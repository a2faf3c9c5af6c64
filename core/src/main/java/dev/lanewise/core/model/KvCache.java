package dev.lanewise.core.model;

import dev.lanewise.core.tensor.Tape;
import dev.lanewise.core.tensor.Tensor;

/** Keys and values of the positions that a model has seen, for each layer. */
public final class KvCache {
  private final Tensor[] keys;
  private final Tensor[] values;
  private final int capacity;
  private int length;

  /**
   * An empty cache.
   *
   * @param tape where it lives
   * @param config the model's sizes
   * @param batch sequences side by side
   * @param capacity most positions, at most the model's context length
   */
  public KvCache(Tape tape, GptConfig config, int batch, int capacity) {
    if (capacity < 1 || capacity > config.contextLength()) {
      throw new IllegalArgumentException(
          "a cache of " + capacity + " positions for a context of " + config.contextLength());
    }
    this.capacity = capacity;
    keys = new Tensor[config.layers()];
    values = new Tensor[config.layers()];
    for (int i = 0; i < config.layers(); i++) {
      keys[i] = tape.activations(batch, capacity, config.channels());
      values[i] = tape.activations(batch, capacity, config.channels());
    }
  }

  Tensor keys(int layer) {
    return keys[layer];
  }

  Tensor values(int layer) {
    return values[layer];
  }

  /** Number of positions in the cache. */
  public int length() {
    return length;
  }

  /** Most positions that fit. */
  public int capacity() {
    return capacity;
  }

  /** Bytes that it takes. */
  public long bytes() {
    long bytes = 0;
    for (int i = 0; i < keys.length; i++) {
      bytes += keys[i].data().byteSize() + values[i].data().byteSize();
    }
    return bytes;
  }

  void grow(int positions) {
    length += positions;
  }

  /** Forgets all positions from one on. */
  public void truncate(int newLength) {
    if (newLength < 0 || newLength > length) {
      throw new IllegalArgumentException("truncate to " + newLength + " of " + length);
    }
    length = newLength;
  }
}
