import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.spi.ToolProvider;
import java.util.stream.Stream;

/**
 * Runs google-java-format over all sources: {@code check} fails and names the files that differ,
 * {@code write} mends them. The build runs it on its own JDK, since the formatter parses with the
 * compiler of the JDK under it and Maven may run on an older one.
 */
final class Format {

  public static void main(String[] args) throws IOException {
    boolean write = args[0].equals("write");
    List<String> command = new ArrayList<>();
    command.addAll(write ? List.of("--replace") : List.of("--dry-run", "--set-exit-if-changed"));
    for (int i = 1; i < args.length; i++) {
      Path folder = Path.of(args[i]);
      if (Files.isDirectory(folder)) {
        try (Stream<Path> files = Files.walk(folder)) {
          files.map(Path::toString).filter(name -> name.endsWith(".java")).forEach(command::add);
        }
      }
    }
    ToolProvider formatter = ToolProvider.findFirst("google-java-format").orElseThrow();
    int status = formatter.run(System.out, System.err, command.toArray(String[]::new));
    if (status != 0 && !write) {
      System.err.println(
          "The files named above are not formatted; this does it: mvn -N verify -Dformat=write");
    }
    System.exit(status);
  }
}
