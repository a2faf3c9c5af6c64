package dev.lanewise.core.distributed;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import dev.lanewise.core.base.InputException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.invoke.MethodHandle;
import java.util.Locale;
import java.util.concurrent.locks.LockSupport;

/**
 * MPI, of whichever library the launcher belongs to.
 *
 * <p>Of all that it offers, messages from one process to another are used, which every version does
 * well; collective operations that do not wait are not: Open MPI's 4.1.4 hangs where a process has
 * nothing to exchange. Messages between two processes arrive in the order in which they were sent,
 * so one tag will do.
 *
 * <p>Libraries of three kinds differ in what handles are: addresses of the library's own objects
 * (Open MPI), integers (MPICH, and Intel MPI, MVAPICH, Cray MPICH after it), or the small numbers
 * of MPI 5's standard ABI. Handles are passed as 64 bits in any case; where a library takes an int,
 * it reads the lower half of the same register or slot.
 */
@SuppressWarnings("restricted")
final class Mpi implements Communicator {
  private static final int FUNNELED = 1;
  private static final int TAG = 1;

  /** Floats of a message: fewer than an int counts bytes. */
  private static final int MOST_FLOATS = 1 << 28;

  /** More bytes than {@code MPI_Status} has in any ABI. */
  private static final long STATUS_BYTES = 256;

  /** Time in which most exchanges are over, and asking again is all there is to do. */
  private static final long SHORT_NANOS = 30_000;

  /** Time after which a wait is long, and need not end at once. */
  private static final long LONG_NANOS = 20_000_000;

  private static final long NAP_NANOS = 100_000;

  /** Longest version that a library may give, in any ABI. */
  private static final long TEXT_BYTES = 8192;

  private final MpiLibrary library;
  private final Arena arena = Arena.ofShared();
  private final int rank;
  private final int size;
  private final String description;
  private final MethodHandle send;
  private final MethodHandle receive;
  private final MethodHandle test;
  private final MethodHandle abort;
  private final MethodHandle finish;

  /** What is under way: handles, of whichever size. */
  private final MemorySegment requests;

  private int underWay;

  // What a barrier exchanges.
  private final MemorySegment token;
  private final int[] tokenAt;
  private final int[] tokenCounts;

  private final MemorySegment isDone = arena.allocate(JAVA_INT);
  private final MemorySegment status = arena.allocate(STATUS_BYTES, Long.BYTES);

  private Mpi(MpiLibrary library) throws Throwable {
    this.library = library;
    MethodHandle init =
        call(
            "MPI_Init_thread",
            FunctionDescriptor.of(JAVA_INT, ADDRESS, ADDRESS, JAVA_INT, ADDRESS));
    MethodHandle ofRank =
        call("MPI_Comm_rank", FunctionDescriptor.of(JAVA_INT, JAVA_LONG, ADDRESS));
    MethodHandle ofSize =
        call("MPI_Comm_size", FunctionDescriptor.of(JAVA_INT, JAVA_LONG, ADDRESS));
    MethodHandle version =
        call("MPI_Get_library_version", FunctionDescriptor.of(JAVA_INT, ADDRESS, ADDRESS));
    send =
        call(
            "MPI_Isend",
            FunctionDescriptor.of(
                JAVA_INT, ADDRESS, JAVA_INT, JAVA_LONG, JAVA_INT, JAVA_INT, JAVA_LONG, ADDRESS));
    receive =
        call(
            "MPI_Irecv",
            FunctionDescriptor.of(
                JAVA_INT, ADDRESS, JAVA_INT, JAVA_LONG, JAVA_INT, JAVA_INT, JAVA_LONG, ADDRESS));
    test = call("MPI_Test", FunctionDescriptor.of(JAVA_INT, ADDRESS, ADDRESS, ADDRESS));
    abort = call("MPI_Abort", FunctionDescriptor.of(JAVA_INT, JAVA_LONG, JAVA_INT));
    finish = call("MPI_Finalize", FunctionDescriptor.of(JAVA_INT));
    MemorySegment text = arena.allocate(TEXT_BYTES);
    MemorySegment number = arena.allocate(JAVA_INT);
    check((int) version.invokeExact(text, number), "MPI_Get_library_version");
    description =
        text.getString(0)
            .lines()
            .findFirst()
            .orElse("MPI")
            .split(",", 2)[0]
            .replace("Version:", "")
            .replaceAll("\\s+", " ")
            .strip();
    check(
        (int) init.invokeExact(MemorySegment.NULL, MemorySegment.NULL, FUNNELED, number),
        "MPI_Init_thread");
    check((int) ofRank.invokeExact(library.world(), number), "MPI_Comm_rank");
    rank = number.get(JAVA_INT, 0);
    check((int) ofSize.invokeExact(library.world(), number), "MPI_Comm_size");
    size = number.get(JAVA_INT, 0);
    requests = arena.allocate(2L * size * Long.BYTES, Long.BYTES);
    token = arena.allocate((long) size * Float.BYTES, Float.BYTES);
    tokenAt = new int[size];
    tokenCounts = new int[size];
    for (int i = 0; i < size; i++) {
      tokenAt[i] = i;
      tokenCounts[i] = 1;
    }
  }

