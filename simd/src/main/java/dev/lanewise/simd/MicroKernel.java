package dev.lanewise.simd;

import dev.lanewise.simd.machinecode.MachineCode;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorSpecies;

/**
 * Multiplies a few rows of A with a panel of B: the one place of {@link Gemm} that does arithmetic.
 *
 * <p>A tile of C, six rows by two or four vectors, lives in registers while {@code depth} columns
 * of A meet {@code depth} rows of B. The kernels are written out flat, because values in local
 * variables are all that the compiler keeps in registers with certainty, and count in constant
 * steps, because only then are the checks of all accesses made before the loop. Six by four fills
 * 24 of 32 vector registers and, of the shapes that do, needs few instructions for each
 * multiplication and suits the sizes of models, which are multiples of 64; six by two fills 12 of
 * 16. NEON has 32 registers of 128 bits and so gets six by four too: with ten loads for 24
 * multiplications, cores with two load ports for two multipliers, or three for four, are held up by
 * their multipliers and not by their loads.
 *
 * <p>On processors with AVX-512 the same tiles run as machine code, with the same bits: it needs no
 * compiler, so the first product is as fast as the last, and whole rows of tiles go in one call.
 *
 * <p>Elements of A are read two rows before they are needed, and C's old values are an argument of
 * a multiplication, never what it is called on: in some runs the compiler would else leave calls in
 * a tile, with its registers saved round each.
 */
final class MicroKernel {
  /** Whether the machine has 32 vector registers at the width in use. */
  private static final boolean MANY_REGISTERS =
      Machine.vectorBits() == 512 || System.getProperty("os.arch").equals("aarch64");

  /** Rows of a tile. */
  static final int ROWS = 6;

  /** Columns of a full panel. */
  static final int COLS = (MANY_REGISTERS ? 4 : 2) * Machine.LANES;

  /** Whether {@link #multiplyAndAdd} may be called: where tiles of four vectors a row are used. */
  static final boolean ADDS = MANY_REGISTERS;

  /** Columns of the narrow panel that may come last. */
  static final int FEW_COLS = 2 * Machine.LANES;

  /**
   * Depth of the tiles that the compiler sees before it compiles: where it has seen the loop turn
   * but once, it keeps addresses in vector registers inside of it, which costs a tenth of the
   * speed.
   */
  private static final int PREPARED_DEPTH = 4;

  /** Such a tile that takes less is compiled: interpreted, it takes ten times as long. */
  private static final long COMPILED_NANOS = 2000;

  /** The JVM's usual settings compile a method within so many calls. */
  private static final int MOST_CALLS = 20_000;

  private static final VectorSpecies<Float> F = Machine.F;
  private static final long V = Machine.VECTOR_BYTES;
  private static final ByteOrder ORDER = ByteOrder.nativeOrder();
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;

  private static final boolean HAS_MACHINE_CODE =
      Machine.vectorBits() == 512 && MachineCode.hasFloats();

  private static volatile boolean isPrepared;

  /** Not final, so that tests can compare the two ways. */
  private static boolean usesMachineCode = HAS_MACHINE_CODE;

  private MicroKernel() {}

  /** Whether tiles run as machine code. */
  static boolean usesMachineCode() {
    return usesMachineCode;
  }

  /** Chooses the way, for tests; without machine code there is no choice. */
  static void useMachineCode(boolean wanted) {
    usesMachineCode = wanted && HAS_MACHINE_CODE;
  }

  /**
   * Has the kernels compiled, in about a second, before a product so large that it would else be
   * interpreted for longer than that. A loop that is interpreted for long is compiled from its
   * middle on, where less is known: that takes four times as long, and the code is used once.
   */
  static void prepare() {
    if (!isPrepared && !usesMachineCode) {
      prepareNow();
    }
  }

  private static synchronized void prepareNow() {
    if (isPrepared) {
      return;
    }
    try (Scratch scratch = Scratch.take(4L * COLS * (PREPARED_DEPTH + ROWS))) {
      MemorySegment s = scratch.segment;
      long cAt = 4L * COLS * PREPARED_DEPTH;
      for (int tile = 0; tile < (ADDS ? 4 : 2); tile++) {
        long nanos = Long.MAX_VALUE;
        for (int calls = 0; calls < MOST_CALLS && nanos > COMPILED_NANOS; calls++) {
          long start = System.nanoTime();
          prepare(tile, s, cAt);
          nanos = System.nanoTime() - start;
        }
      }
    }
    isPrepared = true;
  }

  private static void prepare(int tile, MemorySegment s, long cAt) {
    int depth = PREPARED_DEPTH;
    long row = 4L * COLS;
    switch (tile) {
      case 0, 1 -> multiply(COLS, s, 0, 0, s, 0, depth, s, cAt, row, tile);
      case 2 -> multiplyAndAdd(s, 0, 0, s, 0, depth, s, cAt, row, s, 0, null, 0, 0);
      default -> multiplyAndAdd(s, 0, 0, s, 0, depth, s, cAt, row, s, 0, s, 0, 0);
    }
  }

  /**
   * Computes a tile, {@code C = A B + beta C}; with {@code beta} 0 C is not read. Offsets and
   * distances are in bytes.
   *
   * @param cols {@link #COLS} or {@link #FEW_COLS}: columns of the tile and of B's packed panel
   * @param aRow distance of A's rows, of {@code depth} floats each
   */
  static void multiply(
      int cols,
      MemorySegment a,
      long aAt,
      long aRow,
      MemorySegment b,
      long bAt,
      int depth,
      MemorySegment c,
      long cAt,
      long cStride,
      float beta) {
    if (usesMachineCode) {
      MachineCode.tiles(
          false,
          1,
          1,
          cols / Machine.LANES,
          a,
          aAt,
          aRow,
          b,
          bAt,
          depth,
          c,
          cAt,
          cStride,
          1,
          beta,
          null,
          0,
          null,
          0,
          0);
    } else if (cols == FEW_COLS) {
      if (beta == 0) {
        tile2(a, aAt, aRow, b, bAt, depth, c, cAt, cStride);
      } else {
        tile2More(a, aAt, aRow, b, bAt, depth, c, cAt, cStride, beta);
      }
    } else {
      if (beta == 0) {
        tile4(a, aAt, aRow, b, bAt, depth, c, cAt, cStride);
      } else {
        tile4More(a, aAt, aRow, b, bAt, depth, c, cAt, cStride, beta);
      }
    }
  }

