/** Benchmarks of the kernels and the trainer against their peers. */
module dev.lanewise.bench {
  requires dev.lanewise.core;
}
