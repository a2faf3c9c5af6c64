package dev.lanewise.core.train;

import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.JsonFields;
import dev.lanewise.core.data.BpeTokenizer;
import dev.lanewise.core.data.ByteTokenizer;
import dev.lanewise.core.data.Corpus;
import dev.lanewise.core.data.Dataset;
import dev.lanewise.core.data.EndOfText;
import dev.lanewise.core.data.Examples;
import dev.lanewise.core.data.TokenFiles;
import dev.lanewise.core.data.Tokenizer;
import dev.lanewise.core.data.Tokenizers;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.stream.Collectors;

/**
 * Where a run's tokens come from.
 *
 * @param paths text files, folders or archives; or one token file, or a folder of token files
 * @param include patterns of which files of folders and archives to use; empty for all
 * @param exclude patterns of files to leave out of these
 * @param tokenizer kind of the tokenizer, or the file or folder that holds it
 * @param validation share of the tokens to validate on
 * @param shuffle whether documents are put in random order
 * @param dropComments whether the comments of source code are left out
 * @param limit most bytes of text to use; 0 for all
 */
public record RunData(
    List<Path> paths,
    List<String> include,
    List<String> exclude,
    String tokenizer,
    double validation,
    boolean shuffle,
    boolean dropComments,
    long limit) {

  /** Keeps unmodifiable copies. */
  public RunData {
    paths = List.copyOf(paths);
    include = List.copyOf(include);
    exclude = List.copyOf(exclude);
  }

  private static final long SHUFFLE_SEED = 20_250_916;

  /** All of some paths, as they are. */
  public static RunData of(List<Path> paths, String tokenizer, double validation) {
    return new RunData(paths, List.of(), List.of(), tokenizer, validation, false, false, 0);
  }

  /** The same of other paths. */
  public RunData at(List<Path> others) {
    return new RunData(
        others, include, exclude, tokenizer, validation, shuffle, dropComments, limit);
  }

  /** Names and values, for JSON. */
  public Map<String, Object> toMap() {
    Map<String, Object> map = new LinkedHashMap<>();
    map.put("paths", paths.stream().map(path -> path.toAbsolutePath().toString()).toList());
    if (!include.isEmpty()) {
      map.put("include", include);
    }
    if (!exclude.isEmpty()) {
      map.put("exclude", exclude);
    }
    map.put("tokenizer", tokenizer);
    map.put("validation", validation);
    map.put("shuffle", shuffle);
    map.put("dropComments", dropComments);
    map.put("limit", limit);
    return map;
  }

  /** What {@link #toMap} wrote. */
  public static RunData fromFields(JsonFields fields) {
    if (!(fields.members().get("paths") instanceof List<?> list)) {
      throw new InputException(fields.source() + ": 'paths' must be a list.");
    }
    return new RunData(
        list.stream().map(path -> Path.of(path.toString())).toList(),
        patterns(fields, "include"),
        patterns(fields, "exclude"),
        fields.text("tokenizer"),
        fields.number("validation"),
        fields.flag("shuffle"),
        fields.flag("dropComments"),
        fields.integer("limit"));
  }

  /** A list of patterns, or one alone, as earlier versions wrote it. */
  private static List<String> patterns(JsonFields fields, String name) {
    return switch (fields.members().get(name)) {
      case null -> List.of();
      case List<?> list -> list.stream().map(String::valueOf).toList();
      default -> List.of(fields.text(name));
    };
  }

  /**
   * Makes the tokens, or finds them in the cache.
   *
   * @param known the run's tokenizer when it is taken up again; null for a new run
   * @param cache folder of token files
   * @param progress hears of progress
   */
  public Dataset open(Tokenizer known, Path cache, Dataset.Progress progress) {
    if (known == null && Tokenizers.isFile(tokenizer)) {
      return open(Tokenizers.open(Path.of(tokenizer)), cache, progress);
    }
    if (paths.size() == 1 && !TokenFiles.of(paths.getFirst()).isEmpty()) {
      return Dataset.open(
          paths.getFirst(), known != null ? known : tokenizerOfTokenFiles(), validation);
    }
    if (!paths.isEmpty() && Examples.are(paths)) {
      return openExamples(known, cache, progress);
    }
    Corpus corpus = Corpus.of(paths);
    if (!include.isEmpty()) {
      corpus = corpus.include(include.toArray(String[]::new));
    }
    if (!exclude.isEmpty()) {
      corpus = corpus.exclude(exclude.toArray(String[]::new));
    }
    if (shuffle) {
      corpus = corpus.shuffle(SHUFFLE_SEED);
    }
    if (limit > 0) {
      corpus = corpus.limit(limit);
    }
    if (dropComments) {
      corpus = corpus.withoutComments();
    }
    return known != null
        ? Dataset.prepare(corpus, known, cache, validation, progress)
        : Dataset.prepare(corpus, tokenizer, cache, validation, progress);
  }

  private Dataset openExamples(Tokenizer known, Path cache, Dataset.Progress progress) {
    if (!include.isEmpty() || !exclude.isEmpty() || limit > 0 || dropComments) {
      throw new InputException(
          "Examples in .jsonl files are used whole; leave out what selects files or text.");
    }
    Examples examples = Examples.of(paths);
    return known != null
        ? Dataset.prepare(examples, known, cache, validation, progress)
        : Dataset.prepare(examples, tokenizer, cache, validation, progress);
  }

  /** The paths, for people. */
  public String pathNames() {
    return paths.stream().map(Path::toString).collect(Collectors.joining(", "));
  }

  private Tokenizer tokenizerOfTokenFiles() {
    return switch (tokenizer) {
      case "gpt2" -> BpeTokenizer.gpt2(EndOfText.ALLOW);
      case "bytes" -> new ByteTokenizer();
      case "chars" -> {
        Tokenizer beside = Dataset.tokenizerBeside(paths.getFirst());
        if (beside == null) {
          throw new InputException(
              String.format(
                  Locale.ROOT,
                  "Which characters the tokens of %s are, only nanoGPT's meta.pkl beside them"
                      + " tells, and there is none.",
                  paths.getFirst()));
        }
        yield beside;
      }
      default ->
          throw new InputException(
              String.format(
                  Locale.ROOT,
                  "Token files are read with --tokenizer gpt2, bytes, chars or a tokenizer's file;"
                      + " '%s' would have to be learnt from text.",
                  tokenizer));
    };
  }

  /**
   * The tokenizer's kind for token files of which nothing was said: what lies beside them tells.
   */
  public static String tokenizerFor(Path tokenFiles) {
    return Dataset.tokenizerBeside(tokenFiles) == null ? "gpt2" : "chars";
  }
}
