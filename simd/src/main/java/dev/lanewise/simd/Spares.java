package dev.lanewise.simd;

import java.util.concurrent.atomic.AtomicReferenceArray;
import java.util.function.Supplier;

/**
 * Objects kept for another use, so that a kernel's call allocates nothing after the first ones. Any
 * thread may take and give back; an object taken belongs to the taker alone.
 *
 * @param <T> what is kept, typically a {@link Workers.Task} with the arguments of a call as fields
 */
final class Spares<T> {
  private static final int SLOTS = 16;

  private final AtomicReferenceArray<T> slots = new AtomicReferenceArray<>(SLOTS);
  private final Supplier<T> maker;

  Spares(Supplier<T> maker) {
    this.maker = maker;
  }

  T take() {
    for (int i = 0; i < SLOTS; i++) {
      if (slots.getPlain(i) != null) {
        T spare = slots.getAndSet(i, null);
        if (spare != null) {
          return spare;
        }
      }
    }
    return maker.get();
  }

  /** Keeps {@code spare} for a later {@link #take}, or drops it when enough are kept. */
  void give(T spare) {
    for (int i = 0; i < SLOTS; i++) {
      if (slots.getPlain(i) == null && slots.compareAndSet(i, null, spare)) {
        return;
      }
    }
  }
}
