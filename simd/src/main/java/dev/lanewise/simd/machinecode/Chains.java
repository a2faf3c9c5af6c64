package dev.lanewise.simd.machinecode;

import static dev.lanewise.simd.machinecode.Assembler.RDI;

import dev.lanewise.simd.machinecode.Assembler.Condition;

/**
 * Writes {@code void chains(long rounds)}: independent sums in registers, more than latency times
 * units, for the most that the processor can do with short elements.
 */
final class Chains {
  private static final int CHAINS = 24;
  private static final int LANES = 16;

  private Chains() {}

  /** Operations of a round, two for each of {@code elements} products in a lane. */
  static long operations(int elements) {
    return 2L * CHAINS * LANES * elements;
  }

  static void write(Assembler code, boolean isInt8) {
    for (int i = 0; i < CHAINS + 2; i++) {
      code.vclear(i);
    }
    int loop = code.size();
    for (int i = 0; i < CHAINS; i++) {
      if (isInt8) {
        code.vpdpbusd(i, CHAINS, CHAINS + 1);
      } else {
        code.vdpbf16ps(i, CHAINS, CHAINS + 1);
      }
    }
    code.decrement(RDI);
    code.jump(Condition.NOT_ZERO, loop);
    code.vzeroupper();
    code.ret();
  }
}
