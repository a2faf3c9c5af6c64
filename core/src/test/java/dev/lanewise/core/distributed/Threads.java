package dev.lanewise.core.distributed;

import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BrokenBarrierException;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/** A stand-in for processes: threads of one, which exchange by copying from each other's memory. */
public final class Threads implements Communicator {
  private record Call(MemorySegment memory, int[] at, int[] counts) {}

  private static final class Shared {
    final CyclicBarrier barrier;
    final Call[] calls;

    Shared(int size) {
      barrier = new CyclicBarrier(size);
      calls = new Call[size];
    }
  }

  private final Shared shared;
  private final int rank;

  /** Floats that this one has sent to others. */
  public long sent;

  private Threads(Shared shared, int rank) {
    this.shared = shared;
    this.rank = rank;
  }

  /** As many as wanted, each for one thread. */
  public static List<Threads> of(int size) {
    Shared shared = new Shared(size);
    List<Threads> all = new ArrayList<>();
    for (int rank = 0; rank < size; rank++) {
      all.add(new Threads(shared, rank));
    }
    return all;
  }

  @Override
  public int rank() {
    return rank;
  }

  @Override
  public int size() {
    return shared.calls.length;
  }

  @Override
  public String description() {
    return "threads";
  }

  @Override
  public void allToAll(
      MemorySegment send,
      int[] sendAt,
      int[] sendCounts,
      MemorySegment receive,
      int[] receiveAt,
      int[] receiveCounts) {
    Pieces.check("send", send, sendAt, sendCounts, size());
    Pieces.check("receive", receive, receiveAt, receiveCounts, size());
    exchange(
        new Call(send, sendAt.clone(), sendCounts.clone()),
        () -> {
          for (int from = 0; from < size(); from++) {
            Call other = shared.calls[from];
            if (other.counts[rank] != receiveCounts[from]) {
              throw new IllegalStateException(
                  other.counts[rank] + " floats for " + receiveCounts[from]);
            }
            copy(other.memory, other.at[rank], receive, receiveAt[from], receiveCounts[from]);
            sent += from == rank ? 0 : sendCounts[from];
          }
        });
  }

  @Override
  public void allGather(MemorySegment all, int[] at, int[] counts) {
    Pieces.check("all", all, at, counts, size());
    exchange(
        new Call(all, at.clone(), counts.clone()),
        () -> {
          for (int from = 0; from < size(); from++) {
            if (from != rank) {
              copy(shared.calls[from].memory, at[from], all, at[from], counts[from]);
              sent += counts[rank];
            }
          }
        });
  }

  @Override
  public void broadcast(MemorySegment data, int root) {
    Pieces.checkMemory("data", data);
    exchange(
        new Call(data, null, null),
        () -> {
          if (rank != root) {
            data.copyFrom(shared.calls[root].memory);
          }
        });
  }

  @Override
  public void barrier() {
    await();
  }

  private static void copy(MemorySegment from, int at, MemorySegment to, int toAt, int count) {
    MemorySegment.copy(from, 4L * at, to, 4L * toAt, 4L * count);
  }

  private void exchange(Call call, Runnable body) {
    shared.calls[rank] = call;
    await();
    body.run();
    await();
  }

  private void await() {
    try {
      shared.barrier.await(30, TimeUnit.SECONDS);
    } catch (InterruptedException | BrokenBarrierException | TimeoutException e) {
      throw new IllegalStateException(e);
    }
  }

  @Override
  public void abort(int code) {
    shared.barrier.reset();
  }

  @Override
  public void close() {}
}
