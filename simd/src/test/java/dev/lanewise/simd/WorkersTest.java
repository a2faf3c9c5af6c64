package dev.lanewise.simd;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;

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
}
