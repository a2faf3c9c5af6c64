package dev.lanewise.core.train;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.base.AtomicFile;
import dev.lanewise.core.base.Failures;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.nn.AdamW;
import dev.lanewise.core.nn.Module;
import dev.lanewise.core.random.TorchGenerator;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.function.Consumer;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * The checkpoints of a run: folders {@code step-N}, each with {@code model.safetensors}, {@code
 * optimizer.safetensors} and {@code state.json}. A folder appears under its name only when it is
 * whole and on disk; {@code state.json} holds the checksums of all, so that a file that was torn or
 * altered later is noticed.
 *
 * <p>Other names in the folder belong to the user. Only what {@link #save} wrote is ever removed,
 * and what stands in the way of a new checkpoint is kept under another name.
 */
public final class Checkpoints {
  private static final String PREFIX = "step-";
  private static final String WRITING = ".writing-";
  private static final String BEST = "best-";
  private static final String REMOVING = ".removing-";

  // Digits of any script: there are runs whose folders were named by a locale's.
  private static final Pattern NUMBERED = Pattern.compile(PREFIX + "(\\p{Nd}{1,18})");

  private final Path folder;

  /**
   * Checkpoints in a folder.
   *
   * @param folder the folder; made by the first {@link #save}
   */
  public Checkpoints(Path folder) {
    this.folder = folder;
  }

  /**
   * What a checkpoint holds beside a {@link TrainState}.
   *
   * @param model its parameters
   * @param backend where they are
   * @param optimizer moments of those that are trained
   * @param generator random numbers; may be null
   * @param dealt moments that lie with several processes; null if they are all here
   */
  public record Contents(
      Module model,
      Backend backend,
      AdamW optimizer,
      TorchGenerator generator,
      DealtMoments dealt) {
    /** What one process has all of. */
    public Contents(Module model, Backend backend, AdamW optimizer, TorchGenerator generator) {
      this(model, backend, optimizer, generator, null);
    }
  }

  /**
   * A whole checkpoint on disk.
   *
   * @param path its folder
   * @param state where the run stood
   */
  public record Checkpoint(Path path, TrainState state) {
    /** Number of updates that it holds. */
    public long step() {
      return state.step();
    }

    /**
     * Reads the model's parameters alone.
     *
     * @throws InputException if one is missing or has another shape, before anything is overwritten
     */
    public void restore(Module model) {
      CheckpointFiles.restore(path, model);
    }

    /**
     * Reads everything.
     *
     * @throws InputException if a tensor is missing or has another shape, before anything is
     *     overwritten
     */
    public void restore(Contents contents) {
      CheckpointFiles.restore(path, contents);
    }
  }

  // Saving
  // -----------------------------------------------------------------------------------------

  /**
   * Writes the checkpoint of a step. When this returns it is on disk; when it fails nothing has
   * changed.
   *
   * @param contents what it holds
   * @param state where the run stands
   * @return its folder
   * @throws InputException if it cannot be written
   */
  public Path save(Contents contents, TrainState state) {
    return save(contents, state, name(PREFIX, state.step()));
  }

  /**
   * Writes a checkpoint under a name of its own, beside those of steps.
   *
   * @param contents what it holds
   * @param state where the run stands
   * @param name name of its folder; what has it already is kept under another one
   * @return its folder
   * @throws InputException if it cannot be written
   */
  public Path save(Contents contents, TrainState state, String name) {
    Path target = folder.resolve(name);
    Path temporary = folder.resolve(WRITING + name);
    boolean made = false;
    try {
      Files.createDirectories(folder);
      removeLeftovers();
      Files.createDirectory(temporary);
      made = true;
      CheckpointFiles.write(temporary, contents, state);
      setAside(target, "kept-");
      Files.move(temporary, target, StandardCopyOption.ATOMIC_MOVE);
      made = false;
      AtomicFile.forceFolder(folder);
      AtomicFile.forceFolder(folder.toAbsolutePath().getParent());
      return target;
    } catch (IOException | UncheckedIOException | InputException e) {
      throw new InputException(
          String.format(
              Locale.ROOT,
              "The checkpoint %s cannot be written (%s).",
              target,
              Failures.describe(ioCause(e))),
          e);
    } finally {
      if (made) {
        try {
          removeOwn(temporary);
        } catch (IOException e) {
          // The failure on its way to the caller matters more than a folder left behind.
        }
      }
    }
  }

  /**
   * Writes the checkpoint of the smallest validation loss so far, and then removes the one before.
   * A run is never taken up from it unless it is named.
   *
   * @param contents what it holds
   * @param state where the run stands
   * @return its folder
   * @throws InputException if it cannot be written
   */
  public Path saveBest(Contents contents, TrainState state) {
    String name = name(BEST, state.step());
    try {
      // Of a former life of the run, which was taken up from before it.
      Path former = folder.resolve(name);
      if (isOwn(former, BEST)) {
        remove(former);
      }
    } catch (IOException e) {
      // Then it is kept under another name.
    }
    Path made = save(contents, state, name);
    try (DirectoryStream<Path> all = Files.newDirectoryStream(folder, BEST + "*")) {
      for (Path other : all) {
        if (!other.equals(made) && isOwn(other, BEST)) {
          remove(other);
        }
      }
    } catch (IOException e) {
      throw new InputException(
          String.format(
              Locale.ROOT,
              "A former best checkpoint in %s cannot be removed (%s).",
              folder,
              Failures.describe(e)),
          e);
    }
    return made;
  }

  private void remove(Path own) throws IOException {
    Path leaving = folder.resolve(REMOVING + own.getFileName());
    Files.move(own, leaving, StandardCopyOption.ATOMIC_MOVE);
    removeOwn(leaving);
  }

  private static IOException ioCause(Exception e) {
    Throwable cause = e;
    while (!(cause instanceof IOException) && cause.getCause() != null) {
      cause = cause.getCause();
    }
    return cause instanceof IOException io ? io : new IOException(e.getMessage(), e);
  }

  /**
   * Overwrites where the run stands in a checkpoint, when something but the parameters has changed.
   *
   * @param checkpoint folder of a checkpoint
   * @param state the new state, of the same step
   * @throws InputException if it cannot be written; the old state then stays
   */
  public void rewriteState(Path checkpoint, TrainState state) {
    AtomicFile.removeLeftovers(checkpoint, CheckpointFiles.ALL);
    CheckpointFiles.rewriteState(checkpoint, state);
  }

  /**
   * Removes the older ones of the checkpoints that {@link #save} wrote for steps.
   *
   * @param newest how many to keep
   * @throws InputException if one cannot be removed
   */
  public void keep(int newest) {
    try {
      List<Path> own = new ArrayList<>();
      for (Path candidate : numbered()) {
        if (isOwn(candidate, PREFIX)) {
          own.add(candidate);
        }
      }
      for (Path old : own.subList(Math.min(newest, own.size()), own.size())) {
        remove(old);
      }
    } catch (IOException e) {
      throw new InputException(
          String.format(
              Locale.ROOT,
              "Old checkpoints in %s cannot be removed (%s).",
              folder,
              Failures.describe(e)),
          e);
    }
  }

  /** Whether a folder is a checkpoint under the name that it was given, with nothing added. */
  private static boolean isOwn(Path path, String prefix) throws IOException {
    try {
      return Files.isDirectory(path, LinkOption.NOFOLLOW_LINKS)
          && path.getFileName()
              .toString()
              .equals(name(prefix, CheckpointFiles.readState(path).step()))
          && holdsOwnFiles(path);
    } catch (InputException e) {
      return false;
    }
  }

  private static boolean holdsOwnFiles(Path path) throws IOException {
    try (DirectoryStream<Path> files = Files.newDirectoryStream(path)) {
      for (Path file : files) {
        String name = file.getFileName().toString();
        boolean own =
            CheckpointFiles.ALL.stream()
                .anyMatch(known -> name.equals(known) || AtomicFile.isLeftover(file, known));
        if (!own) {
          return false;
        }
      }
    }
    return true;
  }

  /** Removes what a process that was killed left while it wrote or removed a checkpoint. */
  private void removeLeftovers() throws IOException {
    try (DirectoryStream<Path> entries = Files.newDirectoryStream(folder, ".*")) {
      for (Path entry : entries) {
        String name = entry.getFileName().toString();
        if (name.startsWith(WRITING) || name.startsWith(REMOVING)) {
          removeOwn(entry);
        }
      }
    }
  }

  /** Removes a checkpoint's files and its folder, unless there is something else in it. */
  private static void removeOwn(Path path) throws IOException {
    if (!Files.isDirectory(path, LinkOption.NOFOLLOW_LINKS) || !holdsOwnFiles(path)) {
      return;
    }
    List<Path> files = new ArrayList<>();
    try (DirectoryStream<Path> entries = Files.newDirectoryStream(path)) {
      entries.forEach(files::add);
    }
    for (Path file : files) {
      Files.delete(file);
    }
    Files.delete(path);
  }

  /** Gives what has a name another one. */
  private Path setAside(Path path, String prefix) throws IOException {
    if (!Files.exists(path, LinkOption.NOFOLLOW_LINKS)) {
      return path;
    }
    Path free = folder.resolve(prefix + path.getFileName());
    for (int i = 2; Files.exists(free, LinkOption.NOFOLLOW_LINKS); i++) {
      free = folder.resolve(prefix + path.getFileName() + "-" + i);
    }
    Files.move(path, free, StandardCopyOption.ATOMIC_MOVE);
    return free;
  }

  // Finding
  // ----------------------------------------------------------------------------------------

  private static String name(String prefix, long step) {
    return prefix + String.format(Locale.ROOT, "%08d", step);
  }

  /** The step in a folder's name; -1 if there is none. */
  static long number(Path path) {
    Matcher matcher = NUMBERED.matcher(path.getFileName().toString());
    return matcher.matches() ? Long.parseLong(matcher.group(1)) : -1;
  }

  /** All folders that are named after a step, newest first. */
  private List<Path> numbered() throws IOException {
    List<Path> found = new ArrayList<>();
    if (Files.isDirectory(folder)) {
      try (DirectoryStream<Path> entries = Files.newDirectoryStream(folder, PREFIX + "*")) {
        for (Path entry : entries) {
          if (number(entry) >= 0 && Files.isDirectory(entry)) {
            found.add(entry);
          }
        }
      }
    }
    found.sort(Comparator.comparingLong(Checkpoints::number).thenComparing(Path::getFileName));
    return found.reversed();
  }

  /**
   * The newest checkpoint that is whole.
   *
   * @param warnings hears of each newer one that is not, in a sentence
   */
  public Optional<Checkpoint> newest(Consumer<String> warnings) {
    for (Path candidate : candidates()) {
      try {
        return Optional.of(open(candidate));
      } catch (InputException e) {
        warnings.accept(e.getMessage() + " It is skipped.");
      }
    }
    return Optional.empty();
  }

  /** What {@link #resume} does with a checkpoint. */
  @FunctionalInterface
  interface Restorer {
    /**
     * Takes up a run.
     *
     * @throws InputException if the checkpoint is not one of this run; nothing has changed then
     */
    void restore(Checkpoint checkpoint);
  }

  /**
   * Takes up a run from the newest checkpoint that is whole. Newer ones that are not are kept under
   * another name.
   *
   * @param restorer takes it up
   * @param warnings hears of those that are not, in a sentence
   * @return what was taken up; nothing if there is no checkpoint at all
   * @throws InputException if there are checkpoints, but none is whole
   */
  Optional<Checkpoint> resume(Restorer restorer, Consumer<String> warnings) {
    List<Path> candidates = candidates();
    List<Path> bad = new ArrayList<>();
    List<String> reasons = new ArrayList<>();
    for (Path candidate : candidates) {
      Checkpoint checkpoint;
      try {
        checkpoint = open(candidate);
        restorer.restore(checkpoint);
      } catch (InputException e) {
        bad.add(candidate);
        reasons.add(e.getMessage());
        continue;
      }
      for (int i = 0; i < bad.size(); i++) {
        warnings.accept(reasons.get(i) + " " + keepAside(bad.get(i), checkpoint.step()));
      }
      return Optional.of(checkpoint);
    }
    if (candidates.isEmpty()) {
      return Optional.empty();
    }
    throw new InputException(
        String.format(
            Locale.ROOT,
            "None of the %d checkpoints in %s can be used, so the run does not go on. %s Restore"
                + " one, or begin a run with another --out.",
            candidates.size(),
            folder,
            String.join(" ", reasons)));
  }

  private String keepAside(Path damaged, long step) {
    try {
      return String.format(
          Locale.ROOT,
          "It is kept as %s, and the run goes on from step %d.",
          setAside(damaged, "damaged-").getFileName(),
          step);
    } catch (IOException e) {
      return String.format(
          Locale.ROOT,
          "It could not be renamed (%s); the run goes on from step %d.",
          Failures.describe(e),
          step);
    }
  }

  /** Whether there is a checkpoint, whole or not. */
  boolean any() {
    return !candidates().isEmpty();
  }

  private List<Path> candidates() {
    try {
      return numbered();
    } catch (IOException e) {
      throw new InputException(
          String.format(
              Locale.ROOT, "The folder %s cannot be read (%s).", folder, Failures.describe(e)),
          e);
    }
  }

  /**
   * Opens one checkpoint and checks that it is whole.
   *
   * @param path its folder
   * @throws InputException if a file is missing, torn or altered, or makes no sense
   */
  public static Checkpoint open(Path path) {
    TrainState state = CheckpointFiles.readState(path);
    CheckpointFiles.checkTensors(path);
    return new Checkpoint(path, state);
  }
}
