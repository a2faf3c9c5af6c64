package dev.lanewise.core.report;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.Charset;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.Test;

class TerminalProgressTest {
  private static final long SECOND = 1_000_000_000L;

  private final ByteArrayOutputStream bytes = new ByteArrayOutputStream();
  private final AtomicLong now = new AtomicLong();

  private TerminalProgress progress(
      boolean terminal, Map<String, String> environment, Charset charset) {
    return TerminalProgress.of(
        new PrintStream(bytes, true, charset), terminal, environment, now::get);
  }

  private String written() {
    return bytes.toString(StandardCharsets.UTF_8).replace(System.lineSeparator(), "\n");
  }

  @Test
  void withoutATerminalALineComesNowAndThen() {
    try (TerminalProgress progress = progress(false, Map.of(), StandardCharsets.UTF_8)) {
      progress.begin("training", 0, 100);
      for (int step = 1; step <= 100; step++) {
        now.addAndGet(SECOND / 2);
        int shown = step;
        progress.update(step, () -> "loss " + shown);
      }
      progress.message("saved");
      progress.show(100, "loss 1");
    }
    assertEquals(
        """
        training 20/100  loss 20  40 s left
        training 40/100  loss 40  30 s left
        training 60/100  loss 60  20 s left
        training 80/100  loss 80  10 s left
        training 100/100  loss 100
        saved
        training 100/100  loss 1
        """,
        written());
    assertFalse(written().contains("\033") || written().contains("\r"));
  }

  @Test
  void aTerminalShowsOneLineThatFits() {
    for (int columns : new int[] {20, 40, 60, 80, 120}) {
      bytes.reset();
      try (TerminalProgress progress =
          progress(true, Map.of("COLUMNS", "" + columns), StandardCharsets.UTF_8)) {
        progress.begin("training", 0, 2000);
        for (int step = 1; step <= 2000; step += 7) {
          now.addAndGet(SECOND / 5);
          progress.update(step, () -> "loss 2.345  104k tok/s");
        }
      }
      String[] frames = written().replaceAll("\033\\[[0-9;]*m", "").split("[\r\n]", -1);
      assertTrue(frames.length > 200);
      for (String frame : frames) {
        assertTrue(frame.length() < columns, frame);
      }
      assertTrue(frames[50].startsWith("training "));
    }
    assertTrue(written().contains("━") && written().contains("\033[36m"));
    assertTrue(written().endsWith("\n"));
  }

  @Test
  void aShorterLineCoversALongerOne() {
    try (TerminalProgress progress =
        progress(true, Map.of("NO_COLOR", "1"), StandardCharsets.UTF_8)) {
      progress.begin("work", 0, 0);
      progress.show(1, "a long story");
      progress.show(2, "short");
      progress.message("note");
    }
    assertFalse(written().contains("\033"));
    assertEquals(
        "\rwork 1  a long story\rwork 2  short       \r             \rnote\n\rwork 2  short\n",
        written());
  }

  @Test
  void plainCharactersServeWhereOthersCannotBeWritten() {
    try (TerminalProgress progress =
        progress(true, Map.of("NO_COLOR", "1"), StandardCharsets.US_ASCII)) {
      progress.begin("work", 0, 4);
      progress.show(2, "");
    }
    assertTrue(written().contains("################................"), written());
  }

  @Test
  void timeLeftCountsFromWhereTheWorkBegan() {
    try (TerminalProgress progress = progress(false, Map.of(), StandardCharsets.UTF_8)) {
      progress.begin("training", 1000, 2000);
      now.addAndGet(10 * SECOND);
      progress.show(1100, "");
    }
    assertEquals("training 1,100/2,000  1 min 30 s left\n", written());
  }

  @Test
  void nothingIsShownBeforeOrAfterTheWork() {
    TerminalProgress progress = progress(true, Map.of("COLUMNS", "wide"), StandardCharsets.UTF_8);
    progress.show(1, "x");
    progress.begin("work", 0, 10);
    progress.end();
    progress.update(2, () -> "x");
    progress.close();
    assertEquals("", written());
  }

  @Test
  void timeLeftIsToldOnceTheWorkIsEven() {
    try (TerminalProgress progress = progress(false, Map.of(), StandardCharsets.UTF_8)) {
      progress.begin("training", 0, 100);
      progress.uneven();
      now.addAndGet(60 * SECOND);
      progress.show(2, "compiling");
      progress.evenFrom(2);
      now.addAndGet(2 * SECOND);
      progress.show(4, "too early");
      now.addAndGet(2 * SECOND);
      progress.show(6, "fast");
    }
    assertEquals(
        """
        training 2/100  compiling
        training 4/100  too early
        training 6/100  fast  1 min 34 s left
        """,
        written());
  }

  @Test
  void workInTheMidstOfOtherWorkShowsItsOwnProgress() {
    try (TerminalProgress progress = progress(false, Map.of(), StandardCharsets.UTF_8)) {
      progress.begin("training", 0, 100);
      now.addAndGet(10 * SECOND);
      progress.show(50, "");
      progress.aside("validating", 2000);
      now.addAndGet(10 * SECOND);
      progress.show(500, "");
      progress.back();
      progress.back();
      now.addAndGet(10 * SECOND);
      progress.show(75, "");
    }
    assertEquals(
        """
        training 50/100  10 s left
        validating 500/2,000  30 s left
        training 75/100  10 s left
        """,
        written());
  }
}
