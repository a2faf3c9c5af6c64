package dev.lanewise.core.distributed;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_INT;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.invoke.MethodHandle;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Optional;

/**
 * Keeps the JVM's handlers of signals, by which it notices null and more. Libraries under MPI put
 * their own in place to write out where a program failed, and so end a JVM that is well.
 */
@SuppressWarnings("restricted")
final class Signals implements AutoCloseable {
  // Of Linux on every processor that Java runs on.
  private static final int[] NUMBERS = {4, 5, 7, 8, 11, 13};

  /** More bytes than {@code struct sigaction} has anywhere. */
  private static final long ACTION_BYTES = 512;

  /** What keeps libraries from it that read these when they are loaded. */
  private static final Map<String, String> SETTINGS =
      Map.of("UCX_ERROR_SIGNALS", "", "IPATH_NO_BACKTRACE", "1", "HFI_NO_BACKTRACE", "1");

  private final Arena arena = Arena.ofShared();
  private final Map<Integer, MemorySegment> before = new LinkedHashMap<>();
  private final Optional<MethodHandle> action =
      call("sigaction", FunctionDescriptor.of(JAVA_INT, JAVA_INT, ADDRESS, ADDRESS));

  private Signals() {}

  /** Notes the handlers of now, which {@link #close} puts back. */
  static Signals keep() {
    Optional<MethodHandle> set =
        call("setenv", FunctionDescriptor.of(JAVA_INT, ADDRESS, ADDRESS, JAVA_INT));
    Signals signals = new Signals();
    try {
      if (set.isPresent()) {
        for (Map.Entry<String, String> setting : SETTINGS.entrySet()) {
          int ignored =
              (int)
                  set.get()
                      .invokeExact(
                          signals.arena.allocateFrom(setting.getKey()),
                          signals.arena.allocateFrom(setting.getValue()),
                          0);
        }
      }
      if (signals.action.isPresent() && System.getProperty("os.name").equals("Linux")) {
        for (int number : NUMBERS) {
          MemorySegment old = signals.arena.allocate(ACTION_BYTES, 16);
          if ((int) signals.action.get().invokeExact(number, MemorySegment.NULL, old) == 0) {
            signals.before.put(number, old);
          }
        }
      }
    } catch (Throwable e) {
      throw new IllegalStateException(e);
    }
    return signals;
  }

  private static Optional<MethodHandle> call(String name, FunctionDescriptor descriptor) {
    Linker linker = Linker.nativeLinker();
    return linker.defaultLookup().find(name).map(a -> linker.downcallHandle(a, descriptor));
  }

  @Override
  public void close() {
    try {
      for (Map.Entry<Integer, MemorySegment> old : before.entrySet()) {
        int ignored =
            (int)
                action
                    .orElseThrow()
                    .invokeExact((int) old.getKey(), old.getValue(), MemorySegment.NULL);
      }
    } catch (Throwable e) {
      throw new IllegalStateException(e);
    }
    arena.close();
  }
}
