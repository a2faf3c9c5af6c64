package dev.lanewise.bench.peers;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import dev.lanewise.bench.contest.Case;
import dev.lanewise.bench.contest.Inputs;
import dev.lanewise.core.data.BpeTokenizer;
import dev.lanewise.core.data.CharTokenizer;
import dev.lanewise.core.data.EndOfText;
import dev.lanewise.core.data.Tokenizer;
import dev.lanewise.core.data.TokenizerExport;
import dev.lanewise.core.format.ElementType;
import dev.lanewise.core.format.Gguf;
import dev.lanewise.core.format.Gpt2Shape;
import dev.lanewise.core.format.Gpt2Weights;
import dev.lanewise.core.format.StoredTensor;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.StructLayout;
import java.lang.foreign.SymbolLookup;
import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.SequencedMap;
import java.util.random.RandomGenerator;
import java.util.random.RandomGeneratorFactory;
import java.util.stream.Stream;

/**
 * Speaks for llama.cpp, by the functions of its library, with a GGUF file of random weights that is
 * written for each case: float32, bfloat16 where the case says so, or Q8_0.
 *
 * <p>Parameters go by value as structures whose fields vary between versions. The library makes and
 * reads them; here they are as many bytes as any of them needs, of which it uses its own.
 */
@SuppressWarnings("restricted")
public final class LlamaServer implements PeerServer.Library {
  /** Parameters of any version: more bytes than it has, passed in memory as it would be. */
  private static final StructLayout PARAMETERS =
      MemoryLayout.structLayout(MemoryLayout.sequenceLayout(64, JAVA_LONG));

  /** A number of tokens and six addresses. */
  private static final StructLayout BATCH =
      MemoryLayout.structLayout(MemoryLayout.sequenceLayout(7, JAVA_LONG));

  private static final int CONTEXT_FIELD = 0;
  private static final int BATCH_FIELD = 4;
  private static final int GPT2_VOCABULARY = 50257;
  private static final Arena ARENA = Arena.global();

  private final SymbolLookup library;
  private final MethodHandle modelParameters;
  private final MethodHandle contextParameters;
  private final MethodHandle load;
  private final MethodHandle open;
  private final MethodHandle threads;
  private final MethodHandle batch;
  private final MethodHandle decode;
  private final MethodHandle logits;
  private final MethodHandle memory;
  private final MethodHandle clear;
  private final MethodHandle freeContext;
  private final MethodHandle freeModel;
  private final String description;

  private LlamaServer(Path folder) throws IOException {
    // Each needs those before it, which the system's loader then finds by their names.
    SymbolLookup base = lookup(folder, "libggml-base");
    SymbolLookup ggml = lookup(folder, "libggml.");
    library = lookup(folder, "libllama.");
    try {
      call(base, "ggml_log_set", FunctionDescriptor.ofVoid(ADDRESS, ADDRESS))
          .invoke(quiet(), MemorySegment.NULL);
      call("llama_log_set", FunctionDescriptor.ofVoid(ADDRESS, ADDRESS))
          .invoke(quiet(), MemorySegment.NULL);
      call(ggml, "ggml_backend_load_all_from_path", FunctionDescriptor.ofVoid(ADDRESS))
          .invoke(ARENA.allocateFrom(folder.toString()));
      call("llama_backend_init", FunctionDescriptor.ofVoid()).invoke();
      MemorySegment text =
          (MemorySegment) call("llama_print_system_info", FunctionDescriptor.of(ADDRESS)).invoke();
      description = "llama.cpp, " + text.reinterpret(4096).getString(0).strip();
    } catch (Throwable e) {
      throw new IOException(e);
    }
    modelParameters = call("llama_model_default_params", FunctionDescriptor.of(PARAMETERS));
    contextParameters = call("llama_context_default_params", FunctionDescriptor.of(PARAMETERS));
    load = call("llama_model_load_from_file", FunctionDescriptor.of(ADDRESS, ADDRESS, PARAMETERS));
    open = call("llama_init_from_model", FunctionDescriptor.of(ADDRESS, ADDRESS, PARAMETERS));
    threads = call("llama_set_n_threads", FunctionDescriptor.ofVoid(ADDRESS, JAVA_INT, JAVA_INT));
    batch = call("llama_batch_get_one", FunctionDescriptor.of(BATCH, ADDRESS, JAVA_INT));
    decode = call("llama_decode", FunctionDescriptor.of(JAVA_INT, ADDRESS, BATCH));
    logits = call("llama_get_logits_ith", FunctionDescriptor.of(ADDRESS, ADDRESS, JAVA_INT));
    memory = call("llama_get_memory", FunctionDescriptor.of(ADDRESS, ADDRESS));
    clear = call("llama_memory_clear", FunctionDescriptor.ofVoid(ADDRESS, JAVA_BYTE));
    freeContext = call("llama_free", FunctionDescriptor.ofVoid(ADDRESS));
    freeModel = call("llama_model_free", FunctionDescriptor.ofVoid(ADDRESS));
  }

