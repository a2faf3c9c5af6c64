package dev.lanewise.core.tensor;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.backend.Buffer;
import dev.lanewise.core.backend.DType;
import dev.lanewise.core.random.TorchGenerator;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.List;

/**
 * Runs operations on a device and records them, so that {@link #backward} can go back through them.
 *
 * <p>A tape is a trace that is written once and then followed: {@link #reset} goes back to its
 * start, and as long as a step makes the same calls on the same tensors as the step before, every
 * call finds its operation, its result and its memory in place and nothing is allocated, on or off
 * the heap. A call that differs cuts the trace there and writes on. Therefore a tensor that a step
 * computes holds that step's values only until {@link #reset} and the call that computes it anew;
 * read what you want to keep.
 *
 * <p>A tape is used by one thread.
 */
public final class Tape implements AutoCloseable {
  private final Backend backend;
  private final Trace recorded;
  private final Trace unrecorded;
  private final List<ParameterBlock> parameters = new ArrayList<>();
  private final List<Buffer> owned = new ArrayList<>();
  private Trace current;
  private Recompute recompute;
  private long updates;
  private boolean gradientsOverActivations;
  private boolean gradientsMade;
  private float lossScale = 1;
  private int headRows;
  private GradientPlan planning;
  private GradientPlan following;
  private Tensor root;
  private final MemorySegment scalar = Arena.ofAuto().allocate(Float.BYTES, 64);

  /** The operations of one way through the program, in order. */
  private static final class Trace {
    final List<Op> ops = new ArrayList<>();
    final Workspace workspace;
    final List<SharedMemory> shared = new ArrayList<>();
    final SharedMemory blocks;
    int cursor;
    int cuts;
    int blocksBegun;
    boolean inBlock;
    SharedMemory.Part block;

    Trace(Workspace workspace) {
      this.workspace = workspace;
      this.blocks = new SharedMemory(workspace);
    }

    void reset() {
      cursor = 0;
      blocksBegun = 0;
      inBlock = false;
    }

    /** Forgets all operations from a place on. */
    void cut(int from) {
      if (from >= ops.size()) {
        return;
      }
      workspace.release(ops.get(from).mark);
      List<Op> rest = ops.subList(from, ops.size());
      for (Op dropped : rest) {
        for (Tensor input : dropped.inputs) {
          if (input != null && input.op() != null) {
            input.op().consumers--;
          }
        }
      }
      rest.clear();
      for (Op op : ops) {
        if (op.keptSince > from) {
          op.letGo();
        }
      }
      blocks.cut(from);
      for (SharedMemory memory : shared) {
        memory.cut(from);
      }
      cuts++;
    }

    /** Decides whether an operation's result is kept, and sees that its inputs do not collide. */
    void place(Op op, boolean cheapAgain) {
      op.number = ops.size();
      op.inBlock = inBlock && op.recomputable();
      if (op.inBlock) {
        if (block == null) {
          block = new SharedMemory.Part(blocks);
        }
        block.cut(op.number);
        op.part = block;
      } else if (cheapAgain && op.cheap()) {
        op.part = cheapPart(op);
      }
      for (int i = 0; i < op.inputs.length; i++) {
        SharedMemory.Part part = partOf(op.inputs[i]);
        if (part == null) {
          continue;
        }
        boolean collides = op.inBlock && part != op.part;
        for (int j = 0; j < i && !collides; j++) {
          SharedMemory.Part other = partOf(op.inputs[j]);
          collides = other != null && other != part && other.memory == part.memory;
        }
        if (collides) {
          if (part.memory == blocks) {
            throw new IllegalArgumentException(
                "a result from inside a block that is computed again is used with or in another"
                    + " block; only what comes after endBlock is kept");
          }
          op.inputs[i].owner().op().keep(op.number);
        }
      }
      if (op.part != null) {
        op.part.add(op);
      }
    }

    /** A part of the first memory that no input lies in; null if the result has to be kept. */
    private SharedMemory.Part cheapPart(Op op) {
      int memory = 0;
      for (Tensor input : op.inputs) {
        SharedMemory.Part part = partOf(input);
        if (part != null) {
          if (op.recomputesFromInputs()) {
            return null;
          }
          memory = Math.max(memory, shared.indexOf(part.memory) + 1);
        }
      }
      if (memory == shared.size()) {
        shared.add(new SharedMemory(workspace));
      }
      return new SharedMemory.Part(shared.get(memory));
    }

