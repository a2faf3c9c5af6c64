package dev.lanewise.simd;

import java.lang.foreign.MemorySegment;

/**
 * What happens to the elements of a product while they are still in cache:
 *
 * <pre>
 *   v = alpha · A·B + beta · C
 *   v = v + bias[j]
 *   preActivation[i, j] = v          if one is kept
 *   v = gelu(v)                      if asked for
 *   v = v · gelu'(gradientOf[i, j])  if asked for
 *   C[i, j] = v + residual[i, j]
 * </pre>
 *
 * <p>Each part is optional. The object is set up once and may serve any number of products of the
 * same shape, also at the same time; a setter must not be called while a product uses it. The
 * matrices have C's shape and must not share memory with C.
 */
public final class Epilogue {
  /** An activation function. */
  public enum Activation {
    /** The identity. */
    NONE,
    /** GELU by its tanh approximation, as in GPT-2. */
    GELU_TANH,
    /** GELU by the error function. */
    GELU_ERF
  }

  MemorySegment bias;
  long biasOffset;
  Activation activation = Activation.NONE;
  Matrix preActivation;
  Matrix gradientOf;
  Activation gradientActivation = Activation.NONE;
  Matrix residual;

  /** An epilogue that does nothing yet. */
  public Epilogue() {}

  /**
   * Adds a row to every row of the product.
   *
   * @param segment memory of the bias, one float for each column; null for none
   * @param offset first element, counted in floats
   * @return this
   */
  public Epilogue bias(MemorySegment segment, long offset) {
    bias = segment;
    biasOffset = offset;
    return this;
  }

  /**
   * Applies an activation function.
   *
   * @param function the function
   * @return this
   */
  public Epilogue activation(Activation function) {
    activation = function;
    return this;
  }

  /**
   * Keeps what enters the activation function, which the backward pass needs.
   *
   * @param matrix where to write it, of C's shape; null to keep nothing
   * @return this
   */
  public Epilogue preActivation(Matrix matrix) {
    preActivation = matrix;
    return this;
  }

  /**
   * Multiplies by the derivative of an activation function: the step backward through it.
   *
   * @param function the function that was applied forward; {@link Activation#NONE} for no step
   * @param matrix what entered it, of C's shape; may be null with {@link Activation#NONE}
   * @return this
   */
  public Epilogue gradient(Activation function, Matrix matrix) {
    gradientActivation = function;
    gradientOf = matrix;
    return this;
  }

  /**
   * Adds a matrix at the end.
   *
   * @param matrix what is added, of C's shape; null for nothing
   * @return this
   */
  public Epilogue residual(Matrix matrix) {
    residual = matrix;
    return this;
  }

  boolean isEmpty() {
    return bias == null
        && activation == Activation.NONE
        && preActivation == null
        && gradientActivation == Activation.NONE
        && residual == null;
  }

  /** Whether it adds a bias, perhaps a residual too, and does nothing else. */
  boolean isSum() {
    return bias != null
        && preActivation == null
        && activation == Activation.NONE
        && gradientActivation == Activation.NONE;
  }

  /** Checks the operands against a product's shape and memory, before it writes anything. */
  void check(int m, int n, MemorySegment c, long cOffset, long ldc) {
    check(m, n, ElementType.FLOAT32, c, cOffset, ldc);
  }

  /** As {@link #check} for a product that is stored as any type. */
  void check(int m, int n, ElementType cType, MemorySegment c, long cOffset, long ldc) {
    if (bias != null) {
      Checks.readable("bias", bias, biasOffset, n);
      Checks.disjoint(
          "c",
          c,
          cOffset,
          m,
          n,
          ldc,
          cType,
          "bias",
          bias,
          biasOffset,
          1,
          n,
          n,
          ElementType.FLOAT32);
    }
    if (gradientActivation != Activation.NONE && gradientOf == null) {
      throw new IllegalArgumentException("the gradient of " + gradientActivation + " of no matrix");
    }
    checkMatrix("residual", residual, m, n, cType, c, cOffset, ldc);
    checkMatrix("gradient operand", gradientOf, m, n, cType, c, cOffset, ldc);
    checkMatrix("pre-activation", preActivation, m, n, cType, c, cOffset, ldc);
    if (preActivation != null) {
      Checks.writable("pre-activation", preActivation);
      Matrix p = preActivation;
      long floats = Checks.extent(p);
      if (bias != null) {
        Checks.disjoint(
            "pre-activation", p.segment(), p.offset(), floats, "bias", bias, biasOffset, n);
      }
      if (residual != null) {
        Checks.disjoint("pre-activation", p, "residual", residual);
      }
      if (gradientOf != null) {
        Checks.disjoint("pre-activation", p, "gradient operand", gradientOf);
      }
    }
  }

  private static void checkMatrix(
      String name,
      Matrix matrix,
      int m,
      int n,
      ElementType cType,
      MemorySegment c,
      long cOffset,
      long ldc) {
    if (matrix == null) {
      return;
    }
    Checks.readable(name, matrix);
    if (matrix.rows() != m || matrix.cols() != n || matrix.isTransposed()) {
      throw new IllegalArgumentException(
          name
              + " is "
              + matrix.rows()
              + " x "
              + matrix.cols()
              + (matrix.isTransposed() ? " (transposed)" : "")
              + " but the product is "
              + m
              + " x "
              + n);
    }
    Checks.disjoint(
        "c",
        c,
        cOffset,
        m,
        n,
        ldc,
        cType,
        name,
        matrix.segment(),
        matrix.offset(),
        m,
        n,
        matrix.stride(),
        matrix.type());
  }

  /** A stand-in whose operands are native copies; the pre-activation is copied back in the end. */
  Epilogue staged(Staging staging, int n) {
    Epilogue e = new Epilogue();
    e.bias = staging.input(bias, biasOffset * 4, n * 4L);
    e.activation = activation;
    e.gradientActivation = gradientActivation;
    e.gradientOf = stagedInput(staging, gradientOf);
    e.residual = stagedInput(staging, residual);
    if (preActivation != null) {
      Matrix p = preActivation;
      e.preActivation =
          new Matrix(
              staging.output(p.segment(), p.offset() * 4, p.rows(), p.cols() * 4L, p.stride() * 4),
              p.rows(),
              p.cols(),
              p.stride());
    }
    return e;
  }

  private static Matrix stagedInput(Staging staging, Matrix m) {
    return m == null
        ? null
        : new Matrix(
            staging.input(m.segment(), m.offset() * 4, Checks.extent(m) * 4),
            m.rows(),
            m.cols(),
            m.stride());
  }

  boolean needsStaging() {
    return Staging.needed(bias)
        || needsStaging(preActivation)
        || needsStaging(gradientOf)
        || needsStaging(residual);
  }

  private static boolean needsStaging(Matrix matrix) {
    return matrix != null && Staging.needed(matrix.segment());
  }
}
