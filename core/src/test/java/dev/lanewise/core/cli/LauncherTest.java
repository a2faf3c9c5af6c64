package dev.lanewise.core.cli;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.DisabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * Runs the launcher in a copy of a checkout, with scripts that stand in for Java and Maven. The
 * system's folders that it searches lie inside the test's folder, and its path holds nothing but
 * the tools named here.
 */
@DisabledOnOs(OS.WINDOWS)
class LauncherTest {
  private static final List<String> TOOLS =
      List.of(
          "cat",
          "date",
          "dirname",
          "find",
          "grep",
          "head",
          "mkdir",
          "mv",
          "readlink",
          "rm",
          "sed",
          "sleep",
          "tail");

  @TempDir Path folder;

  private Path root;
  private Path checkout;
  private Path script;

  private record Result(int exit, String out, String err) {}

  @BeforeEach
  void checkOut() throws IOException {
    root = folder.toRealPath().resolve("with space");
    checkout = root.resolve("checkout");
    script = checkout.resolve("lanewise");
    for (String module : List.of("simd", "core", "bench")) {
      write(checkout.resolve(module).resolve("pom.xml"), module);
      write(checkout.resolve(module).resolve("src/main/java/A.java"), module);
    }
    write(checkout.resolve("pom.xml"), "all");
    String text = Files.readString(Path.of("..", "lanewise"));
    for (String system : List.of("/usr/", "/opt/", "/Library/")) {
      text = text.replace(" " + system, " \"$FAKE_ROOT\"" + system);
    }
    executable(script, text);
    for (String tool : TOOLS) {
      provide(tool);
    }
    if (isOnPath("flock")) {
      provide("flock");
    }
    installJdk("25.0.3");
    executable(
        root.resolve("bin/mvn"),
        """
        #!/bin/sh
        echo call >>"$FAKE_ROOT/builds"
        echo "[INFO] Building Lanewise 0.1.0   [1/2]"
        echo "[INFO] Building Lanewise core 0.1.0   [2/2]"
        [ -z "${FAKE_SLEEP-}" ] || sleep "$FAKE_SLEEP"
        [ -z "${FAKE_FAILURE-}" ] || { echo "[ERROR] $FAKE_FAILURE"; exit 1; }
        for option; do
          case $option in -Dlanewise.output=*) output=${option#*=} ;; esac
        done
        mkdir -p "$output/lanewise-bench" "$output/lib"
        echo jar >"$output/lanewise-bench/lanewise-bench-0.1.0.jar"
        echo jar >"$output/lib/lanewise-core-0.1.0.jar"
        """);
    // The sources are older than any build.
    try (Stream<Path> files = Files.walk(checkout)) {
      for (Path file : files.toList()) {
        Files.setLastModifiedTime(file, FileTime.from(Instant.now().minusSeconds(60)));
      }
    }
  }

  private void installJdk(String version) throws IOException {
    Path jdk = root.resolve("usr/lib/jvm/jdk 25");
    write(jdk.resolve("release"), "IMPLEMENTOR=\"x\"\nJAVA_VERSION=\"" + version + "\"\n");
    executable(jdk.resolve("bin/javac"), "#!/bin/sh\n");
    executable(
        jdk.resolve("bin/java"),
        """
        #!/bin/sh
        for argument; do
          printf '[%s]' "$argument"
        done
        echo
        [ -z "${FAKE_RUN-}" ] || exec sleep "$FAKE_RUN"
        exit "${FAKE_EXIT:-0}"
        """);
  }

  private void provide(String tool) throws IOException {
    Path found =
        Stream.of(System.getenv("PATH").split(":"))
            .map(entry -> Path.of(entry, tool))
            .filter(Files::isExecutable)
            .findFirst()
            .orElseThrow();
    executable(root.resolve("bin").resolve(tool), "#!/bin/sh\nexec '" + found + "' \"$@\"\n");
  }

