package dev.lanewise.simd;

import java.io.IOException;
import java.lang.System.Logger;
import java.lang.System.Logger.Level;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import javax.management.JMException;
import javax.management.ObjectName;

/**
 * Steers the JVM's compilers where the kernels need it.
 *
 * <p>The quick compiler cannot translate the large kernels ("out of virtual registers"), and once
 * it has failed the optimising compiler may never be asked, which leaves a kernel a hundred times
 * too slow for good. A directive keeps the quick compiler away from them. Where the management
 * modules are absent, nothing is done.
 */
final class Jit {
  private static final String DIRECTIVES =
      """
      [{
        match: ["dev/lanewise/simd/MicroKernel.tile*", "dev/lanewise/simd/Packing.block*",
                "dev/lanewise/simd/AttentionTiles.rows*", "dev/lanewise/simd/AttentionTiles.columns*"],
        c1: { Exclude: true }
      }]
      """;

  private Jit() {}

  static void prepare() {
    try {
      addDirectives();
    } catch (IOException | JMException | LinkageError | RuntimeException e) {
      Logger log = System.getLogger("dev.lanewise.simd");
      log.log(Level.DEBUG, "compiler directives were not accepted", e);
    }
  }

  private static void addDirectives() throws IOException, JMException {
    Path file = Files.createTempFile("lanewise", ".directives");
    try {
      Files.writeString(file, DIRECTIVES);
      ManagementFactory.getPlatformMBeanServer()
          .invoke(
              new ObjectName("com.sun.management:type=DiagnosticCommand"),
              "compilerDirectivesAdd",
              new Object[] {new String[] {file.toString()}},
              new String[] {String[].class.getName()});
    } finally {
      Files.deleteIfExists(file);
    }
  }
}
