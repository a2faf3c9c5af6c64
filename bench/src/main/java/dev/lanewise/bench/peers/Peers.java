package dev.lanewise.bench.peers;

import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.AtomicMoveNotSupportedException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.Enumeration;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.jar.JarEntry;
import java.util.jar.JarFile;
import java.util.stream.Stream;

/**
 * Finds the libraries to compare with.
 *
 * <p>They come from a folder of jars, which {@code mvn -Ppeers -pl bench validate} fills from Maven
 * Central, or from the system's library folders. The folder is {@code ~/.cache/lanewise/peers} or
 * what the environment variable {@code LANEWISE_PEERS} names. Nothing is ever downloaded here.
 */
public final class Peers {
  /** Ends the name of a peer that runs as it is installed, without the settings it is best in. */
  public static final String AS_IS = "-as-is";

  private static final Map<String, String> LABELS = labels();

  /** Names of all peers that are known, the strongest first. */
  public static final List<String> KNOWN = List.copyOf(LABELS.keySet());

  private static final String GET =
      "; get it with: mvn -Ppeers -pl bench validate (downloads about 450 MB)";

  private static final List<String> SYSTEM_FOLDERS =
      List.of(
          "/usr/lib/x86_64-linux-gnu",
          "/usr/lib/aarch64-linux-gnu",
          "/usr/lib64",
          "/usr/lib",
          "/usr/local/lib",
          "/opt/intel/oneapi/mkl/latest/lib",
          "/opt/homebrew/lib");

  private static final Map<String, Peer> FOUND = new ConcurrentHashMap<>();

  private Peers() {}

  private static Map<String, String> labels() {
    Map<String, String> labels = new LinkedHashMap<>();
    labels.put("onednn", "oneDNN");
    labels.put("openblas", "OpenBLAS");
    labels.put("openblas" + AS_IS, "OpenBLAS as installed");
    labels.put("mkl", "MKL");
    labels.put("blis", "BLIS");
    labels.put("pytorch", "PyTorch");
    labels.put("pytorch" + AS_IS, "PyTorch as installed");
    labels.put("pytorch-bf16", "PyTorch bf16");
    labels.put("pytorch-bf16-compiled", "PyTorch bf16, compiled");
    labels.put("libtorch", "libtorch");
    labels.put("llm.c", "llm.c");
    labels.put("llama.cpp", "llama.cpp");
    labels.put("nd4j", "ND4J");
    labels.put("vectorblas", "VectorBLAS");
    labels.put("ejml", "EJML");
    labels.put("lucene", "Lucene");
    labels.put("jvector", "JVector");
    labels.put("scalar", "plain loops");
    return labels;
  }

  /**
   * The name that people use.
   *
   * @param name one of {@link #KNOWN}
   * @return how the project itself writes it
   */
  public static String label(String name) {
    return LABELS.getOrDefault(name, name);
  }

  /**
   * The folder of the peers' jars.
   *
   * @return a path that need not exist
   */
  public static Path folder() {
    String named = System.getenv("LANEWISE_PEERS");
    return named != null && !named.isBlank()
        ? Path.of(named)
        : Path.of(System.getProperty("user.home"), ".cache", "lanewise", "peers");
  }

  /**
   * Looks for a peer.
   *
   * @param name one of {@link #KNOWN}
   * @return the peer, found or not
   * @throws IllegalArgumentException if there is no such peer
   */
  public static Peer find(String name) {
    if (!KNOWN.contains(name)) {
      throw new IllegalArgumentException(
          "no peer is called " + name + "; there are " + String.join(", ", KNOWN));
    }
    return FOUND.computeIfAbsent(name, Peers::look);
  }

  private static Peer look(String name) {
    try {
      return switch (name) {
        case "onednn" -> nativeBlas(name, "dnnl-", Map.of(), "libdnnl.so.3", "libdnnl.so.2");
        case "openblas", "openblas" + AS_IS ->
            nativeBlas(
                name,
                "openblas-0.3.31",
                name.endsWith(AS_IS) ? Map.of() : openBlasKernels(),
                "libopenblas.so.0",
                "libopenblas.0.dylib");
        case "mkl" ->
            nativeBlas(
                name,
                "mkl-",
                Map.of("MKL_THREADING_LAYER", "GNU"),
                "libmkl_rt.so.3",
                "libmkl_rt.so.2",
                "libmkl_rt.so");
        case "blis" -> nativeBlas(name, "blis-", blisKernels(), "libblis.so.4", "libblis.4.dylib");
        case "vectorblas" -> javaBlas(name, List.of("blas-"));
        case "ejml" -> javaBlas(name, List.of("ejml-core-", "ejml-fdense-"));
        case "lucene" -> similarity(name, "lucene-core-");
        case "jvector" -> similarity(name, "jvector-");
        case "nd4j" -> nd4j();
        case "libtorch" -> libtorch();
        case "pytorch" -> python(name, roomyMalloc());
        case "pytorch" + AS_IS -> python(name, Map.of());
        case "pytorch-bf16" -> python(name, with(roomyMalloc(), "LANEWISE_PEER_MODE", "bf16"));
        case "pytorch-bf16-compiled" ->
            python(name, with(roomyMalloc(), "LANEWISE_PEER_MODE", "bf16 compile"));
        case "llm.c" -> llmC();
        case "llama.cpp" -> llamaCpp();
        default -> javaBlas(name, List.of());
      };
    } catch (IOException e) {
      return Peer.missing(name, e.toString());
    }
  }

