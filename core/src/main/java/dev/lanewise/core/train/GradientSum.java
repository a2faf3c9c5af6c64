package dev.lanewise.core.train;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.backend.Buffer;
import dev.lanewise.core.backend.DType;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.distributed.Communicator;
import dev.lanewise.core.nn.Share;
import dev.lanewise.core.tensor.ParameterBlock;
import dev.lanewise.core.tensor.Tape;
import dev.lanewise.simd.Elementwise;
import dev.lanewise.simd.Reduce;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.List;

/**
 * Sums the gradients of a step's passes along a {@link PassTree}, across processes: each computes
 * passes in a row and adds up what the tree adds up of them; then it gives every process its {@link
 * Share} of the sums that are left, and adds up the rest of its own. What a sum is made from does
 * not depend on who computes it, so neither do its bits.
 *
 * <p>A process sends and receives as much as in a reduce-scatter, a gradient less its own share, if
 * the tree has one sum for its passes, as it has where each process has a power of two of them.
 */
final class GradientSum implements AutoCloseable {
  /** Floats of a share that are exchanged with each process at a time. */
  private static final int PIECE = 1 << 19;

  private final Communicator communicator;
  private final Backend backend;
  private final int passes;
  private final int first;
  private final int size;
  private final Share share;
  private final PassTree tree;
  private final List<MemorySegment> parameters = new ArrayList<>();
  private final List<MemorySegment> gradients = new ArrayList<>();

  /** Sums of earlier passes that wait for another, each a copy of all blocks' gradients. */
  private final List<List<Buffer>> waiting = new ArrayList<>();

  /** Sums that wait. */
  private int depth;

  /** How many sums each process is left with. */
  private final int[] sums;

  /** After each of them, in the order of passes, how many of those before it joins. */
  private final int[] joinsOfAll;

  private final Buffer sendBuffer;
  private final Buffer receiveBuffer;
  private final int[] sendAt;
  private final int[] sendCounts;
  private final int[] receiveAt;
  private final int[] receiveCounts;

  /** Where the sums lie that wait while received ones are added up. */
  private final int[] places;

  private final Share[] shares;
  private final Buffer squares;
  private final MemorySegment squaresOfAll;

  // Null if one process has them all.
  private final Buffer losses;
  private final MemorySegment lossesOfAll;

  private double ownLoss;
  private long exchangeNanos;

  /**
   * Memory for the sums; gradients are allocated now.
   *
   * @param communicator the processes
   * @param tape owner of the parameters
   * @param passes of a step, at least as many as processes
   * @throws InputException if the device's memory is not this process's own
   */
  GradientSum(Communicator communicator, Tape tape, int passes) {
    this.communicator = communicator;
    this.passes = passes;
    backend = tape.backend();
    tree = new PassTree(passes);
    size = communicator.size();
    shares = new Share[size];
    for (int rank = 0; rank < size; rank++) {
      shares[rank] = new Share(rank, size);
    }
    share = shares[communicator.rank()];
    first = tree.first(communicator.rank(), size);
    sums = new int[size];
    List<PassTree.Node> left = new ArrayList<>();
    for (int rank = 0; rank < size; rank++) {
      List<PassTree.Node> own = tree.nodes(tree.first(rank, size), tree.first(rank + 1, size));
      sums[rank] = own.size();
      left.addAll(own);
    }
    int allNodes = left.size();
    joinsOfAll = tree.joins(left);
    int chunks = 0;
    for (ParameterBlock block : tape.parameters()) {
      if (block.trainable()) {
        parameters.add(host(block.data()));
        gradients.add(host(block.gradient()));
        chunks += Share.chunks(block.data().length());
      }
    }
    int copies = tree.waiting(first, first + passCount());
    for (int i = 0; i < copies; i++) {
      waiting.add(
          gradients.stream()
              .map(g -> backend.allocate(DType.FLOAT32, g.byteSize() / Float.BYTES))
              .toList());
    }
    boolean isAlone = size == 1;
    int ownNodes = sums[share.rank()];
    sendBuffer =
        isAlone || ownNodes == 1
            ? null
            : backend.allocate(DType.FLOAT32, (long) ownNodes * size * PIECE);
    receiveBuffer = isAlone ? null : backend.allocate(DType.FLOAT32, (long) allNodes * PIECE);
    sendAt = new int[size];
    sendCounts = new int[size];
    receiveAt = new int[size];
    receiveCounts = new int[size];
    places = new int[allNodes];
    // Doubles, as twice as many floats: nothing but bits is exchanged.
    squares = backend.allocate(DType.FLOAT32, 2L * chunks);
    squaresOfAll = host(squares);
    losses = isAlone ? null : backend.allocate(DType.FLOAT32, 2L * passes);
    lossesOfAll = isAlone ? null : host(losses);
  }

