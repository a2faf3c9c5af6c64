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
 * Writes products of rows of A with panels of B, both of 8 bits: in C's calling convention on
 * Linux,
 *
 * <pre>
 *   void rows(a, aAt, aRow, b, bAt, c, cAt, cStride, chunks, panels, rows, adds, float beta)
 * </pre>
 *
 * with segments and places in them, laid out as {@link Int8Layout} says; {@code aRow} and {@code
 * cStride} are bytes from one row to the next. {@code rows} is at most {@link #ROWS}, each a body
 * of its own. Panels follow each other in B and beside each other in C. A block of B is loaded once
 * for all rows; a row's sum over a block starts where the sum of its elements comes off, takes
 * eight instructions, and is then a float that both scales multiply.
 */
final class Int8Rows {
  static final int ROWS = 12;

  // Vector registers
  private static final int B = 0;
  private static final int SCALE = 8;
  private static final int SUMS = 9;
  private static final int SUMS_COUNT = 6;
  private static final int BETA = 15;
  private static final int TOTALS = 16;

  /** Rows that one pointer reaches. */
  private static final int ROWS_OF_POINTER = 3;

  /** Pointers to rows of A. */
  private static final int[] POINTERS = {RAX, R11, R12, R13};

  /** General registers that the caller wants back. */
  private static final int[] KEPT = {RBX, RBP, R12, R13, R14, R15};

  private static final Address C_AT = argument(0);
  private static final Address C_STRIDE = argument(1);
  private static final Address CHUNKS = argument(2);
  private static final Address PANELS = argument(3);
  private static final Address HEIGHT = argument(4);
  private static final Address ADDS = argument(5);

  private final Assembler code;

  private Int8Rows(Assembler code) {
    this.code = code;
  }

  private static Address argument(int index) {
    return at(RSP, 8 * (KEPT.length + 1 + index));
  }

  /** Writes the function. */
  static void write(Assembler code) {
    new Int8Rows(code).write();
  }

  private void write() {
    for (int register : KEPT) {
      code.push(register);
    }
    code.add(RDI, RSI);
    code.add(RCX, R8);
    code.add(R9, C_AT);
    load(RSI, C_STRIDE);
    load(R8, CHUNKS);
    load(RBP, PANELS);
    load(R14, ADDS);
    code.lea(R15, at(RDX, RDX, 2));
    code.vbroadcastss(BETA, 0);
    load(RBX, HEIGHT);
    int[] bodies = new int[ROWS];
    for (int rows = 1; rows < ROWS; rows++) {
      code.decrement(RBX);
      bodies[rows - 1] = code.jump(Condition.ZERO);
    }
    bodies[ROWS - 1] = code.jump();
    int[] ends = new int[ROWS];
    for (int rows = 1; rows <= ROWS; rows++) {
      code.land(bodies[rows - 1]);
      panels(rows);
      ends[rows - 1] = code.jump();
    }
    for (int end : ends) {
      code.land(end);
    }
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

  private void panels(int rows) {
    int pointers = (rows + ROWS_OF_POINTER - 1) / ROWS_OF_POINTER;
    int panel = code.size();
    for (int i = 0; i < rows; i++) {
      code.vclear(TOTALS + i);
    }
    code.move(RAX, RDI);
    for (int i = 1; i < pointers; i++) {
      code.move(POINTERS[i], POINTERS[i - 1]);
      code.add(POINTERS[i], R15);
    }
    code.move(R10, R8);
    code.test(R10);
    int skip = code.jump(Condition.ZERO);
    int chunk = code.size();
    for (int i = 0; i < Int8Layout.CHUNK_BLOCKS; i++) {
      block(rows, i);
    }
    code.addImmediate(RCX, Int8Layout.CHUNK_BYTES);
    for (int i = 0; i < pointers; i++) {
      code.addImmediate(POINTERS[i], Int8Layout.CHUNK_BLOCKS * Int8Layout.A_BLOCK_BYTES);
    }
    code.decrement(R10);
    code.jump(Condition.NOT_ZERO, chunk);
    code.land(skip);
    code.test(R14);
    int stores = code.jump(Condition.ZERO);
    code.move(R11, R9);
    for (int i = 0; i < rows; i++) {
      code.vfmadd231ps(TOTALS + i, BETA, at(R11, 0));
      code.add(R11, RSI);
    }
    code.land(stores);
    code.move(R11, R9);
    for (int i = 0; i < rows; i++) {
      code.vmovups(at(R11, 0), TOTALS + i);
      code.add(R11, RSI);
    }
    code.addImmediate(R9, Int8Layout.COLS * Float.BYTES);
    code.decrement(RBP);
    code.jump(Condition.NOT_ZERO, panel);
  }

  private void block(int rows, int block) {
    int elements = block * Int8Layout.B_BLOCK_BYTES;
    int groups = Int8Layout.BLOCK / Int8Layout.GROUP;
    for (int j = 0; j < groups; j++) {
      code.vmovups(B + j, at(RCX, elements + j * Int8Layout.GROUP_BYTES));
    }
    code.vcvtph2ps(SCALE, at(RCX, Int8Layout.SCALES + block * Int8Layout.COLS * Short.BYTES));
    int first = block * Int8Layout.A_BLOCK_BYTES;
    for (int i = 0; i < rows; i++) {
      int sum = SUMS + i % SUMS_COUNT;
      code.vpbroadcastd(sum, row(i, first + Int8Layout.SUM));
      for (int j = 0; j < groups; j++) {
        code.vpdpbusd(sum, B + j, row(i, first + j * Int8Layout.GROUP));
      }
      code.vcvtdq2ps(sum, sum);
      code.vmulps(sum, sum, SCALE);
      code.vfmadd231psOfOne(TOTALS + i, sum, row(i, first + Int8Layout.SCALE));
    }
  }

  private static Address row(int i, int displacement) {
    int pointer = POINTERS[i / ROWS_OF_POINTER];
    int step = i % ROWS_OF_POINTER;
    return step == 0 ? at(pointer, displacement) : new Address(pointer, RDX, step, displacement);
  }
}
