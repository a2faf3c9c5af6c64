package dev.lanewise.core.backend.cuda;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestReporter;
import org.junit.jupiter.api.io.TempDir;

/** The kernels compile with the machine's nvcc, and keep their arrays in registers. */
class KernelCompileTest {
  private static final Pattern KERNEL = Pattern.compile("Function properties for (\\w+)");
  private static final Pattern SPILLS = Pattern.compile("(\\d+) bytes spill stores");
  private static final Pattern REGISTERS = Pattern.compile("Used (\\d+) registers");

  @TempDir Path folder;

  @Test
  void ampereHopperAndBlackwell(TestReporter reporter) throws IOException {
    assumeTrue(StandIn.has("nvcc"), "nvcc is not on this machine");
    // All variants' macros differ, so each is a compilation; one target each keeps this short, and
    // the kernels that lean on the hardware are compiled for all three.
    String[] targets = {"sm_80", "sm_90a", "sm_100"};
    int turn = 0;
    for (KernelVariant variant : KernelVariant.ALL) {
      boolean everywhere = variant.file().equals("attention") && variant.definitions().length == 2;
      for (String target : targets) {
        if (everywhere || target.equals(targets[turn % 3])) {
          compile(variant, target, reporter);
        }
      }
      turn++;
    }
  }

  private void compile(KernelVariant variant, String target, TestReporter reporter)
      throws IOException {
    Path source = folder.resolve(variant.file() + ".cu");
    Files.writeString(source, KernelCompiler.source(variant.file()));
    List<String> command = new ArrayList<>(List.of("nvcc", "-cubin", "-Xptxas", "-v", "-w"));
    command.addAll(variant.options("-arch=" + target));
    command.addAll(List.of("-o", folder.resolve("out.cubin").toString(), source.toString()));
    StandIn.Output output = StandIn.run(command.toArray(String[]::new));
    assertEquals(0, output.status(), output.text());
    String kernel = "";
    int spills = 0;
    for (String line : output.text().split("\n", -1)) {
      Matcher name = KERNEL.matcher(line);
      Matcher spilled = SPILLS.matcher(line);
      Matcher registers = REGISTERS.matcher(line);
      if (name.find()) {
        kernel = name.group(1);
      } else if (spilled.find()) {
        spills = Integer.parseInt(spilled.group(1));
      } else if (registers.find()) {
        reporter.publishEntry(
            target + " " + variant + " " + kernel,
            registers.group(1) + " registers, " + spills + " bytes spilled");
        assertTrue(spills <= 64, target + " " + variant + " " + kernel + " spills " + spills);
      }
    }
  }
}
