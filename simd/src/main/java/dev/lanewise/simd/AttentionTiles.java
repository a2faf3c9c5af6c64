package dev.lanewise.simd;

import static dev.lanewise.simd.Native.ADDRESS;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorSpecies;

/**
 * Products of small blocks that lie in one piece of scratch memory: {@code C = A B} or {@code C +=
 * A B}, where C is a register tile of {@link #ROWS} rows and one or two vectors. All offsets and
 * steps are in bytes. What steps in an inner loop is a constant, so that no access is checked
 * there, see {@link Native#reach}.
 *
 * <p>A tile keeps its sums in local variables and is written out by hand, because the compiler
 * keeps neither arrays of vectors nor vectors that cross a call in registers. Products that add to
 * C have methods of their own, named {@code More}: in one method with both the compiler now and
 * then reached its limit of nodes and left vector operations as calls, in ten times the time.
 */
final class AttentionTiles {
  /**
   * Bytes between rows of a block whose single elements are read as factors. A constant, so that a
   * tile's rows are reached from one register; no power of two, so that they fall on different sets
   * of the cache.
   */
  static final long LD = 1088;

  /** Columns of a panel, in which rows that are multiplied as a whole lie one after the other. */
  static final int PANEL = 2 * Machine.LANES;

  /** Floats of a block's row that may be used. */
  static final int LD_FLOATS = 256;

  /**
   * Rows of a tile. With two vectors a row its sums and factors fit 16 vector registers. Twice as
   * many rows would fit 32, but are no faster and near to what the compiler takes in one method:
   * beyond that it leaves operations as calls.
   */
  static final int ROWS = 6;

  private static final VectorSpecies<Float> F = Machine.F;
  private static final long V = Machine.VECTOR_BYTES;
  private static final ByteOrder ORDER = ByteOrder.nativeOrder();
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;

  private AttentionTiles() {}

  /**
   * A tile of two vectors a row; A has its rows {@link #LD} apart, and B is a panel.
   *
   * @param depth length of the sums: columns of A and rows of B
   * @param add whether to add to C
   */
  static void byRows(MemorySegment s, long a, long b, long c, long cStep, int depth, boolean add) {
    if (add) {
      rows6x2More(s, a, b, c, cStep, depth);
    } else {
      rows6x2(s, a, b, c, cStep, depth);
    }
  }

  /** A tile of two vectors a row; the rows of B and of A transposed lie {@link #LD} apart. */
  static void byColumns(
      MemorySegment s, long a, long b, long c, long cStep, int depth, boolean add) {
    if (add) {
      columns6x2More(s, a, b, c, cStep, depth);
    } else {
      columns6x2(s, a, b, c, cStep, depth);
    }
  }