  private static Peer nativeBlas(
      String name, String jar, Map<String, String> environment, String... libraries)
      throws IOException {
    Optional<Path> file = jar(jar);
    List<Path> folders = new ArrayList<>();
    if (file.isPresent()) {
      folders.add(extract(file.get()));
    }
    SYSTEM_FOLDERS.stream().map(Path::of).forEach(folders::add);
    for (Path folder : folders) {
      for (String library : libraries) {
        Path path = folder.resolve(library);
        if (Files.exists(path)) {
          Map<String, String> all = new LinkedHashMap<>(environment);
          all.put("LD_LIBRARY_PATH", folder.toString());
          if (!name.startsWith("openblas")) {
            // Not for OpenBLAS: its own threads would all inherit the first one's core
            all.put("OMP_PROC_BIND", "true");
            all.put("OMP_PLACES", "cores");
          }
          return new Peer(
              name,
              java(List.of(), BlasServer.class.getName(), name, path.toString()),
              all,
              "in " + folder);
        }
      }
    }
    String getting = name.equals("blis") ? "; Debian's package is libblis4-pthread" : GET;
    return Peer.missing(
        name, "no " + libraries[0] + " in " + folder() + " or the system's folders" + getting);
  }

  /** OpenBLAS takes its AVX2 kernels on processors that are newer than it, which halves it. */
  private static Map<String, String> openBlasKernels() throws IOException {
    return has512() ? Map.of("OPENBLAS_CORETYPE", "SKYLAKEX") : Map.of();
  }

  /** BLIS takes its plain C kernels there, a sixth as fast; 0 is its number for SkylakeX. */
  private static Map<String, String> blisKernels() throws IOException {
    return has512() ? Map.of("BLIS_ARCH_TYPE", "0") : Map.of();
  }

  private static boolean has512() throws IOException {
    Path cpu = Path.of("/proc/cpuinfo");
    return Files.exists(cpu) && Files.readString(cpu).contains(" avx512bw");
  }

  private static Peer javaBlas(String name, List<String> jars) throws IOException {
    List<Path> path = new ArrayList<>();
    for (String prefix : jars) {
      Optional<Path> jar = jar(prefix);
      if (jar.isEmpty()) {
        return Peer.missing(name, "no " + prefix + "*.jar in " + folder() + GET);
      }
      path.add(jar.get());
    }
    return new Peer(
        name,
        java(path, JavaBlasServer.class.getName(), name),
        Map.of(),
        jars.isEmpty() ? "built in" : "in " + folder());
  }

  private static Peer similarity(String name, String prefix) throws IOException {
    Optional<Path> jar = jar(prefix);
    if (jar.isEmpty()) {
      return Peer.missing(name, "no " + prefix + "*.jar in " + folder() + GET);
    }
    return new Peer(
        name,
        java(List.of(jar.get()), SimilarityServer.class.getName(), name),
        Map.of(),
        "in " + folder());
  }

  private static Peer nd4j() throws IOException {
    Path folder = folder().resolve("nd4j");
    if (!Files.isDirectory(folder)) {
      return Peer.missing(
          "nd4j", "no folder " + folder + "; get it with: mvn -f bench/peers/nd4j.xml validate");
    }
    try (Stream<Path> files = Files.list(folder)) {
      List<Path> jars = files.filter(f -> f.toString().endsWith(".jar")).toList();
      return new Peer(
          "nd4j", java(jars, JavaBlasServer.class.getName(), "nd4j"), Map.of(), "in " + folder);
    }
  }

