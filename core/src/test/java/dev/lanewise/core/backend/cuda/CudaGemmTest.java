package dev.lanewise.core.backend.cuda;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.core.backend.Precision;
import dev.lanewise.simd.Gemm;
import dev.lanewise.simd.Matrix;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.List;
import java.util.SplittableRandom;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

class CudaGemmTest {
  private final SplittableRandom random = new SplittableRandom(7);

  @BeforeAll
  static void useStandIn() {
    StandIn.use();
    StandIn.reset();
  }

  @AfterAll
  static void forgetStandIn() {
    StandIn.forget();
  }

  private Matrix matrix(Arena arena, int rows, int cols, int more, boolean transposed) {
    int storedRows = transposed ? cols : rows;
    int storedCols = transposed ? rows : cols;
    long stride = storedCols + more;
    MemorySegment segment = arena.allocate(4 * (3 + storedRows * stride), 4);
    for (long i = 0; i < segment.byteSize() / 4; i++) {
      segment.setAtIndex(ValueLayout.JAVA_FLOAT, i, (float) random.nextGaussian());
    }
    return new Matrix(segment, 3, rows, cols, stride, transposed);
  }

  private static Matrix copy(Arena arena, Matrix m) {
    MemorySegment segment = arena.allocate(m.segment().byteSize(), 4).copyFrom(m.segment());
    return new Matrix(segment, m.offset(), m.rows(), m.cols(), m.stride(), m.isTransposed());
  }

  private static double error(Matrix a, Matrix b) {
    double difference = 0;
    double size = 0;
    for (long i = 0; i < b.segment().byteSize() / 4; i++) {
      double y = b.segment().getAtIndex(ValueLayout.JAVA_FLOAT, i);
      difference += Math.pow(a.segment().getAtIndex(ValueLayout.JAVA_FLOAT, i) - y, 2);
      size += y * y;
    }
    return Math.sqrt(difference / size);
  }

  @ParameterizedTest
  @EnumSource(Precision.class)
  void agreesWithTheCpuInEveryOrientation(Precision precision) {
    double allowed = precision == Precision.BF16 ? 1e-2 : 1e-5;
    try (CudaGemm gemm = CudaGemm.open(precision);
        Arena arena = Arena.ofShared()) {
      for (int flags = 0; flags < 16; flags++) {
        int more = flags / 8 * 5;
        Matrix a = matrix(arena, 7, 19, more, (flags & 1) != 0);
        Matrix b = matrix(arena, 19, 13, more, (flags & 2) != 0);
        Matrix c = matrix(arena, 7, 13, more, (flags & 4) != 0);
        Matrix expected = copy(arena, c);
        gemm.multiply(0.5f, a, b, 2, c);
        Gemm.multiply(0.5f, a, b, 2, expected);
        assertTrue(error(c, expected) < allowed, "flags " + flags + ": " + error(c, expected));
        gemm.multiply(a, b, c);
        Gemm.multiply(a, b, expected);
        assertTrue(error(c, expected) < allowed, "flags " + flags + ": " + error(c, expected));
      }
    }
  }

  @ParameterizedTest
  @EnumSource(Precision.class)
  void batchesShareOneRightHandSideOrHaveTheirOwn(Precision precision) {
    double allowed = precision == Precision.BF16 ? 1e-2 : 1e-5;
    try (CudaGemm gemm = CudaGemm.open(precision);
        Arena arena = Arena.ofShared()) {
      List<Matrix> a = List.of(matrix(arena, 3, 8, 0, false), matrix(arena, 3, 8, 2, false));
      List<Matrix> b = List.of(matrix(arena, 8, 5, 0, true), matrix(arena, 8, 5, 1, true));
      for (List<Matrix> right : List.of(b, b.subList(0, 1))) {
        List<Matrix> c = List.of(matrix(arena, 3, 5, 0, false), matrix(arena, 3, 5, 4, false));
        List<Matrix> expected = List.of(copy(arena, c.get(0)), copy(arena, c.get(1)));
        gemm.batched(1, a, right, 1, c);
        for (int i = 0; i < 2; i++) {
          Gemm.multiply(1, a.get(i), right.get(right.size() - 1 < i ? 0 : i), 1, expected.get(i));
          assertTrue(error(c.get(i), expected.get(i)) < allowed);
        }
      }
      IllegalArgumentException e =
          assertThrows(
              IllegalArgumentException.class, () -> gemm.multiply(a.get(0), a.get(1), b.get(0)));
      assertEquals("3 x 8 times 3 x 8 does not give 8 x 5", e.getMessage());
    }
  }
}