  private static boolean isOnPath(String tool) {
    return Stream.of(System.getenv("PATH").split(":"))
        .anyMatch(entry -> Files.isExecutable(Path.of(entry, tool)));
  }

  private static void write(Path file, String text) throws IOException {
    Files.createDirectories(file.getParent());
    Files.writeString(file, text);
  }

  private static void executable(Path file, String text) throws IOException {
    write(file, text);
    assertTrue(file.toFile().setExecutable(true));
  }

  private Process start(Map<String, String> settings, List<String> command) throws IOException {
    ProcessBuilder builder = new ProcessBuilder(command).directory(folder.toFile());
    builder.environment().clear();
    builder.environment().put("PATH", root.resolve("bin").toString());
    builder.environment().put("FAKE_ROOT", root.toString());
    builder.environment().putAll(settings);
    return builder.start();
  }

  private static Result end(Process process) throws Exception {
    assertTrue(process.waitFor(30, TimeUnit.SECONDS), "the launcher hangs");
    return new Result(
        process.exitValue(),
        new String(process.getInputStream().readAllBytes(), UTF_8),
        new String(process.getErrorStream().readAllBytes(), UTF_8));
  }

  private Result run(Map<String, String> settings, String... args) throws Exception {
    List<String> command = new ArrayList<>(List.of(script.toString()));
    command.addAll(List.of(args));
    return end(start(settings, command));
  }

  private Result run(String... args) throws Exception {
    return run(Map.of(), args);
  }

  private int builds() throws IOException {
    try {
      return Files.readAllLines(root.resolve("builds")).size();
    } catch (NoSuchFileException e) {
      return 0;
    }
  }

  private List<Path> buildFolders() throws IOException {
    try (Stream<Path> entries = Files.list(checkout.resolve(".lanewise"))) {
      return entries.filter(p -> p.getFileName().toString().startsWith("build-")).toList();
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"sh", "bash", "dash"})
  void buildsOnceAndHandsTheArgumentsOver(String shell) throws Exception {
    if (!isOnPath(shell)) {
      return;
    }
    provide(shell);
    String bin = root.resolve("bin").resolve(shell).toString();
    List<String> command =
        List.of(bin, script.toString(), "train", "", "a  b", "*", "$HOME \"q'", "--x=\\n");
    for (int i = 0; i < 2; i++) {
      Result result = end(start(Map.of(), command));
      assertEquals(0, result.exit(), result.err());
      assertTrue(
          result.out().endsWith("Main][train][][a  b][*][$HOME \"q'][--x=\\n]\n"), result.out());
      assertTrue(result.out().contains("[-Dlanewise.home=" + checkout + "]"), result.out());
      assertEquals(i == 0 ? "Building Lanewise: core, done in" : "", firstWords(result.err()));
    }
    assertEquals(1, builds());
  }

  private static String firstWords(String text) {
    return text.replaceFirst("(?s) \\d+ s\\.\n$", "");
  }

  @Test
  void theExitCodeIsJavas() throws Exception {
    assertEquals(3, run(Map.of("FAKE_EXIT", "3"), "train").exit());
  }

  @Test
  void optionsForTheJvmStandBeforeTheModule() throws Exception {
    Result result = run(Map.of("LANEWISE_JAVA_OPTIONS", "-Xmx4g -Da=b"), "train");
    assertTrue(result.out().contains("[-Xmx4g][-Da=b][--module]"), result.out());
  }

  @Test
  void worksThroughLinks() throws Exception {
    Path first = folder.resolve("bin/first");
    Path second = folder.resolve("second");
    Files.createDirectories(first.getParent());
    Files.createSymbolicLink(first, first.getParent().relativize(script));
    Files.createSymbolicLink(second, Path.of("bin/first"));
    Result result = end(start(Map.of(), List.of(second.toString(), "doctor")));
    assertEquals(0, result.exit(), result.err());
    assertTrue(result.out().contains("[-Dlanewise.home=" + checkout + "]"), result.out());
  }

