package dev.lanewise.core.backend.cuda;

/** What a GPU computes in. Parameters, their gradients and the optimiser are float32 always. */
public enum Precision {
  /** Activations and matrix products in bfloat16, sums in float32: the way to train. */
  BF16,
  /** Activations in float32; matrix products round their operands to 10 bits of mantissa. */
  TF32,
  /** Float32 throughout, to compare with a CPU. */
  FP32
}
