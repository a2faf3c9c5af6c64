package dev.lanewise.core.report;

import dev.lanewise.core.base.AtomicFile;
import dev.lanewise.core.base.Failures;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.Json;
import java.io.BufferedReader;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.TreeMap;

/**
 * A run's metrics as a table for spreadsheets and data frames (RFC 4180): a line for each step,
 * with the validation after it if there was one. Numbers are written as {@code metrics.jsonl} has
 * them, in full; what is not there is left empty.
 */
public final class MetricsCsv {
  private static final List<String> STEP =
      List.of("loss", "lr", "gradNorm", "tokensPerSecond", "seconds", "skipped", "compiling");
  private static final List<String> VALIDATION = List.of("valLoss", "tokens", "whole");

  private MetricsCsv() {}

  /**
   * Writes the table.
   *
   * @param metrics a run's {@code metrics.jsonl}
   * @param csv the file to make or replace
   * @throws InputException if one cannot be read or the other not be written
   */
  public static void write(Path metrics, Path csv) {
    StringBuilder text = new StringBuilder("step");
    STEP.forEach(name -> text.append(',').append(name));
    text.append(",valLoss,valTokens,valWhole\n");
    for (Map.Entry<Long, String[]> line : lines(metrics).entrySet()) {
      text.append(line.getKey());
      for (String cell : line.getValue()) {
        text.append(',').append(Objects.requireNonNullElse(cell, ""));
      }
      text.append('\n');
    }
    AtomicFile.writeText(csv, text.toString());
  }

  private static Map<Long, String[]> lines(Path metrics) {
    Map<Long, String[]> lines = new TreeMap<>();
    try (BufferedReader in = Files.newBufferedReader(metrics)) {
      int number = 0;
      for (String line = in.readLine(); line != null; line = in.readLine()) {
        number++;
        if (line.endsWith("}")) {
          add(
              Json.parseObject(line, String.format(Locale.ROOT, "%s, line %d", metrics, number)),
              lines);
        }
      }
    } catch (IOException e) {
      throw new InputException(metrics + " cannot be read: " + Failures.describe(e), e);
    }
    return lines;
  }

  private static void add(Map<String, Object> row, Map<Long, String[]> lines) {
    if (!(row.get("step") instanceof Long step)) {
      return;
    }
    String[] cells = lines.computeIfAbsent(step, s -> new String[STEP.size() + VALIDATION.size()]);
    if (row.containsKey("loss")) {
      for (int i = 0; i < STEP.size(); i++) {
        cells[i] = text(row.get(STEP.get(i)));
      }
    }
    if (row.containsKey("valLoss")) {
      for (int i = 0; i < VALIDATION.size(); i++) {
        cells[STEP.size() + i] = text(row.get(VALIDATION.get(i)));
      }
    }
  }

  private static String text(Object value) {
    return value == null ? null : value.toString();
  }
}
