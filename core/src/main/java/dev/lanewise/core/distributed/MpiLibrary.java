package dev.lanewise.core.distributed;

import dev.lanewise.core.base.InputException;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.Set;

/**
 * A library of MPI, and what its handles are.
 *
 * @param path its file
 * @param symbols its functions
 * @param world handle of all processes
 * @param floats handle of the type float
 * @param inPlace what stands for a buffer that is the other one
 */
@SuppressWarnings("restricted")
record MpiLibrary(Path path, SymbolLookup symbols, long world, long floats, long inPlace) {
  /** Environment variable: the library's file. */
  static final String VARIABLE = "LANEWISE_MPI";

  /** System property of the same. */
  static final String PROPERTY = "lanewise.mpi";

  private static final int RTLD_NOW = 2;
  private static final int RTLD_GLOBAL = 0x100;

  // MPICH's handles, which are the same in all libraries of its ABI.
  private static final long MPICH_WORLD = 0x44000000;
  private static final long MPICH_FLOAT = 0x4c00040a;

  // Those of MPI 5's standard ABI.
  private static final long STANDARD_WORLD = 0x101;
  private static final long STANDARD_FLOAT = 0x210;

  private static final List<String> OPEN_MPI = List.of("libmpi.so.40", "libmpi.so.80");
  private static final List<String> MPICH = List.of("libmpich.so.12", "libmpi.so.12");
  private static final List<String> STANDARD = List.of("libmpi_abi.so.0", "libmpi_abi.so");

  private static final List<String> FOLDERS =
      List.of(
          "/usr/lib/x86_64-linux-gnu",
          "/usr/lib/aarch64-linux-gnu",
          "/usr/lib64",
          "/usr/lib64/openmpi/lib",
          "/usr/lib64/mpich/lib",
          "/usr/lib",
          "/usr/local/lib",
          "/opt/openmpi/lib",
          "/opt/mpich/lib");

  /**
   * Finds the launcher's library: the one that is named, or that lies beside the launcher, in the
   * loader's or the usual folders.
   *
   * @throws InputException if there is none, or its handles are not known
   */
  static MpiLibrary find(Launch launch) {
    String named = named(launch);
    if (named != null) {
      Path path = Path.of(named);
      if (!Files.isRegularFile(path)) {
        throw new InputException(
            VARIABLE + " names " + named + ", which is no file; give the path of libmpi.");
      }
      return open(path);
    }
    Path found =
        candidates(launch).stream()
            .findFirst()
            .orElseThrow(
                () ->
                    new InputException(
                        String.format(
                            Locale.ROOT,
                            "%s started this process, but its library was not found; name its file"
                                + " (libmpi.so) in %s.",
                            launch.isOpenMpi()
                                ? "Open MPI"
                                : launch.isHydra() ? "A launcher of MPICH's kind" : "A launcher",
                            VARIABLE)));
    return open(found);
  }

  /** All libraries that this machine has where they are looked for, the launcher's kind first. */
  static List<Path> candidates(Launch launch) {
    List<String> names = new ArrayList<>();
    if (launch.isHydra()) {
      names.addAll(MPICH);
      names.addAll(STANDARD);
    } else if (launch.isOpenMpi()) {
      names.addAll(OPEN_MPI);
      names.addAll(STANDARD);
    } else {
      names.addAll(OPEN_MPI);
      names.addAll(MPICH);
      names.addAll(STANDARD);
    }
    Set<Path> found = new LinkedHashSet<>();
    for (String folder : folders(launch)) {
      for (String name : names) {
        Path path = Path.of(folder, name);
        if (Files.isRegularFile(path)) {
          try {
            found.add(path.toRealPath());
          } catch (IOException e) {
            found.add(path);
          }
        }
      }
    }
    return List.copyOf(found);
  }

  /** The library's file if it was named, or null. */
  static String named(Launch launch) {
    String property = System.getProperty(PROPERTY);
    return property != null ? property : launch.value(VARIABLE);
  }

