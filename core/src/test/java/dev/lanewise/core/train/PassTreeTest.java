package dev.lanewise.core.train;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.ArrayList;
import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

/** The order of sums, as brackets. */
class PassTreeTest {
  /** Halves of the largest power of two, the rest after it. */
  private static String brackets(int from, int to) {
    if (to - from == 1) {
      return Integer.toString(from);
    }
    int half = Integer.highestOneBit(to - from - 1);
    return "(" + brackets(from, from + half) + "+" + brackets(from + half, to) + ")";
  }

  private static List<String> join(List<String> texts, int[] joins) {
    List<String> open = new ArrayList<>();
    for (int i = 0; i < joins.length; i++) {
      String text = texts.get(i);
      for (int join = 0; join < joins[i]; join++) {
        text = "(" + open.removeLast() + "+" + text + ")";
      }
      open.add(text);
    }
    return open;
  }

  @Test
  void anyNumberOfProcessesAddsInTheSameOrder() {
    for (int passes = 1; passes <= 40; passes++) {
      PassTree tree = new PassTree(passes);
      for (int size = 1; size <= passes; size++) {
        List<PassTree.Node> nodes = new ArrayList<>();
        List<String> texts = new ArrayList<>();
        for (int rank = 0; rank < size; rank++) {
          int from = tree.first(rank, size);
          int to = tree.first(rank + 1, size);
          List<PassTree.Node> own = tree.nodes(from, to);
          List<String> named = IntStream.range(from, to).mapToObj(Integer::toString).toList();
          int first = from;
          int[] joins = IntStream.range(from, to).map(pass -> tree.joins(first, pass)).toArray();
          List<String> made = join(named, joins);
          assertEquals(own.size(), made.size());
          int most = IntStream.range(from, to).map(end -> tree.count(first, end)).max().orElse(0);
          assertEquals(most, tree.waiting(from, to));
          for (int i = 0; i < own.size(); i++) {
            assertEquals(brackets(own.get(i).from(), own.get(i).to()), made.get(i));
          }
          nodes.addAll(own);
          texts.addAll(made);
        }
        assertEquals(List.of(brackets(0, passes)), join(texts, tree.joins(nodes)));
      }
    }
  }

  @Test
  void fewSumsWait() {
    assertEquals(0, new PassTree(8).waiting(0, 1));
    assertEquals(1, new PassTree(8).waiting(0, 2));
    assertEquals(2, new PassTree(8).waiting(0, 4));
    assertEquals(3, new PassTree(8).waiting(0, 8));
    assertEquals(1, new PassTree(8).waiting(4, 6));
    assertEquals(30, new PassTree(Integer.MAX_VALUE).waiting(0, Integer.MAX_VALUE - 1));
  }
}
