package dev.lanewise.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.bench.breakdown.Breakdown;
import dev.lanewise.bench.contest.Case;
import dev.lanewise.bench.suite.Workloads;
import org.junit.jupiter.api.Test;

class BreakdownTest {

  /** Catches an operation whose arguments are read wrongly: the sum is known from the model. */
  @Test
  void countsTheArithmeticOfATrainingStep() {
    Case task = Case.parse("train layers=2 heads=2 width=32 vocabulary=101 batch=3 tokens=16");
    Breakdown breakdown = Workloads.breakdown(task, 1);
    double rows = 3 * 16;
    double matrices = 12.0 * 2 * 32 * 32 + 101 * 32;
    // Forward 2 and backward 5 products over the causal half
    double attention = 7.0 * 2 * 3 * 16 * 17 * 32;
    assertEquals(3 * 2 * rows * matrices + attention, breakdown.flops(), 1);
    Breakdown.Part optimizer =
        breakdown.parts().stream().filter(p -> p.label().equals("adamW")).findAny().orElseThrow();
    double parameters = 101 * 32 + 16 * 32 + 2 * (12 * 32 * 32 + 13 * 32) + 2 * 32;
    assertTrue(optimizer.bytes() >= 7 * 4 * parameters, optimizer::toString);
    assertTrue(optimizer.bytes() <= 7 * 4 * parameters + 16 * optimizer.calls());
    assertTrue(breakdown.parts().stream().allMatch(p -> p.nanos() > 0 && p.calls() > 0));
    assertTrue(breakdown.nanos() >= breakdown.parts().getFirst().nanos());
  }
}
