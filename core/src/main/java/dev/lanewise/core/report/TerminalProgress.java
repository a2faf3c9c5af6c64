package dev.lanewise.core.report;

import java.io.Console;
import java.io.PrintStream;
import java.util.Map;
import java.util.Optional;
import java.util.function.LongSupplier;
import java.util.function.Supplier;

/**
 * Progress of long work for people: on a terminal one line that is drawn anew, elsewhere a line now
 * and then.
 *
 * <p>Without a terminal no control characters are written. Colour is left out when {@code NO_COLOR}
 * is set; {@code COLUMNS} gives the width of a line, 80 if it is not set. Not for use by several
 * threads at once.
 */
public final class TerminalProgress implements AutoCloseable {
  private static final long REDRAW_NANOS = 100_000_000L;
  private static final long LINE_NANOS = 10_000_000_000L;

  /** Seconds of even work from which the time left may be told. */
  private static final double TELLING_SECONDS = 3;

  /** Some work, and what it interrupted. */
  private static final class Work {
    final String name;
    final long total;
    final Work outer;
    long first;
    long started;
    boolean isEven = true;

    Work(String name, long first, long total, long now, Work outer) {
      this.name = name;
      this.first = first;
      this.total = total;
      this.outer = outer;
      started = now;
    }
  }

  private final PrintStream out;
  private final boolean terminal;
  private final boolean colour;
  private final boolean fine;
  private final int columns;
  private final LongSupplier clock;

  private Work work;
  private long shown;
  private int drawn;
  private String lastLine = "";

  private TerminalProgress(
      PrintStream out, boolean terminal, Map<String, String> environment, LongSupplier clock) {
    this.out = out;
    this.terminal = terminal;
    this.clock = clock;
    colour = terminal && environment.getOrDefault("NO_COLOR", "").isEmpty();
    columns = columns(environment.get("COLUMNS"));
    fine = out.charset().newEncoder().canEncode('━');
  }

  private static int columns(String value) {
    try {
      return Math.clamp(Integer.parseInt(value == null ? "80" : value.strip()), 20, 200);
    } catch (NumberFormatException e) {
      return 80;
    }
  }

  /**
   * Progress on standard output or standard error, which are a terminal or not together.
   *
   * @param out {@code System.out} or {@code System.err}
   * @return the progress
   */
  public static TerminalProgress on(PrintStream out) {
    Map<String, String> environment = System.getenv();
    boolean terminal =
        Optional.ofNullable(System.console()).map(Console::isTerminal).orElse(false)
            && !"dumb".equals(environment.get("TERM"));
    return new TerminalProgress(out, terminal, environment, System::nanoTime);
  }

  /** Progress with everything said, for tests. */
  static TerminalProgress of(
      PrintStream out, boolean terminal, Map<String, String> environment, LongSupplier clock) {
    return new TerminalProgress(out, terminal, environment, clock);
  }

  /** Whether one line is drawn anew, as on a terminal. */
  public boolean isTerminal() {
    return terminal;
  }

  /**
   * Begins some work.
   *
   * @param name what is done, in a word or two
   * @param done units that are done already, as when a run is resumed
   * @param units units in all; 0 if that is not known
   */
  public void begin(String name, long done, long units) {
    end();
    start(name, done, units, null);
  }

  /**
   * Begins some work in the midst of another, which goes on with {@link #back}.
   *
   * @param name what is done, in a word or two
   * @param units units in all; 0 if that is not known
   */
  public void aside(String name, long units) {
    start(name, 0, units, work);
  }

  /** Goes on with the work that {@link #aside} interrupted. */
  public void back() {
    if (work != null && work.outer != null) {
      work = work.outer;
    }
  }

  private void start(String name, long done, long units, Work outer) {
    long now = clock.getAsLong();
    work = new Work(name, done, units, now, outer);
    shown = now - (terminal && outer == null ? REDRAW_NANOS : 0);
    lastLine = outer == null ? "" : lastLine;
  }

  /**
   * Says no time left until {@link #evenFrom}: what is done now does not tell how long it takes.
   */
  public void uneven() {
    if (work != null) {
      work.isEven = false;
    }
  }

