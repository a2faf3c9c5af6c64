package dev.lanewise.bench.contest;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;

/**
 * Resident memory of a process, as Linux counts it, in bytes.
 *
 * @param settled what it held once it had settled
 * @param peak the most that it held until then; 0 if unknown
 */
public record Memory(long settled, long peak) {
  /**
   * Reads what a process holds now, and the most that it held.
   *
   * @param pid the process
   * @return its memory, zeros where the system does not tell
   */
  public static Memory of(long pid) {
    try {
      return parse(Files.readAllLines(Path.of("/proc", Long.toString(pid), "status")));
    } catch (IOException e) {
      // Not Linux, or the process has ended
      return new Memory(0, 0);
    }
  }

  /** Reads the lines of a process's status. */
  static Memory parse(List<String> status) {
    return new Memory(bytes(status, "VmRSS:"), bytes(status, "VmHWM:"));
  }

  private static long bytes(List<String> status, String key) {
    for (String line : status) {
      if (line.startsWith(key)) {
        return 1024 * Long.parseLong(line.replaceAll("\\D", ""));
      }
    }
    return 0;
  }

  /**
   * The larger of each figure.
   *
   * @param other figures of another process
   */
  public Memory most(Memory other) {
    return new Memory(Math.max(settled, other.settled), Math.max(peak, other.peak));
  }

  /** As a report stores it. */
  public Map<String, Object> toJson() {
    return Map.of("settled", settled, "peak", peak);
  }

  /**
   * Reads what {@link #toJson} wrote, or the settled figure alone, which older reports have.
   *
   * @param json a number or an object
   */
  public static Memory fromJson(Object json) {
    return json instanceof Map<?, ?> map
        ? new Memory(
            ((Number) map.get("settled")).longValue(), ((Number) map.get("peak")).longValue())
        : new Memory(((Number) json).longValue(), 0);
  }
}
