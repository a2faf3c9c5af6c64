package dev.lanewise.core.distributed;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import dev.lanewise.core.base.InputException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.invoke.MethodHandle;
import java.util.Locale;

/**
 * MPI, of whichever library the launcher belongs to.
 *
 * <p>Libraries of three kinds differ in what handles are: addresses of the library's own objects
 * (Open MPI), integers (MPICH, and Intel MPI, MVAPICH, Cray MPICH after it), or the small numbers
 * of MPI 5's standard ABI. Handles are passed as 64 bits in any case; where a library takes an int,
 * it reads the lower half of the same register or slot.
 */
@SuppressWarnings("restricted")
final class Mpi implements Communicator {
  private static final int FUNNELED = 1;

  /** Longest version that a library may give, in any ABI. */
  private static final long TEXT_BYTES = 8192;

  private final MpiLibrary library;
  private final Arena arena = Arena.ofShared();
  private final int rank;
  private final int size;
  private final String description;
  private final MethodHandle allToAll;
  private final MethodHandle allGather;
  private final MethodHandle broadcast;
  private final MethodHandle barrier;
  private final MethodHandle abort;
  private final MethodHandle finish;

  /** Counts and places of the pieces that are sent and received. */
  private final MemorySegment numbers;

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
    allToAll =
        call(
            "MPI_Alltoallv",
            FunctionDescriptor.of(
                JAVA_INT, ADDRESS, ADDRESS, ADDRESS, JAVA_LONG, ADDRESS, ADDRESS, ADDRESS,
                JAVA_LONG, JAVA_LONG));
    allGather =
        call(
            "MPI_Allgatherv",
            FunctionDescriptor.of(
                JAVA_INT, JAVA_LONG, JAVA_INT, JAVA_LONG, ADDRESS, ADDRESS, ADDRESS, JAVA_LONG,
                JAVA_LONG));
    broadcast =
        call(
            "MPI_Bcast",
            FunctionDescriptor.of(JAVA_INT, ADDRESS, JAVA_INT, JAVA_LONG, JAVA_INT, JAVA_LONG));
    barrier = call("MPI_Barrier", FunctionDescriptor.of(JAVA_INT, JAVA_LONG));
    abort = call("MPI_Abort", FunctionDescriptor.of(JAVA_INT, JAVA_LONG, JAVA_INT));
    finish = call("MPI_Finalize", FunctionDescriptor.of(JAVA_INT));
    MemorySegment text = arena.allocate(TEXT_BYTES);
    MemorySegment number = arena.allocate(JAVA_INT);
    check((int) version.invokeExact(text, number), "MPI_Get_library_version");
    description = text.getString(0).lines().findFirst().orElse("MPI").split(",", 2)[0].strip();
    check(
        (int) init.invokeExact(MemorySegment.NULL, MemorySegment.NULL, FUNNELED, number),
        "MPI_Init_thread");
    check((int) ofRank.invokeExact(library.world(), number), "MPI_Comm_rank");
    rank = number.get(JAVA_INT, 0);
    check((int) ofSize.invokeExact(library.world(), number), "MPI_Comm_size");
    size = number.get(JAVA_INT, 0);
    numbers = arena.allocate(MemoryLayout.sequenceLayout(4L * size, JAVA_INT));
  }

  /**
   * Joins the other processes.
   *
   * @throws InputException if no library fits the launcher
   */
  static Mpi join(Launch launch) {
    MpiLibrary library = MpiLibrary.find(launch);
    Mpi mpi;
    try {
      mpi = new Mpi(library);
    } catch (RuntimeException | Error e) {
      throw e;
    } catch (Throwable e) {
      throw new IllegalStateException(e);
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

  private MemorySegment part(int index) {
    long bytes = (long) size * Integer.BYTES;
    return numbers.asSlice(index * bytes, bytes);
  }

  private MemorySegment fill(int index, int[] values) {
    MemorySegment part = part(index);
    MemorySegment.copy(values, 0, part, JAVA_INT, 0, size);
    return part;
  }

  @Override
  public void allToAll(
      MemorySegment send,
      int[] sendAt,
      int[] sendCounts,
      MemorySegment receive,
      int[] receiveAt,
      int[] receiveCounts) {
    Pieces.check("send", send, sendAt, sendCounts, size);
    Pieces.check("receive", receive, receiveAt, receiveCounts, size);
    try {
      check(
          (int)
              allToAll.invokeExact(
                  send,
                  fill(0, sendCounts),
                  fill(1, sendAt),
                  library.floats(),
                  receive,
                  fill(2, receiveCounts),
                  fill(3, receiveAt),
                  library.floats(),
                  library.world()),
          "MPI_Alltoallv");
    } catch (Throwable e) {
      throw failed(e);
    }
  }

  @Override
  public void allGather(MemorySegment all, int[] at, int[] counts) {
    Pieces.check("all", all, at, counts, size);
    try {
      check(
          (int)
              allGather.invokeExact(
                  library.inPlace(),
                  0,
                  library.floats(),
                  all,
                  fill(0, counts),
                  fill(1, at),
                  library.floats(),
                  library.world()),
          "MPI_Allgatherv");
    } catch (Throwable e) {
      throw failed(e);
    }
  }

  @Override
  public void broadcast(MemorySegment data, int root) {
    Pieces.checkMemory("data", data);
    long most = (long) Integer.MAX_VALUE / Float.BYTES * Float.BYTES;
    try {
      for (long at = 0; at < data.byteSize(); at += most) {
        MemorySegment part = data.asSlice(at, Math.min(most, data.byteSize() - at));
        int count = (int) (part.byteSize() / Float.BYTES);
        check(
            (int) broadcast.invokeExact(part, count, library.floats(), root, library.world()),
            "MPI_Bcast");
      }
    } catch (Throwable e) {
      throw failed(e);
    }
  }

  @Override
  public void barrier() {
    try {
      check((int) barrier.invokeExact(library.world()), "MPI_Barrier");
    } catch (Throwable e) {
      throw failed(e);
    }
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