  /**
   * Serves the library.
   *
   * @param args the folder of its files
   * @throws IOException if the library does not load or the conversation breaks off
   */
  public static void main(String[] args) throws IOException {
    PeerServer.serve(new LlamaServer(Path.of(args[0])));
  }

  /** The library in a folder whose name begins so. */
  static Path file(Path folder, String prefix) throws IOException {
    try (Stream<Path> files = Files.list(folder)) {
      return files
          .filter(f -> f.getFileName().toString().startsWith(prefix))
          .filter(f -> f.getFileName().toString().contains(".so"))
          .sorted()
          .findFirst()
          .orElseThrow(() -> new IOException("no " + prefix + "*.so in " + folder));
    }
  }

  private static SymbolLookup lookup(Path folder, String prefix) throws IOException {
    return SymbolLookup.libraryLookup(file(folder, prefix), ARENA);
  }

  private MethodHandle call(String symbol, FunctionDescriptor descriptor) {
    return call(library, symbol, descriptor);
  }

  private static MethodHandle call(
      SymbolLookup library, String symbol, FunctionDescriptor descriptor) {
    return Linker.nativeLinker().downcallHandle(library.findOrThrow(symbol), descriptor);
  }

  /** A function that hears messages and says nothing. */
  private static MemorySegment quiet() {
    return Linker.nativeLinker()
        .upcallStub(
            MethodHandles.empty(
                MethodType.methodType(
                    void.class, int.class, MemorySegment.class, MemorySegment.class)),
            FunctionDescriptor.ofVoid(JAVA_INT, ADDRESS, ADDRESS),
            ARENA);
  }

  @Override
  public String describe() {
    return description;
  }

  @Override
  public PeerServer.Job open(Case task, int threadCount) {
    boolean isKnown =
        task.operation().equals("generate") && task.word("device", "cpu").equals("cpu");
    return isKnown ? new Text(task, threadCount) : null;
  }

  private static ElementType type(Case task) {
    if (task.word("weights", "exact").equals("q8_0")) {
      return ElementType.Q8_0;
    }
    return task.isBfloat16() ? ElementType.BF16 : ElementType.F32;
  }

  /** Writes a model whose linear weights are small and random. */
  private static void write(Case task, int context, Path file) {
    int vocabulary = task.number("vocabulary");
    Gpt2Shape shape =
        new Gpt2Shape(
            vocabulary, context, task.number("layers"), task.number("heads"), task.number("width"));
    RandomGenerator random = RandomGeneratorFactory.of("L64X128MixRandom").create(1);
    SequencedMap<String, StoredTensor> tensors = new LinkedHashMap<>();
    try (Arena arena = Arena.ofShared()) {
      for (Map.Entry<String, long[]> entry : shape.parameters().entrySet()) {
        long count = 1;
        for (long size : entry.getValue()) {
          count *= size;
        }
        MemorySegment data = arena.allocate(4 * count, 64);
        boolean isNorm = entry.getKey().contains("ln_");
        for (long i = 0; i < count && entry.getKey().endsWith(".weight"); i++) {
          data.setAtIndex(JAVA_FLOAT, i, isNorm ? 1 : 0.04f * (random.nextFloat() - 0.5f));
        }
        tensors.put(entry.getKey(), StoredTensor.float32(data, entry.getValue()));
      }
      SequencedMap<String, Object> metadata = new LinkedHashMap<>();
      metadata.putAll(TokenizerExport.toGguf(tokenizer(vocabulary), vocabulary));
      Gguf.writeGpt2(file, new Gpt2Weights(shape, tensors, false), type(task), metadata);
    }
  }

