package dev.lanewise.core.golden;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.core.Fixtures;
import dev.lanewise.core.format.SafeTensors;
import java.util.Arrays;
import java.util.Locale;
import java.util.Set;
import java.util.TreeSet;

/**
 * A file of golden values that remembers which tensors were asked for. Plain names are float64
 * references; {@code _f32} is what PyTorch computes in float32.
 */
public final class Golden {
  private final SafeTensors file;
  private final Set<String> unasked;

  /**
   * Opens a file.
   *
   * @param name its name, without its ending
   */
  public Golden(String name) {
    file = Fixtures.load(name);
    unasked = new TreeSet<>(file.tensors().keySet());
  }

  /** Names of all tensors. */
  public Set<String> names() {
    return file.tensors().keySet();
  }

  /** Whether there is a tensor of that name. */
  public boolean has(String name) {
    return file.tensors().containsKey(name);
  }

  /** Values in float64. */
  public double[] doubles(String name) {
    unasked.remove(name);
    return file.tensor(name).toDoubles();
  }

  /** Values in float32. */
  public float[] floats(String name) {
    unasked.remove(name);
    return file.tensor(name).toFloats();
  }

  /** Integers. */
  public long[] longs(String name) {
    unasked.remove(name);
    return file.tensor(name).toLongs();
  }

  /** Integers that are small. */
  public int[] ints(String name) {
    return Arrays.stream(longs(name)).mapToInt(Math::toIntExact).toArray();
  }

  /** Sizes. */
  public int[] dims(String name) {
    return Arrays.stream(file.tensor(name).shape()).mapToInt(Math::toIntExact).toArray();
  }

  /** A golden value that no test looks at proves nothing. */
  public void assertAllAsked() {
    assertEquals(Set.of(), unasked, "tensors that nothing was held against");
  }

  /**
   * Holds numbers against a reference: an error may be twice PyTorch's own in float32, and beyond
   * that {@code tolerance} of the tensor's largest number.
   *
   * @param name the reference; {@code name_f32} is asked too, where there is one
   * @param actual numbers computed
   * @param tolerance share of the largest number, or of 1 if that is less
   */
  public void assertClose(String name, float[] actual, double tolerance) {
    double[] exact = doubles(name);
    float[] torch = has(name + "_f32") ? floats(name + "_f32") : null;
    assertEquals(exact.length, actual.length, name);
    double largest = 1;
    double torchError = 0;
    for (int i = 0; i < exact.length; i++) {
      if (fits(exact[i])) {
        largest = Math.max(largest, Math.abs(exact[i]));
        if (torch != null && Float.isFinite(torch[i])) {
          torchError = Math.max(torchError, Math.abs(torch[i] - exact[i]));
        }
      }
    }
    double allowed = tolerance * largest + 2 * torchError;
    for (int i = 0; i < exact.length; i++) {
      // PyTorch's float32 overflows earlier than float64 in some formulas; either will do.
      boolean asTorch =
          torch != null && !Float.isFinite(torch[i]) && Float.compare(torch[i], actual[i]) == 0;
      if (!asTorch) {
        double expected = fits(exact[i]) ? exact[i] : (float) exact[i];
        boolean close =
            Double.compare(expected, actual[i]) == 0 || Math.abs(expected - actual[i]) <= allowed;
        int at = i;
        assertTrue(
            close,
            () ->
                String.format(
                    Locale.ROOT,
                    "%s[%d] is %s and not %s, within %.1e",
                    name,
                    at,
                    actual[at],
                    exact[at],
                    allowed));
      }
    }
  }

  private static boolean fits(double value) {
    return Math.abs(value) <= Float.MAX_VALUE;
  }
}