  @Test
  void buildsAgainWhenASourceChangesOrGoes() throws Exception {
    run("doctor");
    run("doctor");
    assertEquals(1, builds());
    Path source = checkout.resolve("core/src/main/java/B.java");
    write(source, "b");
    run("doctor");
    assertEquals(2, builds());
    Files.delete(source);
    run("doctor");
    assertEquals(3, builds());
    write(checkout.resolve("simd/pom.xml"), "changed");
    run("doctor");
    run("doctor");
    assertEquals(4, builds());
    assertEquals(2, buildFolders().size(), "the current build and the one before");
  }

  @ParameterizedTest
  @ValueSource(booleans = {true, false})
  void twoAtOnceBuildOnce(boolean flock) throws Exception {
    if (!flock) {
      Files.deleteIfExists(root.resolve("bin/flock"));
    }
    Map<String, String> slow = Map.of("FAKE_SLEEP", "0.3");
    List<String> command = List.of(script.toString(), "doctor");
    Process one = start(slow, command);
    Process two = start(slow, command);
    Result first = end(one);
    Result second = end(two);
    assertEquals(0, first.exit(), first.err());
    assertEquals(0, second.exit(), second.err());
    assertEquals(1, builds());
    assertTrue((first.err() + second.err()).contains("Waiting for another build"));
  }

  @ParameterizedTest
  @ValueSource(booleans = {true, false})
  void aKilledBuildIsDoneAgain(boolean flock) throws Exception {
    if (!flock) {
      Files.deleteIfExists(root.resolve("bin/flock"));
    }
    Process killed = start(Map.of("FAKE_SLEEP", "20"), List.of(script.toString(), "doctor"));
    while (builds() == 0 && killed.isAlive()) {
      Thread.sleep(5);
    }
    List<ProcessHandle> children = killed.descendants().toList();
    killed.destroyForcibly().waitFor();
    children.forEach(ProcessHandle::destroyForcibly);
    Result result = run("doctor");
    assertEquals(0, result.exit(), result.err());
    assertEquals(2, builds());
    assertEquals(1, buildFolders().size(), "what was left of the killed build is gone");
  }

  @Test
  void aRunningProgramKeepsItsBuild() throws Exception {
    Process running = start(Map.of("FAKE_RUN", "20"), List.of(script.toString(), "train"));
    assertEquals('[', running.getInputStream().read());
    Path itsBuild = buildFolders().getFirst();
    for (int i = 0; i < 3; i++) {
      write(checkout.resolve("core/src/main/java/A.java"), "change " + i);
      assertEquals(0, run("doctor").exit());
    }
    assertTrue(Files.exists(itsBuild.resolve("lib")), "removed under a running program");
    running.destroyForcibly().waitFor();
    write(checkout.resolve("core/src/main/java/A.java"), "last change");
    run("doctor");
    assertFalse(Files.exists(itsBuild), "a build that nobody runs stays");
  }

  @Test
  void aFailedBuildIsOneSentenceWithItsLog() throws Exception {
    Result result = run(Map.of("FAKE_FAILURE", "No network."), "doctor");
    assertEquals(1, result.exit());
    Path log = checkout.resolve(".lanewise/build.log");
    assertEquals(
        "Building Lanewise: core, failed.\nLanewise could not be built: No network. (the log is "
            + log
            + ").\n",
        result.err());
    assertTrue(Files.readString(log).contains("[ERROR] No network."));
    assertEquals(0, run("doctor").exit());
  }

  @Test
  void aFailedRebuildKeepsTheBuildBefore() throws Exception {
    run("doctor");
    write(checkout.resolve("core/src/main/java/A.java"), "wrong");
    assertEquals(1, run(Map.of("FAKE_FAILURE", "A.java is wrong"), "doctor").exit());
    assertEquals(1, buildFolders().size());
  }

