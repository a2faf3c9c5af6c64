/** SIMD kernels for language models over off-heap memory. */
module dev.lanewise.simd {
  requires jdk.incubator.vector;
  requires static java.management;
  requires static jdk.management;

  exports dev.lanewise.simd;
}
