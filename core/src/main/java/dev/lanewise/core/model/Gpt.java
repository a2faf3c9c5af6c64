package dev.lanewise.core.model;

import dev.lanewise.core.backend.Activation;
import dev.lanewise.core.nn.Dropout;
import dev.lanewise.core.nn.Embedding;
import dev.lanewise.core.nn.LayerNorm;
import dev.lanewise.core.nn.Linear;
import dev.lanewise.core.nn.Module;
import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.core.tensor.ParameterBlock;
import dev.lanewise.core.tensor.Tape;
import dev.lanewise.core.tensor.Tensor;
import java.util.ArrayList;
import java.util.List;
import java.util.function.BiConsumer;
import java.util.function.BiFunction;
import java.util.function.Supplier;

/**
 * A GPT: token and position embedding, pre-norm transformer blocks, final norm, output head.
 *
 * <p>Parameters are zero, and norms the identity, until {@code GptInit} or a file fills them. They
 * have the names of Hugging Face's GPT-2, with weights {@code [outputs, inputs]}.
 */
public final class Gpt implements Module {
  private final Tape tape;
  private final GptConfig config;
  private final Embedding tokens;
  private final Embedding positions;
  private final List<Block> blocks = new ArrayList<>();
  private final LayerNorm finalNorm;
  private final Linear head;
  private final Dropout dropout;
  private Adapters adapters;

  /** Logits, and the loss when targets were given. */
  public record Output(Tensor logits, Tensor loss) {}

  /** Attention and a perceptron, each behind a norm and added to the residual stream. */
  record Block(
      LayerNorm norm1,
      Linear qkv,
      Linear attentionProjection,
      LayerNorm norm2,
      Linear expansion,
      Linear contraction)
      implements Module {

    Block(Tape tape, GptConfig config) {
      this(
          new LayerNorm(tape, config.channels()),
          new Linear(tape, config.channels(), 3 * config.channels(), config.qkvBias()),
          new Linear(tape, config.channels(), config.channels(), true),
          new LayerNorm(tape, config.channels()),
          new Linear(tape, config.channels(), 4 * config.channels(), true),
          new Linear(tape, 4 * config.channels(), config.channels(), true));
    }

    /** This block with other linear layers, made from the names and layers of these. */
    Block with(BiFunction<String, Linear, Linear> change) {
      return new Block(
          norm1,
          change.apply("attn.c_attn", qkv),
          change.apply("attn.c_proj", attentionProjection),
          norm2,
          change.apply("mlp.c_fc", expansion),
          change.apply("mlp.c_proj", contraction));
    }

    /** The perceptron's inner layer. */
    Tensor hidden(Tensor x) {
      return expansion.forward(norm2.forward(x), Activation.GELU_TANH);
    }

    @Override
    public void visit(String prefix, BiConsumer<String, Tensor> visitor) {
      norm1.visit(prefix + "ln_1.", visitor);
      qkv.visit(prefix + "attn.c_attn.", visitor);
      attentionProjection.visit(prefix + "attn.c_proj.", visitor);
      norm2.visit(prefix + "ln_2.", visitor);
      expansion.visit(prefix + "mlp.c_fc.", visitor);
      contraction.visit(prefix + "mlp.c_proj.", visitor);
    }
  }

  /**
   * A model in evaluation mode.
   *
   * @param tape where its parameters live
   * @param config its sizes
   * @param generator draws dropout in training; may be null without dropout
   */
  public Gpt(Tape tape, GptConfig config, TorchGenerator generator) {
    this.tape = tape;
    this.config = config;
    tape.reserveParameters(paddedParameterCount(config));
    int channels = config.channels();
    tokens = new Embedding(tape, config.vocabSize(), channels);
    positions = new Embedding(tape, config.contextLength(), channels);
    for (int i = 0; i < config.layers(); i++) {
      blocks.add(new Block(tape, config));
    }
    finalNorm = new LayerNorm(tape, channels);
    head =
        config.tiedHead()
            ? new Linear(tokens.weight(), null)
            : new Linear(tape, channels, config.vocabSize(), false);
    dropout = new Dropout(config.dropout(), generator);
  }

