package dev.lanewise.core.data;

import dev.lanewise.core.base.AtomicFile;
import dev.lanewise.core.base.Failures;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.Json;
import dev.lanewise.core.base.UsageException;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.AccessDeniedException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.CancellationException;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/**
 * Tokens to train on and tokens to validate on, with the tokenizer that made them.
 *
 * <p>The validation part is the end of the tokens, the training part all before; no window of one
 * reaches into the other. Close it when the batches made from it are no longer used.
 */
public final class Dataset implements AutoCloseable {
  private static final int FORMAT = 2;
  private static final int TASK_BYTES = 1 << 17;
  private static final int MOST_THREADS = 16;
  private static final long BPE_SAMPLE = 8L << 20;

  private final Tokenizer tokenizer;
  private final TokenSequence train;
  private final TokenSequence validation;
  private final Corpus.Summary summary;
  private final List<TokenFile> files;

  private Dataset(
      Tokenizer tokenizer,
      TokenSequence train,
      TokenSequence validation,
      Corpus.Summary summary,
      List<TokenFile> files) {
    this.tokenizer = tokenizer;
    this.train = train;
    this.validation = validation;
    this.summary = summary;
    this.files = files;
  }

  /** Hears how far a long preparation has come. */
  @FunctionalInterface
  public interface Progress {
    /** Hears nothing. */
    Progress NONE = (phase, done, total) -> {};

    /**
     * Hears of progress.
     *
     * @param phase what is being done, as "learning 1024 tokens"
     * @param done bytes done
     * @param total bytes in all
     */
    void update(String phase, long done, long total);
  }

  /**
   * Turns a corpus into tokens, or takes them from the cache if it was done before.
   *
   * @param corpus the text
   * @param tokenizer {@code bytes}, {@code chars} (the corpus's own characters), {@code gpt2}, or
   *     {@code bpe:N} (N tokens learnt from the start of the training part)
   * @param cache folder for token files, made if missing
   * @param validationFraction share of the tokens to hold back, from 0 to below 1
   * @param progress hears of progress
   * @return the data set
   * @throws InputException if the text or the tokenizer's name cannot be used
   */
  public static Dataset prepare(
      Corpus corpus, String tokenizer, Path cache, double validationFraction, Progress progress) {
    checkFraction(validationFraction);
    TokenizerMaker maker = maker(tokenizer);
    return prepare(corpus, tokenizer, maker, cache, validationFraction, progress);
  }

  /**
   * Turns a corpus into tokens of a given tokenizer, or takes them from the cache.
   *
   * @param corpus the text
   * @param tokenizer the tokenizer
   * @param cache folder for token files, made if missing
   * @param validationFraction share of the tokens to hold back, from 0 to below 1
   * @param progress hears of progress
   * @return the data set
   * @throws InputException if the text cannot be used
   */
  public static Dataset prepare(
      Corpus corpus,
      Tokenizer tokenizer,
      Path cache,
      double validationFraction,
      Progress progress) {
    checkFraction(validationFraction);
    return prepare(
        corpus,
        tokenizer.toJson(),
        (text, limit, listener) -> tokenizer,
        cache,
        validationFraction,
        progress);
  }

  /**
   * Turns examples into tokens, of which those of answers count, or takes them from the cache.
   *
   * @param examples the examples
   * @param tokenizer as for {@link #prepare(Corpus, String, Path, double, Progress)}; characters
   *     and tokens are learnt from all that is said in them
   * @param cache folder for token files, made if missing
   * @param validationFraction share of the tokens to hold back, from 0 to below 1
   * @param progress hears of progress
   * @return the data set
   * @throws InputException if the examples or the tokenizer's name cannot be used
   */
  public static Dataset prepare(
      Examples examples,
      String tokenizer,
      Path cache,
      double validationFraction,
      Progress progress) {
    return prepare(examples, tokenizerOf(examples, tokenizer), cache, validationFraction, progress);
  }

