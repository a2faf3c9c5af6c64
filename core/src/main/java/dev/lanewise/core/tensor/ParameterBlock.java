package dev.lanewise.core.tensor;

import dev.lanewise.core.backend.Buffer;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/**
 * Parameters that lie one after the other in memory, with their gradients laid out the same way.
 * Gradients take memory only once a backward pass, or somebody who asks, needs them.
 */
public final class ParameterBlock {
  /** Every parameter starts at a multiple of so many elements. */
  public static final int ALIGNMENT = 16;

  private final Tape tape;
  private final Buffer data;
  private final List<Tensor> tensors = new ArrayList<>();
  private final List<Long> offsets = new ArrayList<>();
  private Buffer gradient;
  private long used;
  private long ownBytes;
  private boolean settled = true;

  ParameterBlock(Tape tape, Buffer data) {
    this.tape = tape;
    this.data = data;
  }

  /** A block of one tensor that exists already. */
  ParameterBlock(Tape tape, Tensor tensor) {
    this(tape, tensor.data());
    register(tensor, 0);
  }

  /** Elements that a parameter of so many takes up in a block. */
  public static long roundUp(long count) {
    return (count + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  }

  boolean hasRoomFor(long count) {
    return used + count <= data.length();
  }

  Tensor add(Shape shape) {
    Tensor tensor = new Tensor(tape, shape, data.slice(used, shape.count()), null);
    register(tensor, used);
    return tensor;
  }

  private void register(Tensor tensor, long offset) {
    tensors.add(tensor);
    offsets.add(offset);
    used = offset + roundUp(tensor.shape().count());
    tensor.markParameter(this);
    if (gradient != null) {
      tensor.gradient = gradient.slice(offset, tensor.shape().count());
    }
  }

  /** The parameters, in memory order. */
  public List<Tensor> tensors() {
    return Collections.unmodifiableList(tensors);
  }

  /**
   * First element of a parameter in this block.
   *
   * @param index its place in {@link #tensors}
   */
  public long offset(int index) {
    return offsets.get(index);
  }

  /** All elements; those between parameters are zero. */
  public Buffer data() {
    return data;
  }

  /**
   * Gradients of all elements, allocated now if nobody needed them before.
   *
   * @throws IllegalStateException if gradients lie over activations, apart from each other
   */
  public Buffer gradient() {
    if (tape.gradientsOverActivations()) {
      throw new IllegalStateException("gradients lie over activations, not in a block");
    }
    allocateGradient();
    settle();
    return gradient;
  }

  /** Whether any of the parameters is trained, not {@linkplain Tensor#freeze frozen}. */
  public boolean trainable() {
    for (int i = 0; i < tensors.size(); i++) {
      if (tensors.get(i).requiresGrad()) {
        return true;
      }
    }
    return false;
  }

  void allocateGradient() {
    if (gradient == null) {
      gradient = tape.newGradient(data.length());
      for (int i = 0; i < tensors.size(); i++) {
        Tensor tensor = tensors.get(i);
        tensor.gradient = gradient.slice(offsets.get(i), tensor.shape().count());
      }
    }
  }

  /** Gives a parameter a gradient of its own, zero, when gradients lie over activations. */
  void ownGradient(Tensor tensor) {
    tensor.gradient = tape.newGradient(tensor.shape().count());
    tensor.ownsGradient = true;
    ownBytes += tensor.gradient.byteSize();
  }

  long gradientBytes() {
    return gradient == null ? ownBytes : gradient.byteSize();
  }

  void zeroGradient() {
    boolean over = tape.gradientsOverActivations();
    if (gradient != null || over) {
      for (int i = 0; i < tensors.size(); i++) {
        Tensor tensor = tensors.get(i);
        tensor.gradientStarted = false;
        if (over && !tensor.ownsGradient) {
          tensor.gradient = null;
        }
      }
      settled = false;
    }
  }

  /** Clears the gradients that nothing was written to since {@link #zeroGradient}. */
  void settle() {
    if (!settled) {
      for (int i = 0; i < tensors.size(); i++) {
        Tensor tensor = tensors.get(i);
        if (!tensor.gradientStarted && (tensor.requiresGrad() || tensor.gradient != null)) {
          if (tensor.gradient == null) {
            ownGradient(tensor);
          }
          tape.backend().fill(tensor.gradient, 0);
          tensor.gradientStarted = true;
        }
      }
      settled = true;
    }
  }
}
