package dev.lanewise.core.tensor;

import dev.lanewise.core.backend.Buffer;
import dev.lanewise.core.backend.DType;
import java.util.ArrayList;
import java.util.List;

/**
 * Memory for results that are not kept. It belongs to one {@link Part} of a trace at a time; when
 * another part takes it over, the results of the former are gone, and are computed again when they
 * are next read.
 */
final class SharedMemory {
  private final Workspace workspace;
  private final List<Place> places = new ArrayList<>();
  private Part current;

  /** Memory, and the place in the trace of the operation that it was first taken for. */
  private record Place(Buffer buffer, int since) {}

  SharedMemory(Workspace workspace) {
    this.workspace = workspace;
  }

  /** Operations whose results are there at the same time. */
  static final class Part {
    final SharedMemory memory;
    private final List<Op> ops = new ArrayList<>();
    private final List<Taken> taken = new ArrayList<>();

    private record Taken(Place place, int by) {}

    Part(SharedMemory memory) {
      this.memory = memory;
    }

    void add(Op op) {
      ops.add(op);
    }

    /** Forgets operations from a place in the trace on. */
    void cut(int from) {
      ops.removeIf(op -> op.number >= from);
      taken.removeIf(each -> each.by >= from);
    }

    private boolean has(Place place) {
      for (Taken each : taken) {
        if (each.place == place) {
          return true;
        }
      }
      return false;
    }

    /**
     * Takes memory that no other operation of this part has.
     *
     * @param by the operation's place in the trace
     */
    Buffer take(DType type, long length, int by) {
      long bytes = Workspace.roundUp(Math.max(length, 1) * type.bytes);
      Place best = null;
      for (Place place : memory.places) {
        if (place.buffer.byteSize() >= bytes
            && !has(place)
            && (best == null || place.buffer.byteSize() < best.buffer.byteSize())) {
          best = place;
        }
      }
      if (best == null) {
        best = new Place(memory.workspace.take(DType.UINT8, bytes), by);
        memory.places.add(best);
      }
      taken.add(new Taken(best, by));
      return best.buffer.view(type, 0, length);
    }

    /** Makes the memory this part's. */
    void enter() {
      if (memory.current != this) {
        memory.leave();
        memory.current = this;
      }
    }
  }

  private void leave() {
    if (current != null) {
      for (int i = 0; i < current.ops.size(); i++) {
        current.ops.get(i).fresh = false;
      }
      current = null;
    }
  }

  /** Forgets what operations from a number on have taken, as their trace is cut there. */
  void cut(int from) {
    leave();
    places.removeIf(place -> place.since >= from);
  }
}