  private static Tokenizer tokenizerOf(Examples examples, String name) {
    ChatFormat plain = ChatFormat.of(new ByteTokenizer());
    if (name.equals("chars")) {
      CharTokenizer.Vocabulary vocabulary = new CharTokenizer.Vocabulary();
      examples.read(
          plain,
          parts -> {
            for (Examples.Part part : parts) {
              byte[] utf8 = Utf8.encode(part.text());
              vocabulary.add(utf8, 0, utf8.length);
            }
          });
      return vocabulary.tokenizer();
    }
    if (name.startsWith("bpe:")) {
      int size = bpeSize(name);
      BpeTrainer trainer = new BpeTrainer();
      long[] left = {BPE_SAMPLE};
      examples.read(
          plain,
          parts -> {
            for (Examples.Part part : parts) {
              byte[] utf8 = Utf8.encode(part.text());
              if (left[0] > 0) {
                trainer.add(utf8, 0, utf8.length);
                left[0] -= utf8.length;
              }
            }
          });
      return BpeTokenizer.train(trainer, size);
    }
    return maker(name).make(null, 0, Progress.NONE);
  }

  /**
   * Turns examples into tokens of a given tokenizer, or takes them from the cache.
   *
   * @param examples the examples
   * @param tokenizer the tokenizer, whose chat template writes conversations
   * @param cache folder for token files, made if missing
   * @param validationFraction share of the tokens to hold back, from 0 to below 1
   * @param progress hears of progress
   * @return the data set
   * @throws InputException if the examples cannot be used
   */
  public static Dataset prepare(
      Examples examples,
      Tokenizer tokenizer,
      Path cache,
      double validationFraction,
      Progress progress) {
    checkFraction(validationFraction);
    String key =
        sha256(FORMAT + "\nexamples 2\n" + examples.fingerprint() + "\n" + tokenizer.toJson())
            .substring(0, 24);
    Path tokensFile = cache.resolve(key + ".bin");
    Path countsFile = cache.resolve(key + ".counts");
    Dataset cached = fromCache(tokensFile, countsFile, tokenizer, validationFraction);
    if (cached != null) {
      return cached;
    }
    ChatFormat format = ChatFormat.of(tokenizer);
    CountedTokens.Builder counted = new CountedTokens.Builder();
    makeFolder(cache);
    long total = examples.bytes();
    long[] done = new long[1];
    TokenFile.write(
        tokensFile,
        layout(tokenizer),
        sink ->
            examples.read(
                format,
                parts -> {
                  Examples.encode(parts, tokenizer, sink, counted);
                  parts.forEach(part -> done[0] += part.text().length());
                  progress.update("tokenizing", Math.min(done[0], total), total);
                }));
    if (counted.counted() == 0) {
      throw new InputException("There is nothing to learn in " + examples + ".");
    }
    counted.write(countsFile);
    Dataset made = fromCache(tokensFile, countsFile, tokenizer, validationFraction);
    if (made == null) {
      throw new InputException("The tokens of " + examples + " cannot be read back.");
    }
    return made;
  }

  private static Dataset fromCache(
      Path tokensFile, Path countsFile, Tokenizer tokenizer, double validationFraction) {
    if (!Files.isRegularFile(tokensFile) || !Files.isRegularFile(countsFile)) {
      return null;
    }
    TokenFile file = null;
    try {
      file = TokenFile.open(tokensFile, tokenizer.vocabSize());
      CountedTokens tokens = CountedTokens.read(countsFile, file);
      if (tokens != null) {
        return split(tokenizer, tokens, validationFraction, null, List.of(file));
      }
    } catch (IOException | InputException e) {
      // A cache that cannot be used is made again.
    }
    if (file != null) {
      file.close();
    }
    return null;
  }

  private static TokenFile.Layout layout(Tokenizer tokenizer) {
    return tokenizer.vocabSize() > 1 << 16 ? TokenFile.Layout.LLMC_LLAMA : TokenFile.Layout.LLMC;
  }

