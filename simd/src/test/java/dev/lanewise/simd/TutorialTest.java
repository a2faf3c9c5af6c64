package dev.lanewise.simd;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;
import tutorial.Tutorial;

/** The snippets of the package's page do what stands beside them. */
class TutorialTest {
  @Test
  void snippetsDoWhatTheySay() {
    assertArrayEquals(new float[] {58, 64, 139, 154}, Tutorial.arrays());
    // GELU of 0.5: 0.5 * 0.5 * (1 + tanh(sqrt(2 / pi) * (0.5 + 0.044715 / 8))).
    assertEquals(0.345714, Tutorial.layer(), 1e-6);
    assertEquals(0.2f, Tutorial.views());
    assertEquals(0, Tutorial.attention());
    assertEquals(37, Tutorial.search());
    assertTrue(Tutorial.threads().startsWith("vectors of "));
    assertTrue(
        Tutorial.mistake().startsWith("a is 2 x 3, b is 2 x 3, c is 2 x 2: a's columns must be"),
        Tutorial.mistake());
  }
}
