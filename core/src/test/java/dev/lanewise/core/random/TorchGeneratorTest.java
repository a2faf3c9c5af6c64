package dev.lanewise.core.random;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.core.golden.Golden;
import dev.lanewise.core.nn.Initializer;
import dev.lanewise.core.random.TorchGenerator.Stream;
import dev.lanewise.simd.Workers;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.function.Consumer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

class TorchGeneratorTest {
  private static final int SEEDS = 7;

  @Test
  void engineGivesTheReferenceOutputs() {
    TorchGenerator generator = new TorchGenerator(5489);
    assertEquals(3499211612L, Integer.toUnsignedLong(generator.nextInt()));
    for (int i = 2; i < 10000; i++) {
      generator.nextInt();
    }
    assertEquals(4123659995L, Integer.toUnsignedLong(generator.nextInt()));
  }

  /** Every vector that PyTorch drew, in both streams: no number may differ, in any bit. */
  @ParameterizedTest
  @EnumSource(names = {"SCALAR", "VECTOR"})
  void everyVectorIsEqualToTheBit(Stream stream) {
    Golden golden = new Golden(stream == Stream.SCALAR ? "rng_default" : "rng_avx2");
    long numbers = 0;
    long different = 0;
    for (String name : golden.names()) {
      int dot = name.indexOf('.');
      long seed = Long.parseLong(name.substring(1, dot));
      double[] expected = golden.doubles(name);
      double[] drawn =
          draw(new TorchGenerator(seed, stream), name.substring(dot + 1), expected.length);
      assertEquals(expected.length, drawn.length, name);
      for (int i = 0; i < drawn.length; i++) {
        different +=
            Double.doubleToRawLongBits(expected[i]) == Double.doubleToRawLongBits(drawn[i]) ? 0 : 1;
      }
      numbers += drawn.length;
    }
    golden.assertAllAsked();
    assertEquals(SEEDS * 9635L, numbers);
    assertEquals(0, different);
  }

  private static double[] draw(TorchGenerator g, String what, int count) {
    return switch (what) {
      case "rand" -> floats(count, g::uniform);
      case "rand_f64" -> {
        double[] doubles = new double[count];
        g.uniform64(MemorySegment.ofArray(doubles));
        yield doubles;
      }
      case "uniform_lin768" -> {
        double bound = 1 / Math.sqrt(768);
        yield floats(count, x -> g.uniform(x, -bound, bound));
      }
      case "linear_20_50.weight" -> floats(count, x -> Initializer.linearWeight(g, x, 20));
      case "linear_20_50.bias" -> {
        floats(20 * 50, x -> Initializer.linearWeight(g, x, 20));
        yield floats(count, x -> Initializer.linearBias(g, x, 20));
      }
      case "bernoulli_0.3" -> floats(count, x -> g.bernoulli(x, 0.3));
      case "dropout_0.1_ones" -> floats(count, x -> g.dropout(x, 0.1));
      case "exponential" -> floats(count, x -> g.exponential(x, 1));
      case "normal_0.5_0.02" -> floats(count, x -> g.normal(x, 0.5, 0.02));
      case "mix_randn3_randn20_randn3_rand3_randn1" ->
          floats(
              count,
              x -> {
                g.normal(x.asSlice(0, 12));
                g.normal(x.asSlice(12, 80));
                g.normal(x.asSlice(92, 12));
                g.uniform(x.asSlice(104, 12));
                g.normal(x.asSlice(116, 4));
              });
      case "randint_50257" -> integers(g, count, 0, 50257);
      case "randint_10" -> integers(g, count, 0, 10);
      case "randint_m7_9" -> integers(g, count, -7, 9);
      case "randperm_7", "randperm_1000" ->
          Arrays.stream(g.randperm(count)).asDoubleStream().toArray();
      case "multinomial_repl" -> {
        float[] weights = new float[27];
        for (int i = 0; i < weights.length; i++) {
          weights[i] = i + 1;
        }
        yield Arrays.stream(g.multinomial(weights, count, true)).asDoubleStream().toArray();
      }
      default -> {
        assertTrue(what.startsWith("randn") || what.equals("emb_30x7"), what);
        yield floats(count, g::normal);
      }
    };
  }

