package dev.lanewise.bench.gpu;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.backend.CpuBackend;
import dev.lanewise.core.backend.Precision;
import dev.lanewise.core.backend.cuda.CudaBackend;
import dev.lanewise.core.backend.cuda.CudaException;
import dev.lanewise.core.backend.cuda.CudaProbe;
import dev.lanewise.core.backend.cuda.CudaProfile;
import dev.lanewise.core.base.InputException;
import dev.lanewise.core.data.BpeTokenizer;
import dev.lanewise.core.data.EndOfText;
import dev.lanewise.core.format.SafeTensors;
import dev.lanewise.core.format.StoredTensor;
import dev.lanewise.core.model.GptConfig;
import dev.lanewise.core.tensor.Tensor;
import java.io.IOException;
import java.io.PrintStream;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/**
 * What {@code bench/gpu/run} calls, one step at a time. Each prints what people read and leaves
 * figures as JSON in the folder of the run.
 */
public final class GpuMain {
  private static final long SEED = 1337;
  private static final int WARM_UP = 10;

  private final PrintStream out;

  private GpuMain(PrintStream out) {
    this.out = out;
  }

  /**
   * Runs one step.
   *
   * @param args the step and its arguments; a model is layers, heads, channels, context, vocabulary
   */
  public static void main(String[] args) {
    try {
      System.exit(new GpuMain(System.out).run(args) ? 0 : 1);
    } catch (InputException | IOException e) {
      System.err.println(e.getMessage());
      System.exit(1);
    }
  }

  private boolean run(String... args) throws IOException {
    List<String> words = new ArrayList<>(List.of(args));
    boolean small = words.remove("--small");
    String command = words.isEmpty() ? "" : words.removeFirst();
    return switch (command) {
      case "probe" -> probe();
      case "check" ->
          check(
              Path.of(words.get(0)),
              Precision.valueOf(words.get(1).toUpperCase(Locale.ROOT)),
              Integer.parseInt(words.get(2)),
              small,
              words.subList(3, words.size()));
      case "parity" -> parity();
      case "prepare" -> {
        prepare(
            Path.of(words.get(0)), Path.of(words.get(1)), config(words.subList(2, words.size())));
        yield true;
      }
      case "curve" -> {
        curve(
            Path.of(words.get(0)),
            Integer.parseInt(words.get(1)),
            Integer.parseInt(words.get(2)),
            config(words.subList(3, words.size())));
        yield true;
      }
      case "speed" -> {
        speed(
            Path.of(words.get(0)),
            Integer.parseInt(words.get(1)),
            config(words.subList(2, words.size())),
            small);
        yield true;
      }
      default -> {
        out.println("usage: probe | check | parity | prepare | curve | speed, see bench/gpu/run");
        yield false;
      }
    };
  }

  private static GptConfig config(List<String> words) {
    int[] n = words.stream().mapToInt(Integer::parseInt).toArray();
    return GptConfig.gpt2(n[4], n[3], n[0], n[1], n[2]);
  }

  private boolean probe() {
    for (CudaProbe.Line line : CudaProbe.describe()) {
      out.printf(
          Locale.ROOT,
          "%-10s %s %s%n",
          line.piece(),
          line.found() ? "found  " : "missing",
          line.detail());
    }
    return CudaProbe.usable();
  }

  /**
   * Every operation in one precision, from a case on. If the GPU refuses everything after a fault,
   * the number of the next case is left in the file {@code next}.
   */
  private boolean check(
      Path folder, Precision precision, int first, boolean small, List<String> filter)
      throws IOException {
    int[] counts = new int[2];
    double[] worst = new double[1];
    long start = System.nanoTime();
    int next;
    Backend cpu = new CpuBackend();
    CudaBackend cuda = CudaBackend.open(precision);
    out.println(cuda.description());
    next =
        new BackendCases(!small)
            .run(
                cuda,
                cpu,
                BackendCases.allowed(precision),
                first,
                String.join(" ", filter),
                result -> {
                  counts[0]++;
                  if (!result.passed()) {
                    counts[1]++;
                    out.println(result);
                  } else {
                    worst[0] = Math.max(worst[0], result.error());
                  }
                });
    cpu.close();
    if (next < 0) {
      cuda.close();
    } else {
      Files.writeString(folder.resolve("next"), Integer.toString(next));
    }
    out.printf(
        Locale.ROOT,
        "%s: %d results against the CPU, %d failed, worst passed %.1e, %.1f s%n",
        precision,
        counts[0],
        counts[1],
        worst[0],
        (System.nanoTime() - start) * 1e-9);
    return counts[1] == 0;
  }

