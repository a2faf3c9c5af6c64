package dev.lanewise.core.base;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.simd.Machine;
import java.io.IOException;
import java.lang.classfile.ClassFile;
import java.lang.classfile.ClassModel;
import java.lang.classfile.constantpool.InterfaceMethodRefEntry;
import java.net.URI;
import java.net.URISyntaxException;
import java.nio.file.FileSystem;
import java.nio.file.FileSystems;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;

/**
 * Memory confined to a thread is asked for its thread at each access. Where some of a process's
 * memory is and some is not, the JVM compiles each loop of the kernels for the wrong kind first,
 * throws it away, and does so some twenty times: training was thirty times slower for its first
 * minute after a million numbers had been written to a confined arena.
 */
class SharedArenasTest {
  /** Those that write a few words for a call of a GPU's, and the one that loads every kind. */
  private static final List<String> MAY =
      List.of("dev/lanewise/core/backend/cuda/", "dev/lanewise/simd/Jit");

  @Test
  void nothingThatRunsBesideKernelsConfinesItsMemory() throws Exception {
    List<String> found = new ArrayList<>();
    int classes = confining(InputException.class, found) + confining(Machine.class, found);
    assertTrue(classes > 100, () -> classes + " classes were read");
    assertTrue(found.remove("dev/lanewise/simd/Jit"), "the scan finds what there is");
    found.removeIf(name -> MAY.stream().anyMatch(name::startsWith));
    assertEquals(List.of(), found, "use Arena.ofShared()");
  }

  private static int confining(Class<?> ofModule, List<String> found)
      throws IOException, URISyntaxException {
    URI place = ofModule.getProtectionDomain().getCodeSource().getLocation().toURI();
    if (Files.isDirectory(Path.of(place))) {
      return confining(Path.of(place), found);
    }
    try (FileSystem jar = FileSystems.newFileSystem(Path.of(place), Map.of())) {
      return confining(jar.getPath("/"), found);
    }
  }

  private static int confining(Path root, List<String> found) throws IOException {
    int count = 0;
    try (Stream<Path> files = Files.walk(root)) {
      for (Path file : (Iterable<Path>) files.filter(SharedArenasTest::isClass)::iterator) {
        ClassModel read = ClassFile.of().parse(Files.readAllBytes(file));
        count++;
        for (var entry : read.constantPool()) {
          if (entry instanceof InterfaceMethodRefEntry call
              && call.owner().asInternalName().equals("java/lang/foreign/Arena")
              && call.name().equalsString("ofConfined")) {
            found.add(read.thisClass().asInternalName());
          }
        }
      }
    }
    return count;
  }

  private static boolean isClass(Path file) {
    return file.toString().endsWith(".class");
  }
}
