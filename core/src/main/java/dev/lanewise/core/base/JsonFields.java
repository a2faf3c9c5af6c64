package dev.lanewise.core.base;

import java.util.Locale;
import java.util.Map;

/**
 * Typed access to the members of a JSON object that {@link Json} read.
 *
 * @param members the object
 * @param source where it comes from, for error messages
 */
public record JsonFields(Map<String, Object> members, String source) {

  /** Whether there is such a member. */
  public boolean has(String name) {
    return members.get(name) != null;
  }

  /** A whole number. */
  public long integer(String name) {
    if (members.get(name) instanceof Long value) {
      return value;
    }
    throw wrong(name, "a whole number");
  }

  /** A whole number of 32 bits. */
  public int int32(String name) {
    long value = integer(name);
    if (value != (int) value) {
      throw wrong(name, "a smaller number");
    }
    return (int) value;
  }

  /** Any number. */
  public double number(String name) {
    if (members.get(name) instanceof Number value) {
      return value.doubleValue();
    }
    throw wrong(name, "a number");
  }

  /** True or false. */
  public boolean flag(String name) {
    if (members.get(name) instanceof Boolean value) {
      return value;
    }
    throw wrong(name, "true or false");
  }

  /** A text. */
  public String text(String name) {
    if (members.get(name) instanceof String value) {
      return value;
    }
    throw wrong(name, "a text");
  }

  /** An object. */
  @SuppressWarnings("unchecked")
  public JsonFields object(String name) {
    if (members.get(name) instanceof Map<?, ?> value) {
      return new JsonFields((Map<String, Object>) value, source + ", " + name);
    }
    throw wrong(name, "an object");
  }

  private InputException wrong(String name, String wanted) {
    return new InputException(
        members.containsKey(name)
            ? String.format(
                Locale.ROOT,
                "%s: '%s' must be %s, not %s.",
                source,
                name,
                wanted,
                members.get(name))
            : String.format(
                Locale.ROOT, "%s: '%s' is missing, which must be %s.", source, name, wanted));
  }
}
