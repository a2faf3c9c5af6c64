package dev.lanewise.simd;

import java.lang.module.ModuleFinder;

/**
 * What a process must have been started with, asked before a kernel fails in words of the JVM's.
 */
final class Requirements {
  private static final String MODULE = "jdk.incubator.vector";

  private Requirements() {}

  /**
   * Refuses a process without the Vector API's module.
   *
   * @throws LinkageError if it is missing; thrown from a static initialiser, an error keeps its
   *     words, where an exception would be hidden in another
   */
  static void check() {
    if (ModuleLayer.boot().findModule(MODULE).isEmpty()) {
      boolean isThere = ModuleFinder.ofSystem().find(MODULE).isPresent();
      throw new LinkageError(missing(isThere, Runtime.version().feature()));
    }
  }

  /** Why the module is missing, and what helps. */
  static String missing(boolean isInJdk, int feature) {
    return isInJdk
        ? "Lanewise needs the module "
            + MODULE
            + ", which Java leaves out unless told: start it with --add-modules "
            + MODULE
        : "Lanewise needs the module "
            + MODULE
            + ", which this Java "
            + feature
            + " does not have: use a JDK 25, or a version of Lanewise that is made for Java "
            + feature;
  }
}