  /** Copies of all gradients that a process needs beside the gradients. */
  static int copies(int passes, int rank, int size) {
    PassTree tree = new PassTree(passes);
    return tree.waiting(tree.first(rank, size), tree.first(rank + 1, size));
  }

  /** Bytes that exchanging takes at most. */
  static long exchangeBytes(int passes, int size) {
    if (size == 1) {
      return 0;
    }
    PassTree tree = new PassTree(passes);
    long all = 0;
    long most = 0;
    for (int rank = 0; rank < size; rank++) {
      int own = tree.nodes(tree.first(rank, size), tree.first(rank + 1, size)).size();
      all += own;
      most = Math.max(most, own);
    }
    return Float.BYTES * PIECE * (all + (most == 1 ? 0 : most * size));
  }

  private MemorySegment host(Buffer buffer) {
    MemorySegment memory = backend.hostMemory(buffer);
    if (memory == null) {
      throw new InputException(
          "Gradients of passes are summed in a tree on a CPU alone so far; choose --device cpu, or"
              + " for one process --gradient-sum plain.");
    }
    return memory;
  }

  /** The first pass of this process. */
  int firstPass() {
    return first;
  }

  /** How many passes this process computes, in a row. */
  int passCount() {
    return tree.first(share.rank() + 1, size) - first;
  }

  // Sums of this process
  // -----------------------------------------------------------------------------------------

  /**
   * Takes the gradients of a pass, which lie where gradients lie.
   *
   * @param pass the passes of this process, in order
   * @param loss its part of the step's loss
   */
  void add(int pass, double loss) {
    if (pass == first) {
      depth = 0;
      ownLoss = 0;
    }
    if (lossesOfAll == null) {
      ownLoss += loss;
    } else {
      lossesOfAll.setAtIndex(ValueLayout.JAVA_DOUBLE_UNALIGNED, pass, loss);
    }
    for (int join = tree.joins(first, pass); join > 0; join--) {
      List<Buffer> before = waiting.get(--depth);
      for (int i = 0; i < gradients.size(); i++) {
        MemorySegment gradient = gradients.get(i);
        add(backend.hostMemory(before.get(i)), 0, gradient, 0, gradient, 0, floats(gradient));
      }
    }
    if (pass + 1 < first + passCount()) {
      List<Buffer> copy = waiting.get(depth++);
      for (int i = 0; i < gradients.size(); i++) {
        MemorySegment gradient = gradients.get(i);
        Elementwise.copy(gradient, 0, backend.hostMemory(copy.get(i)), 0, floats(gradient));
      }
    }
  }

  private static long floats(MemorySegment memory) {
    return memory.byteSize() / Float.BYTES;
  }

  private static void add(
      MemorySegment a,
      long aAt,
      MemorySegment b,
      long bAt,
      MemorySegment to,
      long toAt,
      long count) {
    Elementwise.apply(Elementwise.Binary.ADD, a, aAt, b, bAt, to, toAt, count);
  }

  // Sums of all
  // -----------------------------------------------------------------------------------------

  /** Makes this process's share of the gradients that of all passes. */
  void exchange() {
    long start = System.nanoTime();
    if (size > 1) {
      for (int block = 0; block < gradients.size(); block++) {
        long length = floats(gradients.get(block));
        long most = 0;
        for (int rank = 0; rank < size; rank++) {
          Share of = shares[rank];
          most = Math.max(most, of.to(length) - of.from(length));
        }
        for (long at = 0; at < most; at += PIECE) {
          exchange(block, length, at);
        }
      }
    }
    sumSquares();
    if (lossesOfAll != null) {
      gatherLosses();
    }
    exchangeNanos += System.nanoTime() - start;
  }

  /** Exchanges a piece of each process's share of a block. */
  private void exchange(int block, long length, long at) {
    MemorySegment gradient = gradients.get(block);
    int own = sums[share.rank()];
    MemorySegment send = sendBuffer == null ? gradient : backend.hostMemory(sendBuffer);
    int place = 0;
    for (int rank = 0; rank < size; rank++) {
      Share of = shares[rank];
      long from = Math.min(of.from(length) + at, of.to(length));
      int count = (int) Math.min(PIECE, of.to(length) - from);
      sendCounts[rank] = count * own;
      if (sendBuffer == null) {
        sendAt[rank] = Math.toIntExact(from);
        continue;
      }
      sendAt[rank] = place;
      for (int i = 0; i < own; i++) {
        boolean isNewest = i == own - 1;
        MemorySegment sum = isNewest ? gradient : backend.hostMemory(waiting.get(i).get(block));
        if (count > 0) {
          Elementwise.copy(sum, from, send, place, count);
        }
        place += count;
      }
    }
    long mine = Math.min(share.from(length) + at, share.to(length));
    int count = (int) Math.min(PIECE, share.to(length) - mine);
    place = 0;
    for (int rank = 0; rank < size; rank++) {
      receiveAt[rank] = place;
      receiveCounts[rank] = count * sums[rank];
      place += receiveCounts[rank];
    }
    MemorySegment receive = backend.hostMemory(receiveBuffer);
    communicator.allToAll(send, sendAt, sendCounts, receive, receiveAt, receiveCounts);
    if (count > 0) {
      long sum = combine(receive, count);
      Elementwise.copy(receive, sum, gradient, mine, count);
    }
  }

