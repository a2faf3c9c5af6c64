package dev.lanewise.core.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;

class StopTextsTest {
  /** Ends a whole text by looking at all of it: the earliest end, then the earliest start. */
  private static String cut(String text, List<String> stops) {
    for (int end = 1; end <= text.length(); end++) {
      int longest = 0;
      for (String stop : stops) {
        if (text.substring(0, end).endsWith(stop)) {
          longest = Math.max(longest, stop.length());
        }
      }
      if (longest > 0) {
        return text.substring(0, end - longest);
      }
    }
    return text;
  }

  private static String inPieces(String text, List<String> stops, Random random) {
    StopTexts filter = new StopTexts(stops);
    StringBuilder shown = new StringBuilder();
    int at = 0;
    while (at < text.length() && !filter.met()) {
      int next = Math.min(text.length(), at + random.nextInt(4));
      shown.append(filter.next(text.substring(at, next)));
      at = next;
    }
    return shown.append(filter.finish()).toString();
  }

  @Test
  void theTextEndsWhereAStopBeginsHoweverItIsCut() {
    Random random = new Random(7);
    for (int i = 0; i < 20_000; i++) {
      String text = letters(random, random.nextInt(20));
      List<String> stops = new ArrayList<>();
      for (int s = random.nextInt(3); s >= 0; s--) {
        stops.add(letters(random, 1 + random.nextInt(5)));
      }
      assertEquals(cut(text, stops), inPieces(text, stops, random), text + " " + stops);
    }
  }

  private static String letters(Random random, int length) {
    StringBuilder text = new StringBuilder();
    for (int i = 0; i < length; i++) {
      text.append((char) ('a' + random.nextInt(2)));
    }
    return text.toString();
  }

  @Test
  void nothingIsHeldBackThatCannotBecomeAStop() {
    StopTexts filter = new StopTexts(List.of("\n\nUser:"));
    assertEquals("Hello", filter.next("Hello"));
    assertEquals("", filter.next("\n"));
    assertEquals("\nA", filter.next("A"));
    assertEquals("", filter.next("\n\nUs"));
    assertEquals("\n\nUs", filter.finish());
  }
}
