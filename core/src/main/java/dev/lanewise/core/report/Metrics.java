package dev.lanewise.core.report;

import dev.lanewise.core.base.Failures;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.Json;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.function.ToDoubleFunction;

/**
 * The numbers of a run, as its {@code metrics.jsonl} holds them: one JSON object a line.
 *
 * @param steps training steps in order
 * @param validations validations in order
 * @param wallSeconds time from the start of the run to its last row, less the pauses between two
 *     lives of it; NaN if the file does not tell
 * @param lastTime when the last row was written, in seconds since 1970; NaN likewise
 */
public record Metrics(
    List<Step> steps, List<Validation> validations, double wallSeconds, double lastTime) {
  /**
   * One training step; a number that is not there is NaN.
   *
   * @param step its number
   * @param loss training loss in nats
   * @param lr learning rate
   * @param gradNorm norm of the gradient before clipping
   * @param tokensPerSecond speed
   * @param seconds time spent in steps since the run began
   * @param compiling whether the JVM was still compiling, so that the speed is not what it became
   */
  public record Step(
      long step,
      double loss,
      double lr,
      double gradNorm,
      double tokensPerSecond,
      double seconds,
      boolean compiling) {}

  /**
   * One validation.
   *
   * @param step number of steps before it
   * @param loss validation loss in nats
   */
  public record Validation(long step, double loss) {}

  /** Copies the lists. */
  public Metrics {
    steps = List.copyOf(steps);
    validations = List.copyOf(validations);
  }

  /** Metrics without times of day. */
  public Metrics(List<Step> steps, List<Validation> validations) {
    this(steps, validations, Double.NaN, Double.NaN);
  }

  /**
   * Reads a run's metrics. Where the steps go back, as after a run was resumed from an older
   * checkpoint, the later rows count. A last line that was cut off is left out.
   *
   * @param file {@code metrics.jsonl}
   * @return the metrics
   * @throws InputException if the file is missing or damaged
   */
  public static Metrics read(Path file) {
    String text;
    try {
      text = new String(Files.readAllBytes(file), StandardCharsets.UTF_8);
    } catch (NoSuchFileException e) {
      throw new InputException("There is no file " + file + " with a run's metrics.", e);
    } catch (IOException e) {
      throw new InputException(file + " cannot be read: " + Failures.describe(e), e);
    }
    List<Step> steps = new ArrayList<>();
    List<Validation> validations = new ArrayList<>();
    Clock clock = new Clock();
    int number = 0;
    for (int start = 0; start < text.length(); ) {
      int end = text.indexOf('\n', start);
      String line = text.substring(start, end < 0 ? text.length() : end);
      start = end < 0 ? text.length() : end + 1;
      number++;
      if (!line.isBlank()) {
        try {
          Map<String, Object> row = Json.parseObject(line, file + " line " + number);
          add(row, steps, validations);
          clock.add(number(row, "started"), number(row, "time"));
        } catch (InputException e) {
          if (end >= 0) {
            throw e;
          }
        }
      }
    }
    return new Metrics(steps, validations, clock.wall + clock.life, clock.last);
  }

  /** Adds up the lives of a run, each from its start to its last row. */
  private static final class Clock {
    double wall;
    double life = Double.NaN;
    double started = Double.NaN;
    double last = Double.NaN;

    void add(double begin, double time) {
      if (!Double.isNaN(begin)) {
        wall += Double.isNaN(life) ? 0 : life;
        started = begin;
      }
      if (!Double.isNaN(time)) {
        last = time;
        life = Math.max(0, time - started);
      }
    }
  }

  private static void add(Map<String, Object> row, List<Step> steps, List<Validation> validations) {
    long step = (long) number(row, "step");
    if (row.containsKey("valLoss")) {
      while (!validations.isEmpty() && validations.getLast().step >= step) {
        validations.removeLast();
      }
      validations.add(new Validation(step, number(row, "valLoss")));
    }
    if (row.containsKey("loss")) {
      while (!steps.isEmpty() && steps.getLast().step >= step) {
        steps.removeLast();
      }
      while (!validations.isEmpty() && validations.getLast().step > step) {
        validations.removeLast();
      }
      steps.add(
          new Step(
              step,
              number(row, "loss"),
              number(row, "lr"),
              number(row, "gradNorm"),
              number(row, "tokensPerSecond"),
              number(row, "seconds"),
              Boolean.TRUE.equals(row.get("compiling"))));
    }
  }

  private static double number(Map<String, Object> row, String key) {
    return row.get(key) instanceof Number number ? number.doubleValue() : Double.NaN;
  }

  /** One number of every step. */
  double[] column(ToDoubleFunction<Step> column) {
    return steps.stream().mapToDouble(column).toArray();
  }
}
