package dev.lanewise.core.distributed;

import java.lang.foreign.MemorySegment;

/** One process, which has all that there is. */
final class Alone implements Communicator {
  @Override
  public int rank() {
    return 0;
  }

  @Override
  public int size() {
    return 1;
  }

  @Override
  public String description() {
    return "one process";
  }

  @Override
  public void allToAll(
      MemorySegment send,
      int[] sendAt,
      int[] sendCounts,
      MemorySegment receive,
      int[] receiveAt,
      int[] receiveCounts) {
    Pieces.check("send", send, sendAt, sendCounts, 1);
    Pieces.check("receive", receive, receiveAt, receiveCounts, 1);
    MemorySegment.copy(
        send,
        (long) sendAt[0] * Float.BYTES,
        receive,
        (long) receiveAt[0] * Float.BYTES,
        (long) receiveCounts[0] * Float.BYTES);
  }

  @Override
  public void allGather(MemorySegment all, int[] at, int[] counts) {
    Pieces.check("all", all, at, counts, 1);
  }

  @Override
  public void broadcast(MemorySegment data, int root) {
    Pieces.checkMemory("data", data);
  }

  @Override
  public void barrier() {}

  @Override
  public void abort(int code) {
    Runtime.getRuntime().halt(code);
  }

  @Override
  public void close() {}
}
