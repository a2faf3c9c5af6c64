package dev.lanewise.simd;

/** Steers the JVM's compilers where the kernels need it. */
final class Jit {
  private Jit() {}

  static void prepare() {}
}
