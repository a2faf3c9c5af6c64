package dev.lanewise.bench.report;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.Random;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class IntervalTest {

  /** Ranks of the textbook tables for the sign test's interval of the median at 95 %. */
  @ParameterizedTest
  @CsvSource({
    "5,1,5",
    "6,1,6",
    "7,1,7",
    "8,1,8",
    "9,2,8",
    "10,2,9",
    "15,4,12",
    "20,6,15",
    "30,10,21"
  })
  void ranksAreThoseOfTheTables(int n, int low, int high) {
    List<Double> sample = IntStream.rangeClosed(1, n).mapToObj(i -> (double) i).toList();
    Interval interval = Interval.of(sample.reversed());
    assertEquals(low, interval.low());
    assertEquals(high, interval.high());
    assertEquals((n + 1) / 2.0, interval.median());
    assertEquals(n, interval.count());
  }

  @Test
  void coversTheTrueMedianAsOftenAsItSays() {
    Random random = new Random(7);
    int covered = 0;
    int runs = 4000;
    for (int run = 0; run < runs; run++) {
      List<Double> sample =
          IntStream.range(0, 21).mapToObj(i -> Math.exp(random.nextGaussian())).toList();
      Interval interval = Interval.of(sample);
      covered += interval.low() <= 1 && 1 <= interval.high() ? 1 : 0;
    }
    assertTrue(covered > 0.94 * runs, covered + " of " + runs);
  }

  @Test
  void speedsAreTheInverseOfTimes() {
    Interval speed = new Interval(2, 1, 4, 9).invert(8);
    assertEquals(new Interval(4, 2, 8, 9), speed);
    assertEquals(3, speed.error());
  }

  @Test
  void anEmptySampleHasNoMedian() {
    assertThrows(IllegalArgumentException.class, () -> Interval.of(List.of()));
  }

  @Test
  void aDifferenceInsideTheNoiseIsNotCalledOne() {
    assertEquals(Rival.Verdict.EVEN, Rival.verdict(new Interval(1.1, 0.99, 1.2, 9), 0.02));
    assertEquals(Rival.Verdict.EVEN, Rival.verdict(new Interval(1.03, 1.01, 1.05, 9), 0.02));
    assertEquals(Rival.Verdict.FASTER, Rival.verdict(new Interval(1.05, 1.03, 1.06, 9), 0.02));
    assertEquals(Rival.Verdict.EVEN, Rival.verdict(new Interval(0.97, 0.95, 0.99, 9), 0.02));
    assertEquals(Rival.Verdict.SLOWER, Rival.verdict(new Interval(0.9, 0.8, 0.97, 9), 0.02));
  }
}
