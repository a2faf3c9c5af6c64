package dev.lanewise.core.report;

import java.io.Console;
import java.io.PrintStream;
import java.nio.charset.Charset;
import java.util.Locale;
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

  private final PrintStream out;
  private final boolean terminal;
  private final boolean colour;
  private final boolean fine;
  private final int columns;
  private final LongSupplier clock;

  private String task = "";
  private long total;
  private long first;
  private long started;
  private long shown;
  private int drawn;
  private String lastLine = "";
  private boolean running;

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
    task = name;
    total = units;
    first = done;
    started = clock.getAsLong();
    shown = started - (terminal ? REDRAW_NANOS : 0);
    lastLine = "";
    running = true;
  }

  /**
   * Tells how far the work is; most calls show nothing and cost next to nothing.
   *
   * @param done units done
   * @param details what else to show, as "loss 1.92", or a supplier of it
   */
  public void update(long done, Supplier<String> details) {
    long now = clock.getAsLong();
    if (!running || now - shown < (terminal ? REDRAW_NANOS : LINE_NANOS)) {
      return;
    }
    show(done, details.get(), now);
  }

  /** Shows the state of the work at once; otherwise as {@link #update}. */
  public void show(long done, String details) {
    if (running) {
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
    String line = task + " " + Numbers.grouped(done);
    if (total > 0) {
      line += "/" + Numbers.grouped(total);
    }
    String left = left(done, now);
    return line + (details.isEmpty() ? "" : "  " + details) + (left.isEmpty() ? "" : "  " + left);
  }

  private String left(long done, long now) {
    double seconds = (now - started) / 1e9;
    if (total <= 0 || done <= first || done > total || seconds < 1) {
      return "";
    }
    return Numbers.duration(seconds / (done - first) * (total - done)) + " left";
  }

  private String bar(long done, String details, long now) {
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
    if (terminal && running && !lastLine.isEmpty()) {
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
    running = false;
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

  @Override
  public String toString() {
    Charset charset = out.charset();
    return String.format(Locale.ROOT, "%s, %d columns, %s", task, columns, charset);
  }
}
