package dev.lanewise.simd;

import java.lang.foreign.MemorySegment;
import java.util.Locale;

/** A {@link Heads} that can be filled again, so that a call makes no objects. Steps in bytes. */
final class AttentionOperand {
  final String name;
  MemorySegment segment;
  long at;
  long batchStep;
  long rowStep;
  long headStep;
  int batch;
  int rows;
  int heads;
  int headSize;

  AttentionOperand(String name) {
    this.name = name;
  }

  void set(Heads view) {
    if (view == null) {
      throw new IllegalArgumentException(name + " is null");
    }
    fill(
        view.segment(),
        view.offset(),
        view.batch(),
        view.rows(),
        view.heads(),
        view.headSize(),
        view.batchStride(),
        view.rowStride(),
        view.headStride());
  }

  void set(
      MemorySegment segment,
      long offset,
      int batch,
      int rows,
      int heads,
      int headSize,
      long batchStride,
      long rowStride) {
    check(name, segment, offset, batch, rows, heads, headSize, batchStride, rowStride, headSize);
    fill(segment, offset, batch, rows, heads, headSize, batchStride, rowStride, headSize);
  }

  private void fill(
      MemorySegment segment,
      long offset,
      int batch,
      int rows,
      int heads,
      int headSize,
      long batchStride,
      long rowStride,
      long headStride) {
    this.segment = segment;
    this.at = offset * Float.BYTES;
    this.batch = batch;
    this.rows = rows;
    this.heads = heads;
    this.headSize = headSize;
    this.batchStep = batchStride * Float.BYTES;
    this.rowStep = rowStride * Float.BYTES;
    this.headStep = headStride * Float.BYTES;
  }

  /** Forgets the segment, so that a spare call keeps no memory alive. */
  void clear() {
    segment = null;
  }

  /** Byte where the head's first row begins. */
  long at(int sequence, int head) {
    return at + sequence * batchStep + head * headStep;
  }

  boolean isEmpty() {
    return batch == 0 || rows == 0 || heads == 0 || headSize == 0;
  }

  /** Floats from the first to past the last, gaps included. */
  long extent() {
    return isEmpty() ? 0 : bytes() / Float.BYTES;
  }

  private long bytes() {
    return (batch - 1) * batchStep
        + (rows - 1) * rowStep
        + (heads - 1) * headStep
        + (long) headSize * Float.BYTES;
  }

  void requireShape(int batch, int rows, int heads, int headSize, String like) {
    if (this.batch != batch
        || this.rows != rows
        || this.heads != heads
        || this.headSize != headSize) {
      throw new IllegalArgumentException(
          String.format(
              Locale.ROOT,
              "%s is %s, but %s asks for %s",
              name,
              shape(),
              like,
              shape(batch, rows, heads, headSize)));
    }
  }

  String shape() {
    return shape(batch, rows, heads, headSize);
  }

  private static String shape(int batch, int rows, int heads, int headSize) {
    return String.format(
        Locale.ROOT, "[batch %d, rows %d, heads %d, headSize %d]", batch, rows, heads, headSize);
  }

  void requireReadable() {
    Checks.readable(name, segment, at / Float.BYTES, extent());
  }

  void requireWritable() {
    Checks.writable(name, segment, at / Float.BYTES, extent());
    if (!isEmpty() && overlapsItself()) {
      throw new IllegalArgumentException(
          String.format(
              Locale.ROOT,
              "%s is written but its elements share memory: %s with strides %d, %d, %d",
              name,
              shape(),
              batchStep / Float.BYTES,
              rowStep / Float.BYTES,
              headStep / Float.BYTES));
    }
  }

  /** Whether two elements may coincide: in order of step, each must clear what lies within it. */
  private boolean overlapsItself() {
    long inner = (long) headSize * Float.BYTES;
    int done = 0;
    for (int round = 0; round < 3; round++) {
      int next = -1;
      for (int axis = 0; axis < 3; axis++) {
        if ((done >> axis & 1) == 0 && (next < 0 || step(axis) < step(next))) {
          next = axis;
        }
      }
      done |= 1 << next;
      if (count(next) > 1) {
        if (step(next) < inner) {
          return true;
        }
        inner += (count(next) - 1) * step(next);
      }
    }
    return false;
  }

  private long step(int axis) {
    return axis == 0 ? batchStep : axis == 1 ? rowStep : headStep;
  }

  private int count(int axis) {
    return axis == 0 ? batch : axis == 1 ? rows : heads;
  }

  /** Refuses to be written while another operand shares its memory. */
  void requireDisjoint(AttentionOperand other) {
    if (interleaves(other)) {
      return;
    }
    Checks.disjoint(
        name,
        segment,
        at / Float.BYTES,
        extent(),
        other.name,
        other.segment,
        other.at / Float.BYTES,
        other.extent());
  }

  /** Whether both are blocks of columns of the same wide rows, such as keys beside values. */
  private boolean interleaves(AttentionOperand o) {
    if (rowStep != o.rowStep || rowStep == 0 || isEmpty() || o.isEmpty()) {
      return false;
    }
    long width = (heads - 1) * headStep + (long) headSize * Float.BYTES;
    long otherWidth = (o.heads - 1) * o.headStep + (long) o.headSize * Float.BYTES;
    boolean isWholeRows =
        (batch == 1 || batchStep % rowStep == 0) && (o.batch == 1 || o.batchStep % rowStep == 0);
    long gap = Math.floorMod(o.segment.address() + o.at - segment.address() - at, rowStep);
    return isWholeRows && gap >= width && rowStep - gap >= otherWidth;
  }

  static void check(
      String name,
      MemorySegment segment,
      long offset,
      int batch,
      int rows,
      int heads,
      int headSize,
      long batchStride,
      long rowStride,
      long headStride) {
    if (segment == null) {
      throw new IllegalArgumentException(name + ": its segment is null");
    }
    Checks.arrayOfFloats(name, segment);
    if (batch < 0 || rows < 0 || heads < 0 || headSize < 0 || offset < 0) {
      throw new IllegalArgumentException(
          String.format(
              Locale.ROOT,
              "%s: negative shape or offset, %s at %d",
              name,
              shape(batch, rows, heads, headSize),
              offset));
    }
    if (batchStride < 0 || rowStride < 0 || headStride < 0) {
      throw new IllegalArgumentException(
          String.format(
              Locale.ROOT,
              "%s: negative stride among %d, %d, %d",
              name,
              batchStride,
              rowStride,
              headStride));
    }
    if (batch == 0 || rows == 0 || heads == 0 || headSize == 0) {
      return;
    }
    long room = segment.byteSize() / Float.BYTES - offset - headSize;
    room = room < 0 ? room : left(room, batch - 1, batchStride);
    room = room < 0 ? room : left(room, rows - 1, rowStride);
    room = room < 0 ? room : left(room, heads - 1, headStride);
    if (room < 0) {
      throw new IllegalArgumentException(
          String.format(
              Locale.ROOT,
              "%s: %s with strides %d, %d, %d at %d does not fit in a segment of %d floats",
              name,
              shape(batch, rows, heads, headSize),
              batchStride,
              rowStride,
              headStride,
              offset,
              segment.byteSize() / Float.BYTES));
    }
  }

  private static long left(long room, long steps, long stride) {
    return stride > 0 && steps > room / stride ? -1 : room - steps * stride;
  }
}
