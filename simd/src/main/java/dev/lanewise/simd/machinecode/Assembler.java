package dev.lanewise.simd.machinecode;

import java.util.Arrays;

/**
 * Writes x86-64 machine code. Encodings are those of Intel's Software Developer's Manual, volume 2:
 * legacy ones for addresses and loops, EVEX of 512 bits for vectors. Registers are given by number:
 * general ones by the constants here, vector registers from 0 to 31.
 */
final class Assembler {
  static final int RAX = 0;
  static final int RCX = 1;
  static final int RDX = 2;
  static final int RBX = 3;
  static final int RSP = 4;
  static final int RBP = 5;
  static final int RSI = 6;
  static final int RDI = 7;
  static final int R8 = 8;
  static final int R9 = 9;
  static final int R10 = 10;
  static final int R11 = 11;
  static final int R12 = 12;
  static final int R13 = 13;
  static final int R14 = 14;
  static final int R15 = 15;

  /** When a jump is taken; the code is the second byte of its long form. */
  enum Condition {
    ZERO(0x84),
    NOT_ZERO(0x85);

    private final int code;

    Condition(int code) {
      this.code = code;
    }
  }

  /**
   * A place in memory, {@code base + index * scale + displacement}.
   *
   * @param base general register
   * @param index general register other than RSP, or -1 for none
   * @param scale 1, 2, 4 or 8
   * @param displacement bytes
   */
  record Address(int base, int index, int scale, int displacement) {
    static Address at(int base, int displacement) {
      return new Address(base, -1, 1, displacement);
    }

    static Address at(int base, int index, int scale) {
      return new Address(base, index, scale, 0);
    }
  }

  // Opcode maps and mandatory prefixes, as EVEX counts them.
  private static final int MAP_0F = 1;
  private static final int MAP_0F38 = 2;
  private static final int NONE = 0;
  private static final int PREFIX_66 = 1;
  private static final int PREFIX_F3 = 2;

  /** A vector register that an instruction does not have. */
  private static final int UNUSED = 0;

  private static final int VECTOR_BYTES = 64;
  private static final int ELEMENT_BYTES = 4;

  private byte[] code = new byte[1024];
  private int size;

  /** Bytes written so far, which is where the next instruction begins. */
  int size() {
    return size;
  }

  byte[] toBytes() {
    return Arrays.copyOf(code, size);
  }

  /** Fills up, with instructions that trap, until the size is a multiple. */
  void align(int bytes) {
    while (size % bytes != 0) {
      emit(0xcc);
    }
  }

  void add(int to, int from) {
    registers(0x01, from, to);
  }

  void add(int to, Address from) {
    emit(rex(1, to, from), 0x03);
    memory(to, from, 1);
  }

  void addImmediate(int to, int number) {
    if (number == (byte) number) {
      registers(0x83, 0, to);
      emit(number);
    } else {
      registers(0x81, 0, to);
      emit32(number);
    }
  }

  void subtract(int from, int number) {
    registers(0x29, number, from);
  }

  void move(int to, int from) {
    registers(0x89, from, to);
  }

  void decrement(int register) {
    registers(0xff, 1, register);
  }

  /** Compares a register with zero. */
  void test(int register) {
    registers(0x85, register, register);
  }

  void clear(int register) {
    registers(0x31, register, register);
  }

  void shiftLeft(int register, int bits) {
    registers(0xc1, 4, register);
    emit(bits);
  }

  void or(int to, int from) {
    registers(0x09, from, to);
  }

  /** Computes an address. */
  void lea(int to, Address from) {
    emit(rex(1, to, from), 0x8d);
    memory(to, from, 1);
  }

  /** Stores the lower half of a register. */
  void store32(Address to, int from) {
    int rex = rex(0, from, to);
    if (rex != 0x40) {
      emit(rex);
    }
    emit(0x89);
    memory(from, to, 1);
  }

  void push(int register) {
    stack(0x50, register);
  }

  void pop(int register) {
    stack(0x58, register);
  }

  private void stack(int opcode, int register) {
    if (register >= R8) {
      emit(0x41);
    }
    emit(opcode | register & 7);
  }

  void cpuid() {
    emit(0x0f, 0xa2);
  }

  void xgetbv() {
    emit(0x0f, 0x01, 0xd0);
  }

  void ret() {
    emit(0xc3);
  }

  /** Jumps back to where an instruction begins. */
  void jump(Condition when, int target) {
    emit(0x0f, when.code);
    emit32(target - (size + 4));
  }

  /** Jumps to a place that is not known yet, and returns what {@link #land} is to be told. */
  int jump(Condition when) {
    emit(0x0f, when.code);
    emit32(0);
    return size;
  }

  /** As {@link #jump(Condition)}, always. */
  int jump() {
    emit(0xe9);
    emit32(0);
    return size;
  }

  /** Lets a jump lead to the next instruction. */
  void land(int jump) {
    int distance = size - jump;
    for (int i = 0; i < 4; i++) {
      code[jump - 4 + i] = (byte) (distance >> 8 * i);
    }
  }

  /** Ends the use of wide registers, so that older instructions that follow run at full speed. */
  void vzeroupper() {
    emit(0xc5, 0xf8, 0x77);
  }

  void vmovups(int to, Address from) {
    evex(MAP_0F, NONE, 0x10, to, UNUSED, from, VECTOR_BYTES);
  }

  void vmovups(Address to, int from) {
    evex(MAP_0F, NONE, 0x11, from, UNUSED, to, VECTOR_BYTES);
  }

  /** Clears a register, and with it the wait for what it held. */
  void vclear(int to) {
    evex(MAP_0F, PREFIX_66, 0xef, to, to, to);
  }

