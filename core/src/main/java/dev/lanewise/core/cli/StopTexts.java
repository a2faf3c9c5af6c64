package dev.lanewise.core.cli;

import java.util.List;

/**
 * Ends a text where one of some texts begins, however it comes in pieces. What may be the start of
 * one is held back until it is known.
 *
 * <p>The first that is complete counts; of several that are complete with the same character, the
 * longest.
 */
final class StopTexts {
  private final List<String> stops;
  private final StringBuilder held = new StringBuilder();
  private boolean met;

  /**
   * A filter at the start of a text.
   *
   * @param stops where to end, none of them empty
   */
  StopTexts(List<String> stops) {
    this.stops = List.copyOf(stops);
  }

  /**
   * Takes a piece of the text.
   *
   * @return what may be shown now
   */
  String next(String piece) {
    StringBuilder shown = new StringBuilder();
    for (int i = 0; i < piece.length() && !met; i++) {
      held.append(piece.charAt(i));
      int stop = 0;
      int beginning = 0;
      for (String text : stops) {
        if (endsWith(text, text.length())) {
          stop = Math.max(stop, text.length());
        }
        int length = Math.min(held.length(), text.length() - 1);
        while (length > beginning && !endsWith(text, length)) {
          length--;
        }
        beginning = Math.max(beginning, length);
      }
      met = stop > 0;
      int free = held.length() - (met ? stop : beginning);
      shown.append(held, 0, free);
      held.delete(0, met ? held.length() : free);
    }
    return shown.toString();
  }

  /** Whether what is held ends with the first characters of a text. */
  private boolean endsWith(String text, int length) {
    int start = held.length() - length;
    for (int i = 0; i < length; i++) {
      if (start < 0 || held.charAt(start + i) != text.charAt(i)) {
        return false;
      }
    }
    return true;
  }

  /** Whether the text has come to an end. */
  boolean met() {
    return met;
  }

  /** Ends the text; gives what was held back. */
  String finish() {
    String rest = held.toString();
    held.setLength(0);
    return rest;
  }
}
