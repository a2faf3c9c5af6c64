package dev.lanewise.simd;

import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.util.concurrent.locks.LockSupport;
import java.util.function.Consumer;

/**
 * The process's worker threads. A parallel region splits a fixed number of tasks among the calling
 * thread and the workers and costs about a microsecond, because idle workers spin for a while
 * before they park.
 *
 * <p>Which thread runs which task is not defined, so tasks must not depend on it: the number of
 * tasks and what each does follow from the problem, never from the number of threads, and so
 * results are the same to the bit for any number of threads.
 *
 * <p>The system property {@code lanewise.threads} sets the number at start, which is else the
 * number of processors; {@link #setThreads} changes it. Workers are daemon threads. A region that
 * starts while another is running, nested in it or from a second application thread, runs on its
 * calling thread alone.
 */
public final class Workers {
  /** The body of a parallel region. */
  @FunctionalInterface
  public interface Task {
    /**
     * Does one of the region's tasks.
     *
     * @param task number of the task, from 0
     */
    void run(int task);
  }

  private static final String THREADS_PROPERTY = "lanewise.threads";

  /** The most threads that there can be. */
  public static final int MAX_THREADS = 1024;

  private static final long SPIN_NANOS = 200_000;
  private static final int SPINS_BEFORE_YIELD = 1 << 14;

  /** Distance of two threads' counters in longs: two cache lines, as prefetchers pair them. */
  private static final int PAD = 16;

  private static final VarHandle COUNTER = MethodHandles.arrayElementVarHandle(long[].class);
  private static final VarHandle OWNER;
  private static final VarHandle DONE;

  static {
    try {
      MethodHandles.Lookup lookup = MethodHandles.lookup();
      OWNER = lookup.findVarHandle(Pool.class, "owner", Thread.class);
      DONE = lookup.findVarHandle(Pool.class, "done", int.class);
    } catch (ReflectiveOperationException e) {
      throw new ExceptionInInitializerError(e);
    }
  }

  private static final Pool POOL = new Pool();

  static {
    int wanted = initialThreads();
    int got = POOL.resize(wanted, false, Thread::start);
    if (got < wanted) {
      System.getLogger("dev.lanewise.simd")
          .log(
              System.Logger.Level.WARNING,
              "the system lets {0} of {1} threads start; kernels run on these",
              got,
              wanted);
    }
  }

  private Workers() {}

  private static int initialThreads() {
    String text = System.getProperty(THREADS_PROPERTY);
    if (text == null) {
      return Math.min(MAX_THREADS, Runtime.getRuntime().availableProcessors());
    }
    try {
      return checked(Integer.parseInt(text.strip()));
    } catch (NumberFormatException e) {
      throw new IllegalArgumentException(
          THREADS_PROPERTY + " is " + text + "; it must be a number of threads", e);
    }
  }

  private static int checked(int threads) {
    if (threads < 1 || threads > MAX_THREADS) {
      throw new IllegalArgumentException(
          threads + " threads; from 1 to " + MAX_THREADS + " are possible");
    }
    return threads;
  }

  /**
   * The number of threads that share a region, the caller among them.
   *
   * @return at least 1
   */
  public static int threads() {
    return POOL.threads;
  }

  /**
   * Changes the number of threads, the caller of a region among them. Waits for a region that
   * another thread runs; must not be called from a task.
   *
   * @param threads from 1 to {@link #MAX_THREADS}
   * @throws IllegalArgumentException if the number is out of range
   * @throws IllegalStateException if called from inside a region, or if the system does not let so
   *     many threads start; the number is then what it was
   */
  public static void setThreads(int threads) {
    setThreads(threads, Thread::start);
  }

  /** Changes the number of threads, with {@code starter} to start new ones. */
  static void setThreads(int threads, Consumer<Thread> starter) {
    int got = POOL.resize(checked(threads), true, starter);
    if (got < threads) {
      throw new IllegalStateException(
          threads + " threads were wanted, but the system lets only " + got + " start");
    }
  }

  /**
   * Runs {@code body.run(0)} to {@code body.run(tasks - 1)}, each once, in parallel, and returns
   * when all are done. What the tasks wrote is visible to the caller. Allocates nothing.
   *
   * <p>When a task throws, tasks not yet begun are skipped, those at work are waited for, and the
   * first exception is thrown here; what the region should have written is then partly written.
   *
   * @param tasks number of tasks, at least 0
   * @param body what to do
   */
  public static void parallel(int tasks, Task body) {
    if (tasks <= 1 || POOL.threads == 1 || !POOL.enter()) {
      for (int i = 0; i < tasks; i++) {
        body.run(i);
      }
      return;
    }
    try {
      POOL.region(tasks, body);
    } finally {
      POOL.leave();
    }
  }

  /**
   * A region is known by its epoch. Each thread has a share of its tasks and a counter that packs
   * the epoch and the number of tasks left in the share; a thread claims a task by counting down
   * its own counter, then those of the others. A worker that comes late fails to claim, since the
   * epoch differs, so the caller waits for tasks and never for threads. Fields of a region may be
   * read before the claim: a claim that succeeds proves that the region is still running, and so
   * that they are its own.
   */
  private static final class Pool {
    private final long[] counters = new long[(MAX_THREADS + 1) * PAD];
    private final Worker[] workers = new Worker[MAX_THREADS];