  /**
   * Computes a tile of {@link #COLS} columns, {@code C = A B + bias + residual}, if {@link #ADDS}.
   * What is added meets the products in registers: in a pass of its own, over columns that lie in
   * short runs, it took a tenth of the time of GPT-2's narrow products.
   *
   * @param residual a matrix of C's shape, or null
   */
  static void multiplyAndAdd(
      MemorySegment a,
      long aAt,
      long aRow,
      MemorySegment b,
      long bAt,
      int depth,
      MemorySegment c,
      long cAt,
      long cStride,
      MemorySegment bias,
      long biasAt,
      MemorySegment residual,
      long residualAt,
      long residualStride) {
    if (usesMachineCode) {
      MachineCode.tiles(
          false,
          1,
          1,
          COLS / Machine.LANES,
          a,
          aAt,
          aRow,
          b,
          bAt,
          depth,
          c,
          cAt,
          cStride,
          1,
          0,
          bias,
          biasAt,
          residual,
          residualAt,
          residualStride);
    } else if (residual == null) {
      tile4Bias(a, aAt, aRow, b, bAt, depth, c, cAt, cStride, bias, biasAt);
    } else {
      tile4Residual(
          a,
          aAt,
          aRow,
          b,
          bAt,
          depth,
          c,
          cAt,
          cStride,
          bias,
          biasAt,
          residual,
          residualAt,
          residualStride);
    }
  }

  private static void tile4(
      MemorySegment a,
      long aAt,
      long aRow,
      MemorySegment b,
      long bAt,
      int depth,
      MemorySegment c,
      long cAt,
      long cStride) {
    a = Native.known(a);
    b = Native.known(b);
    c = Native.known(c);
    long a1At = aAt + 1 * aRow;
    long a2At = aAt + 2 * aRow;
    long a3At = aAt + 3 * aRow;
    long a4At = aAt + 4 * aRow;
    long a5At = aAt + 5 * aRow;
    FloatVector zero = FloatVector.zero(F);
    FloatVector c00 = zero;
    FloatVector c01 = zero;
    FloatVector c02 = zero;
    FloatVector c03 = zero;
    FloatVector c10 = zero;
    FloatVector c11 = zero;
    FloatVector c12 = zero;
    FloatVector c13 = zero;
    FloatVector c20 = zero;
    FloatVector c21 = zero;
    FloatVector c22 = zero;
    FloatVector c23 = zero;
    FloatVector c30 = zero;
    FloatVector c31 = zero;
    FloatVector c32 = zero;
    FloatVector c33 = zero;
    FloatVector c40 = zero;
    FloatVector c41 = zero;
    FloatVector c42 = zero;
    FloatVector c43 = zero;
    FloatVector c50 = zero;
    FloatVector c51 = zero;
    FloatVector c52 = zero;
    FloatVector c53 = zero;
    for (int k = 0; k < depth; k++) {
      long step = 4L * k;
      long at = bAt + 4L * COLS * k;
      FloatVector b0 = FloatVector.fromMemorySegment(F, b, at, ORDER);
      FloatVector b1 = FloatVector.fromMemorySegment(F, b, at + V, ORDER);
      FloatVector b2 = FloatVector.fromMemorySegment(F, b, at + 2 * V, ORDER);
      FloatVector b3 = FloatVector.fromMemorySegment(F, b, at + 3 * V, ORDER);
      float e0 = a.get(FLOAT, aAt + step);
      float e1 = a.get(FLOAT, a1At + step);
      float e2 = a.get(FLOAT, a2At + step);
      FloatVector a0 = FloatVector.broadcast(F, e0);
      c00 = a0.fma(b0, c00);
      c01 = a0.fma(b1, c01);
      c02 = a0.fma(b2, c02);
      c03 = a0.fma(b3, c03);
      float e3 = a.get(FLOAT, a3At + step);
      FloatVector a1 = FloatVector.broadcast(F, e1);
      c10 = a1.fma(b0, c10);
      c11 = a1.fma(b1, c11);
      c12 = a1.fma(b2, c12);
      c13 = a1.fma(b3, c13);
      float e4 = a.get(FLOAT, a4At + step);
      FloatVector a2 = FloatVector.broadcast(F, e2);
      c20 = a2.fma(b0, c20);
      c21 = a2.fma(b1, c21);
      c22 = a2.fma(b2, c22);
      c23 = a2.fma(b3, c23);
      float e5 = a.get(FLOAT, a5At + step);
      FloatVector a3 = FloatVector.broadcast(F, e3);
      c30 = a3.fma(b0, c30);
      c31 = a3.fma(b1, c31);
      c32 = a3.fma(b2, c32);
      c33 = a3.fma(b3, c33);
      FloatVector a4 = FloatVector.broadcast(F, e4);
      c40 = a4.fma(b0, c40);
      c41 = a4.fma(b1, c41);
      c42 = a4.fma(b2, c42);
      c43 = a4.fma(b3, c43);
      FloatVector a5 = FloatVector.broadcast(F, e5);
      c50 = a5.fma(b0, c50);
      c51 = a5.fma(b1, c51);
      c52 = a5.fma(b2, c52);
      c53 = a5.fma(b3, c53);
    }
    c00.intoMemorySegment(c, cAt, ORDER);
    c01.intoMemorySegment(c, cAt + V, ORDER);
    c02.intoMemorySegment(c, cAt + 2 * V, ORDER);
    c03.intoMemorySegment(c, cAt + 3 * V, ORDER);
    cAt += cStride;
    c10.intoMemorySegment(c, cAt, ORDER);
    c11.intoMemorySegment(c, cAt + V, ORDER);
    c12.intoMemorySegment(c, cAt + 2 * V, ORDER);
    c13.intoMemorySegment(c, cAt + 3 * V, ORDER);
    cAt += cStride;
    c20.intoMemorySegment(c, cAt, ORDER);
    c21.intoMemorySegment(c, cAt + V, ORDER);
    c22.intoMemorySegment(c, cAt + 2 * V, ORDER);
    c23.intoMemorySegment(c, cAt + 3 * V, ORDER);
    cAt += cStride;
    c30.intoMemorySegment(c, cAt, ORDER);
    c31.intoMemorySegment(c, cAt + V, ORDER);
    c32.intoMemorySegment(c, cAt + 2 * V, ORDER);
    c33.intoMemorySegment(c, cAt + 3 * V, ORDER);
    cAt += cStride;
    c40.intoMemorySegment(c, cAt, ORDER);
    c41.intoMemorySegment(c, cAt + V, ORDER);
    c42.intoMemorySegment(c, cAt + 2 * V, ORDER);
    c43.intoMemorySegment(c, cAt + 3 * V, ORDER);
    cAt += cStride;
    c50.intoMemorySegment(c, cAt, ORDER);
    c51.intoMemorySegment(c, cAt + V, ORDER);
    c52.intoMemorySegment(c, cAt + 2 * V, ORDER);
    c53.intoMemorySegment(c, cAt + 3 * V, ORDER);
  }

