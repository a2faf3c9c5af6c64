package dev.lanewise.core.random;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.lanewise.core.Fixtures;
import org.junit.jupiter.api.Test;

class LinspaceTest {
  @Test
  void exponentsOfTheRangeTestAreEqualToTheBit() {
    float[] expected = Fixtures.load("makemore_mlp").tensor("lre").toFloats();
    assertArrayEquals(expected, Linspace.of(-3, 0, 1000));
  }

  @Test
  void everyNumberIsWithinRounding() {
    for (int steps = 2; steps < 200; steps++) {
      float[] numbers = Linspace.of(-3, 2, steps);
      assertEquals(-3, numbers[0]);
      assertEquals(2, numbers[steps - 1], 1e-6);
      for (int i = 0; i < steps; i++) {
        assertEquals(-3 + 5.0 * i / (steps - 1), numbers[i], 1e-6);
      }
    }
    assertArrayEquals(new float[] {7}, Linspace.of(7, 9, 1));
    assertEquals(0, Linspace.of(7, 9, 0).length);
    assertThrows(IllegalArgumentException.class, () -> Linspace.of(0, 1, -1));
  }
}