    volatile int threads = 1;
    private volatile Thread owner;
    private volatile int epoch;

    @SuppressWarnings("UnusedVariable") // read and written through its handle
    private volatile int done;

    private volatile Throwable failure;
    private Task body;
    private int tasks;
    private int shares;

    boolean enter() {
      return owner == null && OWNER.compareAndSet(this, (Thread) null, Thread.currentThread());
    }

    void leave() {
      owner = null;
    }

    /**
     * Changes the number of threads.
     *
     * @param allOrNone whether the number stays what it was if not all can be started
     * @return the number of threads that could be had
     */
    int resize(int wanted, boolean allOrNone, Consumer<Thread> starter) {
      if (owner == Thread.currentThread() || Thread.currentThread() instanceof Worker) {
        throw new IllegalStateException("the number of threads cannot change inside a region");
      }
      while (!enter()) {
        Thread.yield();
      }
      try {
        int before = threads;
        int got = before;
        while (got < wanted && start(got, starter)) {
          got++;
        }
        int keep = got < wanted && allOrNone ? before : Math.min(got, wanted);
        threads = keep;
        for (int slot = keep; slot < got; slot++) {
          workers[slot].retired = true;
          LockSupport.unpark(workers[slot]);
          workers[slot] = null;
        }
        return Math.min(got, wanted);
      } finally {
        leave();
      }
    }

    private boolean start(int slot, Consumer<Thread> starter) {
      Worker worker = new Worker(this, slot, epoch);
      try {
        starter.accept(worker);
      } catch (OutOfMemoryError e) {
        // What a JVM says when the system refuses a thread, however much memory there is.
        return false;
      }
      workers[slot] = worker;
      return true;
    }

    void region(int count, Task task) {
      int all = threads;
      int used = Math.min(all, count);
      int next = epoch + 1;
      body = task;
      tasks = count;
      shares = used;
      failure = null;
      DONE.setRelease(this, 0);
      for (int slot = 0; slot < used; slot++) {
        int left = end(slot, used, count) - end(slot - 1, used, count);
        COUNTER.setRelease(counters, slot * PAD, pack(next, left));
      }
      epoch = next;
      for (int slot = 1; slot < used; slot++) {
        if (workers[slot].parked) {
          LockSupport.unpark(workers[slot]);
        }
      }
      work(next, 0);
      int spins = 0;
      while ((int) DONE.getAcquire(this) != count) {
        if (++spins < SPINS_BEFORE_YIELD) {
          Thread.onSpinWait();
        } else {
          Thread.yield();
        }
      }
      body = null;
      Throwable thrown = failure;
      if (thrown != null) {
        failure = null;
        Workers.<RuntimeException>rethrow(thrown);
      }
    }

    /** Runs tasks of a region until none is left to claim, one's own share first. */
    void work(int region, int slot) {
      Task task = body;
      int count = tasks;
      int used = shares;
      int ran = 0;
      for (int i = 0; i < used; i++) {
        int from = slot + i < used ? slot + i : slot + i - used;
        int end = end(from, used, count);
        for (; ; ) {
          long seen = (long) COUNTER.getVolatile(counters, from * PAD);
          int left = (int) seen;
          if (left <= 0 || (int) (seen >>> 32) != region) {
            break;
          }
          if (COUNTER.compareAndSet(counters, from * PAD, seen, pack(region, left - 1))) {
            ran++;
            if (failure == null) {
              try {
                task.run(end - left);
              } catch (Throwable t) {
                fail(t);
              }
            }
          }
        }
      }
      if (ran > 0) {
        DONE.getAndAdd(this, ran);
      }
    }

    private synchronized void fail(Throwable t) {
      if (failure == null) {
        failure = t;
      }
    }

    private static int end(int slot, int used, int count) {
      return (int) ((long) count * (slot + 1) / used);
    }

    private static long pack(int region, int left) {
      return (long) region << 32 | left;
    }

    /** Waits until a region other than {@code seen} begins. */
    int await(int seen, Worker worker) {
      long deadline = 0;
      for (int spins = 1; ; spins++) {
        int now = epoch;
        if (now != seen || worker.retired) {
          return now;
        }
        Thread.onSpinWait();
        if ((spins & 63) == 0) {
          long time = System.nanoTime();
          if (deadline == 0) {
            deadline = time + SPIN_NANOS;
          } else if (time - deadline > 0) {
            worker.parked = true;
            if (epoch == seen && !worker.retired) {
              LockSupport.park(this);
            }
            worker.parked = false;
            deadline = 0;
          }
        }
      }
    }
  }

  private static final class Worker extends Thread {
    private final Pool pool;
    private final int slot;
    private int seen;
    volatile boolean parked;
    volatile boolean retired;

    Worker(Pool pool, int slot, int seen) {
      super("lanewise-" + slot);
      this.pool = pool;
      this.slot = slot;
      this.seen = seen;
      setDaemon(true);
    }

    @Override
    public void run() {
      while (!retired) {
        int region = pool.await(seen, this);
        if (region != seen) {
          seen = region;
          pool.work(region, slot);
        }
      }
    }
  }

  @SuppressWarnings("unchecked")
  private static <T extends Throwable> void rethrow(Throwable t) throws T {
    throw (T) t;
  }
}
