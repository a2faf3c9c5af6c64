package dev.lanewise.core.machine;

import dev.lanewise.simd.Machine;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * What a reader must know of a machine to judge a speed measured on it.
 *
 * @param processor the processor's own name, or its architecture where the system does not tell
 * @param cores processors that the JVM may use
 * @param caches sizes of the first core's caches, as {@code L1d 48K}; empty where unknown
 * @param memoryBytes main memory, or 0 where unknown
 * @param system operating system and its version
 * @param virtualized whether a hypervisor is seen, whose other guests may disturb a measurement
 * @param java the JVM's name and version
 * @param vectorBits width of the vectors that the kernels use
 */
public record MachineFacts(
    String processor,
    int cores,
    List<String> caches,
    long memoryBytes,
    String system,
    boolean virtualized,
    String java,
    int vectorBits) {

  /** Keeps the list of caches unmodifiable. */
  public MachineFacts {
    caches = List.copyOf(caches);
  }

  /** Looks at this machine. */
  public static MachineFacts ofThisMachine() {
    String cpu = read(Path.of("/proc/cpuinfo"));
    return new MachineFacts(
        find(cpu, "(?m)^model name\\s*:\\s*(.+)$").orElse(System.getProperty("os.arch")),
        Runtime.getRuntime().availableProcessors(),
        findCaches(),
        find(read(Path.of("/proc/meminfo")), "(?m)^MemTotal:\\s*(\\d+) kB")
            .map(k -> Long.parseLong(k) * 1024)
            .orElse(0L),
        System.getProperty("os.name") + " " + System.getProperty("os.version"),
        find(cpu, "(?m)^flags\\s*:.*\\b(hypervisor)\\b").isPresent(),
        System.getProperty("java.vm.name") + " " + System.getProperty("java.vm.version"),
        Machine.vectorBits());
  }

  private static List<String> findCaches() {
    Map<String, String> caches = new LinkedHashMap<>();
    for (int i = 0; i < 8; i++) {
      Path cache = Path.of("/sys/devices/system/cpu/cpu0/cache/index" + i);
      String type = read(cache.resolve("type")).strip();
      String size = read(cache.resolve("size")).strip();
      if (!size.isEmpty() && !type.equals("Instruction")) {
        String suffix = type.equals("Data") ? "d" : "";
        caches.put("L" + read(cache.resolve("level")).strip() + suffix, size);
      }
    }
    return caches.entrySet().stream().map(e -> e.getKey() + " " + e.getValue()).toList();
  }

  private static Optional<String> find(String text, String pattern) {
    Matcher matcher = Pattern.compile(pattern).matcher(text);
    return matcher.find() ? Optional.of(matcher.group(1).strip()) : Optional.empty();
  }

  private static String read(Path file) {
    try {
      return Files.readString(file, StandardCharsets.UTF_8);
    } catch (IOException e) {
      return "";
    }
  }
}
