package dev.lanewise.core.train;

import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.JsonFields;
import dev.lanewise.core.data.BpeTokenizer;
import dev.lanewise.core.data.ByteTokenizer;
import dev.lanewise.core.data.Corpus;
import dev.lanewise.core.data.Dataset;
import dev.lanewise.core.data.EndOfText;
import dev.lanewise.core.data.Tokenizer;
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
 * @param include pattern of the files to use; null for all
 * @param tokenizer kind of the tokenizer
 * @param validation share of the tokens to validate on
 * @param shuffle whether documents are put in random order
 * @param dropComments whether the comments of source code are left out
 * @param limit most bytes of text to use; 0 for all
 */
public record RunData(
    List<Path> paths,
    String include,
    String tokenizer,
    double validation,
    boolean shuffle,
    boolean dropComments,
    long limit) {

  private static final long SHUFFLE_SEED = 20_250_916;

  /** Names and values, for JSON. */
  public Map<String, Object> toMap() {
    Map<String, Object> map = new LinkedHashMap<>();
    map.put("paths", paths.stream().map(path -> path.toAbsolutePath().toString()).toList());
    if (include != null) {
      map.put("include", include);
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
        fields.has("include") ? fields.text("include") : null,
        fields.text("tokenizer"),
        fields.number("validation"),
        fields.flag("shuffle"),
        fields.flag("dropComments"),
        fields.integer("limit"));
  }

  /**
   * Makes the tokens, or finds them in the cache.
   *
   * @param known the run's tokenizer when it is taken up again; null for a new run
   * @param cache folder of token files
   * @param progress hears of progress
   */
  public Dataset open(Tokenizer known, Path cache, Dataset.Progress progress) {
    if (paths.size() == 1 && !Dataset.tokenFiles(paths.getFirst()).isEmpty()) {
      return Dataset.open(
          paths.getFirst(), known != null ? known : tokenizerOfTokenFiles(), validation);
    }
    Corpus corpus = Corpus.of(paths);
    if (include != null) {
      corpus = corpus.include(include);
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

  /** The paths, for people. */
  public String pathNames() {
    return paths.stream().map(Path::toString).collect(Collectors.joining(", "));
  }

  private Tokenizer tokenizerOfTokenFiles() {
    return switch (tokenizer) {
      case "gpt2" -> BpeTokenizer.gpt2(EndOfText.ALLOW);
      case "bytes" -> new ByteTokenizer();
      default ->
          throw new InputException(
              String.format(
                  Locale.ROOT,
                  "Token files are read with --tokenizer gpt2 or bytes; '%s' would have to be"
                      + " learnt from text.",
                  tokenizer));
    };
  }
}
