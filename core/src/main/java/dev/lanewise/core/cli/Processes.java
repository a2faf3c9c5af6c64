package dev.lanewise.core.cli;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.base.Failures;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.data.Dataset;
import dev.lanewise.core.distributed.Communicator;
import dev.lanewise.core.distributed.Launch;
import dev.lanewise.core.train.Announcement;
import dev.lanewise.core.train.Follower;
import dev.lanewise.core.train.Team;
import dev.lanewise.core.train.TrainConfig;
import dev.lanewise.simd.Workers;
import java.io.IOException;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.io.Writer;
import java.net.InetAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Locale;

/**
 * The processes of a job that a launcher such as mpirun started. The first runs the command; the
 * others help with it and print nothing, unless they fail.
 */
final class Processes {
  private static final Duration PATIENCE = Duration.ofSeconds(3);

  private Processes() {}

  /**
   * Joins the others.
   *
   * @param err hears why that failed, from the first process alone
   * @return whether this process is to run the command
   */
  static boolean join(PrintWriter err) {
    Launch launch = Launch.ofProcess();
    if (!launch.isByLauncher()) {
      return true;
    }
    Communicator communicator;
    try {
      communicator = launch.join();
    } catch (InputException e) {
      if (launch.rank() == 0) {
        err.println(e.getMessage());
        err.flush();
      }
      Runtime.getRuntime().halt(1);
      return false;
    }
    int threads = launch.threads(Runtime.getRuntime().availableProcessors(), cores());
    if (threads != Workers.threads()) {
      Workers.setThreads(threads);
    }
    Team.join(new Team(communicator));
    return communicator.rank() == 0;
  }

  /** Cores of the host, which may be more than a launcher lets this process use. */
  private static int cores() {
    try (var lines = Files.lines(Path.of("/proc/cpuinfo"))) {
      int count = (int) lines.filter(line -> line.startsWith("processor")).count();
      return count > 0 ? count : Runtime.getRuntime().availableProcessors();
    } catch (IOException e) {
      return Runtime.getRuntime().availableProcessors();
    }
  }

  /**
   * Helps the first process with what it does, until that ends. A command that all processes run
   * alike is run here too, without a word.
   *
   * @param err hears why this process failed, which ends all
   * @return exit code
   */
  static int follow(List<Subcommand> commands, PrintWriter err, String... args) {
    Team team = Team.current();
    try {
      if (args.length > 0 && args[0].equals(EvalCommand.NAME)) {
        StringWriter fault = new StringWriter();
        PrintWriter nobody = new PrintWriter(Writer.nullWriter());
        if (Main.run(commands, nobody, new PrintWriter(fault), args) != 0) {
          // What fails everywhere, the first process says, and ends the job.
          Thread.sleep(PATIENCE);
          String sentence = fault.toString().lines().findFirst().orElse("it failed");
          throw new InputException(sentence);
        }
      }
      String text = team.hear();
      if (text != null) {
        help(team, text);
      }
      team.communicator().close();
      return 0;
    } catch (Throwable e) {
      err.println(said(team, sentence(e)));
      if (System.getenv("LANEWISE_DEBUG") != null) {
        e.printStackTrace(err);
      }
      err.flush();
      team.communicator().abort(1);
      return 1;
    }
  }

  private static void help(Team team, String text) {
    Announcement announced;
    String fault;
    try {
      announced = Announcement.parse(text);
      fault = announced.differs();
    } catch (InputException e) {
      answer(team, "another version than this one began the run (" + e.getMessage() + ")");
      waitForEnd(team);
      return;
    }
    if (!fault.isEmpty()) {
      answer(team, fault);
      waitForEnd(team);
      return;
    }
    TrainConfig config = announced.run().training();
    Integer threads = config.threads() == 0 ? null : config.threads();
    Dataset data = null;
    Backend backend = null;
    Follower follower = null;
    try {
      try {
        data =
            announced
                .run()
                .source()
                .open(announced.tokenizer(), TrainCommand.cache(), (what, done, total) -> {});
        fault = announced.differs(data);
        if (fault.isEmpty()) {
          backend = Devices.open(config, threads);
          follower = new Follower(team, announced.run(), data, backend);
        }
      } catch (InputException | OutOfMemoryError e) {
        fault = Failures.reason(e);
      }
      answer(team, fault);
      if (follower == null) {
        waitForEnd(team);
      } else {
        follower.run();
      }
    } finally {
      for (AutoCloseable resource : new AutoCloseable[] {follower, backend, data}) {
        close(resource);
      }
    }
  }

  private static void close(AutoCloseable resource) {
    if (resource != null) {
      try {
        resource.close();
      } catch (Exception e) {
        throw new IllegalStateException(e);
      }
    }
  }

  private static void answer(Team team, String fault) {
    team.answer(fault.isEmpty() ? "" : said(team, fault));
  }

  /** The leader has heard why this process cannot help, and ends the job. */
  private static void waitForEnd(Team team) {
    if (team.hear() != null) {
      throw new IllegalStateException("asked for more than this process can do");
    }
  }

  private static String said(Team team, String sentence) {
    Communicator communicator = team.communicator();
    return Team.said(communicator.rank(), communicator.size(), host(), sentence);
  }

  private static String host() {
    try {
      return InetAddress.getLocalHost().getHostName();
    } catch (IOException e) {
      return "an unknown host";
    }
  }

  private static String sentence(Throwable e) {
    return e instanceof InputException
        ? e.getMessage()
        : String.format(Locale.ROOT, "it failed (%s), which ends the job.", Failures.reason(e));
  }
}
