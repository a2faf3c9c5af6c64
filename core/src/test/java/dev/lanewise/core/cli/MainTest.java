package dev.lanewise.core.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.core.base.InputException;
import java.io.IOException;
import java.io.OutputStream;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.io.UncheckedIOException;
import java.nio.file.NoSuchFileException;
import java.util.List;
import org.junit.jupiter.api.Test;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

class MainTest {
  private final StringWriter out = new StringWriter();
  private final StringWriter err = new StringWriter();

  @Command(name = "probe", description = "Does what the test wants.")
  private static final class Probe implements Subcommand {
    @Option(names = "--count", description = "A number.")
    private int count;

    @Option(names = "--text", description = "A text.")
    private String text;

    private Exception failure;
    private Error error;

    @Override
    public Integer call() throws Exception {
      if (failure != null) {
        throw failure;
      }
      if (error != null) {
        throw error;
      }
      return count;
    }
  }

  private int run(Subcommand command, String... args) {
    return Main.run(List.of(command), new PrintWriter(out), new PrintWriter(err), args);
  }

  private int fail(Exception failure, String... args) {
    Probe probe = new Probe();
    probe.failure = failure;
    return run(probe, args);
  }

  @Test
  void aCommandsValueIsTheExitCode() {
    assertEquals(0, run(new Probe(), "probe"));
    assertEquals(7, run(new Probe(), "probe", "--count", "7"));
    assertEquals("", err.toString());
  }

  @Test
  void helpNamesTheCommandsAndGoesToStdout() {
    assertEquals(0, run(new Probe(), "--help"));
    assertTrue(out.toString().contains("probe"), out.toString());
    assertEquals(0, run(new Probe(), "probe", "--help"));
    assertTrue(out.toString().contains("--count"), out.toString());
    assertFalse(out.toString().contains("\u001b"), "no colours where there is no terminal");
    assertEquals("", err.toString());
  }

  @Test
  void theVersionIsTheModules() {
    assertEquals(0, run(new Probe(), "--version"));
    assertTrue(
        out.toString().matches("(?s)Lanewise \\d+\\.\\d+\\.\\d+\\S*, Java \\d\\d.*"), out + "");
  }

  @Test
  void wrongUsageIsTwoWithASentence() {
    assertEquals(2, run(new Probe(), "probe", "--count", "seven"));
    assertTrue(err.toString().contains("'seven' is not a whole number"), err.toString());
    assertTrue(err.toString().contains("See lanewise probe --help."), err.toString());
    assertEquals("", out.toString());
  }

  @Test
  void anUnknownCommandIsWrongUsageWithASuggestion() {
    assertEquals(2, run(new Probe(), "prob"));
    assertTrue(err.toString().contains("prob"), err.toString());
    assertEquals(2, run(new Probe()));
    assertTrue(err.toString().contains("No command was given."), err.toString());
  }

  @Test
  void unusableInputIsOneSentenceAndOne() {
    assertEquals(1, fail(new InputException("The file a.txt is empty."), "probe"));
    assertEquals("The file a.txt is empty." + System.lineSeparator(), err.toString());
  }

  @Test
  void failuresOfTheFileSystemAreSentences() {
    IOException failure = new NoSuchFileException("a.txt");
    assertEquals(1, fail(new UncheckedIOException(failure), "probe"));
    assertEquals(1, fail(failure, "probe"));
    String line = "a.txt: no such file or folder." + System.lineSeparator();
    assertEquals(line + line, err.toString());
  }

  @Test
  void defectsAreNamedAndTracedOnDemand() {
    assertEquals(1, fail(new IllegalStateException("odd"), "probe"));
    assertEquals(1, err.toString().lines().count(), err.toString());
    assertTrue(err.toString().contains("odd"), err.toString());
    assertEquals(1, fail(new IllegalStateException("odd"), "probe", "--debug"));
    assertTrue(err.toString().contains("at dev.lanewise.core"), err.toString());
    assertEquals(1, fail(new IllegalStateException("odd"), "--debug", "probe"));
  }

  @Test
  void errorsOfTheJvmAreSentencesToo() {
    Probe probe = new Probe();
    probe.error = new OutOfMemoryError("Java heap space");
    assertEquals(1, run(probe, "probe"));
    assertTrue(err.toString().startsWith("Out of memory (Java heap space)"), err.toString());
    assertEquals(1, err.toString().lines().count(), err.toString());
  }

  @Test
  void textMayBeginWithASign() {
    Probe probe = new Probe();
    assertEquals(0, run(probe, "probe", "--text", "@Override"));
    assertEquals("@Override", probe.text);
    assertEquals(0, run(probe, "probe", "--text=-1 ${x}"));
    assertEquals("-1 ${x}", probe.text);
  }

  @Test
  void doctorDescribesTheMachine() {
    assertEquals(0, run(new DoctorCommand(), "doctor", "--no-measure"));
    List<String> lines = out.toString().lines().toList();
    assertTrue(
        lines.getFirst().startsWith("Java         " + Runtime.version().feature()), out.toString());
    for (String label : List.of("Vectors", "Memory", "GPU")) {
      assertTrue(lines.stream().anyMatch(line -> line.startsWith(label)), out.toString());
    }
    assertEquals("", err.toString());
  }

  @Test
  void theListOfCommandsHasWholeSentences() {
    for (Subcommand command : Main.commands()) {
      String first = new CommandLine(command).getCommandSpec().usageMessage().description()[0];
      assertTrue(first.endsWith("."), first);
    }
  }

  @Test
  void whatStandardOutputDoesNotTakeIsSaidUnlessNobodyReads() {
    for (String reason : List.of("No space left on device", "Broken pipe")) {
      StandardOutput output =
          new StandardOutput(
              new OutputStream() {
                @Override
                public void write(int b) throws IOException {
                  throw new IOException(reason);
                }
              });
      assertNull(output.fault());
      assertThrows(IOException.class, () -> output.write(1));
      if (reason.startsWith("Broken")) {
        assertNull(output.fault());
      }
    }
  }
}