  private static void rows6x2(MemorySegment s, long a, long b, long c, long cStep, int depth) {
    long base = Native.start(s);
    s = Native.reach(s);
    a = base + a & ADDRESS;
    b = base + b & ADDRESS;
    c = base + c & ADDRESS;
    FloatVector zero = FloatVector.zero(F);
    FloatVector c0x0 = zero;
    FloatVector c0x1 = zero;
    FloatVector c1x0 = zero;
    FloatVector c1x1 = zero;
    FloatVector c2x0 = zero;
    FloatVector c2x1 = zero;
    FloatVector c3x0 = zero;
    FloatVector c3x1 = zero;
    FloatVector c4x0 = zero;
    FloatVector c4x1 = zero;
    FloatVector c5x0 = zero;
    FloatVector c5x1 = zero;
    for (int k = 0; k < depth; k++) {
      long ai = a + 4L * k;
      long bi = b + 4L * PANEL * k;
      FloatVector b0 = FloatVector.fromMemorySegment(F, s, bi, ORDER);
      FloatVector b1 = FloatVector.fromMemorySegment(F, s, bi + V, ORDER);
      FloatVector a0 = FloatVector.broadcast(F, s.get(FLOAT, ai));
      c0x0 = a0.fma(b0, c0x0);
      c0x1 = a0.fma(b1, c0x1);
      FloatVector a1 = FloatVector.broadcast(F, s.get(FLOAT, ai + LD));
      c1x0 = a1.fma(b0, c1x0);
      c1x1 = a1.fma(b1, c1x1);
      FloatVector a2 = FloatVector.broadcast(F, s.get(FLOAT, ai + 2 * LD));
      c2x0 = a2.fma(b0, c2x0);
      c2x1 = a2.fma(b1, c2x1);
      FloatVector a3 = FloatVector.broadcast(F, s.get(FLOAT, ai + 3 * LD));
      c3x0 = a3.fma(b0, c3x0);
      c3x1 = a3.fma(b1, c3x1);
      FloatVector a4 = FloatVector.broadcast(F, s.get(FLOAT, ai + 4 * LD));
      c4x0 = a4.fma(b0, c4x0);
      c4x1 = a4.fma(b1, c4x1);
      FloatVector a5 = FloatVector.broadcast(F, s.get(FLOAT, ai + 5 * LD));
      c5x0 = a5.fma(b0, c5x0);
      c5x1 = a5.fma(b1, c5x1);
    }
    c0x0.intoMemorySegment(s, c, ORDER);
    c0x1.intoMemorySegment(s, c + V, ORDER);
    c = c + cStep & ADDRESS;
    c1x0.intoMemorySegment(s, c, ORDER);
    c1x1.intoMemorySegment(s, c + V, ORDER);
    c = c + cStep & ADDRESS;
    c2x0.intoMemorySegment(s, c, ORDER);
    c2x1.intoMemorySegment(s, c + V, ORDER);
    c = c + cStep & ADDRESS;
    c3x0.intoMemorySegment(s, c, ORDER);
    c3x1.intoMemorySegment(s, c + V, ORDER);
    c = c + cStep & ADDRESS;
    c4x0.intoMemorySegment(s, c, ORDER);
    c4x1.intoMemorySegment(s, c + V, ORDER);
    c = c + cStep & ADDRESS;
    c5x0.intoMemorySegment(s, c, ORDER);
    c5x1.intoMemorySegment(s, c + V, ORDER);
  }

