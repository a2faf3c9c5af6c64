package dev.lanewise.simd;

import static dev.lanewise.simd.AttentionTiles.ROWS;

import java.lang.foreign.MemorySegment;

/**
 * The arguments of one call of {@link Attention}, checked together and shared by its tasks. Spare
 * calls are kept, so that a call allocates nothing.
 */
final class AttentionCall {
  private static final int MAX_HEADS = 1 << 30;

  static final Spares<AttentionCall> SPARES = new Spares<>(AttentionCall::new);

  final AttentionOperand q = new AttentionOperand("q");
  final AttentionOperand k = new AttentionOperand("k");
  final AttentionOperand v = new AttentionOperand("v");
  final AttentionOperand out = new AttentionOperand("out");
  final AttentionOperand dOut = new AttentionOperand("dOut");
  final AttentionOperand dq = new AttentionOperand("dq");
  final AttentionOperand dk = new AttentionOperand("dk");
  final AttentionOperand dv = new AttentionOperand("dv");

  final Workers.Task forwardTask = task -> AttentionForward.run(this, task);
  final Workers.Task backwardTask = task -> AttentionBackward.run(this, task);
  final Workers.Task decodeTask = task -> AttentionDecode.run(this, task);
  final Workers.Task combineTask = task -> AttentionDecode.combine(this, task);

  /** Log-sum-exp {@code [batch, heads, queries]} or null. */
  MemorySegment lse;

  /** Byte where lse begins. */
  long lseAt;

  /** Keep bits {@code [batch, heads, queries, keys]} or null. */
  MemorySegment keep;

  long keepFirstBit;
  float keepScale;
  float scale;
  boolean causal;
  int batch;
  int heads;
  int headSize;
  int queries;
  int keys;

  /** Blocks of rows that a head is split into. */
  int groups;

  /** Partial results of a decoding step. */
  MemorySegment partial;

  private AttentionCall() {}

  void setProblem(float scale, boolean causal, int keys) {
    this.scale = scale;
    this.causal = causal;
    this.batch = q.batch;
    this.heads = q.heads;
    this.headSize = q.headSize;
    this.queries = q.rows;
    this.keys = keys;
    if (headSize < 1 || headSize > Attention.MAX_HEAD_SIZE) {
      throw new IllegalArgumentException(
          "headSize " + headSize + "; from 1 to " + Attention.MAX_HEAD_SIZE + " are possible");
    }
    if ((long) batch * heads > MAX_HEADS) {
      throw new IllegalArgumentException(
          "batch " + batch + " times heads " + heads + " is more than " + MAX_HEADS);
    }
    if (keys == 0 && queries > 0) {
      throw new IllegalArgumentException(queries + " queries have no keys to attend to");
    }
    if (!Float.isFinite(scale)) {
      throw new IllegalArgumentException("scale is " + scale + "; it must be finite");
    }
    if (causal && keys < queries) {
      throw new IllegalArgumentException(
          queries
              + " causal queries against "
              + keys
              + " keys: the last query belongs to the last"
              + " key, so there must be as many keys at least");
    }
  }

  void setLse(MemorySegment segment, long offset) {
    lse = segment;
    lseAt = offset * Float.BYTES;
  }

  void setDropout(MemorySegment bits, long firstBit, float scale) {
    keep = bits;
    keepFirstBit = firstBit;
    keepScale = scale;
    if (bits == null) {
      return;
    }
    long count = keepBits();
    if (firstBit < 0) {
      throw new IllegalArgumentException("keep: negative first bit " + firstBit);
    }
    if (firstBit > Long.MAX_VALUE - 7 - count) {
      throw new IllegalArgumentException(
          "keep: " + count + " bits from bit " + firstBit + " exceed any memory");
    }
    Checks.readable("keep", bits, 0, (firstBit + count + 7) / 8, 1);
    if (!Float.isFinite(scale)) {
      throw new IllegalArgumentException("keepScale is " + scale + "; it must be finite");
    }
  }

  private long keepBits() {
    try {
      return Math.multiplyExact((long) batch * heads, (long) queries * keys);
    } catch (ArithmeticException e) {
      throw new IllegalArgumentException("keep: more bits than any memory has", e);
    }
  }

  long lseFloats() {
    return (long) batch * heads * queries;
  }

  /** Bit of the mask that belongs to a query and key 0. */
  long keepBit(int sequence, int head, int query) {
    return keepFirstBit + (((long) sequence * heads + head) * queries + query) * keys;
  }

  /** Byte of lse that belongs to a head's first query. */
  long lseAt(int sequence, int head) {
    return lseAt + ((long) sequence * heads + head) * queries * Float.BYTES;
  }

  /** Keys that query 0 may see; each further query sees one more, when causal. */
  int firstVisible() {
    return causal ? keys - queries + 1 : keys;
  }

  /** Keys that the queries before {@code endQuery} may see. */
  int visible(int endQuery) {
    return causal ? keys - queries + endQuery : keys;
  }

  /** Splits heads into groups of rows when there are too few heads to balance the threads. */
  void chooseGroups() {
    int all = batch * heads;
    int threads = Workers.threads();
    int wanted = all % threads == 0 || all >= 8 * threads ? 1 : (8 * threads + all - 1) / all;
    groups = Math.clamp((queries + ROWS - 1) / ROWS, 1, wanted);
  }

  /** First row of a group. Groups cost about the same and begin where a tile begins. */
  int groupStart(int group) {
    double share = (double) group / groups;
    double row = queries * share;
    if (causal) {
      double before = keys - queries;
      row = Math.sqrt(before * before + share * ((double) keys * keys - before * before)) - before;
    }
    return tileStart(Math.clamp(Math.round(row), 0, queries));
  }

  /**
   * First row of the tile that holds a row, or the number of queries for the row after the last.
   * Tiles end with the last row, so that one that is not full is the first, where rows see the
   * fewest keys.
   */
  int tileStart(int row) {
    return Math.max(0, queries - (queries - row + ROWS - 1) / ROWS * ROWS);
  }

  /** Rows of the tile that begins at a row. */
  int tileRows(int start) {
    int remainder = (queries - start) % ROWS;
    return remainder == 0 ? ROWS : remainder;
  }

  void release() {
    q.clear();
    k.clear();
    v.clear();
    out.clear();
    dOut.clear();
    dq.clear();
    dk.clear();
    dv.clear();
    lse = null;
    keep = null;
    partial = null;
    SPARES.give(this);
  }
}
