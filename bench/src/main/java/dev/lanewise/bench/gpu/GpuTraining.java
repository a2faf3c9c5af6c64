package dev.lanewise.bench.gpu;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.model.Gpt;
import dev.lanewise.core.model.GptConfig;
import dev.lanewise.core.nn.AdamW;
import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.core.tensor.Tape;
import dev.lanewise.core.tensor.Tensor;
import java.util.Map;

/**
 * The steps of a trainer over batches in a fixed order, which a peer in another language can take
 * as well: row r of step s starts at {@code ((s * batch + r) * context) mod (tokens - context -
 * 1)}. Rate 6e-4 after 20 steps of warm-up, AdamW 0.9, 0.95, decay 0.1 on matrices, norm clipped at
 * 1.
 */
final class GpuTraining implements AutoCloseable {
  private final Tape tape;
  private final Gpt model;
  private final AdamW optimizer;
  private final short[] tokens;
  private final int batch;
  private final int context;
  private final int[] inputs;
  private final int[] targets;
  private final Tensor ids;
  private final Tensor labels;
  private int step;
  private long queueing;

  GpuTraining(Backend backend, GptConfig config, short[] tokens, int batch, long seed) {
    this.tokens = tokens;
    this.batch = batch;
    context = config.contextLength();
    tape = new Tape(backend);
    TorchGenerator generator = new TorchGenerator(seed);
    model = new Gpt(tape, config, generator);
    model.visit(
        "",
        (name, parameter) -> {
          if (parameter.shape().rank() == 2) {
            boolean residual = name.endsWith("c_proj.weight");
            double std = residual ? 0.02 / Math.sqrt(2.0 * config.layers()) : 0.02;
            parameter.set(segment -> generator.normal(segment, 0, std));
          }
        });
    optimizer =
        new AdamW(tape, parameter -> parameter.shape().rank() == 2)
            .betas(0.9, 0.95)
            .weightDecay(0.1);
    inputs = new int[batch * context];
    targets = new int[batch * context];
    ids = tape.ids(inputs, batch, context);
    labels = tape.ids(targets, batch, context);
  }

  Map<String, Tensor> parameters() {
    return model.namedParameters();
  }

  /** Time that {@link #step} took for what comes before it first waits for the device. */
  long queueingNanos() {
    return queueing;
  }

  /** One step; its loss. */
  double step() {
    long began = System.nanoTime();
    int room = tokens.length - context - 1;
    for (int row = 0; row < batch; row++) {
      int start = (int) (((long) step * batch + row) * context % room);
      for (int t = 0; t < context; t++) {
        inputs[row * context + t] = tokens[start + t] & 0xffff;
        targets[row * context + t] = tokens[start + t + 1] & 0xffff;
      }
    }
    ids.set(inputs);
    labels.set(targets);
    optimizer.zeroGrad();
    tape.reset();
    Tensor loss = model.loss(ids, labels);
    loss.backward();
    queueing += System.nanoTime() - began;
    double value = loss.item();
    optimizer.gradientNorm(1);
    optimizer.step(6e-4 * Math.min(1.0, (step + 1) / 20.0));
    step++;
    return value;
  }

  @Override
  public void close() {
    optimizer.close();
    tape.close();
  }
}
