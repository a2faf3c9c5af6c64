package dev.lanewise.bench.peers;

import dev.lanewise.bench.contest.Case;
import dev.lanewise.bench.contest.Inputs;
import java.io.IOException;
import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;

/**
 * Speaks for the likeness of vectors in Lucene and in JVector, with their code for the Vector API.
 * They know vectors of their own, one by one, and use one thread. Reached by reflection, so that
 * nothing here needs them.
 */
public final class SimilarityServer implements PeerServer.Library {
  private final boolean isLucene;

  private SimilarityServer(String name) {
    isLucene = name.equals("lucene");
  }

  /**
   * Serves a library.
   *
   * @param args the peer's name: {@code lucene} or {@code jvector}
   * @throws IOException if the conversation breaks off
   */
  public static void main(String[] args) throws IOException {
    // JVector prefers code in C where the processor has it.
    System.setProperty("jvector.vectorization_provider", "panama");
    PeerServer.serve(new SimilarityServer(args[0]));
  }

  @Override
  public String describe() {
    return isLucene ? "Lucene VectorUtil, one thread" : "JVector VectorUtilSupport, one thread";
  }

  @Override
  public PeerServer.Job open(Case task, int threads) {
    String operation = task.operation();
    boolean isKnown = operation.endsWith("Rows") || operation.endsWith("Pairs");
    // A library without threads would be compared with two of ours
    if (!isKnown || threads > 1) {
      return null;
    }
    String metric = operation.replaceFirst("Rows|Pairs", "");
    int rows = task.number("rows");
    int cols = task.number("cols");
    try {
      Object[] vectors = new Object[rows];
      MethodHandle function = isLucene ? lucene(metric) : jvector(metric);
      MethodHandle vector = isLucene ? null : vector();
      for (int i = 0; i < rows; i++) {
        float[] array = new float[cols];
        for (int j = 0; j < cols; j++) {
          array[j] = Inputs.value((long) i * cols + j, 1);
        }
        vectors[i] = wrapped(vector, array);
      }
      return job(function, wrapped(vector, Inputs.array(cols, 2)), vectors);
    } catch (RuntimeException | Error e) {
      throw e;
    } catch (Throwable e) {
      throw new IllegalStateException(e);
    }
  }

  private static Object wrapped(MethodHandle vector, float[] array) throws Throwable {
    return vector == null ? array : vector.invoke(array);
  }

  private static PeerServer.Job job(MethodHandle function, Object query, Object[] vectors) {
    float[] results = new float[vectors.length];
    return new PeerServer.Job() {
      @Override
      public void run() {
        try {
          for (int i = 0; i < results.length; i++) {
            results[i] = (float) function.invokeExact(query, vectors[i]);
          }
        } catch (RuntimeException | Error e) {
          throw e;
        } catch (Throwable e) {
          throw new IllegalStateException(e);
        }
      }

      @Override
      public double at(long position) {
        return results[(int) position];
      }
    };
  }

  private static MethodHandle lucene(String metric) throws ReflectiveOperationException {
    String name =
        switch (metric) {
          case "dot" -> "dotProduct";
          case "cosine" -> "cosine";
          default -> "squareDistance";
        };
    return general(
        MethodHandles.publicLookup()
            .findStatic(
                Class.forName("org.apache.lucene.util.VectorUtil"),
                name,
                MethodType.methodType(float.class, float[].class, float[].class)));
  }

  private static MethodHandle jvector(String metric) throws ReflectiveOperationException {
    String name =
        switch (metric) {
          case "dot" -> "dotProduct";
          case "cosine" -> "cosine";
          default -> "squareDistance";
        };
    Class<?> type = Class.forName("io.github.jbellis.jvector.vector.types.VectorFloat");
    Class<?> support = Class.forName("io.github.jbellis.jvector.vector.VectorUtilSupport");
    return general(
        MethodHandles.publicLookup()
            .findVirtual(support, name, MethodType.methodType(float.class, type, type))
            .bindTo(provided("getVectorUtilSupport")));
  }

  private static MethodHandle general(MethodHandle function) {
    return function.asType(MethodType.methodType(float.class, Object.class, Object.class));
  }

  private static MethodHandle vector() throws ReflectiveOperationException {
    Class<?> type = Class.forName("io.github.jbellis.jvector.vector.types.VectorFloat");
    Class<?> support = Class.forName("io.github.jbellis.jvector.vector.types.VectorTypeSupport");
    return MethodHandles.publicLookup()
        .findVirtual(support, "createFloatVector", MethodType.methodType(type, Object.class))
        .bindTo(provided("getVectorTypeSupport"));
  }

  private static Object provided(String getter) throws ReflectiveOperationException {
    Class<?> type = Class.forName("io.github.jbellis.jvector.vector.VectorizationProvider");
    return type.getMethod(getter).invoke(type.getMethod("getInstance").invoke(null));
  }
}
