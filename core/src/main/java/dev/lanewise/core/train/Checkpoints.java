package dev.lanewise.core.train;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.backend.Buffer;
import dev.lanewise.core.base.AtomicFile;
import dev.lanewise.core.base.Failures;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.Json;
import dev.lanewise.core.base.JsonFields;
import dev.lanewise.core.format.SafeTensors;
import dev.lanewise.core.format.StoredTensor;
import dev.lanewise.core.model.Gpt;
import dev.lanewise.core.nn.AdamW;
import dev.lanewise.core.nn.Module;
import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.core.tensor.Shape;
import dev.lanewise.core.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.function.Consumer;
import java.util.zip.CRC32C;

/**
 * The checkpoints of a run: folders {@code step-N}, each with {@code model.safetensors}, {@code
 * optimizer.safetensors} and {@code state.json}. A folder appears under its name only when it is
 * whole and on disk; {@code state.json} holds the checksums of the others, so that a file that was
 * torn or altered later is noticed.
 */
public final class Checkpoints {
  private static final String PREFIX = "step-";
  private static final String MODEL = "model.safetensors";
  private static final String OPTIMIZER = "optimizer.safetensors";
  private static final String STATE = "state.json";
  private static final long FORMAT = 1;

  private final Path folder;

  /**
   * Checkpoints in a folder.
   *
   * @param folder the folder; made by the first {@link #save}
   */
  public Checkpoints(Path folder) {
    this.folder = folder;
  }

  /**
   * A whole checkpoint on disk.
   *
   * @param path its folder
   * @param step number of updates that it holds
   */
  public record Checkpoint(Path path, long step) {

    /** Reads the model's parameters alone. */
    public void restore(Module model) {
      try (Arena arena = Arena.ofShared()) {
        SafeTensors file = SafeTensors.map(path.resolve(MODEL), arena);
        load(model, file, path.resolve(MODEL));
      }
    }

    TrainState restore(Gpt model, AdamW optimizer, TorchGenerator generator) {
      restore(model);
      Path optimizerFile = path.resolve(OPTIMIZER);
      try (Arena arena = Arena.ofShared()) {
        SafeTensors file = SafeTensors.map(optimizerFile, arena);
        model
            .namedParameters()
            .forEach(
                (name, parameter) -> {
                  Shape shape = parameter.shape();
                  Backend backend = model.tape().backend();
                  upload(
                      backend,
                      file,
                      optimizerFile,
                      name + ".m",
                      shape,
                      optimizer.firstMoment(parameter));
                  upload(
                      backend,
                      file,
                      optimizerFile,
                      name + ".v",
                      shape,
                      optimizer.secondMoment(parameter));
                });
      }
      JsonFields fields = readState(path);
      if (generator != null) {
        generator.restore(Base64.getDecoder().decode(fields.text("generator")));
      }
      return TrainState.fromFields(fields.object("run"));
    }
  }

  /**
   * Overwrites a model's parameters with those of a file.
   *
   * @throws InputException if one is missing or has another shape, before anything is overwritten
   */
  static void load(Module model, SafeTensors file, Path path) {
    Map<String, Tensor> parameters = model.namedParameters();
    parameters.forEach((name, parameter) -> check(file, path, name, parameter.shape()));
    parameters.forEach(
        (name, parameter) -> parameter.set(values -> copy(file.tensor(name), values)));
  }

  /** Copies a tensor of a file; what is read of a mapped file else stays in memory. */
  private static void copy(StoredTensor tensor, MemorySegment to) {
    tensor.copyToFloat32(to);
    if (tensor.data().isMapped()) {
      tensor.data().unload();
    }
  }

  private static void check(SafeTensors file, Path path, String name, Shape shape) {
    StoredTensor stored = file.tensors().get(name);
    if (stored == null) {
      throw new InputException(String.format(Locale.ROOT, "%s has no tensor '%s'.", path, name));
    }
    long[] wanted = Arrays.stream(shape.toArray()).asLongStream().toArray();
    if (!Arrays.equals(wanted, stored.shape())) {
      throw new InputException(
          String.format(
              Locale.ROOT,
              "%s: '%s' has shape %s, but the model needs %s.",
              path,
              name,
              Arrays.toString(stored.shape()),
              Arrays.toString(wanted)));
    }
  }

  private static void upload(
      Backend backend, SafeTensors file, Path path, String name, Shape shape, Buffer to) {
    check(file, path, name, shape);
    try (Arena arena = Arena.ofShared()) {
      MemorySegment host = arena.allocate(to.byteSize(), 64);
      copy(file.tensor(name), host);
      backend.upload(host, to);
    }
  }

  // Saving
  // -----------------------------------------------------------------------------------------

