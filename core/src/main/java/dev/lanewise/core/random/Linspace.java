package dev.lanewise.core.random;

/** PyTorch's evenly spaced numbers. */
public final class Linspace {
  /** Lanes of the vectors in which PyTorch steps. */
  private static final int LANES = 8;

  private Linspace() {}

  /**
   * Evenly spaced numbers from start to end, both included, as {@code torch.linspace} of PyTorch
   * 1.13 with AVX2 gives them to the bit; other versions and instructions differ in the last bit.
   *
   * @param start first number
   * @param end last number
   * @param steps how many numbers
   * @throws IllegalArgumentException if steps is negative
   */
  public static float[] of(double start, double end, int steps) {
    if (steps < 0) {
      throw new IllegalArgumentException("There cannot be " + steps + " numbers.");
    }
    float[] numbers = new float[steps];
    float first = (float) start;
    float last = (float) end;
    if (steps == 1) {
      numbers[0] = first;
      return numbers;
    }
    float step = (last - first) / (steps - 1);
    int whole = steps - steps % LANES;
    for (int i = 0; i < steps; i++) {
      int lane = i < whole ? i % LANES : 0;
      int base = i - lane;
      // The second half is counted from the end, so that the last number is exact.
      float anchor =
          base < steps / 2
              ? Math.fma(step, (float) base, first)
              : Math.fma(-step, (float) (steps - base - 1), last);
      numbers[i] = anchor + lane * step;
    }
    return numbers;
  }
}
