package dev.lanewise.simd;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** What is said of a JVM in which kernels are slow, asked of such JVMs. */
class ConditionsTest {
  /** Prints what the process says of itself. */
  static final class Program {
    private Program() {}

    public static void main(String[] arguments) {
      System.out.println(Machine.describe());
      System.out.println("obstacles " + Machine.obstacles().size());
    }
  }

  @Test
  void thisJvmTakesTheDirectives() throws Exception {
    List<String> lines = run();
    assertTrue(lines.contains("obstacles 0"), lines.toString());
    assertTrue(lines.stream().noneMatch(l -> l.contains("directives")), lines.toString());
    assertTrue(lines.stream().noneMatch(l -> l.contains("WARNING: Th")), lines.toString());
  }

  @ParameterizedTest
  @CsvSource({
    "-XX:-UseFMA, fused multiply-add",
    "-XX:TieredStopAtLevel=1, without its optimising compiler",
    "-Xint, only interprets",
    "-Dorg.graalvm.nativeimage.imagecode=runtime, native image",
  })
  void aSlowJvmIsSaidOnceAndInTheDescription(String option, String words) throws Exception {
    List<String> lines = run(option);
    assertTrue(lines.contains("obstacles 1"), lines.toString());
    List<String> said = lines.stream().filter(line -> line.contains(words)).toList();
    assertEquals(2, said.size(), lines.toString());
  }

  @Test
  void anotherJvmIsNamed() {
    Map<String, String> properties = Map.of("java.vm.name", "Eclipse OpenJ9 VM");
    List<String> found = Conditions.find(properties::get);
    assertEquals(1, found.size());
    assertTrue(found.getFirst().startsWith("This JVM, Eclipse OpenJ9 VM, is not HotSpot"));
  }

  @Test
  void aMissingModuleIsOneSentence() {
    assertTrue(Requirements.missing(true, 25).contains("--add-modules jdk.incubator.vector"));
    String gone = Requirements.missing(false, 31);
    assertTrue(gone.contains("this Java 31 does not have: use a JDK 25"), gone);
  }

  /** Lines of both outputs of a JVM with an option. */
  private static List<String> run(String... options) throws Exception {
    List<String> command = new ArrayList<>();
    command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
    command.addAll(List.of(options));
    command.add("--add-modules=jdk.incubator.vector");
    command.add("-cp");
    command.add(place(Machine.class) + System.getProperty("path.separator") + place(Program.class));
    command.add(Program.class.getName());
    Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
    byte[] output = process.getInputStream().readAllBytes();
    assertEquals(0, process.waitFor());
    return new String(output, StandardCharsets.UTF_8).lines().toList();
  }

  private static String place(Class<?> type) throws Exception {
    return Path.of(type.getProtectionDomain().getCodeSource().getLocation().toURI()).toString();
  }
}
