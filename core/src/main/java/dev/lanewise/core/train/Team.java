package dev.lanewise.core.train;

import dev.lanewise.core.base.InputException;
import dev.lanewise.core.distributed.Communicator;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.util.Locale;

/**
 * The processes that work on a run. The first leads: it decides everything, and alone reads
 * options, writes to the run's folder and prints. The others wait for a command, do their part of
 * it together with all, and wait for the next. So nothing needs to be agreed on but what is
 * computed.
 */
public final class Team {
  /** What the leader may ask for. */
  enum Command {
    /** Describes a run, in JSON of so many bytes. */
    RUN(1),
    /** Gives all parameters to everyone, and how many updates there were. */
    PARAMETERS(2),
    /** Computes a step: its number, its first batch, and how many targets count or 0. */
    STEP(3),
    /** Validates on at most so many batches. */
    VALIDATE(4),
    /** Gathers a moment of a parameter: which one, and whether the second. */
    GATHER(5),
    /** Scatters a moment of a parameter, likewise. */
    SCATTER(6),
    /** Ends the process. */
    END(7);

    private final int code;

    Command(int code) {
      this.code = code;
    }

    static Command of(long code) {
      for (Command command : values()) {
        if (command.code == code) {
          return command;
        }
      }
      throw new IllegalStateException("no command has the code " + code);
    }
  }

  /** A command and its three numbers. */
  private static final int WORDS = 4;

  /** Bytes of what a process says that cannot take part. */
  private static final int SENTENCE_BYTES = 2048;

  private static volatile Team current = new Team(Communicator.alone());

  private final Communicator communicator;
  private final MemorySegment words = Arena.ofAuto().allocate(ValueLayout.JAVA_LONG, WORDS);
  private boolean busy;

  /**
   * Processes that were started together.
   *
   * @param communicator connects them
   */
  public Team(Communicator communicator) {
    this.communicator = communicator;
  }

  /** The team that this process is in. */
  public static Team current() {
    return current;
  }

  /** Says which team this process is in. */
  public static void join(Team team) {
    current = team;
  }

  /** What connects the processes. */
  public Communicator communicator() {
    return communicator;
  }

  /** How many processes there are. */
  public int size() {
    return communicator.size();
  }

  /** Whether this is the only process. */
  public boolean isAlone() {
    return size() == 1;
  }

  /** Whether others are in the midst of a command, and would wait for this process for ever. */
  boolean busy() {
    return busy;
  }

  /** Begins what all processes do alike, each by its own command line. */
  public void beginTogether() {
    busy = !isAlone();
  }

  /** Ends what all processes did alike. */
  public void endTogether() {
    busy = false;
  }

  // Of the leader
  // ---------------------------------------------------------------------------------------

  /** Begins a command; others do it too, up to {@link #done}. */
  void command(Command command, long a, long b, long c) {
    busy = true;
    words.setAtIndex(ValueLayout.JAVA_LONG, 0, command.code);
    words.setAtIndex(ValueLayout.JAVA_LONG, 1, a);
    words.setAtIndex(ValueLayout.JAVA_LONG, 2, b);
    words.setAtIndex(ValueLayout.JAVA_LONG, 3, c);
    communicator.broadcast(words, 0);
  }

  /** Ends a command. */
  void done() {
    busy = false;
  }

  /**
   * Describes a run to the others, who get ready for it.
   *
   * @param text the run, in JSON
   * @throws InputException if one of them cannot take part, in its words
   */
  void announce(String text) {
    byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
    command(Command.RUN, bytes.length, 0, 0);
    try (Arena arena = Arena.ofShared()) {
      MemorySegment memory = arena.allocate(padded(bytes.length), Float.BYTES);
      MemorySegment.copy(bytes, 0, memory, ValueLayout.JAVA_BYTE, 0, bytes.length);
      communicator.broadcast(memory, 0);
    }
    String fault = sentences("");
    done();
    if (fault != null) {
      throw new InputException(fault);
    }
  }

  /**
   * Ends the other processes, and this one's part in the team.
   *
   * @param code this process's exit code
   */
  public void end(int code) {
    if (busy) {
      communicator.abort(code == 0 ? 1 : code);
    }
    if (!isAlone()) {
      command(Command.END, 0, 0, 0);
    }
    communicator.close();
  }

  // Of the others
  // ---------------------------------------------------------------------------------------

  /** Waits for the next command. */
  Command next() {
    communicator.broadcast(words, 0);
    return Command.of(word(0));
  }

  /** A number of the command at hand. */
  long word(int index) {
    return words.getAtIndex(ValueLayout.JAVA_LONG, index);
  }

  /** Waits to be told of a run; null if there is none. */
  public String hear() {
    if (next() != Command.RUN) {
      return null;
    }
    int bytes = (int) word(1);
    try (Arena arena = Arena.ofShared()) {
      MemorySegment memory = arena.allocate(padded(bytes), Float.BYTES);
      communicator.broadcast(memory, 0);
      return new String(
          memory.asSlice(0, bytes).toArray(ValueLayout.JAVA_BYTE), StandardCharsets.UTF_8);
    }
  }

  /**
   * Tells the leader whether this process can take part.
   *
   * @param fault why it cannot, a sentence; empty if it can
   */
  public void answer(String fault) {
    sentences(fault);
  }

  private static long padded(long bytes) {
    return Math.max(Float.BYTES, (bytes + Float.BYTES - 1) / Float.BYTES * Float.BYTES);
  }

  /** Exchanges a sentence of each process, and gives the first that is not empty, or null. */
  private String sentences(String mine) {
    int size = communicator.size();
    int floats = SENTENCE_BYTES / Float.BYTES;
    int[] at = new int[size];
    int[] counts = new int[size];
    for (int i = 0; i < size; i++) {
      at[i] = i * floats;
      counts[i] = floats;
    }
    try (Arena arena = Arena.ofShared()) {
      MemorySegment all = arena.allocate((long) size * SENTENCE_BYTES, Long.BYTES);
      byte[] bytes = mine.getBytes(StandardCharsets.UTF_8);
      int length = Math.min(bytes.length, SENTENCE_BYTES - 1);
      long own = (long) communicator.rank() * SENTENCE_BYTES;
      MemorySegment.copy(bytes, 0, all, ValueLayout.JAVA_BYTE, own, length);
      communicator.allGather(all, at, counts);
      for (int i = 0; i < size; i++) {
        String text = all.getString((long) i * SENTENCE_BYTES);
        if (!text.isEmpty()) {
          return text;
        }
      }
      return null;
    }
  }

  /**
   * A sentence of one of several processes.
   *
   * @param rank which
   * @param size of how many
   * @param host where it runs
   * @param sentence what it has to say
   */
  public static String said(int rank, int size, String host, String sentence) {
    return String.format(
        Locale.ROOT, "Process %d of %d, on %s: %s", rank + 1, size, host, sentence);
  }
}
