package dev.lanewise.bench.peers;

import dev.lanewise.bench.contest.Case;
import dev.lanewise.bench.contest.Inputs;
import java.io.IOException;
import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.lang.reflect.Method;

/**
 * Speaks for matrix products written in Java: netlib's VectorBLAS, EJML, ND4J, and three plain
 * loops. The libraries are reached by reflection, so that nothing here needs them.
 */
public final class JavaBlasServer implements PeerServer.Library {
  private final String name;

  private JavaBlasServer(String name) {
    this.name = name;
  }

  /**
   * Serves a library.
   *
   * @param args the peer's name: {@code vectorblas}, {@code ejml}, {@code nd4j} or {@code scalar}
   * @throws IOException if the conversation breaks off
   */
  public static void main(String[] args) throws IOException {
    PeerServer.serve(new JavaBlasServer(args[0]));
  }

  @Override
  public String describe() {
    return switch (name) {
      case "vectorblas" -> "dev.ludovic.netlib VectorBLAS, one thread";
      case "ejml" -> "EJML FMatrixRMaj mult_reorder";
      case "nd4j" -> "ND4J mmuli, native backend";
      default -> "three loops over float arrays, one thread";
    };
  }

  @Override
  public PeerServer.Job open(Case task, int threads) {
    boolean plain =
        task.operation().equals("gemm")
            && !task.isBfloat16()
            && task.number("batch", 1) == 1
            && task.word("layout", "NN").equals("NN");
    // Beyond 2048 x 2048 x 2048 an operation takes them tens of seconds
    boolean fits = (double) task.number("m", 1) * task.number("n", 0) * task.number("k", 0) < 1e10;
    if (!plain || !fits) {
      return null;
    }
    // A library without threads would be compared with two of ours
    if (threads > 1 && (name.equals("vectorblas") || name.equals("scalar"))) {
      return null;
    }
    int m = task.number("m");
    int n = task.number("n");
    int k = task.number("k");
    float[] a = Inputs.array(m * k, 1);
    float[] b = Inputs.array(k * n, 2);
    float[] c = new float[m * n];
    try {
      return switch (name) {
        case "vectorblas" -> vectorBlas(m, n, k, a, b, c);
        case "ejml" -> ejml(m, n, k, a, b, c, threads);
        case "nd4j" -> nd4j(m, n, k, a, b);
        default -> job(() -> loops(m, n, k, a, b, c), c);
      };
    } catch (ReflectiveOperationException e) {
      throw new IllegalStateException(e);
    }
  }

  private static PeerServer.Job job(Runnable run, float[] c) {
    return new PeerServer.Job() {
      @Override
      public void run() {
        run.run();
      }

      @Override
      public double at(long position) {
        return c[(int) position];
      }
    };
  }

  private static void loops(int m, int n, int k, float[] a, float[] b, float[] c) {
    for (int i = 0; i < m; i++) {
      java.util.Arrays.fill(c, i * n, (i + 1) * n, 0);
      for (int p = 0; p < k; p++) {
        float x = a[i * k + p];
        for (int j = 0; j < n; j++) {
          c[i * n + j] += x * b[p * n + j];
        }
      }
    }
  }

  /** Column-major: the row-major product is the product of the transposes in the other order. */
  private static PeerServer.Job vectorBlas(int m, int n, int k, float[] a, float[] b, float[] c)
      throws ReflectiveOperationException {
    Method instance = Class.forName("dev.ludovic.netlib.blas.VectorBLAS").getMethod("getInstance");
    instance.setAccessible(true);
    Object blas = instance.invoke(null);
    MethodHandle sgemm =
        MethodHandles.publicLookup()
            .findVirtual(
                Class.forName("dev.ludovic.netlib.blas.BLAS"),
                "sgemm",
                MethodType.methodType(
                    void.class,
                    String.class,
                    String.class,
                    int.class,
                    int.class,
                    int.class,
                    float.class,
                    float[].class,
                    int.class,
                    float[].class,
                    int.class,
                    float.class,
                    float[].class,
                    int.class))
            .bindTo(blas);
    return job(
        () ->
            invoke(
                () -> {
                  sgemm.invokeExact("N", "N", n, m, k, 1f, b, n, a, k, 0f, c, n);
                }),
        c);
  }

  private static PeerServer.Job ejml(
      int m, int n, int k, float[] a, float[] b, float[] c, int threads)
      throws ReflectiveOperationException {
    Class<?> matrix = Class.forName("org.ejml.data.FMatrixRMaj");
    Class<?> row = Class.forName("org.ejml.data.FMatrix1Row");
    if (threads > 1) {
      System.setProperty(
          "java.util.concurrent.ForkJoinPool.common.parallelism", Integer.toString(threads));
    }
    Class<?> mult =
        Class.forName(
            threads > 1
                ? "org.ejml.dense.row.mult.MatrixMatrixMult_MT_FDRM"
                : "org.ejml.dense.row.mult.MatrixMatrixMult_FDRM");
    MethodHandle multiply =
        MethodHandles.publicLookup()
            .findStatic(mult, "mult_reorder", MethodType.methodType(void.class, row, row, row))
            .asType(MethodType.methodType(void.class, Object.class, Object.class, Object.class));
    Object x = matrix(matrix, m, k, a);
    Object y = matrix(matrix, k, n, b);
    Object z = matrix(matrix, m, n, c);
    return job(
        () ->
            invoke(
                () -> {
                  multiply.invokeExact(x, y, z);
                }),
        c);
  }

  private static Object matrix(Class<?> type, int rows, int cols, float[] data)
      throws ReflectiveOperationException {
    Object matrix = type.getConstructor().newInstance();
    row(type, matrix, "data", data);
    row(type, matrix, "numRows", rows);
    row(type, matrix, "numCols", cols);
    return matrix;
  }

  private static void row(Class<?> type, Object matrix, String field, Object value)
      throws ReflectiveOperationException {
    type.getField(field).set(matrix, value);
  }

  private static PeerServer.Job nd4j(int m, int n, int k, float[] a, float[] b)
      throws ReflectiveOperationException {
    Class<?> nd4j = Class.forName("org.nd4j.linalg.factory.Nd4j");
    Class<?> array = Class.forName("org.nd4j.linalg.api.ndarray.INDArray");
    Method create = nd4j.getMethod("create", float[].class, int[].class, char.class);
    Object x = create.invoke(null, a, new int[] {m, k}, 'c');
    Object y = create.invoke(null, b, new int[] {k, n}, 'c');
    Object z = create.invoke(null, new float[m * n], new int[] {m, n}, 'c');
    MethodHandle multiply =
        MethodHandles.publicLookup()
            .findVirtual(array, "mmuli", MethodType.methodType(array, array, array))
            .asType(MethodType.methodType(Object.class, Object.class, Object.class, Object.class));
    Method get = array.getMethod("getFloat", long.class, long.class);
    return new PeerServer.Job() {
      @Override
      public void run() {
        invoke(
            () -> {
              Object result = multiply.invokeExact(x, y, z);
              if (result == null) {
                throw new IllegalStateException("mmuli returns nothing");
              }
            });
      }

      @Override
      public double at(long position) {
        try {
          return (float) get.invoke(z, position / n, position % n);
        } catch (ReflectiveOperationException e) {
          throw new IllegalStateException(e);
        }
      }
    };
  }

  private interface Call {
    void run() throws Throwable;
  }

  private static void invoke(Call call) {
    try {
      call.run();
    } catch (RuntimeException | Error e) {
      throw e;
    } catch (Throwable e) {
      throw new IllegalStateException(e);
    }
  }
}