  private static void tile4Bias(
      MemorySegment a,
      long aAt,
      long aRow,
      MemorySegment b,
      long bAt,
      int depth,
      MemorySegment c,
      long cAt,
      long cStride,
      MemorySegment bias,
      long biasAt) {
    a = Native.known(a);
    b = Native.known(b);
    c = Native.known(c);
    bias = Native.known(bias);
    long a1At = aAt + 1 * aRow;
    long a2At = aAt + 2 * aRow;
    long a3At = aAt + 3 * aRow;
    long a4At = aAt + 4 * aRow;
    long a5At = aAt + 5 * aRow;
    FloatVector zero = FloatVector.zero(F);
    FloatVector c00 = zero;
    FloatVector c01 = zero;
    FloatVector c02 = zero;
    FloatVector c03 = zero;
    FloatVector c10 = zero;
    FloatVector c11 = zero;
    FloatVector c12 = zero;
    FloatVector c13 = zero;
    FloatVector c20 = zero;
    FloatVector c21 = zero;
    FloatVector c22 = zero;
    FloatVector c23 = zero;
    FloatVector c30 = zero;
    FloatVector c31 = zero;
    FloatVector c32 = zero;
    FloatVector c33 = zero;
    FloatVector c40 = zero;
    FloatVector c41 = zero;
    FloatVector c42 = zero;
    FloatVector c43 = zero;
    FloatVector c50 = zero;
    FloatVector c51 = zero;
    FloatVector c52 = zero;
    FloatVector c53 = zero;
    for (int k = 0; k < depth; k++) {
      long step = 4L * k;
      long at = bAt + 4L * COLS * k;
      FloatVector b0 = FloatVector.fromMemorySegment(F, b, at, ORDER);
      FloatVector b1 = FloatVector.fromMemorySegment(F, b, at + V, ORDER);
      FloatVector b2 = FloatVector.fromMemorySegment(F, b, at + 2 * V, ORDER);
      FloatVector b3 = FloatVector.fromMemorySegment(F, b, at + 3 * V, ORDER);
      float e0 = a.get(FLOAT, aAt + step);
      float e1 = a.get(FLOAT, a1At + step);
      float e2 = a.get(FLOAT, a2At + step);
      FloatVector a0 = FloatVector.broadcast(F, e0);
      c00 = a0.fma(b0, c00);
      c01 = a0.fma(b1, c01);
      c02 = a0.fma(b2, c02);
      c03 = a0.fma(b3, c03);
      float e3 = a.get(FLOAT, a3At + step);
      FloatVector a1 = FloatVector.broadcast(F, e1);
      c10 = a1.fma(b0, c10);
      c11 = a1.fma(b1, c11);
      c12 = a1.fma(b2, c12);
      c13 = a1.fma(b3, c13);
      float e4 = a.get(FLOAT, a4At + step);
      FloatVector a2 = FloatVector.broadcast(F, e2);
      c20 = a2.fma(b0, c20);
      c21 = a2.fma(b1, c21);
      c22 = a2.fma(b2, c22);
      c23 = a2.fma(b3, c23);
      float e5 = a.get(FLOAT, a5At + step);
      FloatVector a3 = FloatVector.broadcast(F, e3);
      c30 = a3.fma(b0, c30);
      c31 = a3.fma(b1, c31);
      c32 = a3.fma(b2, c32);
      c33 = a3.fma(b3, c33);
      FloatVector a4 = FloatVector.broadcast(F, e4);
      c40 = a4.fma(b0, c40);
      c41 = a4.fma(b1, c41);
      c42 = a4.fma(b2, c42);
      c43 = a4.fma(b3, c43);
      FloatVector a5 = FloatVector.broadcast(F, e5);
      c50 = a5.fma(b0, c50);
      c51 = a5.fma(b1, c51);
      c52 = a5.fma(b2, c52);
      c53 = a5.fma(b3, c53);
    }
    FloatVector one = FloatVector.broadcast(F, 1f);
    FloatVector bias0 = FloatVector.fromMemorySegment(F, bias, biasAt, ORDER);
    FloatVector bias1 = FloatVector.fromMemorySegment(F, bias, biasAt + V, ORDER);
    FloatVector bias2 = FloatVector.fromMemorySegment(F, bias, biasAt + 2 * V, ORDER);
    FloatVector bias3 = FloatVector.fromMemorySegment(F, bias, biasAt + 3 * V, ORDER);
    one.fma(c00, bias0).intoMemorySegment(c, cAt, ORDER);
    one.fma(c01, bias1).intoMemorySegment(c, cAt + V, ORDER);
    one.fma(c02, bias2).intoMemorySegment(c, cAt + 2 * V, ORDER);
    one.fma(c03, bias3).intoMemorySegment(c, cAt + 3 * V, ORDER);
    cAt += cStride;
    one.fma(c10, bias0).intoMemorySegment(c, cAt, ORDER);
    one.fma(c11, bias1).intoMemorySegment(c, cAt + V, ORDER);
    one.fma(c12, bias2).intoMemorySegment(c, cAt + 2 * V, ORDER);
    one.fma(c13, bias3).intoMemorySegment(c, cAt + 3 * V, ORDER);
    cAt += cStride;
    one.fma(c20, bias0).intoMemorySegment(c, cAt, ORDER);
    one.fma(c21, bias1).intoMemorySegment(c, cAt + V, ORDER);
    one.fma(c22, bias2).intoMemorySegment(c, cAt + 2 * V, ORDER);
    one.fma(c23, bias3).intoMemorySegment(c, cAt + 3 * V, ORDER);
    cAt += cStride;
    one.fma(c30, bias0).intoMemorySegment(c, cAt, ORDER);
    one.fma(c31, bias1).intoMemorySegment(c, cAt + V, ORDER);
    one.fma(c32, bias2).intoMemorySegment(c, cAt + 2 * V, ORDER);
    one.fma(c33, bias3).intoMemorySegment(c, cAt + 3 * V, ORDER);
    cAt += cStride;
    one.fma(c40, bias0).intoMemorySegment(c, cAt, ORDER);
    one.fma(c41, bias1).intoMemorySegment(c, cAt + V, ORDER);
    one.fma(c42, bias2).intoMemorySegment(c, cAt + 2 * V, ORDER);
    one.fma(c43, bias3).intoMemorySegment(c, cAt + 3 * V, ORDER);
    cAt += cStride;
    one.fma(c50, bias0).intoMemorySegment(c, cAt, ORDER);
    one.fma(c51, bias1).intoMemorySegment(c, cAt + V, ORDER);
    one.fma(c52, bias2).intoMemorySegment(c, cAt + 2 * V, ORDER);
    one.fma(c53, bias3).intoMemorySegment(c, cAt + 3 * V, ORDER);
  }