  private static double[] floats(int count, Consumer<MemorySegment> fill) {
    float[] numbers = new float[count];
    fill.accept(MemorySegment.ofArray(numbers));
    double[] wide = new double[count];
    for (int i = 0; i < count; i++) {
      wide[i] = numbers[i];
    }
    return wide;
  }

  private static double[] integers(TorchGenerator g, int count, long low, long high) {
    long[] numbers = new long[count];
    g.randint(numbers, low, high);
    int[] few = new int[count];
    new TorchGenerator(g.seed(), g.stream()).randint(few, (int) low, (int) high);
    assertArrayEquals(numbers, Arrays.stream(few).asLongStream().toArray());
    return Arrays.stream(numbers).asDoubleStream().toArray();
  }

  /** The C library's functions are copied to the bit, so the scalar stream needs no allowance. */
  @Test
  void correctlyRoundedFunctionsWouldDifferFromTheCLibrary() {
    int different = 0;
    float worst = 0;
    float[] numbers = new float[1 << 20];
    new TorchGenerator(123).uniform(numbers, 0, 1);
    float[] normal = new float[numbers.length];
    new TorchGenerator(123).normal(normal, 0, 1);
    for (int i = 0; i < numbers.length; i++) {
      int first = i & ~8;
      float u1 = 1 - numbers[first];
      float radius = (float) Math.sqrt(-2 * (float) StrictMath.log(u1));
      float angle = (float) (2 * Math.PI * numbers[first + 8]);
      double wave = i == first ? StrictMath.cos(angle) : StrictMath.sin(angle);
      float rounded = radius * (float) wave;
      different += rounded != normal[i] ? 1 : 0;
      worst = Math.max(worst, Math.abs(rounded - normal[i]));
    }
    assertEquals(15316, different);
    assertEquals(0x1p-22f, worst);
  }

  @ParameterizedTest
  @ValueSource(ints = {1, 5, 623, 624, 625, 4097})
  void stateContinuesTheStream(int drawn) {
    TorchGenerator generator = new TorchGenerator(7, Stream.VECTOR);
    for (int i = 0; i < drawn; i++) {
      generator.nextInt();
    }
    generator.nextNormal();
    TorchGenerator other = new TorchGenerator(8, Stream.VECTOR);
    other.restore(generator.state());
    assertEquals(7, other.seed());
    assertEquals(generator.nextNormal(), other.nextNormal());
    for (int i = 0; i < 2000; i++) {
      assertEquals(generator.nextInt(), other.nextInt());
    }
    assertArrayEquals(generator.state(), other.state());
  }

  @ParameterizedTest
  @EnumSource
  void largeFillsAreTheSameForEveryNumberOfThreads(Stream stream) {
    int count = (1 << 17) + 13;
    int threads = Workers.threads();
    try (Arena arena = Arena.ofShared()) {
      MemorySegment out = arena.allocate(4L * count + 1).asSlice(1);
      MemorySegment expected = MemorySegment.ofArray(new float[count]);
      for (int n : new int[] {1, 2, 3, 7}) {
        Workers.setThreads(n);
        TorchGenerator g = new TorchGenerator(9, stream);
        g.nextInt();
        g.normal(out, 0.5, 2);
        long checksum = sum(out);
        g.uniform(out, -1, 3);
        checksum = 31 * checksum + sum(out);
        g.dropout(out, 0.3);
        checksum = 31 * checksum + sum(out) + g.nextInt();
        TorchGenerator one = new TorchGenerator(9, stream);
        one.nextInt();
        inParts(expected, part -> one.normal(part, 0.5, 2));
        long same = sum(expected);
        inParts(expected, part -> one.uniform(part, -1, 3));
        same = 31 * same + sum(expected);
        inParts(expected, part -> one.dropout(part, 0.3));
        same = 31 * same + sum(expected) + one.nextInt();
        assertEquals(same, checksum, n + " threads");
      }
    } finally {
      Workers.setThreads(threads);
    }
  }