  /**
   * Joins the other processes.
   *
   * @throws InputException if no library fits the launcher
   */
  static Mpi join(Launch launch) {
    MpiLibrary library;
    Mpi mpi;
    Signals signals = Signals.keep();
    try {
      library = MpiLibrary.find(launch);
      mpi = new Mpi(library);
    } catch (RuntimeException | Error e) {
      throw e;
    } catch (Throwable e) {
      throw new IllegalStateException(e);
    } finally {
      signals.close();
    }
    int expected = launch.size();
    if (expected > 0 && expected != mpi.size) {
      throw new InputException(
          String.format(
              Locale.ROOT,
              "The launcher started %d processes, but %s (%s) knows of %d: the library is not the"
                  + " launcher's; name that one in %s.",
              expected,
              library.path(),
              mpi.description,
              mpi.size,
              MpiLibrary.VARIABLE));
    }
    return mpi;
  }

  private MethodHandle call(String name, FunctionDescriptor descriptor) {
    SymbolLookup symbols = library.symbols();
    MemorySegment address =
        symbols
            .find(name)
            .orElseThrow(
                () ->
                    new InputException(
                        library.path() + " has no " + name + ", so it is no library of MPI 3."));
    return Linker.nativeLinker().downcallHandle(address, descriptor);
  }

  private static void check(int code, String call) {
    if (code != 0) {
      throw new IllegalStateException(call + " failed with code " + code);
    }
  }

  private void send(MemorySegment from, long at, int count, int to) throws Throwable {
    if (count > 0) {
      MemorySegment part = from.asSlice(at * Float.BYTES, (long) count * Float.BYTES);
      check(
          (int)
              send.invokeExact(
                  part, count, library.floats(), to, TAG, library.world(), nextRequest()),
          "MPI_Isend");
    }
  }

  private void receive(MemorySegment into, long at, int count, int from) throws Throwable {
    if (count > 0) {
      MemorySegment part = into.asSlice(at * Float.BYTES, (long) count * Float.BYTES);
      check(
          (int)
              receive.invokeExact(
                  part, count, library.floats(), from, TAG, library.world(), nextRequest()),
          "MPI_Irecv");
    }
  }

  private MemorySegment nextRequest() {
    return requests.asSlice((long) underWay++ * Long.BYTES, Long.BYTES);
  }