  /** The official libtorch under JavaCPP's bindings of the same version. */
  private static Peer libtorch() throws IOException {
    List<Path> jars = new ArrayList<>();
    for (String prefix :
        List.of(
            "pytorch-native-cpu-",
            "pytorch-2.7.1-1.5.12-",
            "javacpp-1.5.12-",
            "openblas-0.3.30-1.5.12-",
            "pytorch-2.7.1-1.5.12.jar",
            "javacpp-1.5.12.jar",
            "openblas-0.3.30-1.5.12.jar")) {
      Optional<Path> jar = jar(prefix);
      if (jar.isEmpty()) {
        return Peer.missing("libtorch", "no " + prefix + "* in " + folder() + GET);
      }
      jars.add(jar.get());
    }
    Path libraries = folder().resolve("native").resolve("libtorch");
    if (!Files.isDirectory(libraries)) {
      Path fresh = Files.createTempDirectory(Files.createDirectories(libraries.getParent()), "new");
      unpack(jars.get(0), fresh, ".so");
      unpack(jars.get(1), fresh, "libjnitorch.so");
      unpack(jars.get(2), fresh, ".so");
      unpack(jars.get(3), fresh, ".so");
      Files.copy(fresh.resolve("libopenblas.so.0"), fresh.resolve("libopenblas_nolapack.so.0"));
      move(fresh, libraries);
    }
    Path source = resource("TorchServer.java");
    List<String> command = new ArrayList<>(java(jars.subList(4, jars.size())));
    command.addAll(
        1,
        List.of(
            "-Dorg.bytedeco.javacpp.maxphysicalbytes=0",
            "-Dorg.bytedeco.javacpp.pathsFirst=true",
            "-Djava.library.path=" + libraries));
    command.add(source.toString());
    Map<String, String> environment = new LinkedHashMap<>(roomyMalloc());
    environment.put("LD_LIBRARY_PATH", libraries.toString());
    environment.put("OMP_PROC_BIND", "true");
    environment.put("OMP_PLACES", "cores");
    return new Peer("libtorch", command, environment, "in " + folder());
  }

  private static Map<String, String> with(Map<String, String> all, String name, String value) {
    Map<String, String> more = new LinkedHashMap<>(all);
    more.put(name, value);
    return more;
  }

  private static Peer python(String name, Map<String, String> environment) throws IOException {
    String named = System.getenv("LANEWISE_PYTHON");
    String python = named == null || named.isBlank() ? "python3" : named;
    try {
      Process process =
          new ProcessBuilder(python, "-c", "import torch, numpy; print(torch.__version__)")
              .redirectError(ProcessBuilder.Redirect.DISCARD)
              .start();
      String version =
          new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8).strip();
      if (process.waitFor(1, TimeUnit.MINUTES) && process.exitValue() == 0) {
        Path script = resource("torch_server.py");
        return new Peer(
            name,
            List.of(python, script.toString()),
            environment,
            "torch " + version + " of " + python);
      }
    } catch (IOException e) {
      return Peer.missing(name, "no " + python + "; LANEWISE_PYTHON may name another");
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
    return Peer.missing(
        name, python + " has no torch and numpy; LANEWISE_PYTHON may name another Python");
  }

  /** Compiles our server around llm.c's training loop, as its own makefile would. */
  private static Peer llmC() throws IOException {
    String named = System.getenv("LANEWISE_LLMC");
    if (named == null || named.isBlank()) {
      return Peer.missing("llm.c", "LANEWISE_LLMC may name a checkout of karpathy/llm.c");
    }
    Path source = Path.of(named, "train_gpt2.c");
    if (!Files.isRegularFile(source)) {
      return Peer.missing("llm.c", "LANEWISE_LLMC names " + named + ", where no train_gpt2.c is");
    }
    Path server = resource("llmc_server.c");
    Path program = server.resolveSibling("llmc_server");
    String flags = "-Ofast -fno-finite-math-only -march=native -fopenmp";
    List<String> command = new ArrayList<>(List.of("cc"));
    command.addAll(List.of(flags.split(" ")));
    command.addAll(List.of("-w", "-DBUILD=\"" + flags + "\"", "-I" + named, server.toString()));
    command.addAll(List.of("-o", program.toString(), "-lm", "-lpthread"));
    try {
      Process compiler = new ProcessBuilder(command).redirectErrorStream(true).start();
      String said =
          new String(compiler.getInputStream().readAllBytes(), StandardCharsets.UTF_8).strip();
      if (compiler.waitFor() != 0) {
        return Peer.missing(
            "llm.c", "cc does not compile it: " + said.lines().findFirst().orElse(""));
      }
    } catch (IOException e) {
      return Peer.missing("llm.c", "no C compiler called cc");
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      return Peer.missing("llm.c", "interrupted");
    }
    program.toFile().deleteOnExit();
    Map<String, String> environment = Map.of("OMP_PROC_BIND", "true", "OMP_PLACES", "cores");
    return new Peer("llm.c", List.of(program.toString()), environment, "in " + named);
  }

