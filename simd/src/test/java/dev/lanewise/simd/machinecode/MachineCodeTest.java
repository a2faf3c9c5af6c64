package dev.lanewise.simd.machinecode;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.net.URL;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class MachineCodeTest {
  private static final String PROGRAM =
      """
      public class Says {
        public static void main(String[] arguments) {
          System.out.println("It says: " + dev.lanewise.simd.Machine.products() + ".");
        }
      }
      """;

  @TempDir static Path folder;

  private static boolean isLinuxOnX86() {
    return System.getProperty("os.name").equals("Linux")
        && System.getProperty("os.arch").equals("amd64");
  }

  /** The system's own list of features is what this program finds by asking the processor. */
  @Test
  void featuresAreThoseThatTheSystemKnows() throws IOException {
    assumeTrue(isLinuxOnX86());
    Path file = Path.of("/proc/cpuinfo");
    assumeTrue(Files.isReadable(file));
    String flags =
        Files.readAllLines(file).stream().filter(l -> l.startsWith("flags")).findFirst().orElse("");
    List<String> words = List.of(flags.split("\\s+"));
    boolean has = words.containsAll(List.of("avx512f", "avx512bw", "avx512vl", "avx512_bf16"));
    assertEquals(has, MachineCode.hasBfloat16(), MachineCode.describe());
    assertEquals(words.contains("avx512dq"), MachineCode.hasFloats(), MachineCode.describe());
  }

  @Test
  @SuppressWarnings("restricted")
  void codeIsExecutableAndNotWritable() throws Throwable {
    assumeTrue(isLinuxOnX86());
    Assembler code = new Assembler();
    code.move(Assembler.RAX, Assembler.RDI);
    code.addImmediate(Assembler.RAX, 42);
    code.ret();
    MemorySegment memory = ExecutableMemory.of(code.toBytes());
    var addsUp =
        Linker.nativeLinker()
            .downcallHandle(
                memory, FunctionDescriptor.of(ValueLayout.JAVA_LONG, ValueLayout.JAVA_LONG));
    assertEquals(50, (long) addsUp.invokeExact(8L));
    assertTrue(memory.isReadOnly());
    String start = Long.toHexString(memory.address());
    List<String> maps = Files.readAllLines(Path.of("/proc/self/maps"));
    String line = maps.stream().filter(l -> covers(l, memory.address())).findFirst().orElseThrow();
    assertEquals("r-xp", line.split(" ")[1], start);
    assertThrows(
        IllegalArgumentException.class, () -> memory.set(ValueLayout.JAVA_BYTE, 0, (byte) 0));
  }

  private static boolean covers(String line, long address) {
    String[] range = line.split(" ")[0].split("-");
    return Long.parseUnsignedLong(range[0], 16) <= address
        && address < Long.parseUnsignedLong(range[1], 16);
  }

  /** What a program of its own says of the way that products take. */
  private static String described(String... options) throws Exception {
    Path program = Files.writeString(folder.resolve("Says.java"), PROGRAM);
    URL classes = MachineCode.class.getProtectionDomain().getCodeSource().getLocation();
    List<String> command = new ArrayList<>();
    command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
    command.addAll(List.of("-XX:TieredStopAtLevel=1", "--add-modules", "jdk.incubator.vector"));
    command.addAll(List.of(options));
    command.addAll(List.of("-cp", Path.of(classes.toURI()).toString(), program.toString()));
    Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
    String said = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    process.waitFor();
    return said;
  }

  @Test
  void withoutNativeAccessNothingBreaks() throws Exception {
    assumeTrue(isLinuxOnX86());
    String said = described("--illegal-native-access=deny");
    assertTrue(said.contains("It says: products by the Vector API: no native access"), said);
  }

  @Test
  void aPropertySwitchesItOff() throws Exception {
    String said =
        described("--enable-native-access=ALL-UNNAMED", "-Dlanewise.simd.machineCode=off");
    assertTrue(
        said.contains("products by the Vector API: switched off by lanewise.simd.machineCode."),
        said);
    String wrong = described("-Dlanewise.simd.machineCode=of");
    assertTrue(wrong.contains("lanewise.simd.machineCode is of; it may be on or off"), wrong);
  }
}
