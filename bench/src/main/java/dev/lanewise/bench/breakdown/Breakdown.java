package dev.lanewise.bench.breakdown;

import dev.lanewise.bench.breakdown.TimedBackend.Tally;
import dev.lanewise.core.backend.Backend;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Function;

/**
 * Where the time of a step goes, by operation.
 *
 * @param nanos median time of a step
 * @param parts the operations, the longest first; what they leave of a step is spent between them
 */
public record Breakdown(double nanos, List<Part> parts) {
  /** Warm-up goes on, window by window, while the best step gets clearly better. */
  private static final long WINDOW = 1_000_000_000L;

  private static final double BETTER = 0.97;
  private static final int MOST_WINDOWS = 20;
  private static final int LEAST_STEPS = 3;
  private static final int MOST_STEPS = 200;

  /** Keeps the list unmodifiable. */
  public Breakdown {
    parts = List.copyOf(parts);
  }

  /**
   * An operation's part of a step, over all its calls.
   *
   * @param label its name and shape
   * @param calls calls in a step
   * @param nanos time of all of them
   * @param flops operations of their matrix products
   * @param bytes their least traffic with memory
   */
  public record Part(String label, long calls, double nanos, double flops, double bytes) {}

  /** Something that is done again and again on a device. */
  public interface Stepper extends AutoCloseable {
    /** Does it once. */
    void step();

    @Override
    void close();
  }

  /**
   * Takes a step apart. Steps run until the compiler is done with them, then for a while.
   *
   * @param device the device
   * @param open makes what is stepped, on that device behind a clock; the stepper owns it
   * @param patience nanoseconds of steps that count, of which there are at least three
   * @return medians over the steps
   */
  public static Breakdown of(
      Backend device, Function<Backend, ? extends Stepper> open, long patience) {
    TimedBackend timed = new TimedBackend(device);
    List<Map<String, Tally>> steps = new ArrayList<>();
    List<Double> times = new ArrayList<>();
    try (Stepper stepper = open.apply(timed.backend())) {
      double best = warmUp(stepper);
      for (int i = 0; i < MOST_WINDOWS; i++) {
        double next = warmUp(stepper);
        if (next > BETTER * best) {
          break;
        }
        best = next;
      }
      timed.take();
      long start = System.nanoTime();
      while (times.size() < LEAST_STEPS
          || times.size() < MOST_STEPS && System.nanoTime() - start < patience) {
        long before = System.nanoTime();
        stepper.step();
        times.add((double) (System.nanoTime() - before));
        steps.add(timed.take());
      }
    }
    return new Breakdown(median(times), parts(steps));
  }

  /** Runs steps for a window, two at least, and returns the shortest one's time. */
  private static double warmUp(Stepper stepper) {
    double best = Double.POSITIVE_INFINITY;
    long start = System.nanoTime();
    for (int i = 0; i < 2 || System.nanoTime() - start < WINDOW; i++) {
      long before = System.nanoTime();
      stepper.step();
      best = Math.min(best, System.nanoTime() - before);
    }
    return best;
  }

  private static List<Part> parts(List<Map<String, Tally>> steps) {
    Map<String, List<Tally>> byLabel = new LinkedHashMap<>();
    for (Map<String, Tally> step : steps) {
      step.forEach((label, t) -> byLabel.computeIfAbsent(label, l -> new ArrayList<>()).add(t));
    }
    List<Part> parts = new ArrayList<>();
    byLabel.forEach(
        (label, all) -> {
          Tally last = all.getLast();
          List<Double> nanos = all.stream().map(t -> (double) t.nanos).toList();
          parts.add(new Part(label, last.calls, median(nanos), last.flops, last.bytes));
        });
    parts.sort(Comparator.comparingDouble(Part::nanos).reversed());
    return parts;
  }

  private static double median(List<Double> values) {
    double[] sorted = values.stream().mapToDouble(Double::doubleValue).sorted().toArray();
    int half = sorted.length / 2;
    return sorted.length % 2 == 1
        ? sorted[half]
        : Arrays.stream(sorted, half - 1, half + 1).average().orElseThrow();
  }

  /** Operations of the matrix products of a step. */
  public double flops() {
    return parts.stream().mapToDouble(Part::flops).sum();
  }

  /** Time of all operations of a step. */
  public double inOperations() {
    return parts.stream().mapToDouble(Part::nanos).sum();
  }

  /** Time of a step that no operation accounts for: the host's own work. */
  public double between() {
    return nanos - inOperations();
  }
}
