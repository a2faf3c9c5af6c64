package dev.lanewise.simd;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/**
 * Copies blocks of a matrix into panels, the order in which {@link MicroKernel} reads them: a panel
 * holds {@code width} rows of A or columns of B as {@code depth} groups of {@code width} floats.
 * What the matrix lacks to a full panel is filled with zeros. Offsets and strides are in bytes.
 */
final class Packing {
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;

  private Packing() {}

  /** Packs where the groups lie along stored rows: A as it is, or B transposed. */
  static void transpose(
      MemorySegment from,
      long at,
      long stride,
      int lines,
      int depth,
      float scale,
      MemorySegment to,
      long toAt,
      int width) {
    for (int k = 0; k < depth; k++) {
      for (int i = 0; i < width; i++) {
        float x = i < lines ? scale * from.get(FLOAT, at + i * stride + 4L * k) : 0;
        to.set(FLOAT, toAt + 4L * (k * (long) width + i), x);
      }
    }
  }

  /** Packs where each group lies in one stored row: B as it is, or A transposed. */
  static void copy(
      MemorySegment from,
      long at,
      long stride,
      int lines,
      int depth,
      float scale,
      MemorySegment to,
      long toAt,
      int width) {
    for (int k = 0; k < depth; k++) {
      for (int i = 0; i < width; i++) {
        float x = i < lines ? scale * from.get(FLOAT, at + k * stride + 4L * i) : 0;
        to.set(FLOAT, toAt + 4L * (k * (long) width + i), x);
      }
    }
  }

  /** Adds a tile of products to {@code beta} times a part of C, which is not read if that is 0. */
  static void merge(
      MemorySegment tile,
      long tileStride,
      MemorySegment c,
      long cAt,
      long cStride,
      int rows,
      int cols,
      float beta) {
    for (int i = 0; i < rows; i++) {
      for (int j = 0; j < cols; j++) {
        long at = cAt + i * cStride + 4L * j;
        float product = tile.get(FLOAT, i * tileStride + 4L * j);
        c.set(FLOAT, at, beta == 0 ? product : Math.fma(c.get(FLOAT, at), beta, product));
      }
    }
  }
}