  /**
   * Waits for what is under way, and lets others have the core meanwhile: waiting in the library is
   * a loop that never gives it up, by which a job of more processes than cores takes a hundred
   * times as long.
   */
  private void await() throws Throwable {
    long start = 0;
    int finished = 0;
    while (finished < underWay) {
      MemorySegment next = requests.asSlice((long) finished * Long.BYTES, Long.BYTES);
      check((int) test.invokeExact(next, isDone, status), "MPI_Test");
      if (isDone.get(JAVA_INT, 0) != 0) {
        finished++;
        continue;
      }
      long now = System.nanoTime();
      start = start == 0 ? now : start;
      if (now - start > LONG_NANOS) {
        LockSupport.parkNanos(NAP_NANOS);
      } else if (now - start > SHORT_NANOS) {
        Thread.yield();
      } else {
        Thread.onSpinWait();
      }
    }
    underWay = 0;
  }

  @Override
  public int rank() {
    return rank;
  }

  @Override
  public int size() {
    return size;
  }

  @Override
  public String description() {
    return description;
  }

  @Override
  public void allToAll(
      MemorySegment from,
      int[] sendAt,
      int[] sendCounts,
      MemorySegment into,
      int[] receiveAt,
      int[] receiveCounts) {
    Pieces.check("send", from, sendAt, sendCounts, size);
    Pieces.check("receive", into, receiveAt, receiveCounts, size);
    try {
      for (int i = 1; i < size; i++) {
        // Each begins with its neighbour, so that not all send to one.
        int source = (rank - i + size) % size;
        int target = (rank + i) % size;
        receive(into, receiveAt[source], receiveCounts[source], source);
        send(from, sendAt[target], sendCounts[target], target);
      }
      MemorySegment.copy(
          from,
          (long) sendAt[rank] * Float.BYTES,
          into,
          (long) receiveAt[rank] * Float.BYTES,
          (long) sendCounts[rank] * Float.BYTES);
      await();
    } catch (Throwable e) {
      throw failed(e);
    }
  }

  @Override
  public void allGather(MemorySegment all, int[] at, int[] counts) {
    Pieces.check("all", all, at, counts, size);
    try {
      for (int i = 1; i < size; i++) {
        int source = (rank - i + size) % size;
        receive(all, at[source], counts[source], source);
        send(all, at[rank], counts[rank], (rank + i) % size);
      }
      await();
    } catch (Throwable e) {
      throw failed(e);
    }
  }

  @Override
  public void broadcast(MemorySegment data, int root) {
    Pieces.checkMemory("data", data);
    try {
      long floats = data.byteSize() / Float.BYTES;
      for (long from = 0; from < floats; from += MOST_FLOATS) {
        broadcast(data, from, (int) Math.min(MOST_FLOATS, floats - from), root);
      }
    } catch (Throwable e) {
      throw failed(e);
    }
  }

  /** Along a binomial tree: who has it gives it on to others, twice as many in each round. */
  private void broadcast(MemorySegment data, long from, int count, int root) throws Throwable {
    int place = (rank - root + size) % size;
    int reach = Integer.highestOneBit(Math.max(1, 2 * size - 1));
    int low = place == 0 ? reach : Integer.lowestOneBit(place);
    if (place != 0) {
      receive(data, from, count, (place - low + root) % size);
      await();
    }
    for (int step = low / 2; step > 0; step /= 2) {
      if (place + step < size) {
        send(data, from, count, (place + step + root) % size);
      }
    }
    await();
  }

  @Override
  public void barrier() {
    allGather(token, tokenAt, tokenCounts);
  }

  @Override
  public void abort(int code) {
    try {
      int ignored = (int) abort.invokeExact(library.world(), code);
    } catch (Throwable e) {
      throw failed(e);
    } finally {
      Runtime.getRuntime().halt(code);
    }
  }

  @Override
  public void close() {
    try {
      check((int) finish.invokeExact(), "MPI_Finalize");
    } catch (Throwable e) {
      throw failed(e);
    }
  }

  private static RuntimeException failed(Throwable e) {
    if (e instanceof Error error) {
      throw error;
    }
    return e instanceof RuntimeException runtime ? runtime : new IllegalStateException(e);
  }
}
