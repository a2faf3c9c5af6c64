package dev.lanewise.core.data;

import dev.lanewise.core.base.Failures;
import dev.lanewise.core.base.InputException;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Objects;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * The token files that a path stands for: one file, or in a folder one that ends in {@code
 * train.bin} and perhaps one that ends in {@code val.bin}, as nanoGPT and llm.c leave them; or
 * llm.c's shards, {@code *_train_000001.bin} and so on and {@code *_val_000000.bin}.
 *
 * @param train files to train on, in order
 * @param validation files to validate on; empty if a share of the others is to be held back
 */
public record TokenFiles(List<Path> train, List<Path> validation) {
  private static final TokenFiles NONE = new TokenFiles(List.of(), List.of());
  private static final Pattern SHARD = Pattern.compile("(.*)_(train|val)_(\\d+)\\.bin");

  /** Keeps unmodifiable copies. */
  public TokenFiles {
    train = List.copyOf(train);
    validation = List.copyOf(validation);
  }

  /** Whether the path stands for no token files. */
  public boolean isEmpty() {
    return train.isEmpty();
  }

  /**
   * Looks at a path.
   *
   * @param path any path
   * @throws InputException if a folder cannot be read, or holds several sets of token files
   */
  public static TokenFiles of(Path path) {
    if (Files.isRegularFile(path)) {
      return path.toString().toLowerCase(Locale.ROOT).endsWith(".bin")
          ? new TokenFiles(List.of(path), List.of())
          : NONE;
    }
    if (!Files.isDirectory(path)) {
      return NONE;
    }
    List<Path> names;
    try (var list = Files.list(path)) {
      names = list.filter(Files::isRegularFile).sorted().toList();
    } catch (IOException e) {
      throw new InputException(path + " cannot be read: " + Failures.describe(e), e);
    }
    List<Path> train = ending(names, "train.bin");
    List<Path> validation = ending(names, "val.bin");
    List<Path> trainShards = shards(path, names, "train");
    List<Path> validationShards = shards(path, names, "val");
    if (train.size() > 1
        || validation.size() > 1
        || !train.isEmpty() && !trainShards.isEmpty()
        || !validation.isEmpty() && !validationShards.isEmpty()) {
      throw new InputException(
          path + " holds several token files for training or validation; name one of them.");
    }
    if (train.isEmpty() && trainShards.isEmpty()) {
      return NONE;
    }
    return new TokenFiles(
        train.isEmpty() ? trainShards : train,
        validation.isEmpty() ? validationShards : validation);
  }

  private static List<Path> ending(List<Path> names, String end) {
    return names.stream().filter(name -> name.toString().endsWith(end)).toList();
  }

  private static List<Path> shards(Path folder, List<Path> names, String part) {
    List<Path> shards = new ArrayList<>();
    String prefix = null;
    for (Path name : names) {
      Matcher matcher = SHARD.matcher(name.getFileName().toString());
      if (matcher.matches() && matcher.group(2).equals(part)) {
        if (prefix != null && !prefix.equals(matcher.group(1))) {
          throw new InputException(
              String.format(
                  Locale.ROOT,
                  "%s holds shards of several data sets, %s and %s; keep one in a folder.",
                  folder,
                  prefix,
                  matcher.group(1)));
        }
        prefix = matcher.group(1);
        shards.add(name);
      }
    }
    return shards;
  }

  /** Several files as one sequence. */
  static TokenSequence join(List<TokenFile> files) {
    return files.size() == 1 ? files.getFirst() : new Joined(files);
  }

  private static final class Joined implements TokenSequence {
    private final TokenFile[] files;
    private final long[] starts;
    private final long length;

    Joined(List<TokenFile> files) {
      this.files = files.toArray(TokenFile[]::new);
      starts = new long[this.files.length];
      long sum = 0;
      for (int i = 0; i < starts.length; i++) {
        starts[i] = sum;
        sum += this.files[i].length();
      }
      length = sum;
    }

    @Override
    public long length() {
      return length;
    }

    private int fileOf(long index) {
      int at = Arrays.binarySearch(starts, index);
      return at >= 0 ? at : -at - 2;
    }

    @Override
    public int get(long index) {
      Objects.checkIndex(index, length);
      int file = fileOf(index);
      return files[file].get(index - starts[file]);
    }

    @Override
    public void copy(long from, int count, MemorySegment target, long targetIndex) {
      Objects.checkFromIndexSize(from, count, length);
      Objects.checkFromIndexSize(targetIndex, count, target.byteSize() / Integer.BYTES);
      int done = 0;
      while (done < count) {
        int file = fileOf(from + done);
        long at = from + done - starts[file];
        int some = (int) Math.min(count - done, files[file].length() - at);
        files[file].copy(at, some, target, targetIndex + done);
        done += some;
      }
    }
  }
}