  Path save(Gpt model, AdamW optimizer, TorchGenerator generator, TrainState state, int keep) {
    Path target = folder.resolve(PREFIX + String.format(Locale.ROOT, "%08d", state.step()));
    Path temporary = folder.resolve(".writing-" + target.getFileName());
    try {
      deleteTree(temporary);
      Files.createDirectories(temporary);
      try (Arena arena = Arena.ofShared()) {
        Backend backend = model.tape().backend();
        Map<String, StoredTensor> parameters = new LinkedHashMap<>();
        Map<String, StoredTensor> moments = new LinkedHashMap<>();
        model
            .namedParameters()
            .forEach(
                (name, parameter) -> {
                  long[] shape =
                      Arrays.stream(parameter.shape().toArray()).asLongStream().toArray();
                  parameters.put(name, stored(backend, arena, parameter.data(), shape));
                  moments.put(
                      name + ".m", stored(backend, arena, optimizer.firstMoment(parameter), shape));
                  moments.put(
                      name + ".v",
                      stored(backend, arena, optimizer.secondMoment(parameter), shape));
                });
        SafeTensors.write(temporary.resolve(MODEL), parameters, Map.of("format", "lanewise"));
        SafeTensors.write(temporary.resolve(OPTIMIZER), moments, Map.of("format", "lanewise"));
      }
      Map<String, Object> document = new LinkedHashMap<>();
      document.put("format", FORMAT);
      document.put("run", state.toMap());
      if (generator != null) {
        document.put("generator", Base64.getEncoder().encodeToString(generator.state()));
      }
      Map<String, Object> checksums = new LinkedHashMap<>();
      checksums.put(MODEL, checksum(temporary.resolve(MODEL)));
      checksums.put(OPTIMIZER, checksum(temporary.resolve(OPTIMIZER)));
      document.put("crc32c", checksums);
      AtomicFile.writeText(temporary.resolve(STATE), Json.writePretty(document) + "\n");
      deleteTree(target);
      Files.move(temporary, target, StandardCopyOption.ATOMIC_MOVE);
      force(folder);
      removeOld(keep);
      return target;
    } catch (IOException e) {
      throw new InputException(
          String.format(
              Locale.ROOT,
              "The checkpoint %s cannot be written (%s); free some space or choose another --out,"
                  + " then --resume.",
              target,
              Failures.describe(e)),
          e);
    }
  }

  private static StoredTensor stored(Backend backend, Arena arena, Buffer buffer, long[] shape) {
    MemorySegment host = backend.hostMemory(buffer);
    if (host == null) {
      host = arena.allocate(buffer.byteSize(), 64);
      backend.download(buffer, host);
    }
    return StoredTensor.float32(host, shape);
  }

  private void removeOld(int keep) throws IOException {
    List<Path> all = folders();
    for (Path old : all.subList(0, Math.max(0, all.size() - keep))) {
      deleteTree(old);
    }
  }

  private static void force(Path directory) {
    try (FileChannel channel = FileChannel.open(directory, StandardOpenOption.READ)) {
      channel.force(true);
    } catch (IOException e) {
      // Some systems cannot open a folder; its entry is then written when they choose.
    }
  }

  static void deleteTree(Path path) throws IOException {
    if (!Files.exists(path)) {
      return;
    }
    try (var files = Files.walk(path)) {
      for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
        Files.delete(file);
      }
    }
  }

  // Finding
  // ----------------------------------------------------------------------------------------

  /** All checkpoint folders, oldest first. */
  private List<Path> folders() throws IOException {
    List<Path> found = new ArrayList<>();
    if (Files.isDirectory(folder)) {
      try (DirectoryStream<Path> entries = Files.newDirectoryStream(folder, PREFIX + "*")) {
        entries.forEach(found::add);
      }
    }
    found.sort(Comparator.comparing(path -> path.getFileName().toString()));
    return found;
  }

  /**
   * The newest checkpoint that is whole.
   *
   * @param warnings hears of each newer one that is not, in a sentence
   */
  public Optional<Checkpoint> newest(Consumer<String> warnings) {
    try {
      for (Path candidate : folders().reversed()) {
        try {
          return Optional.of(open(candidate));
        } catch (InputException e) {
          warnings.accept(e.getMessage() + " It is skipped.");
        }
      }
      return Optional.empty();
    } catch (IOException e) {
      throw new InputException(
          String.format(
              Locale.ROOT, "The folder %s cannot be read (%s).", folder, Failures.describe(e)),
          e);
    }
  }

  /**
   * Opens one checkpoint and checks that it is whole.
   *
   * @param path its folder
   * @throws InputException if a file is missing, torn or altered
   */
  public static Checkpoint open(Path path) {
    JsonFields state = readState(path);
    JsonFields checksums = state.object("crc32c");
    for (String name : List.of(MODEL, OPTIMIZER)) {
      try {
        if (!checksum(path.resolve(name)).equals(checksums.text(name))) {
          throw new InputException(
              String.format(
                  Locale.ROOT,
                  "The checkpoint %s is damaged: %s is not what was written.",
                  path,
                  name));
        }
      } catch (IOException e) {
        throw new InputException(
            String.format(
                Locale.ROOT,
                "The checkpoint %s is incomplete: %s (%s).",
                path,
                name,
                Failures.describe(e)),
            e);
      }
    }
    return new Checkpoint(path, state.object("run").integer("step"));
  }

  private static JsonFields readState(Path path) {
    Path file = path.resolve(STATE);
    try {
      JsonFields fields =
          new JsonFields(
              Json.parseObject(Files.readString(file), file.toString()), file.toString());
      if (fields.integer("format") != FORMAT) {
        throw new InputException(
            String.format(
                Locale.ROOT,
                "%s has format %d; this version reads %d.",
                file,
                fields.integer("format"),
                FORMAT));
      }
      return fields;
    } catch (IOException e) {
      throw new InputException(
          String.format(
              Locale.ROOT,
              "The checkpoint %s is incomplete: %s (%s).",
              path,
              STATE,
              Failures.describe(e)),
          e);
    }
  }

  private static String checksum(Path file) throws IOException {
    CRC32C crc = new CRC32C();
    try (FileChannel channel = FileChannel.open(file, StandardOpenOption.READ)) {
      // Read, not mapped: the pages of a mapped file count as the process's memory.
      ByteBuffer bytes = ByteBuffer.allocateDirect(1 << 20);
      while (channel.read(bytes) >= 0) {
        crc.update(bytes.flip());
        bytes.clear();
      }
    }
    return String.format(Locale.ROOT, "%08x", crc.getValue());
  }
}
