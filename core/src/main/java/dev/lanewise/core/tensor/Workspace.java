package dev.lanewise.core.tensor;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.backend.Buffer;
import dev.lanewise.core.backend.DType;
import java.util.ArrayList;
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
  private final List<Buffer> returned = new ArrayList<>();
  private long nextChunk;
  private int chunk;
  private long top;
  private long used;
  private long peak;

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
    returned.clear();
  }

  /** Takes memory that lives until the trace is cut before this point. */
  Buffer take(DType type, long length) {
    long bytes = roundUp(Math.max(length, 1) * type.bytes);
    used += bytes;
    peak = Math.max(peak, used);
    while (chunk < chunks.size()) {
      Buffer current = chunks.get(chunk);
      if (top + bytes <= current.byteSize()) {
        Buffer buffer = current.view(type, top, length);
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
    return fresh.view(type, 0, length);
  }

  /** Takes memory for a gradient, from what {@link #giveBack} returned if something fits. */
  Buffer takeGradient(DType type, long length) {
    long bytes = roundUp(Math.max(length, 1) * type.bytes);
    Buffer best = null;
    for (Buffer candidate : returned) {
      if (candidate.byteSize() >= bytes
          && (best == null || candidate.byteSize() < best.byteSize())) {
        best = candidate;
      }
    }
    if (best == null) {
      return take(DType.UINT8, bytes).view(type, 0, length);
    }
    returned.remove(best);
    if (best.byteSize() - bytes >= ALIGNMENT) {
      returned.add(best.view(DType.UINT8, bytes, best.byteSize() - bytes));
    }
    return best.view(type, 0, length);
  }

  /** Returns a gradient's memory, whose last reader has run, for later gradients. */
  void giveBack(Buffer gradient) {
    returned.add(gradient.view(DType.UINT8, 0, gradient.byteSize() / ALIGNMENT * ALIGNMENT));
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
    returned.clear();
    chunk = 0;
    top = 0;
  }
}
