package dev.lanewise.core.tensor;

import dev.lanewise.core.backend.Binary;
import dev.lanewise.core.backend.Broadcast;
import dev.lanewise.core.backend.Buffer;
import dev.lanewise.core.backend.DType;
import dev.lanewise.core.backend.Unary;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/** Elementwise functions, matrix products, reductions and views. */
final class MathOps {
  private MathOps() {}

  /** Integers that come from the program in every step. */
  static final class Input extends Op {
    int[] values;
    private final Shape shape;
    private final MemorySegment staging;

    Input(Tape tape, Shape shape) {
      super(tape);
      this.shape = shape;
      this.staging = Arena.ofAuto().allocate(ValueLayout.JAVA_INT, shape.count());
    }

    @Override
    boolean recomputable() {
      return false;
    }

    @Override
    void prepare() {
      out = new Tensor(tape, shape, take(DType.INT32, shape.count()), this);
    }

    @Override
    void forward() {
      MemorySegment.copy(values, 0, staging, ValueLayout.JAVA_INT, 0, values.length);
      backend.upload(staging, out.data());
    }

    @Override
    void backward() {
      throw new AssertionError();
    }
  }

  static final class View extends Op {
    private final Shape shape;

    View(Tape tape, Tensor x, Shape shape) {
      super(tape, x);
      this.shape = shape;
    }

    @Override
    boolean recomputable() {
      return false;
    }

    @Override
    void prepare() {
      out = new Tensor(tape, shape, inputs[0], this);
    }

    @Override
    void forward() {}

    @Override
    void backward() {
      passGradientTo(inputs[0]);
    }
  }

  static final class LastPosition extends Op {
    private final int batch;
    private final int time;
    private final int width;

    LastPosition(Tape tape, Tensor x) {
      super(tape, x);
      if (x.shape().rank() != 3 || x.shape().dim(1) == 0) {
        throw new IllegalArgumentException("the last position of each sequence of " + x.shape());
      }
      batch = x.shape().dim(0);
      time = x.shape().dim(1);
      width = x.shape().dim(2);
    }

    @Override
    void prepare() {
      if (wantsGradient()) {
        throw new IllegalStateException("the last position has no gradient; use withoutGradient");
      }
      result(Shape.of(batch, 1, width));
    }

    @Override
    void forward() {
      for (int i = 0; i < batch; i++) {
        long from = ((i + 1L) * time - 1) * width;
        backend.copy(
            inputs[0].data().slice(from, width), out.data().slice((long) i * width, width));
      }
    }

    @Override
    void backward() {
      throw new AssertionError();
    }
  }

  static final class UnaryOp extends Op {
    final Unary function;

    UnaryOp(Tape tape, Unary function, Tensor x) {
      super(tape, x);
      this.function = function;
    }

    @Override
    boolean cheap() {
      return isGelu();
    }

    private boolean isGelu() {
      return function == Unary.GELU_TANH || function == Unary.GELU_ERF;
    }

    @Override
    void prepare() {
      result(inputs[0].shape());
    }

    @Override
    void forward() {
      backend.unary(function, inputs[0].data(), out.data());
    }

    @Override
    void backward() {
      Tensor x = inputs[0];
      boolean started = x.gradientStarted;
      // GELU's gradient does not read its result, which may have to be computed again.
      Buffer y = isGelu() ? x.data() : out.data();
      backend.unaryBackward(function, x.data(), y, out.gradient, gradientOf(x), started);
    }
  }

  /** {@code factor * x + offset}. */
  static final class Affine extends Op {
    float factor;
    float offset;

    Affine(Tape tape, Tensor x) {
      super(tape, x);
    }

    @Override
    void prepare() {
      result(inputs[0].shape());
    }

    @Override
    void forward() {
      Buffer x = inputs[0].data();
      if (factor != 1) {
        backend.scale(x, factor, out.data(), false);
        x = out.data();
      }
      if (offset != 0 || factor == 1) {
        backend.addScalar(x, offset, out.data());
      }
    }

    @Override
    void backward() {
      Tensor x = inputs[0];
      boolean started = x.gradientStarted;
      backend.scale(out.gradient, factor, gradientOf(x), started);
    }
  }

  static final class BinaryOp extends Op {
    final Binary function;
    private final Broadcast broadcast;
    private final int rows;
    private final int cols;

    BinaryOp(Tape tape, Binary function, Tensor a, Tensor b) {
      super(tape, a, b);
      this.function = function;
      Shape as = a.shape();
      Shape bs = b.shape();
      rows = as.rows();
      cols = as.cols();
      if (as.equals(bs)) {
        broadcast = Broadcast.NONE;
      } else if (bs.count() == 1) {
        broadcast = Broadcast.SCALAR;
      } else if (bs.count() == cols && bs.cols() == cols) {
        broadcast = Broadcast.ROW;
      } else if (bs.count() == rows && bs.cols() == 1) {
        broadcast = Broadcast.COLUMN;
      } else {
        throw new IllegalArgumentException("cannot spread shape " + bs + " over " + as);
      }
    }

