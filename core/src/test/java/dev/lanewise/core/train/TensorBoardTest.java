package dev.lanewise.core.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.lanewise.core.backend.CpuBackend;
import dev.lanewise.core.base.Json;
import dev.lanewise.core.data.Dataset;
import dev.lanewise.core.report.EventFile;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Event files and tables of runs that were stopped and killed, read back. */
class TensorBoardTest {
  @TempDir Path folder;
  private TinyRuns runs;

  @BeforeEach
  void writeText() {
    runs = new TinyRuns(folder);
  }

  /** A life of a run, of which the folder is copied as it is after a step: what a kill leaves. */
  private void live(Path run, long stopAt, long copyAt, Path copy) {
    RunFolder here = new RunFolder(run);
    TrainConfig config = TinyRuns.config(12, 2, 4, false);
    try (Dataset data = runs.data();
        CpuBackend backend = new CpuBackend()) {
      RunFolder.Description description =
          new RunFolder.Description(runs.model(0.1), config, runs.source().toMap());
      List<TrainListener> listeners = new ArrayList<>();
      try (TrainingRun training =
          here.exists()
              ? TrainingRun.resume(here, description, data, backend, listeners)
              : TrainingRun.begin(here, description, data, backend, listeners)) {
        training.writeEvents();
        listeners.add(
            new TrainListener() {
              @Override
              public void step(
                  long step, double l, double r, double n, double t, double s, boolean skip) {
                if (step == stopAt) {
                  training.trainer().stop();
                }
              }

              @Override
              public void validation(Validation validation) {
                training.sample(TinyRuns.PROMPT, TinyRuns.SAMPLE);
                if (validation.step() == copyAt) {
                  copyTree(run, copy);
                }
              }
            });
        training.trainer().run();
        RunReports.write(training);
      }
    }
  }

  private static void copyTree(Path from, Path to) {
    try (var files = Files.walk(from)) {
      for (Path file : files.toList()) {
        Path there = to.resolve(from.relativize(file).toString());
        if (Files.isDirectory(file)) {
          Files.createDirectories(there);
        } else {
          Files.copy(file, there);
        }
      }
    } catch (IOException e) {
      throw new java.io.UncheckedIOException(e);
    }
  }

  /**
   * The run of the test: stopped after step 3, killed in step 10, which step 8 was saved before.
   */
  private Path interruptedRun() {
    Path first = folder.resolve("first");
    Path second = folder.resolve("second");
    live(first, 3, 0, null);
    live(first, 0, 10, second);
    live(second, 0, 0, null);
    return second;
  }

  @Test
  void everyStepIsThereOnceAsTheMetricsHaveIt() throws IOException {
    Path run = interruptedRun();
    Map<String, TreeMap<Long, Object>> series = new TreeMap<>();
    List<Path> files = TensorBoardWriter.files(run.resolve("tensorboard"));
    assertEquals(3, files.size());
    List<Long> starts = new ArrayList<>();
    for (Path file : files) {
      starts.add(StrictReader.read(file, series));
    }
    assertEquals(List.of(1L, 4L, 9L), starts);
    TreeMap<Long, Object> losses = new TreeMap<>();
    TreeMap<Long, Object> rates = new TreeMap<>();
    TreeMap<Long, Object> norms = new TreeMap<>();
    TreeMap<Long, Object> validations = new TreeMap<>();
    for (String line : Files.readAllLines(run.resolve("metrics.jsonl"))) {
      Map<String, Object> row = Json.parseObject(line, "a row");
      long step = (Long) row.get("step");
      if (row.get("valLoss") instanceof Number loss) {
        validations.put(step, loss.floatValue());
      } else {
        losses.put(step, ((Number) row.get("loss")).floatValue());
        rates.put(step, ((Number) row.get("lr")).floatValue());
        norms.put(step, ((Number) row.get("gradNorm")).floatValue());
      }
    }
    assertEquals(12, losses.size());
    assertEquals(losses, series.get("loss/train"));
    assertEquals(rates, series.get("learning_rate"));
    assertEquals(norms, series.get("gradient_norm"));
    assertEquals(validations, series.get("loss/validation"));
    TreeMap<Long, Object> samples = new TreeMap<>();
    for (SampleLog.Entry entry : SampleLog.read(run.resolve("samples.txt"))) {
      samples.put(entry.step(), entry.text().indent(4));
    }
    assertEquals(6, samples.size());
    assertEquals(samples, series.get("sample"));
  }

