import static org.bytedeco.pytorch.global.torch.*;

import dev.lanewise.bench.contest.Case;
import dev.lanewise.bench.contest.Inputs;
import dev.lanewise.bench.peers.PeerServer;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Supplier;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.LongPointer;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.BoolOptional;
import org.bytedeco.pytorch.CompilationUnit;
import org.bytedeco.pytorch.DoubleOptional;
import org.bytedeco.pytorch.Function;
import org.bytedeco.pytorch.IValue;
import org.bytedeco.pytorch.IValueVector;
import org.bytedeco.pytorch.LongOptional;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorArrayRefOptional;
import org.bytedeco.pytorch.TensorOptional;
import org.bytedeco.pytorch.TensorOptions;
import org.bytedeco.pytorch.TensorVector;

/**
 * Speaks for libtorch. Started from its source with JavaCPP's bindings on the class path, so that
 * the build needs neither.
 */
public final class TorchServer implements PeerServer.Library {
  public static void main(String[] args) throws java.io.IOException {
    PeerServer.serve(new TorchServer());
  }

  @Override
  public String describe() {
    return "libtorch " + TORCH_VERSION() + ", official build, glibc keeps freed memory";
  }

  private static String TORCH_VERSION() {
    return "2.7.1";
  }

  private static Tensor floats(int operand, long... shape) {
    long count = 1;
    for (long n : shape) {
      count *= n;
    }
    Tensor tensor = empty(shape);
    FloatPointer data = tensor.data_ptr_float();
    for (long i = 0; i < count; i++) {
      data.put(i, Inputs.value(i, operand));
    }
    return tensor;
  }

  private static Tensor below(int operand, int bound, long... shape) {
    long count = 1;
    for (long n : shape) {
      count *= n;
    }
    Tensor tensor = empty(shape, new TensorOptions(ScalarType.Long), null);
    LongPointer data = tensor.data_ptr_long();
    for (long i = 0; i < count; i++) {
      data.put(i, Inputs.below(i, operand, bound));
    }
    return tensor;
  }

  @Override
  public PeerServer.Job open(Case c, int threads) {
    set_num_threads(threads);
    manual_seed(1);
    Supplier<Tensor> run = job(c);
    if (run == null) {
      return null;
    }
    return new PeerServer.Job() {
      private Tensor result;

      @Override
      public void run() {
        if (result != null) {
          result.close();
        }
        try (PointerScope scope = new PointerScope()) {
          result = run.get();
          result.retainReference();
        }
      }

      @Override
      public double at(long position) {
        try (PointerScope scope = new PointerScope()) {
          return result.detach().reshape(-1).select(0, position).item_float();
        }
      }
    };
  }

  private static Supplier<Tensor> noGradient(Supplier<Tensor> run) {
    return () -> {
      try (NoGradGuard guard = new NoGradGuard()) {
        return run.get();
      }
    };
  }