  /** Adds up what was received, in the tree's order, and tells where the sum lies. */
  private long combine(MemorySegment received, int count) {
    int top = 0;
    int place = 0;
    for (int join : joinsOfAll) {
      int at = place;
      place += count;
      for (; join > 0; join--) {
        int before = places[--top];
        add(received, before, received, at, received, before, count);
        at = before;
      }
      places[top++] = at;
    }
    return places[0];
  }

  /** The sum of squares of each chunk, by the process whose it is. */
  private void sumSquares() {
    int chunk = 0;
    for (MemorySegment gradient : gradients) {
      long length = floats(gradient);
      int chunks = Share.chunks(length);
      for (int i = 0; i < chunks; i++) {
        long from = (long) i * Share.CHUNK;
        if (from >= share.from(length) && from < share.to(length)) {
          long count = Math.min(Share.CHUNK, length - from);
          squaresOfAll.setAtIndex(
              ValueLayout.JAVA_DOUBLE_UNALIGNED,
              chunk + i,
              Reduce.sumOfSquares(gradient, from, count));
        }
      }
      gatherChunks(chunk, length);
      chunk += chunks;
    }
  }

  private void gatherChunks(int firstChunk, long length) {
    for (int rank = 0; rank < size; rank++) {
      Share of = shares[rank];
      int from = (int) ((of.from(length) + Share.CHUNK - 1) / Share.CHUNK);
      int to = Share.chunks(of.to(length));
      receiveAt[rank] = 2 * (firstChunk + from);
      receiveCounts[rank] = 2 * Math.max(0, to - from);
    }
    communicator.allGather(squaresOfAll, receiveAt, receiveCounts);
  }

  private void gatherLosses() {
    for (int rank = 0; rank < size; rank++) {
      receiveAt[rank] = 2 * tree.first(rank, size);
      receiveCounts[rank] = 2 * (tree.first(rank + 1, size) - tree.first(rank, size));
    }
    communicator.allGather(lossesOfAll, receiveAt, receiveCounts);
  }

  /** The norm of the gradients of all passes, after {@link #exchange}, the same everywhere. */
  double norm() {
    double sum = 0;
    for (long i = 0; i < squaresOfAll.byteSize() / Double.BYTES; i++) {
      sum += squaresOfAll.getAtIndex(ValueLayout.JAVA_DOUBLE_UNALIGNED, i);
    }
    return Math.sqrt(sum);
  }

  /** The sum of the passes' losses, after {@link #exchange}, the same everywhere. */
  double loss() {
    if (lossesOfAll == null) {
      return ownLoss;
    }
    double sum = 0;
    for (int pass = 0; pass < passes; pass++) {
      sum += lossesOfAll.getAtIndex(ValueLayout.JAVA_DOUBLE_UNALIGNED, pass);
    }
    return sum;
  }

  /** Gives all processes the parameters that each has updated. */
  void gatherParameters() {
    long start = System.nanoTime();
    for (MemorySegment block : parameters) {
      gatherShares(block);
    }
    exchangeNanos += System.nanoTime() - start;
  }

  private void gatherShares(MemorySegment block) {
    long length = floats(block);
    if (length > Integer.MAX_VALUE) {
      throw new InputException(
          "A model of more than 2,147,483,647 parameters is not dealt to processes yet.");
    }
    for (int rank = 0; rank < size; rank++) {
      Share of = shares[rank];
      receiveAt[rank] = (int) of.from(length);
      receiveCounts[rank] = (int) (of.to(length) - of.from(length));
    }
    communicator.allGather(block, receiveAt, receiveCounts);
  }

  /** Time that this process spent in exchanges, and waiting for others there. */
  double exchangeSeconds() {
    return exchangeNanos * 1e-9;
  }

  @Override
  public void close() {
    waiting.forEach(copy -> copy.forEach(backend::free));
    waiting.clear();
    for (Buffer buffer : new Buffer[] {sendBuffer, receiveBuffer, squares, losses}) {
      if (buffer != null) {
        backend.free(buffer);
      }
    }
  }
}
