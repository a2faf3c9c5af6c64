package dev.lanewise.core.nn;

import dev.lanewise.core.tensor.Tensor;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.function.BiConsumer;

/** Something that owns parameters: a layer or a model. */
public interface Module {
  /**
   * Shows every parameter to a visitor, with its name, in a fixed order.
   *
   * @param prefix what names begin with, empty or ending in a dot
   * @param visitor receives name and parameter
   */
  void visit(String prefix, BiConsumer<String, Tensor> visitor);

  /** All parameters by name, in {@link #visit}'s order. */
  default Map<String, Tensor> namedParameters() {
    Map<String, Tensor> parameters = new LinkedHashMap<>();
    visit("", parameters::put);
    return parameters;
  }

  /** Number of parameters. */
  default long parameterCount() {
    long count = 0;
    for (Tensor parameter : namedParameters().values()) {
      count += parameter.shape().count();
    }
    return count;
  }
}
