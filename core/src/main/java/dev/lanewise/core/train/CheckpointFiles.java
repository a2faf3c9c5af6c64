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
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Arrays;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.zip.CRC32C;

/**
 * The files of one checkpoint: {@code model.safetensors}, {@code optimizer.safetensors}, and {@code
 * state.json}, which holds the checksums of the others and of itself.
 */
final class CheckpointFiles {
  static final String MODEL = "model.safetensors";
  static final String OPTIMIZER = "optimizer.safetensors";
  static final String STATE = "state.json";
  static final List<String> ALL = List.of(MODEL, OPTIMIZER, STATE);

  private static final Map<String, String> METADATA = Map.of("format", "lanewise");

  // What follows a parameter's name in that of its moments.
  private static final String FIRST = ".m";
  private static final String SECOND = ".v";

  private static final String CHECKSUMS = "crc32c";
  private static final String GENERATOR = "generator";
  private static final String RUN = "run";

  /** Checkpoints before it had no checksum of {@code state.json}. */
  private static final long FORMAT = 2;

  private CheckpointFiles() {}

  // Writing
  // ----------------------------------------------------------------------------------------

  static void write(Path folder, Checkpoints.Contents contents, TrainState state)
      throws IOException {
    try (Arena arena = Arena.ofShared()) {
      Backend backend = contents.backend();
      Map<String, StoredTensor> parameters = new LinkedHashMap<>();
      contents
          .model()
          .namedParameters()
          .forEach(
              (name, parameter) ->
                  parameters.put(name, stored(backend, arena, parameter.data(), shape(parameter))));
      SafeTensors.write(folder.resolve(MODEL), parameters, METADATA);
      if (contents.dealt() == null) {
        writeMoments(folder, contents, arena);
      } else {
        gatherMoments(folder, contents, arena);
      }
    }
    Map<String, Object> document = new LinkedHashMap<>();
    document.put("format", FORMAT);
    document.put(RUN, state.toMap());
    if (contents.generator() != null) {
      byte[] bytes = contents.generator().state();
      document.put(GENERATOR, Base64.getEncoder().encodeToString(bytes));
    }
    Map<String, Object> checksums = new LinkedHashMap<>();
    checksums.put(MODEL, checksum(folder.resolve(MODEL)));
    checksums.put(OPTIMIZER, checksum(folder.resolve(OPTIMIZER)));
    document.put(CHECKSUMS, checksums);
    writeState(folder, document);
  }

  private static void writeMoments(Path folder, Checkpoints.Contents contents, Arena arena) {
    Backend backend = contents.backend();
    Map<String, StoredTensor> moments = new LinkedHashMap<>();
    trained(contents)
        .forEach(
            (name, parameter) -> {
              long[] shape = shape(parameter);
              Buffer first = contents.optimizer().firstMoment(parameter);
              Buffer second = contents.optimizer().secondMoment(parameter);
              moments.put(name + FIRST, stored(backend, arena, first, shape));
              moments.put(name + SECOND, stored(backend, arena, second, shape));
            });
    SafeTensors.write(folder.resolve(OPTIMIZER), moments, METADATA);
  }

  /** Writes moments that lie with several processes, one after the other. */
  private static void gatherMoments(Path folder, Checkpoints.Contents contents, Arena arena) {
    Map<String, Tensor> trained = trained(contents);
    long most = trained.values().stream().mapToLong(p -> p.shape().count()).max().orElse(0);
    MemorySegment one = arena.allocate(most * Float.BYTES, 64);
    Map<String, StoredTensor> moments = new LinkedHashMap<>();
    Map<String, Tensor> owners = new LinkedHashMap<>();
    trained.forEach(
        (name, parameter) -> {
          MemorySegment memory = one.asSlice(0, parameter.shape().count() * Float.BYTES);
          for (String which : List.of(FIRST, SECOND)) {
            moments.put(name + which, StoredTensor.float32(memory, shape(parameter)));
            owners.put(name + which, parameter);
          }
        });
    SafeTensors.write(
        folder.resolve(OPTIMIZER),
        moments,
        METADATA,
        name ->
            contents
                .dealt()
                .read(owners.get(name), name.endsWith(SECOND), moments.get(name).data()));
  }

