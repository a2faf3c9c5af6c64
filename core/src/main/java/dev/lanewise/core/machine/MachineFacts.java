package dev.lanewise.core.machine;

import dev.lanewise.simd.Machine;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * What a reader must know of a machine to judge a speed measured on it.
 *
 * @param processor the processor's own name and kind, as {@code AMD EPYC (Zen 5)}, or its
 *     architecture where the system does not tell
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
        processor(cpu),
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

  /** The processor's name and, since clouds give several kinds one name, its kind. */
  static String processor(String cpuInfo) {
    String name =
        find(cpuInfo, "(?m)^model name\\s*:\\s*(.+)$").orElse(System.getProperty("os.arch"));
    Optional<Integer> family =
        find(cpuInfo, "(?m)^cpu family\\s*:\\s*(\\d+)$").map(Integer::parseInt);
    Optional<Integer> model = find(cpuInfo, "(?m)^model\\s*:\\s*(\\d+)$").map(Integer::parseInt);
    if (family.isEmpty() || model.isEmpty()) {
      return name;
    }
    boolean isAmd = cpuInfo.contains("AuthenticAMD");
    String kind = isAmd ? amd(family.get(), model.get()) : intel(family.get(), model.get());
    return String.format(
        Locale.ROOT,
        "%s (%s)",
        name,
        kind != null
            ? kind
            : String.format(Locale.ROOT, "family %d, model %d", family.get(), model.get()));
  }

  private static String amd(int family, int model) {
    return switch (family) {
      case 23 -> model >= 0x30 ? "Zen 2" : "Zen";
      case 25 ->
          model >= 0x10 && model < 0x20 || model >= 0x60 && model < 0x80 || model >= 0xa0
              ? "Zen 4"
              : "Zen 3";
      case 26 -> model < 0x80 ? "Zen 5" : null;
      default -> null;
    };
  }

  private static String intel(int family, int model) {
    if (family != 6) {
      return null;
    }
    return switch (model) {
      case 79 -> "Broadwell";
      case 85 -> "Skylake";
      case 106, 108 -> "Ice Lake";
      case 143 -> "Sapphire Rapids";
      case 173, 174 -> "Granite Rapids";
      case 207 -> "Emerald Rapids";
      default -> null;
    };
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
