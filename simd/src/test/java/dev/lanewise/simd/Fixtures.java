package dev.lanewise.simd;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import java.util.regex.MatchResult;
import java.util.regex.Pattern;

/** Tensors of a safetensors file among the test resources. */
final class Fixtures {
  private static final Pattern ENTRY =
      Pattern.compile(
          "\"([^\"]+)\"\\s*:\\s*\\{\"dtype\"\\s*:\\s*\"(\\w+)\"\\s*,\\s*\"shape\"\\s*:\\s*"
              + "\\[([^\\]]*)\\]\\s*,\\s*\"data_offsets\"\\s*:\\s*\\[(\\d+),\\s*(\\d+)\\]\\}");

  private final Map<String, MatchResult> entries = new HashMap<>();
  private final ByteBuffer data;

  Fixtures(String name) {
    try (InputStream in = Fixtures.class.getResourceAsStream(name + ".safetensors")) {
      ByteBuffer file = ByteBuffer.wrap(in.readAllBytes()).order(ByteOrder.LITTLE_ENDIAN);
      int header = Math.toIntExact(file.getLong());
      String json = new String(file.array(), 8, header, StandardCharsets.UTF_8);
      ENTRY.matcher(json).results().forEach(entry -> entries.put(entry.group(1), entry));
      data = file.slice(8 + header, file.capacity() - 8 - header).order(ByteOrder.LITTLE_ENDIAN);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  private MatchResult entry(String name) {
    MatchResult entry = entries.get(name);
    if (entry == null) {
      throw new IllegalArgumentException("no tensor " + name);
    }
    return entry;
  }

  boolean has(String name) {
    return entries.containsKey(name);
  }

  int[] shape(String name) {
    String shape = entry(name).group(3).strip();
    if (shape.isEmpty()) {
      return new int[0];
    }
    String[] sizes = shape.split("\\s*,\\s*", -1);
    int[] result = new int[sizes.length];
    for (int i = 0; i < sizes.length; i++) {
      result[i] = Integer.parseInt(sizes[i]);
    }
    return result;
  }

  double[] doubles(String name) {
    MatchResult entry = entry(name);
    int from = Integer.parseInt(entry.group(4));
    int to = Integer.parseInt(entry.group(5));
    int size = entry.group(2).equals("F32") ? 4 : 8;
    double[] values = new double[(to - from) / size];
    for (int i = 0; i < values.length; i++) {
      int at = from + i * size;
      values[i] =
          switch (entry.group(2)) {
            case "F32" -> data.getFloat(at);
            case "F64" -> data.getDouble(at);
            case "I64" -> data.getLong(at);
            default -> throw new IllegalArgumentException(name + " is " + entry.group(2));
          };
    }
    return values;
  }

  float[] floats(String name) {
    double[] values = doubles(name);
    float[] result = new float[values.length];
    for (int i = 0; i < values.length; i++) {
      result[i] = (float) values[i];
    }
    return result;
  }
}
