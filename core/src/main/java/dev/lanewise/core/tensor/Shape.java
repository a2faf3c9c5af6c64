package dev.lanewise.core.tensor;

import java.util.Arrays;

/** Extents of a tensor's axes, outermost first; row-major. A scalar has no axis. */
public final class Shape {
  private final int[] dims;
  private final long count;

  private Shape(int[] dims) {
    long product = 1;
    for (int dim : dims) {
      if (dim < 0) {
        throw new IllegalArgumentException("negative extent in " + Arrays.toString(dims));
      }
      product = Math.multiplyExact(product, dim);
    }
    this.dims = dims;
    this.count = product;
  }

  /**
   * A shape with these extents.
   *
   * @param dims extents, outermost first
   */
  public static Shape of(int... dims) {
    return new Shape(dims.clone());
  }

  /** Number of axes. */
  public int rank() {
    return dims.length;
  }

  /**
   * Extent of an axis.
   *
   * @param axis number of the axis; negative numbers count from the last, which is -1
   */
  public int dim(int axis) {
    int index = axis < 0 ? axis + dims.length : axis;
    if (index < 0 || index >= dims.length) {
      throw new IllegalArgumentException("no axis " + axis + " in a tensor of shape " + this);
    }
    return dims[index];
  }

  /** Number of elements. */
  public long count() {
    return count;
  }

  /** Extent of the last axis, 1 for a scalar: the columns when the tensor is seen as a matrix. */
  public int cols() {
    return dims.length == 0 ? 1 : dims[dims.length - 1];
  }

  /** Product of all extents but the last: the rows when the tensor is seen as a matrix. */
  public int rows() {
    int product = 1;
    for (int i = 0; i < dims.length - 1; i++) {
      product = Math.multiplyExact(product, dims[i]);
    }
    return product;
  }

  /** This shape with another last extent. */
  public Shape withLast(int extent) {
    int[] copy = dims.clone();
    copy[copy.length - 1] = extent;
    return new Shape(copy);
  }

  /** This shape without its last axis. */
  public Shape dropLast() {
    return new Shape(Arrays.copyOf(dims, dims.length - 1));
  }

  /** This shape with one more axis at the end. */
  public Shape append(int extent) {
    int[] copy = Arrays.copyOf(dims, dims.length + 1);
    copy[dims.length] = extent;
    return new Shape(copy);
  }

  /** Resolves one extent of -1 against a number of elements, and checks the others. */
  static Shape resolve(long count, int... dims) {
    int[] copy = dims.clone();
    int open = -1;
    long known = 1;
    for (int i = 0; i < copy.length; i++) {
      if (copy[i] == -1 && open < 0) {
        open = i;
      } else {
        known *= copy[i];
      }
    }
    if (open >= 0 && known > 0) {
      copy[open] = Math.toIntExact(count / known);
    }
    Shape shape = new Shape(copy);
    if (shape.count != count) {
      throw new IllegalArgumentException(
          "cannot view " + count + " elements as " + Arrays.toString(dims));
    }
    return shape;
  }

  /** Whether {@link #resolve} would give this shape, decided without allocating. */
  boolean resolvesFrom(int[] wanted) {
    if (wanted.length != dims.length) {
      return false;
    }
    for (int i = 0; i < dims.length; i++) {
      if (wanted[i] != dims[i] && wanted[i] != -1) {
        return false;
      }
    }
    return true;
  }

  /** The extents, as a new array. */
  public int[] toArray() {
    return dims.clone();
  }

  @Override
  public boolean equals(Object other) {
    return other instanceof Shape shape && Arrays.equals(dims, shape.dims);
  }

  @Override
  public int hashCode() {
    return Arrays.hashCode(dims);
  }

  @Override
  public String toString() {
    return Arrays.toString(dims);
  }
}
