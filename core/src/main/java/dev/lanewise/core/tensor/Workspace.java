package dev.lanewise.core.tensor;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.backend.Buffer;
import dev.lanewise.core.backend.DType;
import java.util.ArrayList;
import java.util.IdentityHashMap;
import java.util.List;

/**
 * Memory of a trace: activations are taken one after the other, gradients of activations come from
 * what earlier ones gave back. Everything is taken while a trace is first run; later runs use the
 * same places, so nothing is allocated then.
 */
final class Workspace implements AutoCloseable {
  private static final long ALIGNMENT = 64;

  private final Backend backend;
  private final List<Buffer> chunks;
  private final IdentityHashMap<Buffer, Range> taken = new IdentityHashMap<>();
  private final List<Range> free = new ArrayList<>();
  private long nextChunk;
  private int chunk;
  private long top;
  private long used;
  private long peak;

  /** A stretch of a chunk, in bytes. */
  private record Range(int chunk, long from, long to) {
    long size() {
      return to - from;
    }
  }

  Workspace(Backend backend, long firstChunk) {
    this.backend = backend;
    this.nextChunk = firstChunk;
    this.chunks = new ArrayList<>();
  }

  /** A workspace over the memory of another, for traces that never run at the same time. */
  Workspace(Workspace other) {
    this.backend = other.backend;
    this.nextChunk = other.nextChunk;
    this.chunks = other.chunks;
  }

  /** Makes sure that so many bytes lie in one piece. */
  void reserve(long bytes) {
    if (chunks.isEmpty()) {
      chunks.add(backend.allocate(DType.UINT8, bytes));
    }
  }

  /** A place in the workspace, to which {@link #release(Mark)} goes back. */
  record Mark(int chunk, long top, long used) {}

  Mark mark() {
    return new Mark(chunk, top, used);
  }

  void release(Mark mark) {
    chunk = mark.chunk;
    top = mark.top;
    used = mark.used;
    taken
        .values()
        .removeIf(r -> r.chunk > mark.chunk || r.chunk == mark.chunk && r.from >= mark.top);
    free.clear();
  }

  /** Takes memory that lives until the trace is cut before this point. */
  Buffer take(DType type, long length) {
    long bytes = roundUp(Math.max(length, 1) * type.bytes);
    used += bytes;
    peak = Math.max(peak, used);
    while (chunk < chunks.size()) {
      Buffer current = chunks.get(chunk);
      if (top + bytes <= current.byteSize()) {
        Buffer buffer = view(new Range(chunk, top, top + bytes), type, length);
        top += bytes;
        return buffer;
      }
      chunk++;
      top = 0;
    }
    long size = Math.max(bytes, nextChunk);
    nextChunk = Math.min(2 * size, 1L << 28);
    Buffer fresh = backend.allocate(DType.UINT8, size);
    chunks.add(fresh);
    top = bytes;
    return view(new Range(chunk, 0, bytes), type, length);
  }

  /** Takes memory for the length of one operation; gradients of later ones may lie there. */
  Buffer takeForNow(long bytes) {
    Buffer buffer = take(DType.UINT8, bytes);
    giveBack(buffer);
    return buffer;
  }

  private Buffer view(Range range, DType type, long length) {
    Buffer buffer = chunks.get(range.chunk).view(type, range.from, length);
    taken.put(buffer, range);
    return buffer;
  }

  /** Takes memory for a gradient, from what {@link #giveBack} returned if something fits. */
  Buffer takeGradient(DType type, long length) {
    long bytes = roundUp(Math.max(length, 1) * type.bytes);
    Range best = null;
    for (Range candidate : free) {
      if (candidate.size() >= bytes && (best == null || candidate.size() < best.size())) {
        best = candidate;
      }
    }
    if (best == null) {
      return take(type, length);
    }
    free.remove(best);
    long end = best.from + bytes;
    if (end < best.to) {
      free.add(new Range(best.chunk, end, best.to));
    }
    return view(new Range(best.chunk, best.from, end), type, length);
  }

  /** Returns memory whose last reader has run, for later gradients. */
  void giveBack(Buffer buffer) {
    Range range = taken.remove(buffer);
    if (range == null) {
      return;
    }
    for (int i = free.size() - 1; i >= 0; i--) {
      Range other = free.get(i);
      if (other.chunk == range.chunk && (other.to == range.from || range.to == other.from)) {
        range =
            new Range(range.chunk, Math.min(range.from, other.from), Math.max(range.to, other.to));
        free.remove(i);
      }
    }
    free.add(range);
  }

  /** Forgets what was returned, so that later gradients take memory of their own. */
  void forgetReturned() {
    free.clear();
  }

  boolean sharesWith(Workspace other) {
    return chunks == other.chunks;
  }

  /** Most bytes in use at one time so far. */
  long peak() {
    return peak;
  }

  static long roundUp(long bytes) {
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  }

  @Override
  public void close() {
    chunks.forEach(backend::free);
    chunks.clear();
    taken.clear();
    free.clear();
    chunk = 0;
    top = 0;
  }
}
