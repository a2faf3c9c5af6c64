package tutorial;

import dev.lanewise.simd.Attention;
import dev.lanewise.simd.Epilogue;
import dev.lanewise.simd.Gemm;
import dev.lanewise.simd.Heads;
import dev.lanewise.simd.Machine;
import dev.lanewise.simd.Matrix;
import dev.lanewise.simd.NativeMemory;
import dev.lanewise.simd.Similarity;
import dev.lanewise.simd.Softmax;
import dev.lanewise.simd.Workers;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/** The snippets of the package's page: a user's code, which sees what users see. */
public final class Tutorial {
  private Tutorial() {}

  /** A product of arrays. */
  public static float[] arrays() {
    // @start region="arrays"
    float[] a = {1, 2, 3, 4, 5, 6};
    float[] b = {7, 8, 9, 10, 11, 12};
    float[] c = new float[4];
    Gemm.multiply(
        new Matrix(MemorySegment.ofArray(a), 2, 3),
        new Matrix(MemorySegment.ofArray(b), 3, 2),
        new Matrix(MemorySegment.ofArray(c), 2, 2)); // 58 64 139 154
    // @end
    return c;
  }

  /** A layer of a network, by what is kept for long. */
  public static float layer() {
    // @start region="memory"
    try (Arena arena = Arena.ofShared()) {
      Matrix x = new Matrix(NativeMemory.allocate(256 * 768 * 4L, arena), 256, 768);
      Matrix w = new Matrix(NativeMemory.allocate(3072 * 768 * 4L, arena), 3072, 768);
      Matrix y = new Matrix(NativeMemory.allocate(256 * 3072 * 4L, arena), 256, 3072);
      MemorySegment bias = arena.allocate(3072 * 4L, 64);
      bias.setAtIndex(ValueLayout.JAVA_FLOAT, 1, 0.5f);
      Epilogue gelu = new Epilogue().bias(bias, 0).activation(Epilogue.Activation.GELU_TANH);
      Gemm.multiply(x, w.transposed(), y, gelu); // y = gelu(x w' + bias)
      return y.segment()
          .getAtIndex(
              ValueLayout.JAVA_FLOAT,
              1); // @replace regex="return y" replacement="float element = y"
    }
    // @end
  }

  /** Parts of a matrix, and a kernel in place. */
  public static float views() {
    MemorySegment memory = MemorySegment.ofArray(new float[12 * 10]);
    // @start region="views"
    Matrix all = new Matrix(memory, 12, 10);
    Matrix block = all.rows(2, 6).cols(3, 8); // 4 x 5, nothing is copied
    Softmax.forward(block, block); // in place; what is around it stays
    // @end
    return memory.getAtIndex(ValueLayout.JAVA_FLOAT, 23);
  }

  /** Attention of one sequence over queries, keys and values that lie side by side. */
  public static float attention() {
    // @start region="attention"
    int tokens = 64;
    int heads = 4;
    int size = 32;
    int width = heads * size;
    MemorySegment qkv = Arena.ofAuto().allocate(3L * tokens * width * 4, 64);
    MemorySegment out = Arena.ofAuto().allocate(1L * tokens * width * 4, 64);
    Attention.forward(
        Heads.ofRows(qkv, 0, 1, tokens, heads, size, 3 * width),
        Heads.ofRows(qkv, width, 1, tokens, heads, size, 3 * width),
        Heads.ofRows(qkv, 2 * width, 1, tokens, heads, size, 3 * width),
        Heads.ofRows(out, 0, 1, tokens, heads, size, width),
        null,
        0,
        Attention.defaultScale(size),
        true, // causal
        null);
    // @end
    return out.getAtIndex(ValueLayout.JAVA_FLOAT, 0);
  }

  /** The nearest of some vectors. */
  public static int search() {
    float[] embeddings = new float[100 * 8];
    for (int i = 0; i < embeddings.length; i++) {
      embeddings[i] = i % 83 - 41;
    }
    float[] query = java.util.Arrays.copyOfRange(embeddings, 37 * 8, 38 * 8);
    // @start region="search"
    float likeness = Similarity.cosine(query, query); // 1
    Matrix rows = new Matrix(MemorySegment.ofArray(embeddings), 100, 8);
    int[] places = new int[3];
    float[] scores = new float[3];
    Similarity.search(
        Similarity.Metric.COSINE,
        MemorySegment.ofArray(query),
        0,
        rows,
        3,
        MemorySegment.ofArray(places),
        0,
        MemorySegment.ofArray(scores),
        0);
    // @end
    return Math.abs(likeness - scores[0]) < 1e-6 ? places[0] : -1;
  }

  /** Threads, and what the process has chosen. */
  public static String threads() {
    int before = Workers.threads();
    // @start region="threads"
    Workers.setThreads(4); // or -Dlanewise.threads=4
    System.getLogger("app").log(System.Logger.Level.DEBUG, Machine.describe());
    for (String sentence : Machine.obstacles()) {
      System.getLogger("app").log(System.Logger.Level.WARNING, sentence);
    }
    // @end
    Workers.setThreads(before);
    return Machine.describe();
  }

  /** What a wrong call gives. */
  public static String mistake() {
    Matrix a = new Matrix(MemorySegment.ofArray(new float[6]), 2, 3);
    Matrix c = new Matrix(MemorySegment.ofArray(new float[4]), 2, 2);
    // @start region="mistake"
    try {
      Gemm.multiply(a, a, c); // 2 x 3 times 2 x 3
    } catch (IllegalArgumentException e) {
      return e.getMessage(); // a is 2 x 3, b is 2 x 3, c is 2 x 2: a's columns must be b's rows ...
    }
    // @end
    return "";
  }
}