  /**
   * Tells the time left from the speed that the work has from here on.
   *
   * @param done units done so far
   */
  public void evenFrom(long done) {
    if (work != null) {
      work.isEven = true;
      work.first = done;
      work.started = clock.getAsLong();
    }
  }

  /**
   * Tells how far the work is; most calls show nothing and cost next to nothing.
   *
   * @param done units done
   * @param details what else to show, as "loss 1.92", or a supplier of it
   */
  public void update(long done, Supplier<String> details) {
    long now = clock.getAsLong();
    if (work == null || now - shown < (terminal ? REDRAW_NANOS : LINE_NANOS)) {
      return;
    }
    show(done, details.get(), now);
  }

  /** Shows the state of the work at once; otherwise as {@link #update}. */
  public void show(long done, String details) {
    if (work != null) {
      show(done, details, clock.getAsLong());
    }
  }

  private void show(long done, String details, long now) {
    shown = now;
    String line = terminal ? bar(done, details, now) : plain(done, details, now);
    if (line.equals(lastLine)) {
      return;
    }
    lastLine = line;
    if (terminal) {
      draw(line);
    } else {
      out.println(line);
    }
    out.flush();
  }

  private String plain(long done, String details, long now) {
    String line = work.name + " " + Numbers.grouped(done);
    if (work.total > 0) {
      line += "/" + Numbers.grouped(work.total);
    }
    String left = left(done, now);
    return line + (details.isEmpty() ? "" : "  " + details) + (left.isEmpty() ? "" : "  " + left);
  }

  /** The time left, once there has been enough even work to tell it from. */
  private String left(long done, long now) {
    double seconds = (now - work.started) / 1e9;
    if (!work.isEven || done <= work.first || done >= work.total || seconds < TELLING_SECONDS) {
      return "";
    }
    return Numbers.duration(seconds / (done - work.first) * (work.total - done)) + " left";
  }

  private String bar(long done, String details, long now) {
    String task = work.name;
    long total = work.total;
    String tail = plain(done, details, now).substring(task.length());
    int room = columns - 1 - task.length() - 1 - tail.length();
    if (total <= 0 || room < 8) {
      String line = task + tail;
      return line.length() < columns ? line : line.substring(0, columns - 1);
    }
    int width = Math.min(room, 32);
    double share = Math.clamp((double) done / total, 0, 1);
    int full = (int) (share * width);
    String bar = (fine ? "━" : "#").repeat(full);
    String rest = (fine ? "─" : ".").repeat(width - full);
    if (colour) {
      bar = "\033[36m" + bar + "\033[0m\033[2m" + rest + "\033[0m";
    } else {
      bar += rest;
    }
    return task + " " + bar + tail;
  }

  /**
   * Overwrites the line; spaces cover what a longer one left, so that no control code is needed.
   */
  private void draw(String line) {
    int length = visibleLength(line);
    out.print("\r" + line + " ".repeat(Math.max(0, drawn - length)));
    drawn = length;
  }

  private static int visibleLength(String line) {
    return line.replaceAll("\033\\[[0-9;]*m", "").length();
  }

  /** Prints a line that stays, above the bar if there is one. */
  public void message(String line) {
    if (terminal && drawn > 0) {
      out.print("\r" + " ".repeat(drawn) + "\r");
      drawn = 0;
    }
    out.println(line);
    if (terminal && work != null && !lastLine.isEmpty()) {
      draw(lastLine);
    }
    out.flush();
  }

  /** Ends the work; the last line stays. */
  public void end() {
    if (terminal && drawn > 0) {
      out.println();
      drawn = 0;
    }
    work = null;
    out.flush();
  }

  /** As {@link #end}. */
  @Override
  public void close() {
    end();
  }

  /**
   * A speed in few characters.
   *
   * @param perSecond units in a second
   * @param unit their name, as "tok"
   * @return for example {@code 104k tok/s}
   */
  public static String speed(double perSecond, String unit) {
    return Numbers.compact(perSecond) + " " + unit + "/s";
  }
}
