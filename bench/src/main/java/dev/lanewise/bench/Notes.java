package dev.lanewise.bench;

import dev.lanewise.bench.contest.ContestProfiler;
import dev.lanewise.core.base.InputException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/**
 * What the JVMs of a case noted beside JMH's results; see {@link ContestProfiler#NOTES}.
 *
 * @param others the largest share of the cores that others had, or NaN
 * @param peak the least arithmetic that the cores gave, in GFLOP/s
 * @param most the most that they gave
 * @param warmUp the first JVM's warm-up: seconds and nanoseconds by turns
 */
record Notes(double others, double peak, double most, List<Double> warmUp) {

  static Notes read(Path file) {
    double others = Double.NaN;
    double peak = Double.POSITIVE_INFINITY;
    double most = 0;
    List<Double> warmUp = new ArrayList<>();
    boolean isFirst = true;
    try {
      for (String line : Files.readAllLines(file)) {
        String[] words = line.split(" ", -1);
        double value = Double.parseDouble(words[1]);
        switch (words[0]) {
          case "others" -> {
            others = Double.isNaN(others) ? value : Math.max(others, value);
            isFirst = false;
          }
          case "peak" -> {
            peak = Math.min(peak, value);
            most = Math.max(most, value);
          }
          default -> {
            if (isFirst) {
              warmUp.add(value);
              warmUp.add(Double.parseDouble(words[2]));
            }
          }
        }
      }
    } catch (IOException e) {
      throw new InputException("cannot read " + file + ": " + e.getMessage());
    }
    return new Notes(others, peak, most, thinned(warmUp));
  }

  /** Some dozens of moments, more of them early. */
  private static List<Double> thinned(List<Double> curve) {
    List<Double> kept = new ArrayList<>();
    double next = 0;
    for (int i = 0; i < curve.size(); i += 2) {
      if (curve.get(i) >= next || i == curve.size() - 2) {
        kept.add(curve.get(i));
        kept.add(curve.get(i + 1));
        next = curve.get(i) * 1.03;
      }
    }
    return kept;
  }
}
