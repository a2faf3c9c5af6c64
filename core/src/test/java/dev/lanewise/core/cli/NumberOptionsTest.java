package dev.lanewise.core.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.PrintStream;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.TestFactory;
import org.junit.jupiter.api.io.TempDir;
import picocli.CommandLine;
import picocli.CommandLine.Model.OptionSpec;

/**
 * Every option of every command that takes a number, with numbers that nobody means: the command
 * runs, or says in a sentence what is wrong and ends as for wrong usage. Options are found in the
 * commands themselves.
 */
class NumberOptionsTest {
  private static final List<String> NUMBERS =
      List.of("0", "-1", "NaN", "1e30", "", "seven", "2147483647", "9223372036854775807");

  /** For the command that shares most of its options with another. */
  private static final List<String> FEW_NUMBERS = List.of("0", "-1", "NaN", "2147483647");

  /** Options of which huge numbers mean what they say. */
  private static final Set<String> OF_YEARS = Set.of("--steps", "--accumulate");

  private static final Set<Class<?>> NUMERIC =
      Set.of(
          int.class,
          Integer.class,
          long.class,
          Long.class,
          float.class,
          Float.class,
          double.class,
          Double.class);

  @TempDir private static Path folder;
  private static Path text;
  private static Path model;
  private static Path run;
  private static PrintStream out;
  private static PrintStream err;

  @BeforeAll
  static void train() throws IOException {
    out = System.out;
    err = System.err;
    System.setOut(new PrintStream(PrintStream.nullOutputStream()));
    System.setErr(new PrintStream(PrintStream.nullOutputStream()));
    text = folder.resolve("text.txt");
    Files.writeString(text, "the quick brown fox jumps over the lazy dog\n".repeat(30));
    model = folder.resolve("model.json");
    Files.writeString(
        model, "{\"contextLength\": 8, \"layers\": 1, \"heads\": 2, \"channels\": 8}");
    run = folder.resolve("run");
    assertEquals(0, run(new StringWriter(), command("train", run)));
  }

  @AfterAll
  static void restore() {
    System.setOut(out);
    System.setErr(err);
  }

  /** A command that does a little in no time. */
  private static Map<String, String> command(String name, Path target) {
    Map<String, String> options = new LinkedHashMap<>();
    switch (name) {
      case "train", "lr-find" -> {
        options.put("--data", text.toString());
        options.put("--tokenizer", "chars");
        options.put("--model", model.toString());
        options.put("--batch", "2");
        options.put("--out", target.toString());
        options.put(
            name.equals("train") ? "--steps" : "--points", name.equals("train") ? "2" : "10");
      }
      case "generate" -> {
        options.put("--from", run.toString());
        options.put("--max-tokens", "3");
      }
      case "eval" -> {
        options.put("--from", run.toString());
        options.put("--data", text.toString());
      }
      default -> {}
    }
    if (!name.equals("doctor")) {
      options.put("--device", "cpu");
    }
    options.put("command", name);
    return options;
  }

  private static int run(StringWriter written, Map<String, String> options) {
    List<String> args = new ArrayList<>(List.of(options.get("command")));
    options.forEach(
        (option, value) -> {
          if (option.startsWith("--")) {
            args.add(option + "=" + value);
          }
        });
    PrintWriter limited =
        new PrintWriter(written, true) {
          @Override
          public boolean checkError() {
            return written.getBuffer().length() > 20_000;
          }
        };
    return Main.run(Main.commands(), limited, limited, args.toArray(String[]::new));
  }

  @TestFactory
  Stream<DynamicTest> everyNumberIsTakenOrRefused() {
    List<DynamicTest> tests = new ArrayList<>();
    for (Subcommand command : Main.commands()) {
      CommandLine line = new CommandLine(command);
      String name = line.getCommandName();
      List<OptionSpec> options =
          line.getCommandSpec().options().stream()
              .filter(option -> Arrays.stream(option.auxiliaryTypes()).anyMatch(NUMERIC::contains))
              .toList();
      assertFalse(options.isEmpty() && !List.of("doctor", "export").contains(name), name);
      for (OptionSpec option : options) {
        for (String number : name.equals("lr-find") ? FEW_NUMBERS : NUMBERS) {
          String title = name + " " + option.longestName() + "=" + number;
          tests.add(
              DynamicTest.dynamicTest(title, () -> check(name, option.longestName(), number)));
        }
      }
    }
    assertTrue(tests.size() > 200, tests.size() + " tests");
    return tests.stream();
  }

  private static void check(String name, String option, String number) throws IOException {
    Path target = Files.createTempDirectory(folder, "of").resolve("out");
    Map<String, String> options = command(name, target);
    options.put(option, number);
    if (List.of("train", "lr-find").contains(name)
        && OF_YEARS.contains(option)
        && number.length() > 8) {
      // It would be a run of years; that it begins is seen where its folder cannot be made.
      options.put("--out", text.resolve("out").toString());
    }
    StringWriter written = new StringWriter();
    int code = run(written, options);
    String said = written.toString();
    assertFalse(said.contains("Unexpected") || said.contains("\tat "), said);
    if (code != 0 && !said.contains("cannot be made")) {
      assertEquals(2, code, said);
      List<String> lines = said.lines().toList();
      assertTrue(lines.getLast().startsWith("See lanewise " + name), said);
      assertTrue(lines.size() > 1 && lines.get(lines.size() - 2).endsWith("."), said);
      assertFalse(Files.exists(target), "a run that was refused leaves a folder");
    }
  }
}
