package dev.lanewise.simd;

import static dev.lanewise.simd.Machine.F;
import static dev.lanewise.simd.Machine.LANES;

import java.lang.foreign.MemorySegment;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;

/**
 * The AdamW optimiser's step (Loshchilov and Hutter), in PyTorch's order of operations, in one pass
 * over memory.
 *
 * <p>{@code m = b1 m + (1 - b1) g}, {@code v = b2 v + (1 - b2) g^2}, {@code p = p (1 - lr decay) -
 * lr / (1 - b1^t) m / (sqrt(v) / sqrt(1 - b2^t) + eps)}.
 */
public final class AdamW {
  private static final int DECAY = 0;
  private static final int BETA1 = 1;
  private static final int ONE_MINUS_BETA1 = 2;
  private static final int BETA2 = 3;
  private static final int ONE_MINUS_BETA2 = 4;
  private static final int STEP_SIZE = 5;
  private static final int ROOT_SCALE = 6;
  private static final int EPSILON = 7;
  private static final int GRADIENT_SCALE = 8;

  private static final ByteOrder ORDER = ByteOrder.nativeOrder();

  private AdamW() {}

  /**
   * One step over a run of parameters.
   *
   * @param parameter {@code n} floats, updated
   * @param parameterOffset first float of the parameters
   * @param gradient {@code n} floats
   * @param gradientOffset first float of the gradient
   * @param firstMoment {@code n} floats, updated; zeros before the first step
   * @param firstMomentOffset first float of the first moment
   * @param secondMoment {@code n} floats, updated; zeros before the first step
   * @param secondMomentOffset first float of the second moment
   * @param n number of parameters
   * @param learningRate step length
   * @param beta1 decay of the first moment, at least 0 and less than 1
   * @param beta2 decay of the second moment, at least 0 and less than 1
   * @param epsilon added to the corrected root of the second moment
   * @param weightDecay decoupled weight decay
   * @param step number of this step, from 1
   * @param gradientScale factor of the gradient, for clipping; 1 for none
   * @throws IllegalArgumentException before anything is written, if a segment is too short, closed,
   *     confined to another thread or, where it is updated, read-only, if two of them overlap, if
   *     the step is not positive, or if a rate is not a finite number in its range
   */
  public static void step(
      MemorySegment parameter,
      long parameterOffset,
      MemorySegment gradient,
      long gradientOffset,
      MemorySegment firstMoment,
      long firstMomentOffset,
      MemorySegment secondMoment,
      long secondMomentOffset,
      long n,
      double learningRate,
      double beta1,
      double beta2,
      double epsilon,
      double weightDecay,
      long step,
      float gradientScale) {
    if (step < 1) {
      throw new IllegalArgumentException("step " + step + "; the first is 1");
    }
    requireFinite("learningRate", learningRate);
    requireDecay("beta1", beta1);
    requireDecay("beta2", beta2);
    requireFinite("epsilon", epsilon);
    requireFinite("weightDecay", weightDecay);
    try (Call call = Call.take()) {
      call.output("parameter", parameter, parameterOffset, n);
      call.input("gradient", gradient, gradientOffset, n);
      call.output("firstMoment", firstMoment, firstMomentOffset, n);
      call.output("secondMoment", secondMoment, secondMomentOffset, n);
      float[] s = call.scalar;
      s[DECAY] = (float) (1 - learningRate * weightDecay);
      s[BETA1] = (float) beta1;
      s[ONE_MINUS_BETA1] = (float) (1 - beta1);
      s[BETA2] = (float) beta2;
      s[ONE_MINUS_BETA2] = (float) (1 - beta2);
      s[STEP_SIZE] = (float) (-learningRate / (1 - Math.pow(beta1, step)));
      s[ROOT_SCALE] = (float) (1 / Math.sqrt(1 - Math.pow(beta2, step)));
      s[EPSILON] = (float) epsilon;
      s[GRADIENT_SCALE] = gradientScale;
      call.spans(1, n, AdamW::step);
    }
  }

  private static void requireFinite(String name, double value) {
    if (!Double.isFinite(value)) {
      throw new IllegalArgumentException(name + " is " + value + "; it must be finite");
    }
  }

  private static void requireDecay(String name, double value) {
    if (!(value >= 0 && value < 1)) {
      throw new IllegalArgumentException(
          name + " is " + value + "; it must be at least 0 and less than 1");
    }
  }

  private static void step(Call call, long row, long col, int n) {
    MemorySegment parameter = Native.known(call.segment[0]);
    MemorySegment gradient = Native.known(call.segment[1]);
    MemorySegment first = Native.known(call.segment[2]);
    MemorySegment second = Native.known(call.segment[3]);
    long parameterAt = call.at(0, row, col);
    long gradientAt = call.at(1, row, col);
    long firstAt = call.at(2, row, col);
    long secondAt = call.at(3, row, col);
    FloatVector decay = FloatVector.broadcast(F, call.scalar[DECAY]);
    FloatVector beta1 = FloatVector.broadcast(F, call.scalar[BETA1]);
    FloatVector oneMinusBeta1 = FloatVector.broadcast(F, call.scalar[ONE_MINUS_BETA1]);
    FloatVector beta2 = FloatVector.broadcast(F, call.scalar[BETA2]);
    FloatVector oneMinusBeta2 = FloatVector.broadcast(F, call.scalar[ONE_MINUS_BETA2]);
    FloatVector stepSize = FloatVector.broadcast(F, call.scalar[STEP_SIZE]);
    FloatVector rootScale = FloatVector.broadcast(F, call.scalar[ROOT_SCALE]);
    FloatVector epsilon = FloatVector.broadcast(F, call.scalar[EPSILON]);
    FloatVector scale = FloatVector.broadcast(F, call.scalar[GRADIENT_SCALE]);
    for (int i = 0; i < n; i += LANES) {
      long at = (long) i * Float.BYTES;
      FloatVector g = FloatVector.fromMemorySegment(F, gradient, gradientAt + at, ORDER).mul(scale);
      FloatVector m = FloatVector.fromMemorySegment(F, first, firstAt + at, ORDER).mul(beta1);
      m = g.fma(oneMinusBeta1, m);
      FloatVector v = FloatVector.fromMemorySegment(F, second, secondAt + at, ORDER).mul(beta2);
      FloatVector square = g.mul(g);
      FloatVector moment = square.fma(oneMinusBeta2, v);
      // PyTorch multiplies by 1 - b2 first, which a square that overflows may need.
      FloatVector safe = g.mul(oneMinusBeta2).fma(g, v);
      v = moment.blend(safe, square.eq(Float.POSITIVE_INFINITY));
      FloatVector p =
          FloatVector.fromMemorySegment(F, parameter, parameterAt + at, ORDER).mul(decay);
      p = m.div(v.sqrt().fma(rootScale, epsilon)).fma(stepSize, p);
      m.intoMemorySegment(first, firstAt + at, ORDER);
      v.intoMemorySegment(second, secondAt + at, ORDER);
      p.intoMemorySegment(parameter, parameterAt + at, ORDER);
    }
  }
}
