package dev.lanewise.bench.breakdown;

import dev.lanewise.core.backend.Activation;
import dev.lanewise.core.backend.Backend;
import dev.lanewise.core.backend.Buffer;
import java.util.Collections;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Set;

/**
 * A call of a {@link Backend}'s operation.
 *
 * @param label its name and shape: calls of one label are counted together
 * @param flops operations of its matrix products, a fused multiply-add as two; those of attention
 *     over the causal half only. What is done element by element does not count
 * @param bytes least traffic with memory: every operand once, twice where it is added to
 */
record Operation(String label, double flops, double bytes) {

  /**
   * Reads a call.
   *
   * @param name the method's name
   * @param arguments its arguments
   * @return the operation; null for a call that is none, such as freeing memory
   */
  static Operation of(String name, Object[] arguments) {
    Call c = new Call(arguments);
    return switch (name) {
      case "free", "upload", "download", "freezeWeights", "releaseWeights" -> null;
      case "linear" -> {
        String extras =
            (c.has(2) ? " +bias" : "")
                + (arguments[3] == Activation.NONE ? "" : " +gelu")
                + (c.has(5) ? " +residual" : "");
        double rows = c.number(7);
        yield new Operation(
            "linear " + c.number(8) + "→" + c.number(9) + extras,
            2 * rows * c.number(8) * c.number(9),
            c.bytes() + (arguments[5] == arguments[6] ? c.bytes(6) : 0));
      }
      case "linearBackwardInput" -> {
        double rows = c.number(6);
        boolean adds = (Boolean) arguments[5];
        yield new Operation(
            "dX "
                + c.number(8)
                + "→"
                + c.number(7)
                + (arguments[2] == Activation.NONE ? "" : " ·gelu'")
                + (adds ? " +=" : ""),
            2 * rows * c.number(7) * c.number(8),
            c.bytes() + (adds ? c.bytes(4) : 0));
      }
      case "linearBackwardWeight" -> {
        boolean adds = (Boolean) arguments[4];
        yield new Operation(
            "dW "
                + c.number(7)
                + "×"
                + c.number(6)
                + (c.has(3) ? " +dBias" : "")
                + (adds ? " +=" : ""),
            c.has(2) ? 2.0 * c.number(5) * c.number(6) * c.number(7) : 0,
            c.bytes() + (adds ? c.bytes(2) : 0));
      }
      case "attention" -> new Operation("attention", causal(2, c, 5), c.bytes());
      case "attentionBackward" -> new Operation("attentionBackward", causal(5, c, 7), c.bytes());
      case "attentionCached" -> {
        double rows = (double) c.number(6) * c.number(7) * c.number(8) * c.number(9);
        double keys = c.number(3) + (c.number(7) + 1) / 2.0;
        yield new Operation(
            "attentionCached " + (c.number(7) == 1 ? "of one" : "of many"),
            4 * rows * keys,
            c.bytes(0, 5) + 8.0 * c.number(6) * keys * c.number(8) * c.number(9));
      }
      case "linearCrossEntropy" -> {
        int products = 1 + (c.has(5) ? 1 : 0) + (c.has(6) ? 1 : 0);
        yield new Operation(
            "linearCrossEntropy " + c.number(10) + "→" + c.number(11),
            2.0 * products * c.number(9) * c.number(10) * c.number(11),
            c.bytes() + ((Boolean) arguments[7] ? c.bytes(6) : 0));
      }
      case "matmul" ->
          new Operation(
              "matmul " + c.number(8) + "×" + c.number(9) + "×" + c.number(10),
              2.0 * c.number(7) * c.number(8) * c.number(9) * c.number(10),
              c.bytes());
      // Of a table, only the rows that are asked for
      case "embedding" -> new Operation(name, 0, 2 * c.bytes(4));
      case "embeddingBackward" -> new Operation(name, 0, 3 * c.bytes(1));
      case "layerNormBackward" ->
          new Operation(name, 0, c.bytes() + ((Boolean) arguments[6] ? c.bytes(5) : 0));
      case "adamW" -> new Operation(name, 0, 2 * c.bytes() - c.bytes(1));
      case "unary", "unaryBackward" -> new Operation(name + " " + arguments[0], 0, c.bytes());
      case "binary" -> new Operation(name + " " + arguments[0], 0, c.bytes());
      default -> new Operation(name, 0, c.bytes());
    };
  }

  /** Products over the keys that each query may see; sizes are batch, time, heads, headSize. */
  private static double causal(int products, Call c, int sizes) {
    double time = c.number(sizes + 1);
    return products
        * c.number(sizes)
        * time
        * (time + 1)
        * c.number(sizes + 2)
        * c.number(sizes + 3);
  }

  /** The arguments of a call by their places. */
  private record Call(Object[] arguments) {
    int number(int place) {
      return (Integer) arguments[place];
    }

    boolean has(int place) {
      return arguments[place] != null;
    }

    /** Bytes of the buffers at these places, or of all buffers, each counted once. */
    double bytes(int... places) {
      Set<Buffer> seen = Collections.newSetFromMap(new IdentityHashMap<>());
      if (places.length == 0) {
        for (Object argument : arguments) {
          add(seen, argument);
        }
      } else {
        for (int place : places) {
          add(seen, arguments[place]);
        }
      }
      return seen.stream().mapToDouble(Buffer::byteSize).sum();
    }

    private static void add(Set<Buffer> seen, Object argument) {
      if (argument instanceof Buffer buffer) {
        seen.add(buffer);
      } else if (argument instanceof List<?> list) {
        list.forEach(element -> add(seen, element));
      }
    }
  }
}
