package dev.lanewise.core.cli;

import java.util.concurrent.CompletableFuture;

/**
 * Turns Ctrl-C (or a plain kill) into a polite request, so that work can be saved: the process ends
 * when the command is over and has said how, with its exit code.
 */
final class Interrupts implements AutoCloseable {
  private static final CompletableFuture<Integer> EXIT = new CompletableFuture<>();

  private final Thread hook;
  private volatile boolean happened;

  /**
   * Listens until it is closed.
   *
   * @param request asks the work to end soon; runs on another thread
   */
  Interrupts(Runnable request) {
    hook =
        new Thread(
            () -> {
              happened = true;
              request.run();
              int code = EXIT.join();
              System.out.flush();
              System.err.flush();
              Runtime.getRuntime().halt(code);
            },
            "lanewise-interrupt");
    Runtime.getRuntime().addShutdownHook(hook);
  }

  boolean happened() {
    return happened;
  }

  /** Ends the process, also where an interrupt waits for its end. */
  static void exit(int code) {
    EXIT.complete(code);
    System.exit(code);
  }

  /** Listens no longer. An interrupt that came still waits for {@link #exit}. */
  @Override
  public void close() {
    try {
      Runtime.getRuntime().removeShutdownHook(hook);
    } catch (IllegalStateException e) {
      // The process is ending; the hook waits for the command's exit code.
    }
  }
}
