package dev.lanewise.core;

import dev.lanewise.core.format.SafeTensors;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;

/** Golden values from the folder of test resources {@code fixtures}. */
public final class Fixtures {
  private Fixtures() {}

  /** The file of that name, without its ending; its tensors live as long as the tests. */
  public static SafeTensors load(String name) {
    try (InputStream in =
        Fixtures.class.getResourceAsStream("/fixtures/" + name + ".safetensors")) {
      Path file = Files.createTempFile(name, ".safetensors");
      try {
        Files.copy(in, file, StandardCopyOption.REPLACE_EXISTING);
        return SafeTensors.map(file, Arena.ofAuto());
      } finally {
        Files.delete(file);
      }
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
