package dev.lanewise.bench.peers;

import static java.lang.foreign.ValueLayout.JAVA_INT;

import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.invoke.MethodHandle;

/** Stops and continues processes that were started here, where the system can. */
@SuppressWarnings("restricted")
final class Signals {
  private static final String SYSTEM = System.getProperty("os.name");
  private static final int STOP = SYSTEM.startsWith("Mac") ? 17 : 19;
  private static final int CONTINUE = SYSTEM.startsWith("Mac") ? 19 : 18;
  private static final MethodHandle KILL =
      SYSTEM.startsWith("Windows")
          ? null
          : Linker.nativeLinker()
              .downcallHandle(
                  Linker.nativeLinker().defaultLookup().findOrThrow("kill"),
                  FunctionDescriptor.of(JAVA_INT, JAVA_INT, JAVA_INT));

  private Signals() {}

  static void stop(long pid) {
    send(pid, STOP);
  }

  static void resume(long pid) {
    send(pid, CONTINUE);
  }

  private static void send(long pid, int signal) {
    if (KILL != null && ProcessHandle.of(pid).isPresent()) {
      try {
        int ignored = (int) KILL.invokeExact((int) pid, signal);
      } catch (Throwable e) {
        throw new IllegalStateException(e);
      }
    }
  }
}
