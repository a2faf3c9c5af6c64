package dev.lanewise.simd;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorSpecies;

/**
 * Multiplies two packed panels: the one place of {@link Gemm} that does arithmetic.
 *
 * <p>A tile of C, some rows by two vectors, lives in registers while {@code depth} columns of A
 * meet {@code depth} rows of B. Each kernel is written out flat, because values in local variables
 * are all that the compiler keeps in registers with certainty. Twelve rows fill 24 of 32 vector
 * registers, six rows 12 of 16; four rows serve what is left over at the bottom.
 */
final class MicroKernel {
  /** Whether the machine has 32 vector registers at the width in use. */
  private static final boolean MANY_REGISTERS =
      Machine.vectorBits() == 512 || System.getProperty("os.arch").equals("aarch64");

  /** Rows of a full tile. */
  static final int ROWS = MANY_REGISTERS ? 12 : 6;

  /** Rows of the small tile. */
  static final int FEW_ROWS = 4;

  /** Columns of a tile. */
  static final int COLS = 2 * Machine.LANES;

  private static final VectorSpecies<Float> F = Machine.F;
  private static final long V = Machine.VECTOR_BYTES;
  private static final ByteOrder ORDER = ByteOrder.nativeOrder();
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;

  private MicroKernel() {}

  /**
   * Computes a tile, {@code C = A B + beta C}; with {@code beta} 0 C is not read. Offsets and
   * strides are in bytes.
   *
   * @param rows {@link #ROWS} or {@link #FEW_ROWS}: rows of the tile
   * @param a panel of A, {@code depth} columns of {@code rows} floats
   * @param b panel of B, {@code depth} rows of {@link #COLS} floats, {@code bStride} bytes apart
   */
  static void multiply(
      int rows,
      MemorySegment a,
      long aAt,
      MemorySegment b,
      long bAt,
      long bStride,
      int depth,
      MemorySegment c,
      long cAt,
      long cStride,
      float beta) {
    if (rows == FEW_ROWS) {
      rows4(a, aAt, b, bAt, bStride, depth, c, cAt, cStride, beta);
    } else if (MANY_REGISTERS) {
      rows12(a, aAt, b, bAt, bStride, depth, c, cAt, cStride, beta);
    } else {
      rows6(a, aAt, b, bAt, bStride, depth, c, cAt, cStride, beta);
    }
  }

