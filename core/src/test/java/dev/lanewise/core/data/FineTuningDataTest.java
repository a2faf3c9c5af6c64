package dev.lanewise.core.data;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.lanewise.core.base.InputException;
import dev.lanewise.core.base.Json;
import java.io.IOException;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalInt;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class FineTuningDataTest {
  private static final String CHATML =
      "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
          + "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

  @TempDir Path folder;

  private Dataset dataset(Tokenizer tokenizer, String... lines) throws IOException {
    Path file = Files.writeString(folder.resolve("data.jsonl"), String.join("\n", lines));
    return Dataset.prepare(
        Examples.of(List.of(file)), tokenizer, folder.resolve("cache"), 0, Dataset.Progress.NONE);
  }

  /** The text of all tokens, those that count in square brackets. */
  private static String marked(Dataset data) {
    StringBuilder text = new StringBuilder();
    boolean inside = false;
    TokenSequence tokens = data.train();
    for (long i = 0; i < tokens.length(); i++) {
      if (tokens.counts(i) != inside) {
        text.append(inside ? ']' : '[');
        inside = !inside;
      }
      text.append(data.tokenizer().decode(tokens.get(i)));
    }
    return text.append(inside ? "]" : "").toString();
  }

  private String message(String line) {
    return assertThrows(
            InputException.class,
            () -> {
              try (Dataset data = dataset(new ByteTokenizer(), "{\"text\":\"a\"}", line)) {
                marked(data);
              }
            })
        .getMessage()
        .replace(folder.toString(), "F");
  }

  @Test
  void answersCountAndQuestionsDoNot() throws IOException {
    BpeTokenizer tokenizer = BpeTokenizer.train("the question and the answer", 270);
    try (Dataset data =
        dataset(
            tokenizer,
            "{\"text\":\"All of it.\"}",
            "",
            "{\"prompt\":\"Why?\",\"completion\":\" So.\",\"id\":7}",
            "{\"messages\":[{\"role\":\"system\",\"content\":\"Be kind.\"},"
                + "{\"role\":\"user\",\"content\":\"Hi\"},"
                + "{\"role\":\"assistant\",\"content\":\"Hello\"},"
                + "{\"role\":\"user\",\"content\":\"Bye\"},"
                + "{\"role\":\"assistant\",\"content\":\"See you\"}]}")) {
      assertEquals(
          "[All of it.<|endoftext|>]Why?[ So.<|endoftext|>]"
              + "System: Be kind.\nUser: Hi\nAssistant:[ Hello<|endoftext|>]"
              + "User: Bye\nAssistant:[ See you<|endoftext|>]",
          marked(data));
      assertFalse(data.train().allCount());
      assertFalse(data.train().slice(1, 5).allCount());
      assertFalse(data.train().slice(11, 15).counts(3));
    }
    try (Dataset data = dataset(new ByteTokenizer(), "{\"prompt\":\"a\",\"completion\":\"b\"}")) {
      assertEquals("a[b]", marked(data));
    }
  }

  @Test
  void conversationsAreWrittenByTheTemplate() throws IOException {
    BpeTokenizer tokenizer = BpeTokenizer.train("the question and the answer", 270);
    Map<String, Object> json = new LinkedHashMap<>();
    json.put("kind", "huggingface");
    json.put("chatTemplate", CHATML);
    json.put("tokenizer", tokenizer.toHuggingFace());
    Tokenizer withTemplate = Tokenizers.fromJson(Json.write(json), "t");
    String line =
        "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"},"
            + "{\"role\":\"assistant\",\"content\":\"Hello\"}]}";
    try (Dataset data = dataset(withTemplate, line)) {
      assertEquals(
          "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n[Hello<|im_end|>\n]",
          marked(data));
    }
    // One that leaves out what was said before cannot be learnt from as a whole.
    json.put("chatTemplate", "{{ messages[-1].content }}");
    Tokenizer forgets = Tokenizers.fromJson(Json.write(json), "t");
    assertTrue(
        assertThrows(InputException.class, () -> dataset(forgets, line))
            .getMessage()
            .contains("line 1: the chat template writes a conversation anew"));
  }

  @Test
  void targetsThatDoNotCountAreIgnored() throws IOException {
    try (Dataset data =
            dataset(new ByteTokenizer(), "{\"prompt\":\"abcdef\",\"completion\":\"XYZ\"}");
        TokenBatches batches = TokenBatches.sequential(data.train(), 1, 4)) {
      batches.next();
      assertEquals(0, batches.tokens());
      batches.next();
      assertEquals(3, batches.tokens());
      int[] targets = batches.targets().toArray(ValueLayout.JAVA_INT);
      assertEquals(List.of(-100, 88, 89, 90), Arrays.stream(targets).boxed().toList());
      assertEquals('e', batches.inputs().get(ValueLayout.JAVA_INT, 0));
    }
  }

  @Test
  void everyWindowToTrainOnHasATarget() throws IOException {
    String line = "{\"prompt\":\"" + "q".repeat(300) + "\",\"completion\":\"XY\"}";
    try (Dataset data = dataset(new ByteTokenizer(), line, line, line, line);
        TokenBatches random = TokenBatches.random(data.train(), 3, 16, 1);
        TokenBatches shuffled = TokenBatches.shuffled(data.train(), 3, 16, 1)) {
      for (TokenBatches batches : List.of(random, shuffled)) {
        for (int step = 0; step < 60; step++) {
          batches.next();
          int[] targets = batches.targets().toArray(ValueLayout.JAVA_INT);
          for (int row = 0; row < 3; row++) {
            assertTrue(
                Arrays.stream(targets, row * 16, row * 16 + 16)
                    .anyMatch(t -> t == 'X' || t == 'Y'));
          }
          assertEquals(Arrays.stream(targets).filter(t -> t != -100).count(), batches.tokens());
          assertEquals(step + 1, batches.position());
        }
      }
    }
    try (Dataset data = dataset(new ByteTokenizer(), line)) {
      assertTrue(
          assertThrows(
                  InputException.class,
                  () -> TokenBatches.random(data.train().slice(0, 100), 1, 4, 1))
              .getMessage()
              .contains("nothing to learn"));
    }
  }

  @Test
  void theCacheIsUsedAndMadeAnewIfDamaged() throws IOException {
    String line = "{\"prompt\":\"a\",\"completion\":\"bc\"}";
    dataset(new ByteTokenizer(), line).close();
    Path counts;
    try (var files = Files.list(folder.resolve("cache"))) {
      counts = files.filter(f -> f.toString().endsWith(".counts")).findAny().orElseThrow();
    }
    byte[] whole = Files.readAllBytes(counts);
    assertEquals(24, whole.length);
    for (byte[] damaged : List.of(new byte[0], new byte[16], new byte[24], new byte[32])) {
      Files.write(counts, damaged);
      try (Dataset data = dataset(new ByteTokenizer(), line)) {
        assertEquals("a[bc]", marked(data));
      }
    }
    long made = Files.getLastModifiedTime(counts).toMillis();
    dataset(new ByteTokenizer(), line).close();
    assertEquals(made, Files.getLastModifiedTime(counts).toMillis());
  }

  @Test
  void vocabulariesAreLearntFromWhatIsSaid() throws IOException {
    Path file =
        Files.writeString(
            folder.resolve("d.jsonl"),
            "{\"messages\":[{\"role\":\"user\",\"content\":\"é?\"},"
                + "{\"role\":\"assistant\",\"content\":\"ü!\"}]}\n{\"text\":\"lo lo lo\"}\n");
    Examples examples = Examples.of(List.of(file));
    try (Dataset chars = Dataset.prepare(examples, "chars", folder, 0, Dataset.Progress.NONE)) {
      assertEquals("User: é?\nAssistant:[ ü!\n\nlo lo lo]", marked(chars));
    }
    try (Dataset bpe = Dataset.prepare(examples, "bpe:258", folder, 0, Dataset.Progress.NONE)) {
      assertEquals(258, bpe.tokenizer().vocabSize());
    }
  }

  @Test
  void badLinesAreNamed() {
    assertEquals(
        "F/data.jsonl, line 2 is no example: it has neither 'text', nor 'prompt' and 'completion',"
            + " nor a list of 'messages', but [question].",
        message("{\"question\":\"x\"}"));
    assertTrue(message("{\"text\":").startsWith("F/data.jsonl, line 2 is not valid JSON"));
    assertTrue(message("[1]").contains("line 2 holds JSON, but not an object"));
    assertTrue(message("{\"messages\":[{\"role\":\"user\"}]}").contains("'role' and 'content'"));
    assertTrue(
        message("{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}")
            .contains("the assistant says nothing"));
    assertTrue(message("{\"text\":\"\\ud800\"}").contains("half of a surrogate pair"));
    assertEquals(
        "There is no file none.jsonl.",
        assertThrows(
                InputException.class,
                () ->
                    Dataset.prepare(
                        Examples.of(List.of(Path.of("none.jsonl"))),
                        "bytes",
                        folder,
                        0,
                        Dataset.Progress.NONE))
            .getMessage());
  }

  @Test
  void examplesAreToldByTheirName() {
    assertTrue(Examples.are(List.of(Path.of("a.jsonl"), Path.of("B.JSONL"))));
    assertFalse(Examples.are(List.of(Path.of("a.jsonl"), Path.of("b.txt"))));
  }

  @Test
  void isolatedDocumentsBeginAnewAndTheirFirstTokensAreNoTargets() throws IOException {
    BpeTokenizer tokenizer = BpeTokenizer.train("", 257);
    String turns =
        "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},"
            + "{\"role\":\"assistant\",\"content\":\"b\"},{\"role\":\"user\",\"content\":\"c\"},"
            + "{\"role\":\"assistant\",\"content\":\"d\"}]}";
    String text = "{\"text\":\"xy\"}";
    // Turns end as texts do, but a conversation is one example.
    int turnTokens = "User: a\nAssistant: b#User: c\nAssistant: d#".length();
    for (Tokenizer one : List.of(tokenizer, new ByteTokenizer())) {
      int end = one.endOfText().isPresent() ? 1 : 0;
      int length = one.endOfText().isPresent() ? turnTokens : turnTokens + 2;
      try (Dataset data = dataset(one, text, turns, text)) {
        TokenSequence isolated = data.train().isolated(one.endOfText());
        for (long i = 0; i < isolated.length(); i++) {
          boolean starts = i == 0 || i == 2 + end || i == 2 + end + length;
          assertEquals(starts, isolated.starts(i), "at " + i);
          assertEquals(data.train().counts(i) && !starts, isolated.counts(i), "at " + i);
        }
        assertTrue(isolated.slice(1, 9).starts(1 + end));
        try (TokenBatches batches = TokenBatches.sequential(isolated, 2, 40)) {
          batches.next();
          int[] positions = batches.positions().toArray(ValueLayout.JAVA_INT);
          int[] targets = batches.targets().toArray(ValueLayout.JAVA_INT);
          for (int i = 0; i < 80 && i < isolated.length() - 1; i++) {
            boolean starts = i == 40 || isolated.starts(i);
            assertEquals(starts ? 0 : positions[i - 1] + 1, positions[i], "position " + i);
            assertEquals(isolated.counts(i + 1) ? isolated.get(i + 1) : -100, targets[i], "" + i);
          }
        }
      }
    }
  }

  @Test
  void documentsOfTextEndWithTheirToken() {
    TokenSequence tokens = TokenSequence.of(5, 6, 9, 7, 9, 9, 8);
    TokenSequence isolated = tokens.isolated(OptionalInt.of(9));
    try (TokenBatches batches = TokenBatches.sequential(isolated, 1, 8)) {
      batches.next();
      assertEquals(
          List.of(0, 1, 2, 0, 1, 0, 1, 2),
          Arrays.stream(batches.positions().toArray(ValueLayout.JAVA_INT)).boxed().toList());
      assertEquals(
          List.of(6, 9, -100, 9, -100, -100, -100, -100),
          Arrays.stream(batches.targets().toArray(ValueLayout.JAVA_INT)).boxed().toList());
      assertEquals(3, batches.tokens());
    }
    assertTrue(
        assertThrows(InputException.class, () -> tokens.isolated(OptionalInt.empty()))
            .getMessage()
            .contains("leave --isolate-documents out"));
    try (TokenBatches batches = TokenBatches.sequential(tokens, 1, 8)) {
      assertNull(batches.positions());
    }
  }
}