  private static long paddedParameterCount(GptConfig config) {
    long c = config.channels();
    long embedding = ParameterBlock.roundUp(config.vocabSize() * c);
    long row = ParameterBlock.roundUp(c);
    long block =
        6 * row
            + ParameterBlock.roundUp(3 * c * c)
            + (config.qkvBias() ? ParameterBlock.roundUp(3 * c) : 0)
            + ParameterBlock.roundUp(c * c)
            + 2 * ParameterBlock.roundUp(4 * c * c)
            + ParameterBlock.roundUp(4 * c);
    return embedding * (config.tiedHead() ? 1 : 2)
        + ParameterBlock.roundUp(config.contextLength() * c)
        + config.layers() * block
        + 2 * row;
  }

  /** The model's sizes. */
  public GptConfig config() {
    return config;
  }

  /** The tape that the model computes on. */
  public Tape tape() {
    return tape;
  }

  /** Training mode: dropout is active. */
  public Gpt train() {
    return training(true);
  }

  /** Evaluation mode: nothing is random. */
  public Gpt eval() {
    return training(false);
  }

  private Gpt training(boolean on) {
    dropout.training(on);
    if (adapters != null) {
      adapters.dropout().training(on);
    }
    return this;
  }

  /** Whether this is in training mode. */
  public boolean training() {
    return dropout.training();
  }

  /**
   * Freezes all parameters and gives layers corrections of low rank, which alone are trained. They
   * begin as PEFT's do: drawn layer by layer, and without effect at first.
   *
   * @param lora which layers, and how
   * @param generator draws first values, and dropout in training
   * @throws IllegalStateException if the model has such corrections already
   */
  public Adapters adapt(LoraConfig lora, TorchGenerator generator) {
    if (adapters != null) {
      throw new IllegalStateException("the model has corrections of low rank already");
    }
    adapters = new Adapters(this, lora, generator);
    return adapters;
  }

  /** The model's corrections of low rank; null if it has none. */
  public Adapters adapters() {
    return adapters;
  }

  /**
   * Adds the corrections of low rank to the weights and drops them: the same model in one piece.
   */
  public void mergeAdapters() {
    blocks.replaceAll(block -> block.with((name, layer) -> layer.merged()));
    adapters = null;
    tape.parametersUpdated();
  }

  /**
   * Computes something in evaluation mode and without recording, and leaves both as they were. What
   * only looks at a model goes through here, so that a model in training stays what it is, and so
   * does the generator that draws its dropout.
   *
   * @param body what is computed
   * @return what it returns
   */
  public <T> T evaluate(Supplier<T> body) {
    boolean training = training();
    boolean recording = tape.recording();
    eval();
    tape.setRecording(false);
    try {
      return body.get();
    } finally {
      tape.setRecording(recording);
      if (training) {
        train();
      }
    }
  }

  /**
   * Logits of every position.
   *
   * @param ids token ids {@code [batch, time]}, time at most the context length
   * @return {@code [batch, time, vocabSize]}
   */
  public Tensor forward(Tensor ids) {
    return head.forward(trunk(ids, (Tensor) null));
  }

  /**
   * Logits of every position and the mean cross-entropy.
   *
   * @param ids token ids {@code [batch, time]}
   * @param targets the ids that should come next, of the same shape; -100 where none counts
   */
  public Output forward(Tensor ids, Tensor targets) {
    Tensor logits = forward(ids);
    return new Output(logits, logits.crossEntropy(targets));
  }

  /**
   * The mean cross-entropy alone, without holding logits: what training uses.
   *
   * @param ids token ids {@code [batch, time]}
   * @param targets the ids that should come next, of the same shape; -100 where none counts
   */
  public Tensor loss(Tensor ids, Tensor targets) {
    return loss(ids, targets, null);
  }

