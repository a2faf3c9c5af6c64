package dev.lanewise.simd;

import java.lang.foreign.MemorySegment;
import java.util.function.Consumer;

/** Lets {@link Attention} work on memory that needs stand-ins. */
final class AttentionHeap {
  private AttentionHeap() {}

  /** Runs a call whose segments are all native, or copies first and writes back after. */
  static void withNative(AttentionCall call, Consumer<AttentionCall> body) {
    if (!isHeap(call.q)
        && !isHeap(call.k)
        && !isHeap(call.v)
        && !isHeap(call.out)
        && !isHeap(call.dOut)
        && !isHeap(call.dq)
        && !isHeap(call.dk)
        && !isHeap(call.dv)
        && !Staging.needed(call.lse, call.keep)) {
      body.accept(call);
      return;
    }
    boolean isForward = call.dq.segment == null;
    try (Staging staging = new Staging()) {
      input(staging, call.q);
      input(staging, call.k);
      input(staging, call.v);
      if (call.keep != null) {
        call.keep = staging.input(call.keep, 0, call.keep.byteSize());
      }
      MemorySegment out = call.out.segment;
      long outAt = call.out.at;
      MemorySegment lse = call.lse;
      long lseAt = call.lseAt;
      input(staging, call.out);
      if (lse != null) {
        call.lse = staging.input(lse, lseAt, call.lseFloats() * Float.BYTES);
        call.lseAt = 0;
      }
      if (isForward) {
        body.accept(call);
        writeBack(call.out, out, outAt);
        if (lse != null) {
          MemorySegment.copy(call.lse, 0, lse, lseAt, call.lseFloats() * Float.BYTES);
        }
        return;
      }
      input(staging, call.dOut);
      MemorySegment dq = call.dq.segment;
      MemorySegment dk = call.dk.segment;
      MemorySegment dv = call.dv.segment;
      long dqAt = call.dq.at;
      long dkAt = call.dk.at;
      long dvAt = call.dv.at;
      input(staging, call.dq);
      input(staging, call.dk);
      input(staging, call.dv);
      body.accept(call);
      writeBack(call.dq, dq, dqAt);
      writeBack(call.dk, dk, dkAt);
      writeBack(call.dv, dv, dvAt);
    }
  }

  private static boolean isHeap(AttentionOperand operand) {
    return Staging.needed(operand.segment);
  }

  private static void input(Staging staging, AttentionOperand o) {
    o.segment = staging.input(o.segment, o.at, o.extent() * Float.BYTES);
    o.at = 0;
  }

  private static void writeBack(AttentionOperand from, MemorySegment to, long at) {
    if (to.isNative() && from.segment.address() == to.address() + at) {
      return;
    }
    for (int sequence = 0; sequence < from.batch; sequence++) {
      for (int head = 0; head < from.heads; head++) {
        for (int row = 0; row < from.rows; row++) {
          long place = from.at(sequence, head) + row * from.rowStep;
          MemorySegment.copy(from.segment, place, to, at + place, from.headSize * 4L);
        }
      }
    }
  }
}
