package dev.lanewise.core.format;

import dev.lanewise.core.base.InputException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
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
 * @param tensors floating point parameters by name, perhaps quantised
 * @param transposed whether the four linear weights of each block lie as [inputs, outputs]
 */
public record Gpt2Weights(
    Gpt2Shape shape, SequencedMap<String, StoredTensor> tensors, boolean transposed) {
  /** Name of the head's weight. */
  static final String HEAD = "lm_head.weight";

  private static final ValueLayout.OfShort SHORT = ValueLayout.JAVA_SHORT_UNALIGNED;
  private static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT_UNALIGNED;

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
        boolean turned = transposed && isLinear(entry.getKey());
        long[] size = entry.getValue();
        check(entry.getKey(), tensor, turned ? new long[] {size[1], size[0]} : size);
        ordered.put(entry.getKey(), tensor);
      } else if (entry.getKey().endsWith(".weight") && !entry.getKey().equals(HEAD)) {
        throw new InputException("The parameter '" + entry.getKey() + "' is missing.");
      }
    }
    tensors = Collections.unmodifiableSequencedMap(ordered);
  }

  /**
   * Parameters of which all linear weights lie as [outputs, inputs].
   *
   * @throws InputException if one is missing, unknown, of another shape, or not floating point
   */
  public Gpt2Weights(Gpt2Shape shape, SequencedMap<String, StoredTensor> tensors) {
    this(shape, tensors, false);
  }

  /** Whether a parameter is one of the four linear weights of a block. */
  static boolean isLinear(String name) {
    return name.endsWith(".c_attn.weight")
        || name.endsWith(".c_proj.weight")
        || name.endsWith(".c_fc.weight");
  }

  /** Whether queries, keys and values have a bias. */
  public boolean hasQkvBias() {
    return tensors.keySet().stream().anyMatch(name -> name.endsWith(".attn.c_attn.bias"));
  }

  /**
   * Copies a parameter to float32, linear weights as [outputs, inputs], and lets go of what of a
   * mapped file was read for it.
   *
   * @param name its name; a bias that is missing gives zeros
   * @param out as many float32 elements as it has
   */
  public void copyToFloat32(String name, MemorySegment out) {
    StoredTensor tensor = orZeros(name);
    if (!transposed || !isLinear(name)) {
      tensor.copyToFloat32(out);
    } else if (tensor.type() == ElementType.F32) {
      transpose(tensor, out);
    } else {
      try (Arena arena = Arena.ofShared()) {
        transpose(tensor.as(ElementType.F32, arena), out);
      }
    }
    if (tensor.data().isMapped()) {
      tensor.data().unload();
    }
  }

  /**
   * A parameter, linear weights as [outputs, inputs] or the other way round.
   *
   * @param name its name; a bias that is missing gives zeros
   * @param turned whether linear weights are wanted as [inputs, outputs]
   * @param arena owns it if it has to be copied
   */
  StoredTensor tensor(String name, boolean turned, Arena arena) {
    StoredTensor tensor = orZeros(name);
    if (turned == transposed || !isLinear(name)) {
      return tensor;
    }
    StoredTensor plain = tensor.type().quantised() ? tensor.as(ElementType.F32, arena) : tensor;
    long[] size = tensor.shape();
    MemorySegment out = arena.allocate(plain.data().byteSize(), Long.BYTES);
    transpose(plain, out);
    return new StoredTensor(plain.type(), new long[] {size[1], size[0]}, out);
  }

  /**
   * The same parameters with all linear weights as [outputs, inputs].
   *
   * @param arena owns those that have to be copied
   */
  Gpt2Weights upright(Arena arena) {
    SequencedMap<String, StoredTensor> upright = new LinkedHashMap<>();
    tensors.keySet().forEach(name -> upright.put(name, tensor(name, false, arena)));
    return new Gpt2Weights(shape, upright);
  }

  /**
   * Transposes a matrix of elements of 2, 4 or 8 bytes, tile by tile so that both sides stay in
   * cache.
   */
  private static void transpose(StoredTensor matrix, MemorySegment out) {
    MemorySegment in = matrix.data();
    long rows = matrix.shape()[0];
    long cols = matrix.shape()[1];
    int size = matrix.type().bytes();
    int tile = 32;
    for (long r0 = 0; r0 < rows; r0 += tile) {
      for (long c0 = 0; c0 < cols; c0 += tile) {
        for (long r = r0; r < Math.min(rows, r0 + tile); r++) {
          for (long c = c0; c < Math.min(cols, c0 + tile); c++) {
            long from = (r * cols + c) * size;
            long to = (c * rows + r) * size;
            switch (size) {
              case 2 -> out.set(SHORT, to, in.get(SHORT, from));
              case 4 -> out.set(INT, to, in.get(INT, from));
              default -> MemorySegment.copy(in, from, out, to, size);
            }
          }
        }
      }
    }
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
    if (size == null || size.length != 1) {
      throw new IllegalArgumentException("There is no parameter '" + name + "'.");
    }
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
      case F32, F16, BF16, F64, Q8_0, Q4_0 -> {}
      default ->
          throw new InputException(
              "The parameter '" + name + "' has elements " + tensor.type() + ", no floats.");
    }
  }
}
