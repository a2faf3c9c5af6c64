package dev.lanewise.core.train;

import dev.lanewise.core.base.RecordFile;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * {@code samples.txt}: for each sample a line {@code ── step N ──}, the text, and an empty line. A
 * line of the text that looks like such a line begins with a space.
 */
public final class SampleLog implements AutoCloseable {
  private static final Pattern TITLE = Pattern.compile("(?m)^── step (\\d{1,18}) ──\\R");
  private static final Pattern LIKE_TITLE = Pattern.compile("(?m)^──");

  private final RecordFile file;
  private final List<Entry> entries = new ArrayList<>();
  private long lastStart;

  /**
   * One sample.
   *
   * @param step number of updates before it
   * @param text prompt and continuation
   */
  public record Entry(long step, String text) {
    private String record() {
      return String.format(
          Locale.ROOT, "── step %d ──\n%s\n\n", step, LIKE_TITLE.matcher(text).replaceAll(" ──"));
    }
  }

  /**
   * Opens a run's samples.
   *
   * @param path the file
   * @param step samples of later steps, of an earlier life of the run, are dropped
   * @throws IOException if it cannot be read or written
   */
  SampleLog(Path path, long step) throws IOException {
    long end = 0;
    if (Files.exists(path)) {
      for (Place place : places(path)) {
        if (place.entry.step > step) {
          break;
        }
        entries.add(place.entry);
        lastStart = place.from;
        end = place.to;
      }
    }
    file = new RecordFile(path, end);
  }

  /** An entry and the bytes that it takes. */
  private record Place(Entry entry, long from, long to) {}

  private static List<Place> places(Path path) throws IOException {
    String text = new String(Files.readAllBytes(path), StandardCharsets.UTF_8);
    List<Place> places = new ArrayList<>();
    Matcher title = TITLE.matcher(text);
    boolean found = title.find();
    long at = 0;
    while (found) {
      long step = Long.parseLong(title.group(1));
      int start = title.start();
      int body = title.end();
      found = title.find();
      int end = found ? title.start() : text.length();
      long bytes = text.substring(start, end).getBytes(StandardCharsets.UTF_8).length;
      places.add(new Place(new Entry(step, body(text.substring(body, end))), at, at + bytes));
      at += bytes;
    }
    return places;
  }

  private static String body(String text) {
    int end = text.length();
    for (int i = 0; i < 2 && text.startsWith(System.lineSeparator(), end - 1); i++) {
      end--;
    }
    return text.substring(0, end);
  }

  /**
   * The samples in a file.
   *
   * @param path {@code samples.txt}
   * @throws IOException if it cannot be read
   */
  public static List<Entry> read(Path path) throws IOException {
    return places(path).stream().map(Place::entry).toList();
  }

  /** The samples so far. */
  List<Entry> entries() {
    return entries;
  }

  /** Adds a sample, in place of one of the same step that it begins with. */
  void add(long step, String text) throws IOException {
    Entry last = entries.isEmpty() ? null : entries.getLast();
    if (last != null && last.step == step && text.startsWith(last.text)) {
      file.truncate(lastStart);
      entries.removeLast();
    }
    long start = file.end();
    Entry entry = new Entry(step, text);
    file.append(entry.record());
    try {
      file.flush();
    } finally {
      file.discard();
    }
    entries.add(entry);
    lastStart = start;
  }

  /** Writes the samples to the disk itself. */
  void force() throws IOException {
    file.force();
  }

  @Override
  public void close() throws IOException {
    file.close();
  }
}
