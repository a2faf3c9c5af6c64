package dev.lanewise.core.train;

import java.util.ArrayList;
import java.util.List;

/**
 * In which order the gradients of a step's passes are summed: in pairs of neighbours, then pairs of
 * these, and so on, whoever computes them. So the sum has the same bits for any number of processes
 * that passes are dealt to.
 */
final class PassTree {
  /**
   * The sum of some passes.
   *
   * @param from the first
   * @param to past the last
   */
  record Node(int from, int to) {
    /** Whether the tree adds another sum to this one. */
    boolean joins(Node next, int passes) {
      int size = to - from;
      return next.from == to
          && Integer.bitCount(size) == 1
          && from % (2 * size) == 0
          && next.to == Math.min(to + size, passes);
    }

    Node with(Node next) {
      return new Node(from, next.to);
    }
  }

  private final int passes;

  /**
   * The order of a number of passes.
   *
   * @param passes at least 1
   */
  PassTree(int passes) {
    this.passes = passes;
  }

  /** First of the passes that a process computes. */
  int first(int rank, int size) {
    return (int) ((long) passes * rank / size);
  }

  /**
   * The sums that are left when some passes in a row are added up as far as the tree does, in order
   * of passes.
   *
   * @param from the first
   * @param to past the last
   */
  List<Node> nodes(int from, int to) {
    List<Node> nodes = new ArrayList<>();
    for (int pass = from; pass < to; pass++) {
      nodes.add(new Node(pass, pass + 1));
      while (nodes.size() > 1 && nodes.get(nodes.size() - 2).joins(nodes.getLast(), passes)) {
        Node last = nodes.removeLast();
        nodes.add(nodes.removeLast().with(last));
      }
    }
    return nodes;
  }

  /**
   * Sums that wait at most while passes in a row are computed, beside the newest one.
   *
   * @param from the first
   * @param to past the last
   */
  int waiting(int from, int to) {
    int most = 0;
    for (int end = from + 1; end <= to; end++) {
      // The newest pass joins only after it is computed.
      most = Math.max(most, nodes(from, end - 1).size());
    }
    return most;
  }
}
