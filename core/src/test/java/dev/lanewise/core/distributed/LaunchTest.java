package dev.lanewise.core.distributed;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.core.base.InputException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What launchers say, and libraries that are none. */
class LaunchTest {
  @Test
  void withoutALauncherThereIsOneProcess() {
    Launch launch = new Launch(Map.of("HOME", "/root"));
    assertFalse(launch.isByLauncher());
    assertEquals(0, launch.rank());
    assertEquals(6, launch.threads(6, 8));
    try (Communicator alone = launch.join()) {
      assertEquals(1, alone.size());
    }
  }

  @Test
  void launchersAreUnderstood() {
    Launch open =
        new Launch(
            Map.of(
                "OMPI_COMM_WORLD_RANK", "3",
                "OMPI_COMM_WORLD_SIZE", "8",
                "OMPI_COMM_WORLD_LOCAL_SIZE", "4"));
    assertTrue(open.isByLauncher() && open.isOpenMpi() && !open.isHydra());
    assertEquals(3, open.rank());
    assertEquals(8, open.size());
    assertEquals(4, open.threads(16, 16));
    // Bound to one core, a process has one, not a fourth of it.
    assertEquals(1, open.threads(1, 16));
    Launch hydra = new Launch(Map.of("PMI_RANK", "1", "PMI_SIZE", "2", "MPI_LOCALNRANKS", "2"));
    assertTrue(hydra.isHydra());
    assertEquals(1, hydra.threads(2, 2));
    Launch slurm =
        new Launch(
            Map.of(
                "SLURM_STEP_ID", "0",
                "SLURM_PROCID", "5",
                "SLURM_NTASKS", "6",
                "SLURM_TASKS_PER_NODE", "3(x2)"));
    assertTrue(slurm.isByLauncher());
    assertEquals(5, slurm.rank());
    assertEquals(6, slurm.size());
    assertEquals(2, slurm.threads(8, 8));
    // A shell of an allocation, which started nothing yet.
    assertFalse(new Launch(Map.of("SLURM_NTASKS", "6", "SLURM_PROCID", "0")).isByLauncher());
  }

  @Test
  void librariesThatAreNoneAreNamed(@TempDir Path folder) throws IOException {
    String named = "LANEWISE_MPI";
    Launch missing = new Launch(Map.of("PMI_RANK", "0", named, "/no/such/libmpi.so"));
    InputException e = assertThrows(InputException.class, missing::join);
    assertTrue(e.getMessage().contains("which is no file"), e.getMessage());
    Path text = Files.writeString(folder.resolve("libmpi.so"), "none");
    Launch broken = new Launch(Map.of("PMI_RANK", "0", named, text.toString()));
    e = assertThrows(InputException.class, broken::join);
    assertTrue(e.getMessage().contains("cannot be loaded"), e.getMessage());
  }
}