  private static void tile4Residual(
      MemorySegment a,
      long aAt,
      long aRow,
      MemorySegment b,
      long bAt,
      int depth,
      MemorySegment c,
      long cAt,
      long cStride,
      MemorySegment bias,
      long biasAt,
      MemorySegment residual,
      long residualAt,
      long residualStride) {
    a = Native.known(a);
    b = Native.known(b);
    c = Native.known(c);
    bias = Native.known(bias);
    residual = Native.known(residual);
    long a1At = aAt + 1 * aRow;
    long a2At = aAt + 2 * aRow;
    long a3At = aAt + 3 * aRow;
    long a4At = aAt + 4 * aRow;
    long a5At = aAt + 5 * aRow;
    FloatVector zero = FloatVector.zero(F);
    FloatVector c00 = zero;
    FloatVector c01 = zero;
    FloatVector c02 = zero;
    FloatVector c03 = zero;
    FloatVector c10 = zero;
    FloatVector c11 = zero;
    FloatVector c12 = zero;
    FloatVector c13 = zero;
    FloatVector c20 = zero;
    FloatVector c21 = zero;
    FloatVector c22 = zero;
    FloatVector c23 = zero;
    FloatVector c30 = zero;
    FloatVector c31 = zero;
    FloatVector c32 = zero;
    FloatVector c33 = zero;
    FloatVector c40 = zero;
    FloatVector c41 = zero;
    FloatVector c42 = zero;
    FloatVector c43 = zero;
    FloatVector c50 = zero;
    FloatVector c51 = zero;
    FloatVector c52 = zero;
    FloatVector c53 = zero;
    for (int k = 0; k < depth; k++) {
      long step = 4L * k;
      long at = bAt + 4L * COLS * k;
      FloatVector b0 = FloatVector.fromMemorySegment(F, b, at, ORDER);
      FloatVector b1 = FloatVector.fromMemorySegment(F, b, at + V, ORDER);
      FloatVector b2 = FloatVector.fromMemorySegment(F, b, at + 2 * V, ORDER);
      FloatVector b3 = FloatVector.fromMemorySegment(F, b, at + 3 * V, ORDER);
      float e0 = a.get(FLOAT, aAt + step);
      float e1 = a.get(FLOAT, a1At + step);
      float e2 = a.get(FLOAT, a2At + step);
      FloatVector a0 = FloatVector.broadcast(F, e0);
      c00 = a0.fma(b0, c00);
      c01 = a0.fma(b1, c01);
      c02 = a0.fma(b2, c02);
      c03 = a0.fma(b3, c03);
      float e3 = a.get(FLOAT, a3At + step);
      FloatVector a1 = FloatVector.broadcast(F, e1);
      c10 = a1.fma(b0, c10);
      c11 = a1.fma(b1, c11);
      c12 = a1.fma(b2, c12);
      c13 = a1.fma(b3, c13);
      float e4 = a.get(FLOAT, a4At + step);
      FloatVector a2 = FloatVector.broadcast(F, e2);
      c20 = a2.fma(b0, c20);
      c21 = a2.fma(b1, c21);
      c22 = a2.fma(b2, c22);
      c23 = a2.fma(b3, c23);
      float e5 = a.get(FLOAT, a5At + step);
      FloatVector a3 = FloatVector.broadcast(F, e3);
      c30 = a3.fma(b0, c30);
      c31 = a3.fma(b1, c31);
      c32 = a3.fma(b2, c32);
      c33 = a3.fma(b3, c33);
      FloatVector a4 = FloatVector.broadcast(F, e4);
      c40 = a4.fma(b0, c40);
      c41 = a4.fma(b1, c41);
      c42 = a4.fma(b2, c42);
      c43 = a4.fma(b3, c43);
      FloatVector a5 = FloatVector.broadcast(F, e5);
      c50 = a5.fma(b0, c50);
      c51 = a5.fma(b1, c51);
      c52 = a5.fma(b2, c52);
      c53 = a5.fma(b3, c53);
    }
    FloatVector one = FloatVector.broadcast(F, 1f);
    FloatVector bias0 = FloatVector.fromMemorySegment(F, bias, biasAt, ORDER);
    FloatVector bias1 = FloatVector.fromMemorySegment(F, bias, biasAt + V, ORDER);
    FloatVector bias2 = FloatVector.fromMemorySegment(F, bias, biasAt + 2 * V, ORDER);
    FloatVector bias3 = FloatVector.fromMemorySegment(F, bias, biasAt + 3 * V, ORDER);
    one.fma(c00, bias0)
        .add(FloatVector.fromMemorySegment(F, residual, residualAt, ORDER))
        .intoMemorySegment(c, cAt, ORDER);
    one.fma(c01, bias1)
        .add(FloatVector.fromMemorySegment(F, residual, residualAt + V, ORDER))
        .intoMemorySegment(c, cAt + V, ORDER);
    one.fma(c02, bias2)
        .add(FloatVector.fromMemorySegment(F, residual, residualAt + 2 * V, ORDER))
        .intoMemorySegment(c, cAt + 2 * V, ORDER);
    one.fma(c03, bias3)
        .add(FloatVector.fromMemorySegment(F, residual, residualAt + 3 * V, ORDER))
        .intoMemorySegment(c, cAt + 3 * V, ORDER);
    cAt += cStride;
    residualAt += residualStride;
    one.fma(c10, bias0)
        .add(FloatVector.fromMemorySegment(F, residual, residualAt, ORDER))
        .intoMemorySegment(c, cAt, ORDER);
    one.fma(c11, bias1)
        .add(FloatVector.fromMemorySegment(F, residual, residualAt + V, ORDER))
        .intoMemorySegment(c, cAt + V, ORDER);
    one.fma(c12, bias2)
        .add(FloatVector.fromMemorySegment(F, residual, residualAt + 2 * V, ORDER))
        .intoMemorySegment(c, cAt + 2 * V, ORDER);
    one.fma(c13, bias3)
        .add(FloatVector.fromMemorySegment(F, residual, residualAt + 3 * V, ORDER))
        .intoMemorySegment(c, cAt + 3 * V, ORDER);
    cAt += cStride;
    residualAt += residualStride;
    one.fma(c20, bias0)
        .add(FloatVector.fromMemorySegment(F, residual, residualAt, ORDER))
        .intoMemorySegment(c, cAt, ORDER);
    one.fma(c21, bias1)
        .add(FloatVector.fromMemorySegment(F, residual, residualAt + V, ORDER))
        .intoMemorySegment(c, cAt + V, ORDER);
    one.fma(c22, bias2)
        .add(FloatVector.fromMemorySegment(F, residual, residualAt + 2 * V, ORDER))
        .intoMemorySegment(c, cAt + 2 * V, ORDER);
    one.fma(c23, bias3)
        .add(FloatVector.fromMemorySegment(F, residual, residualAt + 3 * V, ORDER))
        .intoMemorySegment(c, cAt + 3 * V, ORDER);
    cAt += cStride;
    residualAt += residualStride;
    one.fma(c30, bias0)
        .add(FloatVector.fromMemorySegment(F, residual, residualAt, ORDER))
        .intoMemorySegment(c, cAt, ORDER);
    one.fma(c31, bias1)
        .add(FloatVector.fromMemorySegment(F, residual, residualAt + V, ORDER))
        .intoMemorySegment(c, cAt + V, ORDER);
    one.fma(c32, bias2)
        .add(FloatVector.fromMemorySegment(F, residual, residualAt + 2 * V, ORDER))
        .intoMemorySegment(c, cAt + 2 * V, ORDER);
    one.fma(c33, bias3)
        .add(FloatVector.fromMemorySegment(F, residual, residualAt + 3 * V, ORDER))
        .intoMemorySegment(c, cAt + 3 * V, ORDER);
    cAt += cStride;
    residualAt += residualStride;
    one.fma(c40, bias0)
        .add(FloatVector.fromMemorySegment(F, residual, residualAt, ORDER))
        .intoMemorySegment(c, cAt, ORDER);
    one.fma(c41, bias1)
        .add(FloatVector.fromMemorySegment(F, residual, residualAt + V, ORDER))
        .intoMemorySegment(c, cAt + V, ORDER);
    one.fma(c42, bias2)
        .add(FloatVector.fromMemorySegment(F, residual, residualAt + 2 * V, ORDER))
        .intoMemorySegment(c, cAt + 2 * V, ORDER);
    one.fma(c43, bias3)
        .add(FloatVector.fromMemorySegment(F, residual, residualAt + 3 * V, ORDER))
        .intoMemorySegment(c, cAt + 3 * V, ORDER);
    cAt += cStride;
    residualAt += residualStride;
    one.fma(c50, bias0)
        .add(FloatVector.fromMemorySegment(F, residual, residualAt, ORDER))
        .intoMemorySegment(c, cAt, ORDER);
    one.fma(c51, bias1)
        .add(FloatVector.fromMemorySegment(F, residual, residualAt + V, ORDER))
        .intoMemorySegment(c, cAt + V, ORDER);
    one.fma(c52, bias2)
        .add(FloatVector.fromMemorySegment(F, residual, residualAt + 2 * V, ORDER))
        .intoMemorySegment(c, cAt + 2 * V, ORDER);
    one.fma(c53, bias3)
        .add(FloatVector.fromMemorySegment(F, residual, residualAt + 3 * V, ORDER))
        .intoMemorySegment(c, cAt + 3 * V, ORDER);
  }

