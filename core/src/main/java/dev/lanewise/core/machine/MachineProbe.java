package dev.lanewise.core.machine;

import static java.nio.ByteOrder.LITTLE_ENDIAN;

import dev.lanewise.core.machine.MachineLimits.Rate;
import dev.lanewise.core.machine.MachineLimits.Rates;
import dev.lanewise.simd.Machine;
import dev.lanewise.simd.Workers;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.concurrent.Phaser;
import java.util.concurrent.atomic.AtomicReference;
import javax.management.JMException;
import javax.management.ObjectName;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorShape;
import jdk.incubator.vector.VectorSpecies;

/**
 * Measures the limits of the machine with loops of its own.
 *
 * <p>Each rate is taken in short windows; a window in which another program had the core reads low,
 * which is why the best window is the limit and the median is told beside it. The arithmetic is 16
 * independent chains of fused multiply-adds, more than latency times units of any core known today.
 * The memory loops are those of STREAM with plain stores: the Vector API has no non-temporal ones.
 */
public final class MachineProbe {
  private static final VectorSpecies<Float> F =
      VectorSpecies.of(float.class, VectorShape.forBitSize(Machine.vectorBits()));
  private static final int LANES = F.length();
  private static final int BYTES = LANES * Float.BYTES;
  private static final int CHAINS = 16;
  private static final int FMA_ROUNDS = 20_000;

  /** Bytes of each of the three arrays, over all threads: several times the largest caches. */
  private static final long ARRAY_BYTES = 128L << 20;

  /** Bytes that a thread works on between two looks at the clock. */
  private static final long PIECE_BYTES = 1L << 20;

  /**
   * Bytes of a call of a loop: so few that calls are what the compiler counts. A loop that it
   * replaces while it runs may keep its sums in objects for good.
   */
  private static final long BLOCK_BYTES = 1L << 17;

  private static final int WINDOWS = 7;

  /** Calls between two looks at the clock, of some microseconds each. */
  private static final int SHORT_CALLS = 20;

  private static final int LITTLE_ROUNDS = 1024;

  /** What that or a block takes: compiled always less, interpreted always more. */
  private static final long LITTLE_NANOS = 15_000;

  private static final int QUICK_CALLS = 20;
  private static final long WARM_UP = 20_000_000L;
  private static final long PATIENCE = 5_000_000_000L;

  static {
    keepFromQuickCompiler();
  }

  private MachineProbe() {}

  /**
   * The quick compiler cannot translate so many vectors, and having failed it may never hand the
   * loop to the optimising one. Without the management module the loops are left to their luck.
   */
  private static void keepFromQuickCompiler() {
    String directive =
        String.format(
            Locale.ROOT,
            "[{match: \"%s.*\", c1: {Exclude: true}}]",
            MachineProbe.class.getName().replace('.', '/'));
    try {
      Path file = Files.createTempFile("lanewise", ".directives");
      try {
        Files.writeString(file, directive);
        ManagementFactory.getPlatformMBeanServer()
            .invoke(
                new ObjectName("com.sun.management:type=DiagnosticCommand"),
                "compilerDirectivesAdd",
                new Object[] {new String[] {file.toString()}},
                new String[] {String[].class.getName()});
      } finally {
        Files.deleteIfExists(file);
      }
    } catch (IOException | JMException | LinkageError | RuntimeException e) {
      System.getLogger("dev.lanewise.core.machine")
          .log(System.Logger.Level.DEBUG, "compiler directives were not accepted", e);
    }
  }

  /**
   * Measures one thread and all threads.
   *
   * @param threads number of threads that count as all, at least 1
   * @param window time of a window, of which seven are taken for each of the five rates; 20 to 100
   *     milliseconds serve well
   * @return the limits
   * @throws IllegalArgumentException if there is no thread or no time
   */
  public static MachineLimits measure(int threads, Duration window) {
    if (threads < 1 || !window.isPositive()) {
      throw new IllegalArgumentException(threads + " threads for " + window + " measure nothing");
    }
    Rates one = rates(1, window.toNanos());
    Rates all = threads == 1 ? one : rates(threads, window.toNanos());
    return new MachineLimits(Machine.vectorBits(), threads, one, all);
  }

  /**
   * Measures arithmetic alone, to see what the machine gives at this moment: a virtual machine's
   * share can halve for minutes without a trace in the system's own counters.
   *
   * @param threads number of threads, at least 1
   * @param window time of a window, of which seven are taken
   * @return the rate of all threads together
   * @throws IllegalArgumentException if there is no thread or no time
   */
  public static Rate arithmetic(int threads, Duration window) {
    return arithmetic(Work.FMA, threads, window);
  }

