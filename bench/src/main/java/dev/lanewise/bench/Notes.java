package dev.lanewise.bench;

import dev.lanewise.bench.breakdown.Breakdown;
import dev.lanewise.bench.contest.ContestProfiler;
import dev.lanewise.bench.contest.Memory;
import dev.lanewise.core.base.InputException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * What the JVMs of a case noted beside JMH's results; see {@link ContestProfiler#NOTES}.
 *
 * @param others the largest share of the cores that others had, or NaN
 * @param stolen the largest share that the hypervisor's other guests had, or NaN
 * @param peak the least arithmetic that the cores gave, in GFLOP/s
 * @param most the most that they gave
 * @param warmUp the first JVM's warm-up: seconds and nanoseconds by turns
 * @param failures why peers were sent away
 * @param memory resident memory of each contender, the most of all JVMs
 * @param breakdown where a step's time goes, or null
 */
record Notes(
    double others,
    double stolen,
    double peak,
    double most,
    List<Double> warmUp,
    List<String> failures,
    Map<String, Memory> memory,
    Breakdown breakdown) {

  static Notes read(Path file) {
    double others = Double.NaN;
    double stolen = Double.NaN;
    double peak = Double.POSITIVE_INFINITY;
    double most = 0;
    double step = 0;
    List<Double> warmUp = new ArrayList<>();
    Set<String> failures = new LinkedHashSet<>();
    Map<String, Memory> memory = new LinkedHashMap<>();
    List<Breakdown.Part> parts = new ArrayList<>();
    boolean isFirst = true;
    try {
      for (String line : Files.readAllLines(file)) {
        String[] words = line.split(" ", -1);
        switch (words[0]) {
          case "others" -> {
            others = greater(others, number(words[1]));
            isFirst = false;
          }
          case "stolen" -> stolen = greater(stolen, number(words[1]));
          case "peak" -> {
            peak = Math.min(peak, number(words[1]));
            most = Math.max(most, number(words[1]));
          }
          case "memory" ->
              memory.merge(
                  words[3],
                  new Memory(Long.parseLong(words[1]), Long.parseLong(words[2])),
                  Memory::most);
          case "failed" -> failures.add(line.substring(7));
          case "step" -> step = number(words[1]);
          case "part" -> parts.add(part(line));
          default -> {
            if (isFirst) {
              warmUp.add(number(words[1]));
              warmUp.add(number(words[2]));
            }
          }
        }
      }
    } catch (IOException e) {
      throw new InputException("cannot read " + file + ": " + e.getMessage());
    }
    return new Notes(
        others,
        stolen,
        peak,
        most,
        thinned(warmUp),
        List.copyOf(failures),
        memory,
        parts.isEmpty() ? null : new Breakdown(step, parts));
  }

  private static double number(String word) {
    return Double.parseDouble(word);
  }

  private static double greater(double a, double b) {
    return Double.isNaN(a) ? b : Double.isNaN(b) ? a : Math.max(a, b);
  }

  private static Breakdown.Part part(String line) {
    String[] words = line.split(" ", 6);
    return new Breakdown.Part(
        words[5], Long.parseLong(words[1]), number(words[2]), number(words[3]), number(words[4]));
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