  private static void rows6x2More(MemorySegment s, long a, long b, long c, long cStep, int depth) {
    long base = Native.start(s);
    s = Native.reach(s);
    a = base + a & ADDRESS;
    b = base + b & ADDRESS;
    c = base + c & ADDRESS;
    FloatVector zero = FloatVector.zero(F);
    FloatVector c0x0 = zero;
    FloatVector c0x1 = zero;
    FloatVector c1x0 = zero;
    FloatVector c1x1 = zero;
    FloatVector c2x0 = zero;
    FloatVector c2x1 = zero;
    FloatVector c3x0 = zero;
    FloatVector c3x1 = zero;
    FloatVector c4x0 = zero;
    FloatVector c4x1 = zero;
    FloatVector c5x0 = zero;
    FloatVector c5x1 = zero;
    for (int k = 0; k < depth; k++) {
      long ai = a + 4L * k;
      long bi = b + 4L * PANEL * k;
      FloatVector b0 = FloatVector.fromMemorySegment(F, s, bi, ORDER);
      FloatVector b1 = FloatVector.fromMemorySegment(F, s, bi + V, ORDER);
      FloatVector a0 = FloatVector.broadcast(F, s.get(FLOAT, ai));
      c0x0 = a0.fma(b0, c0x0);
      c0x1 = a0.fma(b1, c0x1);
      FloatVector a1 = FloatVector.broadcast(F, s.get(FLOAT, ai + LD));
      c1x0 = a1.fma(b0, c1x0);
      c1x1 = a1.fma(b1, c1x1);
      FloatVector a2 = FloatVector.broadcast(F, s.get(FLOAT, ai + 2 * LD));
      c2x0 = a2.fma(b0, c2x0);
      c2x1 = a2.fma(b1, c2x1);
      FloatVector a3 = FloatVector.broadcast(F, s.get(FLOAT, ai + 3 * LD));
      c3x0 = a3.fma(b0, c3x0);
      c3x1 = a3.fma(b1, c3x1);
      FloatVector a4 = FloatVector.broadcast(F, s.get(FLOAT, ai + 4 * LD));
      c4x0 = a4.fma(b0, c4x0);
      c4x1 = a4.fma(b1, c4x1);
      FloatVector a5 = FloatVector.broadcast(F, s.get(FLOAT, ai + 5 * LD));
      c5x0 = a5.fma(b0, c5x0);
      c5x1 = a5.fma(b1, c5x1);
    }
    FloatVector.fromMemorySegment(F, s, c, ORDER).add(c0x0).intoMemorySegment(s, c, ORDER);
    FloatVector.fromMemorySegment(F, s, c + V, ORDER).add(c0x1).intoMemorySegment(s, c + V, ORDER);
    c = c + cStep & ADDRESS;
    FloatVector.fromMemorySegment(F, s, c, ORDER).add(c1x0).intoMemorySegment(s, c, ORDER);
    FloatVector.fromMemorySegment(F, s, c + V, ORDER).add(c1x1).intoMemorySegment(s, c + V, ORDER);
    c = c + cStep & ADDRESS;
    FloatVector.fromMemorySegment(F, s, c, ORDER).add(c2x0).intoMemorySegment(s, c, ORDER);
    FloatVector.fromMemorySegment(F, s, c + V, ORDER).add(c2x1).intoMemorySegment(s, c + V, ORDER);
    c = c + cStep & ADDRESS;
    FloatVector.fromMemorySegment(F, s, c, ORDER).add(c3x0).intoMemorySegment(s, c, ORDER);
    FloatVector.fromMemorySegment(F, s, c + V, ORDER).add(c3x1).intoMemorySegment(s, c + V, ORDER);
    c = c + cStep & ADDRESS;
    FloatVector.fromMemorySegment(F, s, c, ORDER).add(c4x0).intoMemorySegment(s, c, ORDER);
    FloatVector.fromMemorySegment(F, s, c + V, ORDER).add(c4x1).intoMemorySegment(s, c + V, ORDER);
    c = c + cStep & ADDRESS;
    FloatVector.fromMemorySegment(F, s, c, ORDER).add(c5x0).intoMemorySegment(s, c, ORDER);
    FloatVector.fromMemorySegment(F, s, c + V, ORDER).add(c5x1).intoMemorySegment(s, c + V, ORDER);
  }

  /** As {@link #byRows} with one vector a row, never adding. */
  static void byRowsHalf(MemorySegment s, long a, long b, long c, long cStep, int depth) {
    long base = Native.start(s);
    s = Native.reach(s);
    a = base + a & ADDRESS;
    b = base + b & ADDRESS;
    c = base + c & ADDRESS;
    FloatVector zero = FloatVector.zero(F);
    FloatVector c0x0 = zero;
    FloatVector c1x0 = zero;
    FloatVector c2x0 = zero;
    FloatVector c3x0 = zero;
    FloatVector c4x0 = zero;
    FloatVector c5x0 = zero;
    for (int k = 0; k < depth; k++) {
      long ai = a + 4L * k;
      long bi = b + 4L * PANEL * k;
      FloatVector b0 = FloatVector.fromMemorySegment(F, s, bi, ORDER);
      FloatVector a0 = FloatVector.broadcast(F, s.get(FLOAT, ai));
      c0x0 = a0.fma(b0, c0x0);
      FloatVector a1 = FloatVector.broadcast(F, s.get(FLOAT, ai + LD));
      c1x0 = a1.fma(b0, c1x0);
      FloatVector a2 = FloatVector.broadcast(F, s.get(FLOAT, ai + 2 * LD));
      c2x0 = a2.fma(b0, c2x0);
      FloatVector a3 = FloatVector.broadcast(F, s.get(FLOAT, ai + 3 * LD));
      c3x0 = a3.fma(b0, c3x0);
      FloatVector a4 = FloatVector.broadcast(F, s.get(FLOAT, ai + 4 * LD));
      c4x0 = a4.fma(b0, c4x0);
      FloatVector a5 = FloatVector.broadcast(F, s.get(FLOAT, ai + 5 * LD));
      c5x0 = a5.fma(b0, c5x0);
    }
    c0x0.intoMemorySegment(s, c, ORDER);
    c = c + cStep & ADDRESS;
    c1x0.intoMemorySegment(s, c, ORDER);
    c = c + cStep & ADDRESS;
    c2x0.intoMemorySegment(s, c, ORDER);
    c = c + cStep & ADDRESS;
    c3x0.intoMemorySegment(s, c, ORDER);
    c = c + cStep & ADDRESS;
    c4x0.intoMemorySegment(s, c, ORDER);
    c = c + cStep & ADDRESS;
    c5x0.intoMemorySegment(s, c, ORDER);
  }

