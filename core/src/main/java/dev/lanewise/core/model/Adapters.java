package dev.lanewise.core.model;

import dev.lanewise.core.nn.Dropout;
import dev.lanewise.core.nn.LowRank;
import dev.lanewise.core.nn.Module;
import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.core.tensor.ParameterBlock;
import dev.lanewise.core.tensor.Shape;
import dev.lanewise.core.tensor.Tape;
import dev.lanewise.core.tensor.Tensor;
import java.util.function.BiConsumer;

/**
 * The corrections of low rank by which a model is fine-tuned. They are named as PEFT names them,
 * {@code h.0.attn.c_attn.lora_A.weight} and so on.
 */
public final class Adapters implements Module {
  private final Gpt model;
  private final LoraConfig config;
  private final Dropout dropout;

  Adapters(Gpt model, LoraConfig config, TorchGenerator generator) {
    this.model = model;
    this.config = config;
    dropout = new Dropout(config.dropout(), generator);
    model.namedParameters().values().forEach(Tensor::freeze);
    Tape tape = model.tape();
    tape.reserveParameters(paddedParameterCount());
    model
        .blocks()
        .replaceAll(
            block ->
                block.with(
                    (name, layer) -> {
                      if (!config.covers(name)) {
                        return layer;
                      }
                      Shape shape = layer.weight().shape();
                      LowRank adapter =
                          new LowRank(
                              tape,
                              shape.cols(),
                              shape.dim(0),
                              config.rank(),
                              config.alpha(),
                              dropout);
                      if (generator != null) {
                        adapter.initialize(generator);
                      }
                      return layer.with(adapter);
                    }));
  }

  private long paddedParameterCount() {
    long[] count = {0};
    for (Gpt.Block block : model.blocks()) {
      block.with(
          (name, layer) -> {
            if (config.covers(name)) {
              Shape shape = layer.weight().shape();
              count[0] +=
                  ParameterBlock.roundUp((long) config.rank() * shape.cols())
                      + ParameterBlock.roundUp((long) config.rank() * shape.dim(0));
            }
            return layer;
          });
    }
    return count[0];
  }

  /** Which layers are corrected, and how. */
  public LoraConfig config() {
    return config;
  }

  Dropout dropout() {
    return dropout;
  }

  @Override
  public void visit(String prefix, BiConsumer<String, Tensor> visitor) {
    for (int i = 0; i < model.blocks().size(); i++) {
      String block = prefix + "h." + i + ".";
      model
          .blocks()
          .get(i)
          .with(
              (name, layer) -> {
                if (layer.adapter() != null) {
                  layer.adapter().visit(block + name + ".", visitor);
                }
                return layer;
              });
    }
  }
}
