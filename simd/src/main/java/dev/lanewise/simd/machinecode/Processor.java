package dev.lanewise.simd.machinecode;

import static dev.lanewise.simd.machinecode.Assembler.Address.at;
import static dev.lanewise.simd.machinecode.Assembler.R8;
import static dev.lanewise.simd.machinecode.Assembler.RAX;
import static dev.lanewise.simd.machinecode.Assembler.RBX;
import static dev.lanewise.simd.machinecode.Assembler.RCX;
import static dev.lanewise.simd.machinecode.Assembler.RDI;
import static dev.lanewise.simd.machinecode.Assembler.RDX;
import static dev.lanewise.simd.machinecode.Assembler.RSI;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;

/** Asks an x86-64 processor what it can do, and the system which registers it keeps. */
final class Processor {
  private static final int EAX = 0;
  private static final int EBX = 1;
  private static final int ECX = 2;

  /** AVX-512 foundation, doubles and quads, bytes and words, and shorter vectors. */
  private static final int AVX512 = 1 << 16 | 1 << 17 | 1 << 30 | 1 << 31;

  private static final int AVX512_BF16 = 1 << 5;
  private static final int AVX512_VNNI = 1 << 11;
  private static final int OSXSAVE = 1 << 27;

  /** What the system must save: XMM, YMM, masks and both parts of ZMM. */
  private static final long STATE = 0xe6;

  private Processor() {}

  /**
   * What is missing.
   *
   * @param forFloats for vectors of 512 bits; null if nothing is
   * @param forBfloat16 for the instructions on bfloat16; null if nothing is
   * @param forInt8 for the instructions on integers of 8 bits; null if nothing is
   */
  record Missing(String forFloats, String forBfloat16, String forInt8) {
    /** Everything is, for one reason. */
    static Missing all(String why) {
      return new Missing(why, why, why);
    }
  }

  /** Says what is missing. */
  @SuppressWarnings("restricted")
  static Missing missing() {
    Assembler code = new Assembler();
    writeCpuid(code);
    code.align(16);
    int second = code.size();
    writeXgetbv(code);
    MemorySegment memory = ExecutableMemory.of(code.toBytes());
    Linker linker = Linker.nativeLinker();
    var cpuid =
        linker.downcallHandle(
            memory,
            FunctionDescriptor.ofVoid(
                ValueLayout.JAVA_INT, ValueLayout.JAVA_INT, ValueLayout.ADDRESS));
    var xgetbv =
        linker.downcallHandle(memory.asSlice(second), FunctionDescriptor.of(ValueLayout.JAVA_LONG));
    try (Arena arena = Arena.ofShared()) {
      MemorySegment registers = arena.allocate(ValueLayout.JAVA_INT, 4);
      int mostLeaves = cpuid(cpuid, registers, 0, 0, EAX);
      if ((cpuid(cpuid, registers, 1, 0, ECX) & OSXSAVE) == 0
          || ((long) xgetbv.invokeExact() & STATE) != STATE) {
        return Missing.all("the system does not keep AVX-512 registers");
      }
      if (mostLeaves < 7 || (cpuid(cpuid, registers, 7, 0, EBX) & AVX512) != AVX512) {
        return Missing.all("the processor has no AVX-512");
      }
      boolean hasMore = cpuid(cpuid, registers, 7, 0, EAX) >= 1;
      boolean hasBfloat16 = hasMore && (cpuid(cpuid, registers, 7, 1, EAX) & AVX512_BF16) != 0;
      boolean hasInt8 = (cpuid(cpuid, registers, 7, 0, ECX) & AVX512_VNNI) != 0;
      return new Missing(
          null,
          hasBfloat16 ? null : "the processor has no AVX512_BF16",
          hasInt8 ? null : "the processor has no AVX512_VNNI");
    } catch (RuntimeException | Error e) {
      throw e;
    } catch (Throwable e) {
      throw new AssertionError(e);
    }
  }

  private static int cpuid(
      MethodHandle cpuid, MemorySegment registers, int leaf, int part, int register)
      throws Throwable {
    cpuid.invokeExact(leaf, part, registers);
    return registers.getAtIndex(ValueLayout.JAVA_INT, register);
  }

  /** {@code void cpuid(int leaf, int part, int[4] registers)}. */
  static void writeCpuid(Assembler code) {
    code.push(RBX);
    code.move(R8, RDX);
    code.move(RAX, RDI);
    code.move(RCX, RSI);
    code.cpuid();
    code.store32(at(R8, 0), RAX);
    code.store32(at(R8, 4), RBX);
    code.store32(at(R8, 8), RCX);
    code.store32(at(R8, 12), RDX);
    code.pop(RBX);
    code.ret();
  }

  /** {@code long xgetbv()}: the register XCR0. */
  static void writeXgetbv(Assembler code) {
    code.clear(RCX);
    code.xgetbv();
    code.shiftLeft(RDX, 32);
    code.or(RAX, RDX);
    code.ret();
  }
}
