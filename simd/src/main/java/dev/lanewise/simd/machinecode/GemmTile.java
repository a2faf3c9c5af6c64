package dev.lanewise.simd.machinecode;

import static dev.lanewise.simd.machinecode.Assembler.Address.at;
import static dev.lanewise.simd.machinecode.Assembler.R10;
import static dev.lanewise.simd.machinecode.Assembler.R11;
import static dev.lanewise.simd.machinecode.Assembler.R12;
import static dev.lanewise.simd.machinecode.Assembler.R13;
import static dev.lanewise.simd.machinecode.Assembler.R14;
import static dev.lanewise.simd.machinecode.Assembler.R15;
import static dev.lanewise.simd.machinecode.Assembler.R8;
import static dev.lanewise.simd.machinecode.Assembler.R9;
import static dev.lanewise.simd.machinecode.Assembler.RAX;
import static dev.lanewise.simd.machinecode.Assembler.RBP;
import static dev.lanewise.simd.machinecode.Assembler.RBX;
import static dev.lanewise.simd.machinecode.Assembler.RCX;
import static dev.lanewise.simd.machinecode.Assembler.RDI;
import static dev.lanewise.simd.machinecode.Assembler.RDX;
import static dev.lanewise.simd.machinecode.Assembler.RSI;
import static dev.lanewise.simd.machinecode.Assembler.RSP;

import dev.lanewise.simd.machinecode.Assembler.Address;
import dev.lanewise.simd.machinecode.Assembler.Condition;

/**
 * Writes tiles of gemm, six rows by two or four vectors of 16 columns, over floats or over pairs of
 * bfloat16, which take four bytes as floats do: in C's calling convention on Linux,
 *
 * <pre>
 *   void tiles(a, aRow, b, depth, c, cStride, aAt, bAt, cAt, tiles, rows, end,
 *              bias, biasAt, residual, residualAt, residualStride, float alpha, float beta)
 * </pre>
 *
 * with segments and places in them, A's rows {@code aRow} bytes apart, each of {@code depth}
 * elements; B's panels, {@code tiles} that follow each other, as {@code depth} groups of columns
 * each; C's rows {@code cStride} bytes apart. {@code rows} rows of such tiles are computed in one
 * call. As with the tiles in Java, 24 sums, a vector of B for each column of the tile and one
 * element of A fill the registers; a load serves four multiplications or six.
 */
final class GemmTile {
  static final int ROWS = 6;

  /** {@code C = alpha sum}. */
  static final long STORE = 0;

  /** {@code C = alpha sum + beta C}, with one rounding of the last two operations. */
  static final long ADD = 1;

  /** {@code C = alpha sum + bias}. */
  static final long BIAS = 2;

  /** {@code C = alpha sum + bias + residual}. */
  static final long RESIDUAL = 3;

  private static final int VECTOR_BYTES = 64;

  // Vector registers
  private static final int B = 0;
  private static final int A = 4;
  private static final int ALPHA = 6;
  private static final int BETA = 7;
  private static final int SUMS = 8;

  /** General registers that the caller wants back. */
  private static final int[] KEPT = {RBX, RBP, R12, R13, R14, R15};

  // Past these and the return address lie the arguments for which there are no registers.
  private static final Address A_AT = argument(0);
  private static final Address B_AT = argument(1);
  private static final Address C_AT = argument(2);
  private static final Address TILES = argument(3);
  private static final Address ROWS_OF_TILES = argument(4);
  private static final Address END = argument(5);
  private static final Address BIAS_BASE = argument(6);
  private static final Address BIAS_AT = argument(7);
  private static final Address RESIDUAL_BASE = argument(8);
  private static final Address RESIDUAL_AT = argument(9);
  private static final Address RESIDUAL_STRIDE = argument(10);

  private final Assembler code;
  private final int vectors;
  private final boolean isBfloat16;

  private GemmTile(Assembler code, int vectors, boolean isBfloat16) {
    this.code = code;
    this.vectors = vectors;
    this.isBfloat16 = isBfloat16;
  }

  /**
   * Writes the function.
   *
   * @param vectors of a tile's row, 2 or 4
   */
  static void write(Assembler code, int vectors, boolean isBfloat16) {
    new GemmTile(code, vectors, isBfloat16).write();
  }

  private static Address argument(int index) {
    return at(RSP, 8 * (KEPT.length + 1 + index));
  }