  private static void rows12(
      MemorySegment a,
      long aAt,
      MemorySegment b,
      long bAt,
      long bStride,
      int depth,
      MemorySegment c,
      long cAt,
      long cStride,
      float beta) {
    FloatVector c00_0 = FloatVector.zero(F);
    FloatVector c00_1 = FloatVector.zero(F);
    FloatVector c01_0 = FloatVector.zero(F);
    FloatVector c01_1 = FloatVector.zero(F);
    FloatVector c02_0 = FloatVector.zero(F);
    FloatVector c02_1 = FloatVector.zero(F);
    FloatVector c03_0 = FloatVector.zero(F);
    FloatVector c03_1 = FloatVector.zero(F);
    FloatVector c04_0 = FloatVector.zero(F);
    FloatVector c04_1 = FloatVector.zero(F);
    FloatVector c05_0 = FloatVector.zero(F);
    FloatVector c05_1 = FloatVector.zero(F);
    FloatVector c06_0 = FloatVector.zero(F);
    FloatVector c06_1 = FloatVector.zero(F);
    FloatVector c07_0 = FloatVector.zero(F);
    FloatVector c07_1 = FloatVector.zero(F);
    FloatVector c08_0 = FloatVector.zero(F);
    FloatVector c08_1 = FloatVector.zero(F);
    FloatVector c09_0 = FloatVector.zero(F);
    FloatVector c09_1 = FloatVector.zero(F);
    FloatVector c10_0 = FloatVector.zero(F);
    FloatVector c10_1 = FloatVector.zero(F);
    FloatVector c11_0 = FloatVector.zero(F);
    FloatVector c11_1 = FloatVector.zero(F);
    for (int k = 0; k < depth; k++) {
      FloatVector b0 = FloatVector.fromMemorySegment(F, b, bAt, ORDER);
      FloatVector b1 = FloatVector.fromMemorySegment(F, b, bAt + V, ORDER);
      FloatVector a00 = FloatVector.broadcast(F, a.get(FLOAT, aAt));
      c00_0 = a00.fma(b0, c00_0);
      c00_1 = a00.fma(b1, c00_1);
      FloatVector a01 = FloatVector.broadcast(F, a.get(FLOAT, aAt + 4));
      c01_0 = a01.fma(b0, c01_0);
      c01_1 = a01.fma(b1, c01_1);
      FloatVector a02 = FloatVector.broadcast(F, a.get(FLOAT, aAt + 8));
      c02_0 = a02.fma(b0, c02_0);
      c02_1 = a02.fma(b1, c02_1);
      FloatVector a03 = FloatVector.broadcast(F, a.get(FLOAT, aAt + 12));
      c03_0 = a03.fma(b0, c03_0);
      c03_1 = a03.fma(b1, c03_1);
      FloatVector a04 = FloatVector.broadcast(F, a.get(FLOAT, aAt + 16));
      c04_0 = a04.fma(b0, c04_0);
      c04_1 = a04.fma(b1, c04_1);
      FloatVector a05 = FloatVector.broadcast(F, a.get(FLOAT, aAt + 20));
      c05_0 = a05.fma(b0, c05_0);
      c05_1 = a05.fma(b1, c05_1);
      FloatVector a06 = FloatVector.broadcast(F, a.get(FLOAT, aAt + 24));
      c06_0 = a06.fma(b0, c06_0);
      c06_1 = a06.fma(b1, c06_1);
      FloatVector a07 = FloatVector.broadcast(F, a.get(FLOAT, aAt + 28));
      c07_0 = a07.fma(b0, c07_0);
      c07_1 = a07.fma(b1, c07_1);
      FloatVector a08 = FloatVector.broadcast(F, a.get(FLOAT, aAt + 32));
      c08_0 = a08.fma(b0, c08_0);
      c08_1 = a08.fma(b1, c08_1);
      FloatVector a09 = FloatVector.broadcast(F, a.get(FLOAT, aAt + 36));
      c09_0 = a09.fma(b0, c09_0);
      c09_1 = a09.fma(b1, c09_1);
      FloatVector a10 = FloatVector.broadcast(F, a.get(FLOAT, aAt + 40));
      c10_0 = a10.fma(b0, c10_0);
      c10_1 = a10.fma(b1, c10_1);
      FloatVector a11 = FloatVector.broadcast(F, a.get(FLOAT, aAt + 44));
      c11_0 = a11.fma(b0, c11_0);
      c11_1 = a11.fma(b1, c11_1);
      aAt += 48;
      bAt += bStride;
    }
    if (beta != 0) {
      FloatVector scale = FloatVector.broadcast(F, beta);
      long at = cAt;
      c00_0 = FloatVector.fromMemorySegment(F, c, at, ORDER).fma(scale, c00_0);
      c00_1 = FloatVector.fromMemorySegment(F, c, at + V, ORDER).fma(scale, c00_1);
      at += cStride;
      c01_0 = FloatVector.fromMemorySegment(F, c, at, ORDER).fma(scale, c01_0);
      c01_1 = FloatVector.fromMemorySegment(F, c, at + V, ORDER).fma(scale, c01_1);
      at += cStride;
      c02_0 = FloatVector.fromMemorySegment(F, c, at, ORDER).fma(scale, c02_0);
      c02_1 = FloatVector.fromMemorySegment(F, c, at + V, ORDER).fma(scale, c02_1);
      at += cStride;
      c03_0 = FloatVector.fromMemorySegment(F, c, at, ORDER).fma(scale, c03_0);
      c03_1 = FloatVector.fromMemorySegment(F, c, at + V, ORDER).fma(scale, c03_1);
      at += cStride;
      c04_0 = FloatVector.fromMemorySegment(F, c, at, ORDER).fma(scale, c04_0);
      c04_1 = FloatVector.fromMemorySegment(F, c, at + V, ORDER).fma(scale, c04_1);
      at += cStride;
      c05_0 = FloatVector.fromMemorySegment(F, c, at, ORDER).fma(scale, c05_0);
      c05_1 = FloatVector.fromMemorySegment(F, c, at + V, ORDER).fma(scale, c05_1);
      at += cStride;
      c06_0 = FloatVector.fromMemorySegment(F, c, at, ORDER).fma(scale, c06_0);
      c06_1 = FloatVector.fromMemorySegment(F, c, at + V, ORDER).fma(scale, c06_1);
      at += cStride;
      c07_0 = FloatVector.fromMemorySegment(F, c, at, ORDER).fma(scale, c07_0);
      c07_1 = FloatVector.fromMemorySegment(F, c, at + V, ORDER).fma(scale, c07_1);
      at += cStride;
      c08_0 = FloatVector.fromMemorySegment(F, c, at, ORDER).fma(scale, c08_0);
      c08_1 = FloatVector.fromMemorySegment(F, c, at + V, ORDER).fma(scale, c08_1);
      at += cStride;
      c09_0 = FloatVector.fromMemorySegment(F, c, at, ORDER).fma(scale, c09_0);
      c09_1 = FloatVector.fromMemorySegment(F, c, at + V, ORDER).fma(scale, c09_1);
      at += cStride;
      c10_0 = FloatVector.fromMemorySegment(F, c, at, ORDER).fma(scale, c10_0);
      c10_1 = FloatVector.fromMemorySegment(F, c, at + V, ORDER).fma(scale, c10_1);
      at += cStride;
      c11_0 = FloatVector.fromMemorySegment(F, c, at, ORDER).fma(scale, c11_0);
      c11_1 = FloatVector.fromMemorySegment(F, c, at + V, ORDER).fma(scale, c11_1);
    }
    c00_0.intoMemorySegment(c, cAt, ORDER);
    c00_1.intoMemorySegment(c, cAt + V, ORDER);
    cAt += cStride;
    c01_0.intoMemorySegment(c, cAt, ORDER);
    c01_1.intoMemorySegment(c, cAt + V, ORDER);
    cAt += cStride;
    c02_0.intoMemorySegment(c, cAt, ORDER);
    c02_1.intoMemorySegment(c, cAt + V, ORDER);
    cAt += cStride;
    c03_0.intoMemorySegment(c, cAt, ORDER);
    c03_1.intoMemorySegment(c, cAt + V, ORDER);
    cAt += cStride;
    c04_0.intoMemorySegment(c, cAt, ORDER);
    c04_1.intoMemorySegment(c, cAt + V, ORDER);
    cAt += cStride;
    c05_0.intoMemorySegment(c, cAt, ORDER);
    c05_1.intoMemorySegment(c, cAt + V, ORDER);
    cAt += cStride;
    c06_0.intoMemorySegment(c, cAt, ORDER);
    c06_1.intoMemorySegment(c, cAt + V, ORDER);
    cAt += cStride;
    c07_0.intoMemorySegment(c, cAt, ORDER);
    c07_1.intoMemorySegment(c, cAt + V, ORDER);
    cAt += cStride;
    c08_0.intoMemorySegment(c, cAt, ORDER);
    c08_1.intoMemorySegment(c, cAt + V, ORDER);
    cAt += cStride;
    c09_0.intoMemorySegment(c, cAt, ORDER);
    c09_1.intoMemorySegment(c, cAt + V, ORDER);
    cAt += cStride;
    c10_0.intoMemorySegment(c, cAt, ORDER);
    c10_1.intoMemorySegment(c, cAt + V, ORDER);
    cAt += cStride;
    c11_0.intoMemorySegment(c, cAt, ORDER);
    c11_1.intoMemorySegment(c, cAt + V, ORDER);
  }