  /**
   * Opens token files made elsewhere.
   *
   * @param path what {@link TokenFiles} finds token files by
   * @param tokenizer the tokenizer that made them
   * @param validationFraction share of the tokens to hold back; not used if there are files for
   *     validation
   * @return the data set
   * @throws InputException if a file cannot be used, or holds a token that the tokenizer lacks
   */
  public static Dataset open(Path path, Tokenizer tokenizer, double validationFraction) {
    checkFraction(validationFraction);
    TokenFiles found = TokenFiles.of(path);
    if (found.isEmpty()) {
      throw new InputException(path + " is no token file and holds none named train.bin.");
    }
    List<TokenFile> open = new ArrayList<>();
    try {
      TokenSequence train = join(found.train(), tokenizer, open);
      if (!found.validation().isEmpty()) {
        TokenSequence validation = join(found.validation(), tokenizer, open);
        return new Dataset(tokenizer, train, validation, null, open);
      }
      return split(tokenizer, train, validationFraction, null, open);
    } catch (RuntimeException e) {
      open.forEach(TokenFile::close);
      throw e;
    }
  }

  private static TokenSequence join(List<Path> paths, Tokenizer tokenizer, List<TokenFile> open) {
    int before = open.size();
    for (Path file : paths) {
      open.add(TokenFile.open(file, tokenizer.vocabSize()));
    }
    return TokenFiles.join(List.copyOf(open.subList(before, open.size())));
  }

  /**
   * The tokenizer that token files made elsewhere were made with, where a file beside them tells.
   *
   * @param path what {@link TokenFiles} finds token files by
   * @return nanoGPT's characters if there is a {@code meta.pkl}, else null
   * @throws InputException if that file tells something else
   */
  public static Tokenizer tokenizerBeside(Path path) {
    Path meta = NanoGptMeta.beside(path);
    return Files.isRegularFile(meta) ? NanoGptMeta.read(meta) : null;
  }

  /** Makes the tokenizer of a corpus. */
  private interface TokenizerMaker {
    Tokenizer make(Corpus corpus, long trainingBytes, Progress progress);
  }

  private static TokenizerMaker maker(String name) {
    return switch (name) {
      case "bytes" -> (corpus, limit, progress) -> new ByteTokenizer();
      case "gpt2" -> (corpus, limit, progress) -> BpeTokenizer.gpt2(EndOfText.ALLOW);
      case "chars" ->
          (corpus, limit, progress) -> {
            CharTokenizer.Vocabulary vocabulary = new CharTokenizer.Vocabulary();
            read(corpus, "collecting characters", progress, Long.MAX_VALUE, vocabulary::add);
            return vocabulary.tokenizer();
          };
      default -> {
        if (!name.startsWith("bpe:")) {
          throw new InputException(
              "There is no tokenizer "
                  + name
                  + "; choose bytes, chars, gpt2, or bpe:1024, or name a tokenizer.json, a folder"
                  + " with one, or a .gguf file.");
        }
        int size = bpeSize(name);
        yield (corpus, limit, progress) -> {
          BpeTrainer trainer = new BpeTrainer();
          long sample = Math.min(limit, BPE_SAMPLE);
          read(corpus, "learning " + size + " tokens", progress, sample, trainer::add);
          return BpeTokenizer.train(trainer, size);
        };
      }
    };
  }

  private static int bpeSize(String name) {
    int size;
    try {
      size = Integer.parseInt(name.substring(4));
    } catch (NumberFormatException e) {
      throw new InputException(
          "The tokenizer " + name + " needs a number of tokens after the colon, as bpe:1024.", e);
    }
    BpeTokenizer.checkSize(size);
    return size;
  }

  /** Takes a range of an array of UTF-8. */
  private interface Text {
    void add(byte[] utf8, int from, int to);
  }

  /** Reads text up to a limit. */
  private static void read(Corpus corpus, String phase, Progress progress, long limit, Text text) {
    long total = Math.min(limit, corpus.bytes());
    long[] done = new long[1];
    corpus.read(
        (utf8, from, to, ends) -> {
          long left = limit - done[0];
          int end = to - from <= left ? to : (int) (from + left);
          while (end > from && end < to && (utf8[end] & 0xC0) == 0x80) {
            end--;
          }
          text.add(utf8, from, end);
          done[0] += to - from;
          progress.update(phase, Math.min(done[0], total), total);
        },
        limit);
  }

