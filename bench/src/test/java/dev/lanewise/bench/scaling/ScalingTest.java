package dev.lanewise.bench.scaling;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;

class ScalingTest {
  private static final Scaling GPT2 = new Scaling(124e6, 2, 0.09, 40e9);

  @Test
  void oneMachineExchangesNothing() {
    Scaling.Network network = Scaling.Network.ofGigabits(1, 1e-4);
    assertEquals(0, GPT2.exchangeSeconds(network, 1));
    assertEquals(8.09, GPT2.stepSeconds(network, 1, 4), 1e-9);
    assertEquals(1, GPT2.efficiency(network, 1, 4), 1e-12);
  }

  @Test
  void twoMachinesSendAGradientAndParametersLessTheirOwnHalf() {
    Scaling.Network network = new Scaling.Network(1e9, 0);
    double sums = 12 * 124e6 / 2 / 40e9;
    // Two halves of 496 MB by a GB a second, sums, and some messages.
    double expected = 0.496 + sums;
    double seconds = GPT2.exchangeSeconds(network, 2);
    assertTrue(seconds > expected && seconds < expected + 0.001, seconds + ", " + expected);
  }

  @Test
  void moreMachinesNeverGetTwiceTheTrafficOfTwo() {
    Scaling.Network network = new Scaling.Network(1e9, 0);
    assertTrue(GPT2.exchangeSeconds(network, 64) < 2 * GPT2.exchangeSeconds(network, 2));
    Scaling.Network slow = Scaling.Network.ofGigabits(1, 1e-4);
    Scaling.Network fast = Scaling.Network.ofGigabits(100, 1e-4);
    assertTrue(GPT2.efficiency(slow, 16, 4) < GPT2.efficiency(fast, 16, 4));
  }
}
