package dev.lanewise.core.distributed;

import dev.lanewise.core.base.InputException;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.OptionalInt;
import java.util.stream.Collectors;

/**
 * What whoever started this process says of the others: mpirun and mpiexec of Open MPI, MPICH and
 * their kin, and Slurm's srun, leave it in the environment.
 */
public final class Launch {
  private static final List<String> RANKS =
      List.of("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID");
  private static final List<String> SIZES =
      List.of("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS");
  private static final List<String> LOCAL_SIZES =
      List.of("OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "SLURM_TASKS_PER_NODE");

  private final Map<String, String> environment;

  /**
   * A launch as an environment tells it.
   *
   * @param environment names and values
   */
  public Launch(Map<String, String> environment) {
    this.environment = environment;
  }

  /** How this process was started. */
  public static Launch ofProcess() {
    return new Launch(System.getenv());
  }

  private OptionalInt number(List<String> names) {
    for (String name : names) {
      String value = environment.get(name);
      if (value != null) {
        // Slurm writes 4(x2) for four on each of two hosts.
        String digits = value.split("[^0-9]", 2)[0];
        if (!digits.isEmpty() && digits.length() < 9) {
          return OptionalInt.of(Integer.parseInt(digits));
        }
      }
    }
    return OptionalInt.empty();
  }

  /** Whether a launcher of processes started this one. A shell within Slurm's batch is none. */
  public boolean isByLauncher() {
    boolean isSlurmStep =
        environment.containsKey("SLURM_STEP_ID")
            && !"batch".equals(environment.get("SLURM_STEP_NODELIST"))
            && number(List.of("SLURM_NTASKS")).orElse(1) > 1;
    return environment.containsKey("OMPI_COMM_WORLD_RANK")
        || environment.containsKey("PMI_RANK")
        || environment.containsKey("PMIX_RANK")
        || isSlurmStep;
  }

  /** Whether Open MPI's launcher is the one. */
  boolean isOpenMpi() {
    return environment.containsKey("OMPI_COMM_WORLD_RANK");
  }

  /** Whether a launcher of MPICH's kind is the one. */
  boolean isHydra() {
    return environment.containsKey("PMI_RANK") && !isOpenMpi();
  }

  /** Which of the processes this is to be; 0 without a launcher. */
  public int rank() {
    return isByLauncher() ? number(RANKS).orElse(0) : 0;
  }

  /** How many processes there are to be; 0 if the launcher does not say. */
  int size() {
    return isByLauncher() ? number(SIZES).orElse(0) : 1;
  }

  /**
   * Threads for this process: the host's cores divided among its processes, or those that the
   * launcher bound it to if they are fewer.
   *
   * @param available cores that this process may run on
   * @param cores cores of the host
   */
  public int threads(int available, int cores) {
    int neighbours = isByLauncher() ? number(LOCAL_SIZES).orElse(1) : 1;
    return Math.max(1, Math.min(available, cores / Math.max(1, neighbours)));
  }

  /** A value of the environment, or null. */
  String value(String name) {
    String value = environment.get(name);
    return value == null || value.isBlank() ? null : value;
  }

  /**
   * The libraries of MPI that there are, for people.
   *
   * @return their files, the one first that would be used, or what is missing
   */
  public String libraries() {
    String named = MpiLibrary.named(this);
    if (named != null) {
      return named + ", named by " + MpiLibrary.VARIABLE;
    }
    List<Path> found = MpiLibrary.candidates(this);
    return found.isEmpty()
        ? "none, so one process trains; install openmpi-bin or mpich (Debian, Ubuntu) for more"
        : found.stream().map(Path::toString).collect(Collectors.joining(", "));
  }

  /**
   * Joins the processes that were started together. Without a launcher this is the only one.
   *
   * @throws InputException if there is a launcher but no library that fits it
   */
  public Communicator join() {
    return isByLauncher() ? Mpi.join(this) : Communicator.alone();
  }
}
