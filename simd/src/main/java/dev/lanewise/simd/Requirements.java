package dev.lanewise.simd;

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
      throw new LinkageError(
          "Lanewise needs the module "
              + MODULE
              + ", which Java leaves out unless told: start it with --add-modules "
              + MODULE);
    }
  }
}