  /** All lanes from the lowest float of a register. */
  void vbroadcastss(int to, int from) {
    evex(MAP_0F38, PREFIX_66, 0x18, to, UNUSED, from);
  }

  /** All lanes from 32 bits in memory. */
  void vpbroadcastd(int to, Address from) {
    evex(MAP_0F38, PREFIX_66, 0x58, to, UNUSED, from, ELEMENT_BYTES);
  }

  void vmulps(int to, int a, int b) {
    evex(MAP_0F, NONE, 0x59, to, a, b);
  }

  void vaddps(int to, int a, int b) {
    evex(MAP_0F, NONE, 0x58, to, a, b);
  }

  void vaddps(int to, int a, Address b) {
    evex(MAP_0F, NONE, 0x58, to, a, b, VECTOR_BYTES);
  }

  /** {@code sum += a * b}. */
  void vfmadd231ps(int sum, int a, int b) {
    evex(MAP_0F38, PREFIX_66, 0xb8, sum, a, b);
  }

  /** {@code sum += a * b}. */
  void vfmadd231ps(int sum, int a, Address b) {
    evex(MAP_0F38, PREFIX_66, 0xb8, sum, a, b, VECTOR_BYTES);
  }

  /** In each lane of 32 bits, {@code sum += a1 * b1; sum += a0 * b0} with pairs of bfloat16. */
  void vdpbf16ps(int sum, int a, int b) {
    evex(MAP_0F38, PREFIX_F3, 0x52, sum, a, b);
  }

  /**
   * In each lane of 32 bits, {@code sum += a0 * b0 + a1 * b1 + a2 * b2 + a3 * b3} with unsigned
   * bytes of {@code a} and four signed bytes in memory, the same for all lanes.
   */
  void vpdpbusd(int sum, int a, Address b) {
    evex(MAP_0F38, PREFIX_66, 0x50, sum, a, b);
  }

  /** As {@link #vpdpbusd(int, int, Address)} with signed bytes in a register. */
  void vpdpbusd(int sum, int a, int b) {
    evex(MAP_0F38, PREFIX_66, 0x50, sum, a, b);
  }

  /** {@code sum += a * b} with one float in memory. */
  void vfmadd231psOfOne(int sum, int a, Address b) {
    evex(MAP_0F38, PREFIX_66, 0xb8, sum, a, b);
  }

  /** Floats from integers of 32 bits. */
  void vcvtdq2ps(int to, int from) {
    evex(MAP_0F, NONE, 0x5b, to, UNUSED, from);
  }

  /** Floats from 16 of float16. */
  void vcvtph2ps(int to, Address from) {
    evex(MAP_0F38, PREFIX_66, 0x13, to, UNUSED, from, VECTOR_BYTES / 2);
  }

  private void evex(int map, int prefix, int opcode, int reg, int second, int rm) {
    evex(map, prefix, opcode, reg, second, rm >> 3 & 1, rm >> 4 & 1, false);
    emit(0xc0 | (reg & 7) << 3 | rm & 7);
  }

  /** With an operand in memory, whose displacement counts in steps of {@code unit} bytes. */
  private void evex(
      int map, int prefix, int opcode, int reg, int second, Address memory, int unit) {
    evex(map, prefix, opcode, reg, second, memory.base >> 3, index(memory) >> 3, false);
    memory(reg, memory, unit);
  }

  /** With one element in memory that all lanes take. */
  private void evex(int map, int prefix, int opcode, int reg, int second, Address memory) {
    evex(map, prefix, opcode, reg, second, memory.base >> 3, index(memory) >> 3, true);
    memory(reg, memory, ELEMENT_BYTES);
  }

  /** The prefix, in which the upper bits of registers are inverted, and the opcode. */
  private void evex(
      int map, int prefix, int opcode, int reg, int second, int b, int x, boolean isOfOne) {
    int upper = (reg >> 3 & 1) << 7 | x << 6 | b << 5 | (reg >> 4) << 4;
    emit(0x62, upper ^ 0xf0 | map);
    emit((~second & 15) << 3 | 4 | prefix);
    emit(0x40 | (~second >> 4 & 1) << 3 | (isOfOne ? 0x10 : 0));
    emit(opcode);
  }

  private void registers(int opcode, int reg, int rm) {
    emit(0x48 | reg >> 3 << 2 | rm >> 3, opcode, 0xc0 | (reg & 7) << 3 | rm & 7);
  }

  private static int rex(int wide, int reg, Address memory) {
    return 0x40 | wide << 3 | reg >> 3 << 2 | index(memory) >> 3 << 1 | memory.base >> 3;
  }

  private static int index(Address memory) {
    return Math.max(0, memory.index);
  }

  private void memory(int reg, Address at, int unit) {
    boolean hasIndex = at.index >= 0;
    int steps = at.displacement / unit;
    boolean isShort = at.displacement % unit == 0 && steps == (byte) steps;
    // Without a displacement this base would mean none at all.
    boolean isPlain = at.displacement == 0 && (at.base & 7) != RBP;
    int mode = isPlain ? 0 : isShort ? 1 : 2;
    int rm = hasIndex ? RSP : at.base & 7;
    emit(mode << 6 | (reg & 7) << 3 | rm);
    if (rm == RSP) {
      int index = hasIndex ? at.index & 7 : RSP;
      emit(Integer.numberOfTrailingZeros(at.scale) << 6 | index << 3 | at.base & 7);
    }
    if (mode == 1) {
      emit(steps);
    } else if (mode == 2) {
      emit32(at.displacement);
    }
  }

  private void emit32(int number) {
    emit(number, number >> 8, number >> 16, number >> 24);
  }

  private void emit(int... bytes) {
    for (int b : bytes) {
      if (size == code.length) {
        code = Arrays.copyOf(code, 2 * size);
      }
      code[size++] = (byte) b;
    }
  }
}