  @Test
  void aFileThatWasRemovedOrTornIsMadeWhole() throws IOException {
    Path path = folder.resolve(EventFile.NAME + "1.lanewise.1");
    EventFile.Tag tag = new EventFile.Tag("loss/train");
    try (EventFile file = new EventFile(path, 1)) {
      file.step(1).scalar(tag, 3).write();
      file.flush();
      Files.delete(path);
      file.step(2).scalar(tag, 2).write();
      file.text(2, new EventFile.Tag("sample"), "Ünï\ncode".repeat(9000));
    }
    Map<String, TreeMap<Long, Object>> series = new TreeMap<>();
    assertEquals(1, StrictReader.read(path, series));
    assertEquals(Map.of(2L, 2f), series.get("loss/train"));
    assertEquals("Ünï\ncode".repeat(9000).indent(4), series.get("sample").get(2L));
    byte[] whole = Files.readAllBytes(path);
    for (int length = 0; length < whole.length; length += length < 200 ? 1 : 9973) {
      Files.write(path, java.util.Arrays.copyOf(whole, length));
      EventFile.cut(path, (step, name) -> true);
      assertTrue(Files.size(path) <= length);
      StrictReader.records(path);
      byte[] damaged = whole.clone();
      damaged[length] ^= 4;
      Files.write(path, damaged);
      EventFile.cut(path, (step, name) -> true);
      assertTrue(Files.size(path) <= length, "damage at " + length);
    }
  }

  @Test
  void theTableHoldsEveryNumberInFull() throws IOException {
    Path run = interruptedRun();
    List<String> lines = Files.readAllLines(run.resolve("metrics.csv"));
    List<String> names = List.of(lines.getFirst().split(",", -1));
    assertEquals(
        "step,loss,lr,gradNorm,tokensPerSecond,seconds,skipped,compiling,valLoss,valTokens,valWhole",
        lines.getFirst());
    assertEquals(13, lines.size());
    for (String row : Files.readAllLines(run.resolve("metrics.jsonl"))) {
      Map<String, Object> numbers = Json.parseObject(row, "a row");
      String[] cells = lines.get(((Long) numbers.get("step")).intValue()).split(",", -1);
      assertEquals(names.size(), cells.length);
      for (String name : List.of("step", "loss", "lr", "gradNorm", "seconds", "valLoss")) {
        if (numbers.containsKey(name)) {
          assertEquals(
              ((Number) numbers.get(name)).doubleValue(),
              Double.parseDouble(cells[names.indexOf(name)]),
              name);
        }
      }
    }
    assertEquals("", lines.get(1).split(",", -1)[names.indexOf("valLoss")]);
  }

  /** Needs Python with the package tensorboard, named by LANEWISE_PYTHON. */
  @Test
  void tensorBoardItselfReadsTheSame() throws IOException, InterruptedException {
    String python = System.getenv("LANEWISE_PYTHON");
    assumeTrue(python != null && !python.isBlank(), "LANEWISE_PYTHON names no Python");
    Path run = interruptedRun();
    Path script = folder.resolve("read.py");
    Files.writeString(
        script,
        """
        import json, sys
        try:
            from tensorboard.backend.event_processing import event_accumulator
        except ImportError:
            sys.exit(77)
        events = event_accumulator.EventAccumulator(
            sys.argv[1], size_guidance={event_accumulator.SCALARS: 0, event_accumulator.TENSORS: 0})
        events.Reload()
        found = {tag: [[e.step, e.value] for e in events.Scalars(tag)]
                 for tag in events.Tags()['scalars']}
        for tag in events.Tags()['tensors']:
            assert events.SummaryMetadata(tag).plugin_data.plugin_name == 'text'
            found[tag] = [[e.step, e.tensor_proto.string_val[0].decode()]
                          for e in events.Tensors(tag)]
        print(json.dumps(found))
        """);
    Path answer = folder.resolve("answer.json");
    Path errors = folder.resolve("errors.txt");
    int code =
        new ProcessBuilder(python, script.toString(), run.resolve("tensorboard").toString())
            .redirectOutput(answer.toFile())
            .redirectError(errors.toFile())
            .start()
            .waitFor();
    assumeTrue(code != 77, python + " has no package tensorboard");
    assertEquals(0, code, Files.readString(errors));
    Map<String, TreeMap<Long, Object>> series = new TreeMap<>();
    for (Path file : TensorBoardWriter.files(run.resolve("tensorboard"))) {
      StrictReader.read(file, series);
    }
    Map<String, TreeMap<Long, Object>> theirs = new TreeMap<>();
    Json.parseObject(Files.readString(answer), "TensorBoard's answer")
        .forEach(
            (tag, points) -> {
              TreeMap<Long, Object> line = new TreeMap<>();
              for (Object point : (List<?>) points) {
                List<?> pair = (List<?>) point;
                Object value =
                    pair.get(1) instanceof Number number
                        ? (Object) number.floatValue()
                        : pair.get(1);
                assertNull(line.put((Long) pair.get(0), value), tag);
              }
              theirs.put(tag, line);
            });
    assertEquals(series, theirs);
  }