  private static void columns6x2(MemorySegment s, long a, long b, long c, long cStep, int depth) {
    long base = Native.start(s);
    s = Native.reach(s);
    a = base + a & ADDRESS;
    b = base + b & ADDRESS;
    c = base + c & ADDRESS;
    FloatVector zero = FloatVector.zero(F);
    FloatVector c0x0 = zero;
    FloatVector c0x1 = zero;
    FloatVector c1x0 = zero;
    FloatVector c1x1 = zero;
    FloatVector c2x0 = zero;
    FloatVector c2x1 = zero;
    FloatVector c3x0 = zero;
    FloatVector c3x1 = zero;
    FloatVector c4x0 = zero;
    FloatVector c4x1 = zero;
    FloatVector c5x0 = zero;
    FloatVector c5x1 = zero;
    for (int k = 0; k < depth; k++) {
      long ai = a + LD * k;
      long bi = b + LD * k;
      FloatVector b0 = FloatVector.fromMemorySegment(F, s, bi, ORDER);
      FloatVector b1 = FloatVector.fromMemorySegment(F, s, bi + V, ORDER);
      FloatVector a0 = FloatVector.broadcast(F, s.get(FLOAT, ai));
      c0x0 = a0.fma(b0, c0x0);
      c0x1 = a0.fma(b1, c0x1);
      FloatVector a1 = FloatVector.broadcast(F, s.get(FLOAT, ai + 4));
      c1x0 = a1.fma(b0, c1x0);
      c1x1 = a1.fma(b1, c1x1);
      FloatVector a2 = FloatVector.broadcast(F, s.get(FLOAT, ai + 8));
      c2x0 = a2.fma(b0, c2x0);
      c2x1 = a2.fma(b1, c2x1);
      FloatVector a3 = FloatVector.broadcast(F, s.get(FLOAT, ai + 12));
      c3x0 = a3.fma(b0, c3x0);
      c3x1 = a3.fma(b1, c3x1);
      FloatVector a4 = FloatVector.broadcast(F, s.get(FLOAT, ai + 16));
      c4x0 = a4.fma(b0, c4x0);
      c4x1 = a4.fma(b1, c4x1);
      FloatVector a5 = FloatVector.broadcast(F, s.get(FLOAT, ai + 20));
      c5x0 = a5.fma(b0, c5x0);
      c5x1 = a5.fma(b1, c5x1);
    }
    c0x0.intoMemorySegment(s, c, ORDER);
    c0x1.intoMemorySegment(s, c + V, ORDER);
    c = c + cStep & ADDRESS;
    c1x0.intoMemorySegment(s, c, ORDER);
    c1x1.intoMemorySegment(s, c + V, ORDER);
    c = c + cStep & ADDRESS;
    c2x0.intoMemorySegment(s, c, ORDER);
    c2x1.intoMemorySegment(s, c + V, ORDER);
    c = c + cStep & ADDRESS;
    c3x0.intoMemorySegment(s, c, ORDER);
    c3x1.intoMemorySegment(s, c + V, ORDER);
    c = c + cStep & ADDRESS;
    c4x0.intoMemorySegment(s, c, ORDER);
    c4x1.intoMemorySegment(s, c + V, ORDER);
    c = c + cStep & ADDRESS;
    c5x0.intoMemorySegment(s, c, ORDER);
    c5x1.intoMemorySegment(s, c + V, ORDER);
  }

