package dev.lanewise.core.golden;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.backend.CpuBackend;

class CpuGoldenTest extends GoldenValues {
  @Override
  protected Backend open() {
    return new CpuBackend();
  }

  /** Four units in the last place of the largest number. */
  @Override
  protected double tolerance() {
    return 0x1p-21;
  }
}
