package dev.lanewise.simd;

import static dev.lanewise.simd.machinecode.Int8Layout.A_BLOCK_BYTES;
import static dev.lanewise.simd.machinecode.Int8Layout.BIAS;
import static dev.lanewise.simd.machinecode.Int8Layout.BLOCK;
import static dev.lanewise.simd.machinecode.Int8Layout.B_BLOCK_BYTES;
import static dev.lanewise.simd.machinecode.Int8Layout.CHUNK_BLOCKS;
import static dev.lanewise.simd.machinecode.Int8Layout.CHUNK_BYTES;
import static dev.lanewise.simd.machinecode.Int8Layout.COLS;
import static dev.lanewise.simd.machinecode.Int8Layout.GROUP;
import static dev.lanewise.simd.machinecode.Int8Layout.GROUP_BYTES;
import static dev.lanewise.simd.machinecode.Int8Layout.SCALE;
import static dev.lanewise.simd.machinecode.Int8Layout.SCALES;
import static dev.lanewise.simd.machinecode.Int8Layout.SUM;
import static dev.lanewise.simd.machinecode.Int8Layout.chunks;

import dev.lanewise.simd.machinecode.MachineCode;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import jdk.incubator.vector.ByteVector;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.ShortVector;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorSpecies;

/**
 * Rows of A made integers of 8 bits, and multiplied with panels of an {@link Int8Matrix}. Offsets
 * and strides are in bytes.
 *
 * <p>Sums over a block are of integers and exact, so machine code and the loop in Java here differ
 * in speed alone.
 */
final class Int8Kernel {
  /** Elements of which the largest is smaller count as zeros. */
  static final float LEAST = 0x1p-100f;

  private static final VectorSpecies<Float> F = Machine.F;
  private static final VectorSpecies<Integer> I = Machine.I;
  private static final VectorSpecies<Short> S = Machine.S;
  private static final int LANES = Machine.LANES;

  /** As many bytes as lanes; there is no vector for four. */
  private static final VectorSpecies<Byte> B =
      LANES == 16 ? ByteVector.SPECIES_128 : ByteVector.SPECIES_64;

  private static final ByteOrder ORDER = ByteOrder.nativeOrder();
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;
  private static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT_UNALIGNED;

  private static final int MAGNITUDE = 0x7fffffff;
  private static final float LARGEST = 127;

  /** Added to a float below 2^22, this leaves the nearest integer in its lowest bits. */
  private static final float INTEGERS = 0x1.8p23f;

  private static final int INTEGERS_BITS = Float.floatToRawIntBits(INTEGERS);

  // Float16: an exponent of all ones, and what turns its bits, moved to a float's place, into it.
  private static final int FLOAT16_SPECIAL = 0x7c00;
  private static final int FLOAT16_SHIFT = 13;
  private static final float FLOAT16_SCALE = 0x1p112f;
  private static final int NAN_BITS = 0x7fc00000;

  private static final boolean HAS_MACHINE_CODE =
      Machine.vectorBits() == 512 && MachineCode.hasInt8();

  /** Whether rows run as machine code; only tests let them not where they could. */
  private static boolean usesMachineCode = HAS_MACHINE_CODE;

  private Int8Kernel() {}

  /** Lets rows run as machine code, where there is any, or in Java. */
  static void useMachineCode(boolean wanted) {
    usesMachineCode = wanted && HAS_MACHINE_CODE;
  }

  /** The most rows that {@link #multiply} takes. */
  static final int ROWS = MachineCode.INT8_ROWS;

  /** Bytes of a row of A of {@code n} elements. */
  static long rowBytes(int n) {
    return (long) chunks(n) * CHUNK_BLOCKS * A_BLOCK_BYTES;
  }

  /**
   * Makes a row of A integers: of each block {@code x}, {@code rint(x * (127 / max |x|))} and the
   * scale {@code max |x| / 127}, which is NaN if a number is not finite.
   */
  static void quantize(MemorySegment from, long at, int n, MemorySegment to, long toAt) {
    int blocks = LANES == 4 ? 0 : n / BLOCK;
    quantizeBlocks(from, at, blocks, to, toAt);
    for (int i = blocks; i < chunks(n) * CHUNK_BLOCKS; i++) {
      int elements = Math.clamp(n - i * BLOCK, 0, BLOCK);
      quantizeBlock(from, at + 4L * BLOCK * i, elements, to, toAt + (long) A_BLOCK_BYTES * i);
    }
  }

  private static void quantizeBlocks(
      MemorySegment from, long at, int blocks, MemorySegment to, long toAt) {
    from = Native.known(from);
    to = Native.known(to);
    for (int block = 0; block < blocks; block++) {
      IntVector most = IntVector.zero(I);
      for (int i = 0; i < BLOCK; i += LANES) {
        IntVector bits =
            FloatVector.fromMemorySegment(F, from, at + 4L * i, ORDER).reinterpretAsInts();
        most = bits.and(MAGNITUDE).max(most);
      }
      int zero = 0;
      float largest =
          Float.intBitsToFloat(
              IntVector.broadcast(I, zero).max(most).reduceLanes(VectorOperators.MAX));
      float factor = largest < LEAST ? 0 : LARGEST / largest;
      IntVector sum = IntVector.zero(I);
      for (int i = 0; i < BLOCK; i += LANES) {
        FloatVector x = FloatVector.fromMemorySegment(F, from, at + 4L * i, ORDER);
        IntVector number = x.mul(factor).add(INTEGERS).reinterpretAsInts().sub(INTEGERS_BITS);
        sum = number.add(sum);
        number
            .convertShape(VectorOperators.I2B, B, 0)
            .reinterpretAsBytes()
            .intoMemorySegment(to, toAt + i, ORDER);
      }
      int total = IntVector.broadcast(I, zero).add(sum).reduceLanes(VectorOperators.ADD);
      to.set(INT, toAt + SUM, -BIAS * total);
      to.set(FLOAT, toAt + SCALE, scale(largest));
      at += 4L * BLOCK;
      toAt += A_BLOCK_BYTES;
    }
  }

