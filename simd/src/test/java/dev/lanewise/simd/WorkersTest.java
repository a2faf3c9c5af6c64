package dev.lanewise.simd;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.BrokenBarrierException;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicIntegerArray;
import java.util.concurrent.locks.LockSupport;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class WorkersTest {
  private final int before = Workers.threads();

  @AfterEach
  void restore() {
    Workers.setThreads(before);
  }

  @ParameterizedTest
  @ValueSource(ints = {1, 2, 3, 7})
  void everyTaskRunsOnce(int threads) {
    Workers.setThreads(threads);
    for (int round = 0; round < 2000; round++) {
      int tasks = round % 41;
      var ran = new AtomicIntegerArray(41);
      Workers.parallel(tasks, ran::incrementAndGet);
      for (int i = 0; i < 41; i++) {
        assertEquals(i < tasks ? 1 : 0, ran.get(i), "task " + i + " of " + tasks);
      }
      if (round % 500 == 0) {
        LockSupport.parkNanos(2_000_000);
      }
    }
  }

  @Test
  void plainWritesOfTasksAreSeenByTheCaller() {
    Workers.setThreads(3);
    long[] sums = new long[64];
    for (int round = 1; round < 3000; round++) {
      Workers.parallel(64, i -> sums[i] += i);
      for (int i = 0; i < 64; i++) {
        assertEquals((long) round * i, sums[i]);
      }
    }
  }

  @ParameterizedTest
  @ValueSource(ints = {1, 3})
  void theFirstExceptionReachesTheCaller(int threads) {
    Workers.setThreads(threads);
    var thrown = new IllegalStateException("from a task");
    Workers.Task failing =
        i -> {
          if (i == 9) {
            throw thrown;
          }
        };
    for (int round = 0; round < 100; round++) {
      assertSame(
          thrown, assertThrows(IllegalStateException.class, () -> Workers.parallel(10, failing)));
    }
    everyTaskRunsOnce(threads);
  }

  @Test
  void nestedRegionsRunOnTheirThread() {
    Workers.setThreads(2);
    var ran = new AtomicInteger();
    Workers.parallel(
        8,
        i -> {
          Thread outer = Thread.currentThread();
          Workers.parallel(
              5,
              j -> {
                assertSame(outer, Thread.currentThread());
                ran.incrementAndGet();
              });
        });
    assertEquals(40, ran.get());
  }

  @Test
  void twoApplicationThreadsMayCallAtOnce() throws InterruptedException {
    Workers.setThreads(3);
    var ran = new AtomicInteger();
    Runnable caller =
        () -> {
          for (int round = 0; round < 1000; round++) {
            Workers.parallel(7, i -> ran.incrementAndGet());
          }
        };
    Thread first = Thread.ofPlatform().start(caller);
    Thread second = Thread.ofVirtual().start(caller);
    caller.run();
    first.join();
    second.join();
    assertEquals(21_000, ran.get());
  }

  @Test
  void theNumberOfThreadsIsChecked() {
    assertThrows(IllegalArgumentException.class, () -> Workers.setThreads(0));
    assertThrows(IllegalArgumentException.class, () -> Workers.setThreads(100_000));
    Workers.setThreads(2);
    assertThrows(
        IllegalStateException.class, () -> Workers.parallel(4, i -> Workers.setThreads(3)));
  }

  @Test
  void aThreadThatCannotStartChangesNothing() {
    Workers.setThreads(2);
    var started = new AtomicInteger();
    IllegalStateException refused =
        assertThrows(
            IllegalStateException.class,
            () ->
                Workers.setThreads(
                    9,
                    thread -> {
                      if (started.incrementAndGet() > 4) {
                        throw new OutOfMemoryError("unable to create native thread");
                      }
                      thread.start();
                    }));
    assertEquals("9 threads were wanted, but the system lets only 6 start", refused.getMessage());
    assertEquals(2, Workers.threads());
    everyTaskRunsOnce(2);
    everyTaskRunsOnce(9);
  }

  @Test
  void moreThreadsThanAnyMachineKeepTheirMemory() {
    int threads = 130;
    Workers.setThreads(threads);
    long bytes = 3L << 20;
    for (int round = 0; round < 3; round++) {
      List<Scratch> taken = new ArrayList<>();
      long before = Scratch.heldBytes();
      for (int i = 0; i < threads; i++) {
        taken.add(Scratch.take(bytes));
      }
      assertEquals(round == 0, Scratch.heldBytes() > before, "round " + round);
      assertEquals(
          threads, taken.stream().map(piece -> piece.segment.address()).distinct().count());
      taken.forEach(Scratch::close);
    }
  }

  @Test
  void aFailedRegionLeavesNothingHalfOwned() {
    int threads = 100;
    Workers.setThreads(threads);
    var spares = new Spares<>(() -> new int[1]);
    long held = -1;
    for (int round = 0; round < 20; round++) {
      var running = new CyclicBarrier(threads);
      var thrown = new IllegalStateException("from a task");
      Workers.Task failing =
          task -> {
            int[] mine = spares.take();
            try (Scratch scratch = Scratch.take(1 << 20)) {
              assertEquals(1, ++mine[0]);
              scratch.segment.set(ValueLayout.JAVA_INT, 0, task);
              running.await();
              assertEquals(task, scratch.segment.get(ValueLayout.JAVA_INT, 0));
              mine[0]--;
              throw thrown;
            } catch (InterruptedException | BrokenBarrierException e) {
              throw new AssertionError(e);
            } finally {
              spares.give(mine);
            }
          };
      assertSame(
          thrown,
          assertThrows(IllegalStateException.class, () -> Workers.parallel(threads, failing)));
      held = round == 0 ? Scratch.heldBytes() : held;
      assertEquals(held, Scratch.heldBytes(), "memory after round " + round);
    }
  }

  @Test
  void sparesOfAllThreadsAreKept() {
    var made = new AtomicInteger();
    var spares = new Spares<>(() -> made.getAndIncrement());
    for (int round = 0; round < 3; round++) {
      Set<Integer> taken = new HashSet<>();
      for (int i = 0; i < 200; i++) {
        assertTrue(taken.add(spares.take()));
      }
      taken.forEach(spares::give);
    }
    assertEquals(200, made.get());
  }

  @Test
  void productsAreTheSameForManyThreads() {
    int m = 257;
    int n = 515;
    int k = 130;
    Workers.setThreads(1);
    float[] one = product(m, n, k);
    for (int threads : new int[] {65, 96, 130}) {
      Workers.setThreads(threads);
      assertArrayEquals(one, product(m, n, k), threads + " threads");
    }
  }

  private static float[] product(int m, int n, int k) {
    try (Arena arena = Arena.ofShared()) {
      MemorySegment a = arena.allocate(4L * m * k, 64);
      MemorySegment b = arena.allocate(4L * n * k, 64);
      MemorySegment c = arena.allocate(4L * m * n, 64);
      for (int i = 0; i < m * k; i++) {
        a.setAtIndex(ValueLayout.JAVA_FLOAT, i, (float) Math.sin(i));
      }
      for (int i = 0; i < n * k; i++) {
        b.setAtIndex(ValueLayout.JAVA_FLOAT, i, (float) Math.cos(i));
      }
      Gemm.multiply(new Matrix(a, m, k), new Matrix(b, n, k).transposed(), new Matrix(c, m, n));
      return c.toArray(ValueLayout.JAVA_FLOAT);
    }
  }
}
