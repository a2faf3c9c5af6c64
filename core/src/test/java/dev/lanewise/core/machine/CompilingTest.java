package dev.lanewise.core.machine;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.Test;

class CompilingTest {
  private final AtomicLong millis = new AtomicLong(12_000);
  private final AtomicLong nanos = new AtomicLong(77);
  private final Compiling compiling = Compiling.of(millis::get, nanos::get);

  private boolean goesOnAfter(double seconds, double compiled) {
    nanos.addAndGet((long) (seconds * 1e9));
    millis.addAndGet((long) (compiled * 1e3));
    return compiling.goesOn();
  }

  @Test
  void itIsOverWhenCompilersRestAndThenForGood() {
    assertTrue(compiling.goesOn());
    // A moment of rest says nothing.
    assertTrue(goesOnAfter(0.1, 0));
    assertTrue(goesOnAfter(5, 4));
    assertEquals(4, compiling.seconds(), 1e-9);
    assertTrue(goesOnAfter(2, 0.5));
    assertFalse(goesOnAfter(2, 0.1));
    assertEquals(4.6, compiling.seconds(), 1e-9);
    assertFalse(goesOnAfter(2, 2));
    assertEquals(4.6, compiling.seconds(), 1e-9);
  }

  @Test
  void itEndsInAnyCase() {
    assertTrue(goesOnAfter(170, 170));
    assertFalse(goesOnAfter(11, 11));
  }

  @Test
  void thisProcessTellsHowLongItsCompilersWorked() {
    assertEquals(Compiling.ofThisProcess(), Compiling.ofThisProcess());
    assertTrue(Compiling.ofThisProcess().seconds() >= 0);
  }
}