  private static void quantizeBlock(
      MemorySegment from, long at, int elements, MemorySegment to, long toAt) {
    int most = 0;
    for (int i = 0; i < elements; i++) {
      most = Math.max(most, Float.floatToRawIntBits(from.get(FLOAT, at + 4L * i)) & MAGNITUDE);
    }
    float largest = Float.intBitsToFloat(most);
    float factor = largest < LEAST ? 0 : LARGEST / largest;
    int sum = 0;
    for (int i = 0; i < BLOCK; i++) {
      float x = i < elements ? from.get(FLOAT, at + 4L * i) : 0;
      int number = Float.floatToRawIntBits(x * factor + INTEGERS) - INTEGERS_BITS;
      to.set(ValueLayout.JAVA_BYTE, toAt + i, (byte) number);
      sum += number;
    }
    to.set(INT, toAt + SUM, -BIAS * sum);
    to.set(FLOAT, toAt + SCALE, scale(largest));
  }

  private static float scale(float largest) {
    if (largest < LEAST) {
      return 0;
    }
    return largest <= Float.MAX_VALUE ? largest / LARGEST : Float.NaN;
  }

  /**
   * Multiplies rows of A with panels that follow each other, {@code C = A B + beta C}.
   *
   * @param rows at most {@link #ROWS}
   * @param c has whole panels of columns
   */
  static void multiply(
      int rows,
      int panels,
      int chunks,
      MemorySegment a,
      long aAt,
      long aRow,
      MemorySegment b,
      long bAt,
      MemorySegment c,
      long cAt,
      long cStride,
      float beta) {
    if (usesMachineCode) {
      MachineCode.int8(rows, panels, chunks, a, aAt, aRow, b, bAt, c, cAt, cStride, beta);
      return;
    }
    for (int panel = 0; panel < panels; panel++) {
      long panelAt = bAt + (long) panel * chunks * CHUNK_BYTES;
      for (int j = 0; j < COLS; j += LANES) {
        for (int i = 0; i < rows; i++) {
          long to = cAt + i * cStride + 4L * (panel * COLS + j);
          multiply(a, aAt + i * aRow, b, panelAt, j, chunks, c, to, beta);
        }
      }
    }
  }

  private static void multiply(
      MemorySegment a,
      long aAt,
      MemorySegment b,
      long bAt,
      int firstLane,
      int chunks,
      MemorySegment c,
      long cAt,
      float beta) {
    a = Native.known(a);
    b = Native.known(b);
    c = Native.known(c);
    FloatVector total = FloatVector.zero(F);
    int blocks = chunks * CHUNK_BLOCKS;
    for (int block = 0; block < blocks; block++) {
      int half = block % CHUNK_BLOCKS;
      long chunkAt = bAt + (long) block / CHUNK_BLOCKS * CHUNK_BYTES;
      long groupAt = chunkAt + (long) half * B_BLOCK_BYTES + 4L * firstLane;
      IntVector sum = IntVector.broadcast(I, a.get(INT, aAt + SUM));
      for (int j = 0; j < BLOCK / GROUP; j++) {
        IntVector four = IntVector.fromMemorySegment(I, b, groupAt, ORDER);
        int with = a.get(INT, aAt + (long) j * GROUP);
        IntVector first = four.and(255).mul((byte) with);
        IntVector second = four.lanewise(VectorOperators.LSHR, 8).and(255).mul((byte) (with >> 8));
        IntVector third = four.lanewise(VectorOperators.LSHR, 16).and(255).mul((byte) (with >> 16));
        IntVector fourth = four.lanewise(VectorOperators.LSHR, 24).mul(with >> 24);
        sum = first.add(second).add(third.add(fourth)).add(sum);
        groupAt += GROUP_BYTES;
      }
      long scaleAt = chunkAt + SCALES + (long) half * COLS * Short.BYTES + 2L * firstLane;
      IntVector half16 =
          (IntVector)
              ShortVector.fromMemorySegment(S, b, scaleAt, ORDER)
                  .convertShape(VectorOperators.ZERO_EXTEND_S2I, I, 0);
      FloatVector scale =
          half16
              .lanewise(VectorOperators.LSHL, FLOAT16_SHIFT)
              .reinterpretAsFloats()
              .mul(FLOAT16_SCALE)
              .reinterpretAsInts()
              .blend(NAN_BITS, half16.compare(VectorOperators.GE, FLOAT16_SPECIAL))
              .reinterpretAsFloats();
      IntVector exact = IntVector.zero(I).add(sum);
      total =
          ((FloatVector) exact.convert(VectorOperators.I2F, 0))
              .mul(scale)
              .fma(FloatVector.broadcast(F, a.get(FLOAT, aAt + SCALE)), total);
      aAt += A_BLOCK_BYTES;
    }
    if (beta != 0) {
      FloatVector before = FloatVector.fromMemorySegment(F, c, cAt, ORDER);
      total = before.fma(FloatVector.broadcast(F, beta), total);
    }
    total.intoMemorySegment(c, cAt, ORDER);
  }
}
