package dev.lanewise.core.nn;

import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.backend.Buffer;
import dev.lanewise.core.backend.DType;
import dev.lanewise.core.tensor.ParameterBlock;
import dev.lanewise.core.tensor.Shape;
import dev.lanewise.core.tensor.Tape;
import dev.lanewise.core.tensor.Tensor;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Predicate;

/**
 * Adam with decoupled weight decay (Loshchilov and Hutter, 2019), as PyTorch's AdamW computes it,
 * with clipping of the gradient's norm.
 *
 * <p>All parameters of a tape are updated but for {@linkplain Tensor#freeze frozen} ones,
 * neighbours that decay alike in one run, or one by one where gradients lie over activations.
 * {@code p ← p(1 − lr·wd) − lr·m̂ / (√v̂ + ε)}.
 */
public final class AdamW implements AutoCloseable {
  private final Tape tape;
  private final Backend backend;
  private final List<Buffer> gradients = new ArrayList<>();
  private final List<Run> runs = new ArrayList<>();
  private final List<Buffer> moments = new ArrayList<>();
  private final Map<Tensor, Run> ownerOf = new HashMap<>();
  private final Map<Tensor, Long> placeOf = new HashMap<>();
  private final boolean inBlocks;
  private final Share share;
  private final Tensor clip;
  private final Tensor norm;
  private float beta1 = 0.9f;
  private float beta2 = 0.999f;
  private float epsilon = 1e-8f;
  private float weightDecay = 0.01f;
  private long step;

  /** A run of neighbouring parameters that decay alike, or one parameter. */
  private static final class Run {
    Tensor parameter;
    Buffer data;
    Buffer gradient;
    Buffer first;
    Buffer second;
    boolean decays;
  }

  /**
   * An optimiser of every parameter that the tape has now and that is not frozen, with PyTorch's
   * default settings.
   *
   * @param tape owner of the parameters
   * @param decays which parameters decay; GPT-2 decays those with two axes
   */
  public AdamW(Tape tape, Predicate<Tensor> decays) {
    this(tape, decays, Share.ALL);
  }

  /**
   * An optimiser of a part of every block of parameters: it holds the moments of that alone, and
   * updates no more. {@link #gradientNorm} is of that part, too.
   *
   * @param tape owner of the parameters, whose gradients lie in blocks unless the part is all
   * @param decays which parameters decay; GPT-2 decays those with two axes
   * @param share the part
   */
  public AdamW(Tape tape, Predicate<Tensor> decays, Share share) {
    if (!share.isAll() && !tape.gradientsInBlocks()) {
      throw new IllegalArgumentException("a part of gradients that do not lie in blocks");
    }
    this.tape = tape;
    this.share = share;
    this.backend = tape.backend();
    this.clip = tape.tensor(new float[] {0, 1}, 2);
    this.norm = tape.over(Shape.of(), clip.data().slice(0, 1));
    this.inBlocks = tape.gradientsInBlocks();
    for (ParameterBlock block : tape.parameters()) {
      addRuns(block, decays);
    }
  }

  private void addRuns(ParameterBlock block, Predicate<Tensor> decays) {
    if (!block.trainable()) {
      return;
    }
    if (inBlocks) {
      long from = share.from(block.data().length());
      long to = share.to(block.data().length());
      if (from < to) {
        gradients.add(share.isAll() ? block.gradient() : block.gradient().slice(from, to - from));
      }
    }
    List<Tensor> tensors = block.tensors();
    boolean whole = tensors.stream().allMatch(Tensor::requiresGrad);
    long low = share.from(block.data().length());
    long high = share.to(block.data().length());
    Buffer allFirst = whole && low < high ? moment(high - low) : null;
    Buffer allSecond = whole && low < high ? moment(high - low) : null;
    int from = 0;
    while (from < tensors.size()) {
      if (!tensors.get(from).requiresGrad()) {
        from++;
        continue;
      }
      boolean decay = decays.test(tensors.get(from));
      int to = from + 1;
      while (inBlocks
          && to < tensors.size()
          && tensors.get(to).requiresGrad()
          && decays.test(tensors.get(to)) == decay) {
        to++;
      }
      long end = block.offset(to - 1) + tensors.get(to - 1).shape().count();
      long start = Math.max(low, block.offset(from));
      long length = Math.min(high, end) - start;
      if (length > 0) {
        Run run = new Run();
        run.data = block.data().slice(start, length);
        if (inBlocks) {
          run.gradient = block.gradient().slice(start, length);
        } else {
          run.parameter = tensors.get(from);
          gradients.add(null);
        }
        run.first = whole ? allFirst.slice(start - low, length) : moment(length);
        run.second = whole ? allSecond.slice(start - low, length) : moment(length);
        run.decays = decay;
        runs.add(run);
        for (int i = from; i < to; i++) {
          ownerOf.put(tensors.get(i), run);
          placeOf.put(tensors.get(i), block.offset(i) - start);
        }
      }
      from = to;
    }
  }

