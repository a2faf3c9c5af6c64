/** Benchmarks of the kernels and the trainer against their peers. */
module dev.lanewise.bench {
  requires dev.lanewise.core;
  requires info.picocli;
  requires java.management;
  requires jdk.unsupported; // JMH uses it and has no descriptor to say so
  requires jmh.core;

  exports dev.lanewise.bench.contest to
      jmh.core;
  exports dev.lanewise.bench.suite to
      jmh.core;

  opens dev.lanewise.bench to
      info.picocli;
  opens dev.lanewise.bench.scaling to
      info.picocli;

  provides dev.lanewise.core.cli.Subcommand with
      dev.lanewise.bench.BenchCommand,
      dev.lanewise.bench.scaling.ScalingCommand;
}