    @Override
    void prepare() {
      result(inputs[0].shape());
    }

    @Override
    void forward() {
      backend.binary(
          function, inputs[0].data(), inputs[1].data(), broadcast, out.data(), rows, cols);
    }

    @Override
    void backward() {
      Tensor a = inputs[0];
      Tensor b = inputs[1];
      if (b.requiresGrad()) {
        switch (function) {
          case ADD -> {
            if (broadcast == Broadcast.NONE) {
              boolean started = b.gradientStarted;
              backend.scale(out.gradient, 1, gradientOf(b), started);
            } else {
              reduce(out.gradient, b);
            }
          }
          case SUBTRACT -> {
            Buffer scratch = tape.takeScratch(out.shape().count());
            backend.scale(out.gradient, -1, scratch, false);
            reduce(scratch, b);
            tape.returnScratch(scratch);
          }
          case MULTIPLY -> {
            Buffer scratch = tape.takeScratch(out.shape().count());
            backend.binary(
                Binary.MULTIPLY, out.gradient, a.data(), Broadcast.NONE, scratch, rows, cols);
            reduce(scratch, b);
            tape.returnScratch(scratch);
          }
          case DIVIDE -> {
            Buffer scratch = tape.takeScratch(out.shape().count());
            backend.binary(
                Binary.MULTIPLY, out.gradient, out.data(), Broadcast.NONE, scratch, rows, cols);
            backend.binary(Binary.DIVIDE, scratch, b.data(), broadcast, scratch, rows, cols);
            backend.scale(scratch, -1, scratch, false);
            reduce(scratch, b);
            tape.returnScratch(scratch);
          }
        }
      }
      if (a.requiresGrad()) {
        switch (function) {
          case ADD, SUBTRACT -> passGradientTo(a);
          case MULTIPLY, DIVIDE -> {
            boolean started = a.gradientStarted;
            Buffer target = gradientOf(a);
            Buffer product = started ? tape.takeScratch(out.shape().count()) : target;
            backend.binary(function, out.gradient, b.data(), broadcast, product, rows, cols);
            if (started) {
              backend.scale(product, 1, target, true);
              tape.returnScratch(product);
            }
          }
        }
      }
    }

    /** Adds a gradient of the result's shape to that of the operand that was spread. */
    private void reduce(Buffer full, Tensor operand) {
      boolean started = operand.gradientStarted;
      Buffer target = gradientOf(operand);
      switch (broadcast) {
        case NONE -> backend.scale(full, 1, target, started);
        case ROW -> backend.sumRows(full, target, started, rows, cols);
        case COLUMN -> backend.sumColumns(full, target, started, rows, cols);
        case SCALAR -> backend.sumColumns(full, target, started, 1, Math.multiplyExact(rows, cols));
      }
    }
  }

  static final class Matmul extends Op {
    private final int batch;
    private final int m;
    private final int n;
    private final int k;
    private final boolean shared;

    Matmul(Tape tape, Tensor a, Tensor b) {
      super(tape, a, b);
      Shape as = a.shape();
      Shape bs = b.shape();
      boolean fits =
          as.rank() >= 1
              && bs.rank() >= 2
              && as.cols() == bs.dim(-2)
              && (bs.rank() == 2 || as.rank() == bs.rank());
      for (int i = 0; fits && bs.rank() > 2 && i < bs.rank() - 2; i++) {
        fits = as.dim(i) == bs.dim(i);
      }
      if (!fits) {
        throw new IllegalArgumentException("matrix product of shapes " + as + " and " + bs);
      }
      shared = bs.rank() == 2;
      k = as.cols();
      n = bs.cols();
      m = shared ? as.rows() : as.dim(-2);
      batch = shared ? 1 : as.rows() / m;
    }

    @Override
    void prepare() {
      result(inputs[0].shape().withLast(n));
    }

    @Override
    void forward() {
      backend.matmul(
          inputs[0].data(),
          false,
          inputs[1].data(),
          false,
          false,
          out.data(),
          false,
          batch,
          m,
          n,
          k);
    }

    @Override
    void backward() {
      Tensor a = inputs[0];
      Tensor b = inputs[1];
      if (a.requiresGrad()) {
        boolean started = a.gradientStarted;
        backend.matmul(
            out.gradient, false, b.data(), true, false, gradientOf(a), started, batch, m, k, n);
      }
      if (b.requiresGrad()) {
        boolean started = b.gradientStarted;
        backend.matmul(
            a.data(), true, out.gradient, false, false, gradientOf(b), started, batch, k, n, m);
      }
    }
  }

  static final class Transpose extends Op {
    private final int batch;
    private final int rows;
    private final int cols;

    Transpose(Tape tape, Tensor x) {
      super(tape, x);
      Shape shape = x.shape();
      if (shape.rank() < 2) {
        throw new IllegalArgumentException("transpose of shape " + shape);
      }
      rows = shape.dim(-2);
      cols = shape.cols();
      batch = rows == 0 ? 0 : shape.rows() / rows;
    }

