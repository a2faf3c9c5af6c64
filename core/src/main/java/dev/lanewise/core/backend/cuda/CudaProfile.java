package dev.lanewise.core.backend.cuda;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** Time of each kernel by device events; off unless started, since events cost time. */
public final class CudaProfile {

  /**
   * Time of one kernel, or of one shape of matrix product.
   *
   * @param name file and kernel, or the shape
   * @param count launches
   * @param milliseconds their total on the device
   */
  public record Entry(String name, int count, double milliseconds) {}

  /**
   * With {@code true}, the host waits for each kernel, so that what the device reports late names
   * the kernel that did it.
   */
  static final String WAIT_PROPERTY = "lanewise.cuda.wait";

  private final Driver driver;
  private final long stream;
  private final boolean waits = Boolean.getBoolean(WAIT_PROPERTY);
  private boolean running;
  private String last = "";
  private final List<String> names = new ArrayList<>();
  private final List<long[]> events = new ArrayList<>();
  private int used;

  CudaProfile(Driver driver, long stream) {
    this.driver = driver;
    this.stream = stream;
  }

  boolean running() {
    return running;
  }

  int begin(String name) {
    last = name;
    if (!running) {
      return -1;
    }
    if (used == events.size()) {
      events.add(new long[] {driver.eventCreate(), driver.eventCreate()});
    }
    names.add(name);
    driver.eventRecord(events.get(used)[0], stream);
    return used++;
  }

  void end(int mark) {
    if (mark >= 0) {
      driver.eventRecord(events.get(mark)[1], stream);
    }
    if (waits) {
      try {
        driver.streamSynchronize(stream);
      } catch (CudaException e) {
        throw e.during(last);
      }
    }
  }

  /** Starts to take times. */
  public void start() {
    names.clear();
    used = 0;
    running = true;
  }

  /** Stops, waits for the device, and returns the times, the longest first. */
  public List<Entry> stop() {
    running = false;
    driver.streamSynchronize(stream);
    Map<String, Entry> sums = new HashMap<>();
    for (int i = 0; i < used; i++) {
      double time = driver.eventElapsedTime(events.get(i)[0], events.get(i)[1]);
      sums.merge(
          names.get(i),
          new Entry(names.get(i), 1, time),
          (a, b) -> new Entry(a.name, a.count + b.count, a.milliseconds + b.milliseconds));
    }
    return sums.values().stream()
        .sorted(Comparator.comparingDouble(Entry::milliseconds).reversed())
        .toList();
  }

  void close() {
    for (long[] pair : events) {
      driver.eventDestroy(pair[0]);
      driver.eventDestroy(pair[1]);
    }
    events.clear();
  }
}
