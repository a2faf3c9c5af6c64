package dev.lanewise.core.cli;

import dev.lanewise.core.backend.cuda.CudaException;
import dev.lanewise.core.base.Failures;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.UsageException;
import dev.lanewise.core.train.Team;
import java.io.IOException;
import java.io.PrintStream;
import java.io.PrintWriter;
import java.io.UncheckedIOException;
import java.nio.file.FileSystemException;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.ServiceLoader;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.ExitCode;
import picocli.CommandLine.Help.Ansi;
import picocli.CommandLine.IVersionProvider;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Model.OptionSpec;
import picocli.CommandLine.Model.UsageMessageSpec;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.ParseResult;
import picocli.CommandLine.UnmatchedArgumentException;

/**
 * The program {@code lanewise}.
 *
 * <p>Exit codes: 0 success, 1 failure with one sentence on stderr, 2 wrong usage. {@code --debug},
 * or the environment variable {@code LANEWISE_DEBUG}, adds the stack trace to a failure.
 */
public final class Main {
  private static final String DEBUG = "--debug";

  private Main() {}

  /**
   * Runs one command and ends the JVM with its exit code.
   *
   * @param args command and options
   */
  public static void main(String[] args) {
    List<Subcommand> commands = new ArrayList<>(commands());
    ServiceLoader.load(Subcommand.class).forEach(commands::add);
    StandardOutput standard = StandardOutput.ofProcess();
    System.setOut(new PrintStream(standard, true, System.out.charset()));
    PrintWriter out = new PrintWriter(System.out, true, System.out.charset());
    PrintWriter err = new PrintWriter(System.err, true, System.err.charset());
    if (!Processes.join(err)) {
      Interrupts.exit(Processes.follow(commands, err, args));
      return;
    }
    int code = run(commands, out, err, args);
    Team.current().end(code);
    String fault = standard.fault();
    if (fault != null) {
      err.println(fault);
    }
    Interrupts.exit(code == ExitCode.OK && fault != null ? ExitCode.SOFTWARE : code);
  }

  /** The commands of this module. */
  static List<Subcommand> commands() {
    return List.of(
        new TrainCommand(),
        new GenerateCommand(),
        new EvalCommand(),
        new LrFindCommand(),
        new ExportCommand(),
        new ParityCommand(),
        new DoctorCommand());
  }

  /** Runs one of the given commands and returns its exit code. */
  static int run(
      List<? extends Subcommand> commands, PrintWriter out, PrintWriter err, String... args) {
    CommandLine line = new CommandLine(new Root());
    commands.forEach(line::addSubcommand);
    Converters.register(line);
    line.setOut(out)
        .setErr(err)
        .setColorScheme(CommandLine.Help.defaultColorScheme(colours()))
        .setCaseInsensitiveEnumValuesAllowed(true)
        .setExpandAtFiles(false) // a prompt may begin with @
        .setUsageHelpWidth(100)
        .setUsageHelpLongOptionsMaxWidth(32)
        .setParameterExceptionHandler(Main::wrongUsage)
        .setExecutionExceptionHandler((e, failed, _) -> failed(e, failed));
    addCommonOptions(line.getCommandSpec());
    line.getSubcommands().values().forEach(command -> addCommonOptions(command.getCommandSpec()));
    try {
      return line.execute(args);
    } catch (Throwable e) { // picocli hands over exceptions, but no errors
      return failed(e, line);
    } finally {
      out.flush();
      err.flush();
    }
  }

  @SuppressWarnings("SystemConsoleNull") // Java 25's is null again where there is no terminal
  private static Ansi colours() {
    boolean terminal = System.console() != null && System.console().isTerminal();
    return terminal && System.getenv("NO_COLOR") == null ? Ansi.AUTO : Ansi.OFF;
  }

  private static void addCommonOptions(CommandSpec spec) {
    spec.mixinStandardHelpOptions(true)
        .versionProvider(new Version())
        .addOption(
            OptionSpec.builder(DEBUG)
                .description("Show the stack trace of a failure.")
                .type(boolean.class)
                .build());
    UsageMessageSpec usage = spec.usageMessage();
    usage.abbreviateSynopsis(true).sortOptions(false).synopsisHeading("Usage: ");
    usage.descriptionHeading("%n").optionListHeading("%nOptions:%n");
    usage.parameterListHeading("%nArguments:%n").commandListHeading("%nCommands:%n");
    usage.footerHeading("%n");
  }

  private static int wrongUsage(ParameterException e, String[] args) {
    CommandLine line = e.getCommandLine();
    PrintWriter err = line.getErr();
    err.println(e.getMessage());
    UnmatchedArgumentException.printSuggestions(e, err);
    return wrongUsage(e, line);
  }

  private static int wrongUsage(Exception e, CommandLine line) {
    line.getErr().println("See " + line.getCommandSpec().qualifiedName() + " --help.");
    if (debug(line)) {
      e.printStackTrace(line.getErr());
    }
    return ExitCode.USAGE;
  }

  private static int failed(Throwable e, CommandLine line) {
    PrintWriter err = line.getErr();
    err.println(sentence(e));
    if (e instanceof UsageException usage) {
      return wrongUsage(usage, line);
    }
    if (debug(line)) {
      e.printStackTrace(err);
    }
    return ExitCode.SOFTWARE;
  }

  private static String sentence(Throwable failure) {
    return switch (failure) {
      case InputException e -> e.getMessage();
      case UncheckedIOException e -> sentence(e.getCause());
      case FileSystemException e when e.getFile() != null ->
          e.getFile() + ": " + Failures.describe(e) + ".";
      case IOException e -> "Input or output failed: " + Failures.describe(e) + ".";
      case CudaException e ->
          String.format(
              Locale.ROOT,
              "The GPU failed: %s. A run goes on from its newest checkpoint with --resume; --device"
                  + " cpu computes without the GPU.",
              e.getMessage());
      case OutOfMemoryError e ->
          String.format(
              Locale.ROOT,
              "Out of memory (%s): try a smaller model, batch or context.",
              e.getMessage());
      default ->
          String.format(
              Locale.ROOT,
              "Unexpected failure, a defect of Lanewise: %s (%s shows where).",
              failure,
              DEBUG);
    };
  }

  private static boolean debug(CommandLine line) {
    if (System.getenv("LANEWISE_DEBUG") != null) {
      return true;
    }
    ParseResult parsed = line.getParseResult();
    while (parsed != null && !parsed.hasMatchedOption(DEBUG)) {
      parsed = parsed.subcommand();
    }
    return parsed != null;
  }

  @Command(
      name = "lanewise",
      description = "Trains GPT-class language models in plain Java.",
      footer = "lanewise COMMAND --help tells more about a command.")
  private static final class Root implements Runnable {
    @CommandLine.Spec private CommandSpec spec;

    @Override
    public void run() {
      throw new ParameterException(spec.commandLine(), "No command was given.");
    }
  }

  private static final class Version implements IVersionProvider {
    @Override
    public String[] getVersion() {
      String version = Main.class.getModule().getDescriptor().rawVersion().orElse("unknown");
      return new String[] {"Lanewise " + version + ", Java " + Runtime.version()};
    }
  }
}
