package dev.lanewise.core.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Rates of schedules, and the rate that a range test names. */
class LrTest {
  private static final int POINTS = 100;
  private static final int WINDOW = 5;

  // Schedules
  // ----------------------------------------------------------------------------------------

  @ParameterizedTest
  @EnumSource(LrSchedule.Kind.class)
  void aScheduleReachesItsPeakAndItsEnd(LrSchedule.Kind kind) {
    double end = kind == LrSchedule.Kind.CONSTANT ? 1e-3 : 3e-5;
    for (long steps : new long[] {2, 3, 7, 100, 12345}) {
      for (long warmup : new long[] {0, 1, steps / 2, steps - 1}) {
        LrSchedule schedule = new LrSchedule(kind, 1e-3, 3e-5, warmup, steps);
        assertEquals(end, schedule.at(steps - 1), kind + " " + steps + " " + warmup);
        assertEquals(1e-3, schedule.at(Math.max(0, warmup - 1)));
        double before = 1e-3;
        for (long step = warmup; step < steps; step++) {
          double rate = schedule.at(step);
          assertTrue(rate <= before && rate >= end, kind + " rises in step " + step);
          before = rate;
        }
        assertEquals(end, schedule.at(steps + 5), "after its end");
      }
    }
    assertEquals(1e-3, new LrSchedule(kind, 1e-3, 3e-5, 0, 1).at(0), "one step has the peak");
  }

  @Test
  void decayFallsToTheMinimumAfterFourFifths() {
    LrSchedule decay = new LrSchedule(LrSchedule.Kind.DECAY, 0.1, 0.004, 0, 100);
    assertEquals(0.1, decay.at(79));
    assertEquals(0.004, decay.at(80));
  }

  @Test
  void cosineIsHalfwayInTheMiddle() {
    LrSchedule cosine = new LrSchedule(LrSchedule.Kind.COSINE, 1, 0, 0, 101);
    assertEquals(0.5, cosine.at(50), 1e-15);
    assertEquals(Math.pow(Math.cos(Math.PI / 8), 2), cosine.at(25), 1e-15);
  }

  // Range test
  // ----------------------------------------------------------------------------------------

  /** Rates from 1e-5 to 1. */
  private static double[] rates() {
    double[] rates = new double[POINTS];
    for (int i = 0; i < POINTS; i++) {
      rates[i] = 1e-5 * Math.pow(1e5, i / (POINTS - 1.0));
    }
    return rates;
  }

  /** A loss that falls from 4.2 to 2.4 about a rate, with the noise of batches, and blows up. */
  private static double[] losses(double about, long seed) {
    Random random = new Random(seed);
    double[] rates = rates();
    double[] losses = new double[POINTS];
    for (int i = 0; i < POINTS; i++) {
      double fall = 1.8 / (1 + Math.pow(about / rates[i], 1.5));
      double rise = Math.pow(rates[i] / 0.3, 4);
      losses[i] = 4.2 - fall + Math.min(6, rise) + 0.05 * random.nextGaussian();
    }
    return losses;
  }

  private static double suggested(double[] losses) {
    return LrFinder.steepest(rates(), LrFinder.smooth(losses, WINDOW), WINDOW);
  }

  @Test
  void theSteepestFallIsFound() {
    for (double about : new double[] {3e-4, 3e-3, 2e-2}) {
      for (int seed = 0; seed < 20; seed++) {
        double factor = suggested(losses(about, seed)) / about;
        assertTrue(factor > 1 / 2.0 && factor < 2, factor + " times " + about);
      }
    }
  }

  @Test
  void oneBatchDecidesNothing() {
    double about = 3e-3;
    for (double spike : new double[] {10, 1000, -2}) {
      for (int at = 0; at < POINTS; at++) {
        double[] losses = losses(about, 5);
        losses[at] += spike;
        double factor = suggested(losses) / about;
        assertTrue(factor > 1 / 2.0 && factor < 2, spike + " at " + at + ": " + factor);
      }
    }
  }

  @Test
  void aLossThatOnlyRisesNamesNoRate() {
    double[] rising = new double[POINTS];
    for (int i = 0; i < POINTS; i++) {
      rising[i] = 4 + 0.1 * i;
    }
    assertTrue(Double.isNaN(suggested(rising)));
  }
}
