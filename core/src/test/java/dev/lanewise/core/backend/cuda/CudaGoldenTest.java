package dev.lanewise.core.backend.cuda;

import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.backend.Precision;
import dev.lanewise.core.golden.GoldenValues;
import java.io.IOException;
import java.util.Locale;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;

/**
 * Every golden value on the CUDA backend, whose kernels the stand-in runs on the host. With the
 * system property {@code lanewise.gpu}, fp32 or tf32, it is the machine's GPU.
 */
class CudaGoldenTest extends GoldenValues {
  private static final String GPU = System.getProperty("lanewise.gpu");
  private static final Precision PRECISION =
      GPU == null ? Precision.FP32 : Precision.valueOf(GPU.toUpperCase(Locale.ROOT));

  @BeforeAll
  static void useStandIn() {
    if (GPU == null) {
      StandIn.use();
      StandIn.reset();
    }
  }

  @AfterAll
  static void forgetStandIn() {
    if (GPU == null) {
      StandIn.forget();
    }
  }

  @Override
  protected Backend open() {
    return CudaBackend.open(PRECISION);
  }

  @Override
  protected void makemore() throws IOException {
    assumeTrue(GPU != null, "5000 steps of a perceptron take minutes on the stand-in");
    super.makemore();
  }

  /** Operands of tf32 have eleven bits; a GPU's functions err by a few units in the last place. */
  @Override
  protected double tolerance() {
    return switch (PRECISION) {
      case TF32 -> 0x1p-9;
      case FP32 -> GPU == null ? 0x1p-21 : 0x1p-19;
      case BF16 ->
          throw new IllegalArgumentException("golden values are for fp32 and tf32, not " + GPU);
    };
  }
}