    private static SharedMemory.Part partOf(Tensor input) {
      Op op = input == null ? null : input.owner().op();
      return op == null ? null : op.part;
    }
  }

  /**
   * A tape on a device.
   *
   * @param backend the device; it outlives the tape
   */
  public Tape(Backend backend) {
    this(backend, false);
  }

  /**
   * A tape on a device.
   *
   * @param backend the device; it outlives the tape
   * @param overlaid whether operations without recording use the memory of those with it. That
   *     saves memory where the two never mix: a trainer evaluates between steps only
   */
  public Tape(Backend backend, boolean overlaid) {
    this.backend = backend;
    Workspace workspace = new Workspace(backend, 1 << 20);
    this.recorded = new Trace(workspace);
    this.unrecorded =
        new Trace(overlaid ? new Workspace(workspace) : new Workspace(backend, 1 << 20));
    this.current = recorded;
    this.recompute = backend.keepsActivations() ? Recompute.NOTHING : Recompute.CHEAP;
  }

  /**
   * Sets what is not kept for backward; a new tape keeps what the device prefers to keep.
   *
   * @param what what is computed again
   */
  public void setRecompute(Recompute what) {
    if (!what.equals(recompute)) {
      recorded.cut(0);
      unrecorded.cut(0);
      reset();
      recompute = what;
    }
  }

  /**
   * Lets gradients of parameters lie where activations were that backward is done with. They are
   * then there from backward until the next forward pass, not longer, and values that a step
   * computed, other than single numbers, are not to be read after its backward. For steps of one
   * backward pass, of whole models; to be called before an optimiser is made.
   */
  public void layGradientsOverActivations() {
    gradientsOverActivations = true;
  }

  boolean gradientsOverActivations() {
    return gradientsOverActivations;
  }

  /** Whether the gradient of a parameter has a place of its own in its block. */
  public boolean gradientsInBlocks() {
    return !gradientsOverActivations;
  }

  /**
   * Begins a block of a model. If {@link Recompute#blocks} covers it, results of operations until
   * {@link #endBlock} are not kept for backward but computed again, from what came into the block
   * and with the same random numbers. They share memory with those of other blocks, so nothing
   * after this block may use them but the operation that makes the block's result, which comes
   * right after {@code endBlock}.
   */
  public void beginBlock() {
    current.inBlock = current.blocksBegun++ < recompute.blocks();
    current.block = null;
  }

  /** Ends what {@link #beginBlock} began; the next operation's result is the block's. */
  public void endBlock() {
    current.inBlock = false;
  }

  /**
   * Makes room for activations in one piece, when it is known how much a step takes.
   *
   * @param bytes what {@link #activationBytes} will be
   */
  public void reserveActivations(long bytes) {
    recorded.workspace.reserve(bytes);
  }

  /** The device. */
  public Backend backend() {
    return backend;
  }

  // Tensors that are not computed
  // ------------------------------------------------------------------

  /** A tensor of zeros that lives as long as the tape. */
  public Tensor zeros(int... dims) {
    Shape shape = Shape.of(dims);
    return leaf(shape, own(backend.allocate(DType.FLOAT32, shape.count())));
  }

  /** A tensor with these values, row by row. */
  public Tensor tensor(float[] values, int... dims) {
    Tensor tensor = zeros(dims);
    tensor.set(values);
    return tensor;
  }

  /** A tensor of standard normal numbers, as {@code torch.randn} draws them. */
  public Tensor randn(TorchGenerator generator, int... dims) {
    return zeros(dims).set(generator::normal);
  }

  /** Integers, for instance token ids, that live as long as the tape. */
  public Tensor ids(int[] values, int... dims) {
    Tensor tensor = ids(Shape.of(dims));
    tensor.set(values);
    return tensor;
  }

