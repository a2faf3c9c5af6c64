package dev.lanewise.core.machine;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.lanewise.simd.Machine;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;

class MachineProbeTest {
  @Test
  void bfloat16IsMeasuredWhereTheProcessorHasIt() {
    boolean has =
        Machine.products().contains("AVX512_BF16)") || Machine.products().contains("AVX512_BF16,");
    long perRound = Machine.bfloat16Operations(1);
    // Pairs of 16 lanes, a multiplication and an addition each
    assertEquals(0, perRound % (16 * 2 * 2));
    assertEquals(7 * perRound, Machine.bfloat16Operations(7));
    var rate = MachineProbe.bfloat16(2, Duration.ofMillis(2));
    assertEquals(has, perRound > 0);
    assertEquals(has, rate.isPresent());
    rate.ifPresent(r -> assertEquals("GFLOP/s", r.unit()));
    assertEquals(has, rate.isPresent() && rate.get().best() > 0);
    assertThrows(IllegalArgumentException.class, () -> Machine.bfloat16Operations(0));
  }

  @Test
  void integersAreMeasuredWhereTheProcessorHasThem() {
    long perRound = Machine.int8Operations(1);
    // Four in each of 16 lanes, a multiplication and an addition each
    assertEquals(0, perRound % (16 * 4 * 2));
    assertEquals(5 * perRound, Machine.int8Operations(5));
    var rate = MachineProbe.int8(2, Duration.ofMillis(2));
    assertEquals(Machine.products().contains("AVX512_VNNI)"), rate.isPresent());
    assertEquals(perRound > 0, rate.isPresent() && rate.get().best() > 0);
    assertThrows(IllegalArgumentException.class, () -> Machine.int8Operations(0));
  }