  private static void tile4More(
      MemorySegment a,
      long aAt,
      long aRow,
      MemorySegment b,
      long bAt,
      int depth,
      MemorySegment c,
      long cAt,
      long cStride,
      float beta) {
    a = Native.known(a);
    b = Native.known(b);
    c = Native.known(c);
    long a1At = aAt + 1 * aRow;
    long a2At = aAt + 2 * aRow;
    long a3At = aAt + 3 * aRow;
    long a4At = aAt + 4 * aRow;
    long a5At = aAt + 5 * aRow;
    FloatVector zero = FloatVector.zero(F);
    FloatVector c00 = zero;
    FloatVector c01 = zero;
    FloatVector c02 = zero;
    FloatVector c03 = zero;
    FloatVector c10 = zero;
    FloatVector c11 = zero;
    FloatVector c12 = zero;
    FloatVector c13 = zero;
    FloatVector c20 = zero;
    FloatVector c21 = zero;
    FloatVector c22 = zero;
    FloatVector c23 = zero;
    FloatVector c30 = zero;
    FloatVector c31 = zero;
    FloatVector c32 = zero;
    FloatVector c33 = zero;
    FloatVector c40 = zero;
    FloatVector c41 = zero;
    FloatVector c42 = zero;
    FloatVector c43 = zero;
    FloatVector c50 = zero;
    FloatVector c51 = zero;
    FloatVector c52 = zero;
    FloatVector c53 = zero;
    for (int k = 0; k < depth; k++) {
      long step = 4L * k;
      long at = bAt + 4L * COLS * k;
      FloatVector b0 = FloatVector.fromMemorySegment(F, b, at, ORDER);
      FloatVector b1 = FloatVector.fromMemorySegment(F, b, at + V, ORDER);
      FloatVector b2 = FloatVector.fromMemorySegment(F, b, at + 2 * V, ORDER);
      FloatVector b3 = FloatVector.fromMemorySegment(F, b, at + 3 * V, ORDER);
      float e0 = a.get(FLOAT, aAt + step);
      float e1 = a.get(FLOAT, a1At + step);
      float e2 = a.get(FLOAT, a2At + step);
      FloatVector a0 = FloatVector.broadcast(F, e0);
      c00 = a0.fma(b0, c00);
      c01 = a0.fma(b1, c01);
      c02 = a0.fma(b2, c02);
      c03 = a0.fma(b3, c03);
      float e3 = a.get(FLOAT, a3At + step);
      FloatVector a1 = FloatVector.broadcast(F, e1);
      c10 = a1.fma(b0, c10);
      c11 = a1.fma(b1, c11);
      c12 = a1.fma(b2, c12);
      c13 = a1.fma(b3, c13);
      float e4 = a.get(FLOAT, a4At + step);
      FloatVector a2 = FloatVector.broadcast(F, e2);
      c20 = a2.fma(b0, c20);
      c21 = a2.fma(b1, c21);
      c22 = a2.fma(b2, c22);
      c23 = a2.fma(b3, c23);
      float e5 = a.get(FLOAT, a5At + step);
      FloatVector a3 = FloatVector.broadcast(F, e3);
      c30 = a3.fma(b0, c30);
      c31 = a3.fma(b1, c31);
      c32 = a3.fma(b2, c32);
      c33 = a3.fma(b3, c33);
      FloatVector a4 = FloatVector.broadcast(F, e4);
      c40 = a4.fma(b0, c40);
      c41 = a4.fma(b1, c41);
      c42 = a4.fma(b2, c42);
      c43 = a4.fma(b3, c43);
      FloatVector a5 = FloatVector.broadcast(F, e5);
      c50 = a5.fma(b0, c50);
      c51 = a5.fma(b1, c51);
      c52 = a5.fma(b2, c52);
      c53 = a5.fma(b3, c53);
    }
    FloatVector scale = FloatVector.broadcast(F, beta);
    scale
        .fma(FloatVector.fromMemorySegment(F, c, cAt, ORDER), c00)
        .intoMemorySegment(c, cAt, ORDER);
    scale
        .fma(FloatVector.fromMemorySegment(F, c, cAt + V, ORDER), c01)
        .intoMemorySegment(c, cAt + V, ORDER);
    scale
        .fma(FloatVector.fromMemorySegment(F, c, cAt + 2 * V, ORDER), c02)
        .intoMemorySegment(c, cAt + 2 * V, ORDER);
    scale
        .fma(FloatVector.fromMemorySegment(F, c, cAt + 3 * V, ORDER), c03)
        .intoMemorySegment(c, cAt + 3 * V, ORDER);
    cAt += cStride;
    scale
        .fma(FloatVector.fromMemorySegment(F, c, cAt, ORDER), c10)
        .intoMemorySegment(c, cAt, ORDER);
    scale
        .fma(FloatVector.fromMemorySegment(F, c, cAt + V, ORDER), c11)
        .intoMemorySegment(c, cAt + V, ORDER);
    scale
        .fma(FloatVector.fromMemorySegment(F, c, cAt + 2 * V, ORDER), c12)
        .intoMemorySegment(c, cAt + 2 * V, ORDER);
    scale
        .fma(FloatVector.fromMemorySegment(F, c, cAt + 3 * V, ORDER), c13)
        .intoMemorySegment(c, cAt + 3 * V, ORDER);
    cAt += cStride;
    scale
        .fma(FloatVector.fromMemorySegment(F, c, cAt, ORDER), c20)
        .intoMemorySegment(c, cAt, ORDER);
    scale
        .fma(FloatVector.fromMemorySegment(F, c, cAt + V, ORDER), c21)
        .intoMemorySegment(c, cAt + V, ORDER);
    scale
        .fma(FloatVector.fromMemorySegment(F, c, cAt + 2 * V, ORDER), c22)
        .intoMemorySegment(c, cAt + 2 * V, ORDER);
    scale
        .fma(FloatVector.fromMemorySegment(F, c, cAt + 3 * V, ORDER), c23)
        .intoMemorySegment(c, cAt + 3 * V, ORDER);
    cAt += cStride;
    scale
        .fma(FloatVector.fromMemorySegment(F, c, cAt, ORDER), c30)
        .intoMemorySegment(c, cAt, ORDER);
    scale
        .fma(FloatVector.fromMemorySegment(F, c, cAt + V, ORDER), c31)
        .intoMemorySegment(c, cAt + V, ORDER);
    scale
        .fma(FloatVector.fromMemorySegment(F, c, cAt + 2 * V, ORDER), c32)
        .intoMemorySegment(c, cAt + 2 * V, ORDER);
    scale
        .fma(FloatVector.fromMemorySegment(F, c, cAt + 3 * V, ORDER), c33)
        .intoMemorySegment(c, cAt + 3 * V, ORDER);
    cAt += cStride;
    scale
        .fma(FloatVector.fromMemorySegment(F, c, cAt, ORDER), c40)
        .intoMemorySegment(c, cAt, ORDER);
    scale
        .fma(FloatVector.fromMemorySegment(F, c, cAt + V, ORDER), c41)
        .intoMemorySegment(c, cAt + V, ORDER);
    scale
        .fma(FloatVector.fromMemorySegment(F, c, cAt + 2 * V, ORDER), c42)
        .intoMemorySegment(c, cAt + 2 * V, ORDER);
    scale
        .fma(FloatVector.fromMemorySegment(F, c, cAt + 3 * V, ORDER), c43)
        .intoMemorySegment(c, cAt + 3 * V, ORDER);
    cAt += cStride;
    scale
        .fma(FloatVector.fromMemorySegment(F, c, cAt, ORDER), c50)
        .intoMemorySegment(c, cAt, ORDER);
    scale
        .fma(FloatVector.fromMemorySegment(F, c, cAt + V, ORDER), c51)
        .intoMemorySegment(c, cAt + V, ORDER);
    scale
        .fma(FloatVector.fromMemorySegment(F, c, cAt + 2 * V, ORDER), c52)
        .intoMemorySegment(c, cAt + 2 * V, ORDER);
    scale
        .fma(FloatVector.fromMemorySegment(F, c, cAt + 3 * V, ORDER), c53)
        .intoMemorySegment(c, cAt + 3 * V, ORDER);
  }

