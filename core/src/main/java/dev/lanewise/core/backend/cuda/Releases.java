package dev.lanewise.core.backend.cuda;

import java.util.ArrayDeque;
import java.util.Deque;

/**
 * How to give back what has been taken, the last first. After a fault the driver refuses much, so
 * one step that fails does not keep the others from being taken.
 */
final class Releases implements AutoCloseable {
  private final Deque<Runnable> steps = new ArrayDeque<>();

  void add(Runnable step) {
    steps.push(step);
  }

  /**
   * Takes every step, once.
   *
   * @throws RuntimeException the first failure, with the others suppressed
   */
  @Override
  public void close() {
    RuntimeException failure = null;
    while (!steps.isEmpty()) {
      try {
        steps.pop().run();
      } catch (RuntimeException e) {
        if (failure == null) {
          failure = e;
        } else {
          failure.addSuppressed(e);
        }
      }
    }
    if (failure != null) {
      throw failure;
    }
  }

  /** Takes every step because of a failure, which then has those of the steps suppressed. */
  RuntimeException after(RuntimeException failure) {
    try {
      close();
    } catch (RuntimeException e) {
      failure.addSuppressed(e);
    }
    return failure;
  }
}
