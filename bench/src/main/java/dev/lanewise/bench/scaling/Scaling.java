package dev.lanewise.bench.scaling;

/**
 * Time of a training step that is dealt to many machines, from what one of them computes and what
 * connects them. The model is that of docs/distributed.md: passes, an all-to-all of gradients in
 * pieces, sums, an update of a part, an all-gather of parameters; nothing at the same time as
 * another.
 *
 * @param parameters how many are trained
 * @param passSeconds time of a pass, forward and backward
 * @param updateSeconds time that one machine takes to update all parameters
 * @param sumBytesPerSecond bytes that a machine reads and writes a second when it adds gradients
 */
public record Scaling(
    double parameters, double passSeconds, double updateSeconds, double sumBytesPerSecond) {
  /** Floats of a part that are exchanged with each machine at a time, as the trainer does. */
  private static final double PIECE = 1 << 19;

  /** Time of the processor's for each message, beside the network's. */
  private static final double MESSAGE_SECONDS = 3e-6;

  /** Messages of a step that every process sends along a tree or to all, beside gradients. */
  private static final int SMALL_EXCHANGES = 3;

  /**
   * What connects machines.
   *
   * @param bytesPerSecond that a machine sends, while it receives as many
   * @param latencySeconds from one to another
   */
  public record Network(double bytesPerSecond, double latencySeconds) {
    /** A network of so many gigabits a second, of which packets leave 94 % for data. */
    public static Network ofGigabits(double gigabits, double latencySeconds) {
      return new Network(0.94e9 / 8 * gigabits, latencySeconds);
    }
  }

  /**
   * Time of a step.
   *
   * @param network what connects the machines
   * @param machines how many
   * @param passes of one machine
   * @return seconds
   */
  public double stepSeconds(Network network, int machines, int passes) {
    return passes * passSeconds + updateSeconds / machines + exchangeSeconds(network, machines);
  }

  /**
   * Time that exchanging takes of it.
   *
   * @param network what connects the machines
   * @param machines how many
   * @return seconds
   */
  public double exchangeSeconds(Network network, int machines) {
    if (machines == 1) {
      return 0;
    }
    double others = machines - 1;
    double sent = 4 * parameters * others / machines;
    double rounds = Math.ceil(parameters / machines / PIECE);
    double messages = (rounds + 1 + SMALL_EXCHANGES) * others;
    double sums = 12 * parameters * others / machines / sumBytesPerSecond;
    return 2 * sent / network.bytesPerSecond
        + (rounds + 1 + SMALL_EXCHANGES) * network.latencySeconds
        + messages * MESSAGE_SECONDS
        + sums;
  }

  /**
   * The part of a step in which machines compute, of what they would get done without each other.
   *
   * @param network what connects the machines
   * @param machines how many
   * @param passes of one machine
   * @return from 0 to 1, or a little more, since each updates a part alone
   */
  public double efficiency(Network network, int machines, int passes) {
    return stepSeconds(network, 1, passes) / stepSeconds(network, machines, passes);
  }
}