  /**
   * Computes a tile of {@link #FEW_COLS} columns, {@code C = A B}, of a B that is not packed.
   *
   * @param bStep distance of B's rows
   */
  static void multiplyApart(
      MemorySegment a,
      long aAt,
      long aRow,
      MemorySegment b,
      long bAt,
      long bStep,
      int depth,
      MemorySegment c,
      long cAt,
      long cStride) {
    a = Native.known(a);
    b = Native.known(b);
    c = Native.known(c);
    long a1At = aAt + 1 * aRow;
    long a2At = aAt + 2 * aRow;
    long a3At = aAt + 3 * aRow;
    long a4At = aAt + 4 * aRow;
    long a5At = aAt + 5 * aRow;
    FloatVector zero = FloatVector.zero(F);
    FloatVector c00 = zero;
    FloatVector c01 = zero;
    FloatVector c10 = zero;
    FloatVector c11 = zero;
    FloatVector c20 = zero;
    FloatVector c21 = zero;
    FloatVector c30 = zero;
    FloatVector c31 = zero;
    FloatVector c40 = zero;
    FloatVector c41 = zero;
    FloatVector c50 = zero;
    FloatVector c51 = zero;
    for (int k = 0; k < depth; k++) {
      long step = 4L * k;
      long at = bAt + k * bStep;
      FloatVector b0 = FloatVector.fromMemorySegment(F, b, at, ORDER);
      FloatVector b1 = FloatVector.fromMemorySegment(F, b, at + V, ORDER);
      float e0 = a.get(FLOAT, aAt + step);
      float e1 = a.get(FLOAT, a1At + step);
      float e2 = a.get(FLOAT, a2At + step);
      FloatVector a0 = FloatVector.broadcast(F, e0);
      c00 = a0.fma(b0, c00);
      c01 = a0.fma(b1, c01);
      float e3 = a.get(FLOAT, a3At + step);
      FloatVector a1 = FloatVector.broadcast(F, e1);
      c10 = a1.fma(b0, c10);
      c11 = a1.fma(b1, c11);
      float e4 = a.get(FLOAT, a4At + step);
      FloatVector a2 = FloatVector.broadcast(F, e2);
      c20 = a2.fma(b0, c20);
      c21 = a2.fma(b1, c21);
      float e5 = a.get(FLOAT, a5At + step);
      FloatVector a3 = FloatVector.broadcast(F, e3);
      c30 = a3.fma(b0, c30);
      c31 = a3.fma(b1, c31);
      FloatVector a4 = FloatVector.broadcast(F, e4);
      c40 = a4.fma(b0, c40);
      c41 = a4.fma(b1, c41);
      FloatVector a5 = FloatVector.broadcast(F, e5);
      c50 = a5.fma(b0, c50);
      c51 = a5.fma(b1, c51);
    }
    c00.intoMemorySegment(c, cAt, ORDER);
    c01.intoMemorySegment(c, cAt + V, ORDER);
    cAt += cStride;
    c10.intoMemorySegment(c, cAt, ORDER);
    c11.intoMemorySegment(c, cAt + V, ORDER);
    cAt += cStride;
    c20.intoMemorySegment(c, cAt, ORDER);
    c21.intoMemorySegment(c, cAt + V, ORDER);
    cAt += cStride;
    c30.intoMemorySegment(c, cAt, ORDER);
    c31.intoMemorySegment(c, cAt + V, ORDER);
    cAt += cStride;
    c40.intoMemorySegment(c, cAt, ORDER);
    c41.intoMemorySegment(c, cAt + V, ORDER);
    cAt += cStride;
    c50.intoMemorySegment(c, cAt, ORDER);
    c51.intoMemorySegment(c, cAt + V, ORDER);
  }