  /** Ten steps of a small model on CPU and GPU, in each precision. */
  private boolean parity() {
    int steps = 10;
    GptConfig config = GptConfig.gpt2(259, 96, 2, 2, 128);
    short[] tokens = new short[20_000];
    long state = SEED;
    for (int i = 0; i < tokens.length; i++) {
      // A chain with structure, so that there is something to learn.
      state = state * 6364136223846793005L + 1442695040888963407L;
      tokens[i] = (short) ((i * 7 + (state >>> 62)) % 259);
    }
    double[] expected;
    try (Backend cpu = new CpuBackend()) {
      expected = losses(cpu, config, tokens, steps);
    }
    out.printf(Locale.ROOT, "cpu   %s%n", text(expected));
    boolean passed = true;
    Map<Precision, Double> allowed =
        Map.of(Precision.FP32, 1e-4, Precision.TF32, 5e-3, Precision.BF16, 3e-2);
    for (Precision precision : Precision.values()) {
      try (CudaBackend cuda = CudaBackend.open(precision)) {
        double[] actual = losses(cuda, config, tokens, steps);
        double apart = 0;
        for (int i = 0; i < steps; i++) {
          apart = Math.max(apart, Math.abs(actual[i] - expected[i]));
        }
        boolean ok = apart <= allowed.get(precision);
        passed &= ok;
        out.printf(
            Locale.ROOT,
            "%-5s %s  apart %.1e of %.0e %s%n",
            precision,
            text(actual),
            apart,
            allowed.get(precision),
            ok ? "ok" : "FAIL");
      }
    }
    return passed;
  }

  private static double[] losses(Backend backend, GptConfig config, short[] tokens, int steps) {
    try (GpuTraining training = new GpuTraining(backend, config, tokens, 4, SEED)) {
      double[] losses = new double[steps];
      for (int i = 0; i < steps; i++) {
        losses[i] = training.step();
      }
      return losses;
    }
  }

  private static String text(double[] losses) {
    StringBuilder text = new StringBuilder();
    for (double loss : losses) {
      text.append(String.format(Locale.ROOT, "%.4f ", loss));
    }
    return text.toString().strip();
  }

  /** Tokens of a text and initial weights, for both trainers. */
  private void prepare(Path text, Path folder, GptConfig config) throws IOException {
    int[] ids;
    if (config.vocabSize() >= 50257) {
      ids =
          BpeTokenizer.gpt2(EndOfText.ALLOW).encode(Files.readString(text, StandardCharsets.UTF_8));
    } else {
      byte[] bytes = Files.readAllBytes(text);
      ids = new int[bytes.length];
      for (int i = 0; i < ids.length; i++) {
        ids[i] = (bytes[i] & 0xff) % config.vocabSize();
      }
    }
    ByteBuffer shorts = ByteBuffer.allocate(2 * ids.length).order(ByteOrder.LITTLE_ENDIAN);
    for (int id : ids) {
      shorts.putShort((short) id);
    }
    Files.write(folder.resolve("tokens.bin"), shorts.array());
    try (Backend cpu = new CpuBackend();
        GpuTraining training = new GpuTraining(cpu, config, new short[10_000], 1, SEED);
        Arena arena = Arena.ofConfined()) {
      Map<String, StoredTensor> stored = new LinkedHashMap<>();
      for (Map.Entry<String, Tensor> entry : training.parameters().entrySet()) {
        Tensor parameter = entry.getValue();
        MemorySegment data = arena.allocate(4 * parameter.shape().count(), 64);
        cpu.download(parameter.data(), data);
        long[] shape = new long[parameter.shape().rank()];
        for (int i = 0; i < shape.length; i++) {
          shape[i] = parameter.shape().dim(i);
        }
        stored.put(entry.getKey(), StoredTensor.float32(data, shape));
      }
      SafeTensors.write(folder.resolve("init.safetensors"), stored, Map.of());
    }
    out.printf(Locale.ROOT, "%d tokens of %s%n", ids.length, text.getFileName());
  }

  private static short[] tokens(Path folder) throws IOException {
    byte[] bytes = Files.readAllBytes(folder.resolve("tokens.bin"));
    short[] tokens = new short[bytes.length / 2];
    MemorySegment.copy(
        MemorySegment.ofArray(bytes),
        ValueLayout.JAVA_SHORT_UNALIGNED,
        0,
        tokens,
        0,
        tokens.length);
    return tokens;
  }

  private static short[] tokens(short[] tokens, int below) {
    short[] smaller = new short[tokens.length];
    for (int i = 0; i < tokens.length; i++) {
      smaller[i] = (short) ((tokens[i] & 0xffff) % below);
    }
    return smaller;
  }

