package dev.lanewise.simd;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.lang.classfile.ClassFile;
import java.lang.classfile.ClassModel;
import java.lang.classfile.constantpool.InterfaceMethodRefEntry;
import java.lang.classfile.constantpool.MethodRefEntry;
import java.net.URI;
import java.nio.file.FileSystem;
import java.nio.file.FileSystems;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;

/** The compilers are told of every class that computes with vectors, by names that there are. */
class JitTest {
  /** They only choose widths. */
  private static final Set<String> SETTINGS = Set.of("dev/lanewise/simd/Machine");

  @Test
  void everyClassWithVectorsIsNamed() throws Exception {
    URI place = Machine.class.getProtectionDomain().getCodeSource().getLocation().toURI();
    Set<String> found;
    if (Files.isDirectory(Path.of(place))) {
      found = withVectors(Path.of(place));
    } else {
      try (FileSystem jar = FileSystems.newFileSystem(Path.of(place), Map.of())) {
        found = withVectors(jar.getPath("/"));
      }
    }
    found.removeAll(SETTINGS);
    assertTrue(found.size() > 20, found.toString());
    Set<String> named = new TreeSet<>();
    for (String word : Jit.DIRECTIVES.split("\"", -1)) {
      if (word.startsWith("dev/lanewise/simd/")) {
        named.add(word.substring(0, word.indexOf('.')));
      }
    }
    found.removeAll(named);
    assertEquals(Set.of(), found, "classes with vectors that the compilers are not told of");
    for (String name : named) {
      Class.forName(name.replace('/', '.'));
    }
  }

  private static Set<String> withVectors(Path root) throws IOException {
    Set<String> found = new TreeSet<>();
    try (Stream<Path> files = Files.walk(root)) {
      for (Path file : (Iterable<Path>) files.filter(JitTest::isClass)::iterator) {
        ClassModel model = ClassFile.of().parse(Files.readAllBytes(file));
        model
            .constantPool()
            .forEach(
                entry -> {
                  String owner =
                      switch (entry) {
                        case MethodRefEntry method -> method.owner().asInternalName();
                        case InterfaceMethodRefEntry method -> method.owner().asInternalName();
                        default -> "";
                      };
                  if (owner.matches("jdk/incubator/vector/[A-Z][a-z]+Vector")) {
                    found.add(model.thisClass().asInternalName().split("\\$", 2)[0]);
                  }
                });
      }
    }
    return found;
  }

  private static boolean isClass(Path file) {
    return file.toString().endsWith(".class");
  }
}