  private static void rows6(
      MemorySegment a,
      long aAt,
      MemorySegment b,
      long bAt,
      long bStride,
      int depth,
      MemorySegment c,
      long cAt,
      long cStride,
      float beta) {
    FloatVector c00_0 = FloatVector.zero(F);
    FloatVector c00_1 = FloatVector.zero(F);
    FloatVector c01_0 = FloatVector.zero(F);
    FloatVector c01_1 = FloatVector.zero(F);
    FloatVector c02_0 = FloatVector.zero(F);
    FloatVector c02_1 = FloatVector.zero(F);
    FloatVector c03_0 = FloatVector.zero(F);
    FloatVector c03_1 = FloatVector.zero(F);
    FloatVector c04_0 = FloatVector.zero(F);
    FloatVector c04_1 = FloatVector.zero(F);
    FloatVector c05_0 = FloatVector.zero(F);
    FloatVector c05_1 = FloatVector.zero(F);
    for (int k = 0; k < depth; k++) {
      FloatVector b0 = FloatVector.fromMemorySegment(F, b, bAt, ORDER);
      FloatVector b1 = FloatVector.fromMemorySegment(F, b, bAt + V, ORDER);
      FloatVector a00 = FloatVector.broadcast(F, a.get(FLOAT, aAt));
      c00_0 = a00.fma(b0, c00_0);
      c00_1 = a00.fma(b1, c00_1);
      FloatVector a01 = FloatVector.broadcast(F, a.get(FLOAT, aAt + 4));
      c01_0 = a01.fma(b0, c01_0);
      c01_1 = a01.fma(b1, c01_1);
      FloatVector a02 = FloatVector.broadcast(F, a.get(FLOAT, aAt + 8));
      c02_0 = a02.fma(b0, c02_0);
      c02_1 = a02.fma(b1, c02_1);
      FloatVector a03 = FloatVector.broadcast(F, a.get(FLOAT, aAt + 12));
      c03_0 = a03.fma(b0, c03_0);
      c03_1 = a03.fma(b1, c03_1);
      FloatVector a04 = FloatVector.broadcast(F, a.get(FLOAT, aAt + 16));
      c04_0 = a04.fma(b0, c04_0);
      c04_1 = a04.fma(b1, c04_1);
      FloatVector a05 = FloatVector.broadcast(F, a.get(FLOAT, aAt + 20));
      c05_0 = a05.fma(b0, c05_0);
      c05_1 = a05.fma(b1, c05_1);
      aAt += 24;
      bAt += bStride;
    }
    if (beta != 0) {
      FloatVector scale = FloatVector.broadcast(F, beta);
      long at = cAt;
      c00_0 = FloatVector.fromMemorySegment(F, c, at, ORDER).fma(scale, c00_0);
      c00_1 = FloatVector.fromMemorySegment(F, c, at + V, ORDER).fma(scale, c00_1);
      at += cStride;
      c01_0 = FloatVector.fromMemorySegment(F, c, at, ORDER).fma(scale, c01_0);
      c01_1 = FloatVector.fromMemorySegment(F, c, at + V, ORDER).fma(scale, c01_1);
      at += cStride;
      c02_0 = FloatVector.fromMemorySegment(F, c, at, ORDER).fma(scale, c02_0);
      c02_1 = FloatVector.fromMemorySegment(F, c, at + V, ORDER).fma(scale, c02_1);
      at += cStride;
      c03_0 = FloatVector.fromMemorySegment(F, c, at, ORDER).fma(scale, c03_0);
      c03_1 = FloatVector.fromMemorySegment(F, c, at + V, ORDER).fma(scale, c03_1);
      at += cStride;
      c04_0 = FloatVector.fromMemorySegment(F, c, at, ORDER).fma(scale, c04_0);
      c04_1 = FloatVector.fromMemorySegment(F, c, at + V, ORDER).fma(scale, c04_1);
      at += cStride;
      c05_0 = FloatVector.fromMemorySegment(F, c, at, ORDER).fma(scale, c05_0);
      c05_1 = FloatVector.fromMemorySegment(F, c, at + V, ORDER).fma(scale, c05_1);
    }
    c00_0.intoMemorySegment(c, cAt, ORDER);
    c00_1.intoMemorySegment(c, cAt + V, ORDER);
    cAt += cStride;
    c01_0.intoMemorySegment(c, cAt, ORDER);
    c01_1.intoMemorySegment(c, cAt + V, ORDER);
    cAt += cStride;
    c02_0.intoMemorySegment(c, cAt, ORDER);
    c02_1.intoMemorySegment(c, cAt + V, ORDER);
    cAt += cStride;
    c03_0.intoMemorySegment(c, cAt, ORDER);
    c03_1.intoMemorySegment(c, cAt + V, ORDER);
    cAt += cStride;
    c04_0.intoMemorySegment(c, cAt, ORDER);
    c04_1.intoMemorySegment(c, cAt + V, ORDER);
    cAt += cStride;
    c05_0.intoMemorySegment(c, cAt, ORDER);
    c05_1.intoMemorySegment(c, cAt + V, ORDER);
  }

