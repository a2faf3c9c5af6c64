package dev.lanewise.core.train;

import dev.lanewise.core.machine.Compiling;
import dev.lanewise.core.report.EventFile;
import dev.lanewise.core.report.EventFile.Tag;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;

/**
 * Writes a run's numbers and samples for TensorBoard: a file for each life of the run. Steps are
 * there once each, however often the run was killed: those that belong to a checkpoint are on disk
 * before it, and those that came after it are cut off when the run is taken up there.
 */
final class TensorBoardWriter implements TrainListener, AutoCloseable {
  private static final Tag LOSS = new Tag("loss/train");
  private static final Tag VALIDATION = new Tag("loss/validation");
  private static final Tag RATE = new Tag("learning_rate");
  private static final Tag NORM = new Tag("gradient_norm");
  private static final Tag SPEED = new Tag("tokens_per_second");
  private static final Tag SAMPLE = new Tag("sample");

  private static final Pattern OURS =
      Pattern.compile(Pattern.quote(EventFile.NAME) + "(\\d{10,18})\\.lanewise\\.\\d+");
  private static final long FLUSH_NANOS = 1_000_000_000L;

  private final Compiling compiling = Compiling.ofThisProcess();
  private final EventFile file;
  private long lastFlush = System.nanoTime();

  /**
   * Begins the file of a life of a run.
   *
   * @param folder where the files are
   * @param state where the run stands; what earlier files say of later steps is cut off
   * @throws IOException if it cannot be read or written
   */
  TensorBoardWriter(Path folder, TrainState state) throws IOException {
    Files.createDirectories(folder);
    long seconds = System.currentTimeMillis() / 1000;
    List<Path> before = files(folder);
    for (Path earlier : before) {
      EventFile.cut(earlier, (step, tag) -> belongs(step, tag, state));
      // Files are read in the order of their names, whatever the clock says.
      seconds = Math.max(seconds, seconds(earlier));
    }
    String name =
        String.format(
            Locale.ROOT, "%s%010d.lanewise.%05d", EventFile.NAME, seconds, before.size() + 1);
    file = new EventFile(folder.resolve(name), state.step() + 1);
  }

  private static boolean belongs(long step, String tag, TrainState state) {
    // The first events of a file, without a tag, tell where a life of the run began.
    long last = state.step() + (tag.isEmpty() ? 1 : 0);
    return step <= (tag.equals(VALIDATION.toString()) ? state.validatedAt() : last);
  }

  private static long seconds(Path file) {
    Matcher name = OURS.matcher(file.getFileName().toString());
    return name.matches() ? Long.parseLong(name.group(1)) : 0;
  }

  /** The files that runs wrote into a folder, the oldest first; none without the folder. */
  static List<Path> files(Path folder) throws IOException {
    if (!Files.isDirectory(folder)) {
      return List.of();
    }
    try (Stream<Path> all = Files.list(folder)) {
      return all.filter(path -> OURS.matcher(path.getFileName().toString()).matches())
          .sorted()
          .toList();
    }
  }

  @Override
  public void step(
      long step,
      double loss,
      double learningRate,
      double gradientNorm,
      double tokensPerSecond,
      double seconds,
      boolean skipped) {
    file.step(step).scalar(LOSS, loss).scalar(RATE, learningRate).scalar(NORM, gradientNorm);
    if (!compiling.goesOn()) {
      file.scalar(SPEED, tokensPerSecond);
    }
    file.write();
    if (System.nanoTime() - lastFlush > FLUSH_NANOS) {
      flush();
    }
  }

  @Override
  public void validation(Validation validation) {
    file.step(validation.step()).scalar(VALIDATION, validation.loss()).write();
    flush();
  }

  @Override
  public void sample(long step, String text) {
    file.text(step, SAMPLE, text);
    flush();
  }

  @Override
  public void saving(long step) {
    try {
      file.force();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  private void flush() {
    lastFlush = System.nanoTime();
    try {
      file.flush();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  @Override
  public void close() throws IOException {
    file.close();
  }
}