  private static Peer llamaCpp() throws IOException {
    String named = System.getenv("LANEWISE_LLAMACPP");
    if (named == null || named.isBlank()) {
      return Peer.missing(
          "llama.cpp", "LANEWISE_LLAMACPP may name a folder with llama.cpp's libraries");
    }
    Path folder = Path.of(named).toAbsolutePath();
    if (!Files.isDirectory(folder)) {
      return Peer.missing("llama.cpp", "LANEWISE_LLAMACPP names " + named + ", which is no folder");
    }
    LlamaServer.file(folder, "libllama.");
    return new Peer(
        "llama.cpp",
        java(List.of(), LlamaServer.class.getName(), folder.toString()),
        Map.of("LD_LIBRARY_PATH", folder.toString()),
        "in " + folder);
  }

  /**
   * Lets glibc keep freed memory in huge pages: PyTorch frees and takes its tensors anew in every
   * operation, and fresh pages cost it up to two thirds of its speed.
   */
  private static Map<String, String> roomyMalloc() {
    return Map.of(
        "MALLOC_ARENA_MAX", "1",
        "MALLOC_MMAP_MAX_", "0",
        "MALLOC_TRIM_THRESHOLD_", "107374182400",
        "MALLOC_TOP_PAD_", "268435456",
        "GLIBC_TUNABLES", "glibc.malloc.hugetlb=1",
        "LANEWISE_PEER_MEMORY", ", glibc keeps freed memory");
  }

  private static List<String> java(List<Path> jars, String... main) {
    StringBuilder path = new StringBuilder(System.getProperty("java.class.path"));
    jars.forEach(j -> path.append(File.pathSeparator).append(j));
    List<String> command = new ArrayList<>();
    command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
    command.addAll(
        List.of(
            "--add-modules=jdk.incubator.vector",
            "--enable-native-access=ALL-UNNAMED",
            "-Xmx2g",
            "-cp",
            path.toString()));
    command.addAll(List.of(main));
    return List.copyOf(command);
  }

  private static Optional<Path> jar(String prefix) throws IOException {
    if (!Files.isDirectory(folder())) {
      return Optional.empty();
    }
    try (Stream<Path> files = Files.list(folder())) {
      return files
          .filter(f -> f.getFileName().toString().startsWith(prefix))
          .filter(f -> f.toString().endsWith(".jar"))
          .sorted()
          .findFirst();
    }
  }

  private static Path extract(Path jar) throws IOException {
    Path target = folder().resolve("native").resolve(jar.getFileName().toString());
    if (!Files.isDirectory(target)) {
      Path fresh = Files.createTempDirectory(Files.createDirectories(target.getParent()), "new");
      unpack(jar, fresh, "");
      move(fresh, target);
    }
    return target;
  }

  /** Another process may have been quicker; its copy is as good. */
  private static void move(Path fresh, Path target) throws IOException {
    try {
      Files.move(fresh, target, StandardCopyOption.ATOMIC_MOVE);
    } catch (AtomicMoveNotSupportedException e) {
      throw e;
    } catch (IOException e) {
      if (!Files.isDirectory(target)) {
        throw e;
      }
    }
  }

  /** Copies the libraries whose names contain this. */
  private static void unpack(Path jar, Path folder, String part) throws IOException {
    try (JarFile file = new JarFile(jar.toFile())) {
      for (Enumeration<JarEntry> e = file.entries(); e.hasMoreElements(); ) {
        JarEntry entry = e.nextElement();
        String name = entry.getName().substring(entry.getName().lastIndexOf('/') + 1);
        if (name.contains(part) && (name.contains(".so") || name.endsWith(".dylib"))) {
          try (InputStream in = file.getInputStream(entry)) {
            Files.copy(in, folder.resolve(name), StandardCopyOption.REPLACE_EXISTING);
          }
        }
      }
    }
  }

  private static Path resource(String name) throws IOException {
    Path file = Files.createTempDirectory("lanewise-peer-").resolve(name);
    try (InputStream in = Peers.class.getResourceAsStream(name)) {
      if (in == null) {
        throw new UncheckedIOException(new IOException("the resource " + name + " is missing"));
      }
      Files.copy(in, file);
    }
    file.getParent().toFile().deleteOnExit();
    file.toFile().deleteOnExit();
    return file;
  }
}