  /** Room for integers; {@link Tensor#set(int[])} or {@link Tensor#upload} fills it. */
  public Tensor ids(Shape shape) {
    return leaf(shape, own(backend.allocate(DType.INT32, shape.count())));
  }

  /** Integers of one step: taken from the trace, so that a loop may call it in every step. */
  public Tensor stepIds(int[] values, int... dims) {
    MathOps.Input op = at(MathOps.Input.class);
    if (op == null
        || op.out.shape().count() != values.length
        || !op.out.shape().resolvesFrom(dims)) {
      op = add(new MathOps.Input(this, Shape.resolve(values.length, dims)));
    }
    op.values = values;
    return run(op);
  }

  /**
   * A parameter, zero at first: backward adds to its gradient. Parameters lie one after the other
   * in a few {@link ParameterBlock}s.
   */
  public Tensor parameter(int... dims) {
    Shape shape = Shape.of(dims);
    ParameterBlock last = parameters.isEmpty() ? null : parameters.getLast();
    if (last == null || !last.hasRoomFor(shape.count())) {
      reserveParameters(Math.max(shape.count(), 1 << 16));
      last = parameters.getLast();
    }
    return last.add(shape);
  }

  /**
   * Makes room for parameters in one block, so that an optimiser finds them in one piece.
   *
   * @param count number of elements, each parameter rounded up to {@link ParameterBlock#ALIGNMENT}
   */
  public void reserveParameters(long count) {
    parameters.add(new ParameterBlock(this, own(backend.allocate(DType.FLOAT32, count))));
  }

  /** All parameters, in the order in which they were made. */
  public List<ParameterBlock> parameters() {
    return List.copyOf(parameters);
  }

  /** A tensor of activations, zero, that lives as long as the tape: a cache, for instance. */
  public Tensor activations(int... dims) {
    Shape shape = Shape.of(dims);
    return leaf(shape, own(backend.allocate(backend.activationType(), shape.count())));
  }

  /**
   * A tensor over memory that the caller keeps.
   *
   * @param shape its shape
   * @param data its elements
   */
  public Tensor over(Shape shape, Buffer data) {
    return leaf(shape, data);
  }

  private Tensor leaf(Shape shape, Buffer data) {
    return new Tensor(this, shape, data, null);
  }

  void addParameter(Tensor tensor) {
    parameters.add(new ParameterBlock(this, tensor));
  }

  /** Bytes of gradients of parameters that do not lie over activations. */
  public long gradientBytes() {
    long bytes = 0;
    for (ParameterBlock block : parameters) {
      bytes += block.gradientBytes();
    }
    return bytes;
  }

  Buffer newGradient(long count) {
    return own(backend.allocate(DType.FLOAT32, count));
  }

  private Buffer own(Buffer buffer) {
    owned.add(buffer);
    return buffer;
  }

  // The trace
  // --------------------------------------------------------------------------------------

  /** Goes back to the start of the trace; call it at the start of every step. */
  public void reset() {
    recorded.reset();
    unrecorded.reset();
  }

  /** Notes that an optimiser has changed parameters. */
  public void parametersUpdated() {
    updates++;
  }

  long updates() {
    return updates;
  }

  /** Whether operations are recorded for {@link #backward}. */
  public boolean recording() {
    return current == recorded;
  }

  /** Runs something without recording it for backward, as {@code torch.no_grad()} does. */
  public void withoutGradient(Runnable body) {
    Trace before = current;
    current = unrecorded;
    try {
      body.run();
    } finally {
      current = before;
    }
  }

  /** Switches recording on or off; {@link #withoutGradient} is the safer form. */
  public void setRecording(boolean on) {
    current = on ? recorded : unrecorded;
  }

  /**
   * Sets the gradients of all parameters to zero. What backward then computes overwrites them;
   * those that it does not reach are cleared when they are next read.
   */
  public void zeroGrad() {
    gradientsMade = false;
    for (int i = 0; i < parameters.size(); i++) {
      parameters.get(i).zeroGradient();
    }
  }

  /** Clears gradients that are zero since {@link #zeroGrad}, before an optimiser reads them. */
  public void settleGradients() {
    for (int i = 0; i < parameters.size(); i++) {
      parameters.get(i).settle();
    }
  }

