package dev.lanewise.core.model;

import dev.lanewise.core.nn.Linear;
import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.core.tensor.Tensor;

/**
 * How a GPT's parameters begin. Numbers are drawn in the order in which PyTorch would draw them.
 */
public final class GptInit {
  private final TorchGenerator generator;

  private GptInit(TorchGenerator generator) {
    this.generator = generator;
  }

  /**
   * GPT-2's own: weights N(0, 0.02), projections onto the residual stream N(0, 0.02 / √(2 layers)),
   * biases 0.
   *
   * @param model its parameters are overwritten
   * @param generator where the numbers come from
   */
  public static void gpt2(Gpt model, TorchGenerator generator) {
    GptInit init = new GptInit(generator);
    double residual = 0.02 / Math.sqrt(2.0 * model.config().layers());
    init.normal(model.tokens().weight(), 0.02);
    init.normal(model.positions().weight(), 0.02);
    for (Gpt.Block block : model.blocks()) {
      init.normal(block.qkv().weight(), 0.02);
      init.normal(block.attentionProjection().weight(), residual);
      init.normal(block.expansion().weight(), 0.02);
      init.normal(block.contraction().weight(), residual);
    }
    if (!model.config().tiedHead()) {
      init.normal(model.head().weight(), 0.02);
    }
  }

  /**
   * PyTorch's defaults in the tutorials' order of construction: embeddings N(0, 1), linear layers
   * uniform within 1/√inputs.
   *
   * @param model its parameters are overwritten
   * @param generator where the numbers come from
   * @param swapQueryAndKey whether the first of a block's three projections makes the keys and the
   *     second the queries, as in a tutorial that exchanges the two names
   */
  public static void torchDefaults(Gpt model, TorchGenerator generator, boolean swapQueryAndKey) {
    GptInit init = new GptInit(generator);
    init.normal(model.tokens().weight(), 1);
    init.normal(model.positions().weight(), 1);
    int channels = model.config().channels();
    int[] order = swapQueryAndKey ? new int[] {1, 0, 2} : new int[] {0, 1, 2};
    for (Gpt.Block block : model.blocks()) {
      for (int part : order) {
        slice(block.qkv(), part, channels).initialize(generator);
      }
      block.attentionProjection().initialize(generator);
      block.expansion().initialize(generator);
      block.contraction().initialize(generator);
    }
    if (!model.config().tiedHead()) {
      model.head().initialize(generator);
    }
  }

  /** One of the three projections that a block keeps in one layer. */
  private static Linear slice(Linear qkv, int part, int channels) {
    return new Linear(
        qkv.weight().rows(part * channels, channels),
        qkv.bias() == null ? null : qkv.bias().rows(part * channels, channels));
  }

  private void normal(Tensor tensor, double std) {
    tensor.set(out -> generator.normal(out, 0, std));
  }
}
