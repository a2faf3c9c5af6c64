package dev.lanewise.core.cli;

import java.util.concurrent.CountDownLatch;

/**
 * Turns Ctrl-C (or a plain kill) into a polite request, so that work can be saved: the process ends
 * when the work is done, with exit code 0.
 */
final class Interrupts implements AutoCloseable {
  private final CountDownLatch done = new CountDownLatch(1);
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
              try {
                done.await();
              } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
              }
              System.out.flush();
              Runtime.getRuntime().halt(0);
            },
            "lanewise-interrupt");
    Runtime.getRuntime().addShutdownHook(hook);
  }

  boolean happened() {
    return happened;
  }

  /** Tells that the work is done; if there was an interrupt, the process ends here. */
  @Override
  public void close() {
    done.countDown();
    if (happened) {
      try {
        hook.join();
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
      }
    } else {
      try {
        Runtime.getRuntime().removeShutdownHook(hook);
      } catch (IllegalStateException e) {
        // The interrupt came at this very moment; the hook ends the process.
      }
    }
  }
}
