package dev.lanewise.simd;

import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.atomic.AtomicReferenceArray;
import java.util.function.Supplier;

/**
 * Objects kept for another use, so that a kernel's call allocates nothing after the first ones. Any
 * thread may take and give back; an object taken belongs to the taker alone.
 *
 * <p>All that are given back are kept, however many threads there are: as many as were ever in use
 * at once. Room for them grows by blocks and is never given up.
 *
 * @param <T> what is kept, typically a {@link Workers.Task} with the arguments of a call as fields
 */
final class Spares<T> {
  private static final int SLOTS = 16;

  private static final class Block<T> {
    final AtomicReferenceArray<T> slots = new AtomicReferenceArray<>(SLOTS);
    final AtomicReference<Block<T>> next = new AtomicReference<>();
  }

  private final Block<T> first = new Block<>();
  private final Supplier<T> maker;

  Spares(Supplier<T> maker) {
    this.maker = maker;
  }

  T take() {
    for (Block<T> block = first; block != null; block = block.next.getPlain()) {
      AtomicReferenceArray<T> slots = block.slots;
      for (int i = 0; i < SLOTS; i++) {
        if (slots.getPlain(i) != null) {
          T spare = slots.getAndSet(i, null);
          if (spare != null) {
            return spare;
          }
        }
      }
    }
    return maker.get();
  }

  /** Keeps {@code spare} for a later {@link #take}. */
  void give(T spare) {
    for (Block<T> block = first; ; block = after(block)) {
      AtomicReferenceArray<T> slots = block.slots;
      for (int i = 0; i < SLOTS; i++) {
        if (slots.getPlain(i) == null && slots.compareAndSet(i, null, spare)) {
          return;
        }
      }
    }
  }

  private static <T> Block<T> after(Block<T> block) {
    if (block.next.get() == null) {
      block.next.compareAndSet(null, new Block<>());
    }
    return block.next.get();
  }
}
