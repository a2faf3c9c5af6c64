package dev.lanewise.core.train;

import dev.lanewise.core.base.Failures;
import dev.lanewise.core.base.InputException;
import java.io.BufferedWriter;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Locale;

/**
 * Writes {@code metrics.jsonl}: a row {@code step, loss, lr, gradNorm, tokensPerSecond, seconds}
 * for each step, and a row {@code step, valLoss, whole} for each validation. Numbers that are not
 * finite are null.
 */
public final class MetricsWriter implements TrainListener, AutoCloseable {
  private final Path file;
  private final BufferedWriter writer;
  private final StringBuilder row = new StringBuilder(200);
  private long lastFlush = System.nanoTime();

  /**
   * Appends to a file.
   *
   * @param run whose metrics they are
   * @param step rows of later steps, of an earlier life of the run, are dropped
   */
  public MetricsWriter(RunFolder run, long step) {
    run.dropMetricsAfter(step);
    file = run.metricsFile();
    try {
      writer = Files.newBufferedWriter(file, StandardOpenOption.CREATE, StandardOpenOption.APPEND);
    } catch (IOException e) {
      throw failed(e);
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
    end();
  }

  @Override
  public void validation(long step, double loss, boolean whole) {
    row.setLength(0);
    row.append("{\"step\":").append(step);
    number("valLoss", loss);
    row.append(",\"whole\":").append(whole);
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

  private void end() {
    row.append("}\n");
    try {
      writer.append(row);
    } catch (IOException e) {
      throw failed(e);
    }
    long now = System.nanoTime();
    if (now - lastFlush > 1_000_000_000L) {
      flush();
      lastFlush = now;
    }
  }

  /** Hands everything to the system. */
  public void flush() {
    try {
      writer.flush();
    } catch (IOException e) {
      throw failed(e);
    }
  }

  private InputException failed(IOException e) {
    return new InputException(
        String.format(
            Locale.ROOT,
            "%s cannot be written (%s); free some space and --resume.",
            file,
            Failures.describe(e)),
        e);
  }

  @Override
  public void close() {
    try {
      writer.close();
    } catch (IOException e) {
      throw failed(e);
    }
  }
}
