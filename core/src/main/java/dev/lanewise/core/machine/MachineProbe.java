package dev.lanewise.core.machine;

import static java.nio.ByteOrder.LITTLE_ENDIAN;

import dev.lanewise.core.machine.MachineLimits.Rate;
import dev.lanewise.core.machine.MachineLimits.Rates;
import dev.lanewise.simd.Machine;
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
import java.util.concurrent.BrokenBarrierException;
import java.util.concurrent.CyclicBarrier;
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

  private static final int WINDOWS = 7;

  /** A loop that is slower than a vector each so many nanoseconds is not compiled yet. */
  private static final double COMPILED = 4;

  private static final long WARM_UP = 100_000_000L;

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
        "[{match: \"%s.*\", c1: {Exclude: true}}]"
            .formatted(MachineProbe.class.getName().replace('.', '/'));
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
    if (threads < 1 || !window.isPositive()) {
      throw new IllegalArgumentException(threads + " threads for " + window + " measure nothing");
    }
    List<Worker> workers = new ArrayList<>();
    try (Arena arena = Arena.ofShared()) {
      for (int t = 0; t < threads; t++) {
        workers.add(new Worker(arena, PIECE_BYTES));
      }
      return run(workers, Work.FMA, window.toNanos());
    }
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
    CyclicBarrier barrier = new CyclicBarrier(workers.size());
    List<Thread> threads =
        workers.stream()
            .map(
                w ->
                    Thread.ofPlatform().name("probe").start(() -> w.measure(work, window, barrier)))
            .toList();
    boolean interrupted = false;
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
    double[] sums = new double[WINDOWS];
    for (Worker worker : workers) {
      for (int i = 0; i < WINDOWS; i++) {
        sums[i] += worker.rates[i];
      }
    }
    Arrays.sort(sums);
    return new Rate(sums[WINDOWS - 1], sums[WINDOWS / 2], work == Work.FMA ? "GFLOP/s" : "GB/s");
  }

  /**
   * Sixteen chains of fused multiply-adds in registers; {@code MachineProbeCodeTest} reads the
   * code.
   */
  static float fma(int rounds) {
    FloatVector x = FloatVector.broadcast(F, 0.999999f);
    FloatVector y = FloatVector.broadcast(F, 1e-9f);
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
      c0 = c0.fma(x, y);
      c1 = c1.fma(x, y);
      c2 = c2.fma(x, y);
      c3 = c3.fma(x, y);
      c4 = c4.fma(x, y);
      c5 = c5.fma(x, y);
      c6 = c6.fma(x, y);
      c7 = c7.fma(x, y);
      c8 = c8.fma(x, y);
      c9 = c9.fma(x, y);
      c10 = c10.fma(x, y);
      c11 = c11.fma(x, y);
      c12 = c12.fma(x, y);
      c13 = c13.fma(x, y);
      c14 = c14.fma(x, y);
      c15 = c15.fma(x, y);
    }
    return c0.add(c1)
        .add(c2.add(c3))
        .add(c4.add(c5).add(c6.add(c7)))
        .add(c8.add(c9).add(c10.add(c11)).add(c12.add(c13).add(c14.add(c15))))
        .reduceLanes(VectorOperators.ADD);
  }

  static float read(MemorySegment a, long from, long to) {
    FloatVector s0 = FloatVector.zero(F);
    FloatVector s1 = s0;
    FloatVector s2 = s0;
    FloatVector s3 = s0;
    for (long i = from; i < to; i += 4L * BYTES) {
      s0 = s0.add(FloatVector.fromMemorySegment(F, a, i, LITTLE_ENDIAN));
      s1 = s1.add(FloatVector.fromMemorySegment(F, a, i + BYTES, LITTLE_ENDIAN));
      s2 = s2.add(FloatVector.fromMemorySegment(F, a, i + 2L * BYTES, LITTLE_ENDIAN));
      s3 = s3.add(FloatVector.fromMemorySegment(F, a, i + 3L * BYTES, LITTLE_ENDIAN));
    }
    return s0.add(s1).add(s2.add(s3)).reduceLanes(VectorOperators.ADD);
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

  private enum Work {
    FMA(2),
    READ(1),
    COPY(2),
    TRIAD(3),
    UPDATE(2);

    /** Operations or bytes that count for a unit of progress. */
    private final int weight;

    Work(int weight) {
      this.weight = weight;
    }
  }

  /** A thread's arrays and results. */
  private static final class Worker {
    private final long bytes;
    private final MemorySegment a;
    private final MemorySegment b;
    private final MemorySegment c;
    private final double[] rates = new double[WINDOWS];

    @SuppressWarnings("UnusedVariable") // written, so that the reads before it cannot be left out
    private float sink;

    Worker(Arena arena, long bytes) {
      this.bytes = bytes;
      a = arena.allocate(bytes, 4096);
      b = arena.allocate(bytes, 4096);
      c = arena.allocate(bytes, 4096);
    }

    void measure(Work work, long window, CyclicBarrier barrier) {
      // Compiled code is there long before this ends, and memory has been touched by its own thread
      long start = System.nanoTime();
      long done = 0;
      double vectors = 0;
      for (long now = start, before = start;
          now - start < WARM_UP
              || (work != Work.FMA && done < bytes)
              || ((now - before) > COMPILED * vectors && now - start < PATIENCE); ) {
        before = now;
        long amount = piece(work, done % bytes);
        done += amount;
        vectors = (double) amount / (work == Work.FMA ? LANES : BYTES);
        now = System.nanoTime();
      }
      for (int i = 0; i < WINDOWS; i++) {
        await(barrier);
        start = System.nanoTime();
        long now = start;
        double units = 0;
        while (now - start < window) {
          long amount = piece(work, done % bytes);
          done += amount;
          units += amount;
          now = System.nanoTime();
        }
        rates[i] = units * work.weight / (now - start);
      }
    }

    private static void await(CyclicBarrier barrier) {
      try {
        barrier.await();
      } catch (InterruptedException | BrokenBarrierException e) {
        Thread.currentThread().interrupt();
      }
    }

    /** Works a while from a place in the arrays and returns how far it came. */
    private long piece(Work work, long from) {
      long to = from + PIECE_BYTES;
      switch (work) {
        case FMA -> {
          sink += fma(FMA_ROUNDS);
          return (long) FMA_ROUNDS * CHAINS * LANES;
        }
        case READ -> sink += read(a, from, to);
        case COPY -> copy(a, b, from, to);
        case TRIAD -> triad(a, b, c, from, to);
        case UPDATE -> update(a, from, to);
      }
      return PIECE_BYTES;
    }
  }
}
