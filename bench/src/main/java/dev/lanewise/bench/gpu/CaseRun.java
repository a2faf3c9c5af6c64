package dev.lanewise.bench.gpu;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.backend.Buffer;
import dev.lanewise.core.backend.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;

/**
 * One case on one backend: makes inputs that are the same on every backend, and keeps the outputs.
 * Where a bfloat16 backend is to be compared, every backend gets inputs that bfloat16 can hold.
 */
final class CaseRun implements AutoCloseable {
  final Backend backend;
  final SplittableRandom random;
  private final boolean roundInputs;
  private final List<Buffer> buffers = new ArrayList<>();
  private final Map<String, float[]> outputs = new LinkedHashMap<>();

  CaseRun(Backend backend, boolean roundInputs, long seed) {
    this.backend = backend;
    this.roundInputs = roundInputs;
    this.random = new SplittableRandom(seed);
  }

  static float rounded(float x) {
    int bits = Float.floatToRawIntBits(x);
    return Float.isNaN(x)
        ? Float.NaN
        : Float.intBitsToFloat((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000);
  }

  /** Normal numbers times a scale. */
  float[] normal(long count, double scale) {
    float[] x = new float[Math.toIntExact(count)];
    for (int i = 0; i < x.length; i++) {
      x[i] = (float) (random.nextGaussian() * scale);
      if (roundInputs) {
        x[i] = rounded(x[i]);
      }
    }
    return x;
  }

  /** A buffer of the type of activations. */
  Buffer activations(float... values) {
    return real(backend.activationType(), values);
  }

  /** A float32 buffer. */
  Buffer floats(float... values) {
    return real(DType.FLOAT32, values);
  }

  private Buffer real(DType type, float[] values) {
    Buffer buffer = keep(backend.allocate(type, values.length));
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment segment = arena.allocate(Math.max(1, buffer.byteSize()));
      for (int i = 0; i < values.length; i++) {
        if (type == DType.FLOAT32) {
          segment.setAtIndex(ValueLayout.JAVA_FLOAT, i, values[i]);
        } else {
          int bits = Float.floatToRawIntBits(rounded(values[i]));
          segment.setAtIndex(ValueLayout.JAVA_SHORT, i, (short) (bits >> 16));
        }
      }
      backend.upload(segment.asSlice(0, buffer.byteSize()), buffer);
    }
    return buffer;
  }

  Buffer integers(int... values) {
    Buffer buffer = keep(backend.allocate(DType.INT32, values.length));
    backend.upload(MemorySegment.ofArray(values), buffer);
    return buffer;
  }

  Buffer bytes(byte... values) {
    Buffer buffer = keep(backend.allocate(DType.UINT8, values.length));
    backend.upload(MemorySegment.ofArray(values), buffer);
    return buffer;
  }

  int[] ids(int count, int below) {
    return random.ints(count, 0, below).toArray();
  }

  byte[] randomBytes(long count) {
    byte[] x = new byte[Math.toIntExact(count)];
    for (int i = 0; i < x.length; i++) {
      x[i] = (byte) random.nextInt();
    }
    return x;
  }

  /** A buffer full of NaN, to be overwritten. */
  Buffer poison(DType type, long count) {
    Buffer buffer = keep(backend.allocate(type, count));
    backend.fill(buffer, Float.NaN);
    return buffer;
  }

  Buffer poison(long count) {
    return poison(backend.activationType(), count);
  }

  private Buffer keep(Buffer buffer) {
    buffers.add(buffer);
    return buffer;
  }

  float[] read(Buffer buffer) {
    byte[] raw = new byte[Math.toIntExact(buffer.byteSize())];
    MemorySegment segment = MemorySegment.ofArray(raw);
    backend.download(buffer, segment);
    float[] x = new float[(int) buffer.length()];
    for (int i = 0; i < x.length; i++) {
      x[i] =
          switch (buffer.type()) {
            case FLOAT32 -> segment.get(ValueLayout.JAVA_FLOAT_UNALIGNED, 4L * i);
            case BFLOAT16 ->
                Float.intBitsToFloat(segment.get(ValueLayout.JAVA_SHORT_UNALIGNED, 2L * i) << 16);
            case INT32 -> segment.get(ValueLayout.JAVA_INT_UNALIGNED, 4L * i);
            case UINT8 -> raw[i];
          };
    }
    return x;
  }

  /** Keeps what a buffer holds now as an output of this case. */
  void output(String name, Buffer buffer) {
    if (outputs.put(name, read(buffer)) != null) {
      throw new IllegalStateException("two outputs " + name);
    }
  }

  Map<String, float[]> outputs() {
    return outputs;
  }

  @Override
  public void close() {
    buffers.forEach(backend::free);
  }
}