  private static Supplier<Tensor> job(Case c) {
    if (!c.word("device", "cpu").equals("cpu")
        || c.word("precision", "fp32").equals("bf16")
        || c.word("weights", "exact").equals("q8_0")) {
      return null;
    }
    return switch (c.operation()) {
      case "gemm" -> gemm(c);
      case "linear" -> linear(c);
      case "gelu" -> {
        Tensor x = floats(1, c.number("rows"), c.number("cols"));
        yield noGradient(() -> gelu(x, "tanh"));
      }
      case "geluBackward" -> {
        Tensor x = floats(1, c.number("rows"), c.number("cols"));
        Tensor g = floats(2, c.number("rows"), c.number("cols"));
        yield noGradient(() -> gelu_backward(g, x, "tanh"));
      }
      case "exp" -> {
        Tensor x = floats(1, c.number("count")).mul(new Scalar(4f));
        yield noGradient(() -> exp(x));
      }
      case "tanh" -> {
        Tensor x = floats(1, c.number("count")).mul(new Scalar(4f));
        yield noGradient(() -> tanh(x));
      }
      case "log" -> {
        Tensor x = floats(1, c.number("count")).abs().add(new Scalar(1e-3f));
        yield noGradient(() -> log(x));
      }
      case "erf" -> {
        Tensor x = floats(1, c.number("count")).mul(new Scalar(4f));
        yield noGradient(() -> erf(x));
      }
      case "softmax" -> {
        Tensor x = floats(1, c.number("rows"), c.number("cols"));
        yield noGradient(() -> softmax(x, 1));
      }
      case "layerNorm" -> {
        long cols = c.number("cols");
        Tensor x = floats(1, c.number("rows"), cols);
        Tensor w = floats(2, cols);
        Tensor b = floats(3, cols);
        yield noGradient(() -> norm(x, w, b, cols));
      }
      case "layerNormBackward" -> {
        long cols = c.number("cols");
        Tensor x = floats(1, c.number("rows"), cols).set_requires_grad(true);
        Tensor w = floats(2, cols).set_requires_grad(true);
        Tensor b = floats(3, cols).set_requires_grad(true);
        Tensor g = floats(4, c.number("rows"), cols);
        Tensor y = norm(x, w, b, cols);
        yield () -> {
          x.mutable_grad().reset();
          w.mutable_grad().reset();
          b.mutable_grad().reset();
          backward(y, g);
          return x.grad();
        };
      }
      case "crossEntropy" -> {
        Tensor logits = floats(1, c.number("rows"), c.number("cols")).set_requires_grad(true);
        Tensor targets = below(2, c.number("cols"), c.number("rows"));
        yield () -> {
          logits.mutable_grad().reset();
          cross_entropy_loss(logits, targets).backward();
          return logits.grad();
        };
      }
      case "linearCrossEntropy" -> {
        Tensor x = floats(1, c.number("tokens"), c.number("width")).set_requires_grad(true);
        Tensor w =
            floats(2, c.number("vocabulary"), c.number("width"))
                .mul(new Scalar(0.02f))
                .detach()
                .set_requires_grad(true);
        Tensor targets = below(3, c.number("vocabulary"), c.number("tokens"));
        yield () -> {
          x.mutable_grad().reset();
          w.mutable_grad().reset();
          cross_entropy_loss(org.bytedeco.pytorch.global.torch.linear(x, w), targets).backward();
          return x.grad();
        };
      }
      case "attention", "attentionBackward" -> attention(c);
      case "embedding" -> {
        Tensor table = floats(1, c.number("vocabulary"), c.number("width"));
        Tensor ids = below(2, c.number("vocabulary"), c.number("tokens"));
        yield noGradient(() -> embedding(table, ids));
      }
      case "adamW" -> {
        Optimizer optimizer = new Optimizer();
        Tensor p = floats(1, c.number("count"));
        Tensor g = floats(2, c.number("count"));
        optimizer.add(p);
        yield noGradient(
            () -> {
              optimizer.step(0, p, g);
              return p.view(-1);
            });
      }
      case "train" -> train(c);
      case "generate" -> generate(c);
      default -> null;
    };
  }

  private static Tensor norm(Tensor x, Tensor w, Tensor b, long cols) {
    return layer_norm(
        x, new long[] {cols}, new TensorOptional(w), new TensorOptional(b), 1e-5, true);
  }

  private static void backward(Tensor y, Tensor gradient) {
    y.backward(gradient, new BoolOptional(true), false, new TensorArrayRefOptional());
  }

  private static Supplier<Tensor> gemm(Case c) {
    long m = c.number("m");
    long n = c.number("n");
    long k = c.number("k");
    long batch = c.number("batch", 1);
    String layout = c.word("layout", "NN");
    Tensor a =
        layout.charAt(0) == 'T' ? floats(1, batch, k, m).transpose(1, 2) : floats(1, batch, m, k);
    Tensor b =
        layout.charAt(1) == 'T' ? floats(2, batch, n, k).transpose(1, 2) : floats(2, batch, k, n);
    if (batch > 1) {
      return noGradient(() -> bmm(a, b));
    }
    Tensor left = a.select(0, 0);
    Tensor right = b.select(0, 0);
    Tensor out = empty(m, n);
    return noGradient(() -> mm_out(out, left, right).view(-1));
  }

  private static Tensor line(Tensor x, Tensor w, Tensor b) {
    return org.bytedeco.pytorch.global.torch.linear(x, w, new TensorOptional(b));
  }

