package dev.lanewise.core.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.backend.Precision;
import dev.lanewise.core.backend.cuda.StandIn;
import dev.lanewise.core.base.InputException;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import picocli.CommandLine;

/** A GPU is taken where it works, and passed over with a sentence where it does not. */
class DevicesTest {
  private final PrintStream before = System.err;
  private final ByteArrayOutputStream errors = new ByteArrayOutputStream();

  @BeforeEach
  void useStandIn() {
    StandIn.use();
    StandIn.reset();
    System.setErr(new PrintStream(errors, true, StandardCharsets.UTF_8));
  }

  @AfterEach
  void forgetStandIn() {
    System.setErr(before);
    StandIn.reset();
    StandIn.forget();
  }

  private static String opened(String device) {
    try (Backend backend = Devices.open(device, Precision.BF16, true, null)) {
      return backend.name();
    }
  }

  @Test
  void aGpuThatAgreesIsTaken() {
    assertEquals("cuda", opened("auto"));
    assertEquals("cuda", opened("cuda"));
    assertEquals("cpu", opened("cpu"));
    assertEquals("", errors.toString(StandardCharsets.UTF_8));
  }

  @Test
  void withoutAGpuNothingIsSaid() {
    StandIn.set("devices", 0);
    assertEquals("cpu", opened("auto"));
    assertEquals("", errors.toString(StandardCharsets.UTF_8));
  }

  @Test
  void aGpuThatCannotBeUsedIsNamed() {
    StandIn.set("capability", 75);
    assertEquals("cpu", opened("auto"));
    StandIn.reset();
    StandIn.set("launch", 719);
    assertEquals("cpu", opened("auto"));
    String[] lines = errors.toString(StandardCharsets.UTF_8).lines().toArray(String[]::new);
    assertEquals(2, lines.length);
    assertTrue(lines[0].contains("compute capability 7.5"), lines[0]);
    assertTrue(lines[1].contains("CUDA_ERROR_LAUNCH_FAILED"), lines[1]);
  }

  @Test
  void aGpuThatFailsIsNamedWithWhatToDo(@TempDir Path folder) throws IOException {
    Path text = folder.resolve("text.txt");
    Files.writeString(text, "the quick brown fox jumps over the lazy dog\n".repeat(40));
    StandIn.set("launch", 700);
    StringWriter printed = new StringWriter();
    int code =
        Main.run(
            List.of(new TrainCommand()),
            new PrintWriter(printed),
            new PrintWriter(printed),
            "train",
            "--device=cuda",
            "--data=" + text,
            "--tokenizer=chars",
            "--model=nano",
            "--context=16",
            "--batch=2",
            "--steps=2",
            "--out=" + folder.resolve("run"));
    assertEquals(1, code);
    String error = printed.toString();
    assertTrue(error.contains("The GPU failed: cuLaunchKernel"), error);
    assertTrue(error.contains("CUDA_ERROR_ILLEGAL_ADDRESS (700)"), error);
    assertTrue(error.contains("--resume"), error);
  }

  @Test
  void wrongWordsAreAnswered() {
    assertTrue(
        assertThrows(InputException.class, () -> opened("gpu"))
            .getMessage()
            .contains("choose auto, cpu or cuda"));
    DeviceOptions options = new DeviceOptions();
    new CommandLine(new Holder(options)).parseArgs("--precision", "fp8");
    assertTrue(
        assertThrows(InputException.class, options::open)
            .getMessage()
            .contains("auto, bf16, tf32, fp32"));
  }

  @CommandLine.Command
  private record Holder(@CommandLine.Mixin DeviceOptions options) {}
}
