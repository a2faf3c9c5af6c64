package dev.lanewise.core.random;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.core.Fixtures;
import dev.lanewise.core.format.SafeTensors;
import dev.lanewise.core.random.TorchGenerator.Stream;
import java.lang.foreign.MemorySegment;
import java.util.function.BiConsumer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

class TorchGeneratorTest {
  private static final long[] SEEDS = {0, 1, 42, 123, 538, 1337, 2147483647};

  @Test
  void engineGivesTheReferenceOutputs() {
    TorchGenerator generator = new TorchGenerator(5489);
    assertEquals(3499211612L, Integer.toUnsignedLong(generator.nextInt()));
    for (int i = 2; i < 10000; i++) {
      generator.nextInt();
    }
    assertEquals(4123659995L, Integer.toUnsignedLong(generator.nextInt()));
  }

  @ParameterizedTest
  @EnumSource
  void everyFloatFixtureIsEqualToTheBit(Stream stream) {
    check(stream, "rand", (g, x) -> g.uniform(x));
    check(stream, "randn", (g, x) -> g.normal(x));
    for (int n : new int[] {1, 2, 3, 15, 16, 17, 20, 31, 33, 100}) {
      check(stream, "randn_" + n, (g, x) -> g.normal(x));
    }
    double bound = 1 / Math.sqrt(768);
    check(stream, "uniform_lin768", (g, x) -> g.uniform(x, -bound, bound));
    check(stream, "bernoulli_0.3", (g, x) -> g.bernoulli(x, 0.3));
    check(stream, "dropout_0.1_ones", (g, x) -> g.dropout(x, 0.1));
    check(stream, "exponential", (g, x) -> g.exponential(x, 1));
    check(stream, "normal_0.5_0.02", (g, x) -> g.normal(x, 0.5, 0.02));
    check(stream, "emb_30x7", (g, x) -> g.normal(x));
    check(
        stream,
        "mix_randn3_randn20_randn3_rand3_randn1",
        (g, x) -> {
          g.normal(x.asSlice(0, 12));
          g.normal(x.asSlice(12, 80));
          g.normal(x.asSlice(92, 12));
          g.uniform(x.asSlice(104, 12));
          g.normal(x.asSlice(116, 4));
        });
  }

  @ParameterizedTest
  @EnumSource
  void integersDoublesAndChoicesAreEqualToTheBit(Stream stream) {
    SafeTensors fixture = fixture(stream);
    for (long seed : SEEDS) {
      String s = "s" + seed + ".";
      long[] drawn = new long[1000];
      new TorchGenerator(seed, stream).randint(drawn, 0, 50257);
      assertArrayEquals(fixture.tensor(s + "randint_50257").toLongs(), drawn);
      new TorchGenerator(seed, stream).randint(MemorySegment.ofArray(drawn), 0, 10);
      assertArrayEquals(fixture.tensor(s + "randint_10").toLongs(), drawn);
      int[] few = new int[200];
      new TorchGenerator(seed, stream).randint(few, -7, 9);
      assertArrayEquals(fixture.tensor(s + "randint_m7_9").toLongs(), widen(few));
      for (int n : new int[] {7, 1000}) {
        int[] order = new TorchGenerator(seed, stream).randperm(n);
        assertArrayEquals(fixture.tensor(s + "randperm_" + n).toLongs(), widen(order));
      }
      double[] doubles = new double[200];
      new TorchGenerator(seed, stream).uniform64(MemorySegment.ofArray(doubles));
      assertArrayEquals(fixture.tensor(s + "rand_f64").toDoubles(), doubles);
      float[] weights = new float[27];
      for (int i = 0; i < weights.length; i++) {
        weights[i] = i + 1;
      }
      assertArrayEquals(
          fixture.tensor(s + "multinomial_repl").toLongs(),
          new TorchGenerator(seed, stream).multinomial(weights, 200, true));
    }
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

  private static void check(
      Stream stream, String name, BiConsumer<TorchGenerator, MemorySegment> fill) {
    SafeTensors fixture = fixture(stream);
    for (long seed : SEEDS) {
      String full = "s" + seed + "." + name;
      double[] expected = fixture.tensor(full).toDoubles();
      float[] actual = new float[expected.length];
      fill.accept(new TorchGenerator(seed, stream), MemorySegment.ofArray(actual));
      for (int i = 0; i < expected.length; i++) {
        assertEquals((float) expected[i], actual[i], full + "[" + i + "]");
      }
    }
  }

  private static SafeTensors fixture(Stream stream) {
    return Fixtures.load(stream == Stream.SCALAR ? "rng_default" : "rng_avx2");
  }

  private static long[] widen(int[] numbers) {
    return java.util.Arrays.stream(numbers).asLongStream().toArray();
  }
}