  private static Map<String, Tensor> trained(Checkpoints.Contents contents) {
    Map<String, Tensor> trained = new LinkedHashMap<>(contents.model().namedParameters());
    trained.values().removeIf(parameter -> !parameter.requiresGrad());
    return trained;
  }

  /** Writes another state of the same parameters, moments and random numbers. */
  static void rewriteState(Path folder, TrainState state) {
    Map<String, Object> document = new LinkedHashMap<>(readDocument(folder).members());
    document.put("format", FORMAT);
    document.put(RUN, state.toMap());
    writeState(folder, document);
  }

  private static void writeState(Path folder, Map<String, Object> document) {
    Map<String, Object> checksums = new LinkedHashMap<>();
    ((Map<?, ?>) document.get(CHECKSUMS)).forEach((name, sum) -> checksums.put("" + name, sum));
    document.put(CHECKSUMS, checksums);
    checksums.put(STATE, checksum(document));
    AtomicFile.writeText(folder.resolve(STATE), Json.writePretty(document) + "\n");
  }

  private static long[] shape(Tensor parameter) {
    return Arrays.stream(parameter.shape().toArray()).asLongStream().toArray();
  }

  private static StoredTensor stored(Backend backend, Arena arena, Buffer buffer, long[] shape) {
    MemorySegment host = backend.hostMemory(buffer);
    if (host == null) {
      host = arena.allocate(buffer.byteSize(), 64);
      backend.download(buffer, host);
    }
    return StoredTensor.float32(host, shape);
  }

  // Checking
  // ---------------------------------------------------------------------------------------

  /**
   * Reads and checks where a checkpoint stands, without its tensors.
   *
   * @throws InputException if that is missing, altered or makes no sense
   */
  static TrainState readState(Path folder) {
    JsonFields document = readDocument(folder);
    if (document.has(GENERATOR)) {
      restoreGenerator(document, new TorchGenerator(0));
    }
    TrainState state = TrainState.fromFields(document.object(RUN));
    long named = Checkpoints.number(folder);
    if (named >= 0 && named != state.step()) {
      throw damaged(folder, "its state is of step " + state.step());
    }
    return state;
  }

  /**
   * Checks that the tensors are what was written.
   *
   * @throws InputException if they are missing, torn or altered
   */
  static void checkTensors(Path folder) {
    JsonFields checksums = readDocument(folder).object(CHECKSUMS);
    for (String name : List.of(MODEL, OPTIMIZER)) {
      try {
        if (!checksum(folder.resolve(name)).equals(checksums.text(name))) {
          throw damaged(folder, name + " is not what was written");
        }
      } catch (IOException e) {
        throw incomplete(folder, name, e);
      }
    }
  }

  private static JsonFields readDocument(Path folder) {
    Path file = folder.resolve(STATE);
    JsonFields fields;
    try {
      fields =
          new JsonFields(
              Json.parseObject(
                  new String(Files.readAllBytes(file), StandardCharsets.UTF_8), file.toString()),
              file.toString());
    } catch (IOException e) {
      throw incomplete(folder, STATE, e);
    }
    long format = fields.integer("format");
    if (format < 1 || format > FORMAT) {
      throw new InputException(
          String.format(
              Locale.ROOT, "%s has format %d; this version reads 1 to %d.", file, format, FORMAT));
    }
    JsonFields checksums = fields.object(CHECKSUMS);
    if (format > 1 && !checksums.text(STATE).equals(checksum(fields.members()))) {
      throw damaged(folder, STATE + " is not what was written");
    }
    return fields;
  }

  private static InputException damaged(Path folder, String how) {
    return new InputException(
        String.format(Locale.ROOT, "The checkpoint %s is damaged: %s.", folder, how));
  }

