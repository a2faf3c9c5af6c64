package dev.lanewise.core.format;

import java.util.LinkedHashMap;
import java.util.SequencedMap;

/**
 * Sizes of a model of GPT-2's architecture.
 *
 * @param vocabulary number of tokens
 * @param context longest sequence
 * @param layers number of transformer blocks
 * @param heads attention heads, a divisor of the width
 * @param width numbers per token in the residual stream
 */
public record Gpt2Shape(int vocabulary, int context, int layers, int heads, int width) {
  /**
   * Checks the sizes.
   *
   * @throws IllegalArgumentException if one is not above 0 or the heads do not divide the width
   */
  public Gpt2Shape {
    if (vocabulary < 1 || context < 1 || layers < 1 || heads < 1 || width < 1) {
      throw new IllegalArgumentException(
          "Every size of a model must be above 0: vocabulary "
              + vocabulary
              + ", context "
              + context
              + ", layers "
              + layers
              + ", heads "
              + heads
              + ", width "
              + width
              + ".");
    }
    if (width % heads != 0) {
      throw new IllegalArgumentException(
          heads + " attention heads do not divide the width " + width + ".");
    }
  }

  /**
   * Names and shapes of the parameters, linear weights as [outputs, inputs], in the order of the
   * computation; without {@code lm_head.weight}, which an untied model has besides.
   */
  public SequencedMap<String, long[]> parameters() {
    long c = width;
    SequencedMap<String, long[]> shapes = new LinkedHashMap<>();
    shapes.put("wte.weight", new long[] {vocabulary, c});
    shapes.put("wpe.weight", new long[] {context, c});
    for (int layer = 0; layer < layers; layer++) {
      String h = "h." + layer + ".";
      pair(shapes, h + "ln_1", c);
      pair(shapes, h + "attn.c_attn", 3 * c, c);
      pair(shapes, h + "attn.c_proj", c, c);
      pair(shapes, h + "ln_2", c);
      pair(shapes, h + "mlp.c_fc", 4 * c, c);
      pair(shapes, h + "mlp.c_proj", c, 4 * c);
    }
    pair(shapes, "ln_f", c);
    return shapes;
  }

  private static void pair(SequencedMap<String, long[]> shapes, String name, long... weight) {
    shapes.put(name + ".weight", weight);
    shapes.put(name + ".bias", new long[] {weight[0]});
  }
}
