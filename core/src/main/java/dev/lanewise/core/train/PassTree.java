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
    for (int at = from; at < to; at = nodes.getLast().to) {
      nodes.add(new Node(at, end(at, to)));
    }
    return nodes;
  }

  /** How many {@link #nodes} there are. */
  int count(int from, int to) {
    int count = 0;
    for (int at = from; at < to; at = end(at, to)) {
      count++;
    }
    return count;
  }

  /** Where the largest sum ends that begins at a pass and ends no later than another. */
  private int end(int from, int to) {
    int end = from + 1;
    for (long size = 2; size <= passes * 2L && from % size == 0; size *= 2) {
      long next = Math.min(from + size, passes);
      if (next > to) {
        break;
      }
      end = (int) next;
    }
    return end;
  }

  /**
   * How many waiting sums a pass joins, of passes in a row.
   *
   * @param from the first of them
   * @param pass the pass, which comes after all before it
   */
  int joins(int from, int pass) {
    return count(from, pass) + 1 - count(from, pass + 1);
  }

  /**
   * For sums that come one after the other, how many of those that wait each joins.
   *
   * @param next the sums, in order of passes
   */
  int[] joins(List<Node> next) {
    int[] joins = new int[next.size()];
    List<Node> open = new ArrayList<>();
    for (int i = 0; i < joins.length; i++) {
      open.add(next.get(i));
      while (joinsLast(open)) {
        joins[i]++;
      }
    }
    return joins;
  }

  /** Adds the last sum to the one before, if the tree does. */
  private boolean joinsLast(List<Node> open) {
    if (open.size() < 2 || !open.get(open.size() - 2).joins(open.getLast(), passes)) {
      return false;
    }
    Node last = open.removeLast();
    open.add(open.removeLast().with(last));
    return true;
  }

  /**
   * Sums that wait at most while passes in a row are computed, beside the newest one.
   *
   * @param from the first
   * @param to past the last
   */
  int waiting(int from, int to) {
    // The newest pass joins only after it is computed; most wait where many bits are set.
    int most = count(from, to - 1);
    for (int bit = 0; bit < Integer.SIZE - 1; bit++) {
      int before = (to - 1 >> bit << bit) - 1;
      if (before >= from) {
        most = Math.max(most, count(from, before));
      }
    }
    return most;
  }
}