  private static Rate arithmetic(Work work, int threads, Duration window) {
    if (threads < 1 || !window.isPositive()) {
      throw new IllegalArgumentException(threads + " threads for " + window + " measure nothing");
    }
    List<Worker> workers = new ArrayList<>();
    try (Arena arena = Arena.ofShared()) {
      for (int t = 0; t < threads; t++) {
        workers.add(new Worker(arena, PIECE_BYTES));
      }
      return run(workers, work, window.toNanos());
    }
  }

  /**
   * Measures products of bfloat16 in registers, summed in floats: what bounds {@code Bfloat16Gemm}.
   *
   * @param threads number of threads, at least 1
   * @param window time of a window, of which seven are taken
   * @return the rate of all threads together; empty where the processor has no instruction for them
   *     that the kernels use
   * @throws IllegalArgumentException if there is no thread or no time
   */
  public static Optional<Rate> bfloat16(int threads, Duration window) {
    return Machine.bfloat16Operations(1) == 0
        ? Optional.empty()
        : Optional.of(arithmetic(Work.BFLOAT16, threads, window));
  }

  /**
   * Measures products of integers of 8 bits in registers: what bounds {@code Int8Gemm} for many
   * rows.
   *
   * @param threads number of threads, at least 1
   * @param window time of a window, of which seven are taken
   * @return the rate of all threads together; empty where the processor has no instruction for them
   *     that the kernels use
   * @throws IllegalArgumentException if there is no thread or no time
   */
  public static Optional<Rate> int8(int threads, Duration window) {
    return Machine.int8Operations(1) == 0
        ? Optional.empty()
        : Optional.of(arithmetic(Work.INT8, threads, window));
  }

  private static Rates rates(int threads, long window) {
    List<Worker> workers = new ArrayList<>();
    long share = Math.ceilDiv(ARRAY_BYTES / threads, PIECE_BYTES) * PIECE_BYTES;
    try (Arena arena = Arena.ofShared()) {
      for (int t = 0; t < threads; t++) {
        workers.add(new Worker(arena, share));
      }
      return new Rates(
          run(workers, Work.FMA, window),
          run(workers, Work.READ, window),
          run(workers, Work.COPY, window),
          run(workers, Work.TRIAD, window),
          run(workers, Work.UPDATE, window));
    }
  }

  private static Rate run(List<Worker> workers, Work work, long window) {
    Phaser together = new Phaser(workers.size());
    AtomicReference<Throwable> failure = new AtomicReference<>();
    List<Thread> threads = new ArrayList<>();
    boolean interrupted = false;
    try {
      for (Worker worker : workers) {
        Runnable measuring =
            () -> {
              try {
                worker.measure(work, window, together);
              } catch (Throwable t) {
                failure.compareAndSet(null, t);
                together.forceTermination();
              }
            };
        threads.add(Thread.ofPlatform().name("probe").start(measuring));
      }
    } catch (Throwable t) {
      // Those that were started would wait for one that never comes.
      failure.compareAndSet(null, t);
      together.forceTermination();
    }
    for (Thread thread : threads) {
      while (thread.isAlive()) {
        try {
          thread.join();
        } catch (InterruptedException e) {
          interrupted = true;
        }
      }
    }
    if (interrupted) {
      Thread.currentThread().interrupt();
    }
    if (failure.get() != null) {
      throw new IllegalStateException(
          "the machine could not be measured with " + workers.size() + " threads", failure.get());
    }
    double[] sums = new double[WINDOWS];
    for (Worker worker : workers) {
      for (int i = 0; i < WINDOWS; i++) {
        sums[i] += worker.rates[i];
      }
    }
    Arrays.sort(sums);
    return new Rate(sums[WINDOWS - 1], sums[WINDOWS / 2], work.isArithmetic() ? "GFLOP/s" : "GB/s");
  }

