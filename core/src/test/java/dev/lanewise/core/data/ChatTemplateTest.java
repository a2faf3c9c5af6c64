package dev.lanewise.core.data;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.Json;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

class ChatTemplateTest {
  private static final List<ChatFormat.Message> TALK =
      List.of(new ChatFormat.Message("user", "Hi"), new ChatFormat.Message("assistant", "Hello."));

  private static String render(String template) {
    return ChatTemplate.of(template, Map.of("eos_token", "</s>")).render(TALK, true);
  }

  private static String message(String template) {
    return assertThrows(InputException.class, () -> render(template)).getMessage();
  }

  /** Texts that transformers 5.18 rendered with jinja2 3.1. */
  @Test
  void rendersAsTransformersDoes() throws IOException {
    Map<String, Object> golden;
    try (InputStream in = ChatTemplateTest.class.getResourceAsStream("chat-templates.json")) {
      golden = Json.parseObject(new String(in.readAllBytes(), StandardCharsets.UTF_8), "golden");
    }
    List<?> cases = (List<?>) golden.get("cases");
    assertTrue(cases.size() > 40);
    for (Object item : cases) {
      Map<?, ?> one = (Map<?, ?>) item;
      ChatTemplate template =
          ChatTemplate.of(
              (String) ((Map<?, ?>) golden.get("templates")).get(one.get("name")),
              Map.of("bos_token", "<s>", "eos_token", "</s>"));
      assertEquals(
          one.get("text"),
          template.render(
              ChatFormat.messages((List<?>) one.get("messages"), "golden"),
              (Boolean) one.get("answer")),
          () -> one.toString());
    }
  }

  @Test
  void whatIsNotSupportedIsNamed() {
    assertEquals(
        "The chat template uses the filter 'selectattr', which is not supported; fine-tune on"
            + " 'prompt' and 'completion' instead.",
        message("{{ messages | selectattr }}"));
    assertTrue(message("{% macro x() %}{% endmacro %}").contains("'macro x()'"));
    assertTrue(message("{{ strftime_now('%d') }}").contains("the function 'strftime_now'"));
    assertTrue(message("{{ 'a'.zfill(3) }}").contains("the method 'zfill' with 1 arguments"));
    assertTrue(message("{{ 1 is odd }}").contains("the test 'odd'"));
    assertTrue(message("{{ messages }}").contains("a list as text"));
    assertTrue(message("{{ 1 / 2 }}").contains("'/ 2' in '1 / 2'"));
    assertTrue(
        message("{% for a, b in messages %}{% endfor %}").contains("'for a, b in messages'"));
    assertTrue(message("{{ " + "(".repeat(50_000)).contains("not closed"));
    assertTrue(message("{{ " + "(".repeat(5_000) + " }}").contains("inside each other"));
    assertTrue(message("{% if 1 %}".repeat(50_000)).contains("blocks inside each other"));
    assertEquals("True", render("{{ " + "not ".repeat(2_000) + "1 }}"));
    assertTrue(message("{% if 1 %}" + "{% elif 1 %}".repeat(50_000)).contains("more than 100 "));
    assertTrue(message("{{ 1" + "+1".repeat(50_000) + " }}").contains("1500 parts"));
    assertEquals("451", render("{{ 1" + "+1".repeat(450) + " }}"));
    assertTrue(message("{{ 1 % 0 }}").contains("divides by 0"));
    assertTrue(message("{{ " + "9".repeat(30) + " }}").contains("the number"));
    assertTrue(message("{{ 'a\\x41' }}").contains("'\\x' in a text"));
  }

  @Test
  void whatIsNotSoundIsNamed() {
    assertTrue(message("{% if true %}a").contains("lacks an 'endif'"));
    assertTrue(message("{% for x in messages %}a").contains("lacks an 'endfor'"));
    assertTrue(message("{% endif %}").contains("'endif'"));
    assertTrue(message("{{ 'a").contains("'{' that is not closed"));
    assertTrue(message("{{ }}").contains("''"));
    assertEquals(
        "The chat template cannot write this conversation: no.",
        message("{{ raise_exception('no') }}"));
    assertTrue(message("{{ nothing.here }}").contains("'here' of something that is not there"));
    assertTrue(message("{{ nothing + 'a' }}").contains("'+' joins"));
    assertEquals("", render("{{ nothing }}{{ messages[7] }}"));
  }
}
