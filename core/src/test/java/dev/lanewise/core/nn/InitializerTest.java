package dev.lanewise.core.nn;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.lanewise.core.nn.Initializer.Fan;
import dev.lanewise.core.random.TorchGenerator;
import dev.lanewise.core.random.TorchGenerator.Stream;
import java.lang.foreign.MemorySegment;
import org.junit.jupiter.api.Test;

/** First, second and last number of each scheme as PyTorch 2.13 gives them after seed 2024. */
class InitializerTest {
  @Test
  void numbersArePyTorchsScalar() {
    TorchGenerator g = new TorchGenerator(2024, Stream.SCALAR);
    float[] weight = new float[29 * 37];
    float[] bias = new float[29];
    Initializer.linearWeight(g, segment(weight), 37);
    Initializer.linearBias(g, segment(bias), 37);
    assertNumbers(weight, 0x1.55b56p-7f, 0x1.be2324p-4f, -0x1.2ed3aap-3f);
    assertNumbers(bias, 0x1.b24fep-7f, 0x1.dfd414p-4f, -0x1.64fafp-6f);
    float[] embedding = new float[31 * 11];
    g.manualSeed(2024);
    Initializer.embedding(g, segment(embedding));
    assertNumbers(embedding, -0x1.39ea92p0f, -0x1.313a5ep-7f, 0x1.f43794p-5f);
    g.manualSeed(2024);
    Initializer.kaimingUniform(g, segment(weight), Fan.OUT, Initializer.RELU_GAIN, 29, 37);
    assertNumbers(weight, 0x1.d8b82p-6f, 0x1.3497ccp-2f, -0x1.a2ee2ep-2f);
    g.manualSeed(2024);
    Initializer.kaimingNormal(g, segment(weight), Fan.IN, Initializer.TANH_GAIN, 29, 37);
    assertNumbers(weight, -0x1.580cd6p-2f, -0x1.4e872p-9f, 0x1.9aa19cp-3f);
    float[] kernel = new float[5 * 7 * 3];
    g.manualSeed(2024);
    Initializer.xavierUniform(g, segment(kernel), 1.7, 5, 7, 3);
    assertNumbers(kernel, 0x1.68a3p-5f, 0x1.d6d9a4p-2f, -0x1.fa5144p-2f);
    g.manualSeed(2024);
    Initializer.xavierNormal(g, segment(weight), 1, 29, 37);
    assertNumbers(weight, -0x1.b52aap-3f, -0x1.a91128p-10f, 0x1.04e244p-3f);
    g.manualSeed(2024);
    Initializer.gpt2(g, segment(weight));
    assertNumbers(weight, -0x1.91d016p-6f, -0x1.86b11cp-13f, 0x1.df9284p-7f);
    Initializer.gpt2Residual(g, segment(weight), 12);
    assertNumbers(weight, 0x1.336466p-10f, -0x1.67a55cp-8f, 0x1.a9512p-11f);
  }

  @Test
  void numbersArePyTorchsVector() {
    TorchGenerator g = new TorchGenerator(2024, Stream.VECTOR);
    float[] weight = new float[29 * 37];
    float[] bias = new float[29];
    Initializer.linearWeight(g, segment(weight), 37);
    Initializer.linearBias(g, segment(bias), 37);
    assertNumbers(weight, 0x1.55b55cp-7f, 0x1.be2324p-4f, -0x1.2ed3aap-3f);
    assertNumbers(bias, 0x1.b24fdap-7f, 0x1.dfd41p-4f, -0x1.64faeep-6f);
    float[] embedding = new float[31 * 11];
    g.manualSeed(2024);
    Initializer.embedding(g, segment(embedding));
    assertNumbers(embedding, -0x1.39ea92p0f, -0x1.313a5ep-7f, 0x1.f437p-5f);
    g.manualSeed(2024);
    Initializer.kaimingUniform(g, segment(weight), Fan.OUT, Initializer.RELU_GAIN, 29, 37);
    assertNumbers(weight, 0x1.d8b81ap-6f, 0x1.3497ccp-2f, -0x1.a2ee2ep-2f);
    g.manualSeed(2024);
    Initializer.kaimingNormal(g, segment(weight), Fan.IN, Initializer.TANH_GAIN, 29, 37);
    assertNumbers(weight, -0x1.580cd6p-2f, -0x1.4e872p-9f, 0x1.9aa198p-3f);
    float[] kernel = new float[5 * 7 * 3];
    g.manualSeed(2024);
    Initializer.xavierUniform(g, segment(kernel), 1.7, 5, 7, 3);
    assertNumbers(kernel, 0x1.68a2fcp-5f, 0x1.d6d9a2p-2f, -0x1.fa5144p-2f);
    g.manualSeed(2024);
    Initializer.xavierNormal(g, segment(weight), 1, 29, 37);
    assertNumbers(weight, -0x1.b52aap-3f, -0x1.a91128p-10f, 0x1.04e242p-3f);
    g.manualSeed(2024);
    Initializer.gpt2(g, segment(weight));
    assertNumbers(weight, -0x1.91d016p-6f, -0x1.86b11cp-13f, 0x1.df928p-7f);
    Initializer.gpt2Residual(g, segment(weight), 12);
    assertNumbers(weight, 0x1.336462p-10f, -0x1.67a55cp-8f, 0x1.a95118p-11f);
  }

  @Test
  void wrongShapesAreRefused() {
    TorchGenerator g = new TorchGenerator(0);
    MemorySegment six = segment(new float[6]);
    refused(() -> Initializer.xavierNormal(g, six, 1, 6));
    refused(() -> Initializer.xavierNormal(g, six, 1, 2, 4));
    refused(() -> Initializer.kaimingNormal(g, six, Fan.IN, 1, 0, 3));
    refused(() -> Initializer.linearWeight(g, six, 0));
    refused(() -> Initializer.linearBias(g, six, -1));
    refused(() -> Initializer.gpt2Residual(g, six, 0));
    assertEquals(new TorchGenerator(0).nextInt(), g.nextInt());
  }

  private static void refused(org.junit.jupiter.api.function.Executable call) {
    assertThrows(IllegalArgumentException.class, call);
  }

  private static void assertNumbers(float[] actual, float first, float second, float last) {
    assertEquals(first, actual[0]);
    assertEquals(second, actual[1]);
    assertEquals(last, actual[actual.length - 1]);
  }

  private static MemorySegment segment(float[] numbers) {
    return MemorySegment.ofArray(numbers);
  }
}
