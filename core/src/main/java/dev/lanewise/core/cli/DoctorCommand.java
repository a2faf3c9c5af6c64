package dev.lanewise.core.cli;

import dev.lanewise.core.backend.cuda.CudaProbe;
import dev.lanewise.core.distributed.Launch;
import dev.lanewise.core.machine.MachineLimits;
import dev.lanewise.core.machine.MachineProbe;
import dev.lanewise.simd.Machine;
import dev.lanewise.simd.Workers;
import java.io.IOException;
import java.io.PrintWriter;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** Tells what the machine has and how fast it can be at most. */
@Command(
    name = "doctor",
    description =
        "Shows the machine as Lanewise sees it: Java, vectors, memory, speed limits, GPU.",
    footer = {"Example:", "  lanewise doctor"})
final class DoctorCommand implements Subcommand {
  private static final Duration WINDOW = Duration.ofMillis(25);
  private static final Pattern BRACKETS = Pattern.compile("\\[(\\w+)]");

  @Option(names = "--no-measure", description = "Leave out the measurements (two seconds).")
  private boolean skipMeasurements;

  @Spec private CommandSpec spec;

  private PrintWriter out;

  @Override
  public Integer call() {
    out = spec.commandLine().getOut();
    line("Java", Runtime.version() + ", " + property("java.vendor"));
    line("", property("java.home"));
    line("System", property("os.name") + " " + property("os.version") + ", " + property("os.arch"));
    line("Processor", processor());
    line(
        "Threads",
        Workers.threads() + " on " + Runtime.getRuntime().availableProcessors() + " cores");
    line("Vectors", vectors());
    line("", Machine.products());
    Machine.obstacles().forEach(sentence -> line("Slow", sentence));
    line("Memory", memory());
    line("Huge pages", hugePages());
    gpu();
    line("MPI", Launch.ofProcess().libraries());
    if (!skipMeasurements) {
      measure();
    }
    return 0;
  }

  /** Without a driver nothing else matters, so only the driver is named as missing. */
  private void gpu() {
    List<CudaProbe.Line> parts = CudaProbe.describe();
    CudaProbe.Line driver = parts.getFirst();
    if (!driver.found()) {
      line("GPU", "none: " + driver.detail());
      return;
    }
    String label = "GPU";
    for (CudaProbe.Line part : parts) {
      line(label, part.piece() + (part.found() ? ": " : " cannot be used: ") + part.detail());
      label = "";
    }
  }

  private void measure() {
    MachineLimits limits = MachineProbe.measure(Workers.threads(), WINDOW);
    line("Arithmetic", rates(limits.one().fma(), limits.all().fma(), limits.threads()));
    measure("bfloat16", MachineProbe.bfloat16(Workers.threads(), WINDOW));
    measure("int8", MachineProbe.int8(Workers.threads(), WINDOW));
    line("Memory read", rates(limits.one().read(), limits.all().read(), limits.threads()));
    line("Memory copy", rates(limits.one().copy(), limits.all().copy(), limits.threads()));
  }

  private void measure(String type, Optional<MachineLimits.Rate> found) {
    found.ifPresent(
        rate ->
            line(
                "",
                String.format(
                    Locale.ROOT,
                    "%s: %.0f %s on %d",
                    type,
                    rate.best(),
                    rate.unit(),
                    Workers.threads())));
  }

  private static String rates(MachineLimits.Rate one, MachineLimits.Rate all, int threads) {
    String first = String.format(Locale.ROOT, "%.0f %s on one core", one.best(), one.unit());
    return threads == 1
        ? first
        : first + String.format(Locale.ROOT, ", %.0f on %d", all.best(), threads);
  }

  private static String vectors() {
    int bits = Machine.vectorBits();
    String text = bits + " bits: " + bits / Float.SIZE + " floats at a time";
    return System.getProperty("lanewise.simd.width") == null ? text : text + " (forced)";
  }

  private static String memory() {
    var system =
        (com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
    return String.format(
        Locale.ROOT,
        "%.1f GiB, %.1f GiB available; Java heap up to %.1f GiB",
        gib(system.getTotalMemorySize()),
        gib(availableMemory().orElse(system.getFreeMemorySize())),
        gib(Runtime.getRuntime().maxMemory()));
  }

  private static double gib(long bytes) {
    return bytes / (double) (1 << 30);
  }

  /** What programs can still get, caches included, where the system tells. */
  private static Optional<Long> availableMemory() {
    return firstLine(Path.of("/proc/meminfo"), "MemAvailable:")
        .map(line -> Long.parseLong(line.replaceAll("\\D", "")) * 1024);
  }

  private static String processor() {
    return firstLine(Path.of("/proc/cpuinfo"), "model name")
        .map(line -> line.substring(line.indexOf(':') + 1).strip())
        .orElse("unknown");
  }

  private static String hugePages() {
    Path file = Path.of("/sys/kernel/mm/transparent_hugepage/enabled");
    Optional<Matcher> mode = firstLine(file, "").map(BRACKETS::matcher).filter(Matcher::find);
    return mode.map(m -> "transparent, " + m.group(1)).orElse("unknown");
  }

  /** The first line of a file that begins so; empty where there is none or no such file. */
  private static Optional<String> firstLine(Path file, String start) {
    try {
      List<String> lines = Files.readAllLines(file);
      return lines.stream().filter(line -> line.startsWith(start)).findFirst();
    } catch (IOException e) {
      return Optional.empty();
    }
  }

  private static String property(String name) {
    return System.getProperty(name);
  }

  private void line(String label, String text) {
    out.printf(Locale.ROOT, "%-12s %s%n", label, text);
  }
}