  /**
   * Sets what losses are multiplied with in backward, 1 / steps when gradients of several steps are
   * accumulated. It must be set before the forward pass, since fused losses make their gradient
   * there.
   */
  public void setLossScale(float scale) {
    lossScale = scale;
  }

  float lossScale() {
    return lossScale;
  }

  /**
   * Sets how many rows of logits {@link Tensor#linearCrossEntropy} holds at a time at most. Few
   * take less memory and more time, and decide in which order the head's gradient is summed.
   *
   * @param most number of rows; 0 for what the device likes best
   */
  public void setHeadRows(int most) {
    headRows = most;
  }

  int headRows() {
    return headRows;
  }

  /** Most bytes that activations and their gradients have taken so far. */
  public long activationBytes() {
    return recorded.workspace.sharesWith(unrecorded.workspace)
        ? Math.max(recorded.workspace.peak(), unrecorded.workspace.peak())
        : recorded.workspace.peak() + unrecorded.workspace.peak();
  }

  Workspace workspace() {
    return current.workspace;
  }

  /** The operation that the trace has here, if it is of this kind and still fits. */
  <T extends Op> T at(Class<T> kind) {
    if (current.cursor >= current.ops.size()) {
      return null;
    }
    Op op = current.ops.get(current.cursor);
    if (op.getClass() != kind
        || op.out.requiresGrad() != op.wantsGradient()
        || op.inBlock != (current.inBlock && op.recomputable())) {
      return null;
    }
    return kind.cast(op);
  }

  <T extends Op> T at(Class<T> kind, Tensor a) {
    T op = at(kind);
    return op != null && op.inputs[0] == a ? op : null;
  }

  <T extends Op> T at(Class<T> kind, Tensor a, Tensor b) {
    T op = at(kind, a);
    return op != null && op.inputs[1] == b ? op : null;
  }

  <T extends Op> T at(Class<T> kind, Tensor a, Tensor b, Tensor c) {
    T op = at(kind, a, b);
    return op != null && op.inputs[2] == c ? op : null;
  }

  <T extends Op> T at(Class<T> kind, Tensor a, Tensor b, Tensor c, Tensor d) {
    T op = at(kind, a, b, c);
    return op != null && op.inputs[3] == d ? op : null;
  }

  /** Cuts the trace here and records a new operation. */
  <T extends Op> T add(T op) {
    for (Tensor input : op.inputs) {
      if (input != null && input.tape() != this) {
        throw new IllegalArgumentException("a tensor of another tape was used");
      }
    }
    Trace trace = current;
    trace.cut(trace.cursor);
    trace.place(op, recompute.cheap());
    op.mark = trace.workspace.mark();
    op.prepare();
    if (op.wantsGradient()) {
      op.out.markComputedWithGradient();
    }
    for (Tensor input : op.inputs) {
      if (input != null && input.op() != null) {
        input.op().consumers++;
      }
    }
    trace.ops.add(op);
    return op;
  }

  Tensor run(Op op) {
    if (op.inBlock) {
      current.block = op.part;
    }
    op.run();
    current.cursor++;
    return op.out;
  }

  // Backward
  // ---------------------------------------------------------------------------------------