  private static Dataset prepare(
      Corpus corpus,
      String tokenizerKey,
      TokenizerMaker maker,
      Path cache,
      double validationFraction,
      Progress progress) {
    // A learnt vocabulary depends on where the training part ends, hence the fraction in the key.
    String key =
        sha256(
                FORMAT
                    + "\n"
                    + corpus.fingerprint()
                    + "\n"
                    + tokenizerKey
                    + "\n"
                    + validationFraction)
            .substring(0, 24);
    Path tokensFile = cache.resolve(key + ".bin");
    Path metaFile = cache.resolve(key + ".json");
    Dataset cached = fromCache(tokensFile, metaFile, validationFraction);
    if (cached != null) {
      return cached;
    }
    long trainingBytes = (long) (corpus.bytes() * (1 - validationFraction));
    Tokenizer tokenizer = maker.make(corpus, Math.max(1, trainingBytes), progress);
    Corpus.Summary summary = encode(corpus, tokenizer, tokensFile, progress);
    Map<String, Object> meta = new LinkedHashMap<>();
    meta.put("source", corpus.toString());
    meta.put("documents", summary.documents());
    meta.put("bytes", summary.bytes());
    meta.put("skipped", summary.skipped());
    meta.put("leftOut", summary.reasons());
    meta.put("tokenizer", Json.parse(tokenizer.toJson(), "the tokenizer"));
    AtomicFile.writeText(metaFile, Json.writePretty(meta));
    TokenFile file = TokenFile.open(tokensFile, tokenizer.vocabSize());
    return split(tokenizer, file, validationFraction, summary, List.of(file));
  }

  private static Dataset fromCache(Path tokensFile, Path metaFile, double validationFraction) {
    if (!Files.isRegularFile(tokensFile) || !Files.isRegularFile(metaFile)) {
      return null;
    }
    try {
      Map<String, Object> meta = Json.parseObject(Files.readString(metaFile), metaFile.toString());
      Tokenizer tokenizer =
          Tokenizers.fromJson(Json.write(meta.get("tokenizer")), metaFile.toString());
      Corpus.Summary summary =
          new Corpus.Summary(
              (Long) meta.get("documents"),
              (Long) meta.get("bytes"),
              (Long) meta.get("skipped"),
              ((List<?>) meta.get("leftOut")).stream().map(String.class::cast).toList());
      TokenFile file = TokenFile.open(tokensFile, tokenizer.vocabSize());
      return split(tokenizer, file, validationFraction, summary, List.of(file));
    } catch (IOException | InputException | ClassCastException | NullPointerException e) {
      // A cache that cannot be used is made again.
      return null;
    }
  }

  /** Encodes on all cores; the pieces are written in the order of the corpus. */
  private static Corpus.Summary encode(
      Corpus corpus, Tokenizer tokenizer, Path target, Progress progress) {
    Corpus.Summary[] summary = new Corpus.Summary[1];
    makeFolder(target.toAbsolutePath().getParent());
    TokenFile.write(
        target, layout(tokenizer), sink -> summary[0] = encode(corpus, tokenizer, sink, progress));
    return summary[0];
  }

  private static void makeFolder(Path folder) {
    try {
      Files.createDirectories(folder);
      if (!Files.isWritable(folder)) {
        throw new AccessDeniedException(folder.toString());
      }
    } catch (IOException e) {
      throw new InputException(
          String.format(
              Locale.ROOT,
              "Tokens are kept in %s, which cannot be written (%s); set XDG_CACHE_HOME to another"
                  + " folder.",
              folder,
              Failures.describe(e)),
          e);
    }
  }