  /** Fills a segment as two: the second begins with a whole block and is too small for threads. */
  private static void inParts(MemorySegment out, Consumer<MemorySegment> fill) {
    for (long at = 0; at < out.byteSize(); ) {
      long left = out.byteSize() - at;
      long part = left < (1 << 17) ? left : 1 << 16;
      fill.accept(out.asSlice(at, part));
      at += part;
    }
  }

  private static long sum(MemorySegment numbers) {
    long sum = 0;
    for (long at = 0; at < numbers.byteSize(); at += 4) {
      sum = 31 * sum + numbers.get(ValueLayout.JAVA_INT_UNALIGNED, at);
    }
    return sum;
  }

  @ParameterizedTest
  @ValueSource(ints = {0, 1, 7, 8, 9, 4095, 4097, 100_003})
  void bitsAreTheSameDrawsAsNumbers(int count) {
    float[] numbers = new float[count];
    TorchGenerator a = new TorchGenerator(6);
    a.bernoulli(MemorySegment.ofArray(numbers), 0.3);
    byte[] bits = new byte[count / 8 + 2];
    bits[bits.length - 1] = 5;
    TorchGenerator b = new TorchGenerator(6);
    b.bits(MemorySegment.ofArray(bits), count, 0.3);
    for (int i = 0; i < count; i++) {
      assertEquals(numbers[i] == 1, (bits[i / 8] >> (i % 8) & 1) == 1, "bit " + i);
    }
    assertEquals(5, bits[bits.length - 1]);
    assertEquals(a.nextInt(), b.nextInt());
    refused(() -> b.bits(MemorySegment.ofArray(bits), 8L * bits.length + 1, 0.3));
  }