  /**
   * Computes the gradients of everything that a loss was computed from. Gradients of leaves are
   * added to; those of computed tensors are overwritten, and kept only where {@link
   * Tensor#retainGrad} was called.
   *
   * @param loss a single number, computed in this step
   */
  void backward(Tensor loss) {
    Op last = loss.op();
    if (last == null || !loss.requiresGrad() || loss.shape().count() != 1) {
      throw new IllegalArgumentException(
          "backward needs a single number that was computed from tensors with gradients; this one"
              + " has shape "
              + loss.shape());
    }
    if (gradientsOverActivations && gradientsMade) {
      throw new IllegalStateException(
          "gradients that lie over activations are of one backward pass; call zeroGrad before the"
              + " next forward pass");
    }
    gradientsMade = true;
    Trace trace = recorded;
    int index = trace.cursor - 1;
    while (index >= 0 && trace.ops.get(index) != last) {
      index--;
    }
    if (index < 0) {
      throw new IllegalArgumentException("this loss was not computed in this step");
    }
    for (int i = 0; i <= index; i++) {
      Tensor out = trace.ops.get(i).out;
      out.gradientStarted = false;
      out.gradient = null;
    }
    Trace before = current;
    current = trace;
    GradientPlan plan = last.plan;
    boolean known = plan != null && plan.cuts == trace.cuts;
    root = loss;
    if (known) {
      plan.assign();
      following = plan;
    } else {
      plan = new GradientPlan(trace.cuts);
      planning = plan;
    }
    try {
      backend.fill(gradientBuffer(loss), lossScale);
      loss.gradientStarted = true;
      for (int i = index; i >= 0; i--) {
        Op op = trace.ops.get(i);
        Tensor out = op.out;
        if (out.requiresGrad() && out.gradientStarted) {
          op.backward();
          if (!known && !out.gradientPassedOn && !out.retainsGrad()) {
            trace.workspace.giveBack(out.gradient);
          }
          if (!known && gradientsOverActivations) {
            op.giveBackKept(trace.workspace);
          }
        }
      }
    } finally {
      if (!known && gradientsOverActivations) {
        trace.workspace.forgetReturned();
      }
      planning = null;
      following = null;
      root = null;
      current = before;
    }
    last.plan = plan;
  }

  Buffer gradientBuffer(Tensor tensor) {
    if (tensor.gradient == null && tensor.block != null) {
      if (!gradientsOverActivations) {
        tensor.block.allocateGradient();
      } else if (planning == null) {
        tensor.block.ownGradient(tensor);
      } else {
        tensor.gradient = recorded.workspace.takeGradient(DType.FLOAT32, tensor.shape().count());
        planning.add(tensor, tensor.gradient);
      }
    }
    if (tensor.gradient == null) {
      DType type = backend.activationType();
      tensor.gradient =
          tensor.retainsGrad()
              ? recorded.workspace.take(type, tensor.shape().count())
              : recorded.workspace.takeGradient(type, tensor.shape().count());
      tensor.gradientPassedOn = false;
      planning.add(tensor, tensor.gradient);
    }
    return tensor.gradient;
  }

  void passGradient(Tensor from, Tensor to) {
    if (!to.gradientStarted
        && to.op() != null
        && !from.retainsGrad()
        && !to.retainsGrad()
        && !(planning == null && to.gradient != from.gradient)) {
      if (planning != null) {
        to.gradient = from.gradient;
        to.gradientPassedOn = false;
        from.gradientPassedOn = true;
        planning.add(to, to.gradient);
      }
      to.gradientStarted = true;
    } else {
      boolean started = to.gradientStarted;
      Buffer target = gradientBuffer(to);
      to.gradientStarted = true;
      backend.scale(from.gradient, 1, target, started);
    }
  }

  /** Reads one number without allocating. */
  float readScalar(Buffer buffer) {
    if (buffer.type() == DType.BFLOAT16) {
      backend.download(buffer, scalar.asSlice(0, 2));
      return Float.intBitsToFloat(scalar.get(ValueLayout.JAVA_SHORT, 0) << 16);
    }
    backend.download(buffer, scalar);
    return buffer.type() == DType.INT32
        ? scalar.get(ValueLayout.JAVA_INT, 0)
        : scalar.get(ValueLayout.JAVA_FLOAT, 0);
  }

  /** Memory for the length of one backward step. */
  Buffer takeScratch(long length) {
    if (planning == null) {
      return following.nextScratch();
    }
    Buffer scratch = recorded.workspace.takeGradient(backend.activationType(), length);
    planning.addScratch(scratch);
    return scratch;
  }

  void returnScratch(Buffer scratch) {
    if (planning != null) {
      recorded.workspace.giveBack(scratch);
    }
  }

  /** The gradient of a scalar, known without asking the device when it is the loss itself. */
  float gradientOfScalar(Tensor tensor) {
    return tensor == root ? lossScale : readScalar(tensor.gradient);
  }

  /** Frees the tape's memory. */
  @Override
  public void close() {
    recorded.workspace.close();
    unrecorded.workspace.close();
    owned.forEach(backend::free);
    owned.clear();
  }
}