  private static void rows4(
      MemorySegment a,
      long aAt,
      MemorySegment b,
      long bAt,
      long bStride,
      int depth,
      MemorySegment c,
      long cAt,
      long cStride,
      float beta) {
    FloatVector c00_0 = FloatVector.zero(F);
    FloatVector c00_1 = FloatVector.zero(F);
    FloatVector c01_0 = FloatVector.zero(F);
    FloatVector c01_1 = FloatVector.zero(F);
    FloatVector c02_0 = FloatVector.zero(F);
    FloatVector c02_1 = FloatVector.zero(F);
    FloatVector c03_0 = FloatVector.zero(F);
    FloatVector c03_1 = FloatVector.zero(F);
    for (int k = 0; k < depth; k++) {
      FloatVector b0 = FloatVector.fromMemorySegment(F, b, bAt, ORDER);
      FloatVector b1 = FloatVector.fromMemorySegment(F, b, bAt + V, ORDER);
      FloatVector a00 = FloatVector.broadcast(F, a.get(FLOAT, aAt));
      c00_0 = a00.fma(b0, c00_0);
      c00_1 = a00.fma(b1, c00_1);
      FloatVector a01 = FloatVector.broadcast(F, a.get(FLOAT, aAt + 4));
      c01_0 = a01.fma(b0, c01_0);
      c01_1 = a01.fma(b1, c01_1);
      FloatVector a02 = FloatVector.broadcast(F, a.get(FLOAT, aAt + 8));
      c02_0 = a02.fma(b0, c02_0);
      c02_1 = a02.fma(b1, c02_1);
      FloatVector a03 = FloatVector.broadcast(F, a.get(FLOAT, aAt + 12));
      c03_0 = a03.fma(b0, c03_0);
      c03_1 = a03.fma(b1, c03_1);
      aAt += 16;
      bAt += bStride;
    }
    if (beta != 0) {
      FloatVector scale = FloatVector.broadcast(F, beta);
      long at = cAt;
      c00_0 = FloatVector.fromMemorySegment(F, c, at, ORDER).fma(scale, c00_0);
      c00_1 = FloatVector.fromMemorySegment(F, c, at + V, ORDER).fma(scale, c00_1);
      at += cStride;
      c01_0 = FloatVector.fromMemorySegment(F, c, at, ORDER).fma(scale, c01_0);
      c01_1 = FloatVector.fromMemorySegment(F, c, at + V, ORDER).fma(scale, c01_1);
      at += cStride;
      c02_0 = FloatVector.fromMemorySegment(F, c, at, ORDER).fma(scale, c02_0);
      c02_1 = FloatVector.fromMemorySegment(F, c, at + V, ORDER).fma(scale, c02_1);
      at += cStride;
      c03_0 = FloatVector.fromMemorySegment(F, c, at, ORDER).fma(scale, c03_0);
      c03_1 = FloatVector.fromMemorySegment(F, c, at + V, ORDER).fma(scale, c03_1);
    }
    c00_0.intoMemorySegment(c, cAt, ORDER);
    c00_1.intoMemorySegment(c, cAt + V, ORDER);
    cAt += cStride;
    c01_0.intoMemorySegment(c, cAt, ORDER);
    c01_1.intoMemorySegment(c, cAt + V, ORDER);
    cAt += cStride;
    c02_0.intoMemorySegment(c, cAt, ORDER);
    c02_1.intoMemorySegment(c, cAt + V, ORDER);
    cAt += cStride;
    c03_0.intoMemorySegment(c, cAt, ORDER);
    c03_1.intoMemorySegment(c, cAt + V, ORDER);
  }
}
