package dev.lanewise.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.bench.contest.Case;
import dev.lanewise.bench.contest.Contender;
import dev.lanewise.bench.contest.Contest;
import dev.lanewise.bench.contest.Workload;
import dev.lanewise.bench.contest.WrongResultException;
import dev.lanewise.bench.peers.Peers;
import dev.lanewise.bench.suite.Workloads;
import java.util.Arrays;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class SuiteTest {

  @BeforeAll
  static void hurry() {
    System.setProperty(Contest.SETTLE, "1");
    System.setProperty(Contest.SLICE, "1");
    ClassPath.publish();
  }

  static Stream<Case> tinyCases() {
    Set<Case> cases = new LinkedHashSet<>();
    for (Suite suite : Suite.values()) {
      suite.cases().forEach(c -> cases.add(Tiny.of(c)));
    }
    return cases.stream();
  }

  /** The constructor of a contest compares every result with the exact one. */
  @ParameterizedTest
  @MethodSource("tinyCases")
  void computesTheRightResultBeforeItIsTimed(Case task) {
    try (Contest contest = new Contest(Workloads.open(task), 2, List.of())) {
      contest.round();
      contest.round();
      Map<String, Double> medians = contest.takeMedians();
      assertEquals(Set.of(Contender.OURS), medians.keySet());
      assertTrue(medians.get(Contender.OURS) > 0);
      assertTrue(contest.takeMedians().isEmpty(), "rounds are reported once");
      assertTrue(contest.warmUp().size() >= 1);
    }
  }

  @Test
  void aWrongResultIsRefused() {
    Workload right = Workloads.open(Case.parse("gemm m=5 n=7 k=3 layout=NN"));
    Workload wrong =
        new Workload() {
          @Override
          public Case task() {
            return right.task();
          }

          @Override
          public long[] positions() {
            return right.positions();
          }

          @Override
          public double[] expected() {
            double[] expected = right.expected();
            expected[expected.length - 1] += 0.01;
            return expected;
          }

          @Override
          public double tolerance(int index) {
            return right.tolerance(index);
          }

          @Override
          public void run() {
            right.run();
          }

          @Override
          public double[] result(long[] positions) {
            return right.result(positions);
          }

          @Override
          public void close() {
            right.close();
          }
        };
    WrongResultException e =
        assertThrows(WrongResultException.class, () -> new Contest(wrong, 1, List.of()));
    assertTrue(e.getMessage().startsWith("lanewise computes "), e.getMessage());
  }

  @Test
  void peersThatNeedNoLibraryTakePartInTheirOwnProcess() {
    Case task = Case.parse("gemm m=9 n=8 k=7 layout=NN");
    try (Contest contest = new Contest(Workloads.open(task), 1, List.of("scalar"))) {
      contest.round();
      assertEquals(List.of(Contender.OURS, "scalar"), List.copyOf(contest.takeMedians().keySet()));
    }
  }

  @Test
  void peersThatDoNotKnowAnOperationStayAway() {
    Case task = Tiny.of("gelu rows=1024 cols=3072");
    try (Contest contest = new Contest(Workloads.open(task), 1, List.of("scalar"))) {
      contest.round();
      assertEquals(Set.of(Contender.OURS), contest.takeMedians().keySet());
    }
  }

  @Test
  void quickCasesAreCasesAndPeersAreKnown() {
    for (Suite suite : Suite.values()) {
      assertTrue(suite.cases().containsAll(suite.quickCases()), suite::toString);
      assertTrue(Peers.KNOWN.containsAll(suite.peers()), suite::toString);
      assertEquals(
          suite.cases().size(), Set.copyOf(suite.cases()).size(), () -> suite + " repeats a case");
      for (String text : suite.cases()) {
        assertEquals(text, Case.parse(text).toString());
        Workload.Cost cost = Workloads.cost(Case.parse(text));
        assertTrue(cost.amount() > 0 && cost.bytes() > 0, text);
      }
    }
  }

  @Test
  void positionsCoverBothEndsOfTheResult() {
    for (long count : new long[] {1, 2, 63, 64, 65, 1 << 20, 50257L * 1024}) {
      long[] positions = Contest.spread(count);
      assertEquals(0, positions[0]);
      assertEquals(count - 1, positions[positions.length - 1]);
      assertEquals(positions.length, Arrays.stream(positions).distinct().count());
    }
  }
}