  private void write() {
    for (int register : KEPT) {
      code.push(register);
    }
    code.add(RDI, A_AT);
    code.add(RDX, B_AT);
    code.add(R8, C_AT);
    load(R14, BIAS_BASE);
    code.add(R14, BIAS_AT);
    load(R15, RESIDUAL_BASE);
    code.add(R15, RESIDUAL_AT);
    load(RBP, ROWS_OF_TILES);
    code.move(RAX, RDI);
    code.move(R10, RCX);
    code.move(R12, RDX);
    code.move(R13, R8);
    code.vbroadcastss(ALPHA, 0);
    code.vbroadcastss(BETA, 1);
    int row = code.size();
    load(RBX, TILES);
    int tile = code.size();
    multiply();
    end();
    code.addImmediate(R8, vectors * VECTOR_BYTES);
    code.decrement(RBX);
    code.jump(Condition.NOT_ZERO, tile);
    advance(RAX, RSI);
    advance(R13, R9);
    code.move(R8, R13);
    load(RDI, RESIDUAL_STRIDE);
    advance(R15, RDI);
    code.move(RDX, R12);
    code.decrement(RBP);
    code.jump(Condition.NOT_ZERO, row);
    for (int i = KEPT.length - 1; i >= 0; i--) {
      code.pop(KEPT[i]);
    }
    code.vzeroupper();
    code.ret();
  }

  private void load(int register, Address from) {
    code.clear(register);
    code.add(register, from);
  }

  /** Adds a tile's rows, by way of R11. */
  private void advance(int to, int stride) {
    code.lea(R11, at(stride, stride, 2));
    code.add(to, R11);
    code.add(to, R11);
  }

  /** Sums of a tile; RDX moves on to the next panel. */
  private void multiply() {
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
        if (isBfloat16) {
          code.vdpbf16ps(sum(i, j), B + j, A);
        } else {
          code.vfmadd231ps(sum(i, j), A, B + j);
        }
      }
    }
    code.addImmediate(RDI, 4);
    code.addImmediate(R11, 4);
    code.addImmediate(RDX, vectors * VECTOR_BYTES);
    code.decrement(RCX);
    code.jump(Condition.NOT_ZERO, loop);
    code.land(skip);
  }

  /**
   * What happens to the sums; R8 is where the tile of C begins, R13 where its row of tiles does.
   */
  private void end() {
    for (int i = 0; i < ROWS * vectors; i++) {
      code.vmulps(SUMS + i, SUMS + i, ALPHA);
    }
    load(RCX, END);
    code.test(RCX);
    int stores = code.jump(Condition.ZERO);
    code.decrement(RCX);
    int addsMore = code.jump(Condition.NOT_ZERO);
    code.move(R11, R8);
    for (int i = 0; i < ROWS; i++) {
      for (int j = 0; j < vectors; j++) {
        code.vfmadd231ps(sum(i, j), BETA, at(R11, j * VECTOR_BYTES));
      }
      code.add(R11, R9);
    }
    int added = code.jump();
    code.land(addsMore);
    code.move(RDI, R8);
    code.subtract(RDI, R13);
    for (int j = 0; j < vectors; j++) {
      code.vmovups(B + j, new Address(R14, RDI, 1, j * VECTOR_BYTES));
    }
    for (int i = 0; i < ROWS; i++) {
      for (int j = 0; j < vectors; j++) {
        code.vaddps(sum(i, j), sum(i, j), B + j);
      }
    }
    code.decrement(RCX);
    int hasBias = code.jump(Condition.ZERO);
    code.add(RDI, R15);
    for (int i = 0; i < ROWS; i++) {
      for (int j = 0; j < vectors; j++) {
        code.vaddps(sum(i, j), sum(i, j), at(RDI, j * VECTOR_BYTES));
      }
      code.add(RDI, RESIDUAL_STRIDE);
    }
    code.land(stores);
    code.land(added);
    code.land(hasBias);
    code.move(R11, R8);
    for (int i = 0; i < ROWS; i++) {
      for (int j = 0; j < vectors; j++) {
        code.vmovups(at(R11, j * VECTOR_BYTES), sum(i, j));
      }
      code.add(R11, R9);
    }
  }

  private int sum(int i, int j) {
    return SUMS + i * vectors + j;
  }

  private static Address row(int base, int stride, int i) {
    return i == 0 ? at(base, 0) : at(base, stride, i);
  }
}