  private void curve(Path folder, int batch, int steps, GptConfig config) throws IOException {
    try (CudaBackend cuda = CudaBackend.open(Precision.BF16);
        GpuTraining training = new GpuTraining(cuda, config, tokens(folder), batch, SEED)) {
      out.println(cuda.description());
      double[] losses = new double[steps];
      long start = System.nanoTime();
      for (int i = 0; i < steps; i++) {
        losses[i] = training.step();
        if (i % 20 == 0 || i == steps - 1) {
          out.printf(Locale.ROOT, "step %d loss %.4f%n", i + 1, losses[i]);
        }
      }
      double seconds = (System.nanoTime() - start) * 1e-9;
      Files.writeString(
          folder.resolve("curve.json"),
          String.format(
              Locale.ROOT,
              "{\"batch\": %d, \"seconds\": %.3f, \"losses\": %s}%n",
              batch,
              seconds,
              Arrays.toString(losses)));
    }
  }

  private void speed(Path folder, int most, GptConfig config, boolean small) throws IOException {
    short[] tokens = tokens(folder);
    List<String> runs = new ArrayList<>();
    String best = "";
    double bestRate = 0;
    int batch = most;
    for (String epilogue : small ? List.of("gelu") : List.of("gelu", "bias", "all", "none")) {
      System.setProperty(CudaBackend.EPILOGUE_PROPERTY, epilogue);
      double rate = 0;
      while (rate == 0) {
        try {
          rate = rate(config, tokens, batch, small ? 1 : WARM_UP, small ? 2 : 20);
        } catch (CudaException e) {
          out.println(e.getMessage());
          break;
        } catch (InputException e) {
          out.println(e.getMessage());
          if (batch == 1) {
            throw e;
          }
          batch /= 2;
        }
      }
      if (rate == 0) {
        continue;
      }
      out.printf(Locale.ROOT, "epilogues %s, batch %d: %.0f tok/s%n", epilogue, batch, rate);
      runs.add(
          String.format(
              Locale.ROOT,
              "{\"epilogue\": \"%s\", \"batch\": %d, \"tokensPerSecond\": %.1f}",
              epilogue,
              batch,
              rate));
      writeSpeed(folder, runs, List.of());
      if (rate > bestRate) {
        bestRate = rate;
        best = epilogue;
      }
    }
    System.setProperty(CudaBackend.EPILOGUE_PROPERTY, best);
    // Where launches weigh most: whether recording them once would pay.
    rate(GptConfig.gpt2(1024, 128, 4, 4, 256), tokens(tokens, 1024), 8, WARM_UP, small ? 2 : 200);
    List<String> kernels = new ArrayList<>();
    int steps = small ? 1 : 3;
    try (CudaBackend cuda = CudaBackend.open(Precision.BF16);
        GpuTraining training = new GpuTraining(cuda, config, tokens, batch, SEED)) {
      for (int i = 0; i < 3; i++) {
        training.step();
      }
      cuda.profile().start();
      for (int i = 0; i < steps; i++) {
        training.step();
      }
      for (CudaProfile.Entry entry : cuda.profile().stop()) {
        String kernel =
            String.format(
                Locale.ROOT,
                "{\"name\": \"%s\", \"count\": %.1f, \"milliseconds\": %.4f}",
                entry.name(),
                entry.count() / (double) steps,
                entry.milliseconds() / steps);
        kernels.add(kernel);
        out.printf(
            Locale.ROOT,
            "%9.3f ms %6.1f x  %s%n",
            entry.milliseconds() / steps,
            entry.count() / (double) steps,
            entry.name());
      }
    }
    writeSpeed(folder, runs, kernels);
  }

  private static void writeSpeed(Path folder, List<String> runs, List<String> kernels)
      throws IOException {
    Files.writeString(
        folder.resolve("speed.json"),
        "{\"runs\": ["
            + String.join(", ", runs)
            + "],\n\"kernels\": ["
            + String.join(",\n", kernels)
            + "]}\n");
  }

  private double rate(GptConfig config, short[] tokens, int batch, int warmUp, int steps) {
    try (CudaBackend cuda = CudaBackend.open(Precision.BF16);
        GpuTraining training = new GpuTraining(cuda, config, tokens, batch, SEED)) {
      for (int i = 0; i < warmUp; i++) {
        training.step();
      }
      cuda.synchronize();
      long queueing = training.queueingNanos();
      long start = System.nanoTime();
      for (int i = 0; i < steps; i++) {
        training.step();
      }
      cuda.synchronize();
      double seconds = (System.nanoTime() - start) * 1e-9;
      out.printf(
          Locale.ROOT,
          "%d layers of %d, batch %d x %d: %.3f ms a step, of which %.3f ms to queue it%n",
          config.layers(),
          config.channels(),
          batch,
          config.contextLength(),
          1e3 * seconds / steps,
          (training.queueingNanos() - queueing) * 1e-6 / steps);
      return steps * (double) batch * config.contextLength() / seconds;
    }
  }
}
