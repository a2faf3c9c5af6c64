package dev.lanewise.core.base;

import java.io.StringWriter;
import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import tools.jackson.core.JacksonException;
import tools.jackson.core.JsonGenerator;
import tools.jackson.core.JsonParser;
import tools.jackson.core.JsonToken;
import tools.jackson.core.ObjectReadContext;
import tools.jackson.core.ObjectWriteContext;
import tools.jackson.core.json.JsonFactory;
import tools.jackson.core.util.DefaultPrettyPrinter;

/**
 * Small JSON documents as plain Java values.
 *
 * <p>An object is a {@link Map} in the order written, an array a {@link List}, a string a {@link
 * String}, a whole number a {@link Long} (or {@link java.math.BigInteger} beyond its range), any
 * other number a {@link Double}, true and false a {@link Boolean}, and null is null.
 */
public final class Json {
  private static final JsonFactory FACTORY = new JsonFactory();

  private Json() {}

  /**
   * Reads one JSON document.
   *
   * @param text the document
   * @param name what the document is, for the error message, usually its file
   * @return its value
   * @throws InputException if the text is not one JSON value
   */
  public static Object parse(String text, String name) {
    try (JsonParser parser = FACTORY.createParser(ObjectReadContext.empty(), text)) {
      JsonToken first = parser.nextToken();
      if (first == null) {
        throw new InputException(name + " is empty where JSON is expected.");
      }
      Object value = value(parser, first);
      if (parser.nextToken() != null) {
        throw new InputException(
            name + " goes on after its JSON value at " + where(parser.currentTokenLocation()));
      }
      return value;
    } catch (JacksonException e) {
      throw new InputException(
          name + " is not valid JSON: " + e.getOriginalMessage() + " at " + where(e.getLocation()),
          e);
    }
  }

  /**
   * Reads one JSON object.
   *
   * @param text the document
   * @param name what the document is, for the error message, usually its file
   * @return its members in the order written
   * @throws InputException if the text is not one JSON object
   */
  @SuppressWarnings("unchecked")
  public static Map<String, Object> parseObject(String text, String name) {
    if (parse(text, name) instanceof Map<?, ?> object) {
      return (Map<String, Object>) object;
    }
    throw new InputException(name + " holds JSON, but not an object in braces.");
  }

  /**
   * Writes a value as JSON on one line.
   *
   * @param value maps, collections, arrays of int or double, strings, numbers, booleans and null;
   *     anything else is written as its {@code toString()}; NaN and infinities become null, for
   *     which JSON has no number
   * @return the document
   */
  public static String write(Object value) {
    return write(value, false);
  }

  /**
   * Writes a value as JSON, indented for readers.
   *
   * @param value as in {@link #write}
   * @return the document, ending with a line feed
   */
  public static String writePretty(Object value) {
    return write(value, true) + "\n";
  }

  private static String write(Object value, boolean pretty) {
    StringWriter out = new StringWriter();
    ObjectWriteContext context =
        new ObjectWriteContext.Base() {
          @Override
          public tools.jackson.core.PrettyPrinter getPrettyPrinter() {
            return pretty ? new DefaultPrettyPrinter() : null;
          }
        };
    try (JsonGenerator generator = FACTORY.createGenerator(context, out)) {
      write(generator, value);
    }
    return out.toString();
  }

  private static Object value(JsonParser parser, JsonToken token) {
    return switch (token) {
      case START_OBJECT -> {
        Map<String, Object> members = new LinkedHashMap<>();
        for (String key = parser.nextName(); key != null; key = parser.nextName()) {
          members.put(key, value(parser, parser.nextToken()));
        }
        yield members;
      }
      case START_ARRAY -> {
        List<Object> items = new ArrayList<>();
        for (JsonToken t = parser.nextToken(); t != JsonToken.END_ARRAY; t = parser.nextToken()) {
          items.add(value(parser, t));
        }
        yield items;
      }
      case VALUE_NUMBER_INT ->
          parser.getNumberType() == JsonParser.NumberType.BIG_INTEGER
              ? parser.getBigIntegerValue()
              : (Object) parser.getLongValue();
      case VALUE_NUMBER_FLOAT -> parser.getDoubleValue();
      case VALUE_TRUE -> true;
      case VALUE_FALSE -> false;
      case VALUE_NULL -> null;
      default -> parser.getString();
    };
  }

  private static void write(JsonGenerator out, Object value) {
    switch (value) {
      case null -> out.writeNull();
      case Map<?, ?> map -> {
        out.writeStartObject();
        map.forEach(
            (key, item) -> {
              out.writeName(String.valueOf(key));
              write(out, item);
            });
        out.writeEndObject();
      }
      case Collection<?> items -> {
        out.writeStartArray();
        items.forEach(item -> write(out, item));
        out.writeEndArray();
      }
      case int[] items -> out.writeArray(items, 0, items.length);
      case double[] items -> {
        out.writeStartArray();
        for (double item : items) {
          write(out, (Object) item);
        }
        out.writeEndArray();
      }
      case Boolean flag -> out.writeBoolean(flag);
      case Integer number -> out.writeNumber(number);
      case Long number -> out.writeNumber(number);
      case java.math.BigInteger number -> out.writeNumber(number);
      case Float number when Float.isFinite(number) -> out.writeNumber(number);
      case Double number when Double.isFinite(number) -> out.writeNumber(number);
      case Float _ -> out.writeNull();
      case Double _ -> out.writeNull();
      default -> out.writeString(value.toString());
    }
  }

  private static String where(tools.jackson.core.TokenStreamLocation at) {
    return at == null
        ? "an unknown place."
        : "line " + at.getLineNr() + ", column " + at.getColumnNr() + ".";
  }
}