  /**
   * The mean cross-entropy of rows that hold several documents, of which none sees another: what
   * each alone would give.
   *
   * @param ids token ids {@code [batch, time]}
   * @param targets the ids that should come next, of the same shape; -100 where none counts
   * @param positions nullable; integers of the same shape that count from 0 at the start of each
   *     row and of each document in it
   */
  public Tensor loss(Tensor ids, Tensor targets, Tensor positions) {
    return trunk(ids, positions).linearCrossEntropy(head.weight(), targets, -100);
  }

  /**
   * Logits of new positions, with the keys and values of earlier ones from a cache, to which the
   * new ones are added. Unrecorded, and without dropout in every mode.
   *
   * @param ids token ids {@code [batch, time]} that follow what the cache holds
   * @param cache keys and values; its length grows by time
   * @return {@code [batch, time, vocabSize]}
   */
  public Tensor forward(Tensor ids, KvCache cache) {
    return head.forward(finalNorm.forward(trunk(ids, cache)));
  }

  /**
   * Logits of the last of new positions, all that choosing the next token takes. Like {@link
   * #forward(Tensor, KvCache)}, without the output head's work for the other positions.
   *
   * @param ids token ids {@code [batch, time]} that follow what the cache holds
   * @param cache keys and values; its length grows by time
   * @return {@code [batch, 1, vocabSize]}
   */
  public Tensor next(Tensor ids, KvCache cache) {
    Tensor x = trunk(ids, cache);
    return head.forward(finalNorm.forward(ids.shape().cols() == 1 ? x : x.lastPosition()));
  }

  private Tensor trunk(Tensor ids, KvCache cache) {
    int position = cache.length();
    Tensor x = tokens.weight().embedding(ids, positions.weight(), position);
    for (int i = 0; i < blocks.size(); i++) {
      Block block = blocks.get(i);
      tape.beginBlock();
      Tensor qkv = block.qkv.forward(block.norm1.forward(x));
      Tensor attended =
          qkv.attentionCached(config.heads(), cache.keys(i), cache.values(i), position);
      x = block.attentionProjection.forward(attended, x);
      Tensor hidden = block.hidden(x);
      tape.endBlock();
      x = block.contraction.forward(hidden, x);
    }
    cache.grow(ids.shape().cols());
    return x;
  }

  private Tensor trunk(Tensor ids, Tensor places) {
    Tensor x =
        dropout.forward(
            places == null
                ? tokens.weight().embedding(ids, positions.weight(), 0)
                : tokens.weight().rows(ids).add(positions.weight().rows(places)));
    for (int i = 0; i < blocks.size(); i++) {
      Block block = blocks.get(i);
      tape.beginBlock();
      Tensor qkv = block.qkv.forward(block.norm1.forward(x));
      Tensor attended = qkv.attention(config.heads(), dropout.p(), dropout.generator(), places);
      x = addTo(x, block.attentionProjection, attended, false);
      x = addTo(x, block.contraction, block.hidden(x), true);
    }
    return finalNorm.forward(x);
  }

  private Tensor addTo(Tensor residual, Linear layer, Tensor x, boolean endsBlock) {
    Tensor change = dropout.active() ? dropout.forward(layer.forward(x)) : null;
    if (endsBlock) {
      tape.endBlock();
    }
    return change == null ? layer.forward(x, residual) : change.add(residual);
  }

  List<Block> blocks() {
    return blocks;
  }

  Embedding tokens() {
    return tokens;
  }

  Embedding positions() {
    return positions;
  }

  Linear head() {
    return head;
  }

  @Override
  public void visit(String prefix, BiConsumer<String, Tensor> visitor) {
    tokens.visit(prefix + "wte.", visitor);
    positions.visit(prefix + "wpe.", visitor);
    for (int i = 0; i < blocks.size(); i++) {
      blocks.get(i).visit(prefix + "h." + i + ".", visitor);
    }
    finalNorm.visit(prefix + "ln_f.", visitor);
    if (!config.tiedHead()) {
      head.visit(prefix + "lm_head.", visitor);
    }
  }
}
