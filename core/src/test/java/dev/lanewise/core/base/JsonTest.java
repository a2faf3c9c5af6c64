package dev.lanewise.core.base;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

class JsonTest {
  private static String message(String json) {
    return assertThrows(InputException.class, () -> Json.parse(json, "file.json")).getMessage();
  }

  @Test
  void valuesSurviveWritingAndReading() {
    Map<String, Object> value = new LinkedHashMap<>();
    value.put("z first", "quote \" backslash \\ line\nfeed é🙂 \u0001");
    value.put("whole", 9_007_199_254_740_993L);
    value.put("real", 0.1);
    value.put("tiny", 1e-300);
    value.put("flags", new ArrayList<>(Arrays.asList(true, false, null)));
    value.put("nested", Map.of("empty", List.of()));
    assertEquals(value, Json.parse(Json.write(value), "x"));
    assertEquals(value, Json.parse(Json.writePretty(value), "x"));
    assertEquals(
        List.of("z first", "whole", "real", "tiny", "flags", "nested"),
        List.copyOf(Json.parseObject(Json.write(value), "x").keySet()));
  }

  @Test
  void otherValuesAreWrittenAsJsonHasThem() {
    assertEquals("[1,2]", Json.write(new int[] {1, 2}));
    assertEquals("[1.5,null,null]", Json.write(new double[] {1.5, Double.NaN, -1 / 0.0}));
    assertEquals("0.1", Json.write(0.1f));
    assertEquals("null", Json.write(Float.NaN));
    assertEquals("\"DAYS\"", Json.write(java.util.concurrent.TimeUnit.DAYS));
    assertEquals(
        new java.math.BigInteger("99999999999999999999"), Json.parse("99999999999999999999", "x"));
  }

  @Test
  void damagedTextIsNamedWithItsPlace() {
    assertTrue(
        message("{\"a\":\n 1,}")
            .matches("(?s)file.json is not valid JSON: .* at line 2, column \\d+\\."));
    assertEquals("file.json is empty where JSON is expected.", message("  "));
    assertTrue(message("{} {}").startsWith("file.json goes on after its JSON value at line 1"));
    assertTrue(message("[1, 2").contains("not valid JSON"));
    assertEquals(
        "file.json holds JSON, but not an object in braces.",
        assertThrows(InputException.class, () -> Json.parseObject("[]", "file.json")).getMessage());
  }
}
