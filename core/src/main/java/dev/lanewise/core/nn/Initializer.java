package dev.lanewise.core.nn;

import dev.lanewise.core.random.TorchGenerator;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;

/**
 * First values of parameters: PyTorch's defaults, the schemes of {@code torch.nn.init}, and
 * GPT-2's.
 *
 * <p>Each method fills a segment of float32 elements, row-major, with the numbers that PyTorch
 * would draw from the same generator. To get a whole model's weights, call them in the order in
 * which PyTorch constructs its modules, and a layer's weight before its bias.
 */
public final class Initializer {
  /** Gain for layers before ReLU. */
  public static final double RELU_GAIN = Math.sqrt(2);

  /** Gain for layers before tanh, as PyTorch recommends it. */
  public static final double TANH_GAIN = 5.0 / 3;

  /** The width that keeps its variance in a Kaiming scheme. */
  public enum Fan {
    /** Inputs of an element of the output: keeps the variance of activations. */
    IN,
    /** Outputs that an element of the input reaches: keeps the variance of gradients. */
    OUT
  }

  private Initializer() {}

  /**
   * The default of {@code nn.Linear}'s weight: uniform within 1/√in, drawn as {@code
   * kaiming_uniform_} with a slope of √5.
   *
   * @param out the weight [outputs, in]
   * @param in number of inputs
   */
  public static void linearWeight(TorchGenerator generator, MemorySegment out, long in) {
    require(in > 0, "A linear layer needs inputs, not " + in + ".");
    double bound = Math.sqrt(3) * (leakyReluGain(Math.sqrt(5)) / Math.sqrt(in));
    generator.uniform(out, -bound, bound);
  }

  /**
   * The default of {@code nn.Linear}'s bias: uniform within 1/√in.
   *
   * @param out the bias [outputs]
   * @param in number of inputs of the layer
   */
  public static void linearBias(TorchGenerator generator, MemorySegment out, long in) {
    require(in > 0, "A linear layer needs inputs, not " + in + ".");
    double bound = 1 / Math.sqrt(in);
    generator.uniform(out, -bound, bound);
  }

  /** The default of {@code nn.Embedding}: standard normal. */
  public static void embedding(TorchGenerator generator, MemorySegment out) {
    generator.normal(out, 0, 1);
  }

  /** GPT-2's scheme for embeddings and weights: normal with standard deviation 0.02. */
  public static void gpt2(TorchGenerator generator, MemorySegment out) {
    generator.normal(out, 0, 0.02);
  }

  /**
   * GPT-2's scheme for projections that add to the residual stream: normal with standard deviation
   * 0.02/√(2·layers), so that the stream's variance does not grow with depth.
   *
   * @param layers number of transformer blocks
   */
  public static void gpt2Residual(TorchGenerator generator, MemorySegment out, int layers) {
    require(layers > 0, "A model needs at least one layer, not " + layers + ".");
    generator.normal(out, 0, 0.02 / Math.sqrt(2.0 * layers));
  }

  /**
   * He's uniform scheme ({@code kaiming_uniform_}): within gain·√(3/fan).
   *
   * @param shape the weight's sizes, outputs first; sizes after the second are a kernel's
   */
  public static void kaimingUniform(
      TorchGenerator generator, MemorySegment out, Fan fan, double gain, long... shape) {
    double bound = Math.sqrt(3) * (gain / Math.sqrt(fan(out, fan, shape)));
    generator.uniform(out, -bound, bound);
  }

  /**
   * He's normal scheme ({@code kaiming_normal_}): standard deviation gain/√fan.
   *
   * @param shape the weight's sizes, outputs first; sizes after the second are a kernel's
   */
  public static void kaimingNormal(
      TorchGenerator generator, MemorySegment out, Fan fan, double gain, long... shape) {
    generator.normal(out, 0, gain / Math.sqrt(fan(out, fan, shape)));
  }

  /**
   * Glorot's uniform scheme ({@code xavier_uniform_}): within gain·√(6/(in + out)).
   *
   * @param shape the weight's sizes, outputs first; sizes after the second are a kernel's
   */
  public static void xavierUniform(
      TorchGenerator generator, MemorySegment out, double gain, long... shape) {
    double bound = Math.sqrt(3) * xavier(out, gain, shape);
    generator.uniform(out, -bound, bound);
  }

  /**
   * Glorot's normal scheme ({@code xavier_normal_}): standard deviation gain·√(2/(in + out)).
   *
   * @param shape the weight's sizes, outputs first; sizes after the second are a kernel's
   */
  public static void xavierNormal(
      TorchGenerator generator, MemorySegment out, double gain, long... shape) {
    generator.normal(out, 0, xavier(out, gain, shape));
  }

  /** Gain for layers before a leaky ReLU of the given negative slope: √(2/(1 + slope²)). */
  public static double leakyReluGain(double slope) {
    return Math.sqrt(2 / (1 + slope * slope));
  }

  private static double xavier(MemorySegment out, double gain, long[] shape) {
    return gain * Math.sqrt(2 / (fan(out, Fan.IN, shape) + fan(out, Fan.OUT, shape)));
  }

  private static double fan(MemorySegment out, Fan fan, long[] shape) {
    require(
        shape.length >= 2,
        "Fans need a weight with outputs and inputs, not the shape "
            + Arrays.toString(shape)
            + ".");
    long bytes = Float.BYTES;
    for (long size : shape) {
      require(size > 0, "A size in " + Arrays.toString(shape) + " is not above 0.");
      bytes = Math.multiplyExact(bytes, size);
    }
    require(
        bytes == out.byteSize(),
        "The shape "
            + Arrays.toString(shape)
            + " takes "
            + bytes
            + " bytes, but the segment has "
            + out.byteSize()
            + ".");
    return (double) bytes / Float.BYTES / shape[fan == Fan.IN ? 0 : 1];
  }

  private static void require(boolean condition, String fault) {
    if (!condition) {
      throw new IllegalArgumentException(fault);
    }
  }
}