  @Test
  void loopsComputeWhatTheyAreNamedAfter() {
    int floats = 1 << 12;
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment a = arena.allocate(4L * floats, 64);
      MemorySegment b = arena.allocate(4L * floats, 64);
      MemorySegment c = arena.allocate(4L * floats, 64);
      for (int i = 0; i < floats; i++) {
        b.setAtIndex(ValueLayout.JAVA_FLOAT, i, i % 7);
        c.setAtIndex(ValueLayout.JAVA_FLOAT, i, i % 5);
      }
      double sum = 0;
      for (int i = 0; i < floats; i++) {
        sum += i % 7;
      }
      float[] lanes = new float[Machine.vectorBits() / 32];
      MachineProbe.read(b, 0, 4L * floats, lanes);
      for (float lane : lanes) {
        sum -= lane;
      }
      assertEquals(0, sum);
      MachineProbe.triad(a, b, c, 0, 4L * floats);
      for (int i = 0; i < floats; i++) {
        assertEquals(i % 7 + 3f * (i % 5), a.getAtIndex(ValueLayout.JAVA_FLOAT, i));
      }
      MachineProbe.copy(b, a, 0, 4L * floats);
      assertEquals(-1, a.mismatch(b));
      MachineProbe.update(a, 0, 4L * floats);
      for (int i = 0; i < floats; i++) {
        assertEquals(
            Math.fma(i % 7, 0.999f, 1e-3f), a.getAtIndex(ValueLayout.JAVA_FLOAT, i), "at " + i);
      }
    }
    int rounds = 100;
    double expected = 0;
    for (int chain = 1; chain <= 16; chain++) {
      float x = chain;
      for (int i = 0; i < rounds; i++) {
        x = Math.fma(x, 0.999999f, 1e-9f);
      }
      expected += (double) x * Machine.vectorBits() / 32;
    }
    assertEquals(expected, MachineProbe.fma(rounds), 1e-5 * expected);
  }

  @Test
  void everyRateIsPositiveAndTheBestIsNoLessThanTheMedian() {
    MachineLimits limits = MachineProbe.measure(2, Duration.ofMillis(2));
    assertEquals(Machine.vectorBits(), limits.vectorBits());
    for (int threads : new int[] {1, 2}) {
      MachineLimits.Rates rates = limits.of(threads);
      for (MachineLimits.Rate rate :
          List.of(rates.fma(), rates.read(), rates.copy(), rates.triad(), rates.update())) {
        assertTrue(rate.median() > 0 && rate.best() >= rate.median(), rate::toString);
      }
    }
  }

  @Test
  void refusesToMeasureNothing() {
    assertThrows(
        IllegalArgumentException.class, () -> MachineProbe.measure(0, Duration.ofMillis(1)));
    assertThrows(IllegalArgumentException.class, () -> MachineProbe.measure(1, Duration.ZERO));
  }

  /** The peak is only a peak if the compiler made of the loop what its author meant. */
  @Test
  void theCompiledPeakLoopIsFusedMultiplyAddsOfWholeRegisters() throws Exception {
    assumeTrue(System.getProperty("os.arch").equals("amd64"), "reads x86 machine code");
    List<Fma> fmas = findFmas(machineCodeOf("fma"));
    assertTrue(fmas.size() >= 16, () -> "only " + fmas);
    assertEquals(0, fmas.size() % 16, "every copy of the loop's body has its 16 chains");
    for (Fma fma : fmas) {
      assertEquals(new Fma(Machine.vectorBits(), true), fma, "a chain was split or spilled");
    }
  }

  /** A packed float multiply-add: its width, and whether all operands are registers. */
  private record Fma(int bits, boolean inRegisters) {}

  /** Finds VFMADD132PS, 213PS and 231PS with a VEX or an EVEX prefix. */
  private static List<Fma> findFmas(byte[] code) {
    List<Fma> found = new ArrayList<>();
    for (int i = 0; i + 6 <= code.length; i++) {
      boolean vex =
          code[i] == (byte) 0xc4 && (code[i + 1] & 0x1f) == 2 && (code[i + 2] & 0x83) == 1;
      boolean evex = code[i] == 0x62 && (code[i + 1] & 0x0f) == 2 && (code[i + 2] & 0x87) == 5;
      int opcode = i + (vex ? 3 : 4);
      boolean fma =
          (code[opcode] & 0xff) == 0x98
              || (code[opcode] & 0xff) == 0xa8
              || (code[opcode] & 0xff) == 0xb8;
      if (fma && (vex || evex)) {
        int bits = vex ? 128 << (code[i + 2] >> 2 & 1) : 128 << (code[i + 3] >> 5 & 3);
        found.add(new Fma(bits, (code[opcode + 1] & 0xc0) == 0xc0));
      }
    }
    return found;
  }

  /** Runs this class's main in a JVM that prints the machine code of a method. */
  private static byte[] machineCodeOf(String method) throws IOException {
    String classes =
        location(MachineProbe.class)
            + System.getProperty("path.separator")
            + location(Machine.class)
            + System.getProperty("path.separator")
            + Path.of("target", "test-classes").toAbsolutePath();
    Process jvm =
        new ProcessBuilder(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "--add-modules=jdk.incubator.vector",
                "-Dlanewise.simd.width=" + Machine.vectorBits(),
                "-XX:-TieredCompilation",
                // The whole method, and nothing said by others while its code is printed
                "-XX:-UseOnStackReplacement",
                "-Xbatch",
                "-XX:+UnlockDiagnosticVMOptions",
                "-XX:CompileCommand=print," + MachineProbe.class.getName() + "::" + method,
                "-cp",
                classes,
                MachineProbeTest.class.getName())
            .redirectErrorStream(true)
            .start();
    String text = new String(jvm.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    try {
      assertTrue(jvm.waitFor(30, TimeUnit.SECONDS), "the JVM does not end");
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
    // Without a disassembler the JVM prints bytes
    int last = text.lastIndexOf("[MachCode]");
    assumeTrue(last >= 0, "this JVM prints no machine code");
    String code = text.substring(last, text.indexOf("[/MachCode]", last));
    StringBuilder hex = new StringBuilder();
    Matcher line = Pattern.compile("(?m)^\\s*0x[0-9a-f]+:([0-9a-f |]+)$").matcher(code);
    while (line.find()) {
      hex.append(line.group(1).replaceAll("[ |]", ""));
    }
    return HexFormat.of().parseHex(hex);
  }

  private static String location(Class<?> type) {
    return Path.of(
            java.net.URI.create(
                type.getProtectionDomain().getCodeSource().getLocation().toString()))
        .toString();
  }

  /** Makes the peak loop hot. */
  public static void main(String[] args) {
    float sum = 0;
    for (int i = 0; i < 3000; i++) {
      sum += MachineProbe.fma(1000);
    }
    if (Float.isNaN(sum)) {
      throw new AssertionError();
    }
  }

  @Test
  void processorsOfOneNameAreToldApartByTheirKind() {
    String format = "vendor_id\t: %s\ncpu family\t: %d\nmodel\t\t: %d\nmodel name\t: %s\n";
    assertEquals("AMD EPYC (Zen 5)", processor(format, "AuthenticAMD", 26, 2, "AMD EPYC"));
    assertEquals("AMD EPYC (Zen 4)", processor(format, "AuthenticAMD", 25, 17, "AMD EPYC"));
    assertEquals("AMD EPYC (Zen 3)", processor(format, "AuthenticAMD", 25, 1, "AMD EPYC"));
    assertEquals(
        "Intel(R) Xeon(R) Processor (Sapphire Rapids)",
        processor(format, "GenuineIntel", 6, 143, "Intel(R) Xeon(R) Processor"));
    assertEquals("Some (family 6, model 255)", processor(format, "GenuineIntel", 6, 255, "Some"));
    assertEquals(System.getProperty("os.arch"), MachineFacts.processor(""));
  }

  private static String processor(
      String format, String vendor, int family, int model, String name) {
    return MachineFacts.processor(
        String.format(java.util.Locale.ROOT, format, vendor, family, model, name));
  }
}
