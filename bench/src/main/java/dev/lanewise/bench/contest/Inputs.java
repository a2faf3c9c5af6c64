package dev.lanewise.bench.contest;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/**
 * Operands that every contender makes for itself, bit for bit alike, in whatever language.
 *
 * <p>Element i of operand s is {@code h(i + 0x9E3779B1 * s)}, where h mixes 32 bits and scales them
 * to [-1, 1) in steps of 2^-23; all arithmetic on integers is modulo 2^32.
 */
public final class Inputs {
  private Inputs() {}

  /**
   * An element of an operand.
   *
   * @param index which element
   * @param operand which operand, counted from 1
   * @return a value in [-1, 1) that is exact in 32 bits
   */
  public static float value(long index, int operand) {
    return (mix(index, operand) >>> 8) * 0x1p-23f - 1f;
  }

  /**
   * A whole number below a bound, for token ids.
   *
   * @param index which element
   * @param operand which operand, counted from 1
   * @param bound the number after the last
   * @return a number in [0, bound)
   */
  public static int below(long index, int operand, int bound) {
    return (mix(index, operand) >>> 1) % bound;
  }

  private static int mix(long index, int operand) {
    int h = (int) index + operand * 0x9E3779B1;
    h ^= h >>> 16;
    h *= 0x7FEB352D;
    h ^= h >>> 15;
    h *= 0x846CA68B;
    h ^= h >>> 16;
    return h;
  }

  /**
   * An operand in native memory, aligned to 64 bytes.
   *
   * @param arena owns the memory
   * @param count number of floats
   * @param operand which operand, counted from 1
   * @return memory that holds the values
   */
  public static MemorySegment floats(Arena arena, long count, int operand) {
    MemorySegment segment = arena.allocate(count * Float.BYTES, 64);
    for (long i = 0; i < count; i++) {
      segment.setAtIndex(ValueLayout.JAVA_FLOAT, i, value(i, operand));
    }
    return segment;
  }

  /**
   * An operand in a Java array.
   *
   * @param count number of floats
   * @param operand which operand, counted from 1
   * @return the values
   */
  public static float[] array(int count, int operand) {
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = value(i, operand);
    }
    return values;
  }
}
