/** Kernels over {@link java.lang.foreign.MemorySegment}s, vectorised and multi-threaded. */
package dev.lanewise.simd;