  private static Tokenizer tokenizer(int vocabulary) {
    if (vocabulary == GPT2_VOCABULARY) {
      return BpeTokenizer.gpt2(EndOfText.ALLOW);
    }
    StringBuilder text = new StringBuilder();
    for (int i = 0; i < vocabulary; i++) {
      text.appendCodePoint(' ' + i);
    }
    return new CharTokenizer(text.toString());
  }

  /** A prompt, and greedy text after it. */
  private final class Text implements PeerServer.Job {
    private final int prompt;
    private final int added;
    private final int vocabulary;
    private final Arena arena = Arena.ofShared();
    private final MemorySegment ids;
    private final MemorySegment next;
    private final MemorySegment model;
    private final MemorySegment context;
    private final MemorySegment state;

    Text(Case task, int threadCount) {
      prompt = task.number("tokens");
      added = task.number("new");
      vocabulary = task.number("vocabulary");
      ids = arena.allocate(JAVA_INT, prompt);
      next = arena.allocate(JAVA_INT);
      for (int i = 0; i < prompt; i++) {
        ids.setAtIndex(JAVA_INT, i, Inputs.below(i, 1, vocabulary));
      }
      int length = prompt + added;
      try {
        Path file = Files.createTempFile("lanewise", ".gguf");
        try {
          write(task, length, file);
          MemorySegment parameters = (MemorySegment) modelParameters.invoke(arena);
          model = (MemorySegment) load.invoke(arena.allocateFrom(file.toString()), parameters);
        } finally {
          Files.deleteIfExists(file);
        }
        MemorySegment parameters = (MemorySegment) contextParameters.invoke(arena);
        parameters.set(JAVA_INT, CONTEXT_FIELD, length);
        parameters.set(JAVA_INT, BATCH_FIELD, length);
        context = (MemorySegment) open.invoke(model, parameters);
        threads.invoke(context, threadCount, threadCount);
        state = (MemorySegment) memory.invoke(context);
      } catch (IOException e) {
        throw new UncheckedIOException(e);
      } catch (RuntimeException | Error e) {
        throw e;
      } catch (Throwable e) {
        throw new IllegalStateException(e);
      }
    }

    @Override
    public void run() {
      try {
        clear.invoke(state, (byte) 1);
        feed(ids, prompt);
        for (int i = 1; i < added; i++) {
          next.set(JAVA_INT, 0, likeliest());
          feed(next, 1);
        }
        likeliest();
      } catch (RuntimeException | Error e) {
        throw e;
      } catch (Throwable e) {
        throw new IllegalStateException(e);
      }
    }

    private void feed(MemorySegment tokens, int count) throws Throwable {
      try (Arena call = Arena.ofShared()) {
        int failed =
            (int) decode.invoke(context, (MemorySegment) batch.invoke(call, tokens, count));
        if (failed != 0) {
          throw new IllegalStateException("llama_decode gives " + failed);
        }
      }
    }

    private int likeliest() throws Throwable {
      MemorySegment last =
          ((MemorySegment) logits.invoke(context, -1)).reinterpret(4L * vocabulary);
      int best = 0;
      float most = Float.NEGATIVE_INFINITY;
      for (int i = 0; i < vocabulary; i++) {
        float logit = last.getAtIndex(JAVA_FLOAT, i);
        if (logit > most) {
          most = logit;
          best = i;
        }
      }
      return best;
    }

    @Override
    public double at(long position) {
      throw new IllegalStateException("texts of random models are not compared");
    }

    @Override
    public void close() {
      try {
        freeContext.invoke(context);
        freeModel.invoke(model);
      } catch (RuntimeException | Error e) {
        throw e;
      } catch (Throwable e) {
        throw new IllegalStateException(e);
      }
      arena.close();
    }
  }
}
