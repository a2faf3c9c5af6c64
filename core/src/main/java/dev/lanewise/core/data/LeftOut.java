package dev.lanewise.core.data;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/** Members of folders and archives that are no part of a corpus, counted by the reason. */
final class LeftOut {
  static final String EMPTY = "empty";
  static final String BINARY = "binary";
  static final String NOT_UTF8 = "not UTF-8";
  static final String SAME_FILE = "the same file under another name";
  static final String BROKEN_LINK = "links to nothing";
  static final String LOOP = "links into themselves";
  static final String NO_FILE = "no regular files";
  static final String BOMB = "compressed more than " + Corpus.MOST_COMPRESSION + "-fold";
  static final String UNNAMED = "without a usable name";

  private final Map<String, Reason> reasons = new LinkedHashMap<>();

  private static final class Reason {
    long count;
    String first;
  }

  void add(String reason, String name) {
    add(reason, 1, name);
  }

  private void add(String reason, long count, String first) {
    Reason known = reasons.computeIfAbsent(reason, key -> new Reason());
    if (known.count == 0) {
      known.first = first;
    }
    known.count += count;
  }

  void addAll(LeftOut other) {
    other.reasons.forEach((reason, known) -> add(reason, known.count, known.first));
  }

  long count() {
    return reasons.values().stream().mapToLong(reason -> reason.count).sum();
  }

  /** The reasons with their counts, and the first member of each. */
  List<String> sentences() {
    List<String> parts = new ArrayList<>();
    reasons.forEach(
        (reason, known) ->
            parts.add(
                known.count == 1
                    ? String.format(Locale.ROOT, "1 %s (%s)", reason, known.first)
                    : String.format(
                        Locale.ROOT, "%,d %s (first %s)", known.count, reason, known.first)));
    return parts;
  }
}
