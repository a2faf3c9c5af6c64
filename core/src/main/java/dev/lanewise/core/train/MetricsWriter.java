package dev.lanewise.core.train;

import dev.lanewise.core.base.AtomicFile;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.Json;
import dev.lanewise.core.base.RecordFile;
import dev.lanewise.core.machine.Compiling;
import java.io.BufferedInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Locale;
import java.util.Map;
import java.util.function.Consumer;

/**
 * Writes {@code metrics.jsonl}: a row {@code step, loss, lr, gradNorm, tokensPerSecond, seconds,
 * time} for each step, and a row {@code step, valLoss, whole, tokens, time} for each validation.
 * Numbers that are not finite are null. A step while the JVM still compiled says so ({@code
 * compiling}), the first row of each life of a run when that began ({@code started}, as {@code
 * time} in seconds since 1970).
 *
 * <p>Rows are whole, in the order of steps, and once each, however often the run was killed: those
 * that belong to a checkpoint are on disk before it, and those that came after it are dropped when
 * the run is taken up there.
 */
final class MetricsWriter implements TrainListener, AutoCloseable {
  private static final long FLUSH_NANOS = 1_000_000_000L;

  private final RecordFile file;
  private final StringBuilder row = new StringBuilder(200);
  private final Compiling compiling = Compiling.ofThisProcess();
  private final long started = System.currentTimeMillis();
  private boolean saysStarted;
  private long lastFlush = System.nanoTime();

  /**
   * Opens a run's metrics.
   *
   * @param path the file
   * @param state where the run stands; later rows are dropped
   * @param warnings hears of rows that cannot be read
   * @throws IOException if it cannot be read or written
   */
  MetricsWriter(Path path, TrainState state, Consumer<String> warnings) throws IOException {
    file = new RecordFile(path, Files.exists(path) ? clean(path, state, warnings) : 0);
  }

  /** Leaves the rows that belong to a state at the start of the file, and tells where they end. */
  private static long clean(Path path, TrainState state, Consumer<String> warnings)
      throws IOException {
    ByteArrayOutputStream line = new ByteArrayOutputStream();
    long at = 0;
    long end = 0;
    int others = 0;
    int othersBeforeEnd = 0;
    try (InputStream in = new BufferedInputStream(Files.newInputStream(path))) {
      while (readLine(in, line)) {
        at += line.size();
        if (belongs(line, state)) {
          end = at;
          othersBeforeEnd = others;
        } else {
          others++;
        }
      }
    }
    if (othersBeforeEnd > 0) {
      end = rewrite(path, state, othersBeforeEnd, warnings);
    }
    return end;
  }

  private static long rewrite(Path path, TrainState state, int others, Consumer<String> warnings)
      throws IOException {
    Path kept = path.resolveSibling("metrics-damaged.jsonl");
    for (int i = 2; Files.exists(kept); i++) {
      kept = path.resolveSibling("metrics-damaged-" + i + ".jsonl");
    }
    Files.copy(path, kept);
    AtomicFile.write(
        path,
        channel -> {
          ByteArrayOutputStream line = new ByteArrayOutputStream();
          try (InputStream in = new BufferedInputStream(Files.newInputStream(path))) {
            while (readLine(in, line)) {
              if (belongs(line, state)) {
                ByteBuffer bytes = ByteBuffer.wrap(line.toByteArray());
                while (bytes.hasRemaining()) {
                  channel.write(bytes);
                }
              }
            }
          }
        });
    warnings.accept(
        String.format(
            Locale.ROOT,
            "%d lines in %s are no rows of this run; it goes on without them, and is kept as %s.",
            others,
            path,
            kept.getFileName()));
    return Files.size(path);
  }

  /** Reads up to a line's end, and that too. */
  private static boolean readLine(InputStream in, ByteArrayOutputStream line) throws IOException {
    line.reset();
    int next;
    do {
      next = in.read();
      if (next >= 0) {
        line.write(next);
      }
    } while (next >= 0 && next != '\n');
    return line.size() > 0;
  }

  private static boolean belongs(ByteArrayOutputStream line, TrainState state) {
    String text = line.toString(StandardCharsets.UTF_8);
    if (!text.endsWith("\n")) {
      return false;
    }
    try {
      Map<String, Object> fields = Json.parseObject(text, "a row");
      return fields.get("step") instanceof Long step
          && step <= (fields.containsKey("valLoss") ? state.validatedAt() : state.step());
    } catch (InputException e) {
      return false;
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
    row.setLength(0);
    row.append("{\"step\":").append(step);
    number("loss", loss);
    number("lr", learningRate);
    number("gradNorm", gradientNorm);
    number("tokensPerSecond", Math.rint(tokensPerSecond * 10) / 10);
    number("seconds", Math.rint(seconds * 1e4) / 1e4);
    if (skipped) {
      row.append(",\"skipped\":true");
    }
    if (compiling.goesOn()) {
      row.append(",\"compiling\":true");
    }
    end();
  }

  @Override
  public void validation(Validation validation) {
    row.setLength(0);
    row.append("{\"step\":").append(validation.step());
    number("valLoss", validation.loss());
    row.append(",\"whole\":").append(validation.whole());
    row.append(",\"tokens\":").append(validation.tokens());
    end();
    flush();
  }

  private void number(String name, double value) {
    row.append(",\"").append(name).append("\":");
    if (Double.isFinite(value)) {
      // The loss is a float; its shortest form says all there is.
      if (value == (float) value) {
        row.append((float) value);
      } else {
        row.append(value);
      }
    } else {
      row.append("null");
    }
  }

  private void time(String name, long millis) {
    long fraction = millis % 1000;
    row.append(",\"").append(name).append("\":").append(millis / 1000);
    row.append(fraction < 10 ? ".00" : fraction < 100 ? ".0" : ".").append(fraction);
  }

  private void end() {
    if (!saysStarted) {
      time("started", started);
      saysStarted = true;
    }
    time("time", System.currentTimeMillis());
    row.append("}\n");
    file.append(row);
    if (System.nanoTime() - lastFlush > FLUSH_NANOS) {
      flush();
    }
  }

  /**
   * Hands everything to the system.
   *
   * @throws UncheckedIOException if that fails; the rows wait for the next time
   */
  void flush() {
    lastFlush = System.nanoTime();
    try {
      file.flush();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /**
   * Writes everything to the disk itself.
   *
   * @throws UncheckedIOException if that fails; the rows wait for the next time
   */
  void force() {
    try {
      file.force();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  @Override
  public void close() {
    try (file) {
      file.flush();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
