package dev.lanewise.simd.machinecode;

import static dev.lanewise.simd.machinecode.Assembler.Address.at;
import static dev.lanewise.simd.machinecode.Assembler.R10;
import static dev.lanewise.simd.machinecode.Assembler.R11;
import static dev.lanewise.simd.machinecode.Assembler.R8;
import static dev.lanewise.simd.machinecode.Assembler.R9;
import static dev.lanewise.simd.machinecode.Assembler.RAX;
import static dev.lanewise.simd.machinecode.Assembler.RBX;
import static dev.lanewise.simd.machinecode.Assembler.RCX;
import static dev.lanewise.simd.machinecode.Assembler.RDI;
import static dev.lanewise.simd.machinecode.Assembler.RDX;
import static dev.lanewise.simd.machinecode.Assembler.RSI;
import static dev.lanewise.simd.machinecode.Assembler.RSP;

import dev.lanewise.simd.machinecode.Assembler.Address;
import dev.lanewise.simd.machinecode.Assembler.Condition;

/**
 * Writes tiles of gemm over pairs of bfloat16, six rows by two or four vectors of 16 columns: in
 * C's calling convention on Linux,
 *
 * <pre>
 *   void tile(a, aRow, b, depth, c, cStride, aAt, bAt, cAt, tiles, float alpha, float beta)
 * </pre>
 *
 * with segments and places in them, A's rows {@code aRow} bytes apart, each of {@code depth} pairs;
 * B's panel as {@code depth} groups of columns, a pair each; C's rows {@code cStride} bytes apart.
 * Tiles beside each other, whose panels follow each other, are computed in one call. As with the
 * tiles in Java, 24 sums, a vector of B for each column of the tile and one element of A fill the
 * registers; a load serves four multiplications or six.
 */
final class Bfloat16Tile {
  static final int ROWS = 6;

  /** What happens to the sums. */
  enum End {
    /** {@code C = sum}. */
    STORE,
    /** {@code C = alpha sum}. */
    SCALE,
    /** {@code C = alpha sum + beta C}, with one rounding of the last two operations. */
    ADD
  }

  private static final int VECTOR_BYTES = 64;

  // Vector registers
  private static final int B = 0;
  private static final int A = 4;
  private static final int ALPHA = 6;
  private static final int BETA = 7;
  private static final int SUMS = 8;

  private Bfloat16Tile() {}

  static void write(Assembler code, int vectors, End end) {
    code.push(RBX);
    // Past it and the return address lie the arguments for which there are no registers.
    code.add(RDI, at(RSP, 16));
    code.add(RDX, at(RSP, 24));
    code.add(R8, at(RSP, 32));
    code.clear(RBX);
    code.add(RBX, at(RSP, 40));
    code.move(RAX, RDI);
    code.move(R10, RCX);
    if (end != End.STORE) {
      code.vbroadcastss(ALPHA, 0);
    }
    if (end == End.ADD) {
      code.vbroadcastss(BETA, 1);
    }
    int tile = code.size();
    for (int i = 0; i < ROWS * vectors; i++) {
      code.vclear(SUMS + i);
    }
    code.move(RDI, RAX);
    code.move(RCX, R10);
    code.lea(R11, at(RSI, RSI, 2));
    code.add(R11, RDI);
    code.test(RCX);
    int skip = code.jump(Condition.ZERO);
    int loop = code.size();
    for (int j = 0; j < vectors; j++) {
      code.vmovups(B + j, at(RDX, j * VECTOR_BYTES));
    }
    for (int i = 0; i < ROWS; i++) {
      code.vpbroadcastd(A, row(i < 3 ? RDI : R11, RSI, i % 3));
      for (int j = 0; j < vectors; j++) {
        code.vdpbf16ps(SUMS + i * vectors + j, B + j, A);
      }
    }
    code.addImmediate(RDI, 4);
    code.addImmediate(R11, 4);
    code.addImmediate(RDX, vectors * VECTOR_BYTES);
    code.decrement(RCX);
    code.jump(Condition.NOT_ZERO, loop);
    code.land(skip);
    code.move(R11, R8);
    for (int i = 0; i < ROWS; i++) {
      for (int j = 0; j < vectors; j++) {
        int sum = SUMS + i * vectors + j;
        if (end != End.STORE) {
          code.vmulps(sum, sum, ALPHA);
        }
        if (end == End.ADD) {
          code.vfmadd231ps(sum, BETA, at(R11, j * VECTOR_BYTES));
        }
        code.vmovups(at(R11, j * VECTOR_BYTES), sum);
      }
      code.add(R11, R9);
    }
    code.addImmediate(R8, vectors * VECTOR_BYTES);
    code.decrement(RBX);
    code.jump(Condition.NOT_ZERO, tile);
    code.pop(RBX);
    code.vzeroupper();
    code.ret();
  }

  private static Address row(int base, int stride, int i) {
    return i == 0 ? at(base, 0) : at(base, stride, i);
  }
}
