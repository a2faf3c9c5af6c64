package dev.lanewise.bench.contest;

import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.stream.Collectors;

/**
 * What is timed, in words that every contender understands: an operation and its parameters.
 *
 * <p>Written as {@code gemm m=1024 n=2304 k=768 layout=NT}.
 *
 * @param operation name of the operation
 * @param params its parameters in the order given
 */
public record Case(String operation, Map<String, String> params) {

  /** Keeps the parameters unmodifiable and in order. */
  public Case {
    params = Collections.unmodifiableMap(new LinkedHashMap<>(params));
  }

  /**
   * Reads a case.
   *
   * @param text operation and {@code key=value} pairs between blanks
   * @return the case
   * @throws IllegalArgumentException if a pair has no equals sign
   */
  public static Case parse(String text) {
    String[] words = text.strip().split("\\s+", -1);
    Map<String, String> params = new LinkedHashMap<>();
    for (int i = 1; i < words.length; i++) {
      int equals = words[i].indexOf('=');
      if (equals < 1) {
        throw new IllegalArgumentException("no key=value: " + words[i] + " in " + text);
      }
      params.put(words[i].substring(0, equals), words[i].substring(equals + 1));
    }
    return new Case(words[0], params);
  }

  /**
   * A number among the parameters.
   *
   * @param key the parameter's name
   * @return its value
   * @throws IllegalArgumentException if it is missing or no number
   */
  public int number(String key) {
    String value = params.get(key);
    if (value == null) {
      throw new IllegalArgumentException(this + " does not say " + key);
    }
    return Integer.parseInt(value);
  }

  /**
   * A number among the parameters, or another if it is not named.
   *
   * @param key the parameter's name
   * @param otherwise what holds when it is not named
   * @return its value
   */
  public int number(String key, int otherwise) {
    return params.containsKey(key) ? number(key) : otherwise;
  }

  /**
   * A word among the parameters, or another if it is not named.
   *
   * @param key the parameter's name
   * @param otherwise what holds when it is not named
   * @return its value
   */
  public String word(String key, String otherwise) {
    return params.getOrDefault(key, otherwise);
  }

  /** Whether matrices are multiplied in bfloat16: {@code precision=bf16}. */
  public boolean isBfloat16() {
    return word("precision", "fp32").equals("bf16");
  }

  /** Whether weights are read as 8 bits: {@code weights=q8_0}. */
  public boolean hasIntegers() {
    return word("weights", "exact").equals("q8_0");
  }

  /**
   * The case with other parameters.
   *
   * @param changed new values of parameters, in their old places where they were there
   * @return another case
   */
  public Case with(Map<String, String> changed) {
    Map<String, String> all = new LinkedHashMap<>(params);
    all.putAll(changed);
    return new Case(operation, all);
  }

  /**
   * The case without a parameter.
   *
   * @param key its name
   * @return another case, or the same if it has none
   */
  public Case without(String key) {
    Map<String, String> rest = new LinkedHashMap<>(params);
    rest.remove(key);
    return new Case(operation, rest);
  }

  @Override
  public String toString() {
    return params.entrySet().stream()
        .map(e -> " " + e.getKey() + "=" + e.getValue())
        .collect(Collectors.joining("", operation, ""));
  }
}
