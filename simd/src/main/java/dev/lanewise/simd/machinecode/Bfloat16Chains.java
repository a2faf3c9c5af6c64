package dev.lanewise.simd.machinecode;

import static dev.lanewise.simd.machinecode.Assembler.RDI;

import dev.lanewise.simd.machinecode.Assembler.Condition;

/**
 * Writes {@code void chains(long rounds)}: independent sums in registers, more than latency times
 * units, for the most that the processor can do with bfloat16.
 */
final class Bfloat16Chains {
  static final int CHAINS = 24;

  private Bfloat16Chains() {}

  static void write(Assembler code) {
    for (int i = 0; i < CHAINS + 2; i++) {
      code.vclear(i);
    }
    int loop = code.size();
    for (int i = 0; i < CHAINS; i++) {
      code.vdpbf16ps(i, CHAINS, CHAINS + 1);
    }
    code.decrement(RDI);
    code.jump(Condition.NOT_ZERO, loop);
    code.vzeroupper();
    code.ret();
  }
}
