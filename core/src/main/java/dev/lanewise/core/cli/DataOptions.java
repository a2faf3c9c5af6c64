package dev.lanewise.core.cli;

import dev.lanewise.core.data.TokenFiles;
import dev.lanewise.core.data.Tokenizer;
import dev.lanewise.core.train.DefaultJob;
import dev.lanewise.core.train.RunData;
import java.nio.file.Path;
import java.util.List;
import picocli.CommandLine.Option;

/** Options that say where tokens come from; without any, those of the default job. */
final class DataOptions {
  private static final double VALIDATION = 0.1;

  @Option(
      names = "--data",
      arity = "1..*",
      paramLabel = "PATH",
      description = {
        "Text files, folders or zip archives, or one token file or folder of token files.",
        "Default: the sources of the JDK."
      })
  List<Path> data;

  @Option(
      names = "--include",
      paramLabel = "GLOB",
      description =
          "Which files of folders and archives to use, such as *.md. May be given several times.")
  List<String> include = List.of();

  @Option(
      names = "--exclude",
      paramLabel = "GLOB",
      description = "Which of these files to leave out. May be given several times.")
  List<String> exclude = List.of();

  @Option(
      names = "--tokenizer",
      paramLabel = "KIND",
      description =
          "bytes, chars, gpt2, or bpe:N, which learns N tokens from the text; or a tokenizer.json,"
              + " a folder with one or with vocab.json and merges.txt, or a .gguf file. Default:"
              + " bpe:1024, or gpt2 for token files.")
  String tokenizer;

  @Option(
      names = "--validation",
      paramLabel = "SHARE",
      description = "Share of the tokens to validate on. Default: 0.1.")
  Double validation;

  /**
   * Where the tokens come from.
   *
   * @param known the tokenizer that comes with weights; null if there are none
   */
  RunData runData(Tokenizer known) {
    if (known == null) {
      return runData();
    }
    RunData source = runData();
    return new RunData(
        source.paths(),
        source.include(),
        source.exclude(),
        known.name(),
        source.validation(),
        source.shuffle(),
        source.dropComments(),
        source.limit());
  }

  private RunData runData() {
    double share = validation == null ? VALIDATION : validation;
    if (data == null) {
      RunData job = DefaultJob.data(share);
      return new RunData(
          job.paths(),
          include.isEmpty() ? job.include() : include,
          exclude,
          tokenizer == null ? job.tokenizer() : tokenizer,
          share,
          job.shuffle(),
          job.dropComments(),
          job.limit());
    }
    boolean tokenFiles = data.size() == 1 && !TokenFiles.of(data.getFirst()).isEmpty();
    String kind =
        tokenizer != null
            ? tokenizer
            : tokenFiles ? RunData.tokenizerFor(data.getFirst()) : "bpe:1024";
    return new RunData(data, include, exclude, kind, share, false, false, 0);
  }
}