  /** Reads what the format allows and this writer uses, and nothing else. */
  private static final class StrictReader {
    private StrictReader() {}

    /** CRC-32C bit by bit, by its polynomial. */
    private static int masked(byte[] bytes) {
      int crc = -1;
      for (byte octet : bytes) {
        crc ^= octet & 0xff;
        for (int bit = 0; bit < 8; bit++) {
          crc = (crc & 1) != 0 ? crc >>> 1 ^ 0x82f63b78 : crc >>> 1;
        }
      }
      crc = ~crc;
      return (crc >>> 15 | crc << 17) + 0xa282ead8;
    }

    static List<byte[]> records(Path file) throws IOException {
      List<byte[]> records = new ArrayList<>();
      ByteBuffer in = ByteBuffer.wrap(Files.readAllBytes(file)).order(ByteOrder.LITTLE_ENDIAN);
      while (in.hasRemaining()) {
        byte[] length = new byte[8];
        in.get(length);
        assertEquals(masked(length), in.getInt());
        byte[] record =
            new byte[(int) ByteBuffer.wrap(length).order(ByteOrder.LITTLE_ENDIAN).getLong()];
        in.get(record);
        assertEquals(masked(record), in.getInt());
        records.add(record);
      }
      return records;
    }

    /** Adds a file's numbers and texts, and returns the step at which it says that it begins. */
    static long read(Path file, Map<String, TreeMap<Long, Object>> series) throws IOException {
      List<byte[]> records = records(file);
      Map<Integer, List<Object>> version = fields(records.get(0));
      assertEquals("brain.Event:2", text(version.get(3)));
      Map<Integer, List<Object>> start = fields(records.get(1));
      assertEquals(1L, fields((byte[]) start.get(7).getFirst()).get(1).getFirst());
      double before = 0;
      for (byte[] record : records.subList(2, records.size())) {
        Map<Integer, List<Object>> event = fields(record);
        assertEquals(java.util.Set.of(1, 2, 5), event.keySet());
        double time = Double.longBitsToDouble((Long) event.get(1).getFirst());
        assertTrue(time >= before && time > 1.7e9);
        before = time;
        long step = (Long) event.get(2).getFirst();
        for (Object value : fields((byte[]) event.get(5).getFirst()).get(1)) {
          add(step, fields((byte[]) value), series);
        }
      }
      return (Long) start.get(2).getFirst();
    }

    private static void add(
        long step, Map<Integer, List<Object>> value, Map<String, TreeMap<Long, Object>> series) {
      String tag = text(value.get(1));
      Object what;
      if (value.containsKey(2)) {
        assertEquals(2, value.size());
        what = Float.intBitsToFloat((Integer) value.get(2).getFirst());
      } else {
        Map<Integer, List<Object>> tensor = fields((byte[]) value.get(8).getFirst());
        assertEquals(7L, tensor.get(1).getFirst());
        what = text(tensor.get(8));
        Map<Integer, List<Object>> metadata = fields((byte[]) value.get(9).getFirst());
        assertEquals("text", text(fields((byte[]) metadata.get(1).getFirst()).get(1)));
      }
      assertNotEquals("", tag);
      assertNull(
          series.computeIfAbsent(tag, t -> new TreeMap<>()).put(step, what), tag + " at " + step);
    }

    private static String text(List<Object> bytes) {
      assertEquals(1, bytes.size());
      return new String((byte[]) bytes.getFirst(), StandardCharsets.UTF_8);
    }

    private static Map<Integer, List<Object>> fields(byte[] message) {
      Map<Integer, List<Object>> fields = new TreeMap<>();
      ByteBuffer in = ByteBuffer.wrap(message).order(ByteOrder.LITTLE_ENDIAN);
      while (in.hasRemaining()) {
        int key = (int) varint(in);
        Object value =
            switch (key & 7) {
              case 0 -> varint(in);
              case 1 -> in.getLong();
              case 2 -> {
                byte[] part = new byte[(int) varint(in)];
                in.get(part);
                yield part;
              }
              case 5 -> in.getInt();
              default -> throw new AssertionError("a field of type " + (key & 7));
            };
        fields.computeIfAbsent(key >>> 3, k -> new ArrayList<>()).add(value);
      }
      return fields;
    }

    private static long varint(ByteBuffer in) {
      long result = 0;
      int shift = 0;
      byte next;
      do {
        assertFalse(shift > 63);
        next = in.get();
        result |= (long) (next & 0x7f) << shift;
        shift += 7;
      } while (next < 0);
      return result;
    }
  }
}