  private static InputException incomplete(Path folder, String name, IOException e) {
    return new InputException(
        String.format(
            Locale.ROOT,
            "The checkpoint %s is incomplete: %s (%s).",
            folder,
            name,
            Failures.describe(e)),
        e);
  }

  /** Checksum of a state, in the form that does not depend on its layout, but for itself. */
  private static String checksum(Map<String, Object> document) {
    Map<String, Object> rest = new LinkedHashMap<>(document);
    Map<Object, Object> others = new LinkedHashMap<>((Map<?, ?>) document.get(CHECKSUMS));
    others.remove(STATE);
    rest.put(CHECKSUMS, others);
    CRC32C crc = new CRC32C();
    crc.update(Json.write(rest).getBytes(StandardCharsets.UTF_8));
    return String.format(Locale.ROOT, "%08x", crc.getValue());
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

  // Restoring
  // --------------------------------------------------------------------------------------

  /** Overwrites a model's parameters; nothing if one is missing or has another shape. */
  static void restore(Path folder, Module model) {
    Path path = folder.resolve(MODEL);
    try (Arena arena = Arena.ofShared()) {
      SafeTensors file = SafeTensors.map(path, arena);
      model
          .namedParameters()
          .forEach((name, parameter) -> check(file, path, name, parameter.shape()));
      load(file, model);
    }
  }

  /** Overwrites everything; nothing if a tensor is missing or has another shape. */
  static void restore(Path folder, Checkpoints.Contents contents) {
    Path modelFile = folder.resolve(MODEL);
    Path optimizerFile = folder.resolve(OPTIMIZER);
    JsonFields document = readDocument(folder);
    try (Arena arena = Arena.ofShared()) {
      SafeTensors parameters = SafeTensors.map(modelFile, arena);
      SafeTensors moments = SafeTensors.map(optimizerFile, arena);
      contents
          .model()
          .namedParameters()
          .forEach((name, parameter) -> check(parameters, modelFile, name, parameter.shape()));
      trained(contents)
          .forEach(
              (name, parameter) -> {
                check(moments, optimizerFile, name + FIRST, parameter.shape());
                check(moments, optimizerFile, name + SECOND, parameter.shape());
              });
      if (contents.generator() != null) {
        restoreGenerator(document, contents.generator());
      }
      load(parameters, contents.model());
      trained(contents)
          .forEach(
              (name, parameter) -> {
                for (String which : List.of(FIRST, SECOND)) {
                  upload(contents, parameter, which.equals(SECOND), moments.tensor(name + which));
                }
              });
    }
  }

  private static void load(SafeTensors file, Module model) {
    model
        .namedParameters()
        .forEach((name, parameter) -> parameter.set(values -> copy(file.tensor(name), values)));
  }

  private static void restoreGenerator(JsonFields document, TorchGenerator generator) {
    try {
      generator.restore(Base64.getDecoder().decode(document.text(GENERATOR)));
    } catch (IllegalArgumentException e) {
      throw new InputException(
          String.format(
              Locale.ROOT,
              "%s: '%s' is no state of a random number generator.",
              document.source(),
              GENERATOR),
          e);
    }
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
    if (stored == null && file.unread().containsKey(name)) {
      throw new InputException(
          String.format(
              Locale.ROOT,
              "%s: '%s' has the unknown type '%s', which is not read.",
              path,
              name,
              file.unread().get(name)));
    }
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
      Checkpoints.Contents contents, Tensor parameter, boolean second, StoredTensor tensor) {
    try (Arena arena = Arena.ofShared()) {
      MemorySegment host = arena.allocate(parameter.shape().count() * Float.BYTES, 64);
      copy(tensor, host);
      if (contents.dealt() != null) {
        contents.dealt().write(parameter, second, host);
      } else {
        AdamW optimizer = contents.optimizer();
        Buffer to = second ? optimizer.secondMoment(parameter) : optimizer.firstMoment(parameter);
        contents.backend().upload(host, to);
      }
    }
  }
}