  /**
   * Sixteen chains of fused multiply-adds in registers. The operation is called on a vector that
   * was made in the loop, here and below: the class of one that comes from the iteration before is
   * not known to the compiler as soon as the JVM has loaded vectors of two widths; {@code
   * MachineProbeCodeTest} reads the code.
   */
  static float fma(int rounds) {
    FloatVector c0 = FloatVector.broadcast(F, 1);
    FloatVector c1 = FloatVector.broadcast(F, 2);
    FloatVector c2 = FloatVector.broadcast(F, 3);
    FloatVector c3 = FloatVector.broadcast(F, 4);
    FloatVector c4 = FloatVector.broadcast(F, 5);
    FloatVector c5 = FloatVector.broadcast(F, 6);
    FloatVector c6 = FloatVector.broadcast(F, 7);
    FloatVector c7 = FloatVector.broadcast(F, 8);
    FloatVector c8 = FloatVector.broadcast(F, 9);
    FloatVector c9 = FloatVector.broadcast(F, 10);
    FloatVector c10 = FloatVector.broadcast(F, 11);
    FloatVector c11 = FloatVector.broadcast(F, 12);
    FloatVector c12 = FloatVector.broadcast(F, 13);
    FloatVector c13 = FloatVector.broadcast(F, 14);
    FloatVector c14 = FloatVector.broadcast(F, 15);
    FloatVector c15 = FloatVector.broadcast(F, 16);
    for (int i = 0; i < rounds; i++) {
      // Made in the loop, which costs nothing: so the compiler knows its exact class
      FloatVector x = FloatVector.broadcast(F, 0.999999f);
      FloatVector y = FloatVector.broadcast(F, 1e-9f);
      c0 = x.fma(c0, y);
      c1 = x.fma(c1, y);
      c2 = x.fma(c2, y);
      c3 = x.fma(c3, y);
      c4 = x.fma(c4, y);
      c5 = x.fma(c5, y);
      c6 = x.fma(c6, y);
      c7 = x.fma(c7, y);
      c8 = x.fma(c8, y);
      c9 = x.fma(c9, y);
      c10 = x.fma(c10, y);
      c11 = x.fma(c11, y);
      c12 = x.fma(c12, y);
      c13 = x.fma(c13, y);
      c14 = x.fma(c14, y);
      c15 = x.fma(c15, y);
    }
    return c0.add(c1)
        .add(c2.add(c3))
        .add(c4.add(c5).add(c6.add(c7)))
        .add(c8.add(c9).add(c10.add(c11)).add(c12.add(c13).add(c14.add(c15))))
        .reduceLanes(VectorOperators.ADD);
  }

  /** Sums by lanes into an array: sums that leave the loop as objects would be made in it, too. */
  static void read(MemorySegment a, long from, long to, float[] sums) {
    FloatVector s0 = FloatVector.zero(F);
    FloatVector s1 = FloatVector.zero(F);
    FloatVector s2 = FloatVector.zero(F);
    FloatVector s3 = FloatVector.zero(F);
    for (long i = from; i < to; i += 4L * BYTES) {
      s0 = FloatVector.fromMemorySegment(F, a, i, LITTLE_ENDIAN).add(s0);
      s1 = FloatVector.fromMemorySegment(F, a, i + BYTES, LITTLE_ENDIAN).add(s1);
      s2 = FloatVector.fromMemorySegment(F, a, i + 2L * BYTES, LITTLE_ENDIAN).add(s2);
      s3 = FloatVector.fromMemorySegment(F, a, i + 3L * BYTES, LITTLE_ENDIAN).add(s3);
    }
    s0.add(s1).add(s2.add(s3)).intoArray(sums, 0);
  }

  static void copy(MemorySegment a, MemorySegment b, long from, long to) {
    for (long i = from; i < to; i += BYTES) {
      FloatVector.fromMemorySegment(F, a, i, LITTLE_ENDIAN).intoMemorySegment(b, i, LITTLE_ENDIAN);
    }
  }

  static void triad(MemorySegment a, MemorySegment b, MemorySegment c, long from, long to) {
    FloatVector s = FloatVector.broadcast(F, 3f);
    for (long i = from; i < to; i += BYTES) {
      FloatVector.fromMemorySegment(F, c, i, LITTLE_ENDIAN)
          .fma(s, FloatVector.fromMemorySegment(F, b, i, LITTLE_ENDIAN))
          .intoMemorySegment(a, i, LITTLE_ENDIAN);
    }
  }

  static void update(MemorySegment a, long from, long to) {
    FloatVector s = FloatVector.broadcast(F, 0.999f);
    FloatVector t = FloatVector.broadcast(F, 1e-3f);
    for (long i = from; i < to; i += BYTES) {
      FloatVector.fromMemorySegment(F, a, i, LITTLE_ENDIAN)
          .fma(s, t)
          .intoMemorySegment(a, i, LITTLE_ENDIAN);
    }
  }

  /** What a loop does. */
  public enum Work {
    /** Fused multiply-adds in registers. */
    FMA(2),
    /** Products of bfloat16 in registers; counts operations. */
    BFLOAT16(1),
    /** Products of integers of 8 bits in registers; counts operations. */
    INT8(1),
    /** Reads an array. */
    READ(1),
    /** Copies an array to another. */
    COPY(2),
    /** {@code a = b + s * c}. */
    TRIAD(3),
    /** {@code a = s * a + t} in place. */
    UPDATE(2);

    /** Operations or bytes that count for a unit of progress. */
    private final int weight;

    Work(int weight) {
      this.weight = weight;
    }

    private boolean isArithmetic() {
      return this == FMA || isShort();
    }

    private boolean isShort() {
      return this == BFLOAT16 || this == INT8;
    }
  }

  /**
   * One of the loops, to be run by turns with something else whose limit it is, on the threads of
   * {@link Workers}. Driven by one thread at a time.
   */
  public static final class Loop implements AutoCloseable {
    private final Work work;
    private final Arena arena = Arena.ofShared();
    private final List<Worker> workers = new ArrayList<>();
    private final double[] rates;
    private double last;

