/**
 * Kernels as machine code: instructions that the JVM's compiler does not emit, written by this
 * program into memory that is then made executable, and called through the foreign function
 * interface. There is no native library. Where the machine, the system or the user does not allow
 * it, callers have a kernel in Java that gives the same bits.
 *
 * <p>{@link dev.lanewise.simd.machinecode.MachineCode} is the door; the assembler knows the few
 * instructions that the kernels use.
 */
package dev.lanewise.simd.machinecode;