  private static void tile2(
      MemorySegment a,
      long aAt,
      long aRow,
      MemorySegment b,
      long bAt,
      int depth,
      MemorySegment c,
      long cAt,
      long cStride) {
    a = Native.known(a);
    b = Native.known(b);
    c = Native.known(c);
    long a1At = aAt + 1 * aRow;
    long a2At = aAt + 2 * aRow;
    long a3At = aAt + 3 * aRow;
    long a4At = aAt + 4 * aRow;
    long a5At = aAt + 5 * aRow;
    FloatVector zero = FloatVector.zero(F);
    FloatVector c00 = zero;
    FloatVector c01 = zero;
    FloatVector c10 = zero;
    FloatVector c11 = zero;
    FloatVector c20 = zero;
    FloatVector c21 = zero;
    FloatVector c30 = zero;
    FloatVector c31 = zero;
    FloatVector c40 = zero;
    FloatVector c41 = zero;
    FloatVector c50 = zero;
    FloatVector c51 = zero;
    for (int k = 0; k < depth; k++) {
      long step = 4L * k;
      long at = bAt + 4L * FEW_COLS * k;
      FloatVector b0 = FloatVector.fromMemorySegment(F, b, at, ORDER);
      FloatVector b1 = FloatVector.fromMemorySegment(F, b, at + V, ORDER);
      float e0 = a.get(FLOAT, aAt + step);
      float e1 = a.get(FLOAT, a1At + step);
      float e2 = a.get(FLOAT, a2At + step);
      FloatVector a0 = FloatVector.broadcast(F, e0);
      c00 = a0.fma(b0, c00);
      c01 = a0.fma(b1, c01);
      float e3 = a.get(FLOAT, a3At + step);
      FloatVector a1 = FloatVector.broadcast(F, e1);
      c10 = a1.fma(b0, c10);
      c11 = a1.fma(b1, c11);
      float e4 = a.get(FLOAT, a4At + step);
      FloatVector a2 = FloatVector.broadcast(F, e2);
      c20 = a2.fma(b0, c20);
      c21 = a2.fma(b1, c21);
      float e5 = a.get(FLOAT, a5At + step);
      FloatVector a3 = FloatVector.broadcast(F, e3);
      c30 = a3.fma(b0, c30);
      c31 = a3.fma(b1, c31);
      FloatVector a4 = FloatVector.broadcast(F, e4);
      c40 = a4.fma(b0, c40);
      c41 = a4.fma(b1, c41);
      FloatVector a5 = FloatVector.broadcast(F, e5);
      c50 = a5.fma(b0, c50);
      c51 = a5.fma(b1, c51);
    }
    c00.intoMemorySegment(c, cAt, ORDER);
    c01.intoMemorySegment(c, cAt + V, ORDER);
    cAt += cStride;
    c10.intoMemorySegment(c, cAt, ORDER);
    c11.intoMemorySegment(c, cAt + V, ORDER);
    cAt += cStride;
    c20.intoMemorySegment(c, cAt, ORDER);
    c21.intoMemorySegment(c, cAt + V, ORDER);
    cAt += cStride;
    c30.intoMemorySegment(c, cAt, ORDER);
    c31.intoMemorySegment(c, cAt + V, ORDER);
    cAt += cStride;
    c40.intoMemorySegment(c, cAt, ORDER);
    c41.intoMemorySegment(c, cAt + V, ORDER);
    cAt += cStride;
    c50.intoMemorySegment(c, cAt, ORDER);
    c51.intoMemorySegment(c, cAt + V, ORDER);
  }