  private static Supplier<Tensor> linear(Case c) {
    Tensor x = floats(1, c.number("m"), c.number("k"));
    Tensor w = floats(2, c.number("n"), c.number("k"));
    Tensor bias = floats(3, c.number("n"));
    Tensor add = floats(4, c.number("m"), c.number("n"));
    return switch (c.word("epilogue", "bias")) {
      case "none" -> noGradient(() -> org.bytedeco.pytorch.global.torch.linear(x, w));
      case "gelu" -> noGradient(() -> gelu(line(x, w, bias), "tanh"));
      case "residual" -> noGradient(() -> line(x, w, bias).add(add));
      default -> noGradient(() -> line(x, w, bias));
    };
  }

  private static Tensor attend(Tensor q, Tensor k, Tensor v, boolean causal) {
    return scaled_dot_product_attention(
        q, k, v, new TensorOptional(), 0.0, causal, new DoubleOptional(), false);
  }

  private static Supplier<Tensor> attention(Case c) {
    long batch = c.number("batch");
    long tokens = c.number("tokens");
    long heads = c.number("heads");
    long head = c.number("head");
    Tensor qkv = floats(1, batch, tokens, 3, heads, head).permute(2, 0, 3, 1, 4);
    Tensor q = qkv.select(0, 0).contiguous();
    Tensor k = qkv.select(0, 1).contiguous();
    Tensor v = qkv.select(0, 2).contiguous();
    if (c.operation().equals("attention")) {
      return noGradient(() -> attend(q, k, v, true).transpose(1, 2));
    }
    q.set_requires_grad(true);
    k.set_requires_grad(true);
    v.set_requires_grad(true);
    Tensor y = attend(q, k, v, true);
    Tensor g = floats(2, batch, tokens, heads, head).transpose(1, 2).contiguous();
    return () -> {
      q.mutable_grad().reset();
      k.mutable_grad().reset();
      v.mutable_grad().reset();
      backward(y, g);
      return q.grad().transpose(1, 2);
    };
  }

  /** PyTorch's fused AdamW, which the bindings reach only through a script, tensor by tensor. */
  private static final class Optimizer {
    private static final String SCRIPT =
        """
        def step(p: Tensor, g: Tensor, m: Tensor, v: Tensor, s: Tensor):
            e: List[Tensor] = []
            params = [p]
            ms = [m]
            vs = [v]
            torch._fused_adamw_(params, [g], ms, vs, e, [s], lr=0.0003, beta1=0.9, beta2=0.999, \
        weight_decay=0.1, eps=1e-08, amsgrad=False, maximize=False)
            return params[0]
        """;

    private final CompilationUnit unit = compile(SCRIPT);
    private final Function step = unit.get_functions().get(0);
    private final List<Tensor[]> states = new ArrayList<>();

    void add(Tensor parameter) {
      states.add(
          new Tensor[] {
            zeros_like(parameter).detach(), zeros_like(parameter).detach(), zeros(new long[] {})
          });
    }

    void step(int index, Tensor parameter, Tensor gradient) {
      Tensor[] state = states.get(index);
      state[2].add_(new Scalar(1.0f));
      IValueVector arguments = new IValueVector();
      arguments.put(
          new IValue(parameter),
          new IValue(gradient),
          new IValue(state[0]),
          new IValue(state[1]),
          new IValue(state[2]));
      step.apply(arguments);
    }
  }

  /** GPT-2 out of libtorch's operations. */
  private static final class Gpt2 {
    final List<Tensor> parameters = new ArrayList<>();
    final long width;
    final long heads;
    final Tensor tokens;
    final Tensor positions;
    final List<Tensor[]> blocks = new ArrayList<>();
    final Tensor normWeight;
    final Tensor normBias;

    Gpt2(Case c) {
      width = c.number("width");
      heads = c.number("heads");
      long context = c.number("tokens") + c.number("new", 0);
      tokens = normal(c.number("vocabulary"), width);
      positions = normal(context, width);
      for (int i = 0; i < c.number("layers"); i++) {
        blocks.add(
            new Tensor[] {
              constant(1, width), constant(0, width),
              normal(3 * width, width), constant(0, 3 * width),
              normal(width, width), constant(0, width),
              constant(1, width), constant(0, width),
              normal(4 * width, width), constant(0, 4 * width),
              normal(width, 4 * width), constant(0, width)
            });
      }
      normWeight = constant(1, width);
      normBias = constant(0, width);
    }

