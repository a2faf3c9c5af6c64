package dev.lanewise.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.bench.contest.Case;
import dev.lanewise.bench.contest.Contender;
import dev.lanewise.bench.contest.Contest;
import dev.lanewise.bench.contest.Workload;
import dev.lanewise.bench.contest.Workload.Cost;
import dev.lanewise.bench.contest.WrongResultException;
import dev.lanewise.bench.peers.Endpoint;
import dev.lanewise.bench.peers.PeerHost;
import dev.lanewise.bench.peers.Peers;
import dev.lanewise.bench.suite.Workloads;
import dev.lanewise.core.machine.MachineLimits;
import dev.lanewise.core.machine.MachineLimits.Rate;
import dev.lanewise.core.machine.MachineLimits.Rates;
import dev.lanewise.simd.Workers;
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
    System.setProperty("lanewise.bench.megabytes", "2");
    ClassPath.publish();
  }

  static Stream<Case> tinyCases() {
    Set<Case> cases = new LinkedHashSet<>();
    for (Suite suite : Suite.values()) {
      suite.cases().forEach(c -> cases.add(Tiny.of(c)));
    }
    return cases.stream().filter(c -> !Workloads.isOnGpu(c));
  }

  /** The constructor of a contest compares every result with the exact one. */
  @ParameterizedTest
  @MethodSource("tinyCases")
  void computesTheRightResultBeforeItIsTimed(Case task) {
    try (Contest contest = new Contest(Workloads.open(task), 2, List.of())) {
      contest.round();
      contest.round();
      Map<String, Double> medians = contest.takeMedians();
      assertEquals(Set.of(Contender.OURS, Contender.MACHINE), medians.keySet());
      assertTrue(medians.get(Contender.OURS) > 0);
      assertTrue(contest.takeMedians().isEmpty(), "rounds are reported once");
      assertTrue(contest.warmUp().size() >= 1);
    }
  }

  @Test
  void whatStandsBesideACaseTakesTurnsWithIt() {
    Set<String> seen = new LinkedHashSet<>();
    for (Suite suite : List.of(Suite.GEMM, Suite.KERNELS, Suite.TRAIN)) {
      for (String text : suite.cases()) {
        Case task = Tiny.of(text);
        List<Contest.Beside> besides = Workloads.besides(task, 2);
        Set<String> names = new LinkedHashSet<>(besides.stream().map(b -> b.name()).toList());
        Workloads.besides(Case.parse(text), 2).forEach(b -> seen.add(b.name()));
        if (names.size() > 1 || task.operation().equals("train")) {
          try (Contest contest = new Contest(Workloads.open(task), 2, List.of(), besides)) {
            contest.round();
            assertTrue(contest.takeMedians().keySet().containsAll(names), text);
            assertEquals(2, Workers.threads());
          }
        }
      }
    }
    assertEquals(Workloads.BESIDES, seen);
  }

  @Test
  void anOddSizeStandsBesideTheNearestRoundOne() {
    Case odd = Case.parse("gemm m=1021 n=3067 k=769 layout=NT");
    List<Contest.Beside> besides = Workloads.besides(odd, 1);
    assertEquals(1, besides.size());
    assertEquals("gemm m=1024 n=3072 k=768 layout=NT", besides.getFirst().task().toString());
    assertEquals(List.of(), Workloads.besides(Case.parse("gemm m=1 n=50257 k=768 layout=NT"), 1));
  }

  @Test
  void casesOfOneThreadAreCases() {
    Set<String> all = new LinkedHashSet<>();
    for (Suite suite : Suite.values()) {
      all.addAll(suite.singleCases());
    }
    assertEquals(Suite.allSingleCases(), all);
  }

  @Test
  void aQuickRunIsPlannedForAboutAMinuteAndAFullOneForLessThanFortyMinutes() {
    Rates one = rates(230, 36);
    MachineLimits limits = new MachineLimits(512, 2, one, rates(460, 40));
    double quick = 0;
    double full = 0;
    for (Suite suite : List.of(Suite.GEMM, Suite.KERNELS, Suite.TRAIN, Suite.GENERATE)) {
      for (String text : suite.quickCases()) {
        quick += Schedule.of(Case.parse(text), 2, 2, 1, true, limits).seconds();
      }
      for (String text : suite.cases()) {
        int forks = suite.forks(text, 2);
        full += Schedule.of(Case.parse(text), 2, 4, forks, false, limits).seconds();
      }
      for (String text : suite.singleCases()) {
        full += Schedule.of(Case.parse(text), 1, 4, suite.forks(text, 1), false, limits).seconds();
      }
    }
    assertTrue(quick > 30 && quick < 100, quick + " s");
    assertTrue(full > 300 && full < 2300, full + " s");
  }

  private static Rates rates(double fma, double memory) {
    Rate rate = new Rate(memory, memory, "GB/s");
    return new Rates(new Rate(fma, fma, "GFLOP/s"), rate, rate, rate, rate);
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
          public Cost cost() {
            return right.cost();
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

  /** Those on this machine; the plain loops always are. */
  static Stream<String> peersThatWereFound() {
    return Peers.KNOWN.stream().filter(name -> Peers.find(name).isFound());
  }

  @ParameterizedTest
  @MethodSource("peersThatWereFound")
  void everyPeerComputesTheSame(String name) {
    int took = 0;
    try (PeerHost host = new PeerHost(Peers.find(name), 1)) {
      assertFalse(host.description().isBlank());
      for (Suite suite : Suite.values()) {
        for (Case task : suite.peers().contains(name) ? tinyCases(suite) : List.<Case>of()) {
          List<Endpoint> peers = List.of(host.endpoint());
          try (Contest contest = new Contest(Workloads.open(task), 1, peers)) {
            contest.round();
            assertEquals(List.of(), contest.failures());
            took += contest.takeMedians().containsKey(name) ? 1 : 0;
          }
        }
      }
    }
    assertTrue(took > 0, name + " performed nothing");
  }

  private static List<Case> tinyCases(Suite suite) {
    return suite.cases().stream()
        .map(Tiny::of)
        .filter(c -> !Workloads.isOnGpu(c))
        .distinct()
        .toList();
  }

  @Test
  void peersThatDoNotKnowAnOperationStayAway() {
    Case task = Tiny.of("gelu rows=1024 cols=3072");
    try (PeerHost host = new PeerHost(Peers.find("scalar"), 1)) {
      assertFalse(host.description().isBlank());
      List<Endpoint> peers = List.of(host.endpoint());
      try (Contest contest = new Contest(Workloads.open(task), 1, peers)) {
        contest.round();
        assertEquals(Set.of(Contender.OURS, Contender.MACHINE), contest.takeMedians().keySet());
        assertEquals(List.of(), contest.failures());
      }
    }
  }

  @Test
  void aPeerThatEndsIsSentAwayAndTheContestGoesOn() {
    Case task = Case.parse("gemm m=9 n=8 k=7 layout=NN");
    try (PeerHost host = new PeerHost(Peers.find("scalar"), 1)) {
      assertFalse(host.description().isBlank());
      List<Endpoint> peers = List.of(host.endpoint());
      try (Contest contest = new Contest(Workloads.open(task), 1, peers)) {
        contest.round();
        ProcessHandle process = ProcessHandle.of(peers.getFirst().pid()).orElseThrow();
        assertTrue(process.destroyForcibly());
        contest.round();
        contest.round();
        assertEquals(List.of("scalar has ended"), contest.failures());
      }
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
        Cost cost = Workloads.cost(Case.parse(text));
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