  private static List<String> folders(Launch launch) {
    List<String> folders = new ArrayList<>();
    for (String root : List.of("OPAL_PREFIX", "MPI_HOME", "MPI_ROOT", "I_MPI_ROOT")) {
      String value = launch.value(root);
      if (value != null) {
        folders.add(value + "/lib");
        folders.add(value + "/lib/release");
      }
    }
    String loader = launch.value("LD_LIBRARY_PATH");
    if (loader != null) {
      for (String folder : loader.split(":", -1)) {
        if (!folder.isEmpty()) {
          folders.add(folder);
        }
      }
    }
    folders.addAll(FOLDERS);
    folders.addAll(folderOfLoader());
    return folders;
  }

  /** Folders where the system's loader knows a library of MPI. */
  private static List<String> folderOfLoader() {
    try {
      Process process =
          new ProcessBuilder("ldconfig", "-p")
              .redirectError(ProcessBuilder.Redirect.DISCARD)
              .start();
      String text = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
      return text.lines()
          .filter(line -> line.strip().startsWith("libmpi"))
          .filter(line -> line.contains("=> /"))
          .map(line -> Path.of(line.substring(line.indexOf("=> ") + 3).strip()).getParent())
          .map(Path::toString)
          .distinct()
          .toList();
    } catch (IOException e) {
      return List.of();
    }
  }

  /** Opens a library and tells its ABI by what it has. */
  static MpiLibrary open(Path path) {
    load(path);
    SymbolLookup symbols;
    try {
      symbols = SymbolLookup.libraryLookup(path, Arena.global());
    } catch (IllegalArgumentException e) {
      throw new InputException(
          path + " cannot be loaded; it is no library for this machine, or needs others.", e);
    }
    // MPICH's library of the standard ABI has the inner functions of its other one.
    if (path.getFileName().toString().startsWith("libmpi_abi")) {
      return new MpiLibrary(path, symbols, STANDARD_WORLD, STANDARD_FLOAT, 1);
    }
    Optional<MemorySegment> world = symbols.find("ompi_mpi_comm_world");
    if (world.isPresent()) {
      long floats =
          symbols
              .find("ompi_mpi_float")
              .orElseThrow(() -> new InputException(path + " is an Open MPI without float."))
              .address();
      return new MpiLibrary(path, symbols, world.get().address(), floats, 1);
    }
    if (symbols.find("MPIR_Err_create_code").isPresent()
        || symbols.find("MPIR_Process").isPresent()
        || symbols.find("MPIR_Dup_fn").isPresent()) {
      return new MpiLibrary(path, symbols, MPICH_WORLD, MPICH_FLOAT, -1);
    }
    if (symbols.find("MPI_Abi_get_version").isPresent()) {
      return new MpiLibrary(path, symbols, STANDARD_WORLD, STANDARD_FLOAT, 1);
    }
    throw new InputException(
        path
            + " is of no ABI that is known here: neither Open MPI's nor MPICH's nor MPI 5's; name"
            + " another library in "
            + VARIABLE
            + ".");
  }

  /**
   * Loads the library with its symbols for all: Open MPI loads plug-ins of its own that need them.
   */
  private static void load(Path path) {
    Linker linker = Linker.nativeLinker();
    linker
        .defaultLookup()
        .find("dlopen")
        .ifPresent(
            address -> {
              var dlopen =
                  linker.downcallHandle(
                      address,
                      FunctionDescriptor.of(
                          ValueLayout.ADDRESS, ValueLayout.ADDRESS, ValueLayout.JAVA_INT));
              try (Arena arena = Arena.ofShared()) {
                MemorySegment ignored =
                    (MemorySegment)
                        dlopen.invokeExact(
                            arena.allocateFrom(path.toString()), RTLD_NOW | RTLD_GLOBAL);
              } catch (RuntimeException | Error e) {
                throw e;
              } catch (Throwable e) {
                throw new IllegalStateException(e);
              }
            });
  }
}