  private static void tile2More(
      MemorySegment a,
      long aAt,
      long aRow,
      MemorySegment b,
      long bAt,
      int depth,
      MemorySegment c,
      long cAt,
      long cStride,
      float beta) {
    a = Native.known(a);
    b = Native.known(b);
    c = Native.known(c);
    long a1At = aAt + 1 * aRow;
    long a2At = aAt + 2 * aRow;
    long a3At = aAt + 3 * aRow;
    long a4At = aAt + 4 * aRow;
    long a5At = aAt + 5 * aRow;
    FloatVector zero = FloatVector.zero(F);
    FloatVector c00 = zero;
    FloatVector c01 = zero;
    FloatVector c10 = zero;
    FloatVector c11 = zero;
    FloatVector c20 = zero;
    FloatVector c21 = zero;
    FloatVector c30 = zero;
    FloatVector c31 = zero;
    FloatVector c40 = zero;
    FloatVector c41 = zero;
    FloatVector c50 = zero;
    FloatVector c51 = zero;
    for (int k = 0; k < depth; k++) {
      long step = 4L * k;
      long at = bAt + 4L * FEW_COLS * k;
      FloatVector b0 = FloatVector.fromMemorySegment(F, b, at, ORDER);
      FloatVector b1 = FloatVector.fromMemorySegment(F, b, at + V, ORDER);
      float e0 = a.get(FLOAT, aAt + step);
      float e1 = a.get(FLOAT, a1At + step);
      float e2 = a.get(FLOAT, a2At + step);
      FloatVector a0 = FloatVector.broadcast(F, e0);
      c00 = a0.fma(b0, c00);
      c01 = a0.fma(b1, c01);
      float e3 = a.get(FLOAT, a3At + step);
      FloatVector a1 = FloatVector.broadcast(F, e1);
      c10 = a1.fma(b0, c10);
      c11 = a1.fma(b1, c11);
      float e4 = a.get(FLOAT, a4At + step);
      FloatVector a2 = FloatVector.broadcast(F, e2);
      c20 = a2.fma(b0, c20);
      c21 = a2.fma(b1, c21);
      float e5 = a.get(FLOAT, a5At + step);
      FloatVector a3 = FloatVector.broadcast(F, e3);
      c30 = a3.fma(b0, c30);
      c31 = a3.fma(b1, c31);
      FloatVector a4 = FloatVector.broadcast(F, e4);
      c40 = a4.fma(b0, c40);
      c41 = a4.fma(b1, c41);
      FloatVector a5 = FloatVector.broadcast(F, e5);
      c50 = a5.fma(b0, c50);
      c51 = a5.fma(b1, c51);
    }
    FloatVector scale = FloatVector.broadcast(F, beta);
    scale
        .fma(FloatVector.fromMemorySegment(F, c, cAt, ORDER), c00)
        .intoMemorySegment(c, cAt, ORDER);
    scale
        .fma(FloatVector.fromMemorySegment(F, c, cAt + V, ORDER), c01)
        .intoMemorySegment(c, cAt + V, ORDER);
    cAt += cStride;
    scale
        .fma(FloatVector.fromMemorySegment(F, c, cAt, ORDER), c10)
        .intoMemorySegment(c, cAt, ORDER);
    scale
        .fma(FloatVector.fromMemorySegment(F, c, cAt + V, ORDER), c11)
        .intoMemorySegment(c, cAt + V, ORDER);
    cAt += cStride;
    scale
        .fma(FloatVector.fromMemorySegment(F, c, cAt, ORDER), c20)
        .intoMemorySegment(c, cAt, ORDER);
    scale
        .fma(FloatVector.fromMemorySegment(F, c, cAt + V, ORDER), c21)
        .intoMemorySegment(c, cAt + V, ORDER);
    cAt += cStride;
    scale
        .fma(FloatVector.fromMemorySegment(F, c, cAt, ORDER), c30)
        .intoMemorySegment(c, cAt, ORDER);
    scale
        .fma(FloatVector.fromMemorySegment(F, c, cAt + V, ORDER), c31)
        .intoMemorySegment(c, cAt + V, ORDER);
    cAt += cStride;
    scale
        .fma(FloatVector.fromMemorySegment(F, c, cAt, ORDER), c40)
        .intoMemorySegment(c, cAt, ORDER);
    scale
        .fma(FloatVector.fromMemorySegment(F, c, cAt + V, ORDER), c41)
        .intoMemorySegment(c, cAt + V, ORDER);
    cAt += cStride;
    scale
        .fma(FloatVector.fromMemorySegment(F, c, cAt, ORDER), c50)
        .intoMemorySegment(c, cAt, ORDER);
    scale
        .fma(FloatVector.fromMemorySegment(F, c, cAt + V, ORDER), c51)
        .intoMemorySegment(c, cAt + V, ORDER);
  }
}
