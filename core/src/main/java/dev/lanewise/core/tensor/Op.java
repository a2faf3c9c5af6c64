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

  /** Place in the trace. */
  int number;

  /** Whether it was recorded in a block that is computed again. */
  boolean inBlock;

  /** Whose memory the result lies in, if it is not kept. */
  SharedMemory.Part part;

  /** Whether a result that is not kept is there now. */
  boolean fresh;

  /** Place in the trace of the operation on whose account the result is kept after all. */
  int keptSince;

  private SharedMemory.Part leftPart;
  private Buffer leftPlace;
  private long version;

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

  /** Whether {@link #recompute} gives the result once more. */
  boolean recomputable() {
    return true;
  }

  /** Whether {@link #recompute} is one pass over memory. */
  boolean cheap() {
    return false;
  }

  /** Whether {@link #recompute} reads the inputs, not only what this operation keeps. */
  boolean recomputesFromInputs() {
    return true;
  }

  /** Allocates the result and what backward needs; called once, when the operation is recorded. */
  abstract void prepare();

  abstract void forward();

  /** Computes the result again, with what {@link #forward} drew at random. */
  void recompute() {
    forward();
  }

  final void run() {
    if (part != null) {
      part.enter();
      fresh = true;
      version = inputVersion();
    }
    forward();
  }

  /** A number that changes when what the inputs hold is overwritten other than by operations. */
  private long inputVersion() {
    long sum = tape.updates();
    for (Tensor input : inputs) {
      sum += input == null ? 0 : input.version();
    }
    return sum;
  }

  /** Sees to it that a result that is not kept is there. */
  final void refresh() {
    if (part == null || fresh) {
      return;
    }
    if (version != inputVersion()) {
      throw new IllegalStateException(
          "this result of shape "
              + out.shape()
              + " is not kept but computed again when it is read, and parameters or inputs have"
              + " changed since; read it before that, or call"
              + " Tape.setRecompute(Recompute.NOTHING)");
    }
    part.enter();
    fresh = true;
    recompute();
  }

  /** Returns kept results when backward has gone past this operation and nothing reads them. */
  void giveBackKept(Workspace workspace) {
    if (part == null && keptSince == 0 && out.owner() == out && out.shape().rank() > 0) {
      workspace.giveBack(out.data());
    }
  }

  /**
   * Moves the result to memory of its own.
   *
   * @param since place in the trace of the operation that needs this
   */
  final void keep(int since) {
    refresh();
    leftPart = part;
    leftPlace = out.data();
    keptSince = since;
    Buffer own = tape.workspace().take(leftPlace.type(), leftPlace.length());
    backend.copy(leftPlace, own);
    part = null;
    out.move(own);
  }

  /** Undoes {@link #keep}. */
  final void letGo() {
    part = leftPart;
    out.move(leftPlace);
    keptSince = 0;
    fresh = false;
  }

  /** Reads {@code out}'s gradient and adds to those of the inputs that want one. */
  abstract void backward();

  final Tensor result(Shape shape) {
    out = new Tensor(tape, shape, takeResult(shape.count()), this);
    return out;
  }

  /** Memory like the result's: kept, or shared with other parts of the trace. */
  final Buffer takeResult(long length) {
    return part == null ? take(length) : part.take(backend.activationType(), length, number);
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

  /** Buffer that the gradient of an input is added to, or null when none is wanted. */
  final Buffer zeroedGradient(Tensor input) {
    boolean started = input != null && input.gradientStarted;
    Buffer gradient = gradientOf(input);
    if (gradient != null && !started) {
      backend.fill(gradient, 0);
    }
    return gradient;
  }

  /** Whether the gradients of a layer's parameters hold something, none or all of them. */
  final boolean started(Tensor weight, Tensor bias) {
    boolean weightStarted = weight.requiresGrad() && weight.gradientStarted;
    boolean biasStarted = bias != null && bias.requiresGrad() && bias.gradientStarted;
    if (weightStarted && !biasStarted) {
      zeroedGradient(bias);
    } else if (biasStarted && !weightStarted) {
      zeroedGradient(weight);
    }
    return weightStarted || biasStarted;
  }

  /** Adds the result's gradient to an input of the same size, without a copy where possible. */
  final void passGradientTo(Tensor input) {
    if (input != null && input.requiresGrad()) {
      tape.passGradient(out, input);
    }
  }
}
