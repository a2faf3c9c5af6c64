package dev.lanewise.core.tensor;

import dev.lanewise.core.backend.Buffer;
import java.util.ArrayList;
import java.util.List;

/** Where the gradients of a backward pass live, found in its first run and kept for later ones. */
final class GradientPlan {
  private final List<Tensor> tensors = new ArrayList<>();
  private final List<Buffer> buffers = new ArrayList<>();
  private final List<Buffer> scratch = new ArrayList<>();
  private int nextScratch;

  /** How often the trace had been cut when this plan was made; it holds as long as that stays. */
  final int cuts;

  GradientPlan(int cuts) {
    this.cuts = cuts;
  }

  void add(Tensor tensor, Buffer buffer) {
    tensors.add(tensor);
    buffers.add(buffer);
  }

  void addScratch(Buffer buffer) {
    scratch.add(buffer);
  }

  Buffer nextScratch() {
    return scratch.get(nextScratch++);
  }

  void assign() {
    nextScratch = 0;
    for (int i = 0; i < tensors.size(); i++) {
      Tensor tensor = tensors.get(i);
      if (!tensor.ownsGradient) {
        tensor.gradient = buffers.get(i);
      }
    }
  }
}
