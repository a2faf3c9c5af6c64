package dev.lanewise.core.machine;

import java.lang.management.CompilationMXBean;
import java.lang.management.ManagementFactory;
import java.util.function.LongSupplier;

/**
 * Whether the JVM still compiles the code of the work at hand, so that its speed now is not what it
 * will be: work begins interpreted, and compilers take the processor from it. Once that is over it
 * is over for good, whatever rare code comes later.
 */
public final class Compiling {
  /** Less than this is not looked at: compiling comes in pieces. */
  private static final long WINDOW_NANOS = 1_500_000_000L;

  /** Share of a window that compilers may take when it counts as over. */
  private static final double QUIET = 0.1;

  /** After so long it counts as over in any case. */
  private static final long LONGEST_NANOS = 180_000_000_000L;

  private final LongSupplier millis;
  private final LongSupplier nanos;
  private final long began;
  private final long millisBefore;
  private long windowBegan;
  private long windowMillis;
  private double took;
  private boolean isOver;

  private Compiling(LongSupplier millis, LongSupplier nanos) {
    this.millis = millis;
    this.nanos = nanos;
    began = nanos.getAsLong();
    windowBegan = began;
    windowMillis = millis.getAsLong();
    millisBefore = windowMillis;
  }

  private static final class Holder {
    static final Compiling INSTANCE = watch();
  }

  /** Watches this process, from the first call on. A JVM that does not tell is taken to be done. */
  public static Compiling ofThisProcess() {
    return Holder.INSTANCE;
  }

  private static Compiling watch() {
    CompilationMXBean bean = ManagementFactory.getCompilationMXBean();
    if (bean == null || !bean.isCompilationTimeMonitoringSupported()) {
      Compiling none = new Compiling(() -> 0, System::nanoTime);
      none.isOver = true;
      return none;
    }
    return new Compiling(bean::getTotalCompilationTime, System::nanoTime);
  }

  /** With everything said, for tests. */
  static Compiling of(LongSupplier millis, LongSupplier nanos) {
    return new Compiling(millis, nanos);
  }

  /**
   * Whether it goes on; to be asked every now and then, as after each step. Allocates nothing.
   *
   * @return false for good once it was over
   */
  public synchronized boolean goesOn() {
    if (isOver) {
      return false;
    }
    long now = nanos.getAsLong();
    long window = now - windowBegan;
    if (window >= WINDOW_NANOS) {
      long total = millis.getAsLong();
      isOver = (total - windowMillis) * 1e6 < QUIET * window || now - began > LONGEST_NANOS;
      windowBegan = now;
      windowMillis = total;
      took = (total - millisBefore) / 1e3;
    }
    return !isOver;
  }

  /** Seconds that compilers worked, beside the work itself, until it was over or last looked at. */
  public synchronized double seconds() {
    return took;
  }
}
