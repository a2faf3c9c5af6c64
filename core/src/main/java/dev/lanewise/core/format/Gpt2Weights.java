package dev.lanewise.core.format;

import dev.lanewise.core.base.InputException;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.SequencedMap;

/**
 * Parameters of a model of GPT-2's architecture, whatever file they came from.
 *
 * <p>Names are those of {@link Gpt2Shape#parameters()}. A bias that is missing counts as zero;
 * {@code lm_head.weight} [vocabulary, width] is missing when the head is tied to the token
 * embedding.
 *
 * @param shape the model's sizes
 * @param tensors floating point parameters by name
 */
public record Gpt2Weights(Gpt2Shape shape, SequencedMap<String, StoredTensor> tensors) {
  /** Name of the head's weight. */
  static final String HEAD = "lm_head.weight";

  /**
   * Puts the parameters in order and checks them.
   *
   * @throws InputException if one is missing, unknown, of another shape, or not floating point
   */
  public Gpt2Weights {
    if (shape.layers() > tensors.size()) {
      throw new InputException(
          "There are " + tensors.size() + " parameters for " + shape.layers() + " layers.");
    }
    SequencedMap<String, long[]> expected = shape.parameters();
    expected.put(HEAD, new long[] {shape.vocabulary(), shape.width()});
    for (String name : tensors.keySet()) {
      if (!expected.containsKey(name)) {
        throw new InputException(
            "The parameter '" + name + "' is unknown to GPT-2's architecture.");
      }
    }
    SequencedMap<String, StoredTensor> ordered = new LinkedHashMap<>();
    for (Map.Entry<String, long[]> entry : expected.entrySet()) {
      StoredTensor tensor = tensors.get(entry.getKey());
      if (tensor != null) {
        check(entry.getKey(), tensor, entry.getValue());
        ordered.put(entry.getKey(), tensor);
      } else if (entry.getKey().endsWith(".weight") && !entry.getKey().equals(HEAD)) {
        throw new InputException("The parameter '" + entry.getKey() + "' is missing.");
      }
    }
    tensors = Collections.unmodifiableSequencedMap(ordered);
  }

  /** Whether the head uses the token embedding's weight. */
  public boolean tied() {
    return !tensors.containsKey(HEAD);
  }

  /** The tensor of that name; zeros for a bias that is missing. */
  StoredTensor orZeros(String name) {
    StoredTensor tensor = tensors.get(name);
    if (tensor != null) {
      return tensor;
    }
    long[] size = shape.parameters().get(name);
    return StoredTensor.float32(MemorySegment.ofArray(new float[(int) size[0]]), size);
  }

  private static void check(String name, StoredTensor tensor, long[] shape) {
    if (!Arrays.equals(tensor.shape(), shape)) {
      throw new InputException(
          "The parameter '"
              + name
              + "' has the shape "
              + Arrays.toString(tensor.shape())
              + " instead of "
              + Arrays.toString(shape)
              + ".");
    }
    switch (tensor.type()) {
      case F32, F16, BF16, F64 -> {}
      default ->
          throw new InputException(
              "The parameter '" + name + "' has elements " + tensor.type() + ", no floats.");
    }
  }
}