    @Override
    void prepare() {
      int[] dims = inputs[0].shape().toArray();
      dims[dims.length - 1] = rows;
      dims[dims.length - 2] = cols;
      result(Shape.of(dims));
    }

    @Override
    void forward() {
      backend.transpose(inputs[0].data(), out.data(), batch, rows, cols);
    }

    @Override
    void backward() {
      Tensor x = inputs[0];
      boolean started = x.gradientStarted;
      Buffer target = gradientOf(x);
      Buffer back = started ? tape.takeScratch(x.shape().count()) : target;
      backend.transpose(out.gradient, back, batch, cols, rows);
      if (started) {
        backend.scale(back, 1, target, true);
        tape.returnScratch(back);
      }
    }
  }

  enum Reduction {
    ALL,
    MEAN,
    LAST
  }

  static final class Reduce extends Op {
    final Reduction reduction;
    private final int rows;
    private final int cols;

    Reduce(Tape tape, Reduction reduction, Tensor x) {
      super(tape, x);
      this.reduction = reduction;
      boolean last = reduction == Reduction.LAST;
      rows = last ? x.shape().rows() : 1;
      cols = last ? x.shape().cols() : Math.toIntExact(x.shape().count());
    }

    @Override
    void prepare() {
      result(reduction == Reduction.LAST ? inputs[0].shape().withLast(1) : Shape.of());
    }

    @Override
    void forward() {
      backend.sumColumns(inputs[0].data(), out.data(), false, rows, cols);
      if (reduction == Reduction.MEAN) {
        backend.scale(out.data(), 1f / cols, out.data(), false);
      }
    }

    @Override
    void backward() {
      Tensor x = inputs[0];
      boolean started = x.gradientStarted;
      Buffer target = gradientOf(x);
      if (!started) {
        backend.fill(target, 0);
      }
      Buffer upstream = out.gradient;
      if (reduction == Reduction.MEAN) {
        upstream = tape.takeScratch(1);
        backend.scale(out.gradient, 1f / cols, upstream, false);
      }
      backend.binary(
          Binary.ADD,
          target,
          upstream,
          reduction == Reduction.LAST ? Broadcast.COLUMN : Broadcast.SCALAR,
          target,
          rows,
          cols);
      if (reduction == Reduction.MEAN) {
        tape.returnScratch(upstream);
      }
    }
  }

  static final class Softmax extends Op {
    final boolean logarithm;
    private final int rows;
    private final int cols;

    Softmax(Tape tape, boolean logarithm, Tensor x) {
      super(tape, x);
      this.logarithm = logarithm;
      rows = x.shape().rows();
      cols = x.shape().cols();
    }

    @Override
    void prepare() {
      result(inputs[0].shape());
    }

    @Override
    void forward() {
      if (logarithm) {
        backend.logSoftmax(inputs[0].data(), out.data(), rows, cols);
      } else {
        backend.softmax(inputs[0].data(), out.data(), rows, cols);
      }
    }

    @Override
    void backward() {
      Tensor x = inputs[0];
      boolean started = x.gradientStarted;
      Buffer target = gradientOf(x);
      if (logarithm) {
        backend.logSoftmaxBackward(out.data(), out.gradient, target, started, rows, cols);
      } else {
        backend.softmaxBackward(out.data(), out.gradient, target, started, rows, cols);
      }
    }
  }

  static final class Argmax extends Op {
    private final int rows;
    private final int cols;

    Argmax(Tape tape, Tensor x) {
      super(tape, x);
      rows = x.shape().rows();
      cols = x.shape().cols();
      if (cols == 0) {
        throw new IllegalArgumentException("argmax over an empty axis of " + x.shape());
      }
    }

    @Override
    boolean differentiable() {
      return false;
    }

    @Override
    boolean recomputable() {
      return false;
    }

    @Override
    void prepare() {
      out = new Tensor(tape, inputs[0].shape().dropLast(), take(DType.INT32, rows), this);
    }

    @Override
    void forward() {
      backend.argmax(inputs[0].data(), out.data(), rows, cols);
    }

    @Override
    void backward() {
      throw new AssertionError();
    }
  }

  static final class Gather extends Op {
    private final int rows;
    private final int cols;

    Gather(Tape tape, Tensor x, Tensor index) {
      super(tape, x, index);
      rows = x.shape().rows();
      cols = x.shape().cols();
      LayerOps.requireIntegers("indices", index);
      if (index.shape().count() != rows) {
        throw new IllegalArgumentException(
            "gather from " + x.shape() + " by indices " + index.shape());
      }
    }

    @Override
    void prepare() {
      result(inputs[1].shape());
    }

    @Override
    void forward() {
      backend.gather(inputs[0].data(), inputs[1].data(), out.data(), rows, cols);
    }

    @Override
    void backward() {
      Tensor x = inputs[0];
      boolean started = x.gradientStarted;
      Buffer target = gradientOf(x);
      if (!started) {
        backend.fill(target, 0);
      }
      backend.gatherBackward(inputs[1].data(), out.gradient, target, rows, cols);
    }
  }
}