  private Buffer moment(long length) {
    Buffer moment = backend.allocate(DType.FLOAT32, length);
    moments.add(moment);
    return moment;
  }

  /** Sets the decay rates of the two moments. */
  public AdamW betas(double first, double second) {
    beta1 = (float) first;
    beta2 = (float) second;
    return this;
  }

  /** Sets what is added to the root of the second moment. */
  public AdamW epsilon(double value) {
    epsilon = (float) value;
    return this;
  }

  /** Sets the weight decay of the parameters that decay. */
  public AdamW weightDecay(double value) {
    weightDecay = (float) value;
    return this;
  }

  private void findGradients() {
    tape.settleGradients();
    if (!inBlocks) {
      for (int i = 0; i < runs.size(); i++) {
        Run run = runs.get(i);
        run.gradient = run.parameter.grad().data();
        gradients.set(i, run.gradient);
      }
    }
  }

  /**
   * Computes the gradient's norm and how much {@link #step} will clip.
   *
   * @param maxNorm largest norm wanted; 0 for no clipping
   * @return the norm before clipping; if it is not finite, {@link #step} changes nothing
   */
  public float gradientNorm(float maxNorm) {
    findGradients();
    backend.gradientNorm(gradients, maxNorm, clip.data());
    return norm.item();
  }

  /**
   * Takes a norm that was found elsewhere for that of {@link #gradientNorm}.
   *
   * @param value the norm before clipping; if it is not finite, {@link #step} changes nothing
   * @param maxNorm largest norm wanted; 0 for no clipping
   */
  public void clip(double value, float maxNorm) {
    double factor = maxNorm == 0 ? 1 : Math.min(1, maxNorm / (value + 1e-6));
    clip.set(
        values -> {
          values.setAtIndex(ValueLayout.JAVA_FLOAT, 0, (float) value);
          values.setAtIndex(ValueLayout.JAVA_FLOAT, 1, Double.isFinite(value) ? (float) factor : 0);
        });
  }

  /**
   * One update with the gradients as they are, times the clipping factor of the last {@link
   * #gradientNorm}, if there was one.
   *
   * @param learningRate learning rate of this step
   */
  public void step(double learningRate) {
    step++;
    findGradients();
    for (int i = 0; i < runs.size(); i++) {
      Run run = runs.get(i);
      backend.adamW(
          run.data,
          run.gradient,
          run.first,
          run.second,
          (float) learningRate,
          beta1,
          beta2,
          epsilon,
          run.decays ? weightDecay : 0,
          step,
          clip.data());
    }
    tape.parametersUpdated();
  }

  /** Sets all gradients to zero. */
  public void zeroGrad() {
    tape.zeroGrad();
  }

  /** Bytes that the moments of what is trained take. */
  public long momentBytes() {
    return moments.stream().mapToLong(Buffer::byteSize).sum();
  }

  /** Number of updates so far. */
  public long steps() {
    return step;
  }

  /** Sets the number of updates so far, when a run is taken up again. */
  public void restoreSteps(long steps) {
    step = steps;
  }

  /**
   * First moment of a parameter, to be saved or restored.
   *
   * @param parameter one of the parameters that are trained, all of it here
   */
  public Buffer firstMoment(Tensor parameter) {
    return moment(parameter, false, 0, parameter.shape().count());
  }

  /**
   * Second moment of a parameter, to be saved or restored.
   *
   * @param parameter one of the parameters that are trained, all of it here
   */
  public Buffer secondMoment(Tensor parameter) {
    return moment(parameter, true, 0, parameter.shape().count());
  }

  /**
   * A part of a moment, that is updated here.
   *
   * @param parameter one of the parameters that are trained
   * @param second whether of the second moment, or else of the first
   * @param from its first element
   * @param count how many elements
   */
  public Buffer moment(Tensor parameter, boolean second, long from, long count) {
    Run run = ownerOf.get(parameter);
    return (second ? run.second : run.first).slice(placeOf.get(parameter) + from, count);
  }

  @Override
  public void close() {
    moments.forEach(backend::free);
    moments.clear();
  }
}