  @Test
  void withoutMavenItSaysHowToGetIt() throws Exception {
    run("doctor");
    Files.delete(root.resolve("bin/mvn"));
    assertEquals(0, run("doctor").exit(), "Maven is needed to build only");
    write(checkout.resolve("core/src/main/java/A.java"), "newer");
    Result result = run("doctor");
    assertEquals(1, result.exit());
    assertEquals(1, result.err().lines().count(), result.err());
    assertTrue(result.err().contains("sudo apt install maven"), result.err());
  }

  @Test
  void withoutJdkItSaysHowToGetIt() throws Exception {
    installJdk("21.0.5");
    Result result = run("doctor");
    assertEquals(1, result.exit());
    assertEquals(1, result.err().lines().count(), result.err());
    for (String system : List.of("apt install", "brew install", "winget install")) {
      assertTrue(result.err().contains(system), result.err());
    }
  }

  @Test
  void findsTheJdkThatIsNamed() throws Exception {
    Path jdk = root.resolve("usr/lib/jvm/jdk 25");
    Path elsewhere = Files.move(jdk, root.resolve("elsewhere"));
    assertEquals(1, run("doctor").exit());
    assertEquals(0, run(Map.of("JAVA_HOME", elsewhere.toString()), "doctor").exit());
    assertEquals(0, run(Map.of("LANEWISE_JAVA_HOME", elsewhere.toString()), "doctor").exit());
    assertEquals(0, run(Map.of("PATH", root.resolve("bin") + ":" + elsewhere + "/bin")).exit());
    Path sdkman = root.resolve("home/.sdkman/candidates/java");
    Files.createDirectories(sdkman);
    Files.move(elsewhere, sdkman.resolve("25.0.3-tem"));
    assertEquals(0, run(Map.of("HOME", root.resolve("home").toString()), "doctor").exit());
    Result wrong = run(Map.of("LANEWISE_JAVA_HOME", "/none"), "doctor");
    assertEquals(1, wrong.exit());
    assertEquals("LANEWISE_JAVA_HOME names /none, which is not a JDK 25 or later.\n", wrong.err());
  }

  @Test
  void laterJdksServeToo() throws Exception {
    installJdk("27-ea");
    assertEquals(0, run("doctor").exit());
    installJdk("101.0.1");
    assertEquals(0, run("doctor").exit());
    installJdk("1.8.0_402");
    assertEquals(1, run("doctor").exit());
    // A 25 comes before a later one, wherever it is, unless that is named.
    installJdk("27");
    Files.createDirectories(root.resolve("home/.jdks"));
    Path later = Files.move(root.resolve("usr/lib/jvm/jdk 25"), root.resolve("home/.jdks/a-27"));
    installJdk("25.0.3");
    Path usual = Files.move(root.resolve("usr/lib/jvm/jdk 25"), root.resolve("home/.jdks/b-25"));
    String home = root.resolve("home").toString();
    assertEquals(0, run(Map.of("HOME", home), "doctor").exit());
    executable(usual.resolve("bin/java"), "#!/bin/sh\necho this is 25\n");
    assertEquals("this is 25\n", run(Map.of("HOME", home), "doctor").out());
    Map<String, String> named = Map.of("HOME", home, "JAVA_HOME", later.toString());
    assertTrue(run(named, "doctor").out().startsWith("["));
  }

  @Test
  void aJdkWithoutTheVectorApiIsNamed() throws Exception {
    installJdk("31");
    Path jdk = root.resolve("usr/lib/jvm/jdk 25");
    Path release = jdk.resolve("release");
    Files.writeString(release, "JAVA_VERSION=\"31\"\nMODULES=\"java.base jdk.vector\"\n");
    assertEquals(1, run("doctor").exit());
    Result named = run(Map.of("LANEWISE_JAVA_HOME", jdk.toString()), "doctor");
    assertEquals(1, named.exit());
    assertTrue(named.err().contains("a JDK 31 without the module jdk.incubator.vector"));
    Files.writeString(release, "MODULES=\"java.base jdk.incubator.vector\"\nJAVA_VERSION=\"31\"\n");
    assertEquals(0, run("doctor").exit());
  }
}