  @Test
  void aConfinedSegmentIsFilledByItsOwner() {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment out = arena.allocate(4L << 17);
      new TorchGenerator(4).uniform(out);
      float[] expected = new float[1 << 17];
      new TorchGenerator(4).uniform(expected, 0, 1);
      assertEquals(-1, out.mismatch(MemorySegment.ofArray(expected)));
    }
  }

  /** Values from PyTorch 2.13: ranges from 2^28 on draw 64 bits. */
  @Test
  void wideRangesDraw64Bits() {
    TorchGenerator g = new TorchGenerator(11);
    long[] drawn = {
      g.nextLong(0, (1 << 28) - 1),
      g.nextLong(0, 1 << 28),
      g.nextLong(-5, 1L << 40),
      g.nextLong(0, 7)
    };
    assertArrayEquals(new long[] {237381531L, 83645520L, 392775771584L, 3L}, drawn);
  }

  /** Values from PyTorch 2.13. */
  @Test
  void drawsWithoutReplacementArePyTorchs() {
    float[] weights = {0.1f, 3, 0, 2.5f, 1, 0.7f};
    TorchGenerator g = new TorchGenerator(12);
    assertArrayEquals(new long[] {3, 1, 5, 4}, g.multinomial(weights, 4, false));
    assertArrayEquals(new long[] {3}, g.multinomial(weights, 1, true));
    float[] p = {0, 1, 0.5f, 0.25f, 0.75f, 0.5f};
    float[] coins = new float[6];
    g.bernoulli(MemorySegment.ofArray(coins), MemorySegment.ofArray(p));
    assertArrayEquals(new float[] {0, 1, 1, 0, 1, 0}, coins);
    float[] waits = new float[2];
    g.exponential(MemorySegment.ofArray(waits), 2.5);
    assertArrayEquals(new float[] {0x1.04be9e0000000p-2f, 0x1.5ca0f00000000p-2f}, waits);
  }

  /** Values from PyTorch 2.13; one in four hundred differs in the last bit, none of these. */
  @Test
  void doublesArePyTorchs() {
    double[] numbers = new double[20];
    new TorchGenerator(13).normal64(MemorySegment.ofArray(numbers), 0, 1);
    assertEquals(0x1.9c276a769c5fap0, numbers[0]);
    assertEquals(0x1.087df231351e5p-3, numbers[19]);
    new TorchGenerator(13).normal64(MemorySegment.ofArray(numbers).asSlice(0, 24), 1, 2);
    assertEquals(0x1.e90a7992bc1c2p1, numbers[2]);
  }

  /** Values from PyTorch 2.13; unfused, these three numbers end in another bit. */
  @Test
  void theFusedStreamRoundsOnce() {
    float[] numbers = new float[16];
    new TorchGenerator(21, Stream.SCALAR_FUSED).normal(numbers, 0.5, 3);
    assertEquals(-0x1.b9d06ap-3f, numbers[0]);
    assertEquals(0x1.066562p+0f, numbers[3]);
    assertEquals(0x1.2c0a5ep+0f, numbers[11]);
    new TorchGenerator(21, Stream.SCALAR).normal(numbers, 0.5, 3);
    assertEquals(-0x1.b9d068p-3f, numbers[0]);
    assertEquals(0x1.066564p+0f, numbers[3]);
    assertEquals(0x1.2c0a60p+0f, numbers[11]);
  }

  /** Values from PyTorch 2.13: a million and almost one would round to a million and one. */
  @Test
  void theUpperBoundIsNotReached() {
    float[] numbers = new float[400];
    for (Stream stream : Stream.values()) {
      new TorchGenerator(22, stream).uniform(numbers, 1e6, 1e6 + 1);
      for (int i : new int[] {68, 76, 77, 112, 154, 243, 259, 271, 328, 343, 344, 366, 382}) {
        assertEquals(1e6f, numbers[i], "number " + i);
      }
      assertEquals(1000000.375f, numbers[0]);
      for (float number : numbers) {
        assertTrue(number >= 1e6f && number < 1e6f + 1);
      }
    }
  }

  @Test
  void onlyTheLow32BitsOfTheSeedCount() {
    assertEquals(new TorchGenerator(5).nextInt(), new TorchGenerator((1L << 32) + 5).nextInt());
  }

  @Test
  void wrongCallsAreRefusedBeforeANumberIsDrawn() {
    TorchGenerator g = new TorchGenerator(1);
    byte[] before = g.state();
    MemorySegment odd = MemorySegment.ofArray(new byte[7]);
    MemorySegment fixed = MemorySegment.ofArray(new float[4]).asReadOnly();
    MemorySegment good = MemorySegment.ofArray(new float[4]);
    refused(() -> g.uniform(odd));
    refused(() -> g.normal(fixed));
    refused(() -> g.uniform(good, 1, 0));
    refused(() -> g.uniform(good, 0, Double.NaN));
    refused(() -> g.uniform(good, 0, 1e300));
    refused(() -> g.normal(good, 0, -1));
    refused(() -> g.bernoulli(good, 1.5));
    refused(() -> g.dropout(good, -0.1));
    refused(() -> g.exponential(good, 0));
    refused(() -> g.nextLong(3, 3));
    refused(() -> g.randperm(-1));
    refused(() -> g.multinomial(new float[] {1, Float.NaN}, 1, true));
    refused(() -> g.multinomial(new float[] {0, 0}, 1, true));
    refused(() -> g.multinomial(new float[] {0, 1}, 2, false));
    refused(() -> g.multinomial(new float[] {0, 1}, 0, false));
    refused(() -> g.restore(new byte[3]));
    refused(() -> g.restore(new TorchGenerator(1, Stream.VECTOR).state()));
    assertArrayEquals(before, g.state());
  }

  private static void refused(org.junit.jupiter.api.function.Executable call) {
    String sentence = assertThrows(IllegalArgumentException.class, call).getMessage();
    assertTrue(sentence.endsWith("."), sentence);
  }
}
