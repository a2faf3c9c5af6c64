package dev.lanewise.simd;

import static dev.lanewise.simd.Machine.F;
import static dev.lanewise.simd.Machine.LANES;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorMask;

/**
 * Dropout with a given mask: {@code y = keep ? x * scale : 0}. The gradient is the same operation
 * on the gradient of the result.
 *
 * <p>A mask is packed, bit {@code i % 8} of byte {@code i / 8} for element i, or has a byte for
 * each element, where anything but 0 keeps it. A dropped element gives 0 even where it is NaN. A
 * wrong call gives an {@link IllegalArgumentException} before anything is written.
 */
public final class Dropout {
  /** Elements in a task, a multiple of 64. */
  private static final int CHUNK = 1 << 15;

  private static final long LOW_BITS = 0x7f7f7f7f7f7f7f7fL;
  private static final long HIGH_BITS = ~LOW_BITS;

  /** Multiplied by eight bytes of 0 or 1, gathers them as bits in the top byte. */
  private static final long GATHER_BITS = 0x0102040810204080L;

  private static final ByteOrder ORDER = ByteOrder.nativeOrder();
  private static final ValueLayout.OfLong LITTLE_LONG =
      ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  private Dropout() {}

  /**
   * Applies a packed mask.
   *
   * @param x {@code n} floats from {@code xOffset}
   * @param xOffset first float of {@code x}
   * @param mask {@code (n + 7) / 8} bytes from {@code maskOffset}
   * @param maskOffset first byte of the mask
   * @param scale factor of the elements that are kept, {@code 1 / (1 - p)} for probability p
   * @param y {@code n} floats from {@code yOffset}; may be exactly {@code x}
   * @param yOffset first float of {@code y}
   * @param n number of elements
   * @param accumulate whether the result is added to {@code y}, or else overwrites it
   */
  public static void applyBits(
      MemorySegment x,
      long xOffset,
      MemorySegment mask,
      long maskOffset,
      float scale,
      MemorySegment y,
      long yOffset,
      long n,
      boolean accumulate) {
    apply(x, xOffset, mask, maskOffset, (n + 7) / 8, scale, y, yOffset, n, accumulate, true);
  }

  /**
   * Applies a mask of bytes.
   *
   * @param x {@code n} floats from {@code xOffset}
   * @param xOffset first float of {@code x}
   * @param mask {@code n} bytes from {@code maskOffset}
   * @param maskOffset first byte of the mask
   * @param scale factor of the elements that are kept, {@code 1 / (1 - p)} for probability p
   * @param y {@code n} floats from {@code yOffset}; may be exactly {@code x}
   * @param yOffset first float of {@code y}
   * @param n number of elements
   * @param accumulate whether the result is added to {@code y}, or else overwrites it
   */
  public static void applyBytes(
      MemorySegment x,
      long xOffset,
      MemorySegment mask,
      long maskOffset,
      float scale,
      MemorySegment y,
      long yOffset,
      long n,
      boolean accumulate) {
    apply(x, xOffset, mask, maskOffset, n, scale, y, yOffset, n, accumulate, false);
  }

  private static void apply(
      MemorySegment x,
      long xOffset,
      MemorySegment mask,
      long maskOffset,
      long maskBytes,
      float scale,
      MemorySegment y,
      long yOffset,
      long n,
      boolean accumulate,
      boolean isPacked) {
    try (Call call = Call.take()) {
      call.input("x", x, xOffset, n);
      call.typed("mask", mask, maskOffset, maskBytes, 1, false);
      call.output("y", y, yOffset, n);
      call.mayBeSame(2, 0);
      call.scalar[0] = scale;
      call.flag = accumulate;
      call.cols = n;
      int tasks = Math.toIntExact((n + CHUNK - 1) / CHUNK);
      call.run(tasks, isPacked ? Dropout::packedTask : Dropout::bytesTask);
    }
  }

  private static void packedTask(Call call, int task) {
    long from = (long) task * CHUNK;
    int n = (int) Math.min(CHUNK, call.cols - from);
    bits(call, from, n, call.segment[1], call.at(1, 0, from / 8));
  }

  private static void bytesTask(Call call, int task) {
    long from = (long) task * CHUNK;
    int n = (int) Math.min(CHUNK, call.cols - from);
    MemorySegment mask = call.segment[1];
    long maskAt = call.at(1, 0, from);
    try (Scratch packed = Scratch.take(CHUNK / 8)) {
      MemorySegment bits = packed.segment;
      int i = 0;
      for (; i + 8 <= n; i += 8) {
        bits.set(ValueLayout.JAVA_BYTE, i >> 3, pack(mask.get(LITTLE_LONG, maskAt + i)));
      }
      if (i < n) {
        long last = 0;
        for (int j = i; j < n; j++) {
          last |= (mask.get(ValueLayout.JAVA_BYTE, maskAt + j) & 0xffL) << 8 * (j - i);
        }
        bits.set(ValueLayout.JAVA_BYTE, i >> 3, pack(last));
      }
      bits(call, from, n, bits, 0);
    }
  }

  /** One bit for each of eight bytes, set where the byte is not 0. */
  private static byte pack(long bytes) {
    long high = (((bytes & LOW_BITS) + LOW_BITS) | bytes) & HIGH_BITS;
    return (byte) ((high >>> 7) * GATHER_BITS >>> 56);
  }

  private static void bits(Call call, long from, int n, MemorySegment mask, long maskAt) {
    MemorySegment x = call.segment[0];
    MemorySegment y = call.segment[2];
    long xAt = call.at(0, 0, from);
    long yAt = call.at(2, 0, from);
    int whole = n & -64;
    bits(x, xAt, mask, maskAt, y, yAt, whole, call.scalar[0], call.flag);
    int rest = n - whole;
    if (rest > 0) {
      try (Scratch padded = Scratch.take(1024)) {
        MemorySegment s = padded.segment;
        long at = (long) whole * Float.BYTES;
        long bytes = (long) rest * Float.BYTES;
        MemorySegment.copy(x, xAt + at, s, 0, bytes);
        MemorySegment.copy(y, yAt + at, s, 256, bytes);
        MemorySegment.copy(mask, maskAt + whole / 8, s, 512, (rest + 7) / 8);
        bits(s, 0, s, 512, s, 256, 64, call.scalar[0], call.flag);
        MemorySegment.copy(s, 256, y, yAt + at, bytes);
      }
    }
  }

  private static void bits(
      MemorySegment x,
      long xAt,
      MemorySegment mask,
      long maskAt,
      MemorySegment y,
      long yAt,
      int n,
      float scale,
      boolean accumulate) {
    x = Native.known(x);
    mask = Native.known(mask);
    y = Native.known(y);
    FloatVector zero = FloatVector.zero(F);
    FloatVector factor = FloatVector.broadcast(F, scale);
    for (int i = 0; i < n; i += 64) {
      long bits = mask.get(LITTLE_LONG, maskAt + (i >> 3));
      for (int j = 0; j < 64; j += LANES) {
        long at = (long) (i + j) * Float.BYTES;
        VectorMask<Float> keep = VectorMask.fromLong(F, bits >>> j);
        FloatVector v =
            zero.blend(FloatVector.fromMemorySegment(F, x, xAt + at, ORDER).mul(factor), keep);
        if (accumulate) {
          v = v.add(FloatVector.fromMemorySegment(F, y, yAt + at, ORDER));
        }
        v.intoMemorySegment(y, yAt + at, ORDER);
      }
    }
  }
}
