package dev.lanewise.simd;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/** Where a test's operands lie. */
enum Memory {
  /** On a cache line's boundary. */
  ALIGNED,
  /** One byte past a boundary. */
  MISALIGNED,
  /** In an array on the Java heap. */
  HEAP,
  /** Up to a page that kills whoever touches it. */
  BEFORE_GUARD,
  /** From after such a page. */
  AFTER_GUARD;

  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;
  private static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT_UNALIGNED;

  MemorySegment allocate(Arena arena, long bytes) {
    return switch (this) {
      case ALIGNED -> arena.allocate(Math.max(1, bytes), 64).asSlice(0, bytes);
      case MISALIGNED -> arena.allocate(bytes + 1, 64).asSlice(1, bytes);
      case HEAP -> MemorySegment.ofArray(new byte[Math.toIntExact(bytes)]);
      case BEFORE_GUARD ->
          GuardedMemory.isAvailable()
              ? GuardedMemory.endingAtGuard(arena, bytes)
              : ALIGNED.allocate(arena, bytes);
      case AFTER_GUARD ->
          GuardedMemory.isAvailable()
              ? GuardedMemory.startingAtGuard(arena, bytes)
              : ALIGNED.allocate(arena, bytes);
    };
  }

  MemorySegment floats(Arena arena, long n) {
    return allocate(arena, n * Float.BYTES);
  }

  MemorySegment of(Arena arena, float... values) {
    MemorySegment s = floats(arena, values.length);
    for (int i = 0; i < values.length; i++) {
      set(s, i, values[i]);
    }
    return s;
  }

  MemorySegment ofInts(Arena arena, int... values) {
    MemorySegment s = allocate(arena, (long) values.length * Integer.BYTES);
    for (int i = 0; i < values.length; i++) {
      s.set(INT, (long) i * Integer.BYTES, values[i]);
    }
    return s;
  }

  static float get(MemorySegment s, long i) {
    return s.get(FLOAT, i * Float.BYTES);
  }

  static void set(MemorySegment s, long i, float value) {
    s.set(FLOAT, i * Float.BYTES, value);
  }

  static int getInt(MemorySegment s, long i) {
    return s.get(INT, i * Integer.BYTES);
  }

  static float[] toArray(MemorySegment s) {
    float[] values = new float[(int) (s.byteSize() / Float.BYTES)];
    for (int i = 0; i < values.length; i++) {
      values[i] = get(s, i);
    }
    return values;
  }

  /** Difference in units of the last place of the float nearest to {@code expected}. */
  static double ulps(double expected, float actual) {
    if (Double.isNaN(expected) || Float.isNaN(actual)) {
      return Double.isNaN(expected) && Float.isNaN(actual) ? 0 : Double.POSITIVE_INFINITY;
    }
    if ((float) expected == actual) {
      return 0;
    }
    if (Float.isInfinite(actual) && Math.abs(expected) > 0x1.fffffep127) {
      return 0;
    }
    double ulp =
        Math.abs(expected) < Float.MIN_NORMAL
            ? Float.MIN_VALUE
            : Math.scalb(1.0, Math.getExponent(expected) - 23);
    return Math.abs(actual - expected) / ulp;
  }

  /** A float that is now and then extreme. */
  static float wild(java.util.random.RandomGenerator random) {
    return switch (random.nextInt(24)) {
      case 0 -> 0f;
      case 1 -> -0f;
      case 2 -> Float.NaN;
      case 3 -> Float.POSITIVE_INFINITY;
      case 4 -> Float.NEGATIVE_INFINITY;
      case 5 -> Float.MIN_VALUE * random.nextInt(1 << 20);
      case 6 -> 3e38f;
      case 7 -> -3e38f;
      case 8 -> Float.intBitsToFloat(random.nextInt());
      default -> (float) random.nextGaussian() * 4;
    };
  }
}
