package dev.lanewise.bench;

import java.io.File;
import java.lang.module.ResolvedModule;
import java.net.URI;
import java.nio.file.Path;
import java.util.Optional;
import java.util.stream.Collectors;

/** The class path for JVMs that are started from this one. */
final class ClassPath {
  private static final String PROPERTY = "java.class.path";

  private ClassPath() {}

  /**
   * Sets the property from which JMH takes its forks' class path, when this JVM runs on the module
   * path and has none.
   */
  static void publish() {
    Module own = ClassPath.class.getModule();
    if (own.isNamed()) {
      String path =
          own.getLayer().configuration().modules().stream()
              .map(ResolvedModule::reference)
              .map(r -> r.location())
              .flatMap(Optional::stream)
              .filter(u -> u.getScheme().equals("file"))
              .map(URI::getPath)
              .map(p -> Path.of(p).toString())
              .sorted()
              .collect(Collectors.joining(File.pathSeparator));
      System.setProperty(PROPERTY, path);
    }
  }
}