    /**
     * Makes the loop's arrays and runs it until it is compiled.
     *
     * @param work what it does
     * @param threads number of threads
     * @param megabytes of each array; several times the largest caches, or more is measured than
     *     memory gives
     */
    public Loop(Work work, int threads, int megabytes) {
      this.work = work;
      rates = new double[threads];
      long share =
          work.isArithmetic()
              ? PIECE_BYTES
              : Math.ceilDiv((long) megabytes << 20, threads * PIECE_BYTES) * PIECE_BYTES;
      try {
        for (int t = 0; t < threads; t++) {
          workers.add(new Worker(arena, share, work));
        }
        Workers.parallel(threads, t -> workers.get(t).warmUp(work));
        rate(1_000_000);
      } catch (Throwable t) {
        arena.close();
        throw t;
      }
    }

    /**
     * Runs the loop for a while.
     *
     * @param nanos how long
     * @return GFLOP/s or GB/s of all threads together
     */
    public double rate(long nanos) {
      Workers.parallel(rates.length, t -> rates[t] = workers.get(t).window(work, nanos));
      last = Arrays.stream(rates).sum();
      return last;
    }

    /** What {@link #rate} returned last. */
    public double lastRate() {
      return last;
    }

    @Override
    public void close() {
      arena.close();
    }
  }

  /** A thread's arrays and results. */
  private static final class Worker {
    private final long bytes;
    private final MemorySegment a;
    private final MemorySegment b;
    private final MemorySegment c;
    private final double[] rates = new double[WINDOWS];
    private final float[] sums = new float[LANES];
    private long place;

    @SuppressWarnings("UnusedVariable") // written, so that the reads before it cannot be left out
    private float sink;

    Worker(Arena arena, long bytes) {
      this(arena, bytes, Work.TRIAD);
    }

    /** Makes only the arrays that are needed. */
    Worker(Arena arena, long bytes, Work work) {
      this.bytes = bytes;
      a = arena.allocate(bytes, 4096);
      b = work == Work.COPY || work == Work.TRIAD ? arena.allocate(bytes, 4096) : a;
      c = work == Work.TRIAD ? arena.allocate(bytes, 4096) : a;
    }

    void measure(Work work, long window, Phaser together) {
      warmUp(work);
      for (int i = 0; i < WINDOWS; i++) {
        together.arriveAndAwaitAdvance();
        rates[i] = window(work, window);
      }
    }

    /** Compiled code is there before this ends, and memory was touched by its own thread. */
    void warmUp(Work work) {
      // Little at a time at first: compilers count calls, and interpreted vectors are very slow
      long start = System.nanoTime();
      int quick = 0;
      for (long now = start; quick < QUICK_CALLS && now - start < PATIENCE; ) {
        long before = now;
        if (work == Work.FMA) {
          sink += fma(LITTLE_ROUNDS);
        } else if (work.isShort()) {
          shorts(work, 1);
        } else {
          run(work, 0, BLOCK_BYTES);
        }
        now = System.nanoTime();
        quick = now - before < LITTLE_NANOS ? quick + 1 : 0;
      }
      for (long i = 0; !work.isArithmetic() && i < bytes; i += PIECE_BYTES) {
        piece(work);
      }
      window(work, WARM_UP);
    }

    double window(Work work, long nanos) {
      long start = System.nanoTime();
      long now = start;
      double units = 0;
      while (now - start < nanos) {
        units += piece(work);
        now = System.nanoTime();
      }
      return units * work.weight / (now - start);
    }

    /** Works a while, in the arrays from where it stopped, and returns how much it did. */
    private long piece(Work work) {
      if (work == Work.FMA) {
        sink += fma(FMA_ROUNDS);
        return (long) FMA_ROUNDS * CHAINS * LANES;
      }
      if (work.isShort()) {
        return shorts(work, SHORT_CALLS);
      }
      for (long end = place + PIECE_BYTES; place < end; place += BLOCK_BYTES) {
        run(work, place, place + BLOCK_BYTES);
      }
      place %= bytes;
      return PIECE_BYTES;
    }

    private static long shorts(Work work, int calls) {
      long operations = 0;
      for (int i = 0; i < calls; i++) {
        operations +=
            work == Work.INT8
                ? Machine.int8Operations(LITTLE_ROUNDS)
                : Machine.bfloat16Operations(LITTLE_ROUNDS);
      }
      return operations;
    }

    private void run(Work work, long from, long to) {
      switch (work) {
        case READ -> read(a, from, to, sums);
        case COPY -> copy(a, b, from, to);
        case TRIAD -> triad(a, b, c, from, to);
        default -> update(a, from, to);
      }
    }
  }
}