  private static void columns6x2More(
      MemorySegment s, long a, long b, long c, long cStep, int depth) {
    long base = Native.start(s);
    s = Native.reach(s);
    a = base + a & ADDRESS;
    b = base + b & ADDRESS;
    c = base + c & ADDRESS;
    FloatVector zero = FloatVector.zero(F);
    FloatVector c0x0 = zero;
    FloatVector c0x1 = zero;
    FloatVector c1x0 = zero;
    FloatVector c1x1 = zero;
    FloatVector c2x0 = zero;
    FloatVector c2x1 = zero;
    FloatVector c3x0 = zero;
    FloatVector c3x1 = zero;
    FloatVector c4x0 = zero;
    FloatVector c4x1 = zero;
    FloatVector c5x0 = zero;
    FloatVector c5x1 = zero;
    for (int k = 0; k < depth; k++) {
      long ai = a + LD * k;
      long bi = b + LD * k;
      FloatVector b0 = FloatVector.fromMemorySegment(F, s, bi, ORDER);
      FloatVector b1 = FloatVector.fromMemorySegment(F, s, bi + V, ORDER);
      FloatVector a0 = FloatVector.broadcast(F, s.get(FLOAT, ai));
      c0x0 = a0.fma(b0, c0x0);
      c0x1 = a0.fma(b1, c0x1);
      FloatVector a1 = FloatVector.broadcast(F, s.get(FLOAT, ai + 4));
      c1x0 = a1.fma(b0, c1x0);
      c1x1 = a1.fma(b1, c1x1);
      FloatVector a2 = FloatVector.broadcast(F, s.get(FLOAT, ai + 8));
      c2x0 = a2.fma(b0, c2x0);
      c2x1 = a2.fma(b1, c2x1);
      FloatVector a3 = FloatVector.broadcast(F, s.get(FLOAT, ai + 12));
      c3x0 = a3.fma(b0, c3x0);
      c3x1 = a3.fma(b1, c3x1);
      FloatVector a4 = FloatVector.broadcast(F, s.get(FLOAT, ai + 16));
      c4x0 = a4.fma(b0, c4x0);
      c4x1 = a4.fma(b1, c4x1);
      FloatVector a5 = FloatVector.broadcast(F, s.get(FLOAT, ai + 20));
      c5x0 = a5.fma(b0, c5x0);
      c5x1 = a5.fma(b1, c5x1);
    }
    FloatVector.fromMemorySegment(F, s, c, ORDER).add(c0x0).intoMemorySegment(s, c, ORDER);
    FloatVector.fromMemorySegment(F, s, c + V, ORDER).add(c0x1).intoMemorySegment(s, c + V, ORDER);
    c = c + cStep & ADDRESS;
    FloatVector.fromMemorySegment(F, s, c, ORDER).add(c1x0).intoMemorySegment(s, c, ORDER);
    FloatVector.fromMemorySegment(F, s, c + V, ORDER).add(c1x1).intoMemorySegment(s, c + V, ORDER);
    c = c + cStep & ADDRESS;
    FloatVector.fromMemorySegment(F, s, c, ORDER).add(c2x0).intoMemorySegment(s, c, ORDER);
    FloatVector.fromMemorySegment(F, s, c + V, ORDER).add(c2x1).intoMemorySegment(s, c + V, ORDER);
    c = c + cStep & ADDRESS;
    FloatVector.fromMemorySegment(F, s, c, ORDER).add(c3x0).intoMemorySegment(s, c, ORDER);
    FloatVector.fromMemorySegment(F, s, c + V, ORDER).add(c3x1).intoMemorySegment(s, c + V, ORDER);
    c = c + cStep & ADDRESS;
    FloatVector.fromMemorySegment(F, s, c, ORDER).add(c4x0).intoMemorySegment(s, c, ORDER);
    FloatVector.fromMemorySegment(F, s, c + V, ORDER).add(c4x1).intoMemorySegment(s, c + V, ORDER);
    c = c + cStep & ADDRESS;
    FloatVector.fromMemorySegment(F, s, c, ORDER).add(c5x0).intoMemorySegment(s, c, ORDER);
    FloatVector.fromMemorySegment(F, s, c + V, ORDER).add(c5x1).intoMemorySegment(s, c + V, ORDER);
  }
}
