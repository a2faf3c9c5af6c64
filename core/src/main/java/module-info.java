/** Tensors, autograd, models, data, training, CUDA and the command line. */
module dev.lanewise.core {
  requires transitive dev.lanewise.simd;
  requires jdk.incubator.vector;
  requires java.management;
  requires jdk.management;
  requires info.picocli;
  requires tools.jackson.core;
  requires jtokkit;

  exports dev.lanewise.core.backend;
  exports dev.lanewise.core.backend.cuda;
  exports dev.lanewise.core.base;
  exports dev.lanewise.core.cli;
  exports dev.lanewise.core.data;
  exports dev.lanewise.core.distributed;
  exports dev.lanewise.core.examples;
  exports dev.lanewise.core.exchange;
  exports dev.lanewise.core.format;
  exports dev.lanewise.core.machine;
  exports dev.lanewise.core.model;
  exports dev.lanewise.core.nn;
  exports dev.lanewise.core.random;
  exports dev.lanewise.core.report;
  exports dev.lanewise.core.tensor;
  exports dev.lanewise.core.train;

  opens dev.lanewise.core.cli to
      info.picocli;

  uses dev.lanewise.core.cli.Subcommand;
}