  /** However long the text, the same few tasks are filled again and again. */
  private static Corpus.Summary encode(
      Corpus corpus, Tokenizer tokenizer, TokenSink sink, Progress progress) {
    int threads = Math.min(MOST_THREADS, Runtime.getRuntime().availableProcessors());
    long total = corpus.bytes();
    Deque<Future<EncodingTask>> running = new ArrayDeque<>();
    Deque<EncodingTask> free = new ArrayDeque<>();
    for (int i = 0; i < 2 * threads + 1; i++) {
      free.add(new EncodingTask(tokenizer));
    }
    long[] done = new long[1];
    try (ExecutorService workers = Executors.newFixedThreadPool(threads)) {
      try {
        Corpus.Summary summary =
            corpus.read(
                (utf8, from, to, ends) -> {
                  EncodingTask task = free.getFirst();
                  task.add(utf8, from, to, ends);
                  done[0] += to - from;
                  if (task.size() >= TASK_BYTES) {
                    running.add(workers.submit(free.remove()));
                    if (free.isEmpty()) {
                      free.add(drain(running.remove(), sink));
                      progress.update("tokenizing", Math.min(done[0], total), total);
                    }
                  }
                });
        running.add(workers.submit(free.remove()));
        while (!running.isEmpty()) {
          drain(running.remove(), sink);
        }
        progress.update("tokenizing", total, total);
        return summary;
      } finally {
        running.forEach(task -> task.cancel(false));
      }
    }
  }

  private static EncodingTask drain(Future<EncodingTask> running, TokenSink sink) {
    try {
      EncodingTask task = running.get();
      task.drain(sink);
      return task;
    } catch (ExecutionException e) {
      if (e.getCause() instanceof RuntimeException cause) {
        throw cause;
      }
      throw new IllegalStateException("a text could not be encoded", e.getCause());
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new CancellationException("interrupted while encoding");
    }
  }

  private static Dataset split(
      Tokenizer tokenizer,
      TokenSequence tokens,
      double validationFraction,
      Corpus.Summary summary,
      List<TokenFile> files) {
    long cut = (long) (tokens.length() * (1 - validationFraction));
    return new Dataset(
        tokenizer, tokens.slice(0, cut), tokens.slice(cut, tokens.length()), summary, files);
  }

  private static void checkFraction(double fraction) {
    if (!(fraction >= 0 && fraction < 1)) {
      throw new UsageException(
          "The share of the text for validation must be from 0 to below 1, not " + fraction + ".");
    }
  }

  private static String sha256(String text) {
    try {
      MessageDigest digest = MessageDigest.getInstance("SHA-256");
      return HexFormat.of().formatHex(digest.digest(text.getBytes(StandardCharsets.UTF_8)));
    } catch (NoSuchAlgorithmException e) {
      throw new IllegalStateException("every Java platform has SHA-256", e);
    }
  }

  /**
   * The tokenizer of the tokens.
   *
   * @return the tokenizer
   */
  public Tokenizer tokenizer() {
    return tokenizer;
  }

  /**
   * The tokens to train on.
   *
   * @return the first part
   */
  public TokenSequence train() {
    return train;
  }

  /**
   * The tokens to validate on.
   *
   * @return the last part; empty if nothing was held back
   */
  public TokenSequence validation() {
    return validation;
  }

  /**
   * What was read to make the tokens.
   *
   * @return the summary, or null for token files made elsewhere
   */
  public Corpus.Summary summary() {
    return summary;
  }

  /**
   * What people should know before they train on it: files that were left out, and whether nothing
   * can be validated.
   *
   * @param context tokens of a sequence
   * @return one line each
   */
  public List<String> notes(int context) {
    List<String> notes = new ArrayList<>();
    if (summary != null && summary.skipped() > 0) {
      notes.add(summary.leftOut());
    }
    if (validation.length() <= context) {
      notes.add(
          String.format(
              Locale.ROOT,
              "nothing is validated: that takes more than a context of %,d tokens; give more text,"
                  + " a larger --validation or a shorter --context",
              context));
    }
    return notes;
  }

  /** Closes the token files. */
  @Override
  public void close() {
    files.forEach(TokenFile::close);
  }
}