    private Tensor normal(long... shape) {
      return parameter(randn(shape).mul_(new Scalar(0.02f)));
    }

    private Tensor constant(float value, long size) {
      return parameter(full(new long[] {size}, new Scalar(value)));
    }

    private Tensor parameter(Tensor values) {
      Tensor parameter = values.detach().set_requires_grad(true);
      parameters.add(parameter);
      return parameter;
    }

    /**
     * With a cache, per layer keys and values [1, heads, context, head], of which past are filled.
     */
    Tensor forward(Tensor ids, Tensor[][] cache, long past) {
      long batch = ids.size(0);
      long length = ids.size(1);
      Tensor places = positions.narrow(0, past, length);
      Tensor x = embedding(tokens, ids).add(places);
      for (int i = 0; i < blocks.size(); i++) {
        Tensor[] p = blocks.get(i);
        TensorVector qkv = line(norm(x, p[0], p[1], width), p[2], p[3]).split(width, 2);
        Tensor q = split(qkv.get(0), batch, length);
        Tensor k = split(qkv.get(1), batch, length);
        Tensor v = split(qkv.get(2), batch, length);
        if (cache != null) {
          cache[i][0].narrow(2, past, length).copy_(k);
          cache[i][1].narrow(2, past, length).copy_(v);
          k = cache[i][0].narrow(2, 0, past + length);
          v = cache[i][1].narrow(2, 0, past + length);
        }
        Tensor y = attend(q, k, v, length > 1).transpose(1, 2).reshape(batch, length, width);
        x = x.add(line(y, p[4], p[5]));
        Tensor h = gelu(line(norm(x, p[6], p[7], width), p[8], p[9]), "tanh");
        x = x.add(line(h, p[10], p[11]));
      }
      if (cache != null) {
        x = x.narrow(1, length - 1, 1);
      }
      return org.bytedeco.pytorch.global.torch.linear(norm(x, normWeight, normBias, width), tokens);
    }

    private Tensor split(Tensor x, long batch, long length) {
      return x.view(batch, length, heads, width / heads).transpose(1, 2);
    }
  }

  private static Supplier<Tensor> train(Case c) {
    if (c.params().containsKey("precision")) {
      return null;
    }
    Gpt2 model = new Gpt2(c);
    Optimizer optimizer = new Optimizer();
    model.parameters.forEach(optimizer::add);
    Tensor ids = below(1, c.number("vocabulary"), c.number("batch"), c.number("tokens"));
    Tensor targets = below(2, c.number("vocabulary"), c.number("batch"), c.number("tokens"));
    return () -> {
      Tensor logits = model.forward(ids, null, 0).view(-1, c.number("vocabulary"));
      Tensor loss = cross_entropy_loss(logits, targets.view(-1));
      loss.backward();
      try (NoGradGuard guard = new NoGradGuard()) {
        for (int i = 0; i < model.parameters.size(); i++) {
          Tensor parameter = model.parameters.get(i);
          optimizer.step(i, parameter, parameter.grad());
          parameter.mutable_grad().reset();
        }
      }
      return loss.detach().view(1);
    };
  }

  private static Supplier<Tensor> generate(Case c) {
    Gpt2 model = new Gpt2(c);
    long prompt = c.number("tokens");
    int count = c.number("new");
    long head = model.width / model.heads;
    Tensor ids = below(1, c.number("vocabulary"), 1, prompt);
    Tensor[][] cache = new Tensor[model.blocks.size()][2];
    for (Tensor[] layer : cache) {
      layer[0] = zeros(1, model.heads, prompt + count, head);
      layer[1] = zeros(1, model.heads, prompt + count, head);
    }
    return noGradient(
        () -> {
          model.forward(ids.narrow(1, 0, prompt - 1), cache, 0);
          Tensor token = ids.narrow(1, prompt - 1, 1);
          for (int i = 0; i < count; i++) {
            Tensor logits = model.forward(token, cache, prompt - 1 + i);
            token = logits.argmax(new LongOptional(2), false);
          }
          return token.to(ScalarType.Float).view(1);
        });
  }
}
