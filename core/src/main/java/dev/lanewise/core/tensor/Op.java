package dev.lanewise.core.tensor;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.backend.Buffer;
import dev.lanewise.core.backend.DType;

/**
 * One recorded operation: its inputs, its result, what it keeps for backward. An operation object
 * is made when a trace first meets it and runs again in every later step.
 */
abstract class Op {
  final Tape tape;
  final Backend backend;
  final Tensor[] inputs;
  Tensor out;
  Workspace.Mark mark;
  GradientPlan plan;
  int consumers;

  Op(Tape tape, Tensor... inputs) {
    this.tape = tape;
    this.backend = tape.backend();
    this.inputs = inputs;
  }

  /** Whether this operation needs a backward step now. */
  final boolean wantsGradient() {
    if (!tape.recording() || !differentiable()) {
      return false;
    }
    for (Tensor input : inputs) {
      if (input != null && input.requiresGrad()) {
        return true;
      }
    }
    return false;
  }

  boolean differentiable() {
    return true;
  }

  /** Allocates the result and what backward needs; called once, when the operation is recorded. */
  abstract void prepare();

  abstract void forward();

  /** Reads {@code out}'s gradient and adds to those of the inputs that want one. */
  abstract void backward();

  final Tensor result(Shape shape) {
    out = new Tensor(tape, shape, take(shape.count()), this);
    return out;
  }

  /** A loss, which is float32 on every device. */
  final Tensor lossResult() {
    out = new Tensor(tape, Shape.of(), take(DType.FLOAT32, 1), this);
    return out;
  }

  final Buffer take(long length) {
    return take(backend.activationType(), length);
  }

  final Buffer take(DType type, long length) {
    return tape.workspace().take(type, length);
  }

  /** Buffer of a tensor that may be absent. */
  static Buffer data(Tensor tensor) {
    return tensor == null ? null : tensor.data();
  }

  /**
   * Buffer that the gradient of an input goes to, or null when none is wanted. Whether something is
   * in it already is {@link Tensor#gradientStarted}, to be asked before.
   */
  final Buffer gradientOf(Tensor input) {
    if (input == null || !input.requiresGrad()) {
      return null;
    }
    Buffer gradient = tape.gradientBuffer(input);
    input.gradientStarted = true;
    return gradient;
  }

  /** Adds the result's gradient to an input of the same size, without a copy where possible. */
  final void passGradientTo(Tensor input) {
    if (input != null && input.requiresGrad()) {
      tape.passGradient(out, input);
    }
  }
}
